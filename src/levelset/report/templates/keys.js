// Figures by keyboard: arrow keys move a cursor over points and cells, and turn scenes.

const cursor = document.createElement("div");
cursor.className = "cursor";
const spoken = document.createElement("p");
spoken.className = "unseen";
spoken.setAttribute("aria-live", "polite");
document.body.append(spoken);

// Numbers of a trace, be they an array or packed as base64.
const PACKED = { ...TYPES, i1: Int8Array, i2: Int16Array, u2: Uint16Array, u4: Uint32Array };
function numbersOf(values) {
  if (!values?.bdata) return Array.from(values ?? []);
  const bytes = Uint8Array.from(atob(values.bdata), (letter) => letter.charCodeAt(0));
  return Array.from(new PACKED[values.dtype](bytes.buffer));
}

// The points that a cursor can stand on: `{ curve, index, x, y, words }`.
function stopsOf({ data, layout }) {
  if (data.some(({ type }) => type === "heatmap")) return cellsOf(data);
  const rows = layout.meta?.hover === "row";
  const names = [layout.xaxis?.title?.text, layout.yaxis?.title?.text].map((name) => (name ?? "").replace(/<br>.*/, ""));
  return data.flatMap((trace, curve) => {
    if (trace.meta === "pin" || trace.mode === "none") return [];
    const x = numbersOf(trace.x), y = numbersOf(trace.y), keys = rows ? numbersOf(trace.customdata) : [];
    const told = (index) => {
      const start = trace.name && data.length > 1 ? `${trace.name}: ` : "";
      return `${start}${names[0]} ${formatted(x[index])}, ${names[1]} ${spokenShare(y[index], layout)}`;
    };
    return x.map((value, index) => ({ curve, index, x: value, y: y[index], row: keys[index], words: told(index) }))
      .filter((stop) => Number.isFinite(stop.x) && Number.isFinite(stop.y));
  });
}

const spokenShare = (value, layout) => (
  (layout.yaxis?.tickformat ?? "").endsWith("%") ? `${formatted(100 * value, 3)} %` : formatted(value)
);

function cellsOf([{ z, text, customdata }]) {
  return z.flatMap((line, y) => line.map((value, x) => ({
    curve: 0, index: [y, x], x, y, cell: customdata?.[y][x], words: `${text[y][x]}: ${value ?? 0} inputs`,
  })));
}

// The next stop in a direction. Cells: the neighbour. Dots: the next by margin, or by distance.
// Lines: the next on the same line, or the nearest on another.
function nextStop(stops, now, key, figure) {
  const step = key === "ArrowRight" || key === "ArrowUp" ? 1 : -1;
  const across = key !== "ArrowUp" && key !== "ArrowDown";
  if (now?.cell && key.startsWith("Arrow")) {
    const [dx, dy] = across ? [step, 0] : [0, -step];
    return stops.find(({ x, y }) => x === now.x + dx && y === now.y + dy);
  }
  const dots = figure.layout.meta?.hover === "row";
  if (now && !dots && !across) return onAnotherLine(stops, now, step);
  const curve = now?.curve ?? stops[0]?.curve, axis = across ? "x" : "y";
  const line = dots || now?.cell ? [...stops] : stops.filter((stop) => stop.curve === curve);
  if (!line[0]?.cell) line.sort((a, b) => a[axis] - b[axis] || a.curve - b.curve || a.index - b.index);
  if (key === "End") return line.at(-1);
  return now && key !== "Home" ? line[line.indexOf(now) + step] : line[0];
}

// The point nearest to this one, on the line before or after.
function onAnotherLine(stops, now, step) {
  const curves = [...new Set(stops.map(({ curve }) => curve))];
  const other = curves[curves.indexOf(now.curve) - step];
  return stops.filter(({ curve }) => curve === other).reduce((best, stop) => (
    !best || Math.abs(stop.x - now.x) < Math.abs(best.x - now.x) ? stop : best
  ), null);
}

// Put the cursor on a stop, as a ring round a point or a frame round a cell.
function setCursor(place, stop) {
  const { xaxis, yaxis, _size: size } = place._fullLayout;
  const at = (axis, value) => axis._offset + axis.d2p(value);
  const x = at(xaxis, stop.x), y = at(yaxis, stop.y);
  const half = stop.cell ? [at(xaxis, stop.x + 0.5) - x, at(yaxis, stop.y + 0.5) - y].map(Math.abs) : [8, 8];
  cursor.classList.toggle("cell", Boolean(stop.cell));
  Object.assign(cursor.style, {
    left: `${x - half[0]}px`, top: `${y - half[1]}px`,
    width: `${2 * half[0]}px`, height: `${2 * half[1]}px`,
  });
  const inside = x >= size.l - 8 && x <= size.l + size.w + 8 && y >= size.t - 8 && y <= size.t + size.h + 8;
  cursor.hidden = !inside;
  place.append(cursor);
}

function moveTo(place, figure, stop) {
  figure.stop = stop;
  setCursor(place, stop);
  if (stop.row !== undefined) tell("row", stop.row, place.closest(".view"));
  else if (!stop.cell) Plotly.Fx.hover(place, [{ curveNumber: stop.curve, pointNumber: stop.index }]);
  spoken.textContent = stop.row === undefined ? stop.words : `Input ${rowName(place, stop.row)}, ${stop.words}`;
}

const rowName = (place, row) => {
  const { byName } = book.audits[Number(place.closest(".view").dataset.audit)];
  return shown(byName.get("index"), row);
};

function leave(place, figure) {
  figure.stop = null;
  cursor.remove();
  if (figure.bound && !figure.layout.scene) Plotly.Fx.unhover(place);
}

// A scene: turned about its upward axis, raised, or brought nearer.
function turn(place, key) {
  const camera = place._fullLayout.scene._scene.getCamera(), { eye, up } = camera;
  const axis = ["x", "y", "z"].reduce((a, b) => (Math.abs(up[b]) > Math.abs(up[a]) ? b : a));
  const [a, b] = ["x", "y", "z"].filter((name) => name !== axis);
  const radius = Math.hypot(eye.x, eye.y, eye.z), flat = Math.hypot(eye[a], eye[b]);
  let around = Math.atan2(eye[b], eye[a]), raised = Math.atan2(eye[axis], flat), scale = 1;
  if (key === "ArrowLeft") around += 0.15;
  if (key === "ArrowRight") around -= 0.15;
  if (key === "ArrowUp") raised = Math.min(raised + 0.15, 1.5);
  if (key === "ArrowDown") raised = Math.max(raised - 0.15, -1.5);
  if (key === "+" || key === "=") scale = 1 / 1.15;
  if (key === "-") scale = 1.15;
  const r = radius * scale;
  const moved = {
    [a]: r * Math.cos(raised) * Math.cos(around), [b]: r * Math.cos(raised) * Math.sin(around),
    [axis]: r * Math.sin(raised),
  };
  Plotly.relayout(place, { "scene.camera": { ...camera, eye: moved } });
}

const MOVES = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"];

function pressed(event, place, figure) {
  const { key } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || !figure.bound) return;
  if (figure.layout.scene) {
    if (!MOVES.includes(key) && !["+", "=", "-"].includes(key)) return;
    event.preventDefault();
    turn(place, key);
  } else if (MOVES.includes(key)) {
    event.preventDefault();
    figure.stops ??= stopsOf(figure);
    const stop = nextStop(figure.stops, figure.stop, key, figure);
    if (stop) moveTo(place, figure, stop);
  } else if (figure.stop && (key === "Enter" || key === " ")) {
    event.preventDefault();
    if (figure.stop.row !== undefined) tell("click", figure.stop.row);
    if (figure.stop.cell) tell("border", ...figure.stop.cell, place.closest(".view"));
  } else if (key === "Escape") leave(place, figure);
}

for (const [place, figure] of figures) {
  place.addEventListener("keydown", (event) => pressed(event, place, figure));
  place.addEventListener("blur", () => leave(place, figure));
}
