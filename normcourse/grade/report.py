"""What comes out: tables for spreadsheets, Moodle and Canvas, a page per learner, and a summary with pictures."""

import csv
import io
import json
from pathlib import Path

from .judge import write


def tables(results, exam, out):
    """Write grades.csv and grades.json, and moodle.csv and canvas.csv where the layout named learners by number."""
    out = Path(out)
    names = [(exercise, name) for exercise, parts in exam.exercises.items() for part in parts for name in part]
    used = {result["exercise"] for result in results if "exercise" in result}
    columns = [name for exercise, name in names if exercise in used]
    rows = [["submission", "learner", "id", "exercise", "status", "points", "of", *columns, "reason", "report"]]
    for result in results:
        points = {name: task["points"] for name, task in result["tasks"].items()}
        rows.append(
            [
                *(result["submission"], result["learner"], result["id"], result.get("exercise", ""), result["status"]),
                *(_number(result["points"]), result.get("of", "")),
                *(_number(points[name]) if name in points else "" for name in columns),
                *(" · ".join(result.get("reason", [])), result["report"]),
            ]
        )
    write(out / "grades.csv", _csv(rows))
    write(out / "grades.json", json.dumps({"seed": exam.seed, "grades": results}, ensure_ascii=False, indent=1) + "\n")


def _csv(rows):
    """With a byte order mark, or Excel garbles Chinese; no cell begins like a formula."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_harmless(cell) for cell in row] for row in rows)
    return text.getvalue().encode("utf-8-sig", "replace")


def _harmless(cell):
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _number(points):
    return f"{points:g}"
