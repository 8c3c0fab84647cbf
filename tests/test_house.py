"""The house: a chapter is one folder, an exercise another, and nothing else has to be touched for a new one."""

import sys
from importlib import import_module

import pytest
import torch

from normcourse import chapters, record
from normcourse.check import recorded
from normcourse.grade.hidden import assert_right, load, load_each, module, score
from normcourse.grade.judge import Exam
from tools import build_exercises, build_notebooks, stamp

TEXT = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# 99 {title}

"""
TASKS = """\
from normcourse.check import Case, Task

from ..numbers import number


def right_double(x):
    return 2 * x


def cases(g):
    yield Case("一个数", "a number", {{"x": number}})


TASKS = [Task("{name}", right_double, cases, cases=cases, points=3)]
ESSAYS = {{"why_{name}": 2}}
"""
MISTAKES = """\
from normcourse.check import Mistake

from .tasks import right_double

MISTAKES = {{"{name}": (Mistake(lambda x: right_double(right_double(x)), "乘了两遍。", "It is doubled twice."),)}}
"""
EXERCISE = """
```{{code-cell}} ipython3
# EXERCISE: {name}
### BEGIN SOLUTION
{name} = lambda x: x + x
### END SOLUTION
```

```{{code-cell}} ipython3
check("{name}", {name})
```

<!-- EXERCISE: why_{name} -->
"""


def exercise(folder, number, name):
    """Write an exercise of one task into a folder of exercises."""
    own = folder / f"{number}_{name}"
    own.mkdir(parents=True)
    (folder / "numbers.py").write_text("number = 1.5\n")
    (own / "exercise.md").write_text(TEXT.format(title=name) + EXERCISE.format(name=name))
    (own / "tasks.py").write_text(TASKS.format(name=name))
    (own / "mistakes.py").write_text(MISTAKES.format(name=name), encoding="utf-8")
    return own


def test_a_new_exercise_is_a_new_folder_and_nothing_else(tmp_path, monkeypatch):
    exercise(tmp_path, "98", "doubled")
    exercise(tmp_path, "99", "twofold")
    found = load_each(tmp_path)
    assert list(found) == ["98_doubled", "99_twofold"] and found["99_twofold"][1] == {"why_twofold": 2}
    task = load(tmp_path)[0]["twofold"]
    assert score(task, lambda x: x + x, 0)[0] == task.points == 3 and score(task, lambda x: x, 0)[0] == 0
    assert [mistake.en for mistake in task.mistakes] == ["It is doubled twice."] and task.mistakes[0].wrong(1) == 4
    assert list(Exam(tmp_path, 0).trials) == ["doubled", "twofold"]

    monkeypatch.setattr(build_exercises, "SOLUTIONS", tmp_path)
    ((name, source),) = build_exercises.exercises(["99"])
    marked = [c.metadata.nbgrader for c in build_exercises.solution(source).cells if "nbgrader" in c.metadata]
    points = [(m.grade_id, m.get("points")) for m in marked]
    assert points == [("twofold", None), ("twofold_check", 3), ("why_twofold", 2)]
    build_exercises.record(name, tmp_path / "recorded")
    (known,) = recorded.read(tmp_path / "recorded" / "99_twofold.gz")
    assert known.name == "twofold" and [words[1] for words in known.mistakes] == ["It is doubled twice."]


def test_nbgrader_finds_the_tasks_of_a_new_exercise_above_the_notebook(tmp_path, monkeypatch):
    exercise(tmp_path / "solutions", "99", "fresh")
    (tmp_path / "autograded" / "solutions").mkdir(parents=True)  # not these
    monkeypatch.chdir(tmp_path / "autograded")
    assert_right("fresh", lambda x: x * 2)
    with pytest.raises(AssertionError):
        assert_right("fresh", lambda x: x * 3)


def test_exercises_of_the_same_name_in_two_folders_are_two(tmp_path):
    for folder, number in (("one", 1.5), ("two", 2.5)):
        own = exercise(tmp_path / folder, "99", "same")
        (tmp_path / folder / "numbers.py").write_text(f"number = {number}\n")
        (case,) = load(tmp_path / folder)[0]["same"].cases(torch.Generator())
        assert case.inputs == {"x": number}
        assert module(own / "tasks.py") is module(own / "tasks.py")


def test_what_is_wrong_with_an_exercise_is_said_in_both_languages(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"没有隐藏测试(.|\n)*holds no hidden tests"):
        load_each(tmp_path)
    for folder, file, old, new, zh, en in (
        ("worth", "tasks.py", "points=3", "points=0", "要有 cases 和大于 0 的 points", "needs cases and points"),
        ("there", "mistakes.py", '{"odd"', '{"even"', "没有题目 even", "has no task even"),
    ):
        own = exercise(tmp_path / folder, "99", "odd")
        text = (own / file).read_text(encoding="utf-8")
        (own / file).write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(ValueError, match=rf"{zh}(.|\n)*{en}"):
            load_each(tmp_path / folder)


@pytest.fixture
def folder_of_chapters(tmp_path, monkeypatch):
    """A folder that the course takes for that of its chapters."""
    monkeypatch.setattr(chapters, "FOLDER", tmp_path)
    monkeypatch.setattr(record, "CHAPTERS", tmp_path)
    monkeypatch.setattr(chapters, "__path__", [str(tmp_path)])
    forget = (chapters.chapters.cache_clear, record.runs.cache_clear)
    for clear in forget:
        clear()
    yield tmp_path
    monkeypatch.undo()
    for clear in forget:
        clear()
    for name in [name for name in sys.modules if name.startswith("normcourse.chapters.newcomer")]:
        del sys.modules[name]


def test_a_new_chapter_is_a_new_folder_and_nothing_else(folder_of_chapters):
    own = folder_of_chapters / "newcomer"
    own.mkdir()
    toml = 'number = 99\nminutes = 7\ntitle = { zh = "新来的", en = "A newcomer" }\n'
    (own / "chapter.toml").write_text(toml + 'measures = { zh = "量一个数", en = "one number" }\n', encoding="utf-8")
    (own / "lesson.md").write_text(TEXT.format(title="A newcomer") + "text\n")
    (own / "__init__.py").touch()
    (own / "drawings.py").write_text("def line(frame, ax):\n    ax.plot(frame['x'])\n")
    (own / "runs.py").write_text(
        "from normcourse.record import Run\n\n\ndef measure(x):\n    return {'y': 2 * x}\n\n\n"
        "RUNS = {'newcomer_runs': Run(measure, {'x': [1, 2]}, 'none')}\n"
    )
    (chapter,) = chapters.chapters()
    assert chapter.name == "99_newcomer" and chapter.minutes == 7
    row = "| 99 | [新来的](notebooks/99_newcomer.ipynb) | 量一个数 | 7 |"
    assert stamp.table("zh", "notebooks/").splitlines()[2:] == [row]
    ((name, source),) = build_notebooks.lessons()
    assert name == "99_newcomer"
    cells = build_notebooks.read(source).cells
    assert [cell.cell_type for cell in cells] == ["code", "markdown"]
    assert callable(import_module("normcourse.chapters.newcomer.drawings").line)
    assert record.find("newcomer_runs").measure(3) == {"y": 6}
    assert record.target("newcomer_runs") == own / "recorded" / "newcomer_runs.csv"


def test_every_chapter_with_an_exercise_or_tests_of_its_own_has_their_name():
    names = {chapter.name for chapter in chapters.chapters()}
    tests = {
        path.stem.removeprefix("test_") for path in (build_exercises.ROOT / "tests" / "chapters").glob("test_*.py")
    }
    assert {name for name, _ in build_exercises.exercises()} | tests <= names and len(tests) >= 4
