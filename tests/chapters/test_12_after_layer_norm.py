"""What chapter 12 states: its wirings are those of their papers, its probes and laws agree, DyT and QK-norm do as said."""

import math

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from normcourse import data, theory
from normcourse.chapters.after_layer_norm import evidence, runs, signature
from normcourse.chapters.after_layer_norm.evidence import dyt_and_norms, extra_parameters, probe
from normcourse.chapters.after_layer_norm.variants import (
    MHC,
    NGPT,
    VARIANTS,
    WIRINGS,
    Keel,
    MixLN,
    heads,
    largest_logit,
    sinkhorn,
    with_qk_norm,
)
from normcourse.claims import Measured
from normcourse.measure import gradient_norms
from normcourse.models import Transformer, deep_mlp
from normcourse.norms import NORMS, rms_norm
from normcourse.registry import Look
from normcourse.residual import PLACEMENTS, HyperConnection

from .. import test_residual
from ..test_measure import agrees

D = 6


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def ln(x):
    """LayerNorm, by its own definition."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()


def block(cls, **given):
    """A block of this class around f(x) = tanh(W x), and f."""
    weight = draw(D, D, seed=7)
    f = torch.nn.Linear(D, D, bias=False)
    f.weight.data = weight
    return cls(D, torch.nn.Sequential(f, torch.nn.Tanh()), "layer_norm", **given).double(), lambda x: torch.tanh(
        x @ weight.T
    )


# --- the wirings, against their papers' formulas ----------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "branches", "post"), [(8, 1, 2), (16, 2, 4), (7, 1, 1), (3, 1, 0), (24, 2, 6)])
def test_mix_ln_is_post_norm_in_the_first_quarter_of_the_layers_and_pre_norm_behind(depth, branches, post):
    """Li et al. 2024: Post-LN for the first ⌊aL⌋ layers, a = 0.25; a Transformer layer has two branches."""
    x = draw(3, D)
    for index in range(depth):
        made, f = block(MixLN, depth=depth, index=index, branches=branches)
        expected = ln(x + f(x)) if index < post else x + f(ln(x))
        torch.testing.assert_close(made(x), expected)


@pytest.mark.parametrize("depth", [1, 2, 12])
def test_keel_weighs_the_skip_by_the_number_of_branches(depth):
    """Chen & Wei 2026: x ← LN(α x + F(LN(x))), α = L."""
    made, f = block(Keel, depth=depth)
    x = draw(3, D)
    torch.testing.assert_close(made(x), ln(depth * x + f(ln(x))))


def test_ngpt_steps_on_the_sphere_as_in_its_paper_whose_sphere_has_the_radius_one():
    """Loshchilov et al. 2024: h ← Norm(h + α(Norm(F(h)) − h)) on unit vectors; here everything is √d times as long."""
    made, f = block(NGPT)
    made.stored.data = draw(D, seed=3).abs()
    alpha = made.stored * 0.05 / D**-0.5  # s_α · α_init / α_scale
    h = F.normalize(draw(3, D), dim=-1)
    paper = F.normalize(h + alpha * (F.normalize(f(h * D**0.5), dim=-1) - h), dim=-1)
    torch.testing.assert_close(made(h * D**0.5), paper * D**0.5)
    fresh = NGPT(D, torch.nn.Identity())
    torch.testing.assert_close(fresh.alpha, torch.full((D,), 0.05))


def test_mhc_is_equations_7_to_9_of_its_paper_token_by_token():
    """Written with loops and vectors, from the paper alone."""
    n = 3
    made, f = block(MHC, depth=5, index=1, streams=n)
    for parameter, seed in ((made.phi, 1), (made.pre_bias, 2), (made.post_bias, 3), (made.mix_bias, 4)):
        parameter.data = draw(*parameter.shape, seed=seed)
    made.scales.data = torch.tensor([0.3, 0.2, 0.5], dtype=torch.float64)
    streams = draw(4, n, D, seed=5)
    for token, got in zip(streams, made(streams)):
        flat = rms_norm(token.reshape(-1))
        a_pre, a_post, a_mix = made.scales
        pre = torch.sigmoid(a_pre * flat @ made.phi[:, :n] + made.pre_bias)
        post = 2 * torch.sigmoid(a_post * flat @ made.phi[:, n : 2 * n] + made.post_bias)
        m = torch.exp((a_mix * flat @ made.phi[:, 2 * n :]).reshape(n, n) + made.mix_bias)
        for _ in range(20):
            m = m / m.sum(1, keepdim=True)
            m = m / m.sum(0, keepdim=True)
        y = f(ln(sum(weight * row for weight, row in zip(pre, token))))
        expected = torch.stack([sum(m[i, j] * token[j] for j in range(n)) + post[i] * y for i in range(n)])
        torch.testing.assert_close(got, expected)


def test_dyt_is_equation_1_of_its_paper_and_passes_back_its_derivative():
    """Zhu et al. 2025: DyT(x) = γ * tanh(αx) + β, number by number."""
    norm, x, dy = NORMS["dyt"](D).double(), draw(3, D).requires_grad_(), draw(3, D, seed=4)
    for parameter, seed in ((norm.alpha, 1), (norm.weight, 2), (norm.bias, 3)):
        parameter.data = draw(*parameter.shape, seed=seed)
    alpha, gamma, beta = norm.alpha.item(), norm.weight.tolist(), norm.bias.tolist()
    (back,) = torch.autograd.grad(norm(x), x, dy)
    y = norm(x)
    for row in range(3):
        for i in range(D):
            t = math.tanh(alpha * x[row, i].item())
            assert y[row, i].item() == pytest.approx(gamma[i] * t + beta[i], rel=1e-12)
            assert back[row, i].item() == pytest.approx(dy[row, i].item() * gamma[i] * alpha * (1 - t * t), rel=1e-12)


@pytest.mark.parametrize("size", [0.1, 1.0, 3.0])
def test_sinkhorn_makes_matrices_that_cannot_amplify_and_whose_products_cannot_either(size):
    product = torch.eye(4, dtype=torch.float64)
    for seed in range(5):
        mixed = sinkhorn(size * draw(4, 4, seed=seed), rounds=500)
        assert (mixed >= 0).all()
        torch.testing.assert_close(mixed.sum(0), torch.ones(4).double(), rtol=0, atol=1e-9)
        torch.testing.assert_close(mixed.sum(1), torch.ones(4).double(), rtol=0, atol=1e-6)
        product = product @ mixed
        assert float(torch.linalg.matrix_norm(product, 2)) <= 1 + 1e-5
    rows, columns = size * draw(4, 1, seed=8), size * draw(1, 4, seed=9)
    scaled = sinkhorn(size * draw(4, 4) + rows + columns, 500)
    torch.testing.assert_close(scaled, sinkhorn(size * draw(4, 4), 500), rtol=1e-5, atol=1e-8)  # it is unique


def test_every_variant_is_held_against_a_formula_of_its_paper():
    """Res-Post-Norm, Peri-Norm (Sandwich is the same) and LayerNorm scaling with the other wirings of the course."""
    here = {
        "mix_ln": test_mix_ln_is_post_norm_in_the_first_quarter_of_the_layers_and_pre_norm_behind,
        "keel": test_keel_weighs_the_skip_by_the_number_of_branches,
        "ngpt": test_ngpt_steps_on_the_sphere_as_in_its_paper_whose_sphere_has_the_radius_one,
        "mhc": test_mhc_is_equations_7_to_9_of_its_paper_token_by_token,
        "hyper_connection": test_residual.test_hyper_connection_equals_its_formula,
        "qk_norm": test_attention_with_qk_norm_is_softmax_of_normalised_queries_and_keys,
        "dyt": test_dyt_is_equation_1_of_its_paper_and_passes_back_its_derivative,
    }
    assert {*WIRINGS, "qk_norm", "dyt"} == {*test_residual.FORMULAS, *here}
    assert {kind.partition("_")[0] if kind.startswith("dyt") else kind for kind in runs.KINDS} <= {
        *test_residual.FORMULAS,
        *here,
    }


@pytest.mark.parametrize("cls", [MHC, HyperConnection])
def test_several_equal_streams_are_at_first_pre_norm_several_times_over(cls):
    x = draw(5, 16, dtype=torch.float32)
    several = deep_mlp(6, 16, cls, "layer_norm", seed=1)
    one = deep_mlp(6, 16, "pre_norm", "layer_norm", seed=1)
    torch.testing.assert_close(several.stream(x)[-1], 4 * one.stream(x)[-1], rtol=1e-4, atol=1e-4)


def test_the_wirings_of_the_chapter_have_names_looks_and_formulas_and_are_not_registered():
    assert set(WIRINGS) == {*PLACEMENTS, *VARIANTS} and not set(PLACEMENTS) & set(VARIANTS)
    looks = [cls.look for cls in WIRINGS.values()]
    assert (
        len({(look.colour, look.marker, look.dash) for look in looks}) == len(looks) == len({x.marker for x in looks})
    )
    for name, cls in VARIANTS.items():
        assert cls.name == name and cls.formula and cls.__doc__ and isinstance(cls.look, Look)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_stack_of_each_trains_every_parameter_that_it_has(name):
    model = deep_mlp(5, 16, VARIANTS[name], "layer_norm", seed=0)
    model(draw(4, 16, dtype=torch.float32)).square().sum().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not silent


# --- laws and probes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wiring", ["mix_ln", "keel", "ngpt"])
def test_the_laws_of_the_new_wirings_are_what_wide_networks_do(wiring):
    """The bounds are those of tests/test_measure.py."""
    depth, width, gain, logs = 12, 192, 1.2, []
    forward, backward = theory.mean_field(WIRINGS[wiring], depth, gain)
    for seed in range(8):
        model = deep_mlp(
            depth, width, WIRINGS[wiring], "layer_norm" if wiring != "ngpt" else None, gain=gain, seed=seed
        )
        found = gradient_norms(model, seed=seed)["gradient_norm"]
        last = model.stream(model.random_inputs(16, torch.Generator().manual_seed(seed + 99)))[-1].var()
        logs.append((torch.tensor(found[0] / found[depth]).log(), last.detach().log() / 2))
    for measured, value in zip(zip(*logs), (backward[0], forward[-1] ** 0.5)):
        agrees(measured, math.log(value), depth, width)


@pytest.mark.parametrize("wiring", ["pre_norm", "post_norm", "keel"])
def test_the_probe_of_a_single_stream_finds_what_measure_finds(wiring):
    model = deep_mlp(8, evidence.WIDTH, WIRINGS[wiring], "layer_norm", gain=1.4, seed=3)
    expected = gradient_norms(model, seed=3)["gradient_norm"]
    assert probe(wiring, depth=8, seed=3)["gradient_norm"].tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_the_mean_of_equal_copies_is_the_stream_of_pre_norm_forward_and_backward():
    columns = ["variance", "gradient_norm", "relative_update"]
    one = probe("pre_norm", depth=6)[columns].fillna(0).to_numpy()
    for wiring in ("hyper_connection", "mhc"):
        assert probe(wiring, depth=6)[columns].fillna(0).to_numpy() == pytest.approx(one, rel=1e-3)


@pytest.mark.parametrize(
    ("wiring", "extra"), [("pre_norm", 2), ("peri_norm", 4), ("keel", 4), ("ngpt", 1), ("plain", 0)]
)
def test_extra_parameters_are_counted(wiring, extra):
    """LayerNorm has a weight and a bias of d each; nGPT one number per feature."""
    assert extra_parameters(wiring) == extra


def test_extra_parameters_of_several_streams():
    """mHC: its norm, φ from n·d numbers to 2n + n² weights, their biases and three scales."""
    d, n = evidence.WIDTH, 4
    assert extra_parameters("mhc") == pytest.approx((2 * d + n * d * (2 * n + n * n) + 2 * n + n * n + 3) / d)


def test_scaled_pre_norm_grows_by_the_sum_of_one_over_l_and_so_without_bound():
    table = evidence.growth_by_doubling(depth=20, seeds=4).groupby("setting")["value"].mean()
    v = 1.4**2 / 2
    harmonic = [1 + v * sum(1 / n for n in range(1, depth + 1)) for depth in (20, 40)]
    assert table["scaled_pre_norm"] == pytest.approx(harmonic[1] / harmonic[0], rel=0.1)
    assert table["pre_norm"] == pytest.approx((1 + 40 * v) / (1 + 20 * v), rel=0.15)
    doubled = [theory.mean_field("scaled_pre_norm", 2 * n)[0][-1] - theory.mean_field("scaled_pre_norm", n)[0][-1]
               for n in (25, 100, 400)]  # fmt: skip
    assert doubled == pytest.approx([math.log(2) / 2] * 3, rel=0.02)  # the same with every doubling


def test_what_dyt_puts_out_and_passes_back_is_what_tanh_of_a_gaussian_does():
    for alpha in (0.2, 1.0):
        frame = dyt_and_norms(alpha).query("norm == 'dyt'")
        for row in frame.itertuples():
            out, slope = theory.gaussian_moments("tanh", (alpha * row.scale) ** 2)
            assert row.output == pytest.approx(out**0.5, rel=0.02)
            assert row.gradient == pytest.approx(alpha * slope**0.5, rel=0.06)
        norm = dyt_and_norms(alpha).query("norm == 'layer_norm'")
        assert norm["output"].tolist() == pytest.approx([1.0] * 25, rel=1e-6)
        assert (norm["gradient"] * norm["scale"]).tolist() == pytest.approx([1.0] * 25, rel=0.02)


# --- QK-norm ----------------------------------------------------------------------------------------------------------


def transformer(**given):
    return Transformer(vocabulary=11, width=16, heads=4, depth=2, context=8, seed=0, **given)


def test_attention_with_qk_norm_is_softmax_of_normalised_queries_and_keys():
    model = with_qk_norm(transformer()).double()
    attention, x = model.blocks[0].sublayer, draw(2, 5, 16)
    attention.query_norm.weight.data, attention.key_norm.weight.data = draw(4, seed=1), draw(4, seed=2)
    rows = []
    for head in range(4):
        part = slice(4 * head, 4 * head + 4)
        q, k, v = (x @ w.weight[part].T for w in (attention.query, attention.key, attention.value))
        scores = (ln(q) * draw(4, seed=1)) @ (ln(k) * draw(4, seed=2)).mT / 2
        scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), float("-inf"))
        rows.append(scores.softmax(-1) @ v)
    torch.testing.assert_close(attention(x), torch.cat(rows, -1) @ attention.out.weight.T)


def test_qk_norm_bounds_the_logits_whatever_the_weights_and_without_it_they_grow_with_the_square():
    ids = torch.arange(8)[None]
    plain, normed = transformer(), with_qk_norm(transformer())
    before = largest_logit(plain, ids)
    for model in (plain, normed):
        for block_ in model.blocks[::2]:
            block_.sublayer.query.scale(100.0)
            block_.sublayer.key.scale(100.0)
    assert max(largest_logit(normed, ids)) <= 4**0.5 * (1 + 1e-6)
    assert largest_logit(plain, ids)[0] == pytest.approx(1e4 * before[0], rel=1e-4)


def test_qk_norm_keeps_the_weights_of_the_model_and_touches_attention_only():
    model = transformer()
    weights = dict(model.named_parameters())
    with_qk_norm(model)
    assert all(model.get_parameter(name) is weight for name, weight in weights.items())
    assert {n.split(".")[-2] for n, _ in model.named_parameters() if n not in weights} == {"query_norm", "key_norm"}
    q, k, _ = heads(model.blocks[0].sublayer, draw(1, 3, 16, dtype=torch.float32))
    assert q.shape == k.shape == (1, 4, 3, 4)


# --- the rivers, and what was recorded --------------------------------------------------------------------------------


def test_the_rivers_are_the_copies_of_a_network_with_these_mixing_matrices():
    frame = signature.rivers(mixing=0.5, seed=2)
    for name in signature.TITLES:
        rows = frame[frame["placement"] == name]
        weights = torch.tensor(rows.loc[rows["layer"] == 3, ["w0", "w1", "w2", "w3"]].to_numpy())
        sums = weights.sum(1)
        if name == "mhc":
            assert (weights >= 0).all()
            torch.testing.assert_close(sums, torch.ones(4).double(), rtol=0, atol=0.05)
        else:
            assert (weights < 0).any() and (sums - 1).abs().max() > 0.1
    still = signature.rivers(mixing=0.0)
    rms = still.pivot_table(index="layer", columns="placement", values="rms")
    assert rms["mhc"].to_numpy() == pytest.approx(rms["hyper_connection"].to_numpy(), rel=1e-4)
    v = [theory.mean_field("pre_norm", signature.DEPTH)[0][layer] ** 0.5 for layer in (0, signature.DEPTH)]
    assert (rms["mhc"].iloc[-1] / rms["mhc"].iloc[0]) == pytest.approx(v[1] / v[0], rel=0.1)


@pytest.mark.parametrize("kind", runs.KINDS)
def test_what_is_trained_starts_from_the_same_matrices_and_excerpts_whatever_the_kind(kind):
    def matrices(model):
        inside = {
            (i, name): p
            for i, block in enumerate(model.blocks)
            for name, p in block.sublayer.named_parameters()
            if "_norm." not in name
        }
        return {**inside, "tokens": model.tokens, "positions": model.positions, "head": model.head.weight}

    plain, model = (matrices(runs.make(name, 2)) for name in ("pre_norm", kind))
    assert plain.keys() == model.keys() and all(torch.equal(plain[name], model[name]) for name in plain)
    assert isinstance(runs.make(kind, 0).blocks[0], WIRINGS.get(kind, WIRINGS["pre_norm"]))


def test_every_recorded_kind_has_the_same_grid_and_dyt_stands_for_its_best_alpha():
    frame = data.recorded("after_layer_norm")
    grids = {kind: sorted(zip(rows["learning_rate"], rows["seed"])) for kind, rows in frame.groupby("kind")}
    assert len({tuple(grid) for grid in grids.values()}) == 1 and frame["seed"].nunique() >= 3
    assert set(grids) == set(runs.KINDS)
    chosen = evidence.of_kind(frame, "dyt")["kind"].unique()
    means = frame.groupby(["kind", "learning_rate"])["held_out_loss"].mean().groupby("kind").min()
    starts = sorted((float(kind[4:]), loss) for kind, loss in means.items() if kind.startswith("dyt_"))
    best = min(starts, key=lambda pair: pair[1])
    assert list(chosen) == [f"dyt_{best[0]:g}"]
    assert starts[0][0] < best[0] < starts[-1][0], "the best initial α is at an edge of its grid"


def test_what_the_lesson_says_of_the_trainings_is_what_was_recorded():
    frame, said = evidence.against_pre_norm(), {}
    assert not frame["edge"].any()
    rates = frame.groupby("kind")["rate"].first()
    for kind, rows in frame.groupby("kind"):
        low, high = Measured(tuple(rows["value"])).interval
        said[kind] = "lower" if high < 0 else "higher" if low > 0 else "not settled"
    of = {word: {kind for kind in said if said[kind] == word} for word in ("lower", "higher", "not settled")}
    assert of["lower"] == {"keel", "ngpt", "hyper_connection", "dyt", "scaled_pre_norm", "mhc"}
    assert of["higher"] == {"mix_ln", "res_post_norm"} and of["not settled"] == {"peri_norm", "qk_norm"}
    lowest = frame.groupby("kind")["value"].mean().sort_values().index[:3]
    assert set(lowest) == {"keel", "ngpt", "hyper_connection"} and (rates[lowest] == 0.01).all()
    assert (frame.loc[frame["kind"] == "peri_norm", "value"] > 0).all()
    by_rate = {kind: evidence.minus_pre_norm_by_rate(kind).groupby("learning_rate")["value"].mean() for kind in said}
    far_below = {kind for kind, gaps in by_rate.items() if gaps[0.03] < -0.2}
    assert far_below == {"keel", "ngpt", "peri_norm", "res_post_norm", "hyper_connection", "mhc"}
    assert by_rate["dyt"][0.003] > 0.03 and by_rate["dyt"][0.01] < -0.05 and by_rate["mix_ln"][0.01] > 0.2
    variance = evidence.recorded().groupby(["kind", "learning_rate"])["variance"].mean()
    ratio = {kind: variance[kind] / variance["pre_norm"] for kind in ("hyper_connection", "mhc")}
    assert ratio["hyper_connection"][0.01] > 100 and ratio["hyper_connection"][0.03] > 1000
    assert (ratio["mhc"] < 1.2).all() and evidence.added_parameters("mhc") > 5 * evidence.added_parameters(
        "hyper_connection"
    )
    alone = (
        evidence.dyt_minus_layer_norm().groupby("setting")["value"].agg(lambda v: Measured(tuple(v)).interval[1] < 0)
    )
    assert alone[alone].index.tolist() == ["alpha_0_2", "tuned"]


def test_what_the_lesson_says_of_qk_norm_is_what_was_recorded():
    frame = data.recorded("qk_norm_rates")
    losses = frame.pivot(index=["learning_rate", "seed"], columns="kind", values="held_out_loss")
    gaps = (losses["qk_norm"] - losses["pre_norm"]).groupby("learning_rate").agg(lambda v: Measured(tuple(v)).interval)
    assert [rate for rate, (low, high) in gaps.items() if high < 0 or low > 0] == [0.03] and gaps[0.03][1] < 0
    logit = frame.groupby(["kind", "learning_rate"])["logit"].mean()
    assert logit["pre_norm"].is_monotonic_increasing and logit["pre_norm"][0.3] > 1e4 * 16**0.5
    assert (logit["qk_norm"][:0.01] < 1.1 * 16**0.5).all() and (logit["qk_norm"][0.03:] > 1.5 * 16**0.5).all()
    collapsed = frame[frame["learning_rate"] >= 0.1].groupby("kind")["held_out_loss"].min()
    best = frame.groupby(["kind", "learning_rate"])["held_out_loss"].mean().groupby("kind").min()
    assert (collapsed > best + 0.4).all()
    earlier = evidence.minus_pre_norm_by_rate("qk_norm").set_index("learning_rate")["value"]
    assert (earlier[0.01] < 0).all()


def test_sensitivity_to_the_learning_rate_is_the_mean_excess_over_the_best_and_is_capped_at_the_start():
    """Wortsman et al. 2023, section 2.2, for a curve that one can do in one's head."""
    frame = pd.DataFrame({"learning_rate": [1e-3, 1e-2, 1e-1] * 2, "seed": [0] * 3 + [1] * 3, "before": 4.0})
    frame["held_out_loss"] = [3.0, 2.0, 9.0, 2.5, 2.5, 2.5]
    assert evidence.sensitivity(frame).tolist() == pytest.approx([1.0, 0.0])
    recorded = data.recorded("qk_norm_rates")
    assert not set(recorded["seed"]) & set(data.recorded("after_layer_norm")["seed"])
    value = evidence.qk_norm_sensitivity().set_index("seed")["value"]
    for seed, rows in recorded.groupby("seed"):
        spread = {}
        for kind, curve in rows.groupby("kind"):
            losses = [min(loss, start) for loss, start in zip(curve["held_out_loss"], curve["before"])]
            spread[kind] = sum(losses) / len(losses) - min(losses)
        assert value[seed] == pytest.approx(spread["qk_norm"] - spread["pre_norm"])


def test_norms_of_the_explorer_are_all_registered_ones():
    for norm in NORMS:
        frame = probe("peri_norm", norm, depth=3)
        assert frame["variance"].notna().all() and frame["theory_variance"].isna().all() == (
            norm in ("batch_norm", "dyt")
        )
