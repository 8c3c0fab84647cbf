"""`make site`: the course as web pages, in Chinese, in English and side by side, with explorers that move without a kernel.

    explorers   the explorers of a lesson: the cells that each of them needs, run within a limit
    grid        which of its positions are drawn ahead
    frames      the pictures at these positions as SVG, packed into one file an explorer and a language
    languages   a notebook, or a text, in one language
    formulas    TeX -> MathML
    player      what stands in a page in an explorer's place; player.js and player.css make it move
    claims      the cards of the claims as one page that filters
    sources     the pages that Sphinx is given
    sphinx_ext  what Sphinx is taught: MathML, search in Chinese, the docstrings of the course
    conf.py     its settings
    icons       those that the theme shows, of the thousands it brings
    links       what a built site, the README and the notebooks link to
    check       the built site in a browser, all other hosts blocked (`make test-site`)
    axe         axe-core on a page
    lab         axe-core on two notebooks in JupyterLab
    page        `make html`: one notebook as one page

Notebooks are found by looking; nothing here lists a chapter. Nothing is executed but what the explorers need: the
outputs are those that are committed.
"""

from .. import ROOT

WORK = ROOT / "build" / "site-work"  # frames and sources, kept from one build to the next
SITE = ROOT / "build" / "site"
LANGUAGES = ("zh", "en", "both")
