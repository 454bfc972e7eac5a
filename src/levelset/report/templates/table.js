// The table of all rows: search, sort, pages, a preview of the row pointed at, download.

const table = document.querySelector("[data-rows]");
const PAGE = 25;

// The place of each class in the order of their names, "9" before "10".
function namePlaces() {
  const { compare } = new Intl.Collator("en", { numeric: true });
  const order = book.classes.map((_, i) => i).sort((i, j) => compare(book.classes[i], book.classes[j]));
  const places = [];
  order.forEach((number, place) => { places[number] = place; });
  return places;
}

function startTable() {
  const places = namePlaces();
  const search = table.querySelector("[data-search]");
  const state = table.querySelector("[data-state]");
  const head = table.querySelector("[data-head]");
  const body = table.querySelector("[data-body]");
  const preview = document.querySelector("[data-preview]");
  let rows = [], page = 0, understood = "";
  const audit = () => book.audits[choice.audit];
  const norm = () => (audit().norms.includes(choice.norm) ? choice.norm : audit().norms[0]);
  const pages = () => Math.max(1, Math.ceil(rows.length / PAGE));
  const sorted = () => ({ name: choice.sort.replace(/^-/, ""), down: choice.sort.startsWith("-") });
  const read = (text) => readQuery(text, { columns: audit().columns, classes: book.classes, norm: norm(), shown });

  // A search that is not understood leaves the rows of the last one that was.
  function find() {
    const count = audit().columns[0].values.length;
    let query = null, message = "";
    try {
      query = read(choice.search);
      understood = choice.search;
    } catch (error) {
      message = error.message;
      try { query = read(understood); } catch { query = read(understood = ""); }
    }
    rows = Array.from({ length: count }, (_, row) => row).filter(query.test);
    const found = `${rows.length.toLocaleString("en")} of ${count.toLocaleString("en")} input${count === 1 ? "" : "s"}`;
    const words = query.words ? `${found}: ${query.words}` : found;
    state.textContent = message ? `Not understood: ${message} Shown: ${words}.` : words;
    state.classList.toggle("wrong", Boolean(message));
    page = 0;
    order();
  }

  function order() {
    const { name, down } = sorted();
    const column = audit().byName.get(name);
    const last = (value) => Number.isNaN(value);
    if (column) {
      const { values, kind } = column;
      const key = kind === "class" ? (row) => places[values[row]] ?? -1 : (row) => values[row];
      const compared = (a, b) => (down ? -1 : 1) * ((key(a) > key(b)) - (key(a) < key(b)));
      rows.sort((a, b) => last(key(a)) - last(key(b)) || compared(a, b) || a - b);
    }
    fill();
  }

  function headings() {
    const cells = columnsOf(choice.audit, norm()).map(({ name, kind, minor, about }) => {
      const button = element("button", { type: "button", title: about }, name);
      const cell = element("th", { scope: "col", "data-name": name }, button);
      cell.classList.toggle("minor", minor);
      cell.classList.toggle("number", kind === "number" || kind === "integer");
      button.addEventListener("click", () => {
        choose({ sort: choice.sort === name ? `-${name}` : name });
      });
      return cell;
    });
    if (pictures) cells.unshift(element("th", { scope: "col" }, "picture"));
    head.replaceChildren(element("tr", {}, ...cells));
  }

  function line(row) {
    const cells = columnsOf(choice.audit, norm()).map((column) => {
      const cell = element("td", {}, shown(column, row));
      cell.classList.toggle("number", column.kind === "number" || column.kind === "integer");
      cell.classList.toggle("wrong", column.kind === "bool" && !column.values[row]);
      cell.classList.toggle("minor", column.minor);
      if (cell.textContent.length > 24) cell.title = cell.textContent;
      return cell;
    });
    if (pictures) {
      const words = `Input ${shown(audit().byName.get("index"), row)}`;
      const inside = slots.has(row) ? [picture("input", choice.audit, norm(), row, words)] : ["–"];
      cells.unshift(element("td", { class: "thumbnail" }, ...inside));
    }
    return element("tr", { tabindex: "-1", "data-row": row }, ...cells);
  }

  function fill() {
    hide();
    const start = page * PAGE;
    body.replaceChildren(...rows.slice(start, start + PAGE).map(line));
    if (body.firstChild) body.firstChild.tabIndex = 0;
    else body.append(element("tr", {}, element("td", { colspan: "99" }, "No input matches.")));
    for (const cell of head.querySelectorAll("[data-name]")) {
      if (cell.dataset.name === sorted().name) cell.ariaSort = sorted().down ? "descending" : "ascending";
      else cell.ariaSort = "none";
    }
    table.querySelector("[data-where]").textContent = `Page ${page + 1} of ${pages()}`;
    for (const button of table.querySelectorAll("[data-page]")) {
      const back = ["first", "previous"].includes(button.dataset.page);
      button.disabled = back ? page === 0 : page === pages() - 1;
    }
  }

  function show(target, left) {
    const box = target.getBoundingClientRect();
    preview.replaceChildren(card(choice.audit, norm(), Number(target.dataset.row)));
    preview.hidden = false;
    preview.classList.toggle("left", left);
    const top = Math.min(box.top, innerHeight - preview.offsetHeight - 12);
    preview.style.top = `${Math.max(12, top)}px`;
  }

  function hide() { preview.hidden = true; }

  const rowOf = (event) => event.target.closest("tr[data-row]");
  body.addEventListener("mouseover", (event) => {
    const target = rowOf(event);
    if (target) show(target, event.clientX > innerWidth / 2);
  });
  body.addEventListener("mouseleave", hide);
  body.addEventListener("focusin", (event) => { if (rowOf(event)) show(rowOf(event), false); });
  body.addEventListener("focusout", hide);
  body.addEventListener("click", (event) => { if (rowOf(event)) rowOf(event).focus(); });
  body.addEventListener("keydown", (event) => {
    const target = rowOf(event);
    if (event.key === "Escape") hide();
    const next = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (!next || !target || !target[next]) return;
    event.preventDefault();
    target.tabIndex = -1;
    target[next].tabIndex = 0;
    target[next].focus();
  });
  // While a search is typed its address changes in place; a pause makes a step to go back to.
  let typed = 0, settled = "";
  search.addEventListener("input", () => {
    clearTimeout(typed);
    const first = settled === choice.search;
    choose({ search: search.value }, first ? "push" : "replace");
    typed = setTimeout(() => { settled = choice.search; }, 1000);
  });
  document.addEventListener("keydown", (event) => {
    const writing = event.target.closest("input:not([type=radio]), textarea, select, [contenteditable]");
    if (event.key !== "/" || writing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    table.closest("section").scrollIntoView();
    search.focus({ preventScroll: true });
    search.select();
  });
  for (const button of table.querySelectorAll("[data-page]")) {
    button.addEventListener("click", () => {
      const to = { first: 0, previous: page - 1, next: page + 1, last: pages() - 1 };
      page = to[button.dataset.page];
      fill();
    });
  }
  table.querySelector("[data-download]").addEventListener("click", () => {
    const link = element("a", { download: `${audit().name.replace(/[^\w-]+/g, "-")}.csv` });
    link.href = URL.createObjectURL(new Blob([csvOf(audit(), book.classes, rows)], { type: "text/csv;charset=utf-8" }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  listeners.choice.push((changed) => {
    if (search.value !== choice.search) search.value = settled = choice.search;
    const shows = "audit" in changed || "norm" in changed;
    if (shows) headings();
    if (shows || "search" in changed) find();
    else if ("sort" in changed) {
      page = 0;
      order();
    }
  });
  listeners.border.push((row, column, view) => {
    const words = (number) => `"${book.classes[number].replace(/["\\]/g, "\\$&")}"`;
    const nearest = `nearest_class_${view.dataset.norm}:${words(column)}`;
    choose({ search: `prediction:${words(row)} ${nearest} correct:true` });
    table.closest("section").scrollIntoView();
    search.focus({ preventScroll: true });
  });
}

if (book && table) startTable();
restore();
