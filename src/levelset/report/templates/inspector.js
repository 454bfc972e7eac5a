// The inspector beside the scatter: shows the dot pointed at, keeps the one that is pinned.

const inspector = document.querySelector("[data-inspector]");
let pointed = null;

const scatterIn = () => {
  const view = inspector.closest("section").querySelector(".view:not([hidden])");
  return view && { view, place: view.querySelector("[data-figure]") };
};

function inspect(row, view) {
  inspector.replaceChildren(card(Number(view.dataset.audit), view.dataset.norm, row));
  inspector.classList.toggle("pinned", choice.input !== null);
}

// Until a dot is pointed at: the input closest to another class, as an example.
function closestIn(view) {
  const { byName } = book.audits[Number(view.dataset.audit)];
  const distance = byName.get(`distance_${view.dataset.norm}`).values;
  const correct = byName.get("correct").values;
  let best = -1;
  distance.forEach((value, row) => {
    if (correct[row] && Number.isFinite(value) && !(value >= distance[best])) best = row;
  });
  return best;
}

function inspectExample(view, hint) {
  const row = closestIn(view);
  inspector.replaceChildren(...hint);
  if (row >= 0) inspector.append(card(Number(view.dataset.audit), view.dataset.norm, row));
}

// Draw a ring round the pinned dot, or none.
function mark({ view, place }, row) {
  const figure = figures.get(place);
  const columns = book.audits[Number(view.dataset.audit)].byName;
  const x = row === null ? [] : [columns.get("margin").values[row]];
  const y = row === null ? [] : [columns.get(`distance_${view.dataset.norm}`).values[row]];
  Object.assign(figure.data.at(-1), { x, y });
  if (figure.bound) Plotly.restyle(place, { x: [x], y: [y] }, [figure.data.length - 1]);
}

const unpin = () => { if (choice.input !== null) choose({ input: null }); };
const pin = (row) => choose({ input: choice.input === row ? null : row });

if (inspector && book) {
  const hint = [...inspector.childNodes];
  listeners.row.push((row, view) => {
    pointed = row;
    if (choice.input === null) inspect(row, view);
  });
  listeners.click.push(pin);
  listeners.choice.push((changed) => {
    if (!["audit", "norm", "input"].some((key) => key in changed)) return;
    const shown = scatterIn();
    if (!shown) return;
    const row = choice.input ?? pointed;
    if (row === null) inspectExample(shown.view, hint);
    else inspect(row, shown.view);
    inspector.classList.toggle("pinned", choice.input !== null);
    mark(shown, choice.input);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") unpin(); });
}
