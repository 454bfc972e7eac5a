// What the page shows, in the fragment of its address: `#borders?norm=inf&input=12`. A fragment can
// be set where a query cannot, in a file that a reader opened from disk.

const ADDRESS_KEYS = ["model", "norm", "input", "search", "sort"];

/* Return `{ section, state, unknown }` of a fragment: the section's name, what is set, and the keys
   that mean nothing here. Never throws, whatever the text. */
function readAddress(hash) {
  const [name, ...rest] = hash.replace(/^#/, "").split("?");
  const state = {}, unknown = [];
  for (const [key, value] of new URLSearchParams(rest.join("?"))) {
    if (ADDRESS_KEYS.includes(key)) state[key] = value;
    else unknown.push(key);
  }
  let section = name;
  try { section = decodeURIComponent(name); } catch { /* taken as it stands */ }
  return { section, state, unknown };
}

/* Return the fragment for a section, perhaps "", and what is set; keys without a value are left out. */
function writeAddress(section, state) {
  const set = ADDRESS_KEYS.filter((key) => state[key] !== undefined && state[key] !== "");
  const query = new URLSearchParams(set.map((key) => [key, state[key]])).toString();
  return section || query ? `#${encodeURIComponent(section)}${query ? `?${query}` : ""}` : "";
}

/* Return `{ choice, ignored }`: what a state means on this page, and the words for what it does not.
   `page` holds `audits` (name, norms, columns as `byName`), `inspects` (whether inputs can be
   pinned). Models are named where their names differ, else numbered from 1. */
function choiceOf(state, page) {
  const choice = { audit: 0, norm: page.audits[0].norms[0] ?? null, input: null, search: state.search ?? "", sort: "index" };
  const ignored = [];
  if (state.model !== undefined) {
    const audit = modelNames(page.audits).indexOf(state.model);
    if (audit < 0) ignored.push(`the model “${state.model}”`);
    else choice.audit = audit;
  }
  if (state.norm !== undefined) {
    if (page.audits.some(({ norms }) => norms.includes(state.norm))) choice.norm = state.norm;
    else ignored.push(`the norm “${state.norm}”`);
  }
  const { byName } = page.audits[choice.audit];
  if (state.input !== undefined) {
    const row = /^\d+$/.test(state.input) ? byName.get("index").values.indexOf(Number(state.input)) : -1;
    if (row < 0 || !page.inspects) ignored.push(`the input “${state.input}”`);
    else choice.input = row;
  }
  if (state.sort !== undefined) {
    if (byName.has(state.sort.replace(/^-/, ""))) choice.sort = state.sort;
    else ignored.push(`the column “${state.sort}”`);
  }
  return { choice, ignored };
}

/* Return the state that `choiceOf` would read as this choice; what is so from the start is left out. */
function stateOf(choice, page) {
  const { audits } = page, state = {};
  if (choice.audit) state.model = modelNames(audits)[choice.audit];
  if (choice.norm !== null && choice.norm !== audits[0].norms[0]) state.norm = choice.norm;
  if (choice.input !== null) {
    state.input = String(audits[choice.audit].byName.get("index").values[choice.input]);
  }
  if (choice.search) state.search = choice.search;
  if (choice.sort !== "index") state.sort = choice.sort;
  return state;
}

function modelNames(audits) {
  const names = audits.map(({ name }) => name);
  return new Set(names).size === names.length ? names : names.map((_, i) => String(i + 1));
}
