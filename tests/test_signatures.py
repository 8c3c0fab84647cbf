"""The signature pictures: what they show is what an independent computation finds, and they are whole everywhere."""

import ast
import itertools
import random
import warnings
from importlib import import_module
from types import SimpleNamespace

import ipywidgets
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from normcourse import canvas, i18n, measure
from normcourse.chapters import chapters, scenes
from normcourse.explore import explore
from normcourse.explore.controls import controls_of
from normcourse.models import deep_mlp
from tools.build_notebooks import read


def signature(topic):
    return import_module(f"normcourse.chapters.{topic}.signature")


def shown(chapter):
    """What the lesson's cell gives to `explore`: experiment, draw, {argument: value}."""
    module, calls = signature(chapter.folder.name), []
    (cell,) = (c for c in read(chapter.lesson).cells if c.cell_type == "code" and "signature.draw" in c.source)
    (call,) = (node for node in ast.parse(cell.source).body if isinstance(node, ast.Expr))
    space = {"signature": module, "scenes": scenes, "explore": lambda *args, **given: calls.append((*args, given))}
    exec(ast.unparse(call), space)
    return calls[0]


CHAPTERS = [c for c in chapters() if (c.folder / "signature.py").exists()]
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)


@pytest.fixture(autouse=True)
def in_english():
    i18n.set_language("en")
    yield
    i18n.set_language("both")


def figure_of(chapter):
    _, _, given = shown(chapter)
    return canvas.new_figure(given.get("size"), **given.get("subplots") or {})[0]


def drawn(topic, frame, **figure):
    fig, axes = canvas.new_figure(**figure)
    canvas.redraw(fig, signature(topic).draw, frame)
    return axes


def words(ax):
    return [t.get_text() for t in ax.texts] + [ax.get_title(loc="left")]


def check_the_picture(chapter, fig, language, values):
    experiment, draw, _ = shown(chapter)
    i18n.set_language(language)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        canvas.redraw(fig, draw, experiment(**values))
        canvas.png(fig)
    texts = [t for ax in fig.axes for t in (*ax.texts, ax._left_title) if t.get_visible() and t.get_text().strip()]
    extents = [t.get_window_extent(fig.canvas.get_renderer()) for t in texts]
    width, height = fig.canvas.get_width_height()
    for t, box in zip(texts, extents):
        whole = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        assert whole, f"{t.get_text()!r} is cut off at {values} in {language}"
    for (t, a), (u, b) in itertools.combinations(zip(texts, extents), 2):
        apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 2 or b.y1 <= a.y0 + 2
        assert apart, f"{t.get_text()!r} and {u.get_text()!r} overlap at {values} in {language}"


def positions(chapter, count):
    """The ends of every control, and random positions."""
    experiment, _, given = shown(chapter)
    ranges = {name: value for name, value in given.items() if name not in ("size", "subplots", "play")}
    controls, draws = controls_of(experiment, ranges), random.Random(chapter.number)
    yield {name: control.at(0) for name, control in controls.items()}
    yield {name: control.at(control.count - 1) for name, control in controls.items()}
    for _ in range(count):
        yield {name: control.at(draws.randrange(control.count)) for name, control in controls.items()}


@pytest.mark.slow
@each_chapter
def test_a_signature_is_whole_and_its_words_are_apart(chapter):
    fig = figure_of(chapter)
    for language, values in zip(("zh", "en", "both", "both"), [{}, {}, *positions(chapter, 0)]):
        check_the_picture(chapter, fig, language, values)


@pytest.mark.long
@each_chapter
def test_a_signature_is_whole_everywhere(chapter):
    fig = figure_of(chapter)
    for language, values in itertools.product(("zh", "en", "both"), positions(chapter, 40)):
        check_the_picture(chapter, fig, language, values)


@pytest.mark.slow
@each_chapter
def test_playing_moves_the_first_slider_and_changes_the_picture(chapter):
    experiment, draw, given = shown(chapter)
    explorer = explore(experiment, draw, **given)
    try:
        control = next(iter(explorer.controls.values()))
        assert control.name == given["play"]
        (play,) = (w for w in control.panel.children if isinstance(w, ipywidgets.Play))
        assert control.link.source == (play, "value")
        if control.face is control.widget:
            assert control.link.target == (control.widget, "value")
            ends = control.at(0), control.at(control.count - 1), control.widget.value
        else:  # a slider over positions stands in its place
            assert control.link.target == (control.face, "index")
            ends = 0, control.count - 1, control.position()
        assert (play.min, play.max, play.value) == ends
        some = range(0, control.count, max(1, control.count // 5))
        assert len({explorer.render(**{control.name: control.at(i)}) for i in some}) > 2
    finally:
        link = control.link
        explorer.close()
    assert link.comm is None and play.comm is None


def test_a_parameter_called_play_is_a_control():
    explorer = explore(lambda play=3: pd.DataFrame({"y": [play]}), lambda frame, ax: None, play=(0, 9))
    assert list(explorer.controls) == ["play"] and explorer.controls["play"].link is None
    explorer.close()


def test_00_the_piles_are_the_histograms_of_the_numbers():
    module = signature("start_here")
    frame = module.falling_numbers(gain=1.3, norm="rms_norm", seed=2)
    y = torch.tensor(frame["before"])
    assert torch.allclose(torch.tensor(frame["after"]), F.rms_norm(y, (256,), eps=1e-6), atol=1e-6)
    assert abs(y.std() / 1.3 - 1) < 0.15
    ax = drawn("start_here", frame)
    lower = next(c for c in ax.collections if len(c.get_paths()) == 256 and c.get_alpha() is None)
    centres = [path.vertices[:4, 0].mean() for path in lower.get_paths()]
    edges = np.arange(-5.125, 5.2, 0.25)
    assert (np.histogram(centres, edges)[0] == np.histogram(frame["after"], edges)[0]).all()
    heights = [path.vertices[:, 1].min() for path in lower.get_paths()]
    assert len(set(zip(np.round(centres, 3), np.round(heights, 4)))) == 256, "no two bricks in one place"
    for column in ("before", "after"):
        assert f"σ = {np.std(frame[column]):.2f}" in words(ax)


def test_01_the_wall_holds_the_gradients_that_the_probe_measures():
    module = signature("vanishing_gradients")
    frame = module.wall(30, 0.8, "tanh", 3)
    generator = torch.Generator().manual_seed(2**31 + 3)
    inputs, direction = torch.randn(2, 16, 64, generator=generator, dtype=torch.float64)
    model = deep_mlp(50, 64, "plain", activation="tanh", gain=0.8, seed=3).double()
    probe = measure.gradient_norms(model, inputs, loss=lambda y: (y * direction).sum() / direction.norm())
    norms = frame.groupby("layer")["gradient"].apply(np.linalg.norm)
    assert np.allclose(norms, probe["gradient_norm"], rtol=1e-9) and norms[50] == pytest.approx(1)
    ax = drawn("vanishing_gradients", frame, **scenes.WHOLE)
    assert f"× {canvas.number(probe['gradient_norm'][20])}" in words(ax)
    lit = ax.collections[1].get_offsets()
    assert lit[:, 0].min() >= 20, "the gradient has not been there yet"


@pytest.mark.parametrize("placement", ["residual", "plain"])
@pytest.mark.parametrize("cut", [0, 3])
def test_02_the_river_is_as_wide_as_the_gradient_that_the_probe_measures(placement, cut):
    module = signature("residual_connections")
    frame = module.river(cut, 0.9, 1)
    rows = frame[frame["placement"] == placement].drop_duplicates("layer").set_index("layer")
    model = deep_mlp(8, 64, placement, gain=0.9, seed=1)
    if cut:
        model.blocks[cut - 1].sublayer.register_forward_hook(lambda module, args, y: 0 * y)
    inputs = model.random_inputs(16, torch.Generator().manual_seed(2**31 + 1))
    probe = measure.gradient_norms(model, inputs, seed=1001)
    assert np.allclose(rows["gradient"], probe["gradient_norm"], rtol=1e-4)
    if placement == "plain":
        assert (rows["gradient"][0] == 0) == (cut > 0)
        return
    shares = frame[(frame["placement"] == placement) & (frame["layer"] == 0)].set_index("path_length")["share"]
    sums = np.poly1d([1.0])  # every branch that is not cut doubles the paths: Veit et al. (2016)
    for layer in range(1, 9):
        q = 0.0 if layer == cut else rows["branch"][layer - 1] ** 2 / rows["gradient"][layer] ** 2
        sums *= np.poly1d([q, 1.0])
    expected = sums.coeffs[::-1] / sums.coeffs.sum()
    assert np.abs(shares.to_numpy()[: len(expected)] - expected).max() < 0.06 and shares.sum() == pytest.approx(1)
    assert (shares[8] == 0) == (cut > 0) and (rows["branch"][cut - 1] == 0 if cut else True)


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_03_what_is_left_of_the_gradient_is_what_autograd_passes(norm):
    frame = signature("layer_normalisation").shadows(24, 20, 4)
    rows = frame[frame["norm"] == norm]
    x, g, m, r, d, y = (torch.tensor(rows[[f"{k}{i}" for i in range(3)]].to_numpy()) for k in "xgmrdy")
    x.requires_grad_()
    out = getattr(F, norm)(x, (3,), eps=1e-12)
    (passed,) = torch.autograd.grad(out, x, g)
    size = x.std(-1, unbiased=False) if norm == "layer_norm" else x.square().mean(-1).sqrt()
    assert torch.allclose(passed * size[:, None], d, atol=1e-9) and torch.allclose(out, y, atol=1e-9)
    assert torch.allclose(d + m + r, g, atol=1e-12)
    assert torch.allclose(m, m.mean(-1, keepdim=True).expand(-1, 3), atol=1e-9), "the first shadow is along (1, 1, 1)"
    assert torch.allclose(torch.linalg.cross(r, y), torch.zeros_like(r), atol=1e-9), "the second is along y"
    assert (m.norm() < 1e-9) == (norm == "rms_norm")
    axes = drawn("layer_normalisation", frame, **scenes.PAIR)
    ax = axes[["layer_norm", "rms_norm"].index(norm)]
    assert f"{d[0].norm() / g[0].norm():.0%} is left" in ax.get_title(loc="left")


def test_05_the_beam_tips_by_the_mean_and_the_race_runs_over_the_times():
    module = signature("rms_norm")
    frame = module.seesaw_and_race(24, -1.5, 5)
    values = frame.groupby("norm")["value"]
    assert values.mean()["layer_norm"] == pytest.approx(0, abs=1e-6)
    assert values.mean()["rms_norm"] == pytest.approx(-1.5 / np.sqrt(1 + 1.5**2), rel=1e-4)
    assert (frame.dropna(subset="form")["milliseconds"] > 0).all()
    times = dict(zip(module.RUNNERS, (1.0, 2.0, 4.0, 0.5)))  # of another machine
    frame["milliseconds"] = frame["form"].map(times)
    left, right = drawn("rms_norm", frame, **scenes.PAIR)
    beams = [line.get_ydata() for line in left.lines]
    assert beams[0][0] == pytest.approx(beams[0][1], abs=1e-6) and beams[1][0] < beams[1][1] - 0.1
    assert {"× 4.0", "× 2.0", "× 1.0", "× 8.0"} <= {*words(right)}
    assert "× 2.0, by hand × 0.1" in right.get_title(loc="left")
    lengths = [np.ptp(c.get_paths()[0].vertices[:, 0]) for c in right.collections]
    assert np.allclose(lengths, [4, 2, 1, 8])


@pytest.mark.parametrize("placement", ["post_norm", "pre_norm"])
def test_06_the_towers_are_as_wide_as_the_variance_of_a_network_written_out(placement):
    frame = signature("pre_and_post_norm").towers(5, 1.2, "tanh", 2)
    rows = frame[frame["placement"] == placement].set_index("layer")
    model, generator = deep_mlp(12, 128, placement, activation="tanh", gain=1.2, seed=2), torch.Generator()
    x = torch.randn(16, 128, generator=generator.manual_seed(2**31 + 2)).requires_grad_()
    direction, states = torch.randn(16, 128, generator=generator), [x]
    for block in model.blocks:
        W, x = block.sublayer.weight, states[-1]
        if placement == "post_norm":
            states.append(F.layer_norm(x + torch.tanh(x) @ W.T, (128,)))
        else:
            states.append(x + torch.tanh(F.layer_norm(x, (128,))) @ W.T)
    out = F.layer_norm(states[-1], (128,)) if placement == "pre_norm" else states[-1]
    gradients = torch.autograd.grad((out * direction / direction.norm()).sum(), states)
    assert np.allclose(rows["variance"], [s.detach().var(unbiased=False).item() for s in states], rtol=1e-3)
    assert np.allclose(rows["gradient_norm"], [float(g.norm()) for g in gradients], rtol=1e-3)
    axes = drawn("pre_and_post_norm", frame, **scenes.PAIR)
    ax = axes[["post_norm", "pre_norm"].index(placement)]
    assert f"gradient {gradients[7].norm():.2f}" in words(ax) and f"variance {states[-1].var():.1f}" in words(ax)


def test_07_the_spiral_turns_by_the_angles_of_a_network_written_out():
    module = signature("variance_and_depth")
    frame = module.spiral(50, "pre_norm", 1.1, 3)
    model = deep_mlp(50, 128, "pre_norm", gain=1.1, seed=3)
    with torch.no_grad():
        states = [model.random_inputs(16, torch.Generator().manual_seed(2**31 + 3))]
        for block in model.blocks:
            states.append(states[-1] + torch.relu(F.layer_norm(states[-1], (128,))) @ block.sublayer.weight.T)
    cosines = [float(F.cosine_similarity(a, b).mean()) for a, b in itertools.pairwise(states)]
    assert np.allclose(np.cos(np.radians(frame["turn"][1:])), cosines, atol=1e-4)
    lengths = [float(s.var(unbiased=False).sqrt() / states[0].var(unbiased=False).sqrt()) for s in states]
    assert np.allclose(frame["length"], lengths, rtol=1e-4)
    ax = drawn("variance_and_depth", frame, **scenes.WHOLE)
    path = SimpleNamespace(x=ax.lines[1].get_xdata(), y=ax.lines[1].get_ydata())
    angles = np.diff(np.unwrap(np.arctan2(path.y, path.x)))
    assert np.allclose(np.degrees(angles), frame["turn"][1:], atol=1e-6)
    v = 1.1**2 / 2  # right angles: the spiral of Theodorus, with √v for its step
    theory_turn = np.degrees(np.arctan(np.sqrt(v / (1 + v * np.arange(50)))))
    assert np.allclose(frame["theory_turn"][1:], theory_turn)
