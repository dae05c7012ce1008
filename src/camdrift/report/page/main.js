state.strength = study.reference;
state.layer = strongest();
bindControls();
if (study.layers.length && study.strengths.length) {
  bindStrip();
  bindLayer();
  bindExplorer();
  bindCharts();
  bindTable();
}
document.documentElement.dataset.ready = "true";

// Where a reader would look first: the layer of highest gain.
function strongest() {
  const gains = study.stats.rank[state.target]?.[state.strength] ?? [];
  const first = gains.indexOf(1);
  return first < 0 ? 0 : first;
}
