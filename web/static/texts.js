// The texts of the interface, from the same file that the server's templates use.

const root = document.documentElement;
const plural = new Intl.PluralRules(root.lang);
const numbers = new Intl.NumberFormat(root.lang);
let texts = {};
try {
  texts = await (await fetch(root.dataset.texts)).json();
} catch {
  // the keys are shown instead
}

/** Return the text of a key. `count` selects the plural form; `{name}` is replaced by a value. */
export function t(key, values = {}) {
  const entry = texts[key] ?? key;
  const text = typeof entry === "string" ? entry : entry[plural.select(values.count)] ?? entry.other;
  return text.replace(/\{(\w+)\}/g, (placeholder, name) => {
    const value = values[name];
    return value === undefined ? placeholder : typeof value === "number" ? numbers.format(value) : value;
  });
}
