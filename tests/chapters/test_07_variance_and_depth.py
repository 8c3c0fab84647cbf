"""Chapter 07: how the stream grows and turns, what a layer is worth, and the probes that say so.

Random networks against theory for infinite width: the bound is four standard errors of the mean over the seeds plus the drift
of a finite width. A branch's squared output fluctuates with a variance of at most 5/width relative to its mean (ReLU,
Hanin & Nica 2018). In a residual stack such fluctuations add up independently, so a quantity that follows from the
branches so far is off by O(depth/width) at most; 5 · depth / (4 · width) is the drift of `tests/test_measure.py`.
"""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from normcourse import data, theory
from normcourse.chapters.variance_and_depth import evidence
from normcourse.measure import (
    Merged,
    layer_drops,
    layer_merges,
    layer_swaps,
    merged_from,
    readouts,
    stale_branches,
    updates,
    variances,
)
from normcourse.models import CharacterMLP, Transformer, deep_mlp
from normcourse.residual import PLACEMENTS

SEEDS = range(8)
WITH_THEORY = [placement for placement in PLACEMENTS if theory.has_law(placement)]


@pytest.fixture(autouse=True)
def one_thread():
    """For matrices this small a second thread only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def over_seeds(probe, placement, depth, column, layer, width=256, **settings):
    """The probe's column at one layer, one value per seed."""
    values = []
    for seed in SEEDS:
        frame = probe(deep_mlp(depth, width, placement, seed=seed, **settings), seed=seed)
        values.append(float(frame.set_index("layer")[column][layer]))
    return torch.tensor(values, dtype=torch.float64)


def agrees(values, expected, drift):
    """Mean of the seeds equals `expected` within four standard errors plus a relative drift."""
    allowed = 4 * float(values.std()) / len(values) ** 0.5 + drift * abs(expected)
    difference = abs(float(values.mean()) - expected)
    assert difference <= allowed, f"{float(values.mean()):.4f} against {expected:.4f}, allowed ± {allowed:.4f}"


# --- the stream -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("gain", [0.7, 1.4])
def test_pre_norms_variance_is_linear_in_depth_with_the_slope_of_the_closed_form(gain, activation):
    depth, width = 60, 256
    slopes, fits = [], []
    for seed in SEEDS:
        frame = variances(deep_mlp(depth, width, "pre_norm", activation=activation, gain=gain, seed=seed), seed=seed)
        layer, variance = (torch.tensor(frame[c].to_numpy(), dtype=torch.float64) for c in ("layer", "variance"))
        centred = layer - layer.mean()
        slope = float(centred @ variance / (centred @ centred))
        rest = variance - variance.mean() - slope * centred
        slopes.append(slope)
        fits.append(1 - float(rest @ rest / (variance - variance.mean()).square().sum()))
    z = torch.randn(2_000_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    phi = torch.relu(z) if activation == "relu" else torch.tanh(z)
    # E ‖W φ(n)‖² is exact at every width; n, the normalised state, is Gaussian up to O(1/width)
    agrees(torch.tensor(slopes), gain**2 * float(phi.square().mean()), drift=5 / (4 * width))
    assert min(fits) >= 0.99


def test_the_variance_grows_as_each_wiring_says():
    v, depth = 0.5, 40
    expected = {
        "pre_norm": 1 + depth * v,
        "post_norm": 1.0,
        "deep_norm": 1.0,
        "res_post_norm": 1.0 + depth,
        "peri_norm": 1.0 + depth,
        "scaled_pre_norm": 1 + v * sum(1 / layer for layer in range(1, depth + 1)),
        "layer_scale": 1.0,
        "rezero": 1.0,
        "residual": (1 + v) ** depth,
        "plain": v**depth,
    }
    for placement, value in expected.items():
        assert theory.mean_field(placement, depth)[0][-1] == pytest.approx(value, rel=1e-3), placement


@pytest.mark.parametrize("placement", ["pre_norm", "scaled_pre_norm", "peri_norm", "post_norm"])
def test_the_factor_per_layer_of_the_variance_tends_to_one(placement):
    """P5: 1 + v/q at layer 1, near 1 at layer 50."""
    q, _ = theory.mean_field(placement, 50, 2**0.5)
    first = 1.0 if placement == "post_norm" else 2.0
    assert q[1] / q[0] == pytest.approx(first, rel=1e-3) and 1 <= q[50] / q[49] < 1.021
    assert placement == "post_norm" or q[50] > 5  # small factors, yet a large product


# --- how far a layer turns it -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("placement", WITH_THEORY)
def test_updates_and_angles_follow_the_closed_form(placement, activation):
    depth, width, layer = 20, 256, 20
    relative, cosines = theory.updates(placement, depth, 1.0, activation)
    settings = {"activation": activation, "width": width}
    drift = 5 * depth / (4 * width)
    values = over_seeds(updates, placement, depth, "relative_update", layer, **settings)
    agrees(values, relative[layer - 1], drift)
    turned = over_seeds(updates, placement, depth, "cosine", layer, **settings)
    # 1 − cosine is a ratio of variances; of a plain stack, whose cosine is 0, the spread of one inner product remains
    assert abs(float(turned.mean()) - cosines[-1]) <= 4 * float(turned.std()) / 8**0.5 + drift * (1 - cosines[-1])


def test_pre_norms_updates_shrink_like_one_over_the_root_of_the_layer():
    for placement, exponent in (("pre_norm", -0.5), ("peri_norm", -0.5), ("post_norm", 0.0)):
        relative, _ = theory.updates(placement, 400)
        slope = math.log(relative[399] / relative[99]) / math.log(4)
        assert slope == pytest.approx(exponent, abs=0.01), placement


def test_pre_norms_angle_to_the_input_is_that_of_the_variances():
    """The cosines multiply to √(q_0 / q_l), because all that was added is at right angles to the input."""
    _, cosines = theory.updates("pre_norm", 30)
    q, _ = theory.mean_field("pre_norm", 30)
    assert math.prod(cosines) == pytest.approx(math.sqrt(q[0] / q[30]), rel=1e-12)
    values = over_seeds(updates, "pre_norm", 30, "cosine_to_input", 30)
    agrees(values, math.prod(cosines), 5 * 30 / (4 * 256))
    values = over_seeds(updates, "post_norm", 30, "cosine_to_input", 10)
    agrees(values, 1.5**-5, 5 * 10 / (4 * 256))


def test_updates_equal_the_definition_row_by_row():
    model = deep_mlp(3, 8, "pre_norm", seed=1)
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    frame = updates(model, x, seed=4, placement="pre_norm")
    h, states = x, [x]
    for block in model.blocks:
        h = h + F.linear(torch.relu(F.layer_norm(h, (8,))), block.sublayer.weight.detach())
        states.append(h)
    for layer, (a, b) in enumerate(itertools.pairwise(states)):
        rows = [(float((q - p).norm() / p.norm()), float(p @ q / p.norm() / q.norm())) for p, q in zip(a, b)]
        assert frame["relative_update"][layer] == pytest.approx(sum(r for r, _ in rows) / 5, rel=1e-5)
        assert frame["cosine"][layer] == pytest.approx(sum(c for _, c in rows) / 5, rel=1e-5)
    assert list(frame["layer"]) == [1, 2, 3] and set(frame["seed"]) == {4}
    assert list(frame.columns) == ["layer", "relative_update", "cosine", "cosine_to_input", "seed", "placement"]


# --- depth into width -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("placement", ["pre_norm", "post_norm", "scaled_pre_norm", "peri_norm"])
def test_stale_branches_differ_as_the_closed_form_says(placement, activation):
    depth = 20
    expected = theory.stale_branches(placement, depth, 1.0, activation)
    values = over_seeds(stale_branches, placement, depth, "difference", depth, activation=activation)
    agrees(values, expected[-1], 5 * depth / (4 * 256))


@pytest.mark.parametrize("placement", ["pre_norm", "post_norm"])
@pytest.mark.parametrize("start", [1, 6, 16])
def test_merging_layers_changes_the_output_as_the_closed_form_says(placement, start):
    depth, width, values = 20, 256, []
    for seed in SEEDS:
        model = deep_mlp(depth, width, placement, seed=seed)
        x = model.random_inputs(16, torch.Generator().manual_seed(seed + 99))
        with torch.no_grad():
            whole = model.stream(x)[-1]
            with merged_from(model, start):
                assert len(model.blocks) == start - 1 + math.ceil((depth - start + 1) / 2)
                merged = model.stream(x)[-1]
        values.append(float((merged - whole).norm() / whole.norm()))
        assert len(model.blocks) == depth
    agrees(torch.tensor(values), theory.merged(placement, depth, start), 5 * depth / (4 * width))


def test_late_pairs_of_pre_norm_merge_nearly_for_free_and_those_of_post_norm_do_not():
    pre, post = theory.merged("pre_norm", 50, 49), theory.merged("post_norm", 50, 49)
    assert pre < 0.02 < 0.3 < post
    assert theory.merged("pre_norm", 7, 7) == pytest.approx(0, abs=1e-7)  # one layer alone has nothing to merge with


def test_gaussian_differences_equal_a_monte_carlo_average():
    generator = torch.Generator().manual_seed(0)
    z, w = torch.randn(2, 2_000_000, dtype=torch.float64, generator=generator)
    phis = {"linear": lambda x: x, "relu": torch.relu, "tanh": torch.tanh, "gelu": F.gelu}
    for activation, phi in phis.items():
        for q, c in ((1.0, 0.9), (0.3, 0.2), (2.0, -0.5)):
            other = c * z + math.sqrt(1 - c * c) * w
            square = (phi(q**0.5 * z) - phi(q**0.5 * other)).square()
            error = 5 * float(square.std()) / len(z) ** 0.5
            assert abs(theory.gaussian_difference(activation, q, c) - float(square.mean())) < error + 1e-3 * q
        assert theory.gaussian_difference(activation, 1.0, 1.0) == pytest.approx(0, abs=1e-12)


def test_stale_branches_equal_feeding_the_branch_by_hand():
    model = deep_mlp(4, 8, "pre_norm", seed=2)
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    frame = stale_branches(model, x)
    with torch.no_grad():
        states = model.stream(x)
    for layer in (2, 3, 4):
        f = lambda h, block=model.blocks[layer - 1]: block.sublayer(block.norm(h))  # noqa: E731
        new, stale = f(states[layer - 1]).detach(), f(states[layer - 2]).detach()
        assert frame["difference"][layer - 2] == pytest.approx(float((new - stale).norm() / new.norm()), rel=1e-5)
    assert list(frame["layer"]) == [2, 3, 4]
    assert not any(block.sublayer._forward_hooks for block in model.blocks)


def test_merged_layers_are_one_layer_of_twice_the_width():
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    for placement in ("pre_norm", "post_norm"):
        a, b = deep_mlp(2, 8, placement, seed=1).blocks
        wide = torch.cat([a.sublayer.weight, b.sublayer.weight], dim=1)
        if placement == "pre_norm":
            n = torch.relu(F.layer_norm(x, (8,)))
            expected = x + F.linear(torch.cat([n, n], dim=1), wide)
        else:
            n = torch.relu(x)
            expected = F.layer_norm(x + F.linear(torch.cat([n, n], dim=1), wide), (8,))
        torch.testing.assert_close(Merged(a, b)(x), expected)
    for placement in ("plain", "highway", "deep_norm", "hyper_connection"):
        with pytest.raises(ValueError, match=r"cannot be merged; those of x \+ … and norm\(x \+ f\(x\)\) can"):
            Merged(*deep_mlp(2, 8, placement).blocks)


# --- trained networks -------------------------------------------------------------------------------------------------


def small_transformer(placement="pre_norm", depth=3):
    return Transformer(vocabulary=11, width=8, heads=2, depth=depth, placement=placement, context=6, seed=1)


@pytest.mark.parametrize("placement", ["pre_norm", "post_norm"])
def test_layer_edits_equal_networks_built_by_hand(placement):
    model = small_transformer(placement)
    ids = torch.randint(11, (4, 6), generator=torch.Generator().manual_seed(0))

    def loss(m):
        return m(ids).square().mean()

    def by_hand(layers):
        x = model.embed(ids)
        for block in itertools.chain(*layers):
            x = block(x)
        return float(model.head(model.final_norm(x)).detach().square().mean())

    one, two, three = (list(model.blocks[i : i + 2]) for i in (0, 2, 4))
    drops = layer_drops(model, loss, branches=2, placement=placement)
    assert drops["loss"].tolist() == pytest.approx(
        [by_hand([one, two, three]), by_hand([two, three]), by_hand([one, three]), by_hand([one, two])], rel=1e-5
    )
    swaps = layer_swaps(model, loss, branches=2)
    assert swaps["loss"].tolist()[1:] == pytest.approx(
        [by_hand([two, one, three]), by_hand([one, three, two])], rel=1e-5
    )
    merges = layer_merges(model, loss, branches=2)
    wide = [[Merged(a, b) for a, b in zip(one, two)], three]
    assert merges["loss"].tolist()[1] == pytest.approx(by_hand(wide), rel=1e-5)
    assert [len(f) for f in (drops, swaps, merges)] == [4, 3, 3] and len(model.blocks) == 6
    assert list(drops.columns) == ["layer", "loss", "placement"]


def test_layer_edits_leave_the_model_whole_when_the_loss_fails():
    model = small_transformer()

    def loss(m):
        if len(m.blocks) < 6:
            raise ArithmeticError("no")
        return 0.0

    with pytest.raises(ArithmeticError):
        layer_drops(model, loss, branches=2)
    assert len(model.blocks) == 6
    with pytest.raises(ArithmeticError), merged_from(model, 1, branches=2):
        raise ArithmeticError
    assert len(model.blocks) == 6


def test_readouts_equal_the_head_on_every_state_and_the_whole_model_at_the_end():
    model = small_transformer()
    generator = torch.Generator().manual_seed(0)
    ids, targets = torch.randint(11, (2, 4, 6), generator=generator)
    frame = readouts(model, ids, targets, branches=2, seed=3)
    x = model.embed(ids)
    for layer in range(4):
        logits = model.head(F.layer_norm(x, (8,)))
        assert frame["loss"][layer] == pytest.approx(float(F.cross_entropy(logits.mT, targets).detach()), rel=1e-5)
        assert frame["rms"][layer] == pytest.approx(float(logits.square().mean().sqrt()), rel=1e-5)
        for block in model.blocks[2 * layer : 2 * layer + 2]:
            x = block(x)
    assert frame["loss"][3] == pytest.approx(float(F.cross_entropy(model(ids).mT, targets)), rel=1e-5)
    bare = readouts(model, ids, targets, branches=2, normalised=False)
    states = model.stream(model.embed(ids))
    assert bare["loss"][2] == pytest.approx(float(F.cross_entropy(model.head(states[4]).mT, targets)), rel=1e-5)
    post = small_transformer("post_norm")
    a, b = (readouts(post, ids, targets, branches=2, normalised=n)["loss"].tolist() for n in (True, False))
    assert a == b and list(frame.columns) == ["layer", "loss", "rms", "seed"]
    one_per_row = CharacterMLP(11, 2, "pre_norm", width=16)
    assert len(readouts(one_per_row, torch.randint(11, (4, 8)), torch.randint(11, (4,)))) == 3


def test_without_its_final_norm_a_pre_norm_transformers_logits_grow_like_the_root_of_the_variance():
    """P13: the head's weights do not know the stream: rms(logits) = rms(state) · √(2 width / (width + vocabulary)).

    76 · 64 weights, estimated with a relative error of √(2 / (76 · 64)) = 2 %; states of 128 tokens are not independent.
    """
    sizes = []
    for depth in (3, 12):
        logs = []
        for seed in range(4):
            model = Transformer(vocabulary=76, width=64, heads=4, depth=depth, context=16, seed=seed)
            ids = torch.randint(76, (8, 16), generator=torch.Generator().manual_seed(seed))
            frame = readouts(model, ids, ids, branches=2, normalised=False)
            with torch.no_grad():
                rms = float(model.stream(model.embed(ids))[-1].square().mean().sqrt())
            logs.append(frame["rms"].iloc[-1] / (rms * math.sqrt(2 * 64 / (64 + 76))))
            normed = readouts(model, ids, ids, branches=2)["rms"].iloc[-1]
            assert normed == pytest.approx(math.sqrt(2 * 64 / 140), rel=0.15)
        assert sum(logs) / 4 == pytest.approx(1, abs=0.1)
        sizes.append(rms)
    assert sizes[1] > 1.5 * sizes[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: updates(deep_mlp(2, 8, "hyper_connection")), "hyper-connections: its hidden states are several"),
        (lambda: stale_branches(deep_mlp(2, 8, "hyper_connection")), "hyper-connections"),
        (lambda: layer_drops(small_transformer(), len, branches=4), "6 blocks cannot be cut into layers of that many"),
        (lambda: layer_swaps(small_transformer(), len, branches=0), "branches is 0"),
        (lambda: readouts(deep_mlp(2, 8), torch.ones(1, 8), torch.zeros(1)), "DeepMLP has no head"),
        (lambda: merged_from(deep_mlp(3, 8, "pre_norm"), 4).__enter__(), "start is 4; expected a layer, 1 … 3"),
        (lambda: theory.stale_branches("residual", 3), "no closed form for placement 'residual'; known are post_norm"),
        (lambda: theory.merged("peri_norm", 3, 1), "known are post_norm, pre_norm"),
        (lambda: theory.updates("hyper_connection", 3), "no closed form for placement 'hyper_connection'"),
    ],
)
def test_impossible_requests_say_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- recorded ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gain", "level"), [(0.6, 2.45), (1.0, 2.5)])
def test_post_norm_forgets_more_where_both_have_learned_equally_much(gain, level):
    """The interpolation by hand, from the two rates around the level; and its sign is the same with every seed."""
    frame = evidence.forgotten_more(gain, level)
    assert len(frame) == 3 and (frame["difference"] > 0).all()
    grid = data.recorded("rewiring").query("reading == 'backwards' and start == placement and learning_rate <= 1e-3")
    for seed in range(3):
        runs = grid[(grid["gain"] == gain) & (grid["seed"] == seed)].set_index(["placement", "learning_rate"])
        forwards = {}
        for placement in ("post_norm", "pre_norm"):
            (x0, y0), (x1, y1) = runs.loc[placement][["after", "after_forwards"]].sort_index().to_numpy()
            forwards[placement] = y0 + (level - x0) / (x1 - x0) * (y1 - y0)
            assert min(x0, x1) <= level <= max(x0, x1)
        assert frame["difference"][seed] == pytest.approx(forwards["post_norm"] - forwards["pre_norm"], abs=1e-9)
