"""The fused norms as citizens of torch: its transforms, its tensors without numbers, its tracers, its own samples.

The truth is `norms` in plain torch, which autograd and torch.func know by themselves.
"""

import copy
import decimal
import fractions
import threading
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from normcourse import fused, norms

from .test_norms import as_last_dimension, samples

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
KINDS = ["layer_norm", "rms_norm"]
OPS = ["layer_norm", "rms_norm", "add_layer_norm", "add_rms_norm"]
pytestmark = [
    pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning:triton"),
    pytest.mark.gpu,
]


def draw(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(sum(map(len, shapes)))
    return [torch.randn(*shape, generator=generator, dtype=dtype).to(DEVICE) for shape in shapes]


def functions(op):
    """op as one function of (x, weight), fused and in plain torch; both outputs of an addition have a part in it."""
    kind = op.removeprefix("add_")
    fast, plain = getattr(fused, op), getattr(norms, kind)
    (residual,) = draw((1, 1, 6))
    offset = {"offset": 1.0} if kind == "rms_norm" else {}

    def ours(x, weight):
        if op == kind:
            return fast(x, weight, eps=0.1, **offset)
        y, total = fast(x, residual.expand(1, 1, 6).reshape(6).expand_as(x), weight, eps=0.1, **offset)
        return y + 2 * total

    def theirs(x, weight):
        total = x if op == kind else x + residual.reshape(6)
        y = plain(total, weight + offset.get("offset", 0.0), eps=0.1)
        return y if op == kind else y + 2 * total

    return ours, theirs


def cubed(f):
    return lambda *inputs: f(*inputs).pow(3).sum()


X, W, XS, WS = draw((5, 6), (6,), (4, 5, 6), (4, 6))
TRANSFORMS = {
    "grad": lambda f: grad(cubed(f), (0, 1))(X, W),
    "vmap": lambda f: vmap(f, (0, None))(XS, W),
    "vmap over another dimension": lambda f: vmap(f, (1, None), out_dims=1)(XS, W),
    "vmap over weights": lambda f: vmap(f, (None, 0))(X, WS),
    "vmap over both, twice": lambda f: vmap(vmap(f, (0, None)), (0, 0))(XS, WS),
    "gradients sample by sample": lambda f: vmap(grad(cubed(f), (0, 1)), (0, None))(XS, W),
    "gradients weight by weight": lambda f: vmap(grad(cubed(f), (0, 1)), (None, 0))(X, WS),
    "jvp": lambda f: jvp(f, (X, W), (XS[0], WS[0])),
    "jacrev": lambda f: jacrev(f, (0, 1))(X[0], W),
    "jacfwd": lambda f: jacfwd(f, (0, 1))(X[0], W),
    "forward over reverse": lambda f: hessian(cubed(f), (0, 1))(X[0], W),
    "reverse over reverse": lambda f: jacrev(jacrev(cubed(f), (0, 1)), (0, 1))(X[0], W),
    "reverse over forward": lambda f: jacrev(jacfwd(cubed(f), (0, 1)), (0, 1))(X[0], W),
    "forward over forward": lambda f: jacfwd(jacfwd(cubed(f), (0, 1)), (0, 1))(X[0], W),
    "hessian of each sample": lambda f: vmap(hessian(cubed(f)), (0, None))(X, W),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("op", OPS)
def test_transforms_of_torch_func_give_what_they_give_of_plain_torch(op, transform):
    ours, theirs = functions(op)
    torch.testing.assert_close(TRANSFORMS[transform](ours), TRANSFORMS[transform](theirs), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("strategy", ["reverse-mode", "forward-mode"])
@pytest.mark.parametrize("op", OPS)
def test_the_vectorised_jacobian_of_torch_autograd_is_right(op, strategy):
    ours, theirs = functions(op)
    found = torch.autograd.functional.jacobian(ours, (X[0], W), vectorize=True, strategy=strategy)
    torch.testing.assert_close(found, torch.autograd.functional.jacobian(theirs, (X[0], W)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("op", OPS)
def test_dual_tensors_carry_their_tangents_through(op):
    def along(f):
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(f(forward_ad.make_dual(X, XS[0]), forward_ad.make_dual(W, WS[0]))).tangent

    ours, theirs = functions(op)
    torch.testing.assert_close(along(ours), along(theirs), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_rounded_once_under_transforms_too(kind, dtype):
    x, weights, x_, w_ = (t.to(dtype) for t in draw((3, 40), (3, 40), (3, 40), (3, 40)))
    fast, plain = getattr(fused, kind), getattr(norms, kind)
    y, y_ = vmap(lambda *given: jvp(fast, given[:2], given[2:]))(x, weights, x_, w_)
    exact = vmap(lambda *given: jvp(plain, given[:2], given[2:]))(*(t.double() for t in (x, weights, x_, w_)))
    for found, truth in zip((y, y_), exact):
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), truth, rtol=torch.finfo(dtype).eps, atol=1e-5)


def named(norm, names, eps):
    """norm as a function of tensors alone."""
    return lambda x, *tensors: norm(x, **dict(zip(names, tensors)), eps=eps)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_torchs_own_samples_agree_alone_with_gradients_and_through_vmap(kind, dtype):
    ours, theirs = getattr(fused, kind), getattr(F, kind)
    keywords = ("weight", "bias", "eps") if kind == "layer_norm" else ("weight", "eps")
    compared = 0
    for sample in samples(f"nn.functional.{kind}", dtype):
        x, parameters, eps = as_last_dimension(sample, keywords)
        if eps is None:
            eps = 1e-5 if kind == "layer_norm" else torch.finfo(torch.promote_types(dtype, torch.float32)).eps
        if eps <= 0:  # one of torch's samples
            with pytest.raises(ValueError, match="eps"):
                ours(x, **parameters, eps=eps)
            continue
        names, inputs = [*parameters], [t.detach().to(DEVICE).requires_grad_() for t in (x, *parameters.values())]

        fast, plain = named(ours, names, eps), named(partial(theirs, normalized_shape=x.shape[-1:]), names, eps)
        torch.testing.assert_close(fast(*inputs), plain(*inputs))
        dy = torch.randn_like(inputs[0])
        # torch's own gradients in half precision are rounded more than once: the truth is that of fp64
        exact = [t.detach().double().requires_grad_() for t in inputs]
        truth = torch.autograd.grad(plain(*exact), exact, dy.double())
        for found, right in zip(torch.autograd.grad(fast(*inputs), inputs, dy), truth):
            torch.testing.assert_close(found, right.to(dtype))
        batch = torch.stack([inputs[0].detach(), 2 * inputs[0].detach(), dy])
        rest = [t.detach() for t in inputs[1:]]
        many = vmap(fast, (0, *[None] * len(rest)))(batch, *rest)
        torch.testing.assert_close(many, torch.stack([plain(one, *rest) for one in batch]))
        compared += 1
    assert compared >= 5


# --- tensors without numbers, and tracers -------------------------------------------------------------------------------


@pytest.mark.parametrize("op", OPS)
def test_meta_and_fake_tensors_have_shapes_and_dtypes_and_so_have_their_gradients(op):
    def run(device):
        x = torch.ones(3, 4, 6, dtype=torch.bfloat16, device=device, requires_grad=True)
        w = torch.ones(6, device=device, requires_grad=True)
        out = getattr(fused, op)(*([x, x] if op.startswith("add") else [x]), w)
        out = out if isinstance(out, tuple) else (out,)
        sum(o.sum() for o in out).backward()
        return [(t.shape, t.dtype, t.device.type) for t in (*out, x.grad, w.grad)]

    truth = [(shape, dtype) for shape, dtype, _ in run(DEVICE)]
    assert run("meta") == [(*one, "meta") for one in truth]
    with FakeTensorMode():
        assert run(DEVICE) == [(*one, DEVICE) for one in truth]


@pytest.mark.parametrize("kind", KINDS)
def test_a_module_starts_on_meta_and_is_filled_later_as_torchs_own(kind):
    make = {"layer_norm": fused.LayerNorm, "rms_norm": fused.RMSNorm}[kind]
    with torch.device("meta"):
        module = make(6, interpret=True)
    assert module.weight.is_meta and module(torch.ones(2, 6, device="meta")).shape == (2, 6)
    assert make(6, device="meta", dtype=torch.float16).weight.dtype == torch.float16
    module.to_empty(device=DEVICE).reset_parameters()
    x = draw((2, 6), dtype=torch.float32)[0]
    torch.testing.assert_close(module(x), getattr(norms, kind)(x))


@pytest.mark.parametrize("kind", KINDS)
def test_a_module_is_exported_for_any_number_of_rows(kind):
    module = {"layer_norm": fused.LayerNorm, "rms_norm": fused.RMSNorm}[kind](6, interpret=True).to(DEVICE)
    x = X.float()
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("rows")},))
    assert "normcourse.norm" in program.graph_module.code
    for rows in (x, x[:3], torch.cat([x, x, x])):
        torch.testing.assert_close(program.module()(rows), module(rows), rtol=0, atol=0)


def test_tracers_see_the_operator():
    assert "normcourse.norm" in make_fx(lambda x: fused.layer_norm(x))(X).code
    assert "normcourse.norm" in make_fx(lambda x: torch.func.vjp(fused.rms_norm, x)[1](x))(X).code


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripting_takes_torchs_own_module_with_the_same_weights():
    for ours, theirs in ((fused.LayerNorm(6), torch.nn.LayerNorm), (fused.RMSNorm(6), torch.nn.RMSNorm)):
        model = torch.nn.Sequential(torch.nn.Linear(6, 6), ours)
        scripted = torch.jit.script(copy.deepcopy(model))
        assert getattr(scripted[1], "original_name", type(scripted[1]).__name__) == theirs.__name__
        x = X.float().cpu()
        torch.testing.assert_close(scripted(x), model(x))


@pytest.mark.parametrize(
    "eps",
    [1, True, np.float32(0.5), np.float64(0.5), np.int64(1), torch.tensor(0.5), fractions.Fraction(1, 2), decimal.Decimal("0.5")],
    ids=lambda eps: f"{type(eps).__module__}.{type(eps).__name__}",
)  # fmt: skip
@pytest.mark.parametrize("kind", KINDS)
def test_eps_may_be_any_number(kind, eps):
    x = X.clone().requires_grad_()
    found, truth = getattr(fused, kind)(x, eps=eps), getattr(norms, kind)(x, eps=float(eps))
    torch.testing.assert_close(found, truth)
    torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), x)[0] for y in (found, truth)))


# --- threads ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("calls", [60, pytest.param(1000, marks=pytest.mark.long)])
def test_two_threads_have_the_right_gradients(calls):
    x = draw((30, 16), dtype=torch.float32)[0].requires_grad_()
    truths = {kind: torch.autograd.grad(getattr(norms, kind)(x).pow(3).sum(), x)[0] for kind in KINDS}
    wrong, done = [], []

    def work(kind):
        for _ in range(calls // 2):
            try:
                (found,) = torch.autograd.grad(getattr(fused, kind)(x).pow(3).sum(), x)
                torch.testing.assert_close(found, truths[kind], rtol=1e-4, atol=1e-4)
            except Exception as error:
                wrong.append(error)
            done.append(kind)

    threads = [threading.Thread(target=work, args=[kind]) for kind in KINDS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(done) == calls
