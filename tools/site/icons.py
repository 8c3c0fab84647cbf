"""What the theme loads on each page and no page needs: 1.5 MB of icons, of which a site keeps those that it shows, and
the index, which only the page that searches reads."""

import json
import re
from pathlib import Path

import pydata_sphinx_theme

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
SEARCH = r'\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>'
ICON = r'[{,]"?%s"?:\[(\d+),(\d+),\[[^\]]*\],"\w+","([^"]+)"\]'


def slim(folder):
    """Replace the theme's icon script in a built site by one with the icons that its pages and scripts name."""
    path = folder / "_static" / "scripts" / "fontawesome.js"
    theme = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / "static"
    whole = (theme / "scripts" / "fontawesome.js").read_text(encoding="utf-8")
    scripts = [p for p in (folder / "_static" / "scripts").glob("*theme.js")]
    texts = [p.read_text(encoding="utf-8") for p in (*folder.rglob("*.html"), *scripts)]
    names = sorted({name for text in texts for name in re.findall(r"fa-([a-z0-9-]+)", text)})
    icons = {}
    for name in names:
        for width, height, drawn in re.findall(ICON % re.escape(name), whole):
            icons[name] = int(width), int(height), drawn
    for page in folder.rglob("*.html"):
        if page.name != "search.html":
            text = page.read_text(encoding="utf-8")
            page.write_text(re.sub(SEARCH, "", text), encoding="utf-8")
    path.write_text(SCRIPT % json.dumps(icons), encoding="utf-8")
    for unused in (folder / "_static").rglob("*.map"):
        unused.unlink()
