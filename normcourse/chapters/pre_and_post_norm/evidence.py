"""What the claims of chapter 06 are measured by, see `normcourse.claims`."""

import functools

import pandas as pd
import torch
import torch.nn.functional as F

from ... import data
from ...measure import gradient_norms, token_cosines, update_sizes
from ...models import deep_mlp
from ...train import train
from ..learning_rates import loss_difference
from ..small_transformers import small_transformer

GAIN = 0.6  # of the recorded runs: the initialisation at which both wirings learn
LISTINGS = {  # as a popular text calls and writes them
    "post": [lambda x, f, norm: x + f(norm(x)), lambda x, f, norm: x + norm(f(x)), lambda x, f, norm: x + norm(f(x))],
    "pre": [lambda x, f, norm: x + norm(f(x)), lambda x, f, norm: x + f(norm(x))],
}


def well_named():
    """The share of the listings named Post-LN that compute Post-Norm, and of those named Pre-LN that are Pre-Norm."""
    x, rows = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)), []
    for name, listings in LISTINGS.items():
        block = deep_mlp(1, 64, f"{name}_norm").blocks[0]
        right = [torch.allclose(listing(x, block.sublayer, block.norm), block(x)) for listing in listings]
        rows.append((name, sum(right) / len(right)))
    return pd.DataFrame(rows, columns=["setting", "value"])


@functools.cache
def post_norm_gradient(depth=60):
    """log10 of the gradient at the input, 1 at the output, of Post-Norm networks of width 64, five seeds."""
    settings = {
        "relu": ("post_norm", "relu", 1.4, 0.0),
        "tanh": ("post_norm", "tanh", 2.0, 0.0),
        "gelu": ("post_norm", "gelu", 2.0, 0.0),
        "biases": ("post_norm", "relu", 1.4, 0.7),
        "tanh_biases": ("post_norm", "tanh", 2.0, 0.3),
        "deep_norm": ("deep_norm", "relu", 1.4, 0.0),
    }
    rows = []
    for name, (placement, activation, gain, bias) in settings.items():
        for seed in range(5):
            model = deep_mlp(depth, 64, placement, activation=activation, gain=gain, bias=bias, seed=seed)
            norms = gradient_norms(model, seed=seed)["gradient_norm"]
            rows.append((name, seed, torch.tensor(norms.iloc[0] / norms.iloc[-1]).log10().item()))
    return pd.DataFrame(rows, columns=["setting", "seed", "value"])


def first_over_last():
    """Gradient of the first layer's weights over that of the last one's, Pre-Norm, ReLU, five seeds."""
    rows = []
    for depth in (10, 100):
        for seed in range(5):
            norms = gradient_norms(deep_mlp(depth, 64, "pre_norm", gain=1.4, seed=seed), seed=seed)
            norms = norms["weight_gradient_norm"]
            rows.append((f"{depth}", seed, norms.iloc[1] / norms.iloc[-1]))
    return pd.DataFrame(rows, columns=["setting", "seed", "value"])


def alike_and_gradient(placement, seed, at=(0, 5, 10, 20, 40), depth=12):
    """A Transformer on its way: how alike the positions are after the last layer, and the gradient that gets through.

    Adam at 0.001 without warm-up, Xavier initialisation. Measured before the steps `at`, on the same 8 excerpts.
    Returns: columns placement, seed, `steps` taken, `cosine`, and of the gradient of the training loss with respect to
        the hidden states `input / output`, the norm before the first layer over that after the last.
    """
    ids, _ = data.encode(data.load_text("en"))
    x, y = next(data.batches(ids, 8, 32, seed=77))
    model, rows = small_transformer(placement, depth, seed=seed), []

    def loss(hidden):
        return F.cross_entropy(model.head(hidden).flatten(0, 1), y.flatten())

    def looked_at(batches):
        for step, batch in enumerate(batches):
            if step in at:
                norms = gradient_norms(model, x, loss=loss)["gradient_norm"]
                cosine = token_cosines(model, x)["cosine"].iloc[-1]
                rows.append((placement, seed, step, cosine, norms.iloc[0] / norms.iloc[-1]))
            yield batch

    train(model, looked_at(data.batches(ids, 8, 32, seed)), steps=max(at) + 1, learning_rate=1e-3, progress=False)
    return pd.DataFrame(rows, columns=["placement", "seed", "steps", "cosine", "input / output"])


def _warmup(placement, depth, *more):
    grid = pd.concat([data.recorded(name) for name in ("warmup", *more)])
    return grid[(grid["placement"] == placement) & (grid["depth"] == depth) & (grid["gain"] == GAIN)]


def without_warmup_minus_with():
    """Loss without warm-up minus that with 200 steps of it, at the best learning rate or at a given one; recorded."""
    settings = {
        "post_norm_12": ("post_norm", 12, None),
        "post_norm_24": ("post_norm", 24, None),
        "post_norm_12_at_0.003": ("post_norm", 12, 0.003),
        "post_norm_24_at_0.001": ("post_norm", 24, 0.001),
        "pre_norm_24": ("pre_norm", 24, None),
        "pre_norm_24_at_0.01": ("pre_norm", 24, 0.01),
    }
    parts = []
    for name, (placement, depth, rate) in settings.items():
        runs = _warmup(placement, depth, "warmup_faster", "warmup_slower")
        if rate is None:
            one, other = (runs[runs["warmup"] == steps] for steps in (0, 200))
            parts.append(loss_difference(name, one, other))
        else:
            losses = runs[runs["learning_rate"] == rate].pivot(index="seed", columns="warmup", values="loss")
            value = (losses[0] - losses[200]).to_numpy()
            parts.append(pd.DataFrame({"setting": name, "seed": losses.index, "value": value, "edge": False}))
    return pd.concat(parts)


def good_settings(*, more=("warmup_faster",)):
    """How many of the 15 combinations of learning rate and warm-up come within 0.1 nats of the lowest loss: Pre-Norm's
    number minus Post-Norm's; recorded. The count depends on the grid, so a best rate at an edge of either counts.

    Args: more: the runs that have further rates.
    """
    parts = []
    for depth in (12, 24):
        counts, edge = [], False
        for placement in ("pre_norm", "post_norm"):
            runs = _warmup(placement, depth, *more)
            losses = runs.groupby("seed")["loss"]
            counts.append((runs["loss"] < losses.transform("min") + 0.1).groupby(runs["seed"]).sum())
            rates = runs.groupby("learning_rate")["loss"].min()
            edge |= rates.idxmin() in (rates.index[0], rates.index[-1])
        value = counts[0] - counts[1]
        parts.append(
            pd.DataFrame({"setting": f"{depth}", "seed": value.index, "value": value.to_numpy(), "edge": edge})
        )
    return pd.concat(parts)


def share_of_steps_saved():
    """The share of the steps to 2.6 nats that Pre-Norm saves against the same network without norms, each at the gain
    and the learning rate that get there first, without warm-up; recorded."""
    parts, none = [], data.recorded("without_norm")
    normed = pd.concat([data.recorded(name) for name in ("warmup", "warmup_faster", "lower_gains")])
    normed = normed[(normed["placement"] == "pre_norm") & (normed["warmup"] == 0)]
    for depth in (12, 24):
        steps, edge = [], False
        for runs in (normed[normed["depth"] == depth], none[none["depth"] == depth]):
            by_setting = runs.pivot(index="seed", columns=["gain", "learning_rate"], values="steps_to_2.6")
            best = gain, rate = by_setting.mean(skipna=False).idxmin()
            steps.append(by_setting[best])
            gains, rates = sorted(runs["gain"].unique()), sorted(by_setting[gain].columns)
            edge |= gain in (gains[0], gains[-1]) or rate in (rates[0], rates[-1])
        saved = 1 - steps[0] / steps[1]
        parts.append(
            pd.DataFrame({"setting": f"{depth}", "seed": saved.index, "value": saved.to_numpy(), "edge": edge})
        )
    return pd.concat(parts)


def adam_update(depth=50):
    """Root mean square of Adam's first update over its learning rate, in the first layer of plain tanh networks whose
    gradients are small to different degrees; three seeds."""
    rows = []
    for gain in (1.0, 0.8, 0.7, 0.6):
        for seed in range(3):
            model = deep_mlp(depth, 64, "plain", activation="tanh", gain=gain, seed=seed)
            x, y = torch.randn(2, 8, 64, generator=torch.Generator().manual_seed(1000 + seed))
            step = update_sizes(model, lambda p: torch.optim.Adam(p, lr=1e-3), lambda m, x=x, y=y: F.mse_loss(m(x), y))
            rows.append((f"{gain}", seed, step["update"].iloc[0] / 1e-3, step["gradient"].iloc[0]))
    return pd.DataFrame(rows, columns=["setting", "seed", "value", "gradient"])
