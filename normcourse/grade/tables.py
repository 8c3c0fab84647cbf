"""Tables of the results, for spreadsheets, Moodle and Canvas."""

import csv
import io
import json
import unicodedata
from pathlib import Path

from .run import write

WHOSE = "submission", "learner", "id"


def tables(results, exam, out):
    """Write grades.csv and grades.json, and what Moodle or Canvas import where their layout gave the numbers. Returns:
    the names of the files."""
    counting = best(results)
    names = [(exercise, name) for exercise, parts in exam.exercises.items() for part in parts for name in part]
    used = {result.get("exercise") for result in results}
    columns = [name for exercise, name in names if exercise in used]
    rows = [[*(*WHOSE, "exercise", "status", "points", "of", "counts"), *columns, "reason", "report", "open"]]
    for result in results:
        points = {name: task["points"] for name, task in result["tasks"].items()}
        rows.append(
            [
                *(result["submission"], result["learner"], result["id"], result.get("exercise", ""), result["status"]),
                *(shown(result["points"]), result.get("of", ""), "yes" if is_counted(result, counting) else ""),
                *(shown(points[name]) if name in points else "" for name in columns),
                *(" · ".join(result.get("reason", [])), f"reports/{result['report']}"),
                shown(sum(task.get("open", 0) for task in result["tasks"].values())),
            ]
        )
    files = {"grades.csv": csv_file(rows)}
    files["grades.json"] = json.dumps({"seed": exam.seed, "grades": results}, ensure_ascii=False, indent=1) + "\n"
    own = [result for result in results if result["system"] == "moodle"]
    graded = sorted({result["exercise"] for result in own if "exercise" in result})
    for exercise in graded:  # a worksheet belongs to one assignment
        rows = _moodle([result for result in own if result.get("exercise", exercise) == exercise], exercise, exam)
        files["moodle.csv" if len(graded) == 1 else f"moodle_{exercise}.csv"] = csv_file(rows)
    if own := [result for result in results if result["system"] == "canvas"]:
        files["canvas.csv"] = csv_file(_canvas(own))
    for name, content in files.items():
        write(Path(out, name), content)
    return list(files)


def best(results):
    """(learner, id) -> {exercise: result}, of several submissions for the same exercise that with the most points. What
    could not be graded stands under None."""
    found = {}
    for result in results:
        own = found.setdefault((result["learner"], result["id"]), {})
        known = own.get(result.get("exercise"))
        if known is None or result["points"] > known["points"]:
            own[result.get("exercise")] = result
    return found


def is_counted(result, counting):
    """Whether a submission is the one that counts. counting: as `best` returns it."""
    return result["status"] == "graded" and counting[result["learner"], result["id"]][result["exercise"]] is result


def worth(exam, exercise):
    """(points of its programming, points of its essays)."""
    tasks, essays = exam.exercises[exercise]
    return sum(task.points for task in tasks.values()), sum(essays.values())


def _moodle(results, exercise, exam):
    """The offline grading worksheet of an assignment: without these three columns Moodle does not take it. What could
    not be graded has no grade."""
    yield ["Identifier", "Full name", "Grade", "Maximum grade", "Last modified (grade)"]
    for (learner, number), own in best(results).items():
        points = shown(own[exercise]["points"]) if exercise in own else ""
        yield [f"Participant {number}", learner, points, shown(worth(exam, exercise)[0]), ""]


def _canvas(results):
    exercises = sorted({result["exercise"] for result in results if "exercise" in result})
    of = {result["exercise"]: result["of"] for result in results if "exercise" in result}
    yield ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", *exercises]
    yield ["    Points Possible", "", "", "", "", *(of[exercise] for exercise in exercises)]
    for (learner, number), own in best(results).items():
        points = [shown(own[exercise]["points"]) if exercise in own else "" for exercise in exercises]
        yield [learner, number, "", "", "", *points]


def csv_file(rows):
    """With a byte order mark, or Excel garbles Chinese; no cell begins like a formula or breaks its row."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_harmless(cell) for cell in row] for row in rows)
    return text.getvalue().encode("utf-8-sig", "replace")


def _harmless(cell):
    if not isinstance(cell, str):
        return cell
    cell = "".join(" " if unicodedata.category(letter) in ("Cc", "Zl", "Zp") else letter for letter in cell)
    return f"'{cell}" if cell.lstrip().startswith(tuple("=+-@＝＋－＠")) else cell


def shown(points):
    return f"{points:g}"
