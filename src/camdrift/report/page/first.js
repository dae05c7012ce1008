// The first screen: one photo clean, attacked and noisy, and below each where the chosen layer looks.

function saidOf(condition, seed = state.seed) {
  const said = condition === "clean" ? study.seeds[seed].clean : study.seeds[seed][condition].said[state.strength];
  return said ? `${className(said[0])}, ${percent(said[1])}` : DASH;
}

// The share of the attack's own strength at which a picture is shown; nothing for all of it.
function shareText() {
  return study.strengths[state.strength] === 1 ? "" : ` ${strengthText()}\u00a0\u00d7`;
}

function bindFirst() {
  const draw = async () => {
    const { seed } = state;
    const parts = await load(seed);
    if (seed !== state.seed) return; // another one was chosen meanwhile
    for (const condition of CONDITIONS) {
      show(byId(`first-${condition}`), perturbed(parts, condition, study.strengths[state.strength]));
      showMap(byId(`first-map-${condition}`), parts, state.layer, condition, true);
    }
    byId("first").dataset.drawn = `${seed} ${state.strength} ${state.target} ${state.layer}`;
  };
  const describe = () => {
    byId("first-layer").textContent = `${study.layers[state.layer].label}, ${placeText()}`;
    for (const condition of CONDITIONS) {
      byId(`first-said-${condition}`).textContent = saidOf(condition);
      if (condition !== "clean") byId(`first-at-${condition}`).textContent = shareText();
      const isChanged = condition !== "clean" && Boolean(study.seeds[state.seed][condition].said[state.strength]?.[2]);
      byId(`first-said-${condition}`).classList.toggle("flipped", isChanged);
      byId(`first-map-said-${condition}`).textContent = condition === "clean" ? "for comparison" : movedText(condition);
    }
  };
  onChange(["seed", "strength", "target", "layer"], () => {
    describe();
    draw();
  });
  describe();
  draw();
}

// How far a variant's map lies from the clean one, in the headline's word.
function movedText(condition) {
  const value = similarityOf(state.seed, condition, state.layer);
  return value === null ? "no map to compare" : `map moved by ${percent(1 - value)}`;
}
