// Figures, drawn once they come into view and coloured by the page; the choices of model and norm.

const listeners = { row: [], click: [], border: [], choice: [] };
const tell = (name, ...values) => listeners[name].forEach((listener) => listener(...values));
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function themedLayout(layout) {
  const ink = colour("--ink"), line = colour("--line"), surface = colour("--surface");
  const themed = {
    ...layout,
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { ...layout.font, family: colour("--sans"), size: 13, color: ink },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--faint"), activecolor: colour("--accent") },
    hoverlabel: { bgcolor: surface, bordercolor: line, font: { color: ink }, align: "left" },
  };
  const axes = Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key));
  for (const axis of new Set(["xaxis", "yaxis", ...axes])) {
    themed[axis] = { ...layout[axis], gridcolor: line, linecolor: line, zerolinecolor: line };
  }
  return themed;
}

function themedTraces(traces) {
  return traces.map((trace) => {
    if (trace.meta === "ramp") {
      return { ...trace, colorscale: [[0, colour("--ramp-low")], [1, colour("--ramp-high")]] };
    }
    if (trace.meta === "pin") {
      return { ...trace, marker: { ...trace.marker, color: colour("--ink") } };
    }
    return trace;
  });
}

const figures = new Map();

function draw(place) {
  const figure = figures.get(place);
  const config = {
    displaylogo: false,
    displayModeBar: "hover",
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  };
  figure.drawn = Plotly.react(
    place, themedTraces(figure.data), themedLayout(figure.layout), config,
  ).then(() => { if (!figure.bound) bind(place, figure); });
}

function bind(place, figure) {
  figure.bound = true;
  const meta = figure.layout.meta || {};
  const view = place.closest(".view");
  const row = (event) => event.points[0].customdata;
  if (meta.hover === "row") {
    place.on("plotly_hover", (event) => tell("row", row(event), view));
    place.on("plotly_click", (event) => tell("click", row(event), view, place));
  }
  if (meta.click === "border") {
    place.on("plotly_click", (event) => tell("border", ...row(event), view));
  }
}

const sizes = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    const figure = figures.get(target);
    if (figure.bound && contentRect.width > 0) Plotly.Plots.resize(target);
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

// One choice of model and norm holds for the whole page.
const choice = { audit: 0, norm: null };

function choose(changed) {
  Object.assign(choice, changed);
  for (const input of document.querySelectorAll("[data-choice]")) {
    input.checked = input.value === String(choice[input.dataset.choice]);
  }
  for (const group of new Set([...document.querySelectorAll(".view")].map((v) => v.parentNode))) {
    const views = [...group.children];
    const same = views.filter((view) => Number(view.dataset.audit) === choice.audit);
    const shown = same.find((view) => view.dataset.norm === choice.norm) || same[0];
    for (const view of views) view.hidden = view !== shown;
  }
  tell("choice");
}

for (const input of document.querySelectorAll("[data-choice]")) {
  input.addEventListener("change", () => {
    const { choice: name } = input.dataset;
    choose({ [name]: name === "audit" ? Number(input.value) : input.value });
  });
}

// The navigation marks the section that is being read.
const links = new Map(
  [...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]),
);
const reading = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    for (const [name, link] of links) {
      if (name === target.id) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    const link = links.get(target.id);
    const bar = link.closest("ul");
    bar.scrollTo({ left: link.offsetLeft - bar.clientWidth / 2 + link.clientWidth / 2 });
  }
}, { rootMargin: "-20% 0px -75% 0px" });
for (const section of document.querySelectorAll("main > section")) reading.observe(section);
