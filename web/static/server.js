// Requests to the JSON endpoint; where it wants a key and none is known, the person is asked for one.

import { t } from "./texts.js";

const dialog = document.querySelector("#key");
const NAME = "semsearch write key";

/** Whether asking would need a key that nobody gave yet: nothing is asked for unbidden then. */
export function mustNotAsk() {
  return document.body.dataset.keyWanted === "true" && !sessionStorage.getItem(NAME);
}

/** The headers with which what is not open to all is read. */
export function headers() {
  const key = sessionStorage.getItem(NAME);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** What the endpoint answers; throws an Error in its words. */
export async function call(method, path, body) {
  for (let asked = false; ; asked = true) {
    const sent = { Accept: "application/json", ...headers() };
    if (body) sent["Content-Type"] = "application/json";
    const response = await fetch(path, { method, headers: sent, body: body && JSON.stringify(body) });
    if (response.status === 401 && !asked && (await askForKey())) continue;
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.detail);
    return answer;
  }
}

/** Ask for a key; whether one was given. */
export function askForKey() {
  return new Promise((resolve) => {
    dialog.returnValue = "";
    dialog.showModal();
    dialog.addEventListener(
      "close",
      () => {
        const field = dialog.querySelector("input");
        const given = dialog.returnValue === "use" && field.value;
        if (given) sessionStorage.setItem(NAME, field.value);
        field.value = "";
        resolve(Boolean(given));
      },
      { once: true },
    );
  });
}

/** What to say of an error. */
export function said(error) {
  return error instanceof TypeError ? t("error.silent") : error.message;
}
