"""`make site`: frames, sources, then Sphinx for each language, side by side."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time

from .. import ROOT, repository
from . import LANGUAGES, SITE, WORK, claims, frames, icons, sources

OWN = ROOT / "tools" / "site"
FRONT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>NormCourse</title>
<link rel="icon" href="en/_static/favicon.svg">
<script>location.replace((navigator.language || "en").startsWith("zh") ? "zh/index.html" : "en/index.html")</script>
<main><h1>NormCourse</h1>
<p><a href="zh/index.html" lang="zh-CN">中文</a></p><p><a href="en/index.html">English</a></p>
<p><a href="both/index.html" lang="zh-CN">并排 · side by side</a></p></main>
</html>
"""


def font(target):
    """The course's font with the characters that the pictures have: words are then as wide as they were measured."""
    from fontTools import subset

    from normcourse.data import FONT

    pages = [page for folder in frames.FOLDER.glob("[!.]*") for page in frames.known(folder.name)]
    options = subset.Options(flavor="woff", layout_features=["kern"], notdef_outline=True)
    loaded = subset.load_font(FONT, options)
    chosen = subset.Subsetter(options)
    chosen.populate(text="".join(page.get("characters", "") for page in pages) + "0")
    chosen.subset(loaded)
    subset.save_font(loaded, target, options)


def static():
    """The files that all pages share, but for the pictures."""
    folder = WORK / "static"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in OWN.iterdir():
        if path.suffix in (".js", ".css", ".svg"):
            shutil.copy(path, folder)
    font(folder / "pictures.woff")
    return folder


def sphinx(code, shared):
    """Start Sphinx for one language; warnings are errors."""
    environment = {**os.environ, "NORMCOURSE_SITE": code, "NORMCOURSE_STATIC": str(shared), "PYTHONPATH": str(ROOT)}
    places = [str(WORK / "source" / code), str(SITE / code)]
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-q", "-W", "--keep-going", "-c", str(OWN)]
    command += ["-d", str(WORK / "doctrees" / code), *places]
    return subprocess.Popen(command, cwd=ROOT, env=environment)


def pictures(code):
    """The pictures of one language to the pages of that language."""
    for path in frames.FOLDER.glob(f"[!.]*/*-{code}.js"):
        target = SITE / code / "_static" / "frames" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def mark_english():
    """Side by side, the English half of a heading says that it is English."""
    for path in (SITE / "both").rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        new = re.sub(r"(<h[1-4]>[^<]*? · )([^<]+)(?=<a class=\"headerlink)", r'\1<span lang="en">\2</span>', text)
        path.write_text(new, encoding="utf-8")


def live():
    """The notebooks themselves, for those who want to go on in a kernel."""
    for path in (*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("exercises/*/*")):
        target = SITE / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (SITE / "index.html").write_text(FRONT, encoding="utf-8")
    (SITE / ".nojekyll").touch()  # GitHub's pages leave out _static without it


def main():
    parser = argparse.ArgumentParser(prog="python -m tools.site", description=__doc__)
    parser.add_argument("names", nargs="*", help="chapters whose explorers are drawn ahead, as 02; all by default")
    parser.add_argument("--full", action="store_true", help="up to 400 positions an explorer, trained models too")
    parser.add_argument("--pictures", type=int, default=frames.PICTURES, help="positions of an explorer at most")
    parser.add_argument(
        "--again", action="store_true", help="from the beginning, as after a change of the build itself"
    )
    parser.add_argument("--no-frames", action="store_true", help="take the pictures that are there")
    options = parser.parse_args()
    start = time.monotonic()
    if options.again:
        for folder in (SITE, WORK / "source", WORK / "doctrees"):
            shutil.rmtree(folder, ignore_errors=True)
    if not options.no_frames:
        frames.course(options.names, options.full, options.pictures)
        print(claims.draw(), flush=True)
    for code in LANGUAGES:
        sources.write(code, WORK / "source" / code)
    shared, failed = static(), []
    for pair in (LANGUAGES[:2], LANGUAGES[2:]):
        running = [(code, sphinx(code, shared)) for code in pair]
        failed += [code for code, process in running if process.wait()]
    for code in LANGUAGES:
        pictures(code)
        icons.slim(SITE / code)
    mark_english()
    live()
    if failed:
        raise SystemExit(f"Sphinx has warnings: {', '.join(failed)}")
    size = sum(path.stat().st_size for path in SITE.rglob("*") if path.is_file()) / 1e6
    print(f"{SITE.relative_to(ROOT)}: {size:.0f} MB, {time.monotonic() - start:.0f} s")
    if not repository():
        print("no address of the repository in pyproject.toml: pages have no links to Colab")


if __name__ == "__main__":
    main()
