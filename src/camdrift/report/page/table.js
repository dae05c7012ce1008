// Every layer's statistics: sorted by a click, filtered by a word, saved as CSV.

const tableColumns = [
  { name: "Layer", value: (layer) => layer, write: (layer) => study.layers[layer].label },
  { name: "Rank", value: (layer) => stat("rank", layer), write: (layer) => stat("rank", layer) ?? DASH, ends: (layer) => between(stat("rank_low", layer), stat("rank_high", layer), String) },
  { name: "Gain", value: (layer) => stat("gain", layer), write: (layer) => times(stat("gain", layer), stat("gain_censored", layer)), ends: (layer) => gainText(layer).replace(/^[^[]*/, "") },
  { name: "Similarity, attack", value: (layer) => stat("adversarial_mean", layer), write: (layer) => fraction(stat("adversarial_mean", layer)) },
  { name: "Similarity, noise", value: (layer) => stat("noise_mean", layer), write: (layer) => fraction(stat("noise_mean", layer)) },
  { name: "Floor", value: (layer) => stat("floor", layer), write: (layer) => fraction(stat("floor", layer), 2) },
  { name: "Difference", value: (layer) => stat("difference_mean", layer), write: (layer) => fraction(stat("difference_mean", layer)), ends: (layer) => between(stat("difference_low", layer), stat("difference_high", layer), fraction) },
  { name: "p (Holm)", value: (layer) => stat("wilcoxon_p_holm", layer), write: (layer) => pValue(stat("wilcoxon_p_holm", layer)) },
  { name: "AUC", value: (layer) => stat("auc", layer), write: (layer) => fraction(stat("auc", layer), 2), ends: (layer) => between(stat("auc_low", layer), stat("auc_high", layer), (v) => fraction(v, 2)) },
  { name: "Compromised", value: (layer) => stat("compromised_fraction", layer), write: (layer) => percent(stat("compromised_fraction", layer)), ends: (layer) => between(stat("compromised_low", layer), stat("compromised_high", layer), percent).replaceAll("\u00a0%", "") },
  { name: "n", value: (layer) => stat("n", layer), write: (layer) => String(stat("n", layer) ?? DASH) },
  { name: "Undefined", value: (layer) => stat("n_undefined", layer), write: (layer) => String(stat("n_undefined", layer) ?? DASH) },
];
// Of one image there are no statistics.
const OF_ONE = ["Layer", "Similarity, attack", "Similarity, noise", "Undefined"];
if (study.images === 1) tableColumns.splice(0, tableColumns.length, ...tableColumns.filter(({ name }) => OF_ONE.includes(name)));

function bindTable() {
  const body = byId("table-rows");
  const filter = byId("table-filter");
  const sorted = { column: 0, down: false };
  const heads = tableColumns.map(({ name }, column) => {
    const button = element("button", { type: "button" }, name);
    button.addEventListener("click", () => {
      sorted.down = sorted.column === column ? !sorted.down : column !== 0 && name !== "Rank";
      sorted.column = column;
      draw();
    });
    return element("th", { scope: "col" }, button);
  });
  byId("table-head").append(...heads);
  const rank = (layer) => tableColumns[sorted.column].value(layer);
  const compare = (a, b) => {
    const [x, y] = [rank(a), rank(b)];
    if (x === null || y === null) return (x === null) - (y === null) || a - b;
    return (sorted.down ? y - x : x - y) || a - b;
  };
  const row = (layer) => {
    const cells = tableColumns.slice(1).map(({ write, ends }) => {
      const cell = element("td", {}, String(write(layer)));
      const interval = ends ? ends(layer) : "";
      if (interval) cell.append(" ", element("i", {}, interval));
      return cell;
    });
    const name = element("button", { type: "button" }, study.layers[layer].label);
    name.addEventListener("click", () => change({ layer }));
    const made = element("tr", { "aria-current": layer === state.layer ? "true" : null }, element("th", { scope: "row" }, name), ...cells);
    made.dataset.layer = layer;
    return made;
  };
  const draw = () => {
    heads.forEach((head, column) => {
      if (column === sorted.column) head.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    const word = filter.value.trim().toLowerCase();
    const found = study.layers
      .map((_, layer) => layer)
      .filter((layer) => `${study.layers[layer].label} ${study.layers[layer].name}`.toLowerCase().includes(word))
      .sort(compare);
    body.replaceChildren(...found.map(row));
    body.closest("[data-roving]").refresh?.();
    byId("table-count").textContent = `${found.length} of ${study.layers.length} layers at strength ${strengthText()}, target ${study.targets[state.target]}`;
  };
  filter.addEventListener("input", draw);
  byId("table-save").addEventListener("click", saveTable);
  onChange(["strength", "target", "layer"], draw);
  draw();
}

// Table `layers` whole: all targets and strengths, the columns of layers.parquet.
function tableText() {
  const bounds = { 1: "above", "-1": "below", 0: "" };
  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const lines = [study.columns.join(",")];
  study.targets.forEach((target, t) => {
    study.strengths.forEach((strength, s) => {
      study.layers.forEach((layer, l) => {
        const known = { target, strength, layer: layer.name, layer_label: layer.title, layer_index: layer.index, ...study.measure };
        const cells = study.columns.map((column) => {
          if (column in known) return known[column];
          const value = study.stats[column][t][s][l];
          return column.endsWith("_censored") ? bounds[value ?? 0] : (value ?? "");
        });
        lines.push(cells.map((cell) => quoted(String(cell))).join(","));
      });
    });
  });
  return `${lines.join("\r\n")}\r\n`;
}

function saveTable() {
  const address = URL.createObjectURL(new Blob([tableText()], { type: "text/csv" }));
  const link = element("a", { href: address, download: "layers.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
