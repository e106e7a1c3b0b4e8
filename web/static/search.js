// Results while one types, and the keys. Without this module the form works as a form.
// The server renders every answer: what is fetched is the page itself, and its <main> is put in place of ours.

import "./compare.js";
import { failure, fetched, queryOf, reveal } from "./page.js";
import { isOn, showKeys } from "./settings.js";
import { closeSuggestions, remember, suggest } from "./suggest.js";
import { closePanel, syncPanel } from "./panel.js";
import { t } from "./texts.js";

const form = document.querySelector("form.search");
const input = form.elements.query;
let main = document.querySelector("#answer");
let pending = new AbortController();
let timer = 0;

const TYPING_PAUSE_MS = 250;

/** The address of what the form asks; what stands beside the results stays. */
function asked() {
  const url = new URL(form.action);
  for (const [name, value] of new FormData(form)) {
    if (value.trim()) url.searchParams.set(name, value.trim());
  }
  const beside = new URL(location).searchParams.get("beside");
  if (beside) url.searchParams.set("beside", beside);
  return url;
}

/** Put the page at `url` in place of the present one; an answer that is no longer wanted never arrives. */
async function show(url, { remember }) {
  clearTimeout(timer);
  pending.abort();
  const mine = (pending = new AbortController());
  main.setAttribute("aria-busy", "true");
  try {
    const { page } = await fetched(url, { signal: mine.signal });
    if (mine.signal.aborted) return false;
    replaceMain(page.querySelector("#answer"));
    document.title = page.title;
  } catch (error) {
    if (error.name === "AbortError") return false;
    tell(t("error.silent"), t("error.silent-detail"));
  }
  if (remember === "push") history.pushState(null, "", url);
  if (remember === "replace") history.replaceState(null, "", url);
  document.dispatchEvent(new CustomEvent("shown"));
  return true;
}

function replaceMain(next) {
  if (!next) return tell(t("error.other"), t("error.no-page"));
  main.replaceWith(document.adoptNode(next));
  main = next;
  reveal(main);
}

function tell(title, detail) {
  main.replaceChildren(failure(title, detail));
  main.removeAttribute("aria-busy");
}

/** Search for what the form says now. */
function submit() {
  closeSuggestions();
  const url = asked();
  // typing has shown it already: then only the history gains an entry
  return show(url, { remember: url.href === location.href ? "replace" : "push" });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  remember(input.value);
  submit();
});

form.addEventListener("input", (event) => {
  if (event.target !== input) return;
  clearTimeout(timer);
  suggest();
  // the first letters start an entry of their own, so that "back" returns to what was there before
  timer = setTimeout(() => show(asked(), { remember: queryOf(new URL(location)) !== null ? "replace" : "push" }), TYPING_PAUSE_MS);
});

input.addEventListener("chosen", submit);

for (const field of [form.elements.index, form.elements.domain, form.elements.mode]) {
  field?.addEventListener("change", () => show(asked(), { remember: "push" }));
}

// filter and order stand beside the results and are replaced with them
addEventListener("change", (event) => {
  const { name } = event.target;
  if (name !== "filter" && name !== "sort") return;
  show(asked(), { remember: "push" }).then(() => document.querySelector(`#${name}`)?.focus({ preventScroll: true }));
});

// what changes rankings says so, and they are asked for again
addEventListener("adapted", () => show(new URL(location), { remember: "no" }));

document.addEventListener("click", (event) => {
  if (event.target.closest("#answer a.open")) remember(input.value);
  const link = event.target.closest(".pages a, a[data-here]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  follow(new URL(link.href));
});

async function follow(url) {
  const beside = new URL(location).searchParams.get("beside");
  if (beside) url.searchParams.set("beside", beside);
  if (!(await show(url, { remember: "push" }))) return;
  fill(url);
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
}

// a place on this page is no other page to go back from
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

addEventListener("popstate", () => {
  const url = new URL(location);
  fill(url);
  syncPanel();
  show(url, { remember: "no" });
});

/** Have the form say what an address asks for. */
function fill(url) {
  input.value = queryOf(url) ?? "";
  const { index, domain, mode } = form.elements;
  if (index) index.value = url.searchParams.get("index") ?? index.options[0].value;
  domain.value = url.searchParams.get("domain") ?? "";
  mode.value = url.searchParams.get("mode") ?? "";
  if (mode.selectedIndex < 0) mode.value = ""; // what the index goes by is asked for by saying nothing
}

/** Keys that are links or buttons somewhere on the page; of a result, those of the one that is chosen. */
const PRESSED = { r: '[data-gain="1"]', n: '[data-gain="0"]', a: '#tray [data-act="adapt"]' };

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
  const typing = event.target.closest?.("input, select, textarea, dialog");
  if (event.key === "Escape") {
    if (typing === input && !input.value) input.blur();
    else if (!typing || typing === input) closePanel();
  } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && (!typing || typing === input)) {
    if (!event.target.closest?.("#panel")) move(event);
  } else if (!typing && isOn("letters")) {
    letter(event);
  }
});

function letter(event) {
  if (event.key === "/") {
    event.preventDefault();
    input.focus();
    input.select();
  } else if (event.key === "?") {
    showKeys();
  } else if (event.key in PRESSED) {
    const within = event.key === "a" ? document : document.activeElement.closest("[data-document]");
    within?.querySelector(PRESSED[event.key])?.click();
  } else {
    main.querySelector(`[data-act-key="${CSS.escape(event.key)}"]`)?.click();
  }
}

/** Arrows walk the results; above the first one is the search box. Enter on a link opens it, as everywhere. */
function move(event) {
  const links = [...main.querySelectorAll(".hits a.open")];
  if (!links.length) return;
  const step = event.key === "ArrowDown" ? 1 : -1;
  const present = links.findIndex((link) => link.closest("li").contains(document.activeElement));
  if (document.activeElement !== input && present < 0 && step < 0) return;
  event.preventDefault();
  const next = present + step;
  if (next < 0) {
    input.focus();
  } else if (next < links.length) {
    links[next].focus();
    links[next].closest("li").scrollIntoView({ block: "nearest" });
  }
}

syncPanel();
// what was typed before this ran
if (document.activeElement === input && input.value !== (queryOf(new URL(location)) ?? "")) {
  input.dispatchEvent(new Event("input", { bubbles: true }));
}
