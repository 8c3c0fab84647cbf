// The court's filter: what it shows is in the address, so that it can be linked to.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const form = document.querySelector(".nc-filter");
  if (!form) return;
  const claims = [...document.querySelectorAll(".nc-claim")], given = new URLSearchParams(location.search);
  for (const field of form.elements) if (field.name && given.has(field.name)) field.value = given.get(field.name);
  function filter() {
    const { verdict, chapter, words } = Object.fromEntries(new FormData(form));
    let shown = 0;
    for (const claim of claims) {
      claim.hidden = Boolean((verdict && claim.dataset.verdict !== verdict) || (chapter && claim.dataset.chapter !== chapter) ||
        (words && !claim.textContent.toLowerCase().includes(words.toLowerCase())));
      shown += !claim.hidden;
    }
    const count = form.querySelector("output");
    count.textContent = `${shown} ${count.dataset.unit}`;
  }
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
});
