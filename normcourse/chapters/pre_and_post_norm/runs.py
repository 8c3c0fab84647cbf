"""The recorded runs of chapter 06: warm-up × learning rate × wiring, and the same without a norm."""

from ... import data
from ...record import Run
from ...train import train
from ..small_transformers import CONDITIONS, final_loss, small_transformer


def warmup(placement, gain, depth, learning_rate, warmup, seed):
    """Training loss of a small Transformer after 400 steps with a linear warm-up: the mean of the last 50 steps.

    `steps_to_2.6`: the step from which the mean of the 20 steps before is below 2.6 nats; nan if it never is.
    """
    ids, _ = data.encode(data.load_text("en"))
    norm = "none" if placement == "residual" else "layer_norm"
    model = small_transformer(placement, depth, gain, seed, norm)
    batches = data.batches(ids, 8, 32, seed)
    history = train(model, batches, steps=400, learning_rate=learning_rate, warmup=warmup, progress=False)
    reached = history["loss"].rolling(20).mean() < 2.6
    steps = int(history["step"][reached.idxmax()]) if reached.any() else float("nan")
    return {"loss": final_loss(history, 400), "steps_to_2.6": steps}


WARMUP = {
    "placement": ["post_norm", "pre_norm"],
    "gain": [0.6, 1.0],
    "depth": [24, 12],
    "learning_rate": [3e-4, 1e-3, 3e-3, 1e-2],
    "warmup": [0, 50, 200],
    "seed": [0, 1, 2],
}

RUNS = {
    "warmup": Run(warmup, WARMUP, f"Adam, 400 steps, {CONDITIONS}"),
    "without_norm": Run(warmup, WARMUP | {"placement": ["residual"], "warmup": [0]}, f"Adam, 400 steps, {CONDITIONS}"),
}
