// What a person sets for this browser, and the list of keys; kept in the browser and sent nowhere.

const NAME = "semsearch settings";
const dialog = document.querySelector("#keys");
const settings = { letters: true, suggest: true, ...read() };

function read() {
  try {
    return JSON.parse(localStorage.getItem(NAME)) ?? {};
  } catch {
    return {};
  }
}

/** Whether something is switched on. */
export function isOn(name) {
  return settings[name];
}

/** Show the keys and the settings. */
export function showKeys() {
  for (const box of dialog.querySelectorAll("[data-setting]")) box.checked = settings[box.dataset.setting];
  dialog.showModal();
}

dialog.addEventListener("change", (event) => {
  settings[event.target.dataset.setting] = event.target.checked;
  try {
    localStorage.setItem(NAME, JSON.stringify(settings));
  } catch {
    // then it holds until the page is left
  }
  dispatchEvent(new CustomEvent("settings"));
});

document.querySelector("[data-keys]").addEventListener("click", showKeys);
