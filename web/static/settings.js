// The user's settings, stored in this browser only, and the dialog that shows them with the keyboard shortcuts.

const STORAGE_KEY = "semsearch settings";
const dialog = document.querySelector("#keys");
const settings = { letters: true, suggest: true, ...read() };

function read() {
  try {
    return JSON.parse(localStorage.getItem(STORAGE_KEY)) ?? {};
  } catch {
    return {};
  }
}

/** Whether a setting is on. */
export function isOn(name) {
  return settings[name];
}

/** Open the dialog. */
export function showSettings() {
  for (const box of dialog.querySelectorAll("[data-setting]")) box.checked = settings[box.dataset.setting];
  dialog.showModal();
}

dialog.addEventListener("change", (event) => {
  settings[event.target.dataset.setting] = event.target.checked;
  try {
    localStorage.setItem(STORAGE_KEY, JSON.stringify(settings));
  } catch {
    // without storage the setting applies until the page is left
  }
  dispatchEvent(new CustomEvent("settings"));
});

document.querySelector("[data-keys]").addEventListener("click", showSettings);
