// The status page reads itself anew, as long as it is visible.

import { fetched, reveal } from "./page.js";

async function refresh() {
  const main = document.querySelector("#answer");
  if (document.hidden || main.contains(document.activeElement)) return;
  try {
    const { page } = await fetched(location);
    const next = page.querySelector("#answer.status");
    if (!next) return;
    main.replaceChildren(...next.children);
    reveal(main);
    main.classList.remove("silent");
  } catch {
    main.classList.add("silent");
  }
}

setInterval(refresh, 1000 * Number(document.querySelector("#answer").dataset.every));
