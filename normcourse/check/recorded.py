"""What a learner's check knows of a task: the visible cases, the right answers to them, and what the mistakes that
people make give instead. All of it is numbers and words; code that solves a task is not handed out.

A file holds the tasks of one exercise: gzip over frames, each a header in JSON and the bytes of its arrays (`wire`).
Those in variants/ hold all variants of one task, which have nearly everything in common: xz sees that.
"""

import functools
import gzip
import io
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..i18n import text
from .runner import answer, right_answer
from .wire import read_answer, read_case, write_answer, write_case

FOLDER = Path(__file__).parent / "recorded"


@dataclass(frozen=True)
class Visible:
    """The learner's side of a `Task`.

    cases: list of `Case`. right: an `Answer` to each, in fp64.
    mistakes: list of (中文, English, answers): what to say, and an `Answer` to each case.
    without, only, closed, constants: as in `Task`.
    """

    name: str
    cases: list
    right: list
    mistakes: list
    without: tuple = ()
    only: tuple = ()
    closed: tuple = ()
    constants: dict = field(default_factory=dict)


def visible(task):
    """The learner's side of a task."""
    cases = list(task.visible(torch.Generator().manual_seed(0)))
    mistakes = [(m.zh, m.en, [answer(m.wrong, case) for case in cases]) for m in task.mistakes]
    right = [right_answer(task, case) for case in cases]
    return Visible(task.name, cases, right, mistakes, task.without, task.only, task.closed, task.constants)


@functools.cache
def tasks():
    """{task name: Visible} of all exercises."""
    return {known.name: known for path in sorted(FOLDER.glob("*.gz")) for known in read(path)}


@functools.cache
def variants(name):
    """The list of `Visible` of all variants of a task; empty for one that has none."""
    path = FOLDER / "variants" / f"{name}.xz"
    return read(path) if path.exists() else []


def variant(name, **constants):
    """Have `check` expect a variant of a task, as notebooks do that are made for one learner.

    Args:
        name: of the task.
        constants: what the variant has in place of the usual defaults, as in `variant("layer_norm", eps=0.01)`.

    Raises: ValueError for a variant that there is not.
    """
    for known in variants(name) if name in tasks() else ():
        if known.constants == constants:
            tasks()[name] = known
            return
    asked = ", ".join([repr(name), *(f"{key}={value!r}" for key, value in constants.items())])
    raise ValueError(
        text(
            f"没有变体 variant({asked})；照发给你的 notebook 里的原样写",
            f"there is no variant({asked}); write it as in the notebook that you were given",
        )
    )


def write(path, tasks):
    """Record the learner's side of tasks in a file, .gz or .xz."""
    content = io.BytesIO()
    for known in map(visible, tasks):
        rules = {"without": known.without, "only": known.only, "closed": known.closed}
        rules |= {"constants": known.constants} if known.constants else {}
        words = [[zh, en] for zh, en, _ in known.mistakes]
        _put(content, {"name": known.name, "cases": len(known.cases), "mistakes": words, **rules})
        for case in known.cases:
            _put(content, *write_case(case, visible=True))
        for given in (known.right, *(answers for _, _, answers in known.mistakes)):
            for one in given:
                _put(content, *write_answer(one))
    packed = _lzma().compress if path.suffix == ".xz" else functools.partial(gzip.compress, mtime=0)
    path.write_bytes(packed(content.getvalue()))


def _lzma():
    import lzma  # some builds of Python lack it, and only variants need it

    return lzma


def read(path):
    """The list of `Visible` that `write` recorded."""
    unpacked = (_lzma() if path.suffix == ".xz" else gzip).decompress
    content, found = io.BytesIO(unpacked(path.read_bytes())), []
    while frame := _take(content):
        header, _ = frame
        cases = [read_case(*_take(content)) for _ in range(header["cases"])]
        answers = [[read_answer(*_take(content)) for _ in cases] for _ in range(1 + len(header["mistakes"]))]
        mistakes = [(zh, en, given) for (zh, en), given in zip(header["mistakes"], answers[1:])]
        rules = (tuple(header[name]) for name in ("without", "only", "closed"))
        found.append(Visible(header["name"], cases, answers[0], mistakes, *rules, header.get("constants", {})))
    return found


def _put(content, header, arrays=()):
    head, body = json.dumps(header).encode(), b"".join(arrays)
    content.write(struct.pack("<II", len(head), len(body)) + head + body)


def _take(content):
    sizes = content.read(8)
    if not sizes:
        return None
    head, body = struct.unpack("<II", sizes)
    return json.loads(content.read(head)), content.read(body)
