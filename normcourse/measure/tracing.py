"""What happens inside one block, operation by operation."""

import torch
from torch.overrides import TorchFunctionMode

from .probes import _frame


def wiring(block, x):
    """What happens inside one placement, found by running it: the sublayer and norms as wholes, all else by operation.

    Args: block: a `residual.Placement`. x: its input (..., hidden_size).
    Returns: columns `step` (0 is x), `operation` ("x", "f", "norm", "+", "× 1.5" …), `inputs` (steps it reads, a tuple)
        and `variance` of its output's entries; the last row is the block's output.
    """
    recorder = _Recorder(block, x)
    with torch.no_grad(), recorder:
        block(x)
    return _frame(dict(zip(("step", "operation", "inputs", "variance"), zip(*recorder.rows))))


class _Recorder(TorchFunctionMode):
    """Writes down every operation on tensors that come from x; inside the sublayer and the norms it looks away."""

    NAMES = {"add": "+", "mul": "×", "truediv": "÷", "div": "÷"}

    def __init__(self, block, x):
        super().__init__()
        self.rows, self.tensors, self.inside = [], [], 0
        self.known = {id(p): name for name, p in block.named_parameters()}
        self.hooks = []
        parts = {block.sublayer: "f"} | {m: "norm" for n, m in block.named_children() if n.startswith("norm")}
        for part, name in parts.items():
            self.hooks.append(part.register_forward_pre_hook(self._enter))
            self.hooks.append(part.register_forward_hook(lambda m, args, out, name=name: self._leave(name, args, out)))
        self._write("x", (), x)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name = getattr(function, "__name__", "").strip("_")
        steps = self._steps(args)
        if not self.inside and isinstance(out, torch.Tensor) and steps:
            others = [
                self.known.get(id(a)) or f"{a:.3g}" for a in args if isinstance(a, (int, float)) or id(a) in self.known
            ]
            self._write(" ".join([self.NAMES.get(name, name), *others]), steps, out)
        return out

    def __exit__(self, *exception):
        for hook in self.hooks:
            hook.remove()
        return super().__exit__(*exception)

    def _enter(self, module, args):
        self.inside += 1

    def _leave(self, name, args, out):
        self.inside -= 1
        self._write(name, self._steps(args), out)

    def _steps(self, args):
        return tuple(i for a in args for i, tensor in enumerate(self.tensors) if a is tensor)

    def _write(self, operation, steps, out):
        self.inside += 1  # the variance is ours, not the block's
        self.rows.append((len(self.rows), operation, steps, float(out.detach().var(unbiased=False))))
        self.inside -= 1
        self.tensors.append(out)
