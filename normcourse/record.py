"""The runs too long for a notebook, repeatable: `python -m normcourse.record [name …]` writes data/recorded/NAME.csv.

The first line of each file says how it was made: command, machine, versions, date, and the settings.
"""

import datetime
import itertools
import json
import os
import platform
import sys
import time

import torch

from . import data
from .models import CharacterMLP
from .train import train

GRID = {
    "placement": ["plain", "residual", "highway", "rezero"],
    "gain": [3**-0.5, 2**0.5],
    "depth": [1, 2, 4, 8, 12, 16, 20, 30, 40, 50],
    "learning_rate": [3e-4, 1e-3, 3e-3, 1e-2],
    "seed": [0, 1, 2],
}
STEPS, BATCH, WIDTH, CONTEXT = 500, 64, 64, 8


def degradation(grid=GRID):
    """Training loss of deep character models after 500 steps, on the whole grid: about 40 minutes on one core.

    The loss is the mean over the last 50 steps, on training batches; the first 20 steps' mean is kept beside it.
    """
    ids, vocabulary = data.encode(data.load_text("en"))
    for placement, gain, depth, learning_rate, seed in itertools.product(*grid.values()):
        model = CharacterMLP(
            len(vocabulary), depth, placement, width=WIDTH, context=CONTEXT, activation="relu", gain=gain, seed=seed
        )
        batches = data.next_characters(ids, BATCH, CONTEXT, seed)
        history = train(model, batches, steps=STEPS, learning_rate=learning_rate, progress=False)
        diverged = len(history) < STEPS
        early = history["loss"][:20].mean()
        final = float("inf") if diverged else history["loss"][-50:].mean()
        yield {
            "placement": placement,
            "gain": round(gain, 4),
            "depth": depth,
            "learning_rate": learning_rate,
            "seed": seed,
            "early_loss": round(early, 4),
            "loss": round(final, 4),
        }


RUNS = {"degradation": degradation}


def record(name):
    """Do the run `name` and write it with its provenance."""
    import pandas

    torch.set_num_threads(1)
    start, rows = time.monotonic(), []
    for row in RUNS[name]():
        rows.append(row)
        print(f"\r{name}: {len(rows)} runs, {time.monotonic() - start:.0f} s", end="", flush=True)
    provenance = {
        "command": f"python -m normcourse.record {name}",
        "date": datetime.date.today().isoformat(),
        "minutes": round((time.monotonic() - start) / 60, 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "settings": f"Adam, {STEPS} steps, batch {BATCH}, width {WIDTH}, context {CONTEXT}, ReLU, text: Moby-Dick 1–22",
    }
    with (data.FOLDER / "recorded" / f"{name}.csv").open("w", encoding="utf-8") as file:
        file.write("#" + json.dumps(provenance, ensure_ascii=False) + "\n")
        pandas.DataFrame(rows).to_csv(file, index=False)
    print()


if __name__ == "__main__":
    for name in sys.argv[1:] or RUNS:
        if name not in RUNS:
            raise SystemExit(f"unknown run {name!r}; known are {', '.join(RUNS)}")
        record(name)
