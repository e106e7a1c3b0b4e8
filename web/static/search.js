// Results while one types, and the keys. Without this module the form works as a form.
// The server renders every answer: what is fetched is the page itself, and its <main> is put in place of ours.

const form = document.querySelector("form.search");
const input = form.elements.q;
let main = document.querySelector("#answer");
let pending = new AbortController();
let timer = 0;

const TYPING_PAUSE_MS = 250;

/** The address of what the form asks. */
function asked() {
  const url = new URL(form.action);
  for (const [name, value] of new FormData(form)) {
    if (value.trim()) url.searchParams.set(name, value.trim());
  }
  return url;
}

/** Put the page at `url` in place of the present one; an answer that is no longer wanted never arrives. */
async function show(url, { remember }) {
  clearTimeout(timer);
  pending.abort();
  const mine = (pending = new AbortController());
  main.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(url, { signal: mine.signal, headers: { Accept: "text/html" } });
    const text = await response.text();
    if (mine.signal.aborted) return false;
    const page = new DOMParser().parseFromString(text, "text/html");
    replaceMain(page.querySelector("#answer"));
    document.title = page.title;
  } catch (error) {
    if (error.name === "AbortError") return false;
    tell("The server does not answer", "Check that it is running, then press Enter to try again.");
  }
  if (remember === "push") history.pushState(null, "", url);
  if (remember === "replace") history.replaceState(null, "", url);
  return true;
}

function replaceMain(next) {
  if (!next) return tell("That did not work", "The server answered with something that is no result page.");
  main.replaceWith(document.adoptNode(next));
  main = next;
  revealScripted();
  main.dispatchEvent(new CustomEvent("shown", { bubbles: true }));
}

function tell(title, detail) {
  const section = document.createElement("section");
  section.className = "notice error";
  section.setAttribute("role", "alert");
  section.append(element("h1", title), element("p", detail));
  main.replaceChildren(section);
  main.removeAttribute("aria-busy");
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function revealScripted() {
  for (const found of main.querySelectorAll("[data-needs-script]")) found.hidden = false;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const url = asked();
  // typing has shown it already: then only the history gains an entry
  show(url, { remember: url.href === location.href ? "replace" : "push" });
});

form.addEventListener("input", (event) => {
  if (event.target !== input) return;
  clearTimeout(timer);
  // the first letters start an entry of their own, so that "back" returns to what was there before
  timer = setTimeout(() => show(asked(), { remember: new URL(location).searchParams.has("q") ? "replace" : "push" }), TYPING_PAUSE_MS);
});

for (const field of [form.elements.index, form.elements.domain, form.elements.mode]) {
  field?.addEventListener("change", () => show(asked(), { remember: "push" }));
}

// the filter stands beside the results and is replaced with them
addEventListener("change", (event) => {
  if (event.target.name === "filter") show(asked(), { remember: "push" });
});

// what changes rankings says so, and they are asked for again
addEventListener("adapted", () => show(new URL(location), { remember: "no" }));

main.ownerDocument.addEventListener("click", (event) => {
  const link = event.target.closest(".pages a, a[data-here]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  const url = new URL(link.href);
  show(url, { remember: "push" }).then((shown) => {
    if (!shown) return;
    fill(url);
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  });
});

addEventListener("popstate", () => {
  const url = new URL(location);
  fill(url);
  show(url, { remember: "no" });
});

/** Have the form say what an address asks for. */
function fill(url) {
  input.value = url.searchParams.get("q") ?? "";
  const { index, domain, mode } = form.elements;
  if (index) index.value = url.searchParams.get("index") ?? index.options[0].value;
  domain.value = url.searchParams.get("domain") ?? "";
  mode.value = url.searchParams.get("mode") ?? "";
  if (mode.selectedIndex < 0) mode.value = ""; // what the index goes by is asked for by saying nothing
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const typing = event.target.closest?.("input, select, textarea");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    input.focus();
    input.select();
  } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && (!typing || typing === input)) {
    move(event);
  } else if (event.key === "Escape" && typing === input && input.value === "") {
    input.blur();
  }
});

/** Arrows walk the results; above the first one is the search box. Enter on a link opens it, as everywhere. */
function move(event) {
  const links = [...main.querySelectorAll(".hits a.open")];
  if (!links.length) return;
  const step = event.key === "ArrowDown" ? 1 : -1;
  const next = links.indexOf(document.activeElement) + step;
  if (document.activeElement !== input && !links.includes(document.activeElement) && step < 0) return;
  event.preventDefault();
  if (next < 0) {
    input.focus();
  } else if (next < links.length) {
    links[next].focus();
    links[next].closest("li").scrollIntoView({ block: "nearest" });
  }
}

revealScripted();
