"""The recorded runs of chapter 07: equal depth, another wiring, the norm at the end of the stream."""

from functools import lru_cache

import torch

from ... import data
from ...measure import readouts
from ...record import Run
from ...train import train
from ..small_transformers import CONDITIONS, HELD_OUT, final_loss, held_out_loss, small_transformer


def stream_end(placement, final_norm, depth, gain, learning_rate, seed):
    """Training loss of a small Transformer after 300 steps, with or without the norm on top of its stream.

    `logit_rms`: root mean square of the logits before the first step.
    """
    model = small_transformer(placement, depth, gain, seed)
    if not final_norm:
        model.final_norm = torch.nn.Identity()
    ids, _ = data.encode(data.load_text("en"))
    inputs, targets = next(data.batches(ids, 64, 32, seed=99))
    size = readouts(model, inputs, targets, branches=2)["rms"].iloc[-1]
    batches = data.batches(ids[:-HELD_OUT], 8, 32, seed)
    history = train(model, batches, steps=300, learning_rate=learning_rate, progress=False)
    return {"logit_rms": round(size, 4), "first_loss": round(history["loss"][0], 3), "loss": final_loss(history, 300)}


def rewiring(start, placement, reading, gain, learning_rate, seed):
    """200 more steps of a Transformer of 6 layers that was trained for 300 steps as `start`, now wired as `placement`.

    start: "pre_norm", "post_norm" or "scratch" (new weights). reading: "forwards", the text it was trained on, or
    "backwards", the same text reversed. A norm that only one of the wirings has starts at γ = 1. The columns: the loss
    on held-out text before the first step, the training loss around the steps 10, 50 and 200 (means of 10, 20 and 50
    steps), the held-out loss after the last one, and that on the held-out text read forwards.
    """
    ids, _ = data.encode(data.load_text("en"))
    held_out = {"forwards": ids[-HELD_OUT:], "backwards": ids[-HELD_OUT:].flip(0)}
    model = small_transformer(placement, 6, gain, seed)
    if start != "scratch":
        model.load_state_dict(_trained(start, gain, seed), strict=False)
    before = held_out_loss(model, held_out[reading])
    text = ids[:-HELD_OUT] if reading == "forwards" else ids[:-HELD_OUT].flip(0)
    batches = data.batches(text, 8, 32, 1000 + seed)
    losses = train(model, batches, steps=200, learning_rate=learning_rate, progress=False)["loss"]
    return {
        "before": before,
        "loss_10": round(losses[5:15].mean(), 4),
        "loss_50": round(losses[40:60].mean(), 4),
        "loss_200": round(losses[150:].mean(), 4),
        "after": held_out_loss(model, held_out[reading]),
        "after_forwards": held_out_loss(model, held_out["forwards"]),
    }


@lru_cache
def _trained(placement, gain, seed):
    """The weights of `rewiring` after the first 300 steps, at the learning rate that was best in "equal_depth"."""
    ids, _ = data.encode(data.load_text("en"))
    model = small_transformer(placement, 6, gain, seed)
    rate = 1e-3 if (placement, gain) == ("post_norm", 1.0) else 3e-3
    train(model, data.batches(ids[:-HELD_OUT], 8, 32, seed), steps=300, learning_rate=rate, progress=False)
    return model.state_dict()


STREAM_END = {
    "placement": ["pre_norm"],
    "final_norm": [True, False],
    "depth": [12],
    "gain": [1.0],
    "learning_rate": [1e-3, 3e-3, 1e-2],
    "seed": [0, 1, 2],
}
EQUAL_DEPTH = {
    "placement": ["post_norm", "pre_norm", "scaled_pre_norm", "peri_norm"],
    "final_norm": [True],
    "depth": [6],
    "gain": [0.6, 1.0],
    "learning_rate": [3e-4, 1e-3, 3e-3, 1e-2, 3e-2],
    "seed": [0, 1, 2],
}
REWIRING = {
    "start": ["pre_norm", "post_norm", "scratch"],
    "placement": ["pre_norm", "post_norm"],
    "reading": ["forwards", "backwards"],
    "gain": [0.6, 1.0],
    "learning_rate": [3e-4, 1e-3, 3e-3],
    "seed": [0, 1, 2],
}
FASTER = {"start": ["pre_norm", "post_norm"], "reading": ["backwards"], "learning_rate": [1e-2]}
_HELD_OUT = f"Adam, 300 steps, {CONDITIONS}, the last 20000 characters held out"
_REWIRING = (
    "300 steps, at learning rate 0.001 for Post-Norm of gain 1 and 0.003 for the others, then 200; 6 layers; Adam, "
    + CONDITIONS
)
RUNS = {
    "stream_end": Run(stream_end, STREAM_END, _HELD_OUT),
    "equal_depth": Run(stream_end, EQUAL_DEPTH, _HELD_OUT),
    "rewiring": Run(rewiring, REWIRING, _REWIRING),
    "rewiring_faster": Run(rewiring, REWIRING | FASTER, _REWIRING),
}
# Where the best learning rate is at an end of its grid (`learning_rates.best_losses`), and what follows from it.
EDGES = {
    "rewiring": [
        ({"start": ["scratch"]}, "what it is compared with is at the same rate"),
    ],
}
