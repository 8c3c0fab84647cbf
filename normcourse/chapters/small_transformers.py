"""What several chapters train: a small Transformer on characters, for a few hundred steps; and what its loss is."""

import torch
import torch.nn.functional as F

from .. import data
from ..models import Transformer

CONDITIONS = (
    "batch 8 of 32 characters, Transformer of width 64, 4 heads, GELU, Xavier-normal weights × gain, "
    "text: Moby-Dick 1–22"
)
HELD_OUT = 20_000  # characters at the end of the text, where a run keeps some


def small_transformer(placement, depth, gain=1.0, seed=0, norm="layer_norm"):
    """A Transformer of width 64 with 4 heads for excerpts of 32 characters of the English text."""
    _, vocabulary = data.encode(data.load_text("en"))
    size = {"vocabulary": len(vocabulary), "width": 64, "heads": 4, "depth": depth, "context": 32}
    return Transformer(**size, placement=placement, norm=norm, gain=gain, seed=seed)


def final_loss(history, steps):
    """The mean training loss of the last 50 of `steps` steps, in nats; infinite where the run ended before."""
    return float("inf") if len(history) < steps else round(history["loss"][-50:].mean(), 4)


def held_out_loss(model, ids, stride=132):
    """The mean loss on excerpts of 32 characters of `ids`, one every `stride` characters, in nats."""
    excerpts = ids.unfold(0, 33, stride)  # and the character after each
    with torch.no_grad():
        loss = F.cross_entropy(model(excerpts[:, :-1]).flatten(0, 1), excerpts[:, 1:].flatten())
    return round(float(loss), 4)
