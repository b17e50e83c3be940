// Convenience only: without this script everything on the page can still be read.
"use strict";
(() => {
  // Every table can be taken along as CSV.
  for (const table of document.querySelectorAll("main table")) {
    const button = document.createElement("button");
    button.type = "button"; button.className = "csv"; button.textContent = "CSV";
    button.title = "Save this table as CSV";
    button.addEventListener("click", () => {
      const cell = (c) => {
        const data = c.querySelectorAll("data");
        const text = data.length === 1 ? data[0].value : c.textContent.trim().replace(/\s+/g, " ");
        // A text that a spreadsheet would run as a formula stays a text.
        const safe = /^[=+@\-]/.test(text) && Number.isNaN(Number(text)) ? "'" + text : text;
        return '"' + safe.replaceAll('"', '""') + '"';
      };
      const rows = [...table.rows].map((row) => [...row.cells].map(cell).join(","));
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([rows.join("\r\n") + "\r\n"], { type: "text/csv" }));
      const section = table.closest("section[id]");
      link.download = (section ? section.id : "table") + ".csv";
      link.click();
      URL.revokeObjectURL(link.href);
    });
    (table.closest(".scroll") || table).after(button);
  }

  // Verdicts: search in texts, and an order of one's own.
  const list = document.querySelector("#verdicts .list");
  if (!list) return;
  const entries = [...list.children];
  const tools = document.createElement("div");
  tools.className = "tools";
  const search = document.createElement("input");
  search.type = "search"; search.placeholder = "Search prompts and answers"; search.setAttribute("aria-label", search.placeholder);
  const order = document.createElement("select");
  order.setAttribute("aria-label", "Order");
  const orders = {
    "doubtful first": (a, b) => entries.indexOf(a) - entries.indexOf(b),
    "policy's score, low first": (a, b) => a.dataset.score - b.dataset.score,
    "orders disagree most first": (a, b) => b.dataset.gap - a.dataset.gap,
    "policy longer first": (a, b) => b.dataset.longer - a.dataset.longer,
    "policy shorter first": (a, b) => a.dataset.longer - b.dataset.longer,
    "by category": (a, b) => a.dataset.category.localeCompare(b.dataset.category),
  };
  for (const name of Object.keys(orders)) order.append(new Option(name));
  const count = document.createElement("span");
  count.className = "note"; count.setAttribute("role", "status");
  const texts = entries.map((entry) => entry.textContent.toLowerCase());
  search.addEventListener("input", () => {
    const wanted = search.value.toLowerCase();
    let found = 0;
    entries.forEach((entry, i) => { entry.hidden = !texts[i].includes(wanted); found += !entry.hidden; });
    count.textContent = wanted ? `${found} of ${entries.length}` : "";
  });
  order.addEventListener("change", () => list.append(...[...entries].sort(orders[order.value])));
  tools.append(search, order, count);
  list.before(tools);
})();
