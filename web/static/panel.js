// The panel next to the results: a document, what a domain learned, or the map. Each is a page of its own whose <main>
// is shown here. The page's address names the open one, so that it can be shared and the Back button works.

import { failure, fetchPage, isBrowserClick, make, reveal, root } from "./page.js";
import { askForKey, headers } from "./server.js";
import { t } from "./texts.js";

const panel = document.querySelector("#panel");
/** Pages that the panel may show: a shared address must not open anything else. */
const PAGES = new Set(["/document", "/learned", "/map"].map((page) => root + page));
/** Parameter of the page's address that holds the path of the open page; the name is part of shared links. */
const PARAMETER = "beside";

let shownAddress = null;
let opener = null;
let closeMap = () => {};

/** The address of the open page according to the page's address; null if the panel is closed. */
function openAddress() {
  const path = panelPath();
  if (!path) return null;
  const url = new URL(path, location.origin);
  return url.origin === location.origin && PAGES.has(url.pathname) ? url : null;
}

/** The path of the open page as the page's address has it; null if the panel is closed. */
function panelPath() {
  return new URL(location).searchParams.get(PARAMETER);
}

/** Add the open page to another address of the search page. */
export function keepPanel(url) {
  const path = panelPath();
  if (path) url.searchParams.set(PARAMETER, path);
}

/** An address of the search page without the open page. */
export function resultsOf(address) {
  const url = new URL(address);
  url.searchParams.delete(PARAMETER);
  return url.href;
}

/** Mark the result that the panel shows. */
function markOpened() {
  const id = shownAddress && new URL(shownAddress).searchParams.get("id");
  for (const item of document.querySelectorAll("#answer [data-document]")) {
    const link = item.querySelector("a.open");
    if (item.dataset.document === id) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

/** Show the page that the address names, or close the panel. again: even if it is shown already. */
export async function syncPanel({ again = false, focus = false } = {}) {
  const url = openAddress();
  if (!url) return hide();
  if (url.href === shownAddress && !again) return;
  shownAddress = url.href;
  markOpened();
  panel.hidden = false;
  panel.classList.toggle("map", url.pathname === `${root}/map`);
  document.body.classList.add("panel-open");
  panel.setAttribute("aria-busy", "true");
  if (!panel.firstChild) panel.append(make("p", { className: "note", textContent: t("panel.loading") }));
  const content = await load(url);
  if (shownAddress !== url.href) return;
  closeMap();
  closeMap = () => {};
  const close = make("button", { type: "button", className: "close", textContent: "×", title: t("panel.close"), "aria-label": t("panel.close") });
  close.addEventListener("click", closePanel);
  panel.replaceChildren(close, ...content);
  panel.removeAttribute("aria-busy");
  reveal(panel);
  panel.querySelector("[data-full]")?.setAttribute("href", url.href);
  for (const heading of panel.querySelectorAll("h1")) heading.id ||= "panel-title";
  panel.querySelector(".passage")?.scrollIntoView({ block: "center" });
  if (focus) panel.focus({ preventScroll: true });
  const canvas = panel.querySelector("canvas");
  if (canvas) {
    const { openMap } = await import("./map.js");
    if (canvas.isConnected) closeMap = openMap(canvas);
  }
}

async function load(url) {
  try {
    let answer = await fetchPage(url, { headers: headers() });
    if (answer.status === 401 && (await askForKey())) answer = await fetchPage(url, { headers: headers() });
    return answer.page.querySelector("#answer").children;
  } catch {
    return [failure(t("error.no-answer"), t("error.no-answer-detail"))];
  }
}

function hide() {
  if (panel.hidden) return;
  closeMap();
  closeMap = () => {};
  panel.hidden = true;
  panel.replaceChildren();
  document.body.classList.remove("panel-open");
  shownAddress = null;
  markOpened();
  (opener?.isConnected ? opener : document.querySelector("#answer")).focus({ preventScroll: true });
  opener = null;
}

/** Close the panel. */
export function closePanel() {
  if (panel.hidden) return;
  // Back must not open it again
  if (history.state?.opened) history.go(-history.state.opened);
  else history.replaceState(null, "", resultsOf(location));
  hide();
}

/** Open one of the server's pages in the panel. */
function openInPanel(href) {
  const target = new URL(href, location.origin);
  const url = new URL(location);
  url.searchParams.set(PARAMETER, target.pathname + target.search);
  if (url.href !== location.href) {
    // how many entries of the history ago it was closed; unknown if a search went on with an open panel
    const opened = panelPath() ? history.state?.opened && history.state.opened + 1 : 1;
    history.pushState(opened ? { opened } : null, "", url);
  }
  return syncPanel({ again: true, focus: true });
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-panel]");
  if (!link || isBrowserClick(event)) return;
  event.preventDefault();
  if (!panel.contains(link)) opener = link;
  openInPanel(link.href);
});

// labels and adaptation change what a domain has learned
document.addEventListener("shown", () => {
  markOpened();
  if (openAddress()?.pathname === `${root}/learned`) syncPanel({ again: true });
});
