"""Every placement against its formula, written out here a second time."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from normcourse.models import CharacterMLP, Transformer, deep_mlp
from normcourse.norms import NORMS, LayerNorm, RMSNorm
from normcourse.residual import PLACEMENTS, HyperConnection, Placement

D = 12


def build(name, norm="layer_norm", depth=6, index=3, **kwargs):
    """A placement in fp64 with every parameter random, its branch, and an input."""
    generator = torch.Generator().manual_seed(0)
    f = nn.Sequential(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, D))
    block = PLACEMENTS[name](D, f, norm, depth=depth, index=index, **kwargs).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = torch.randn(2, 5, D, generator=generator, dtype=torch.float64, requires_grad=True)
    return block, f, x


def ln(module, x):
    return F.layer_norm(x, (D,), module.weight, module.bias, 1e-5)


FORMULAS = {
    "plain": lambda b, f, x: f(x),
    "residual": lambda b, f, x: x + f(x),
    "highway": lambda b, f, x: (t := torch.sigmoid(x @ b.gate_weight.T + b.gate_bias)) * f(x) + (1 - t) * x,
    "post_norm": lambda b, f, x: ln(b.norm, x + f(x)),
    "pre_norm": lambda b, f, x: x + f(ln(b.norm, x)),
    "res_post_norm": lambda b, f, x: x + ln(b.norm, f(x)),
    "peri_norm": lambda b, f, x: x + ln(b.norm_out, f(ln(b.norm, x))),
    # DeepNet, table 1: alpha = (2 N)^(1/4) for N layers of two branches; six branches are N = 3
    "deep_norm": lambda b, f, x: ln(b.norm, (2 * 3) ** 0.25 * x + f(x)),
    "rezero": lambda b, f, x: x + b.alpha * f(x),
    "layer_scale": lambda b, f, x: x + b.scale * f(ln(b.norm, x)),
    "scaled_pre_norm": lambda b, f, x: x + f(ln(b.norm, x) / math.sqrt(4)),  # index 3 is layer 4
}


@pytest.mark.parametrize("name", FORMULAS)
def test_forward_equals_its_formula(name):
    block, f, x = build(name)
    torch.testing.assert_close(block(x), FORMULAS[name](block, f, x), rtol=1e-12, atol=1e-12)


def test_every_placement_has_a_formula_here():
    assert set(PLACEMENTS) == {*FORMULAS, "hyper_connection"}


@pytest.mark.parametrize("dynamic", [True, False])
def test_hyper_connection_equals_its_formula(dynamic):
    """Zhu et al. 2024: Ĥ = B (f(norm(h₀)))ᵀ + Aᵣᵀ H with h₀ = Aₘᵀ H, entry by entry."""
    block, f, _x = build("hyper_connection", dynamic=dynamic, streams=3)
    H = torch.randn(4, 3, D, dtype=torch.float64)
    out = block(H)
    for row in range(4):
        alpha, beta = block.mix.T.clone(), block.write.clone()  # alpha: streams × (1 + streams), beta: streams
        if dynamic:
            normed = ln(block.dynamic_norm, H[row])
            alpha = alpha + block.mix_scale * torch.tanh(normed @ block.dynamic_mix)
            beta = beta + block.write_scale * torch.tanh(normed @ block.dynamic_write)
        h0 = sum(alpha[n, 0] * H[row, n] for n in range(3))
        y = f(ln(block.norm, h0))
        for m in range(3):
            expected = beta[m] * y + sum(alpha[n, m + 1] * H[row, n] for n in range(3))
            torch.testing.assert_close(out[row, m], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_hyper_connection_starts_as_pre_norm_in_every_stream(norm):
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    hyper = deep_mlp(7, 16, "hyper_connection", norm, seed=2)
    pre = deep_mlp(7, 16, "pre_norm", norm, seed=2)
    torch.testing.assert_close(hyper.stream(x)[-1], 4 * pre.stream(x)[-1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(hyper(x), pre(x), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLACEMENTS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("depth", [1, 200])
def test_every_placement_works_at_depth_1_and_200(name, norm, depth):
    gain = 2**0.5 if name == "plain" else 0.5  # 1 per layer for plain; without a norm the others stay finite
    model = deep_mlp(depth, 16, name, norm, gain=gain).double()
    x = torch.randn(8, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = model(x)
    (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    assert torch.isfinite(y).all() and torch.isfinite(x.grad).all() and x.grad.norm() > 0
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{parameter_name} is not part of the computation"
        assert torch.isfinite(parameter.grad).all()
    closed = {"rezero"}  # its branches are shut at the start: only the scalars that open them learn
    learning = [n for n, p in model.named_parameters() if p.grad.abs().max() > 0]
    assert any(("alpha" if name in closed else "weight") in n for n in learning)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", PLACEMENTS)
def test_gradients_reach_the_branch_after_one_step(name, norm):
    model = deep_mlp(4, 16, name, norm, gain=1.0)
    rate = 0.001 if norm == "none" else 0.1  # the sum of four streams that no norm divides again
    optimiser = torch.optim.SGD(model.parameters(), lr=rate)
    x = torch.randn(32, 16, generator=torch.Generator().manual_seed(0))
    target = torch.randn(32, 16, generator=torch.Generator().manual_seed(1))
    losses = []
    for _ in range(30):
        loss = (model(x) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert all(block.sublayer.weight.grad.norm() > 0 for block in model.blocks)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", PLACEMENTS)
@pytest.mark.parametrize("norm", [name for name in NORMS if name != "batch_norm"])  # it looks at all positions
def test_every_placement_makes_a_transformer_that_is_causal(name, norm):
    model = Transformer(vocabulary=11, width=16, heads=4, depth=2, placement=name, norm=norm, seed=0)
    ids = torch.randint(11, (2, 9), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 11
    before, after = model(ids), model(changed)
    assert before.shape == (2, 9, 11)
    torch.testing.assert_close(before[:, :6], after[:, :6], rtol=1e-5, atol=1e-5)
    assert (before[:, 6:] - after[:, 6:]).abs().max() > 1e-3


def test_the_transformer_equals_torchs_own_encoder_layers():
    """Post- and Pre-Norm with ReLU against nn.TransformerEncoderLayer holding the same weights."""
    for name, first in (("post_norm", False), ("pre_norm", True)):
        ours = Transformer(vocabulary=7, width=16, heads=2, depth=2, placement=name, activation="relu", seed=1).double()
        x = ours.embed(torch.randint(7, (3, 5)))
        expected = x
        for attention, feed_forward in zip(ours.blocks[::2], ours.blocks[1::2]):
            layer = nn.TransformerEncoderLayer(16, 2, 64, 0.0, batch_first=True, norm_first=first, bias=True).double()
            with torch.no_grad():
                for parameter in layer.parameters():
                    parameter.zero_()
                a, f = attention.sublayer, feed_forward.sublayer
                layer.self_attn.in_proj_weight.copy_(torch.cat([a.query.weight, a.key.weight, a.value.weight]))
                layer.self_attn.out_proj.weight.copy_(a.out.weight)
                layer.linear1.weight.copy_(f.up.weight)
                layer.linear2.weight.copy_(f.down.weight)
                layer.norm1.weight.fill_(1)
                layer.norm2.weight.fill_(1)
            mask = nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
            expected = layer(expected, src_mask=mask)
        torch.testing.assert_close(ours.stream(x)[-1], expected, rtol=1e-9, atol=1e-9)


def test_a_stack_ends_in_a_norm_exactly_where_the_stream_is_not_normalised():
    with_final = {n for n in PLACEMENTS if not isinstance(deep_mlp(2, 8, n, "layer_norm").final_norm, nn.Identity)}
    assert with_final == {
        "pre_norm",
        "res_post_norm",
        "peri_norm",
        "layer_scale",
        "scaled_pre_norm",
        "hyper_connection",
    }


def test_deep_norm_scales_the_value_path_by_the_papers_beta():
    plain, deep = (
        Transformer(vocabulary=9, width=32, heads=2, depth=6, placement=p, seed=3) for p in ("post_norm", "deep_norm")
    )
    beta = (8 * 6) ** -0.25
    for a, b in zip(plain.blocks, deep.blocks):
        for matrix in ("query", "key", "value", "out", "up", "down"):
            if hasattr(a.sublayer, matrix):
                scale = 1.0 if matrix in ("query", "key") else beta
                torch.testing.assert_close(
                    getattr(b.sublayer, matrix).weight, scale * getattr(a.sublayer, matrix).weight
                )


@pytest.mark.parametrize(("layers", "initial"), [(1, 0.1), (18, 0.1), (19, 1e-5), (24, 1e-5), (25, 1e-6)])
def test_layer_scale_starts_as_its_paper_says(layers, initial):
    model = Transformer(vocabulary=5, width=8, heads=1, depth=layers, placement="layer_scale")
    assert all(torch.equal(b.scale, torch.full((8,), initial)) for b in model.blocks)


def test_scaled_pre_norm_counts_transformer_layers():
    model = Transformer(vocabulary=5, width=8, heads=1, depth=3, placement="scaled_pre_norm")
    x = torch.randn(1, 4, 8)
    for index, layer in enumerate((1, 1, 2, 2, 3, 3)):
        block = model.blocks[index]
        torch.testing.assert_close(block(x), x + block.sublayer(F.layer_norm(x, (8,)) / layer**0.5))


def test_dropout_acts_on_the_branch_and_not_on_the_skip():
    block = PLACEMENTS["residual"](2000, nn.Identity(), dropout=0.5)
    y = block(torch.ones(2000))
    assert set(y.tolist()) == {1.0, 3.0}  # dropped, or kept and doubled
    assert torch.equal(block.eval()(torch.ones(2000)), torch.full((2000,), 2.0))


def test_models_neither_use_nor_change_the_global_random_state():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    for name in PLACEMENTS:
        deep_mlp(3, 8, name, "layer_norm", seed=1)
    Transformer(vocabulary=5, width=8, heads=2, depth=1)
    CharacterMLP(5, 2, "plain")
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(
        deep_mlp(2, 8, "highway", seed=4)(torch.ones(8)), deep_mlp(2, 8, "highway", seed=4)(torch.ones(8))
    )


def test_bad_input_is_refused_with_what_was_given_and_expected():
    with pytest.raises(ValueError, match=r"unknown placement 'prenorm'; known are plain, residual, .*pre_norm"):
        deep_mlp(2, 8, "prenorm")
    with pytest.raises(ValueError, match=r"unknown norm 'ln'; known are layer_norm, rms_norm"):
        deep_mlp(2, 8, "pre_norm", "ln")
    with pytest.raises(ValueError, match="unknown activation"):
        deep_mlp(2, 8, activation="swish")
    for depth in (0, -1, 2.0):
        with pytest.raises(ValueError, match=f"depth is {depth}"):
            deep_mlp(depth, 8)
    with pytest.raises(ValueError, match=r"\(2, 7\).*hidden_size 8"):
        deep_mlp(2, 8)(torch.randn(2, 7))
    with pytest.raises(ValueError, match=r"depth is 2 and index is 2"):
        PLACEMENTS["pre_norm"](8, nn.Identity(), depth=2, index=2)
    with pytest.raises(ValueError, match="dropout is 1.5"):
        PLACEMENTS["pre_norm"](8, nn.Identity(), dropout=1.5)
    with pytest.raises(ValueError, match=r"turned \(2, 8\) into \(2, 1\)"):
        PLACEMENTS["residual"](8, nn.Linear(8, 1))(torch.randn(2, 8))
    with pytest.raises(ValueError, match="multiple of heads"):
        Transformer(vocabulary=5, width=10, heads=4, depth=1)
    with pytest.raises(ValueError, match="token ids"):
        Transformer(vocabulary=5, width=8, heads=2, depth=1)(torch.randn(2, 8))
    with pytest.raises(ValueError, match="context is 4"):
        Transformer(vocabulary=5, width=8, heads=2, depth=1, context=4)(torch.zeros(1, 5, dtype=torch.int64))
    with pytest.raises(ValueError, match="HyperConnection expects"):
        HyperConnection(8, nn.Identity(), depth=3, index=1)(torch.randn(2, 8))


def test_a_placement_takes_any_norm_class():
    block = PLACEMENTS["pre_norm"](8, nn.Identity(), norm=RMSNorm)
    assert isinstance(block.norm, RMSNorm)
    assert isinstance(PLACEMENTS["pre_norm"](8, nn.Identity()).norm, LayerNorm)
    assert issubclass(PLACEMENTS["pre_norm"], Placement)
