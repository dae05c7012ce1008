// The figures, interactive: Vega-Lite draws them, the state fills them. Drawn when they first come into view.

const INK = "var(--ink)";
const MUTED = "var(--muted)";
const LINE = "var(--line)";
const COLOUR = { clean: "var(--muted)", [ADVERSARIAL]: "var(--adversarial)", [NOISE]: "var(--noise)" };

const config = {
  background: "transparent",
  font: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif",
  view: { stroke: null },
  axis: {
    labelColor: INK,
    titleColor: INK,
    domainColor: MUTED,
    tickColor: MUTED,
    gridColor: LINE,
    labelFontSize: 11,
    titleFontSize: 12,
    titleFontWeight: "normal",
    titlePadding: 8,
  },
};

// Similarities crowd below 1. On this axis equal steps are equal distances between maps of unit length.
const TICKS = [1, 0.99, 0.95, 0.9, 0.75, 0.5, 0.25, 0];
const distance = (similarity) => (similarity === null ? null : Math.sqrt(Math.max(0, 2 - 2 * similarity)));

// Vega's expressions know no line separators inside their strings.
function asExpression(value) {
  return JSON.stringify(value).replace(/[\u007f-\uffff]/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

// Where there are many layers their stages are named, at the first layer of each.
const MANY = 24;
const axisLabels = study.layers.map(({ label, stage }, index) => {
  if (study.layers.length <= MANY) return label;
  return index && study.layers[index - 1].stage === stage ? "" : stage;
});

const layerAxis = () => ({
  field: "layer",
  type: "ordinal",
  scale: { domain: study.layers.map((_, index) => index), paddingInner: 0.25, paddingOuter: 0.15 },
  axis: {
    title: null,
    labelAngle: -40,
    labelOverlap: "greedy",
    labelLimit: 150,
    grid: false,
    values: study.layers.map((_, index) => index).filter((index) => axisLabels[index]),
    labelExpr: `${asExpression(axisLabels)}[datum.value]`,
  },
});

const similarityAxis = (field, extra = {}) => ({
  field,
  type: "quantitative",
  scale: { domain: [0, similarityDomain()], reverse: true, nice: false },
  axis: {
    title: "similarity to the clean map",
    values: TICKS.map(distance),
    labelExpr: "format(1 - datum.value * datum.value / 2, '.4~f')",
    grid: true,
  },
  ...extra,
});

let widest = null;

function similarityDomain() {
  if (widest === null) {
    const shown = [study.spread.adversarial, study.spread.noise].flat(3).filter(Boolean).map((cell) => cell[0]);
    const floors = study.stats.floor.flat(2).filter((value) => value !== null);
    const means = [study.stats.adversarial_mean, study.stats.noise_mean].flat(3).filter((value) => value !== null);
    widest = Math.min(Math.SQRT2, 1.03 * distance(Math.min(0.75, ...shown, ...floors, ...means)));
  }
  return widest;
}

const chosenBand = {
  data: { name: "chosen" },
  mark: { type: "bar", color: "var(--band)", width: { band: 1.2 }, tooltip: null },
  encoding: { x: layerAxis(), y: { value: 0 }, y2: { value: "height" } },
};
function chosenRows() {
  return [{ layer: state.layer }];
}

function layerRows(make) {
  return study.layers.map((_, layer) => ({ layer, ...make(layer) }));
}

const label = (layer) => study.layers[layer].label;

// Values of one statistic over layers, one line per strength; the shown strength stands out.
function strengthLines(column, write, map = (value) => value) {
  return study.strengths.flatMap((strength, s) =>
    layerRows((layer) => {
      const value = stat(column, layer, s);
      return {
        strength,
        y: value === null ? null : map(value),
        shown: s === state.strength ? 1 : 0,
        tip: `${label(layer)}\nstrength ${strength}: ${write(layer, s)}`,
      };
    }),
  );
}

// The same words for the mouse and for those who read by ear.
const told = { tooltip: { field: "tip", type: "nominal" }, description: { field: "tip", type: "nominal" } };

function boundSign(name, layer, s = state.strength) {
  return stat(name, layer, s);
}

const charts = {
  gain: {
    height: 260,
    when: ["strength", "target", "layer"],
    layers: () => [
      {
        data: { name: "one" },
        mark: { type: "rule", color: INK, strokeDash: [5, 3] },
        encoding: { y: { field: "y", type: "quantitative" } },
      },
      {
        data: { name: "lines" },
        mark: { type: "line", strokeWidth: 1.2, color: MUTED, opacity: 0.45 },
        encoding: { x: layerAxis(), y: { field: "y", type: "quantitative" }, detail: { field: "strength", type: "nominal" } },
      },
      {
        data: { name: "points" },
        mark: { type: "rule", strokeWidth: 2.5, opacity: 0.45, color: COLOUR.adversarial },
        encoding: { x: layerAxis(), y: { field: "low", type: "quantitative" }, y2: { field: "high" } },
      },
      {
        data: { name: "points" },
        mark: { type: "point", size: 70, filled: false, strokeWidth: 1.8, color: COLOUR.adversarial },
        encoding: {
          x: layerAxis(),
          y: {
            field: "y",
            type: "quantitative",
            scale: { type: "log", domain: gainDomain(), nice: false },
            axis: { title: "gain (times L2 norm)", format: "~g", grid: true, values: gainTicks() },
          },
          opacity: { field: "shade", type: "quantitative", scale: null },
          shape: {
            field: "bound",
            type: "nominal",
            scale: { domain: [-1, 0, 1], range: ["triangle-down", "circle", "triangle-up"] },
            legend: null,
          },
          fill: {
            field: "bound",
            type: "nominal",
            scale: { domain: [-1, 0, 1], range: ["var(--paper)", "var(--adversarial)", "var(--paper)"] },
            legend: null,
          },
          ...told,
        },
      },
    ],
    rows: () => ({
      one: [{ y: 1 }],
      lines: strengthLines("gain", () => "").filter(({ shown }) => !shown),
      points: layerRows((layer) => ({
        y: stat("gain", layer),
        low: stat("gain_low", layer),
        high: stat("gain_high", layer),
        bound: stat("gain_censored", layer) ?? 0,
        shade: stat("rank", layer) === null ? 0.3 : 1,
        tip: `${label(layer)}\ngain ${gainText(layer)}\nrank ${stat("rank", layer) ?? DASH}, n = ${stat("n_pairs", layer) ?? 0}`,
      })).filter(({ y }) => y !== null),
    }),
  },

  spread: {
    height: 260,
    when: ["strength", "target", "condition", "layer", "seed"],
    layers: () => [
      {
        data: { name: "boxes" },
        mark: { type: "rule", strokeWidth: 1.3 },
        encoding: { x: layerAxis(), y: similarityAxis("q0"), y2: { field: "q4" }, color: { field: "colour", type: "nominal", scale: null } },
      },
      {
        data: { name: "boxes" },
        mark: { type: "bar", fillOpacity: 0.35, strokeWidth: 1.2, width: { band: 0.75 } },
        encoding: {
          x: layerAxis(),
          y: similarityAxis("q1"),
          y2: { field: "q3" },
          color: { field: "colour", type: "nominal", scale: null },
          stroke: { field: "colour", type: "nominal", scale: null },
          ...told,
        },
      },
      {
        data: { name: "boxes" },
        mark: { type: "tick", thickness: 2.5, color: INK, width: { band: 0.75 } },
        encoding: { x: layerAxis(), y: similarityAxis("q2") },
      },
      {
        data: { name: "levels" },
        mark: { type: "tick", thickness: 2, color: COLOUR.noise, width: { band: 1 } },
        encoding: { x: layerAxis(), y: similarityAxis("threshold") },
      },
      {
        data: { name: "levels" },
        mark: { type: "tick", thickness: 2, color: MUTED, width: { band: 0.55 }, opacity: 0.8 },
        encoding: { x: layerAxis(), y: similarityAxis("floor") },
      },
      {
        data: { name: "ceiling" },
        mark: { type: "rule", color: INK, strokeWidth: 1.5 },
        encoding: { y: similarityAxis("y") },
      },
      {
        data: { name: "seed" },
        mark: { type: "point", shape: "diamond", size: 55, filled: true, color: INK, opacity: 0.9 },
        encoding: { x: layerAxis(), y: similarityAxis("y"), ...told },
      },
    ],
    rows: () => ({
      boxes: layerRows((layer) => {
        const cell = study.spread[state.condition][state.target][state.strength][layer];
        if (!cell) return null;
        const ends = Object.fromEntries(cell.map((value, i) => [`q${i}`, distance(value)]));
        const n = stat(state.condition === NOISE ? "n_noise" : "n", layer);
        const words = `median ${fraction(cell[2])}, middle half ${fraction(cell[1])} to ${fraction(cell[3])}, n = ${n}`;
        return { ...ends, colour: COLOUR[state.condition], tip: `${label(layer)}\n${words}` };
      }).filter((row) => "q0" in row),
      levels: layerRows((layer) => ({ threshold: distance(stat("threshold", layer)), floor: distance(stat("floor", layer)) })),
      ceiling: [{ y: 0 }],
      seed: study.seeds.length
        ? layerRows((layer) => {
            const value = similarityOf(state.seed, state.condition, layer);
            return { y: distance(value), tip: `${label(layer)}\n${study.seeds[state.seed].id}: ${fraction(value)}` };
          }).filter(({ y }) => y !== null)
        : [],
    }),
  },

  strengths: {
    height: 260,
    when: ["strength", "target", "condition", "layer"],
    layers: () => [
      {
        data: { name: "floors" },
        mark: { type: "tick", thickness: 2, color: MUTED, width: { band: 1 }, opacity: 0.8 },
        encoding: { x: layerAxis(), y: similarityAxis("y") },
      },
      {
        data: { name: "lines" },
        mark: { type: "line", point: { size: 30, filled: true } },
        encoding: {
          x: layerAxis(),
          y: similarityAxis("y"),
          color: strengthColour(),
          detail: { field: "strength", type: "nominal" },
          strokeWidth: { field: "shown", type: "ordinal", scale: { domain: [0, 1], range: [1.2, 3.2] }, legend: null },
          ...told,
        },
      },
    ],
    rows: () => {
      const column = state.condition === NOISE ? "noise_mean" : "adversarial_mean";
      return {
        floors: layerRows((layer) => ({ y: distance(stat("floor", layer)) })),
        lines: strengthLines(column, (layer, s) => fraction(stat(column, layer, s)), distance),
      };
    },
  },

  compromised: {
    height: 220,
    when: ["strength", "target", "layer"],
    layers: () => [
      {
        data: { name: "half" },
        mark: { type: "rule", color: INK, strokeDash: [5, 3] },
        encoding: { y: { field: "y", type: "quantitative" } },
      },
      {
        data: { name: "points" },
        mark: { type: "rule", strokeWidth: 2.5, opacity: 0.45, color: COLOUR.adversarial },
        encoding: { x: layerAxis(), y: { field: "low", type: "quantitative" }, y2: { field: "high" } },
      },
      {
        data: { name: "points" },
        mark: { type: "point", filled: true, size: 70, color: COLOUR.adversarial, opacity: 1 },
        encoding: {
          x: layerAxis(),
          y: {
            field: "y",
            type: "quantitative",
            scale: { domain: [0, 1] },
            axis: { title: "share of examples", format: ".0%", grid: true, values: [0, 0.25, 0.5, 0.75, 1] },
          },
          ...told,
        },
      },
    ],
    rows: () => ({
      half: [{ y: 0.5 }],
      points: layerRows((layer) => ({
        y: stat("compromised_fraction", layer),
        low: stat("compromised_low", layer),
        high: stat("compromised_high", layer),
        tip: `${label(layer)}\ncompromised ${percent(stat("compromised_fraction", layer))} of ${stat("n", layer) ?? 0}`,
      })).filter(({ y }) => y !== null),
    }),
  },

  counts: {
    height: 220,
    when: ["strength", "target"],
    layers: () => [
      {
        data: { name: "bars" },
        mark: { type: "bar", color: COLOUR.adversarial },
        encoding: {
          x: {
            field: "k",
            type: "ordinal",
            scale: { domain: Array.from({ length: study.layers.length + 1 }, (_, k) => k) },
            axis: { title: "compromised layers", labelAngle: 0, labelOverlap: "parity", grid: false },
          },
          y: {
            field: "n",
            type: "quantitative",
            scale: { domainMin: 0 },
            axis: { title: "adversarial examples", tickMinStep: 1, format: "d", grid: true },
          },
          ...told,
        },
      },
    ],
    rows: () => ({
      bars: study.counts[state.target][state.strength].map((n, k) => ({
        k,
        n,
        tip: `${n} compromise ${k} of ${study.layers.length} layers`,
      })),
    }),
  },

  coverage: {
    height: 220,
    when: ["strength"],
    layers: () => [
      {
        data: { name: "lines" },
        mark: { type: "line", strokeWidth: 2 },
        encoding: {
          x: stepAxis(),
          y: { field: "y", type: "quantitative", axis: { title: "covered neurons", format: ".1%", grid: true, tickCount: 5 } },
          color: { field: "colour", type: "nominal", scale: null },
          strokeDash: { field: "dash", type: "nominal", scale: { domain: ["clean", ADVERSARIAL, NOISE], range: [[1.5, 2], [1, 0], [6, 3]] }, legend: null },
          ...told,
        },
      },
    ],
    rows: () => {
      const { steps, total, clean } = study.coverage;
      const curves = { clean, [ADVERSARIAL]: study.coverage.adversarial[state.strength], [NOISE]: study.coverage.noise[state.strength] };
      return {
        lines: CONDITIONS.flatMap((condition) =>
          steps.map((step, i) => ({
            step,
            y: curves[condition][i] === null ? null : curves[condition][i] / total,
            colour: COLOUR[condition],
            dash: condition,
            tip: `${condition}, image ${step}: ${(curves[condition][i] ?? 0).toLocaleString("en")} of ${total.toLocaleString("en")} neurons`,
          })),
        ),
      };
    },
  },

  beyond: {
    height: 220,
    when: ["strength", "condition"],
    layers: () => [
      {
        data: { name: "lines" },
        mark: { type: "line" },
        encoding: {
          x: stepAxis(),
          y: { field: "y", type: "quantitative", axis: { title: "more neurons", format: "d", tickMinStep: 1, grid: true, tickCount: 5 } },
          color: strengthColour(),
          strokeWidth: { field: "shown", type: "ordinal", scale: { domain: [0, 1], range: [1.2, 3.2] }, legend: null },
          ...told,
        },
      },
    ],
    rows: () => ({
      lines: study.strengths.flatMap((strength, s) =>
        study.coverage.steps.map((step, i) => {
          const [covered, clean] = [study.coverage[state.condition][s][i], study.coverage.clean[i]];
          const y = covered === null || clean === null ? null : covered - clean;
          return { step, strength, y, shown: s === state.strength ? 1 : 0, tip: `strength ${strength}, image ${step}: ${y} more` };
        }),
      ),
    }),
  },
};

function gainDomain() {
  const found = ["gain", "gain_low", "gain_high"].flatMap((name) => study.stats[name].flat(2)).filter((value) => value > 0);
  return [Math.min(1, ...found) / 1.3, Math.max(2, ...found) * 1.3];
}

function gainTicks() {
  return logTicks(...gainDomain());
}

// Readable numbers on a log axis: 1, 2, 5 and tens; powers of ten alone where those are many, more where they are few.
function logTicks(low, high) {
  const steps = (digits) => {
    const found = [];
    for (let power = -9; power < 10; power += 1) for (const digit of digits) found.push(Number(`${digit}e${power}`));
    return found.filter((value) => value >= low && value <= high);
  };
  const [few, some, many] = [steps([1]), steps([1, 2, 5]), steps([1, 1.5, 2, 3, 4, 5, 6, 8])];
  if (few.length > 3) return few;
  return some.length > 2 ? some : many;
}

function stepAxis() {
  return { field: "step", type: "quantitative", scale: { domainMin: 0, nice: false }, axis: { title: "images so far", tickMinStep: 1, format: "d", grid: false } };
}

function strengthColour() {
  const count = study.strengths.length;
  const range = study.strengths.map((_, s) => `var(--strength-${Math.round((4 * s) / Math.max(1, count - 1))})`);
  return {
    field: "strength",
    type: "ordinal",
    scale: { domain: study.strengths, range },
    legend: null,
  };
}

// Marks without words of their own are passed over by those who read by ear.
function silent(layer) {
  return layer.encoding.description && layer.mark.type !== "line" ? layer : { ...layer, mark: { ...layer.mark, aria: false } };
}

function specOf(name) {
  const { layers, height, when } = charts[name];
  const marked = when.includes("layer") && name !== "dose";
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    description: byId(`chart-${name}`).dataset.description,
    width: "container",
    height,
    autosize: { type: "fit-x", contains: "padding" },
    config,
    datasets: rowsOf(name),
    layer: [...(marked ? [chosenBand] : []), ...layers()].map(silent),
  };
}

function rowsOf(name) {
  const rows = charts[name].rows();
  return charts[name].when.includes("layer") && name !== "dose" ? { ...rows, chosen: chosenRows() } : rows;
}

function fill(view, rows) {
  for (const [name, values] of Object.entries(rows)) view.data(name, values);
  view.run();
}

const drawings = {};

// Settles when the chart is drawn, however often it is asked for.
function drawChart(name) {
  drawings[name] ??= embedChart(name, byId(`chart-${name}`));
  return drawings[name];
}

async function embedChart(name, box) {
  const { view } = await vegaEmbed(box.querySelector(".plot"), specOf(name), {
    ast: true,
    renderer: "svg",
    actions: false,
    tooltip: { theme: "custom" },
  });
  const draw = () => {
    fill(view, rowsOf(name));
    describeChart(name);
  };
  view.addEventListener("click", (_, item) => {
    const layer = item?.datum?.layer;
    if (Number.isInteger(layer)) change({ layer });
  });
  onChange(charts[name].when, draw);
  describeChart(name);
  measureBox(box.querySelector(".plot-box"));
  box.dataset.drawn = "yes";
}

// What a chart shows just now, for those who read it by ear, and in print.
function describeChart(name) {
  const parts = [`strength ${strengthText()}`];
  if (charts[name].when.includes("focus")) parts.unshift(study.focus.measures[state.focus].name);
  if (charts[name].when.includes("condition")) parts.push(state.condition === NOISE ? "under noise" : "under the attack");
  if (charts[name].when.includes("target")) parts.push(`target ${study.targets[state.target]}`);
  if (name === "dose") parts.push(study.layers[state.layer].label);
  else if (charts[name].when.includes("layer")) parts.push(`band: ${study.layers[state.layer].label}`);
  if (charts[name].says) parts.splice(0, parts.length, charts[name].says());
  byId(`chart-${name}`).querySelector(".shown").textContent = parts.join(", ");
}

// Charts near the reader first, the others when the browser has nothing else to do, so that printing finds all.
function bindCharts() {
  const names = Object.keys(charts).filter((name) => byId(`chart-${name}`));
  const seen = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) if (isIntersecting) drawChart(target.id.replace("chart-", ""));
    },
    { rootMargin: "400px" },
  );
  for (const name of names) seen.observe(byId(`chart-${name}`));
  const waiting = [...names];
  const idle = window.requestIdleCallback ?? ((task) => setTimeout(task, 200));
  const next = () => {
    if (waiting.length) drawChart(waiting.shift()).then(() => idle(next));
  };
  idle(next);
  // Charts that grow on the way to a section would leave the reader short of it.
  document.addEventListener("click", async (event) => {
    const link = event.target.closest?.('a[href^="#"]');
    if (!link) return;
    await Promise.allSettled(names.map(drawChart));
    byId(link.hash.slice(1))?.scrollIntoView();
  });
}
