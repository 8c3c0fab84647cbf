"""`make exercises`: solutions/NN_topic/exercise.md -> NN_topic.ipynb beside it, run -> exercises/ by nbgrader. What
the learner's check needs of tasks.py and mistakes.py is recorded in normcourse/check/recorded/.

Arguments: names to build, e.g. `03`; all by default. A text source needs no nbgrader metadata. A cell that begins with
`# EXERCISE: name` is to be filled in, the one that calls `check("name", …)` is graded, and a text cell that begins with
`<!-- EXERCISE: name -->` is an essay; points come from tasks.py.
"""

import base64
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

from normcourse.check import recorded
from normcourse.grade.hidden import load, load_each
from normcourse.grade.variants import variants, varied

from . import ROOT
from .build_notebooks import Text, chosen, execute, read

SOLUTIONS, EXERCISES = ROOT / "solutions", ROOT / "exercises"
HIDDEN = """### BEGIN HIDDEN TESTS
from normcourse.grade.hidden import assert_right

assert_right("{name}", {name})
### END HIDDEN TESTS
"""


def exercises(names=()):
    """The `Text`s of the exercises whose names start with one of `names` (of all without any)."""
    return chosen([Text(path.parent.name, path) for path in sorted(SOLUTIONS.glob("[0-9]*/exercise.md"))], names)


def solution(source):
    """The solution notebook of a text source, with nbgrader's metadata, not yet run."""
    tasks, essays = load(SOLUTIONS)
    notebook = read(source)
    for cell in notebook.cells:
        written = re.match(r"# EXERCISE: (\w+)|<!-- EXERCISE: (\w+) -->", cell.source)
        checked = re.search(r'^check\("(\w+)"', cell.source, re.M) if cell.cell_type == "code" else None
        if written and written[1]:
            cell.metadata.nbgrader = _nbgrader(written[1], solution=True)
        elif written:
            cell.metadata.nbgrader = _nbgrader(written[2], solution=True, points=essays[written[2]])
        elif checked:
            name = checked[1]
            cell.source = HIDDEN.format(name=name) + cell.source
            cell.metadata.nbgrader = _nbgrader(f"{name}_check", locked=True, points=tasks[name].points)
    return notebook


def _nbgrader(grade_id, solution=False, locked=False, points=None):
    flags = {"solution": solution, "locked": locked, "grade": points is not None, "task": False}
    return {"schema_version": 3, "grade_id": grade_id, **flags} | ({} if points is None else {"points": points})


def record(name, folder=recorded.FOLDER):
    """Record what the learner's check needs of an exercise's tasks."""
    folder.mkdir(exist_ok=True)
    tasks = load_each(SOLUTIONS)[name][0].values()
    recorded.write(folder / f"{name}.gz", tasks)
    for task in filter(lambda task: task.varies, tasks):
        (folder / "variants").mkdir(exist_ok=True)
        own = [varied(task, constants) for constants in variants(task)]
        recorded.write(folder / "variants" / f"{task.name}.xz", own)


def build_solution(name, source):
    start, folder = time.monotonic(), SOLUTIONS / name
    for old in folder.glob("expected_*.png"):
        old.unlink()
    notebook = execute(solution(source), folder=folder)
    figures = [cell for cell in notebook.cells if "expected" in cell.metadata.get("tags", [])]
    for number, cell in enumerate(figures, 1):
        picture = next(output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {}))
        (folder / f"expected_{number}.png").write_bytes(base64.b64decode(picture))
    notebook.metadata.language_info = {"name": "python"}  # not the version of Python that ran it
    nbformat.write(notebook, folder / f"{name}.ipynb")
    print(f"{name}: {time.monotonic() - start:.0f} s")


def release(names, root=ROOT):
    """Write `root`/exercises/NAME from solutions/NAME with nbgrader."""
    with tempfile.TemporaryDirectory() as folder:
        course = Path(folder)
        shutil.copy(ROOT / "nbgrader_config.py", course)
        for name in names:
            shutil.copytree(SOLUTIONS / name, course / "solutions" / name)
        for name in names:
            command = [sys.executable, "-m", "nbgrader", "generate_assignment", name, "--no-db", "--force"]
            done = subprocess.run(command, cwd=course, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"nbgrader could not release {name}:\n{done.stderr[-3000:]}")
            shutil.rmtree(root / "exercises" / name, ignore_errors=True)
            shutil.copytree(course / "exercises" / name, root / "exercises" / name)


def main():
    wanted = exercises(sys.argv[1:])
    for name, _ in wanted:
        record(name)
    for text in wanted:
        build_solution(*text)
    release([name for name, _ in wanted])


if __name__ == "__main__":
    main()
