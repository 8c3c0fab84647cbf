"""Variants: constants of each learner's own, the same in the notebook, the check and the judge, and told apart."""

import csv
import inspect
import json
import platform
import re
import shutil

import nbformat
import pytest
import torch

from normcourse.check import check, explain, recorded, tasks, variant
from normcourse.check.comparison import compare, same_answer
from normcourse.check.runner import answer, right_answer
from normcourse.grade import __main__ as command
from normcourse.grade import notebook
from normcourse.grade.hidden import load, score
from normcourse.grade.variants import (
    ANOTHER,
    constants_of,
    key,
    not_any_more,
    read_learners,
    usual,
    variants,
    varied,
    with_defaults,
)
from normcourse.i18n import set_language
from tools import build_variants
from tools.build_exercises import EXERCISES, SOLUTIONS

from . import answers
from .test_exercises import written

TASKS = {name: task for name, task in load(SOLUTIONS)[0].items() if task.varies}
WHERE = {
    "layer_norm": "03_layer_normalisation",
    "update_running": "04_batch_norm",
    "rms_norm_backward": "05_rms_norm",
}
each_task = pytest.mark.parametrize("name", list(TASKS))
needs_linux = pytest.mark.skipif(platform.system() != "Linux", reason="the sandbox needs Linux")


@pytest.fixture
def usual_afterwards():
    before = dict(tasks())
    yield
    tasks().update(before)


def first(task):
    """The first hidden case of a task, without which there are no points."""
    case = next(iter(task.cases(torch.Generator().manual_seed(1))))
    return case, right_answer(task, case)


def test_a_learners_constants_depend_on_names_and_id_alone_and_all_occur():
    assert set(TASKS) == set(WHERE)
    chosen = {name: constants_of(task, "zhang3") for name, task in TASKS.items()}
    assert chosen == {
        "layer_norm": {"eps": 0.04},
        "update_running": {"momentum": 0.25},
        "rms_norm_backward": {"eps": 0.05},
    }
    for task in TASKS.values():
        assert constants_of(task, " ZHANG3 ") == constants_of(task, "zhang3")
        found = [constants_of(task, f"{number}") for number in range(300)]
        assert all(20 < found.count(one) < 85 for one in variants(task)) and usual(task) not in variants(task)


def test_where_nothing_varies_a_task_is_as_it_was():
    task = load(SOLUTIONS)[0]["welford"]
    assert not task.varies and constants_of(task, "zhang3") == {} and variants(task) == [{}]
    for path in EXERCISES.glob("*/*.ipynb"):
        assert "variant(" not in path.read_text(encoding="utf-8")


@each_task
def test_a_right_answer_is_right_in_its_own_variant_only(name):
    task, solution = TASKS[name], written(SOLUTIONS, WHERE[name])[name]
    made = {json.dumps(one): with_defaults(solution, one) for one in [usual(task), *variants(task)]}
    for one in variants(task):
        case, right = first(varied(task, one))
        for other, function in made.items():
            assert (compare(answer(function, case), right, case) is None) == (other == json.dumps(one)), (one, other)
    points, found = score(varied(task, variants(task)[0]), made[json.dumps(variants(task)[0])], 0)
    assert points == task.points, found
    assert score(task, solution, 0)[0] == task.points


@each_task
def test_in_a_variant_wrong_answers_stay_wrong_and_right_ones_right(name):
    task, ((constant, default),) = varied(TASKS[name], variants(TASKS[name])[-1]), usual(TASKS[name]).items()
    tried = {}
    for theirs, function, *words in [*answers.HONEST, *answers.MUTANTS]:
        parameter = inspect.signature(function).parameters.get(constant) if theirs == name else None
        if parameter and parameter.default == default:  # else it is one of the usual variant only
            points, found = score(task, with_defaults(function, task.constants), 0)
            assert (points == task.points) == (not words), (function.__name__, found)
            tried.setdefault(bool(words), []).append(function)
    assert len(tried[True]) >= 5 and len(tried[False]) >= 2


@each_task
def test_the_check_of_each_variant_is_recorded_and_knows_the_others(name):
    task, known, solution = TASKS[name], recorded.variants(name), written(SOLUTIONS, WHERE[name])[name]
    given = [usual(task), *variants(task)]
    given = [[answer(with_defaults(solution, one), case) for case in known[0].cases] for one in given]
    assert [one.constants for one in known] == variants(task), "run make exercises"
    mistakes = [mistake.en for mistake in varied(task, variants(task)[0]).mistakes]
    for i, own in enumerate(known, 1):
        assert [en for _, en, _ in own.mistakes] == mistakes, "run make exercises"
        right = [right_answer(varied(task, own.constants), case) for case in own.cases]
        assert all(map(same_answer, right, own.right, own.cases)), "run make exercises"
        if i in (1, len(known)):
            assert not any(explain(own, given[i]))
            assert ANOTHER in explain(own, given[i - 1])


def test_mistakes_about_the_usual_default_are_none_in_a_variant():
    task = TASKS["rms_norm_backward"]
    words = {mistake.en for mistake in task.mistakes} - {m.en for m in varied(task, {"eps": 0.01}).mistakes}
    assert len(words) == 1 and "1e-5" in words.pop()


def test_check_expects_the_variant_that_the_notebook_states(usual_afterwards):
    solution = written(SOLUTIONS, WHERE["update_running"])["update_running"]
    variant("update_running", momentum=0.3)
    assert check("update_running", with_defaults(solution, {"momentum": 0.3}))
    report = check("update_running", solution)
    assert report.failures[0][1] == ANOTHER
    for name, constants in (("update_running", {"momentum": 0.31}), ("welford", {}), ("../layer_norm", {"eps": 0.01})):
        for language, words in (("zh", "没有变体"), ("en", "there is no variant")):
            set_language(language)
            with pytest.raises(ValueError, match=words):
                variant(name, **constants)
    assert tasks()["update_running"].constants == {"momentum": 0.3}


# The notebooks --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def handed_out(tmp_path_factory):
    """The folder of notebooks for three learners."""
    folder = tmp_path_factory.mktemp("variants")
    listed = folder / "ids.csv"
    listed.write_text("id,name\nzhang3,张三,moodle:1001\n李四\n0042\n", encoding="utf-8-sig")
    assert build_variants.build(listed, folder / "out") == 3 * len(WHERE)
    return folder / "out"


def test_each_learner_gets_notebooks_that_state_their_own_constants_in_text_and_code(handed_out, usual_afterwards):
    assert {path.name for path in handed_out.iterdir()} == {"zhang3", "李四", "0042"}
    for learner in ("zhang3", "李四", "0042"):
        for name, exercise in WHERE.items():
            ((constant, value),) = constants_of(TASKS[name], learner).items()
            released = nbformat.read(EXERCISES / exercise / f"{exercise}.ipynb", as_version=4)
            notebook = nbformat.read(handed_out / learner / exercise / f"{exercise}.ipynb", as_version=4)
            nbformat.validate(notebook)
            assert notebook.metadata.normcourse == {"learner": learner, "constants": {name: {constant: value}}}
            changed = [new for old, new in zip(released.cells, notebook.cells, strict=True) if old != new]
            top, setup, text, _ = changed
            assert top.source.count(f"`{learner}`") == 2
            assert f'\nvariant("{name}", {constant}={value:g})\nlanguage_switch()' in setup.source
            assert re.search(r"^from normcourse.check import check.*, variant$", setup.source, re.M)
            exec(setup.source.partition("\n\n")[2].rpartition("\n")[0], {"torch": torch})
            assert tasks()[name].constants == {constant: value}
            assert text.source.count(f"`{constant} = {value:g}`") == 2
            function = written(handed_out / learner, exercise)[name]
            assert with_defaults(function, {}).__wrapped__.__defaults__[-1] == value
            assert (handed_out / learner / exercise / "expected_1.png").exists()
    text = (handed_out / "zhang3" / WHERE["layer_norm"] / f"{WHERE['layer_norm']}.ipynb").read_text(encoding="utf-8")
    assert "10^{-5}" not in text.partition("EXERCISE: layer_norm")[0]


def test_the_same_list_gives_the_same_notebooks_byte_for_byte(handed_out):
    listed, again = handed_out.parent / "ids.csv", handed_out.parent / "again"
    assert build_variants.build(listed, again, ["04"]) == 3
    with pytest.raises(ValueError, match=r"没有变的(.|\n)*nothing varies there"):
        build_variants.build(listed, again, ["02"])
    for path in again.rglob("*.ipynb"):
        assert path.read_bytes() == (handed_out / path.relative_to(again)).read_bytes()


# The list -------------------------------------------------------------------------------------------------------------

ODD = {
    "": ("是空的", "is empty"),
    "id,name\n\n": ("是空的", "is empty"),
    "a\nb\nA\n": ("第 3 行：a 已经有了", "line 3: a is there already"),
    "a,moodle:7\nb,Moodle:7": ("第 2 行：moodle:7 已经有了", "line 2: moodle:7 is there already"),
    "../b": ("不能有 /", "cannot hold /"),
    "a:b": ("不能有 :", "cannot hold :"),
    "a\u200bb": (r"不能有 U\+200B", r"cannot hold U\+200B"),
    "..": ("以字母或数字开头", "begins with a letter or digit"),
    ",张三": ("没有号码", "there is no id"),
    "x" * 65: ("太长", "too long"),
    "2.02301E+12,moodle:1": ("Excel 写短了", "Excel has shortened"),
}


@pytest.mark.parametrize("content", ODD, ids=repr)
def test_what_is_wrong_with_a_list_is_said_in_both_languages(content, tmp_path):
    listed, (zh, en) = tmp_path / "ids.csv", ODD[content]
    listed.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=f"ids.csv：.*{zh}.*\n.*ids.csv: .*{en}"):
        read_learners(listed)
    with pytest.raises(SystemExit, match=zh):
        build_variants.main([str(listed), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_list_may_be_written_as_programs_write_it(tmp_path):
    listed = tmp_path / "ids.csv"
    listed.write_text(
        'ID;Name\r\nzhang3;"Zhang, San";Moodle： 1001\r\nwang5, "Zhang, Wu" ,moodle :1002\r\n'
        'jose\u0301,张\u200b三,Jose\u2028moodle:7\rLi-4\t"canvas: 7"',
        encoding="utf-8-sig",
        newline="",
    )
    known = read_learners(listed)
    assert known == {
        **dict.fromkeys(("zhang3", "zhang, san", "moodle:1001"), "zhang3"),
        **dict.fromkeys(("wang5", "zhang, wu", "moodle:1002"), "wang5"),
        **dict.fromkeys(("josé", "张三", "jose\u2028moodle:7"), "josé"),
        **dict.fromkeys(("li-4", "canvas:7"), "Li-4"),
    }
    assert key(" 张\u200b三") in known and key("MOODLE:1001") in known


def test_a_notebook_made_for_an_id_that_is_not_on_the_list_any_more_is_told_and_others_are_not(handed_out):
    exercise = WHERE["update_running"]
    for learner in ("0042", "zhang3", "李四"):
        cells = notebook.read((handed_out / learner / exercise / f"{exercise}.ipynb").read_bytes())
        assert not_any_more(cells, {"moodle:1": learner, "b": "b"}) is None
        for zh_or_en in not_any_more(cells, {"moodle:1": "42", learner: "42", "b": "b"}):
            assert learner in zh_or_en and "Excel" in zh_or_en
    released = notebook.read((EXERCISES / exercise / f"{exercise}.ipynb").read_bytes())
    assert not_any_more(released, {"b": "b"}) is None


def test_a_list_that_cannot_be_read_is_told_by_the_command_before_anything_is_written(tmp_path, capsys):
    listed, folder = tmp_path / "ids.csv", tmp_path / "class"
    folder.mkdir()
    (folder / "a.ipynb").write_text("{}")
    listed.write_bytes("张三".encode("gb18030"))
    for path in (listed, tmp_path / "missing.csv"):
        arguments = [str(folder), "--out", str(tmp_path / "out"), "--tests", str(SOLUTIONS), "--variants", str(path)]
        assert command.main(arguments) == 2
        said = capsys.readouterr().err
        assert "读不出来" in said and "cannot be read" in said and not (tmp_path / "out").exists()
    listed.write_text("张三,canvas:5\n", encoding="utf-8")
    assert read_learners(listed) == {"张三": "张三", "canvas:5": "张三"}


def test_a_task_whose_varies_does_not_fit_is_refused():
    task = TASKS["layer_norm"]
    for varies in ({"eps": ()}, {"eps": (1e-5, 0.1)}, {"eps": (0.1, 0.1)}, {"x": (1, 2)}, {"other": (1, 2)}):
        with pytest.raises(ValueError, match=r"varies：(.|\n)*must be a parameter of the right answer"):
            usual(task.__class__(**{**vars(task), "varies": varies}))


# The judge ------------------------------------------------------------------------------------------------------------

BODY = """    rows = x.reshape(-1, x.shape[-1])
    var, mean = torch.var_mean(rows, dim=0)
    return running_mean.lerp(mean, momentum), running_var.lerp(var, momentum)
"""


@needs_linux
def test_the_judge_grades_each_by_their_own_constants(handed_out, tmp_path, capsys):
    exercise, folder, out = WHERE["update_running"], tmp_path / "class", tmp_path / "graded"
    shutil.copytree(SOLUTIONS / exercise, tmp_path / "tests" / exercise)
    shutil.copy(SOLUTIONS / "shared.py", tmp_path / "tests")

    def hand_in(place, learner, change=lambda body: body):
        notebook = nbformat.read(handed_out / learner / exercise / f"{exercise}.ipynb", as_version=4)
        cell = next(cell for cell in notebook.cells if cell.source.startswith("# EXERCISE: update_running"))
        cell.source = re.sub(r"    raise NotImpl.*", lambda _: change(BODY), cell.source)
        (folder / place).mkdir(parents=True)
        nbformat.write(notebook, folder / place / f"{exercise}.ipynb")

    def grade(*more):
        arguments = [str(folder), "--out", str(out), "--tests", str(tmp_path / "tests"), "--seed", "3", "--jobs", "2"]
        assert command.main([*arguments, *more]) == 0
        lines = csv.DictReader((out / "grades.csv").read_text(encoding="utf-8-sig").splitlines())
        return {line["submission"].partition("/")[0].partition("_")[0]: line for line in lines}

    own = {
        learner: constants_of(TASKS["update_running"], learner)["momentum"] for learner in ("zhang3", "李四", "0042")
    }
    assert own["zhang3"] != own["李四"]
    hand_in("ZHANG3", "zhang3")
    hand_in("李四", "zhang3")  # somebody else's
    hand_in("0042", "0042", lambda body: body.replace("torch.var_mean", "getattr(torch, 'var_' + 'mean')"))
    hand_in("Zhang San_1001_assignsubmission_file_", "zhang3", lambda body: body.replace("rows, dim=0", "rows"))
    hand_in("Wang Wu_1002_assignsubmission_file_", "zhang3")  # not on the list
    tidied = folder / "0042" / f"{exercise}.ipynb"  # by a program that writes texts in single quotes
    tidied.write_text(
        tidied.read_text(encoding="utf-8").replace(r"variant(\"update_running\"", "variant('update_running'")
    )
    listed = tmp_path / "ids.csv"
    listed.write_text("zhang3,moodle:1001\n李四\n0042,1002\n", encoding="utf-8")
    by = grade("--variants", str(listed))
    assert (by["ZHANG3"]["update_running"], by["ZHANG3"]["open"]) == ("4", "0")
    assert by["ZHANG3"]["constants"] == f"update_running: momentum = {own['zhang3']:g}"
    assert by["李四"]["update_running"] == "0" and by["李四"]["status"] == "graded"
    assert (by["0042"]["update_running"], by["0042"]["open"]) == ("0", "4")  # the second world has the constants, too
    assert by["Zhang San"]["update_running"] == "0" and by["Zhang San"]["constants"] == by["ZHANG3"]["constants"]
    assert by["Wang Wu"]["status"] == "failed" and "moodle:1002 不在 --variants 的名单里" in by["Wang Wu"]["reason"]
    assert "moodle:1002 is not on the list of --variants" in (out / "index.html").read_text(encoding="utf-8")
    page = (out / by["李四"]["report"]).read_text(encoding="utf-8")
    assert f"momentum = {own['李四']:g}" in page and ANOTHER[0] in page and ANOTHER[1] in page
    assert "zhang3" not in page.lower() and f"momentum = {own['zhang3']:g}" not in page

    before = {path.name: path.stat().st_mtime_ns for path in (out / "results").iterdir()}
    listed.write_text("zhang3,moodle:1001,moodle:1002\n李四\n0042\n", encoding="utf-8")
    again = grade("--variants", str(listed))
    assert again["Wang Wu"]["update_running"] == "4"
    after = {path.name: path.stat().st_mtime_ns for path in (out / "results").iterdir()}
    assert before.items() < after.items() and len(after) == len(before) + 1

    listed.write_text("zhang3,moodle:1001,moodle:1002\n李四\n42,0042\n", encoding="utf-8")  # Excel was here
    assert "made for the id 0042, which is not on the list" in grade("--variants", str(listed))["0042"]["reason"]

    by = grade()  # without a list nothing is known of anybody's constants
    assert {line["status"] for line in by.values()} == {"failed"} and "constants" not in by["ZHANG3"]
    assert "run again with the list of learners after --variants" in by["ZHANG3"]["reason"]
