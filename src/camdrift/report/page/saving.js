// What is shown as one picture: the sentence, the photo, where the layer looks, the network.

const PICTURE = { width: 1200, margin: 40, side: 350, gap: 18 };

function bindSaving() {
  byId("save-view").addEventListener("click", async () => {
    const canvas = await viewPicture();
    canvas.toBlob((blob) => {
      const link = element("a", { href: URL.createObjectURL(blob), download: "camdrift-view.png" });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
      byId("action-said").textContent = "Saved.";
    });
  });
}

async function viewPicture() {
  const { width, margin, side, gap } = PICTURE;
  const colours = getComputedStyle(document.documentElement);
  const [paper, ink, muted] = ["--paper", "--ink", "--muted"].map((name) => colours.getPropertyValue(name).trim());
  const hasImages = study.seeds.length > 0;
  const canvas = element("canvas", { width, height: hasImages ? 1070 : 320 });
  const context = canvas.getContext("2d");
  context.fillStyle = paper;
  context.fillRect(0, 0, canvas.width, canvas.height);
  const write = (text, x, y, size, colour = ink, weight = 400) => {
    context.font = `${weight} ${size}px system-ui, sans-serif`;
    context.fillStyle = colour;
    context.fillText(text, x, y);
  };
  context.font = "600 28px system-ui, sans-serif";
  let y = margin + 24;
  for (const line of linesOf(context, document.querySelector("h1").textContent, width - 2 * margin)) {
    write(line, margin, y, 28, ink, 600);
    y += 36;
  }
  write(`${study.layers[state.layer].label}, ${placeText()}; strength ${strengthText()}, class ${study.targets[state.target]}; gain ${gainText()}`, margin, y, 17, muted);
  y += 24;
  if (hasImages) {
    await load(state.seed);
    CONDITIONS.forEach((condition, column) => {
      const x = margin + column * (side + gap);
      context.drawImage(byId(`first-${condition}`), x, y, side, side);
      context.drawImage(byId(`first-map-${condition}`), x, y + side + 40, side, side);
      const name = byId(`first-${condition}`).closest("figure").querySelector("b").textContent;
      write(`${name}: ${saidOf(condition)}`, x, y + side + 22, 15);
      write(condition === "clean" ? "" : movedText(condition), x, y + 2 * side + 62, 15);
    });
    y += 2 * side + 90;
  }
  const step = (width - 2 * margin) / study.layers.length;
  document.querySelectorAll("#strip .cell").forEach((cell, layer) => {
    context.fillStyle = cell.style.background || muted;
    context.globalAlpha = cell.style.background ? 1 : 0.3;
    context.fillRect(margin + layer * step, y, Math.max(step - 1, 0.5), 46);
    context.globalAlpha = 1;
    if (layer !== state.layer) return;
    context.strokeStyle = ink;
    context.lineWidth = 3;
    context.strokeRect(margin + layer * step, y - 3, step, 52);
  });
  write(`${document.querySelector(".kicker").textContent} | the whole network, ${measureName()}, input on the left`, margin, y + 72, 15, muted);
  return canvas;
}

function linesOf(context, text, width) {
  return text.split(" ").reduce((lines, word) => {
    const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
    if (lines.length && context.measureText(longer).width <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
    return lines;
  }, []);
}
