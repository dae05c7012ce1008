// The network as a strip: one cell per layer in execution order, coloured by the chosen measure.

const measures = {
  gain: {
    name: "noise-equivalent gain",
    value: (layer, s, t) => stat("gain", layer, s, t),
    write: (layer) => gainText(layer),
    scale: "log",
    number: (value) => times(value),
  },
  deviation: {
    name: () => `${study.images === 1 ? "" : "mean "}deviation under ${state.condition === NOISE ? "noise" : "the attack"}`,
    value: (layer, s, t) => {
      const mean = stat(state.condition === NOISE ? "noise_mean" : "adversarial_mean", layer, s, t);
      return mean === null ? null : 1 - mean;
    },
    write: (layer) => fraction(measures.deviation.value(layer)),
    scale: "linear",
    number: (value) => fraction(value, 2),
  },
  excess: {
    name: "excess deviation, attack over noise",
    value: (layer, s, t) => stat("difference_mean", layer, s, t),
    write: (layer) =>
      `${fraction(stat("difference_mean", layer))} ${between(stat("difference_low", layer), stat("difference_high", layer), fraction)}`,
    scale: "linear",
    number: (value) => fraction(value, 2),
  },
};

function measureName(measure = state.measure) {
  const { name } = measures[measure];
  return typeof name === "function" ? name() : name;
}

// One scale for all strengths and both conditions, so that colours keep their meaning while the slider moves.
function measureRange(measure, target) {
  const { scale } = measures[measure];
  const found = [];
  study.strengths.forEach((_, s) => {
    study.layers.forEach((_, layer) => {
      if (measure === "deviation") {
        for (const column of ["adversarial_mean", "noise_mean"]) {
          const mean = stat(column, layer, s, target);
          if (mean !== null) found.push(1 - mean);
        }
      } else {
        const value = measures[measure].value(layer, s, target);
        if (value !== null) found.push(value);
      }
    });
  });
  if (scale === "log") {
    const positive = found.filter((value) => value > 0);
    return positive.length ? [Math.min(...positive), Math.max(...positive) * 1.001] : [1, 2];
  }
  return [Math.min(0, ...found), Math.max(0.01, ...found)];
}

function shareOf(value, [low, high], scale) {
  if (scale === "log") return Math.log(Math.max(value, low) / low) / Math.log(high / low);
  return (value - low) / (high - low);
}

function bindStrip() {
  const strip = byId("strip");
  byId("strip-inner").style.setProperty("--n", study.layers.length);
  const cells = study.layers.map((layer, index) => {
    const cell = element("div", { role: "option", id: `cell-${index}`, class: "cell", "aria-selected": "false" });
    cell.addEventListener("click", () => change({ layer: index }));
    return cell;
  });
  strip.append(...cells);
  byId("stages").append(...stageSpans());
  byId("measure").addEventListener("change", (event) => change({ measure: event.target.value }));
  strip.addEventListener("keydown", (event) => {
    const last = study.layers.length - 1;
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -last, End: last, PageUp: -5, PageDown: 5 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    change({ layer: Math.min(Math.max(state.layer + steps[event.key], 0), last) });
  });

  // A finger or the mouse slides along the network.
  strip.addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    const cell = document.elementFromPoint(event.clientX, event.clientY)?.closest(".cell");
    if (cell) change({ layer: cells.indexOf(cell) });
  });

  const draw = () => {
    byId("measure").value = state.measure;
    const { value, write, scale, number } = measures[state.measure];
    const range = measureRange(state.measure, state.target);
    cells.forEach((cell, index) => {
      const found = value(index);
      const censored = state.measure === "gain" ? stat("gain_censored", index) : 0;
      const share = found === null ? null : shareOf(found, range, scale);
      cell.style.background = share === null ? "" : rampColour("viridis", share);
      cell.classList.toggle("undefined", share === null);
      cell.classList.toggle("unranked", share !== null && state.measure === "gain" && stat("rank", index) === null);
      cell.classList.toggle("is-light", share !== null && share > 0.6);
      cell.textContent = censored > 0 ? "\u25b2" : censored < 0 ? "\u25bc" : "";
      const few = cell.classList.contains("unranked") ? `, ${fewText(index)}` : "";
      const said = (found === null ? "undefined" : write(index)) + few;
      cell.setAttribute("aria-label", `${study.layers[index].label}: ${measureName()} ${said}`);
      cell.title = `${study.layers[index].label}\n${measureName()}: ${said}`;
    });
    byId("scale-low").textContent = number(range[0]);
    byId("scale-high").textContent = number(range[1]);
    byId("scale-name").textContent = measureName();
    byId("bound-note").hidden = state.measure !== "gain";
  };
  const choose = () => {
    cells.forEach((cell, index) => cell.setAttribute("aria-selected", String(index === state.layer)));
    strip.setAttribute("aria-activedescendant", `cell-${state.layer}`);
    reveal(strip.closest(".strip-box"), cells[state.layer]);
  };
  onChange(["strength", "target", "measure", "condition"], draw);
  onChange(["layer"], choose);
  draw();
  choose();
}

function fewText(layer) {
  return `n = ${stat("n_pairs", layer) ?? 0}, too few images for a rank`;
}

// Scrolls the box of the strip, never the page.
function reveal(box, child) {
  const [outer, inner] = [box.getBoundingClientRect(), child.getBoundingClientRect()];
  if (inner.left < outer.left) box.scrollLeft -= outer.left - inner.left + 20;
  else if (inner.right > outer.right) box.scrollLeft += inner.right - outer.right + 20;
}

function stageSpans() {
  const groups = [];
  for (const { stage } of study.layers) {
    if (groups.length && groups.at(-1).stage === stage) groups.at(-1).count += 1;
    else groups.push({ stage, count: 1 });
  }
  return groups.map(({ stage, count }) => {
    const span = element("span", {}, stage);
    span.style.flexGrow = count;
    return span;
  });
}
