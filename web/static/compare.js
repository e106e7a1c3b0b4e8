// Two rankings side by side, with lines from where a document stood to where it stands.

import { make } from "./page.js";
import { t } from "./texts.js";

const SVG = "http://www.w3.org/2000/svg";

function documents(list) {
  return new Map([...list.querySelectorAll("[data-document]")].map((item, at) => [item.dataset.document, { item, at }]));
}

/** Draw the lines of every comparison on the page, and say in words what they show. */
export function drawLines() {
  for (const sides of document.querySelectorAll("[data-sides]")) draw(sides);
}

function draw(sides) {
  sides.querySelector("svg.lines")?.remove();
  const [before, now] = [...sides.querySelectorAll(".hits")].map(documents);
  if (!before || !now) return;
  const frame = sides.getBoundingClientRect();
  const lines = document.createElementNS(SVG, "svg");
  lines.setAttribute("class", "lines");
  lines.setAttribute("aria-hidden", "true");
  lines.setAttribute("viewBox", `0 0 ${frame.width} ${frame.height}`);
  let moved = 0;
  for (const [identity, { item, at }] of before) {
    const other = now.get(identity);
    if (other?.at !== at) moved += 1;
    if (!other) continue;
    const [left, right] = [item, other.item].map((one) => one.getBoundingClientRect()).sort((a, b) => a.left - b.left);
    if (left.right > right.left + 1) continue; // one below the other: there is no room for lines
    const line = document.createElementNS(SVG, "path");
    const [x1, x2] = [left.right - frame.left, right.left - frame.left];
    const [y1, y2] = [left, right].map((one) => one.top - frame.top + Math.min(one.height, 48) / 2);
    const middle = (x1 + x2) / 2;
    line.setAttribute("d", `M${x1},${y1} C${middle},${y1} ${middle},${y2} ${x2},${y2}`);
    line.setAttribute("class", at === other.at ? "stays" : other.at < at ? "rises" : "falls");
    lines.append(line);
  }
  sides.append(lines);
  const said = moved ? t("compare.lines", { count: moved }) : t("compare.same");
  const told = sides.querySelector(".moves") ?? sides.insertBefore(make("p", { className: "moves note" }), sides.firstChild);
  if (told.textContent !== said) told.textContent = said;
}

/** Show a ranking as it was beside the one that took its place. */
export function showBefore(before) {
  const now = document.querySelector("#answer > .hits");
  if (!now || !before) return;
  for (const mark of before.querySelectorAll(".moved")) mark.remove();
  const places = [before, now].map(documents);
  const sides = make("div", { className: "sides" });
  sides.dataset.sides = "";
  for (const [number, list] of [before.cloneNode(true), now].entries()) {
    const other = places[1 - number];
    const title = make("h2", { textContent: `${t(number ? "compare.now" : "compare.before")} ` }, make("small", { textContent: t("compare.its-place") }));
    const part = make("section", {}, title);
    part.setAttribute("aria-label", t(number ? "compare.now" : "compare.before"));
    if (number) now.replaceWith(sides);
    for (const item of list.querySelectorAll("[data-document]")) {
      const there = other.get(item.dataset.document);
      const gone = t(number ? "compare.new" : "compare.gone");
      item.prepend(make("p", { className: there ? "moved" : "moved far", textContent: there ? there.at + 1 : gone }));
    }
    part.append(list);
    sides.append(part);
  }
  drawLines();
}

addEventListener("resize", drawLines);
document.addEventListener("toggle", drawLines, { capture: true });
document.addEventListener("shown", drawLines);
drawLines();
