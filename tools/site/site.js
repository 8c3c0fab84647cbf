// A page opened from a folder cannot read others for the search's summaries.
"use strict";
if (location.protocol === "file:" && window.DOCUMENTATION_OPTIONS) DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
// The theme's buttons and folds say what they are.
document.addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll(".search-button-field[aria-label]")) button.removeAttribute("aria-label");
  for (const fold of document.querySelectorAll("summary")) {
    if (fold.textContent.trim()) fold.removeAttribute("aria-label");
    const page = fold.closest("li")?.querySelector("a");
    if (!fold.textContent.trim() && page) fold.setAttribute("aria-label", page.textContent.trim());
  }
});
// What scrolls can be scrolled by keys, too.
function reachable() {
  for (const box of document.querySelectorAll("div.highlight pre, .cell_output, .cell_output pre, div.math, .nc-card, .nc-stage")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
document.addEventListener("DOMContentLoaded", reachable);
addEventListener("resize", reachable);
