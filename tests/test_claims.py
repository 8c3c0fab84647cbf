"""Claims as data: entries, rules, cards; and that no verdict stands anywhere else."""

import functools
import json
import math
import re
from importlib import import_module
from statistics import mean

import pytest

from normcourse import canvas, theory
from normcourse.chapters import chapters
from normcourse.claims import (
    VERDICTS,
    Docket,
    EvidenceFailed,
    Measured,
    Setting,
    card,
    cards,
    claims,
    docket,
    find,
    hear,
    ledger,
    measure,
    pictures,
    sources,
    verdict,
)
from normcourse.claims.command import main
from normcourse.i18n import set_language
from tools.build_notebooks import lessons, read

from . import audit

NUMBERS = {"G": 10, "N": 14, "P": 13, "I": 6, "E": 8}  # the claims that the source texts make
IDS = {f"{letter}{i}" for letter, last in NUMBERS.items() for i in range(1, last + 1)}
IDS |= {"N15"}  # found in them since
IDS |= {"A1", "A2", "A3", "A4", "A5"}  # of the papers that chapter 12 is about
LATER = {"I1": 8, "I2": 8, "I3": 8, "I4": 8, "I5": 8, "E1": 10, "E2": 10, "E3": 10, "E4": 11}  # and their chapters
CHINESE = re.compile("[\u4e00-\u9fff]")
each_claim = pytest.mark.parametrize("claim", claims().values(), ids=claims())
judged = {claim.chapter for claim in claims().values()}
each_judged_lesson = pytest.mark.parametrize(
    ("name", "source"), [part for part in lessons() if part.source.parent.name in judged], ids=str
)


@functools.cache
def measured(name):
    """Every claim is measured once for all tests."""
    return measure(find(name))


def normal(z):
    """The distribution function of the standard normal distribution."""
    return (1 + math.erf(z / 2**0.5)) / 2


def middle(name, setting):
    return mean(measured(name)[setting].values)


@each_claim
def test_an_entry_is_a_known_claim_in_both_languages(claim):
    letter, number = claim.id[0], int(claim.id[1:])
    # beyond those of the source texts: found in them since, as N15, or in papers (A)
    assert letter in {*NUMBERS, "A"} and number > 0
    for words in (claim.statement, claim.conditions, claim.consequence, claim.number):
        if words:
            assert CHINESE.search(words["zh"]) and not CHINESE.search(words["en"])
            assert not re.search(r"[\u4e00-\u9fff][,;:?!]|[$\\]", words["zh"] + words["en"]), words
    assert re.match(r"S\d|[A-Z].* \d{4}$", claim.source)


def test_every_claim_of_the_source_texts_is_there_once_its_chapter_is():
    written = {chapter.number for chapter in chapters() if chapter.lesson}
    assert {name for name in IDS - set(claims()) if LATER.get(name, 0) in written} == set()


@each_claim
def test_only_what_cannot_be_measured_has_no_evidence_and_then_a_reason(claim):
    assert claim.evidence or not claim.settings
    assert claim.evidence or all(len(claim.conditions[code]) > 15 for code in ("zh", "en"))
    said = " ".join(text for words in (claim.conditions, claim.consequence) for text in words.values())
    assert not re.search(r"判决：|[Vv]erdict:", said)


@pytest.mark.slow
@each_claim
def test_the_evidence_runs_in_seconds_and_has_three_seeds_where_it_settles(claim):
    assert claim.evidence is None or callable(
        getattr(import_module(f"normcourse.chapters.{claim.chapter}.evidence"), claim.evidence)
    )
    for name, of_setting in measured(claim.id).items():
        assert all(math.isfinite(value) for value in of_setting.values)
        settled = of_setting.holds(*claim.settings[name].holds_between) is not None
        assert of_setting.exact or len(of_setting.values) >= (3 if settled else 2)
    reached = verdict(claim, measured(claim.id))
    assert reached.kind in VERDICTS and CHINESE.search(reached.zh) and not CHINESE.search(reached.en)


@each_claim
def test_the_rule_has_both_sides(claim):
    """In each setting numbers just within the bounds hold and numbers just beyond do not, and the verdict follows."""

    def judged(side):
        numbers = {name: Measured((side(s.holds_between),), exact=True) for name, s in claim.settings.items()}
        return verdict(claim, numbers)

    def within(between):
        low, high = between
        return low if math.isinf(high) else high

    def beyond(between):
        low, high = between
        return low - 1e-6 if math.isinf(high) else high + 1e-6

    if claim.settings:
        assert judged(within).kind == "holds" and judged(beyond).kind == "false"
        first, *others = claim.settings
        if others:
            mixed = {name: within(s.holds_between) for name, s in claim.settings.items()}
            mixed[first] = beyond(claim.settings[first].holds_between)
            mixed = verdict(claim, {name: Measured((value,), exact=True) for name, value in mixed.items()})
            assert mixed.kind == "holds_only" and claim.settings[others[0]].en in mixed.en
            assert claim.settings[first].en not in mixed.en and mixed.en.startswith("Holds only ")


EACH_SETTING = [(claim.id, name) for claim in claims().values() for name in claim.settings]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "setting"), EACH_SETTING)
def test_another_number_is_another_verdict(name, setting):
    """Of what was measured, the numbers of one setting are moved, with their spread made small against its rule: well
    inside, well outside, and onto the bound. The verdicts differ from each other; one of them was the measured one, or
    the run could not settle this setting."""
    claim, seen = find(name), measured(name)
    low, high = claim.settings[setting].holds_between
    bound = high if math.isfinite(high) else low
    room = high - low if 0 < high - low < math.inf else max(abs(bound), 1.0)
    inside = (low + high) / 2 if math.isfinite(high - low) else low + room if math.isinf(high) else high - room

    def judged(middle, spread=1e-3):
        values = tuple(middle + spread * room * step for step in (-1, 0, 1))
        exact = low == high  # only an exact number is equal to something
        moved = Measured(values[1:2] if exact else values, exact=exact)
        return verdict(claim, {**seen, setting: moved})

    found = [judged(inside), judged(bound + room if bound == high else bound - room)]
    if low < high:
        found.append(judged(bound, spread=0.1))
    assert len({reached.zh for reached in found}) == len({reached.en for reached in found}) == len(found)
    holds = seen[setting].holds(low, high)
    if holds is not None:
        assert verdict(claim, seen) == found[0 if holds else 1]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Measured((1.0, 1.1, 0.9)), True),
        (Measured((3.0, 3.1, 2.9)), False),
        (Measured((1.0, 2.0, 3.0)), None),  # the interval straddles the bound
        (Measured((1.0, 1.1)), None),  # two seeds
        (Measured((1.0, 1.1, 0.9), edge=True), None),
        (Measured((2.0,), exact=True), True),
        (Measured((2.1,), exact=True), False),
    ],
)
def test_what_a_run_cannot_support_is_not_settled(seen, expected):
    assert seen.holds(0.0, 2.0) is expected


def test_the_interval_is_students():
    """Against the textbook's example: the mean of 1, 2, 3 is 2 ± 4.303 · 1/√3."""
    low, high = Measured((1.0, 2.0, 3.0)).interval
    assert low == pytest.approx(2 - 4.303 / 3**0.5, abs=0.01) and high == pytest.approx(2 + 4.303 / 3**0.5, abs=0.01)


def test_the_verdict_of_several_settings():
    from dataclasses import replace

    settings = {name: Setting(name, f"with {name}", (0, 1), "{:.1f}") for name in "abc"}
    claim = replace(find("G1"), settings=settings)
    yes, no, open_ = Measured((0.5,), exact=True), Measured((2.0,), exact=True), Measured((0.5, 0.6))

    def of(*seen):
        reached = verdict(claim, dict(zip("abc", seen)))
        return reached.kind, reached.en

    assert of(yes, yes, yes) == ("holds", "Holds.")
    assert of(no, no, no) == ("false", "False.")
    assert of(open_, open_, open_) == ("not_settled", "Not settled by this run.")
    assert of(yes, no, yes) == ("holds_only", "Holds only with a, or with c.")
    assert of(yes, open_, no) == ("holds_only", "Holds only with a; not settled by this run with b.")
    assert of(no, open_, no) == ("false", "False with a, or with c; not settled by this run with b.")
    assert verdict(replace(claim, evidence=None), {}).kind == "not_measurable"


def test_an_edge_counts_only_for_the_one_that_loses():
    import pandas as pd

    from normcourse.chapters.learning_rates import best_losses, loss_difference

    def runs(*losses):  # at three rates, three seeds each
        rows = [(rate, seed, loss + 0.001 * seed) for rate, loss in enumerate(losses) for seed in range(3)]
        return pd.DataFrame(rows, columns=["learning_rate", "seed", "loss"])

    inner, falling, flat = runs(2.5, 2.0, 2.2), runs(2.5, 2.3, 1.0), runs(2.5, 2.0, 1.995)
    assert [best_losses(r)[1] for r in (inner, falling, flat)] == [False, True, False]
    assert not loss_difference("", inner, falling)["edge"].any()  # the winner could only win by more
    assert loss_difference("", runs(2.5, 2.3, 2.1), inner)["edge"].all()
    assert loss_difference("", inner, falling)["value"].tolist() == pytest.approx([1.0] * 3)


GOOD = """
[G1]
source = "S1"
evidence = "half_per_layer"
format = "{:.2f}"
holds_between = [0, 1]
statement = { zh = "甲", en = "a" }
number = { zh = "甲", en = "a" }
conditions = { zh = "甲", en = "a" }
consequence = { zh = "甲", en = "a" }
[G1.settings.10]
zh = "甲"
en = "a"
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[G1]", "[G1", r"here/claims\.toml: .*line 2"),
        ('en = "a" }\nnumber', "}\nnumber", r"here/claims\.toml"),
        ('source = "S1"', "", "G1: .*source"),
        ('source = "S1"', 'source = "S1"\ncolour = "red"', "G1: .*colour"),
        ("[0, 1]", "[1, 0]", r"G1\.settings\.10: holds_between is \[1, 0\]; expected \[low, high\]"),
        ('"{:.2f}"', '"two"', r"G1\.settings\.10: format is 'two'"),
        ('en = "a"\n', "", r"G1\.settings\.10 is .*; expected zh and en"),
        ('statement = { zh = "甲", en = "a" }', "", "G1: statement is None; expected zh and en"),
        ('[G1.settings.10]\nzh = "甲"\nen = "a"\n', "", "G1: evidence without settings"),
    ],
)
def test_an_error_names_the_file_and_the_entry(old, new, message, tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "claims.toml").write_text(GOOD, encoding="utf-8")
    assert ledger.load((folder,))["G1"].settings["10"].holds_between == (0, 1)
    assert old in GOOD
    (folder / "claims.toml").write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    ledger.load.cache_clear()
    with pytest.raises(ValueError, match=message):
        ledger.load((folder,))


def test_an_id_stands_once(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "claims.toml").write_text(GOOD, encoding="utf-8")
    with pytest.raises(ValueError, match=r"two/claims\.toml, G1: one/claims\.toml has this claim, too"):
        ledger.load((tmp_path / "one", tmp_path / "two"))


def test_an_unknown_claim_lists_the_known_ones():
    with pytest.raises(ValueError, match="相近的有 G9；.*unknown claim 'G99'; near it: G9; known are G1, G2"):
        card("G99")
    with pytest.raises(ValueError, match="unknown claim 'WWW'; known are G1, G2"):
        find("WWW")
    assert find("n10") is find("N10")


@each_judged_lesson
def test_verdicts_of_a_lesson_stand_in_its_cards_alone(name, source):
    cells = read(source).cells
    for cell in cells:
        if cell.cell_type == "markdown":
            found = re.findall(r"判决|[Vv]erdict", cell.source)
            assert not found, f"a verdict outside a card: {cell.source[:80]}"
    shown = re.findall(r'card\("(\w+)"\)', "\n".join(cell.source for cell in cells if cell.cell_type == "code"))
    assert sorted(shown) == sorted(claim.id for claim in claims().values() if claim.chapter == source.parent.name)


@pytest.mark.slow
def test_numbers_agree_with_the_closed_forms():
    assert middle("G1", "10") == 0.5**10 and middle("G1", "50") == 0.5**50
    # a block of two default matrices with a relu between: g²/√2 with g² = 1/3
    assert middle("G2", "default") == pytest.approx(50 * math.log10(1 / 3 / 2**0.5), abs=0.3)
    assert middle("G2", "variance_kept") == pytest.approx(0, abs=0.3)
    smallest, _ = theory.skip_edges(0.05)
    assert middle("G4", "small") == pytest.approx(smallest, abs=0.01)
    for name, squared in (("default", 1 / 3), ("he", 2.0)):
        assert middle("G6", name) == pytest.approx(20 * math.log10(1 + squared / 2), rel=0.1)
        assert middle("G10", name) == pytest.approx(50 * math.log10(1 + squared / 2), rel=0.1)
    assert middle("G10", "shrunk") == pytest.approx(50 * math.log10(1 + 0.02 / 2), abs=0.1)

    settings = {"relu": (1.4, "relu", 0.0), "tanh": (2.0, "tanh", 0.0), "gelu": (2.0, "gelu", 0.0)}
    settings |= {"biases": (1.4, "relu", 0.7), "tanh_biases": (2.0, "tanh", 0.3)}
    for name, (gain, activation, bias) in settings.items():  # at infinite width; the log of a finite one fluctuates
        _, backward = theory.mean_field("post_norm", 60, gain, activation, bias=bias)
        assert middle("P3", name) == pytest.approx(math.log10(backward[0]), abs=0.6)
    assert middle("N10", "from_scratch_forward") == pytest.approx(12 / 7, abs=0.02)  # tensors of the size of x
    assert middle("N10", "from_scratch_backward") == pytest.approx(31 / 23, abs=0.02)
    assert middle("N10", "torch_forward") == pytest.approx(2 / 7, abs=0.02)
    growth, _ = theory.mean_field("pre_norm", 100, 2**0.5)
    assert middle("P5", "pre_norm") == pytest.approx(growth[100] / growth[0], rel=0.1)
    assert middle("P5", "post_norm") == pytest.approx(1, abs=0.05)
    relative, _ = theory.updates("pre_norm", 50)
    assert middle("P6", "update") == pytest.approx(relative[49] / relative[0], rel=0.05)
    for start in (49, 25, 1):
        assert middle("P6", f"merged_{start}") == pytest.approx(theory.merged("pre_norm", 50, start), rel=0.1)
    for std in (1.0, 0.003, 0.0001):
        assert middle("N1", f"{std:g}") == pytest.approx((std**2 + 1e-5) ** 0.5 / (std + 1e-5), rel=1e-9)
    assert middle("N2", "smaller") == pytest.approx(10**0.5, rel=1e-3)
    # half of the features at −1/√(π − 1); with a probability p of the larger value, 1 − p at −√(p/(1 − p))
    assert middle("N4", "relu") == pytest.approx(0.5 - normal(-((math.pi - 1) ** -0.5)), abs=0.02)
    p = 1 - normal(0.8)
    assert middle("N4", "two_valued") == pytest.approx(1 - p - normal(-((p / (1 - p)) ** 0.5)), abs=0.02)
    assert middle("N6", "token") == pytest.approx(0.1, abs=1e-4)
    assert middle("N6", "tiny_token") == pytest.approx((1001 / 1100) ** 0.5, abs=0.02)  # √((ε + 1e-8) / (ε + 1e-6))
    assert middle("N6", "feature") == pytest.approx((1 - 9 / 256) ** 0.5, abs=0.01)
    assert middle("N7", "random") == pytest.approx(1, abs=0.03)
    for m in (0.5, 1.0, 2.0):
        assert middle("N12", f"{m:g}") == pytest.approx((1 + m * m) ** -0.5, abs=0.01)


@pytest.mark.parametrize("code", ["zh", "en", "both"])
def test_a_card_shows_claim_verdict_numbers_and_consequence_in_the_language_in_force(code):
    try:
        set_language(code)
        shown = card("G3")
        page, words = shown.html(), str(shown)
    finally:
        set_language("both")
    claim = shown.claim
    for language in ("zh", "en"):
        for part in (
            claim.statement,
            claim.consequence,
            claim.conditions,
            {language: getattr(shown.verdict, language)},
        ):
            assert (part[language] in page) == (code in (language, "both"))
    assert "(G3)" in words and "<script" not in page and page.count("<details>") == (2 if code == "both" else 1)
    assert claim.code in page and "0.93" in page and "0.93" in words


def test_a_card_follows_the_switch_until_it_is_closed():
    try:
        shown = card("G1")
        bundle, _ = shown._repr_mimebundle_()
        assert {"text/html", "text/plain", "application/vnd.jupyter.widget-view+json"} <= set(bundle)
        set_language("en")
        assert 'lang="en"' in shown.widget.value and 'lang="zh"' not in shown.widget.value
        shown.close()
        set_language("zh")
        assert 'lang="zh"' not in shown.widget.value
        assert "application/vnd.jupyter.widget-view+json" not in shown._repr_mimebundle_()[0]
    finally:
        set_language("both")


def test_powers_and_signs_are_printed_as_one_reads_them():
    power = Setting("", "", (-math.inf, -3), "10^{:.0f}")
    assert cards.number(power, Measured((-31.4, -31.5, -31.6))) == "10^−32 [10^−32, 10^−31]"
    assert cards.marked("10^−32 `x`") == "10<sup>−32</sup> <code>x</code>" and cards.condition(power) == "≤ 10^−3"
    assert cards.number(Setting("", "", (0, 1), "{:+.1f}"), Measured((-0.01,), exact=True)) == "0.0"


def test_the_command_prints_and_filters(capsys):
    assert main(["G1", "G3", "--verdict", "holds"]) == 0
    out = capsys.readouterr().out
    assert "G1" in out and "G3" not in out and "成立" in out and "Holds." in out
    claim = find("G1")
    for words in (claim.statement, claim.number, claim.conditions, claim.consequence):
        assert words["zh"] in out and words["en"] in out
    assert claim.source in out and "01 Vanishing gradients" in out and "+ 0.00098  (0.0005 … 0.002)" in out
    assert main(["g1", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["id"] == "G1" and row["chapter"] == 1 and row["settings"][0]["values"] == [0.5**10]
    assert row["statement"] == claim.statement and row["settings"][1]["holds_between"] == [0.0, 1.2e-7]
    assert main(["--source", "s3", "--chapter", "05"]) == 0
    assert set(re.findall(r"^([A-Z]\d+)", capsys.readouterr().out, re.M)) == {"N10", "N12"}


def test_json_of_the_command_has_no_infinity_and_a_reason_for_what_is_not_measured(capsys):
    assert main(["P2", "N15", "--json"]) == 0
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out, parse_constant=pytest.fail)}
    looked_up, compared = rows["P2"], rows["N15"]
    if looked_up["evidence"] is None:
        assert (
            looked_up["verdict"] == "not_measurable" and looked_up["settings"] == [] and looked_up["conditions"]["en"]
        )
    assert {tuple(setting["holds_between"]) for setting in compared["settings"]} == {(0.02, None)}


@pytest.mark.parametrize(
    ("given", "zh", "en"),
    [
        (["G99"], "没有编号为 'G99' 的说法，相近的有 G9", "unknown claim 'G99'; near it: G9; known are G1"),
        (["--chapter", "40"], "没有章 '40'；有的是 1, 2", "unknown chapter '40'; known are 1, 2"),
        (["--source", "S9"], "没有出处 'S9'；有的是 S0", "unknown source 'S9'; known are S0"),
        (["--verdict", "true"], "没有判决 'true'；有的是 holds", "unknown verdict 'true'; known are holds, holds_only"),
    ],
)
def test_the_command_says_in_both_languages_what_is_not_there(given, zh, en, capsys):
    assert main(given) == 2
    said = capsys.readouterr()
    assert zh in said.err and en in said.err and not said.out


def test_the_command_says_whose_evidence_failed(capsys, monkeypatch):
    def broken(claim):
        raise OSError("no network")

    monkeypatch.setattr(docket, "measure", broken)
    assert main(["G1"]) == 1
    said = capsys.readouterr().err
    assert "G1 的测量出错" in said and "evidence of G1 failed" in said and "OSError: no network" in said
    with pytest.raises(EvidenceFailed, match="half_per_layer"):
        next(hear([find("G1")]))


# the docket -----------------------------------------------------------------------------------------------------------

QUICK = ("G1", "N1", "N3", "N9", "N14", "P2", "G7", "N11", "P8")  # exact, recorded, or not measured


@pytest.mark.slow
def test_other_processes_measure_the_same_as_this_one():
    chosen = [find(name) for name in QUICK]
    apart, here = dict_of(hear(chosen, jobs=2)), dict_of(hear(chosen, jobs=1))
    assert [*apart] == [*here] == [*QUICK] and apart == here


def dict_of(heard):
    return {claim.id: seen for claim, seen in heard}


def test_what_measures_time_is_measured_first_and_in_this_process(monkeypatch):
    monkeypatch.setattr(docket, "measure", lambda claim: {"process": claim.id})  # no other process sees this
    timed = [claim for claim in claims().values() if claim.timed]
    assert "G8" in {claim.id for claim in timed}
    heard = hear([find("G1"), *timed], jobs=2)
    assert [next(heard)[0].id for _ in timed] == [claim.id for claim in timed]
    heard.close()


def test_the_docket_counts_what_the_rule_says_and_keeps_every_setting():
    pairs = [(find(name), measured(name)) for name in QUICK]
    kept = Docket(pairs)
    by_id, by_setting = kept.claims.set_index("id"), kept.settings
    assert [*by_id.index] == [*QUICK] and len(by_setting) == sum(len(claim.settings) for claim, _ in pairs)
    for claim, seen in pairs:
        row, rows = by_id.loc[claim.id], by_setting[by_setting["id"] == claim.id]
        assert row["verdict"] == verdict(claim, seen).kind == kept.verdicts[claim.id].kind
        assert row["settings"] == row[["holds_in", "fails_in", "open_in"]].sum() == len(rows)
        assert row["holds_in"] == sum(held is True for held in rows["holds"])
        assert ((rows["low"] <= rows["mean"]) & (rows["mean"] <= rows["high"])).all()
    assert sources(find("A1")) == ["papers"]
    assert sources(find("G3")) == ["S0", "S1", "S2"] and by_id.loc["G7", "sources"] == "S0"


@pytest.mark.slow
@pytest.mark.parametrize("claim", claims().values(), ids=claims())
def test_the_words_of_no_claims_picture_cover_anything(claim):
    for look in ("light", "dark") if claim.settings else ():
        canvas.set_look(look)
        for code in ("zh", "en", "both"):
            set_language(code)
            assert not audit.faults(pictures.picture(claim, measured(claim.id)))
    canvas.set_look("light")
    set_language("both")
