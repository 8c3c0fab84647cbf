"""Hidden tests of exercise 10: the visible tasks with inputs drawn from the judge's seed. Few rows: the interpreter takes
about a millisecond per program."""

from dataclasses import replace

import torch

from normcourse.check import Case

from ..shared import between, even_squares, normal
from .mistakes import BYTES_MOVED, TRITON_ADD_RMS_NORM, TRITON_RMS_NORM


def bytes_moved_cases(g):
    names = ("rows", "columns", "bytes_per_element", "op", "fused")
    for rows, columns, size in ((between(g, 5, 99), between(g, 101, 999), 2), (between(g, 5, 99), between(g, 3, 4), 4)):
        for op in ("rms_norm", "add_rms_norm"):
            for fused in (True, False):
                inputs = dict(zip(names, (rows, columns, size, op, fused)))
                yield Case(f"{op}, {size} bytes, {fused}", f"{op}, {size} bytes, {fused}", inputs)
    for fused in (True, False):
        inputs = dict(zip(names, (1, between(g, 1000, 9000), 8, "add_rms_norm", fused)))
        yield Case(f"one row, {fused}", f"one row, {fused}", inputs)


def triton_rms_norm_cases(g):
    def case(en, *shape, eps=1e-6, gamma=torch.float32, **draw):
        inputs = {
            "x": even_squares(g, *shape, **draw),
            "weight": normal(g, shape[-1], mean=1.0, dtype=gamma),
            "eps": eps,
        }
        return Case(en, en, inputs)

    yield case("power of two", between(g, 2, 3), 16, mean=0.5)
    yield case("no power of two", between(g, 2, 3), between(g, 5, 7), mean=2.0)
    yield case("large eps", 2, between(g, 9, 15), eps=0.05 + float(torch.rand((), generator=g)))
    yield case("rows of 127", 2, 127, mean=-1.0)
    yield case("rows of 41, one row", 1, 41)
    yield case("rows of 1", between(g, 2, 3), 1)
    yield case("many rows", between(g, 9, 12), 3)
    yield case("fp16", 2, between(g, 33, 60), mean=-100.0, std=80.0, dtype=torch.float16)
    yield case("fp16, weight too", 2, between(g, 17, 31), mean=100.0, dtype=torch.float16, gamma=torch.float16)
    yield case("rows of zeros", 2, 5, std=0.0)


def triton_add_rms_norm_cases(g):
    def case(en, *shape, eps=1e-6, x=torch.float32, residual=torch.float32, mean=0.0, std=1.0, **options):
        inputs = {"x": normal(g, *shape, dtype=x), "residual": normal(g, *shape, mean=mean, std=std, dtype=residual)}
        inputs |= {"weight": normal(g, shape[-1], mean=1.0), "eps": eps}
        return Case(en, en, inputs, dtype=(x, residual), **options)

    half = torch.float16
    yield case("power of two", between(g, 2, 3), 16, mean=0.5)
    yield case("no power of two", between(g, 2, 3), between(g, 5, 7), mean=-1.0)
    yield case("large eps", 2, between(g, 9, 15), eps=0.05 + float(torch.rand((), generator=g)))
    yield case("rows of 127", 2, 127)
    yield case("many rows", between(g, 9, 12), 3)
    yield case("x in fp16, residual in fp32", 2, between(g, 33, 60), x=half, mean=-3.0)
    yield case("both in fp16", 2, between(g, 65, 99), x=half, residual=half, mean=-100.0, std=80.0)
    coarse = case("x in fp32, residual in fp16", 2, between(g, 50, 63), residual=half, std=4.0, rounding=1e-5)
    coarse.inputs["x"] = coarse.inputs["x"].half().float()
    yield coarse


TASKS = [
    replace(BYTES_MOVED, cases=bytes_moved_cases, points=4),
    replace(TRITON_RMS_NORM, cases=triton_rms_norm_cases, points=6),
    replace(TRITON_ADD_RMS_NORM, cases=triton_add_rms_norm_cases, points=6),
]
