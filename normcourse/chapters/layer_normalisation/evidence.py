"""What the claims of chapter 03 are measured by, see `normcourse.claims`."""

import functools

import pandas as pd
import torch
import torch.nn.functional as F

from ... import data
from ...models import Attention, CharacterMLP, deep_mlp
from ...norms import layer_norm
from ...residual import PLACEMENTS, Placement
from ...train import train

SHAPES = ("normal", "relu", "two_valued", "skewed", "outlier")


def output_over_pytorchs(eps=1e-5):
    """The output of (x − mean) / (σ + ε) over that of PyTorch's layer norm, rows of standard deviation σ; exact."""
    rows = []
    for std in (1.0, 0.003, 0.0001):
        x = std * torch.tensor([1.0, -1.0] * 8, dtype=torch.float64)
        y = F.layer_norm(x, (len(x),), eps=eps)
        rows.append((f"{std:g}", (x / (std + eps) / y).mean().item()))
    return pd.DataFrame(rows, columns=["setting", "value"])


def smaller_eps():
    """What ε = 1e-6 does to the gradient of a constant row, and how wrong outputs in fp16 are at 1e-5; exact."""
    gradients = []
    for eps in (1e-5, 1e-6):
        x = torch.full((64,), 3.0, requires_grad=True)
        F.layer_norm(x, (64,), eps=eps)[0].backward()
        gradients.append(x.grad.norm().item())

    def fp16_throughout(x):
        centred = x - x.mean()
        return centred / torch.sqrt(centred.square().mean() + 1e-5)

    signs = torch.tensor([1.0, -1.0] * 32)

    def wrong(norm, size):  # the right output is ±1, give or take ε
        return (norm((size * signs).half()).float() - signs).abs().max().item()

    rows = [("smaller", gradients[1] / gradients[0])]
    rows.append(("torch", max(wrong(lambda x: F.layer_norm(x, (64,), eps=1e-5), size) for size in (1.0, 300.0))))
    rows += [(f"fp16_{size:g}", wrong(fp16_throughout, size)) for size in (1.0, 300.0)]
    return pd.DataFrame(rows, columns=["setting", "value"])


def one_to_five():
    """How far from the said result [1, 2, 3, 4, 5] ends up: normalised, and after a block of attention, five seeds."""
    x, said = torch.arange(1.0, 6.0), torch.arange(1.0, 6.0) / 2
    rows = [("normalised", None, ((layer_norm(x) - said).norm() / said.norm()).item())]
    x = x.expand(1, 4, 5)
    for placement in ("post_norm", "pre_norm"):
        for seed in range(5):
            block = PLACEMENTS[placement](5, Attention(5, 1, 1.0, torch.Generator().manual_seed(seed)))
            rows.append((placement, seed, ((block(x) - x).norm() / x.norm()).item()))
    return pd.DataFrame(rows, columns=["setting", "seed", "value"])


def features(shape, d, seed=0):
    """The d features of one token, of one of the `SHAPES`."""
    z = torch.randn(d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if shape == "outlier":
        z[0] = 1000.0
    return {"relu": z.relu(), "two_valued": (z > 0.8).double(), "skewed": z.exp()}.get(shape, z)


def distance_from_normal(d=1024):
    """Largest difference between the distribution function of the normalised features and the standard normal one."""
    rows, share = [], torch.arange(d + 1, dtype=torch.float64) / d
    for shape in SHAPES:
        for seed in range(5):
            normal = torch.special.ndtr(layer_norm(features(shape, d, seed)).sort().values)
            rows.append((shape, seed, torch.maximum(share[1:] - normal, normal - share[:-1]).max().item()))
    return pd.DataFrame(rows, columns=["setting", "seed", "value"])


def gradient_at_the_larger(d=256):
    """Gradient at a larger activation over that at a smaller one, root mean square for random gradients at the output.

    Five seeds; at feature i it is, up to a factor, the norm of column i of the Jacobian.
    """

    def received(x):
        rows = x.expand(d, d).clone().requires_grad_()
        (jacobian,) = torch.autograd.grad(layer_norm(rows), rows, torch.eye(d, dtype=x.dtype))
        return jacobian.norm(dim=0)

    rows = []
    for seed in range(5):
        z = features("normal", d, seed)
        for name, small in (("token", 1.0), ("tiny_token", 1e-4)):
            rows.append((name, seed, (received(10 * small * z).norm() / received(small * z).norm()).item()))
        for name, large in (("feature", 3.0), ("outlier", 1000.0)):
            z[0] = large
            each = received(z)
            rows.append((name, seed, (each[0] / each[1:].square().mean().sqrt()).item()))
    return pd.DataFrame(rows, columns=["setting", "seed", "value"])


def change_passed_on(size=0.1, d=64):
    """Relative change of xW when W changes by `size`, with a layer norm behind it over without, five seeds."""
    rows = []
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        x, W, E = (torch.randn(s, d, generator=generator, dtype=torch.float64) for s in (32, d, d))
        for name, change in (("rescaled", W), ("random", E * W.norm() / E.norm())):
            changes = []
            for norm in (layer_norm, lambda h: h):
                before, after = norm(x @ W), norm(x @ (W + size * change))
                changes.append((after - before).norm() / before.norm())
            rows.append((name, seed, (changes[0] / changes[1]).item()))
    return pd.DataFrame(rows, columns=["setting", "seed", "value"])


def zero_scale(placement, activation="relu"):
    """A block whose norms start at γ = 0: what it makes of a random x, and which parameters get a gradient."""
    block = deep_mlp(1, 64, placement, activation=activation, gain=2**0.5).blocks[0]
    for name, parameter in block.named_parameters():
        if "norm" in name and name.endswith("weight"):
            torch.nn.init.zeros_(parameter)
    x, v = torch.randn(2, 16, 64, generator=torch.Generator().manual_seed(0))
    y = block(x)
    y.backward(v)
    awake = [name for name, parameter in block.named_parameters() if parameter.grad.abs().max() > 0]
    return {
        "|y| / |x|": (y.norm() / x.norm()).item(),
        "|y - x| / |x|": ((y - x).norm() / x.norm()).item(),
        "gets a gradient": ", ".join(awake),
    }


def distance_from_identity():
    """|y − x| / |x| of blocks whose norms start at γ = 0; exact, whatever x and the weights are."""
    placements = ("post_norm", "deep_norm", "pre_norm", "res_post_norm", "peri_norm")
    rows = [(placement, zero_scale(placement)["|y - x| / |x|"]) for placement in placements]
    return pd.DataFrame(rows, columns=["setting", "value"])


class Normed(Placement):
    """A layer with a norm behind it and no skip."""

    formula = "norm(f(x))"

    def forward(self, x):
        return self.norm(self.branch(x))


class Shaken(torch.nn.LayerNorm):
    """A layer norm behind which every feature is scaled by 1 to 1.25 and shifted by −0.5 to 0.5, anew at every step."""

    @staticmethod
    def seed_layers(model, seed=0):
        """Give every layer of `model` random numbers of its own."""
        for layer, block in enumerate(model.blocks):
            block.norm.generator = torch.Generator().manual_seed(1000 * seed + layer)

    def forward(self, x):
        scale, shift = torch.rand(2, x.shape[-1], generator=self.generator)
        return super().forward(x) * (1 + scale / 4) + shift - 0.5


@functools.cache
def _characters():
    """The English text as numbers, its vocabulary, and the fixed contexts that `statistics` looks at."""
    ids, vocabulary = data.encode(data.load_text("en"))
    return ids, vocabulary, next(data.next_characters(ids, 256, 8, seed=99))[0]


@torch.no_grad()
def statistics(model):
    """Of every layer on fixed inputs: the means of its units in standard deviations of the layer; log of the latter."""
    states = model.stream(model.embed(_characters()[2]))[1:]
    size = torch.stack([state.std() for state in states])
    return torch.stack([state.mean(0) for state in states]) / size[:, None], size.log()


def watched(model, batches, moved, every=25):
    """Hand on batches; every so many steps write into `moved` by how much the `statistics` moved in a single step."""
    for step, batch in enumerate(batches):
        if step % every == every - 1:
            before = statistics(model)
        if step and step % every == 0:
            moved[step] = [(now - then).abs().mean().item() for now, then in zip(statistics(model), before)]
        yield batch


def drift_with_norm_over_without(steps=40, learning_rate=1e-3):
    """How far a layer's statistics move in a step of training, with a layer norm over without, three seeds."""
    ids, vocabulary, _ = _characters()
    rows = []
    for name, gain in (("he", 2**0.5), ("default", 3**-0.5)):
        for seed in range(3):
            drift = []
            for norm in (torch.nn.LayerNorm, "none"):
                model, moved = CharacterMLP(len(vocabulary), 8, Normed, norm=norm, gain=gain, seed=seed), {}
                batches = watched(model, data.next_characters(ids, 64, 8, seed), moved, every=5)
                train(model, batches, steps=steps + 1, learning_rate=learning_rate, progress=False)
                drift.append(pd.DataFrame(moved).loc[:, steps // 2 :].mean(axis=1))
            means, scale = drift[0] / drift[1]
            rows += [(f"scale_{name}", seed, scale), (f"means_{name}", seed, means)]
    return pd.DataFrame(rows, columns=["setting", "seed", "value"])
