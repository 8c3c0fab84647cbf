"""The runs too long for a notebook: `python -m normcourse record` does what is missing of them.

A run stands in the `runs.py` of its chapter and its results beside it in `recorded/NAME.csv`. The first line of that
file says how it was made: command, machine, versions, dates and settings. A notebook repeats a part of a run live with
`repeat`. This module stands below the chapters: they import `Run`, and it finds their runs by looking.
"""

import argparse
import datetime
import functools
import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import torch

from . import data
from .train import Progress

MADE = ("date", "minutes", "machine", "python", "torch")  # of the provenance, what each addition has its own of
CHAPTERS = Path(__file__).parent / "chapters"


class Run(NamedTuple):
    """A function of one setting that gives one row of results, the grid of settings, and the conditions in words."""

    measure: Callable
    grid: dict
    conditions: str

    def settings(self):
        """Every setting of the grid, in order."""
        return [dict(zip(self.grid, values)) for values in itertools.product(*self.grid.values())]


@functools.cache
def runs():
    """{name: Run} of all chapters. Raises: ValueError where two have the same name."""
    found = {}
    for path in sorted(CHAPTERS.glob("*/runs.py")):
        for name, run in import_module(f"normcourse.chapters.{path.parent.name}.runs").RUNS.items():
            if name in found:
                raise ValueError(f"two runs are called {name!r}; the second one is in {path.parent.name}/runs.py")
            found[name] = run
    return found


def repeat(name, **grid):
    """Repeat a part of the run `name` in a notebook, with a progress bar and a stop button.

    Args: grid: lists of values that replace those of the run's own grid.
    Returns: DataFrame, one row per setting that was finished.
    Raises: ValueError for an unknown run or setting.
    """
    import pandas

    run = find(name)
    unknown = [key for key in grid if key not in run.grid]
    if unknown:
        raise ValueError(f"{name} has no setting {unknown[0]!r}; it has {', '.join(run.grid)}")
    settings, rows = run._replace(grid={**run.grid, **grid}).settings(), []
    bar = Progress(len(settings))
    try:
        for setting in settings:
            rows.append(setting | run.measure(**setting))
            if bar.stopped(len(rows), ", ".join(f"{key} {value}" for key, value in rows[-1].items())):
                break
    except KeyboardInterrupt:
        pass
    finally:
        bar.close()
    return pandas.DataFrame(rows)


def record(name, jobs=None, again=False):
    """Do what is missing of the run `name`, and write all of it with its provenance.

    Rows of settings that the grid no longer has are dropped. What was recorded under other conditions does not count.

    Args: jobs: settings at a time, by default one per core. again: do all of it anew.
    Returns: how many settings were run.
    """
    import pandas

    run, jobs, start = find(name), jobs or os.cpu_count(), time.monotonic()
    path, before, made = target(name), {}, []
    if path.exists() and not again:
        old = data.recorded(name)
        if old.attrs["settings"] == run.conditions and set(run.grid) <= set(old.columns):
            before = {_key({column: row[column] for column in run.grid}): row for row in old.to_dict("records")}
            made = [{key: old.attrs[key] for key in MADE}, *old.attrs.get("earlier", [])]
    settings = run.settings()
    missing = [setting for setting in settings if _key(setting) not in before]
    if missing:
        with ProcessPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            results = pool.map(_measure, [name] * len(missing), missing)
            for done, (setting, result) in enumerate(zip(missing, results), 1):
                before[_key(setting)] = setting | result
                print(f"\r{name}: {done}/{len(missing)}, {time.monotonic() - start:.0f} s", end="", flush=True)
        print()
    elif len(before) == len(settings):
        return 0
    provenance = {
        "command": f"python -m normcourse record {name}",
        "date": datetime.date.today().isoformat(),
        "minutes": round((time.monotonic() - start) / 60, 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jobs} runs at a time, one thread each",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "settings": run.conditions,
    }
    if made:
        provenance["earlier"] = made
    frame = pandas.DataFrame([before[_key(setting)] for setting in settings]).round({"gain": 4})
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write("#" + json.dumps(provenance, ensure_ascii=False) + "\n")
        frame.to_csv(file, index=False)
    return len(missing)


def target(name):
    """Where the results of a run lie: beside the `runs.py` that it stands in."""
    return Path(sys.modules[find(name).measure.__module__].__file__).parent / "recorded" / f"{name}.csv"


def find(name):
    """The `Run` of this name; ValueError lists the known ones."""
    if name not in runs():
        raise ValueError(f"unknown run {name!r}; known are {', '.join(runs())}")
    return runs()[name]


def _key(setting):
    """A setting as something to look up; the gain is rounded in the file."""
    return tuple(round(value, 4) if name == "gain" else value for name, value in setting.items())


def _measure(name, setting):
    return runs()[name].measure(**setting)


def main(given=None):
    """Do what is missing of the runs that are named, or of all."""
    parser = argparse.ArgumentParser(
        prog="python -m normcourse record",
        description="补齐预先跑好的长实验，结果在各章的 recorded/。 Do what is missing of the recorded long runs; "
        "their results are in recorded/ of each chapter.",
    )
    parser.add_argument("name", nargs="*", help=f"{'、'.join(runs())}；不写就是全部 · all of them without a name")
    parser.add_argument("--again", action="store_true", help="全部重做 · do everything anew, not only what is missing")
    options = parser.parse_args(given)
    for name in options.name or runs():
        try:
            done = record(name, again=options.again)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        print(f"{name}: {done} 个设置跑过了 · {done} settings were run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
