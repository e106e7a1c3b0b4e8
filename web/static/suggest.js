// Suggestions while typing: past searches of this browser, then queries of the domain's labels and clicks.
// A combobox with a listbox popup, as in the ARIA Authoring Practices Guide.

import { make } from "./page.js";
import { call, isKeyMissing } from "./server.js";
import { isOn } from "./settings.js";

const form = document.querySelector("form.search");
const input = form.elements.query;
const list = document.querySelector("#suggestions");
const STORAGE_KEY = "semsearch past searches";
const MAX_STORED = 100;
const MAX_SHOWN = 8;
const PAUSE_MS = 120;
let timer = 0;
let latestRequest = 0;

/** The index and domain of the search, which past searches belong to. */
function scope() {
  return `${input.dataset.index} ${form.elements.domain.value.trim()}`;
}

/** Past searches, newest first: { query, place }, where `place` is the scope. */
function pastSearches() {
  try {
    return JSON.parse(localStorage.getItem(STORAGE_KEY)) ?? [];
  } catch {
    return [];
  }
}

/** Store a search for this browser's suggestions. */
export function remember(text) {
  const query = text.trim();
  if (!query || !isOn("suggest")) return;
  const others = pastSearches().filter((search) => search.query !== query || search.place !== scope());
  try {
    localStorage.setItem(STORAGE_KEY, JSON.stringify([{ query, place: scope() }, ...others].slice(0, MAX_STORED)));
  } catch {
    // without storage there are no past searches
  }
}

/** Show suggestions for the text in the search box after a short pause. */
export function suggest() {
  clearTimeout(timer);
  if (!isOn("suggest") || !input.value.trim()) return closeSuggestions();
  timer = setTimeout(showSuggestions, PAUSE_MS);
}

async function showSuggestions() {
  const request = ++latestRequest;
  const text = input.value.trim();
  const matches = (search) => search.place === scope() && search.query.toLowerCase().includes(text.toLowerCase());
  const queries = pastSearches().filter(matches).map((search) => search.query);
  if (input.dataset.suggestions === "yes" && document.querySelector("#tray") && !isKeyMissing()) {
    const params = new URLSearchParams({ index: input.dataset.index, query: text.slice(0, 200) });
    if (form.elements.domain.value.trim()) params.set("domain", form.elements.domain.value.trim());
    try {
      queries.push(...(await call("GET", `/api/suggestions?${params}`)).suggestions);
    } catch {
      // this browser's past searches are shown anyway
    }
  }
  // meanwhile the text may have changed, or the search box may have lost the focus
  if (request !== latestRequest || document.activeElement !== input) return;
  const suggestions = [...new Set(queries)].filter((query) => query !== text).slice(0, MAX_SHOWN);
  if (!suggestions.length) return closeSuggestions();
  list.replaceChildren(...suggestions.map((query, position) => make("li", { id: `suggestion-${position}`, role: "option", dir: "auto", textContent: query, "aria-selected": "false" })));
  list.hidden = false;
  input.setAttribute("aria-expanded", "true");
  input.removeAttribute("aria-activedescendant");
}

/** Hide the suggestions and cancel those on their way. */
export function closeSuggestions() {
  clearTimeout(timer);
  latestRequest += 1;
  list.hidden = true;
  input.setAttribute("aria-expanded", "false");
  input.removeAttribute("aria-activedescendant");
}

function choose(option) {
  input.value = option.textContent;
  remember(input.value);
  input.dispatchEvent(new CustomEvent("chosen"));
}

/** Select the next or previous option; past either end, none is selected. */
function moveSelection(step) {
  const options = [...list.children];
  const current = options.findIndex((option) => option.getAttribute("aria-selected") === "true");
  const next = (current + step + options.length + 1) % (options.length + 1);
  for (const [position, option] of options.entries()) option.setAttribute("aria-selected", String(position === next));
  if (next < options.length) input.setAttribute("aria-activedescendant", options[next].id);
  else input.removeAttribute("aria-activedescendant");
}

input.addEventListener("keydown", (event) => {
  if (list.hidden || event.isComposing) return;
  const selected = list.querySelector('[aria-selected="true"]');
  if (event.key === "ArrowDown") moveSelection(1);
  else if (event.key === "ArrowUp") moveSelection(-1);
  else if (event.key === "Escape") closeSuggestions();
  else if (event.key === "Enter" && selected) choose(selected);
  else return;
  event.preventDefault();
});

input.addEventListener("blur", closeSuggestions);
list.addEventListener("mousedown", (event) => {
  event.preventDefault(); // the search box keeps the focus
  if (event.target.matches("li")) choose(event.target);
});

addEventListener("settings", () => {
  if (!isOn("suggest")) localStorage.removeItem(STORAGE_KEY);
});

for (const [name, value] of Object.entries({ role: "combobox", "aria-expanded": "false", "aria-controls": "suggestions", "aria-autocomplete": "list" })) {
  input.setAttribute(name, value);
}
