"""The exercises: solutions earn everything, stubs nothing, wrong answers less, honest ones in other words as much; and
what learners get holds nothing of the solutions."""

import functools
import json
import linecache
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import torch
from nbgrader.api import Gradebook

from normcourse.check import Case, check, diagnose, explain, no_triton, once_written, recorded, tasks
from normcourse.check.case import Answer
from normcourse.check.comparison import compare, same_answer
from normcourse.check.errors import explained
from normcourse.check.runner import answer, right_answer
from normcourse.grade.hidden import earned, load, load_each, score
from normcourse.i18n import set_language
from tools import build_student
from tools.build_exercises import EXERCISES, SOLUTIONS, exercises, record, release, solution

from . import answers
from .rounding import AnotherProcessor

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning"),  # from kernels that are meant to be wrong
    pytest.mark.skipif(
        torch.cuda.is_available() and "TRITON_INTERPRET" not in os.environ,
        reason="kernels of exercises run interpreted: TRITON_INTERPRET=1 pytest tests/test_exercises.py",
    ),
]
HIDDEN, ESSAYS = load(SOLUTIONS)
NOTEBOOKS = [name for name, _ in exercises()]


def written(folder, notebook):
    """Task name -> what the marked cell of a notebook defines, run after the notebook's cell of imports."""
    found = {}
    cells = nbformat.read(folder / notebook / f"{notebook}.ipynb", as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code" and cell.id != "install"]
    lines = map(str.strip, code[0].splitlines())  # some stand in a try
    imports = "\n".join(line for line in lines if line.startswith(("import", "from")))
    for source in code:
        if marker := re.match(r"# EXERCISE: (\w+)", source):
            namespace, code = {"__name__": notebook}, f"{imports}\n{source}"
            linecache.cache[marker[1]] = len(code), None, code.splitlines(keepends=True), marker[1]  # Triton reads it
            exec(compile(code, marker[1], "exec"), namespace)
            found[marker[1]] = namespace[marker[1]]
    return found


@functools.cache
def drawn(name, seed):
    """The hidden cases of a task for a seed, each with the right answer."""
    cases = HIDDEN[name].cases(torch.Generator().manual_seed(seed))
    return [(case, right_answer(HIDDEN[name], case)) for case in cases]


def points(name, function, seed):
    """As `score`, for many answers to the same task."""
    task = HIDDEN[name]
    found = [compare(answer(function, case, task), right, case) for case, right in drawn(name, seed)]
    return earned(task, [difference is None for difference in found]), found


def named(answer):
    return f"{answer[0]}-{answer[1].__name__}"


def each(listed):
    """Answers as parameters; kernels take long in the interpreter."""
    return [
        pytest.param(answer, id=named(answer), marks=pytest.mark.slow if HIDDEN[answer[0]].only else ())
        for answer in listed
    ]


@pytest.mark.slow
def test_what_the_checks_know_is_what_the_tasks_say(tmp_path):
    for name, (made, _) in load_each(SOLUTIONS).items():
        record(name, tmp_path)
        kept = recorded.read(recorded.FOLDER / f"{name}.gz")
        for old, new in zip(kept, recorded.read(tmp_path / f"{name}.gz"), strict=True):
            assert old.name == new.name in made
            assert (old.without, old.only, old.closed) == (new.without, new.only, new.closed)
            assert [(c.zh, c.en, c.rounding, c.dtype) for c in old.cases] == [
                (c.zh, c.en, c.rounding, c.dtype) for c in new.cases
            ]
            assert all(map(same_answer, old.right, new.right, old.cases)), f"{old.name}: run make exercises"
            assert [words[:2] for words in old.mistakes] == [words[:2] for words in new.mistakes]
            for (*_, was), (_, en, becomes) in zip(old.mistakes, new.mistakes):
                same = list(map(same_answer, was, becomes, old.cases))
                where = places(was, old), places(becomes, old)
                # Some amplify rounding, as finite differences in fp32 do: another processor has other numbers there.
                assert where[0] == where[1] and 2 * sum(same) >= len(same), f"{old.name}: {en} Run make exercises"


def test_every_task_stands_in_a_notebook_has_hidden_tests_and_a_visible_check():
    in_notebooks = [name for notebook in NOTEBOOKS for name in written(SOLUTIONS, notebook)]
    assert sorted(in_notebooks) == sorted(HIDDEN) == sorted(tasks())
    assert len(HIDDEN) >= 20 and len(ESSAYS) == 2


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_each_solution_passes_its_visible_and_hidden_tests(notebook, request):
    for name, function in written(SOLUTIONS, notebook).items():
        assert check(name, function), check(name, function)
        for seed in range(request.config.getoption("--seeds")):
            points, found = score(HIDDEN[name], function, seed)
            assert points == HIDDEN[name].points, (name, seed, [d for d in found if d])


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_each_unedited_stub_scores_zero_and_is_told_that_it_is_not_written(notebook):
    for name, function in written(EXERCISES, notebook).items():
        assert score(HIDDEN[name], function, 0)[0] == 0
        report = check(name, function)
        assert len(report.failures) == len(report.findings)
        assert {diagnosis[1] for _, diagnosis in report.failures} == {"Not written yet."}


@pytest.mark.parametrize("answer", each(answers.MUTANTS))
def test_no_wrong_answer_earns_full_marks_and_each_seed_gives_it_the_same(answer, request):
    earned = {points(*answer[:2], seed)[0] for seed in range(request.config.getoption("--seeds"))}
    assert len(earned) == 1 and earned.pop() < HIDDEN[answer[0]].points


@pytest.mark.slow
@pytest.mark.parametrize("answer", each(answer for answer in answers.MUTANTS if answer[2]))
def test_the_check_names_the_mistake(answer):
    name, function, words = answer
    report = check(name, function)
    assert report.failures, "the visible check passes it"
    assert words in report.failures[0][1][1], report


@pytest.mark.parametrize("answer", each(answers.HONEST))
def test_every_honest_variant_earns_full_marks(answer, request):
    name, function = answer
    assert check(name, function), check(name, function)
    for seed in range(request.config.getoption("--seeds")):
        earned, found = points(name, function, seed)
        assert earned == HIDDEN[name].points, (seed, [d for d in found if d])


def test_there_are_enough_wrong_and_honest_answers():
    wrong, right = (Counter(answer[0] for answer in listed) for listed in (answers.MUTANTS, answers.HONEST))
    assert set(wrong) == set(right) == set(HIDDEN)
    assert wrong.total() >= 8 * len(HIDDEN) and min(wrong.values()) >= 5 and min(right.values()) >= 3, (wrong, right)


@pytest.mark.long  # mutants meet the same words every day
@pytest.mark.parametrize("name", list(HIDDEN))
def test_each_listed_mistake_fails_the_check_and_is_named_as_itself(name):
    task = replace(tasks()[name], only=())  # they are written in torch
    for mistake in HIDDEN[name].mistakes:
        found = diagnose(task, mistake.wrong)
        assert mistake.en in {words[1] for words in found if words}, f"{mistake.en}\n{found}"


def places(given, known):
    """Where answers to the visible cases of a task are wrong, case by case."""
    found = [compare(*pair) for pair in zip(given, known.right, known.cases)]
    return [one and (one.where, one.part) for one in found]


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, task in HIDDEN.items() if not task.only])  # kernels stay as they are
def test_on_another_processor_right_answers_are_right_and_each_mistake_is_named(name):
    known, task = tasks()[name], HIDDEN[name]
    with AnotherProcessor():
        right = [right_answer(task, case) for case in known.cases]
        wrong = [[answer(mistake.wrong, case) for case in known.cases] for mistake in task.mistakes]
    assert all(map(same_answer, right, known.right, known.cases))
    named = 0
    for mistake, given, (*_, theirs) in zip(task.mistakes, wrong, known.mistakes):
        found = explain(known, given)
        at = zip(places(given, known), places(theirs, known))
        assert all(mine == place for mine, place in at if place), mistake.en  # the root of noise may be wrong, too
        same = [same_answer(*pair) for *pair, place in zip(given, theirs, known.cases, places(theirs, known)) if place]
        if any(same):  # else it is wrong by rounding alone, and has other numbers everywhere
            assert mistake.en in {words[1] for words in found if words}, f"{mistake.en}\n{found}"
            named += 1
    assert named >= len(task.mistakes) - 2


@pytest.mark.long
@pytest.mark.parametrize("name", list(HIDDEN))
def test_each_mistake_is_named_whatever_the_words_of_its_error(name):
    """As of another version of Python or PyTorch."""
    known, raising = tasks()[name], 0
    for _, en, theirs in known.mistakes:
        given = [replace(one, error=one.error and f"{one.error.partition(':')[0]}: other words") for one in theirs]
        raising += given != theirs
        assert explain(known, given) == explain(known, theirs), en
    assert raising == sum(any(one.error for one in theirs) for *_, theirs in known.mistakes)


def test_an_error_of_the_same_type_alone_is_not_a_mistake_that_is_known():
    def breaks(x, weight=None, bias=None, eps=1e-5):
        raise RuntimeError("something else")

    found = diagnose(tasks()["layer_norm"], breaks)
    assert {words[1] for words in found} == {"It raised RuntimeError: something else."}


def test_the_plain_definition_is_worth_everything():
    task = HIDDEN["layer_norm"]
    assert earned(task, [False] + [True] * 9) == 0 == earned(task, [])
    assert earned(task, [True] * 10) == task.points and 0 < earned(task, [True, False]) < task.points


@pytest.mark.parametrize(("name", "source"), exercises(), ids=lambda part: part if isinstance(part, str) else "")
def test_the_solution_notebook_is_what_its_source_says(name, source):
    built = nbformat.read(SOLUTIONS / name / f"{name}.ipynb", as_version=4)
    expected = solution(source)
    assert [(c.cell_type, c.source, c.metadata) for c in built.cells] == [
        (c.cell_type, c.source, c.metadata) for c in expected.cells
    ]


@pytest.mark.parametrize(("name", "source"), exercises(), ids=lambda part: part if isinstance(part, str) else "")
def test_the_first_cell_states_the_points(name, source):
    cells = solution(source).cells
    points = sum(cell.metadata.get("nbgrader", {}).get("points", 0) for cell in cells)
    assert (
        f"共 {points} 分" in cells[0].source + cells[1].source
        and f"{points} points" in cells[0].source + cells[1].source
    )
    for name, worth in [(t, HIDDEN[t].points) for t in HIDDEN] + [*ESSAYS.items()]:
        at = next((i for i, c in enumerate(cells) if re.search(rf"EXERCISE: {name}\b", c.source)), None)
        if at is not None:
            before = " ".join(cell.source for cell in cells[:at] if cell.cell_type == "markdown")
            assert re.findall(r"，(\d+) 分", before)[-1] == str(worth) == re.findall(r", (\d+) points?[.,]", before)[-1]


@pytest.mark.slow
def test_the_exercises_are_what_nbgrader_makes_of_the_solutions(tmp_path):
    release(NOTEBOOKS, tmp_path)
    made, kept = (
        {p.relative_to(f): p for p in f.rglob("*") if p.is_file()} for f in (tmp_path / "exercises", EXERCISES)
    )
    assert set(made) == {p for p in kept if ".ipynb_checkpoints" not in p.parts}
    for path in made:
        same = json.loads if path.suffix == ".ipynb" else lambda content: content
        assert same(made[path].read_bytes()) == same(kept[path].read_bytes()), f"{path} differs: run make exercises"


# Lines that say nothing: what is returned by name, imports, a bare condition or loop, brackets.
TRIVIAL = re.compile(
    r"""(return|if|for|with|while|else|try)\b[\w ,.()="]*:?|(import|from) .*|\w+ = \[\]|[@\w., =]+\(?|</?div.*|\W*"""
    r"|generator = torch\.Generator\(\)\.manual_seed\(seed\)"
)


def secrets():
    """The lines of all solutions, the rubrics, and the names and cases of the hidden tests."""
    for _, source in exercises():
        for cell in solution(source).cells:
            for region in re.findall(r"### BEGIN (?:SOLUTION|HIDDEN TESTS)\n(.*?)### END", cell.source, re.S):
                yield from filter(lambda line: not TRIVIAL.fullmatch(line), map(str.strip, region.splitlines()))
    for file in SOLUTIONS.rglob("*.py"):
        yield file.relative_to(SOLUTIONS).as_posix()
        lines = file.read_text(encoding="utf-8").splitlines()
        lines = [
            line.strip() for line in lines if re.match(r"\s*(yield\b|def (right|visible|hidden)_|Mistake\()", line)
        ]
        yield from (line for line in lines if not TRIVIAL.fullmatch(line))


@pytest.mark.parametrize("kind", ["zip", "wheel"])
def test_nothing_of_the_solutions_is_in_what_learners_get(kind, tmp_path):
    if kind == "zip":
        path, within = build_student.build(tmp_path), "normcourse"
    else:
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
        subprocess.run(command, cwd=SOLUTIONS.parent, check=True, capture_output=True)
        path, within = next(tmp_path.glob("*.whl")), "normcourse/course"
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert not [
            name
            for name in names
            if re.search(r"solution|hidden/|answers|exercise\.md|(tasks|mistakes|shared)\.py|test_|\.db$", name)
        ]
        for notebook in NOTEBOOKS:
            assert f"{within}/exercises/{notebook}/{notebook}.ipynb" in names
        text = {
            n: archive.read(n).decode()
            for n in names
            if n.endswith((".py", ".ipynb", ".md", ".txt", ".toml", "Makefile"))
        }
    lines = {name: {line.strip() for line in readable(name, content).splitlines()} for name, content in text.items()}
    hidden = list(secrets())
    assert len(hidden) >= 20 * len(NOTEBOOKS)
    for secret in hidden:
        found = [name for name in lines if secret in lines[name] or (secret.endswith(".py") and secret in text[name])]
        assert not found, f"{found} holds a line of the solutions: {secret}"
    for name, content in text.items():
        if name.endswith(".ipynb"):
            assert not re.search("(BEGIN|END) (SOLUTION|HIDDEN|MARK)|assert_right|评分标准|Rubric", content), name


def readable(name, content):
    if not name.endswith(".ipynb"):
        return content
    return "\n".join(cell.source for cell in nbformat.reads(content, as_version=4).cells)


@pytest.mark.slow
def test_nbgrader_grades_a_submission_and_leaves_the_essay_to_formgrader(tmp_path):
    name = "03_layer_normalisation"
    shutil.copy(SOLUTIONS.parent / "nbgrader_config.py", tmp_path)
    shutil.copytree(SOLUTIONS, tmp_path / "solutions")
    binaries = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}  # for alembic

    def nbgrader(*arguments):
        command = [sys.executable, "-m", "nbgrader", *arguments]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, env=binaries)

    nbgrader("generate_assignment", name, "--force")
    submission = nbformat.read(tmp_path / "exercises" / name / f"{name}.ipynb", as_version=4)
    solved = {
        c.metadata.get("nbgrader", {}).get("grade_id"): c.source for c in solution(exercises([name])[0].source).cells
    }
    for cell in submission.cells:
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
        if grade_id in ("layer_norm", "welford", "why_not_batch_norm"):
            cell.source = solved[grade_id]
    folder = tmp_path / "submitted" / "wang" / name
    folder.mkdir(parents=True)
    nbformat.write(submission, folder / f"{name}.ipynb")
    nbgrader("autograde", name, "--create")
    with Gradebook(f"sqlite:///{tmp_path}/gradebook.db", "normcourse") as book:
        grades = {grade.name: grade for grade in book.find_submission(name, "wang").notebooks[0].grades}
        earned = {grade_id: grade.auto_score for grade_id, grade in grades.items()}
        waiting = [grade_id for grade_id, grade in grades.items() if grade.needs_manual_grade]
    assert earned.pop("why_not_batch_norm") is None and waiting == ["why_not_batch_norm"]
    assert earned == {
        "layer_norm_check": HIDDEN["layer_norm"].points,
        "welford_check": HIDDEN["welford"].points,
        "layer_norm_backward_check": 0,
        "merge_statistics_check": 0,
    }


def test_every_essay_has_a_rubric_in_both_languages_that_adds_up():
    found = {}
    for _, source in exercises():
        for cell in solution(source).cells:
            if marker := re.match(r"<!-- EXERCISE: (\w+) -->", cell.source):
                rubric = re.search(r"### BEGIN SOLUTION\n(.*)### END SOLUTION", cell.source, re.S)[1]
                found[marker[1]] = [
                    [int(points) for points in re.findall(pattern, rubric, re.M)]
                    for pattern in (r"^- [^（：]*（(\d+) 分）：", r"^- [^(:]* \((\d+)\):")
                ]
    assert found.keys() == ESSAYS.keys()
    for name, (zh, en) in found.items():
        assert zh == en and sum(zh) == ESSAYS[name], name


def test_a_wrong_name_or_a_call_instead_of_a_function_is_explained():
    with pytest.raises(ValueError, match="no task 'layernorm'; the tasks are .*layer_norm"):
        check("layernorm", len)
    with pytest.raises(
        TypeError, match=r"pass the function or class itself, without calling it: check\('layer_norm', layer_norm\)"
    ):
        check("layer_norm", torch.zeros(3))


def test_the_diagnosis_follows_the_language():
    zh, en = diagnose(tasks()["layer_norm"], lambda x, weight, bias, eps: x[0])[0]
    assert re.search("[\u4e00-\u9fff]", zh) and not re.search("[\u4e00-\u9fff]", en) and "(3,)" in zh and "(3,)" in en


def told(name, solution, case=0):
    """What the visible check says of a solution in one of its cases, in English."""
    found = diagnose(tasks()[name], solution)[case]
    return found and found[1]


def right_backward(dy, x, weight, eps=1e-5):
    x, weight, bias = (t.detach().clone().requires_grad_() for t in (x, weight, weight))
    y = torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias, eps)
    return torch.autograd.grad(y, (x, weight, bias), dy)


def test_two_mistakes_in_two_results_are_both_told_one_after_the_other():
    def two(dy, x, weight, eps=1e-5):
        dx, _, dbias = answers.of("03_layer_normalisation").without_the_mean(dy, x, weight, eps)
        return dx, answers.of("03_layer_normalisation").dweight_from_x(dy, x, weight, eps)[1], dbias

    def one(dy, x, weight, eps=1e-5):
        return answers.of("03_layer_normalisation").in_three_steps(dy, x, weight, eps)[0], *two(dy, x, weight, eps)[1:]

    assert "through the mean is missing" in told("layer_norm_backward", two)
    assert "normalised x̂" in told("layer_norm_backward", one)


def test_a_number_that_should_vanish_may_be_what_rounding_leaves_of_its_terms_and_no_more():
    case = Case("", "", {"x": torch.tensor([0.3, -2.0], dtype=torch.float64)})
    right = Answer([torch.zeros(2, dtype=torch.float64)], [False], "tensor")

    def passes(left, case=case, right=right):
        return compare(replace(right, results=[right.results[0] + left]), right, case) is None

    assert passes(1e-17) and passes(-4e-16) and not passes(1e-13) and not passes(1e-9)
    small = replace(case, inputs={"x": case.inputs["x"] * 1e-12})  # what is small throughout is held to its own size
    assert passes(1e-28, small) and not passes(1e-20, small)
    large = replace(case, inputs={"x": case.inputs["x"] * 1e30})  # and a norm of large numbers to that of the norm
    assert not passes(1e-9, large) and not passes(1.0, large)
    whole = Answer([torch.tensor([1, 0])], [False], "tensor")
    assert not passes(torch.tensor([1, 0]), right=whole)


def test_a_gradient_that_is_rounding_noise_in_the_right_answer_may_be_zero():
    case = Case("", "", {"x": torch.ones(3, dtype=torch.float64)}, gradients=True)
    y, noise = torch.ones(3, dtype=torch.float64), torch.full((3,), 3e-17, dtype=torch.float64)
    right, mine = (Answer([y], [False], "tensor", {"x": gradient}) for gradient in (noise, torch.zeros_like(noise)))
    assert compare(mine, right, case) is None
    assert "gets no gradient" in compare(mine, replace(right, gradients={"x": noise * 1e9}), case).en


def test_where_an_empty_list_is_due_an_empty_tensor_will_do_but_not_none():
    case, right = Case("", "", {"n": 0}), answer(lambda n: [], Case("", "", {"n": 0}))
    for given in ([], (), torch.empty(0), torch.empty(0, 3)):
        assert compare(answer(lambda n: given, case), right, case) is None  # noqa: B023
    for given, words in ((torch.ones(2), "tensor"), ([1.0], "1 numbers"), (["a"], "list of 1"), ("", "str")):
        assert words in compare(answer(lambda n: given, case), right, case).en  # noqa: B023
    assert "returned nothing (None)" in compare(answer(lambda n: None, case), right, case).en


def test_messages_for_what_is_returned():
    assert "returned nothing (None)" in told("layer_norm", lambda *_: print())
    assert "it returned dict; expected tensor" in told("layer_norm", lambda *_: {}).replace("It", "it")
    assert "take [0]" in told("layer_norm", lambda x, *_: (x,))
    assert "returned 2 tensors; expected tensor" in told("layer_norm", lambda x, *_: (x, x))
    assert "list of 2; expected" in told("layer_norm_backward", lambda dy, *_: [dy, "dweight"])


def test_only_the_stub_itself_counts_as_not_written():
    def torchs_own(x, weight=None, bias=None, eps=1e-5):
        raise NotImplementedError("no kernel for this")

    def bare(x, weight=None, bias=None, eps=1e-5):
        raise NotImplementedError

    assert told("layer_norm", torchs_own) == "It raised NotImplementedError: no kernel for this."
    assert told("layer_norm", bare) == "Not written yet."
    stub = written(EXERCISES, "03_layer_normalisation")["layer_norm"]
    assert told("layer_norm", stub) == "Not written yet."


def test_an_input_whose_gradients_would_pile_up_is_told():
    def piles_up(x, branches, norm, dy):
        x.requires_grad_()
        h = x
        for branch in branches:
            h = norm(h + branch(h))
        (whole,) = torch.autograd.grad(h, x, dy, retain_graph=True)
        h = x
        for branch in branches:
            h = norm(h + branch(h).detach())
        return whole, *torch.autograd.grad(h, x, dy)

    assert "turns on requires_grad on its input x" in told("identity_path", piles_up)
    assert score(HIDDEN["identity_path"], piles_up, 0)[0] < HIDDEN["identity_path"].points


def test_a_step_in_fp32_is_suspected_where_only_late_digits_differ():
    def narrow(dy, x, weight, eps=1e-5):
        return [t.double() for t in right_backward(dy.float(), x.float(), weight.float(), eps)]

    with_rules_off = replace(tasks()["layer_norm_backward"], without=(), closed=())
    assert "one step seems to be in fp32" in diagnose(with_rules_off, narrow)[0][1]


def test_a_task_that_passes_is_remembered_and_what_decides_is_said(monkeypatch):
    kept = []
    monkeypatch.setattr("normcourse.progress.record", lambda *what: kept.append(what))
    said = repr(check("layer_norm", written(SOLUTIONS, "03_layer_normalisation")["layer_norm"]))
    assert "评分另用隐藏的" in said and "hidden ones are graded" in said
    assert kept == [("passed", "layer_norm", "yes")]
    assert "hidden" not in repr(check("layer_norm", lambda x, *_: x)) and len(kept) == 1


def test_what_check_showed_follows_the_language_until_the_task_is_checked_again(monkeypatch):
    shown = {}

    class Handle:
        def __init__(self, bundle):
            shown[self] = bundle

        def update(self, bundle, raw):
            shown[self] = bundle

    monkeypatch.setattr("IPython.display.display", lambda bundle, raw, display_id: Handle(bundle))
    try:
        for _ in range(2):
            check("layer_norm", lambda x, *_: x)._ipython_display_()
        first, second = shown
        set_language("en")
        assert "种情形" in shown[first]["text/html"]  # its output is gone
        assert "cases pass" in shown[second]["text/html"] and "种情形" not in shown[second]["text/html"]
    finally:
        set_language("both")


ONES = torch.ones(2, 3)
RAISES = [  # what torch and Python say here and now, and what it means
    (lambda: torch.ones(4, 3) - torch.ones(4, 3).mean(-1), "keepdim=True"),
    (lambda: ONES @ ONES, "3 columns on the left, 2 rows on the right"),
    (lambda: ONES @ torch.ones(2), "transpose"),
    (lambda: torch.bmm(ONES[None], ONES[None]), "transpose"),
    (lambda: ONES @ ONES.T.double(), "differ in dtype"),
    (lambda: ONES.T.half() @ ONES, "differ in dtype"),
    (lambda: torch.bmm(ONES[None], ONES.T[None].double()), "differ in dtype"),
    (lambda: torch.ones(2, dtype=torch.int64).add_(0.5), "in-place operation"),
    (lambda: torch.autograd.grad(ONES.sum(), ONES), "no graph"),
    (lambda: ONES.sum().backward(), "no graph"),
    (lambda: torch.autograd.grad(*(torch.ones(2, requires_grad=True) for _ in "ab"), ONES[:, 0]), "is not used"),
    (lambda: [y.backward() for y in [ONES.clone().requires_grad_().square().sum()] * 2], "two backward passes"),
    (lambda: ONES.clone().requires_grad_().square().backward(), "gradient from above"),
    (lambda: ONES.reshape(4, 2), "6 numbers"),
    (lambda: ONES.T.view(6), "use reshape"),
    (lambda: ONES.mean(2), "no such dimension"),
    (lambda: torch.ones(2, dtype=torch.int64).mean(), ".float()"),
    (lambda: torch.ones(2, dtype=torch.int64).requires_grad_(), ".float()"),
    (lambda: 1 if ONES else 0, "torch.where"),
    (lambda: float(ONES), "several numbers"),
    (lambda: ONES.item(), "several numbers"),
    (lambda: ONES.clone().requires_grad_().numpy(), "NumPy cuts the graph"),
    (lambda: ONES * None, "something is None"),
    (lambda: None.shape, "something is None"),
    (lambda: (lambda x: x)(1, 2), "the line with def"),
    (lambda: (lambda x: x)(x=1, eps=1), "the line with def"),
    (lambda: torch.sqrt(2.0), "torch's sqrt takes tensors"),
    (lambda: torch.float(2), "use import torch"),
    (lambda: torch.range(8), "use import torch"),
    (lambda: ONES + torch.ones(2, 3, device="meta"), "device=x.device"),
    (lambda: torch.cat([ONES, torch.ones(3)]), "print their shapes"),
    (lambda: ONES.expand(4, 3), "print their shapes"),
    (lambda: layernorm(ONES), "layernorm is not defined"),  # noqa: F821
    (lambda: answer(dict, Case("", "", {}, init=(), state={"w": ONES})).error, "inherit"),
]


@pytest.mark.parametrize(("raises", "meaning"), RAISES, ids=lambda part: part if isinstance(part, str) else "")
def test_an_error_of_torchs_is_told_as_the_likely_mistake_in_both_languages(raises, meaning):
    zh, en = explained(answer(raises, Case("", "", {})).error or raises())
    assert meaning in en and not re.search("[\u4e00-\u9fff]", en)
    assert re.search("[\u4e00-\u9fff]", zh.partition("出错了")[0]), zh


def test_a_fresh_exercise_says_what_is_to_be_written_first_and_other_errors_are_errors():
    stub = written(EXERCISES, "03_layer_normalisation")["layer_norm"]
    note = once_written(lambda: [stub(torch.ones(2))])
    assert "先写好 layer_norm" in repr(note) and "Write layer_norm first" in repr(note)
    assert once_written(lambda: 3) == 3
    with pytest.raises(NotImplementedError, match="no kernel"):
        once_written(lambda: (_ for _ in ()).throw(NotImplementedError("no kernel")))
    with pytest.raises(RuntimeError):
        once_written(lambda: ONES.reshape(4, 2))
    assert "not installed here" in repr(once_written(lambda: no_triton.jit(print)[(3,)](1)))


def test_an_essay_asks_equal_work_in_both_languages():
    """A text of so many words in English has about 1.6 times as many characters in Chinese."""
    asked = 0
    for _, source in exercises():
        text = source.read_text(encoding="utf-8")
        for zh in re.findall(r"写 (\d+)–(\d+) 字（英文 (\d+)–(\d+) 个词）", text):
            characters, words = [int(n) for n in zh[:2]], [int(n) for n in zh[2:]]
            assert f"Write {words[0]} to {words[1]} words (in Chinese, {characters[0]} to {characters[1]} ch" in text
            assert all(1.4 <= c / w <= 1.8 for c, w in zip(characters, words))
            asked += 1
    assert asked == len(ESSAYS)


FRESH = """
import json, linecache, sys
if sys.argv[2] == "without":
    sys.modules["triton"] = None
name = "exercise"
for number, cell in enumerate(json.load(open(sys.argv[1], encoding="utf-8"))["cells"][1:]):
    if cell["cell_type"] == "code":
        code = "".join(cell["source"])
        file = f"<cell {number}>"
        linecache.cache[file] = len(code), None, code.splitlines(keepends=True), file  # Triton reads it
        exec(compile(code, file, "exec"), globals())
print("ran to the end")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "triton"), [*((name, "with") for name in NOTEBOOKS), ("10_fused_kernels", "without")], ids=str
)
def test_a_fresh_exercise_runs_from_top_to_bottom_without_an_error(name, triton):
    command = [sys.executable, "-c", FRESH, str(EXERCISES / name / f"{name}.ipynb"), triton]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TRITON_INTERPRET": "1"})
    assert run.returncode == 0 and run.stdout.endswith("ran to the end\n"), run.stderr[-2000:]


def test_expected_figures_are_seen_without_unfolding_and_plots_are_made_in_the_package():
    for _, source in exercises():
        text = source.read_text(encoding="utf-8")
        figures = len(re.findall(r"\bexpected\]", text))
        for heading in ("**应该看到的图：**", "**The figure you should see:**"):
            assert text.count(f"{heading}\n\n![") == figures
        assert not re.search(r"\bcanvas\b|<summary>(应该看到的图|The figure)", text)
