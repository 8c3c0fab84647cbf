"""The recorded runs of all chapters: whole, with their provenance, repeatable, and recorded on rather than over."""

import json
import sys
import types
from importlib import import_module

import pandas as pd
import pytest

from normcourse import data, record
from normcourse.chapters.learning_rates import best_losses

FILES = sorted(record.CHAPTERS.glob("*/recorded/*.csv"))
# What is repeated of each: a short run, at a rate where sums in another order have not grown over the steps.
REPEATED = {
    "degradation": {"placement": "plain", "depth": 4, "learning_rate": 1e-3},
    "warmup": {"depth": 12, "gain": 0.6, "learning_rate": 3e-4},
    "without_norm": {"depth": 12, "gain": 0.6, "learning_rate": 3e-4},
    "norm_quality": {"placement": "post_norm", "norm": "rms_norm", "learning_rate": 3e-4, "seed": 7},
    "stream_end": {"learning_rate": 1e-3, "final_norm": True},
    "equal_depth": {"placement": "pre_norm", "gain": 0.6, "learning_rate": 1e-3},
    "warmup_slower": {"seed": 0},
    "shift_and_loss": {"variant": "none", "gain": 1.4142, "learning_rate": 1e-3},
    "first_steps": {"depth": 4, "learning_rate": 3e-3},
    "degradation_with_biases": {"depth": 4, "learning_rate": 1e-3},
    "rewiring": {
        "start": "scratch",
        "placement": "pre_norm",
        "reading": "forwards",
        "gain": 0.6,
        "learning_rate": 3e-3,
    },
}
# In nats. Sums in another order grow over hundreds of steps of Adam; at the rates above they stay below 0.05, a tenth of
# what separates the settings that the course compares. Where the rate is smallest, or before any step, by far.
BOUNDS = {("norm_quality", "held_out_loss"): 0.005, ("rewiring", "before"): 1e-3}


@pytest.mark.parametrize("name", record.runs())
def test_every_run_is_whole_and_says_how_it_was_made(name):
    frame, run = data.recorded(name), record.runs()[name]
    assert {"command", "settings", *record.MADE} <= set(frame.attrs)
    assert frame.attrs["settings"] == run.conditions
    assert frame.attrs["command"] == f"python -m normcourse record {name}"
    settings = pd.DataFrame(run.settings()).round({"gain": 4})
    pd.testing.assert_frame_equal(frame[list(run.grid)], settings, check_dtype=False)
    results = frame.drop(columns=list(run.grid))
    assert len(results.columns) >= 1 and results.iloc[:, 0].notna().all()


def at_an_edge(name):
    """The settings of a run, but for seed and learning rate, whose best rate may lie beyond the grid: its own and that
    of the runs that widen it, NAME_slower and NAME_faster."""
    runs = record.runs()
    grid, widened = runs[name].grid, [one for one in (name, f"{name}_slower", f"{name}_faster") if one in runs]
    if len({rate for one in widened for rate in runs[one].grid.get("learning_rate", [])}) < 2:
        return []
    frame = pd.concat([data.recorded(one) for one in widened])
    keys = [key for key in grid if key not in ("learning_rate", "seed")]
    column = "loss" if "loss" in frame else "after"
    return [
        dict(zip(keys, key))
        for key, rows in frame.groupby(keys)
        if rows["learning_rate"].nunique() > 1 and best_losses(rows[["learning_rate", "seed", column]], column)[1]
    ]


def matches(setting, where):
    return all(any(setting[key] == pytest.approx(value, abs=1e-3) for value in values) for key, values in where.items())


@pytest.mark.parametrize("folder", sorted({path.parent.parent for path in FILES}), ids=lambda folder: folder.name)
def test_a_best_learning_rate_at_an_edge_is_listed_with_its_reason_and_the_lesson_says_so(folder):
    module = import_module(f"normcourse.chapters.{folder.name}.runs")
    listed = getattr(module, "EDGES", {})
    for name in module.RUNS:
        edges, entries = at_an_edge(name), listed.get(name, [])
        for setting in edges:
            assert any(matches(setting, where) for where, _ in entries), f"{name}: {setting} is at an edge of its grid"
        for where, reason in entries:
            assert reason and any(matches(setting, where) for setting in edges), f"{name}: {where} is at no edge"
    lesson = (folder / "lesson.md").read_text(encoding="utf-8")
    assert not listed or ("网格的边上" in lesson and "edge of the grid" in lesson)


def test_every_recorded_file_has_its_run():
    assert {path.stem for path in FILES} == set(record.runs())
    assert {record.target(name) for name in record.runs()} == set(FILES)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("name", record.runs())
def test_a_row_of_every_run_can_be_repeated(name):
    frame, run = data.recorded(name), record.runs()[name]
    wanted = REPEATED.get(name, {})  # else the first
    row = frame[(frame[list(wanted)] == pd.Series(wanted)).all(axis=1)].iloc[0]
    setting = next(
        s for s in run.settings() if all(row[k] == (round(v, 4) if k == "gain" else v) for k, v in s.items())
    )
    again = run.measure(**setting)
    losses = [column for column in again if "loss" in column or column == "before"]
    assert losses
    for column in losses:
        assert again[column] == pytest.approx(row[column], abs=BOUNDS.get((name, column), 0.05)), column


def test_without_a_norm_both_wirings_of_norm_quality_are_one():
    frame = data.recorded("norm_quality")
    without = frame[frame["norm"] == "none"].drop(columns=["norm", "placement"]).groupby(["learning_rate", "seed"])
    assert (without.nunique() == 1).all().all()


def added(a, b):
    return {"sum": a + b}


@pytest.fixture
def sums(monkeypatch, tmp_path):
    """A chapter of this test's own with one run, and the function that makes its grid another."""
    module = types.ModuleType("a_chapters_runs")
    module.__file__ = str(tmp_path / "chapter" / "runs.py")
    (tmp_path / "chapter").mkdir()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    calls = []

    def measure(a, b):
        calls.append((a, b))
        return added(a, b)

    measure.__module__ = module.__name__
    monkeypatch.setattr(record, "ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr(data, "recorded", lambda name: read(tmp_path / "chapter" / "recorded" / "sums.csv"))

    def grid(conditions="plain", **values):
        monkeypatch.setitem(record.runs(), "sums", record.Run(measure, values, conditions))
        calls.clear()
        return calls

    return grid


class InThisProcess:
    def __init__(self, *arguments, **options):
        self.map = map

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False


def read(path):
    frame = pd.read_csv(path, comment="#")
    frame.attrs = json.loads(path.read_text(encoding="utf-8").splitlines()[0].removeprefix("#"))
    return frame


def test_recording_does_only_what_is_missing_and_says_when_the_rest_was_made(sums, capsys):
    calls = sums(a=[1, 2], b=[10])
    assert record.record("sums") == 2 and calls == [(1, 10), (2, 10)]
    calls = sums(a=[1, 2, 3], b=[10])
    assert record.record("sums") == 1 and calls == [(3, 10)]
    frame = data.recorded("sums")
    assert frame.to_dict("list") == {"a": [1, 2, 3], "b": [10, 10, 10], "sum": [11, 12, 13]}
    assert len(frame.attrs["earlier"]) == 1 and set(frame.attrs["earlier"][0]) == set(record.MADE)
    assert record.record("sums") == 0 and len(data.recorded("sums").attrs["earlier"]) == 1
    calls = sums(a=[3, 1], b=[10])
    assert record.record("sums") == 0 and calls == []
    assert data.recorded("sums")["a"].tolist() == [3, 1]


def test_what_was_made_under_other_conditions_or_is_asked_for_again_is_made_anew(sums, capsys):
    sums(a=[1, 2], b=[10])
    record.record("sums")
    calls = sums("other", a=[1, 2], b=[10])
    assert record.record("sums") == 2 and "earlier" not in data.recorded("sums").attrs
    assert record.record("sums", again=True) == 2 and len(calls) == 4


def test_repeating_a_part_of_a_recorded_run_returns_its_rows(sums):
    sums(a=[1, 2], b=[10, 20])
    assert record.repeat("sums", b=[5]).to_dict("list") == {"a": [1, 2], "b": [5, 5], "sum": [6, 7]}
    with pytest.raises(ValueError, match="sums has no setting 'c'; it has a, b"):
        record.repeat("sums", c=[1])
    with pytest.raises(ValueError, match="unknown run 'warm'; known are"):
        record.repeat("warm")
