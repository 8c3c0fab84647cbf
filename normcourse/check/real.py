"""Where a derivative is to be worked out by hand, the second world (`world`) has real numbers of up to 64 bits: a step
along i, or differences of longer numbers, would have the derivative in them."""

import functools
import operator

import numpy

from .cutting import not_understood
from .rules import ForbiddenCall

# What of Python makes complex numbers, or takes values out of what NumPy made.
OPERATORS = (pow, operator.pow, operator.ipow, operator.getitem)


def real(value):
    """The value. Raises: ForbiddenCall for a complex number or array, or a longer one, also within a tuple or a list;
    NotUnderstood for arrays of anything, in which such numbers could lie."""
    if type(value) is complex:
        raise ForbiddenCall("complex")
    if isinstance(value, (numpy.ndarray, numpy.generic)):
        if value.dtype.kind == "c":
            raise ForbiddenCall("complex")
        if value.dtype.kind == "f" and value.dtype.itemsize > 8:
            raise ForbiddenCall("numpy.longdouble")
        if value.dtype.kind in "OV":
            raise not_understood("numpy: dtype=object")
    elif type(value) in (tuple, list):
        for part in value:
            if isinstance(part, (complex, numpy.ndarray, numpy.generic)):
                real(part)
    return value


def watched(value):
    """What an attribute or a function is; functions that can make such numbers look at what they return."""
    if value is numpy.vectorize:
        return _vectorize
    if isinstance(getattr(value, "__self__", None), (numpy.ndarray, numpy.generic)):
        return lambda *arguments, **options: real(value(*arguments, **options))
    of_numpy = isinstance(value, numpy.ufunc) or (getattr(value, "__module__", None) or "").startswith("numpy")
    makes = (of_numpy and callable(value) and not isinstance(value, type)) or any(value is one for one in OPERATORS)
    return _watched(value) if makes else value


@functools.cache
def _watched(function):
    """The same each time, so that `f is np.tanh` holds."""
    return lambda *arguments, **options: real(function(*arguments, **options))


def _vectorize(*arguments, **options):
    made = numpy.vectorize(*arguments, **options)
    return lambda *arguments, **options: real(made(*arguments, **options))
