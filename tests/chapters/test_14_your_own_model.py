"""What chapter 14 states about real architectures, and that it goes on without `transformers`."""

import importlib.util
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from normcourse.chapters.your_own_model import architectures, signature
from normcourse.examine import examine
from normcourse.predict import questions

pytest.importorskip("transformers")
WIRINGS = {
    "GPT-2": ("pre_norm", "layer_norm"),
    "BERT": ("post_norm", "layer_norm"),
    "Llama": ("pre_norm", "rms_norm"),
    "Gemma 2": ("peri_norm", "rms_norm"),
    "OLMo 2": ("res_post_norm", "rms_norm"),
}


@pytest.fixture(scope="module")
def seen():
    return {name: examine(*architectures.build(name, 12)) for name in architectures.REAL}


def test_models_made_in_two_threads_at_once_are_those_made_alone_and_each_is_its_own():
    names, seeds = [*architectures.REAL] * 4, range(20)
    make = lambda name, seed: architectures.build(name, 2, 32, seed=100 + seed)[0]  # noqa: E731
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(make, names, seeds))
    architectures._built.cache_clear()
    for name, seed, model in zip(names, seeds, together):
        alone = make(name, seed)
        assert alone is not model and alone.state_dict().keys() == model.state_dict().keys()
        assert all(torch.equal(a, b) for a, b in zip(alone.state_dict().values(), model.state_dict().values()))


def test_the_five_models_are_wired_as_the_lesson_says(seen):
    for name, (placement, norm) in WIRINGS.items():
        rows = seen[name].placements
        assert len(rows) == 24 and {*rows["placement"]} == {placement} and {*rows["norm"]} == {norm}
        assert (rows["skip"] == 1).all() and not len(seen[name].faults)


def test_gpt_2_follows_theory_and_its_variance_grows_little(seen):
    frame = seen["GPT-2"].frame
    times = frame["variance"].iloc[-1] / frame["variance"].iloc[0]
    assert 1.3 < times < 1.6 and questions()["14-gpt2"].right(times) == "B"
    assert frame["theory_variance"].to_numpy() == pytest.approx(frame["variance"].to_numpy(), rel=0.06)


def test_attention_grows_in_llama_as_positions_become_alike(seen):
    first = seen["Llama"].placements.query("branch == 1")["variance"]
    frame = seen["Llama"].frame
    assert first.iloc[-1] > 5 * first.iloc[0] and frame["alike"].iloc[-1] > frame["alike"].iloc[0] + 0.2
    grown = frame["variance"].iloc[-1] / frame["variance"].iloc[0]
    theory = frame["theory_variance"].iloc[-1] / frame["theory_variance"].iloc[0]
    assert 9 < grown < 13 and theory < 7


def test_a_norm_at_the_end_of_the_branch_makes_its_variance_1_unless_eps_outweighs_it(seen):
    gemma = seen["Gemma 2"].placements["variance"]
    assert gemma.between(0.9, 1.01).all()
    olmo = seen["OLMo 2"].placements["variance"]
    assert olmo.iloc[0] < 0.01 and olmo.iloc[-1] > 0.95
    wide = examine(*architectures.build("OLMo 2", 2, 256)).placements["variance"]
    assert wide.iloc[0] > 10 * olmo.iloc[0]


def test_the_x_ray_shows_where_the_gradient_has_got_to():
    frame = signature.x_ray(back=3)
    assert {*frame["here"]} == {10} and frame["gradient"].gt(0).all() and len(frame) == 24


def test_without_transformers_the_lesson_says_so_and_goes_on(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else find(name))
    names = architectures.architectures()
    said = capsys.readouterr().out
    assert "没有装 transformers" in said and "transformers is not installed" in said and len(names) == 5
    wirings = ["pre_norm", "post_norm", "peri_norm", "res_post_norm", "deep_norm"]
    for name, placement in zip(names, wirings):
        rows = examine(*architectures.build(name, 2, 32)).placements
        assert {*rows["placement"]} == {placement}, name


def test_models_are_built_without_a_trace_in_the_random_state():
    state = torch.get_rng_state()
    architectures.build("BERT", 1, 32, seed=7)
    assert torch.equal(torch.get_rng_state(), state)


def test_blocks_that_start_as_copies_grow_faster_than_theory_and_independent_ones_do_not():
    """`nn.TransformerEncoder` copies one layer; theory takes the branches as independent."""

    def growth(copies, seed):
        torch.manual_seed(seed)
        layers = [nn.TransformerEncoderLayer(64, 4, 256, batch_first=True, norm_first=True) for _ in range(6)]
        model = nn.TransformerEncoder(layers[0], 6, enable_nested_tensor=False)
        if not copies:
            model.layers = nn.ModuleList(layers)
        frame = examine(model, torch.randn(2, 16, 64)).frame
        return [frame[name].iloc[-1] / frame[name].iloc[0] for name in ("variance", "theory_variance")]

    for seed in range(3):
        measured, theory = growth(copies=True, seed=seed)
        assert measured > 2 * theory
        measured, theory = growth(copies=False, seed=seed)
        assert abs(measured / theory - 1) < 0.15
