// The chosen layer in words and numbers.
function bindLayer() {
  const draw = () => {
    const layer = study.layers[state.layer];
    byId("layer-name").textContent = layer.label;
    byId("layer-where").textContent = `${placeText()}${layer.name === layer.label ? "" : `, ${layer.name}`}`;
    byId("layer-facts").replaceChildren(
      ...layerFacts().map(([term, name, value]) => element("div", {}, element("dt", {}, term ? termButton(term, name) : name), element("dd", {}, value))),
    );
    byId("layer-facts").refresh?.();
  };
  onChange(["layer", "strength", "target"], draw);
  draw();
}

function placeText(layer = state.layer) {
  return `layer ${layer + 1} of ${study.layers.length}, ${study.layers[layer].part}`;
}

function rankText(layer = state.layer) {
  const rank = stat("rank", layer);
  if (rank !== null) return `${rank} ${between(stat("rank_low", layer), stat("rank_high", layer), String)}`;
  return stat("gain", layer) === null ? DASH : "too few images";
}

// Word, its name here, and the value; of one image there are no statistics.
function layerFacts() {
  const similarities = [
    ["similarity", study.images === 1 ? "Similarity, attack" : "Mean similarity, attack", fraction(stat("adversarial_mean"))],
    ["similarity", study.images === 1 ? "Similarity, noise" : "Mean similarity, noise", fraction(stat("noise_mean"))],
  ];
  const ceiling = ["ceiling", "Ceiling", fraction(stat("ceiling"))];
  if (study.images === 1) return [...similarities, ceiling];
  const two = (value) => fraction(value, 2);
  const lost = stat("n_undefined") ?? 0;
  return [
    ["gain", "Gain", gainText()],
    ["rank", "Rank by gain", rankText()],
    ...similarities,
    ["compromised", "Threshold", fraction(stat("threshold"))],
    ["floor", "Floor", fraction(stat("floor"))],
    ceiling,
    ["difference", "Difference", `${fraction(stat("difference_mean"))} ${between(stat("difference_low"), stat("difference_high"), fraction)}`],
    ["auc", "AUC", `${two(stat("auc"))} ${between(stat("auc_low"), stat("auc_high"), two)}`],
    ["compromised", "Compromised", `${percent(stat("compromised_fraction"))} ${between(stat("compromised_low"), stat("compromised_high"), percent)}`],
    ["undefined", "Images", `${stat("n") ?? 0}, undefined ${lost}`],
  ];
}
