"""Variants: constants of each learner's own, chosen from an id, the same in the notebook, its check and the hidden
tests. A task says what varies (`Task.varies`): the default of a parameter, which cases that do not give it go by.

    constants_of   learner's id -> the constants of a task
    varied         a task with these constants
    read_learners  who is who: a list of the learners, each with an id and what else names them
"""

import csv
import functools
import hashlib
import inspect
import itertools
import json
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

from ..check import Mistake
from .text import UNSEEN, visible

ANOTHER = (
    "这是另一个变体的答案：用的默认值不是你的。你的常数写在你的 notebook 里。",
    "This is the answer of another variant: its default is not yours. Your constants stand in your notebook.",
)
LONGEST = 64  # letters of an id
STATED = re.compile(r"这份 notebook 是 `([^`\n]{1,64})` 的|This notebook is for `([^`\n]{1,64})`")  # by build_variants
NOT_ANY_MORE = (
    "这份 notebook 是给号码 {0} 的，名单里却没有 {0}，所以不知道它的常数。名单里的号码后来变了吗？Excel 存 csv 时"
    "会去掉开头的 0，把长号码写成 1.2E+12。把号码改回来，再运行一次。",
    "This notebook was made for the id {0}, which is not on the list, so its constants are not known. Have ids on the "
    "list changed since? Saving as csv, Excel drops leading zeros and writes long numbers as 1.2E+12. Put the ids back "
    "and run the same command again.",
)


def variants(task):
    """The constants of all variants of a task, as a list of {parameter: default}."""
    return [dict(zip(task.varies, values)) for values in itertools.product(*task.varies.values())]


def usual(task):
    """{parameter: default} of a task's own answer, of what varies in it. Raises: ValueError for a list of constants
    that cannot be told from each other."""
    parameters = inspect.signature(task.right).parameters
    found = {name: getattr(parameters.get(name), "default", inspect.Parameter.empty) for name in task.varies}
    for name, values in task.varies.items():
        if found[name] is inspect.Parameter.empty or len({found[name], *values}) < 1 + len(values) or not values:
            raise ValueError(
                f"题目 {task.name} 的 varies：{name} 要是正确答案里有默认值的参数，各个值互不相同，也不同于默认值。\n"
                f"varies of the task {task.name}: {name} must be a parameter of the right answer that has a default; "
                "its values must differ from that and from each other."
            )
    return found


def constants_of(task, learner):
    """The constants that the learner of this id has in a task; none where nothing varies. They depend on the names and
    the id alone, and are the same on every machine."""

    def chosen(name, values):
        digest = hashlib.sha256(json.dumps([task.name, name, key(learner)]).encode()).digest()
        return values[int.from_bytes(digest[:8], "big") % len(values)]

    return {name: chosen(name, values) for name, values in task.varies.items()}


def varied(task, constants):
    """A task with these constants. The answers of its other variants, and that with the usual default, are mistakes
    in it; mistakes that are about the usual default are none."""
    own = usual(task)
    others = [other for other in (own, *variants(task)) if other != constants]
    mistakes = [Mistake(with_defaults(task.right, other), *ANOTHER) for other in others]
    mistakes += [
        replace(known, wrong=with_defaults(known.wrong, constants)) for known in task.mistakes if _has(known.wrong, own)
    ]
    right = with_defaults(task.right, constants)
    return replace(task, right=right, mistakes=tuple(mistakes), varies={}, constants=constants)


def _has(function, defaults):
    """Whether a function has no other defaults than these."""
    parameters = inspect.signature(function).parameters
    return all(name not in parameters or parameters[name].default == value for name, value in defaults.items())


def with_defaults(function, defaults):
    """A function or class with other defaults, of those parameters that it has."""
    signature = inspect.signature(function)
    defaults = {name: value for name, value in defaults.items() if name in signature.parameters}

    @functools.wraps(function, updated=())
    def called(*arguments, **named):
        given = signature.bind_partial(*arguments, **named)
        for name, value in defaults.items():
            given.arguments.setdefault(name, value)
        return function(*given.args, **given.kwargs)

    return called


def written(constants):
    """Constants of a task as a line of text: `eps = 0.01`. Nothing for none."""
    return ", ".join(f"{name} = {value:g}" for name, value in constants.items())


# Who is who -----------------------------------------------------------------------------------------------------------


def named(submission):
    """What a submission says of who handed it in. A number of Moodle or Canvas or a user name of Blackboard stands
    behind the system's name: one system's numbers are not another's, and neither are they the instructor's own ids."""
    return f"{submission.system}:{submission.id}" if submission.id else submission.learner


def key(name):
    """A name as it is compared: spaces around it, its case, letters without a width and ways to write the same letters
    do not count, and neither does how the colon behind a system's name is written."""
    name = UNSEEN.sub("", unicodedata.normalize("NFC", name)).strip().casefold()
    return re.sub(r"^(moodle|canvas|blackboard)\s*[:：]\s*", r"\1:", name)


def not_any_more(cells, learners):
    """None, or what to say of a notebook whose text was made for an id that the list of learners does not hold: with
    other ids on it, others' constants would be asked for. A learner can write what they like there, and has nothing of
    it: it is not asked whose notebook it is."""
    texts = [cell.source for cell in cells if cell.kind == "markdown"]
    stated = [one or other for text in texts for one, other in STATED.findall(text)]
    ids = {key(one) for one in learners.values()} if stated else ()
    lost = next((name for name in stated if key(name) not in ids), None)
    return lost and tuple(words.format(visible(lost)) for words in NOT_ANY_MORE)


def read_learners(path):
    """{key of a name: id} from a list of learners. A line is one learner: the id, and behind commas other names of the
    same person, as `named` gives them; a first line that begins with "id" is a heading.

    Raises: ValueError, in both languages, for a list that cannot be used.
    """

    def wrong(zh, en):
        return ValueError(f"{path}：{zh}。\n{path}: {en}.")

    try:
        lines = re.split("\r\n|\r|\n", unicodedata.normalize("NFC", Path(path).read_text(encoding="utf-8-sig")))
    except (OSError, ValueError):
        raise wrong("读不出来；要一个 UTF-8 的文本文件", "cannot be read; a text file in UTF-8 is needed") from None
    found = {}
    for number, line in enumerate(lines, 1):
        cells = next(csv.reader([re.sub(r"[;\t，；]", ",", line)], skipinitialspace=True), [""])  # "Zhang, San" is one
        names = [name.strip(' "') for name in cells]
        if not any(names) or (number == 1 and key(names[0]) == "id"):
            continue
        if odd := _odd(names[0]):
            raise wrong(f"第 {number} 行：{odd[0]}", f"line {number}: {odd[1]}")
        for name in {key(name): name for name in names if name}:
            if name in found:
                zh, en = "已经有了；一个名字只能属于一个人", "is there already, and can be one learner's only"
                raise wrong(f"第 {number} 行：{name} {zh}", f"line {number}: {name} {en}")
            found[name] = names[0]
    if not found:
        raise wrong("是空的；每行写一个学生的号码", "is empty; write the id of one learner in each line")
    return found


def _odd(name):
    """None, or why an id cannot name a folder on every system: (中文, English)."""
    if not name:
        return "没有号码", "there is no id"
    if re.fullmatch(r"\d(\.\d+)?[Ee]\+\d+", name):
        return "这是 Excel 写短了的号码；把这一列设成文本再存", "Excel has shortened this id; make its column text"
    if len(name) > LONGEST:
        return f"号码太长，最多 {LONGEST} 个字", f"the id is too long, at most {LONGEST} letters"
    if found := re.search(r"[^\w .@+-]", name):
        letter = found[0] if found[0].isprintable() else f"U+{ord(found[0]):04X}"
        return f"号码里不能有 {letter}", f"an id cannot hold {letter}"
    if not re.match(r"\w", name) or name.endswith("."):
        return "号码要以字母或数字开头，不以点结尾", "an id begins with a letter or digit, and does not end in a dot"
    return None
