"""Hidden tests of exercise 07: the visible tasks with inputs drawn from the judge's seed."""

from dataclasses import replace

import torch

from normcourse.check import Case, Function

from ..shared import between, normal, uniform
from .mistakes import DEEPNORM_CONSTANTS, LAYER_PROBE, LAYER_WORTH, STREAM_VARIANCE, block


def stream_variance_cases(g):
    def case(en, placement, layers, input_variance=1.0):
        v = [uniform(g, 0.2, 2.5) for _ in range(layers)]
        return Case(en, en, {"placement": placement, "branch_variances": v, "input_variance": input_variance})

    for placement in ("pre_norm", "post_norm", "residual", "scaled_pre_norm", "peri_norm"):
        yield case(placement, placement, between(g, 3, 9))
        yield case(f"{placement}, input", placement, between(g, 3, 9), uniform(g, 1.5, 5.0))
    yield case("one layer", "scaled_pre_norm", 1, uniform(g, 1.5, 5.0))
    yield case("no layer", "post_norm", 0, uniform(g, 1.5, 5.0))


def deepnorm_constants_cases(g):
    for low, high in ((6, 30), (31, 200), (201, 2000), (2, 5)):
        yield Case(f"up to {high}", f"up to {high}", {"layers": between(g, low, high)})
    yield Case("one layer", "one layer", {"layers": 1})


def layer_probe_cases(g):
    def case(en, layers, *shape, dtype=torch.float64, kind="tanh"):
        sizes = torch.exp(normal(g, *shape[:-1], 1, dtype=torch.float64))
        x = (sizes * normal(g, *shape, mean=-0.3, dtype=torch.float64)).to(dtype)
        blocks = [block(g, shape[-1], kind, dtype) for _ in range(layers)]
        return Case(en, en, {"x": x, "blocks": blocks}, rounding=1e-4 if dtype == torch.float32 else None)

    rows, d = between(g, 3, 6), between(g, 4, 9)
    yield case("a few layers", between(g, 2, 5), rows, d)
    yield case("one layer", 1, rows, d)
    yield case("linear layers", 4, rows, d, kind="linear")
    yield case("three dimensions", 3, 2, rows, d)
    yield case("four dimensions", 3, 2, 1, rows, d)
    yield case("one token", 3, d)
    yield case("fp32", 3, rows, 2 * d, dtype=torch.float32)


def layer_worth_cases(g):
    def case(en, layers, *shape, kind="tanh"):
        d, classes = shape[-1], between(g, 3, 7)
        inputs = {"x": normal(g, *shape, dtype=torch.float64)}
        inputs["targets"] = torch.randint(classes, shape[:-1], generator=g)
        inputs["blocks"] = [block(g, d, kind) for _ in range(layers)]
        inputs["head"] = Function("linear", normal(g, classes, d, dtype=torch.float64))
        return Case(en, en, inputs)

    rows, d = between(g, 4, 8), between(g, 3, 7)
    yield case("a few layers", between(g, 3, 5), rows, d)
    yield case("two layers", 2, rows, d)
    yield case("linear layers", 4, rows, d, kind="linear")
    yield case("three dimensions", 3, 2, rows, d)
    yield case("four dimensions", 3, 2, 1, rows, d)
    yield case("many layers", 8, rows, d)


TASKS = [
    replace(STREAM_VARIANCE, cases=stream_variance_cases, points=4),
    replace(DEEPNORM_CONSTANTS, cases=deepnorm_constants_cases, points=3),
    replace(LAYER_PROBE, cases=layer_probe_cases, points=4),
    replace(LAYER_WORTH, cases=layer_worth_cases, points=5),
]
