"""What learners import brings nothing of the instructor's, needs no Unix, and leaves the process as it was."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

EXERCISES = Path(__file__).parents[1] / "exercises"
UNIX = ("resource", "fcntl", "pwd", "grp", "termios")


def python(code):
    """What a fresh process prints that runs this code."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_learners_check_imports_nothing_of_the_instructors():
    loaded = python("from normcourse.check import check, tasks; import sys; tasks(); print(*sys.modules)").split()
    assert "normcourse.check.comparison" in loaded
    ours = [name for name in loaded if name.startswith(("normcourse.grade", "nbgrader"))]
    assert not ours


@pytest.mark.slow
@pytest.mark.parametrize("module", ["normcourse.check", "normcourse.grade.hidden", "normcourse.grade.report"])
def test_no_unix_is_needed(module):
    code = f"""
import sys
import torch  # what it imports itself is its own affair
for name in {UNIX}:
    sys.modules[name] = None
import {module}
from normcourse.check import check
print(bool(check("welford", lambda x: (x.mean(-1), x.var(-1, unbiased=False)))))
"""
    assert python(code) in ("True", "False")


def test_importing_the_check_changes_nothing_of_the_process():
    code = """
import os, random, numpy, torch
def state():
    return (dict(os.environ), torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype(),
        numpy.geterr(), torch.initial_seed(), random.getstate(), os.getcwd())
before = state()
from normcourse.check import tasks
tasks()
print(state() == before)
"""
    assert python(code) == "True"


@pytest.mark.slow
@pytest.mark.parametrize("exercise", sorted(EXERCISES.glob("[0-9]*/*.ipynb")), ids=lambda path: path.stem)
def test_every_exercise_opens_without_triton_and_says_in_both_languages_where_it_is_needed(exercise):
    _, first, *others = [cell.source for cell in nbformat.read(exercise, 4).cells if cell.cell_type == "code"]
    task = next((cell for cell in others if "# EXERCISE" in cell), "")
    needs = any("@triton.jit" in cell for cell in others)
    code = f"import sys; sys.modules['triton'] = None\n{first}\n{task}\nprint(check.__name__)"
    said = python(code)
    assert said.endswith("check")
    assert ("没有安装 Triton" in said and "Triton is not installed" in said) == needs
    if needs:
        code += "\nprint(check('triton_rms_norm', torch.ones)); print(check('bytes_moved', lambda *a: 1))"
        said = python(code)
        assert "这里没有安装" in said and "not installed here" in said and "pip install 'normcourse[fused]'" in said
        assert "It is 1" in said or "is 1, expected" in said
