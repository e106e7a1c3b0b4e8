// Two rankings side by side, with a line between the two ranks of each document.

import { make } from "./page.js";
import { t } from "./texts.js";

const SVG = "http://www.w3.org/2000/svg";
const LINE_START_MAX_PX = 24; // below the top of a result, so that the line meets its title

/** Map each document id of a list to its element and its position, from 0. */
function positions(list) {
  return new Map([...list.querySelectorAll("[data-document]")].map((item, position) => [item.dataset.document, { item, position }]));
}

/** Draw the lines of every comparison on the page and show how many results moved. */
export function drawLines() {
  for (const sides of document.querySelectorAll("[data-sides]")) draw(sides);
}

function draw(sides) {
  sides.querySelector("svg.lines")?.remove();
  const [before, now] = [...sides.querySelectorAll(".hits")].map(positions);
  if (!before || !now) return;
  const frame = sides.getBoundingClientRect();
  const lines = document.createElementNS(SVG, "svg");
  lines.setAttribute("class", "lines");
  lines.setAttribute("aria-hidden", "true");
  lines.setAttribute("viewBox", `0 0 ${frame.width} ${frame.height}`);
  let moved = 0;
  for (const [id, { item, position }] of before) {
    const other = now.get(id);
    if (other?.position !== position) moved += 1;
    if (!other) continue;
    const [left, right] = [item, other.item].map((element) => element.getBoundingClientRect()).sort((a, b) => a.left - b.left);
    if (left.right > right.left + 1) continue; // on a narrow screen the lists are one below the other
    const line = document.createElementNS(SVG, "path");
    const [x1, x2] = [left.right - frame.left, right.left - frame.left];
    const [y1, y2] = [left, right].map((box) => box.top - frame.top + Math.min(box.height / 2, LINE_START_MAX_PX));
    const middle = (x1 + x2) / 2;
    line.setAttribute("d", `M${x1},${y1} C${middle},${y1} ${middle},${y2} ${x2},${y2}`);
    line.setAttribute("class", position === other.position ? "stays" : other.position < position ? "rises" : "falls");
    lines.append(line);
  }
  sides.append(lines);
  const text = moved ? t("compare.moved", { count: moved }) : t("compare.same");
  const note = sides.querySelector(".moved-count") ?? sides.insertBefore(make("p", { className: "moved-count note" }, make("span")), sides.firstChild);
  if (note.firstChild.textContent !== text) note.firstChild.textContent = text;
}

/** Show the previous ranking next to the current one. before: a copy of the previous list. */
export function showBefore(before) {
  const now = document.querySelector("#answer :not(section) > .hits, #answer > .hits");
  if (!now || !before) return;
  for (const rank of before.querySelectorAll(".other-rank")) rank.remove();
  const positionsBySide = [before, now].map(positions);
  const sides = make("div", { className: "sides" });
  sides.dataset.sides = "";
  for (const [side, list] of [before.cloneNode(true), now].entries()) {
    const others = positionsBySide[1 - side];
    const label = t(side ? "compare.now" : "compare.before");
    const section = make("section", {}, make("h2", { textContent: label }));
    section.setAttribute("aria-label", label);
    if (side) now.replaceWith(sides);
    for (const item of list.querySelectorAll("[data-document]")) {
      const other = others.get(item.dataset.document);
      const absent = t(side ? "compare.new" : "compare.dropped");
      item.prepend(make("p", { className: "other-rank", textContent: other ? t(side ? "compare.was" : "compare.becomes", { rank: other.position + 1 }) : absent }));
    }
    section.append(list);
    sides.append(section);
  }
  drawLines();
  sides.querySelector(".moved-count").append(" ", make("a", { href: location.href, textContent: t("adapted.only"), "data-in-place": "" }));
}

addEventListener("resize", drawLines);
document.addEventListener("toggle", drawLines, { capture: true });
document.addEventListener("shown", drawLines);
drawLines();
