"""Chapter 06: what its explorers claim, against closed forms and computations by hand.

Bounds. Random stacks are compared with infinite-width theory as in test_measure: four standard errors of the mean over
the seeds, plus a drift of at most 5/(4·width) per branch in a log norm. The bound on a log-log slope follows from the
bound on its points: a slope over depths from a to b changes by at most (error at a + error at b) / log(b/a).
"""

import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from normcourse import data, measure, theory
from normcourse.chapters.pre_and_post_norm import evidence
from normcourse.chapters.pre_and_post_norm.drawings import slope
from normcourse.models import Transformer, deep_mlp
from normcourse.residual import PLACEMENTS

from ..test_measure import agrees

THEORY = [placement for placement in PLACEMENTS if theory.has_law(placement)]
SEEDS = range(8)


def geometric_mean(values):
    return math.exp(np.mean(np.log(list(values))))


@pytest.mark.slow
@pytest.mark.parametrize("placement", THEORY)
@pytest.mark.parametrize(("activation", "gain", "bias"), [("relu", 1.2, 0.0), ("tanh", 1.5, 0.5), ("gelu", 1.0, 0.3)])
def test_variances_and_gradients_of_every_placement_follow_mean_field_theory(placement, activation, gain, bias):
    depth, width, variance = 16, 192, 2.0
    forward, backward = theory.mean_field(placement, depth, gain, activation, variance, bias)
    logs = []
    for seed in SEEDS:
        model = deep_mlp(depth, width, placement, activation=activation, gain=gain, seed=seed, bias=bias)
        x = torch.randn(16, width, generator=torch.Generator().manual_seed(500 + seed)) * variance**0.5
        gradient = measure.gradient_norms(model, x, seed=seed)["gradient_norm"]
        last = measure.variances(model, x)["variance"].iloc[-1]
        logs.append((math.log(gradient[0] / gradient[depth]), math.log(last) / 2))
    agrees([g for g, _ in logs], math.log(backward[0]), depth, width)
    agrees([v for _, v in logs], math.log(forward[-1]) / 2, depth, width)


@pytest.mark.parametrize(
    "placement", ["post_norm", "pre_norm", "res_post_norm", "peri_norm", "deep_norm", "scaled_pre_norm"]
)
def test_weight_gradients_of_every_layer_follow_theory(placement):
    depth, width = 16, 192
    expected = theory.weight_gradients(placement, depth, width, 1.4)
    frames = [measure.gradient_norms(deep_mlp(depth, width, placement, gain=1.4, seed=s), seed=s) for s in SEEDS]
    for layer in (1, 8, 16):
        logs = [math.log(frame["weight_gradient_norm"][layer]) for frame in frames]
        agrees(logs, math.log(expected[layer - 1]), depth, width)


def test_the_identity_path_of_post_norm_decays_as_two_to_the_minus_half_the_depth():
    """ReLU at gain √2 has v = 1. Without branches nothing multiplies up but the norms' standard deviations: each log σ
    is off by at most the branch's own fluctuation, the drift of `agrees`."""
    depth, width = 30, 256
    runs = {
        only: [
            measure.gradient_norms(deep_mlp(depth, width, "post_norm", gain=2**0.5, seed=s), seed=s, skips_only=only)
            for s in range(24)
        ]
        for only in (True, False)
    }
    assert theory.identity_path(depth, 2**0.5)[0] == pytest.approx(2 ** (-depth / 2), rel=1e-3)
    agrees([math.log(run["gradient_norm"][0]) for run in runs[True]], -depth / 2 * math.log(2), depth, width)
    agrees([math.log(run["gradient_norm"][0]) for run in runs[False]], 0.0, depth, width)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "gain", "bias", "direction"),
    [
        ("relu", 0.7, 0.0, 0),
        ("relu", 2.0, 0.0, 0),
        ("tanh", 2.0, 0.0, 1),
        ("tanh", 2.0, 0.3, 1),
        ("tanh", 2.0, 0.7, -1),
        ("gelu", 2.0, 0.0, 1),
        ("gelu", 2.0, 0.7, -1),
        ("relu", 1.4, 0.7, -1),
        ("linear", 1.0, 0.5, -1),
    ],
)
def test_post_norms_gradient_grows_stays_or_vanishes_as_chi_exceeds_v(activation, gain, bias, direction):
    """The sign comes from (1 + χ) / (1 + v), not from the measurement; what is measured has to be on that side. With a bias
    it is that of g² (E φ'² − E φ²) − b², as the chapter has it."""
    value, slope_ = theory.gaussian_moments(activation, 1.0)
    assert direction == 0 or (gain**2 * (slope_ - value) - bias**2) * direction > 0
    chi, v = gain**2 * slope_, gain**2 * value + bias**2
    assert (abs(chi - v) < 1e-3 * v) if direction == 0 else (chi - v) * direction > 0
    depth, width = 24, 192
    logs = [
        math.log(
            measure.gradient_norms(
                deep_mlp(depth, width, "post_norm", activation=activation, gain=gain, bias=bias, seed=seed), seed=seed
            )["gradient_norm"][0]
        )
        for seed in range(20)
    ]
    expected = depth / 2 * math.log((1 + chi) / (1 + v))
    agrees(logs, expected, depth, width)
    if direction:
        assert np.mean(logs) * direction > abs(expected) / 2


def test_gradients_through_skips_only_equal_the_product_of_the_norms_jacobians():
    model = deep_mlp(3, 6, "post_norm", seed=1).double()
    x = torch.randn(1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    frame = measure.gradient_norms(model, x, loss=lambda y: y[0, 0], skips_only=True)
    vector = torch.eye(6, dtype=torch.float64)[0]
    for block, state in zip(reversed(model.blocks), reversed(model.stream(x)[:-1])):
        constant = block.sublayer(state).detach()
        jacobian = torch.autograd.functional.jacobian(lambda h, b=block, c=constant: b.norm(h + c)[0], state)[:, 0]
        vector = jacobian.T @ vector
    assert frame["gradient_norm"][0] == pytest.approx(vector.norm().item(), rel=1e-10)
    again = measure.gradient_norms(model, x, loss=lambda y: y[0, 0])
    assert again["gradient_norm"][0] != pytest.approx(frame["gradient_norm"][0], rel=1e-3), "the hooks were left on"


def last_layer(placement, depth, variance=1.0, width=64):
    gradients, sigmas = [], []
    for seed in SEEDS:
        model = deep_mlp(depth, width, placement, gain=1.4, seed=seed)
        x = torch.randn(8, width, generator=torch.Generator().manual_seed(1000 + seed)) * variance**0.5
        gradients.append(measure.gradient_norms(model, x, seed=seed)["weight_gradient_norm"].iloc[-1])
        sigmas.append(measure.variances(model, x)["variance"].iloc[-1] ** 0.5)
    return geometric_mean(gradients), geometric_mean(sigmas)


def test_xiong_the_last_layers_gradient_is_flat_for_post_norm_and_falls_as_the_root_of_depth_for_pre_norm():
    """Xiong et al. (2020): slopes 0 and −1/2. 1/√(1 + L v) itself has the slope −0.48 from 16 to 128 layers at v = 0.98;
    the rest of ±0.1 is the fluctuation of the points over 8 seeds."""
    depths = np.array([16, 32, 64, 128])
    post = [last_layer("post_norm", depth)[0] for depth in depths]
    pre, sigma = np.array([last_layer("pre_norm", depth) for depth in depths]).T
    assert abs(slope(depths, post)) <= 0.1
    assert abs(slope(depths, pre) + 0.5) <= 0.1
    assert abs(slope(depths, pre * sigma)) <= 0.05
    assert slope(depths, 1 / sigma) == pytest.approx(slope(depths, 1 / np.sqrt(1 + 0.98 * depths)), abs=0.03)


def test_xiong_a_large_embedding_bends_the_curve_but_the_gradient_still_follows_one_over_sigma():
    """With q_0 = 30 and v ≈ 1 the stream has 1/√(30 + L): between 2 and 16 layers a slope of only about −0.09."""
    depths = np.array([2, 4, 8, 16])
    pre, sigma = np.array([last_layer("pre_norm", depth, variance=30.0) for depth in depths]).T
    expected = slope(depths, 1 / np.sqrt(30 + 0.98 * depths), 2)
    assert slope(depths, pre, 2) == pytest.approx(expected, abs=0.05) and slope(depths, pre, 2) > -0.2
    assert abs(slope(depths, pre * sigma, 2)) <= 0.05


def test_xiong_holds_for_a_transformer_with_cross_entropy():
    ids, vocabulary = data.encode(data.load_text("en")[:20000])
    inputs, targets = next(data.batches(ids, 4, 32, seed=5))
    depths = np.array([8, 16, 32])
    for placement, expected in (("post_norm", 0.0), ("pre_norm", -0.5)):
        gradients, products = [], []
        for depth in depths:
            g, s = [], []
            for seed in range(5):
                model = Transformer(
                    vocabulary=len(vocabulary), width=64, heads=4, depth=int(depth), placement=placement, seed=seed
                )

                def loss(h, model=model):
                    return F.cross_entropy(model.head(h).flatten(0, 1), targets.flatten())

                g.append(measure.gradient_norms(model, inputs, loss=loss)["weight_gradient_norm"].iloc[-1])
                s.append(measure.variances(model, inputs)["variance"].iloc[-1] ** 0.5)
            gradients.append(geometric_mean(g))
            products.append(geometric_mean(g) * geometric_mean(s))
        # one batch of 128 tokens: each log gradient has a spread of about 0.25 over seeds, so 0.11 for the mean of
        # five, and a slope over log 4 an error of 2 · 0.11 / 1.4 = 0.16
        assert abs(slope(depths, gradients, 8) - expected) <= 0.2
        assert abs(slope(depths, products, 8)) <= 0.2


@pytest.mark.parametrize(
    "placement", ["residual", "post_norm", "pre_norm", "res_post_norm", "peri_norm", "deep_norm", "scaled_pre_norm"]
)
def test_a_random_step_is_amplified_as_theory_says(placement):
    """A chi-square in every layer: the logarithm is off by the drift of `agrees` (twice, it is a squared norm)."""
    depth, width = 16, 192
    logs = [
        math.log(
            measure.amplification(deep_mlp(depth, width, placement, seed=seed), batch_size=8, seed=seed)[
                "amplification"
            ][0]
        )
        / 2
        for seed in SEEDS
    ]
    agrees(logs, math.log(theory.amplification(placement, depth)) / 2, 2 * depth, width)


@pytest.mark.parametrize("step", ["random", "adam"])
def test_post_norm_amplifies_a_step_with_a_clearly_larger_exponent_than_pre_norm(step):
    """Liu et al. (2020): O(N) against O(log N) for a random step. "Clearly": four standard errors of the difference."""
    depths = np.array([4, 8, 16, 32, 64])
    exponents = {}
    for placement in ("post_norm", "pre_norm"):
        exponents[placement] = [
            slope(
                depths,
                [
                    measure.amplification(deep_mlp(int(d), 128, placement, seed=s), step, batch_size=4, seed=s)[
                        "amplification"
                    ][0]
                    for d in depths
                ],
                4,
            )
            for s in range(6)
        ]
    post, pre = (np.array(exponents[p]) for p in ("post_norm", "pre_norm"))
    error = math.sqrt(post.var(ddof=1) / 6 + pre.var(ddof=1) / 6)
    assert post.mean() - pre.mean() > 4 * error
    if step == "random":
        for placement, values in exponents.items():
            expected = slope(depths, [theory.amplification(placement, int(d)) for d in depths], 4)
            spread = 4 * np.std(values, ddof=1) / 6**0.5
            assert abs(np.mean(values) - expected) <= spread + 2 * 64 * 5 / (4 * 128) / math.log(16)


@pytest.mark.parametrize("placement", ["post_norm", "deep_norm"])
def test_at_one_learning_rate_smaller_weights_take_relatively_larger_steps(placement):
    """A step at rate size/√d moves weights of size β/√d by size/β of themselves, and the change of the output is in
    proportion: 1/β² of the amplification, β = 1 but for DeepNorm. The size of one matrix of 64² entries is off by
    1/(√2 · 64) = 1.1%, its square by 2.2% (four times that allowed, as matrices of one model err together at most)."""
    depth = 8
    model = deep_mlp(depth, 64, placement, seed=3)
    beta = PLACEMENTS["deep_norm"].constants(depth)[1] if placement == "deep_norm" else 1.0
    relative, absolute = (
        measure.amplification(model, step, batch_size=4, seed=1)["amplification"][0]
        for step in ("adam", "adam_one_rate")
    )
    assert absolute / relative == pytest.approx(1 / beta**2, rel=0.09)


def test_amplification_is_the_change_of_the_output_and_leaves_the_model_alone():
    model = deep_mlp(3, 16, "pre_norm", seed=2)
    before = [p.clone() for p in model.parameters()]
    x = torch.randn(4, 16)
    one, half = (measure.amplification(model, "adam", size=size, inputs=x)["amplification"][0] for size in (1e-3, 5e-4))
    assert one == pytest.approx(
        half, rel=0.02
    )  # a small step: the change is in proportion, the ratio does not depend on it
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before))
    assert measure.amplification(deep_mlp(3, 16, "rezero"), inputs=x)["amplification"][0] == 0.0
    with pytest.raises(ValueError, match="unknown step 'sgd'; known are random, adam"):
        measure.amplification(model, "sgd")


def test_adams_first_update_is_the_learning_rate_unless_the_gradient_is_near_eps():
    """The first step is η g / (|g| + eps) entry by entry: η where |g| ≫ eps, η g/eps where |g| ≪ eps."""
    x, target = torch.randn(2, 8, 64)

    def adam(parameters):
        return torch.optim.Adam(parameters, lr=1e-3)

    model = deep_mlp(20, 64, "pre_norm", activation="tanh", seed=1)  # ReLU has entries without a gradient
    frame = measure.update_sizes(model, adam, lambda m: (m(x) * target).sum())
    assert frame["update"].tolist() == pytest.approx([1e-3] * 20, rel=0.02)
    assert list(frame.columns) == ["layer", "gradient", "update"] and all(p.grad is None for p in model.parameters())
    tiny = measure.update_sizes(deep_mlp(40, 64, "plain", gain=0.4), adam, lambda m: m(x).sum())
    assert (tiny["gradient"] < 1e-12).all()
    assert tiny["update"].tolist() == pytest.approx((1e-3 * tiny["gradient"] / 1e-8).tolist(), rel=0.01)
    sgd = measure.update_sizes(model, lambda p: torch.optim.SGD(p, lr=0.1), lambda m: (m(x) * target).sum())
    assert sgd["update"].tolist() == pytest.approx((0.1 * sgd["gradient"]).tolist(), rel=1e-3)


@pytest.mark.parametrize("placement", THEORY)
def test_the_traced_wiring_has_the_numbers_of_its_formula(placement):
    model = deep_mlp(9, 16, placement, gain=1.4, seed=1)
    block, x = model.blocks[4], torch.randn(6, 16)
    frame = measure.wiring(block, x)
    assert frame["operation"][0] == "x" and frame["operation"].tolist().count("f") == 1
    assert frame["variance"].iloc[-1] == pytest.approx(block(x).var(unbiased=False).item(), rel=1e-6)
    assert frame["operation"].tolist().count("norm") == block.formula.count("norm")
    f = frame[frame["operation"] == "f"].iloc[0]
    read = frame.loc[f["inputs"][0], "variance"]
    first_norm = block.norm(x) if "f(norm(x))" in block.formula else x
    if placement == "scaled_pre_norm":
        first_norm = block.norm(x) / 5**0.5
    assert read == pytest.approx(first_norm.var(unbiased=False).item(), rel=1e-5)
    assert f["variance"] == pytest.approx(block.sublayer(first_norm).var(unbiased=False).item(), rel=1e-5)
    assert measure.wiring(block, x).equals(frame), "tracing changed the block"


def test_token_cosines_equal_pairs_compared_one_by_one():
    model = Transformer(vocabulary=7, width=16, heads=2, depth=1, placement="post_norm", seed=3)
    ids = torch.randint(7, (2, 5))
    frame = measure.token_cosines(model, ids)
    for layer, state in enumerate(model.stream(model.embed(ids))):
        pairs = [F.cosine_similarity(s[i], s[j], dim=0) for s in state for i in range(5) for j in range(5) if i != j]
        assert frame["cosine"][layer] == pytest.approx(float(torch.stack(pairs).mean().detach()), abs=1e-5)
    with pytest.raises(ValueError, match=r"shape \(4, 8\); expected \(batch, sequence"):
        measure.token_cosines(deep_mlp(2, 8))


def test_positions_of_a_post_norm_transformer_become_alike_and_those_of_a_pre_norm_less():
    """Averaging alone pulls the positions together; the claim is the order, by four standard errors of the difference."""
    last = {
        placement: np.array(
            [
                measure.token_cosines(
                    Transformer(vocabulary=60, width=64, heads=4, depth=12, placement=placement, seed=s), seed=s
                )["cosine"].iloc[-1]
                for s in range(5)
            ]
        )
        for placement in ("post_norm", "pre_norm")
    }
    difference = last["post_norm"] - last["pre_norm"]
    assert difference.mean() > 4 * difference.std(ddof=1) / 5**0.5
    assert last["post_norm"].mean() > 0.9


@pytest.mark.slow
def test_in_the_network_that_is_stuck_the_gradient_vanishes_after_the_positions_have_become_alike():
    """At first the gradient at the input is larger than at the output and the positions are alike already; ten steps on a
    hundredth of it is left, with every seed. Pre-Norm, at equal steps, keeps more than it has at the output."""
    for seed in range(3):
        post, pre = (evidence.alike_and_gradient(p, seed, at=(0, 10)) for p in ("post_norm", "pre_norm"))
        assert post["steps"].tolist() == [0, 10] and (post["cosine"] > 0.9).all()
        assert post["input / output"][0] > 1 and post["input / output"][1] < 0.01
        assert (pre["input / output"] > 1).all()


def test_with_the_gain_tuned_a_norm_saves_few_steps_and_what_it_buys_is_tolerance():
    """From the recorded rows, without the evidence's own code: which gain gets to 2.6 nats first, and who learns at a
    rate of 0.01."""
    none, gains = data.recorded("without_norm"), (0.15, 0.3, 0.6, 1.0)
    normed = pd.concat([data.recorded("warmup"), data.recorded("lower_gains")])
    normed = normed[(normed["placement"] == "pre_norm") & (normed["warmup"] == 0)]
    for depth in (12, 24):
        fewest = {}
        for name, runs in (("norm", normed), ("none", none)):
            steps = {}
            for (gain, rate), rows in runs[runs["depth"] == depth].groupby(["gain", "learning_rate"]):
                assert len(rows) == 3 and gain in gains
                steps[gain, rate] = rows["steps_to_2.6"].to_numpy().mean()  # nan where a seed does not get there
            best = min((key for key in steps if steps[key] == steps[key]), key=steps.get)
            assert best[0] == 0.3 and 1e-3 <= best[1] <= 3e-3
            fewest[name] = steps[best]
        assert 0 < 1 - fewest["norm"] / fewest["none"] < 0.1
    assert not none[none["gain"] == 1.0]["steps_to_2.6"].notna().any()
    assert (none[none["learning_rate"] == 0.01]["loss"] > 1e3).all()  # it diverges
    assert (normed[normed["learning_rate"] == 0.01]["loss"] < 2.8).all()


def test_post_norm_is_the_more_particular_about_its_learning_rate_and_the_grid_is_wide_enough():
    runs = pd.concat([data.recorded("warmup"), data.recorded("warmup_faster")]).query("gain == 0.6")
    for depth in (12, 24):
        good = {}
        for placement in ("pre_norm", "post_norm"):
            means = runs[(runs["depth"] == depth) & (runs["placement"] == placement)]
            means = means.groupby(["learning_rate", "warmup"])["loss"].mean()
            assert len(means) == 15 and 3e-4 < means.idxmin()[0] < 3e-2
            good[placement] = int((means < means.min() + 0.1).sum())
        assert good == {"pre_norm": 8, "post_norm": 5 if depth == 12 else 4}
