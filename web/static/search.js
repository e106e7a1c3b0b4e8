// Results while typing, and keyboard shortcuts. Without this module the form is submitted as usual.
// The server renders every answer: the script fetches the whole page and replaces <main> with the fetched one.

import "./compare.js";
import { failure, fetchPage, isBrowserClick, queryOf, reveal } from "./page.js";
import { isOn, showSettings } from "./settings.js";
import { closeSuggestions, remember, suggest } from "./suggest.js";
import { closePanel, keepPanel, resultsOf, syncPanel } from "./panel.js";
import { t } from "./texts.js";

const form = document.querySelector("form.search");
const input = form.elements.query;
let main = document.querySelector("#answer");
let pending = new AbortController();
let timer = 0;
/** The address of the results that are shown. */
let shownResults = resultsOf(new URL(location));

const TYPING_PAUSE_MS = 250;

/** Put a completed query into the box, if it is the one that was typed: the user goes on with its results. */
function adoptCompletion() {
  const completed = main.querySelector(".completed");
  if (completed?.dataset.typed === input.value.trim()) input.value = completed.querySelector("a").textContent;
}

/** The address of the form's search; an open panel stays open. */
function formAddress() {
  const url = new URL(form.action);
  for (const [name, value] of new FormData(form)) {
    if (value.trim()) url.searchParams.set(name, value.trim());
  }
  keepPanel(url);
  return url;
}

/**
 * Show the results at `url`, unless a newer call replaces this one. historyEntry: "push", "replace" or "none".
 * isTyping: the last word may be unfinished; if it is completed, the address in the history has the completed query.
 */
async function show(url, { historyEntry, isTyping = false }) {
  clearTimeout(timer);
  pending.abort();
  const current = (pending = new AbortController());
  main.setAttribute("aria-busy", "true");
  try {
    const requested = new URL(url);
    if (isTyping) requested.searchParams.set("typing", "true");
    const { page } = await fetchPage(requested, { signal: current.signal });
    if (current.signal.aborted) return false;
    replaceMain(page.querySelector("#answer"));
    document.title = page.title;
    const completed = main.querySelector(".completed a")?.textContent;
    if (completed) url.searchParams.set("query", completed);
    shownResults = resultsOf(url);
  } catch (error) {
    if (error.name === "AbortError") return false;
    shownResults = null;
    showError(t("error.no-answer"), t("error.no-answer-detail"));
  }
  if (historyEntry === "push") history.pushState(null, "", url);
  if (historyEntry === "replace") history.replaceState(null, "", url);
  document.dispatchEvent(new CustomEvent("shown"));
  return true;
}

function replaceMain(next) {
  if (!next) return showError(t("error.other"), t("error.no-page"));
  main.replaceWith(document.adoptNode(next));
  main = next;
  reveal(main);
}

function showError(title, detail) {
  main.replaceChildren(failure(title, detail));
  main.removeAttribute("aria-busy");
}

/** Search with the form's current values. */
function submit() {
  closeSuggestions();
  adoptCompletion();
  const url = formAddress();
  // typing may have shown this address already
  return showFromTop(url, { historyEntry: url.href === location.href ? "replace" : "push" });
}

/** Show the results of another query, which begin at the top of the page. */
async function showFromTop(url, options) {
  if (await show(url, options)) scrollTo(0, 0);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
  remember(input.value);
});

form.addEventListener("input", (event) => {
  if (event.target !== input) return;
  clearTimeout(timer);
  suggest();
  // the first letters start a new history entry, so that Back returns to the page before
  timer = setTimeout(() => {
    const historyEntry = queryOf(new URL(location)) !== null ? "replace" : "push";
    showFromTop(formAddress(), { historyEntry, isTyping: !/\s$/.test(input.value) }); // a space ends a word
  }, TYPING_PAUSE_MS);
});

input.addEventListener("chosen", submit);

for (const field of [form.elements.index, form.elements.domain, form.elements.mode, form.elements.filter]) {
  field?.addEventListener("change", () => {
    adoptCompletion();
    show(formAddress(), { historyEntry: "push" });
  });
}

// the sort order is part of <main> and is replaced with it
addEventListener("change", (event) => {
  if (event.target.name !== "sort") return;
  adoptCompletion();
  show(formAddress(), { historyEntry: "push" }).then(() => document.querySelector("#sort")?.focus({ preventScroll: true }));
});

// of a later page, another version leaves little in its place: the best results show what it did
addEventListener("adapted", ({ detail: { isOther } }) => {
  const url = new URL(location);
  if (!isOther || !url.searchParams.has("page")) return show(url, { historyEntry: "none" });
  url.searchParams.delete("page");
  return showFromTop(url, { historyEntry: "push" });
});

document.addEventListener("click", (event) => {
  if (event.target.closest("#answer a.open")) remember(input.value);
  const link = event.target.closest(".pages a, a[data-in-place]");
  if (!link || event.defaultPrevented || isBrowserClick(event)) return;
  event.preventDefault();
  follow(new URL(link.href), link.dataset.facet);
});

/** Show the results of a link on the page. facet: the value that it chose, which keeps the focus. */
async function follow(url, facet) {
  keepPanel(url);
  if (!(await show(url, { historyEntry: "push" }))) return;
  fillForm(url);
  scrollTo(0, 0);
  const chosen = facet && main.querySelector(`[data-facet="${CSS.escape(facet)}"]`);
  if (!chosen) return main.focus({ preventScroll: true });
  chosen.closest("details")?.setAttribute("open", "");
  // on a narrow screen the filters are a sheet, which is closed now
  (chosen.checkVisibility() ? chosen : main.querySelector(".open-facets")).focus();
}

// the skip link must not add a history entry
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

addEventListener("popstate", () => {
  const url = new URL(location);
  fillForm(url);
  syncPanel();
  if (resultsOf(url) !== shownResults) return void show(url, { historyEntry: "none" });
  // only the panel opened or closed: the results stay, and so does the focus on one of them
  clearTimeout(timer);
  pending.abort();
  main.removeAttribute("aria-busy");
});

/** Set the form's fields from an address. */
function fillForm(url) {
  input.value = queryOf(url) ?? "";
  const { index, domain, mode, filter } = form.elements;
  filter.value = url.searchParams.get("filter") ?? "";
  if (index) index.value = url.searchParams.get("index") ?? index.options[0].value;
  domain.value = url.searchParams.get("domain") ?? "";
  mode.value = url.searchParams.get("mode") ?? "";
  if (mode.selectedIndex < 0) mode.value = ""; // the option of the index's default mode has an empty value
}

/** Buttons that a letter presses; the marks are those of the result that has the focus. */
const BUTTONS = { r: '[data-relevance="1"]', n: '[data-relevance="0"]', a: '#tray [data-act="adapt"]' };

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
  const typing = event.target.closest?.("input, select, textarea, dialog");
  if (event.key === "Escape") {
    if (typing === input && !input.value) input.blur();
    else if (!typing || typing === input) closePanel();
  } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && (!typing || typing === input)) {
    if (!event.target.closest?.("#panel")) moveFocus(event);
  } else if (!typing && isOn("letters")) {
    pressLetter(event);
  }
});

function pressLetter(event) {
  if (event.key === "/") {
    event.preventDefault();
    input.focus();
    input.select();
  } else if (event.key === "?") {
    showSettings();
  } else if (event.key in BUTTONS) {
    const root = event.key === "a" ? document : document.activeElement.closest("[data-document]");
    root?.querySelector(BUTTONS[event.key])?.click();
  } else {
    main.querySelector(`[data-shortcut="${CSS.escape(event.key)}"]`)?.click();
  }
}

/** Move the focus to the next or previous result; before the first one is the search box. */
function moveFocus(event) {
  const links = [...main.querySelectorAll(".hits a.open")];
  if (!links.length) return;
  const step = event.key === "ArrowDown" ? 1 : -1;
  const current = links.findIndex((link) => link.closest("li").contains(document.activeElement));
  if (document.activeElement !== input && current < 0 && step < 0) return;
  event.preventDefault();
  const next = current + step;
  if (next < 0) {
    input.focus();
  } else if (next < links.length) {
    links[next].focus();
    links[next].closest("li").scrollIntoView({ block: "nearest" });
  }
}

syncPanel();
// a reloaded or shared page must not say again what a form did
const opened = new URL(location);
if (opened.searchParams.has("taught")) {
  opened.searchParams.delete("taught");
  history.replaceState(null, "", opened);
  shownResults = resultsOf(opened);
}
// letters may have been typed before this module ran
if (document.activeElement === input && input.value !== (queryOf(new URL(location)) ?? "")) {
  input.dispatchEvent(new Event("input", { bubbles: true }));
}
