"""A claim as a notebook shows it: quoted, with its verdict, its numbers, conditions, and what to do."""

import html
import math
import re
from statistics import mean

from ..cells import close_when_run_again, close_widgets
from ..i18n import language, on_language_change, text, widget_bundle
from .ledger import find
from .verdicts import FEWEST_SEEDS, measure, verdict

WORDS = {  # of the cards
    "zh": {
        "quoted": "“{}”（{}）",
        "verdict": "判决：",
        "interval": "，方括号里是 95% 区间",
        "colon": "：",
        "conditions": "条件：",
        "reason": "理由：",
        "consequence": "怎么办：",
        "details": "出处、规则和每个种子的数",
        "source": "出处：",
        "code": "代码：",
        "rule": "{}：成立的条件是 {}；量到 {}",
        "edge": "；最好的值在网格的边上",
    },
    "en": {
        "quoted": "“{}” ({})",
        "verdict": "Verdict: ",
        "interval": "; in brackets the 95% interval",
        "colon": ":",
        "conditions": "Conditions: ",
        "reason": "Reason: ",
        "consequence": "In practice: ",
        "details": "Source, rule and the numbers of each seed",
        "source": "Source: ",
        "code": "Code: ",
        "rule": "{}: holds if {}; measured {}",
        "edge": "; the best value is at the edge of its grid",
    },
}


def number(setting, measured):
    """The mean and its 95% interval as they are printed; of an exact value, the value."""
    middle = printed(setting, mean(measured.values))
    if measured.exact:
        return middle
    if len(measured.values) < FEWEST_SEEDS:
        return f"{middle} (n = {len(measured.values)})"
    low, high = (printed(setting, end) for end in measured.interval)
    return f"{middle} [{low}, {high}]"


def printed(setting, value):
    printed = re.sub(r"[-+](0\.?0*)(?![\d.e])", r"\1", setting.format.format(value))  # no −0.00
    return printed.replace("-", "−").replace("inf", "∞")


def condition(setting):
    low, high = (printed(setting, end) for end in setting.holds_between)
    if setting.holds_between[0] == setting.holds_between[1]:
        return f"= {low}"
    if math.isinf(setting.holds_between[0]):
        return f"≤ {high}"
    return f"≥ {low}" if math.isinf(setting.holds_between[1]) else f"{low} … {high}"


class Card:
    """See `card`."""

    def __init__(self, claim, measured=None):
        self.claim, self.measured = claim, measure(claim) if measured is None else measured
        self.verdict, self.closed = verdict(claim, self.measured), False
        self.widget = None

    def close(self):
        """Take it off the screen; it follows no further changes."""
        if not self.closed:
            self.closed = True
            if self.widget is not None:
                close_widgets(self.widget)

    def _follow(self):
        if not self.closed:
            self.widget.value = self.html()

    def html(self):
        """The card in the language in force: core HTML, colours and font of the page it stands in."""
        codes = ("zh", "en") if language() == "both" else (language(),)
        parts = "".join(f'<div lang="{code}">{self._in(code)}</div>' for code in codes)
        style = "border-left: 4px solid currentColor; padding: 0.2em 0 0.2em 1em; max-width: 52em; line-height: 1.5"
        return f'<div class="nc-card" style="{style}; white-space: normal">{parts}</div>'

    def _in(self, code):
        claim, words = self.claim, WORDS[code]
        parts = [f"<p><strong>{words['quoted'].format(marked(claim.statement[code]), claim.id)}</strong></p>"]
        parts.append(f"<p>{words['verdict']}<strong>{marked(getattr(self.verdict, code))}</strong></p>")
        numbers, each = [], []
        for name, setting in claim.settings.items():
            measured, label = self.measured[name], marked(getattr(setting, code))
            cells = (label, marked(number(setting, measured)))
            numbers.append("".join(f'<td style="text-align: left; padding: 0 1.5em 0 0">{cell}</td>' for cell in cells))
            values = ", ".join(marked(printed(setting, value)) for value in measured.values)
            edge = words["edge"] if measured.edge else ""
            each.append(f"<li>{words['rule'].format(label, marked(condition(setting)), values)}{edge}</li>")
        if numbers:
            interval = "" if all(m.exact for m in self.measured.values()) else words["interval"]
            parts.append(f"<p>{marked(claim.number[code])}{interval}{words['colon']}</p>")
            parts.append(f"<table>{''.join(f'<tr>{row}</tr>' for row in numbers)}</table>")
        why = "conditions" if claim.settings else "reason"  # why it cannot be measured
        parts.append(f"<p>{words[why]}{marked(claim.conditions[code])}</p>")
        parts.append(f"<p>{words['consequence']}{marked(claim.consequence[code])}</p>")
        parts.append(f"<details><summary>{words['details']}</summary><p>{words['source']}{marked(claim.source)}</p>")
        if each:
            parts.append(f"<p>{words['code']}<code>{claim.code}</code></p><ul>{''.join(each)}</ul>")
        return "".join(parts) + "</details>"

    def __str__(self):
        def lines(code):
            claim = self.claim
            yield f"“{claim.statement[code]}” ({claim.id})"
            yield getattr(self.verdict, code)
            for name, setting in claim.settings.items():
                yield f"  {getattr(setting, code)}: {number(setting, self.measured[name])}"

        return text("\n".join(lines("zh")), "\n".join(lines("en")))

    __repr__ = __str__

    def _repr_mimebundle_(self, **kwargs):
        if self.widget is None and not self.closed:
            import ipywidgets

            self.widget = ipywidgets.HTML(self.html())
            on_language_change(self._follow)
            close_when_run_again(self)
        bundle, metadata = widget_bundle(None if self.closed else self.widget, str(self))
        return {**bundle, "text/html": self.html()}, metadata


def marked(words):
    """Words as HTML: `code`, and 10^−31 raised."""
    words = re.sub(r"`(.+?)`", r"<code>\1</code>", html.escape(words, quote=False))
    return re.sub(r"\^(−?[\d.∞]+)", r"<sup>\1</sup>", words)


def card(name):
    """The claim with this id as a card: what is said, the verdict, the numbers it follows from, conditions, and what to
    do; its evidence runs now. It follows the language switch.

    Raises: ValueError for an unknown id, listing the known ones.
    """
    return Card(find(name))
