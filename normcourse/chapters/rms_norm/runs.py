"""The recorded run of chapter 05: LayerNorm, RMSNorm and no norm at equal training."""

from ... import data
from ...record import Run
from ...train import train
from ..small_transformers import HELD_OUT, final_loss, held_out_loss, small_transformer


def norm_quality(placement, norm, learning_rate, seed):
    """Loss of a small Transformer after 300 steps: the mean of the last 50 steps, and that on text it never trained on.

    Runs of one seed start from the same weights and read the same excerpts, so norms can be compared seed by seed.
    """
    ids, _ = data.encode(data.load_text("en"))
    model = small_transformer(placement, 4, seed=seed, norm=norm)
    batches = data.batches(ids[:-HELD_OUT], 8, 32, seed)
    history = train(model, batches, steps=300, learning_rate=learning_rate, progress=False)
    held_out = held_out_loss(model, ids[1 - HELD_OUT :], stride=32)  # 624 excerpts
    return {"loss": final_loss(history, 300), "held_out_loss": held_out}


NORM_QUALITY = {
    "placement": ["pre_norm", "post_norm"],
    "norm": ["layer_norm", "rms_norm", "none"],
    "learning_rate": [3e-4, 1e-3, 3e-3, 1e-2, 3e-2],
    "seed": list(range(10)),
}

RUNS = {
    "norm_quality": Run(
        norm_quality,
        NORM_QUALITY,
        "Adam, 300 steps, batch 8 of 32 characters, Transformer of 4 layers, width 64, 4 heads, GELU, Xavier-normal "
        "weights, text: Moby-Dick 1–22, the last 20000 characters held out",
    ),
}
