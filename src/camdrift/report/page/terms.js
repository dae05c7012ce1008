// Words that explain themselves where they stand, and groups that the keyboard enters as one.

function termButton(name, words) {
  return element("button", { type: "button", class: "term", "data-term": name, popovertarget: `term-${name}` }, words);
}

// Opens below its word, inside the window.
function bindTerms() {
  let opener = null;
  document.addEventListener("click", (event) => {
    opener = event.target.closest?.("[popovertarget]") ?? opener;
  });
  for (const box of document.querySelectorAll("[popover]")) {
    box.addEventListener("toggle", (event) => {
      if (event.newState !== "open" || !opener) return;
      const word = opener.getBoundingClientRect();
      const size = box.getBoundingClientRect();
      box.style.left = `${Math.max(8, Math.min(word.left, window.innerWidth - size.width - 8))}px`;
      const below = word.bottom + 6;
      box.style.top = `${below + size.height < window.innerHeight ? below : Math.max(8, word.top - size.height - 6)}px`;
    });
  }
}

const FOCUSABLE = "button, a[href], summary, [data-item]";

// One stop for the keyboard; arrows go on inside.
function rove(group) {
  const items = () => [...group.querySelectorAll(FOCUSABLE)].filter((item) => !item.closest("details:not([open]) > :not(summary)"));
  const settle = (chosen) => items().forEach((item) => item.setAttribute("tabindex", item === chosen ? "0" : "-1"));
  group.addEventListener("keydown", (event) => {
    const across = Number(group.dataset.roving) || 1; // columns of a matrix
    const steps = { ArrowRight: 1, ArrowDown: across, ArrowLeft: -1, ArrowUp: -across, Home: -Infinity, End: Infinity };
    const list = items();
    const at = list.indexOf(event.target);
    if (at < 0 || !(event.key in steps)) return;
    event.preventDefault();
    const to = list[Math.min(Math.max(at + steps[event.key], 0), list.length - 1)];
    settle(to);
    to.focus();
  });
  group.addEventListener("focusin", ({ target }) => items().includes(target) && settle(target));
  const refresh = () => {
    const list = items();
    settle(list.find((item) => item.matches("[aria-pressed=true], [aria-current=true] *")) ?? list[0]);
  };
  group.addEventListener("toggle", refresh, true);
  group.refresh = refresh;
  refresh();
}

function bindRoving() {
  for (const group of document.querySelectorAll("[data-roving]")) rove(group);
}

// A box that scrolls can be reached by the keyboard; one that does not is no stop.
function measureBox(box) {
  if (box.scrollWidth > box.clientWidth + 4) box.setAttribute("tabindex", "0");
  else box.removeAttribute("tabindex");
}

function bindScrolling() {
  const seen = new ResizeObserver((entries) => entries.forEach(({ target }) => measureBox(target.closest(".scroll, .plot-box") ?? target)));
  for (const box of document.querySelectorAll(".scroll, .plot-box")) {
    seen.observe(box);
    if (box.firstElementChild) seen.observe(box.firstElementChild);
  }
}
