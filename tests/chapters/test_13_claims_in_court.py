"""Chapter 13: where a claim stands in its pictures is where its numbers lie, and the table finds what it is asked for."""

import math
import tomllib
from types import SimpleNamespace

import numpy as np
import pytest

from normcourse import canvas, data, i18n
from normcourse.chapters.claims_in_court import drawings
from normcourse.chapters.claims_in_court.exercise import traps
from normcourse.claims import VERDICTS, Docket, Measured, claims, court, find, measure, pictures, sources
from normcourse.i18n import TERMS

from .. import audit
from ..test_pictures import faint

QUICK = ("G1", "N1", "N3", "N4", "N9", "N10", "N14", "P1", "P2", "G7", "I6", "N11", "P8", "P7", "P11")
TALL = {"nrows": 2, "gridspec_kw": {"left": 0.02, "right": 0.985, "bottom": 0.02, "hspace": 0.05}}


@pytest.fixture(autouse=True)
def both_languages():
    i18n.set_language("both")
    yield
    i18n.set_language("both")


@pytest.fixture(scope="module")
def docket():
    """Claims whose evidence is exact or recorded, of every verdict that there is."""
    return Docket((find(name), measure(find(name))) for name in QUICK)


def row(mean, low, high, rule_low, rule_high):
    return SimpleNamespace(mean=mean, low=low, high=high, rule_low=rule_low, rule_high=rule_high)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-math.inf, 1.0), (0.0, math.inf), (2.0, 2.0)])
def test_a_place_on_the_bench_is_inside_where_the_rule_holds(low, high):
    draws = np.random.default_rng(0)
    for _ in range(200):
        middle, half = draws.uniform(-3, 4), 10 ** draws.uniform(-3, 0.3)
        seen = Measured((middle - half, middle, middle + half))
        bottom, top = seen.interval
        places = drawings.places(row(middle, bottom, top, low, high))
        holds = seen.holds(low, high)
        if holds:
            assert min(places) >= drawings.BOUND
        elif holds is False:
            assert max(places) <= drawings.BOUND
        exact = drawings.places(row(middle, middle, middle, low, high))
        assert (exact[0] >= drawings.BOUND) == (low <= middle <= high) and len(set(exact)) == 1
    few = drawings.places(row(0.5, -math.inf, math.inf, low, high))
    assert all(math.isfinite(place) for place in few)


def test_every_claim_heard_lies_in_the_bowl_of_its_verdict_once(docket):
    frame = drawings.frames(docket.claims, docket.settings, list(QUICK))
    figure, axes = canvas.new_figure((9.2, 6.2), **TALL)
    canvas.redraw(figure, drawings.hearing, frame)
    columns = {text.get_text(): int(text.get_position()[0]) for text in axes[1].texts if text.get_text() in QUICK}
    assert {name: [*drawings.KINDS][column] for name, column in columns.items()} == {
        name: docket.verdicts[name].kind for name in QUICK
    }
    assert set(drawings.KINDS) == set(VERDICTS) and all(kind in TERMS for kind in VERDICTS)


@pytest.mark.parametrize("last", ["N10", "N14", "P2", "P7", "N4"])
@pytest.mark.parametrize("language", ["zh", "en", "both"])
def test_words_on_the_bench_and_in_the_bowls_cover_nothing(docket, language, last):
    i18n.set_language(language)
    ids = [name for name in QUICK if name != last] + [last]
    figure, _ = canvas.new_figure((9.2, 6.2), **TALL)
    canvas.redraw(figure, drawings.hearing, drawings.frames(docket.claims, docket.settings, ids))
    assert not audit.faults(figure)


def test_the_counts_by_source_and_by_chapter_are_those_of_the_docket(docket):
    table = docket.claims
    by_source = table.assign(group=table["sources"].str.split(", ")).explode("group")
    figure, ax = canvas.new_figure()
    canvas.redraw(figure, drawings.counts, by_source)
    assert not audit.faults(figure)
    written = sum(int(text.get_text()) for text in ax.texts)
    assert written == sum(len(sources(find(name))) for name in QUICK)
    most = by_source["group"].value_counts()
    of_most = by_source[by_source["group"] == most.index[0]]
    assert f"{(of_most['verdict'] == 'holds').mean():.0%} of them" in ax.get_title(loc="left")


def test_a_wider_grid_of_rates_takes_the_best_off_its_edge():
    """The means are taken again here, from the recorded rows."""
    runs = data.recorded("warmup").query("gain == 0.6 and depth == 12 and warmup == 0")
    for widest in sorted(runs["learning_rate"].unique()):
        figure, ax = canvas.new_figure()
        canvas.redraw(figure, drawings.cut_grid, runs.assign(widest_rate=widest))
        assert not audit.faults(figure)
        run = runs[runs["learning_rate"] <= widest]
        means = run.groupby(["placement", "learning_rate"])["loss"].mean().unstack()
        gap = means.loc["post_norm"].min() - means.loc["pre_norm"].min()
        title = ax.get_title(loc="left")
        assert canvas.signed(gap, 2, "+") in title
        inner = [widest > rate > 0.0003 for rate in means.idxmin(axis=1)]
        assert ("both at the edge" in title) == (not any(inner)) and ("rates inside" in title) == all(inner)


def test_what_others_say_is_about_claims_of_the_ledger_in_both_languages():
    others = tomllib.loads(drawings.DISAGREEMENTS.read_text(encoding="utf-8"))
    assert len(others) >= 8 and set(others) <= set(claims())
    for other in others.values():
        assert set(other) == {"who", "zh", "en"} and any(year in other["who"] for year in ("20", "PyTorch"))


# the table ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(docket):
    table = court(docket)
    yield table
    table.close()


def test_the_table_filters_searches_and_sorts(shown, docket):
    assert shown.shown == [*QUICK]
    shown.controls["source"].value = "S3"
    assert shown.shown == [name for name in QUICK if "S3" in find(name).source]
    shown.controls["source"].value = "*"
    shown.controls["verdict"].value = "false"
    assert shown.shown == [name for name in QUICK if docket.verdicts[name].kind == "false"]
    shown.controls["verdict"].value = "*"
    shown.controls["chapter"].value = 6
    assert shown.shown == ["P1", "P2", "P8", "P11"]
    shown.controls["chapter"].value = "*"
    for words in ("rmsnorm 1.6", "预热"):
        shown.search.value = words
        assert shown.shown and set(shown.shown) < set(QUICK)
    assert "P8" in shown.shown
    shown.search.value = "no such words"
    assert shown.shown == [] and "0 of 15" in shown.page.value
    shown.search.value = ""
    shown.controls["order"].value = "id"
    assert shown.shown == sorted(QUICK, key=lambda name: (name[0], int(name[1:])))
    shown.controls["order"].value = "verdict"
    kinds = [[*VERDICTS].index(docket.verdicts[name].kind) for name in shown.shown]
    assert kinds == sorted(kinds) and sorted(shown.shown) == sorted(QUICK)


@pytest.mark.parametrize("code", ["zh", "en", "both"])
def test_the_picture_of_a_claim_opened_shows_every_number_and_the_rule_and_its_words_cover_nothing(docket, code):
    i18n.set_language(code)
    for claim, measured in docket.heard:
        figure = pictures.picture(claim, measured)
        if not claim.settings:
            assert figure is None and "<img" not in pictures.page(claim, measured)
            continue
        assert not audit.faults(figure) + faint(figure), claim.id
        (ax,) = figure.axes
        low, high = ax.get_xlim()
        dots = {x for line in ax.lines if line.get_marker() != "None" for x in line.get_xdata()}
        for name, setting in claim.settings.items():
            bounds = [end for end in setting.holds_between if math.isfinite(end)]
            assert {float(v) for v in measured[name].values if math.isfinite(v)} <= {*map(float, dots)}, claim.id
            assert all(low <= end <= high for end in bounds if low < 0 or end > 0), claim.id
        assert len(ax.get_yticklabels()) == len(claim.settings) and claim.id in ax.get_title(loc="left")


@pytest.mark.parametrize("values", [(math.inf,), (-5.0, 0.0, 1e6), (0.0,) * 3, (1e-30, 1e9, 1e9), (3.0,)])
def test_a_picture_holds_whatever_is_measured(values):
    claim = find("G1")
    figure = pictures.picture(claim, dict.fromkeys(claim.settings, Measured(values)))
    assert not audit.faults(figure) and all(map(math.isfinite, figure.axes[0].get_xlim()))


def test_a_claim_stays_drawn_while_one_searches_and_is_drawn_anew_for_another_language(shown, monkeypatch):
    drawn = []
    page = pictures.page
    monkeypatch.setattr(pictures, "page", lambda *given: drawn.append(1) or page(*given))
    shown.opened.value = "N10"
    shown.search.value = "rmsnorm"
    assert shown.opened.value == "N10" and len(drawn) == 1 and shown.card.value.count("<img") == 1
    assert 'alt="N10' in shown.card.value and "<img" not in shown.html()
    i18n.set_language("en")
    assert len(drawn) == 2 and "<img" in shown.card.value


def test_a_claim_opened_shows_its_card_and_the_code_of_its_evidence(shown):
    shown.opened.value = "N10"
    assert find("N10").statement["en"] in shown.card.value and "def layer_norm_over_rms_norm" in shown.card.value
    shown.opened.value = "P2"
    assert find("P2").conditions["en"] in shown.card.value
    shown.search.value = "RMSNorm"
    assert "P2" not in shown.shown and shown.card.value == ""


def test_the_table_is_whole_without_a_kernel_and_follows_the_language(shown):
    bundle, _ = shown._repr_mimebundle_()
    for name in QUICK:
        claim = find(name)
        assert f"<strong>{name}</strong>" in bundle["text/html"]
        assert all(setting.en in bundle["text/html"] for setting in claim.settings.values() if "`" not in setting.en)
    i18n.set_language("en")
    assert 'lang="zh"' not in shown.page.value and shown.search.description == "search"
    i18n.set_language("zh")
    assert 'lang="en"' not in shown.page.value
    shown.close()
    assert "application/vnd.jupyter.widget-view+json" not in shown._repr_mimebundle_()[0]


# the traps of the exercise --------------------------------------------------------------------------------------------


def good(seed, steps, learning_rate):
    return np.random.default_rng(seed).normal() + steps + (math.log10(learning_rate) + 2) ** 2


def said(measure, conditions, seeds=(0, 1, 2, 3)):
    return [en for _, en in traps(measure, list(seeds), conditions)[0]]


def test_a_good_measurement_is_in_no_trap_and_each_trap_is_found_by_what_the_function_does():
    stated = {"steps": 10, "learning_rate": [1e-3, 1e-2, 1e-1]}
    assert said(good, stated) == []
    assert said(good, stated, (0, 1)) == ["fewer than three seeds"]
    assert said(good, stated | {"learning_rate": [1e-2, 1e-1]}) == ["the best rate is at the edge of its grid"]
    assert said(lambda seed, steps, learning_rate=0.01: good(seed, steps, 0.01), {"steps": 3}) == [
        "unstated: learning_rate"
    ]
    assert said(lambda seed, steps: float(steps), {"steps": 3}) == ["the seed is not used"]
    assert said(lambda seed, steps: good(seed, 0, 0.01), {"steps": 3}) == ["this is initialisation, not training"]
    draws = np.random.default_rng(0)
    assert said(lambda seed: draws.normal(), {}) == ["one seed gives two numbers"]


def test_exponents_stand_on_an_axis_of_powers_of_ten():
    claim = claims()["G2"]
    figure = pictures.picture(claim, {name: Measured((-31.5, -31.4)) for name in claim.settings})
    figure.canvas.draw()
    ax = figure.axes[0]
    shown = {round(tick): label.get_text() for tick, label in zip(ax.get_xticks(), ax.get_xticklabels())}
    assert len(shown) > 3 and shown[0] == "10⁰" and shown[-24] == "10⁻²⁴"
