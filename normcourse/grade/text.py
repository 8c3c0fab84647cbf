"""Text of learners where others read it: nothing in it is a formula, breaks its row or turns what stands beside it."""

import html
import re
import unicodedata

# Marks of direction, and letters without a width but those that join letters (of Persian, or of emoji).
UNSEEN = re.compile(
    "[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
# Where a spreadsheet may see a cell begin: also behind the separators of other countries.
FORMULA = re.compile(r"(?:^|(?<=[;|\t]))(?=[\s\"'\u200c\u200d]*[=+\-@＝＋－＠])")


def visible(text):
    """Marks of direction and letters without a width become visible, as ⟨U+202E⟩: what is beside them stays as it is,
    and two names that differ only in them are seen to."""
    return UNSEEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def isolated(text):
    """A name for a page: in whatever direction it runs, the rest of its line does not."""
    return f"<bdi>{html.escape(visible(text))}</bdi>"


def harmless(cell):
    """A cell of a table. A lone dash is how systems write nothing."""
    if not isinstance(cell, str) or cell == "-":
        return cell
    cell = "".join(" " if unicodedata.category(letter) in ("Cc", "Zl", "Zp") else letter for letter in visible(cell))
    return FORMULA.sub("'", cell)
