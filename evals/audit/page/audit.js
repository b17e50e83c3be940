// Keys press the buttons that stand on the page; without this script the buttons do as well.
"use strict";
const note = document.getElementById("note");
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target instanceof HTMLInputElement) {
    if (event.key === "Escape") event.target.blur();
    if (event.key === "Enter" && event.target === note) { event.preventDefault(); note.blur(); }
    return;
  }
  if (event.key === "n" && note) { event.preventDefault(); note.focus(); return; }
  const button = document.querySelector(`button[data-key="${CSS.escape(event.key)}"]:not(:disabled)`);
  if (button) { event.preventDefault(); button.click(); }
});
// One answer per pair: a second click while the next pair is on its way is not sent.
document.addEventListener("submit", (event) => {
  if (document.body.dataset.sent) event.preventDefault();
  document.body.dataset.sent = "yes";
});
window.addEventListener("pageshow", () => { delete document.body.dataset.sent; });
