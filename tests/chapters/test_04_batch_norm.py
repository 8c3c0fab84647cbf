"""What chapter 04 states about BatchNorm's statistics, on the sentences it measures them on."""

import math

import pytest
import torch

from normcourse import data
from normcourse.chapters.batch_norm import evidence
from normcourse.chapters.batch_norm.evidence import hidden_states, padded, sentences, statistics_of_the_batch
from normcourse.models import Transformer
from normcourse.norms import batch_norm, layer_norm
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


def test_the_statistics_of_the_batch_leave_a_model_as_it_was():
    model = Transformer(vocabulary=10, width=8, heads=2, depth=1, norm="batch_norm", seed=0).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ids = torch.arange(10)[None]
    out = model(ids)
    with statistics_of_the_batch(model):
        among = model(ids)
    assert not torch.allclose(among, out) and torch.equal(model(ids), out)
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert all("num_batches" in name for name in changed)


@pytest.mark.parametrize("shape", [(2, 10, 512), (3, 4, 6)])
def test_a_view_is_not_a_transpose(shape):
    table = evidence.view_against_transpose(shape, seeds=2).groupby("setting")["value"]
    assert table.max()["transpose"] < 1e-5 and table.min()["view"] > 0.1


def test_layer_norm_of_a_padded_batch_is_that_of_each_sentence():
    batch = hidden_states()[:5]
    x, real = padded(batch)
    assert torch.equal(layer_norm(x)[real], layer_norm(torch.cat(batch)))
