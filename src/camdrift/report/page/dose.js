// Dose and response of the chosen layer: the construction of its gain.

charts.dose = {
  height: 300,
  when: ["layer", "strength", "target"],
  layers: () => [
    {
      data: { name: "curve" },
      mark: { type: "line", strokeWidth: 2, color: COLOUR.noise },
      encoding: { x: doseAxis(), y: responseAxis() },
    },
    {
      data: { name: "noise" },
      mark: { type: "point", filled: true, shape: "square", size: 45, color: COLOUR.noise, opacity: 1 },
      encoding: { x: doseAxis(), y: responseAxis(), ...told },
    },
    {
      data: { name: "attack" },
      mark: { type: "line", strokeWidth: 1.2, color: COLOUR.adversarial, opacity: 0.6 },
      encoding: { x: doseAxis(), y: responseAxis() },
    },
    {
      data: { name: "span" },
      mark: { type: "rule", strokeWidth: 2, color: INK, strokeDash: [5, 3] },
      encoding: { x: doseAxis(), x2: { field: "x2" }, y: responseAxis() },
    },
    {
      data: { name: "drops" },
      mark: { type: "rule", color: MUTED, strokeDash: [2, 3] },
      encoding: { x: doseAxis(), y: responseAxis(), y2: { value: "height" } },
    },
    {
      data: { name: "attack" },
      mark: { type: "point", filled: true, opacity: 1, color: COLOUR.adversarial },
      encoding: {
        x: doseAxis(),
        y: responseAxis(),
        size: { field: "shown", type: "ordinal", scale: { domain: [0, 1], range: [35, 130] }, legend: null },
        ...told,
      },
    },
    {
      data: { name: "words" },
      mark: { type: "text", dy: -10, fontSize: 13, fontWeight: 600, color: INK },
      encoding: { x: doseAxis(), y: responseAxis(), text: { field: "text", type: "nominal" } },
    },
  ],
  rows: doseRows,
};

// One axis for all layers, so that they can be compared.
function doseDomain(column) {
  const cells = study.dose.flat().flatMap((curves) => [...curves.adversarial, ...curves.noise]);
  const found = cells.map((row) => row[column]).filter((value) => value > 0);
  return found.length ? [Math.min(...found) / 1.2, Math.max(...found) * 1.2] : [0.1, 1];
}

function doseAxis() {
  return { field: "x", type: "quantitative", scale: { type: "log", nice: false, domain: doseDomain(1) }, axis: { title: "realised L2 norm, median (log)", format: "~g", grid: false, values: logTicks(...doseDomain(1)) } };
}

function responseAxis() {
  return { field: "y", type: "quantitative", scale: { type: "log", nice: false, domain: doseDomain(2) }, axis: { title: "median deviation (log)", format: "~g", grid: true, values: logTicks(...doseDomain(2)) } };
}

// The construction of the gain: from the attack's point sideways to the noise curve, then down.
function doseRows() {
  const cell = study.dose[state.target][state.layer];
  const seen = ([strength, x, y], name) => ({ x, y, tip: `${name}, strength ${strength}\nL2 ${x}, deviation ${y}` });
  const attack = cell.adversarial
    .filter(([, x, y]) => x > 0 && y > 0)
    .map((row) => ({ ...seen(row, "attack"), shown: row[0] === study.strengths[state.strength] ? 1 : 0 }));
  const noise = cell.noise.filter(([, x, y]) => x > 0 && y > 0).map((row) => seen(row, "noise"));
  const curve = cell.noise.filter(([, x, , fit]) => x > 0 && fit > 0).map(([, x, , fit]) => ({ x, y: fit }));
  const from = attack.find(({ shown }) => shown);
  const gain = stat("gain");
  const found = { curve, noise, attack, span: [], drops: [], words: [] };
  if (!from || gain === null) return found;
  const to = from.x * gain;
  found.span = [{ x: from.x, x2: to, y: from.y }];
  found.drops = [{ x: from.x, y: from.y }, { x: to, y: from.y }];
  found.words = [{ x: Math.sqrt(from.x * to), y: from.y, text: `\u00d7 ${times(gain, stat("gain_censored"))}` }];
  return found;
}
