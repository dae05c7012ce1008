// Every layer at once: three small heatmaps and two similarities each.
function bindGrid() {
  const grid = byId("grid");
  const side = 60;
  const tiles = study.layers.map((layer, index) => {
    const canvas = element("canvas", { width: 3 * side + 4, height: side, "aria-hidden": "true" });
    const tile = element(
      "button",
      { type: "button", class: "tile", "aria-pressed": "false" },
      element("span", { class: "tile-name" }, layer.label),
      canvas,
      element("span", { class: "tile-marks" }),
    );
    tile.addEventListener("click", () => change({ layer: index }));
    return tile;
  });
  grid.append(...tiles);
  const drawMaps = async () => {
    const { seed } = state;
    const parts = await load(seed);
    if (seed !== state.seed) return;
    let hasZero = false;
    tiles.forEach((tile, layer) => {
      const context = tile.querySelector("canvas").getContext("2d");
      CONDITIONS.forEach((condition, column) => {
        const map = heatmap(parts, layer, condition);
        if (isZero(map)) hatch(context, column * (side + 2), 0, side, side);
        else draw(context, coloured(map), column * (side + 2), 0, side, side);
        hasZero ||= isZero(map);
      });
    });
    byId("grid-note").hidden = !hasZero;
    grid.dataset.drawn = `${seed} ${state.strength} ${state.target}`;
  };
  const drawMarks = () => {
    tiles.forEach((tile, layer) => {
      const shown = [ADVERSARIAL, NOISE].map((condition) => ({ condition, ...mark(state.seed, condition, layer) }));
      const unseen = (words) => element("span", { class: "unseen" }, words);
      tile.querySelector(".tile-marks").replaceChildren(
        ...shown.map(({ condition, sign, text, kind }) =>
          element(
            "span",
            { class: condition },
            unseen(`${condition} similarity `),
            element("span", { "aria-hidden": "true" }, `${sign} `),
            text,
            kind === "compromised" ? unseen(", compromised") : null,
          ),
        ),
      );
      tile.classList.toggle("compromised", shown[0].kind === "compromised");
    });
  };
  const choose = () => {
    tiles.forEach((tile, layer) => tile.setAttribute("aria-pressed", String(layer === state.layer)));
    grid.refresh?.();
  };
  onChange(["seed", "strength", "target"], () => {
    drawMarks();
    drawMaps();
  });
  onChange(["layer"], choose);
  drawMarks();
  choose();
  drawMaps();
}
