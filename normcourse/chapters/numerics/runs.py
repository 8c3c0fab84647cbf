"""The recorded run of chapter 09: the same small Transformer with and without gradient clipping."""

from ... import data
from ...record import Run
from ...train import train
from ..small_transformers import CONDITIONS, final_loss, small_transformer


def clipping(placement, learning_rate, clip, seed):
    """Loss of a small Transformer after 200 steps, the mean of the last 50; and the share of steps that were clipped.

    clip: largest gradient norm, 0 for no clipping. Runs of one seed start from the same weights and read the same text.
    """
    ids, _ = data.encode(data.load_text("en"))
    model = small_transformer(placement, 2, seed=seed)
    batches = data.batches(ids, 8, 32, seed)
    history = train(model, batches, steps=200, learning_rate=learning_rate, clip=clip or None, progress=False)
    norms = history["gradient_norm"]
    shares = {"above_one": round((norms > 1).mean(), 3), "largest": round(norms.max(), 2)}
    return {"loss": final_loss(history, 200), **shares}


RUNS = {
    "clipping": Run(
        clipping,
        {
            "placement": ["pre_norm", "post_norm"],
            "learning_rate": [1e-3, 3e-3, 1e-2, 3e-2],
            "clip": [0.0, 1.0],
            "seed": list(range(10)),
        },
        f"Adam, 200 steps, no warm-up, 2 layers, LayerNorm, gain 1; {CONDITIONS}",
    ),
}
