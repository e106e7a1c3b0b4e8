// Refreshes the status page while it is visible.

import { fetchPage, reveal } from "./page.js";

async function refresh() {
  const main = document.querySelector("#answer");
  if (document.hidden || main.contains(document.activeElement)) return;
  try {
    const { page } = await fetchPage(location);
    const next = page.querySelector("#answer.status");
    if (!next) return;
    main.replaceChildren(...next.children);
    reveal(main);
    main.classList.remove("unreachable");
  } catch {
    main.classList.add("unreachable");
  }
}

setInterval(refresh, 1000 * Number(document.querySelector("#answer").dataset.refreshS));
