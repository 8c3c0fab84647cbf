"""Hidden tests of exercise 01: the visible tasks with inputs drawn from the judge's seed."""

from dataclasses import replace

import torch

from normcourse.check import Case

from ..shared import between, normal, uniform
from .mistakes import FACTOR_PER_LAYER, LOG10_GRADIENT_NORMS, MEAN_FIELD_FACTORS, ORTHOGONAL, exponents, network


def log10_gradient_norms_cases(g):
    def case(en, activation, *widths, rounding=1e-7, **draw):
        inputs = network(g, *widths, **draw)
        inputs["x"][:, 0] = 1e-7  # finite differences step over ReLU's kink here, in all rows: some die further on
        return Case(en, en, inputs | ({"activation": activation} if activation else {}), rounding=rounding)

    d = between(g, 7, 10)
    yield case("ReLU", "relu", d, d, d, d)
    yield case("tanh", "tanh", d, d, d, gain=uniform(g, 1.0, 2.0))
    yield case("ReLU, widths", "relu", 9, d, 7, 12, 6)
    yield case("tanh, widths", "tanh", 3, d, 2, 4, 7)
    yield case("one layer", "tanh", d, d + 2)
    yield case("one row", "tanh", d, d, d, rows=1)
    yield case("many rows, growing", "relu", d, d, d, gain=3.0, rows=20)
    yield case("default", None, d, d, d)
    yield case("fp32", "tanh", d, d, d, dtype=torch.float32, rounding=1e-4)
    yield case("fp32, deep", "relu", *[24] * 41, gain=uniform(g, 0.06, 0.1), rows=3, dtype=torch.float32, rounding=1e-4)


def factor_per_layer_cases(g):
    yield Case("scatter", "scatter", exponents(g, between(g, 5, 30), uniform(g, 0.4, 0.9)))
    yield Case("growing", "growing", exponents(g, between(g, 5, 30), uniform(g, 1.1, 2.0)))
    yield Case("straight", "straight", exponents(g, between(g, 5, 30), uniform(g, 0.2, 0.9), noise=0.0))
    yield Case("two numbers", "two numbers", exponents(g, 1, uniform(g, 0.2, 0.9)))
    yield Case("three numbers", "three numbers", exponents(g, 2, uniform(g, 0.2, 0.9)))
    yield Case("zero at the input", "zero at the input", exponents(g, between(g, 6, 20), 0.2, dead=1))
    yield Case("zeros", "zeros", exponents(g, 20, 0.1, dead=between(g, 2, 10)))
    gap = between(g, 2, 8)
    yield Case("gap", "gap", exponents(g, between(g, 12, 20), uniform(g, 0.4, 0.9), gap=(gap, gap + 1)))
    yield Case("much scatter", "much scatter", exponents(g, 40, 1.0, noise=2.0))


def mean_field_factors_cases(g):
    def case(en, depth, gain, activation, variance):
        inputs = {"depth": depth, "gain": gain, "activation": activation, "variance": variance}
        return Case(en, en, inputs, rounding=1e-3)

    # The variance starts well below the fixed point, 1.2 … 2.6: at it, all layers are alike.
    yield case("tanh", between(g, 3, 9), uniform(g, 1.7, 2.2), "tanh", uniform(g, 0.3, 0.6))
    yield case("tanh, small gain", between(g, 10, 20), uniform(g, 0.4, 0.7), "tanh", uniform(g, 0.5, 1.5))
    yield case("tanh, saturated", between(g, 5, 9), uniform(g, 2.5, 3.5), "tanh", uniform(g, 0.5, 1.5))
    yield case("tanh, large input", 3, uniform(g, 1.0, 1.5), "tanh", uniform(g, 2.0, 4.0))
    yield case("linear", between(g, 3, 9), uniform(g, 0.6, 0.9), "linear", uniform(g, 1.5, 2.5))
    yield case("ReLU", between(g, 3, 9), uniform(g, 1.0, 1.8), "relu", uniform(g, 0.4, 0.8))
    yield case("one layer", 1, uniform(g, 0.5, 1.5), "tanh", uniform(g, 0.5, 1.5))
    yield Case("defaults", "defaults", {"depth": 4, "gain": uniform(g, 0.8, 1.4)}, rounding=1e-3)


def alternating(matrix):
    """The matrix with signs turned so that the diagonal of its R goes −, +, −, …: who ignores these signs always fails."""
    if matrix.shape[0] < matrix.shape[1]:
        return alternating(matrix.T).T.contiguous()
    wanted = torch.tensor([-1.0, 1.0], dtype=matrix.dtype).repeat(matrix.shape[1])[: matrix.shape[1]]
    return matrix * wanted * torch.linalg.qr(matrix).R.diagonal().sign()


def orthogonal_cases(g):
    def case(en, rows, columns, *gain, dtype=torch.float64):
        gaussian = alternating(normal(g, rows, columns, dtype=dtype))
        return Case(en, en, {"gaussian": gaussian} | dict(zip(["gain"], gain)))

    d = between(g, 4, 7)
    yield case("tall", d + 3, d, uniform(g, 1.2, 2.0))
    yield case("square", d, d, uniform(g, 0.3, 0.8))
    yield case("wide", d, d + 4, uniform(g, 1.2, 2.0))
    yield case("default gain", 2 * d, d)
    yield case("another square matrix", 6, 6, 1.4)
    yield case("a row", 1, d, 2.0)
    yield case("a column", d, 1, 2.0)
    yield case("fp32, tall", 5 * d, d, 1.5, dtype=torch.float32)
    yield case("fp32, wide", d, 5 * d, 1.5, dtype=torch.float32)


TASKS = [
    replace(LOG10_GRADIENT_NORMS, cases=log10_gradient_norms_cases, points=4),
    replace(FACTOR_PER_LAYER, cases=factor_per_layer_cases, points=2),
    replace(MEAN_FIELD_FACTORS, cases=mean_field_factors_cases, points=4),
    replace(ORTHOGONAL, cases=orthogonal_cases, points=3),
]
