"""Hidden tests of exercise 02: the visible tasks with inputs drawn from the judge's seed."""

from dataclasses import replace

import torch

from normcourse.check import Case

from ..shared import between, uniform
from .mistakes import (
    INPUT_GRADIENT,
    PATH_SHARES,
    RESIDUAL_BLOCK_BACKWARD,
    SMALLEST_SINGULAR_VALUES,
    block,
    jacobian,
    stack,
)


def input_gradient_cases(g):
    def case(en, depth, d, hidden, *residual, rounding=None, **draw):
        return Case(en, en, stack(g, depth, d, hidden, **draw) | dict(zip(["residual"], residual)), rounding=rounding)

    depth, d = between(g, 2, 5), between(g, 5, 8)
    yield case("residual", depth, d, d, True)
    yield case("plain", depth, d, d, False)
    yield case("residual, wide", depth, d, 3 * d, True)
    yield case("plain, wide", depth, d, 3 * d, False, gain=1.4)
    yield case("residual by default, narrow", depth, d, 3)
    yield case("one block", 1, d, d, True, rows=1)
    yield case("large gain", depth, d, 2 * d, True, gain=uniform(g, 2.0, 3.0))
    yield case("50 residual blocks", 50, 8, 8, True, gain=uniform(g, 0.4, 0.6))
    yield case("fp32", 2, 4, 6, True, rows=2, dtype=torch.float32)


def residual_block_backward_cases(g):
    def case(en, *shape, hidden, **draw):
        inputs = block(g, *shape, hidden=hidden, **draw)
        formula = 1e-11 if inputs["x"].dtype == torch.float64 else None  # finite differences are not as good
        return Case(en, en, inputs, rounding=formula)

    rows, d = between(g, 5, 9), between(g, 4, 7)
    yield case("matrix", rows, d, hidden=d)
    yield case("wide", rows, d, hidden=4 * d)
    yield case("narrow", rows, d, hidden=3)
    yield case("three dimensions", 2, rows, d, hidden=d + 2)
    yield case("four dimensions", 2, 1, rows, d, hidden=2 * d)
    yield case("one vector", d, hidden=2 * d)
    yield case("fp32", 2, 2, 4, hidden=6, dtype=torch.float32)


def sloping(slope, inputs):
    """The inputs with a multiple of I added to J so that the slope is given, and one a so small that it tells: whether a
    singular value falls below 1 is no matter of chance."""
    J, scales = inputs["J"], inputs["scales"]
    symmetric = (J + J.T) / 2
    scales[0] = 0.1
    return {"J": J + (slope - torch.linalg.eigvalsh(symmetric)[0]) * torch.eye(len(J), dtype=J.dtype), "scales": scales}


def smallest_singular_values_cases(g):
    d = between(g, 3, 7)
    yield Case("any", "any", sloping(-1.0, jacobian(g, d)))
    yield Case("larger", "larger", sloping(-1.5, jacobian(g, 12, count=6)))
    yield Case("symmetric", "symmetric", sloping(-1.2, jacobian(g, d, "symmetric")))
    yield Case("antisymmetric", "antisymmetric", jacobian(g, d, "antisymmetric"))
    yield Case("triangular", "triangular", jacobian(g, d + 1, "triangular"))
    yield Case("two by two", "two by two", sloping(-0.8, jacobian(g, 2, count=3)))
    yield Case("a number", "a number", sloping(uniform(g, 0.3, 0.9), jacobian(g, 1, count=3)))
    yield Case("fp32", "fp32", sloping(-0.7, jacobian(g, d, dtype=torch.float32)), rounding=1e-4)


def path_shares_cases(g):
    def case(en, depth, chi):
        rounding = 1e-8 if depth > 1000 else None  # of lgamma, at values around 20 000
        return Case(en, en, {"depth": depth, "chi": chi}, rounding=rounding)

    yield case("few layers", between(g, 5, 15), uniform(g, 0.1, 0.8))
    yield case("large branches", between(g, 5, 15), uniform(g, 1.5, 3.0))
    yield case("one layer", 1, uniform(g, 0.2, 0.8))
    yield case("two layers", 2, uniform(g, 0.2, 0.8))
    yield case("100 layers", 100, uniform(g, 0.01, 0.5))
    yield case("thousands of layers", between(g, 2500, 3500), uniform(g, 0.5, 1.5))
    yield case("thousands, shrunk", between(g, 2500, 3500), uniform(g, 1e-3, 3e-3))
    yield case("shut", between(g, 3, 9), 0.0)


TASKS = [
    replace(INPUT_GRADIENT, cases=input_gradient_cases, points=4),
    replace(RESIDUAL_BLOCK_BACKWARD, cases=residual_block_backward_cases, points=4),
    replace(SMALLEST_SINGULAR_VALUES, cases=smallest_singular_values_cases, points=4),
    replace(PATH_SHARES, cases=path_shares_cases, points=4),
]
