// Marks on results (labels), adaptation and undo. The server stores each mark at once.

import { showBefore } from "./compare.js";
import { root } from "./page.js";
import { call, isKeyMissing, messageOf } from "./server.js";
import { t } from "./texts.js";

const domainInput = document.querySelector("form.search input[name=domain]");
const tray = document.querySelector("#tray");
const message = tray.querySelector(".message");

/** Index, domain, version and query of the results as the server rendered them; null without results. */
function resultsContext() {
  return document.querySelector("#answer .adapting")?.dataset ?? null;
}

/** API path of a context's domain. */
function domainPath(context) {
  return `/api/domains/${encodeURIComponent(context.domain)}`;
}

/** The marks of the shown query: document id → { id, relevance }. */
let marks = new Map();

function showMessage(text, { error = false } = {}) {
  if (text) tray.hidden = false;
  message.textContent = text;
  message.classList.toggle("error", error);
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
async function refresh() {
  const context = resultsContext();
  marks = new Map();
  if (!context || isKeyMissing()) return;
  const params = new URLSearchParams({ index: context.index, domain: context.domain });
  await attempt(async () => {
    const { labels } = await call("GET", `/api/labels?${params}&limit=1000&${new URLSearchParams({ query: context.query })}`);
    marks = new Map(labels.map((label) => [label.document, { id: label.id, relevance: label.relevance }]));
    updateButtons();
    await updateTray(context);
  });
}

/** Show how many marks wait for adaptation, and whether there is a version to undo. */
async function updateTray(context) {
  const domain = await call("GET", `${domainPath(context)}?index=${encodeURIComponent(context.index)}`);
  const total = domain.labels + domain.clicks;
  tray.hidden = !total && !domain.history.length && !message.textContent;
  tray.querySelector(".waiting").textContent = domain.pending ? t("tray.pending", { count: domain.pending }) : total ? t("tray.up-to-date", { count: total }) : "";
  const undo = tray.querySelector('[data-act="undo"]');
  undo.disabled = !domain.history.length;
  undo.title = domain.history.length ? t("tray.undo-to", { version: domain.history[0].number - 1 }) : t("tray.nothing-to-undo");
  const params = new URLSearchParams({ index: context.index, domain: context.domain });
  const language = new URL(location).searchParams.get("lang");
  if (language) params.set("lang", language);
  tray.querySelector("[data-marks]").href = `${root}/learned?${params}`;
}

async function mark(button) {
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
  const before = (document.querySelector("#answer .sides > section:last-of-type .hits") ?? document.querySelector("#answer .hits"))?.cloneNode(true);
  showMessage(running);
  progress.hidden = false;
  try {
    const domain = await call("POST", `${domainPath(context)}/${path}`, { index: context.index, ...body });
    const text = domain.adapting ? t("tray.still-adapting") : done(domain.history[0] ?? { number: 0 }, Number(context.version));
    const shown = new Promise((resolve) => document.addEventListener("shown", resolve, { once: true }));
    dispatchEvent(new CustomEvent("adapted"));
    await shown;
    showMessage(text);
    if (Number(resultsContext()?.version) !== Number(context.version)) showBefore(before);
    document.querySelector("#answer [data-sides]")?.scrollIntoView();
    updateButtons();
  } finally {
    progress.hidden = true;
  }
}

const ACTIONS = {
  adapt: () =>
    changeVersion("adapt", {}, {
      running: t("tray.adapting"),
      done: ({ number }, version) => t(number === version ? "tray.nothing-new" : "tray.adapted", { version: number }),
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
  if (!button || button.disabled || button.getAttribute("aria-disabled") === "true") return;
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
