"""The visible checks of the exercises: `check("layer_norm", layer_norm)` says case by case what holds, and for a case
that fails the likely mistake, in the language in force.

Read from above to below, each uses only what stands before it:

    case        what a task is made of: Case, Mistake, Task, Answer
    rules       what a task forbids
    runner      uses a function as a case says, under the rules, and gives an Answer
    errors      what an error that was raised most likely means
    comparison  how an Answer differs from the right one; it knows `case` and `errors` alone
    wire        cases and answers as bytes
    recorded    what a learner's check knows of the tasks
    allowed     what an answer may be written with, so that the judge follows it by itself
    kinds       what a class of an answer may derive from there
    cutting     an answer and what it uses, out of the source of a notebook
    plainer     that source in fewer words
    world       where they live; the judge has the same
    alone       whether the judge will follow an answer

How it knows the mistake: for each task the numbers that people's usual mistakes give are on record. If yours are
exactly those of one of them, that is the mistake; otherwise you read where the numbers differ.
"""

import html
import re
import time

from .. import progress
from ..i18n import on_language_change, text
from .case import Case, Function, Mistake, Task
from .comparison import differences, error_type, same_answer, same_part
from .recorded import tasks, variant
from .rules import ForbiddenCall
from .runner import answer

__all__ = [
    "Case",
    "Function",
    "Mistake",
    "Task",
    "check",
    "diagnose",
    "explain",
    "no_triton",
    "once_written",
    "tasks",
    "variant",
]

_shown = {}  # task: the report on the screen
STUB = "在这里写你的代码 · your code goes here"  # what an unedited stub raises, see nbgrader_config.py


NO_TRITON = (
    "这道题要用 Triton 写核函数，但这里没有安装。Triton 只有 Linux 版：pip install 'normcourse[fused]'；"
    "其他系统可以用 WSL 2 或 Colab。",
    "This task is written in Triton, which is not installed here. Triton exists for Linux only: "
    "pip install 'normcourse[fused]'; elsewhere use WSL 2 or Colab.",
)


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
        names = ", ".join(known)
        raise ValueError(text(f"没有题目 {name!r}，有的是 {names}", f"no task {name!r}; the tasks are {names}"))
    if not callable(solution):
        call = f"check({name!r}, {name})"
        raise TypeError(
            text(
                f"{name} 是 {solution!r}；要给出函数或类本身，不要调用它：{call}",
                f"{name} is {solution!r}; pass the function or class itself, without calling it: {call}",
            )
        )
    begun = time.monotonic()
    report = Report(name, list(zip(known[name].cases, diagnose(known[name], solution))))
    if report:
        progress.record("passed", name, "yes")
        from .alone import unclear

        report.aside = unclear(known[name], solution, seconds=0.5 + (time.monotonic() - begun) / 2)
    return report


def diagnose(task, solution):
    """For each visible case of a task None if the solution is right, else what to tell the learner: (中文, English)."""
    if task.only and not _triton():
        return [NO_TRITON] * len(task.cases)
    return explain(task, [answer(solution, case, task) for case in task.cases])


def _triton():
    """Whether kernels can be written here."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True


def explain(task, mine):
    """As `diagnose`, from the answers that a solution gave.

    A mistake is named where its answer is the same and wrong, if it agrees in at least half of the cases that raise
    nothing; if several do, the one that agrees in most. Where none is the same as a whole, the results are looked at
    one by one. A mistake that is known from other cases is also named where it fails in the same results with other
    numbers: those of finite differences, say, are another processor's.
    """
    wrong = [list(differences(*answers)) for answers in zip(mine, task.right, task.cases)]
    if not any(wrong):
        return [None] * len(wrong)
    known = []
    for zh, en, theirs in task.mistakes:
        # The words of an error change with versions. Its type alone says something if all cases raise alike.
        alike = [*map(error_type, mine)] == [*map(error_type, theirs)]
        agrees = [
            same_answer(one, other, case) and (alike or one.error == other.error)
            for one, other, case in zip(mine, theirs, task.cases)
        ]
        failing = [_places(differences(*answers)) for answers in zip(theirs, task.right, task.cases)]
        known.append(((zh, en), theirs, agrees, failing))
    known.sort(key=lambda mistake: -sum(mistake[2]))

    def often(same, theirs):
        counted = [yes for yes, *pair in zip(same, mine, theirs) if all(one.error is None for one in pair)]
        return 2 * sum(counted) >= len(counted)

    def mistake(i):
        for words, theirs, agrees, failing in known:
            if agrees[i] and failing[i] and often(agrees, theirs):
                return words
        for part in [found.part for found in wrong[i] if found.part]:
            for words, theirs, _, failing in known:
                same = [same_part(*pair, part) for pair in zip(mine, theirs, task.cases)]
                if same[i] and part in {place[1] for place in failing[i]} and often(same, theirs):
                    return words
        for words, theirs, agrees, failing in known if mine[i].error is None else ():
            telling = [yes for yes, fails in zip(agrees, failing) if fails]
            if _places(wrong[i]) == failing[i] and 2 * sum(telling) >= len(telling) > 0 and often(agrees, theirs):
                return words
        return None

    raising = {case.device for case, one in zip(task.cases, mine) if one.error}
    numberless = raising == {"meta"}  # what fails there alone reads numbers

    def words(i):
        kind, _, message = (mine[i].error or "").partition(": ")
        if kind == NotImplementedError.__name__ and message in ("", STUB):
            return "还没有写。", "Not written yet."
        if kind == ForbiddenCall.__name__:
            if not re.fullmatch(r"[a-zA-Z0-9_.]{1,80}", message):  # the learner has raised it
                message = "…"
            own = "." in message  # numpy.var, normcourse.norms.layer_norm
            zh, en = (message, message) if own else (f"PyTorch 的 {message}", f"PyTorch's {message}")
            return f"这道题不能调用 {zh}。", f"This task is to be solved without calling {en}."
        return mistake(i) or _sentences(wrong[i], numberless)

    return [words(i) if found else None for i, found in enumerate(wrong)]


def _places(differences):
    return {(found.where, found.part) for found in differences}


def _sentences(wrong, numberless):
    """What is wrong in a case, where no mistake is known: the first difference, and whether inputs were changed.
    numberless: whether it fails because there are no numbers."""
    told = [wrong[0], *(found for found in wrong[1:] if found.where == "changed")]
    zh, en = "。".join(found.zh for found in told), ". ".join(found.en[0].upper() + found.en[1:] for found in told)
    if wrong[0].where == "error" and "in-place operation" in wrong[0].en:
        return f"{zh}。你的代码改写了输入：先取副本。", f"{en}. Your code writes to its input; work on a copy."
    if wrong[0].where == "error" and numberless:
        advice = "不要取出数值，新张量写上 device=x.device", "do not read values, and give new tensors device=x.device"
        return (
            f"{zh}。这个情形没有数值（meta 设备）：{advice[0]}。",
            f"{en}. This case has no numbers (device meta): {advice[1]}.",
        )
    return f"{zh.rstrip('。？')}{'？' if zh.endswith('？') else '。'}", f"{en}{'' if en.endswith('?') else '.'}"


class NoTriton(NotImplementedError):
    """A kernel is launched where there is no Triton."""


class _NoTriton:
    """Stands in for `triton` and `triton.language` where there is none: kernels can be written down, not launched."""

    def __getattr__(self, name):
        return self

    def __call__(self, *arguments, **options):
        return self

    def __getitem__(self, grid):
        raise NoTriton(text(*NO_TRITON))


no_triton = _NoTriton()


def once_written(compute):
    """What `compute()` gives; where it needs a function that is not written yet, says so instead of an error."""
    try:
        return compute()
    except NoTriton:
        return Note(*NO_TRITON)
    except NotImplementedError as error:
        if str(error) not in ("", STUB):
            raise
        while error.__traceback__.tb_next:
            error.__traceback__ = error.__traceback__.tb_next
        name = error.__traceback__.tb_frame.f_code.co_qualname.partition(".")[0]
        return Note(f"先写好 {name}，再运行这个单元格。", f"Write {name} first, then run this cell.")


class Note:
    """A sentence in the language in force."""

    def __init__(self, zh, en):
        self.zh, self.en = zh, en

    def __repr__(self):
        return text(self.zh, self.en)

    def _repr_html_(self):
        return f"<p><em>{html.escape(repr(self)).replace(chr(10), '<br>')}</em></p>"


class Report:
    """What `check` found: true if every case is right. `failures` lists (case, (中文, English)). aside: None, or what
    else there is to say, (中文, English)."""

    aside = None

    def __init__(self, name, findings):
        self.name, self.findings = name, findings
        self.failures = [(case, diagnosis) for case, diagnosis in findings if diagnosis]

    def __bool__(self):
        return not self.failures

    def _rows(self):
        """Mark, name of the case and diagnosis of each; the one of the failing case before is not repeated."""
        above = None
        for case, diagnosis in self.findings:
            name = text(case.zh, case.en, between=" · ")
            if diagnosis is None:
                yield "✓", name, ""
                continue
            yield "✗", name, text("同上。", "As above.", " ") if diagnosis == above else text(*diagnosis)
            above = diagnosis

    def _summary(self):
        count, right = len(self.findings), len(self.findings) - len(self.failures)
        if self:
            zh, en = f"{count} 种情形全部通过。", f"All {count} cases pass."
            return text(
                f"{zh}这些是看得见的，评分另用隐藏的。",
                f"{en} These are the visible ones; hidden ones are graded.",
                " ",
            )
        return text(f"{count} 种情形通过了 {right} 种。", f"{right} of {count} cases pass.", between=" ")

    def __repr__(self):
        lines = [f"{self.name}: {self._summary()}"]
        for mark, case, words in self._rows():
            lines.append(f"  {mark} {case}")
            lines += [f"      {line}" for line in words.splitlines()]
        return "\n".join([*lines, text(*self.aside)] if self.aside else lines)

    def _ipython_display_(self):
        """Shown, not returned: nbgrader would take what a graded cell returns for its points. It follows the language
        until the task is checked again."""
        from IPython.display import display

        self._handle = display(self._bundle(), raw=True, display_id=True)
        _shown[self.name] = self
        on_language_change(self._follow)

    def _follow(self):
        self._handle.update(self._bundle(), raw=True)

    def _bundle(self):
        return {"text/plain": repr(self), "text/html": self._html()}

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
        aside = html.escape(text(*self.aside)).replace("\n", "<br>") if self.aside else ""
        aside = aside and f'<p style="max-width:52em">{aside}</p>'
        return f"<p><b>{html.escape(self.name)}</b>: {self._summary()}</p><table>{rows}</table>{aside}"
