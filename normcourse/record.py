"""The runs too long for a notebook, repeatable: `python -m normcourse.record [name …]` writes data/recorded/NAME.csv.

The first line of each file says how it was made: command, machine, versions, date, and the settings. A notebook repeats
a part of a run live with `repeat`.
"""

import argparse
import datetime
import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F

from . import data
from .measure import readouts
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


def norm_quality(placement, norm, learning_rate, seed):
    """Loss of a small Transformer after 300 steps: the mean of the last 50 steps, and that on text it never trained on.

    Runs of one seed start from the same weights and read the same excerpts, so norms can be compared seed by seed.
    """
    ids, vocabulary = data.encode(data.load_text("en"))
    size = {"vocabulary": len(vocabulary), "width": 64, "heads": 4, "depth": 4, "context": 32}
    model = Transformer(**size, placement=placement, norm=norm, seed=seed)
    batches = data.batches(ids[:-20_000], 8, 32, seed)
    history = train(model, batches, steps=300, learning_rate=learning_rate, progress=False)
    held_out = ids[-19_999:].unfold(0, 33, 32)  # 624 excerpts of 32 characters and the one after each
    with torch.no_grad():
        loss = F.cross_entropy(model(held_out[:, :-1]).flatten(0, 1), held_out[:, 1:].flatten())
    return {"loss": _final_loss(history, 300), "held_out_loss": round(float(loss), 4)}


def stream_end(placement, final_norm, depth, gain, learning_rate, seed):
    """Training loss of a small Transformer after 300 steps, with or without the norm on top of its stream.

    `logit_rms`: root mean square of the logits before the first step.
    """
    model = _depth_transformer(placement, depth, gain, seed)
    if not final_norm:
        model.final_norm = torch.nn.Identity()
    ids, _ = data.encode(data.load_text("en"))
    inputs, targets = next(data.batches(ids, 64, 32, seed=99))
    size = readouts(model, inputs, targets, branches=2)["rms"].iloc[-1]
    batches = data.batches(ids[:-20_000], 8, 32, seed)
    history = train(model, batches, steps=300, learning_rate=learning_rate, progress=False)
    return {"logit_rms": round(size, 4), "first_loss": round(history["loss"][0], 3), "loss": _final_loss(history, 300)}


def rewiring(start, placement, reading, gain, learning_rate, seed):
    """200 more steps of a Transformer of 6 layers that was trained for 300 steps as `start`, now wired as `placement`.

    start: "pre_norm", "post_norm" or "scratch" (new weights). reading: "forwards", the text it was trained on, or
    "backwards", the same text reversed. A norm that only one of the wirings has starts at γ = 1. The columns: the loss
    on held-out text before the first step, the training loss around the steps 10, 50 and 200 (means of 10, 20 and 50
    steps), the held-out loss after the last one, and that on the held-out text read forwards.
    """
    ids, _ = data.encode(data.load_text("en"))
    held_out = {"forwards": ids[-20_000:], "backwards": ids[-20_000:].flip(0)}
    model = _depth_transformer(placement, 6, gain, seed)
    if start != "scratch":
        model.load_state_dict(_trained(start, gain, seed), strict=False)
    before = _held_out_loss(model, held_out[reading])
    text = ids[:-20_000] if reading == "forwards" else ids[:-20_000].flip(0)
    batches = data.batches(text, 8, 32, 1000 + seed)
    losses = train(model, batches, steps=200, learning_rate=learning_rate, progress=False)["loss"]
    return {
        "before": before,
        "loss_10": round(losses[5:15].mean(), 4),
        "loss_50": round(losses[40:60].mean(), 4),
        "loss_200": round(losses[150:].mean(), 4),
        "after": _held_out_loss(model, held_out[reading]),
        "after_forwards": _held_out_loss(model, held_out["forwards"]),
    }


@lru_cache
def _trained(placement, gain, seed):
    """The weights of `rewiring` after the first 300 steps, at the learning rate that was best in "equal_depth"."""
    ids, _ = data.encode(data.load_text("en"))
    model = _depth_transformer(placement, 6, gain, seed)
    rate = 1e-3 if (placement, gain) == ("post_norm", 1.0) else 3e-3
    train(model, data.batches(ids[:-20_000], 8, 32, seed), steps=300, learning_rate=rate, progress=False)
    return model.state_dict()


def _depth_transformer(placement, depth, gain, seed):
    _, vocabulary = data.encode(data.load_text("en"))
    size = {"vocabulary": len(vocabulary), "width": 64, "heads": 4, "depth": depth, "context": 32}
    return Transformer(**size, placement=placement, gain=gain, seed=seed)


def _held_out_loss(model, ids):
    excerpts = ids.unfold(0, 33, 132)  # 152 excerpts of 32 characters and the one after each
    with torch.no_grad():
        loss = F.cross_entropy(model(excerpts[:, :-1]).flatten(0, 1), excerpts[:, 1:].flatten())
    return round(float(loss), 4)


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
NORM_QUALITY = {
    "placement": ["pre_norm", "post_norm"],
    "norm": ["layer_norm", "rms_norm", "none"],
    "learning_rate": [3e-4, 1e-3, 3e-3, 1e-2, 3e-2],
    "seed": list(range(10)),
}
STREAM_END = {
    "placement": ["pre_norm"],
    "final_norm": [True, False],
    "depth": [12],
    "gain": [1.0],
    "learning_rate": [1e-3, 3e-3, 1e-2],
    "seed": [0, 1],
}
EQUAL_DEPTH = {
    "placement": ["post_norm", "pre_norm", "scaled_pre_norm", "peri_norm"],
    "final_norm": [True],
    "depth": [6],
    "gain": [0.6, 1.0],
    "learning_rate": [1e-3, 3e-3, 1e-2],
    "seed": [0, 1],
}
REWIRING = {
    "start": ["pre_norm", "post_norm", "scratch"],
    "placement": ["pre_norm", "post_norm"],
    "reading": ["forwards", "backwards"],
    "gain": [0.6, 1.0],
    "learning_rate": [3e-4, 1e-3, 3e-3],
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
    "norm_quality": Run(
        norm_quality,
        NORM_QUALITY,
        "Adam, 300 steps, batch 8 of 32 characters, Transformer of 4 layers, width 64, 4 heads, GELU, Xavier-normal "
        "weights, text: Moby-Dick 1–22, the last 20000 characters held out",
    ),
    "stream_end": Run(
        stream_end, STREAM_END, _TRANSFORMER.replace("400", "300") + ", the last 20000 characters held out"
    ),
    "equal_depth": Run(
        stream_end, EQUAL_DEPTH, _TRANSFORMER.replace("400", "300") + ", the last 20000 characters held out"
    ),
    "rewiring": Run(
        rewiring,
        REWIRING,
        "300 steps, at learning rate 0.001 for Post-Norm of gain 1 and 0.003 for the others, then 200; 6 layers; "
        + _TRANSFORMER.replace("400 steps, ", ""),
    ),
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


def main(given=None):
    """Do the runs that are named, or all of them."""
    parser = argparse.ArgumentParser(
        prog="python -m normcourse record",
        description="重做预先跑好的长实验，写进 data/recorded/。 Repeat the recorded long runs, into data/recorded/.",
    )
    parser.add_argument("name", nargs="*", help=f"{'、'.join(RUNS)}；不写就全部重做 · all of them without a name")
    for name in parser.parse_args(given).name or RUNS:
        try:
            record(name)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
