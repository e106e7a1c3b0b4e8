// Marks on results, adapting to them and undoing that. Every mark is kept by the server at once, under an id of ours.

import { showBefore } from "./compare.js";
import { call, mustNotAsk, said } from "./server.js";
import { t } from "./texts.js";

const input = document.querySelector("form.search input[name=domain]");
const tray = document.querySelector("#tray");
const told = tray.querySelector(".told");

/** What this page is about, as the server rendered it; null where there are no results. */
function about() {
  return document.querySelector("#answer .adapting")?.dataset ?? null;
}

/** The endpoint's path of the page's domain. */
function pathOf(page) {
  return `/api/domains/${encodeURIComponent(page.domain)}`;
}

/** The marks of the query that is shown: document → { id, gain }. */
let marks = new Map();

function tell(text, { error = false } = {}) {
  if (text) tray.hidden = false;
  told.textContent = text;
  told.classList.toggle("error", error);
}

async function attempt(act) {
  try {
    await act();
  } catch (error) {
    tell(said(error), { error: true });
  }
}

/** Show which results are marked already. */
function press() {
  for (const hit of document.querySelectorAll("#answer [data-document]")) {
    const mark = marks.get(hit.dataset.document);
    for (const button of hit.querySelectorAll("[data-gain]")) {
      button.setAttribute("aria-pressed", String(mark !== undefined && Number(button.dataset.gain) > 0 === mark.gain > 0));
    }
  }
}

/** Read what is known of this query's marks and of the domain; without a key nothing is asked for unbidden. */
async function refresh() {
  const page = about();
  marks = new Map();
  if (!page || mustNotAsk()) return;
  const where = new URLSearchParams({ index: page.index, domain: page.domain });
  await attempt(async () => {
    const kept = await call("GET", `/api/labels?${where}&limit=1000&${new URLSearchParams({ query: page.query })}`);
    marks = new Map(kept.labels.map((label) => [label.document, { id: label.id, gain: label.relevance }]));
    press();
    await count(page);
  });
}

/** What there is to adapt to, and to undo. */
async function count(page) {
  const domain = await call("GET", `${pathOf(page)}?index=${encodeURIComponent(page.index)}`);
  const known = domain.labels + domain.clicks;
  tray.hidden = !known && !domain.history.length && !told.textContent;
  tray.querySelector(".waiting").textContent = domain.pending ? t("tray.waiting", { count: domain.pending }) : known ? t("tray.learned", { count: known }) : "";
  const undo = tray.querySelector('[data-act="undo"]');
  undo.disabled = !domain.history.length;
  undo.title = domain.history.length ? t("tray.undo-to", { version: domain.history[0].number - 1 }) : t("tray.nothing-to-undo");
  const where = new URLSearchParams({ index: page.index, domain: page.domain });
  const language = new URL(location).searchParams.get("lang");
  if (language) where.set("lang", language);
  tray.querySelector("[data-marks]").href = `/learned?${where}`;
}

async function mark(button) {
  const page = about();
  const identity = button.closest("[data-document]").dataset.document;
  const gain = Number(button.dataset.gain);
  const before = marks.get(identity);
  const where = { index: page.index, domain: page.domain };
  // pressed again, or the other one pressed: what was said before counts no more
  if (before) await call("DELETE", `/api/labels?${new URLSearchParams({ index: page.index, id: before.id })}`);
  marks.delete(identity);
  if (!before || before.gain > 0 !== gain > 0) {
    const kept = await call("POST", "/api/labels", { ...where, query: page.query, document: identity, relevance: gain, id: crypto.randomUUID?.() });
    marks.set(identity, { id: kept.ids[0], gain });
  }
  press();
  await count(page);
  tell(marks.size ? t("tray.marked", { count: marks.size }) : t("tray.none"));
}

/** Change what the domain is served with, and show the results before and after. */
async function change(path, body, { doing, done }) {
  const page = about() ?? document.querySelector("#panel .learned").dataset;
  const progress = tray.querySelector("progress");
  const before = document.querySelector("#answer > .hits, #answer .sides > section:last-of-type .hits")?.cloneNode(true);
  tell(doing);
  progress.hidden = false;
  try {
    const domain = await call("POST", `${pathOf(page)}/${path}`, { index: page.index, ...body });
    const text = domain.adapting ? t("tray.still") : done(domain.history[0] ?? { number: 0 }, Number(page.version));
    const shown = new Promise((resolve) => document.addEventListener("shown", resolve, { once: true }));
    dispatchEvent(new CustomEvent("adapted"));
    await shown;
    tell(text);
    if (Number(about()?.version) !== Number(page.version)) showBefore(before);
    document.querySelector("#answer [data-sides]")?.scrollIntoView();
    press();
  } finally {
    progress.hidden = true;
  }
}

const ACTS = {
  adapt: () =>
    change("adapt", {}, {
      doing: t("tray.adapting"),
      done: ({ number }, version) => t(number === version ? "tray.nothing-new" : "tray.serves", { version: number }),
    }),
  undo: () => change("rollback", {}, { doing: t("tray.undoing"), done: ({ restored }) => (restored ? t("tray.undone", { version: restored }) : t("tray.undone-all")) }),
};

function returnTo(to) {
  return change("rollback", { to }, { doing: t("tray.undoing"), done: ({ restored }) => t("tray.undone", { version: restored }) });
}

async function withdraw(button) {
  const { index } = button.closest(".learned").dataset;
  await call("DELETE", `/api/labels?${new URLSearchParams({ index, id: button.dataset.withdraw })}`);
  button.closest("li").remove();
  await refresh();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-gain], [data-act], [data-return], [data-withdraw]");
  if (!button || button.disabled || button.getAttribute("aria-disabled") === "true") return;
  const { act, gain, return: to, withdraw: label } = button.dataset;
  // a disabled button loses the focus
  button.setAttribute("aria-disabled", "true");
  attempt(() => (act ? ACTS[act]() : gain !== undefined ? mark(button) : label ? withdraw(button) : returnTo(Number(to)))).finally(() => button.removeAttribute("aria-disabled"));
});

document.addEventListener("shown", () => {
  tell("");
  refresh();
});

// the domains that there are, offered where one is typed; asked for when it is needed
input.addEventListener("focus", () => attempt(async () => {
  if (mustNotAsk()) return;
  const index = about()?.index;
  const found = await call("GET", `/api/domains${index ? `?index=${encodeURIComponent(index)}` : ""}`);
  document.querySelector("#domains").replaceChildren(...found.domains.map(({ domain }) => new Option(domain, domain)));
}), { once: true });

refresh();
