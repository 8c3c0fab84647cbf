"""What the claims of chapter 09 are measured by, see `normcourse.claims`."""

import contextlib

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from ... import data
from ...models import seeded
from ...norms import LayerNorm
from ...train import train
from ..learning_rates import loss_difference
from ..small_transformers import small_transformer
from .formats import quantise, unit, welford

# Statistics in half precision -----------------------------------------------------------------------------------------


def throughout(x):
    """LayerNorm as one writes it with torch's functions, nothing converted; a single mean of torch is rounded once."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-5)


def by_welford(x):
    """LayerNorm with Welford's recursion in the dtype of x."""
    mean = x[..., 0]
    for count, values in enumerate(x.unbind(-1)[1:], start=2):
        mean = mean + (values - mean) / count
    return (x - mean[..., None]) / torch.sqrt(welford(x.movedim(-1, 0))[..., None] + 1e-5)


def torchs(x):
    return F.layer_norm(x, x.shape[-1:], eps=1e-5)


def error_in_roundings(norm, x):
    """Error of a layer norm of x, relative to the right output in fp64 (root mean squares), in units of u."""
    right = torchs(x.double())
    error = (norm(x).double() - right).square().mean().sqrt() / right.square().mean().sqrt()
    return (error / unit(x.dtype)).item()


def rows(dtype, mean, std, seed):
    """16 rows of 512 random features."""
    noise = torch.randn(16, 512, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (mean + std * noise).to(dtype)


KINDS = {"centred": (0, 1), "shifted": (30, 1), "large": (0, 300)}  # mean and standard deviation of the features


def _errors(norms, dtypes, kinds=KINDS):
    found = []
    for name, norm in norms.items():
        for short, dtype in dtypes.items():
            for kind in kinds:
                for seed in range(3):
                    found.append(
                        (f"{name}_{short}_{kind}", seed, error_in_roundings(norm, rows(dtype, *KINDS[kind], seed)))
                    )
    return pd.DataFrame(found, columns=["setting", "seed", "value"])


def half_precision_errors():
    """Error of LayerNorm throughout half precision, and by Welford in fp16; in roundings of the output."""
    both = {"fp16": torch.float16, "bf16": torch.bfloat16}
    return pd.concat(
        [_errors({"throughout": throughout}, both), _errors({"welford": by_welford}, {"fp16": torch.float16})]
    )


def layer_norm_in_fp16():
    """Error of PyTorch's LayerNorm of fp16 numbers, and of one in fp16 throughout, in roundings of the output."""
    return _errors({"torch": torchs, "throughout": throughout}, {"fp16": torch.float16})


# Clipping -------------------------------------------------------------------------------------------------------------


def clipped_minus_not():
    """Loss with gradients clipped to norm 1 minus that without, each at its best rate, and at 0.03; recorded."""
    runs, parts = data.recorded("clipping"), []
    for placement, group in runs.groupby("placement", sort=False):
        clipped, free = (group[group["clip"] == clip] for clip in (1.0, 0.0))
        parts.append(loss_difference(placement, clipped, free))
        high = [part[part["learning_rate"] == 3e-2].set_index("seed")["loss"] for part in (clipped, free)]
        difference = high[0] - high[1]
        frame = {
            "setting": f"{placement}_high",
            "seed": difference.index,
            "value": difference.to_numpy(),
            "edge": False,
        }
        parts.append(pd.DataFrame(frame))
    return pd.concat(parts)


# Low bits -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def watched(model):
    """Inside, every forward pass writes what it computes into lists: outputs of norms, sums of the stream, and what the
    other matrices read (what attention hands on, and the inner activations)."""
    seen, hooks = {"norms": [], "sums": [], "others": []}, []
    for module in model.modules():
        if isinstance(module, LayerNorm):
            hooks.append(module.register_forward_hook(lambda _, given, y: seen["norms"].append(y)))
    for block in model.blocks:
        hooks.append(block.register_forward_hook(lambda _, given, y: seen["sums"].append(y)))
        reads = getattr(block.sublayer, "out", None) or block.sublayer.down
        hooks.append(reads.register_forward_pre_hook(lambda _, given: seen["others"].append(given[0])))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def trained(seed=0, steps=150):
    """A small Transformer after some steps, and text that it did not train on."""
    ids, _ = data.encode(data.load_text("en"))
    model = small_transformer("pre_norm", 2, seed=seed)
    train(model, data.batches(ids[:-20_000], 8, 32, seed), steps=steps, learning_rate=3e-3, progress=False)
    return model, ids[-20_000:].unfold(0, 32, 640)


def plant_outlier(model, size, channel=3):
    """Multiply one γ of every norm in front of a branch, and divide what reads it: the function stays the same."""
    with torch.no_grad():
        for block in model.blocks:
            block.norm.weight[channel] *= size
            block.norm.bias[channel] *= size
            readers = [getattr(block.sublayer, name, None) for name in ("query", "key", "value", "up")]
            for reader in filter(None, readers):
                reader.weight[:, channel] /= size
    return model


def relative_error(tensors, bits, dims=None):
    """Quantisation error over size, the mean over the tensors."""
    errors = [(quantise(x, bits, dims) - x).norm() / x.norm() for x in tensors]
    return torch.stack(errors).mean().item()


def low_bit_errors(bits=8):
    """Quantisation error of norms' outputs and of residual sums over that of what other matrices read; three seeds."""
    found = []
    for seed in range(3):
        model, text = trained(seed)
        for suffix in ("", "_outlier"):
            model = plant_outlier(model, 30.0) if suffix else model
            with watched(model) as seen, torch.no_grad():
                model(text)
            others = relative_error(seen["others"], bits)
            found.append((f"norms{suffix}", seed, relative_error(seen["norms"][:-1], bits) / others))
            if not suffix:
                found.append(("sums", seed, relative_error(seen["sums"], bits) / others))
    return pd.DataFrame(found, columns=["setting", "seed", "value"])


# The run that breaks --------------------------------------------------------------------------------------------------


class HalfNorm(nn.Module):
    """RMSNorm as one might write it for fp16: statistics in fp16, and an ε that fp16 rounds to 0."""

    def __init__(self, eps=1e-8):
        super().__init__()
        self.eps = eps

    def forward(self, x):
        h = x.half()
        return (h / torch.sqrt(h.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)


class WideNorm(HalfNorm):
    """The same with its statistics in fp32."""

    def forward(self, x):
        h = x.half().float()
        return (h * torch.rsqrt(h.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)


def next_character_model(vocabulary, norm, seed=0):
    """The next character from eight: each becomes 8 numbers, these are normalised, and two matrices do the rest."""
    with seeded(seed):
        characters = nn.Embedding(vocabulary, 8)
        nn.init.normal_(characters.weight, std=0.02)
        return nn.Sequential(characters, norm, nn.Flatten(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, vocabulary))
