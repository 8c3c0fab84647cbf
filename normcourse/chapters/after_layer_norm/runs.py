"""The recorded runs of chapter 12: a small Transformer with each wiring, with QK-norm and with DyT; and, over three
decades of learning rates, with and without QK-norm."""

from ... import data
from ...measure import variances
from ...record import Run
from ...train import train
from ..small_transformers import HELD_OUT, final_loss, held_out_loss, small_transformer
from .variants import VARIANTS, dyt, largest_logit, with_qk_norm

DEPTH, STEPS = 4, 120
KINDS = ("pre_norm", "dyt_0.5", "dyt_1", "dyt_0.2", "dyt_0.1", "qk_norm", "scaled_pre_norm", "keel", "peri_norm",
         "res_post_norm", "mix_ln", "ngpt", "hyper_connection", "mhc")  # fmt: skip


def make(kind, seed):
    """The model of a kind: the name of a wiring, "qk_norm", or "dyt_" and the α it starts with, both in Pre-Norm."""
    if kind.startswith("dyt_"):
        return small_transformer("pre_norm", DEPTH, seed=seed, norm=dyt(float(kind[4:])))
    if kind == "qk_norm":
        return with_qk_norm(small_transformer("pre_norm", DEPTH, seed=seed))
    return small_transformer(VARIANTS.get(kind, kind), DEPTH, seed=seed)


def after_layer_norm(kind, learning_rate, seed):
    """Losses of a small Transformer after 120 steps. Runs of one seed start from the same matrices and read the same
    excerpts.

    variance: of the last hidden state, before a final norm (of the mean of the copies, where there are several).
    logit: the largest |q·k|/√d of any attention on 32 held-out excerpts.
    """
    ids, _ = data.encode(data.load_text("en"))
    model = make(kind, seed)
    history = train(model, data.batches(ids[:-HELD_OUT], 8, 32, seed), steps=STEPS, learning_rate=learning_rate,
                    progress=False)  # fmt: skip
    model.eval()
    held_out = ids[1 - HELD_OUT :]
    excerpts, copies = held_out.unfold(0, 32, 600)[:32], getattr(model.blocks[0], "streams", 1)
    return {
        "loss": final_loss(history, STEPS),
        "held_out_loss": held_out_loss(model, held_out, stride=132),
        "variance": round(float(variances(model, excerpts)["variance"].iloc[-1]) / copies**2, 4),
        "logit": round(max(largest_logit(model, excerpts)), 3),
    }


def qk_norm_rates(kind, learning_rate, seed):
    """`after_layer_norm`, and the held-out loss before the first step."""
    ids, _ = data.encode(data.load_text("en"))
    start = held_out_loss(make(kind, seed), ids[1 - HELD_OUT :])
    return {"before": start, **after_layer_norm(kind, learning_rate, seed)}


CONDITIONS = (
    f"Adam, {STEPS} steps, batches of 8 excerpts of 32 characters, Transformer of {DEPTH} layers, width 64, "
    "4 heads, GELU, Xavier-normal weights, text: Moby-Dick 1–22, the last 20000 characters held out"
)
# The rates of Wortsman et al. 2023 and seeds that nothing was recorded with before the rule of claim A3 was written.
RATES = {
    "kind": ["pre_norm", "qk_norm"],
    "learning_rate": [3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3],
    "seed": [*range(3, 8)],
}

RUNS = {
    "after_layer_norm": Run(
        after_layer_norm,
        {"kind": list(KINDS), "learning_rate": [1e-3, 3e-3, 1e-2, 3e-2], "seed": [0, 1, 2]},
        CONDITIONS,
    ),
    "qk_norm_rates": Run(qk_norm_rates, RATES, CONDITIONS),
}
