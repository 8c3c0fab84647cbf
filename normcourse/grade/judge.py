"""Grades submissions without ever running their code: draws the cases, sends them into the sandbox, compares the arrays
that come back with the right ones, which exist only here.

    Exam     the tasks of this run with their cases and right answers, the same for everybody
    grade    one submission -> a result, a dict of plain data that `report` turns into tables and pages
"""

import copy
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from .. import check
from ..check.comparison import compare
from ..check.recorded import variants
from ..check.runner import right_answer
from . import notebook, wire
from .child import Attempt, Budget
from .hidden import earned, load_each
from .notebook import Refused
from .variants import constants_of, key, named, not_any_more, usual, varied

# The kinds of errors in hidden cases that a report names: with more of them it could be told what is hidden.
KNOWN_ERRORS = {"ForbiddenCall", "NameError", "NotImplementedError"}
NOT_LISTED = (
    "{0} 不在 --variants 的名单里，不知道这份题的常数是多少。把它写到名单里此人那一行，再运行一次。",
    "{0} is not on the list of --variants, so the constants of this notebook are not known. Write it into "
    "that learner's line of the list and run the same command again.",
)
NO_LIST = (
    "这份 notebook 的常数是某个学生自己的；用 --variants 给出名单，再运行一次。",
    "This notebook has constants of one learner's own; run again with the list of learners after --variants.",
)


@dataclass(frozen=True)
class Trial:
    """A case with its right answer, ready to be sent. limit: bytes that an answer may have."""

    case: object
    right: object
    header: dict
    arrays: list
    limit: int


class Exam:
    """The tasks of a run.

    Args:
        folder: of the hidden tests.
        seed: all cases are drawn from it.
        learners: for variants, as `variants.read_learners` gives them.

    Raises: as `load_each`; ValueError where a task's own answer fails on one of its cases.
    """

    constants = {}  # of the tasks, where this is the exam of one learner

    def __init__(self, folder, seed, learners=None):
        self.exercises, self.seed, self.folder = load_each(folder), seed, Path(folder)
        self.visible = check.tasks()
        self.trials = {
            name: self._trials(task, self._generator(name))
            for tasks, _ in self.exercises.values()
            for name, task in tasks.items()
        }
        self.learners, self._shown, self._variants = learners, {}, {}
        for task in [task for tasks, _ in self.exercises.values() for task in tasks.values() if learners]:
            usual(task)  # says what is wrong with it before anything is graded

    def of(self, submission, exercise, cells):
        """This exam with the constants of who handed in; without a list of learners, itself. Raises: Refused where it
        cannot be known what they are."""
        tasks, essays = self.exercises[exercise]
        varying = [task for task in tasks.values() if task.varies]
        called = any(f'\nvariant("{t.name}"' in c.source for t in varying for c in cells)
        if self.learners is None and (called or (varying and not_any_more(cells, {}))):
            raise Refused(*NO_LIST)
        if self.learners is None or not varying:
            return self
        learner = self.learner(submission)
        if not learner:
            raise Refused(*(words.format(named(submission)) for words in NOT_LISTED))
        if lost := not_any_more(cells, self.learners):
            raise Refused(*lost)
        made = copy.copy(self)
        made.constants = {task.name: constants_of(task, learner) for task in varying}
        parts = {task.name: self._variant(task, made.constants[task.name]) for task in varying}
        made.exercises = self.exercises | {exercise: (tasks | {name: part[0] for name, part in parts.items()}, essays)}
        made.trials = self.trials | {name: part[1] for name, part in parts.items()}
        made.visible = {name: known for name, known in self.visible.items() if name not in parts}
        made.visible |= {name: part[2] for name, part in parts.items() if part[2]}
        return made

    def learner(self, submission):
        """The id of who handed in, as the list of learners has it; "" without a list or for somebody else."""
        return (self.learners or {}).get(key(named(submission)), "")

    def _variant(self, task, constants):
        known = task.name, *constants.values()
        if known not in self._variants:  # drawn from another seed: other shapes, too
            own = varied(task, constants)
            trials = self._trials(own, self._generator("/".join(map(str, known))))
            shown = next((one for one in variants(task.name) if one.constants == constants), None)
            self._variants[known] = own, trials, shown
        return self._variants[known]

    def shown(self, name):
        """The trials of the visible cases of a task; none without a visible check of this name."""
        known = name, *self.constants.get(name, {}).values()
        if known not in self._shown and name in self.visible:
            task = self.visible[name]
            self._shown[known] = [_trial(name, *pair) for pair in zip(task.cases, task.right)]
        return self._shown.get(known, [])

    def _generator(self, name):
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

    @staticmethod
    def _trials(task, generator):
        trials = []
        for case in task.cases(generator):
            right = right_answer(task, case)
            if right.error is not None:
                raise ValueError(f"{task.name}: its own answer fails on the case “{case.en}”: {right.error}")
            trials.append(_trial(task.name, case, right))
        return trials


def _trial(name, case, right):
    header, arrays = wire.write_case(case)
    size = sum(tensor.numel() for tensor in [*right.results, *right.gradients.values()]) * 8
    limit = 4 * size + (1 << 20)
    return Trial(case, right, {"task": name, "case": header, "limit": limit}, arrays, limit)


def fingerprint(folder):
    """A digest of the hidden tests, so that a run is not continued with others."""
    digest = hashlib.sha256()
    for file in sorted(Path(folder).rglob("*.py")):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


# One submission -------------------------------------------------------------------------------------------------------


def grade(submission, content, exam, sandbox):
    """The result of a submission, and whether a clock or the end of its process cost it points. Raises: Refused."""
    cells = notebook.read(content)
    exercise = _exercise(cells, submission.path, exam)
    exam = exam.of(submission, exercise, cells)
    tasks, essays = exam.exercises[exercise]
    results, budget = {}, Budget(2 * sum(task.seconds for task in tasks.values()))
    begin = lambda **options: Attempt(cells, tasks, sandbox, budget, **options)  # noqa: E731
    with begin(restricted=True) as attempt:
        missing = attempt.reading()
        for name, task in tasks.items():
            results[name] = {"of": task.points, "points": 0.0, "cases": 0, "passed": 0, "failed": {}, "said": []}
            if name in missing:
                as_text = any(
                    c.kind != "code" and (m := notebook.CODE.search(c.source)) and m[1] == name for c in cells
                )
                results[name]["failed"] = {"as text" if as_text else "missing": 1}
            else:
                results[name] |= _judge(task, exam.trials[name], attempt)
    left = [name for name in tasks if results[name]["points"] < tasks[name].points]
    disturbed, notes = attempt.disturbed, []
    if left:
        with begin() as attempt:
            attempt.reading()  # its cells are run, whatever is asked of them
            for name in left:
                if name not in missing:
                    settle(tasks[name], results[name], _judge(tasks[name], exam.trials[name], attempt))
            attempt.finish()
        disturbed, notes = disturbed or attempt.disturbed, attempt.notes()
        wrong = [name for name in left if results[name]["cases"]]
        forbidden = [name for name in wrong if "error ForbiddenCall" in results[name]["failed"]]
        _explain(forbidden, tasks, exam, begin(restricted=True), results)
        plain = [name for name in wrong if name not in forbidden and "open" not in results[name]["failed"]]
        _explain(plain, tasks, exam, begin(), results)
    for result in results.values():
        result.pop("why", None)
    result = {
        "exercise": exercise,
        "points": round(sum(result["points"] for result in results.values()), 2),
        "of": sum(task.points for task in tasks.values()),
        "tasks": results,
        "essays": {name: {"of": points, "characters": _written(cells, name)} for name, points in essays.items()},
        "notes": notes,
        "code": {name: code for name in tasks if (code := _code(cells, name))},
        "language": language(cells),
        **({"constants": exam.constants} if exam.constants else {}),
    }
    return result, disturbed and result["points"] < result["of"]


def _judge(task, trials, attempt):
    """Try all cases of a task and count. why: what the first answer raised."""
    passed, failed, why = [], {}, None
    for trial, answer in zip(trials, attempt.answers(trials, task.seconds)):
        where = answer if isinstance(answer, str) else _difference(answer, trial)
        passed.append(where is None)
        if where:
            failed[where] = failed.get(where, 0) + 1
            why = why or (answer if isinstance(answer, str) else answer.error)
    failed = dict(sorted(failed.items()))  # in which order it failed would tell something of the hidden cases
    points = earned(task, passed)
    return {"points": points, "cases": len(trials), "passed": sum(passed), "failed": failed, "why": why}


def settle(task, result, plain):
    """What counts of a task whose answer was not all right in the second world. plain: how it did in its notebook, as
    `_judge` counts. Points that it has only there are open: the instructor decides."""
    if not (task.without or task.only or task.closed):
        result |= plain
    elif plain["points"] <= result["points"]:
        result |= plain | {"points": result["points"], "passed": max(result["passed"], plain["passed"])}
    elif "error ForbiddenCall" not in result["failed"]:
        words = _not_understood(result["why"] or "")
        result |= plain | {"points": result["points"], "failed": {"open": plain["passed"] - result["passed"]}}
        result |= {"open": round(plain["points"] - result["points"], 2), "reason": words}


ALONE = {
    "": ("单独运行时得到别的数。", "By itself it gives other numbers."),
    "time": ("单独运行时超时。", "By itself it runs out of time."),
    "ended": ("单独运行时进程退出。", "By itself it ends the process."),
    "malformed": ("单独运行时返回的东西读不出来。", "By itself it returns what cannot be read."),
}


def _not_understood(why):
    """What the second world says it does not hold, in words. It may quote a learner's code."""
    if why in ALONE:
        return ALONE[why]
    if not why.startswith("NotUnderstood: "):  # the answer's own words, and no more than that
        return f"单独运行时报错：“{why[:150]}”", f"By itself it raises “{why[:150]}”"
    words = why.removeprefix("NotUnderstood: ")
    cell, line, what = words.split(":", 2) if words.count(":") > 1 else ("", "", words)
    if cell.isdecimal() and line.isdecimal() and cell != "0":
        return f"第 {cell} 个单元格第 {line} 行：{what.strip()}"[:200], f"Cell {cell}, line {line}: {what.strip()}"[
            :200
        ]
    return (what.strip()[:200],) * 2


def _difference(answer, trial):
    """None, or in which respect an answer that hostile code may have written is not the right one."""
    try:
        difference = compare(answer, trial.right, trial.case)
    except Exception:  # a shape, a device or a dtype that does not go together: not a right answer
        return "kind"
    if difference is None:
        return None
    if difference.where == "error":
        kind = answer.error.partition(":")[0]
        return f"error {kind}" if kind in KNOWN_ERRORS else "error"
    return difference.where


def _explain(names, tasks, exam, attempt, results):
    """Find the likely mistakes, in a process that has seen no hidden case: what a learner's code says there, in an
    error message for example, may be shown."""
    with attempt:
        for name in names:
            trials = exam.shown(name)
            if not trials or set(results[name]["failed"]) == {"error NotImplementedError"}:
                continue
            answers = attempt.answers(trials, tasks[name].seconds)
            if any(isinstance(answer, str) for answer in answers):
                continue
            try:
                said = check.explain(exam.visible[name], answers)
            except Exception:  # an answer that fits nothing
                continue
            results[name]["said"] = list(dict.fromkeys(words for words in said if words))
            results[name]["visible"] = not results[name]["said"]


def _exercise(cells, path, exam):
    """Which exercise a notebook is: the one most of whose tasks are marked in it, else the one its path names."""
    names = {cell.name for cell in cells}
    marked = {
        exercise: len(names & {*tasks, *essays, *(f"{task}_check" for task in tasks)})
        for exercise, (tasks, essays) in exam.exercises.items()
    }
    best = max(marked, key=marked.get)
    if marked[best]:
        return best
    named = [exercise for exercise in exam.exercises if exercise in path]
    if named:
        return max(named, key=len)
    raise Refused(
        "这里没有本课程的练习：没有一个单元格以 # EXERCISE: 开头。",
        "None of this course's exercises: no cell begins with # EXERCISE:.",
    )


SHOWN = 6000  # characters of an answer that a report shows


def _code(cells, name):
    """The cells with an answer, as text with their numbers: those marked for it, else those that define its name. The
    code is not parsed here."""
    code = [cell for cell in cells if cell.kind == "code"]
    own = [cell for cell in code if cell.name == name]
    if not own:
        begins = re.compile(rf"^(?:def|class)[ \t]+{name}\b|^{name}[ \t]*=", re.M)
        own = [cell for cell in code if begins.search(cell.source)][-1:]
    return [[cell.number, cell.source[:SHOWN]] for cell in own[-3:]]


def _written(cells, name):
    """How many characters an essay has."""
    own = [cell for cell in cells if cell.kind == "markdown" and cell.name == name]
    return sum(len(notebook.ESSAY.sub("", cell.source).replace(STUB, "").strip()) for cell in own)


def language(cells):
    """ "zh" if a learner writes Chinese in the cells that are theirs, else "en"; "" if they wrote nothing there."""
    own = " ".join(cell.source.replace(STUB, "") for cell in cells if cell.name and cell.kind != "raw")
    own = notebook.ESSAY.sub("", own).replace(notebook.CODE_STUB, "")
    chinese = sum("\u4e00" <= letter <= "\u9fff" for letter in own)
    essays = [cell for cell in cells if cell.kind == "markdown" and cell.name and _written(cells, cell.name)]
    return "zh" if chinese > 3 else "en" if essays else ""


STUB = "在这里写 · Write here"  # nbgrader_config.py puts these into what learners get
