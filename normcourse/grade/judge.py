"""Grades submissions without ever running their code: draws the cases, sends them into the sandbox, compares the arrays
that come back with the right ones, which exist only here.

    Exam     the tasks of this run with their cases and right answers, the same for everybody
    grade    one submission -> a result, a dict of plain data that `report` turns into tables and pages
    Run      many submissions: in parallel, interrupted and continued
"""

import builtins
import concurrent.futures
import hashlib
import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from .. import check
from ..check.case import compare, right_answer
from ..check.hidden import earned, load_each
from . import notebook, wire
from .notebook import Refused
from .sandbox import NoSandbox

CELL_SECONDS = 10.0  # for one cell of a notebook
NOTEBOOK_SECONDS = 60.0  # for all of them, however often they are run
# The kinds of errors that a report names. Others may be the learner's own, and their names say anything.
KNOWN_ERRORS = {name for name in dir(builtins) if isinstance(getattr(builtins, name), type)} | {"ForbiddenCall"}
CHILDREN = 5  # processes per submission: where one hangs or dies, the next goes on with what is left


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

    Raises: as `load_each`; ValueError where a task's own answer fails on one of its cases.
    """

    def __init__(self, folder, seed):
        self.exercises, self.seed = load_each(folder), seed
        self.visible = check.tasks()
        self.trials = {
            name: self._trials(task, self._generator(name))
            for tasks, _ in self.exercises.values()
            for name, task in tasks.items()
        }
        self._shown = {}

    def shown(self, name):
        """The trials of the visible cases of a task, and the answers of its listed mistakes; none without a visible
        check of this name."""
        if name not in self._shown and name in self.visible:
            task = self.visible[name]
            trials = self._trials(task, torch.Generator().manual_seed(0))
            self._shown[name] = trials, check.answers_of_mistakes(task, [trial.case for trial in trials])
        return self._shown.get(name, ([], {}))

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
            header, arrays = wire.write_case(case)
            rules = {"task": task.name, "without": list(task.without), "closed": list(task.closed)}
            size = sum(tensor.numel() for tensor in [*right.results, *right.gradients.values()]) * 8
            trials.append(Trial(case, right, rules | {"case": header}, arrays, 4 * size + (1 << 20)))
        return trials


def fingerprint(folder):
    """A digest of the hidden tests, so that a run is not continued with others."""
    digest = hashlib.sha256()
    for file in sorted(Path(folder).glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


# One submission -------------------------------------------------------------------------------------------------------


def grade(submission, content, exam, sandbox):
    """The result of a submission, and whether a clock or the death of its process had a part in it. Raises: Refused."""
    cells = notebook.read(content)
    exercise = _exercise(cells, submission.path, exam)
    tasks, essays = exam.exercises[exercise]
    missing = notebook.mark(cells, tasks)
    attempt = Attempt(cells, sandbox)
    results, open_questions = {}, []
    with attempt:
        for name, task in tasks.items():
            broken = notebook.broken_rules(cells, task)
            result = {"of": task.points, "points": 0.0, "cases": 0, "passed": 0, "failed": {}, "said": []}
            results[name] = result
            if name in missing:
                result["failed"] = {"missing": 1}
            elif broken:
                result["failed"], result["said"] = {"rules": len(broken)}, [_broken_words(broken)]
            else:
                _judge(task, exam.trials[name], attempt, result)
                if result["passed"] < result["cases"]:
                    open_questions.append(name)
    _explain(open_questions, tasks, exam, Attempt(cells, sandbox), results)
    result = {
        "exercise": exercise,
        "points": round(sum(result["points"] for result in results.values()), 2),
        "of": sum(task.points for task in tasks.values()),
        "tasks": results,
        "essays": {name: {"of": points, "characters": _written(cells, name)} for name, points in essays.items()},
        "notes": attempt.notes(),
        "language": language(cells),
    }
    return result, attempt.disturbed


def _judge(task, trials, attempt, result):
    """Try all cases of a task and count."""
    passed, failed = [], {}
    for trial, answer in zip(trials, attempt.answers(trials, task.seconds)):
        where = answer if isinstance(answer, str) else _difference(answer, trial)
        passed.append(where is None)
        if where:
            failed[where] = failed.get(where, 0) + 1
    result |= {"points": earned(task, passed), "cases": len(trials), "passed": sum(passed), "failed": failed}


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


class Attempt:
    """A submission's notebook in the sandbox, run when first asked something. Where its process hangs or dies, another
    is started, without the cell at which that happened, until `CHILDREN` are used up."""

    def __init__(self, cells, sandbox):
        self.code = [
            {"number": cell.number, "source": cell.source, "tasks": cell.tasks} for cell in cells if cell.kind == "code"
        ]
        self.sandbox, self.child, self.used, self.left = sandbox, None, 0, NOTEBOOK_SECONDS
        self.skipped, self.raised, self.disturbed = {}, [], False

    def answers(self, trials, seconds):
        """For each trial the `Answer`, or why there is none: "time", "ended" or "malformed"; after one of these, all
        others of the task have none either."""
        given, deadline = [], None
        for trial in trials:
            try:
                child = self._running()
                deadline = deadline or time.monotonic() + seconds
                given.append(child.call(trial.header, trial.arrays, deadline, trial.limit))
            except (TimeoutError, wire.Ended, wire.Malformed) as error:
                self._lost()
                return given + [_reason(error)] * (len(trials) - len(given))
        return given

    def _running(self):
        """The child, after the cells were run."""
        while self.child is None:
            if self.used == CHILDREN or self.left <= 0:
                raise wire.Ended
            self.used += 1
            self.child, self.raised = self.sandbox.spawn(), []
            todo, begun = [cell for cell in self.code if cell["number"] not in self.skipped], time.monotonic()
            following = iter(cell["number"] for cell in todo)
            running = next(following, None)
            try:
                for number, raised in self.child.run(todo, CELL_SECONDS, begun + self.left):
                    running = next(following, None)
                    if raised:
                        self.raised.append(number)
            except (TimeoutError, wire.Ended, wire.Malformed) as error:
                self._lost()
                self.skipped[running] = _reason(error)
            self.left -= time.monotonic() - begun
        return self.child

    def _lost(self):
        self.disturbed = True
        if self.child is not None:
            self.child.end()
            self.child = None

    def notes(self):
        """What a learner may want to know about cells: (cell number, "time", "ended", "malformed" or "raised")."""
        return sorted({**{number: "raised" for number in self.raised}, **self.skipped}.items())

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.child is not None:
            self.child.end()


def _reason(error):
    return {TimeoutError: "time", wire.Ended: "ended"}.get(type(error), "malformed")


def _explain(names, tasks, exam, attempt, results):
    """Find the likely mistakes, in a process that has seen no hidden case: what a learner's code says there, in an
    error message for example, may be shown."""
    with attempt:
        for name in names:
            trials, mistaken = exam.shown(name)
            if not trials or set(results[name]["failed"]) == {"error NotImplementedError"}:
                continue
            answers = attempt.answers(trials, tasks[name].seconds)
            if any(isinstance(answer, str) for answer in answers):
                continue
            try:
                said = check.explain(exam.visible[name], [trial.case for trial in trials], answers, mistaken)
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


def _written(cells, name):
    """How many characters an essay has."""
    own = [cell for cell in cells if cell.kind == "markdown" and cell.name == name]
    return sum(len(notebook.ESSAY.sub("", cell.source).replace(STUB, "").strip()) for cell in own)


def language(cells):
    """ "zh" if a learner writes Chinese in the cells that are theirs, else "en"; "" if they wrote nothing there."""
    own = " ".join(cell.source.replace(STUB, "") for cell in cells if cell.name and cell.kind != "raw")
    own = notebook.ESSAY.sub("", own).replace(CODE_STUB, "")
    chinese = sum("\u4e00" <= letter <= "\u9fff" for letter in own)
    essays = [cell for cell in cells if cell.kind == "markdown" and cell.name and _written(cells, cell.name)]
    return "zh" if chinese > 3 else "en" if essays else ""


STUB = "在这里写 · Write here"  # nbgrader_config.py puts these into what learners get
CODE_STUB = "在这里写你的代码 · your code goes here"


def _broken_words(broken):
    listed = [(f"第 {number} 个单元格的 {name}", f"{name} in cell {number}") for number, name in broken[:5]]
    zh, en = "、".join(zh for zh, _ in listed), ", ".join(en for _, en in listed)
    return f"不合这道题的要求，不给分：{zh}。", f"Against the rules of this task, so no points: {en}."


# Many submissions -----------------------------------------------------------------------------------------------------


class Run:
    """A run of the judge over many submissions, kept in a folder so that it can be interrupted and continued.

    Args:
        out: the folder; `out`/results holds one file per graded submission.
        tests: folder of the hidden tests.
        seed: to repeat a run; by default the one of the run that is continued, else a random one.

    Raises: ValueError where `out` holds a run with another seed or other tests.
    """

    def __init__(self, out, tests, seed=None):
        self.results = Path(out) / "results"
        self.results.mkdir(parents=True, exist_ok=True)
        state = Path(out) / "run.json"
        begun = json.loads(state.read_text()) if state.exists() else {}
        if begun and begun["tests"] != fingerprint(tests):
            raise ValueError(f"{out} holds a run with other hidden tests; give another folder with --out")
        if begun and seed is not None and begun["seed"] != seed:
            raise ValueError(f"{out} holds a run with the seed {begun['seed']}; give another folder with --out")
        self.seed = begun.get("seed", secrets.randbits(48) if seed is None else seed)
        write(state, json.dumps({"seed": self.seed, "tests": fingerprint(tests)}))
        self.exam = Exam(tests, self.seed)

    def grade(self, submissions, sandbox, jobs=1, progress=lambda done: None):
        """The results of all submissions, in their order; those that are there already are not graded again.

        What a clock or the death of a process had a part in is graded a second time, alone: it may have been the fault
        of what ran beside it.
        """
        done, again = {}, []
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            futures = {
                pool.submit(self._one, submission, sandbox, alone=False): submission for submission in submissions
            }
            try:
                for future in concurrent.futures.as_completed(futures):
                    submission, result = futures.pop(future), future.result()
                    if result is None:
                        again.append(submission)
                    else:
                        done[submission.path] = result
                        progress(len(done))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        for submission in sorted(again, key=lambda submission: submission.path):
            done[submission.path] = self._one(submission, sandbox, alone=True)
            progress(len(done))
        return [done[submission.path] for submission in submissions]

    def _one(self, submission, sandbox, alone):
        """The result of one submission, from its file if there is one; None if it is to be graded again alone."""
        digest, content, reason = submission.digest()
        file = self.results / f"{digest}.json"
        if file.exists():
            return json.loads(file.read_text(encoding="utf-8"))
        result = {
            "submission": submission.path,
            "learner": submission.learner,
            "id": submission.id,
            "system": submission.system,
            "status": "graded",
            "report": f"{digest[:12]}.html",
        }
        try:
            if reason:
                raise reason
            graded, disturbed = grade(submission, content, self.exam, sandbox)
            if disturbed and not alone:
                return None
            result |= graded
        except Refused as refused:
            result |= {"status": "failed", "reason": [refused.zh, refused.en], "points": 0.0, "tasks": {}, "essays": {}}
        except NoSandbox:
            raise
        except Exception as error:  # one bad file never stops the batch
            words = f"{type(error).__name__}: {error}"[:300]
            zh, en = f"评分程序出错：{words}", f"The judge failed on it: {words}"
            result |= {"status": "failed", "reason": [zh, en], "points": 0.0, "tasks": {}, "essays": {}}
        write(file, json.dumps(result, ensure_ascii=False, indent=1))
        return json.loads(json.dumps(result))


def write(path, content):
    """Write a file whole or not at all. content: text or bytes."""
    content = content.encode("utf-8", "replace") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
