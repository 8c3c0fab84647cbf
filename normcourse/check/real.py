"""Where a derivative is to be worked out by hand, the second world (`world`) has real numbers of up to 64 bits: a step
along i, or differences of longer numbers, would have the derivative in them."""

import functools
import operator

import numpy

from .rules import ForbiddenCall

POWERS = (pow, operator.pow, operator.ipow)
CHARACTERS = "FDGg"  # NumPy's dtypes of complex and of longer numbers


def real(value):
    """The value. Raises: ForbiddenCall for a complex number or array, or a longer one."""
    if type(value) is complex:
        raise ForbiddenCall("complex")
    if isinstance(value, (numpy.ndarray, numpy.generic)) and value.dtype.char in CHARACTERS:
        raise ForbiddenCall("complex" if value.dtype.kind == "c" else "numpy.longdouble")
    return value


def watched(value):
    """What an attribute or a function is; functions that can make such numbers look at what they return."""
    if value is numpy.vectorize:
        return _vectorize
    if isinstance(getattr(value, "__self__", None), (numpy.ndarray, numpy.generic)):
        return lambda *arguments, **options: real(value(*arguments, **options))
    of_numpy = isinstance(value, numpy.ufunc) or (getattr(value, "__module__", None) or "").startswith("numpy")
    makes = (of_numpy and callable(value) and not isinstance(value, type)) or any(value is one for one in POWERS)
    return _watched(value) if makes else value


@functools.cache
def _watched(function):
    """The same each time, so that `f is np.tanh` holds."""
    return lambda *arguments, **options: real(function(*arguments, **options))


def _vectorize(*arguments, **options):
    made = numpy.vectorize(*arguments, **options)
    return lambda *arguments, **options: real(made(*arguments, **options))
