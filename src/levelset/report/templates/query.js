// The search of the table: a text becomes a condition on rows, and the words that say it.
//
//   either     = both ("or" both)*
//   both       = one ("and"? one)*
//   one        = ("-" | "not") one | "(" either ")" | comparison | word
//   comparison = operand sign operand (sign operand)?

const SIGNS = { ":": "=", "==": "=", "≤": "<=", "≥": ">=", "≠": "!=", "<>": "!=" };
const FLIPPED = { "<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!=" };
const COMPARED = {
  "=": (a, b) => a === b, "!=": (a, b) => a !== b, "<": (a, b) => a < b,
  ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b,
};
const TOKEN = /\s*(?:([()])|(<=|>=|==|!=|<>|[:=<>≤≥≠])|(?:"((?:\\[\s\S]|[^"\\])*)\\?(?:"|$)|[“”„]([^“”]*)(?:[“”]|$)|'([^']+)')|([^\s()"“”„:=<>≤≥≠!]+|!))/gy;

function tokensOf(text) {
  const tokens = [];
  TOKEN.lastIndex = 0;
  while (text.slice(TOKEN.lastIndex).trim()) {
    const [, bracket, sign, quoted, curly, single, word] = TOKEN.exec(text);
    const inside = quoted?.replace(/\\([\s\S])/g, "$1") ?? curly ?? single;
    if (bracket) tokens.push({ kind: bracket, text: bracket });
    else if (sign) tokens.push({ kind: "sign", text: sign, sign: SIGNS[sign] ?? sign });
    else if (inside !== undefined) tokens.push({ kind: "quoted", text: inside });
    else pushWord(tokens, word);
  }
  return tokens;
}

// A dash or an exclamation mark before a word or bracket denies it; after a sign it is a minus.
function pushWord(tokens, word) {
  const value = tokens.at(-1)?.kind === "sign";
  if (!value && /^[-−!]/.test(word)) {
    tokens.push({ kind: "not", text: word[0] });
    if (word.length > 1) pushWord(tokens, word.slice(1));
  } else if (!value && /^(or|and|not)$/i.test(word)) {
    tokens.push({ kind: word.toLowerCase(), text: word });
  } else tokens.push({ kind: "word", text: word });
}

/* Return `{ test, words }` for a text: `test(row)` says whether a row matches. Throws an Error
   whose message says what was not understood. `table` holds `columns` (name, kind, values, single),
   `classes`, the chosen `norm`, and `shown(column, row)`, a value as the table writes it. */
function readQuery(text, table) {
  const tokens = tokensOf(text);
  let place = 0;
  const next = () => tokens[place];
  const take = (kind) => (next()?.kind === kind ? tokens[place++] : null);

  function either() {
    const parts = [both()];
    while (take("or")) parts.push(both());
    return joined(parts, "or", (tests) => (row) => tests.some((test) => test(row)));
  }

  function both() {
    const parts = [one()];
    for (;;) {
      if (take("and")) parts.push(one());
      else if (next() && !["or", ")"].includes(next().kind)) parts.push(one());
      else break;
    }
    return joined(parts, "and", (tests) => (row) => tests.every((test) => test(row)));
  }

  function one() {
    if (take("not")) {
      const { test, words, parts } = one();
      return { test: (row) => !test(row), words: `not ${parts > 1 ? `(${words})` : words}` };
    }
    if (take("(")) {
      const inside = either();
      if (!take(")")) throw new Error("A bracket is not closed.");
      return inside;
    }
    const left = take("word") ?? take("quoted");
    if (!left) throw new Error(expected(next()));
    return next()?.kind === "sign" ? comparison(left) : plain(left, table);
  }

  function comparison(left) {
    const sign = take("sign"), right = operand(sign);
    if (next()?.kind !== "sign") return compare(left, sign.sign, right, table);
    const second = take("sign");
    const parts = [
      compare(left, sign.sign, right, table), compare(right, second.sign, operand(second), table),
    ];
    return joined(parts, "and", (tests) => (row) => tests.every((test) => test(row)));
  }

  function operand(sign) {
    const value = take("word") ?? take("quoted") ?? take("or") ?? take("and");
    if (!value) throw new Error(`A value is missing after “${sign.text}”.`);
    return value;
  }

  if (!tokens.length) return { test: () => true, words: "" };
  const whole = either();
  if (next()) throw new Error(`“${next().text}” is not expected here.`);
  return whole;
}

function expected(token) {
  if (!token) return "The search ends too early.";
  if (token.kind === "sign") return `A column is missing before “${token.text}”.`;
  return `“${token.text}” is not expected here.`;
}

function joined(parts, word, test) {
  if (parts.length === 1) return parts[0];
  const inside = parts.map(({ words, parts: n, word: inner }) => (
    n > 1 && inner !== word ? `(${words})` : words
  ));
  return {
    test: test(parts.map((part) => part.test)), words: inside.join(` ${word} `),
    parts: parts.length, word,
  };
}

// A word by itself: part of a class name, a whole number: an input's index or a class. The name of
// a column of yes and no stands for yes.
function plain({ text, kind }, table) {
  const word = text.trim().toLowerCase();
  if (!word) throw new Error("The quotation marks hold nothing.");
  const flag = kind === "word" && columnOf(text, table);
  const known = table.classes.some((name) => name.toLowerCase().includes(word));
  if (flag && flag.kind === "bool" && !known) return ofFlag(flag, "=", "yes");
  const whole = /^\d+$/.test(word);
  const matches = whole ? (value) => value === word : (value) => value.includes(word);
  const searched = table.columns.filter((column) => (
    column.kind === "class" || (whole && column.name === "index")
  ));
  if (!whole && !known && word !== "none") {
    const near = suggestion(text, [...namesOf(table), ...table.classes]);
    throw new Error(`No class name contains “${text}”, and it is no condition.${near}`);
  }
  return {
    test: (row) => searched.some((column) => matches(table.shown(column, row).toLowerCase())),
    words: `“${text}” in a class name${whole ? " or as index" : ""}`,
  };
}

function compare(left, sign, right, table) {
  const column = left.kind === "word" && columnOf(left.text, table);
  const other = right.kind === "word" && columnOf(right.text, table);
  const names = column && column.kind === "class" && classesNamed(right.text, table).length;
  if (column && other && !names) return ofTwo(column, sign, other);
  if (column) return ofValue(column, sign, right, table);
  if (other) return ofValue(other, FLIPPED[sign], left, table);
  const near = suggestion(left.text, namesOf(table));
  throw new Error(`There is no column “${left.text}”.${near}`);
}

// A column by its name, or by its name without the chosen norm: `distance` for `distance_2`.
function columnOf(text, { columns, norm }) {
  const name = text.toLowerCase();
  const named = (wanted) => columns.find((column) => column.name.toLowerCase() === wanted);
  return named(name) ?? named(`${name}_${norm}`);
}

function namesOf({ columns, norm }) {
  return columns.flatMap((column) => (
    column.norm === norm && norm ? [column.name, column.name.slice(0, -norm.length - 1)] : [column.name]
  ));
}

function ofTwo(a, sign, b) {
  const group = ({ kind }) => (kind === "integer" ? "number" : kind);
  if (group(a) !== group(b)) throw new Error(`“${a.name}” and “${b.name}” cannot be compared.`);
  return {
    test: (row) => COMPARED[sign](a.values[row], b.values[row]),
    words: `${a.name} ${sign} ${b.name}`,
  };
}

function ofValue(column, sign, value, table) {
  if (column.kind === "bool") return ofFlag(column, sign, value.text);
  if (column.kind === "class") return ofClass(column, sign, value.text, table);
  return ofNumber(column, sign, value.text, table);
}

function ofFlag(column, sign, text) {
  const yes = /^(true|yes|1)$/i.test(text), no = /^(false|no|0)$/i.test(text);
  if (!yes && !no) throw new Error(`“${column.name}” is yes or no, not “${text}”.`);
  if (sign !== "=" && sign !== "!=") throw new Error(`“${column.name}” is yes or no: write =.`);
  const wanted = yes === (sign === "=") ? 1 : 0;
  return {
    test: (row) => column.values[row] === wanted,
    words: `${column.name} = ${wanted ? "yes" : "no"}`,
  };
}

function classesNamed(text, { classes }) {
  const word = text.toLowerCase();
  return classes.flatMap((name, i) => (name.toLowerCase() === word ? [i] : []));
}

function ofClass(column, sign, text, table) {
  const named = classesNamed(text, table);
  const number = /^none$/i.test(text) && !named.length ? -1 : numberOf(text);
  const words = `${column.name} ${sign} “${table.classes[named[0] ?? number] ?? text}”`;
  if (sign !== "=" && sign !== "!=") {
    if (!Number.isFinite(number)) throw new Error(`“${text}” is no number of a class.`);
    return { test: (row) => COMPARED[sign](column.values[row], number), words };
  }
  if (!named.length && !(Number.isInteger(number) && number < table.classes.length && number >= -1)) {
    throw new Error(`There is no class “${text}”.${suggestion(text, table.classes)}`);
  }
  const wanted = new Set(named.length ? named : [number]);
  return { test: (row) => wanted.has(column.values[row]) === (sign === "="), words };
}

function ofNumber(column, sign, text, table) {
  const words = `${column.name} ${sign} ${text}`;
  const ends = /^(.*?)\.\.\.?(.*)$/.exec(text);
  if (ends) return ofRange(column, sign, ends[1], ends[2], words);
  const equal = sign === "=" || sign === "!=";
  if (equal && /^(none|nan)$/i.test(text)) {
    return { test: (row) => Number.isNaN(column.values[row]) === (sign === "="), words };
  }
  const limit = limitOf(column, text);
  if (!equal) return { test: (row) => COMPARED[sign](column.values[row], limit), words };
  // Equal as stored, or as the table shows it: its four digits can be typed.
  const same = (row) => column.values[row] === limit
    || table.shown(column, row).replace("−", "-") === text.replace("−", "-");
  return { test: (row) => same(row) === (sign === "="), words };
}

function ofRange(column, sign, low, high, words) {
  if (sign !== "=" && sign !== "!=") throw new Error("Write a range after “:”, as in 0.1..0.5.");
  const from = low ? limitOf(column, low) : -Infinity;
  const to = high ? limitOf(column, high) : Infinity;
  const inside = (value) => value >= from && value <= to;
  return { test: (row) => inside(column.values[row]) === (sign === "="), words };
}

// Columns of single precision are compared with the limit as they would store it.
function limitOf(column, text) {
  const number = numberOf(text);
  if (Number.isNaN(number)) {
    const comma = /^[-−]?\d+,\d+$/.test(text) ? ` Write ${text.replace(",", ".")}.` : "";
    throw new Error(`“${text}” is no number to compare “${column.name}” with.${comma}`);
  }
  return column.single ? Math.fround(number) : number;
}

function numberOf(text) {
  const word = text.toLowerCase().replace("−", "-");
  const infinite = /^([-+]?)(inf|infinity|∞)$/.exec(word);
  if (infinite) return infinite[1] === "-" ? -Infinity : Infinity;
  return /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/.test(word) ? Number(word) : NaN;
}

// The names most like a word: they contain it, or differ by a third of its letters at most.
function suggestion(text, names) {
  const word = text.toLowerCase();
  const scored = [...new Set(names)].map((name) => {
    const lower = name.toLowerCase();
    const inside = word.length > 2 && (lower.includes(word) || word.includes(lower) && lower.length > 2);
    return { name, steps: inside ? 1 : edits(word, lower) };
  });
  const least = Math.min(...scored.map(({ steps }) => steps));
  if (least > Math.max(1, Math.floor(word.length / 3))) return "";
  const near = scored.filter(({ steps }) => steps === least).slice(0, 2);
  return ` Did you mean ${near.map(({ name }) => `“${name}”`).join(" or ")}?`;
}

function edits(a, b) {
  let before = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i += 1) {
    const line = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const change = before[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      line.push(Math.min(before[j] + 1, line[j - 1] + 1, change));
    }
    before = line;
  }
  return before[b.length];
}
