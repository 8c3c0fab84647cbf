"""axe-core, from npm, on a page of the browser."""

import shutil
import subprocess

from . import WORK


def source():
    """The source of axe-core; None where there is no npm."""
    folder = WORK / "axe"
    path = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not path.exists() and shutil.which("npm"):
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "--no-save", "axe-core@4"], cwd=folder, check=False)
    return path.read_text(encoding="utf-8") if path.exists() else None


def serious(page, source, options="{}"):
    """Its serious and critical findings: [(rule, elements as HTML, their selectors)]."""
    page.evaluate(source)
    run = "async options => (await axe.run(document, { resultTypes: ['violations'], ...options })).violations"
    found = page.evaluate(f"({run})({options})")
    bad = [v for v in found if v["impact"] in ("serious", "critical")]
    return [(v["id"], [n["html"] for n in v["nodes"]], [n["target"] for n in v["nodes"]]) for v in bad]
