"""Uses a function or class as a case says, under the rules of its task, and collects what comes back."""

import contextlib
from dataclasses import replace

import numpy as np
import torch

from .case import Answer, convert, tensors
from .rules import guarded, rules


@torch.enable_grad()
def answer(target, case, task=None, watched=True):
    """Use a function or class as the case says, under the rules of a task. What it raises becomes `Answer.error`.

    watched: as for `rules`."""

    def fresh(tensor):
        tensor = tensor.detach().clone().to(case.device)
        if task and task.only and tensor.is_floating_point():
            tensor = guarded(tensor)
        return tensor.requires_grad_(case.gradients and tensor.is_floating_point())

    inputs = convert(case.inputs, fresh)
    leaves = tensors(inputs)
    before = {name: tensor.detach().clone() for name, tensor in leaves.items()}
    collected = Answer()
    try:
        with rules(task, watched) if task else contextlib.nullcontext():
            function = target if case.init is None else target(*case.init)
        if case.state is not None:
            leaves = leaves | _set_parameters(function, convert(case.state, fresh))
        with rules(task, watched) if task else contextlib.nullcontext():
            returned = plain(function(*inputs.values()))
        collected.kind = kind(returned)
        results = [result for result, _ in flatten(returned)]
        collected.results = [result.detach() for result in results]
        collected.numbers = [number for _, number in flatten(returned)]
        if case.gradients:
            collected.gradients = _gradients(results, leaves, case.seed)
    except Exception as error:  # also NotImplementedError of an unedited stub
        collected.error = f"{type(error).__name__}: {error}"
    if case.device != "meta":
        after = {name: plain(leaves[name]) for name in before}  # its methods may be the learner's by now
        unchanged = {name: _same(tensor, after[name].detach()) for name, tensor in before.items()}
        collected.changed = [name for name, same in unchanged.items() if not same]
        if not case.gradients:
            collected.changed += [f"{name}.requires_grad" for name, leaf in leaves.items() if leaf.requires_grad]
    return collected


def _same(one, other):
    return torch.equal(one, other) or torch.equal(one.nan_to_num(), other.nan_to_num())


def right_answer(task, case):
    """What should come back: the task's own answer, computed in fp64."""
    wide = lambda tensor: tensor.double() if tensor.is_floating_point() else tensor  # noqa: E731
    if task.widened:
        case = replace(case, inputs=convert(case.inputs, wide), state=convert(case.state, wide))
    return answer(task.right, case)


def plain(returned):
    """The same in types of Python and torch alone, so that no code of the learner's runs when it is looked at."""
    if isinstance(returned, torch.Tensor):
        with torch._C.DisableTorchFunction():
            return torch.Tensor.as_subclass(returned, torch.Tensor)
    if isinstance(returned, (bool, int, float)):
        return float(returned)
    if isinstance(returned, (tuple, list)):
        return (tuple if isinstance(returned, tuple) else list)(plain(part) for part in returned)
    return np.asarray(returned) if hasattr(returned, "__array__") else returned


def flatten(returned):
    """What came back as a list of (tensor, whether it is a number): numbers become fp64 tensors without dimensions, and
    a list of numbers one tensor. What is none of these (None, a string) leaves an empty list."""
    if isinstance(returned, torch.Tensor):
        return [(returned, False)]
    if isinstance(returned, (bool, int, float)):
        return [(torch.tensor(float(returned), dtype=torch.float64), True)]
    if hasattr(returned, "__array__"):
        return [(torch.as_tensor(returned), False)]
    if isinstance(returned, (tuple, list)):
        parts = [pair for part in returned for pair in flatten(part)]
        if isinstance(returned, list) and parts and all(number and not part.dim() for part, number in parts):
            return [(torch.stack([tensor for tensor, _ in parts]), True)]
        return parts
    return []


def kind(returned):
    """In words what a function returned: "tensor", "number", "3 tensors", "tuple of 2", "NoneType" …"""
    if isinstance(returned, torch.Tensor):
        return "tensor"
    if isinstance(returned, (bool, int, float)):
        return "number"
    if isinstance(returned, (tuple, list)):
        kinds = {kind(part) for part in returned}
        return f"{len(returned)} {kinds.pop()}s" if kinds in ({"tensor"}, {"number"}) else _of(returned)
    return type(returned).__name__


def _of(returned):
    return f"{'tuple' if isinstance(returned, tuple) else 'list'} of {len(returned)}"


def _set_parameters(module, state):
    """Put the leaves of `state` in the place of the module's parameters, and return them by name."""
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"calling the class gave {type(module).__name__}; expected a torch.nn.Module")
    known = dict(module.named_parameters())
    if set(known) != set(state):
        raise AttributeError(f"the parameters are {sorted(known)}; expected {sorted(state)}")
    for name, tensor in state.items():
        if known[name].shape != tensor.shape:
            raise ValueError(
                f"the parameter {name} has shape {tuple(known[name].shape)}; expected {tuple(tensor.shape)}"
            )
        *path, last = name.split(".")
        owner = module.get_submodule(".".join(path))
        owner._parameters[last] = torch.nn.Parameter(tensor.detach(), requires_grad=tensor.requires_grad)
    return dict(module.named_parameters())


def _gradients(results, leaves, seed):
    generator = torch.Generator().manual_seed(seed)
    total = 0.0
    for result in results:
        cotangent = torch.randn(result.shape, generator=generator, dtype=torch.float64)
        if result.requires_grad:
            total = total + (result.double() * cotangent).sum()
    floating = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    if not isinstance(total, torch.Tensor):
        return {name: torch.zeros_like(leaf) for name, leaf in floating.items()}
    gradients = torch.autograd.grad(total, [*floating.values()], allow_unused=True)
    return {n: torch.zeros_like(leaf) if g is None else g for (n, leaf), g in zip(floating.items(), gradients)}
