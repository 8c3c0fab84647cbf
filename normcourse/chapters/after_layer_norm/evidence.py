"""What chapter 12 measures: the probes of every wiring with every norm, what each costs, and its claims' evidence."""

import itertools

import pandas as pd
import torch

from ... import data
from ...models import deep_mlp
from ...norms import NORMS
from ...theory import has_law, mean_field
from ...theory import updates as expected_updates
from ..learning_rates import best_losses, loss_difference
from .runs import make
from .variants import WIRINGS

WIDTH = 128


def stream(model, inputs):
    """The hidden states 0 … L, (batch, hidden_size) each; of several copies, their mean."""
    copies = getattr(model.blocks[0], "streams", None)
    with torch.no_grad():
        states = model.stream(inputs)
    if copies is None:
        return states
    return [states[0], *(state.mean(-2) for state in states[1:-1]), states[-1] / copies]


def gradients(model, inputs, generator):
    """Norm of the gradient at the hidden states 0 … L, with a random direction of length 1 sent back from the output;
    of several copies, with respect to their mean when all move alike."""
    states = model.stream(inputs.requires_grad_())
    output = model.final_norm(states[-1])
    direction = torch.randn(output.shape, generator=generator)
    found = list(torch.autograd.grad((output * direction / direction.norm()).sum(), states))
    if copies := getattr(model.blocks[0], "streams", None):
        found[1:] = [g.sum(-2) for g in found[1:-1]] + [copies * found[-1]]
    return [float(g.norm()) for g in found]


def probe(wiring, norm="layer_norm", depth=40, gain=1.4, seed=0):
    """The probes of chapters 01, 06 and 07 on one network of ReLU branches at initialisation, width 128.

    Columns: layer (0 … depth); variance of the stream; gradient_norm, see `gradients`; relative update, nan at layer 0;
    each with its closed form in theory_…, nan where there is none; placement, seed. Several copies all start equal, and
    for their mean the closed form is that of Pre-Norm.
    """
    cls = WIRINGS[wiring]
    model = deep_mlp(depth, WIDTH, cls, norm if cls.uses_norm else None, gain=gain, seed=seed)
    generator = torch.Generator().manual_seed(2**31 + seed)
    inputs = model.random_inputs(16, generator)
    back, states = gradients(model, inputs, generator), stream(model, inputs)
    moved = [((b - a).norm(dim=-1) / a.norm(dim=-1)).mean().item() for a, b in itertools.pairwise(states)]
    columns = {"layer": range(depth + 1), "gradient_norm": back, "relative_update": [float("nan"), *moved]}
    columns["variance"] = [state.var(correction=0).item() for state in states]
    frame = pd.DataFrame(columns).assign(placement=wiring, seed=seed)
    known = cls if cls.one_stream else WIRINGS["pre_norm"]
    if not has_law(known, norm):
        return frame.assign(theory_variance=float("nan"), theory_gradient_norm=float("nan"),
                            theory_relative_update=float("nan"))  # fmt: skip
    variances, ratios = mean_field(known, depth, gain, norm=norm)
    updates = expected_updates(known, depth, gain, norm=norm)[0]
    return frame.assign(
        theory_variance=variances,
        theory_gradient_norm=[back[-1] * ratio for ratio in ratios],  # in units of the gradient at the last layer
        theory_relative_update=[float("nan"), *updates],
    )


def extra_parameters(wiring, width=WIDTH, norm="layer_norm"):
    """Parameters that a wiring adds to one branch, its norms included, in units of the width."""
    cls = WIRINGS[wiring]
    model = deep_mlp(2, width, cls, norm if cls.uses_norm else None)
    count = sum(p.numel() for block in model.blocks for p in block.parameters())
    return (count / 2 - width**2) / width


def overview(depth=40, seeds=3):
    """A row per wiring, means over the seeds: variance at the end, gradient at the first layer over that at the last,
    relative update of the last layer, extra parameters of a branch over the width."""
    rows = []
    for wiring in WIRINGS:
        frames = [probe(wiring, depth=depth, seed=seed) for seed in range(seeds)]
        ends = [(f["variance"].iloc[-1], f["gradient_norm"].iloc[0] / f["gradient_norm"].iloc[-1],
                 f["relative_update"].iloc[-1]) for f in frames]  # fmt: skip
        rows.append((wiring, *map(lambda values: sum(values) / seeds, zip(*ends)), extra_parameters(wiring)))
    columns = ["wiring", "variance", "gradient 1 / L", "last update", "parameters / d"]
    return pd.DataFrame(rows, columns=columns).set_index("wiring")


def dyt_and_norms(alpha=0.5, seed=0):
    """Rows of standard normal numbers times a scale, through LayerNorm and DyT: what comes out, and comes back.

    Columns: norm, scale, output (rms), gradient (rms of what a random gradient becomes, over its own).
    """
    generator = torch.Generator().manual_seed(seed)
    x, g = (torch.randn(64, 256, generator=generator, dtype=torch.float64) for _ in range(2))
    rows = []
    for name in ("layer_norm", "dyt"):
        norm = NORMS[name](256, **({"alpha": alpha} if name == "dyt" else {"eps": 1e-12})).double()
        for scale in torch.logspace(-2, 2, 25).tolist():
            scaled = (scale * x).requires_grad_()
            y = norm(scaled)
            (back,) = torch.autograd.grad(y, scaled, g)
            rms = (part.detach().square().mean().sqrt().item() for part in (y, back / g.square().mean().sqrt()))
            rows.append((name, scale, *rms))
    return pd.DataFrame(rows, columns=["norm", "scale", "output", "gradient"])


def recorded():
    return data.recorded("after_layer_norm")


def of_kind(runs, kind):
    """The rows of a kind; of "dyt", those of the α with the lowest loss at its best rate."""
    if kind != "dyt":
        return runs[runs["kind"] == kind]
    kinds = [name for name in runs["kind"].unique() if name.startswith("dyt_")]
    best = min(kinds, key=lambda name: best_losses(runs[runs["kind"] == name], "held_out_loss")[0].mean())
    return runs[runs["kind"] == best]


def against_pre_norm():
    """Held-out loss of every kind that was trained minus that of Pre-Norm, seed by seed, each at its best rate.

    Columns: kind ("dyt": with its best α); seed; value; edge; and at that rate rate, variance, logit.
    """
    runs, frames = recorded(), []
    for kind in kinds(runs):
        here = of_kind(runs, kind)
        rate = here.groupby("learning_rate")["held_out_loss"].mean().idxmin()
        found = loss_difference(kind, here, of_kind(runs, "pre_norm"), "held_out_loss").rename(
            columns={"setting": "kind"}
        )
        best = here[here["learning_rate"] == rate].set_index("seed")[["variance", "logit"]]
        frames.append(found.join(best, on="seed").assign(rate=rate))
    return pd.concat(frames)


def kinds(runs):
    """What was trained beside Pre-Norm, "dyt" once for all α."""
    return ["dyt", *(k for k in runs["kind"].unique() if k != "pre_norm" and not k.startswith("dyt_"))]


def added_parameters(kind):
    """Parameters that a kind adds to the recorded Transformer, over those that it has with Pre-Norm."""
    of_this, of_pre_norm = (
        sum(p.numel() for p in make(name, 0).parameters()) for name in ("dyt_1" if kind == "dyt" else kind, "pre_norm")
    )
    return of_this / of_pre_norm - 1


def wirings_minus_pre_norm():
    """`against_pre_norm`, by setting; claim A5 takes the wirings whose papers report a lower loss than Pre-Norm's."""
    return against_pre_norm().rename(columns={"kind": "setting"})


def dyt_minus_layer_norm():
    """Held-out loss with DyT minus that with LayerNorm, both Pre-Norm, seed by seed, each at its best rate."""
    runs = recorded()
    parts = [loss_difference("tuned", of_kind(runs, "dyt"), of_kind(runs, "pre_norm"), "held_out_loss")]
    parts += [
        loss_difference(f"alpha_{str(alpha).replace('.', '_')}", of_kind(runs, f"dyt_{alpha}"),
                        of_kind(runs, "pre_norm"), "held_out_loss")
        for alpha in (0.1, 0.2, 0.5, 1)
    ]  # fmt: skip
    return pd.concat(parts)


def growth_by_doubling(depth=50, seeds=5):
    """Variance of the stream at layer 2·depth over that at layer `depth`, at initialisation."""
    rows = []
    for wiring in ("scaled_pre_norm", "pre_norm"):
        for seed in range(seeds):
            variance = probe(wiring, depth=2 * depth, seed=seed)["variance"]
            rows.append((wiring, seed, variance[2 * depth] / variance[depth]))
    return pd.DataFrame(rows, columns=["setting", "seed", "value"])


def minus_pre_norm_by_rate(kind):
    """Held-out loss of a kind minus that of Pre-Norm, seed by seed, at each learning rate; recorded."""
    one, other = (
        of_kind(recorded(), k).set_index(["learning_rate", "seed"])["held_out_loss"] for k in (kind, "pre_norm")
    )
    frame = (one - other).rename("value").reset_index()
    return frame.assign(setting=[f"rate_{rate:g}".replace(".", "_") for rate in frame["learning_rate"]])


def sensitivity(runs):
    """Series by seed: how much the held-out loss loses, on average over the learning rates, to that at the best one.

    Wortsman et al., "Small-scale proxies for large-scale Transformer training instabilities" (2023): the
    mean over rates in equal steps of their logarithm of min(loss, loss before the first step) − loss at the best rate.
    """
    loss = runs.assign(loss=runs[["held_out_loss", "before"]].min(axis=1)).pivot(
        index="learning_rate", columns="seed", values="loss"
    )
    return loss.mean() - loss.min()


def qk_norm_sensitivity():
    """`sensitivity` with QK-norm minus that without, seed by seed; recorded."""
    runs = data.recorded("qk_norm_rates")
    one, other = (sensitivity(runs[runs["kind"] == kind]) for kind in ("qk_norm", "pre_norm"))
    return (one - other).rename("value").reset_index().assign(setting="all_rates")


def keel_minus_pre_norm():
    """At each learning rate, see `minus_pre_norm_by_rate`, and each at its best one."""
    runs = recorded()
    best = loss_difference("best", of_kind(runs, "keel"), of_kind(runs, "pre_norm"), "held_out_loss")
    return pd.concat([best, minus_pre_norm_by_rate("keel").assign(edge=False)])
