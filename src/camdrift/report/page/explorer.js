// Image by image: which one, in which order, and what the model says of it.

// What the tables say of a seed's variant at a layer: similarity, and whether the layer is compromised.
function similarityOf(seed, condition, layer, strength = state.strength, target = state.target) {
  return study.seeds[seed][condition].similarity[target][strength][layer];
}

function isCompromised(seed, condition, layer, strength = state.strength, target = state.target) {
  return study.seeds[seed][condition].compromised[target][strength][layer] === 1;
}

function compromisedLayers(seed, condition = ADVERSARIAL) {
  return study.layers.filter((_, layer) => isCompromised(seed, condition, layer)).length;
}

function firstFlip(seed) {
  const flipped = study.seeds[seed][ADVERSARIAL].said.findIndex((said) => said && said[2]);
  return flipped < 0 ? study.strengths.length : flipped;
}

const orders = {
  stored: () => 0,
  compromised: (a, b) => compromisedLayers(b) - compromisedLayers(a),
  deviation: (a, b) =>
    (similarityOf(a, ADVERSARIAL, state.layer) ?? 2) - (similarityOf(b, ADVERSARIAL, state.layer) ?? 2),
  success: (a, b) => firstFlip(a) - firstFlip(b) || saidProbability(b) - saidProbability(a),
};

function saidProbability(seed) {
  return study.seeds[seed][ADVERSARIAL].said[study.opening.strength]?.[1] ?? 0;
}

function seedOrder(order) {
  return study.seeds.map((_, seed) => seed).sort((a, b) => orders[order](a, b) || a - b);
}

function orderNote(order, seed) {
  if (order === "compromised") return `${compromisedLayers(seed)} of ${study.layers.length} layers`;
  if (order === "deviation") {
    const value = similarityOf(seed, ADVERSARIAL, state.layer);
    return value === null ? "undefined" : `moved ${fraction(1 - value)}`;
  }
  if (order === "success") {
    const at = firstFlip(seed);
    return at < study.strengths.length ? `flips at ${study.strengths[at]}\u00a0\u00d7` : "does not flip";
  }
  return className(study.seeds[seed].clean[0]);
}

function className(index) {
  return study.classes[index] ?? `class ${index}`;
}

function mark(seed, condition, layer) {
  const value = similarityOf(seed, condition, layer);
  if (value === null) return { text: "undefined", sign: DASH, kind: "undefined" };
  return isCompromised(seed, condition, layer)
    ? { text: fraction(value, 2), sign: "\u25c6", kind: "compromised" }
    : { text: fraction(value, 2), sign: "\u25cb", kind: "sound" };
}

// What can be asked for: all, by success at the shown strength, by confidence in the clean image, by its class.
const filters = [{ group: "", words: "all images", holds: () => true }];

function isFooled(seed) {
  return Boolean(study.seeds[seed][ADVERSARIAL].said[state.strength]?.[2]);
}

function fillFilter(select) {
  const confidence = (seed) => study.seeds[seed].clean[1] ?? 0;
  filters.push(
    { group: "success", words: "fooled at this strength", holds: isFooled },
    { group: "success", words: "not fooled at this strength", holds: (seed) => !isFooled(seed) },
    { group: "confidence", words: "sure when clean (90 % or more)", holds: (seed) => confidence(seed) >= 0.9 },
    { group: "confidence", words: "unsure when clean (below 50 %)", holds: (seed) => confidence(seed) < 0.5 },
    ...[...new Set(study.seeds.map(({ clean }) => clean[0]))]
      .sort((a, b) => className(a).localeCompare(className(b)))
      .map((index) => ({ group: "class", words: className(index), holds: (seed) => study.seeds[seed].clean[0] === index })),
  );
  const groups = new Map();
  filters.forEach(({ group, words }, place) => {
    if (!groups.has(group)) groups.set(group, group ? element("optgroup", { label: group }) : select);
    groups.get(group).append(element("option", { value: String(place) }, words));
  });
  select.append(...[...groups.values()].filter((group) => group !== select));
}

function bindSeeds() {
  const list = byId("seeds");
  const order = byId("order");
  const filter = byId("filter");
  fillFilter(filter);
  const options = study.seeds.map((seed, index) => {
    const option = element(
      "div",
      { role: "option", id: `seed-${index}`, class: "seed", "aria-selected": "false" },
      element("img", { src: pictures.seeds[index].clean, alt: "", width: 64, height: 64, loading: "lazy" }),
      element("span", { class: "seed-name" }, seed.id.split("/").at(-1)),
      element("span", { class: "seed-note" }),
    );
    option.title = seed.id;
    option.addEventListener("click", () => change({ seed: index }));
    return option;
  });
  let shown = [];
  const arrange = () => {
    const isWanted = filters[Number(filter.value)].holds;
    shown = seedOrder(order.value).filter(isWanted);
    byId("seed-count").textContent = `${shown.length} of ${study.seeds.length} images`;
    for (const seed of shown) {
      options[seed].querySelector(".seed-note").textContent = orderNote(order.value, seed);
    }
    list.replaceChildren(...shown.map((seed) => options[seed]));
    choose();
  };
  const choose = () => {
    options.forEach((option, index) => option.setAttribute("aria-selected", String(index === state.seed)));
    list.setAttribute("aria-activedescendant", `seed-${state.seed}`);
    const chosen = options[state.seed];
    if (!chosen.isConnected) return;
    list.scrollTop = Math.max(0, chosen.offsetTop - list.offsetTop - list.clientHeight / 2 + chosen.offsetHeight / 2);
    list.scrollLeft = Math.max(0, chosen.offsetLeft - list.offsetLeft - list.clientWidth / 2 + chosen.offsetWidth / 2);
  };
  const step = (by) => {
    if (!shown.length) return;
    const at = Math.min(Math.max(shown.indexOf(state.seed) + by, 0), shown.length - 1);
    change({ seed: shown[at] });
  };
  list.addEventListener("keydown", (event) => {
    const last = shown.length;
    const steps = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, Home: -last, End: last };
    if (!(event.key in steps)) return;
    event.preventDefault();
    step(steps[event.key]);
  });
  byId("stage").addEventListener("keydown", (event) => {
    if (event.target !== byId("stage")) return;
    const layers = { ArrowLeft: -1, ArrowRight: 1 };
    const seeds = { ArrowUp: -1, ArrowDown: 1 };
    if (event.key in layers) {
      change({ layer: Math.min(Math.max(state.layer + layers[event.key], 0), study.layers.length - 1) });
    } else if (event.key in seeds) step(seeds[event.key]);
    else return;
    event.preventDefault();
  });
  order.addEventListener("change", arrange);
  filter.addEventListener("change", () => {
    arrange();
    if (shown.length && !shown.includes(state.seed)) change({ seed: shown[0] });
  });
  onChange(["seed"], choose);
  onChange(["layer", "strength", "target"], () => (order.value !== "stored" || filter.value !== "0") && arrange());
  arrange();
}

function bindImages() {
  const over = byId("over-image");
  const name = byId("seed-id");
  const caption = (condition) => {
    const seed = study.seeds[state.seed];
    if (condition === "clean") return `${className(seed.clean[0])} ${fraction(seed.clean[1], 2)}`;
    const said = seed[condition].said[state.strength];
    if (!said) return DASH;
    return `${className(said[0])} ${fraction(said[1], 2)}${said[2] ? ", flipped" : ""}`;
  };
  const draw = async () => {
    const { seed } = state;
    const parts = await load(seed);
    if (seed !== state.seed) return; // another one was chosen meanwhile
    const strength = study.strengths[state.strength];
    for (const condition of CONDITIONS) {
      show(byId(`image-${condition}`), perturbed(parts, condition, strength));
      const said = byId(`said-${condition}`);
      said.textContent = caption(condition);
      said.classList.toggle("flipped", condition !== "clean" && Boolean(study.seeds[seed][condition].said[state.strength]?.[2]));
      showMap(byId(`map-${condition}`), parts, state.layer, condition, over.checked);
      if (condition !== "clean") {
        const { text, sign, kind } = mark(seed, condition, state.layer);
        const shown = byId(`similarity-${condition}`);
        shown.textContent = `${sign} similarity ${text}`;
        shown.className = kind;
      }
    }
    // As stored it is magnified until its largest entry fills the range; grey is 0.
    show(byId("image-perturbation"), parts[state.condition].pixels);
    const shown = state.condition === NOISE ? "noise" : "perturbation";
    const peak = parts[state.condition].peak;
    byId("said-perturbation").textContent = peak ? `${shown}, ${times(0.5 / peak)} times amplified` : `${shown}, all zero`;
    byId("image-perturbation").setAttribute("aria-label", `the ${shown}, amplified; grey is no change`);
    byId("stage").dataset.drawn = `${seed} ${state.strength} ${state.target} ${state.layer}`;
  };
  const describe = () => {
    const seed = study.seeds[state.seed];
    name.textContent = seed.id;
    const label = seed.label === null ? "" : `true class ${className(seed.label)}; `;
    const survives = seed.survives === null ? "" : `; ${seed.survives ? "still" : "no longer"} fools the network in 8 bits`;
    byId("seed-facts").textContent =
      `${label}perturbation L\u221e ${(seed.linf * 255).toFixed(1)}/255, relative L2 ${percent(seed.relative_l2)}${survives}.`;
  };
  onChange(["seed", "strength", "target", "layer", "condition"], draw);
  onChange(["seed"], describe);
  over.addEventListener("change", draw);
  describe();
  draw();
}

function bindExplorer() {
  if (!study.seeds.length) return;
  bindSeeds();
  bindImages();
  bindChanges();
  bindGrid();
}
