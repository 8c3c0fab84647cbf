"""`replace(model)`: the fused norms in the place of a model's own, which are recognised by what they compute."""

import copy
import itertools
from collections import OrderedDict

import torch
from torch import nn

from .. import norms
from .launch import computed_in
from .modules import LayerNorm, RMSNorm

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
HOOKS += ("_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks_with_kwargs")
KEPT = ("_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Replacement:
    """What `replace` did. replaced: {path: what the norm computes}.  left: {path: why}.  print() shows both."""

    def __init__(self, slots, replaced, left):
        self.replaced, self.left, self._slots = replaced, left, slots

    def undo(self):
        """Put the former modules back, with the parameters, mode and hooks that the fused ones have by now."""
        for parent, name, former, fast in self._slots:
            if parent._modules.get(name) is fast:
                former._parameters.update(fast._parameters)
                former.training = fast.training
                parent._modules[name] = former
        self._slots = []

    def __str__(self):
        lines = [f"{len(self.replaced)} replaced, {len(self.left)} left"]
        lines += [f"  {path}: {what}" for path, what in self.replaced.items()]
        return "\n".join(lines + [f"  {path}: left, {why}" for path, why in self.left.items()])


def replace(model, *, interpret=False):
    """Put `fused.LayerNorm` and `fused.RMSNorm` in the place of the norms of a model, which is changed.

    A module is taken for a norm if it computes what one does: it is called on probes whose answers tell LayerNorm,
    RMSNorm, a weight w from 1 + w, and the place and size of eps apart. Names do not matter, so the norm classes of
    other libraries are found, and a norm that does something else is left. The parameters stay the same objects under
    the same names, so that optimisers and state dicts go on; so do hooks, mode and, where x and weight differ in dtype,
    the dtype of the result. On a CPU the modules use torch's own operators unless interpret=True.

    Returns: a `Replacement`, which says what was replaced and what was left, and has `undo()`.
    """
    slots, replaced, left, known = [], {}, {}, {}
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if not _may_be_norm(module):
            continue
        if module not in known:
            known[module] = _fused(module, interpret)
        fast, words = known[module]
        if not path:
            fast, words = None, "it is the model itself, which has no place to be replaced in"
        if fast is None:
            left[path] = words
            continue
        parent, _, name = path.rpartition(".")
        slots.append((model.get_submodule(parent), name, module, fast))
        replaced[path] = f"{type(module).__name__}, which computes {words}"
    for parent, name, _, fast in slots:
        parent._modules[name] = fast
    return Replacement(slots, replaced, left)


def _may_be_norm(module):
    """Whether it is called one, or has nothing but vectors of the same length for parameters."""
    own = [p for p in module.parameters(recurse=False)]
    vectors = own and not list(module.children()) and all(p.dim() == 1 and len(p) == len(own[0]) for p in own)
    return vectors or ("norm" in type(module).__name__.lower() and not list(module.children()))


def _fused(module, interpret):
    """(the fused module, what it computes), or (None, why there is none)."""
    if isinstance(module, (LayerNorm, RMSNorm)):
        return None, "it is fused already"
    if "forward" in vars(module):
        return None, "its forward was replaced on the object"
    if any(True for _ in module.buffers()):
        return None, "it keeps statistics, which the fused norms do not"
    parameters = dict(module.named_parameters(recurse=False))
    if not set(parameters) <= {"weight", "bias"}:
        return None, f"it has parameters {', '.join(parameters)}; the fused norms know weight and bias"
    shapes = {tuple(p.shape) for p in parameters.values()} or {tuple(getattr(module, "normalized_shape", ()))}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        return None, f"it does not normalise one dimension of a known width ({', '.join(map(str, shapes))})"
    try:
        found = _recognise(module, width := next(iter(shapes))[0])
    except Exception as error:
        return None, f"it cannot be called on a tensor (rows, {next(iter(shapes))[0]}): {type(error).__name__}: {error}"
    if found is None:
        return None, "it computes neither LayerNorm nor RMSNorm"
    kind, eps, offset = found
    if kind == "layer_norm":
        fast, words = LayerNormAsBefore(width, eps, device="meta"), "LayerNorm"
    else:
        fast = RMSNormAsBefore(width, eps, device="meta", offset=offset)
        words = "RMSNorm with 1 + weight" if offset else "RMSNorm"
    fast.interpret, fast.dtypes = interpret, _dtypes(module, width)
    fast._parameters = {"weight": None, **({"bias": None} if kind == "layer_norm" else {}), **module._parameters}
    fast.__dict__.update({name: value for name, value in vars(module).items() if name in HOOKS + KEPT})
    return fast.train(module.training), f"{words}, eps={'that of the dtype' if eps is None else eps}"


def _recognise(module, width):
    """(kind, eps, offset) of the norm that answers as module does to every probe, None if there is none.

    eps is one of the module's own numbers. The rows of the probes are of sizes from far above to far below √eps and
    have a mean, the parameters are random; so a mean that stays, an eps outside of the root, a dropped bias, a clamp or
    a noise shows.
    """
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([30.0, 1.0, 1e-2, 3e-3, 1e-3, 1e-4, 1e-6])[:, None]
    x = (torch.randn(len(sizes), width, generator=generator) + 0.5) * sizes
    probe = _with_parameters(module, torch.float32, generator)
    answers = [probe.train(mode).forward(x.clone()) for mode in (True, False, True)]
    answers.append(probe.forward(x[:, None].clone())[:, 0])  # three dimensions
    if any(not isinstance(a, torch.Tensor) or a.shape != x.shape for a in answers):
        return None
    weight, bias = (None if p is None else p.detach().double() for p in map(probe._parameters.get, ("weight", "bias")))
    own = [v for v in vars(module).values() if isinstance(v, float) and 0 < v < 1]
    candidates = [("layer_norm", eps, 0.0) for eps in own]
    if bias is None:
        candidates += [("rms_norm", eps, offset) for eps in [*own, None] for offset in (0.0, 1.0)]
    for kind, eps, offset in candidates:
        number = torch.finfo(torch.float32).eps if eps is None else eps
        if kind == "layer_norm":
            truth = norms.layer_norm(x.double(), weight, bias, number)
        else:
            truth = norms.rms_norm(x.double(), None if weight is None else weight + offset, number)
        if all(torch.allclose(a.double(), truth, rtol=1e-4, atol=1e-5 * float(truth.abs().max())) for a in answers):
            return kind, eps, offset
    return None


def _dtypes(module, width):
    """{(dtype of x, dtype of weight): dtype of the result}, where they differ and the module takes it."""
    found = {}
    for x, w in itertools.product(DTYPES, DTYPES):
        if x != w and module._parameters.get("weight") is not None:
            try:
                found[x, w] = _with_parameters(module, w).forward(torch.ones(1, width, dtype=x)).dtype
            except RuntimeError:  # torch's own LayerNorm takes one dtype
                continue
    return found


def _with_parameters(module, dtype, generator=None):
    """A copy of module with random parameters of its own on the CPU, and without hooks."""
    probe = copy.copy(module)
    probe._parameters = {
        name: None if p is None else nn.Parameter((torch.randn(p.shape, generator=generator) + 0.5).to(dtype))
        for name, p in module._parameters.items()
    }
    for name in HOOKS:
        setattr(probe, name, OrderedDict())
    return probe


class _AsBefore:
    """Where x and weight differ in dtype, the result has the dtype that the former module gave it."""

    dtypes = {}

    def forward(self, x):
        weight = self.weight
        dtype = None if weight is None else self.dtypes.get((x.dtype, weight.dtype))
        if dtype is None or dtype == x.dtype:
            return super().forward(x)
        return super().forward(x.to(computed_in(x.dtype))).to(dtype)


class LayerNormAsBefore(_AsBefore, LayerNorm):
    pass


class RMSNormAsBefore(_AsBefore, RMSNorm):
    pass
