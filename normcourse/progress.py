"""What a learner has done: guesses, chapters read, tasks passed. One file on this machine, and nowhere else.

It is the first of these that there is:

    NORMCOURSE_PROGRESS   names the file; `python -m normcourse lab` sets it. Empty: nothing is written.
    progress.sqlite       in the folder that `lab` made, for a notebook that lies in it

In a checkout, in Colab and in tests there is neither: then it is kept until the kernel ends. It is SQLite because
several notebooks write at once.
"""

import functools
import os
import sqlite3
import weakref
from contextlib import closing
from pathlib import Path

FILE = "progress.sqlite"
VARIABLE = "NORMCOURSE_PROGRESS"
RECEIPT = ".normcourse.json"  # what `lab` leaves in the folder it makes
SECONDS = 10  # to wait for another notebook that is writing

_in_memory = {}  # what no file took: {(kind, name): value}
_listeners = []


def place():
    """The file's path, or None where nothing is written."""
    if (told := os.environ.get(VARIABLE)) is not None:
        return Path(told).absolute() if told else None
    here = Path.cwd()
    return next((folder / FILE for folder in (here, *here.parents) if (folder / RECEIPT).exists()), None)


def recorded(kind):
    """{name: value} of what was recorded of a kind: "guess", "answer", "read" or "passed"."""
    kept = dict(_use("SELECT name, value FROM progress WHERE kind = ?", kind) or ())
    return kept | {name: value for (its, name), value in _in_memory.items() if its == kind}


def record(kind, name, value):
    """Keep a value, or forget it if it is None, and tell what shows progress."""
    if value is None:
        _in_memory.pop((kind, name), None)
        _use("DELETE FROM progress WHERE kind = ? AND name = ?", kind, name)
    elif _use("INSERT OR REPLACE INTO progress VALUES (?, ?, ?)", kind, name, value) is None:
        _in_memory[kind, name] = value
    _tell()


def reset():
    """Forget everything."""
    _in_memory.clear()
    _use("DELETE FROM progress")
    _tell()


def on_progress(listener):
    """Call a method, `listener()`, whenever this process records something, for as long as its object lives."""
    _listeners.append(weakref.WeakMethod(listener, _listeners.remove))


def _tell():
    for listener in list(_listeners):
        if call := listener():
            call()


def _use(query, *values):
    """The rows that a query gives; None where there is no file to use, which is said if there should be one."""
    path = place()
    if path is None:
        return None
    try:
        return _run(path, query, values)
    except sqlite3.OperationalError as error:  # read-only, no such folder, a full disk
        _say(
            f"学习记录用不了：{path}（{error}）。这一次的记录只留到内核停止。",
            f"The progress file cannot be used: {path} ({error}). What you do now is kept until the kernel ends.",
        )
        return None
    except sqlite3.DatabaseError:
        return _begin_again(path, query, values)


def _run(path, query, values):
    with closing(sqlite3.connect(path, timeout=SECONDS)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS progress (kind, name, value, PRIMARY KEY (kind, name))")
        return database.execute(query, values).fetchall()


def _begin_again(path, query, values):
    """Lay a damaged file aside and use a new one."""
    aside = (path.with_name(f"{path.stem} (damaged {n}){path.suffix}") for n in range(1, 1000))
    kept = next(name for name in aside if not name.exists())
    try:
        os.replace(path, kept)
        rows = _run(path, query, values)
    except (OSError, sqlite3.Error):  # another notebook holds it open, or has just done the same
        kept, rows = path, None
    _say(
        f"学习记录读不出来了，从头开始记；原来的文件留着：{kept}",
        f"The progress file is damaged, so a new one begins; the old one is kept: {kept}",
    )
    return rows


@functools.cache
def _say(zh, en):
    """Once, not with every use."""
    from .i18n import text  # which needs torch, and `lab` does not

    print(text(zh, en))
