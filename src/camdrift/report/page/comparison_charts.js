// Drawn by hand as SVG: marks with a tip each, axes of few numbers, sized to the box they stand in.

const SVG = "http://www.w3.org/2000/svg";

function shape(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// A drawing of this height, as wide as its box; `draw` fills it.
function drawing(id, height, words, draw) {
  const box = byId(id);
  const width = Math.max(Math.floor(box.clientWidth), 280);
  const svg = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words });
  draw(svg, width, height);
  box.replaceChildren(svg);
}

const linear = (from, to, low, high) => (value) => low + ((value - from) / (to - from || 1)) * (high - low);

// Few round numbers between two ends.
function ticks(low, high, most = 5) {
  const raw = (high - low) / most;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * size).find((value) => value >= raw);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) found.push(Number(value.toPrecision(6)));
  return found;
}

function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    for (const factor of high / low > 2000 ? [1] : [1, 2, 5]) {
      const value = factor * 10 ** power;
      if (value >= low && value <= high) found.push(Number(value.toPrecision(3)));
    }
  }
  return found;
}

function levelLines(svg, values, y, left, right, write) {
  for (const value of values) {
    const at = y(value).toFixed(1);
    svg.append(shape("line", { class: "grid", x1: left, x2: right, y1: at, y2: at }));
    svg.append(shape("text", { class: "faint", x: left - 7, y: at, "text-anchor": "end", "dominant-baseline": "middle" }, write(value)));
  }
}

// Names below the columns, slanted; every second or third where they would touch.
function namesBelow(svg, names, x, top) {
  const step = Math.ceil(13 / Math.max(1, Math.abs(x(1) - x(0))));
  names.forEach((name, i) => {
    if (i % step) return;
    const short = name.length > 26 ? `${name.slice(0, 9)}…${name.slice(-16)}` : name;
    const place = `translate(${(x(i) + 3).toFixed(1)} ${top}) rotate(${names.length > 20 ? -90 : -45})`;
    svg.append(shape("text", { class: "faint", transform: place, "text-anchor": "end", style: "font-size: 10px" }, short));
  });
}

function path(points, colour, look = {}) {
  const known = points.filter(([, y]) => y !== null);
  const d = known.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
  return shape("path", { class: "line", d, stroke: colour, "stroke-width": 1.5, ...look });
}

function bar(x, y1, y2, colour, look = {}) {
  return shape("line", { x1: x.toFixed(1), x2: x.toFixed(1), y1: y1.toFixed(1), y2: y2.toFixed(1), stroke: colour, "stroke-width": 2, opacity: 0.5, ...look });
}

// A circle or a square, filled or open; a triangle for a bound.
function mark(x, y, colour, { square = false, open = false, bound = 0, tip = "" } = {}) {
  const look = { stroke: colour, "stroke-width": 1.6, fill: open ? "var(--paper)" : colour, "data-tip": tip };
  if (bound) return shape("path", { ...look, d: `M${x - 4.5} ${y + bound * 3.5}h9l-4.5 ${-bound * 8}z`, fill: "var(--paper)" });
  if (square) return shape("rect", { ...look, x: x - 3, y: y - 3, width: 6, height: 6 });
  return shape("circle", { ...look, cx: x, cy: y, r: 3.3 });
}

// One box that says what lies under the pointer.
function bindTips() {
  const tip = element("div", { id: "tip", hidden: true });
  document.body.append(tip);
  const hide = () => { tip.hidden = true; };
  document.addEventListener("pointermove", (event) => {
    const words = event.target.closest?.("[data-tip]")?.dataset.tip;
    if (!words) return hide();
    tip.textContent = words;
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - width - 8)}px`;
    tip.style.top = `${event.clientY + 18 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 18}px`;
  });
  document.addEventListener("pointerleave", hide);
}
