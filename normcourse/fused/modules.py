"""The norms as modules, to be passed as `norm=` wherever a norm is taken, and a stack fused across block borders."""

import torch.nn.functional as F
from torch import nn

from .. import norms
from ..residual import PreNorm
from .functional import add_layer_norm, add_rms_norm, check, layer_norm, rms_norm


class LayerNorm(norms.LayerNorm):
    """`norms.LayerNorm` computed by the fused kernel on a GPU, and by torch's own op on a CPU.

    Arguments, state dict and numbers are those of `norms.LayerNorm`. interpret=True asks for the kernel on a CPU too,
    where Triton interprets it: slow, to be looked at. `functools.partial(fused.LayerNorm, interpret=True)` is a norm=.
    """

    def __init__(self, hidden_size, eps=1e-5, elementwise_affine=True, bias=True, *, interpret=False):
        super().__init__(hidden_size, eps, elementwise_affine, bias)
        self.interpret = interpret

    def forward(self, x):
        norms._check_width(x, self.hidden_size, self)
        if x.is_cuda or self.interpret:
            return layer_norm(x, self.weight, self.bias, self.eps)
        check(x, self.weight, self.bias, self.eps)
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)

    def add(self, x, residual):
        """The norm of x + residual, and that sum in the dtype of residual."""
        norms._check_width(x, self.hidden_size, self)
        if x.is_cuda or self.interpret:
            return add_layer_norm(x, residual, self.weight, self.bias, self.eps)
        total = (x + residual).to(residual.dtype)
        return self(total).to(x.dtype), total


class RMSNorm(norms.RMSNorm):
    """`norms.RMSNorm` computed by the fused kernel on a GPU, and by torch's own op on a CPU; see `LayerNorm`."""

    def __init__(self, hidden_size, eps=1e-6, elementwise_affine=True, *, interpret=False):
        super().__init__(hidden_size, eps, elementwise_affine)
        self.interpret = interpret

    def forward(self, x):
        norms._check_width(x, self.hidden_size, self)
        if x.is_cuda or self.interpret:
            return rms_norm(x, self.weight, self.eps)
        check(x, self.weight, None, self.eps)
        return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)

    def add(self, x, residual):
        """The norm of x + residual, and that sum in the dtype of residual."""
        norms._check_width(x, self.hidden_size, self)
        if x.is_cuda or self.interpret:
            return add_rms_norm(x, residual, self.weight, self.eps)
        total = (x + residual).to(residual.dtype)
        return self(total).to(x.dtype), total


class PreNormStack(nn.Module):
    """A Pre-Norm model of `models` in which each block's addition is fused with the norm of the next block.

    Written out, blocks x ← x + f(norm(x)) are  … add, norm, f, add, norm, f …: the addition that ends a block and the
    norm that begins the next read the same tensor. Real models (vLLM, TensorRT-LLM) therefore pass the branch output
    and the stream on side by side and let one kernel add and norm. Parameters and numbers are those of `model`.

    Args: model: `models.DeepMLP`, `Transformer` or `CharacterMLP` with placement="pre_norm" and a norm of this module.
    Raises: TypeError for another placement or norm.
    """

    def __init__(self, model):
        super().__init__()
        for block in model.blocks:
            if type(block) is not PreNorm or not isinstance(block.norm, (LayerNorm, RMSNorm)):
                raise TypeError(
                    f"the model has a block {type(block).__name__} with the norm "
                    f"{type(getattr(block, 'norm', None)).__name__}; expected placement='pre_norm' and "
                    "norm=fused.LayerNorm or fused.RMSNorm"
                )
        self.model = model

    def forward(self, inputs):
        model = self.model
        stream = model.embed(inputs)
        following = [*(block.norm for block in model.blocks[1:]), model.final_norm]
        y = model.blocks[0].norm(stream)
        for block, norm in zip(model.blocks, following):
            y, stream = norm.add(block.branch(y), stream)
        return model.head(y) if hasattr(model, "head") else y
