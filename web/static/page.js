// Functions that every page needs: creating elements, fetching pages, copying texts, showing what needs a script.

import { t } from "./texts.js";

/** The path at which the server is reached, such as "/search" behind a proxy; empty without one. */
export const root = document.documentElement.dataset.root;

/** Create an element with properties (attributes where it has no such property) and children. */
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/** The query in an address; null without one. Links of semsearch 0.1 use `q`. */
export function queryOf(url) {
  return url.searchParams.get("query") ?? url.searchParams.get("q");
}

/** Show the elements that need a script. */
export function reveal(root) {
  for (const element of root.querySelectorAll("[data-needs-script]")) element.hidden = false;
}

/** Fetch a page as a document; `ok` is false for an error page. */
export async function fetchPage(url, { signal, headers = {} } = {}) {
  const response = await fetch(url, { signal, headers: { Accept: "text/html", ...headers } });
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  return { page, ok: response.ok, status: response.status };
}

/** Create an error message that is shown in place of a page's content. */
export function failure(title, detail) {
  return make("section", { className: "notice error", role: "alert" }, make("h1", { textContent: title }), make("p", { textContent: detail }));
}

/** Whether the browser should handle a click on a link itself, for instance open a new tab. */
export function isBrowserClick(event) {
  return event.button || event.metaKey || event.ctrlKey || event.shiftKey;
}

async function copy(button) {
  const message = button.closest(".acts").querySelector(".message");
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    message.textContent = t("document.copied");
  } catch {
    message.textContent = t("error.no-copy");
  }
}

/** Load a link's page into the element that its `data-into` names. */
async function loadInto(link) {
  const target = document.getElementById(link.dataset.into);
  target.setAttribute("aria-busy", "true");
  try {
    const { page } = await fetchPage(link.href);
    target.replaceChildren(...page.querySelector("#answer").children);
    link.hidden = true;
  } catch {
    target.replaceChildren(failure(t("error.no-answer"), t("error.no-answer-detail")));
  }
  target.removeAttribute("aria-busy");
  target.tabIndex = -1;
  target.focus({ preventScroll: true });
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) return void copy(button);
  const link = event.target.closest("a[data-into]");
  if (!link || isBrowserClick(event)) return;
  event.preventDefault();
  loadInto(link);
});

reveal(document);
