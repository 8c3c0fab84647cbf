"""Tables of the results: for spreadsheets, and what Moodle, Canvas and Blackboard import."""

import csv
import io
import json
from pathlib import Path

from . import lms
from .run import write
from .scores import best, is_counted, shown
from .text import harmless
from .variants import written

WHOSE = "submission", "learner", "id"
ONLY_REPORTS = "code", "when"  # of a result; not in grades.json


def tables(results, exam, out, imported=None):
    """Write grades.csv and grades.json, and what a system imports where its layout gave the numbers. imported: {name of
    a file: `lms.Table`}; left out, they are made. Returns: the names of the files."""
    counting = best(results)
    names = [(exercise, name) for exercise, parts in exam.exercises.items() for part in parts for name in part]
    used = {result.get("exercise") for result in results}
    columns = [name for exercise, name in names if exercise in used]
    rows = [[*(*WHOSE, "exercise", "status", "points", "of", "counts"), *columns, "reason", "report", "open"]]
    varied = any("constants" in result for result in results)
    rows[0] += ["constants"] if varied else []
    for result in results:
        points = {name: task["points"] for name, task in result["tasks"].items()}
        rows.append(
            [
                *(result["submission"], result["learner"], result["id"], result.get("exercise", ""), result["status"]),
                *(shown(result["points"]), result.get("of", ""), "yes" if is_counted(result, counting) else ""),
                *(shown(points[name]) if name in points else "" for name in columns),
                *(" · ".join(result.get("reason", [])), f"reports/{result['report']}"),
                shown(sum(task.get("open", 0) for task in result["tasks"].values())),
                *([_constants(result)] if varied else []),
            ]
        )
    files = {"grades.csv": csv_file(rows)}
    kept = [{key: value for key, value in result.items() if key not in ONLY_REPORTS} for result in results]
    files["grades.json"] = json.dumps({"seed": exam.seed, "grades": kept}, ensure_ascii=False, indent=1) + "\n"
    for name, table in (lms.imports(results, exam)[0] if imported is None else imported).items():
        files[name] = csv_file(table.rows, table.delimiter, table.encoding, table.quoted)
    for name, content in files.items():
        write(Path(out, name), content)
    return list(files)


def _constants(result):
    return "; ".join(f"{name}: {written(one)}" for name, one in result.get("constants", {}).items())


def csv_file(rows, delimiter=",", encoding="utf-8-sig", quoted=False):
    """With a byte order mark, or Excel garbles Chinese; no cell begins like a formula or breaks its row."""
    text, quoting = io.StringIO(), csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator="\n")
    writer.writerows([harmless(cell) for cell in row] for row in rows)
    return text.getvalue().encode(encoding, "replace")
