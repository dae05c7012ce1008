Object.assign(state, opening(), stateOf(location.hash));
bindControls();
bindTerms();
if (study.layers.length && study.strengths.length) {
  bindStrip();
  bindLayer();
  if (study.seeds.length) bindFirst();
  bindHeadline();
  bindAddress();
  bindSaving();
  bindExplorer();
  bindFlips();
  bindFocus();
  bindCharts();
  bindTable();
}
bindRoving();
bindScrolling();
document.documentElement.dataset.ready = "true";
