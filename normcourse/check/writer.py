"""What an answer may write to in the second world (`world`)."""

import operator

import torch

from . import allowed
from .cutting import not_understood

INPLACE = {"*=": operator.imul, "/=": operator.itruediv, "%=": operator.imod, "**=": operator.ipow, "-=": operator.isub}
INPLACE |= {"<<=": operator.ilshift, ">>=": operator.irshift, "|=": operator.ior, "&=": operator.iand}
INPLACE |= {"^=": operator.ixor, "//=": operator.ifloordiv, "@=": operator.imatmul, "+=": operator.iadd}
MODULE = frozenset(torch.nn.Module().__dict__)


class Writer:
    """What is written to: items of anything that has some, attributes of objects of the answer's own classes."""

    __slots__ = ("own", "value")

    def __init__(self, value, own):
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "own", own)

    def __setitem__(self, key, item):
        self.value[key] = item

    def __delitem__(self, key):
        del self.value[key]

    def takes(self, name, item):
        of_tensor = isinstance(self.value, torch.Tensor) and name in ("requires_grad", "grad", "data")
        of_layer = type(self.value) in allowed.LAYERS and name in ("weight", "bias")
        return of_tensor or (of_layer and type(item) is torch.nn.Parameter) or (self.own and name not in MODULE)

    def __setattr__(self, name, item):
        if not self.takes(name, item):
            raise not_understood(f"{type(self.value).__name__}.{name} = …")
        setattr(self.value, name, item)
