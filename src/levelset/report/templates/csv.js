// A table as CSV (RFC 4180), with the names of classes beside their numbers.

/* Return the text of the rows given. Cells of text that a spreadsheet would run as a formula start
   with an apostrophe. */
function csvOf({ columns }, classes, rows) {
  const fields = columns.flatMap((column) => (
    column.kind !== "class" ? [column] : [column, { ...column, name: `${column.name}_name`, names: classes }]
  ));
  const head = fields.map(({ name }) => csvText(name)).join(",");
  const lines = rows.map((row) => fields.map((field) => csvCell(field, row)).join(","));
  return [head, ...lines, ""].join("\r\n");
}

function csvCell({ values, kind, single, names }, row) {
  const value = values[row];
  if (names) return csvText(names[value] ?? "");
  if (kind === "bool") return value ? "true" : "false";
  return String(single ? shortest(value) : value).replace("Infinity", "inf").replace("NaN", "nan");
}

// A number of single precision by as few digits as name it.
function shortest(value) {
  for (let digits = 6; digits < 9; digits += 1) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return Number(value.toPrecision(9));
}

function csvText(text) {
  const inert = /^[\s]*[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(inert) ? `"${inert.replaceAll('"', '""')}"` : inert;
}
