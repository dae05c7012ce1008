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

function gainText(layer = state.layer) {
  const reason = stat("gain_undefined_reason", layer);
  if (reason) return reason;
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
