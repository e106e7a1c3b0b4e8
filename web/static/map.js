// The map of a corpus on a canvas: every passage a point; results, and where the query stands, lit.

import { make, queryOf } from "./page.js";
import { Points } from "./points.js";
import { t } from "./texts.js";

const NEAR_PX = 12;
const CLOSEST = 400; // times the whole
const READ_AFTER_MS = 60;

/** Open the map on a canvas; returns what closes it. */
export function openMap(canvas) {
  const figure = canvas.closest("figure");
  const pointed = figure.querySelector(".pointed");
  const context = canvas.getContext("2d");
  const closing = new AbortController();
  const { signal } = closing;
  let points = new Points(new Uint16Array(0));
  let generation = "";
  let lit = { results: [], query: null, before: null };
  let chosen = null; // the result whose entry in the list is looked at
  let view = { x: 0.5, y: 0.5, zoom: 1 };
  let frame = 0;
  let reading = 0;

  /** Pixels of the canvas that the whole map's side takes. */
  const side = () => Math.min(canvas.width, canvas.height) * view.zoom;
  const toX = (x) => (x - view.x) * side() + canvas.width / 2;
  const toY = (y) => (y - view.y) * side() + canvas.height / 2;
  const fromX = (x) => (x - canvas.width / 2) / side() + view.x;
  const fromY = (y) => (y - canvas.height / 2) / side() + view.y;

  function redraw() {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      draw();
    });
  }

  function draw() {
    const { width, height } = canvas;
    if (!width || !height) return;
    const style = getComputedStyle(canvas);
    const [ink, accent, before, ground] = ["--quiet", "--accent", "--fall", "--surface"].map((name) => style.getPropertyValue(name).trim());
    context.clearRect(0, 0, width, height);
    context.putImageData(points.image(context, { left: toX(0), top: toY(0), side: side(), close: view.zoom > 6, ink }), 0, 0);
    const ratio = devicePixelRatio;
    for (const result of [...lit.results].reverse()) {
      const isChosen = result.id === chosen;
      dot(toX(result.point[0]), toY(result.point[1]), (isChosen ? 8 : 5) * ratio, accent, ground);
    }
    if (lit.query) {
      const [x, y] = [toX(lit.query[0]), toY(lit.query[1])];
      if (lit.before) {
        const [bx, by] = [toX(lit.before[0]), toY(lit.before[1])];
        context.strokeStyle = before;
        context.lineWidth = 2 * ratio;
        context.setLineDash([5 * ratio, 4 * ratio]);
        context.beginPath();
        context.moveTo(bx, by);
        context.lineTo(x, y);
        context.stroke();
        context.setLineDash([]);
        diamond(bx, by, 7 * ratio, ground, before);
      }
      diamond(x, y, 9 * ratio, before, ground);
    }
  }

  function dot(x, y, radius, fill, edge) {
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fillStyle = fill;
    context.fill();
    context.lineWidth = 1.5 * devicePixelRatio;
    context.strokeStyle = edge;
    context.stroke();
  }

  function diamond(x, y, radius, fill, edge) {
    context.beginPath();
    for (const [dx, dy] of [[0, -1], [1, 0], [0, 1], [-1, 0]]) context.lineTo(x + dx * radius, y + dy * radius);
    context.closePath();
    context.fillStyle = fill;
    context.fill();
    context.lineWidth = 2 * devicePixelRatio;
    context.strokeStyle = edge;
    context.stroke();
  }

  async function read(row, x, y) {
    const mine = ++reading;
    await new Promise((resolve) => setTimeout(resolve, READ_AFTER_MS));
    if (mine !== reading || row < 0) return;
    const where = new URLSearchParams({ index: canvas.dataset.index, generation, row });
    const response = await fetch(`/api/map/passage?${where}`, { signal }).catch(() => null);
    if (!response || mine !== reading) return;
    if (!response.ok) return load(); // the index has changed
    const found = await response.json();
    const address = new URLSearchParams({ index: canvas.dataset.index, id: found.id, start: found.start, stop: found.stop, query: asked().get("query") ?? "" });
    if (canvas.dataset.lang) address.set("lang", canvas.dataset.lang);
    const link = make("a", { href: `/document?${address}#passage`, textContent: found.title || found.id, dir: "auto" });
    link.dataset.beside = "";
    pointed.replaceChildren(link, make("span", { textContent: found.snippet, dir: "auto" }));
    pointed.hidden = false;
    const sheet = canvas.getBoundingClientRect();
    const width = Math.min(300, sheet.width);
    pointed.style.width = `${width}px`;
    pointed.style.left = `${Math.max(0, Math.min(sheet.width - width, x / devicePixelRatio + 12))}px`;
    pointed.style.top = `${y / devicePixelRatio + 14}px`;
  }

  function stopReading() {
    reading += 1;
    pointed.hidden = true;
  }

  /** What is searched for on this page. */
  function asked() {
    const here = new URL(location).searchParams;
    const kept = new URLSearchParams();
    for (const name of ["domain", "mode", "filter"]) if (here.get(name)?.trim()) kept.set(name, here.get(name));
    const query = queryOf(new URL(location))?.trim();
    if (query) kept.set("query", query);
    kept.set("index", canvas.dataset.index);
    return kept;
  }

  async function load() {
    const response = await fetch(`/api/map/points?${new URLSearchParams({ index: canvas.dataset.index })}`, { signal });
    if (!response.ok) return;
    generation = response.headers.get("X-Generation");
    points = new Points(new Uint16Array(await response.arrayBuffer()));
    redraw();
  }

  async function light() {
    const what = asked();
    lit = { results: [], query: null, before: null };
    if (what.get("query")) {
      const response = await fetch(`/api/map/query?${what}`, { signal });
      if (response.ok) lit = await response.json();
      if (response.ok && lit.generation !== generation) await load();
    }
    tell();
    redraw();
  }

  function tell() {
    const said = figure.querySelector(".moved-query");
    const same = !lit.before || (lit.before[0] === lit.query[0] && lit.before[1] === lit.query[1]);
    if (same) lit.before = null;
    const far = same ? 0 : Math.hypot(lit.query[0] - lit.before[0], lit.query[1] - lit.before[1]);
    said.textContent = !lit.query ? "" : same ? t("map.not-moved") : t("map.moved", { percent: `${(100 * far).toFixed(1)}%` });
    const details = figure.querySelector("details");
    details.hidden = !lit.results.length;
    const place = ([x, y]) => `${(100 * x).toFixed(1)}, ${(100 * y).toFixed(1)}`;
    const rows = lit.results.map((one) => [one.title || one.id, one.point]);
    if (lit.query) rows.unshift([t("map.query"), lit.query]);
    if (lit.before) rows.push([t("map.before"), lit.before]);
    details.querySelector("tbody").replaceChildren(...rows.map(([name, at]) => make("tr", {}, make("th", { scope: "row", textContent: name, dir: "auto" }), make("td", { textContent: place(at) }))));
  }

  function zoomAt(factor, x = canvas.width / 2, y = canvas.height / 2) {
    const [wasX, wasY] = [fromX(x), fromY(y)];
    view.zoom = Math.max(0.8, Math.min(CLOSEST, view.zoom * factor));
    view.x += wasX - fromX(x);
    view.y += wasY - fromY(y);
    stopReading();
    redraw();
  }

  function pan(dx, dy) {
    view.x = Math.max(0, Math.min(1, view.x - dx / side()));
    view.y = Math.max(0, Math.min(1, view.y - dy / side()));
    stopReading();
    redraw();
  }

  const ACTS = { in: () => zoomAt(1.5), out: () => zoomAt(1 / 1.5), all: () => { view = { x: 0.5, y: 0.5, zoom: 1 }; redraw(); } };
  const onCanvas = (event) => {
    const sheet = canvas.getBoundingClientRect();
    return [(event.clientX - sheet.left) * devicePixelRatio, (event.clientY - sheet.top) * devicePixelRatio];
  };
  const held = new Map();
  let dragged = 0;

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomAt(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...onCanvas(event));
  }, { passive: false, signal });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, onCanvas(event));
    dragged = 0;
  }, { signal });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = onCanvas(event);
    const before = held.get(event.pointerId);
    if (!before) return void read(points.nearest(fromX(x), fromY(y), (NEAR_PX * devicePixelRatio) / side()), x, y);
    const [dx, dy] = [x - before[0], y - before[1]];
    if (held.size === 2) {
      const other = [...held].find(([id]) => id !== event.pointerId)[1];
      const [was, is] = [before, [x, y]].map(([px, py]) => Math.hypot(px - other[0], py - other[1]));
      zoomAt(is / Math.max(was, 1), (x + other[0]) / 2, (y + other[1]) / 2);
    } else {
      pan(dx, dy);
    }
    dragged += Math.abs(dx) + Math.abs(dy);
    held.set(event.pointerId, [x, y]);
  }, { signal });
  const release = (event) => {
    held.delete(event.pointerId);
    if (event.type !== "pointerup" || dragged > 6) return;
    const [x, y] = onCanvas(event);
    read(points.nearest(fromX(x), fromY(y), (NEAR_PX * devicePixelRatio) / side()), x, y).then(() => pointed.hidden || (event.pointerType === "mouse" && pointed.querySelector("a").click()));
  };
  canvas.addEventListener("pointerup", release, { signal });
  canvas.addEventListener("pointercancel", release, { signal });
  canvas.addEventListener("keydown", (event) => {
    const step = 60 * devicePixelRatio;
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    const acts = { "+": "in", "=": "in", "-": "out", 0: "all" };
    if (moves[event.key]) pan(...moves[event.key]);
    else if (acts[event.key]) ACTS[acts[event.key]]();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }, { signal });
  figure.addEventListener("click", (event) => ACTS[event.target.dataset?.map]?.(), { signal });
  const look = (event) => {
    const item = event.target.closest?.("[data-document]");
    if ((item?.dataset.document ?? null) === chosen) return;
    chosen = item?.dataset.document ?? null;
    redraw();
  };
  document.addEventListener("pointerover", look, { signal });
  document.addEventListener("focusin", look, { signal });
  document.addEventListener("shown", light, { signal });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw, { signal });

  const watched = new ResizeObserver(() => {
    canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
    canvas.height = Math.round(canvas.clientHeight * devicePixelRatio);
    redraw();
  });
  watched.observe(canvas);
  load().then(light).catch(() => {});
  return () => {
    closing.abort();
    watched.disconnect();
    cancelAnimationFrame(frame);
  };
}
