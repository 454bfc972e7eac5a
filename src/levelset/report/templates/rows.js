// The rows of the audits: typed columns, pictures cut from the sheets, cards that describe a row.

const TYPES = { u1: Uint8Array, i4: Int32Array, f4: Float32Array, f8: Float64Array };

function decode({ type, data }) {
  const letters = atob(data), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i += 1) bytes[i] = letters.charCodeAt(i);
  return new TYPES[type](bytes.buffer);
}

const source = document.getElementById("book");
const book = source ? JSON.parse(source.textContent) : null;
if (source) source.remove();

// Of columns that no measure declares.
const KINDS = { u1: "bool", i4: "integer", f4: "number", f8: "number" };

if (book) {
  for (const audit of book.audits) {
    audit.columns = audit.columns.map((column) => ({
      name: column.name,
      single: column.type === "f4",
      kind: column.kind ?? KINDS[column.type],
      norm: column.norm,
      minor: Boolean(column.minor),
      about: column.about ?? "",
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

// A sheet. Its picture is fetched at once, so that the page is loaded only when it is there; it is
// decoded when the first cut of it is asked for: `await ready()`, or `now()` where none can wait.
function sheet(uri) {
  if (!sheets.has(uri)) {
    const image = new Image();
    const made = { context: null };
    made.ready = () => (made.context ? null : image.decode().then(made.now));
    made.now = () => { if (!made.context && image.complete) open(made, image); };
    image.src = uri;
    sheets.set(uri, made);
  }
  return sheets.get(uri);
}

function open(made, image) {
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  made.context = canvas.getContext("2d", { willReadFrequently: true });
  made.context.drawImage(image, 0, 0);
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

// The sheets that a picture is made of.
function sheetsOf(kind, audit, norm, row) {
  const made = [sheet(pictures.inputs)];
  if (kind !== "input" && !Number.isNaN(scaleOf(audit, norm, row))) {
    made.push(sheet(stepsOf(audit, norm).sheet));
  }
  return made;
}

function paintNow(canvas, kind, audit, norm, row) {
  const [inputs, steps] = sheetsOf(kind, audit, norm, row), slot = slots.get(row);
  if (kind !== "input" && !steps) return;
  const image = cut(inputs.context, slot);
  if (steps) {
    const step = cut(steps.context, slot).data;
    if (kind === "witness") paintWitness(image.data, step, scaleOf(audit, norm, row));
    else paintDifference(image.data, step);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

async function paint(canvas, kind, audit, norm, row) {
  canvas.width = pictures.width;
  canvas.height = pictures.height;
  canvas.style.aspectRatio = `${pictures.width} / ${pictures.height}`;
  await Promise.all(sheetsOf(kind, audit, norm, row).map(({ ready }) => ready()));
  paintNow(canvas, kind, audit, norm, row);
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
  return book.audits[audit].columns.filter((column) => [undefined, norm].includes(column.norm));
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
    const end = column.norm ? column.norm.length + 1 : 0;
    const words = column.name.slice(0, column.name.length - end).replaceAll("_", " ");
    list.append(element("dt", { title: column.about }, words), element("dd", {}, shown(column, row)));
  }
  made.append(list);
  return made;
}

// The galleries: painted when they come into view, or go to paper.
const placeOf = ({ kind, audit, norm, row }) => [kind, Number(audit), norm, Number(row)];
const painter = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    painter.unobserve(target);
    paint(target, ...placeOf(target.dataset));
  }
}, { rootMargin: "400px" });

function startGalleries() {
  document.body.classList.toggle("smooth", Math.max(pictures.width, pictures.height) > 72);
  const canvases = [...document.querySelectorAll("canvas[data-kind]")];
  for (const canvas of canvases) {
    canvas.style.aspectRatio = `${pictures.width} / ${pictures.height}`;
    painter.observe(canvas);
    // The page is loaded once its pictures are: paper then need not wait for them.
    sheetsOf(...placeOf(canvas.dataset));
  }
  listeners.paper.push(() => {
    for (const canvas of canvases) {
      const place = placeOf(canvas.dataset), made = sheetsOf(...place);
      for (const { now } of made) now();
      if (!canvas.closest("[hidden]") && made.every(({ context }) => context)) {
        canvas.width = pictures.width;
        canvas.height = pictures.height;
        paintNow(canvas, ...place);
      }
    }
  });
  for (const { dataset, firstChild } of document.querySelectorAll("[data-scale]")) {
    const scale = scaleOf(Number(dataset.audit), dataset.norm, Number(dataset.row));
    firstChild.data = `scale ${scaleWords(scale)}`;
  }
}

if (pictures) startGalleries();
