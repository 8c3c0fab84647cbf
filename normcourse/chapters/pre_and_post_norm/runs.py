"""The recorded runs of chapter 06: warm-up × learning rate × wiring, the same without a norm, and where these had their
best values at an edge, what lies beyond it."""

from ... import data
from ...record import Run
from ...train import train
from ..small_transformers import CONDITIONS, final_loss, small_transformer


def warmup(placement, gain, depth, learning_rate, warmup, seed):
    """Training loss of a small Transformer after 400 steps with a linear warm-up: the mean of the last 50 steps.

    `steps_to_2.6`: the step from which the mean of the 20 steps before is below 2.6 nats; nan if it never is.
    """
    return _trained(placement, gain, depth, learning_rate, warmup, seed, 400)


def _trained(placement, gain, depth, learning_rate, warmup, seed, steps):
    ids, _ = data.encode(data.load_text("en"))
    norm = "none" if placement == "residual" else "layer_norm"
    model = small_transformer(placement, depth, gain, seed, norm)
    batches = data.batches(ids, 8, 32, seed)
    history = train(model, batches, steps=steps, learning_rate=learning_rate, warmup=warmup, progress=False)
    reached = history["loss"].rolling(20).mean() < 2.6
    at = int(history["step"][reached.idxmax()]) if reached.any() else float("nan")
    return {"loss": final_loss(history, steps), "steps_to_2.6": at}


WARMUP = {
    "placement": ["post_norm", "pre_norm"],
    "gain": [0.6, 1.0],
    "depth": [24, 12],
    "learning_rate": [3e-4, 1e-3, 3e-3, 1e-2],
    "warmup": [0, 50, 200],
    "seed": [0, 1, 2],
}

SLOWER = {"placement": ["post_norm"], "gain": [0.6], "depth": [24], "learning_rate": [1e-4], "warmup": [0]}
FASTER = {"gain": [0.6], "learning_rate": [3e-2]}
LOWER_GAINS = {"placement": ["pre_norm"], "gain": [0.15, 0.3], "learning_rate": [1e-3, 3e-3, 1e-2], "warmup": [0]}
WITHOUT_NORM = {"placement": ["residual"], "gain": [0.15, 0.3, 0.6, 1.0], "warmup": [0]}
_400 = f"Adam, 400 steps, {CONDITIONS}"

RUNS = {
    "warmup": Run(warmup, WARMUP, _400),
    "warmup_slower": Run(warmup, WARMUP | SLOWER, _400),
    "warmup_faster": Run(warmup, WARMUP | FASTER, _400),
    "lower_gains": Run(warmup, WARMUP | LOWER_GAINS, _400),
    "without_norm": Run(warmup, WARMUP | WITHOUT_NORM, _400),
}
# Where the best learning rate is at an end of its grid (`learning_rates.best_losses`), and what follows from it.
EDGES = {
    "warmup": [
        (
            {"placement": ["post_norm"], "gain": [0.6], "depth": [24], "warmup": [50]},
            "no number of the chapter is from it",
        ),
        (
            {"placement": ["pre_norm"], "gain": [1.0], "warmup": [50, 200]},
            "the gain of 0.6 does better, and there the best rate is inside",
        ),
    ],
    "without_norm": [({"gain": [1.0]}, "it diverges at every rate")],
}
