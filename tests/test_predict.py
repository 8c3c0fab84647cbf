"""Predict first: questions that a measured number answers, and progress that is kept in one file and nowhere else."""

import ast
import itertools
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from normcourse import lab, predict, progress, theory
from normcourse.chapters import chapters
from normcourse.check import check
from normcourse.i18n import set_language
from normcourse.predict import LETTERS, answer, finished, overview, questions
from tools.build_notebooks import read

ROOT = Path(__file__).parents[1]
CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing is known from the test before, and no file is used unless a test has one."""
    monkeypatch.delenv(progress.VARIABLE, raising=False)
    progress._in_memory.clear()
    progress._say.cache_clear()
    yield
    progress._in_memory.clear()
    set_language("both")


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv(progress.VARIABLE, str(tmp_path / progress.FILE))
    return tmp_path / progress.FILE


def guess(name, letter):
    shown = predict.predict(name)
    shown.choice.value = letter
    shown.commit.click()
    return shown


@pytest.mark.parametrize("chapter", [chapter for chapter in chapters() if chapter.lesson and chapter.number])
def test_each_chapter_asks_first_answers_later_and_can_be_ticked_off(chapter):
    number = f"{chapter.number:02d}"
    code = [cell.source for cell in read(chapter.lesson).cells if cell.cell_type == "code"]
    asked, answered = (
        [(name, at) for at, cell in enumerate(code) for name in re.findall(rf'^{call}\("([^"]+)"', cell, re.M)]
        for call in ("predict", "answer")
    )
    own = [name for name, question in questions().items() if question.chapter == chapter.number]
    assert [name for name, _ in asked] == own and own
    assert sorted(name for name, _ in answered) == sorted(own)
    assert all(dict(asked)[name] < at for name, at in answered)
    assert max(at for _, at in asked) <= 3, "first means first"
    assert code[-1] == f'finished("{number}")' and all(name.startswith(number) for name in own)


@pytest.mark.parametrize("name", questions())
def test_a_question_is_whole_in_both_languages_and_no_two_choices_can_be_right(name):
    question = questions()[name]
    assert all("{}" in question.measured[code] for code in ("zh", "en"))
    for zh, en in [*((d["zh"], d["en"]) for d in (question.question, question.measured, *question.choices))]:
        assert not CHINESE.search(en) and not re.search(r"[\u4e00-\u9fff][,;:?!]", zh)
        tags = [re.findall(r"<[^>]+>", words) for words in (zh, en)]
        assert sorted(tags[0]) == sorted(tags[1]), name
    intervals = sorted(choice["between"] for choice in question.choices if "between" in choice)
    assert intervals and all(low < high for low, high in intervals)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(intervals))


# What the chapters measure, from closed forms for infinite width or by counting.
TRUTH = {
    "01-first-layer": (6**-25, "C"),  # 50 layers at (1/√3)/√2 each
    "02-input": (2**50, "D"),  # √(1 + g²/2) per layer, g = √2
    "03-outputs": (2, "C"),  # of two numbers one is the larger
    "03-gradient": (1e-5 / (3.35**2 + 1e-5) ** 1.5 / math.sqrt(2), "C"),  # only ε lets anything through
    "07-last-layer": (theory.updates("pre_norm", 50)[0][49], "B"),
    "07-merged": (theory.merged("pre_norm", 50, 49), "A"),
}


@pytest.mark.parametrize("name", TRUTH)
def test_the_closed_form_answers_as_the_chapter_does(name):
    value, right = TRUTH[name]
    assert questions()[name].right(value) == right


def test_a_number_that_no_choice_covers_is_said_to_be_none_of_them():
    assert questions()["06-stuck"].right(0.3) is None
    shown = answer("06-stuck", 0.3)
    assert "几个选项都不对" in shown.framed() and "none of the choices" in shown.framed()


def test_the_answer_stands_beside_the_guess_and_the_guess_is_final(file):
    shown = answer("01-first-layer", 2e-20)
    assert "2.0×10⁻²⁰" in shown.html("en") and "You guessed" not in shown.html("en")
    asked = predict.predict("01-first-layer")
    assert asked.commit.disabled and asked.choice.value is None
    asked.choice.value = "B"
    assert progress.recorded("guess") == {} and not asked.commit.disabled
    asked.commit.click()
    assert progress.recorded("guess") == {"01-first-layer": "B"} and asked.choice.disabled and asked.commit.disabled
    assert "You guessed B (about 0.001)." in shown.widget.value and "你猜的是 B（大约 0.001）。" in shown.widget.value
    again = predict.predict("01-first-layer")
    assert again.choice.value == "B" and again.choice.disabled and "B" in again.note.value
    guess("07-merged", "A")
    assert "猜对了" in answer("07-merged", 0.02).html("zh")


def test_all_of_it_follows_the_language_and_a_choice_in_hand_is_kept():
    asked, told, box, table = predict.predict("02-input"), answer("02-input", 1e15), finished("02"), overview()
    asked.choice.value = "C"
    for code, there, away in (("zh", "大约 100", "about 100"), ("en", "about 100", "大约 100")):
        set_language(code)
        labels = " ".join(label for label, _ in asked.choice.options)
        assert there in labels and away not in labels and asked.choice.value == "C" and not asked.commit.disabled
        words = (
            told.widget.value + box.box.description + table.table.value + asked.commit.description + asked.words.value
        )
        assert bool(CHINESE.search(words)) == (code == "zh")
    for shown in (asked, told, box, table):
        shown.close()
    set_language("both")  # what is closed is left alone


def test_a_reader_without_a_kernel_reads_question_and_choices():
    data, _ = predict.predict("07-merged")._repr_mimebundle_()
    for words in ("B. 大约 10%", "B. about 10%", "x<sub>48</sub>"):
        assert words in data["text/html"]
    assert "B. about 10%" in data["text/plain"] and "<" not in data["text/plain"]


def test_the_overview_shows_guesses_chapters_and_tasks_and_a_second_click_clears_them(file):
    import torch

    guess("01-first-layer", "B")
    answer("01-first-layer", 2e-20)
    finished("05").box.value = True
    assert check("layer_norm", lambda x, w, b, eps: torch.zeros(3)) or progress.recorded("passed") == {}
    progress.record("passed", "layer_norm", "yes")
    table = overview()
    rows = {row[:2]: row for row in re.findall(r"<td[^>]*>(\d\d .*?)</tr>", table.html("en"))}
    assert "B, measured C" in rows["01"] and "1 / 4" in rows["03"] and "✓" in rows["05"] and "✓" not in rows["06"]
    assert str(file) in table.table.value
    table.reset.click()
    assert progress.recorded("guess") and table.sure.layout.display != "none"
    table.keep.click()
    assert progress.recorded("guess") and table.sure.layout.display == "none"
    table.reset.click()
    table.sure.click()
    assert not any(progress.recorded(kind) for kind in ("guess", "answer", "read", "passed"))
    assert "measured C" not in table.table.value


def test_a_chapter_ticked_by_mistake_can_be_unticked(file):
    box = finished("03").box
    box.value = True
    assert progress.recorded("read") == {"03": "yes"}
    box.value = False
    assert progress.recorded("read") == {}


WRITER = """
import sys
from normcourse import progress
for n in range(25):
    progress.record("guess", f"{sys.argv[1]}-{n}", "A")
"""


def test_two_notebooks_that_write_at_once_lose_nothing(file):
    running = [subprocess.Popen([sys.executable, "-c", WRITER, name]) for name in ("one", "two", "three")]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert set(progress.recorded("guess")) == {f"{name}-{n}" for name in ("one", "two", "three") for n in range(25)}


def test_a_damaged_file_is_laid_aside_and_said_in_both_languages(file, capsys):
    file.write_bytes(b"not a database" * 500)
    progress.record("guess", "01-first-layer", "A")
    said = capsys.readouterr().out
    assert "读不出来" in said and "damaged" in said
    (aside,) = [path for path in file.parent.iterdir() if path != file]
    assert aside.read_bytes().startswith(b"not a database") and str(aside) in said
    assert progress.recorded("guess") == {"01-first-layer": "A"}
    file.write_bytes(b"once more" * 500)
    assert progress.recorded("guess") == {} and len([*file.parent.iterdir()]) == 3


def test_what_cannot_be_written_is_kept_until_the_kernel_ends(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(progress.VARIABLE, str(tmp_path / "no such folder" / progress.FILE))
    progress.record("guess", "01-first-layer", "A")
    progress.record("read", "01", "yes")
    said = capsys.readouterr().out
    assert said.count("用不了") == 1 == said.count("cannot be used")
    assert progress.recorded("guess") == {"01-first-layer": "A"} and progress.recorded("read") == {"01": "yes"}


def test_in_a_checkout_nothing_is_written_and_in_the_course_folder_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    assert progress.place() is None
    progress.record("guess", "01-first-layer", "A")
    assert progress.recorded("guess") == {"01-first-layer": "A"}
    assert not (ROOT / progress.FILE).exists() and not (ROOT / "notebooks" / progress.FILE).exists()
    (tmp_path / lab.RECEIPT).write_text("{}")
    (tmp_path / "exercises" / "03").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "exercises" / "03")
    assert progress.place() == tmp_path / progress.FILE
    monkeypatch.setenv(progress.VARIABLE, "")
    assert progress.place() is None


def test_nothing_leaves_the_machine():
    for module in (progress, predict):
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        used = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        used |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
        assert used <= {*("functools", "html", "os", "re", "sqlite3", "tomllib", "weakref")} | {
            *("contextlib", "dataclasses", "pathlib", "ipywidgets")
        }


def test_an_unknown_question_is_named_in_both_languages():
    with pytest.raises(ValueError, match=r"没有问题 '01-x'(.|\n)*no question '01-x'; known are 01-first-layer"):
        answer("01-x", 1.0)
    assert len(LETTERS) >= max(len(question.choices) for question in questions().values())
