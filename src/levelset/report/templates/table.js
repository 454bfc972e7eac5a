// The table of all rows: search, sort, pages, a preview of the row pointed at, download.

const table = document.querySelector("[data-rows]");
const PAGE = 25;

function conditions(query, audit) {
  const pattern = /([A-Za-z_]\w*)(:|<=|>=|<|>)("[^"]*"|\S+)|"([^"]*)"|(\S+)/g;
  const tests = [];
  for (const [, name, sign, value, quoted, word] of query.matchAll(pattern)) {
    if (name === undefined) tests.push(contains((quoted ?? word).toLowerCase(), audit));
    else {
      const column = audit.byName.get(name.toLowerCase());
      if (!column) throw new Error(`There is no column “${name}”.`);
      tests.push(compares(column, sign, value.replaceAll('"', "").toLowerCase()));
    }
  }
  return tests;
}

function contains(word, audit) {
  const searched = audit.columns.filter(({ kind, name }) => kind === "class" || name === "index");
  return (row) => searched.some((column) => shown(column, row).toLowerCase().includes(word));
}

const ORDERS = {
  "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b,
};

function compares(column, sign, word) {
  const { values, kind } = column;
  if (sign !== ":") {
    const limit = word === "inf" ? Infinity : Number(word);
    if (Number.isNaN(limit)) throw new Error(`“${word}” is no number to compare with.`);
    return (row) => ORDERS[sign](values[row], limit);
  }
  if (kind === "bool") {
    const wanted = ["true", "yes", "1"].includes(word) ? 1 : 0;
    return (row) => values[row] === wanted;
  }
  if (kind === "class") {
    const named = book.classes.flatMap((name, i) => (name.toLowerCase() === word ? [i] : []));
    const wanted = new Set(named.length ? named : [word === "none" ? -1 : Number(word)]);
    return (row) => wanted.has(values[row]);
  }
  const number = word === "inf" || word === "∞" ? Infinity : Number(word);
  return (row) => values[row] === number || shown(column, row) === word;
}

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
  let rows = [], page = 0, sort = { name: "index", down: false };
  const audit = () => book.audits[choice.audit];
  const norm = () => (audit().norms.includes(choice.norm) ? choice.norm : audit().norms[0]);
  const pages = () => Math.max(1, Math.ceil(rows.length / PAGE));

  function find() {
    const count = audit().columns[0].values.length;
    try {
      const tests = conditions(search.value, audit());
      rows = [];
      for (let row = 0; row < count; row += 1) {
        if (tests.every((test) => test(row))) rows.push(row);
      }
      state.textContent = `${rows.length.toLocaleString("en")} of ${count.toLocaleString("en")} input${count === 1 ? "" : "s"}`;
      state.classList.remove("wrong");
    } catch (error) {
      const known = audit().columns.map((column) => column.name).join(", ");
      state.textContent = `${error.message} Columns: ${known}.`;
      state.classList.add("wrong");
    }
    page = 0;
    order();
  }

  function order() {
    const column = audit().byName.get(sort.name);
    const last = (value) => Number.isNaN(value);
    if (column) {
      const { values, kind } = column;
      const key = kind === "class" ? (row) => places[values[row]] ?? -1 : (row) => values[row];
      const compared = (a, b) => last(key(a)) - last(key(b)) || (key(a) > key(b)) - (key(a) < key(b));
      rows.sort((a, b) => (sort.down ? -1 : 1) * compared(a, b) || a - b);
    }
    fill();
  }

  function headings() {
    const cells = columnsOf(choice.audit, norm()).map(({ name }) => {
      const button = element("button", { type: "button" }, name);
      const cell = element("th", { scope: "col", "data-name": name }, button);
      button.addEventListener("click", () => {
        sort = { name, down: sort.name === name && !sort.down };
        page = 0;
        order();
      });
      return cell;
    });
    if (pictures) cells.unshift(element("th", { scope: "col" }, "picture"));
    head.replaceChildren(element("tr", {}, ...cells));
  }

  function line(row) {
    const cells = columnsOf(choice.audit, norm()).map((column) => {
      const cell = element("td", {}, shown(column, row));
      if (column.kind === "number" || column.kind === "integer") cell.className = "number";
      if (column.kind === "bool" && !column.values[row]) cell.className = "wrong";
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
      if (cell.dataset.name === sort.name) cell.ariaSort = sort.down ? "descending" : "ascending";
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
  search.addEventListener("input", find);
  for (const button of table.querySelectorAll("[data-page]")) {
    button.addEventListener("click", () => {
      const to = { first: 0, previous: page - 1, next: page + 1, last: pages() - 1 };
      page = to[button.dataset.page];
      fill();
    });
  }
  table.querySelector("[data-download]").addEventListener("click", () => {
    const link = element("a", { download: `${audit().name.replace(/[^\w-]+/g, "-")}.csv` });
    link.href = URL.createObjectURL(new Blob([csv(audit(), rows)], { type: "text/csv" }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  listeners.choice.push(() => { headings(); find(); });
  listeners.border.push((row, column, view) => {
    const words = (number) => `"${book.classes[number]}"`;
    const nearest = `nearest_class_${view.dataset.norm}:${words(column)}`;
    search.value = `prediction:${words(row)} ${nearest} correct:true`;
    find();
    table.closest("section").scrollIntoView();
    search.focus({ preventScroll: true });
  });
}

function csv({ columns }, rows) {
  const text = ({ values, kind, single }, row) => {
    if (kind === "bool") return values[row] ? "true" : "false";
    const value = single ? Number(values[row].toPrecision(9)) : values[row];
    return String(value).replace("Infinity", "inf").replace("NaN", "nan");
  };
  const lines = rows.map((row) => columns.map((column) => text(column, row)).join(","));
  return [columns.map(({ name }) => name).join(","), ...lines].join("\n") + "\n";
}

if (book && table) {
  startTable();
  choose({ audit: 0, norm: book.audits[0].norms[0] });
}
