"""Chapter 09: what its numbers, bounds and pictures claim, against enumeration, fp64, closed forms and torch's own.

The bounds of `variance_bound`, with γ(k) = ku/(1 − ku), r = |mean|/σ, δ the error of the computed mean; n numbers:

    textbook   x² is rounded once, a sum n − 1 times, the division once: γ(n + 1) E[x²]. The mean has γ(n) E|x|, its
               square γ(2n + 1) (E|x|)². Both are at most E[x²] = σ²(1 + r²); the subtraction adds u of the result.
    two passes δ <= γ(n) E|x| <= γ(n) σ√(1 + r²). x − m̂ is rounded, squared, summed, divided: n + 3 roundings of
               Σ(x − m̂)²/n = σ² + δ². Pairwise sums have log₂ n additions in a row in place of n − 1.
    Welford    k e_k = (k − 1) e_{k−1} + rounding of the update (2u|D_k|) and of the mean (u k|m_k|): |e_k| is at most
               u (n + 1)/2 · max|x| + 2u max|D|, and max|D| <= 8σ where |x − mean| <= 4σ. A term of the sum is D_k² (1 − 1/k),
               off by |D_k|(|e_k| + |e_{k−1}|) + e²; with Cauchy–Schwarz, Σ|D_k| <= √(2n · nσ²): √8 e/σ + e²/σ².
"""

import math

import pytest
import torch
import torch.nn.functional as F

from normcourse import canvas, data, i18n
from normcourse.chapters.numerics import drawings
from normcourse.chapters.numerics.evidence import (
    HalfNorm,
    WideNorm,
    error_in_roundings,
    next_character_model,
    plant_outlier,
    rows,
    throughout,
    torchs,
    watched,
)
from normcourse.chapters.numerics.formats import FLOATS, METHODS, every_number, gamma, quantise, unit, variance_bound
from normcourse.chapters.small_transformers import small_transformer

from ..lessons import definitions

SMALL = [name for name in FLOATS if name != "fp32"]
DOUBLE = {"dtype": torch.float64}
MANTISSA = {"fp16": 10, "bf16": 7, "fp8 e4m3": 3, "fp8 e5m2": 2}  # stored bits
SMALLEST = {"fp16": -24, "bf16": -133, "fp8 e4m3": -9, "fp8 e5m2": -16}  # exponents of 2
LARGEST = {"fp16": 65504, "bf16": 255 * 2.0**120, "fp8 e4m3": 448, "fp8 e5m2": 57344}


@pytest.fixture(autouse=True)
def one_thread():
    """For matrices this small a second thread only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def chapter():
    return definitions("09", "ids", "vocabulary", "grids", "z", "tokens", "others", "DIMS")


# numbers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_the_numbers_are_those_of_the_definition(name):
    """m · 2^e with so many digits: every multiple of the smallest one up to 2^(p+1) of it, then with doubling gaps."""
    found, digits, size = every_number(FLOATS[name]), MANTISSA[name], 2.0 ** SMALLEST[name]
    expected, step, value = [], size, 0.0
    while value < LARGEST[name]:
        for _ in range(2**digits):
            value += step
            expected.append(value)
        step *= 2 if len(expected) > 2**digits else 1
    expected = [x for x in expected if x <= LARGEST[name]]
    assert found.tolist() == expected and unit(FLOATS[name]) == 2.0 ** -(digits + 1)


@pytest.mark.parametrize("name", FLOATS)
def test_rounding_is_off_by_at_most_u_and_reaches_it(name):
    x = 1 + torch.rand(20_000, generator=torch.Generator().manual_seed(0), **DOUBLE)
    error = (x.to(FLOATS[name]).double() / x - 1).abs().max().item()
    u = unit(FLOATS[name])
    assert 0.99 * u / (1 + u) < error <= u  # reached half-way behind 1


@pytest.mark.parametrize(("value", "absmax"), [(0.1, 6.0), (1e-8, 1.0), (3e5, 60.0), (47.3, 50.0)])
def test_the_line_shows_the_neighbours_and_the_nearest_of_them(chapter, value, absmax):
    frame = chapter["number_line"](value=value, window=0.5, absmax=absmax)
    for name, part in frame.groupby("format"):
        if name.startswith("int"):
            top = 2 ** (int(name[3:]) - 1) - 1
            grid = torch.arange(0, top + 1, **DOUBLE) * absmax / top
        else:
            grid = torch.cat([torch.zeros(1, **DOUBLE), every_number(FLOATS[name])])
        nearest = part["nearest"].iloc[0]
        if math.isfinite(nearest) and value <= grid[-1]:
            assert abs(nearest - value) <= (grid - value).abs().min().item() * (1 + 1e-12)
        inside = grid[(grid >= value / 2) & (grid <= 1.5 * value)].tolist()
        assert part["number"].dropna().tolist() == pytest.approx(inside)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("dims", [None, (0,), (1,)])
def test_fake_quantisation_rounds_to_the_nearest_of_its_grid(bits, dims):
    x = 3 * torch.randn(40, 6, generator=torch.Generator().manual_seed(1), **DOUBLE)
    y, top = quantise(x, bits, dims), 2 ** (bits - 1) - 1
    largest = x.abs().max() if dims is None else x.abs().amax(dims, keepdim=True)
    whole = y / largest * top
    assert (whole - whole.round()).abs().max() < 1e-9 and whole.abs().max() <= top + 1e-9
    assert ((y - x).abs() <= largest / top / 2 * (1 + 1e-9)).all()
    assert torch.allclose(quantise(y, bits, dims), y)


# variances ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_the_variance_where_nothing_is_rounded(method):
    x = 3 + torch.randn(32, 50, generator=torch.Generator().manual_seed(0), **DOUBLE)
    tolerance = 1e-6 if method == "in_fp32" else 1e-12
    assert torch.allclose(METHODS[method](x), x.var(0, unbiased=False), rtol=tolerance)


@pytest.mark.parametrize("numbers", [8, 64])
@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
@pytest.mark.parametrize("method", METHODS)
def test_no_variance_is_off_by_more_than_its_bound(chapter, method, dtype, numbers):
    """At each ratio, in the worst of 200 columns; the ratio is that of the rounded column, as the derivation has it."""
    u = unit(FLOATS[dtype])
    for ratio in (1.0, 4.0, 16.0, 32.0, 256.0):
        if ratio > 1 / (8 * u):
            continue
        x = chapter["features"](ratio, numbers, dtype)
        exact, mean = x.double().var(0, unbiased=False), x.double().mean(0)
        farthest = ((x.double() - mean).abs().amax(0) / exact.sqrt()).max().item()
        error = (METHODS[method](x).double() / exact - 1).abs().max().item()
        bound = variance_bound(method, numbers, u, (mean / exact.sqrt()).max().item(), farthest)
        assert error <= bound, (ratio, error, bound)


def test_the_bounds_tell_the_methods_apart_and_the_measurements_agree(chapter):
    """The textbook's error grows as r² from u on: a hundredfold from r = 8 to 80; its bound too, and it is passed by
    no other method at r = 32."""
    frame = chapter["variances"](dtype="fp16", numbers=64).set_index(["method", "ratio"])
    textbook = frame.loc["textbook"]["error"]
    assert 16 < textbook[128.0] / textbook[16.0] < 256  # 64, random by a factor of 2 either way
    bounds = {name: variance_bound(name, 64, 2**-24, 32.0) for name in METHODS}
    assert min(bounds, key=bounds.get) in ("pairwise", "in_fp32") and max(bounds, key=bounds.get) == "textbook"
    assert gamma(3, 0.5) == math.inf and gamma(2, 0.1) == pytest.approx(0.25)


# ε, sizes, γ ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "eps"), [("fp16", 1e-5), ("bf16", 1e-5), ("fp32", 1e-5), ("fp32", 1e-10), ("bf16", 1e-8)]
)
def test_a_norm_in_one_dtype_follows_the_closed_form_where_nothing_over_or_underflows(chapter, dtype, eps):
    """x², mean, + ε, root, division, and ε itself: six roundings, the first four under the root."""
    frame, number = chapter["sizes"](eps=eps, dtype=dtype), torch.finfo(FLOATS[dtype])
    low = math.sqrt(number.tiny) * 2 if dtype == "fp16" else 0.0
    inside = frame[(frame["size"] > max(low, 4e-6)) & (frame["size"] < (255 if dtype == "fp16" else 1e5))]
    x = inside["size"].map(lambda s: torch.tensor(s, **DOUBLE).to(FLOATS[dtype]).item())
    exact = x / (x**2 + eps) ** 0.5
    slack = 2**-25 / eps if dtype == "fp16" else 0.0  # ε is subnormal in fp16: an absolute error, half of it passed on
    assert (inside["output"] / exact - 1).abs().max() < 6 * unit(FLOATS[dtype]) + slack


def test_fp16_is_silent_above_256_and_breaks_where_squares_vanish(chapter):
    frame = chapter["sizes"](eps=1e-8, dtype="fp16")
    assert (frame[frame["size"] >= 256]["output"] == 0).all() and frame[frame["size"].between(1, 255)][
        "output"
    ].min() > 0.99
    small = frame[frame["size"] < 2**-12.5 * 0.99]["output"]  # below half of the smallest number, after squaring
    assert not small.map(math.isfinite).any()
    assert frame[frame["size"].between(2**-12.5 * 1.01, 255)]["output"].map(math.isfinite).all()


@pytest.mark.parametrize("name", ["fp32", "fp16", "bf16"])
def test_torchs_default_eps_is_that_of_fp32(name):
    """Where mean square = ε the output is 1/√2; half precision tells ε from its own, which is 8,192 times and more."""
    x = torch.full((1, 8), 2.0**-11.5).to(FLOATS[name])
    square = x.double().square().mean().item()
    expected = (square / (square + 2**-23)) ** 0.5
    assert F.rms_norm(x, (8,))[0, 0].item() == pytest.approx(expected, rel=2 * unit(FLOATS[name]) + 1e-6)


def test_an_error_is_counted_in_roundings():
    """A single rounding of the right output is off by u/√12 (its mean over the gaps of a binade, uniform) to u/√3."""
    x = rows(torch.float16, 0, 1, 0)
    assert 12**-0.5 < error_in_roundings(lambda x: torchs(x.double()).half(), x) < 3**-0.5
    assert error_in_roundings(throughout, rows(torch.float16, 0, 300, 0)) == pytest.approx(2048)  # all zeros


# few bits -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0.05, 0.7, 2.0, 5.0, 40.0])
def test_the_closed_form_of_the_rounding_error_is_its_integral(chapter, step):
    x = torch.linspace(-9, 9, 900_001, **DOUBLE)
    density = torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)
    expected = torch.trapezoid((x - step * (x / step).round()).square() * density, x).sqrt().item()
    assert chapter["rounding_error"](step) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("bits", [4, 8])
def test_the_error_of_the_other_channels_follows_the_closed_form(chapter, bits):
    """The squared error has a relative spread below 1 (uniform) … √2 (all zero) per number: of 31 × 256 numbers, and the
    power it is divided by alike, four standard errors are 4 · 1.5 · √2/√7936 = 10 % of the square, 5 % of the root."""
    frame = chapter["outliers"](bits=bits)
    tensor = frame[(frame["panel"] == "errors") & (frame["scale"] == "per_tensor")]
    assert ((tensor["error"] / tensor["theory"] - 1).abs() < 0.05).all()
    channel = frame[(frame["panel"] == "errors") & (frame["scale"] == "per_channel")]["error"]
    assert channel.max() / channel.min() < 1 + 1e-9  # an outlier is no matter to the others


def test_a_planted_outlier_leaves_the_function_as_it_is():
    model = small_transformer("pre_norm", 2).double()
    ids = torch.randint(60, (4, 16), generator=torch.Generator().manual_seed(0))
    before = model(ids)
    with watched(plant_outlier(model, 30.0)) as seen:
        assert torch.allclose(model(ids), before, atol=1e-10)
    assert len(seen["norms"]) == 5 and len(seen["sums"]) == len(seen["others"]) == 4
    size = seen["norms"][0].square().mean((0, 1)).sqrt()
    assert size.argmax() == 3 and 20 < size[3] / size[[0, 1, 2]].mean() < 45


# the run that breaks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_the_run_breaks_at_a_character_that_decay_has_shrunk_below_what_fp16_can_square(chapter, seed):
    model, batch, history = chapter["train"](HalfNorm(), seed=seed, steps=500)
    assert math.isnan(history["loss"].iloc[-1]) and history["loss"].iloc[:-1].map(math.isfinite).all()
    assert history["gradient"].iloc[-21:-1].max() < 5  # no explosion before
    name, given, output = chapter["first_not_finite"](model, batch)
    assert name == "1" and given.isfinite().all()
    broken = ~output.isfinite().all(-1)
    assert (given[broken].half().square().mean(-1) == 0).all() and given[broken].abs().max() < 2**-10
    for i in batch[broken].unique().tolist():
        seen = [step for step, found in zip(history["step"], history["seen"].iloc[:-1]) if i in found.tolist()]
        sizes = torch.stack([*history["size"]])[:, i]
        if not seen:  # then nothing but decay, exactly
            steps = torch.arange(len(sizes))
            assert torch.allclose(sizes, sizes[0] * 0.98**steps, rtol=1e-4)
        else:
            assert len(sizes) - 1 - seen[-1] > 200


def test_clipping_does_not_save_the_run_and_wide_statistics_do(chapter):
    clipped = chapter["train"](HalfNorm(), clip=1.0, steps=320)[2]
    assert math.isnan(clipped["loss"].iloc[-1])
    rare = next_character_model(8, WideNorm())
    with torch.no_grad():
        rare[0].weight.zero_()
        assert rare[1](rare[0].weight).isfinite().all()
        assert HalfNorm(1e-5)(rare[0].weight).isfinite().all() and not HalfNorm()(rare[0].weight).isfinite().any()


def test_the_probe_names_the_first_module_whose_output_is_not_finite(chapter):
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3), torch.nn.ReLU())
    model[2].bias.data[1] = math.inf
    name, given, output = chapter["first_not_finite"](model, torch.ones(2, 3))
    assert name == "2" and given.isfinite().all() and output.isinf().any()
    assert not any(module._forward_hooks for module in model)


# clipping, loss scaling -----------------------------------------------------------------------------------------------


def test_the_recorded_clipping_is_whole_and_clipping_above_all_norms_changes_nothing():
    runs = data.recorded("clipping")
    assert len(runs) == 2 * 4 * 2 * 10 and runs["loss"].map(math.isfinite).all()
    pairs = runs.pivot_table(index=["placement", "learning_rate", "seed"], columns="clip", values="largest")
    first = pairs[1.0] / pairs[0.0]  # the largest norm is mostly that of the first steps, before anything differs
    assert (first.round(6) == 1).mean() > 0.5


@pytest.mark.parametrize(("loss_scale", "tokens"), [(0, 8), (0, 24), (16, 20), (16, 8)])
def test_loss_scaling_moves_the_distribution_and_loses_what_fp16_cannot_hold(chapter, loss_scale, tokens):
    gradient = torch.randn(5000, generator=torch.Generator().manual_seed(0), **DOUBLE)
    chapter["per_token"] = gradient
    frame = chapter["scaled"](loss_scale=loss_scale, tokens=tokens)
    scaled = (gradient * 2.0 ** (loss_scale - tokens)).abs()
    assert frame["lost"].iloc[0] == pytest.approx((scaled <= 2**-25).double().mean().item())
    assert frame["over"].iloc[0] == pytest.approx((scaled >= 65520).double().mean().item())
    assert frame["share"].sum() == pytest.approx(1)
    at = {**frame.set_index("exponent")["share"]}
    assert at[loss_scale - tokens - 1.0] == pytest.approx(
        ((gradient.abs() >= 0.5) & (gradient.abs() < 1)).double().mean()
    )


# pictures -------------------------------------------------------------------------------------------------------------


def test_titles_carry_the_number_of_the_position(chapter):
    i18n.set_language("both")
    figure, axes = canvas.new_figure((9.2, 5.4), nrows=2)
    canvas.redraw(figure, drawings.number_line, chapter["number_line"](value=1e5))
    assert "fp16 ∞" in axes[0].get_title(loc="left")
    canvas.redraw(figure, drawings.number_line, chapter["number_line"](value=0.1))
    assert "0.099976" in axes[0].get_title(loc="left")  # 1638 / 2^14
    figure, ax = canvas.new_figure()
    canvas.redraw(figure, drawings.sizes, chapter["sizes"](eps=1e-8, dtype="fp16"))
    assert "becomes 0" in ax.get_title(loc="left") and "∞ or nan" in ax.get_title(loc="left")
    canvas.redraw(figure, drawings.sizes, chapter["sizes"](eps=1e-5, dtype="fp32"))
    assert "∞" not in ax.get_title(loc="left")
