// Studies side by side: one strength, one explained class and one pair drive every view.

const study = JSON.parse(byId("comparison").textContent);
const names = study.sides.map(({ name }) => name);
const isShared = study.labels.length > 0;
const state = { strength: study.reference, target: 0, a: 0, b: 1, ranked: "gain", layer: null };

const at = (table) => table[state.target][state.strength];
const where = () => `strength ${study.strengths[state.strength]}, target ${study.targets[state.target]}`;

function change(patch) {
  Object.assign(state, patch);
  draw();
}

// Choosing the same side twice swaps the two.
function choose(which, side) {
  const other = which === "a" ? "b" : "a";
  change(state[other] === side ? { [which]: side, [other]: state[which] } : { [which]: side });
}

// The pair as its first side sees it: stored once, for the earlier side as the first.
function pairData() {
  const turned = state.a > state.b;
  const data = study.pairs[turned ? `${state.b},${state.a}` : `${state.a},${state.b}`];
  const flip = (value) => (value === null ? null : 0 - value);
  const labels = [data.labels_a, data.labels_b];
  const [one, two] = turned ? ["b", "a"] : ["a", "b"];
  const rows = data.depth.map((depth, i) => {
    const of = (name) => at(data[name])[i];
    const three = (name) => {
      const found = [of(name), of(`${name}_low`), of(`${name}_high`)];
      return turned ? [flip(found[0]), flip(found[2]), flip(found[1])] : found;
    };
    return {
      depth,
      label_a: labels[turned ? 1 : 0][i],
      label_b: labels[turned ? 0 : 1][i],
      n_a: of(`n_${one}`),
      n_b: of(`n_${two}`),
      deviation_a: of(`deviation_${one}`),
      deviation_b: of(`deviation_${two}`),
      difference: three("difference"),
      ratio: three("log2_gain_ratio"),
    };
  });
  return { by: data.by, paired: at(data.paired), rows };
}

function agreementOf(ranked, a, b) {
  const [first, second] = a < b ? [a, b] : [b, a];
  return at(study.agreement[ranked]).find((row) => row[0] === first && row[1] === second);
}

const isClear = (low, high) => low !== null && high !== null && (low > 0 || high < 0);
// One end may be missing where a gain is censored: the other alone can exclude no difference.
const excludes = ([value, low, high]) => value !== null && ((low !== null && low > 0) || (high !== null && high < 0));
const signed = (value) => fraction(value, 2);
// Ends of an interval, rounded outwards: what is printed holds the whole interval.
const tauEnds = (low, high) => (low === null ? "" : `[${signed(Math.floor(low * 100 + 1e-7) / 100)}, ${signed(Math.ceil(high * 100 - 1e-7) / 100)}]`);
const power = (value) => (value === null ? "open" : times(2 ** value));
const ratioText = ([value, low, high]) => (value === null ? DASH : `${power(value)} [${power(low)}, ${power(high)}]`);
const gainOf = (side, i) => {
  const data = study.sides[side];
  const ends = ["low", "high"].map((end) => times(at(data[`gain_${end}`])[i], at(data[`gain_${end}_censored`])[i]));
  const value = times(at(data.gain)[i], at(data.gain_censored)[i]);
  return at(data.gain_low)[i] === null ? value : `${value} [${ends.join(", ")}]`;
};

function drawMatrix() {
  const head = element("tr", {}, element("td"), ...names.map((name, j) => element("th", { scope: "col", class: look(j), title: name }, element("span", {}, name))));
  const rows = names.map((name, i) => element("tr", {}, element("th", { scope: "row", class: look(i), title: name }, name), ...names.map((_, j) => matrixCell(i, j))));
  byId("matrix").classList.toggle("many", names.length > 12);
  byId("matrix").replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
  byId("matrix").refresh?.();
}

const look = (side) => (side === state.a ? "a" : side === state.b ? "b" : null);

function matrixCell(i, j) {
  const [, , tau, low, high, layers, one, two] = agreementOf(state.ranked, i, j);
  const chosen = (i === state.a && j === state.b) || (i === state.b && j === state.a);
  const words = i === j ? `${names[i]} with itself on other images` : `${names[i]} and ${names[j]}`;
  const images = one === two ? one : `${one} and ${two}`;
  const tip = `${words}\ntau ${signed(tau)} ${tauEnds(low, high)}\n${layers} layers, n = ${images}`;
  const button = element("button", { type: "button", "data-tip": tip, "aria-label": tip.replaceAll("\n", ", "), "aria-pressed": i === j ? null : String(chosen), "aria-disabled": i === j ? "true" : null }, signed(tau));
  const strength = Math.abs(tau ?? 0);
  button.style.background = tau === null ? "var(--band)" : `color-mix(in oklab, var(${tau < 0 ? "--minus" : "--plus"}) ${Math.round(100 * strength ** 1.3)}%, var(--paper))`;
  button.style.color = strength > 0.62 ? "var(--paper)" : "var(--ink)";
  if (i !== j) button.addEventListener("click", () => { change({ a: i, b: j }); byId("matrix").querySelectorAll("tbody tr")[i].children[j + 1].firstChild.focus(); });
  return element("td", { class: i === j ? "itself" : isClear(low, high) ? "clear" : null }, button);
}

function drawProfiles() {
  const count = isShared ? study.labels.length : 0;
  const foot = isShared ? (count > 20 ? 128 : 92) : 40;
  const values = study.sides.flatMap((side) => at(side.gain)).filter((value) => value > 0);
  const ends = [state.a, state.b].flatMap((s) => [...at(study.sides[s].gain_low), ...at(study.sides[s].gain_high)]).filter((value) => value > 0);
  const [low, high] = [Math.min(1, ...values, ...ends) / 1.3, Math.max(1, ...values, ...ends) * 1.3];
  const words = `Noise-equivalent gain of every layer of ${names[state.a]} and ${names[state.b]} at ${where()}, on a log axis; the numbers are in the table of the pair.`;
  drawing("plot-profiles", 300 + foot, words, (svg, width, height) => {
    const [left, right, top, bottom] = [52, width - 12, 10, height - foot];
    const y = (value) => linear(Math.log(low), Math.log(high), bottom, top)(Math.log(value));
    const x = isShared ? linear(-0.5, count - 0.5, left, right) : linear(-0.02, 1.02, left, right);
    levelLines(svg, logTicks(low, high), y, left, right, (value) => String(value));
    svg.append(shape("line", { class: "zero", x1: left, x2: right, y1: y(1), y2: y(1) }));
    svg.append(shape("text", { class: "faint", transform: `translate(12 ${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, "gain (times L2 norm)"));
    const place = (side, i) => x(isShared ? side.place[i] : side.depth[i]);
    const points = (side, step = 0) => at(side.gain).map((value, i) => [place(side, i) + step, value > 0 ? y(value) : null]);
    study.sides.forEach((side, s) => {
      if (s !== state.a && s !== state.b) svg.append(path(points(side), "var(--rest)", { "data-tip": side.name, "stroke-width": 2 }));
    });
    for (const [which, colour, shift] of [["a", "var(--a)", -1], ["b", "var(--b)", 1]]) {
      const side = study.sides[state[which]];
      const step = isShared ? Math.min(4, Math.abs(x(1) - x(0)) / 6) * shift : 0;
      svg.append(path(points(side, step), colour, { opacity: 0.8, "stroke-dasharray": which === "b" ? "6 4" : null }));
      points(side, step).forEach(([px, py], i) => {
        const [from, to] = [at(side.gain_low)[i], at(side.gain_high)[i]];
        if (from > 0 && to > 0) svg.append(bar(px, y(from), y(to), colour));
        const tip = `${side.labels[i]}\n${side.name}\ngain ${gainOf(state[which], i)}\nrank ${at(side.rank)[i] ?? DASH} ${between(at(side.rank_low)[i], at(side.rank_high)[i], String)}, n = ${at(side.n)[i]}`;
        if (py !== null) svg.append(mark(px, py, colour, { square: which === "b", bound: at(side.gain_censored)[i], tip }));
      });
    }
    if (isShared) namesBelow(svg, study.labels, x, bottom + 12);
    else depthAxis(svg, x, bottom, (left + right) / 2);
  });
}

function depthAxis(svg, x, bottom, middle) {
  for (const value of [0, 0.25, 0.5, 0.75, 1]) svg.append(shape("text", { class: "faint", x: x(value), y: bottom + 16, "text-anchor": "middle" }, String(value)));
  svg.append(shape("text", { class: "faint", x: middle, y: bottom + 33, "text-anchor": "middle" }, "relative depth"));
}

function drawContrast(id, words, rows, pick, write, lines) {
  drawing(id, 250, `${words} at ${where()}; the numbers are in the table below.`, (svg, width, height) => {
    const [left, right, top, bottom] = [52, width - 10, 12, height - 40];
    const known = rows.map(pick).filter(([value]) => value !== null);
    if (!known.length) {
      const reason = id === "plot-ratio" ? "Every gain is only a bound." : "Deviations of two metrics are on different scales.";
      svg.append(shape("text", { class: "faint", x: width / 2, y: height / 2, "text-anchor": "middle" }, reason));
      return;
    }
    const ends = known.flat().filter((value) => value !== null);
    const reach = Math.max(...ends.map(Math.abs), id === "plot-ratio" ? 1 : 0.01) * 1.08;
    const [y, x] = [linear(-reach, reach, bottom, top), linear(-0.02, 1.02, left, right)];
    levelLines(svg, lines(reach), y, left, right, write);
    svg.append(shape("line", { class: "zero", x1: left, x2: right, y1: y(0), y2: y(0) }));
    for (const row of rows) {
      const found = pick(row);
      if (found[0] === null) continue;
      const [value, low, high] = found;
      const px = x(row.depth);
      const hasInterval = id === "plot-ratio" ? Math.min(row.n_a, row.n_b) > 1 : low !== null;
      if (hasInterval) svg.append(bar(px, y(low ?? -reach), y(high ?? reach), "var(--accent)"));
      if (hasInterval && low === null) svg.append(mark(px, bottom - 4, "var(--accent)", { bound: -1 }));
      if (hasInterval && high === null) svg.append(mark(px, top + 4, "var(--accent)", { bound: 1 }));
      const label = row.label_a === row.label_b ? row.label_a : `${row.label_a} and ${row.label_b}`;
      const told = id === "plot-ratio" ? `ratio ${ratioText(found)}` : `difference ${fraction(value)} ${between(low, high, fraction)}`;
      svg.append(mark(px, y(value), "var(--accent)", { open: !excludes(found), tip: `${label}\n${told}` }));
    }
    depthAxis(svg, x, bottom, (left + right) / 2);
  });
}

function drawPair() {
  const { by, paired, rows } = pairData();
  const [, , tau, low, high, layers, one, two] = agreementOf("gain", state.a, state.b);
  const images = paired ? `${one} images that have an adversarial example in both` : `different images (${[one, two].join(" and ")}), as independent samples`;
  const said = tau === null ? "tau is undefined" : `tau ${signed(tau)} ${tauEnds(low, high)}`;
  byId("pair-words").textContent = `${names[state.a]} and ${names[state.b]} on ${images}; ${layers} layers aligned by ${by === "name" ? "name" : "relative depth"}; rankings by gain: ${said}.`;
  drawContrast("plot-ratio", "Ratio of gains", rows, (row) => row.ratio, (value) => (value >= 0 ? String(2 ** value) : `1/${2 ** -value}`), (reach) => ticks(-reach, reach).filter(Number.isInteger));
  drawContrast("plot-difference", "Difference of deviation", rows, (row) => row.difference, (value) => String(value).replace("-", "\u2212"), (reach) => ticks(-reach, reach));
  const heads = ["Layer", "Layer, second", "Gain ratio", "Deviation, first", "Deviation, second", "Difference", "n"];
  const same = rows.every((row) => row.label_a === row.label_b);
  const cells = rows.map((row) => [
    row.label_a,
    row.label_b,
    [ratioText(row.ratio), excludes(row.ratio)],
    [fraction(row.deviation_a)],
    [fraction(row.deviation_b)],
    [`${fraction(row.difference[0])} ${between(row.difference[1], row.difference[2], fraction)}`, excludes(row.difference)],
    [row.n_a === row.n_b ? String(row.n_a) : `${row.n_a}, ${row.n_b}`],
  ]);
  fillTable("pair-table", same ? heads.filter((_, i) => i !== 1) : heads, same ? cells.map((row) => row.filter((_, i) => i !== 1)) : cells);
}

function fillTable(id, heads, rows) {
  const [head, body] = [byId(id).querySelector("thead tr"), byId(id).querySelector("tbody")];
  head.replaceChildren(...heads.map((name) => element("th", { scope: "col" }, name)));
  const cell = ([text, clear]) => element("td", { class: clear ? "clear" : null }, text);
  body.replaceChildren(...rows.map((row) => element("tr", {}, element("th", { scope: "row" }, row[0]), ...row.slice(1).map((each) => (Array.isArray(each) ? cell(each) : cell([each]))))));
}

// Ranks with ties set one below the other, per side and shared layer; null where undefined.
function rankPlaces(side) {
  const ranks = study.labels.map((_, layer) => at(side.rank)[side.place.indexOf(layer)]);
  const order = ranks.map((_, layer) => layer).filter((layer) => ranks[layer] !== null).sort((p, q) => ranks[p] - ranks[q] || p - q);
  return ranks.map((rank, layer) => (rank === null ? null : order.indexOf(layer) + 1));
}

function movedLayers() {
  return study.labels.map((_, layer) => {
    const ends = study.sides.map((side) => {
      const i = side.place.indexOf(layer);
      return [at(side.rank_low)[i], at(side.rank_high)[i]];
    });
    return ends.every(([low]) => low !== null) && Math.max(...ends.map(([low]) => low)) > Math.min(...ends.map(([, high]) => high));
  });
}

function drawRanks() {
  const [places, moved, count] = [study.sides.map(rankPlaces), movedLayers(), study.labels.length];
  const margin = 20 + 6.2 * Math.min(24, Math.max(...study.labels.map((label) => label.length)));
  const crowded = names.length > 6;
  const head = crowded ? 16 + 6.2 * Math.min(28, Math.max(...names.map((name) => name.length))) : 22;
  const words = `Rank by gain of ${count} layers in ${names.length} sides at ${where()}; the numbers are in the table below.`;
  drawing("plot-ranks", head + 17 * count + 14, words, (svg, width) => {
    const [x, y] = [linear(0, names.length - 1, margin, width - margin), (rank) => head + 17 * (rank - 0.2)];
    names.forEach((name, s) => {
      const room = Math.max(4, Math.floor((names.length > 1 ? x(1) - x(0) : 200) / 6.4));
      const most = crowded ? 28 : room;
      const short = name.length > most ? `${name.slice(0, most - 1)}…` : name;
      const place = crowded ? { transform: `translate(${(x(s) + 4).toFixed(1)} ${head - 8}) rotate(-90)` } : { x: x(s), y: 11, "text-anchor": "middle" };
      svg.append(shape("line", { class: "grid", x1: x(s), x2: x(s), y1: head - 4, y2: y(count) + 6 }));
      svg.append(shape("text", { ...place, "data-tip": name, style: s === state.a ? "fill: var(--a); font-weight: 600" : s === state.b ? "fill: var(--b); font-weight: 600" : null }, short));
    });
    const group = shape("g", { class: count * names.length > 200 ? "ranks many" : "ranks" });
    study.labels.forEach((label, layer) => group.append(rankLine(layer, label, places, moved[layer], x, y)));
    svg.append(group);
    highlight(group);
  });
  const told = (side, layer) => {
    const i = side.place.indexOf(layer);
    return `${at(side.rank)[i] ?? DASH} ${between(at(side.rank_low)[i], at(side.rank_high)[i], String)}`;
  };
  fillTable("rank-table", ["Layer", ...names], study.labels.map((label, layer) => [label, ...study.sides.map((side) => [told(side, layer), moved[layer]])]));
}

function rankLine(layer, label, places, isMoved, x, y) {
  const share = study.labels.length > 1 ? layer / (study.labels.length - 1) : 0;
  const colour = `hsl(${Math.round(275 - 215 * share)} ${Math.round(45 + 25 * share)}% var(--shade))`;
  const line = shape("g", { class: `rank${isMoved ? " moved" : ""}`, "data-layer": layer });
  const known = places.map((ranks, s) => [s, ranks[layer]]).filter(([, rank]) => rank !== null);
  known.forEach(([s, rank], k) => {
    if (k && known[k - 1][0] === s - 1) {
      const [from, middle] = [known[k - 1][1], (x(s - 1) + x(s)) / 2];
      const d = `M${x(s - 1)} ${y(from)}C${middle} ${y(from)} ${middle} ${y(rank)} ${x(s)} ${y(rank)}`;
      line.append(shape("path", { class: "line", d, stroke: colour, "stroke-width": isMoved ? 3.2 : 1.3, "data-tip": label }));
    }
    line.append(shape("circle", { cx: x(s), cy: y(rank), r: 3, fill: colour, "data-tip": `${label}\n${names[s]}: rank ${rank}` }));
  });
  const short = label.length > 24 ? `…${label.slice(-23)}` : label;
  for (const [s, anchor, shift] of [[0, "end", -9], [places.length - 1, "start", 9]]) {
    if (places[s][layer] !== null) line.append(shape("text", { x: x(s) + shift, y: y(places[s][layer]), "text-anchor": anchor, "dominant-baseline": "middle" }, short));
  }
  line.addEventListener("pointerenter", () => choseLayer(line.parentNode, layer));
  line.addEventListener("pointerleave", () => choseLayer(line.parentNode, null));
  return line;
}

function choseLayer(group, layer) {
  state.layer = layer;
  highlight(group);
}

function highlight(group) {
  group.classList.toggle("chosen", state.layer !== null);
  for (const line of group.children) line.classList.toggle("on", Number(line.dataset.layer) === state.layer);
}

function drawControls() {
  byId("strength").value = state.strength;
  byId("strength").setAttribute("aria-valuetext", study.strengths[state.strength]);
  byId("strength-shown").textContent = `${study.strengths[state.strength]}\u00a0\u00d7`;
  for (const radio of document.querySelectorAll("input[name=target]")) radio.checked = Number(radio.value) === state.target;
  for (const radio of document.querySelectorAll("input[name=ranked]")) radio.checked = radio.value === state.ranked;
  for (const which of ["a", "b"]) {
    byId(`side-${which}`).value = state[which];
    byId(`name-${which}`).textContent = names[state[which]];
  }
}

function draw() {
  drawControls();
  drawMatrix();
  drawProfiles();
  drawPair();
  if (byId("plot-ranks")) drawRanks();
}

byId("strength").addEventListener("input", (event) => change({ strength: Number(event.target.value) }));
for (const radio of document.querySelectorAll("input[name=target]")) radio.addEventListener("change", () => change({ target: Number(radio.value) }));
for (const radio of document.querySelectorAll("input[name=ranked]")) radio.addEventListener("change", () => change({ ranked: radio.value }));
for (const which of ["a", "b"]) byId(`side-${which}`).addEventListener("change", (event) => choose(which, Number(event.target.value)));
byId("depth-note").hidden = isShared;
byId("key-rest").hidden = names.length < 3;
bindTips();
bindTerms();
bindRoving();
draw();
new ResizeObserver(() => draw()).observe(byId("plot-profiles"));
document.documentElement.dataset.ready = "true";
