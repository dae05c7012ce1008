// Which defect made which finding: the chosen set of defects beside the equations.

const rungs = JSON.parse(byId("rungs")?.textContent ?? "null");

// One scale for all sets, so that the eye compares like with like.
function rungSimilarity(field) {
  const lowest = Math.min(...rungs.similarity.flat(2).filter((value) => value !== null));
  const widest = Math.min(Math.SQRT2, 1.03 * distance(lowest));
  return similarityAxis(field, { scale: { domain: [0, widest], reverse: true, nice: false } });
}

// Values of one set as rows, one per strength and layer.
function rungRows(cells, write) {
  return study.strengths.flatMap((strength, s) =>
    layerRows((layer) => write(cells[s][layer], strength, layer)).filter(({ y }) => y !== null),
  );
}

const similarityChart = (chosen, when) => ({
  height: 230,
  when: [...when, "layer"],
  says: () => rungs.words[chosen()],
  layers: () => [
    {
      data: { name: "lines" },
      mark: { type: "line", point: { size: 28, filled: true } },
      encoding: {
        x: layerAxis(),
        y: rungSimilarity("y"),
        color: strengthColour(),
        detail: { field: "strength", type: "nominal" },
        // Curves that coincide stay visible: the weakest is the widest.
        strokeWidth: { field: "width", type: "quantitative", scale: null },
        ...told,
      },
    },
  ],
  rows: () => ({
    lines: rungRows(rungs.similarity[chosen()], (value, strength, layer) => ({
      strength,
      y: distance(value),
      width: 4.5 - (3.2 * study.strengths.indexOf(strength)) / Math.max(1, study.strengths.length - 1),
      tip: `${label(layer)}\nstrength ${strength}: ${fraction(value)}`,
    })),
  }),
});

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

const compromisedChart = (chosen, when) => ({
  height: 130,
  when,
  says: () => rungs.words[chosen()],
  layers: () => [
    {
      data: { name: "cells" },
      mark: { type: "rect", color: COLOUR.adversarial, stroke: LINE, strokeWidth: 0.5 },
      encoding: {
        x: layerAxis(),
        y: { field: "row", type: "nominal", sort: { field: "strength" }, axis: { title: "strength", grid: false } },
        fillOpacity: { field: "y", type: "quantitative", scale: { domain: [0, 1], range: [0, 1] }, legend: null },
        ...told,
      },
    },
  ],
  rows: () => ({
    cells: rungRows(rungs.compromised[chosen()], (value, strength, layer) => {
      const known = rungs.compromised[chosen()][study.strengths.indexOf(strength)].filter((cell) => cell !== null);
      return {
        strength,
        y: value,
        row: `${strength}: ${percent(mean(known))}`,
        tip: `${label(layer)}\nstrength ${strength}: compromised ${percent(value)}`,
      };
    }),
  }),
});

function bindRungs() {
  const select = byId("rung");
  const rows = document.querySelectorAll("#rung-table tr[data-rung]");
  select.addEventListener("change", () => change({ rung: rungs.names.indexOf(select.value) }));
  for (const row of rows) {
    row.querySelector("button").addEventListener("click", () => change({ rung: rungs.names.indexOf(row.dataset.rung) }));
  }
  const draw = () => {
    const name = rungs.names[state.rung];
    select.value = name;
    byId("rung-meaning").textContent = rungs.meanings[state.rung];
    for (const row of rows) {
      if (row.dataset.rung === name) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
  };
  onChange(["rung"], draw);
  draw();
}

if (rungs) {
  const equations = () => rungs.names.indexOf("none");
  const chosen = () => state.rung;
  state.rung = rungs.names.indexOf("all");
  charts.equations = similarityChart(equations, []);
  charts.rung = similarityChart(chosen, ["rung"]);
  charts["equations-compromised"] = compromisedChart(equations, []);
  charts["rung-compromised"] = compromisedChart(chosen, ["rung"]);
  bindRungs();
}
