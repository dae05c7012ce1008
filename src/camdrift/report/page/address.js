// The address holds what is shown, so that a view can be sent: #layer=...&image=...&strength=...

function addressOf() {
  const parts = {
    layer: study.layers[state.layer]?.name,
    image: study.seeds[state.seed]?.id,
    strength: study.strengths[state.strength],
    target: study.targets[state.target],
    condition: state.condition,
    measure: state.measure,
  };
  const known = Object.entries(parts).filter(([, value]) => value !== undefined);
  return `#${known.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&")}`;
}

// Parts that the study does not have are passed over, and so is an address without any: that of a section.
function stateOf(hash) {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  const places = {
    layer: study.layers.findIndex(({ name }) => name === parts.get("layer")),
    seed: study.seeds.findIndex(({ id }) => id === parts.get("image")),
    strength: study.strengths.findIndex((strength) => String(strength) === parts.get("strength")),
    target: study.targets.indexOf(parts.get("target")),
  };
  const patch = Object.fromEntries(Object.entries(places).filter(([, place]) => place >= 0));
  if ([ADVERSARIAL, NOISE].includes(parts.get("condition"))) patch.condition = parts.get("condition");
  if (parts.get("measure") in measures && byId("measure").querySelector(`[value="${parts.get("measure")}"]`)) patch.measure = parts.get("measure");
  return patch;
}

// In a notebook's cell the page has no address of its own.
function isFramed() {
  return location.protocol === "about:";
}

function bindAddress() {
  if (isFramed()) {
    byId("copy-link").hidden = true;
    return;
  }
  onChange(["layer", "seed", "strength", "target", "condition", "measure"], () => history.replaceState(null, "", addressOf()));
  window.addEventListener("hashchange", () => change(stateOf(location.hash)));
  byId("copy-link").addEventListener("click", async () => {
    history.replaceState(null, "", addressOf());
    let words = "Copied.";
    try {
      await navigator.clipboard.writeText(location.href);
    } catch {
      words = "Copy it from the address bar.";
    }
    byId("action-said").textContent = words;
  });
}

// What the page opens with, as its title says; a button leads back to it.
function bindHeadline() {
  const note = byId("shown-words");
  const names = ["layer", "strength", "target"];
  const draw = () => {
    const isHome = names.every((name) => state[name] === study.opening[name]);
    note.hidden = isHome;
    byId("shown-text").textContent = isHome
      ? ""
      : `Shown below: ${study.layers[state.layer].label}, strength ${strengthText()}, class ${study.targets[state.target]}.`;
  };
  onChange(names, draw);
  byId("back").addEventListener("click", () => change(opening()));
  draw();
}

function opening() {
  const { strength, target, layer, seed, measure } = study.opening;
  return { strength, target, layer, seed, measure, condition: ADVERSARIAL };
}
