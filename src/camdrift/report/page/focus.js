// Where the focus goes: one measure at a time, attack beside noise, over all layers.

const FOCUS_WORDS = { [ADVERSARIAL]: "attack", [NOISE]: "noise" };

function focusAxis(field) {
  return {
    field,
    type: "quantitative",
    scale: { zero: false, nice: true },
    // One width for the labels of all measures: the plot stays where it is.
    axis: { title: null, format: "~g", grid: true, tickCount: 5, minExtent: 36, maxExtent: 36 },
  };
}

const focusColour = { field: "colour", type: "nominal", scale: null };

charts.focus = {
  height: 280,
  when: ["strength", "target", "layer", "focus"],
  layers: () => [
    {
      data: { name: "ends" },
      mark: { type: "rule", opacity: 0 },
      encoding: { y: focusAxis("y") },
    },
    {
      data: { name: "rest" },
      mark: { type: "rule", color: MUTED, strokeWidth: 1.2 },
      encoding: { y: focusAxis("y") },
    },
    {
      data: { name: "points" },
      mark: { type: "area", opacity: 0.18 },
      encoding: { x: layerAxis(), y: focusAxis("lower"), y2: { field: "upper" }, color: focusColour },
    },
    {
      data: { name: "points" },
      mark: { type: "line", strokeWidth: 1.8 },
      encoding: {
        x: layerAxis(),
        y: focusAxis("median"),
        color: focusColour,
        strokeDash: { field: "condition", type: "nominal", scale: { domain: [ADVERSARIAL, NOISE], range: [[1, 0], [6, 3]] }, legend: null },
      },
    },
    {
      data: { name: "marks" },
      mark: { type: "point", size: 40, strokeWidth: 1.4, opacity: 1 },
      encoding: {
        x: layerAxis(),
        y: focusAxis("median"),
        stroke: focusColour,
        fill: { field: "fill", type: "nominal", scale: null },
        shape: { field: "condition", type: "nominal", scale: { domain: [ADVERSARIAL, NOISE], range: ["circle", "square"] }, legend: null },
        ...told,
      },
    },
  ],
  rows: () => {
    const points = [NOISE, ADVERSARIAL].flatMap((condition) => layerRows((layer) => focusRow(condition, layer)));
    return {
      ends: focusEnds().map((y) => ({ y })),
      rest: [{ y: study.focus.measures[state.focus].rest }],
      points,
      marks: points.filter(({ median }) => median !== null),
    };
  },
};

function focusRow(condition, layer) {
  const row = study.focus[condition][state.focus][state.target][state.strength];
  const colour = COLOUR[condition];
  if (!row[layer]) return { condition, colour, lower: null, median: null, upper: null };
  const [lower, median, upper, n] = row[layer];
  const isRare = 2 * n < Math.max(...row.map((cell) => cell?.[3] ?? 0));
  const words = `${FOCUS_WORDS[condition]}: median ${fraction(median)}, middle half ${fraction(lower)} to ${fraction(upper)}, n = ${n}`;
  return { condition, colour, fill: isRare ? "var(--paper)" : colour, lower, median, upper, tip: `${label(layer)}\n${words}` };
}

// One axis for all strengths, targets and conditions of a measure, so that they can be compared.
function focusEnds() {
  const cells = [ADVERSARIAL, NOISE].flatMap((condition) => study.focus[condition][state.focus].flat(2)).filter(Boolean);
  const { rest } = study.focus.measures[state.focus];
  return [Math.min(rest, ...cells.map(([lower]) => lower)), Math.max(rest, ...cells.map(([, , upper]) => upper))];
}

function bindFocus() {
  const select = byId("focus-measure");
  select.addEventListener("change", () => change({ focus: Number(select.value) }));
  const draw = () => {
    const { title, meaning, unit, cue } = study.focus.measures[state.focus];
    select.value = state.focus;
    byId("focus-words").textContent = `${title}. ${meaning} Axis: ${unit}; ${cue}.`;
  };
  onChange(["focus"], draw);
  draw();
}
