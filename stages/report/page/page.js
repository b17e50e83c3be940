// Convenience only: without this script everything on the page can still be read.
"use strict";
(() => {
  // A button that saves rows of texts as a CSV file.
  const csv = (label, title, name, rowsOf) => {
    const button = document.createElement("button");
    button.type = "button"; button.className = "csv"; button.textContent = label; button.title = title;
    button.addEventListener("click", () => {
      const cell = (text) => {
        // A text that a spreadsheet would run as a formula stays a text.
        const safe = /^[=+@\-]/.test(text) && Number.isNaN(Number(text)) ? "'" + text : text;
        return '"' + safe.replaceAll('"', '""') + '"';
      };
      const rows = rowsOf().map((row) => row.map(cell).join(","));
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([rows.join("\r\n") + "\r\n"], { type: "text/csv" }));
      link.download = name + ".csv";
      link.click();
      URL.revokeObjectURL(link.href);
    });
    return button;
  };

  // Every table can be taken along; a cell that is one number is that number in full.
  const textOf = (cell) => {
    const data = cell.querySelectorAll("data");
    return data.length === 1 ? data[0].value : cell.textContent.trim().replace(/\s+/g, " ");
  };
  for (const table of document.querySelectorAll("main table, header table")) {
    const section = table.closest("section[id]");
    const rows = () => [...table.rows].map((row) => [...row.cells].map(textOf));
    const name = section ? section.id : "table";
    (table.closest(".scroll") || table).after(csv("CSV", "Save this table as CSV", name, rows));
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
  const chooser = (label, options) => {
    const select = document.createElement("select");
    select.setAttribute("aria-label", label);
    for (const [text, value] of options) select.append(new Option(text, value));
    select.addEventListener("change", filter);
    return select;
  };
  const has = (key) => (entry) => key in entry.dataset;
  const kinds = {
    "all verdicts": () => true,
    "orders disagree": has("orders"),
    "judges disagree": has("judges"),
    "judge and people disagree": has("people"),
    "policy longer": (entry) => Number(entry.dataset.longer) > 0,
    "policy shorter": (entry) => Number(entry.dataset.longer) < 0,
  };
  const filter = () => {
    const wanted = search.value.toLowerCase(), is = kinds[kind.value];
    let found = 0;
    entries.forEach((entry, i) => {
      entry.hidden = !(texts[i].includes(wanted) && is(entry) && (!category.value || entry.dataset.category === category.value));
      found += !entry.hidden;
    });
    count.textContent = found < entries.length ? `${found} of ${entries.length}` : "";
  };
  const filled = Object.entries(kinds).filter(([, is]) => entries.some(is));
  const kind = chooser("Which verdicts", filled.map(([name]) => [name, name]));
  const known = [...new Set(entries.map((entry) => entry.dataset.category).filter(Boolean))].sort();
  const category = chooser("Category", [["all categories", ""], ...known.map((name) => [name, name])]);
  search.addEventListener("input", filter);
  order.addEventListener("change", () => list.append(...[...entries].sort(orders[order.value])));
  const columns = ["outcome", "category", "policy_score", "order_gap", "prompt", "baseline", "policy"];
  const shown = () => [...list.children].filter((entry) => entry.checkVisibility()).map((entry) => [
    entry.dataset.outcome, entry.dataset.category, entry.dataset.score === "2" ? "" : entry.dataset.score,
    entry.dataset.gap, ...[".prompt", ".side.baseline .text", ".side.policy .text"]
      .map((where) => entry.querySelector(where).textContent),
  ]);
  const save = csv("CSV of these", "Save the comparisons that are listed as CSV", "comparisons", () => [columns, ...shown()]);
  tools.append(search, kind, ...(known.length > 1 ? [category] : []), order, save, count);
  list.before(tools);
})();
