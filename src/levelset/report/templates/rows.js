// The rows of the audits: typed columns, pictures cut from the sheets, cards that describe a row.

const TYPES = { u1: Uint8Array, i4: Int32Array, f4: Float32Array, f8: Float64Array };

function decode({ type, data }) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  return new TYPES[type](bytes.buffer);
}

const source = document.getElementById("book");
const book = source ? JSON.parse(source.textContent) : null;
if (source) source.remove();

function kindOf(name, type) {
  if (name === "label" || name === "prediction" || name.startsWith("nearest_class") || name.endsWith("_rival")) return "class";
  return { u1: "bool", i4: "integer", f4: "number", f8: "number" }[type];
}

if (book) {
  for (const audit of book.audits) {
    audit.columns = audit.columns.map((column) => ({
      name: column.name,
      single: column.type === "f4",
      kind: kindOf(column.name, column.type),
      values: decode(column),
    }));
    audit.byName = new Map(audit.columns.map((column) => [column.name, column]));
  }
}

const className = (number) => (number < 0 ? "none" : book.classes[number] ?? String(number));

function formatted(value, digits = 4) {
  if (Number.isNaN(value)) return "none";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  return String(Number(value.toPrecision(digits))).replace("-", "−");
}

function shown(column, row) {
  const value = column.values[row];
  if (column.kind === "class") return className(value);
  if (column.kind === "bool") return value ? "yes" : "no";
  return formatted(value);
}

// Pictures. A sheet is decoded once, when the first picture of it is asked for.
const pictures = book && book.pictures;
const slots = new Map();
if (pictures) {
  decode(pictures.rows).forEach((row, slot) => slots.set(row, slot));
  for (const steps of pictures.steps.flat()) steps.scales = decode(steps.scales);
}
const sheets = new Map();

function sheet(uri) {
  if (!sheets.has(uri)) {
    const image = new Image();
    image.src = uri;
    sheets.set(uri, image.decode().then(() => {
      const canvas = document.createElement("canvas");
      canvas.width = image.naturalWidth;
      canvas.height = image.naturalHeight;
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0);
      return context;
    }));
  }
  return sheets.get(uri);
}

function cut(context, slot) {
  const { width, height, columns } = pictures;
  const x = (slot % columns) * width, y = Math.floor(slot / columns) * height;
  return context.getImageData(x, y, width, height);
}

const stepsOf = (audit, norm) => pictures.steps[audit][book.audits[audit].norms.indexOf(norm)];

function scaleOf(audit, norm, row) {
  const steps = slots.has(row) && stepsOf(audit, norm);
  return steps ? steps.scales[slots.get(row)] : NaN;
}

// Blue below zero, white at zero, red above: `t` from -1 to 1.
const ENDS = { below: [33, 102, 172], above: [178, 24, 43] };
function diverging(t) {
  const end = t < 0 ? ENDS.below : ENDS.above;
  return end.map((value) => 255 + (value - 255) * Math.abs(t));
}

function paintDifference(data, step) {
  for (let i = 0; i < data.length; i += 4) {
    let largest = 0;
    for (let c = 0; c < 3; c += 1) {
      const t = (step[i + c] - 127) / 127;
      if (Math.abs(t) > Math.abs(largest)) largest = t;
    }
    data.set(diverging(largest), i);
  }
}

function paintWitness(data, step, scale) {
  const [low, high] = pictures.range;
  for (let i = 0; i < data.length; i += 1) {
    if (i % 4 === 3) continue;
    data[i] += (((step[i] - 127) / 127) * scale * 255) / (high - low);
  }
}

async function paint(canvas, kind, audit, norm, row) {
  const { width, height } = pictures, slot = slots.get(row);
  canvas.width = width;
  canvas.height = height;
  canvas.style.aspectRatio = `${width} / ${height}`;
  const token = (canvas.token = {});
  const image = cut(await sheet(pictures.inputs), slot);
  const scale = scaleOf(audit, norm, row);
  if (kind !== "input") {
    if (Number.isNaN(scale)) return;
    const step = cut(await sheet(stepsOf(audit, norm).sheet), slot).data;
    if (kind === "witness") paintWitness(image.data, step, scale);
    else paintDifference(image.data, step);
  }
  if (canvas.token === token) canvas.getContext("2d").putImageData(image, 0, 0);
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function picture(kind, audit, norm, row, words) {
  const canvas = element("canvas", { role: "img", "aria-label": words });
  paint(canvas, kind, audit, norm, row);
  return canvas;
}

const scaleWords = (scale) => (Number.isNaN(scale) ? "" : `± ${formatted(scale, 3)}`);

// The columns of one norm, and those of none.
function columnsOf(audit, norm) {
  const { columns, norms } = book.audits[audit];
  const others = norms.filter((other) => other !== norm).map((other) => `_${other}`);
  return columns.filter(({ name }) => !others.some((end) => name.endsWith(end)));
}

function card(audit, norm, row) {
  const { byName } = book.audits[audit];
  const of = (name) => shown(byName.get(name), row);
  const made = element("div", { class: "facts" });
  made.append(element("h3", {}, `Input ${of("index")}`));
  if (slots.has(row)) {
    const scale = scaleOf(audit, norm, row);
    const kinds = Number.isNaN(scale) ? ["input"] : ["input", "witness", "difference"];
    made.append(element("div", { class: "triple" }, ...kinds.map((kind) => element(
      "figure", {},
      picture(kind, audit, norm, row, `${kind} ${of("index")}`),
      element("figcaption", {}, kind === "difference" ? scaleWords(scale) : kind),
    ))));
  } else if (pictures) {
    made.append(element("p", { class: "hint" }, "This file holds no picture of it."));
  }
  const list = element("dl");
  for (const column of columnsOf(audit, norm)) {
    if (column.name === "index") continue;
    const words = column.name.replace(new RegExp(`_${norm}$`), "").replaceAll("_", " ");
    list.append(element("dt", {}, words), element("dd", {}, shown(column, row)));
  }
  made.append(list);
  return made;
}

// The galleries: painted when they come into view.
const painter = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    painter.unobserve(target);
    const { kind, audit, norm, row } = target.dataset;
    paint(target, kind, Number(audit), norm, Number(row));
  }
}, { rootMargin: "400px" });

if (book) {
  if (pictures) {
    const large = Math.max(pictures.width, pictures.height) > 72;
    document.body.classList.toggle("smooth", large);
    for (const canvas of document.querySelectorAll("canvas[data-kind]")) {
      canvas.style.aspectRatio = `${pictures.width} / ${pictures.height}`;
      painter.observe(canvas);
    }
    for (const { dataset, firstChild } of document.querySelectorAll("[data-scale]")) {
      const scale = scaleOf(Number(dataset.audit), dataset.norm, Number(dataset.row));
      firstChild.data = `scale ${scaleWords(scale)}`;
    }
  }
}

// The inspector beside the scatter: shows the dot pointed at, keeps the one clicked.
const inspector = document.querySelector("[data-inspector]");
let pinned = null;
let pointed = null;

function inspect(row, view) {
  inspector.replaceChildren(card(Number(view.dataset.audit), view.dataset.norm, row));
  inspector.classList.toggle("pinned", pinned !== null);
}

function mark(place, row) {
  const figure = figures.get(place), view = place.closest(".view");
  const columns = book.audits[Number(view.dataset.audit)].byName;
  const x = row === null ? [] : [columns.get("margin").values[row]];
  const y = row === null ? [] : [columns.get(`distance_${view.dataset.norm}`).values[row]];
  Object.assign(figure.data.at(-1), { x, y });
  Plotly.restyle(place, { x: [x], y: [y] }, [figure.data.length - 1]);
}

function unpin() {
  if (!pinned) return;
  const { place } = pinned;
  pinned = null;
  mark(place, null);
  inspector.classList.remove("pinned");
  if (pointed && !pointed[1].hidden) inspect(...pointed);
}

listeners.row.push((row, view) => {
  pointed = [row, view];
  if (!pinned) inspect(row, view);
});
listeners.click.push((row, view, place) => {
  const again = pinned && pinned.row === row;
  unpin();
  if (again) return;
  pinned = { row, place };
  mark(place, row);
  inspect(row, view);
});
listeners.choice.push(() => {
  unpin();
  if (!pointed) return;
  pointed[1] = pointed[1].parentNode.querySelector(".view:not([hidden])");
  inspect(...pointed);
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") unpin(); });
