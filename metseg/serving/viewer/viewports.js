// Pictures with a cross-hair, letters and a slider each. What a person does is sent as the trigger `move`; one move is
// under way at a time, and while it is, only the last of the others is kept: the pictures never lag behind the hand.
const states = new WeakMap();
const WHEEL_PIXELS = 40;
const LOST_MS = 4000;

function element(name, className, parent) {
  const made = document.createElement(name);
  made.className = className;
  parent.appendChild(made);
  return made;
}

function makeState(root) {
  const state = { busy: false, pending: null, timer: 0, send: null, figures: [], dragging: false, setTriggerValue: null };
  state.send = (move) => {
    if (state.busy) {
      state.pending = move;
      return;
    }
    state.busy = true;
    state.timer = setTimeout(() => state.settle(), LOST_MS);
    state.setTriggerValue("move", move);
  };
  state.settle = () => {
    clearTimeout(state.timer);
    state.busy = false;
    const next = state.pending;
    state.pending = null;
    if (next) state.send(next);
  };
  states.set(root, state);
  return state;
}

function makeFigure(root, state) {
  const figure = element("figure", "viewport", root);
  const parts = { figure, view: null, index: 0, wheel: 0 };
  parts.title = element("figcaption", "title", figure);
  parts.frame = element("div", "frame", figure);
  parts.frame.tabIndex = 0;
  parts.canvas = element("div", "canvas", parts.frame);
  parts.image = element("img", "picture", parts.canvas);
  parts.image.draggable = false;
  parts.vertical = element("div", "line vertical", parts.canvas);
  parts.horizontal = element("div", "line horizontal", parts.canvas);
  parts.letters = ["left", "right", "top", "bottom"].map((side) => element("span", "letter " + side, parts.canvas));
  parts.slider = element("input", "slider", figure);
  parts.slider.type = "range";
  parts.slider.step = 1;
  parts.place = element("div", "place", figure);
  listen(parts, state);
  return parts;
}

function listen(parts, state) {
  const step = (by) => {
    const index = Math.min(Math.max(parts.index + by, 0), parts.view.count - 1);
    if (index === parts.index) return;
    showIndex(parts, index);
    state.send({ plane: parts.view.plane, index });
  };
  parts.slider.addEventListener("input", () => {
    showIndex(parts, Number(parts.slider.value));
    state.send({ plane: parts.view.plane, index: parts.index });
  });
  parts.slider.addEventListener("pointerdown", () => (state.dragging = true));
  for (const name of ["pointerup", "pointercancel", "change"])
    parts.slider.addEventListener(name, () => (state.dragging = false));
  parts.frame.addEventListener(
    "wheel",
    (event) => {
      if (parts.view.count < 2 || event.ctrlKey) return;
      event.preventDefault();
      parts.wheel += event.deltaY * (event.deltaMode === 1 ? WHEEL_PIXELS : 1);
      const steps = Math.trunc(parts.wheel / WHEEL_PIXELS);
      parts.wheel -= steps * WHEEL_PIXELS;
      if (steps) step(steps);
    },
    { passive: false },
  );
  parts.frame.addEventListener("keydown", (event) => {
    const by = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10 }[event.key];
    if (!by) return;
    event.preventDefault();
    step(by);
  });
  const point = (event) => {
    const box = parts.image.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width;
    const y = (event.clientY - box.top) / box.height;
    if (x < 0 || x >= 1 || y < 0 || y >= 1) return;
    showCross(parts, x, y);
    state.send({ plane: parts.view.plane, x, y });
  };
  parts.frame.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    parts.frame.setPointerCapture(event.pointerId);
    point(event);
  });
  parts.frame.addEventListener("pointermove", (event) => {
    if (parts.frame.hasPointerCapture(event.pointerId)) point(event);
  });
}

function showIndex(parts, index) {
  parts.index = index;
  parts.slider.value = index;
  parts.place.textContent = `slice ${index + 1} of ${parts.view.count}`;
}

function showCross(parts, x, y) {
  parts.canvas.style.setProperty("--x", `${100 * x}%`);
  parts.canvas.style.setProperty("--y", `${100 * y}%`);
}

function show(parts, view, tallest, held) {
  parts.view = view;
  parts.figure.style.flexGrow = view.width;
  parts.figure.dataset.view = view.key;
  parts.title.textContent = view.title;
  parts.title.style.setProperty("--swatch", view.colour || "transparent");
  parts.title.classList.toggle("plain", !view.colour);
  // Frames beside each other are equally tall, and pictures in them to one scale.
  parts.frame.style.aspectRatio = `${view.width} / ${tallest}`;
  parts.canvas.style.aspectRatio = `${view.width} / ${view.height}`;
  parts.frame.setAttribute("aria-label", `${view.title}: click to move the cross-hair, wheel or arrow keys for slices`);
  if (parts.image.src !== view.source) parts.image.src = view.source;
  parts.image.alt = `${view.title}, slice ${view.index + 1} of ${view.count}`;
  parts.letters.forEach((letter, side) => (letter.textContent = view.letters[side] || ""));
  parts.slider.max = view.count - 1;
  parts.slider.setAttribute("aria-label", `${view.title} slice`);
  parts.slider.hidden = parts.place.hidden = view.count < 2;
  const cross = view.cross ? "" : "none";
  parts.vertical.style.display = parts.horizontal.style.display = cross;
  if (held) return;
  showIndex(parts, view.index);
  showCross(parts, view.x, view.y);
}

export default function ({ parentElement, data, setTriggerValue }) {
  const root = parentElement.querySelector(".viewports");
  const legend = parentElement.querySelector(".legend");
  const state = states.get(root) || makeState(root);
  state.setTriggerValue = setTriggerValue;
  while (state.figures.length > data.views.length) state.figures.pop().figure.remove();
  while (state.figures.length < data.views.length) state.figures.push(makeFigure(root, state));
  // What the hand has moved on to meanwhile stays as it is.
  const held = state.pending !== null || state.dragging;
  const tallest = Math.max(...data.views.map((view) => view.height));
  data.views.forEach((view, place) => show(state.figures[place], view, tallest, held));
  legend.replaceChildren();
  for (const { colour, label } of data.legend) {
    const item = element("span", "item", legend);
    element("i", "swatch", item).style.background = colour;
    item.append(label);
  }
  root.dataset.serial = data.serial;
  if (state.busy) state.settle();
}
