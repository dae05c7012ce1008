// Predictions that attack and noise change, strength by strength, and the accuracy that is left.

const flipRows = (of, condition) => (study.flips ?? []).filter((row) => row.of === of && row.condition === condition);
const hasLabels = (study.flips ?? []).some(({ accuracy }) => accuracy !== null);

function strengthAxis(field = "strength") {
  const strengths = [...new Set((study.flips ?? []).map(({ strength }) => strength))].filter((strength) => strength > 0);
  const ends = [Math.min(...strengths) / 1.25, Math.max(...strengths) * 1.25];
  return {
    field,
    type: "quantitative",
    scale: { type: "log", nice: false, domain: ends },
    axis: { title: "strength (log): 1 is the attack's own", values: strengths, format: "~g", grid: false, labelOverlap: "greedy" },
  };
}

const shareAxis = (field) => ({
  field,
  type: "quantitative",
  scale: { domain: [0, 1] },
  axis: { title: "share of images", format: ".0%", grid: true, values: [0, 0.25, 0.5, 0.75, 1] },
});

const dashOf = { field: "dash", type: "nominal", scale: { domain: ["attack", "noise", "accuracy"], range: [[1, 0], [6, 3], [2, 3]] }, legend: null };

charts.flips = {
  height: 240,
  when: ["strength"],
  says: () => `strength ${strengthText()}: ${flipText(ADVERSARIAL)} under the attack, ${flipText(NOISE)} under noise`,
  layers: () => [
    {
      data: { name: "shown" },
      mark: { type: "rule", color: LINE, strokeWidth: 8 },
      encoding: { x: strengthAxis("x") },
    },
    {
      data: { name: "half" },
      mark: { type: "rule", color: MUTED, strokeDash: [5, 3] },
      encoding: { y: shareAxis("y") },
    },
    {
      data: { name: "points" },
      mark: { type: "rule", strokeWidth: 2.5, opacity: 0.4 },
      encoding: { x: strengthAxis(), y: shareAxis("low"), y2: { field: "high" }, color: { field: "colour", type: "nominal", scale: null } },
    },
    {
      data: { name: "points" },
      mark: { type: "line", strokeWidth: 2 },
      encoding: { x: strengthAxis(), y: shareAxis("y"), detail: { field: "line", type: "nominal" }, strokeDash: dashOf, color: { field: "colour", type: "nominal", scale: null } },
    },
    {
      data: { name: "points" },
      mark: { type: "point", filled: true, size: 60, opacity: 1 },
      encoding: {
        x: strengthAxis(),
        y: shareAxis("y"),
        shape: { field: "line", type: "nominal", scale: { domain: ["attack", "noise", "attack accuracy", "noise accuracy"], range: ["circle", "square", "diamond", "triangle-right"] }, legend: null },
        color: { field: "colour", type: "nominal", scale: null },
        ...told,
      },
    },
  ],
  rows: () => ({
    shown: [{ x: study.strengths[state.strength] }],
    half: [{ y: 0.5 }],
    points: [ADVERSARIAL, NOISE].flatMap((condition) => flipRows("analysed", condition).flatMap((row) => flipPoints(condition, row))),
  }),
};

function flipPoints(condition, row) {
  const name = condition === NOISE ? "noise" : "attack";
  const colour = COLOUR[condition];
  const share = `${name}, strength ${row.strength}\n${row.flipped} of ${row.n} predictions changed: ${percent(row.share)} ${between(row.low, row.high, percent)}`;
  const made = [{ strength: row.strength, y: row.share, low: row.low, high: row.high, line: name, dash: name, colour, tip: share }];
  if (row.accuracy !== null) {
    const tip = `${name}, strength ${row.strength}\naccuracy ${percent(row.accuracy)} ${between(row.accuracy_low, row.accuracy_high, percent)}`;
    made.push({ strength: row.strength, y: row.accuracy, low: null, high: null, line: `${name} accuracy`, dash: "accuracy", colour, tip });
  }
  return made;
}

function flipText(condition, of = "analysed") {
  const row = flipRows(of, condition).find(({ strength }) => strength === study.strengths[state.strength]);
  return row ? `${row.flipped} of ${row.n}` : DASH;
}

function bindFlips() {
  if (!byId("flips-words")) return;
  byId("accuracy-keys").hidden = !hasLabels;
  const draw = () => {
    const clean = flipRows("readable", "clean")[0];
    const accuracy = hasLabels && clean?.accuracy !== null ? ` Accuracy on the clean images: ${percent(clean.accuracy)} ${between(clean.accuracy_low, clean.accuracy_high, percent)}.` : "";
    byId("flips-words").textContent =
      `Of the images with an adversarial example; bars are Wilson's 95 % intervals, the dashed line is one half. ` +
      `Over all readable images the attack changes ${flipText(ADVERSARIAL, "readable")} at this strength.${accuracy}`;
  };
  onChange(["strength"], draw);
  draw();
}
