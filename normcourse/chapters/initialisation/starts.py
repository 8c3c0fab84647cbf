"""How a deep residual stack can begin: its wiring, the size of the two matrices of each branch, and a multiplier."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ...models import Stack
from ...registry import BLUE, GREEN, MINT, ORANGE, SKY, VERMILLION, Look, find
from ...residual import PLACEMENTS, DeepNorm
from ...theory import mean_field

GAIN = 2**0.5  # a branch leaves the variance that it reads


class Start(NamedTuple):
    """Functions of the depth, the number of branches: what the first and the last matrix of a branch are multiplied by
    when they are drawn, and what multiplies the branch for good."""

    placement: str
    first: Callable = lambda depth: 1.0
    last: Callable = lambda depth: 1.0
    multiplier: Callable = lambda depth: 1.0
    look: Look | None = None  # that of the wiring by default

    @property
    def style(self):
        """Colour, marker and dash as arguments of `canvas.curve`."""
        look = self.look or PLACEMENTS[self.placement].look
        return {"color": look.colour, "marker": look.marker, "linestyle": look.dash}


def _nothing(depth):
    return 0.0


def _beta(depth):
    return DeepNorm.constants(depth)[1]


def _power(exponent):
    return lambda depth: depth**exponent


STARTS = {
    "plain": Start("plain"),
    "unscaled": Start("residual", look=Look(VERMILLION, "s")),
    "shrunk": Start("residual", last=_power(-0.5), look=Look(GREEN, "s", "--")),
    "multiplied": Start("residual", multiplier=_power(-0.5), look=Look(GREEN, "o")),
    "multiplied_more": Start("residual", multiplier=_power(-1.0), look=Look(MINT, "^", "--")),
    "fixup": Start("residual", first=_power(-0.5), last=_nothing, look=Look(SKY, "P")),
    "rezero": Start("rezero"),
    "pre_norm": Start("pre_norm"),
    "gpt2": Start("pre_norm", last=_power(-0.5), look=Look(BLUE, "^", "--")),
    "zero_init": Start("pre_norm", last=_nothing, look=Look(BLUE, "*", ":")),
    "layer_scale": Start("layer_scale"),
    "post_norm": Start("post_norm", look=Look(ORANGE, "D")),
    "deep_norm": Start("deep_norm"),  # β, on both matrices, is the wiring's own
}


class TwoMatrices(nn.Module):
    """The branch multiplier · W₂ relu(W₁ x), with W₁ ~ N(0, first²/width) and W₂ ~ N(0, last²/width)."""

    def __init__(self, width, first, last, multiplier, generator):
        super().__init__()
        draw = torch.randn(2, width, width, generator=generator) / width**0.5
        self.first, self.last = nn.Parameter(first * draw[0]), nn.Parameter(last * draw[1])
        self.multiplier = multiplier

    def forward(self, x):
        y = F.relu(x @ self.first.mT) @ self.last.mT  # a stack of matrices is as good as one, see `runs`
        return y if self.multiplier == 1 else self.multiplier * y


class Normed(nn.LayerNorm):
    """Layer normalisation without γ and β, by torch: a thousand of them have to be quick."""

    def __init__(self, hidden_size):
        super().__init__(hidden_size, elementwise_affine=False)


class Tower(Stack):
    """See `tower`."""

    def __init__(self, start, depth, width, gain, seed):
        super().__init__()
        start = find(start, STARTS, "start")
        generator = torch.Generator().manual_seed(seed)
        both = _beta(depth) if start.placement == "deep_norm" else 1.0
        sizes = both * start.first(depth), both * gain * start.last(depth), start.multiplier(depth)
        norm = Normed if PLACEMENTS.find(start.placement).uses_norm else None
        branches = [TwoMatrices(width, *sizes, generator) for _ in range(depth)]
        self.assemble(branches, width, start.placement, norm, 0.0, 1, generator)

    def embed(self, x):
        return x

    def forward(self, x):
        return self.final_norm(self.stream(x)[-1])

    def random_inputs(self, batch_size, generator):
        """Standard normal inputs (batch_size, width)."""
        return torch.randn(batch_size, self.hidden_size, generator=generator)


def tower(start, depth, width=16, gain=GAIN, seed=0):
    """A stack of `depth` branches of two matrices that begins as `STARTS[start]` says, for the probes of `measure`."""
    return Tower(start, depth, width, gain, seed)


def expected(start, depth, gain=GAIN, variance=1.0):
    """`theory.mean_field` of a tower: its branch multiplies a variance by gain²/2 and a squared gradient as well, times
    the squares of the sizes, just as a single matrix after a ReLU does."""
    one = find(start, STARTS, "start")
    both = _beta(depth) if start == "deep_norm" else 1.0  # the law has β once
    size = gain * both * one.first(depth) * one.last(depth) * one.multiplier(depth)
    return mean_field(one.placement, depth, size, variance=variance)


def output_change(start, depth, optimiser="adam", rate=1e-4, seed=0):
    """By what share of its size one real step moves the output of a tower: the loss is a random linear function of the
    output, every parameter is trained.

    Args: optimiser: "adam" or "sgd".  rate: its learning rate.
    """
    model, generator = tower(start, depth, seed=seed), torch.Generator().manual_seed(2**31 + seed)
    inputs = model.random_inputs(4, generator)
    output = model(inputs)
    (output * torch.randn(output.shape, generator=generator)).sum().backward()
    find(optimiser, {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}, "optimiser")(model.parameters(), rate).step()
    with torch.no_grad():
        return ((model(inputs) - output).norm() / output.norm()).item()


def kept_for_backward(start, depth):
    """Bytes that a forward pass of a tower keeps for its backward pass, the parameters not counted; and the seconds of
    both passes together, the faster of two runs."""
    model, seconds = tower(start, depth), []
    inputs, own = model.random_inputs(16, torch.Generator().manual_seed(0)), {p.data_ptr() for p in model.parameters()}
    for _ in range(2):
        kept, begun = {}, time.perf_counter()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, kept=kept: kept.update({t.data_ptr(): t}) or t, lambda t: t
        ):
            output = model(inputs)
        output.sum().backward()
        seconds.append(time.perf_counter() - begun)
    return sum(t.untyped_storage().nbytes() for at, t in kept.items() if at not in own), min(seconds)
