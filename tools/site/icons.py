"""The theme brings every icon there is, 1.5 MB of script for each page; a site keeps those that it shows."""

import json
import re

SCRIPT = """// The icons of this site, from Font Awesome Free (CC BY 4.0, https://fontawesome.com/license/free).
"use strict";
(() => {
  const icons = %s;
  const space = "http://www.w3.org/2000/svg";
  function replace(old) {
    const name = [...old.classList].map((c) => c.slice(3)).find((c) => icons[c]);
    if (!name) return;
    const [width, height, path] = icons[name], svg = document.createElementNS(space, "svg");
    for (const { name, value } of old.attributes) svg.setAttribute(name, value);
    svg.classList.add("svg-inline--fa");
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("aria-hidden", "true");
    svg.appendChild(document.createElementNS(space, "path")).setAttribute("d", path);
    svg.firstChild.setAttribute("fill", "currentColor");
    old.replaceWith(svg);
  }
  const all = () => document.querySelectorAll("i[class*=fa-]").forEach(replace);
  all();
  document.addEventListener("DOMContentLoaded", all);
  new MutationObserver(all).observe(document.documentElement, { childList: true, subtree: true });
})();
"""
ICON = r'[{,]"?%s"?:\[(\d+),(\d+),\[[^\]]*\],"\w+","([^"]+)"\]'


def slim(folder):
    """Replace the theme's icon script in a built site by one with the icons that its pages and scripts name."""
    path = folder / "_static" / "scripts" / "fontawesome.js"
    whole = path.read_text(encoding="utf-8")
    if len(whole) < 100_000:
        return
    scripts = [p for p in (folder / "_static" / "scripts").glob("*theme.js")]
    texts = [p.read_text(encoding="utf-8") for p in (*folder.rglob("*.html"), *scripts)]
    names = sorted({name for text in texts for name in re.findall(r"fa-([a-z0-9-]+)", text)})
    icons = {}
    for name in names:
        for width, height, drawn in re.findall(ICON % re.escape(name), whole):
            icons[name] = int(width), int(height), drawn
    path.write_text(SCRIPT % json.dumps(icons), encoding="utf-8")
    for unused in (folder / "_static").rglob("*.map"):
        unused.unlink()
