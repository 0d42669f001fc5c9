"use strict";
// Sorts a table by the column whose heading is activated, by mouse or keyboard: headings hold real
// buttons. Cells carry their unrounded value; a cell without one stays at the end.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => sortBy(table, headings, column));
  });
}

function sortBy(table, headings, column) {
  const rows = [...table.tBodies[0].rows];
  const value = (row) => row.cells[column].dataset.value;
  const known = rows.map(value).filter((text) => text !== "");
  const numeric = known.every((text) => Number.isFinite(Number(text)));
  const before = headings[column].getAttribute("aria-sort");
  // Numbers first go from large to small, words from A to Z; the next time the other way round.
  const first = numeric ? "descending" : "ascending";
  const second = numeric ? "ascending" : "descending";
  const direction = before === first ? second : first;
  const sign = direction === "ascending" ? 1 : -1;
  const compare = (a, b) => (numeric ? Number(a) - Number(b) : a.localeCompare(b, "en"));
  rows.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === "" || y === "") return (x === "") - (y === "");
    return sign * compare(x, y);
  });
  table.tBodies[0].append(...rows);
  headings.forEach((heading) => heading.setAttribute("aria-sort", "none"));
  headings[column].setAttribute("aria-sort", direction);
}
