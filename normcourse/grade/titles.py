"""What an exercise calls its tasks: the heading above each, in both languages."""

import re
from pathlib import Path

LINE = re.compile(r"^## +(?P<heading>.+)$|^(?:# |<!-- )EXERCISE: (?P<task>\w+)", re.M)


def titles_of(exam):
    """{name of a task or essay: (中文, English)} for those with a heading such as "## 第 1 题：… · Task 1: …"."""
    found, folder = {}, getattr(exam, "folder", None)
    for exercise in exam.exercises if folder else ():
        source, heading = Path(folder, exercise, "exercise.md"), ""
        for match in LINE.finditer(source.read_text(encoding="utf-8") if source.exists() else ""):
            if match["heading"]:
                heading = match["heading"]
            elif " · " in heading:
                zh, _, en = heading.partition(" · ")
                found.setdefault(match["task"], (zh.strip(), en.strip()))
    return found
