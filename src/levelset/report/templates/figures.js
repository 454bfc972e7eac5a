// Figures: drawn once they come into view or go to paper, and coloured by the page.

const listeners = { row: [], click: [], border: [], choice: [], paper: [] };
const tell = (name, ...values) => listeners[name].forEach((listener) => listener(...values));
const root = document.documentElement;
const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
const onPaper = () => root.classList.contains("paper");
const byTouch = matchMedia("(pointer: coarse)").matches;
const NARROW = 480;

const figures = new Map();

// The words at an axis, broken into lines that the axis has room for.
const ruler = document.createElement("canvas").getContext("2d");
function wrapped(text, room, size) {
  ruler.font = `${size}px ${colour("--sans")}`;
  const lines = [];
  for (const part of text.split("<br>")) {
    let line = "";
    for (const word of part.split(" ")) {
      const longer = line ? `${line} ${word}` : word;
      if (line && ruler.measureText(longer).width > room) {
        lines.push(line);
        line = word;
      } else line = longer;
    }
    lines.push(line);
  }
  return lines.join("<br>");
}

function themedAxis(axis, room, size) {
  const line = colour("--line"), title = axis.title?.text;
  const words = title ? { ...axis.title, text: wrapped(title, room, size + 1), font: { size: size + 1 } } : axis.title;
  return { ...axis, title: words, gridcolor: line, linecolor: line, zerolinecolor: line };
}

function themedScene(scene, narrow) {
  if (!narrow || !scene.camera) return scene;
  const eye = Object.fromEntries(Object.entries(scene.camera.eye).map(([k, v]) => [k, 1.25 * v]));
  return { ...scene, camera: { ...scene.camera, eye } };
}

function themedLayout(layout, width, height) {
  const ink = colour("--ink"), line = colour("--line"), surface = colour("--surface");
  const narrow = width < NARROW, size = narrow ? 12 : 13, clear = "rgba(0,0,0,0)";
  const { l = 64, r = 16, t = 40, b = 56 } = layout.margin ?? {};
  const themed = {
    ...layout,
    width,
    height,
    uirevision: "page",
    paper_bgcolor: clear,
    plot_bgcolor: clear,
    font: { ...layout.font, family: colour("--sans"), size, color: ink },
    margin: { l: narrow ? Math.min(l, 52) : l, r, t, b },
    modebar: { bgcolor: clear, color: colour("--faint"), activecolor: colour("--accent") },
    hoverlabel: { bgcolor: surface, bordercolor: line, font: { color: ink }, align: "left" },
  };
  if (layout.legend?.title) themed.legend = { ...layout.legend, title: { ...layout.legend.title, font: { size } } };
  // A finger that moves over a figure scrolls the page.
  if (byTouch && !layout.scene) themed.dragmode = false;
  if (layout.scene) themed.scene = themedScene(layout.scene, narrow);
  const axes = Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key));
  for (const axis of new Set(["xaxis", "yaxis", ...axes])) {
    const room = axis.startsWith("x") ? width - themed.margin.l - r : height - t - b;
    themed[axis] = themedAxis(layout[axis] ?? {}, room, size);
  }
  return themed;
}

function themedTraces(traces, width) {
  return traces.map((trace) => {
    if (trace.meta === "ramp") {
      return {
        ...trace,
        colorscale: [[0, colour("--ramp-low")], [1, colour("--ramp-high")]],
        textfont: { color: colour("--ramp-ink") },
        // Where each cell bears its number, the scale may go.
        showscale: width >= NARROW || !trace.texttemplate,
      };
    }
    if (trace.meta === "pin") return { ...trace, marker: { ...trace.marker, color: colour("--ink") } };
    // Paper takes no picture of a WebGL canvas.
    return onPaper() && trace.type === "scattergl" ? { ...trace, type: "scatter" } : trace;
  });
}

const CONFIG = {
  displaylogo: false,
  displayModeBar: "hover",
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
};

function draw(place) {
  const figure = figures.get(place), { clientWidth: width, clientHeight: height } = place;
  if (!width) return;
  figure.width = width;
  const config = figure.layout.scene ? { ...CONFIG, modeBarButtons: [["toImage", "resetCameraDefault3d"]] } : CONFIG;
  Plotly.react(
    place, themedTraces(figure.data, width), themedLayout(figure.layout, width, height), config,
  ).then(() => { if (!figure.bound) bind(place, figure); });
}

function bind(place, figure) {
  figure.bound = true;
  const meta = figure.layout.meta || {};
  const view = place.closest(".view");
  const row = (event) => event.points[0].customdata;
  if (meta.hover === "row") {
    place.on("plotly_hover", (event) => tell("row", row(event), view));
    place.on("plotly_click", (event) => tell("click", row(event)));
  }
  if (meta.click === "border") {
    place.on("plotly_click", (event) => tell("border", ...row(event), view));
  }
  if (meta.camera) {
    for (const event of ["plotly_relayouting", "plotly_relayout"]) {
      place.on(event, (changed) => turnTogether(place, meta.camera, changed["scene.camera"]));
    }
  }
}

// Scenes of one name turn together. `turning` stops the others from answering.
let turning = false;
function turnTogether(place, name, camera) {
  if (turning || !camera) return;
  turning = true;
  const others = [...figures].filter(([other, { layout, bound }]) => (
    other !== place && bound && layout.meta?.camera === name
  ));
  Promise.all(others.map(([other]) => Plotly.relayout(other, { "scene.camera": camera })))
    .finally(() => { turning = false; });
}

const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const figure = figures.get(target);
    if (figure.bound && !onPaper() && target.clientWidth !== figure.width) draw(target);
  }
});

const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    sight.unobserve(target);
    draw(target);
    sizes.observe(target);
  }
}, { rootMargin: "600px" });

for (const place of document.querySelectorAll("[data-figure]")) {
  const source = place.querySelector("script");
  figures.set(place, { ...JSON.parse(source.textContent), bound: false });
  source.remove();
  sight.observe(place);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const [place, figure] of figures) if (figure.bound) draw(place);
});

// Paper: all that is shown is drawn at its width, in light colours, whether it was in view or not.
function copyScene(place) {
  const plot = place._fullLayout?.scene?._scene?.glplot;
  if (!plot) return;
  plot.redraw();
  const copy = document.createElement("canvas");
  copy.className = "printed";
  copy.width = plot.canvas.width;
  copy.height = plot.canvas.height;
  copy.getContext("2d").drawImage(plot.canvas, 0, 0);
  place.append(copy);
}

function toPaper() {
  if (onPaper()) return;
  root.classList.add("paper");
  tell("paper");
  for (const [place, figure] of figures) {
    draw(place);
    if (figure.layout.scene) copyScene(place);
  }
}

function toScreen() {
  root.classList.remove("paper");
  for (const copy of document.querySelectorAll(".printed")) copy.remove();
  for (const [place, figure] of figures) {
    if (!figure.width) continue;
    draw(place);
    sizes.observe(place);
  }
}

addEventListener("beforeprint", toPaper);
addEventListener("afterprint", toScreen);
matchMedia("print").addEventListener("change", ({ matches }) => (matches ? toPaper() : toScreen()));
