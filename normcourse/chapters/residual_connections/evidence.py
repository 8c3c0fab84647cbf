"""What the claims of chapter 02 are measured by, see `normcourse.claims`."""

import time

import pandas as pd
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ... import data
from ...measure import gradient_norms, jacobian_spectrum
from ...models import deep_mlp
from ..learning_rates import loss_difference

DEFAULT, HE = (
    3**-0.5,
    2**0.5,
)  # gains: torch.nn.Linear's, and the one at which a ReLU branch has the variance of its input
SEEDS = range(5)


def smallest_singular_value(width=128):
    """The smallest singular value of the Jacobian I + J of one block x + f(x), f(x) = W φ(x)."""
    settings = {"small": ("linear", 0.05), "default": ("relu", DEFAULT), "he": ("relu", HE)}
    rows = []
    for name, (activation, gain) in settings.items():
        for seed in SEEDS:
            model = deep_mlp(1, width, "residual", "none", activation, gain, seed)
            values = jacobian_spectrum(model, layers=[1], seed=seed)["singular_value"]
            rows.append((name, seed, values.min()))
    return pd.DataFrame(rows, columns=["setting", "seed", "value"])


def input_gradient(depth, placement, gain, seed, width=64):
    """log10 of the gradient norm at the input, 1 at the output (after the final norm, where there is one)."""
    model = deep_mlp(depth, width, placement, gain=gain, seed=seed)
    return torch.tensor(gradient_norms(model, seed=seed)["gradient_norm"][0]).double().log10().item()


def doubled_depth():
    """By which factor the gradient at the input changes from 40 blocks to 80, as log10; ReLU branches, no norm."""
    branches = {"default": lambda L: DEFAULT, "he": lambda L: HE, "shrunk": lambda L: HE / L**0.5}
    rows = [
        (name, seed, input_gradient(80, "residual", gain(80), seed) - input_gradient(40, "residual", gain(40), seed))
        for name, gain in branches.items()
        for seed in SEEDS
    ]
    return pd.DataFrame(rows, columns=["setting", "seed", "value"])


def at_100_layers():
    """`input_gradient` of 100 residual blocks: branches of full size, shrunk like 1/√L, and with a norm in front."""
    settings = {
        "default": ("residual", DEFAULT),
        "he": ("residual", HE),
        "shrunk": ("residual", HE / 10),
        "pre_norm": ("pre_norm", HE),
    }
    rows = [(name, seed, input_gradient(100, *given, seed)) for name, given in settings.items() for seed in SEEDS]
    return pd.DataFrame(rows, columns=["setting", "seed", "value"])


def _runs(placement, depth):
    grid = pd.concat([data.recorded("degradation"), data.recorded("degradation_faster")])
    return grid[(grid["placement"] == placement) & (grid["depth"] == depth)]


def residual_minus_highway():
    """Training loss of the residual network minus that of the highway network, each at its best; recorded."""
    return pd.concat(loss_difference(f"{L}", _runs("residual", L), _runs("highway", L)) for L in (4, 20, 50))


def weighted_minus_plain_branch():
    """Mean loss of the first 20 steps with x + α f(x), α learned from 0, minus that with x + f(x); recorded.

    DEPTH: each at its best learning rate, and at 50 layers its best gain. DEPTH_at_0.01: both at 0.01.
    """
    first, parts = data.recorded("first_steps"), []
    for depth in (4, 12):
        runs = first[first["depth"] == depth]
        parts.append(loss_difference(f"{depth}", *(runs[runs["placement"] == p] for p in ("rezero", "residual"))))
        losses = runs[runs["learning_rate"] == 0.01].pivot(index="seed", columns="placement", values="loss")
        value = (losses["rezero"] - losses["residual"]).to_numpy()
        parts.append(pd.DataFrame({"setting": f"{depth}_at_0.01", "seed": losses.index, "value": value, "edge": False}))
    return pd.concat([*parts, loss_difference("50", _runs("rezero", 50), _runs("residual", 50), "early_loss")])


def share_of_the_sum(sizes=(64, 256, 512), rows=2048):
    """Time of one residual sum over the time of the two products (d → 4d → d) beside it, measured here and now.

    Each value is a ratio of fastest runs; the column seed counts three repetitions.
    """
    found = []
    for d in sizes:
        x, W1, W2 = torch.randn(rows, d), torch.randn(d, 4 * d), torch.randn(4 * d, d)
        for repetition in range(3):
            products = _fastest(lambda x=x, W1=W1, W2=W2: (x @ W1) @ W2, runs=3)
            found.append((f"{d}", repetition, _fastest(lambda x=x: x + x, runs=20) / products))
    return pd.DataFrame(found, columns=["setting", "seed", "value"])


def _fastest(operation, runs):
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        operation()
        times.append(time.perf_counter() - start)
    return min(times)


def spared_in_place():
    """What writing the sum into the output of f(x) = x W spares, in tensors of the size of x; exact.

    training: of the tensors kept for backward. inference: of the tensors that are allocated.
    """
    x, W = torch.randn(64, 32, requires_grad=True), torch.randn(32, 32, requires_grad=True)
    added, in_place = (lambda: x + x @ W), (lambda: (x @ W).add_(x))
    kept = [saved_bytes(block) for block in (added, in_place)]
    with torch.no_grad():
        made = []
        for block in (added, in_place):
            with Allocated() as allocated:
                block()
            made.append(allocated.bytes)
    rows = [("training", kept[0] - kept[1]), ("inference", made[0] - made[1])]
    return pd.DataFrame([(name, spared / x.nbytes) for name, spared in rows], columns=["setting", "value"])


def saved_bytes(block):
    """Bytes of the tensors that `block()` keeps for backward."""
    kept = {}

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        block()
    return sum(kept.values())


class Allocated(TorchDispatchMode):
    """Bytes of the new tensors that operators make inside `with Allocated() as allocated:`."""

    bytes = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        if not any(result is argument for argument in args):  # what is written in place is no new one
            self.bytes += result.nbytes
        return result
