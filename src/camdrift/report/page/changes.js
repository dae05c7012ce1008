// Natural changes of the chosen image, and where the chosen layer looks: at one strength, for the headline's class.

const changesLoaded = new Map();

function loadChange(seed, number) {
  const key = `${seed} ${number}`;
  if (!changesLoaded.has(key)) changesLoaded.set(key, Promise.all(pictures.seeds[seed].changes[number].map(pixelsOf)));
  return changesLoaded.get(key);
}

function showChange(canvas, [picture, sprite], layer, isOver) {
  const side = 224;
  canvas.width = side;
  canvas.height = side;
  const context = canvas.getContext("2d");
  if (isOver) draw(context, picture, 0, 0, side, side);
  const map = tile(sprite, pictures.changePlaces[layer], 0);
  if (isZero(map)) hatch(context, 0, 0, side, side);
  else draw(context, coloured(map, isOver), 0, 0, side, side);
}

function bindChanges() {
  const stage = byId("changed");
  if (!stage) return;
  const show = () => {
    const { seed, layer } = state;
    [...stage.children].forEach(async (figure, number) => {
      const parts = await loadChange(seed, number);
      if (seed !== state.seed || layer !== state.layer) return; // something else was chosen meanwhile
      const { said, flipped, similarity } = study.changes[seed][number];
      showChange(figure.querySelector("canvas"), parts, layer, byId("over-image").checked);
      const [verdict, likeness] = figure.querySelectorAll("span");
      verdict.textContent = flipped ? `${said}, flipped` : said;
      verdict.classList.toggle("flipped", flipped);
      likeness.textContent = `similarity ${fraction(similarity[layer], 2)}`;
    });
  };
  onChange(["seed", "layer"], show);
  byId("over-image").addEventListener("change", show);
  show();
}
