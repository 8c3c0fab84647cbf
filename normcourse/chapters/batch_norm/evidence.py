"""What the claims of chapter 04 are measured by, see `normcourse.claims`; and the sentences it measures them on."""

import copy
import functools
import re

import pandas as pd
import torch
from torch.nn.utils.rnn import pad_sequence

from ... import data
from ...models import Transformer
from ...norms import BatchNorm, batch_norm, layer_norm
from ..learning_rates import loss_difference

LONGEST = 128


@functools.cache
def sentences():
    """Every sentence of Moby-Dick 1–22 with 8 to 128 characters, in the order of the text."""
    found = re.split(r"(?<=[.!?;])\s+", data.load_text("en").replace("\n", " "))
    return [sentence for sentence in found if 8 <= len(sentence) <= LONGEST]


@functools.cache
def hidden_states(width=64):
    """What the norm of the fifth branch sees of each sentence, a list of (characters, width): a Pre-Norm Transformer at
    initialisation. Attention is causal, so the padding behind a sentence does not reach it."""
    _, vocabulary = data.encode(data.load_text("en"))
    number = {character: i for i, character in enumerate(vocabulary)}
    ids = [torch.tensor([number[c] for c in sentence]) for sentence in sentences()]
    model = Transformer(vocabulary=len(vocabulary), width=width, heads=4, depth=3, context=LONGEST, seed=0)
    states = []
    with torch.no_grad():
        for start in range(0, len(ids), 64):
            part = ids[start : start + 64]
            x = model.stream(model.embed(pad_sequence(part, batch_first=True)))[4]
            states += [row[: len(i)].clone() for row, i in zip(x, part)]
    return states


def padded(batch):
    """A list of (characters, d) as one tensor (sentences, longest, d), filled up with zeros, and where it is real."""
    lengths = torch.tensor([len(states) for states in batch])
    x = pad_sequence(batch, batch_first=True)
    return x, torch.arange(x.shape[1]) < lengths[:, None]


def by_the_batch(model):
    """A copy of a model whose BatchNorms use the statistics of what they are given, and learn nothing from it. A copy:
    explorers compute in threads, and a model must not change under another's hands."""
    other = copy.deepcopy(model)
    for module in other.modules():
        if isinstance(module, BatchNorm):
            module.training, module.momentum = True, 0.0
    return other


def change_by_company(companions=31, seeds=5):
    """How much the normalised states of a sentence change between two settings that do not touch the sentence: the
    rms of the difference over the rms of the output. For LayerNorm, and for BatchNorm with the statistics of the batch
    and with fixed ones, which is what it has in evaluation."""
    states, rows = hidden_states(), []
    everything = torch.cat(states)
    mean, rstd = everything.mean(0), everything.var(0, correction=0).add(1e-5).rsqrt()
    norms = {"layer": layer_norm, "batch": batch_norm, "running": lambda x: (x - mean) * rstd}
    for seed in range(seeds):
        chosen = torch.randperm(len(states), generator=torch.Generator().manual_seed(seed))[: companions + 1]
        first, *others = (states[i] for i in chosen.tolist())
        others = [other[: len(first)] for other in others]  # not longer: only the company differs, no padding is added
        lengthened = [first, torch.cat([first, first])[: 2 * len(first)]]
        for norm, function in norms.items():
            alone = function(first[None])[0]
            cases = {"alone": torch.cat([first, *others]), "padding": padded(lengthened)[0].flatten(0, 1)}
            for case, rows_of_batch in cases.items():
                among = function(rows_of_batch)[: len(first)]
                change = ((among - alone).square().mean() / alone.square().mean()).sqrt().item()
                rows.append((f"{norm}_{case}", seed, change))
    return pd.DataFrame(rows, columns=["setting", "seed", "value"])


def batch_norm_minus_layer_norm():
    """Held-out loss with BatchNorm, in evaluation, minus that with LayerNorm, seed by seed, each at its best learning
    rate, per batch size in training; recorded."""
    parts = []
    for batch_size, runs in data.recorded("batch_norm_quality").groupby("batch_size"):
        one, other = (runs[runs["norm"] == norm] for norm in ("batch_norm", "layer_norm"))
        parts.append(loss_difference(f"batches_of_{batch_size}", one, other, "held_out_loss"))
    return pd.concat(parts)


def view_against_transpose(shape=(2, 10, 512), seeds=5):
    """How far `bn(x.view(2, 512, 10)).view(2, 10, 512)` is from BatchNorm of every feature: the rms of the difference
    over that of the output; and the same for the transpose."""
    rows = []
    for seed in range(seeds):
        scales = torch.linspace(0.1, 3.0, shape[-1])
        x = scales * torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + scales
        bn, wanted = torch.nn.BatchNorm1d(shape[-1], affine=False), batch_norm(x)
        by_view = bn(x.view(shape[0], shape[2], shape[1])).view(shape)
        by_transpose = bn(x.transpose(1, 2)).transpose(1, 2)
        for setting, y in (("view", by_view), ("transpose", by_transpose)):
            error = ((y - wanted).square().mean() / wanted.square().mean()).sqrt().item()
            rows.append((setting, seed, error))
    return pd.DataFrame(rows, columns=["setting", "seed", "value"])
