// Past searches, offered while one types: those of this browser, then those that the domain's labels and clicks tell of.
// A combobox with a list, as the ARIA Authoring Practices describe it.

import { make } from "./page.js";
import { call, mustNotAsk } from "./server.js";
import { isOn } from "./settings.js";

const form = document.querySelector("form.search");
const input = form.elements.query;
const list = document.querySelector("#suggestions");
const NAME = "semsearch past searches";
const KEPT = 100;
const SHOWN = 8;
const PAUSE_MS = 120;
let timer = 0;
let number = 0;

/** Where past searches belong to. */
function place() {
  return `${input.dataset.index} ${form.elements.domain.value.trim()}`;
}

function past() {
  try {
    return JSON.parse(localStorage.getItem(NAME)) ?? [];
  } catch {
    return [];
  }
}

/** Keep a search, for this browser's suggestions. */
export function remember(words) {
  const query = words.trim();
  if (!query || !isOn("suggest")) return;
  const others = past().filter((one) => one.query !== query || one.place !== place());
  try {
    localStorage.setItem(NAME, JSON.stringify([{ query, place: place() }, ...others].slice(0, KEPT)));
  } catch {
    // a browser that keeps nothing suggests nothing of it
  }
}

/** Offer what fits the words in the box. */
export function suggest() {
  clearTimeout(timer);
  if (!isOn("suggest") || !input.value.trim()) return closeSuggestions();
  timer = setTimeout(offer, PAUSE_MS);
}

async function offer() {
  const mine = ++number;
  const words = input.value.trim();
  const own = past().filter((one) => one.place === place() && one.query.toLowerCase().includes(words.toLowerCase()));
  const found = own.map((one) => one.query);
  if (input.dataset.suggestions === "yes" && document.querySelector("#tray") && !mustNotAsk()) {
    const where = new URLSearchParams({ index: input.dataset.index, query: words.slice(0, 200) });
    if (form.elements.domain.value.trim()) where.set("domain", form.elements.domain.value.trim());
    try {
      found.push(...(await call("GET", `/api/suggestions?${where}`)).suggestions);
    } catch {
      // what was searched for here before is offered all the same
    }
  }
  // something else was typed, or the box was left, meanwhile
  if (mine !== number || document.activeElement !== input) return;
  const offered = [...new Set(found)].filter((query) => query !== words).slice(0, SHOWN);
  if (!offered.length) return closeSuggestions();
  list.replaceChildren(...offered.map((query, at) => make("li", { id: `suggestion-${at}`, role: "option", dir: "auto", textContent: query, "aria-selected": "false" })));
  list.hidden = false;
  input.setAttribute("aria-expanded", "true");
  input.removeAttribute("aria-activedescendant");
}

/** Offer nothing any more. */
export function closeSuggestions() {
  clearTimeout(timer);
  number += 1;
  list.hidden = true;
  input.setAttribute("aria-expanded", "false");
  input.removeAttribute("aria-activedescendant");
}

function choose(option) {
  input.value = option.textContent;
  remember(input.value);
  input.dispatchEvent(new CustomEvent("chosen"));
}

function walk(step) {
  const options = [...list.children];
  const present = options.findIndex((one) => one.getAttribute("aria-selected") === "true");
  const next = (present + step + options.length + 1) % (options.length + 1);
  for (const [at, one] of options.entries()) one.setAttribute("aria-selected", String(at === next));
  if (next < options.length) input.setAttribute("aria-activedescendant", options[next].id);
  else input.removeAttribute("aria-activedescendant");
}

input.addEventListener("keydown", (event) => {
  if (list.hidden || event.isComposing) return;
  const chosen = list.querySelector('[aria-selected="true"]');
  if (event.key === "ArrowDown") walk(1);
  else if (event.key === "ArrowUp") walk(-1);
  else if (event.key === "Escape") closeSuggestions();
  else if (event.key === "Enter" && chosen) choose(chosen);
  else return;
  event.preventDefault();
});

input.addEventListener("blur", closeSuggestions);
list.addEventListener("mousedown", (event) => {
  event.preventDefault(); // the box stays the one that is typed in
  if (event.target.matches("li")) choose(event.target);
});

addEventListener("settings", () => {
  if (!isOn("suggest")) localStorage.removeItem(NAME);
});

for (const [name, value] of Object.entries({ role: "combobox", "aria-expanded": "false", "aria-controls": "suggestions", "aria-autocomplete": "list" })) {
  input.setAttribute(name, value);
}
