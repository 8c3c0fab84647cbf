"""TeX -> MathML, which browsers show by themselves: no script, no font and no other host."""

import html
import re

from latex2mathml.converter import convert

FORMULA = re.compile(r"(`+)(?:(?!\1).)+\1|\$\$(.+?)\$\$|(?<![\\$\w])\$(?!\s)([^$\n]+?)(?<!\s)\$(?!\d)", re.S)


def mathml(tex, block=False):
    """A formula as a `<math>` element whose alttext is the TeX."""
    found = convert(tex.strip(), display="block" if block else "inline")
    return found.replace("<math ", f'<math alttext="{html.escape(" ".join(tex.split()))}" ', 1)


def in_markdown(text):
    """Markdown with its `$…$` and `$$…$$` as MathML, in which nothing is left that Markdown reads; code stays."""

    def formula(found):
        if found[1]:
            return found[0]
        page = mathml(found[2] or found[3], block=found[2] is not None)
        return re.sub(r"(?<=>)[^<]+", lambda m: "".join(f"&#{ord(c)};" if c in "*_~[]\\" else c for c in m[0]), page)

    return FORMULA.sub(formula, text)
