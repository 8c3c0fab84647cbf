"""What learners import brings nothing of the instructor's, needs no Unix, and leaves the process as it was."""

import os
import subprocess
import sys

import pytest

UNIX = ("resource", "fcntl", "pwd", "grp", "termios")


def python(code):
    """What a fresh process prints that runs this code."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_learners_check_imports_nothing_of_the_instructors():
    loaded = python("from normcourse.check import check, tasks; import sys; tasks(); print(*sys.modules)").split()
    assert "normcourse.check.comparison" in loaded
    ours = [name for name in loaded if name.startswith(("normcourse.grade", "normcourse.check.hidden", "nbgrader"))]
    assert not ours


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
