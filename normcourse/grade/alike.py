"""Answers that are the same up to names, for the instructor to look at side by side. Never a verdict.

An answer is its tokens, with own names, numbers' spelling, texts, comments and spaces left out. What the course's own
right answers have, and what many learners have, says nothing: of a plain answer nothing is left, and it is not listed.
The rest is compared by overlapping runs of tokens, of which a few are kept (winnowing: Schleimer, Wilkerson and Aiken,
SIGMOD 2003).
"""

import ast
import builtins
import functools
import html
import itertools
import keyword
import re
import zlib
from collections import Counter, defaultdict
from pathlib import Path

from .page import both, code, learner, page

RUN, WINDOW = 6, 4  # tokens of a run; runs of which the least is kept
LEAST = 8  # runs that are an answer's own, or it is not compared
SHARE = 0.8  # of the smaller answer's own runs
SHOWN = 100  # pairs on the page
LONGEST = 20_000  # characters of an answer

TOKEN = re.compile(
    r"""(?P<skip>\#[^\n]*|\s+|\\\n)"""
    r'''|(?P<text>[rbfuRBFU]{0,2}(?:"""(?:[^\\]|\\.)*?"""|\'\'\'(?:[^\\]|\\.)*?\'\'\'|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))'''
    r"""|(?P<number>\d[\w.]*)|(?P<name>[^\W\d]\w*)|(?P<sign>\*\*|//|->|:=|[<>=!]=|.)""",
    re.S,
)
KNOWN = {"torch", "math", "np", "numpy", "F", "nn", "tl", "triton", "self", "super", *dir(builtins)}


def tokens(source):
    """The tokens of an answer. Names behind a dot, of the language and of libraries stay: they say what is done."""
    found, behind_dot = [], False
    for match in TOKEN.finditer(source[:LONGEST]):
        kind, text = match.lastgroup, match[0]
        if kind in ("skip", "text"):
            continue  # a docstring, a message
        if kind == "name" and not (behind_dot or keyword.iskeyword(text) or text in KNOWN):
            text = "N"
        found.append(text)
        behind_dot = text == "."
    return tuple(found)


def runs(found):
    """All runs of tokens, in order, as numbers."""
    codes = [_code(text) for text in found]
    return [hash(tuple(codes[i : i + RUN])) for i in range(len(codes) - RUN + 1)]  # of numbers: always the same


@functools.lru_cache(1 << 16)
def _code(text):
    return zlib.crc32(text.encode("utf-8", "replace"))


def prints(found):
    """Of each window of runs the least: where two answers have a long enough stretch in common, they share one."""
    return {min(found[i : i + WINDOW]) for i in range(max(len(found) - WINDOW + 1, min(len(found), 1)))}


def right_runs(folder, exercise):
    """Runs of the course's own right answers to an exercise: its solutions and the honest variants of answers.py."""
    folder, texts = Path(folder) / exercise, []
    for file in ("tasks.py", "exercise.md"):
        if (folder / file).exists():
            texts.append((folder / file).read_text(encoding="utf-8"))
    if (folder / "answers.py").exists():
        text = (folder / "answers.py").read_text(encoding="utf-8")
        lines = text.splitlines(keepends=True)
        for node in ast.parse(text).body:
            marks = [getattr(getattr(mark, "func", None), "id", "") for mark in getattr(node, "decorator_list", ())]
            if "mutant" not in marks:
                texts.append("".join(lines[node.lineno - 1 : node.end_lineno]))
    blocks = [block for text in texts for block in (re.findall(r"```\{code-cell\}(.*?)```", text, re.S) or [text])]
    return set().union(
        *(runs(tokens(block[i : i + LONGEST])) for block in blocks for i in range(0, len(block), LONGEST))
    )


def alike(answers, known=frozenset()):
    """Groups of learners whose answers to one task are alike, the most alike first.

    Args:
        answers: {learner: source}. known: runs that say nothing.

    Returns: [(share of the runs, [learners])]; a group of the same form, and pairs of forms (the first of each).
    """
    forms = defaultdict(list)
    for who, source in answers.items():
        forms[tokens(source)].append(who)
    listed = {form: runs(form) for form in forms}
    everybody = Counter(run for found in listed.values() for run in set(found))
    common = {run for run, times in everybody.items() if times > max(3, len(forms) / 3)}
    own = {}
    for form, people in forms.items():
        left = prints(listed[form]) - known - common
        if len(left) >= LEAST and len(people) <= max(3, len(answers) / 2):
            own[form] = left
    found = [(1.0, sorted(forms[form])) for form in own if len(forms[form]) > 1]
    holders, shared = defaultdict(list), Counter()
    for form, left in own.items():
        for run in left:
            holders[run].append(form)
    for held in holders.values():
        shared.update(itertools.combinations(held, 2))
    for (one, other), count in shared.items():
        share = count / min(len(own[one]), len(own[other]))
        if count >= LEAST and share >= SHARE:
            found.append((share, sorted([min(forms[one]), min(forms[other])])))
    return sorted(found, key=lambda group: (-group[0], group[1]))


def all_alike(results, exam):
    """[(exercise, task, share, [results])] of those submissions that count."""
    found, folder = [], getattr(exam, "folder", None)
    for exercise, (tasks, _) in exam.exercises.items():
        own = [result for result in results if result.get("exercise") == exercise and result.get("code")]
        if len(own) < 2:
            continue
        known = right_runs(folder, exercise) if folder else frozenset()
        for task in tasks:
            answers = {i: _source(own[i], task) for i in range(len(own)) if _source(own[i], task)}
            for share, people in alike(answers, known):
                found.append((exercise, task, share, [own[i] for i in people]))
    return found


def _source(result, task):
    return "\n".join(source for _, source in result["code"].get(task, ()))


NO_VERDICT = (
    "下面的答案除了起的名字以外几乎一样，而且不是大家都会写的那种。为什么一样，程序不知道：一起讨论过、同一份资料、抄的，"
    "或者碰巧。请自己看，再问本人。",
    "These answers are nearly the same up to the names in them, and not what nearly everybody writes. Why, the program "
    "does not know: talked over together, the same source, copied, or chance. Look for yourself, and ask them.",
)
TITLE = "相似的答案", "Answers that are alike"


def alike_page(found, titles, language):
    body = [f"<h1>{both(TITLE)}</h1><p>{both(NO_VERDICT)}</p>"]
    if len(found) > SHOWN:
        words = (
            f"共 {len(found)} 组，这里是最相似的 {SHOWN} 组。",
            f"{len(found)} groups, of which the {SHOWN} most alike.",
        )
        body.append(f"<p>{both(words)}</p>")
    for exercise, task, share, people in found[:SHOWN]:
        heading = titles.get(task, (task, task))
        body.append(f"<h2>{html.escape(exercise)} · {both(heading)}</h2>")
        words = f"特有的写法有 {share:.0%} 相同。", f"{share:.0%} of what is their own is the same."
        body.append(f'<p class="note">{both(words)} {" · ".join(map(learner, people))}</p><div class="beside">')
        for result in people[:2]:
            body.append(f"<div><b>{learner(result)}</b>{code(result['code'][task])}</div>")
        body.append("</div>")
    return page("NormCourse", "\n".join(body), language)
