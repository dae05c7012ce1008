// Elements and numbers, as all pages write them.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function byId(id) {
  return document.getElementById(id);
}

// Numbers as a reader wants them, as in the rest of the report: two digits of a gain, bounds marked.
const DASH = "\u2013";

function times(value, censored = 0) {
  if (value === null) return DASH;
  const sign = censored > 0 ? ">\u00a0" : censored < 0 ? "<\u00a0" : "";
  const digits = value >= 9.95 ? 0 : value >= 0.995 ? 1 : 2;
  return sign + value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits === 1 ? 1 : 0 });
}

function fraction(value, digits = 3) {
  if (value === null) return DASH;
  if (value < 1 && Number(value.toFixed(digits)) >= 1) return `>\u00a0${(1 - 10 ** -digits).toFixed(digits)}`;
  return value.toFixed(digits).replace(/^-(0\.0*)$/, "$1").replace("-", "\u2212");
}

function percent(share) {
  if (share === null) return DASH;
  let value = 100 * share;
  if ((value > 0 && value < 0.95) || (value > 99.05 && value < 100)) {
    value = Math.min(Math.max(value, 0.1), 99.9);
    return `${value.toFixed(1)}\u00a0%`;
  }
  return `${value.toFixed(0)}\u00a0%`;
}

function pValue(value) {
  if (value === null) return DASH;
  return value < 0.001 ? "<\u00a00.001" : String(Number(value.toPrecision(2)));
}

function between(low, high, write) {
  return low === null || high === null ? "" : `[${write(low)}, ${write(high)}]`;
}
