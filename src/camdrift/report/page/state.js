// What is shown, in one place. Every view registers a function and is told which parts have changed.

const study = JSON.parse(document.getElementById("study").textContent);

const state = {
  strength: 0,
  condition: "adversarial",
  target: 0,
  measure: "gain",
  layer: 0,
  seed: 0,
  focus: 0,
};

const views = [];

function onChange(names, draw) {
  views.push({ names, draw });
}

function change(patch) {
  const changed = Object.keys(patch).filter((name) => state[name] !== patch[name]);
  if (!changed.length) return;
  Object.assign(state, patch);
  for (const { names, draw } of views) {
    if (names.some((name) => changed.includes(name))) draw(changed);
  }
}

// A statistic of table `layers` for the shown target and strength; null where undefined.
function stat(name, layer = state.layer, strength = state.strength, target = state.target) {
  return study.stats[name][target][strength][layer];
}

const ADVERSARIAL = "adversarial";
const NOISE = "noise";

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

function gainText(layer = state.layer) {
  const value = times(stat("gain", layer), stat("gain_censored", layer));
  const low = stat("gain_low", layer);
  const high = stat("gain_high", layer);
  if (low === null || high === null) return value;
  const ends = [times(low, stat("gain_low_censored", layer)), times(high, stat("gain_high_censored", layer))];
  return `${value} [${ends.join(", ")}]`;
}

function strengthText(strength = state.strength) {
  return String(study.strengths[strength]);
}

// Colours: two ramps, perceptually uniform, as 256 RGB triplets each.
const ramps = Object.fromEntries(
  Object.entries(study.ramps).map(([name, text]) => [name, Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0))]),
);

function rampColour(name, share) {
  const at = 3 * Math.round(255 * Math.min(Math.max(share, 0), 1));
  return `rgb(${ramps[name][at]}, ${ramps[name][at + 1]}, ${ramps[name][at + 2]})`;
}
