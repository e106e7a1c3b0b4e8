// What every page needs: what works with a script only is shown, texts are copied, parts of other pages are fetched.

import { t } from "./texts.js";

/** An element with properties and children. */
export function make(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** What an address searches for; null where it does not. Links of semsearch 0.1 say `q`. */
export function queryOf(url) {
  return url.searchParams.get("query") ?? url.searchParams.get("q");
}

/** Show what needs a script. */
export function reveal(within) {
  for (const found of within.querySelectorAll("[data-needs-script]")) found.hidden = false;
}

/** The page at an address, as a document, and whether it is an answer and no refusal. */
export async function fetched(url, { signal, headers = {} } = {}) {
  const response = await fetch(url, { signal, headers: { Accept: "text/html", ...headers } });
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  return { page, ok: response.ok, status: response.status };
}

/** A failure that is shown in place of an answer. */
export function failure(title, detail) {
  return make("section", { className: "notice error", role: "alert" }, make("h1", { textContent: title }), make("p", { textContent: detail }));
}

async function copy(button) {
  const told = button.closest(".acts").querySelector(".told");
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    told.textContent = t("read.copied");
  } catch {
    told.textContent = t("error.no-copy");
  }
}

async function fill(link) {
  const place = document.getElementById(link.dataset.into);
  place.setAttribute("aria-busy", "true");
  try {
    const { page } = await fetched(link.href);
    place.replaceChildren(...page.querySelector("#answer").children);
    link.hidden = true;
  } catch {
    place.replaceChildren(failure(t("error.silent"), t("error.silent-detail")));
  }
  place.removeAttribute("aria-busy");
  place.tabIndex = -1;
  place.focus({ preventScroll: true });
}

document.addEventListener("click", (event) => {
  const copied = event.target.closest("[data-copy]");
  if (copied) return void copy(copied);
  const link = event.target.closest("a[data-into]");
  if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  fill(link);
});

reveal(document);
