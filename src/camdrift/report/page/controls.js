// The bar that drives every view: strength, attack or noise, whose class is explained.

function bindControls() {
  const slider = byId("strength");
  const shown = byId("strength-shown");
  slider.addEventListener("input", () => change({ strength: Number(slider.value) }));
  for (const radio of document.querySelectorAll("input[name=condition]")) {
    radio.addEventListener("change", () => change({ condition: radio.value }));
  }
  for (const radio of document.querySelectorAll("input[name=target]")) {
    radio.addEventListener("change", () => change({ target: Number(radio.value) }));
  }
  const draw = () => {
    slider.value = state.strength;
    slider.setAttribute("aria-valuetext", strengthText());
    shown.textContent = `${strengthText()}\u00a0\u00d7`;
    for (const radio of document.querySelectorAll("input[name=condition]")) radio.checked = radio.value === state.condition;
    for (const radio of document.querySelectorAll("input[name=target]")) radio.checked = Number(radio.value) === state.target;
  };
  onChange(["strength", "condition", "target"], draw);
  draw();
}
