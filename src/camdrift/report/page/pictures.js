// The images: clean, adversarial, noisy, and the maps of every layer.

const pictures = JSON.parse(byId("pictures").textContent);
const CONDITIONS = ["clean", ADVERSARIAL, NOISE];
const loaded = new Map();

async function pixelsOf(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

// Clean image, perturbation, noise and heatmaps of one seed, decoded once.
function load(seed) {
  if (!loaded.has(seed)) {
    const stored = pictures.seeds[seed];
    const sources = [stored.clean, stored.perturbation, stored.noise, ...stored.maps];
    loaded.set(
      seed,
      Promise.all(sources.map(pixelsOf)).then(([clean, perturbation, noise, ...maps]) => ({
        clean,
        [ADVERSARIAL]: { pixels: fromPlanes(perturbation), peak: stored.peaks[0] },
        [NOISE]: { pixels: fromPlanes(noise), peak: stored.peaks[1] },
        maps,
      })),
    );
  }
  return loaded.get(seed);
}

// Red, green and blue lie side by side in grey.
function fromPlanes(planes) {
  const width = planes.width / 3;
  const made = new ImageData(width, planes.height);
  for (let y = 0; y < made.height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const at = 4 * (y * width + x);
      for (let c = 0; c < 3; c += 1) made.data[at + c] = planes.data[4 * (y * planes.width + c * width + x)];
      made.data[at + 3] = 255;
    }
  }
  return made;
}

// Eq. 1 and 3: clip(x + s * delta), from the clean image and the stored perturbation.
function perturbed(parts, condition, strength) {
  if (condition === "clean") return parts.clean;
  const { pixels, peak } = parts[condition];
  const made = new ImageData(parts.clean.width, parts.clean.height);
  const scale = (strength * peak * 255) / 127;
  for (let i = 0; i < made.data.length; i += 4) {
    for (let c = i; c < i + 3; c += 1) made.data[c] = parts.clean.data[c] + scale * (pixels.data[c] - 128);
    made.data[i + 3] = 255;
  }
  return made;
}

// The heatmap of a layer: values 0 to 255 at stored resolution.
function heatmap(parts, layer, condition, target = state.target, strength = state.strength) {
  const slot = condition === "clean" ? 0 : 1 + strength + (condition === NOISE ? study.strengths.length : 0);
  return tile(parts.maps[pictures.targets.indexOf(study.targets[target])], pictures.places[layer], slot);
}

// One of the heatmaps that lie side by side in a picture.
function tile(sprite, [x, y, width, height, step], slot) {
  const values = new Uint8Array(width * height);
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      values[row * width + column] = sprite.data[4 * ((y + row) * sprite.width + x + slot * step + column)];
    }
  }
  return { values, width, height };
}

// In colour; over a photo a value shows as much as it is large.
function coloured({ values, width, height }, isOver = false) {
  const made = new ImageData(width, height);
  const ramp = ramps.inferno;
  values.forEach((value, i) => {
    made.data.set([ramp[3 * value], ramp[3 * value + 1], ramp[3 * value + 2], isOver ? 230 * (value / 255) ** 1.4 : 255], 4 * i);
  });
  return made;
}

// Every other map is scaled to its maximum; the picture that holds them is lossy.
function isZero({ values }) {
  return Math.max(...values) < 48;
}

// Where there is no map: stripes.
function hatch(context, x, y, width, height) {
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  context.fillStyle = "rgba(120, 120, 120, .35)";
  context.fillRect(x, y, width, height);
  context.strokeStyle = "rgba(255, 255, 255, .8)";
  context.lineWidth = 3;
  for (let at = -height; at < width; at += 14) {
    context.beginPath();
    context.moveTo(x + at, y + height);
    context.lineTo(x + at + height, y);
    context.stroke();
  }
  context.restore();
}

const scratch = document.createElement("canvas");

function draw(context, pixels, x, y, width, height) {
  scratch.width = pixels.width;
  scratch.height = pixels.height;
  scratch.getContext("2d").putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(scratch, 0, 0, pixels.width, pixels.height, x, y, width, height);
}

function show(canvas, pixels) {
  canvas.width = pixels.width;
  canvas.height = pixels.height;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

// A heatmap alone, or over the image it was made for.
function showMap(canvas, parts, layer, condition, overImage) {
  const side = 224;
  canvas.width = side;
  canvas.height = side;
  const context = canvas.getContext("2d");
  if (overImage) draw(context, perturbed(parts, condition, study.strengths[state.strength]), 0, 0, side, side);
  const map = heatmap(parts, layer, condition);
  if (isZero(map)) hatch(context, 0, 0, side, side);
  else draw(context, coloured(map, overImage), 0, 0, side, side);
}
