// Marks on results, adapting to them and undoing that. Every mark is kept by the server at once, under an id of ours.

const input = document.querySelector("form.search input[name=domain]");
const dialog = document.querySelector("#key");
const KEY = "semsearch write key";

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

/** Ask the endpoint; where a key is wanted and none is known, ask the person, once. */
async function call(method, path, body) {
  for (let asked = false; ; asked = true) {
    const headers = { Accept: "application/json" };
    if (body) headers["Content-Type"] = "application/json";
    const key = sessionStorage.getItem(KEY);
    if (key) headers.Authorization = `Bearer ${key}`;
    const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
    if (response.status === 401 && !asked && (await askForKey())) continue;
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.detail);
    return answer;
  }
}

function askForKey() {
  return new Promise((resolve) => {
    dialog.returnValue = "";
    dialog.showModal();
    dialog.addEventListener(
      "close",
      () => {
        const field = dialog.querySelector("input");
        const given = dialog.returnValue === "use" && field.value;
        if (given) sessionStorage.setItem(KEY, field.value);
        field.value = "";
        resolve(Boolean(given));
      },
      { once: true },
    );
  });
}

function tell(text, { error = false } = {}) {
  const place = document.querySelector("#answer .told");
  if (!place) return;
  place.textContent = text;
  place.classList.toggle("error", error);
}

async function attempt(act) {
  try {
    await act();
  } catch (error) {
    tell(error instanceof TypeError ? "The server does not answer." : error.message, { error: true });
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
  if (!page || (document.body.dataset.keyWanted === "true" && !sessionStorage.getItem(KEY))) return;
  const where = new URLSearchParams({ index: page.index, domain: page.domain });
  await attempt(async () => {
    const kept = await call("GET", `/api/labels?${where}&limit=1000&${new URLSearchParams({ query: page.query })}`);
    marks = new Map(kept.labels.map((label) => [label.document, { id: label.id, gain: label.gain }]));
    press();
    await count(page);
  });
}

/** What there is to adapt to, and to undo. */
async function count(page) {
  const domain = await call("GET", `${pathOf(page)}?index=${encodeURIComponent(page.index)}`);
  const adapt = document.querySelector('[data-act="adapt"]');
  if (adapt) adapt.textContent = domain.waiting ? `Adapt to ${domain.waiting} new` : "Adapt";
  const undo = document.querySelector('[data-act="undo"]');
  if (undo) {
    undo.disabled = !domain.history.length;
    undo.title = domain.history.length ? `Back to version ${domain.history[0].number - 1}` : "Nothing was adapted yet";
  }
}

async function mark(button) {
  const page = about();
  const document_ = button.closest("[data-document]").dataset.document;
  const gain = Number(button.dataset.gain);
  const before = marks.get(document_);
  const where = { index: page.index, domain: page.domain };
  // pressed again, or the other one pressed: what was said before counts no more
  if (before) await call("DELETE", `/api/labels?${new URLSearchParams({ index: page.index, id: before.id })}`);
  marks.delete(document_);
  if (!before || before.gain > 0 !== gain > 0) {
    const kept = await call("POST", "/api/labels", { ...where, query: page.query, document: document_, gain, id: crypto.randomUUID?.() });
    marks.set(document_, { id: kept.ids[0], gain });
  }
  press();
  await count(page);
  tell(marks.size ? `${marks.size} marked for this query.` : "");
}

async function act(name) {
  const page = about();
  const path = `${pathOf(page)}/${name === "adapt" ? "adapt" : "rollback"}`;
  tell(name === "adapt" ? "Adapting …" : "Undoing …");
  const domain = await call("POST", path, { index: page.index });
  const number = domain.history[0]?.number;
  const said = domain.adapting ? "Still adapting: the results will follow."
    : number === Number(page.version) ? `Nothing new: version ${number} serves already.`
    : name === "adapt" ? `Version ${number} serves from now on.` : `Undone: ${domain.history[0].words}`;
  document.addEventListener("shown", () => tell(said), { once: true });
  dispatchEvent(new CustomEvent("adapted"));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-gain], [data-act]");
  if (!button || button.disabled) return;
  button.disabled = true;
  attempt(() => (button.dataset.act ? act(button.dataset.act) : mark(button))).finally(() => (button.disabled = false));
});

document.addEventListener("shown", refresh);

// the domains that there are, offered where one is typed; asked for when it is needed
input.addEventListener("focus", () => attempt(async () => {
  if (document.body.dataset.keyWanted === "true" && !sessionStorage.getItem(KEY)) return;
  const index = about()?.index;
  const found = await call("GET", `/api/domains${index ? `?index=${encodeURIComponent(index)}` : ""}`);
  document.querySelector("#domains").replaceChildren(...found.domains.map(({ domain }) => new Option(domain, domain)));
}), { once: true });

refresh();
