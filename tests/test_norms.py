"""The norms against fp64, torch's own operators and finite differences."""

import functools
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.testing._internal.common_methods_invocations import op_db

from normcourse.norms import (
    NORMS,
    BatchNorm,
    DyT,
    LayerNorm,
    RMSNorm,
    batch_norm,
    dynamic_tanh,
    dynamic_tanh_backward,
    layer_norm,
    layer_norm_backward,
    rms_norm,
    rms_norm_backward,
)

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def samples(name, dtype, requires_grad=False):
    (operator,) = {o.name: o for o in op_db if o.name == name}.values()
    return list(operator.sample_inputs("cpu", dtype, requires_grad=requires_grad))


def as_last_dimension(sample, keywords):
    """A sample of torch's layer_norm or rms_norm with its normalised dimensions flattened into one."""
    shape, *rest = sample.args
    given = {**dict(zip(keywords, rest)), **sample.kwargs}
    x = sample.input.flatten(-len(shape))
    parameters = {k: v.flatten() for k, v in given.items() if k != "eps" and v is not None}
    return x, parameters, given.get("eps")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_norms_agree_with_torch_on_torchs_own_samples(name, dtype):
    ours, theirs = {"layer_norm": layer_norm, "rms_norm": rms_norm}[name], getattr(torch.nn.functional, name)
    keywords = ("weight", "bias", "eps") if name == "layer_norm" else ("weight", "eps")
    compared = 0
    for sample in samples(f"nn.functional.{name}", dtype):
        x, parameters, eps = as_last_dimension(sample, keywords)
        if eps is None:  # torch's defaults
            eps = 1e-5 if name == "layer_norm" else torch.finfo(torch.promote_types(dtype, torch.float32)).eps
        if eps <= 0:  # torch has one sample with a negative eps; here it is an error
            with pytest.raises(ValueError, match="eps"):
                ours(x, **parameters, eps=eps)
            continue
        expected = theirs(sample.input, *sample.args, **sample.kwargs)
        y = ours(x, **parameters, eps=eps)
        torch.testing.assert_close(y, expected.view(y.shape))
        compared += 1
    assert compared >= 5


def reference(name, x, weight, bias, eps):
    """The definition in fp64, by torch's own operator."""
    x, weight, bias = (None if t is None else t.double() for t in (x, weight, bias))
    if name == "layer_norm":
        return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias, eps)
    return torch.nn.functional.rms_norm(x, x.shape[-1:], weight, eps)


shapes = st.lists(st.integers(1, 5), min_size=0, max_size=3).flatmap(
    lambda lead: st.integers(1, 300).map(lambda width: (*lead, width))
)


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(["layer_norm", "rms_norm"]),
    shape=shapes,
    dtype=st.sampled_from(DTYPES),
    affine=st.booleans(),
    scale=st.sampled_from([1e-3, 1.0, 50.0]),
    mean=st.sampled_from([0.0, 3.0]),
    eps=st.sampled_from([1e-6, 1e-5, 0.1]),
    seed=st.integers(0, 10_000),
)
def test_norms_agree_with_fp64_for_any_shape_and_dtype(name, shape, dtype, affine, scale, mean, eps, seed):
    generator = torch.Generator().manual_seed(seed)
    x = ((torch.randn(shape, generator=generator) + mean) * scale).to(dtype)
    weight = torch.randn(shape[-1], generator=generator).to(dtype) if affine else None
    bias = torch.randn(shape[-1], generator=generator).to(dtype) if affine and name == "layer_norm" else None
    expected = reference(name, x, weight, bias, eps)
    y = layer_norm(x, weight, bias, eps) if name == "layer_norm" else rms_norm(x, weight, eps)
    assert y.dtype == dtype and y.shape == x.shape
    # Half precision is rounded once, at the end. In fp32 the mean is off by about 1e-7 of the largest |x|, which the
    # division by sqrt(var + eps) enlarges; fp64 has nine more digits.
    spread = (x.double().var(-1, unbiased=False, keepdim=True) + eps).sqrt()
    amplified = float((x.double().abs().amax(-1, keepdim=True) / spread).max()) if x.numel() else 1.0
    unit = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 1e-6, torch.float16: 1e-6}[dtype]
    rounding = 0.0 if dtype in (torch.float64, torch.float32) else torch.finfo(dtype).eps
    size = 1.0 if weight is None else float(weight.abs().max())
    torch.testing.assert_close(
        y.double(), expected, rtol=unit * 4 + rounding, atol=unit * (1 + amplified) * (1 + size) + rounding * 1e-3
    )


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 11), (4, 1), (2, 0, 5)])
@pytest.mark.parametrize("affine", [True, False])
def test_backward_by_hand_equals_autograd(shape, affine):
    generator = torch.Generator().manual_seed(1)

    def draw(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64, requires_grad=True)

    x, dy = draw(*shape), draw(*shape).detach()
    weight, bias = draw(shape[-1]), draw(shape[-1])
    for eps in (1e-5, 0.1):
        y = layer_norm(x, weight if affine else None, bias, eps)
        expected = torch.autograd.grad(y, [x, bias, *([weight] if affine else [])], dy)
        dx, dweight, dbias = layer_norm_backward(dy, x.detach(), weight.detach() if affine else None, eps)
        for found, wanted in zip((dx, dbias, dweight), expected):
            torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
        y = rms_norm(x, weight if affine else None, eps)
        expected = torch.autograd.grad(y, [x, *([weight] if affine else [])], dy)
        for found, wanted in zip(rms_norm_backward(dy, x.detach(), weight.detach() if affine else None, eps), expected):
            torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_backward_by_hand_is_as_exact_as_torchs_own_in_low_precision(dtype):
    generator = torch.Generator().manual_seed(2)
    x, dy = (torch.randn(64, 96, generator=generator) + 1 for _ in range(2))
    weight = torch.randn(96, generator=generator)
    x, dy, weight = x.to(dtype), dy.to(dtype), weight.to(dtype)
    exact = layer_norm_backward(dy.double(), x.double(), weight.double())
    mine = layer_norm_backward(dy, x, weight)
    xt, wt, bt = x.clone().requires_grad_(), weight.clone().requires_grad_(), torch.zeros_like(weight).requires_grad_()
    torchs = torch.autograd.grad(torch.nn.functional.layer_norm(xt, (96,), wt, bt), (xt, wt, bt), dy)
    for name, ours, theirs, truth in zip(("dx", "dweight", "dbias"), mine, torchs, exact):
        assert ours.dtype == dtype
        error, yardstick = ((t.double() - truth).abs().max() for t in (ours, theirs))
        assert error <= 2 * yardstick + 1e-6, f"{name}: off by {error}, torch's own by {yardstick}"


@pytest.mark.parametrize("function", [layer_norm, rms_norm, batch_norm, dynamic_tanh])
def test_first_and_second_derivatives_are_right(function):
    generator = torch.Generator().manual_seed(3)
    x, weight = (torch.randn(*s, generator=generator, dtype=torch.float64, requires_grad=True) for s in ((4, 5), (5,)))
    settings = {} if function is dynamic_tanh else {"eps": 0.1}
    assert gradcheck(lambda x, w: function(x, weight=w, **settings), (x, weight))
    assert gradgradcheck(lambda x, w: function(x, weight=w, **settings), (x, weight))


def test_second_derivatives_equal_those_of_torchs_own_layer_norm():
    generator = torch.Generator().manual_seed(4)
    x, v = (torch.randn(3, 6, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    ours, theirs = (
        torch.autograd.grad((torch.autograd.grad(f(x).pow(3).sum(), x, create_graph=True)[0] * v).sum(), x)[0]
        for f in (layer_norm, lambda x: torch.nn.functional.layer_norm(x, (6,)))
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_norm_agrees_with_torch_in_training(dtype):
    generator = torch.Generator().manual_seed(5)
    x = (torch.randn(6, 4, 8, generator=generator) * 2 + 1).to(dtype)
    weight, bias = (torch.randn(8, generator=generator).to(dtype) for _ in range(2))
    expected = torch.nn.functional.batch_norm(
        x.flatten(0, 1).double(), None, None, weight.double(), bias.double(), True
    )
    tolerance = 1e-12 if dtype == torch.float64 else 4e-6 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(
        batch_norm(x, weight, bias).double().flatten(0, 1), expected, rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 11), (2, 0, 5)])
@pytest.mark.parametrize("affine", [True, False])
def test_dynamic_tanh_agrees_with_its_definition_in_fp64(shape, dtype, affine):
    """The value in fp64 by exponentials; half precision is rounded once, at the end."""
    generator = torch.Generator().manual_seed(6)
    x = (3 * torch.randn(shape, generator=generator)).to(dtype)
    weight, bias = ((torch.randn(shape[-1], generator=generator)).to(dtype) if affine else None for _ in range(2))
    y = dynamic_tanh(x, 0.7, weight, bias)
    grown = torch.exp(1.4 * x.double())
    expected = (grown - 1) / (grown + 1)
    if affine:
        expected = expected * weight.double() + bias.double()
    assert y.shape == x.shape and y.dtype == dtype
    rounding = 0.0 if dtype in (torch.float64, torch.float32) else torch.finfo(dtype).eps
    unit = 1e-13 if dtype == torch.float64 else 2e-6
    torch.testing.assert_close(y.double(), expected, rtol=unit + rounding, atol=unit)


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 11), (4, 1)])
@pytest.mark.parametrize("affine", [True, False])
def test_backward_of_dynamic_tanh_by_hand_equals_autograd(shape, affine):
    generator = torch.Generator().manual_seed(7)
    draw = functools.partial(torch.randn, generator=generator, dtype=torch.float64, requires_grad=True)
    x, dy, alpha, bias = draw(*shape), draw(*shape).detach(), draw(1), draw(shape[-1])
    weight = draw(shape[-1]) if affine else None
    parameters = [alpha, *([weight] if affine else []), bias]
    expected = torch.autograd.grad(dynamic_tanh(x, alpha, weight, bias), [x, *parameters], dy)
    found = dynamic_tanh_backward(dy, x.detach(), alpha.detach(), weight.detach() if affine else None)
    found = [gradient for name, gradient in zip(("x", "alpha", "weight", "bias"), found) if affine or name != "weight"]
    for mine, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-10, atol=1e-10)
    assert dynamic_tanh_backward(dy, x.detach(), 0.5)[1].shape == ()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_backward_of_dynamic_tanh_in_half_precision_is_rounded_once(dtype):
    generator = torch.Generator().manual_seed(8)
    x, dy, weight = (torch.randn(*s, generator=generator).to(dtype) for s in ((64, 96), (64, 96), (96,)))
    alpha = torch.full((1,), 0.5, dtype=dtype)
    exact = dynamic_tanh_backward(dy.double(), x.double(), alpha.double(), weight.double())
    for mine, truth in zip(dynamic_tanh_backward(dy, x, alpha, weight), exact):
        assert mine.dtype == dtype
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(mine.double(), truth, rtol=eps, atol=1e-4)


def test_dynamic_tanh_is_a_module_with_the_parameters_of_its_paper():
    module = DyT(6)
    assert {name: tuple(p.shape) for name, p in module.named_parameters()} == {
        "alpha": (1,),
        "weight": (6,),
        "bias": (6,),
    }
    assert module.alpha.item() == 0.5 and set(module.weight.tolist()) == {1.0} and set(module.bias.tolist()) == {0.0}
    x = torch.randn(3, 6)
    torch.testing.assert_close(module(x), torch.tanh(x / 2))
    assert [name for name, _ in DyT(6, alpha=0.8, elementwise_affine=False).named_parameters()] == ["alpha"]
    with pytest.raises(ValueError, match=r"alpha has shape \(2,\); expected a number or a tensor with one element"):
        dynamic_tanh(x, torch.ones(2))


@pytest.mark.parametrize("name", NORMS)
def test_every_norm_is_a_module_that_keeps_shape_and_dtype_and_has_a_finite_gradient(name):
    module = NORMS[name](8).double()
    x = torch.randn(5, 3, 8, generator=torch.Generator().manual_seed(9), dtype=torch.float64, requires_grad=True)
    y = module(x)
    (y * torch.randn(5, 3, 8, generator=torch.Generator().manual_seed(10))).sum().backward()
    assert y.shape == x.shape and y.dtype == x.dtype and torch.isfinite(x.grad).all() and x.grad.abs().max() > 0
    assert all(torch.isfinite(parameter.grad).all() for parameter in module.parameters())
    again = NORMS[name](8).double()
    again.load_state_dict(module.state_dict())
    assert torch.equal(again.eval()(x), module.eval()(x))


def test_modules_exchange_state_dicts_with_torch_and_agree():
    x = torch.randn(5, 16)
    pairs = [
        (LayerNorm(16), torch.nn.LayerNorm(16)),
        (LayerNorm(16, bias=False), torch.nn.LayerNorm(16, bias=False)),
        (LayerNorm(16, elementwise_affine=False), torch.nn.LayerNorm(16, elementwise_affine=False)),
        (RMSNorm(16), torch.nn.RMSNorm(16, eps=1e-6)),
        (RMSNorm(16, elementwise_affine=False), torch.nn.RMSNorm(16, eps=1e-6, elementwise_affine=False)),
        (BatchNorm(16), torch.nn.BatchNorm1d(16)),
    ]
    for ours, theirs in pairs:
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter.normal_()
        ours.load_state_dict(theirs.state_dict())
        theirs.load_state_dict(ours.state_dict())
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict())  # running statistics included
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-5, atol=1e-5)


def test_a_constant_row_gives_the_bias_and_a_finite_gradient():
    x = torch.full((2, 8), 3.0, requires_grad=True)
    y = layer_norm(x, bias=torch.arange(8.0))
    y.sum().backward()
    assert torch.equal(y[0], torch.arange(8.0)) and torch.isfinite(x.grad).all()


def test_a_large_mean_does_not_cancel_the_variance():
    x = torch.randn(4, 1024, generator=torch.Generator().manual_seed(0)) + 1e4
    torch.testing.assert_close(layer_norm(x).double(), reference("layer_norm", x, None, None, 1e-5), rtol=0, atol=2e-3)


def test_half_precision_that_overflows_when_squared_is_normalised():
    x = torch.tensor([[6e4, -6e4, 3e4, 0.0]], dtype=torch.float16)
    torch.testing.assert_close(rms_norm(x).double(), reference("rms_norm", x, None, None, 1e-6), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("function", "backward"), [(layer_norm, layer_norm_backward), (rms_norm, rms_norm_backward)])
def test_bad_input_is_refused_with_what_was_given_and_expected(function, backward):
    x = torch.randn(2, 8)
    with pytest.raises(TypeError, match=r"int64.*floating.*x\.float"):
        function(torch.ones(2, 8, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"weight has shape \(4,\), but the last dimension of x is 8"):
        function(x, torch.ones(4))
    for eps in (0.0, -1e-5, float("nan")):
        with pytest.raises(ValueError, match="eps is .*must be > 0"):
            function(x, eps=eps)
    with pytest.raises(ValueError, match="single number"):
        function(torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"dy has shape \(2, 7\)"):
        backward(torch.randn(2, 7), x)


@pytest.mark.parametrize(
    ("name", "size"), [*itertools.product([name for name in NORMS if name != "none"], [0, -3, 2.5, (4, 4)])]
)
def test_a_module_refuses_an_impossible_size(name, size):
    with pytest.raises(ValueError, match="hidden_size"):
        NORMS[name](size)


def test_a_module_refuses_input_of_another_width():
    with pytest.raises(ValueError, match=r"\(3, 5\).*4"):
        RMSNorm(4)(torch.randn(3, 5))


@pytest.mark.parametrize("backward", [layer_norm_backward, rms_norm_backward])
def test_backward_in_half_precision_does_not_overflow_between_its_steps(backward):
    x = torch.randn(2, 16, generator=torch.Generator().manual_seed(0)).half()
    dy, weight = torch.full((2, 16), 4e4).half(), torch.full((16,), 2.0).half()
    dy[:, ::2] *= -1
    dx = backward(dy / 64, x, weight)[0]
    large = backward(dy, x * 64, weight)[0]  # the same gradient: dy 64 times larger, x 64 times larger
    assert torch.isfinite(large).all()
    torch.testing.assert_close(large, dx, rtol=4e-3, atol=4.0)


def test_torchs_own_calling_habits_are_answered_with_a_hint():
    with pytest.raises(TypeError, match="weight is 8; expected a tensor"):
        layer_norm(torch.randn(2, 8), 8)
    with pytest.raises(TypeError, match="floating dtype"):
        BatchNorm(4).eval()(torch.ones(2, 4, dtype=torch.int64))


def assert_same_statistics(ours, theirs):
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("momentum", [0.1, 0.0, 1.0, None])
def test_running_statistics_are_torchs_for_any_momentum_and_an_empty_batch(momentum):
    ours, theirs = BatchNorm(3, momentum=momentum), torch.nn.BatchNorm1d(3, momentum=momentum)
    generator = torch.Generator().manual_seed(0)
    for rows in (8, 4, 0, 16):
        x = 5 + 3 * torch.randn(rows, 3, generator=generator)
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
        assert_same_statistics(ours, theirs)
    x = torch.randn(2, 3, generator=generator)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    ours.reset_running_stats()
    theirs.reset_running_stats()
    assert_same_statistics(ours, theirs)


def test_an_empty_batch_has_gradients_of_zero():
    module = BatchNorm(3)
    module(torch.empty(0, 3)).sum().backward()
    assert not module.weight.grad.any() and not module.bias.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_statistics_in_half_precision_are_computed_in_fp32_and_rounded_once(dtype):
    module, x = BatchNorm(4, eps=1e-8).to(dtype), (300 * torch.randn(64, 4)).to(dtype)
    module(x)  # a variance of 90000 does not fit fp16; a tenth of it does
    exact = 0.9 + 0.1 * x.double().var(0)
    torch.testing.assert_close(module.running_var.double(), exact, rtol=torch.finfo(dtype).eps, atol=0)
    theirs = torch.nn.BatchNorm1d(4, eps=1e-8).to(dtype).eval()
    module.running_var[0] = 0  # 1e-8 is 0 in fp16
    theirs.load_state_dict(module.state_dict())
    torch.testing.assert_close(module.eval()(x[:3]), theirs(x[:3]), rtol=2 * torch.finfo(dtype).eps, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("function", [layer_norm, rms_norm, batch_norm, dynamic_tanh])
def test_fp8_is_refused_with_what_is_taken(function, dtype):
    with pytest.raises(TypeError, match=rf"{dtype}; a norm needs a floating dtype of 16, 32 or 64 bits: .*x\.float"):
        function(torch.ones(2, 8).to(dtype))


@pytest.mark.parametrize("name", [name for name in NORMS if name != "none"])
def test_a_module_starts_on_meta_and_is_filled_by_reset_parameters(name):
    first, later = NORMS[name](5), NORMS[name](5, device="meta", dtype=torch.float64)
    assert all(t.is_meta for t in later.state_dict().values()) and later.weight.dtype == torch.float64
    later.to_empty(device="cpu").reset_parameters()
    torch.testing.assert_close(dict(later.float().state_dict()), dict(first.state_dict()), rtol=0, atol=0)
