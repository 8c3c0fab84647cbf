// A page opened from a folder cannot read others for the search's summaries.
"use strict";
if (location.protocol === "file:" && window.DOCUMENTATION_OPTIONS) DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
// What scrolls can be scrolled by keys, too.
document.addEventListener("DOMContentLoaded", () => {
  for (const box of document.querySelectorAll("div.highlight pre, .cell_output pre, .nc-stage, .nc-wide")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
});
