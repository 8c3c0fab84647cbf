"""A trained model with layers left out, swapped, merged, or read out early: what each is worth."""

import contextlib

import torch
import torch.nn.functional as F

from ..residual import PostNorm
from .probes import _frame


class Merged(torch.nn.Module):
    """Two residual branches made one of twice the width: both read the same x, and their outputs are added.

    For x + f(norm(x)) that is x + f₁(norm₁(x)) + f₂(norm₂(x)), for Post-Norm norm₂(x + f₁(x) + f₂(x)).
    Raises: ValueError for wirings where this has no meaning.
    """

    def __init__(self, first, second):
        super().__init__()
        if not (isinstance(first, PostNorm) or first.additive):
            raise ValueError(f"layers wired as {first.formula} cannot be merged; those of x + … and norm(x + f(x)) can")
        self.first, self.second = first, second

    def forward(self, x):
        if isinstance(self.first, PostNorm):
            return self.second.norm(x + self.first.branch(x) + self.second.branch(x))
        return self.first(x) + self.second(x) - x


@contextlib.contextmanager
def merged_from(model, start=1, *, branches=1):
    """The model with its layers from `start` on (1 … L) merged two by two into layers of twice the width; as a context.

    Args: branches: blocks per layer, 2 for a Transformer. An odd layer at the end stays as it is.
    """
    layers = _layers(model, branches)
    if not 1 <= start <= len(layers):
        raise ValueError(f"start is {start}; expected a layer, 1 … {len(layers)}")
    alone, rest = layers[: start - 1], layers[start - 1 :]
    pairs = [_merge(*rest[i : i + 2]) for i in range(0, len(rest), 2)]
    with _rewired(model, alone + pairs):
        yield model


def layer_drops(model, loss, *, branches=1, **labels):
    """What each layer is worth to a trained model: the loss with that layer replaced by the identity.

    Args: model: any model with `blocks`. loss: function of the model giving a number. branches: blocks per layer, 2 for
        a Transformer.
    Returns: columns `layer` (the layer left out, 1 … L; 0 for the whole model), `loss` and the labels.
    """
    layers = _layers(model, branches)
    return _losses(model, loss, [layers[:i] + layers[i + 1 :] for i in range(len(layers))], labels)


def layer_swaps(model, loss, *, branches=1, **labels):
    """How much the order of the layers matters: the loss with layers l and l + 1 exchanged.

    Arguments and columns as in `layer_drops`; `layer` is the l of the pair, 1 … L − 1.
    """
    layers = _layers(model, branches)
    swapped = [[*layers[:i], layers[i + 1], layers[i], *layers[i + 2 :]] for i in range(len(layers) - 1)]
    return _losses(model, loss, swapped, labels)


def layer_merges(model, loss, *, branches=1, **labels):
    """How deep the model really is: the loss with layers l and l + 1 merged into one of twice the width, see `Merged`.

    Arguments and columns as in `layer_swaps`.
    """
    layers = _layers(model, branches)
    merged = [[*layers[:i], _merge(*layers[i : i + 2]), *layers[i + 2 :]] for i in range(len(layers) - 1)]
    return _losses(model, loss, merged, labels)


def readouts(model, inputs, targets, *, normalised=True, branches=1, **labels):
    """The model's own head applied to the hidden state after every layer, as if the model ended there.

    With `normalised` the final norm stands in front of the head, as it does at the end; without, the head reads the
    bare state. Known as the logit lens (nostalgebraist 2020).

    Args: model: with a `head`, from hidden states to logits. inputs, targets: a batch, as for `train`. branches: as in
        `layer_drops`.
    Returns: columns `layer` (0 … L), `loss` (nats per target), `rms` (root mean square of the logits), and the labels.
    """
    if not hasattr(model, "head"):
        raise ValueError(f"{type(model).__name__} has no head that turns hidden states into logits")
    _layers(model, branches)
    with torch.no_grad():
        states = model.stream(model.embed(inputs))[::branches]
        logits = [model.head(model.final_norm(state) if normalised else state) for state in states]
        losses = [float(F.cross_entropy(y.flatten(0, -2), targets.flatten())) for y in logits]
        sizes = [float(y.square().mean().sqrt()) for y in logits]
    return _frame({"layer": range(len(states)), "loss": losses, "rms": sizes}, **labels)


def _layers(model, branches):
    """The blocks in groups of `branches`."""
    blocks = list(model.blocks)
    if branches < 1 or len(blocks) % branches:
        raise ValueError(f"branches is {branches}, but {len(blocks)} blocks cannot be cut into layers of that many")
    return [blocks[i : i + branches] for i in range(0, len(blocks), branches)]


def _merge(first, second=None):
    return first if second is None else [Merged(a, b) for a, b in zip(first, second)]


@contextlib.contextmanager
def _rewired(model, layers):
    """The model with other layers in place of its own, for as long as the context lasts."""
    blocks = model.blocks
    model.blocks = torch.nn.ModuleList(block for layer in layers for block in layer)
    try:
        yield
    finally:
        model.blocks = blocks


def _losses(model, loss, variants, labels):
    with torch.no_grad():
        losses = [float(loss(model))]
        for layers in variants:
            with _rewired(model, layers):
                losses.append(float(loss(model)))
    return _frame({"layer": range(len(losses)), "loss": losses}, **labels)
