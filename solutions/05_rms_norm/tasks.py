"""Hidden tests of exercise 05: the visible tasks with inputs drawn from the judge's seed."""

from dataclasses import replace

import torch

from normcourse.check import Case

from ..shared import FORMULA, between, even_squares, normal
from .mistakes import FOLD_LAYER_NORM, MEAN_SHARE, RMS_NORM, RMS_NORM_BACKWARD


def rms_norm_cases(g):
    def case(en, *shape, eps=None, gamma=torch.float32, **options):
        draw = {k: options.pop(k) for k in ("mean", "std", "dtype") if k in options}
        init = shape[-1:] if eps is None else (shape[-1], eps)
        state = None if gamma is None else {"weight": normal(g, shape[-1], mean=1.0, dtype=gamma)}
        x, seed = even_squares(g, *shape, **draw), between(g, 0, 2**30)
        return Case(en, en, {"x": x}, init=init, state=state, seed=seed, **options)

    rows, d, large = between(g, 2, 6), between(g, 3, 9), 0.05 + 0.1 * float(torch.rand((), generator=g))
    yield case("matrix", rows, d, mean=1.5)
    yield case("large eps", rows, d, eps=large)
    yield case("default eps on small inputs", rows, d, std=0.002)
    yield case("as constructed", rows, d, mean=-1.0, gamma=None)
    yield case("three dimensions", 2, rows, d, mean=-2.0)
    yield case("four dimensions", 2, 1, rows, d)
    yield case("one vector", d)
    yield case("gradients", rows, d, eps=large, gradients=True, mean=0.5)
    yield case("gradients in three dimensions, fp64", 2, 3, d, gradients=True, dtype=torch.float64, gamma=torch.float64)
    yield case("fp16", 2, 64, mean=150.0, std=100.0, dtype=torch.float16)
    yield case("fp16, weight too", 2, 32, mean=150.0, dtype=torch.float16, gamma=torch.float16)
    # Root mean squares of 4 and 8, and their inverses, are exact in bf16: other rows tell only by chance that the
    # squares were taken in bf16. In fp16 they overflow.
    yield case("bf16", 2, 64, mean=3.2, std=2.4, dtype=torch.bfloat16)
    yield case("rows of zeros", 2, d, std=0.0)
    yield case("fp64", rows, d, mean=1.0, dtype=torch.float64, gamma=torch.float64)
    yield case("meta device", 2, 3, d, device="meta")


def mean_share_cases(g):
    def case(en, *shape, dtype=torch.float64, **draw):
        return Case(en, en, {"x": even_squares(g, *shape, dtype=dtype, **draw)})

    rows, d = between(g, 2, 6), between(g, 3, 9)
    yield case("matrix", rows, d, mean=0.7)
    yield case("three dimensions", 2, rows, d, mean=-1.0)
    yield case("four dimensions", 2, 1, rows, d)
    yield case("one vector", d, mean=0.5)
    yield case("constant rows", rows, d, mean=3.0, std=0.0)
    yield case("large mean", rows, d, mean=100.0)
    yield case("very small numbers", rows, d, mean=1e-5, std=1e-5)
    yield case("fp32", rows, 40, mean=0.1, dtype=torch.float32)
    yield case("fp16", rows, 48, mean=-200.0, std=100.0, dtype=torch.float16)
    yield case("zeros", rows, d, std=0.0, dtype=torch.float32)


def fold_layer_norm_cases(g):
    def case(en, inputs, width, outputs, dtype=torch.float64, mean=0.0):
        draw = lambda *shape, mean=0.0: normal(g, *shape, mean=mean, dtype=dtype)  # noqa: E731
        before = {"A": draw(width, inputs, mean=mean), "a": draw(width, mean=mean)}
        norm = {"gamma": draw(width, mean=1.0), "beta": draw(width)}
        return Case(en, en, before | norm | {"W": draw(outputs, width), "b": draw(outputs)})

    m, d, k = between(g, 2, 4), between(g, 5, 7), between(g, 8, 10)
    yield case("different sizes", m, d, k)
    yield case("square", d, d, d)
    yield case("large means", m, d, m, mean=-30.0)
    yield case("one input", 1, d, k)
    yield case("one output", m, d, 1)
    yield case("one feature", m, 1, k)
    yield case("fp32", 12, 20, 12, dtype=torch.float32)


def rms_norm_backward_cases(g):
    def case(en, *shape, eps=None, dtype=torch.float64, **draw):
        x, dy = normal(g, *shape, dtype=dtype, **draw), normal(g, *shape, dtype=dtype)
        inputs = {"dy": dy, "x": x, "weight": normal(g, shape[-1], mean=1.0, dtype=dtype)}
        return Case(en, en, inputs | ({} if eps is None else {"eps": eps}), rounding=FORMULA[dtype])

    rows, d = between(g, 2, 6), between(g, 3, 9)
    yield case("matrix", rows, d, mean=1.0)
    yield case("large eps", rows, d, eps=0.05 + float(torch.rand((), generator=g)))
    yield case("three dimensions", 2, rows, d, mean=-1.0)
    yield case("four dimensions", 2, 1, rows, d)
    yield case("one vector", d)
    yield case("very small inputs", rows, d, std=1e-4)
    yield case("fp32", rows, 32, dtype=torch.float32)
    yield case("large scale", rows, d, std=1e3)
    yield case("rows of zeros", rows, d, std=0.0)


TASKS = [
    replace(RMS_NORM, cases=rms_norm_cases, points=4),
    replace(MEAN_SHARE, cases=mean_share_cases, points=3),
    replace(FOLD_LAYER_NORM, cases=fold_layer_norm_cases, points=4),
    replace(RMS_NORM_BACKWARD, cases=rms_norm_backward_cases, points=5),
]
