// What stands beside the results: a document, what a domain learned, the map. Each is a page of its own, whose <main>
// is shown here; the address says which, so that it can be shared and gone back from.

import { failure, fetched, make, reveal } from "./page.js";
import { askForKey, headers } from "./server.js";
import { t } from "./texts.js";

const panel = document.querySelector("#panel");
/** Pages that may stand there: an address that a person was sent can open nothing else. */
const PAGES = new Set(["/document", "/learned", "/map"]);

let shown = null;
let opener = null;
let leave = () => {};

/** The address of what is to stand beside the results, or null. */
function wanted() {
  const beside = new URL(location).searchParams.get("beside");
  if (!beside) return null;
  const url = new URL(beside, location.origin);
  return url.origin === location.origin && PAGES.has(url.pathname) ? url : null;
}

/** Show what the address says. */
export async function syncPanel({ again = false, focus = false } = {}) {
  const url = wanted();
  if (!url) return hide();
  if (url.href === shown && !again) return;
  shown = url.href;
  panel.hidden = false;
  panel.classList.toggle("map", url.pathname === "/map");
  document.body.classList.add("beside");
  panel.setAttribute("aria-busy", "true");
  if (!panel.firstChild) panel.append(make("p", { className: "note", textContent: t("panel.loading") }));
  const content = await load(url);
  if (shown !== url.href) return;
  leave();
  leave = () => {};
  const close = make("button", { type: "button", className: "close", textContent: "×", title: t("panel.close"), "aria-label": t("panel.close") });
  close.addEventListener("click", closePanel);
  panel.replaceChildren(close, ...content);
  panel.removeAttribute("aria-busy");
  reveal(panel);
  panel.querySelector("[data-full]")?.setAttribute("href", url.href);
  for (const found of panel.querySelectorAll("h1")) found.id ||= "panel-title";
  panel.querySelector(".passage")?.scrollIntoView({ block: "center" });
  if (focus) panel.focus({ preventScroll: true });
  const canvas = panel.querySelector("canvas");
  if (canvas) {
    const { openMap } = await import("./map.js");
    if (canvas.isConnected) leave = openMap(canvas);
  }
}

async function load(url) {
  try {
    let answer = await fetched(url, { headers: headers() });
    if (answer.status === 401 && (await askForKey())) answer = await fetched(url, { headers: headers() });
    return answer.page.querySelector("#answer").children;
  } catch {
    return [failure(t("error.silent"), t("error.silent-detail"))];
  }
}

function hide() {
  if (panel.hidden) return;
  leave();
  leave = () => {};
  panel.hidden = true;
  panel.replaceChildren();
  document.body.classList.remove("beside");
  shown = null;
  (opener?.isConnected ? opener : document.querySelector("#answer")).focus({ preventScroll: true });
  opener = null;
}

/** Close what stands beside the results. */
export function closePanel() {
  if (panel.hidden) return;
  const url = new URL(location);
  url.searchParams.delete("beside");
  history.pushState(null, "", url);
  hide();
}

/** Open a page of ours beside the results. */
export function openBeside(href) {
  const target = new URL(href, location.origin);
  const url = new URL(location);
  url.searchParams.set("beside", target.pathname + target.search);
  if (url.href !== location.href) history.pushState(null, "", url);
  return syncPanel({ again: true, focus: true });
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-beside]");
  if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  if (!panel.contains(link)) opener = link;
  openBeside(link.href);
});

// what a domain learned may have changed, and the map shows other results
document.addEventListener("shown", () => {
  const path = wanted()?.pathname;
  if (path === "/learned") syncPanel({ again: true });
});
