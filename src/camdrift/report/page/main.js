state.strength = study.reference;
state.measure = study.images === 1 ? "deviation" : "gain";
state.layer = strongest();
bindControls();
if (study.layers.length && study.strengths.length) {
  bindStrip();
  bindLayer();
  bindExplorer();
  bindFocus();
  bindCharts();
  bindTable();
}
document.documentElement.dataset.ready = "true";

// Where a reader would look first: the layer of highest gain, of one image the one that moved furthest.
function strongest() {
  const at = (name) => study.stats[name][state.target]?.[state.strength] ?? [];
  const means = at("adversarial_mean").map((value) => value ?? 2);
  const first = study.images === 1 ? means.indexOf(Math.min(...means)) : at("rank").indexOf(1);
  return Math.max(first, 0);
}
