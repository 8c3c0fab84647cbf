"""What chapter 08 states, against closed forms, exact counts and torch's own derivatives."""

import math

import numpy as np
import pytest
import torch

from normcourse import canvas, data, i18n
from normcourse.chapters.initialisation import drawings, evidence, signature
from normcourse.chapters.initialisation.runs import CharacterTower, one_batch, trained_together
from normcourse.chapters.initialisation.starts import STARTS, expected, kept_for_backward, output_change, tower
from normcourse.measure import gradient_norms, variances
from normcourse.residual import DeepNorm
from normcourse.train import train

from ..lessons import definitions

FROM_IDENTITY = ("zero_init", "fixup", "rezero")


@pytest.fixture(autouse=True)
def one_thread():
    """For matrices this small a second thread only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def chapter():
    return definitions("08", "POWERS", "RATES", "change", "runs")


# starts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "variance", "gradient"),
    [
        ("plain", 1.0, 1.0),
        ("unscaled", 2.0**60, 2.0**30),
        ("shrunk", (1 + 1 / 60) ** 60, (1 + 1 / 60) ** 30),
        ("multiplied", (1 + 1 / 60) ** 60, (1 + 1 / 60) ** 30),
        ("multiplied_more", (1 + 1 / 3600) ** 60, (1 + 1 / 3600) ** 30),
        ("pre_norm", 61.0, 61**0.5),
        ("gpt2", 2.0, 2**0.5),
        ("post_norm", 1.0, 1.0),
        ("deep_norm", 1.0, 1.0),
        *((start, 1.0, 1.0) for start in FROM_IDENTITY),
    ],
)
def test_the_theory_of_a_start_is_its_closed_form(start, variance, gradient):
    """A branch of v = χ = 1: products over 60 layers by hand."""
    measured = expected(start, 60)
    assert measured[0][-1] == pytest.approx(variance) and measured[1][0] == pytest.approx(gradient)


@pytest.mark.parametrize("start", ["shrunk", "multiplied", "pre_norm", "gpt2", "unscaled"])
def test_towers_follow_the_theory_on_average(start):
    """Twelve wide towers of 12 layers: the means are within four standard errors, and as many per cent for finite width."""
    ends, gradients = [], []
    for seed in range(12):
        model = tower(start, 12, width=128, seed=seed)
        x = model.random_inputs(32, torch.Generator().manual_seed(100 + seed))
        ends.append((variances(model, x)["variance"].iloc[-1]) / x.var().item())
        norms = gradient_norms(model, x, seed=seed)["gradient_norm"]
        gradients.append((norms.iloc[0] / norms.iloc[-1]) ** 2)
    variance, gradient = expected(start, 12)
    for found, theory in ((ends, variance[-1]), (gradients, gradient[0] ** 2)):
        error = np.std(found, ddof=1) / len(found) ** 0.5
        assert abs(np.mean(found) - theory) < 4 * error + 0.04 * theory, (start, np.mean(found), theory, error)


@pytest.mark.parametrize("start", FROM_IDENTITY)
def test_these_starts_are_the_identity_exactly(start):
    model = tower(start, 40)
    x = model.random_inputs(3, torch.Generator().manual_seed(0))
    assert torch.equal(model.stream(x)[-1], x)


@pytest.mark.parametrize(
    ("start", "first", "last", "own"),
    [("zero_init", False, True, None), ("fixup", False, True, None), ("rezero", False, False, True),
     ("layer_scale", True, True, True), ("multiplied", True, True, None)],
)  # fmt: skip
def test_a_factor_of_zero_keeps_the_gradient_from_the_other(start, first, last, own):
    model = tower(start, 30)
    model(model.random_inputs(8, torch.Generator().manual_seed(0))).square().mean().backward()
    for block in model.blocks:
        assert bool(block.sublayer.first.grad.any()) is first and bool(block.sublayer.last.grad.any()) is last
        mine = [p.grad for name, p in block.named_parameters() if "sublayer" not in name]
        assert [bool(grad.any()) for grad in mine] == ([] if own is None else [own])


# one step -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["multiplied", "deep_norm"])
def test_the_change_of_a_step_is_the_derivative_along_it(start):
    """SGD moves the parameters by −rate · gradient: to first order the output moves by the Jacobian times that."""
    model, generator = tower(start, 8), torch.Generator().manual_seed(2**31)
    x = model.random_inputs(4, generator)
    output = model(x)
    direction = torch.randn(output.shape, generator=generator)
    names, values = zip(*model.named_parameters())
    gradients = torch.autograd.grad((output * direction).sum(), values)
    along = {name: -1e-4 * g for name, g in zip(names, gradients)}
    call = lambda p: torch.func.functional_call(model, p, (x,))  # noqa: E731
    _, moved = torch.func.jvp(call, ({n: v.detach() for n, v in zip(names, values)},), (along,))
    share = (moved.norm() / output.norm()).item()
    assert output_change(start, 8, "sgd", 1e-4) == pytest.approx(share, rel=0.02)


@pytest.mark.parametrize(
    ("start", "optimiser", "power"),
    [("gpt2", "adam", 1.0), ("shrunk", "adam", 1.0), ("multiplied", "adam", 0.5), ("multiplied_more", "adam", 0.0),
     ("deep_norm", "adam", 0.5), ("fixup", "adam", 0.5), ("deep_norm", "sgd", 0.0), ("fixup", "sgd", 0.0),
     ("multiplied", "sgd", 0.0)],
)  # fmt: skip
def test_the_change_of_a_step_grows_with_this_power_of_the_depth(chapter, start, optimiser, power):
    """From 16 to 144 layers, three seeds: 9 to the power; random by less than a factor of 1.7, and powers that differ
    by a half are a factor of 3 apart."""
    assert chapter["POWERS"][optimiser][start] == power
    rate = {"adam": 1e-5, "sgd": 1e-4}[optimiser]
    ratios = [
        output_change(start, 144, optimiser, rate, s) / output_change(start, 16, optimiser, rate, s) for s in (0, 1, 2)
    ]
    assert 1 / 1.7 < math.exp(np.mean(np.log(ratios))) / 9**power < 1.7, ratios


# DeepNorm -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("N", "M"), [(6, 6), (18, 6), (100, 12), (500, 500)])
def test_the_constants_are_those_of_the_paper(chapter, N, M):
    """Wang et al. (2022), figure 2: exact for one stack, and to the paper's two digits for an encoder beside a decoder."""
    alone, both = chapter["from_branches"], chapter["encoder_beside"]
    paper = (2 * N) ** 0.25, (8 * N) ** -0.25
    assert alone(2 * N) == pytest.approx(paper) and DeepNorm.constants(2 * N) == pytest.approx(paper)
    assert alone(3 * M) == pytest.approx(((3 * M) ** 0.25, (12 * M) ** -0.25))
    size = (N**4 * M) ** (1 / 16)
    alpha, beta = both(N, M)
    assert round(alpha / size, 2) == 0.81 and round(beta * size, 2) == 0.87
    a, b = alone(3 * M)
    assert M * b**2 / a * 2 * N * 2 * beta**2 / alpha**2 == pytest.approx(1)


def test_deep_norm_scales_both_matrices_by_beta():
    plain, deep = tower("post_norm", 20), tower("deep_norm", 20)
    beta = DeepNorm.constants(20)[1]
    for name in ("first", "last"):
        one, other = (getattr(model.blocks[3].sublayer, name) for model in (plain, deep))
        assert torch.allclose(other, beta * one)


# what depth costs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "floats"), [("multiplied", 2 * 256), ("pre_norm", 3 * 256 + 2 * 16)])
def test_memory_is_an_exact_count(start, floats):
    """16 rows of 16: what a layer keeps is its input and the ReLU's output, with a norm also its result, and two
    numbers per row."""
    small, large, thousand = (kept_for_backward(start, depth)[0] for depth in (10, 50, 1000))
    assert large - small == 40 * 4 * floats and thousand - small == 990 * 4 * floats


# training -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["deep_norm", "rezero", "layer_scale", "gpt2"])
def test_trained_together_is_trained_one_by_one(start):
    rates = [1e-3, 1e-2]
    together = trained_together([CharacterTower(start, 6, s) for s in (0, 1)], [one_batch(s) for s in (0, 1)], rates, 8)
    for seed, rate in enumerate(rates):
        alone = train(CharacterTower(start, 6, seed), one_batch(seed), steps=8, learning_rate=rate, progress=False)
        assert together[seed].tolist() == pytest.approx(alone["loss"].tolist(), rel=2e-3)


def test_the_recorded_runs_are_whole():
    runs = evidence.deep_starts()
    assert (runs.groupby(["start", "depth", "learning_rate"]).size() == 6).all() and runs["loss"].between(0, 10).all()
    assert set(runs["depth"]) >= {100, 300} and set(runs["start"]) <= set(STARTS)
    assert len(data.recorded("bert_std")) == 90


def test_gpt2_counts_branches():
    """N branches times 1/N are one, by layers two, where their outputs are at right angles: those of 12 random ones are to
    within 8 % (one standard deviation, the width being 64)."""
    frame = evidence.branches_together(layers=6).groupby("setting")["value"].mean()
    assert frame["branches"] == pytest.approx(1, abs=0.15) and frame["layers"] / frame["branches"] == pytest.approx(
        2, rel=0.1
    )


# pictures -------------------------------------------------------------------------------------------------------------


def test_a_tower_lights_as_many_windows_as_its_gradient_says():
    frame = signature.towers(storeys=50, depth=60)
    i18n.set_language("en")
    figure, ax = canvas.new_figure()
    canvas.redraw(figure, signature.draw, frame)
    least = frame[frame["layer"] == 0].sort_values("gradient_norm").iloc[0]
    assert canvas.number(least["gradient_norm"]) in ax.get_title(loc="left")
    top = frame[frame["layer"] == 60].set_index("start")["gradient_norm"]
    assert top[["plain", "unscaled", "post_norm", "multiplied", "deep_norm"]].to_numpy() == pytest.approx(1, rel=1e-6)
    i18n.set_language("both")


def test_titles_carry_the_number_of_the_position(chapter):
    figure, axes = canvas.new_figure((9.2, 4.4), ncols=2)
    canvas.redraw(figure, drawings.layers, chapter["layers"](start="rezero", depth=10))
    assert "1.0" in axes[0].get_title(loc="left")
    canvas.redraw(figure, drawings.training, chapter["training"](depth=100))
    best = chapter["runs"].query("depth == 100 and start == 'gpt2'").groupby("learning_rate")["loss"].mean().min()
    assert f"{best:.2f}" in axes[0].get_title(loc="left")
