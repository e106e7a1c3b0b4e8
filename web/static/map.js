// The map of a corpus on a canvas: a point for each passage, with the results and the query highlighted.

import { make, queryOf, root } from "./page.js";
import { Points } from "./points.js";
import { t } from "./texts.js";

const POINTER_REACH_PX = 12;
const MAX_ZOOM = 400; // 1 shows the whole map
const MIN_ZOOM = 0.8;
const HOVER_DELAY_MS = 60;
const CLICK_MAX_DRAG_PX = 6;

/** Open the map on a canvas; returns a function that closes it. */
export function openMap(canvas) {
  const figure = canvas.closest("figure");
  const tooltip = figure.querySelector(".tooltip");
  const message = figure.querySelector(".map-message");
  const context = canvas.getContext("2d");
  const closing = new AbortController();
  const { signal } = closing;
  let points = new Points(new Uint16Array(0));
  let generation = "";
  let highlights = { results: [], query: null, before: null };
  let selected = null; // id of the result that has the pointer or the focus in the list
  let view = { x: 0.5, y: 0.5, zoom: 1 };
  let frame = 0;
  let latestPreview = 0;

  /** Length of the map's side in pixels of the canvas. */
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
    const [ink, accent, queryColour, ground] = ["--quiet", "--accent", "--fall", "--surface"].map((name) => style.getPropertyValue(name).trim());
    context.clearRect(0, 0, width, height);
    context.putImageData(points.image(context, { left: toX(0), top: toY(0), side: side(), close: view.zoom > 6, ink }), 0, 0);
    const ratio = devicePixelRatio;
    for (const result of [...highlights.results].reverse()) {
      const radius = result.id === selected ? 8 : 5;
      dot(toX(result.point[0]), toY(result.point[1]), radius * ratio, accent, ground);
    }
    if (highlights.query) {
      const [x, y] = [toX(highlights.query[0]), toY(highlights.query[1])];
      if (highlights.before) {
        const [bx, by] = [toX(highlights.before[0]), toY(highlights.before[1])];
        context.strokeStyle = queryColour;
        context.lineWidth = 2 * ratio;
        context.setLineDash([5 * ratio, 4 * ratio]);
        context.beginPath();
        context.moveTo(bx, by);
        context.lineTo(x, y);
        context.stroke();
        context.setLineDash([]);
        diamond(bx, by, 7 * ratio, ground, queryColour);
      }
      diamond(x, y, 9 * ratio, queryColour, ground);
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

  /** Show the passage of a row in the tooltip, at pixel (x, y) of the canvas. A newer call cancels this one. */
  async function preview(row, x, y) {
    const number = ++latestPreview;
    await new Promise((resolve) => setTimeout(resolve, HOVER_DELAY_MS));
    if (number !== latestPreview || row < 0) return;
    const params = new URLSearchParams({ index: canvas.dataset.index, generation, row });
    const response = await fetch(`${root}/api/map/passage?${params}`, { signal }).catch(() => null);
    if (!response || number !== latestPreview) return;
    if (!response.ok) return reload(); // the index has changed
    const passage = await response.json();
    const address = new URLSearchParams({ index: canvas.dataset.index, id: passage.id, start: passage.start, stop: passage.stop, query: searchParameters().get("query") ?? "" });
    if (canvas.dataset.lang) address.set("lang", canvas.dataset.lang);
    const link = make("a", { href: `${root}/document?${address}#passage`, textContent: passage.title || passage.id, dir: "auto" });
    link.dataset.panel = "";
    tooltip.replaceChildren(link, make("span", { textContent: passage.snippet, dir: "auto" }));
    tooltip.hidden = false;
    const box = canvas.getBoundingClientRect();
    const width = Math.min(300, box.width);
    tooltip.style.width = `${width}px`;
    tooltip.style.left = `${Math.max(0, Math.min(box.width - width, x / devicePixelRatio + 12))}px`;
    tooltip.style.top = `${y / devicePixelRatio + 14}px`;
  }

  function hidePreview() {
    latestPreview += 1;
    tooltip.hidden = true;
  }

  /** Parameters of the page's search, for `/api/map/query`. */
  function searchParameters() {
    const current = new URL(location).searchParams;
    const params = new URLSearchParams();
    for (const name of ["domain", "mode", "filter"]) if (current.get(name)?.trim()) params.set(name, current.get(name));
    const query = queryOf(new URL(location))?.trim();
    if (query) params.set("query", query);
    params.set("index", canvas.dataset.index);
    return params;
  }

  /** Read the points of the index as it is now; says so in place of the map if there are none. */
  async function load() {
    const response = await fetch(`${root}/api/map/points?${new URLSearchParams({ index: canvas.dataset.index })}`, { signal });
    generation = response.headers.get("X-Generation") ?? "";
    points = new Points(new Uint16Array(response.ok ? await response.arrayBuffer() : 0));
    showMessage(response.ok ? "" : t(response.status === 404 ? "map.away" : "map.no-answer"));
    redraw();
  }

  function showMessage(text) {
    message.textContent = text;
    message.hidden = !text;
    canvas.hidden = Boolean(text);
  }

  /** Show a failed request in place of the map, unless the map was closed. */
  function showFailure() {
    if (signal.aborted) return;
    generation = "";
    showMessage(t("map.no-answer"));
  }

  /** Read and draw everything anew; if the points cannot be read, say so. */
  async function reload() {
    await load().catch(showFailure);
    await highlight().catch(() => {}); // the map is shown without highlights
  }

  /** Highlight the results and the query of the page's search. */
  async function highlight() {
    const params = searchParameters();
    highlights = { results: [], query: null, before: null };
    if (params.get("query") && generation) {
      const response = await fetch(`${root}/api/map/query?${params}`, { signal });
      if (response.ok) highlights = await response.json();
      if (response.ok && highlights.generation !== generation) await load(); // the index has changed
    }
    describe();
    redraw();
  }

  /** Say what is highlighted, as text and as a table. */
  function describe() {
    const { results, query, before } = highlights;
    const moved = before && (before[0] !== query[0] || before[1] !== query[1]);
    if (!moved) highlights.before = null;
    const distance = moved ? Math.hypot(query[0] - before[0], query[1] - before[1]) : 0;
    const note = figure.querySelector(".moved-query");
    note.textContent = !query ? "" : moved ? t("map.moved", { percent: `${(100 * distance).toFixed(1)}%` }) : t("map.not-moved");
    const details = figure.querySelector("details");
    details.hidden = !results.length;
    const rows = results.map((result) => [result.title || result.id, result.point]);
    if (query) rows.unshift([t("map.query"), query]);
    if (moved) rows.push([t("map.before"), before]);
    const coordinates = ([x, y]) => `${(100 * x).toFixed(1)}, ${(100 * y).toFixed(1)}`;
    details.querySelector("tbody").replaceChildren(...rows.map(([name, point]) => make("tr", {}, make("th", { scope: "row", textContent: name, dir: "auto" }), make("td", { textContent: coordinates(point) }))));
  }

  function zoomAt(factor, x = canvas.width / 2, y = canvas.height / 2) {
    if (!canvas.width) return; // a message is shown instead
    const [fixedX, fixedY] = [fromX(x), fromY(y)];
    view.zoom = Math.max(MIN_ZOOM, Math.min(MAX_ZOOM, view.zoom * factor));
    view.x += fixedX - fromX(x);
    view.y += fixedY - fromY(y);
    hidePreview();
    redraw();
  }

  function pan(dx, dy) {
    view.x = Math.max(0, Math.min(1, view.x - dx / side()));
    view.y = Math.max(0, Math.min(1, view.y - dy / side()));
    hidePreview();
    redraw();
  }

  const ACTIONS = { in: () => zoomAt(1.5), out: () => zoomAt(1 / 1.5), all: () => { view = { x: 0.5, y: 0.5, zoom: 1 }; redraw(); } };
  const onCanvas = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * devicePixelRatio, (event.clientY - box.top) * devicePixelRatio];
  };
  const nearestRow = (x, y) => points.nearest(fromX(x), fromY(y), (POINTER_REACH_PX * devicePixelRatio) / side());
  const pressed = new Map(); // pointers that are down, with their last position
  let dragged = 0;

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomAt(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...onCanvas(event));
  }, { passive: false, signal });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pressed.set(event.pointerId, onCanvas(event));
    dragged = 0;
  }, { signal });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = onCanvas(event);
    const last = pressed.get(event.pointerId);
    if (!last) return void preview(nearestRow(x, y), x, y);
    const [dx, dy] = [x - last[0], y - last[1]];
    if (pressed.size === 2) {
      const other = [...pressed].find(([id]) => id !== event.pointerId)[1];
      const [before, now] = [last, [x, y]].map(([px, py]) => Math.hypot(px - other[0], py - other[1]));
      zoomAt(now / Math.max(before, 1), (x + other[0]) / 2, (y + other[1]) / 2);
    } else {
      pan(dx, dy);
    }
    dragged += Math.abs(dx) + Math.abs(dy);
    pressed.set(event.pointerId, [x, y]);
  }, { signal });
  const release = (event) => {
    pressed.delete(event.pointerId);
    if (event.type !== "pointerup" || dragged > CLICK_MAX_DRAG_PX) return;
    const [x, y] = onCanvas(event);
    preview(nearestRow(x, y), x, y).then(() => tooltip.hidden || (event.pointerType === "mouse" && tooltip.querySelector("a").click()));
  };
  canvas.addEventListener("pointerup", release, { signal });
  canvas.addEventListener("pointercancel", release, { signal });
  canvas.addEventListener("keydown", (event) => {
    const step = 60 * devicePixelRatio;
    const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    const actions = { "+": "in", "=": "in", "-": "out", 0: "all" };
    if (moves[event.key]) pan(...moves[event.key]);
    else if (actions[event.key]) ACTIONS[actions[event.key]]();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }, { signal });
  figure.addEventListener("click", (event) => ACTIONS[event.target.dataset?.map]?.(), { signal });
  const select = (event) => {
    const id = event.target.closest?.("[data-document]")?.dataset.document ?? null;
    if (id === selected) return;
    selected = id;
    redraw();
  };
  document.addEventListener("pointerover", select, { signal });
  document.addEventListener("focusin", select, { signal });
  document.addEventListener("shown", () => (generation ? highlight().catch(() => {}) : reload()), { signal });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw, { signal });

  const resizes = new ResizeObserver(() => {
    canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
    canvas.height = Math.round(canvas.clientHeight * devicePixelRatio);
    redraw();
  });
  resizes.observe(canvas);
  reload();
  return () => {
    closing.abort();
    resizes.disconnect();
    cancelAnimationFrame(frame);
  };
}
