// The images: clean, adversarial, noisy, and the maps of every layer.

const pictures = JSON.parse(byId("pictures").textContent);
const CONDITIONS = ["clean", ADVERSARIAL, NOISE];
const loaded = new Map();

async function pixelsOf(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

// Clean image, perturbation, noise and heatmaps of one seed, decoded once.
function load(seed) {
  if (!loaded.has(seed)) {
    const stored = pictures.seeds[seed];
    const sources = [stored.clean, stored.perturbation, stored.noise, ...stored.maps];
    loaded.set(
      seed,
      Promise.all(sources.map(pixelsOf)).then(([clean, perturbation, noise, ...maps]) => ({
        clean,
        [ADVERSARIAL]: { pixels: fromPlanes(perturbation), peak: stored.peaks[0] },
        [NOISE]: { pixels: fromPlanes(noise), peak: stored.peaks[1] },
        maps,
      })),
    );
  }
  return loaded.get(seed);
}

// Red, green and blue lie side by side in grey.
function fromPlanes(planes) {
  const width = planes.width / 3;
  const made = new ImageData(width, planes.height);
  for (let y = 0; y < made.height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const at = 4 * (y * width + x);
      for (let c = 0; c < 3; c += 1) made.data[at + c] = planes.data[4 * (y * planes.width + c * width + x)];
      made.data[at + 3] = 255;
    }
  }
  return made;
}

// Eq. 1 and 3: clip(x + s * delta), from the clean image and the stored perturbation.
function perturbed(parts, condition, strength) {
  if (condition === "clean") return parts.clean;
  const { pixels, peak } = parts[condition];
  const made = new ImageData(parts.clean.width, parts.clean.height);
  const scale = (strength * peak * 255) / 127;
  for (let i = 0; i < made.data.length; i += 4) {
    for (let c = i; c < i + 3; c += 1) made.data[c] = parts.clean.data[c] + scale * (pixels.data[c] - 128);
    made.data[i + 3] = 255;
  }
  return made;
}

// The heatmap of a layer: values 0 to 255 at stored resolution.
function heatmap(parts, layer, condition, target = state.target, strength = state.strength) {
  const [x, y, width, height, step] = pictures.places[layer];
  const slot = condition === "clean" ? 0 : 1 + strength + (condition === NOISE ? study.strengths.length : 0);
  const sprite = parts.maps[pictures.targets.indexOf(study.targets[target])];
  const values = new Uint8Array(width * height);
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      values[row * width + column] = sprite.data[4 * ((y + row) * sprite.width + x + slot * step + column)];
    }
  }
  return { values, width, height };
}

function coloured({ values, width, height }, alpha = 255) {
  const made = new ImageData(width, height);
  const ramp = ramps.inferno;
  values.forEach((value, i) => {
    made.data.set([ramp[3 * value], ramp[3 * value + 1], ramp[3 * value + 2], alpha], 4 * i);
  });
  return made;
}

const scratch = document.createElement("canvas");

function draw(context, pixels, x, y, width, height) {
  scratch.width = pixels.width;
  scratch.height = pixels.height;
  scratch.getContext("2d").putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(scratch, 0, 0, pixels.width, pixels.height, x, y, width, height);
}

function show(canvas, pixels) {
  canvas.width = pixels.width;
  canvas.height = pixels.height;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

// A heatmap alone, or over the image it was made for.
function showMap(canvas, parts, layer, condition, overImage) {
  const side = 224;
  canvas.width = side;
  canvas.height = side;
  const context = canvas.getContext("2d");
  if (overImage) {
    const image = perturbed(parts, condition, study.strengths[state.strength]);
    context.filter = "grayscale(1)";
    draw(context, image, 0, 0, side, side);
    context.filter = "none";
    context.globalAlpha = 0.62;
  }
  draw(context, coloured(heatmap(parts, layer, condition)), 0, 0, side, side);
  context.globalAlpha = 1;
}

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
  return study.seeds[seed][ADVERSARIAL].said[study.reference]?.[1] ?? 0;
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

function bindSeeds() {
  const list = byId("seeds");
  const order = byId("order");
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
    shown = seedOrder(order.value);
    for (const seed of shown) {
      options[seed].querySelector(".seed-note").textContent = orderNote(order.value, seed);
      options[seed].setAttribute("aria-label", `${study.seeds[seed].id}, ${orderNote(order.value, seed)}`);
    }
    list.replaceChildren(...shown.map((seed) => options[seed]));
    choose();
  };
  const choose = () => {
    options.forEach((option, index) => option.setAttribute("aria-selected", String(index === state.seed)));
    list.setAttribute("aria-activedescendant", `seed-${state.seed}`);
    const chosen = options[state.seed];
    list.scrollTop = Math.max(0, chosen.offsetTop - list.offsetTop - list.clientHeight / 2 + chosen.offsetHeight / 2);
    list.scrollLeft = Math.max(0, chosen.offsetLeft - list.offsetLeft - list.clientWidth / 2 + chosen.offsetWidth / 2);
  };
  const step = (by) => {
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
  onChange(["seed"], choose);
  onChange(["layer", "strength", "target"], () => order.value !== "stored" && arrange());
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
    byId("said-perturbation").textContent = peak ? `${shown}, ${times(0.5 / peak)} times enlarged` : `${shown}, all zero`;
    byId("image-perturbation").setAttribute("aria-label", `the ${shown}, enlarged; grey is no change`);
    byId("stage").dataset.drawn = `${seed} ${state.strength} ${state.target} ${state.layer}`;
  };
  const describe = () => {
    const seed = study.seeds[state.seed];
    name.textContent = seed.id;
    const label = seed.label === null ? "" : `true class ${className(seed.label)}; `;
    const survives = seed.survives === null ? "" : `; ${seed.survives ? "still" : "no longer"} fools the model in 8 bits`;
    byId("seed-facts").textContent =
      `${label}perturbation L\u221e ${(seed.linf * 255).toFixed(1)}/255, relative L2 ${percent(seed.relative_l2)}${survives}.`;
  };
  onChange(["seed", "strength", "target", "layer", "condition"], draw);
  onChange(["seed"], describe);
  over.addEventListener("change", draw);
  describe();
  draw();
}

// Every layer at once: three small heatmaps and two similarities each.
function bindGrid() {
  const grid = byId("grid");
  const side = 60;
  const tiles = study.layers.map((layer, index) => {
    const canvas = element("canvas", { width: 3 * side + 4, height: side, "aria-hidden": "true" });
    const tile = element(
      "button",
      { type: "button", class: "tile", "aria-pressed": "false" },
      element("span", { class: "tile-name" }, layer.label),
      canvas,
      element("span", { class: "tile-marks" }),
    );
    tile.addEventListener("click", () => change({ layer: index }));
    return tile;
  });
  grid.append(...tiles);
  const drawMaps = async () => {
    const { seed } = state;
    const parts = await load(seed);
    if (seed !== state.seed) return;
    tiles.forEach((tile, layer) => {
      const context = tile.querySelector("canvas").getContext("2d");
      CONDITIONS.forEach((condition, column) => {
        draw(context, coloured(heatmap(parts, layer, condition)), column * (side + 2), 0, side, side);
      });
    });
    grid.dataset.drawn = `${seed} ${state.strength} ${state.target}`;
  };
  const drawMarks = () => {
    tiles.forEach((tile, layer) => {
      const shown = [ADVERSARIAL, NOISE].map((condition) => ({ condition, ...mark(state.seed, condition, layer) }));
      tile
        .querySelector(".tile-marks")
        .replaceChildren(...shown.map(({ condition, sign, text }) => element("span", { class: condition }, `${sign} ${text}`)));
      tile.classList.toggle("compromised", shown[0].kind === "compromised");
      const words = shown.map(({ condition, text, kind }) => `${condition} similarity ${text}${kind === "compromised" ? ", compromised" : ""}`);
      tile.setAttribute("aria-label", `${study.layers[layer].label}: ${words.join("; ")}`);
    });
  };
  const choose = () => tiles.forEach((tile, layer) => tile.setAttribute("aria-pressed", String(layer === state.layer)));
  onChange(["seed", "strength", "target"], () => {
    drawMarks();
    drawMaps();
  });
  onChange(["layer"], choose);
  drawMarks();
  choose();
  drawMaps();
}

function bindExplorer() {
  if (!study.seeds.length) return;
  bindSeeds();
  bindImages();
  bindGrid();
}
