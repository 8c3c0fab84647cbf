"""The recorded run of chapter 04: a small Transformer with BatchNorm and with LayerNorm, at two batch sizes."""

from ... import data
from ...record import Run
from ...train import train
from ..small_transformers import HELD_OUT, final_loss, held_out_loss, small_transformer
from .evidence import by_the_batch


def batch_norm_quality(norm, batch_size, learning_rate, seed):
    """Losses of a small Pre-Norm Transformer after 300 steps. Runs of one seed start from the same weights, and those
    of one batch size read the same excerpts.

    held_out_loss: in evaluation, which for BatchNorm means with running averages. alone_loss: the mean over every sixth
    of these excerpts, each normalised, where there is BatchNorm, with the statistics of its own 32 characters.
    """
    ids, _ = data.encode(data.load_text("en"))
    model = small_transformer("pre_norm", 4, seed=seed, norm=norm)
    batches = data.batches(ids[:-HELD_OUT], batch_size, 32, seed)
    history = train(model, batches, steps=300, learning_rate=learning_rate, progress=False)
    model.eval()
    held_out = ids[1 - HELD_OUT :]
    losses = {"loss": final_loss(history, 300), "held_out_loss": held_out_loss(model, held_out, stride=32)}
    model, starts = by_the_batch(model), range(0, len(held_out) - 33, 192)
    alone = [held_out_loss(model, held_out[start : start + 33]) for start in starts]
    return losses | {"alone_loss": round(sum(alone) / len(alone), 4)}


RUNS = {
    "batch_norm_quality": Run(
        batch_norm_quality,
        {
            "norm": ["batch_norm", "layer_norm"],
            "batch_size": [8, 1],
            "learning_rate": [1e-3, 3e-3, 1e-2, 3e-2],
            "seed": list(range(6)),
        },
        "Adam, 300 steps, batches of excerpts of 32 characters, Pre-Norm Transformer of 4 layers, width 64, 4 heads, "
        "GELU, Xavier-normal weights, text: Moby-Dick 1–22, the last 20000 characters held out",
    ),
}
