"""The runs too long for a notebook, repeatable: `python -m normcourse.record [name …]` writes data/recorded/NAME.csv.

The first line of each file says how it was made: command, machine, versions, date, and the settings. A notebook repeats
a part of a run live with `repeat`.
"""

import datetime
import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import torch

from . import data
from .models import CharacterMLP, Transformer
from .train import Progress, train


class Run(NamedTuple):
    """A function of one setting that gives one row of results, the grid of settings, and the conditions in words."""

    measure: Callable
    grid: dict
    conditions: str


def degradation(placement, gain, depth, learning_rate, seed):
    """Training loss of a deep character model after 500 steps: the mean of the first 20 and of the last 50 steps."""
    ids, vocabulary = data.encode(data.load_text("en"))
    model = CharacterMLP(
        len(vocabulary), depth, placement, width=64, context=8, activation="relu", gain=gain, seed=seed
    )
    batches = data.next_characters(ids, 64, 8, seed)
    history = train(model, batches, steps=500, learning_rate=learning_rate, progress=False)
    return {"early_loss": round(history["loss"][:20].mean(), 4), "loss": _final_loss(history, 500)}


def warmup(placement, gain, depth, learning_rate, warmup, seed):
    """Training loss of a small Transformer after 400 steps with a linear warm-up: the mean of the last 50 steps.

    `steps_to_2.6`: the step from which the mean of the 20 steps before is below 2.6 nats; nan if it never is.
    """
    ids, vocabulary = data.encode(data.load_text("en"))
    size = {"vocabulary": len(vocabulary), "width": 64, "heads": 4, "depth": depth, "context": 32}
    norm = "none" if placement == "residual" else "layer_norm"
    model = Transformer(**size, placement=placement, norm=norm, gain=gain, seed=seed)
    batches = data.batches(ids, 8, 32, seed)
    history = train(model, batches, steps=400, learning_rate=learning_rate, warmup=warmup, progress=False)
    reached = history["loss"].rolling(20).mean() < 2.6
    steps = int(history["step"][reached.idxmax()]) if reached.any() else float("nan")
    return {"loss": _final_loss(history, 400), "steps_to_2.6": steps}


def _final_loss(history, steps):
    return float("inf") if len(history) < steps else round(history["loss"][-50:].mean(), 4)


DEGRADATION = {
    "placement": ["plain", "residual", "highway", "rezero"],
    "gain": [3**-0.5, 2**0.5],
    "depth": [1, 2, 4, 8, 12, 16, 20, 30, 40, 50],
    "learning_rate": [3e-4, 1e-3, 3e-3, 1e-2],
    "seed": [0, 1, 2],
}
WARMUP = {
    "placement": ["post_norm", "pre_norm"],
    "gain": [0.6, 1.0],
    "depth": [24, 12],
    "learning_rate": [3e-4, 1e-3, 3e-3, 1e-2],
    "warmup": [0, 50, 200],
    "seed": [0, 1, 2],
}
_TRANSFORMER = (
    "Adam, 400 steps, batch 8 of 32 characters, Transformer of width 64, 4 heads, GELU, Xavier-normal weights × gain, "
    "text: Moby-Dick 1–22"
)
RUNS = {
    "degradation": Run(
        degradation, DEGRADATION, "Adam, 500 steps, batch 64, width 64, context 8, ReLU, text: Moby-Dick 1–22"
    ),
    "warmup": Run(warmup, WARMUP, _TRANSFORMER),
    "without_norm": Run(warmup, WARMUP | {"placement": ["residual"], "warmup": [0]}, _TRANSFORMER),
}


def repeat(name, **grid):
    """Repeat a part of the run `name` in a notebook, with a progress bar and a stop button.

    Args: grid: lists of values that replace those of the run's own grid.
    Returns: DataFrame, one row per setting that was finished.
    """
    import pandas

    run = _find(name)
    unknown = [key for key in grid if key not in run.grid]
    if unknown:
        raise ValueError(f"{name} has no setting {unknown[0]!r}; it has {', '.join(run.grid)}")
    settings, rows = _settings({**run.grid, **grid}), []
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


def record(name, jobs=None):
    """Do the run `name`, `jobs` settings at a time (by default one per core), and write it with its provenance."""
    import pandas

    run, jobs, start, rows = _find(name), jobs or os.cpu_count(), time.monotonic(), []
    settings = _settings(run.grid)
    with ProcessPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for setting, result in zip(settings, pool.map(_measure, [name] * len(settings), settings)):
            rows.append(setting | result)
            print(f"\r{name}: {len(rows)}/{len(settings)} runs, {time.monotonic() - start:.0f} s", end="", flush=True)
    provenance = {
        "command": f"python -m normcourse.record {name}",
        "date": datetime.date.today().isoformat(),
        "minutes": round((time.monotonic() - start) / 60, 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jobs} runs at a time, one thread each",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "settings": run.conditions,
    }
    frame = pandas.DataFrame(rows).round({"gain": 4})
    with (data.FOLDER / "recorded" / f"{name}.csv").open("w", encoding="utf-8") as file:
        file.write("#" + json.dumps(provenance, ensure_ascii=False) + "\n")
        frame.to_csv(file, index=False)
    print()


def _find(name):
    if name not in RUNS:
        raise ValueError(f"unknown run {name!r}; known are {', '.join(RUNS)}")
    return RUNS[name]


def _settings(grid):
    return [dict(zip(grid, values)) for values in itertools.product(*grid.values())]


def _measure(name, setting):
    return RUNS[name].measure(**setting)


if __name__ == "__main__":
    for name in sys.argv[1:] or RUNS:
        try:
            record(name)
        except ValueError as error:
            raise SystemExit(str(error)) from None
