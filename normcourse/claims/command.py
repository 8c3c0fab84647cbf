"""`python -m normcourse claims`: the ledger on the command line."""

import argparse
import json
import sys

from ..chapters import chapters
from ..i18n import text
from .cards import number
from .ledger import claims, find
from .verdicts import VERDICTS, measure, verdict


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
