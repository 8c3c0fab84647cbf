"""The visible checks of the exercises: `check("layer_norm", layer_norm)` says case by case what holds, and for a case
that fails the likely mistake, in the language in force.

How it knows the mistake: for each task the numbers that people's usual mistakes give are on record. If yours are
exactly those of one of them, that is the mistake; otherwise you read where the numbers differ.
"""

import html

from ..i18n import text
from .case import Case, ForbiddenCall, Function, Mistake, Task, answer, compare, same_answer
from .recorded import tasks

__all__ = ["Case", "Function", "Mistake", "Task", "check", "diagnose", "explain", "tasks"]


def check(name, solution):
    """Try a solution on the visible cases of a task.

    Args:
        name: of the task, as in the cell's marker `# EXERCISE: name`.
        solution: the function or class that was to be written.

    Returns: a `Report`; put the call last in its cell to see it.
    Raises: ValueError for an unknown name, TypeError for something that cannot be called.
    """
    known = tasks()
    if name not in known:
        raise ValueError(f"no task {name!r}; the tasks are {', '.join(known)}")
    if not callable(solution):
        raise TypeError(
            f"{name} is {solution!r}; pass the function or class itself, without calling it: check({name!r}, {name})"
        )
    return Report(name, list(zip(known[name].cases, diagnose(known[name], solution))))


def diagnose(task, solution):
    """For each visible case of a task None if the solution is right, else what to tell the learner: (中文, English)."""
    return explain(task, [answer(solution, case, task) for case in task.cases])


def explain(task, mine):
    """As `diagnose`, from the answers that a solution gave.

    Where several of the task's mistakes give the same wrong numbers, the one that agrees in most cases is named.
    """
    differences = [compare(*answers) for answers in zip(mine, task.right, task.cases)]
    if not any(differences):
        return differences
    mistakes = [
        (zh, en, theirs, [same_answer(*pair) for pair in zip(mine, theirs)]) for zh, en, theirs in task.mistakes
    ]
    mistakes.sort(key=lambda mistake: -sum(mistake[3]))

    def words(i):
        kind, _, message = (mine[i].error or "").partition(": ")
        if kind == NotImplementedError.__name__:
            return "还没有写。", "Not written yet."
        if kind == ForbiddenCall.__name__:
            return f"这道题不能调用 {message}。", f"This task is to be solved without calling {message}."
        for zh, en, theirs, agrees in mistakes:
            if agrees[i] and compare(theirs[i], task.right[i], task.cases[i]):
                return zh, en
        return f"{differences[i].zh}。", f"{differences[i].en[0].upper()}{differences[i].en[1:]}."

    return [difference and words(i) for i, difference in enumerate(differences)]


class Report:
    """What `check` found: true if every case is right. `failures` lists (case, (中文, English))."""

    def __init__(self, name, findings):
        self.name, self.findings = name, findings
        self.failures = [(case, diagnosis) for case, diagnosis in findings if diagnosis]

    def __bool__(self):
        return not self.failures

    def _rows(self):
        """Mark, name of the case and diagnosis of each; a diagnosis that was already given is not repeated."""
        given = set()
        for case, diagnosis in self.findings:
            words = (
                ""
                if diagnosis is None
                else text(*diagnosis)
                if diagnosis not in given
                else text("同上。", "As above.", " ")
            )
            given.add(diagnosis)
            yield "✗" if diagnosis else "✓", text(case.zh, case.en, between=" · "), words

    def _summary(self):
        count, right = len(self.findings), len(self.findings) - len(self.failures)
        if self:
            return text(f"{count} 种情形全部通过。", f"All {count} cases pass.", between=" ")
        return text(f"{count} 种情形通过了 {right} 种。", f"{right} of {count} cases pass.", between=" ")

    def __repr__(self):
        lines = [f"{self.name}: {self._summary()}"]
        for mark, case, words in self._rows():
            lines.append(f"  {mark} {case}")
            lines += [f"      {line}" for line in words.splitlines()]
        return "\n".join(lines)

    def _ipython_display_(self):
        """Shown, not returned: nbgrader would take what a graded cell returns for its points."""
        from IPython.display import display

        display({"text/plain": repr(self), "text/html": self._html()}, raw=True)

    def _html(self):
        rows = ""
        for mark, case, words in self._rows():
            colour = "#b04a00" if words else "#00664b"  # both legible on a light and on a dark page
            explained = html.escape(words).replace("\n", "<br>")
            rows += (
                f'<tr><td style="color:{colour};font-weight:bold;vertical-align:top">{mark}</td>'
                f'<td style="text-align:left;vertical-align:top">{html.escape(case)}</td>'
                f'<td style="text-align:left;max-width:44em">{explained}</td></tr>'
            )
        return f"<p><b>{html.escape(self.name)}</b>: {self._summary()}</p><table>{rows}</table>"
