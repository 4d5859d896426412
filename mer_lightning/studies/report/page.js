"use strict";

// A table sorts by the column whose head is chosen; reference rows (floors, best possible) stay at the end.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  table.tHead.querySelectorAll("th").forEach((head, column) => {
    const sort = () => {
      const ascending = head.getAttribute("aria-sort") === "descending" || !head.hasAttribute("aria-sort");
      table.tHead.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const order = (a, b) => {
        const x = Number(value(a)), y = Number(value(b));
        const found = Number.isNaN(x) || Number.isNaN(y) ? value(a).localeCompare(value(b)) : x - y;
        return ascending ? found : -found;
      };
      const rows = [...body.rows];
      const last = rows.filter((row) => row.classList.contains("reference"));
      const first = rows.filter((row) => !row.classList.contains("reference")).sort(order);
      body.append(...first, ...last);
    };
    head.tabIndex = 0;
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
  });
}

// One metric of a setting is shown at a time.
for (const section of document.querySelectorAll("section")) {
  const choice = section.querySelector("select");
  const show = () => section.querySelectorAll("[data-metric]").forEach((part) => { part.hidden = part.dataset.metric !== choice.value; });
  choice?.addEventListener("change", show);
  if (choice) show();

  // Rows and panels of methods whose name lacks the text that was typed are hidden; of samples, any cell counts.
  const filter = (kind, parts, text) => {
    const input = section.querySelector(`[data-filter=${kind}]`);
    input?.addEventListener("input", () => {
      for (const part of section.querySelectorAll(parts)) {
        part.hidden = !text(part).toLowerCase().includes(input.value.toLowerCase());
      }
    });
  };
  filter("methods", ".of-methods tbody tr:not(.reference), [data-method]", (part) => part.dataset.method ?? part.cells[0].textContent);
  filter("samples", ".samples tbody tr", (part) => part.textContent);
}
