"""The fused kernels against fp64 and torch's own operators: on a GPU where there is one, else in Triton's interpreter.

The hard cases each broke a public kernel. Tests that need a GPU say so; what they show is also checked in compiled code,
in test_fused_compiled.py.
"""

import math
import os
import subprocess
import sys
import threading
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from normcourse import fused, models, norms
from normcourse.fused import functional, ops, tiles

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
KINDS = ["layer_norm", "rms_norm"]
OPS = ["layer_norm", "rms_norm", "add_layer_norm", "add_rms_norm"]
HALF = [torch.bfloat16, torch.float16]
DTYPES = [torch.float64, torch.float32, *HALF]
UNIT = {torch.float64: 2**-53, torch.float32: 2**-24, torch.bfloat16: 2**-9, torch.float16: 2**-12}  # half an ulp of 1
EPS = {"layer_norm": 1e-5, "rms_norm": 1e-6}
pytestmark = [
    pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning:triton"),
    pytest.mark.slow,  # most run in the interpreter
    pytest.mark.gpu,
]
long = pytest.mark.long
gpu_only = partial(pytest.mark.skipif, DEVICE == "cpu")


def draw(op, rows, n, dtype=torch.float32, mean=0.0, seed=0, affine=True):
    """Inputs of `op` as a dict, in the order of its arguments, and one cotangent per output."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    tensors = {"x": normal(rows, n) + mean}
    if op.startswith("add"):
        tensors["residual"] = normal(rows, n)
    if affine:
        tensors["weight"] = normal(n)
        if op.endswith("layer_norm"):
            tensors["bias"] = normal(n)
    cotangents = [normal(rows, n) for _ in range(2 if op.startswith("add") else 1)]
    to = partial(torch.Tensor.to, device=DEVICE, dtype=dtype)
    return {name: to(t).requires_grad_() for name, t in tensors.items()}, [to(c) for c in cotangents]


def ours(op, tensors, **options):
    out = getattr(fused, op)(**tensors, **options)
    return out if op.startswith("add") else (out,)


def torchs(op, tensors, offset=0.0):
    """The same by torch's own operators, in the dtype of `tensors`: called with fp64 it is the truth."""
    x, residual, weight, bias = (tensors.get(name) for name in ("x", "residual", "weight", "bias"))
    total = x if residual is None else x + residual
    if op.endswith("layer_norm"):
        y = F.layer_norm(total, total.shape[-1:], weight, bias, EPS["layer_norm"])
    else:
        y = F.rms_norm(total, total.shape[-1:], weight if weight is None else weight + offset, EPS["rms_norm"])
    return (y,) if residual is None else (y, total)


def double(tensors):
    return {name: t.detach().double().requires_grad_(t.requires_grad) for name, t in tensors.items()}


def with_gradients(outputs, tensors, cotangents):
    """Outputs and gradients by name."""
    inputs = {name: t for name, t in tensors.items() if t.requires_grad}
    gradients = torch.autograd.grad(outputs, list(inputs.values()), cotangents)
    named = dict(zip(["y", "new_residual"], outputs)) | {f"d{k}": g for k, g in zip(inputs, gradients)}
    return {name: t.detach() for name, t in named.items()}


def error(found, truth):
    """‖found − truth‖ / ‖truth‖."""
    return float((found.double() - truth).norm() / truth.norm())


def assert_right(op, tensors, cotangents, offset=0.0, dtype=None):
    """Values and gradients are those of fp64, within the rounding of the dtype. Returns them.

    Half a unit of rounding at the end; the sum of x and residual is rounded before; what is computed in fp32 between
    the two adds some units of fp32, and dweight √M of them.
    """
    options = {"offset": offset} if offset else {}
    found = with_gradients(ours(op, tensors, **options), tensors, cotangents)
    exact = double(tensors)
    truth = with_gradients(torchs(op, exact, offset), exact, [c.double() for c in cotangents])
    rows = math.isqrt(tensors["x"].numel() // max(1, tensors["x"].shape[-1]))
    for name, value in found.items():
        assert value.shape == truth[name].shape and value.isfinite().all(), name
        unit, wide = UNIT[value.dtype], min(UNIT[value.dtype], UNIT[torch.float32])
        summed = 2 * UNIT[found["new_residual"].dtype] if op.startswith("add") else 0.0
        bound = unit + summed + wide * (16 + rows)
        assert error(value, truth[name]) <= bound or truth[name].norm() == 0, (name, error(value, truth[name]), bound)
    return found


# --- values and gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("n", [3, 41, 127, 1023, 1128, 3000])
def test_rows_of_odd_length_with_a_mean_are_right(op, n):
    assert_right(op, *draw(op, 37, n, mean=3.0))  # lanes beyond the row must stay out of the variance


@pytest.mark.parametrize("op", OPS)
def test_rows_of_one_element_are_right(op):
    tensors, cotangents = draw(op, 37, 1)
    found = with_gradients(ours(op, tensors), tensors, cotangents)
    exact = double(tensors)
    truth = with_gradients(torchs(op, exact), exact, [c.double() for c in cotangents])
    # x̂ is 0 or x/√(x² + eps), so that most gradients vanish or cancel: compare in absolute terms
    for name, value in found.items():
        torch.testing.assert_close(value.double(), truth[name], rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_every_dtype_is_right_when_rows_do_not_fill_the_last_tile(op, dtype):
    for tile in (tiles.forward_tile(1000), tiles.backward_tile(1000)):
        assert 37 % tile.rows or tile.rows == 1
    assert_right(op, *draw(op, 37, 1000, dtype))


@pytest.mark.parametrize("n", [40000, 65536, 65537, 131072])
@pytest.mark.parametrize("op", OPS)
def test_wide_rows_are_right(op, n):
    assert not tiles.forward_tile(n).held and not tiles.backward_tile(n).held
    assert_right(op, *draw(op, 3, n, mean=1.0))


@pytest.mark.parametrize("op", OPS)
def test_rows_held_in_forward_but_not_in_backward_are_right(op):
    assert tiles.forward_tile(20000).held and not tiles.backward_tile(20000).held
    assert_right(op, *draw(op, 3, 20000, torch.bfloat16, mean=1.0))


@pytest.mark.parametrize("op", OPS)
def test_one_row_less_and_more_than_the_programs_take_at_once_is_right(op):
    tile = tiles.backward_tile(1000)
    rows = tile.rows * tiles.programs(torch.zeros(0, device=DEVICE).device, tile.threads)
    for m in (1, rows - 1, rows, rows + 1):
        assert_right(op, *draw(op, m, 1000))


@pytest.mark.parametrize("op", ["rms_norm", *(pytest.param(op, marks=long) for op in OPS if op != "rms_norm")])
def test_a_million_rows_are_right(op):
    assert_right(op, *draw(op, 1_000_000, 3, mean=1.0))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("shape", [(0, 5), (2, 0, 5), (5, 0), (0, 0)])
def test_empty_inputs_give_empty_outputs_and_zero_gradients(op, shape):
    tensors, _ = draw(op, 1, shape[-1])
    for name in ("x", "residual"):
        if name in tensors:
            tensors[name] = torch.zeros(shape, device=DEVICE, requires_grad=True)
    outputs = ours(op, tensors)
    found = with_gradients(outputs, tensors, [torch.zeros_like(o) for o in outputs])
    assert found["y"].shape == found["dx"].shape == torch.Size(shape)
    assert found["dweight"].shape == shape[-1:] and not found["dweight"].any()


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("shape", [(128,), (3, 4, 128), (2, 1, 3, 128)])
def test_any_leading_shape_gives_what_the_flat_rows_give(op, shape):
    tensors, cotangents = draw(op, math.prod(shape[:-1]), 128)
    flat = with_gradients(ours(op, tensors), tensors, cotangents)
    shaped = {k: t.detach().view(shape).requires_grad_() if k in ("x", "residual") else t for k, t in tensors.items()}
    found = with_gradients(ours(op, shaped), shaped, [c.view(shape) for c in cotangents])
    for name, value in found.items():
        assert torch.equal(value.flatten(), flat[name].flatten()), name


def errors_of_both(op, dtype, rows, n, mean):
    """Our error and that of torch's own operators in the same dtype, against fp64, by output and gradient."""
    tensors, cotangents = draw(op, rows, n, dtype, mean)
    exact = double(tensors)
    truth = with_gradients(torchs(op, exact), exact, [c.double() for c in cotangents])
    found = with_gradients(ours(op, tensors), tensors, cotangents)
    theirs = with_gradients(torchs(op, tensors), tensors, cotangents)
    return {name: (error(found[name], truth[name]), error(theirs[name], truth[name])) for name in found}


@pytest.mark.filterwarnings("ignore:Mismatch dtype")
@pytest.mark.parametrize("mean", [3.0, pytest.param(0.0, marks=long)])
@pytest.mark.parametrize(("rows", "n"), [(1000, 127), (300, 1000), pytest.param(100, 3000, marks=long), (8, 40000)])
@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
@pytest.mark.parametrize("op", OPS)
def test_the_error_is_at_most_that_of_torchs_own_operator(op, dtype, rows, n, mean):
    if dtype == torch.float32:  # where the rounding of rstd, one number per row, is felt: rows enough to average it
        rows = max(rows, 40)
    for name, (our, their) in errors_of_both(op, dtype, rows, n, mean).items():
        # summing M terms one after another in fp32 rounds a partial sum M times: √M/√6 units of the result
        summed = math.sqrt(rows / 6) * UNIT[torch.float32] if name in ("dweight", "dbias") else 0.0
        assert our <= 1.05 * their + summed, (name, our, their)


@pytest.mark.parametrize("op", OPS)
def test_fp64_is_computed_in_fp64(op):
    found = assert_right(op, *draw(op, 37, 300, torch.float64, mean=3.0))
    assert all(value.dtype == torch.float64 for value in found.values())


# --- values that are hard ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1000, 40000])
@pytest.mark.parametrize("op", OPS)
def test_a_mean_of_ten_thousand_times_the_deviation_leaves_as_many_digits_as_x_has(op, n):
    tensors, _ = draw(op, 8, n, mean=1e4)  # E[x²] − E[x]² would make the variance −24
    tensors = {name: t for name, t in tensors.items() if name in ("x", "residual")}
    (y, *_), (truth, *_) = ours(op, tensors), torchs(op, double(tensors))
    # half a unit of fp32 at 1e4 is 1e4·2⁻²⁴; the sum, the mean and x − mean each round once
    assert error(y.detach(), truth.detach()) < 3e4 * 2**-24


@pytest.mark.parametrize("value", [0.0, 1.0, -3.3, 1e4])
@pytest.mark.parametrize("n", [3, 1000, 40000])
def test_a_constant_row_is_normalised_to_zero_by_layer_norm(n, value):
    x = torch.full((5, n), value, device=DEVICE)
    # the mean may be a few units off; x − mean is divided by √eps = 0.003
    assert fused.layer_norm(x).abs().max() <= 4 * abs(value) * 2**-24 / 1e-5**0.5


@pytest.mark.parametrize("op", OPS)
def test_rows_of_zeros_have_finite_gradients(op):
    tensors, cotangents = draw(op, 5, 300)
    tensors = {k: torch.zeros_like(t).requires_grad_() if k in ("x", "residual") else t for k, t in tensors.items()}
    found = with_gradients(ours(op, tensors), tensors, cotangents)
    bias = tensors.get("bias", torch.zeros(300, device=DEVICE))
    assert torch.equal(found["y"], bias.detach().expand(5, 300))
    assert all(value.isfinite().all() for value in found.values())


@pytest.mark.parametrize("n", [1000, 40000])
@pytest.mark.parametrize("op", OPS)
def test_fp16_near_its_largest_number_does_not_overflow(op, n):
    tensors, cotangents = draw(op, 4, n, torch.float16)
    for name in {"x", "residual"} & set(tensors):
        tensors[name] = torch.sign(tensors[name].detach()).mul(6e4 / len(cotangents)).requires_grad_()
    assert_right(op, tensors, [c * 2.0**10 for c in cotangents])  # or dx, divided by 6e4, would be subnormal in fp16


@pytest.mark.parametrize("n", [300, 40000])
@pytest.mark.parametrize("size", [1e15, 1e20, 1e30])
@pytest.mark.parametrize("op", OPS)
def test_fp32_whose_squares_overflow_gives_zeros_and_not_nan(op, size, n):
    tensors, cotangents = draw(op, 4, n, affine=False)
    tensors = {name: t.detach().mul(size).requires_grad_() for name, t in tensors.items()}
    if size < 1e18:  # x² still fits
        assert_right(op, tensors, cotangents)
        return
    found = with_gradients(ours(op, tensors), tensors, cotangents)  # rstd is 1/√inf = 0, as torch's is at 1e20
    assert not found["y"].any() and all(value.isfinite().all() for value in found.values())


@pytest.mark.parametrize("op", OPS)
def test_numbers_of_1e_20_are_right(op):
    tensors, cotangents = draw(op, 8, 300)
    for name in {"x", "residual"} & set(tensors):
        tensors[name] = tensors[name].detach().mul(1e-20).requires_grad_()
    assert_right(op, tensors, cotangents)


@pytest.mark.parametrize("n", [100, 40000])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("op", OPS)
def test_nan_and_inf_stay_in_their_row(op, bad, n):
    tensors, cotangents = draw(op, 6, n)
    clean = with_gradients(ours(op, tensors), tensors, cotangents)
    tensors["x"] = tensors["x"].detach().clone()
    tensors["x"][2, n // 2] = bad
    tensors["x"].requires_grad_()
    found = with_gradients(ours(op, tensors), tensors, cotangents)
    others = [0, 1, 3, 4, 5]
    for name in ("y", "dx"):
        assert torch.equal(found[name][others], clean[name][others]), name
        assert found[name][2].isnan().any()


# --- memory layouts and gradients that are used in part -----------------------------------------------------------------


@pytest.mark.parametrize("op", OPS)
def test_an_expanded_gradient_is_right(op):
    tensors, cotangents = draw(op, 9, 300)
    outputs = ours(op, tensors)
    expanded = torch.autograd.grad(sum(o.sum() for o in outputs), tensors.values())  # cotangents of stride 0
    dense = torch.autograd.grad(ours(op, tensors), tensors.values(), [torch.ones_like(c) for c in cotangents])
    assert all(torch.equal(a, b) for a, b in zip(expanded, dense))


def layouts(t):
    """t in other places: transposed, every second column and row of a larger tensor, one element off alignment."""
    rows, n = t.shape
    larger = t.new_full((2 * rows, 2 * n), math.nan)
    larger[::2, ::2] = t
    odd = t.new_full((rows * n + 1,), math.nan)
    odd[1:] = t.flatten()
    return {
        "transposed": t.t().contiguous().t(),
        "sliced": larger[::2, ::2],
        "columns of a wider tensor": torch.cat([t, t], 1)[:, :n],
        "odd offset": odd[1:].view(rows, n),
    }


@pytest.mark.parametrize("layout", ["transposed", "sliced", "columns of a wider tensor", "odd offset"])
@pytest.mark.parametrize("op", OPS)
def test_any_memory_layout_gives_the_same_bits(op, layout):
    tensors, cotangents = draw(op, 9, 304)
    plain = with_gradients(ours(op, tensors), tensors, cotangents)
    placed = {k: layouts(t.detach())[layout].requires_grad_() if t.dim() == 2 else t for k, t in tensors.items()}
    found = with_gradients(ours(op, placed), placed, [layouts(c)[layout] for c in cotangents])
    for name, value in found.items():
        assert torch.equal(value, plain[name]), name


@pytest.mark.parametrize("op", OPS)
def test_backward_leaves_its_gradient_unchanged_and_can_run_twice(op):
    tensors, cotangents = draw(op, 9, 300)
    kept = [c.clone() for c in cotangents]
    outputs = ours(op, tensors)
    first = torch.autograd.grad(outputs, tensors.values(), cotangents, retain_graph=True)
    second = torch.autograd.grad(outputs, tensors.values(), cotangents)
    assert all(torch.equal(a, b) for a, b in zip(first, second))
    assert all(torch.equal(a, b) for a, b in zip(kept, cotangents))


@pytest.mark.parametrize("op", ["add_layer_norm", "add_rms_norm"])
def test_the_two_gradients_of_the_addition_do_not_share_what_is_added_to_them(op):
    tensors, cotangents = draw(op, 9, 300)
    x, residual = tensors["x"], tensors["residual"]
    x.grad = torch.ones_like(x)
    torch.autograd.backward(ours(op, tensors), cotangents)
    torch.testing.assert_close(x.grad - 1, residual.grad, rtol=0, atol=1e-6)
    before = residual.grad.clone()
    x.grad.zero_()
    assert torch.equal(residual.grad, before)


@pytest.mark.parametrize("used", ["y", "new_residual", "both"])
@pytest.mark.parametrize("op", ["add_layer_norm", "add_rms_norm"])
def test_an_output_that_is_not_used_adds_nothing_to_the_gradient(op, used):
    tensors, cotangents = draw(op, 9, 300)
    chosen = {"y": [0], "new_residual": [1], "both": [0, 1]}[used]
    outputs, exact = ours(op, tensors), double(tensors)
    found = torch.autograd.grad(
        [outputs[i] for i in chosen], tensors.values(), [cotangents[i] for i in chosen], allow_unused=True
    )
    truth = torch.autograd.grad(
        [torchs(op, exact)[i] for i in chosen],
        exact.values(),
        [cotangents[i].double() for i in chosen],
        allow_unused=True,
    )
    for name, a, b in zip(tensors, found, truth):
        assert (a is None) == (b is None), name
        assert a is None or error(a, b) < 20 * UNIT[torch.float32], name


# --- weights and mixed dtypes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", OPS)
def test_weights_may_be_left_out_or_frozen(op):
    assert_right(op, *draw(op, 9, 300, affine=False))
    tensors, cotangents = draw(op, 9, 300)
    free = with_gradients(ours(op, tensors), tensors, cotangents)
    for names in ({"weight"}, {"bias"}, {"weight", "bias"}):
        frozen = {k: t.detach() if k in names else t for k, t in tensors.items()}
        found = with_gradients(ours(op, frozen), frozen, cotangents)
        assert not {f"d{name}" for name in names} & set(found)
        assert all(torch.equal(value, free[name]) for name, value in found.items())


@pytest.mark.parametrize("op", ["layer_norm", "add_layer_norm"])
def test_a_bias_without_a_weight_and_a_weight_without_a_bias_are_right(op):
    for n in (300, 40000):
        tensors, cotangents = draw(op, 4, n)
        for missing in ("weight", "bias"):
            assert_right(op, {k: t for k, t in tensors.items() if k != missing}, cotangents)


@pytest.mark.parametrize("op", OPS)
def test_fp32_weights_with_bf16_x_keep_their_digits(op):
    tensors, cotangents = draw(op, 64, 300, torch.bfloat16)
    weights, _ = draw(op, 64, 300)
    tensors |= {name: t for name, t in weights.items() if name in ("weight", "bias")}
    found = assert_right(op, tensors, cotangents)
    assert found["y"].dtype == found["dx"].dtype == torch.bfloat16 and found["dweight"].dtype == torch.float32


@pytest.mark.parametrize("op", ["rms_norm", "add_rms_norm"])
@pytest.mark.parametrize("n", [300, 40000])
def test_one_plus_weight_keeps_weights_below_the_resolution_of_bf16(op, n):
    tensors, cotangents = draw(op, 8, n)
    tensors["weight"] = torch.full((n,), 2.0**-11, dtype=torch.bfloat16, device=DEVICE, requires_grad=True)
    found = assert_right(op, tensors, cotangents, offset=1.0)  # 1 + 2⁻¹¹ in bf16 is 1, wrong by 5e-4
    assert found["dweight"].dtype == torch.bfloat16


@pytest.mark.parametrize("n", [300, 40000])
@pytest.mark.parametrize("op", OPS)
def test_zero_and_negative_weights_are_right_in_backward(op, n):
    tensors, cotangents = draw(op, 8, n)
    with torch.no_grad():
        tensors["weight"][::3] = 0
        tensors["weight"][1::3] = -tensors["weight"][1::3].abs()
    assert_right(op, tensors, cotangents)  # dweight too: x̂ comes from x, not from y / weight


@pytest.mark.parametrize("n", [300, 40000])
@pytest.mark.parametrize("op", ["add_layer_norm", "add_rms_norm"])
def test_a_bf16_branch_on_an_fp32_stream_is_right(op, n):
    tensors, cotangents = draw(op, 8, n, torch.bfloat16)
    tensors["residual"] = tensors["residual"].detach().float().mul(1.001).requires_grad_()
    found = assert_right(op, tensors, [cotangents[0], cotangents[1].float()])
    assert [found[k].dtype for k in ("y", "new_residual", "dx", "dresidual")] == [
        torch.bfloat16,
        torch.float32,
        torch.bfloat16,
        torch.float32,
    ]


@pytest.mark.parametrize("op", ["add_layer_norm", "add_rms_norm"])
def test_residual_dtype_starts_an_fp32_stream_from_bf16(op):
    tensors, _ = draw(op, 8, 300, torch.bfloat16)
    y, total = ours(op, tensors, residual_dtype=torch.float32)
    assert y.dtype == torch.bfloat16 and total.dtype == torch.float32
    assert torch.equal(total, tensors["x"].float() + tensors["residual"].float())
    dresidual = torch.autograd.grad(total.sum() + y.float().sum(), tensors["residual"])[0]
    assert dresidual.dtype == torch.bfloat16


@pytest.mark.parametrize("n", [1000, 40000])
@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
@pytest.mark.parametrize("op", ["add_layer_norm", "add_rms_norm"])
def test_the_norm_reads_the_sum_as_it_was_rounded(op, dtype, n):
    tensors, _ = draw(op, 8, n, dtype)
    y, total = ours(op, tensors)
    assert torch.equal(total, tensors["x"] + tensors["residual"])
    parameters = {name: t for name, t in tensors.items() if name in ("weight", "bias")}
    assert torch.equal(y, getattr(fused, op[4:])(total, **parameters))
    if dtype != torch.float32:  # and this is not what the norm of the unrounded sum would be
        exact = {"x": tensors["x"].float() + tensors["residual"].float(), **parameters}
        assert not torch.equal(y, getattr(fused, op[4:])(**exact).to(dtype))


def test_bf16_is_stored_to_the_nearest_even_also_in_the_interpreter():
    x = torch.randn(1, 2**14, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    x[0, :6] = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 3.4e38, 1e-40, 0.0])  # ties; overflow; subnormal
    _, total = fused.add_rms_norm(torch.zeros_like(x), x, residual_dtype=torch.bfloat16)
    assert torch.equal(total, x.bfloat16())


def test_a_nan_stays_a_nan_in_bf16():
    bits = torch.tensor([[0x7F800001, 0x7FFFFFFF, -0x7FFFFF]], dtype=torch.int32, device=DEVICE)
    _, total = fused.add_rms_norm(
        torch.zeros(1, 3, device=DEVICE), bits.view(torch.float32), residual_dtype=torch.bfloat16
    )
    assert total.isnan().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_saved_statistics_are_fp32_or_fp64(kind, dtype):
    x = draw(kind, 5, 300, dtype)[0]["x"].detach()
    _, _, mean, rstd = ops.norm(x, None, None, None, kind, 1e-5, 0.0, dtype, dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert rstd.dtype == mean.dtype == wide
    exact = x.double() - x.double().mean(-1, keepdim=True) if kind == "layer_norm" else x.double()
    torch.testing.assert_close(rstd.double(), (exact.square().mean(-1) + 1e-5).rsqrt(), rtol=1e-6, atol=0)


# --- derivatives --------------------------------------------------------------------------------------------------------


def of_fp64(op, options):
    return lambda *tensors: ours(
        op, dict(zip(["x", *(["residual"] if op.startswith("add") else []), "weight", "bias"], tensors)), **options
    )


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("op", OPS)
def test_gradcheck_holds_in_fp64(op, n):
    tensors, _ = draw(op, 3, n, torch.float64)
    assert gradcheck(of_fp64(op, {"eps": 0.1}), list(tensors.values()))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("op", OPS)
def test_the_second_derivative_is_right(op, affine):
    tensors, _ = draw(op, 3, 4, torch.float64, affine=affine)
    options = {"eps": 0.1, "offset": 1.0} if op.endswith("rms_norm") and affine else {"eps": 0.1}
    assert gradgradcheck(of_fp64(op, options), list(tensors.values()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_third_derivative_is_right(kind):
    tensors, _ = draw(kind, 2, 3, torch.float64)

    def third(f, x):
        for _ in range(3):
            (x_,) = torch.autograd.grad(f.square().sum(), x, create_graph=True)
            f = x_
        return f

    x = tensors["x"]
    mine = third(ours(kind, tensors)[0], x)
    truth = third(getattr(norms, kind)(**tensors), x)  # not torch's own layer_norm, whose third derivative is wrong
    torch.testing.assert_close(mine, truth, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=long)])
@pytest.mark.parametrize("kind", KINDS)
def test_dweight_has_the_same_bits_in_fifty_runs(kind, dtype):
    tensors, cotangents = draw(kind, 200 if DEVICE == "cpu" else 20_000, 300, dtype)
    y = ours(kind, tensors)
    weights = [tensors[name] for name in ("weight", "bias") if name in tensors]
    runs = [torch.autograd.grad(y, weights, cotangents, retain_graph=True) for _ in range(50)]
    assert all(torch.equal(a, b) for run in runs[1:] for a, b in zip(run, runs[0]))


# --- inside torch -------------------------------------------------------------------------------------------------------


def operator_arguments(kind, add, dtype, affine=True):
    """Arguments of `normcourse::norm` and, with its results, of `normcourse::norm_backward`."""
    tensors, (dy, *dtotal) = draw(f"add_{kind}" if add else kind, 5, 24, dtype, affine=affine)
    x, residual, weight, bias = (tensors.get(name) for name in ("x", "residual", "weight", "bias"))
    forward = (x, residual, weight, bias, kind, 0.1, 1.0, dtype, dtype)
    _, total, mean, rstd = (t.detach() for t in ops.norm(*forward))
    read = total if add else x
    dtotal = dtotal[0].requires_grad_() if add else None
    other = torch.float32 if add else dtype
    backward = (dy.requires_grad_(), read.detach().requires_grad_(), weight, mean, rstd, dtotal, kind, 0.1, 1.0)
    return forward, (*backward, dtype, other, 0 if weight is None else 2 if kind == "layer_norm" else 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_opcheck_accepts_both_operators(kind, add, affine, dtype):
    for operator, arguments in zip((ops.norm, ops.norm_backward), operator_arguments(kind, add, dtype, affine)):
        torch.library.opcheck(operator, arguments)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("op", OPS)
def test_compile_fullgraph_gives_the_same_bits_for_any_number_of_rows(op, backend):
    torch._dynamo.reset()
    compiled = torch.compile(getattr(fused, op), fullgraph=True, dynamic=True, backend=backend)
    for rows in (7, 12, 40):
        tensors, cotangents = draw(op, rows, 96)
        eager = with_gradients(ours(op, tensors), tensors, cotangents)
        out = compiled(**tensors)
        found = with_gradients(out if op.startswith("add") else (out,), tensors, cotangents)
        assert all(torch.equal(value, eager[name]) for name, value in found.items())


def test_autocast_on_a_cpu_leaves_the_dtype_alone_as_torchs_own_operators_do():
    x = torch.randn(4, 32, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        for kind in KINDS:
            for dtype in (torch.bfloat16, torch.float32):
                theirs = getattr(F, kind)(x.to(dtype), (32,))
                assert functional._y_dtype(x.to(dtype)) == theirs.dtype == dtype
                if DEVICE == "cpu":
                    assert getattr(fused, kind)(x.to(dtype)).dtype == theirs.dtype


def test_y_in_fp32_from_bf16_as_under_cuda_autocast_is_the_norm_of_the_widened_x():
    for kind in KINDS:
        x = draw(kind, 9, 300, torch.bfloat16)[0]["x"].detach()
        y, *_ = ops.norm(x, None, None, None, kind, EPS[kind], 0.0, torch.float32, torch.bfloat16)
        assert torch.equal(y, getattr(fused, kind)(x.float()))


@gpu_only(reason="GPU only: CUDA autocast is switched off where there is no CUDA")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_autocast_on_a_gpu_gives_the_dtypes_of_torchs_own_operators(kind, dtype):
    tensors, _ = draw(kind, 9, 300, dtype)
    with torch.autocast("cuda", torch.float16):
        (y,), (truth,) = ours(kind, tensors), torchs(kind, tensors)
    assert y.dtype == truth.dtype
    assert torch.autograd.grad(y.sum(), tensors["x"])[0].dtype == dtype


@gpu_only(reason="GPU only: 2^31 elements; the 64-bit index arithmetic is shown in test_fused_compiled.py")
@pytest.mark.parametrize("op", OPS)
def test_rows_beyond_two_to_the_31_elements_are_right(op):
    n = 4096
    rows = 2**31 // n + 3
    x = torch.randn(rows, n, device=DEVICE, dtype=torch.bfloat16)
    x.requires_grad_()
    tensors = {"x": x, "residual": torch.ones_like(x)} if op.startswith("add") else {"x": x}
    y, *_ = ours(op, tensors)
    dy = torch.randn_like(x[-3:])
    (dx,) = torch.autograd.grad(y[-3:], x, dy)
    last = {name: t.detach()[-3:].requires_grad_() for name, t in tensors.items()}
    expected, *_ = ours(op, last)
    assert torch.equal(y[-3:], expected)
    assert torch.equal(dx[-3:], torch.autograd.grad(expected, last["x"], dy)[0]) and not dx[:-3].any()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="GPU only: needs two of them")
@pytest.mark.parametrize("op", OPS)
def test_tensors_on_another_gpu_than_the_current_one_are_right(op):
    tensors, cotangents = draw(op, 37, 1000)
    first = with_gradients(ours(op, tensors), tensors, cotangents)
    moved = {name: t.detach().to("cuda:1").requires_grad_() for name, t in tensors.items()}
    second = with_gradients(ours(op, moved), moved, [c.to("cuda:1") for c in cotangents])
    assert torch.cuda.current_device() == 0
    assert all(torch.equal(value.to("cuda:0"), first[name]) for name, value in second.items())


# --- wrong input --------------------------------------------------------------------------------------------------------


@pytest.fixture
def nothing_is_launched(monkeypatch):
    def launched(*_):
        raise AssertionError("an operator was called with input that is wrong")

    monkeypatch.setattr(functional, "norm", launched)
    monkeypatch.setattr(functional.Norm, "apply", launched)


X = torch.zeros(2, 8)
WRONG = {
    "weight has shape (4,), but the last dimension of x is 8": dict(weight=torch.ones(4)),
    "weight has shape (1, 8), but": dict(weight=torch.ones(1, 8)),
    "weight has dtype torch.int64; expected a floating": dict(weight=torch.ones(8, dtype=torch.int64)),
    "weight is 8; expected a tensor": dict(weight=8),
    "weight is on meta, but x is on cpu": dict(weight=torch.ones(8, device="meta")),
    "x has dtype torch.int64; a norm needs a floating": dict(x=X.long()),
    "x has dtype torch.complex64; a norm needs a floating": dict(x=X.to(torch.complex64)),
    "x is a single number": dict(x=torch.tensor(1.0)),
    "x is [1.0]; expected a tensor": dict(x=[1.0]),
    "eps is 0.0; it must be > 0": dict(eps=0.0),
}
WRONG_SUM = {
    "residual has shape (8,), but x has shape (2, 8)": dict(residual=torch.zeros(8)),
    "residual is None; expected a tensor": dict(residual=None),
    "residual has dtype torch.int32; expected a floating": dict(residual=X.int()),
    "residual is on meta, but x is on cpu": dict(residual=X.to("meta")),
    "residual_dtype is torch.int32; expected a floating": dict(residual_dtype=torch.int32),
    "residual_dtype is 'fp32'; expected a floating": dict(residual_dtype="fp32"),
}


@pytest.mark.parametrize("message", [*WRONG, *WRONG_SUM])
@pytest.mark.parametrize("op", OPS)
def test_wrong_input_is_one_clear_error_before_anything_is_launched(op, message, nothing_is_launched):
    if message in WRONG_SUM and not op.startswith("add"):
        with pytest.raises(TypeError):  # a norm alone has no such argument
            getattr(fused, op)(X, **WRONG_SUM[message])
        return
    arguments = {"x": X} | ({"residual": X} if op.startswith("add") else {}) | {**WRONG, **WRONG_SUM}[message]
    with pytest.raises((TypeError, ValueError)) as raised:
        getattr(fused, op)(**arguments)
    assert message in str(raised.value)


@pytest.mark.parametrize("op", ["layer_norm", "add_layer_norm"])
def test_a_wrong_bias_is_named(op, nothing_is_launched):
    residual = [X] if op.startswith("add") else []
    with pytest.raises(ValueError, match=r"bias has shape \(4,\), but the last dimension of x is 8"):
        getattr(fused, op)(X, *residual, torch.ones(8), torch.ones(4))


def test_a_device_without_kernels_is_named():
    with pytest.raises(
        RuntimeError, match="the tensors are on mtia:0; fused kernels run on cuda, or interpreted on cpu"
    ):
        fused.interpreter.check_can_run(torch.device("mtia:0"))


# --- triton with and without a GPU --------------------------------------------------------------------------------------


def python(code, **environment):
    """Run code in a Python of its own, where triton is not imported yet and no GPU is seen."""
    environment = (
        {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"CUDA_VISIBLE_DEVICES": ""} | environment
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)


def test_without_cuda_importing_fused_sets_up_the_interpreter():
    run = python(
        "from normcourse import fused; import torch; print(fused.layer_norm(torch.tensor([[1.0, 3.0]])).round().tolist())"
    )
    assert run.stdout.strip() == "[[-1.0, 1.0]]", run.stderr


def test_the_environment_is_as_before_and_kernels_go_on_being_interpreted():
    run = python(
        "import os; before = dict(os.environ)\n"
        "from normcourse import fused; import torch\n"
        "assert dict(os.environ) == before\n"
        "x = torch.tensor([[1.0, 3.0]], requires_grad=True)\n"
        "def launch(): fused.layer_norm(x).sum().backward(); fused.rms_norm(x).sum().backward()\n"
        "launch(); print('done')"
    )
    assert run.stdout.strip() == "done", run.stderr


@pytest.mark.skipif(not fused.interpreter.INTERPRETED.value, reason="kernels are compiled")
def test_interpreted_kernels_are_right_in_threads_beside_each_other_and_beside_the_learners_own():
    triton, tl = fused.interpreter.triton, fused.interpreter.tl

    @triton.jit
    def count(Y, START: tl.constexpr):
        tl.store(Y + tl.program_id(0), START + tl.program_id(0))

    x = torch.randn(300, 96, requires_grad=True)
    (right,) = torch.autograd.grad(F.layer_norm(x, (96,)).square().sum(), x)
    start, failed = threading.Barrier(3), []

    def course():
        (found,) = torch.autograd.grad(fused.layer_norm(x).square().sum(), x)
        return torch.allclose(found, right, atol=1e-3)

    def own():
        y = torch.zeros(50, dtype=torch.int32)
        count[(50,)](y, START=3)
        return y.tolist() == [*range(3, 53)]

    def work(kernel):
        try:
            start.wait()
            assert all(kernel() for _ in range(10))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=[kernel]) for kernel in (course, course, own)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@pytest.mark.skipif(not fused.interpreter.INTERPRETED.value, reason="kernels are compiled")
def test_a_launch_does_not_mind_a_name_that_a_cell_adds_to_the_globals_of_its_kernel():
    """Triton looks through them, and dictionaries do not like that."""

    class Globals(dict):
        looked = 0

        def items(self):
            self.looked += 1
            for name, value in super().items():
                if self.looked == 1:
                    self["new"] = 0
                yield name, value
                if self.looked == 1:
                    raise RuntimeError("dictionary changed size during iteration")

    class Kernel:
        __globals__ = Globals(tl=fused.interpreter.tl)

    fused.interpreter.interpreter._patch_lang(Kernel).restore()
    assert Kernel.__globals__.looked == 2 and "new" in Kernel.__globals__


def test_where_triton_was_imported_before_the_error_says_what_to_do():
    call = "import triton, torch; from normcourse import fused; print(fused.layer_norm(torch.ones(1, 2)).tolist())"
    run = python(call)
    assert "triton was imported before normcourse.fused" in run.stderr
    assert "restart Python and import normcourse.fused first" in run.stderr.replace("\n", " ")
    assert python(call, TRITON_INTERPRET="1").stdout.strip() == "[[0.0, 0.0]]"  # and doing it helps
    module = "import triton, torch; from normcourse import fused; print(fused.LayerNorm(2)(torch.ones(1, 2)).tolist())"
    assert python(module).stdout.strip() == "[[0.0, 0.0]]"  # a module falls back to torch's own operator


def test_where_triton_is_missing_the_error_says_what_to_do():
    run = python("import sys; sys.modules['triton'] = None; import normcourse.fused")
    assert "needs triton, which is not installed: pip install 'normcourse[fused]'" in run.stderr


# --- modules ------------------------------------------------------------------------------------------------------------

INTERPRETED = {
    "layer_norm": partial(fused.LayerNorm, interpret=True),
    "rms_norm": partial(fused.RMSNorm, interpret=True),
}


@pytest.mark.parametrize("options", [{}, {"eps": 0.1}, {"elementwise_affine": False}, {"bias": False}])
@pytest.mark.parametrize("kind", KINDS)
def test_a_module_has_the_state_and_the_numbers_of_norms(kind, options):
    if kind == "rms_norm" and "bias" in options:
        with pytest.raises(TypeError, match="bias"):
            INTERPRETED[kind](300, **options)
        return
    plain, fast = norms.NORMS[kind](300, **options), INTERPRETED[kind](300, **options)
    for name, parameter in plain.named_parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(len(name)))
    fast.load_state_dict(plain.state_dict())
    assert repr(fast) == repr(plain)
    x, dy = torch.randn(2, 4, 300, generator=torch.Generator().manual_seed(0)).unbind()
    for module, device in ((plain, "cpu"), (fast, DEVICE)):
        module.to(device)
        module.x = x.to(device).requires_grad_()
        module.y = module(module.x)
        module.y.backward(dy.to(device))
    torch.testing.assert_close(fast.y.cpu(), plain.y, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(fast.x.grad.cpu(), plain.x.grad, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(fast.parameters(), plain.parameters()):
        torch.testing.assert_close(ours.grad.cpu(), theirs.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_cpu_a_module_takes_torchs_own_operator_unless_asked(kind, monkeypatch):
    x, residual = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(0)).unbind()
    module = {"layer_norm": fused.LayerNorm, "rms_norm": fused.RMSNorm}[kind](32)
    asked = INTERPRETED[kind](32)
    monkeypatch.setattr(functional.Norm, "apply", lambda *_: pytest.fail("a kernel was asked for"))
    truth = norms.NORMS[kind](32)(x + residual)
    torch.testing.assert_close(module(x + residual), truth)
    y, total = module.add(x, residual)
    assert torch.equal(total, x + residual)
    torch.testing.assert_close(y, truth)
    for call in (asked, partial(asked.add, residual=residual)):
        with pytest.raises(pytest.fail.Exception):
            call(x)


@pytest.mark.parametrize("kind", KINDS)
def test_a_module_names_a_width_that_does_not_fit(kind):
    for module in (INTERPRETED[kind](32), type(INTERPRETED[kind](32))(32)):
        for call in (module, partial(module.add, residual=torch.ones(2, 16))):
            with pytest.raises(ValueError, match="was made for a last dimension of 32"):
                call(torch.ones(2, 16))


def stacks(kind, placement="pre_norm"):
    """A deep MLP, a Transformer with dropout and a character model, with the norm `kind` as given, and their inputs."""
    generator = torch.Generator().manual_seed(0)
    for model in (
        models.deep_mlp(5, 48, placement, kind, seed=3),
        models.Transformer(vocabulary=11, width=32, heads=2, depth=2, placement=placement, norm=kind, dropout=0.1),
        models.CharacterMLP(11, 3, placement, norm=kind, width=32, context=4),
    ):
        yield model.to(DEVICE), model.random_inputs(3, generator).to(DEVICE)


def value_and_gradients(run, model, inputs):
    torch.manual_seed(5)  # the same dropout
    model.zero_grad()
    y = run(inputs)
    y.square().sum().backward()
    return [y.detach(), *(p.grad.clone() for p in model.parameters())]


@pytest.mark.parametrize("kind", KINDS)
def test_the_stack_fused_across_blocks_has_the_bits_of_the_plain_stack(kind):
    for model, inputs in stacks(INTERPRETED[kind]):
        fast = fused.PreNormStack(model)
        assert [p for p in fast.parameters()] == [p for p in model.parameters()]
        plain = value_and_gradients(model, model, inputs)
        for ours, theirs in zip(value_and_gradients(fast, model, inputs), plain):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        torch.manual_seed(5)
        y = fast(inputs)
        assert torch.equal(y.detach(), plain[0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_stack_fused_across_blocks_has_the_numbers_of_the_stack_in_plain_torch(kind):
    for (model, inputs), (plain, _) in zip(stacks(INTERPRETED[kind]), stacks(kind)):
        fast = value_and_gradients(fused.PreNormStack(model), model, inputs)
        for ours, theirs in zip(fast, value_and_gradients(plain, plain, inputs)):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("placement", "norm"), [("post_norm", fused.LayerNorm), ("pre_norm", "rms_norm")])
def test_the_stack_fused_across_blocks_takes_pre_norm_and_fused_norms_only(placement, norm):
    with pytest.raises(TypeError, match="expected placement='pre_norm' and norm=fused"):
        fused.PreNormStack(models.deep_mlp(2, 8, placement, norm))
