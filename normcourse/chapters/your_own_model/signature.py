"""The signature picture of chapter 14: an X-ray of a model, and the gradient on its way back through it."""

import functools

from ...examine import examine
from ...examine.pictures import x_ray as draw
from .architectures import available, build

__all__ = ["MODELS", "anatomy", "draw", "x_ray"]

MODELS = available()
DEPTH = 12


@functools.lru_cache(maxsize=64)
def anatomy(model=MODELS[2], depth=DEPTH, width=64, dtype="fp32", seed=0):
    """What `examine` finds in one of the architectures, a row a residual branch; random weights."""
    network, inputs = build(model, depth, width, dtype, seed)
    return examine(network, inputs).anatomy


def x_ray(back=DEPTH, model=MODELS[0], seed=0):
    """The same for 12 blocks of width 64; `here` is the block that the gradient has got back to."""
    return anatomy(model, seed=seed).assign(here=DEPTH + 1 - back)
