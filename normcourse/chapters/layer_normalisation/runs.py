"""The recorded run of chapter 03: training with a layer norm, without one, and with one behind which noise is added."""

import pandas as pd
import torch

from ... import data
from ...models import CharacterMLP
from ...record import Run
from ...train import train
from .evidence import Normed, Shaken, watched


def shift_and_loss(variant, gain, learning_rate, seed):
    """Training loss of the steps 151 to 250, and how far the statistics of the layers moved in a single one of them.

    shift, scale: as `evidence.statistics` has them, means over layers, units and steps.
    """
    ids, vocabulary = data.encode(data.load_text("en"))
    norm = {"none": "none", "layer_norm": torch.nn.LayerNorm, "shaken": Shaken}[variant]
    model, moved = CharacterMLP(len(vocabulary), 8, Normed, norm=norm, gain=gain, seed=seed), {}
    if variant == "shaken":
        Shaken.seed_layers(model, seed)
    batches = watched(model, data.next_characters(ids, 64, 8, seed), moved)
    history = train(model, batches, steps=251, learning_rate=learning_rate, progress=False)
    late = pd.DataFrame(moved, index=["shift", "scale"]).T.loc[151:].mean()
    return {"loss": round(float(history["loss"][150:250].mean()), 4), **late.round(5).to_dict()}


SHIFT = {
    "variant": ["none", "layer_norm", "shaken"],
    "gain": [3**-0.5, 2**0.5],
    "learning_rate": [1e-3, 3e-3, 1e-2, 3e-2],
    "seed": [0, 1, 2, 3, 4],
}
CONDITIONS = "Adam, 250 steps, batch 64, 8 layers of width 64 without skips, context 8, ReLU, text: Moby-Dick 1–22"
RUNS = {"shift_and_loss": Run(shift_and_loss, SHIFT, f"{CONDITIONS}; noise of its own in every layer")}
# Where the best learning rate is at an end of its grid (`learning_rates.best_losses`), and what follows from it.
EDGES = {
    "shift_and_loss": [
        ({"variant": ["layer_norm"], "gain": [3**-0.5]}, "it wins: a smaller rate could only add to it"),
        ({"variant": ["shaken"], "gain": [3**-0.5]}, "it loses: the text says that it may lose by less"),
    ],
}
