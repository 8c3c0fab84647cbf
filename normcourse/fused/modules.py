"""The norms as modules, to be passed as `norm=` wherever a norm is taken, and a stack fused across block borders."""

import torch
import torch.nn.functional as F
from torch import nn

from .. import norms
from ..residual import PreNorm
from .functional import add_layer_norm, add_rms_norm, check, layer_norm, rms_norm
from .launch import computed_in


class LayerNorm(norms.LayerNorm):
    """`norms.LayerNorm` computed by the fused kernel on a GPU, and by torch's own op on a CPU.

    Arguments, state dict and numbers are those of `norms.LayerNorm`. interpret=True asks for the kernel on a CPU too,
    where Triton interprets it: slow, to be looked at. `functools.partial(fused.LayerNorm, interpret=True)` is a norm=.
    TorchScript knows no Triton: `torch.jit.script` puts `torch.nn.LayerNorm` with the same weights in its place.
    """

    def __init__(self, *arguments, interpret=False, **options):
        super().__init__(*arguments, **options)
        self.interpret = interpret

    def forward(self, x):
        norms._check_width(x, self.hidden_size, self)
        if _takes_kernel(x, self):
            return layer_norm(x, self.weight, self.bias, self.eps)
        check(x, self.weight, self.bias, self.eps)
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)

    def add(self, x, residual):
        """The norm of x + residual, and that sum in the dtype of residual."""
        norms._check_width(x, self.hidden_size, self)
        if _takes_kernel(x, self):
            return add_layer_norm(x, residual, self.weight, self.bias, self.eps)
        total = (x + residual).to(residual.dtype)
        return self(total).to(x.dtype), total

    def __prepare_scriptable__(self):
        return _with_state_of(nn.LayerNorm(self.hidden_size, self.eps, device="meta"), self)


class RMSNorm(norms.RMSNorm):
    """`norms.RMSNorm` computed by the fused kernel on a GPU, and by torch's own op on a CPU; see `LayerNorm`.

    offset: added to the weight, 1.0 for Gemma's.  eps: None, as in `torch.nn.RMSNorm`, is the unit of the dtype that is
    computed in, 2⁻²³ or 2⁻⁵².
    """

    def __init__(self, *arguments, offset=0.0, interpret=False, **options):
        super().__init__(*arguments, **options)
        self.offset, self.interpret = offset, interpret

    def forward(self, x):
        norms._check_width(x, self.hidden_size, self)
        if _takes_kernel(x, self):
            return rms_norm(x, self.weight, self._eps(x), offset=self.offset)
        check(x, self.weight, None, self._eps(x))
        if not self.offset or self.weight is None:
            return F.rms_norm(x, x.shape[-1:], self.weight, self._eps(x))
        wide = computed_in(x.dtype)
        return F.rms_norm(x.to(wide), x.shape[-1:], self.weight.to(wide) + self.offset, self._eps(x)).to(x.dtype)

    def add(self, x, residual):
        """The norm of x + residual, and that sum in the dtype of residual."""
        norms._check_width(x, self.hidden_size, self)
        if _takes_kernel(x, self):
            return add_rms_norm(x, residual, self.weight, self._eps(x), offset=self.offset)
        total = (x + residual).to(residual.dtype)
        return self(total).to(x.dtype), total

    def _eps(self, x):
        return torch.finfo(computed_in(x.dtype)).eps if self.eps is None else self.eps

    def extra_repr(self):
        return super().extra_repr() + (f", offset={self.offset}" if self.offset else "")

    def __prepare_scriptable__(self):
        if self.offset:
            raise TypeError("TorchScript knows no Triton, and torch.nn.RMSNorm no offset: use torch.compile")
        return _with_state_of(nn.RMSNorm(self.hidden_size, self.eps, device="meta"), self)


def _takes_kernel(x, module):
    return x.is_cuda or module.interpret


def _with_state_of(module, norm):
    """module with the very parameters of norm."""
    module._parameters = {name: None for name in module._parameters} | dict(norm._parameters)
    return module.train(norm.training)


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
