"""The recorded runs of chapter 08: deep stacks from many starts, at one more rate where the best was at an edge, and
Post-Norm with weights of BERT's size."""

import copy
import functools
import itertools

import torch
import torch.nn.functional as F
from torch import nn

from ... import data
from ...record import Run
from ...train import train
from ..small_transformers import small_transformer
from .starts import tower

WIDTH, CONTEXT, BATCH, STEPS, WINDOW = 32, 8, 64, 40, 5
RATES, FASTER = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2), (1e-1,)
SEEDS, AT_ONCE = range(6), 3  # so many seeds are trained side by side


class CharacterTower(nn.Module):
    """A tower that reads 8 characters, 4 numbers each, and predicts the next one. Its parameters may be stacked,
    (models, …): then it is so many models, each with its own inputs (models, batch, 8)."""

    def __init__(self, start, depth, seed=0):
        super().__init__()
        _, vocabulary = data.encode(data.load_text("en"))
        generator = torch.Generator().manual_seed(2**30 + seed)
        self.tokens = nn.Parameter(torch.randn(len(vocabulary), WIDTH // CONTEXT, generator=generator))
        self.tower = tower(start, depth, WIDTH, seed=seed)
        self.head = nn.Parameter(torch.randn(len(vocabulary), WIDTH, generator=generator) / WIDTH**0.5)

    def forward(self, ids):
        letters = F.one_hot(ids, self.tokens.shape[-2]).float().flatten(-3, -2) @ self.tokens
        return self.tower(letters.unflatten(-2, (-1, CONTEXT)).flatten(-2)) @ self.head.mT


def side_by_side(models):
    """One model whose parameters are those of all, stacked: small matrices are multiplied together."""
    together, parameters = copy.deepcopy(models[0]), [dict(model.named_parameters()) for model in models]
    for name in parameters[0]:
        value = torch.stack([own[name].detach() for own in parameters])
        if value.dim() < 3:  # a number or a vector: it multiplies (models, batch, width)
            value = value.view(len(models), 1, -1)
        owner, _, attribute = name.rpartition(".")
        setattr(together.get_submodule(owner), attribute, nn.Parameter(value))
    return together


def one_batch(seed):
    """The same 64 excerpts again and again, to be learned by heart: 40 steps show what a stack can do."""
    ids, _ = data.encode(data.load_text("en"))
    return itertools.repeat(next(data.next_characters(ids, BATCH, CONTEXT, seed)))


def trained_together(models, batches, rates, steps):
    """Training losses (models, steps) of each model, by Adam on its own batches and at its own rate: what `train.train`
    gives one by one, in a fraction of the time. A loss that is not finite stays so."""
    model, losses = side_by_side(models), []
    parameters = [*model.parameters()]
    rate = torch.tensor(rates).view(-1, 1, 1)
    first, second = ([torch.zeros_like(value) for value in parameters] for _ in range(2))
    for step in range(1, steps + 1):
        x, y = (torch.stack(part) for part in zip(*(next(batch) for batch in batches)))
        own = F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="none").view_as(y).mean(1)
        gradients = torch.autograd.grad(own.sum(), parameters)
        losses.append(own.detach())
        with torch.no_grad():
            for p, m, v, g in zip(parameters, first, second, gradients):
                m.lerp_(g, 0.1)
                v.mul_(0.999).addcmul_(g, g, value=0.001)
                root = v.sqrt().div_((1 - 0.999**step) ** 0.5).add_(1e-8)
                p.sub_(torch.div(m, root).mul_(rate / (1 - 0.9**step)))
    return torch.stack(losses, 1)


@functools.lru_cache(maxsize=len(SEEDS) // AT_ONCE)
def _together(start, depth, rates, seeds):
    """The losses (steps) of each rate and seed."""
    each = [*itertools.product(rates, seeds)]
    models, batches = zip(*((CharacterTower(start, depth, seed), one_batch(seed)) for _, seed in each))
    return dict(zip(each, trained_together(models, batches, [rate for rate, _ in each], STEPS)))


def deep_starts(start, depth, learning_rate, seed):
    """Loss of a deep character model that learns 64 excerpts by heart: the means of each 5 steps, and as `loss` that of
    steps 16 to 20; after 40 nearly all of them know the excerpts.

    A loss above 10 nats, or none at all, counts as 10. All rates of a run and three seeds are trained at once.
    """
    rates = next(rates for rates in (RATES, FASTER) if learning_rate in rates)
    first = seed - seed % AT_ONCE
    losses = _together(start, depth, rates, range(first, first + AT_ONCE))[learning_rate, seed]
    losses = losses.nan_to_num(10.0).clamp(max=10.0)
    means = losses.view(-1, WINDOW).mean(1).tolist()
    return {f"to_{(i + 1) * WINDOW}": round(mean, 4) for i, mean in enumerate(means)} | {"loss": round(means[3], 4)}


def bert_std(std, placement, learning_rate, seed):
    """Loss of a Transformer of 12 layers of width 64 that learns 4 excerpts by heart, the mean of the last 5 of 60
    steps, with all matrices of the branches drawn from N(0, std²); std 0: as Xavier has it."""
    ids, _ = data.encode(data.load_text("en"))
    model, batch = small_transformer(placement, 12, seed=seed), next(data.batches(ids, 4, 32, seed))
    if std:
        for block in model.blocks:
            for matrix in block.sublayer.parameters():
                matrix.data *= std / matrix.data.square().mean().sqrt()
    history = train(model, itertools.repeat(batch), steps=60, learning_rate=learning_rate, progress=False)
    return {"loss": round(history["loss"][-5:].mean(), 4) if len(history) == 60 else 10.0}


STARTED = [
    "unscaled", "shrunk", "multiplied", "fixup", "rezero", "pre_norm", "gpt2",
    "zero_init", "layer_scale", "post_norm", "deep_norm"
]  # fmt: skip
DEEP_STARTS = {"depth": [30, 100, 300], "start": STARTED, "learning_rate": [*RATES], "seed": [*SEEDS]}
# The starts whose best rate was at the edge of that grid at some depth, and Pre-Norm, which they are compared with.
_FASTER = {
    "start": ["pre_norm", "gpt2", "zero_init", "layer_scale", "post_norm", "deep_norm"],
    "learning_rate": [*FASTER],
}
_HEART = (
    f"Adam, {STEPS} steps on one batch of {BATCH} excerpts of {CONTEXT} characters, width {WIDTH}, branches of two "
    "matrices with a ReLU between them, norms without γ and β, text: Moby-Dick 1–22"
)
RUNS = {
    "deep_starts": Run(deep_starts, DEEP_STARTS, _HEART),
    "deep_starts_faster": Run(deep_starts, DEEP_STARTS | _FASTER, _HEART),
    "bert_std": Run(
        bert_std,
        {
            "std": [0.0, 0.02, 0.07],
            "placement": ["post_norm"],
            "learning_rate": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2],
            "seed": [*SEEDS],
        },
        "Adam, 60 steps on one batch of 4 excerpts of 32 characters, no warm-up, Transformer of 12 layers of width 64, "
        "4 heads, GELU, Xavier-normal weights or all matrices of the branches from N(0, std²), text: Moby-Dick 1–22",
    ),
}
