"""Another processor, simulated: what each operation of torch rounds comes out a little different.

It stands in for other orders of addition, fused multiply-adds and other libraries (Monte Carlo arithmetic: Parker,
Eggert and Pierce, "Monte Carlo arithmetic", 2000). Kernels of Triton and arithmetic of Python itself stay as they are.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Operations that round; what only moves, compares, chooses or draws numbers is exact everywhere.
ROUNDING = {
    *("add", "sub", "rsub", "mul", "div", "sum", "mean", "var", "std", "mm", "bmm", "addmm", "mv", "dot", "pow"),
    *("sqrt", "rsqrt", "reciprocal", "exp", "log", "log1p", "log10", "tanh", "cosh", "lgamma", "cumsum", "cumprod"),
    *("linalg_svd", "linalg_eigh", "linalg_qr", "linalg_lstsq", "linalg_vector_norm", "softmax", "log_softmax"),
    *("native_layer_norm", "native_layer_norm_backward", "tanh_backward", "softmax_backward_data"),
}


class AnotherProcessor(TorchDispatchMode):
    """Inside, results are off by up to one unit in the last place. seed: which way."""

    def __init__(self, seed=0):
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name.strip("_") not in ROUNDING:
            return result
        if name.endswith("_"):
            return result.copy_(self.rounded(result))
        return tuple(map(self.rounded, result)) if isinstance(result, (tuple, list)) else self.rounded(result)

    def rounded(self, result):
        if not isinstance(result, torch.Tensor) or result.is_meta or not result.is_floating_point():
            return result
        off = 2 * torch.rand(result.shape, generator=self.generator, dtype=torch.float64) - 1
        return (result.double() * (1 + torch.finfo(result.dtype).eps * off)).to(result.dtype)
