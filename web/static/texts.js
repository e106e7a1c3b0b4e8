// What the page says, in its language: the same file that the server's templates speak from.

const root = document.documentElement;
const plural = new Intl.PluralRules(root.lang);
const numbers = new Intl.NumberFormat(root.lang);
let texts = {};
try {
  texts = await (await fetch(root.dataset.texts)).json();
} catch {
  // without the server nothing works anyway, and keys say more than nothing
}

/** The text of a key; `count` chooses its plural form, `{name}` in it stands for a value. */
export function t(key, values = {}) {
  const found = texts[key] ?? key;
  const text = typeof found === "string" ? found : found[plural.select(values.count)] ?? found.other;
  return text.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    return value === undefined ? whole : typeof value === "number" ? numbers.format(value) : value;
  });
}
