"""The byte table: what the kernels load and store, counted lane by lane in the interpreter, and the floor."""

import numpy as np
import pytest
import torch

from normcourse import fused
from normcourse.fused import interpreter, tiles, traffic
from tools.bench_fused import floor_bytes

pytestmark = [
    pytest.mark.skipif(not interpreter.INTERPRETED.value, reason="bytes are counted in the interpreter"),
    pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning:triton"),
]


class Counted:
    """Bytes that kernels load and store inside the block: lanes that a mask switches off move nothing."""

    def __enter__(self):
        from triton.runtime.interpreter import InterpreterBuilder

        self.read = self.written = 0
        self.patch = pytest.MonkeyPatch()
        load, store = InterpreterBuilder.create_masked_load, InterpreterBuilder.create_masked_store

        def size(pointers, mask):
            return (
                int(np.broadcast_to(mask.data, pointers.data.shape).sum())
                * pointers.get_element_ty().primitive_bitwidth
                // 8
            )

        def counted_load(builder, pointers, mask, *rest, **options):
            self.read += size(pointers, mask)
            return load(builder, pointers, mask, *rest, **options)

        def counted_store(builder, pointers, value, mask, *rest, **options):
            self.written += size(pointers, mask)
            return store(builder, pointers, value, mask, *rest, **options)

        self.patch.setattr(InterpreterBuilder, "create_masked_load", counted_load)
        self.patch.setattr(InterpreterBuilder, "create_masked_store", counted_store)
        return self

    def __exit__(self, *_):
        self.patch.undo()


def count(op, m, n):
    """{direction: (read, written)} of one call with bf16 matrices and weights."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator).bfloat16().requires_grad_()

    inputs = [normal(m, n) for _ in range(1 + op.startswith("add"))]
    inputs += [normal(n) for _ in range(2 if op.endswith("layer_norm") else 1)]
    with Counted() as forward:
        out = getattr(fused, op)(*inputs)
    out = out if isinstance(out, tuple) else (out,)
    with Counted() as backward:
        torch.autograd.grad(out, inputs, [torch.ones_like(o) for o in out])
    return {"forward": (forward.read, forward.written), "backward": (backward.read, backward.written)}


@pytest.mark.slow
# the widths from which a row is no longer held: forward from 32769, backward from 8193
@pytest.mark.parametrize("n", [1000, 8192, 16384, pytest.param(40000, marks=pytest.mark.long), 131072])
@pytest.mark.parametrize("op", traffic.OPS)
def test_the_byte_table_is_what_the_kernels_load_and_store(op, n):
    m, itemsize = 8, 2
    found = count(op, m, n)
    for direction, (read, written) in found.items():
        expected_read, expected_written = traffic.moved(op, direction, m, n, parts=2)
        weights = m * 4 * n * itemsize  # each program reads them; and torch, not a kernel, adds up the partial sums
        sums = 4 * n * 2 * 2
        assert abs(read - expected_read) <= weights + sums, (direction, read, expected_read)
        assert abs(written - expected_written) <= 2 * n * itemsize + sums, (direction, written, expected_written)
    matrix = m * n * itemsize
    wide = not tiles.backward_tile(n).held
    matrices = round(sum(found["backward"]) / matrix - 0.5)
    assert matrices >= 3 + op.startswith("add") + 2 * wide


@pytest.mark.parametrize("op", traffic.OPS)
def test_the_floor_is_that_of_the_benchmark_and_the_ratio_is_as_said(op):
    add = op.startswith("add")
    for n in traffic.SIZES:
        m = 2**28 // (2 * n)
        for direction in ("forward", "backward"):
            fewest = sum(traffic.floor(op, direction, m, n))
            assert fewest == floor_bytes(op, direction, m, n, 2)
            ratio = sum(traffic.moved(op, direction, m, n, interpreted=False)) / fewest
            assert ratio == traffic.ratio(op, direction, n)
            if direction == "forward":
                assert ratio <= (1.001 if n <= 32768 else 1.51), n
            elif n <= 8192:
                assert ratio <= 1.06, n  # the partial sums of dweight
            else:  # x and dy twice; the goal of 1.25 is missed, see traffic's own words
                assert (6 / 4 if add else 5 / 3) <= ratio <= (6 / 4 if add else 5 / 3) + 0.08, n
    assert traffic.table().count(op) >= 2 * len(traffic.SIZES)
