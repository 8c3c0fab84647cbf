"""What the claims of chapter 05 are measured by, see `normcourse.claims`."""

import pandas as pd
import torch
import torch.nn.functional as F
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ... import data
from ...norms import layer_norm, rms_norm
from ..learning_rates import loss_difference


def forms(rows, d):
    """Ways to compute a norm of one tensor x (rows, d): PyTorch's operators and ours from scratch, beside a copy of x.

    Returns: {name: function without arguments}, [x, weight, bias], a gradient of the shape of x.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, d, generator=generator, requires_grad=True)
    weight, bias = torch.ones(d, requires_grad=True), torch.zeros(d, requires_grad=True)
    forward = {
        "copy": lambda: x.clone(),
        "F.layer_norm": lambda: F.layer_norm(x, (d,), weight, bias),
        "F.rms_norm": lambda: F.rms_norm(x, (d,), weight, 1e-6),
        "layer_norm": lambda: layer_norm(x, weight, bias),
        "rms_norm": lambda: rms_norm(x, weight),
    }
    return forward, [x, weight, bias], torch.randn(rows, d, generator=generator)


def backward(y, parameters, dy):
    """The backward pass of one of the `forms`."""
    return torch.autograd.grad(y, parameters, dy, retain_graph=True, allow_unused=True)


class Traffic(TorchDispatchMode):
    """Bytes read and written by all operators that run inside `with Traffic() as traffic:`."""

    bytes = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        if not operator.is_view:
            tensors = [t for t in tree_leaves((args, result)) if isinstance(t, torch.Tensor)]
            self.bytes += sum(min(t.nbytes, t.untyped_storage().nbytes()) for t in tensors)
        return result


def bytes_moved(rows=1024, d=512):
    """What the `forms` read and write, forward and backward, in units of x: a DataFrame with a row per form; exact."""
    forward, parameters, dy = forms(rows, d)
    table = {}
    for form, norm in forward.items():
        with Traffic() as there:
            y = norm()
        with Traffic() as back:
            backward(y, parameters, dy)
        table[form] = {"forward": there.bytes / dy.nbytes, "backward": back.bytes / dy.nbytes}
    return pd.DataFrame(table).T


def kept_for_backward(norm, parameters):
    """Bytes that `norm()` keeps for its backward pass, in units of its output and without those of the parameters."""
    kept = {}

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        y = norm()
    return sum(size for pointer, size in kept.items() if pointer not in {p.data_ptr() for p in parameters}) / y.nbytes


def layer_norm_over_rms_norm():
    """How many times as much LayerNorm takes as RMSNorm: bytes moved, and bytes kept for backward; exact."""
    moved, (forward, parameters, _) = bytes_moved(), forms(1024, 512)
    rows = []
    for name, one, other in (("from_scratch", "layer_norm", "rms_norm"), ("torch", "F.layer_norm", "F.rms_norm")):
        rows += [(f"{name}_{way}", moved.loc[one, way] / moved.loc[other, way]) for way in moved]
        kept = [kept_for_backward(forward[form], parameters[1:]) for form in (one, other)]
        rows.append((f"{name}_memory", kept[0] / kept[1]))
    return pd.DataFrame(rows, columns=["setting", "value"])


def rms_norm_minus_layer_norm():
    """Loss on held-out text with RMSNorm minus that with LayerNorm, each at its best learning rate; recorded."""
    quality = data.recorded("norm_quality")
    parts = []
    for placement, runs in quality.groupby("placement", sort=False):
        one, other = (runs[runs["norm"] == norm] for norm in ("rms_norm", "layer_norm"))
        parts.append(loss_difference(placement, one, other, "held_out_loss"))
    return pd.concat(parts)


def mean_after_over_before(d=512):
    """The mean of RMSNorm's output over the mean of its input, for rows of standard deviation 1 and mean m."""
    rows = []
    for m in (0.5, 1.0, 2.0):
        for seed in range(5):
            x = m + torch.randn(64, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            rows.append((f"{m:g}", seed, (rms_norm(x).mean() / x.mean()).item()))
    return pd.DataFrame(rows, columns=["setting", "seed", "value"])
