// Marks on results (labels), adaptation and undo. The server stores each mark at once.

import { showBefore } from "./compare.js";
import { make, root } from "./page.js";
import { call, isKeyMissing, messageOf } from "./server.js";
import { t } from "./texts.js";

const domainInput = document.querySelector("form.search input[name=domain]");
const tray = document.querySelector("#tray");
const MARKS_BEFORE_SUGGESTING = 3;
const MAX_PLACES = 3; // marked results whose new places are told
const PLACE_DEPTH = 100;
const message = tray.querySelector(".message");

/** Index, domain, version and query of the results as the server rendered them; null without results. */
function resultsContext() {
  return document.querySelector("#answer .adapting")?.dataset ?? null;
}

/** API path of a context's domain. */
function domainPath(context) {
  return `/api/domains/${encodeURIComponent(context.domain)}`;
}

/** Parameters that name a context's index and domain. */
function target(context) {
  return new URLSearchParams({ index: context.index, domain: context.domain });
}

/** The marks of the shown query: document id → { id, relevance }. */
let marks = new Map();

function showMessage(text, { error = false } = {}) {
  if (text) tray.hidden = false;
  message.textContent = text;
  message.classList.toggle("error", error);
}

/** Whether the results are still those of a context. */
function isShown(context) {
  const current = resultsContext();
  return current !== null && ["index", "domain", "query"].every((name) => current[name] === context[name]);
}

/** Run an action; show its error, if any. */
async function attempt(action) {
  try {
    await action();
  } catch (error) {
    showMessage(messageOf(error), { error: true });
  }
}

/** Show the marks on the buttons of the results. */
function updateButtons() {
  for (const hit of document.querySelectorAll("#answer [data-document]")) {
    const mark = marks.get(hit.dataset.document);
    for (const button of hit.querySelectorAll("[data-relevance]")) {
      button.setAttribute("aria-pressed", String(mark !== undefined && Number(button.dataset.relevance) > 0 === mark.relevance > 0));
    }
  }
}

/** Read the marks of the shown query and the state of the domain, unless the user would be asked for a key. */
function refresh() {
  refreshed = readMarks();
  return refreshed;
}

/** The latest call of `refresh`: a button pressed before the marks are known waits for them. */
let refreshed = Promise.resolve();

async function readMarks() {
  const context = resultsContext();
  marks = new Map();
  if (!context || isKeyMissing()) return;
  await attempt(async () => {
    const { labels } = await call("GET", `/api/labels?${target(context)}&limit=1000&${new URLSearchParams({ query: context.query })}`);
    if (!isShown(context)) return;
    marks = new Map(labels.map((label) => [label.document, { id: label.id, relevance: label.relevance }]));
    updateButtons();
    await updateTray(context);
  });
}

/** Show how many marks there are, whether they are learned, what to mark next, and whether there is a version to undo. */
async function updateTray(context) {
  const domain = await call("GET", `${domainPath(context)}?index=${encodeURIComponent(context.index)}`);
  const total = domain.labels + domain.clicks;
  tray.hidden = !total && !domain.history.length && !message.textContent;
  tray.querySelector(".waiting").textContent = total ? t(`tray.total-${learned(domain)}`, { count: total }) : "";
  tray.querySelector('[data-act="adapt"]').classList.toggle("main", learned(domain) !== "learned");
  const undo = tray.querySelector('[data-act="undo"]');
  undo.disabled = !domain.history.length;
  undo.title = domain.history.length ? t("tray.undo-to", { version: domain.history[0].number - 1 }) : t("tray.nothing-to-undo");
  const params = target(context);
  const language = new URL(location).searchParams.get("lang");
  if (language) params.set("lang", language);
  tray.querySelector("[data-marks]").href = `${root}/learned?${params}`;
  suggestNext(context, total).catch(() => {}); // marks are stored and shown without a suggestion
}

/** What a domain has learned of its marks: "unlearned" (nothing), "changed" (not all), "learned", or "undone". */
function learned({ history, pending }) {
  if (!history.length) return "unlearned";
  if (pending) return "changed";
  return ["rolled back", "reset"].includes(history[0].event) ? "undone" : "learned";
}

/** Above a few marks, say which of the shown results is worth marking next; without one, which query. */
async function suggestNext(context, total) {
  const next = tray.querySelector(".next");
  next.replaceChildren();
  if (total < MARKS_BEFORE_SUGGESTING || isTyping()) return;
  const asked = new URLSearchParams({ query: context.query, results: 50 });
  const ofQuery = (await call("GET", `/api/labels/suggested?${target(context)}&${asked}`)).suggestions[0]?.hits ?? [];
  const link = ofQuery.map(({ id }) => linkOf(id)).find(Boolean);
  if (link) {
    const button = make("button", { type: "button", className: "link", textContent: t("tray.next-result", { title: link.textContent }) });
    button.addEventListener("click", () => link.focus());
    return isShown(context) && next.replaceChildren(button);
  }
  const [suggested] = (await call("GET", `/api/labels/suggested?${target(context)}&k=1&results=1`)).suggestions;
  const query = suggested && suggested.query !== context.query ? suggested.query : await unmarkedExample(context);
  if (!query || !isShown(context)) return;
  const url = new URL(location);
  for (const name of ["page", "compare", "beside", "q"]) url.searchParams.delete(name);
  url.searchParams.set("query", query);
  next.replaceChildren(`${t("tray.next-query")} `, make("a", { href: url.href, textContent: query, dir: "auto", "data-in-place": "" }));
}

/** The first of the index's examples without a mark; undefined without one. */
async function unmarkedExample(context) {
  for (const example of JSON.parse(tray.dataset.examples)) {
    const asked = new URLSearchParams({ query: example, limit: 1 });
    if (example !== context.query && !(await call("GET", `/api/labels?${target(context)}&${asked}`)).labels.length) return example;
  }
}

/** Whether the query is being typed: then nothing is suggested yet. */
function isTyping() {
  return document.activeElement?.id === "query";
}

/** The list of results; of two side by side, the current one. */
function shownList() {
  return document.querySelector("#answer .sides > section:last-of-type .hits") ?? document.querySelector("#answer .hits");
}

/** The link of a shown result; undefined if it is not shown. */
function linkOf(docId) {
  return shownList()?.querySelector(`[data-document="${CSS.escape(docId)}"] a.open`);
}

async function mark(button) {
  await refreshed;
  if (!button.isConnected) return; // meanwhile the results are those of another query
  const context = resultsContext();
  const docId = button.closest("[data-document]").dataset.document;
  const relevance = Number(button.dataset.relevance);
  const previous = marks.get(docId);
  // a pressed button removes its mark; the other button replaces it
  if (previous) await call("DELETE", `/api/labels?${new URLSearchParams({ index: context.index, id: previous.id })}`);
  marks.delete(docId);
  if (!previous || previous.relevance > 0 !== relevance > 0) {
    const label = { index: context.index, domain: context.domain, query: context.query, document: docId, relevance, id: crypto.randomUUID?.() };
    const { ids } = await call("POST", "/api/labels", label);
    marks.set(docId, { id: ids[0], relevance });
  }
  updateButtons();
  await updateTray(context);
  showMessage(marks.size ? t("tray.marked", { count: marks.size }) : t("tray.none"));
}

/** Change the domain's version, then show the results before and after. path: of the API, below the domain's. */
async function changeVersion(path, body, { running, done }) {
  const context = resultsContext() ?? document.querySelector("#panel .domain-page").dataset;
  const progress = tray.querySelector("progress");
  const before = shownList()?.cloneNode(true);
  const relevant = relevantShown();
  const isFirstPage = !(before?.start > 1);
  showMessage(running);
  progress.hidden = false;
  try {
    const domain = await call("POST", `${domainPath(context)}/${path}`, { index: context.index, ...body });
    const text = domain.adapting ? t("tray.still-adapting") : done(domain.history[0] ?? { number: 0 }, Number(context.version));
    const shown = new Promise((resolve) => document.addEventListener("shown", resolve, { once: true }));
    const isOther = domain.adaptation.version !== Number(context.version);
    dispatchEvent(new CustomEvent("adapted", { detail: { isOther } }));
    await shown;
    showMessage(text);
    if (isOther && isFirstPage) showBefore(before);
    document.querySelector("#answer [data-sides]")?.scrollIntoView();
    updateButtons();
    const results = resultsContext();
    const places = isOther && results ? await newPlaces(results, relevant).catch(() => []) : [];
    if (places.length && isShown(results)) showMessage([text, ...places].join(" "));
  } finally {
    progress.hidden = true;
  }
}

/** The shown results that are marked as relevant, with their ranks: { id, title, rank }. */
function relevantShown() {
  const list = shownList();
  return [...(list?.querySelectorAll("[data-document]") ?? [])]
    .map((item, position) => ({ id: item.dataset.document, title: item.querySelector("a.open").textContent, rank: list.start + position }))
    .filter(({ id }) => marks.get(id)?.relevance > 0);
}

/** Sentences about the new ranks of results; those that kept theirs are left out. */
async function newPlaces(context, relevant) {
  if (!relevant.length) return [];
  const params = new URL(location).searchParams;
  const query = { index: context.index, domain: context.domain, query: context.query, k: PLACE_DEPTH, collapse: true };
  for (const name of ["mode", "filter", "sort"]) if (params.get(name)?.trim()) query[name] = params.get(name);
  const { results: [{ hits }] } = await call("POST", "/api/search", query);
  const places = relevant.map((result) => ({ ...result, now: hits.findIndex(({ id }) => id === result.id) + 1 }));
  return places
    .filter(({ rank, now }) => rank !== now)
    .slice(0, MAX_PLACES)
    .map(({ title, rank, now }) => (now ? t("tray.place", { title, rank, now }) : t("tray.place-beyond", { title, rank, depth: PLACE_DEPTH })));
}

const ACTIONS = {
  adapt: () =>
    changeVersion("adapt", {}, {
      running: t("tray.adapting"),
      done: ({ number, learner }, version) => t(number === version ? "tray.nothing-new" : learner === "none" ? "tray.declined" : "tray.adapted", { version: number }),
    }),
  undo: () =>
    changeVersion("rollback", {}, {
      running: t("tray.undoing"),
      done: ({ restored }) => (restored ? t("tray.undone", { version: restored }) : t("tray.undone-all")),
    }),
};

function restore(version) {
  return changeVersion("rollback", { to: version }, { running: t("tray.undoing"), done: ({ restored }) => t("tray.undone", { version: restored }) });
}

/** Remove a mark from the list on the domain's page. */
async function retract(button) {
  const { index } = button.closest(".domain-page").dataset;
  await call("DELETE", `/api/labels?${new URLSearchParams({ index, id: button.dataset.retract })}`);
  button.closest("li").remove();
  await refresh();
}

/** The action of a button. */
function actionOf(button) {
  const { act, relevance, retract: label, restore: version } = button.dataset;
  if (act) return ACTIONS[act];
  if (relevance !== undefined) return () => mark(button);
  if (label) return () => retract(button);
  return () => restore(Number(version));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-relevance], [data-act], [data-restore], [data-retract]");
  if (!button) return;
  event.preventDefault(); // without this module, the buttons send the form of the page
  if (button.disabled || button.getAttribute("aria-disabled") === "true") return;
  // not `disabled`: a disabled button loses the focus
  button.setAttribute("aria-disabled", "true");
  attempt(actionOf(button)).finally(() => button.removeAttribute("aria-disabled"));
});

document.addEventListener("shown", () => {
  showMessage("");
  refresh();
});

// the existing domains are offered in the domain field, and read when it is first used
domainInput.addEventListener("focus", () => attempt(async () => {
  if (isKeyMissing()) return;
  const index = resultsContext()?.index;
  const { domains } = await call("GET", `/api/domains${index ? `?index=${encodeURIComponent(index)}` : ""}`);
  document.querySelector("#domains").replaceChildren(...domains.map(({ domain }) => new Option(domain, domain)));
}), { once: true });

refresh();
