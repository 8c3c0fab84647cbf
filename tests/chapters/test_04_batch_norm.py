"""What chapter 04 states about BatchNorm's statistics, on the sentences it measures them on."""

import math

import pytest
import torch
import torch.nn.functional as F

from normcourse import data
from normcourse.chapters.batch_norm import evidence
from normcourse.chapters.batch_norm.evidence import by_the_batch, hidden_states, padded, sentences
from normcourse.models import Transformer
from normcourse.norms import batch_norm, layer_norm
from normcourse.train import train
from tests.lessons import definitions


def test_padding_is_behind_the_sentence_and_marked():
    x, real = padded([torch.ones(2, 3), torch.ones(4, 3)])
    assert x.shape == (2, 4, 3) and real.tolist() == [[True, True, False, False], [True] * 4]
    assert torch.equal(x.sum(-1), 3.0 * real)


def test_padding_does_not_reach_the_hidden_states_of_a_sentence():
    """They are computed in padded batches; a sentence alone gives the same."""
    _, vocabulary = data.encode(data.load_text("en"))
    index = min(range(64), key=lambda i: len(sentences()[i]))
    ids = torch.tensor([[vocabulary.index(c) for c in sentences()[index]]])
    model = Transformer(vocabulary=len(vocabulary), width=64, heads=4, depth=3, context=evidence.LONGEST, seed=0)
    with torch.no_grad():
        alone = model.stream(model.embed(ids))[4][0]
    torch.testing.assert_close(hidden_states()[index], alone, rtol=1e-4, atol=1e-5)


def test_counting_zeros_changes_mean_and_variance_as_the_law_of_total_variance_says():
    states = hidden_states()[0].double()
    for rows in (1, 7, 40):
        share, everything = rows / (rows + len(states)), torch.cat([states, torch.zeros(rows, 64).double()])
        mean, variance = states.mean(0), states.var(0, correction=0)
        torch.testing.assert_close(everything.mean(0), (1 - share) * mean)
        expected = (1 - share) * variance + share * (1 - share) * mean.square()
        torch.testing.assert_close(everything.var(0, correction=0), expected)


@pytest.mark.parametrize("rows", [3, 8, 40])
def test_what_counted_padding_does_to_a_batch_is_the_closed_form_of_its_own_mean_and_variance(rows):
    """(x − μₚ)/σₚ − (x − μ)/σ has the mean square (pμ/σₚ)² + (σ/σₚ − 1)², each feature by itself, but for ε = 1e-5 beside
    variances above 0.1: a relative 1e-4 of the result, which is at most 1 here. Masked, nothing changes."""
    chapter, batch = definitions("04"), hidden_states()[:rows]
    among = torch.cat(batch).double()
    mean, variance = among.mean(0), among.var(0, correction=0)
    assert variance.min() > 0.1
    share, change = chapter["change_of_the_real"](batch, counted=True)
    assert share == pytest.approx(1 - len(among) / (rows * max(map(len, batch))))
    chapter |= {"mean": mean, "variance": variance}
    assert change == pytest.approx(chapter["expected_change"](share), abs=1e-4)
    assert chapter["change_of_the_real"](batch, counted=False) == pytest.approx((share, 0), abs=1e-6)


def test_the_explorer_of_padding_has_its_masked_points_at_0_and_less_padding_when_batched_by_length():
    chapter = definitions("04", "everything", "mean", "variance")
    shares = {}
    for by_length in (False, True):
        frame = chapter["padding_share"](batch_size=32, by_length=by_length)
        assert frame[frame["kind"] == "masked"]["change"].max() < 1e-6
        shares[by_length] = frame[frame["kind"] == "counted"]["share"].mean()
    assert shares[True] < shares[False] / 4


def test_the_first_row_moves_with_the_length_of_another_sentence_for_batch_norm_alone():
    """And where no sentence is longer than at first, nothing has moved."""
    chapter = definitions("04", "four", "NORMS")
    for longest, moved in ((12, False), (13, True), (24, True)):
        change = chapter["company"](longest=longest).groupby("norm")["change"].first()
        assert bool(change["batch_norm"] > 1e-3) is moved and change["layer_norm"] < 1e-6


@pytest.mark.parametrize(("position", "feature"), [(1, 1), (2, 3), (4, 6)])
def test_what_enters_one_output_is_its_feature_by_transpose_and_a_run_of_others_by_view(position, feature):
    """Of (2, 4, 6) numbers the transpose takes the feature at all 8 places. The view cuts each sample into 6 rows of 4:
    the output at place k = 6 · position + feature is in row k // 4, which is numbers 4·row to 4·row + 3 of both samples."""
    chapter = definitions("04", "bn", "WAYS")
    for way in ("transpose", "view"):
        frame = chapter["sharing"](position, feature, way)
        place = 6 * (frame["position"]) + frame["feature"]
        row = (6 * (position - 1) + feature - 1) // 4
        wanted = frame["feature"] == feature - 1 if way == "transpose" else place // 4 == row
        assert (frame["influence"][wanted] > 1e-4).all() and frame["influence"][~wanted].max() == 0
        assert frame["chosen"].sum() == 1


def test_a_neighbour_changes_batch_norm_and_never_layer_norm():
    table = evidence.change_by_company(seeds=2).groupby("setting")["value"]
    assert table.min()[["batch_alone", "batch_padding"]].min() > 0.05
    assert table.max()[["layer_alone", "layer_padding", "running_alone", "running_padding"]].max() < 1e-6


def test_only_the_padding_moves_the_statistics_where_the_neighbour_says_the_same_twice():
    """Without the padding, three copies of one sentence have its own mean and variance."""
    first = hidden_states()[3]
    alone, thrice = batch_norm(first), batch_norm(torch.cat([first, first, first]))[: len(first)]
    torch.testing.assert_close(thrice, alone, rtol=1e-4, atol=1e-5)


def test_the_noise_of_the_mean_is_the_spread_between_sentences_over_the_root_of_their_number():
    """200 draws give the rms over 64 features of a standard deviation to within 3 of its standard errors, 1/√400 each
    if the features were independent; they are not, so a single one's is taken."""
    frame = definitions("04")["statistics_noise"](16)
    assert (frame["noise"] / frame["theory"] - 1).abs().max() < 3 / math.sqrt(400)
    assert (frame["theory"] > frame["independent"]).all()


def test_a_model_by_the_batch_takes_its_own_statistics_and_leaves_the_model_it_is_a_copy_of_alone():
    """Alone, a batch has the statistics that a norm in training has; and the averages do not move with what is seen."""
    model = Transformer(vocabulary=10, width=8, heads=2, depth=1, norm="batch_norm", seed=0).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ids = torch.arange(10)[None]
    out = model(ids)
    other = by_the_batch(model)
    among = other(ids)
    assert not torch.allclose(among, out) and torch.equal(model(ids), out) and torch.equal(other(ids), among)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    averages = {name: value for name, value in other.state_dict().items() if "num_batches" not in name}
    assert all(torch.equal(value, before[name]) for name, value in averages.items())
    assert torch.equal(model.train()(ids), among)


@pytest.mark.parametrize("shape", [(2, 10, 512), (3, 4, 6)])
def test_a_view_is_not_a_transpose(shape):
    table = evidence.view_against_transpose(shape, seeds=2).groupby("setting")["value"]
    assert table.max()["transpose"] < 1e-5 and table.min()["view"] > 0.1


def test_layer_norm_of_a_padded_batch_is_that_of_each_sentence():
    batch = hidden_states()[:5]
    x, real = padded(batch)
    assert torch.equal(layer_norm(x)[real], layer_norm(torch.cat(batch)))


@pytest.mark.slow
def test_what_its_own_statistics_cost_an_excerpt_falls_with_its_length_and_is_near_0_in_a_batch():
    """As the lesson says of `train_and_eval`. Over T characters in a row the mean's squared error is at least 1/T of the
    variance (they are not independent), so that the cost at 2 is several times that at 8."""
    ids, vocabulary = data.encode(data.load_text("en"))
    size = {"vocabulary": len(vocabulary), "width": 64, "heads": 4, "depth": 2, "context": 32}
    model = Transformer(**size, placement="pre_norm", norm="batch_norm", seed=1)  # not the lesson's seed
    train(model, data.batches(ids[:-20_000], 8, 32, seed=1), steps=300, learning_rate=3e-3, progress=False)
    model.eval()
    other, held_out = by_the_batch(model), ids[-19_999:].unfold(0, 33, 96)[:192]

    def loss(of, excerpts):
        with torch.no_grad():
            return F.cross_entropy(of(excerpts[:, :-1]).flatten(0, 1), excerpts[:, 1:].flatten()).item()

    def cost(length, together):
        excerpts = held_out[:, : length + 1]
        alone = sum(loss(other, part) for part in excerpts.split(together)) * together / len(excerpts)
        return alone - loss(model, excerpts)

    at = {length: cost(length, 1) for length in (2, 8, 32)}
    assert at[2] > 3 * at[8] > 0 and at[2] > 0.3 and abs(at[32]) < 0.1
    assert abs(cost(2, 64)) < at[2] / 4 and abs(cost(32, 64)) < 0.1
