"use strict";

// Cells hold their exact numbers in data-value; what has none stays last, whichever way one sorts.
function compare(a, b) {
  const [x, y] = [a.dataset.value, b.dataset.value];
  if (x !== undefined && y !== undefined) {
    return Number(x) - Number(y);
  }
  return a.textContent.localeCompare(b.textContent, undefined, { numeric: true });
}

function sort(table, index, direction) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => ({ row, cell: row.cells[index] }));
  const missing = ({ cell }) => Number(cell.hasAttribute("data-missing"));
  rows.sort((a, b) => missing(a) - missing(b) || direction * compare(a.cell, b.cell));
  body.append(...rows.map(({ row }) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, index) => {
    head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      sort(table, index, up ? 1 : -1);
    });
  });
}

for (const field of document.querySelectorAll("input[data-table]")) {
  const rows = [...document.getElementById(field.dataset.table).tBodies[0].rows];
  field.addEventListener("input", () => {
    const wanted = field.value.toLocaleLowerCase();
    for (const row of rows) {
      row.hidden = !row.textContent.toLocaleLowerCase().includes(wanted);
    }
  });
}

// One player at a time; another one of the same excerpt goes on where the last one was.
let playing = null;
document.addEventListener("play", ({ target }) => {
  if (playing !== null && playing !== target) {
    const same = playing.dataset.excerpt === target.dataset.excerpt;
    if (same && !playing.ended && target.currentTime === 0) {
      target.currentTime = playing.currentTime;
    }
    playing.pause();
  }
  playing = target;
}, true);
