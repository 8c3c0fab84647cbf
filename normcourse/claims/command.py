"""`python -m normcourse claims`: the ledger on the command line."""

import argparse
import json
import math
import sys
from statistics import mean

from ..chapters import chapters
from ..i18n import text
from .cards import condition, number
from .docket import EvidenceFailed, hear, sources
from .ledger import claims, find
from .verdicts import VERDICTS, verdict

LABELS = {
    "source": ("出处", "source"),
    "chapter": ("章", "chapter"),
    "number": ("量的是", "number"),
    "conditions": ("条件", "conditions"),
    "reason": ("理由", "reason"),
    "consequence": ("怎么办", "in practice"),
}


class Unknown(ValueError):
    """A filter names what is not there."""


def main(given=None):
    """`python -m normcourse claims`: measure and print the claims, or those that are chosen."""
    parser = argparse.ArgumentParser(
        prog="python -m normcourse claims",
        description="现场测量流行的说法，按规则判决；预先跑好的长实验只读结果。\n"
        "Measure the popular claims and judge them by rule; of the recorded long runs the results are read.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="help", help="显示这段说明 · show this help")
    parser.add_argument("id", nargs="*", help="说法的编号，不写就是全部 · ids; all of them without one")
    parser.add_argument("--chapter", help="只看这一章的 · only those of this chapter, as 1")
    parser.add_argument("--source", help="只看这篇文章的 · only those of this source text, as S0")
    parser.add_argument("--verdict", help=f"只看这种判决的 · only those with this verdict: {', '.join(VERDICTS)}")
    parser.add_argument("--jobs", type=int, help="几个进程 · processes (2)")
    parser.add_argument("--json", action="store_true", help="输出 JSON · print JSON")
    options = parser.parse_args(given)
    try:
        chosen = chosen_by(options)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    rows, heard = [], hear(chosen, options.jobs)
    try:
        for claim, measured in heard:
            row = _row(claim, measured)
            if options.verdict in (None, row["verdict"]):
                rows.append(row)
                if not options.json:
                    print(printed(row), flush=True)
    except EvidenceFailed as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(rows, ensure_ascii=False, indent=1))
    else:
        counts = {kind: sum(row["verdict"] == kind for row in rows) for kind in VERDICTS}
        zh = "，".join(f"{VERDICTS[kind][0]} {count}" for kind, count in counts.items() if count)
        en = ", ".join(f"{VERDICTS[kind][1]}: {count}" for kind, count in counts.items() if count)
        print(text(f"共 {len(rows)} 条。{zh}", f"{len(rows)} claims. {en}"))
    return 0


def chosen_by(options):
    """The claims that ids, chapter and source choose, in the order of the ledger.

    Raises: ValueError, in both languages, for one that is not there.
    """
    ids = {find(name).id for name in options.id}
    found = [claim for claim in claims().values() if not ids or claim.id in ids]
    numbers = {str(chapter.number): chapter.folder.name for chapter in chapters()}
    if options.chapter is not None:
        wanted = numbers.get(options.chapter.lstrip("0") or "0")
        _known(
            "章", "chapter", options.chapter, wanted, [n for n in numbers if numbers[n] in {c.chapter for c in found}]
        )
        found = [claim for claim in found if claim.chapter == wanted]
    if options.source is not None:
        texts = sorted({source for claim in claims().values() for source in sources(claim)})
        wanted = options.source if options.source in texts else options.source.upper()
        _known("出处", "source", options.source, wanted if wanted in texts else None, texts)
        found = [claim for claim in found if wanted in sources(claim)]
    wanted = options.verdict if options.verdict in VERDICTS else None
    if options.verdict is not None:
        _known("判决", "verdict", options.verdict, wanted, VERDICTS)
    return found


def _known(zh, en, given, wanted, known):
    if wanted is None:
        names = ", ".join(known)
        raise Unknown(f"没有{zh} {given!r}；有的是 {names}。 unknown {en} {given!r}; known are {names}")


def _row(claim, measured):
    """What is known of a claim, as JSON has it; an end that a rule or an interval does not have is None."""
    (chapter,) = (c for c in chapters() if c.folder.name == claim.chapter)
    reached = verdict(claim, measured)
    settings = []
    for name, setting in claim.settings.items():
        of_it = measured[name]
        settings.append(
            {"name": name, "zh": setting.zh, "en": setting.en, "number": number(setting, of_it)}
            | {"values": of_it.values, "mean": mean(of_it.values), "interval": _finite(of_it.interval)}
            | {"exact": of_it.exact, "at_the_edge_of_its_grid": of_it.edge}
            | {"holds_between": _finite(setting.holds_between), "rule": condition(setting)}
            | {"holds": of_it.holds(*setting.holds_between)}
        )
    return (
        {"id": claim.id, "chapter": chapter.number, "chapter_title": chapter.title, "source": claim.source}
        | {"statement": claim.statement, "verdict": reached.kind, "zh": reached.zh, "en": reached.en}
        | {"number": claim.number, "settings": settings, "conditions": claim.conditions}
        | {"consequence": claim.consequence, "evidence": claim.code if claim.evidence else None}
    )


def _finite(ends):
    return [end if math.isfinite(end) else None for end in ends]


def printed(row):
    """A claim as the terminal shows it, in the language in force."""
    words = [f"\n{row['id']:4} {text(row['zh'], row['en'], '  ')}", _line(None, row["statement"])]
    words.append(_line("source", dict.fromkeys(("zh", "en"), row["source"])))
    words.append(
        _line("chapter", {code: f"{row['chapter']:02d} {row['chapter_title'][code]}" for code in ("zh", "en")})
    )
    if row["settings"]:
        words.append(_line("number", row["number"]))
        width = max(len(setting["number"]) for setting in row["settings"])
        marks = {True: "+", False: "-", None: "?"}
        for setting in row["settings"]:
            rule = f"{marks[setting['holds']]} {setting['number']:{width}}  ({setting['rule']})"
            words.append(f"       {rule}  {text(setting['zh'], setting['en'], ' · ')}")
    words.append(_line("conditions" if row["settings"] else "reason", row["conditions"]))
    words.append(_line("consequence", row["consequence"]))
    return "\n".join(words)


def _line(label, words):
    zh, en = (f"{LABELS[label][0]}：", f"{LABELS[label][1]}: ") if label else ("", "")
    return text(f"     {zh}{words['zh']}", f"     {en}{words['en']}")
