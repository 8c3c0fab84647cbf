"""Chapter 05: what each of its explorers and cells claims, against closed forms and torch's own operators."""

import math

import pytest
import torch
import torch.nn.functional as F

from normcourse import canvas, i18n
from normcourse.chapters.rms_norm import drawings
from normcourse.models import Transformer
from normcourse.norms import layer_norm, rms_norm

from ..lessons import definitions

DOUBLE = {"dtype": torch.float64}


@pytest.fixture(scope="module")
def chapter():
    return definitions("05", "quality", "noise", "unit", "gammas", "weights", "positions", "z")


def rows(count, d, mean=0.0, seed=0):
    return torch.randn(count, d, generator=torch.Generator().manual_seed(seed), **DOUBLE) + mean


def test_rms_norm_is_torchs_and_layer_norm_is_rms_norm_of_the_centred_rows():
    x = rows(32, 96, mean=2.0)
    assert torch.allclose(rms_norm(x, eps=1e-5), F.rms_norm(x, (96,), eps=1e-5), atol=1e-12)
    assert torch.allclose(layer_norm(x, eps=1e-5), rms_norm(x - x.mean(-1, keepdim=True), eps=1e-5), atol=1e-12)


def test_torchs_default_eps_is_the_machine_precision():
    """rms of the output is 1/√(1 + eps/mean square): where mean square = eps, that is 1/√2."""
    tiny = torch.full((1, 8), torch.finfo(torch.float32).eps ** 0.5)
    assert F.rms_norm(tiny, (8,)).square().mean().sqrt().item() == pytest.approx(0.5**0.5, rel=1e-5)


@pytest.mark.parametrize("m", [-3.0, -0.4, 0.0, 1.0, 2.6])
def test_the_mean_slider_follows_its_closed_form_exactly(chapter, m):
    """z is standardised to rounding, so mean and spread are not estimates: what is left is eps = 1e-6, half of it
    relative, and std's d − 1 against d: 1/(2·2048) relative."""
    frame = chapter["recentring"](mean_shift=m)
    values = frame[(frame["panel"] == "values") & (frame["norm"] == "rms_norm")]["value"]
    assert values.mean() == pytest.approx(m / math.sqrt(1 + m * m), abs=1e-6)
    assert values.std() == pytest.approx(1 / math.sqrt(1 + m * m), rel=1 / 4096 + 1e-6)
    sweep = frame[frame["panel"] == "sweep"]
    for column in ("mean", "spread", "rms"):
        assert (sweep[column] - sweep[f"{column}_theory"]).abs().max() < 1 / 4096 + 1e-6
    same = chapter["recentring"](mean_shift=m, recentre=True)
    both = same[same["panel"] == "values"].pivot(columns="norm", values="value")
    assert (both["layer_norm"] - both["rms_norm"]).abs().max() < 1e-12


@pytest.mark.parametrize("d", [16, 64, 1024])
def test_the_mean_of_a_random_vector_holds_one_dth_of_its_power(d):
    """d · mean² is chi-square with one degree of freedom, variance 2: the mean over n rows has a standard error of
    √(2/n)/d, and the power's own error is smaller by √d. Four of them are allowed."""
    n = 20_000
    x = rows(n, d)
    share = float(x.mean(-1).square().mean() / x.square().mean())
    assert share == pytest.approx(1 / d, abs=4 * math.sqrt(2 / n) / d * (1 + 1 / math.sqrt(d)))


def test_a_layer_norm_network_sends_no_gradient_along_one_and_an_rms_norm_network_does():
    ids = torch.randint(20, (8, 16), generator=torch.Generator().manual_seed(0))
    shares = {}
    for norm in ("layer_norm", "rms_norm"):
        model = Transformer(vocabulary=20, width=32, heads=2, depth=2, norm=norm, context=16).double()
        F.cross_entropy(model(ids).flatten(0, 1), ids.flatten()).backward()
        gradient = torch.cat([model.tokens.grad.T, model.blocks[0].sublayer.out.weight.grad], dim=1)
        shares[norm] = float(32 * gradient.mean(0).square().sum() / gradient.square().sum())
    assert shares["layer_norm"] < 1e-24  # rounding of fp64, squared
    assert shares["rms_norm"] > 1e-3


def test_centring_the_weights_makes_both_norms_one_function(chapter):
    """In fp64 the swapped model differs by rounding only; without centring it differs by about √(1/d) of the logits."""
    model = Transformer(vocabulary=20, width=32, heads=2, depth=2, norm="layer_norm", context=16, seed=3).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:  # γ and β as training leaves them: anything
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5), **DOUBLE))
        ids = torch.randint(20, (8, 16), generator=torch.Generator().manual_seed(0))
        exact = chapter["swap_norms"](chapter["centre_weights"](model))(ids)
        rough = chapter["swap_norms"](model)(ids)
        assert (exact - model(ids)).abs().max() < 1e-10
        assert (rough - model(ids)).abs().max() > 1e-3


def test_bytes_are_counted_as_by_hand(chapter):
    """rms_norm: square reads and writes (2), mean reads (1), x · rstd (2), · weight (2): 7 tensors; layer_norm
    besides: mean (1), subtract (2), + bias (2): 12. The rest is one number per row, and γ and β."""
    table, small = chapter["bytes_moved"](256, 512), 12 / 512 + 4 / 256
    expected = {"copy": 2, "F.layer_norm": 2, "F.rms_norm": 7, "layer_norm": 12, "rms_norm": 7}
    for form, count in expected.items():
        assert table["forward"][form] == pytest.approx(count, abs=small), form
    assert table["backward"]["F.layer_norm"] == pytest.approx(3, abs=small)


def test_bytes_kept_for_backward(chapter):
    """torch's layer norm keeps x and two numbers per row; the others two full tensors and one number per row."""
    forward, parameters, _ = chapter["forms"](128, 64)
    kept = {form: chapter["kept_for_backward"](forward[form], parameters[1:]) for form in forward if form != "copy"}
    assert kept["F.layer_norm"] == pytest.approx(1 + 2 / 64)
    for form in ("F.rms_norm", "layer_norm", "rms_norm"):
        assert kept[form] == pytest.approx(2 + 1 / 64)


def test_rope_is_a_rotation_that_sees_only_distances(chapter):
    rope, x, y = chapter["rope"], rows(5, 64), rows(5, 64, seed=1)
    assert torch.allclose(rope(x, 17).norm(dim=-1), x.norm(dim=-1), atol=1e-12)
    assert torch.allclose((rope(x, 25) * rope(y, 20)).sum(-1), (rope(x, 8) * rope(y, 3)).sum(-1), atol=1e-10)
    pair = torch.zeros(64, **DOUBLE)
    pair[0] = 1.0
    turned = rope(pair, 2)
    assert turned[0].item() == pytest.approx(math.cos(2)) and turned[1].item() == pytest.approx(math.sin(2))


@pytest.mark.parametrize("mean_shift", [0.0, 0.5, 2.0])
def test_the_order_of_rotation_and_norm_matters_as_the_closed_form_says(chapter, mean_shift):
    """With x = z + m and e = mean(Rz), the squared difference of one row is exactly
    2 − 2 (1 − mce − e²) / √(1 + m² − (mc + e)²). The curve of the chapter is its average over e ~ N(0, (1 − c²)/d) in
    first order of 1/d. With s² = 1 + m²(1 − c²) the coefficient of e² is
    (2 − 1/s² + 2 m²c²/s² − 3 m²c²/s⁴)/s, the curve has 1/s³ of it; the next order is E e⁴ = 3/d². Beside this bias,
    the average over 64 rows has its standard error; four of them are allowed."""
    z, m, d = chapter["unit"].squeeze(1), mean_shift, 64
    frame = chapter["rotation"](mean_shift=m)
    both = frame.pivot(index="position", columns="norm", values="difference")
    assert both["rms_norm"].max() < 1e-14
    expected = frame[frame["norm"] == "layer_norm"].set_index("position")["theory"] ** 2
    for position in (1, 10, 60, 100):
        e = chapter["rope"](z, position).mean(-1)
        c = float(chapter["angles"](position).cos().mean())
        rows_exactly = 2 - 2 * (1 - m * c * e - e**2) / (1 + m**2 - (m * c + e) ** 2).sqrt()
        measured = both["layer_norm"][position] ** 2
        assert measured == pytest.approx(float(rows_exactly.mean()), rel=1e-3)  # eps = 1e-5 in the chapter's norms
        s2 = 1 + m**2 * (1 - c**2)
        coefficient = (2 - 1 / s2 + 2 * (m * c) ** 2 / s2 - 3 * (m * c) ** 2 / s2**2) / s2**0.5
        bias = abs(coefficient - s2**-1.5) * (1 - c**2) / d + 3 / d**2
        assert abs(measured - expected[position]) < bias + 4 * float(rows_exactly.std()) / 8


def test_gamma_decides_whether_rms_norm_commutes_with_a_rotation(chapter):
    """Equal within pairs: exactly. Otherwise the squared difference is a sum over pairs of 4 sin² δ² x̂², δ half the
    difference of the two γ. A term δ² x̂² has a relative variance of 3 · 2 − 1 = 5 (normal δ, x̂² of two entries), and at
    position 1 the sum has Σsin²·Σsin²/Σsin⁴ = 4 terms in 64 rows: a standard error of √(5/256) = 14 %, four of them
    are 56 % of the square, 28 % of its root."""
    equal = chapter["rotation"](gamma="equal_pairs")
    assert equal[equal["norm"] == "rms_norm"]["difference"].max() < 1e-14
    sin2 = chapter["angles"](1).sin().square()
    assert 3.5 < float(sin2.sum() ** 2 / sin2.square().sum()) < 5
    free = chapter["rotation"](gamma="all_different")
    free = free[free["norm"] == "rms_norm"].set_index("position")
    assert ((free["difference"] / free["theory"] - 1).abs()[1:] < 0.28).all()


def test_after_rope_qk_norm_needs_the_product_of_both_gammas_equal_within_pairs(chapter):
    """The score is Σ γ_q γ_k q_i k_i over normalised, turned q and k: relative exactly where γ_q γ_k turns along, and
    neither γ alone has to. 1e-12 is rounding; a product that differs within pairs by 20% moves a score by far more."""
    positions, pairs = torch.arange(50), torch.arange(32, **DOUBLE).repeat_interleave(2) / 32 + 0.5
    gamma = 1 + 0.2 * rows(1, 64, seed=4)[0]
    q, k = rows(2, 64, seed=5)
    q, k = (rms_norm(chapter["rope"](x, positions + offset)) for x, offset in ((q, 5), (k, 0)))

    def spread(gamma_q, gamma_k):
        score = (gamma_q * q * gamma_k * k).sum(-1)
        return float(score.max() - score.min())

    assert spread(gamma, pairs / gamma) < 1e-12
    assert spread(gamma, torch.ones_like(gamma)) > 1e-3 and spread(pairs, gamma) > 1e-3


@pytest.mark.parametrize("norm", [layer_norm, rms_norm])
def test_invariances(norm):
    x, eps = rows(16, 48, mean=0.5), {"eps": 1e-12}
    turn = torch.linalg.qr(rows(48, 48, seed=2)).Q
    y = norm(x, **eps)
    assert torch.allclose(norm(5 * x, **eps), y, atol=1e-10)
    assert torch.allclose(norm(x + 3, **eps), y, atol=1e-10) is (norm is layer_norm)
    assert torch.allclose(norm(x @ turn, **eps), y @ turn, atol=1e-10) is (norm is rms_norm)


def test_drawings_keep_their_axes_and_give_the_number_in_the_title(chapter):
    i18n.set_language("both")
    figure, axes = canvas.new_figure((9.2, 4.2), ncols=2)
    canvas.redraw(figure, drawings.recentring, chapter["recentring"](mean_shift=0.0))
    limits = [(ax.get_xlim(), ax.get_ylim()) for ax in axes]
    canvas.redraw(figure, drawings.recentring, chapter["recentring"](mean_shift=1.0))
    assert limits == [(ax.get_xlim(), ax.get_ylim()) for ax in axes]
    assert "0.71" in axes[0].get_title(loc="left") and "0.71" in axes[1].get_title(loc="left")
    figure, axes = canvas.new_figure((9.2, 4.2), ncols=2)
    canvas.redraw(figure, drawings.norm_quality, chapter["compare"](learning_rate=3e-2, norm="none"))
    assert "10 of 10 seeds diverged" in axes[1].get_title(loc="left")
