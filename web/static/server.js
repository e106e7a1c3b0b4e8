// Requests to the API. If it requires a write key, the user is asked for one.

import { root } from "./page.js";
import { t } from "./texts.js";

const dialog = document.querySelector("#key");
const STORAGE_KEY = "semsearch write key";

/** Whether requests need a key that the user has not given yet. Then only the user's own actions send any. */
export function isKeyMissing() {
  return document.body.dataset.keyRequired === "true" && !sessionStorage.getItem(STORAGE_KEY);
}

/** Headers of requests that may need a key. */
export function headers() {
  const key = sessionStorage.getItem(STORAGE_KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** Send a request to a path of the API and return the JSON response; throws an Error with the API's message. */
export async function call(method, path, body) {
  for (let isRetry = false; ; isRetry = true) {
    const sentHeaders = { Accept: "application/json", ...headers() };
    if (body) sentHeaders["Content-Type"] = "application/json";
    const response = await fetch(root + path, { method, headers: sentHeaders, body: body && JSON.stringify(body) });
    if (response.status === 401 && !isRetry && (await askForKey())) continue;
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.detail);
    return answer;
  }
}

/** Ask the user for a key; resolves to whether one was given. */
export function askForKey() {
  return new Promise((resolve) => {
    dialog.returnValue = "";
    dialog.showModal();
    dialog.addEventListener(
      "close",
      () => {
        const field = dialog.querySelector("input");
        const given = dialog.returnValue === "use" && field.value;
        if (given) sessionStorage.setItem(STORAGE_KEY, field.value);
        field.value = "";
        resolve(Boolean(given));
      },
      { once: true },
    );
  });
}

/** The message to show for an error. */
export function messageOf(error) {
  return error instanceof TypeError ? t("error.no-answer") : error.message;
}
