"""Popular claims as data: what is said, the number that was measured, and the verdict that a rule draws from it.

A claim stands in the `claims.toml` of its chapter, its measurement is a function in the chapter's `evidence.py`:

    [G2]
    statement.zh, .en      what is said, in our own words
    source                 which source text says it, and where
    evidence               a function in evidence.py giving a DataFrame: `setting`, `value`, and `seed` (or repetition)
                           where numbers are random; `edge` (optional): a best value was at the edge of its grid
    number.zh, .en         what `value` is, with its unit
    format                 how it is printed, "{:.2f}"; "10^{:.0f}" for a logarithm
    holds_between          [low, high]: the values for which the claim holds
    conditions.zh, .en     under which it was measured: depth, width, initialisation, seeds, biases …
    consequence.zh, .en    what to do, in one sentence
    [G2.settings.NAME]     zh, en: a setting of the evidence, in words that go into 只在…时成立 and "holds only …"; its
                           own `holds_between` and `format`, if need be

The rule. In one setting the claim holds where the whole 95% interval of the mean over the seeds lies within
`holds_between`, and does not where all of it lies outside; anything else is not settled, and so are fewer than three
seeds and a best value at the edge of its grid. All settings together: holds if it does in all, false if it does in
none, not settled if none is, and else holds only in those where it does. An entry without evidence is not a measurable
claim.
"""

import argparse
import functools
import html
import json
import math
import re
import sys
import tomllib
from dataclasses import dataclass, field
from importlib import import_module
from statistics import mean, stdev

from .cells import close_when_run_again, close_widgets
from .chapters import chapters
from .i18n import language, on_language_change, text, widget_bundle

FEWEST_SEEDS = 3
# Student's t for a 95% interval, by number of seeds; the last one serves for more, a little too careful.
STUDENT = {3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
VERDICTS = {
    "holds": ("成立", "holds"),
    "holds_only": ("有条件地成立", "holds only if …"),
    "false": ("错", "false"),
    "not_settled": ("这次测量定不了", "not settled by this run"),
    "not_measurable": ("不是能测量的说法", "not a measurable claim"),
}

WORDS = {  # of the cards
    "zh": {
        "quoted": "“{}”（{}）",
        "verdict": "判决：",
        "interval": "，方括号里是 95% 区间",
        "colon": "：",
        "conditions": "条件：",
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
        "consequence": "In practice: ",
        "details": "Source, rule and the numbers of each seed",
        "source": "Source: ",
        "code": "Code: ",
        "rule": "{}: holds if {}; measured {}",
        "edge": "; the best value is at the edge of its grid",
    },
}


@dataclass(frozen=True)
class Setting:
    """One setting of a claim's evidence: its words, the values for which the claim holds, how a value is printed."""

    zh: str
    en: str
    holds_between: tuple
    format: str


@dataclass(frozen=True)
class Claim:
    """An entry of a claims.toml, see the module. chapter: the name of its folder. settings: {name: Setting}."""

    id: str
    chapter: str
    statement: dict
    source: str
    conditions: dict
    consequence: dict
    number: dict = field(default_factory=dict)
    evidence: str | None = None
    settings: dict = field(default_factory=dict)

    @property
    def code(self):
        """Where its evidence is: module.function."""
        return f"normcourse.chapters.{self.chapter}.evidence.{self.evidence}"


@dataclass(frozen=True)
class Measured:
    """The values of one setting, one per seed, or a single one that nothing random enters (`exact`)."""

    values: tuple
    exact: bool = False
    edge: bool = False

    @property
    def interval(self):
        """Both ends of the 95% interval of the mean over the seeds (Student's t); a value that is exact is both."""
        middle = mean(self.values)
        if self.exact:
            return middle, middle
        if len(self.values) < FEWEST_SEEDS:
            return -math.inf, math.inf
        half = STUDENT[min(len(self.values), max(STUDENT))] * stdev(self.values) / len(self.values) ** 0.5
        return middle - half, middle + half

    def holds(self, low, high):
        """True, False, or None where it is not settled."""
        bottom, top = self.interval
        if self.edge:
            return None
        return True if low <= bottom and top <= high else False if top < low or bottom > high else None


@dataclass(frozen=True)
class Verdict:
    """kind: a key of `VERDICTS`. zh, en: the verdict in one sentence."""

    kind: str
    zh: str
    en: str


def claims():
    """{id: Claim} of all chapters that have a claims.toml, in the order of chapters and files.

    Raises: ValueError naming the file and the entry that is wrong.
    """
    return _load(tuple(c.folder for c in chapters() if (c.folder / "claims.toml").exists()))


@functools.cache
def _load(folders):
    found = {}
    for folder in folders:
        where = f"{folder.name}/claims.toml"
        try:
            entries = tomllib.loads((folder / "claims.toml").read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{where}: {error}") from None
        for name, entry in entries.items():
            if name in found:
                raise ValueError(f"{where}, {name}: {found[name].chapter}/claims.toml has this claim, too")
            found[name] = _claim(name, folder.name, entry, f"{where}, {name}")
    return found


def _claim(name, chapter, entry, where):
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected a table [{name}]")
    entry = dict(entry)
    both = ("statement", "conditions", "consequence", *(("number",) if "evidence" in entry else ()))
    for key in both:
        _two_languages(entry.get(key), f"{where}: {key}")
    if "evidence" in entry:
        between, printed = entry.pop("holds_between", None), entry.pop("format", None)
        settings = {}
        for key, given in entry.get("settings", {}).items():
            at = f"{where}.settings.{key}"
            _two_languages({k: v for k, v in given.items() if k in ("zh", "en")}, at)
            if unknown := set(given) - {"zh", "en", "holds_between", "format"}:
                raise ValueError(f"{at}: unknown key {min(unknown)!r}")
            low_high, form = given.get("holds_between", between), given.get("format", printed)
            if not (isinstance(low_high, list) and len(low_high) == 2 and low_high[0] <= low_high[1]):
                raise ValueError(f"{at}: holds_between is {low_high}; expected [low, high]")
            try:
                if form.format(0.5) == form:
                    raise ValueError
            except (AttributeError, ValueError, LookupError):
                raise ValueError(f'{at}: format is {form!r}; expected a format such as "{{:.2f}}"') from None
            settings[key] = Setting(given["zh"], given["en"], tuple(low_high), form)
        if not settings:
            raise ValueError(f"{where}: evidence without settings; expected [{name}.settings.NAME]")
        entry["settings"] = settings
    try:
        claim = Claim(id=name, chapter=chapter, **entry)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from None
    if not isinstance(claim.source, str) or not claim.source:
        raise ValueError(f"{where}: source is {claim.source!r}; expected where the claim is made")
    return claim


def _two_languages(words, where):
    if not isinstance(words, dict) or set(words) != {"zh", "en"} or not all(isinstance(w, str) for w in words.values()):
        raise ValueError(f"{where} is {words!r}; expected zh and en")


def find(name):
    """The `Claim` with this id; ValueError lists the known ones."""
    if name not in claims():
        known = ", ".join(claims())
        raise ValueError(f"没有编号为 {name!r} 的说法；有的是 {known}。 unknown claim {name!r}; known are {known}")
    return claims()[name]


def measure(claim):
    """Run the evidence of a claim.

    Returns: {setting: Measured}, in the order of the claim's settings; empty where it is not a measurable claim.
    Raises: ValueError where evidence and entry have different settings.
    """
    if claim.evidence is None:
        return {}
    module = import_module(f"normcourse.chapters.{claim.chapter}.evidence")
    if not hasattr(module, claim.evidence):
        raise ValueError(f"{claim.chapter}/claims.toml, {claim.id}: evidence.py has no function {claim.evidence!r}")
    frame = getattr(module, claim.evidence)()
    groups = dict(list(frame.groupby("setting", sort=False)))
    if missing := sorted(set(claim.settings) - set(groups)):
        raise ValueError(f"{claim.chapter}/claims.toml, {claim.id}: {claim.code} has no setting {missing[0]!r}")
    return {
        name: Measured(
            tuple(groups[name]["value"].tolist()),
            exact="seed" not in frame or bool(groups[name]["seed"].isna().all()),
            edge="edge" in frame and bool(groups[name]["edge"].any()),
        )
        for name in claim.settings
    }


def verdict(claim, measured):
    """The verdict that the claim's rule draws from `measured`, the result of `measure`."""
    if claim.evidence is None:
        return Verdict("not_measurable", "这不是能测量的说法。", "Not a measurable claim.")
    groups = {True: [], False: [], None: []}
    for name, setting in claim.settings.items():
        groups[measured[name].holds(*setting.holds_between)].append(setting)
    holding, failing, unsettled = groups[True], groups[False], groups[None]
    if not (failing or unsettled):
        return Verdict("holds", "成立。", "Holds.")
    if not (holding or unsettled):
        return Verdict("false", "错。", "False.")
    if not (holding or failing):
        return Verdict("not_settled", "这次测量定不了。", "Not settled by this run.")
    zh, en = [], []
    if holding:
        zh.append(f"{'只' if failing else ''}在{_list(holding, 'zh')}时成立")
        en.append(("holds only " if failing else "holds ") + _list(holding, "en"))
    elif failing:
        zh.append(f"在{_list(failing, 'zh')}时是错的")
        en.append("false " + _list(failing, "en"))
    if unsettled:
        zh.append(f"在{_list(unsettled, 'zh')}时，这次测量定不了")
        en.append("not settled by this run " + _list(unsettled, "en"))
    sentence = "; ".join(en)
    spaced = re.sub(r"(?<=[\u4e00-\u9fff])(?=[A-Za-z\d])|(?<=[A-Za-z\d])(?=[\u4e00-\u9fff])", " ", "；".join(zh) + "。")
    return Verdict("holds_only" if holding else "false", spaced, sentence[0].upper() + sentence[1:] + ".")


def _list(settings, language):
    return {"zh": "，或", "en": ", or "}[language].join(getattr(setting, language) for setting in settings)


def number(setting, measured):
    """The mean and its 95% interval as they are printed; of an exact value, the value."""
    middle = _printed(setting, mean(measured.values))
    if measured.exact:
        return middle
    if len(measured.values) < FEWEST_SEEDS:
        return f"{middle} (n = {len(measured.values)})"
    low, high = (_printed(setting, end) for end in measured.interval)
    return f"{middle} [{low}, {high}]"


def _printed(setting, value):
    printed = re.sub(r"[-+](0\.?0*)(?![\d.e])", r"\1", setting.format.format(value))  # no −0.00
    return printed.replace("-", "−").replace("inf", "∞")


def _rule(setting):
    low, high = (_printed(setting, end) for end in setting.holds_between)
    if setting.holds_between[0] == setting.holds_between[1]:
        return f"= {low}"
    if math.isinf(setting.holds_between[0]):
        return f"≤ {high}"
    return f"≥ {low}" if math.isinf(setting.holds_between[1]) else f"{low} … {high}"


class Card:
    """See `card`."""

    def __init__(self, claim):
        self.claim, self.measured = claim, measure(claim)
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
        parts = [f"<p><strong>{words['quoted'].format(_marked(claim.statement[code]), claim.id)}</strong></p>"]
        parts.append(f"<p>{words['verdict']}<strong>{_marked(getattr(self.verdict, code))}</strong></p>")
        numbers, each = [], []
        for name, setting in claim.settings.items():
            measured, label = self.measured[name], _marked(getattr(setting, code))
            cells = (label, _marked(number(setting, measured)))
            numbers.append("".join(f'<td style="text-align: left; padding: 0 1.5em 0 0">{cell}</td>' for cell in cells))
            values = ", ".join(_marked(_printed(setting, value)) for value in measured.values)
            edge = words["edge"] if measured.edge else ""
            each.append(f"<li>{words['rule'].format(label, _marked(_rule(setting)), values)}{edge}</li>")
        if numbers:
            interval = "" if all(m.exact for m in self.measured.values()) else words["interval"]
            parts.append(f"<p>{_marked(claim.number[code])}{interval}{words['colon']}</p>")
            parts.append(f"<table>{''.join(f'<tr>{row}</tr>' for row in numbers)}</table>")
        parts.append(f"<p>{words['conditions']}{_marked(claim.conditions[code])}</p>")
        parts.append(f"<p>{words['consequence']}{_marked(claim.consequence[code])}</p>")
        parts.append(f"<details><summary>{words['details']}</summary><p>{words['source']}{_marked(claim.source)}</p>")
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


def _marked(words):
    """Words as HTML: `code`, and 10^−31 raised."""
    words = re.sub(r"`(.+?)`", r"<code>\1</code>", html.escape(words, quote=False))
    return re.sub(r"\^(−?[\d.∞]+)", r"<sup>\1</sup>", words)


def card(name):
    """The claim with this id as a card: what is said, the verdict, the numbers it follows from, conditions, and what to
    do; its evidence runs now. It follows the language switch.

    Raises: ValueError for an unknown id, listing the known ones.
    """
    return Card(find(name))


def main(given=None):
    """`python -m normcourse claims`: measure and print the claims, or those that are chosen."""
    parser = argparse.ArgumentParser(
        prog="python -m normcourse claims",
        description="现场测量流行的说法，打印编号、数字和判决。\n"
        "Measure the popular claims; print id, numbers and verdict.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="help", help="显示这段说明 · show this help")
    parser.add_argument("id", nargs="*", help="说法的编号，不写就是全部 · ids; all of them without one")
    parser.add_argument("--chapter", type=int, help="只看这一章的 · only those of this chapter, as 1")
    parser.add_argument("--verdict", choices=VERDICTS, help="只看这种判决的 · only those with this verdict")
    parser.add_argument("--json", action="store_true", help="输出 JSON · print JSON")
    options = parser.parse_args(given)
    numbers = {chapter.folder.name: chapter.number for chapter in chapters()}
    rows = []
    try:
        chosen = [find(name) for name in options.id] or claims().values()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for claim in chosen:
        if options.chapter in (None, numbers[claim.chapter]):
            row = _row(claim, numbers[claim.chapter])
            if options.verdict in (None, row["verdict"]):
                rows.append(row)
                if not options.json:
                    print(f"{row['id']:4} {text(row['zh'], row['en'], '  ')}")
                    for setting in row["settings"]:
                        print(f"       {setting['number']:28} {text(setting['zh'], setting['en'], '  ')}")
    if options.json:
        print(json.dumps(rows, ensure_ascii=False, indent=1))
    return 0


def _row(claim, chapter):
    measured = measure(claim)
    reached = verdict(claim, measured)
    settings = [
        {"zh": s.zh, "en": s.en, "number": number(s, measured[name]), "values": measured[name].values}
        for name, s in claim.settings.items()
    ]
    words = {"verdict": reached.kind, "zh": reached.zh, "en": reached.en}
    return {"id": claim.id, "chapter": chapter, "source": claim.source, **words, "settings": settings}
