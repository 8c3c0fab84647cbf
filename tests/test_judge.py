"""The judge: what goes between it and a submission, what it collects, what it lets nobody do, and what comes out."""

import ast
import contextlib
import csv
import importlib
import inspect
import io
import itertools
import json
import os
import platform
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree
import zipfile
from concurrent.futures import thread as pools
from pathlib import Path
from types import SimpleNamespace

import IPython
import pytest
import torch
import tqdm

from normcourse import check
from normcourse.check import Case, Function, allowed, cutting, world
from normcourse.check.alone import unclear
from normcourse.check.case import Answer
from normcourse.check.comparison import compare
from normcourse.check.rules import ForbiddenCall
from normcourse.check.runner import answer
from normcourse.grade import __main__ as command
from normcourse.grade import child, gradebook, notebook, report, restricted, server, tables, wire
from normcourse.grade import judge as judge_module
from normcourse.grade import run as judge_run
from normcourse.grade import sandbox as sandbox_module
from normcourse.grade.collect import collect
from normcourse.grade.run import Run
from normcourse.grade.sandbox import NoSandbox, Sandbox

from . import answers, kernels
from .hostile import ATTACKS, HONEST, IMPORTS
from .hostile import kernels as hostile_kernels
from .hostile import notebook as made
from .sources import NOT_UNDERSTOOD, UNDERSTOOD
from .test_second_world import FOLLOWED, NOT_FOLLOWED, RELATIVE, said

ROOT = Path(__file__).parents[1]
HIDDEN = ROOT / "solutions"
NAME = "03_layer_normalisation.ipynb"

needs_linux = pytest.mark.skipif(platform.system() != "Linux", reason="the sandbox needs Linux")


# What goes over the wire ----------------------------------------------------------------------------------------------


def over(send, **limits):
    """What one side of a connection receives of what the other sends."""
    one, other = socket.socketpair()
    with one, other:
        send(one)
        one.close()
        return wire.receive(other, **limits)


TENSORS = [
    *(torch.randn(2, 3, dtype=dtype) for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)),
    *(
        torch.tensor([[1, 0]], dtype=dtype)
        for dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    ),
    *(torch.tensor(True), torch.tensor(3.0), torch.empty(0, 4), torch.randn(3, 2).T, torch.empty(2, 5, device="meta")),
    torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0]),
]


@pytest.mark.parametrize("tensor", TENSORS, ids=lambda tensor: f"{tensor.dtype}{[*tensor.shape]}")
def test_an_answer_comes_back_as_it_was_sent_bit_for_bit(tensor):
    sent = Answer([tensor, torch.tensor(2.0)], [False, True], "2 tensors", {"x": tensor}, ["x"], None)
    header, arrays = wire.write_answer(sent)
    got = wire.read_answer(*over(lambda side: wire.send(side, header, arrays)))
    assert (got.numbers, got.kind, got.changed, got.error) == (sent.numbers, sent.kind, sent.changed, sent.error)
    for back in (got.results[0], got.gradients["x"]):
        assert back.dtype == tensor.dtype and back.shape == tensor.shape and back.device == tensor.device
        assert tensor.is_meta or wire.write_answer(Answer([back]))[1] == wire.write_answer(Answer([tensor]))[1]


def test_a_case_comes_across_with_functions_lists_dtypes_and_state_but_without_its_name():
    inputs = {
        "x": torch.randn(2, 3),
        "f": Function("linear", torch.eye(3)),
        "options": [1, (2.5, None, "s"), True],
        "dtype": torch.bfloat16,
    }
    case = Case("秘密", "a secret", inputs, (3, 1e-5), {"weight": torch.ones(3)}, True, 7)
    header, arrays = wire.write_case(case)
    assert "secret" not in json.dumps(header) and "秘密" not in json.dumps(header, ensure_ascii=False)
    header, body = over(lambda side: wire.send(side, {"case": header}, arrays))
    got = wire.read_case(header["case"], body)
    assert torch.equal(got.inputs["x"], inputs["x"]) and got.inputs["options"] == [1, (2.5, None, "s"), True]
    assert got.inputs["f"].kind == "linear" and torch.equal(got.inputs["f"].tensors[0], torch.eye(3))
    assert got.inputs["dtype"] is torch.bfloat16 and got.init == (3, 1e-5) and got.gradients and got.seed == 7
    assert torch.equal(got.state["weight"], torch.ones(3))
    with pytest.raises(TypeError, match="only data can be sent"):
        wire.write_case(Case("", "", {"f": lambda x: x}))


GOOD = {
    "arrays": [["float32", [1], "cpu"]],
    "results": 1,
    "numbers": [False],
    "kind": "tensor",
    "gradients": [],
    "changed": [],
    "error": None,
}
ONE = b"\0\0\0\0"


@pytest.mark.parametrize(
    "change",
    [
        *(
            {"arrays": [["float32", shape, "cpu"]]}
            for shape in ([2], [-1], [2**40], [True], [1.0], "1", None, [1] * 17)
        ),
        *({"arrays": [[dtype, [1], "cpu"]]} for dtype in ("object", "complex64", "float99", None, ["float32"], {})),
        *(
            {"arrays": arrays}
            for arrays in (None, 7, {}, [7], [[]], [["float32", [1], "cuda"]], [["float32", [1]]], [])
        ),
        *({"arrays": [["float32", [2**31 - 1] * 16, "meta"]]}, {"arrays": [["float32", [1], "meta"]]}),
        *({"results": results} for results in (-1, 2, 10**9, True, None, "1", 0)),
        *({"numbers": numbers} for numbers in (None, [], [0], [False, False], "x")),
        *({"kind": 7}, {"kind": None}, {"gradients": ["x"]}, {"gradients": [7]}, {"changed": [None]}, {"changed": "x"}),
        *({"error": 7}, {"error": ["x"]}),
    ],
    ids=str,
)
def test_an_answer_that_is_not_as_agreed_is_malformed_and_nothing_worse(change):
    wire.read_answer(GOOD, ONE)
    with pytest.raises(wire.Malformed):
        wire.read_answer(GOOD | change, ONE)


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff\xff\xff\xff\0\0\0\0",
        b"\0\0\0\0\xff\xff\xff\xff",
        b"\2\0\0\0\0\0\0\0[]",
        b"\4\0\0\0\0\0\0\0null",
        b"\1\0\0\0\0\0\0\0{",
        b"\2\0\0\0\0\0\0\0\xff\xfe",
        b"\x10\x27\0\0\0\0\0\0" + b"[" * 10000,
        b"\x10\x27\0\0\0\0\0\0" + b"9" * 10000,
    ],
    ids=["long header", "long body", "a list", "null", "cut", "not UTF-8", "deep", "a huge number"],
)
def test_a_frame_that_is_not_as_agreed_is_malformed(sent):
    with pytest.raises(wire.Malformed):
        over(lambda side: side.sendall(sent), body_limit=100, header_limit=1 << 16)


def test_a_frame_that_is_cut_short_is_known_to_have_ended():
    with pytest.raises(wire.Ended):
        over(lambda side: side.sendall(b"\x10\0\0\0\0\0\0\0half"))


@contextlib.contextmanager
def kept(uses):
    """(a `Child`, its end of the connection). uses: what its keeper says at each look, (CPU seconds, asleep); the last
    of it again and again. A function in its place is called first."""
    talk, theirs = socket.socketpair()
    life, keeper = socket.socketpair()

    def keep():
        for use in itertools.chain(uses, itertools.repeat(uses[-1])):
            if not keeper.recv(1):
                return
            keeper.sendall(struct.pack("<d?", *(use(theirs) if callable(use) else use)))

    threading.Thread(target=keep, daemon=True).start()
    with talk, theirs, keeper, life:
        yield child.Child(talk, life), theirs
        life.shutdown(socket.SHUT_WR)


def test_a_cell_that_is_kept_waiting_by_others_has_all_the_time_and_one_that_computes_or_sleeps_has_not():
    def answers(theirs):
        wire.send(theirs, {"cell": 1, "raised": None})
        return 0.1, False

    with kept([(0.1, False)] * 5 + [answers, (0.1, True)]) as (process, _):  # runnable for a second, and never ran
        assert process.ran(1, 0.5) is None and process.used() == 0.1
    with kept([(0.1, False), (0.3, False), (0.5, False)]) as (process, _), pytest.raises(TimeoutError):
        process.ran(1, 0.5)
    with kept([(0.1, True)]) as (process, _), pytest.raises(TimeoutError):
        process.ran(1, 0.5)


def test_a_frame_that_trickles_in_ends_when_the_time_is_used_up():
    def trickle(theirs):
        with contextlib.suppress(OSError):
            for byte in struct.pack("<II", 60_000, 0) + bytes(60_000):
                theirs.sendall(bytes([byte]))
                time.sleep(0.02)

    with kept([(0.1, True)]) as (process, theirs):
        threading.Thread(target=trickle, args=[theirs], daemon=True).start()
        with pytest.raises(TimeoutError):
            process.ran(1, 0.5)


# What is collected ----------------------------------------------------------------------------------------------------


def lay_out(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(made("1"))


def found(folder):
    return [(s.learner, s.id, s.system) for s in collect(folder, ["03_layer_normalisation", "05_rms_norm"])]


LAYOUTS = {
    "Moodle, folders": (
        ["Zhang San_1234_assignsubmission_file_/x.ipynb", "李 四_99_assignsubmission_file/练习.ipynb"],
        [("Zhang San", "1234", "moodle"), ("李 四", "99", "moodle")],
    ),
    "Moodle, flat": (
        ["Zhang San_1234_assignsubmission_file_x.ipynb", "李四_99_assignsubmission_file_03_layer_normalisation.ipynb"],
        [("Zhang San", "1234", "moodle"), ("李四", "99", "moodle")],
    ),
    "Moodle, in a course folder": (
        ["CS-3 HW-17/A B_1_assignsubmission_file_/x.ipynb", "CS-3 HW-17/C D_2_assignsubmission_file_/x.ipynb"],
        [("A B", "1", "moodle"), ("C D", "2", "moodle")],
    ),
    "Canvas": (
        ["lisi_77_4321_03_layer_normalisation.ipynb", "zhangsan_LATE_78_4322_x-1.ipynb"],
        [("lisi", "77", "canvas"), ("zhangsan", "78", "canvas")],
    ),
    "nbgrader": (
        ["alice/03_layer_normalisation/03_layer_normalisation.ipynb", "bob/05_rms_norm/05_rms_norm.ipynb"],
        [("alice", "", ""), ("bob", "", "")],
    ),
    "a folder each": (["张三/homework.ipynb", "李四/deep/er/作业.ipynb"], [("张三", "", ""), ("李四", "", "")]),
    "names in the files": (
        ["03_layer_normalisation_张三.ipynb", "李四-03_layer_normalisation.ipynb", "王五.ipynb"],
        [("张三", "", ""), ("李四", "", ""), ("王五", "", "")],
    ),
    "one learner, two exercises": (
        ["alice/03_layer_normalisation.ipynb", "alice/05_rms_norm.ipynb"],
        [("alice", "", ""), ("alice", "", "")],
    ),
    "one learner, as variants are handed out": (
        ["alice/03_layer_normalisation/03_layer_normalisation.ipynb", "alice/05_rms_norm/05_rms_norm.ipynb"],
        [("alice", "", ""), ("alice", "", "")],
    ),
    "a wrapper": (["course/week 3/alice/x.ipynb", "course/week 3/bob/x.ipynb"], [("alice", "", ""), ("bob", "", "")]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_the_layout_says_whose_a_submission_is(layout, form, tmp_path):
    paths, expected = LAYOUTS[layout]
    lay_out(tmp_path / "all", *paths)
    if form == "zip":
        shutil.make_archive(tmp_path / "zipped" / "download", "zip", tmp_path / "all")
    assert sorted(found(tmp_path / ("all" if form == "folder" else "zipped"))) == sorted(expected)


def test_everything_handed_in_has_one_row_and_what_comes_with_a_notebook_or_a_system_has_none(tmp_path):
    lay_out(tmp_path, "a/x.ipynb", "a/.ipynb_checkpoints/x-checkpoint.ipynb", "__MACOSX/a/._x.ipynb", "b/answer.ipynb")
    (tmp_path / "a" / "picture.png").write_bytes(b"x")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "essay.docx").write_bytes(b"x")
    (tmp_path / "d").mkdir()
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "x.rar").write_bytes(b"x")
    assert [s.path for s in collect(tmp_path)] == ["a/x.ipynb", "b/answer.ipynb", "c/essay.docx", "d", "e/x.rar"]


def test_chinese_names_in_a_zip_from_windows_and_zips_in_zips_are_read(tmp_path):
    inner, name = io.BytesIO(), "作业/练习.ipynb".encode("gb18030")
    ascii_name = "x" * len(name)  # for this, zipfile leaves the flag of UTF-8 unset
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr(ascii_name, made("1"))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("张三_5_assignsubmission_file_/作业.zip", inner.getvalue().replace(ascii_name.encode(), name))
    [submission] = collect(tmp_path)
    assert (submission.learner, submission.id) == ("张三", "5")
    assert submission.path.endswith("作业/练习.ipynb") and submission.read() == made("1")


def test_a_single_notebook_or_zip_can_be_graded_and_a_folder_that_is_not_there_is_said_so(tmp_path):
    lay_out(tmp_path, "alice.ipynb")
    assert [s.learner for s in collect(tmp_path / "alice.ipynb")] == ["alice"]
    with pytest.raises(FileNotFoundError, match="there is no .*nothing"):
        collect(tmp_path / "nothing")


# What the code of a notebook says -------------------------------------------------------------------------------------


def test_a_marker_that_was_lost_is_replaced_by_metadata_or_by_what_the_cell_defines():
    by_metadata = {"cell_type": "code", "source": "f = 1", "metadata": {"nbgrader": {"grade_id": "a"}}}
    cells = notebook.read(made("def b(): pass", "def b(): return 2", by_metadata, "%%time\n# EXERCISE: c\nc = 1", "x"))
    assert notebook.mark(cells, ["a", "b", "c", "d"]) == ["d"]
    assert [cell.tasks for cell in cells] == [[], ["b"], ["a"], ["c"], []]


def test_old_and_odd_notebooks_are_read():
    old = {"worksheets": [{"cells": [{"cell_type": "code", "input": ["a\n", "b"]}]}], "nbformat": 3}
    assert [cell.source for cell in notebook.read(json.dumps(old).encode())] == ["a\nb"]
    assert notebook.read(b"\xef\xbb\xbf" + made("1"))[0].source == "1"
    assert notebook.read(made("x = '答'").decode().encode("utf-16"))[0].source == "x = '答'"
    assert notebook.read(b"\n" + made("1") + b"\n\0\0 <EOF>")[0].source == "1"


# In the sandbox -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tests_of_03(tmp_path_factory):
    """The hidden tests of exercise 03 alone, with little time for each task."""
    folder = tmp_path_factory.mktemp("hidden")
    shutil.copy(HIDDEN / "shared.py", folder)
    shutil.copytree(HIDDEN / "03_layer_normalisation", folder / "03_layer_normalisation")
    with open(folder / "03_layer_normalisation" / "tasks.py", "a") as file:
        file.write("\nTASKS = [replace(task, seconds=1.5) for task in TASKS]\n")
    return folder


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as running:
        yield running


def hand_in(folder, **notebooks):
    for name, cells in notebooks.items():
        (folder / name).mkdir(parents=True)
        (folder / name / NAME).write_bytes(made(*cells))
    return folder


def grades(folder, out, tests, sandbox, seed=1, jobs=2):
    run = Run(out, tests, seed)
    return {r["submission"].split("/")[0]: r for r in run.grade(collect(folder, run.exam.exercises), sandbox, jobs)}


def graded_here(folder, out, tests, sandbox, seed):
    """What the command does, in this process: (exam, results)."""
    run = Run(out, tests, seed)
    results = run.grade(collect(folder, run.exam.exercises), sandbox, 2)
    report.write_all(results, run.exam, out)
    return run.exam, results


SOLVED = [IMPORTS, *HONEST.values()]
HALF = [IMPORTS, HONEST["welford"], HONEST["merge_statistics"]]


COMPARE = """import torch.nn.functional as F
for d in (4, 8):
    x = torch.randn(3, d, requires_grad=True)
    y = F.layer_norm(x, (d,))
    print((y - layer_norm(x)).abs().max())
v = torch.randn(5, 100).var(-1)
h = torch.ones(3, requires_grad=True)
(h * h).sum().backward()
dx = h.grad"""
IDIOMS = """import importlib, inspect, pickle, subprocess, sys, threading, timeit
from math import *
print("google.colab" in sys.modules, inspect.signature(layer_norm), layer_norm.__code__.co_varnames)
timeit.timeit("layer_norm(torch.ones(2, 3))", globals=globals(), number=1)
class Timer: pass
Timer()
try: 1 / 0
except ZeroDivisionError as ex: print(ex)
threading.Thread(target=print).start()
subprocess.run(["nvidia-smi"])"""
THREADS = """from concurrent.futures import ThreadPoolExecutor
import threading
pool = ThreadPoolExecutor(2)
pool.submit(print, 1)
threading.Timer(1000, print).start()"""
NAMES = """from torch import compile
def eval(f, d=8): return f(torch.randn(4, d)).std().item()
tuple_of, builtins, fx = (), {}, 1
class Thing: pass
Thing.fx = getattr(Thing, "fx", 3)"""
STUB = f"# EXERCISE: welford\ndef welford(x):\n    raise NotImplementedError('{notebook.CODE_STUB}')"
ABOVE = "from normcourse.norms import layer_norm as theirs\nprint(theirs(torch.ones(3)))\n"
LAYER_NORM, OTHERS = HONEST["layer_norm"], [HONEST[name] for name in list(HONEST)[1:]]
HELPED = LAYER_NORM.replace("h.mean(-1, keepdim=True)", "mean_of(h)")
HELPER = "def mean_of(x):\n    return x.mean(-1, keepdim=True)"


IN_MANY_FORMS = {
    "compared": [*SOLVED, COMPARE],
    "idioms": [*SOLVED, IDIOMS],
    "no_gradients": [*SOLVED, "torch.set_grad_enabled(False)"],
    "reset": [*SOLVED, "%reset -f"],
    "defined_over": [IMPORTS + "\nfrom torch.nn.functional import layer_norm", *SOLVED[1:]],
    "colab": ["from google.colab import drive\ndrive.mount('/content/drive')\n" + IMPORTS, *SOLVED[1:]],
    "fails_above": [IMPORTS, ABOVE + LAYER_NORM, *OTHERS],
    "slow_below": [IMPORTS, LAYER_NORM + "import time\ntime.sleep(20)", *OTHERS],
    "slow_helper": [IMPORTS, HELPER + "\nwhile True: pass", HELPED, *OTHERS],
    "many_slow": [
        *(IMPORTS, *["while True: pass"] * 7, HELPER + "\nprint(mean_of(torch.ones(3)))", HELPED, *OTHERS),
    ],
    "threads_left": [*SOLVED, THREADS, "%%bash\necho hi", "torch.set_num_threads(4)"],
    "own_names": [IMPORTS, NAMES, LAYER_NORM.replace("x.dtype in", "x.dtype in tuple_of + "), *OTHERS],
    "compiled": [IMPORTS, *(answer.replace("\ndef ", "\n@torch.compile\ndef ", 1) for answer in HONEST.values())],
    "one_cell": [IMPORTS + "\n" + "\n".join(HONEST.values())],
    "bound_twice": [*SOLVED, *(f"# EXERCISE: {name}\n{name} = {name}" for name in HONEST)],
    "stub_commented_out": [
        IMPORTS,
        *(answer + f"    # raise NotImplementedError('{notebook.CODE_STUB}')" for answer in HONEST.values()),
    ],
    "stub_and_scratch": [
        IMPORTS,
        *(answer + f"    # raise NotImplementedError('{notebook.CODE_STUB}')" for answer in HONEST.values()),
        *(f"def {name}(x):\n    return x" for name in HONEST),
    ],
    "same_object_again": [
        IMPORTS,
        *(HONEST[name].partition("\n")[2].replace(f"def {name}(", f"def my_{name}(") for name in HONEST),
        *(f"{name} = my_{name}" for name in HONEST),
        *(f"# EXERCISE: {name}\n{name} = my_{name}" for name in HONEST),
    ],
    "writes_a_helper": [*SOLVED, "%%writefile shown.py\ndef show(x): print(x)", "import shown; shown.show(1)"],
    "helper_in_a_file": [
        *(IMPORTS, "%%writefile stats.py\n" + HELPER, "from stats import *\nfrom math import *\nimport logging"),
        HELPED.replace("    h = x", "    logging.info(hasattr(x, 'mean'))\n    h = x", 1),
        *OTHERS,
    ],
    "magic_by_keyword": [
        IMPORTS,
        "get_ipython().run_line_magic(magic_name='load_ext', line='autoreload')",
        *SOLVED[1:],
    ],
    "helper_redefined": [IMPORTS, HELPER, HELPED, *OTHERS, "def mean_of(a, b, c):\n    pass"],
    "stub_left": [*SOLVED[:3], STUB, HONEST["welford"].partition("\n")[2], HONEST["merge_statistics"], STUB],
}


def test_helpers_that_wait_for_nothing_are_ended(monkeypatch):
    monkeypatch.setattr(pools, "_shutdown", False)  # put back afterwards
    shell = IPython.core.interactiveshell.InteractiveShell()  # it may have a thread for its history
    before = set(threading.enumerate())
    pool = pools.ThreadPoolExecutor(2)
    pool.submit(int).result()
    for _ in tqdm.tqdm(range(2)):
        pass
    shell.run_cell("%%bash\nexit")
    assert len(set(threading.enumerate()) - before) >= 2
    server._end_idle_threads(shell)
    assert not set(threading.enumerate()) - before


def descendants(pid):
    """{pid: start time} of all processes below one."""
    parents = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            fields = Path("/proc", entry, "stat").read_text(errors="replace").rpartition(")")[2].split()
            parents[int(entry)] = int(fields[1]), fields[19]
    below, found = {pid}, {}
    for _ in range(10):
        for process, (parent, start) in parents.items():
            if parent in below and process not in below:
                below.add(process)
                found[process] = start
    return found


def alive(processes):
    def start(pid):
        with contextlib.suppress(OSError):
            return Path("/proc", str(pid), "stat").read_text(errors="replace").rpartition(")")[2].split()[19]

    return [pid for pid, started in processes.items() if start(pid) == started]


def polite(pid):
    """Whether a process is a submission's: those alone are nice."""
    with contextlib.suppress(OSError):
        return os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + server.NICE


def cpu(pid):
    """Seconds of CPU time that a process has had; 0 where it is gone."""
    with contextlib.suppress(OSError):
        fields = Path("/proc", str(pid), "stat").read_text(errors="replace").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.fixture(scope="module")
def after_the_attacks(tests_of_03, tmp_path_factory):
    """All hostile submissions between honest ones: the results, how long each took, and what is left of them."""
    folder = tmp_path_factory.mktemp("submissions")
    for attack in ATTACKS:
        attack.write(folder)
    for i in range(6):
        hand_in(folder, **{f"{'afm'[i // 2]}_honest_{i}": SOLVED, f"{'afm'[i // 2]}_half_{i}": HALF})
    hand_in(folder, **{f"honest_{name}": cells for name, cells in IN_MANY_FORMS.items()})
    budgets = []

    class Budget(child.Budget):
        def __init__(self, answers):
            super().__init__(answers)
            budgets.append(self)

    elsewhere = descendants(os.getpid())
    with pytest.MonkeyPatch.context() as patch, Sandbox([folder, tests_of_03]) as running:
        patch.setattr(judge_module, "Budget", Budget)
        patch.setattr(child, "CELL_SECONDS", 1.0)
        patch.setattr(child, "NOTEBOOK_SECONDS", 2.0)
        explain = judge_module.check.explain  # costly, and of interest only where a submission's own words come in
        words = lambda task, answers: explain(task, answers) if any(answer.error for answer in answers) else []  # noqa: E731
        patch.setattr(judge_module.check, "explain", words)
        running.spawn().end()  # it is up: bubblewrap, and the server in it
        before = descendants(os.getpid())
        out = tmp_path_factory.mktemp("grades")
        _, results = graded_here(folder, out, tests_of_03, running, 1)
        left = wait_for(lambda: not set(descendants(os.getpid())) - set(before)) or descendants(os.getpid())
    ended = wait_for(lambda: not set(alive(before)) - set(elsewhere))
    by_name = {}
    for result in results:
        by_name.setdefault(result["submission"].split("/")[0].split(".zip")[0], []).append(result)
    return by_name, budgets, left, ended, out


@needs_linux
@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_no_attack_earns_more_than_its_honest_part_and_each_has_one_row(attack, after_the_attacks):
    by_name, *_ = after_the_attacks
    [result] = by_name[attack.name]
    assert result["points"] == attack.earned, (attack.tries, result["tasks"])
    assert result["status"] == ("failed" if attack.refused else "graded")
    if attack.refused:
        zh, en = result["reason"]
        assert zh and en


@needs_linux
@pytest.mark.slow
@pytest.mark.parametrize("form", IN_MANY_FORMS)
def test_honest_notebooks_lose_nothing(form, after_the_attacks):
    [result] = after_the_attacks[0][f"honest_{form}"]
    assert result["points"] == 16.0, result["tasks"]


@needs_linux
@pytest.mark.slow
def test_no_submission_takes_more_than_its_budget_over_all_its_runs(after_the_attacks):
    _, budgets, *_ = after_the_attacks
    assert max(budget.whole for budget in budgets) == 2.0 + 3 * 1.0 + 2 * 4 * 1.5
    # A look is due every 0.2 s, and two cores, or whatever there is, are at work meanwhile.
    assert min(budget.all for budget in budgets) > -1 - 0.2 * os.cpu_count()
    assert any(budget.cells < 0 for budget in budgets)


@needs_linux
@pytest.mark.slow
def test_no_attack_changes_the_grade_of_another_submission(after_the_attacks):
    by_name, *_ = after_the_attacks
    points = {
        name: results[0]["points"] for name, results in by_name.items() if re.match(r"[afm]_(honest|half)_", name)
    }
    assert len(points) == 12
    assert points == {name: 16.0 if "honest" in name else 6.0 for name in points}


@needs_linux
@pytest.mark.slow
def test_no_attack_leaves_a_process_or_a_file(after_the_attacks):
    _, _, left, ended, _ = after_the_attacks
    assert left is True and ended is True
    traces = ("unpickled", "slipped", "vda", "note", "_etc_passwd")
    assert not [place for place in ("/tmp", "/dev/shm", "/var/tmp") for t in traces if (Path(place) / t).exists()]
    for package in (ROOT / "normcourse", Path(torch.__file__).parent, Path(torch.__file__).parents[1]):
        assert not (package / "sitecustomize.py").exists() and not (package / "note").exists()
    assert (ROOT / "normcourse" / "__init__.py").exists() and (Path(torch.__file__).parent / "__init__.py").exists()


@needs_linux
@pytest.mark.slow
def test_what_submissions_say_is_shown_as_text_and_never_runs(after_the_attacks):
    by_name, _, _, _, out = after_the_attacks
    [result] = by_name["report_injection"]
    page = (out / "reports" / result["report"]).read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    [result] = by_name["leaves_through_the_error"]
    assert "Secret_" not in json.dumps(result["tasks"]["layer_norm"]["failed"])


def test_there_are_enough_attacks_and_each_says_what_it_tries():
    assert len(ATTACKS) >= 100 and len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    assert all(len(attack.tries) > 10 for attack in ATTACKS)


INSIDE = """
import os, json
def look():
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines() if ":" in line)
    caps = [status[name].strip().strip("0") for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")]
    seen = [p for p in %r if os.path.exists(p)]
    return json.dumps([os.getuid(), os.getpid(), "".join(caps), status["NoNewPrivs"].strip(), status["Seccomp"].strip(),
        sorted(p for p in os.listdir("/proc") if p.isdigit()), open("/proc/net/dev").read().count(":"), seen,
        [n for n in os.listdir("/proc/self/fd")], os.environ.get("SECRET"), os.listdir("/tmp")])
"""


@needs_linux
def test_the_process_of_a_submission_has_no_rights_and_sees_nothing_of_the_instructors(sandbox, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    private = [
        str(p)
        for p in (
            HIDDEN,
            ROOT / "tests",
            ROOT / ".git",
            ROOT / "exercises",
            Path.home() / ".ssh",
            ROOT / "normcourse/check/recorded",
            "/etc/shadow",
            "/dev/kmsg",
        )
    ]
    cell = {
        "number": 1,
        "kind": "code",
        "source": INSIDE % (private,) + "\ndef f(x): raise OSError(look())",
        "name": "f",
    }
    process, soon = sandbox.spawn(), 10
    process.read([cell | {"tasks": []}], {"f": [[], [], []]}, [], [], soon)
    assert process.ran(1, soon) is None
    header, arrays = wire.write_case(Case("", "", {"x": 1}))
    process.ask({"task": "f", "case": header, "limit": 1000}, arrays, soon)
    said = json.loads(process.reply(soon, 1000).error.partition(": ")[2])
    process.end()
    uid, pid, capabilities, no_new_privileges, seccomp, processes, interfaces, seen, descriptors, secret, files = said
    assert uid != 0 and pid == 1 and processes == ["1"] and capabilities == "" and no_new_privileges == "1"
    if platform.machine() in ("x86_64", "aarch64"):  # the filter is written for these
        assert seccomp == "2"
    assert interfaces <= 1 and seen == [] and secret is None and files == []
    assert len(descriptors) <= 5  # 0, 1, 2, the connection, and the listing itself


@needs_linux
def test_magics_plots_and_widgets_work_and_a_cell_that_raises_does_not_stop_the_others(sandbox, tests_of_03, tmp_path):
    cells = [
        "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()",
        "import ipywidgets\nipywidgets.interact(lambda a: a, a=(0, 3))",
        "%%time\nimport torch, pandas as pd\npd.DataFrame({'a': [1]})",
        "%timeit -n1 -r1 1\n!echo hello\nx = !ls",
        "%%bash\necho hello",
        "from IPython.display import display, HTML\ndisplay(HTML('x'))",
        "import asyncio\nawait asyncio.sleep(0.01)",
        "from normcourse.explore import explore\nfrom normcourse.check import check\nexplore(print, print, a=(0, 1))",
        "1 / 0",
        "%%time\n" + HONEST["welford"],
        "check('welford', welford)",
    ]
    result = grades(hand_in(tmp_path / "all", a=cells), tmp_path / "out", tests_of_03, sandbox)["a"]
    assert result["tasks"]["welford"]["points"] == 3 and result["notes"] == [[9, "raised"]]


@pytest.mark.slow
@needs_linux
def test_a_cell_that_hangs_or_ends_the_process_is_left_out_and_the_rest_is_graded(
    sandbox, tests_of_03, tmp_path, monkeypatch
):
    monkeypatch.setattr(child, "CELL_SECONDS", 1.0)
    cells = [IMPORTS, "while True: pass", HONEST["welford"], "import os; os._exit(1)", HONEST["merge_statistics"]]
    result = grades(hand_in(tmp_path / "all", a=cells), tmp_path / "out", tests_of_03, sandbox)["a"]
    assert result["points"] == 6.0 and result["notes"] == [[2, "time"], [4, "ended"]]


@pytest.mark.parametrize(
    ("raises", "left"),
    [(1, "@b\ndef f():\n    pass\nc = 1"), (2, "c = 1"), (3, "c = 1"), (4, "c = 1"), (5, "")],
)
def test_what_is_behind_a_line_that_raised_begins_with_the_next_statement(raises, left):
    """A decorator that raises is a line of the function it stands above: that function is not begun again, for ever."""
    source = "a = 1\n@b\ndef f():\n    pass\nc = 1\n"
    assert notebook.behind(source, raises) == left


@pytest.mark.slow
@needs_linux
def test_a_server_that_dies_is_started_again(tests_of_03, tmp_path):
    hand_in(tmp_path / "all", **{f"s{i}": SOLVED for i in range(4)})
    with Sandbox() as running:
        grades(tmp_path / "all" / "s0", tmp_path / "first", tests_of_03, running)
        running._server.kill()
        running._server.wait()
        results = grades(tmp_path / "all", tmp_path / "out", tests_of_03, running)
    assert {result["points"] for result in results.values()} == {16.0}


@pytest.mark.slow
@needs_linux
def test_processes_that_hold_too_much_together_are_ended(sandbox, tests_of_03, tmp_path):
    bomb = """import os, time
for _ in range(4):
    if os.fork() == 0:
        held = bytearray(b"x") * (1000 << 20)
        time.sleep(1000)
time.sleep(1000)"""
    cells = [IMPORTS, bomb, HONEST["merge_statistics"]]
    result = grades(hand_in(tmp_path / "all", a=cells), tmp_path / "out", tests_of_03, sandbox)["a"]
    assert result["notes"] == [[2, "ended"]] and result["points"] == 3


@needs_linux
def test_shared_memory_and_devices_are_closed_and_written_modules_are_not(sandbox, tests_of_03, tmp_path):
    cells = [
        "import mmap\nmmap.mmap(-1, 4096)",
        "import os\nos.utime('/dev/null')",
        "import fcntl\nfcntl.flock(open('/usr/bin/env'), fcntl.LOCK_EX)",
        "%%writefile written.py\na = 1",
        "import sys; sys.path.insert(0, '')\nimport written; written.a + 1",
        "open('/dev/null', 'w').write('x'); open('/dev/urandom', 'rb').read(1)",
    ]
    result = grades(hand_in(tmp_path / "all", a=cells), tmp_path / "out", tests_of_03, sandbox)["a"]
    assert result["notes"] == [[number, "raised"] for number in (1, 2, 3)]


@pytest.mark.slow
@needs_linux
def test_answers_count_though_experiments_around_them_use_up_the_time(sandbox, tests_of_03, tmp_path, monkeypatch):
    monkeypatch.setattr(child, "CELL_SECONDS", 1.0)
    monkeypatch.setattr(child, "NOTEBOOK_SECONDS", 2.0)
    slow = "import time\ntime.sleep(0.9)"
    cells = [IMPORTS, HONEST["welford"], slow, slow, slow, HONEST["merge_statistics"], "while True: pass"]
    result = grades(hand_in(tmp_path / "all", a=cells), tmp_path / "out", tests_of_03, sandbox)["a"]
    assert result["points"] == 6.0 and {number for number, _ in result["notes"]} & {3, 4, 5}


@needs_linux
def test_comparing_with_what_a_task_forbids_costs_nothing_in_another_cell_and_everything_in_the_answer(
    sandbox, tests_of_03, tmp_path
):
    compare = (
        "from normcourse import norms\nimport torch.nn.functional as F\nx = torch.ones(2, 3)\n"
        "open('seen', 'w').write(str(float((norms.layer_norm(x) - layer_norm(x) + F.layer_norm(x, (3,))).abs().sum())))"
    )
    seen = "assert float(open('seen').read()) == 0"
    within = LAYER_NORM.replace("    h = x.float()", "    norms.layer_norm(x)\n    h = x.float()")
    notebooks = {"a": [*SOLVED[:4], compare, seen], "b": [IMPORTS, "from normcourse import norms", within, *OTHERS]}
    results = grades(hand_in(tmp_path / "all", **notebooks), tmp_path / "out", tests_of_03, sandbox)
    assert results["a"]["points"] == 13 and results["a"]["notes"] == []
    task = results["b"]["tasks"]["layer_norm"]
    assert task["points"] == 0 and "open" not in task and "error ForbiddenCall" in task["failed"]
    assert task["said"] == [
        [
            "这道题不能调用 normcourse.norms.layer_norm。",
            "This task is to be solved without calling normcourse.norms.layer_norm.",
        ]
    ]
    assert results["b"]["points"] == 12


# The second world -----------------------------------------------------------------------------------------------------


def alone(source, name="f", without=(), closed=()):
    """What a name is in the second world."""
    task = SimpleNamespace(without=without, only=(), closed=closed)
    return restricted.Restricted(task).answer(cutting.read(notebook.read(made(source))), name)


X = torch.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    "source",
    UNDERSTOOD,
)
def test_what_honest_answers_are_written_with_runs_in_the_second_world(source):
    assert torch.equal(alone(source)(X), X * 2)


@pytest.mark.parametrize(
    ("source", "line"),
    NOT_UNDERSTOOD,
)
def test_what_the_second_world_does_not_hold_is_not_understood_and_said_where(source, line):
    with pytest.raises(world.NotUnderstood, match=rf"^1:{line}: "):
        alone(source)(X)


@pytest.mark.parametrize(
    "name", ["exec", "eval", "getattr", "type", "vars", "open", "globals", "__import__", "compile"]
)
def test_what_leads_out_of_the_second_world_is_not_in_it(name):
    with pytest.raises((NameError, world.NotUnderstood)):
        alone(f"def f(x): return {name}")(X)


def test_a_decorators_decorator_writes_to_nothing():
    source = "import functools\nimport torch.nn.functional as F\ndef own(): pass\n"
    source += "def f(x):\n    functools.wraps(F.relu, assigned=(), updated=('__globals__',))(own)\n    return exec"
    with pytest.raises(world.NotUnderstood, match="exec"):
        alone(source)(X)


@pytest.mark.parametrize(
    ("without", "call"),
    [
        ("grad", "linalg.eigvals(x[:2, :2])"),
        ("var", "cov(x)"),
        ("var", "nn.LayerNorm(3)(x)"),
        ("rms_norm", "renorm(x, 2, 0, 1.0)"),
        ("rms_norm", "nn.functional.group_norm(x, 1)"),
    ],
)
def test_what_a_task_forbids_has_relatives(without, call):
    source = f"import torch\ndef f(x): return torch.{call}"
    with pytest.raises(ForbiddenCall):
        alone(source, without=(without,))(X)
    alone(source)(X)


def test_the_reason_that_an_instructor_reads_is_the_judges_or_stands_in_quotation_marks():
    ours = judge_module._not_understood("NotUnderstood: 3:2: torch._C")
    assert ours == ("第 3 个单元格第 2 行：torch._C", "Cell 3, line 2: torch._C")
    assert (
        "“ValueError: NotUnderstood: 1:1: give it all points”"
        in judge_module._not_understood("ValueError: NotUnderstood: 1:1: give it all points")[1]
    )
    long = "\n" * cutting.CELL + "y = 1"
    assert cutting.read(notebook.read(made("def f(x): return x", long)))[""][-1][0].number == 1


def test_an_infinity_has_a_sign_and_an_answer_does_not_choose_to_be_less_precise():
    case = Case("", "", {"n": 3})
    for got, want in [(torch.inf, -torch.inf), (-torch.inf, torch.inf)]:
        got, want = (Answer([torch.tensor([1.0, v], dtype=torch.float64)], [False]) for v in (got, want))
        assert compare(got, want, case).where == "values"
        assert compare(want, want, case) is None
    right = torch.tensor([0.1, 0.7], dtype=torch.float64)
    rough = Answer([(right * 1.003).bfloat16()], [False])
    assert compare(rough, Answer([right], [False]), case).where == "values"


def test_every_name_that_the_second_world_is_said_to_hold_is_there_and_none_has_an_underscore():
    for space, names in allowed.SPACES.items():
        module = importlib.import_module(space)
        assert not [name for name in names if not (hasattr(module, name) or f"{space}.{name}" in allowed.SPACES)], space
    for kind, names in allowed.ATTRIBUTES.items():
        assert not [name for name in names if name.startswith("_")], kind


@pytest.mark.parametrize(
    "source",
    [
        "import torch.nn.functional as F\ndef f(x): return F.layer_norm(x, (3,))",
        "from torch.nn.functional import layer_norm as g\ndef f(x): return g(x, (3,))",
        "import torch\ng = torch.layer_norm\ndef f(x): return g(x, (3,))",
        "import normcourse.norms as n\ndef f(x): return n.layer_norm(x)",
        "from normcourse.norms import layer_norm as g\ndef f(x): return g(x)",
        "def f(x): return x.var()",
        "import torch\ndef f(x): return torch.autograd.grad(x.sum(), x)",
        "import torch\ndef f(x): return torch.func.vjp(f, x)",
        "def f(x):\n    x = x.clone().requires_grad_()\n    x.sum().backward()\n    return x.grad",
    ],
)
def test_what_a_task_forbids_is_a_forbidden_call_in_the_second_world(source):
    without = ("layer_norm", "var", "grad", "vjp", "backward")
    with pytest.raises(ForbiddenCall):
        alone(source, without=without, closed=("normcourse.norms",))(X)


def test_an_answer_uses_what_was_defined_when_its_cell_ran():
    cells = notebook.read(made("def g(x): return x + x", "# EXERCISE: f\ndef f(x): return g(x)", "def g(x): return 0"))
    notebook.mark(cells, ["f"])
    assert torch.equal(
        restricted.Restricted(SimpleNamespace(without=(), only=(), closed=())).answer(cutting.read(cells), "f")(X),
        X * 2,
    )


@needs_linux
def test_an_answer_in_a_text_cell_is_named(sandbox, tests_of_03, tmp_path):
    text = {"cell_type": "markdown", "source": HONEST["welford"], "metadata": {}}
    result = grades(hand_in(tmp_path / "all", a=[IMPORTS, text, *OTHERS[:1]]), tmp_path / "out", tests_of_03, sandbox)[
        "a"
    ]
    assert result["points"] == 6 and result["tasks"]["welford"]["failed"] == {"as text": 1}
    assert "text cell" in report.in_words(result["tasks"]["welford"])[0][1]


OPEN = [IMPORTS, "class Mean(torch.Tensor):\n    def of(self): return self.mean(-1, keepdim=True)", HELPED, *OTHERS]
OPEN[1] += "\ndef mean_of(x): return x.as_subclass(Mean).of().as_subclass(torch.Tensor)"


@needs_linux
def test_right_numbers_that_are_not_understood_are_open_until_the_instructor_accepts_them(
    sandbox, tests_of_03, tmp_path
):
    folder = hand_in(tmp_path / "all", a=OPEN)
    _, [result] = graded_here(folder, tmp_path / "out", tests_of_03, sandbox, 1)
    task = result["tasks"]["layer_norm"]
    assert (task["points"], task["open"], result["points"]) == (0, 4, 12)
    assert task["reason"][1] == "Cell 2, line 1: class Mean"
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "Cell 2, line 1: class Mean" in page and "layer_<wbr>norm (4)" in page
    assert "your teacher decides" in (tmp_path / "out" / "reports" / result["report"]).read_text(encoding="utf-8")
    head, line = rows(tmp_path / "out" / "grades.csv")
    assert line[head.index("open")] == "4"
    judge_run.accept([result], [f"a/{NAME}"])
    assert result["points"] == 16 and "open" not in task
    with pytest.raises(ValueError, match="no such submission"):
        judge_run.accept([result], ["b"])


@needs_linux
def test_the_check_says_beforehand_which_answers_the_judge_leaves_open(sandbox, tests_of_03, tmp_path, notebook_with):
    sources = FOLLOWED | {name: source for name, (source, *_) in NOT_FOLLOWED.items()}
    notebooks = {name: [IMPORTS, source, HELPED] for name, source in (sources | {"relative": RELATIVE}).items()}
    results = grades(hand_in(tmp_path / "all", **notebooks), tmp_path / "out", tests_of_03, sandbox)
    parts = {name: result["tasks"]["layer_norm"] for name, result in results.items()}
    assert {name for name, part in parts.items() if "open" in part} == {*NOT_FOLLOWED}
    assert all(part["points"] == part["of"] for name, part in parts.items() if name in FOLLOWED)
    assert parts["relative"]["points"] == 0 and "error ForbiddenCall" in parts["relative"]["failed"]
    assert {name for name, cells in notebooks.items() if said(notebook_with(*cells))} == {*NOT_FOLLOWED, "relative"}


@needs_linux
def test_a_cell_that_is_no_python_here_is_named_with_its_line(sandbox, tests_of_03, tmp_path):
    cells = [IMPORTS, HONEST["welford"] + "if True print(1)\n", *OTHERS]
    result = grades(hand_in(tmp_path / "all", a=cells), tmp_path / "out", tests_of_03, sandbox)["a"]
    line = HONEST["welford"].count("\n") + 1
    assert result["notes"] == [[2, f"syntax {line}"]]
    [said] = report.cell_notes(result)
    assert f"Cell 2, line {line}: Python 3." in said[1] and f"第 2 个单元格第 {line} 行" in said[0]


def test_a_number_is_held_to_its_own_precision_whatever_dtype_it_comes_in():
    case, right = Case("", "", {"n": 1}), Answer([torch.tensor(1.0, dtype=torch.float64)], [True], "number")
    for dtype, factor in itertools.product((torch.float32, torch.bfloat16, torch.float16), (1.0, 1.01)):
        given = Answer([torch.tensor(factor, dtype=dtype)], [False], "tensor")
        assert (compare(given, right, case) is None) == (factor == 1.0)


def test_two_files_of_one_name_in_a_zip_are_two_submissions(tmp_path):
    with pytest.warns(UserWarning), zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(NAME, made("1"))
        archive.writestr(NAME, made("2"))
    assert len({submission.path for submission in collect(tmp_path)}) == 2


def test_only_the_outermost_name_is_believed(tmp_path):
    for name, inside in (("eve", "Alice_1_assignsubmission_file_/x.ipynb"), ("bob", "alice_77_1001_hw.ipynb")):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr(inside, made("1"))
    (tmp_path / "zhangsan").mkdir()
    (tmp_path / "zhangsan" / "hw_2024_11_final.ipynb").write_bytes(made("1"))
    assert {(s.learner, s.id) for s in collect(tmp_path)} == {("eve", ""), ("bob", ""), ("zhangsan", "")}


def test_nothing_beside_others_work_is_dropped_and_the_results_are_no_submission(tmp_path):
    for path in ("course/alice.ipynb", "course/bob.docx", "course/.carol/x.ipynb", "course/out/grades.csv"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(made("1"))
    found = collect(tmp_path / "course", out=tmp_path / "course" / "out")
    assert [submission.learner for submission in found] == [".carol", "alice", "bob"]


def test_a_table_has_no_cell_that_begins_like_a_formula_or_breaks_its_row():
    rows = list(csv.reader(io.StringIO(tables.csv_file([["z\r=1+1", "\n=2", "＝3", -1.5]]).decode("utf-8-sig"))))
    assert rows == [["z =1+1", "' =2", "'＝3", "-1.5"]]


# What is graded right -------------------------------------------------------------------------------------------------


def needed(source, name):
    """Of a module's source its imports, the definition of a name, and all that this uses."""
    known, parts, todo, seen = {}, [], [name], set()
    for node in ast.parse(source).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            parts += [node] if getattr(node, "module", "") != "tests.answers" else []
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            node.decorator_list = [
                d for d in node.decorator_list if "mutant" not in ast.unparse(d) and "honest" not in ast.unparse(d)
            ]
            known[node.name] = node
        elif isinstance(node, ast.Assign):
            known |= {
                part.id: node for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)
            }
    while todo:
        if (one := todo.pop()) in known and one not in seen:
            seen.add(one)
            todo += [part.id for part in ast.walk(known[one]) if isinstance(part, ast.Name)]
    wanted = dict.fromkeys(node for one, node in known.items() if one in seen)
    return ast.unparse(ast.Module([*parts, *wanted], []))


def as_notebooks(listed):
    """Notebooks that hold one answer per task from answers.py: the first notebook the first of each, and so on."""
    by_task, notebooks = {}, {}
    for name, function, *_ in listed:
        by_task.setdefault((function.__module__, name), []).append(function)
    for (topic, name), functions in by_task.items():
        source = inspect.getsource(sys.modules[topic])
        for i, function in enumerate(functions):
            cells = notebooks.setdefault(f"{topic.split('.')[1]}_{i}", [IMPORTS])
            own = function.__name__
            cells.append(needed(source, own) if own == name else f"{needed(source, own)}\n_{i}_{own} = {own}")
            cells.append(f"# EXERCISE: {name}\n{name} = {own if own == name else f'_{i}_{own}'}")
    return notebooks


@needs_linux
@pytest.mark.slow
def test_seeds_give_solutions_everything_stubs_nothing_and_wrong_answers_the_same(tmp_path, monkeypatch, pytestconfig):
    monkeypatch.setattr(judge_run, "write", lambda path, content: Path(path).write_text(content))  # no need to survive
    monkeypatch.setattr("normcourse.grade.judge._explain", lambda *arguments: None)  # what is said is not asked here
    folder = tmp_path / "all"
    for kind in ("solutions", "exercises"):
        for path in sorted((ROOT / kind).glob("[0-9]*/*.ipynb")):
            code = [cell for cell in notebook.read(path.read_bytes()) if cell.kind == "code"]
            imports = next(cell for cell in code if "import torch" in cell.source)
            cells = [cell.source for cell in code if cell is imports or re.match("# EXERCISE: ", cell.source)]
            hand_in(folder, **{f"{kind}_{path.stem}": cells})  # what explains and draws is left out: it takes seconds
    listed = [answer for answer in answers.MUTANTS if answer[1].__module__.endswith(".03_layer_normalisation.answers")]
    hand_in(folder, **{f"mutant_{name}": cells for name, cells in as_notebooks(listed).items()})
    first, of = None, {}
    with Sandbox() as running:
        for seed in range(pytestconfig.option.seeds):
            if seed == 10:  # the rest of the wrong answers, and of their seeds, is test_exercises.py's
                for wrong in folder.glob("mutant_*"):
                    shutil.rmtree(wrong)
            results = grades(folder, tmp_path / f"out{seed}", HIDDEN, running, seed)
            tasks = {(name, task): part for name, r in results.items() for task, part in r["tasks"].items()}
            points = {key: part["points"] for key, part in tasks.items()}
            of |= {key: part["of"] for key, part in tasks.items()}
            first = first or points
            assert points == {key: first[key] for key in points}, seed
            assert all(points[key] < of[key] for key in points if not key[0].startswith("solutions")), seed
    for key, earned in first.items():
        kind = key[0].partition("_")[0]
        assert earned == {"solutions": of[key], "exercises": 0}.get(kind, earned), key


@needs_linux
@pytest.mark.slow
def test_honest_answers_in_other_words_earn_everything_in_the_sandbox(sandbox, tmp_path):
    notebooks = as_notebooks(answers.HONEST)
    results = grades(hand_in(tmp_path / "all", **notebooks), tmp_path / "out", HIDDEN, sandbox)
    parts = [(task, part) for result in results.values() for task, part in result["tasks"].items()]
    less = [(task, p) for task, p in parts if p["points"] < p["of"] and "missing" not in p["failed"]]
    # An autograd.Function that makes itself a function by __new__ is for the instructor to see.
    assert [(task, p.get("open"), p["reason"][1].rpartition(" ")[2]) for task, p in less] == [
        ("layer_norm", 4, "__new__")
    ]


@pytest.fixture(scope="module")
def tests_of_10(tmp_path_factory):
    """The hidden tests of exercise 10 alone."""
    folder = tmp_path_factory.mktemp("hidden")
    shutil.copy(HIDDEN / "shared.py", folder)
    shutil.copytree(HIDDEN / "10_fused_kernels", folder / "10_fused_kernels")
    return folder


def marked(cells):
    """The same cells, the last of which is graded for `triton_rms_norm`."""
    *before, last = cells
    return [*before, f"# EXERCISE: triton_rms_norm\n{last.removeprefix(hostile_kernels.MARKER)}"]


@needs_linux
@pytest.mark.slow
def test_kernels_as_people_write_them_earn_everything_and_ways_round_them_nothing(
    sandbox, tests_of_10, tmp_path, monkeypatch
):
    monkeypatch.setattr("normcourse.grade.judge._explain", lambda *arguments: None)  # what is said is not asked here
    quick = [(n, cells) for n, (_, cells) in hostile_kernels.ATTACKS.items() if hostile_kernels.OF_BITS not in cells]
    kinds = {
        "honest": kernels.STYLES,
        "reviewed": kernels.REVIEWED,
        "attack": dict(quick[::3]),  # `test_kernels` has all of them in the second world
    }
    names = {f"{kind}_{i}": name for kind, listed in kinds.items() for i, name in enumerate(listed)}
    notebooks = {f"{kind}_{i}": marked(cells) for kind, all_ in kinds.items() for i, cells in enumerate(all_.values())}
    results = grades(hand_in(tmp_path / "all", **notebooks), tmp_path / "out", tests_of_10, sandbox)
    assert len(results) == len(names)
    for key, result in results.items():
        part, kind = result["tasks"]["triton_rms_norm"], key.partition("_")[0]
        assert part["points"] == (6 if kind == "honest" else 0), (names[key], part)
        assert part.get("open", 0) == (6 if kind == "reviewed" else part.get("open", 0) if kind == "attack" else 0), (
            part
        )


@needs_linux
@pytest.mark.slow
@pytest.mark.parametrize("name", hostile_kernels.ATTACKS)
def test_ways_round_a_kernel_have_the_right_numbers_in_their_notebooks(name, sandbox, exam_of_10):
    """So what keeps them from earning points is not a mistake of their own."""
    tasks, _ = exam_of_10.exercises["10_fused_kernels"]
    cells = notebook.read(made(*marked(hostile_kernels.ATTACKS[name][1])))
    with child.Attempt(cells, tasks, sandbox, child.Budget(60)) as attempt:
        attempt.reading()
        counted = judge_module._judge(tasks["triton_rms_norm"], exam_of_10.trials["triton_rms_norm"][:1], attempt)
    assert counted["passed"] == 1, counted


@pytest.fixture(scope="module")
def exam_of_10(tests_of_10):
    return judge_module.Exam(tests_of_10, 1)


@needs_linux
@pytest.mark.slow
def test_wrong_kernels_are_wrong_in_the_second_world_too_so_nobody_has_to_look(
    sandbox, tests_of_10, tmp_path, monkeypatch
):
    monkeypatch.setattr("normcourse.grade.judge._explain", lambda *arguments: None)  # what is said is not asked here
    listed = [one for one in answers.MUTANTS if one[0].startswith("triton_")]
    results = grades(hand_in(tmp_path / "all", **as_notebooks(listed)), tmp_path / "out", tests_of_10, sandbox)
    parts = [(task, part) for result in results.values() for task, part in result["tasks"].items()]
    parts = [(task, part) for task, part in parts if "missing" not in part["failed"]]
    assert len(parts) == len(listed)
    assert not [(task, part) for task, part in parts if part["points"] >= part["of"] or "open" in part]


@pytest.mark.slow
def test_the_check_says_of_honest_answers_in_other_words_what_the_judge_says(notebook_with):
    told = []
    for cells in as_notebooks(answers.HONEST).values():
        shell = notebook_with(*cells)
        for name in re.findall(r"^# EXERCISE: (\w+)", "\n".join(cells), re.M):
            words = unclear(check.tasks()[name], shell.user_ns[name], 60)
            told += [(name, words[1])] if words else []
    assert [(name, "__new__" in words) for name, words in told] == [("layer_norm", True)]


HABITS = """import logging, sys
from collections import deque
from dataclasses import dataclass, field
from math import *
from typing import NamedTuple, Optional
from mine import *
logger = logging.getLogger(__name__)
logger.setLevel(logging.DEBUG)
NEW = hasattr(torch.nn, "RMSNorm") or getattr(torch, "float32", None)
@dataclass
class Config:
    eps: float = sqrt(2) * pi
    sizes: list = field(default_factory=list)
class Stats(NamedTuple):
    mean: float
    var: float = 1.0
class Timer:
    def __enter__(self): return self
    def __exit__(self, *what): return False"""
HABIT = """with Timer():
    stats: Optional[Stats] = Stats(0.0)
    logger.debug("%s %s", stats.mean, NEW)
    Config().sizes.append(deque([1], maxlen=3).pop())
    print(shown(1), file=sys.stderr)"""


@pytest.mark.slow
def test_honest_answers_with_the_habits_of_python_are_followed():
    left = set()
    for cells in as_notebooks(answers.HONEST).values():
        trees = [ast.parse(cell) for cell in cells]
        for node in [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
            names = [argument.arg for argument in node.args.args]
            kernel = any("jit" in ast.unparse(decorator) for decorator in node.decorator_list)
            if not kernel and (names[:1] != ["self"] or node.name == "forward"):
                node.body[:0] = ast.parse(HABIT).body
        markers = ["\n".join(re.findall("^# EXERCISE: .*\n", cell)) for cell in cells]
        cells = [marker + ast.unparse(tree) for marker, tree in zip(markers, trees)]
        code = cutting.read(
            notebook.read(made("%%writefile mine.py\ndef shown(x): return x", cells[0], HABITS, *cells[1:]))
        )
        for name in re.findall(r"^# EXERCISE: (\w+)", "\n".join(cells), re.M):
            task = check.tasks()[name]
            if task.without or task.closed:
                try:
                    given = answer(restricted.Restricted(task).answer(code, name), task.cases[0])
                    assert compare(given, task.right[0], task.cases[0]) is None, given.error
                except (AssertionError, world.NotUnderstood) as error:
                    left.add((name, str(error).partition("\n")[0].rpartition(" ")[2]))
    assert left == {("layer_norm", "__new__")}


# What comes out -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graded(sandbox, tests_of_03, tmp_path_factory):
    """A small class, graded: (folder, out, results)."""
    folder, out = tmp_path_factory.mktemp("class"), tmp_path_factory.mktemp("graded")
    outside = HONEST["layer_norm"].replace(
        ".mean(-1, keepdim=True) + eps).sqrt()", ".mean(-1, keepdim=True)).sqrt() + eps)"
    )
    outside = outside.replace("h / (h.square()", "h / ((h.square()")
    essay = {
        "cell_type": "markdown",
        "source": "<!-- EXERCISE: why_not_batch_norm -->\n\n因为每个样本的长度不同。",
        "metadata": {},
    }
    hand_in(
        folder,
        张三=[IMPORTS, outside, essay],
        alice=SOLVED,
        bob=["# EXERCISE: layer_norm\ndef layer_norm(*a): raise NotImplementedError('x')"],
    )
    lay_out(folder, "Li Si_42_assignsubmission_file_/x.ipynb", "=cmd|calc/x.ipynb")
    (folder / "Wang Wu_43_assignsubmission_file_").mkdir()
    (folder / "Wang Wu_43_assignsubmission_file_" / NAME).write_bytes(made(*HALF))
    (folder / f"lisi_77_4321_{NAME}").write_bytes(made(*HALF))
    exam, results = graded_here(folder, out, tests_of_03, sandbox, 1)
    return folder, out, {result["learner"]: result for result in results}, exam


def rows(path):
    return list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"))))


@needs_linux
def test_the_table_has_one_row_per_submission_with_the_points_of_each_task(graded):
    folder, out, _, exam = graded
    head, *lines = rows(out / "grades.csv")
    assert len(lines) == len(collect(folder, exam.exercises)) == 7
    by_learner = {line[1]: dict(zip(head, line)) for line in lines}
    assert by_learner["alice"]["points"] == by_learner["alice"]["of"] == "16" and by_learner["alice"]["welford"] == "3"
    assert by_learner["Li Si"]["status"] == "failed" and "没有本课程的练习" in by_learner["Li Si"]["reason"]
    assert by_learner["bob"]["points"] == "0" and by_learner["Wang Wu"]["points"] == "6"
    assert not [cell for line in lines for cell in line if cell.startswith(("=", "+", "@"))]


@needs_linux
def test_moodle_and_canvas_get_the_columns_they_ask_for(graded):
    _, out, *_ = graded
    head, *lines = rows(out / "moodle.csv")
    assert {"Identifier", "Grade", "Last modified (grade)"} <= set(head)
    assert ["Participant 43", "Wang Wu", "6"] in [line[:3] for line in lines]
    head, possible, line = rows(out / "canvas.csv")
    assert head == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "03_layer_normalisation"]
    assert possible == ["    Points Possible", "", "", "", "", "16"] and line == ["lisi", "77", "", "", "", "6"]


@needs_linux
def test_a_report_names_the_mistake_in_the_learners_language_and_shows_nothing_hidden(graded):
    _, out, results, exam = graded
    page = (out / "reports" / results["张三"]["report"]).read_text(encoding="utf-8")
    assert 'id="zh" checked' in page and "ε 加在了根号外面" in page and "ε stands outside the root" in page
    assert "由老师批改" in page
    assert 'id="en" checked' in (out / "reports" / results["alice"]["report"]).read_text(encoding="utf-8")
    assert "还没有写" in (out / "reports" / results["bob"]["report"]).read_text(encoding="utf-8")
    everything = "".join(path.read_text() for path in out.rglob("*.html")) + (out / "grades.json").read_text()
    for trials in exam.trials.values():
        for trial in trials:
            numbers = [
                t.double().flatten()[:3]
                for t in (*trial.case.inputs.values(), *trial.right.results)
                if isinstance(t, torch.Tensor) and not t.is_meta and t.is_floating_point()
            ]
            for number in (float(value) for some in numbers for value in some):
                assert number == round(number, 2) or f"{number:.4f}" not in everything, trial.case.en


@needs_linux
def test_the_summary_has_a_picture_per_task_and_lists_what_was_not_graded(graded):
    _, out, *_ = graded
    page = (out / "index.html").read_text(encoding="utf-8")
    assert (
        page.count("<svg") == 4 and "layer_norm: 1 of 5 earn everything" in page and "ε stands outside the root" in page
    )
    assert "Not graded" in page and "Li Si_42" in page and "=cmd" in page
    pictures = re.findall(r"<svg.*?</svg>", page, re.S)
    assert len(pictures) == 4
    for picture in pictures:
        xml.etree.ElementTree.fromstring(picture)


@needs_linux
def test_nbgraders_own_gradebook_knows_the_scores_and_keeps_marks_given_by_hand(graded, tmp_path):
    from nbgrader.api import Gradebook

    *_, results, exam = graded
    before = None, True
    for _ in range(2):
        assert gradebook.write_gradebook([*results.values()], exam, tmp_path / "gradebook.db") == 5
        with Gradebook(f"sqlite:///{tmp_path / 'gradebook.db'}") as book:
            alice, zhang = (book.find_submission("03_layer_normalisation", name) for name in ("alice", "张三"))
            assert (alice.score, alice.max_score, alice.needs_manual_grade) == (16, 22, False)
            assert zhang.code_score == results["张三"]["points"] > 0
            essay = book.find_grade("why_not_batch_norm", *["03_layer_normalisation"] * 2, "张三")
            assert (essay.manual_score, zhang.needs_manual_grade) == before
            before = 5, False
            essay.manual_score, essay.needs_manual_grade = 5, False
            book.db.commit()


def judged(learner, number="1", exercise="03_a", system="moodle", notes=(), essay=9, **failed):
    """A result as `Run.grade` returns it, of an exercise with the tasks f (4 points) and g (2) and an essay; tasks given
    as `f={reason: cases}` earn nothing. exercise=None: it could not be graded."""
    report_name = f"{learner}{number}{exercise}{len(failed)}.html"
    whose = {"submission": f"{learner}/{exercise}", "learner": learner, "id": number, "system": system}
    if exercise is None:
        refused = {"status": "failed", "reason": ["空的", "empty"], "points": 0.0, "tasks": {}, "essays": {}}
        return whose | refused | {"report": report_name}
    tasks = {}
    for name, of in {"f": 4, "g": 2}.items():
        wrong = failed.get(name, {})
        said = [["不能调用 exec。", f"exec of {number}"]] if "error ForbiddenCall" in wrong and number != "5" else []
        tasks[name] = {"of": of, "points": 0.0 if wrong else of, "cases": 5, "passed": 0, "failed": wrong, "said": said}
    graded = {"status": "graded", "exercise": exercise, "points": sum(t["points"] for t in tasks.values()), "of": 6}
    essays = {"essay": {"of": 3, "characters": essay}}
    return whose | graded | {"tasks": tasks, "essays": essays, "notes": notes, "language": "", "report": report_name}


PARTS = {"f": SimpleNamespace(points=4), "g": SimpleNamespace(points=2)}, {"essay": 3}
SMALL_EXAM = SimpleNamespace(exercises={"03_a": PARTS, "05_b": PARTS}, seed=1)


def test_moodle_and_canvas_leave_blank_what_could_not_be_graded_and_take_the_best_of_several(tmp_path):
    for system in ("moodle", "canvas"):
        results = [
            judged("Ann", "1", "03_a", system, f={"values": 2}),
            judged("Ann", "1", "03_a", system),
            judged("Ann", "1", "03_a", system, g={"values": 2}),
            judged("Bob", "2", "05_b", system, g={"missing": 1}),
            judged("Eve", "3", None, system),
        ]
        (tmp_path / system).mkdir()
        files = tables.tables(results, SMALL_EXAM, tmp_path / system)
        assert sorted(files) == sorted(path.name for path in (tmp_path / system).iterdir())
        head, *lines = rows(tmp_path / system / "grades.csv")
        assert [line[head.index("counts")] for line in lines] == ["", "yes", "", "yes", ""]
    for exercise, line in {"03_a": ["Ann", "6"], "05_b": ["Bob", "4"]}.items():
        lines = [line[1:4] for line in rows(tmp_path / "moodle" / f"moodle_{exercise}.csv")[1:]]
        assert lines == [[*line, "6"], ["Eve", "", "6"]]
    for exercise, line in {"03_a": ["Ann", "6"], "05_b": ["Bob", "4"]}.items():  # a blank would take a score away
        lines = [[line[0], *line[5:]] for line in rows(tmp_path / "canvas" / f"canvas_{exercise}.csv")[2:]]
        assert lines == [line]


def test_the_summary_groups_what_breaks_rules_and_says_whom_to_look_at_what_counts_and_the_means():
    broken = [judged(f"L{n}", f"{n}", f={"error ForbiddenCall": 1}) for n in (17, 19)]
    called = judged("Carl", "5", g={"error ForbiddenCall": 1, "values": 2})
    results = [*broken, called, judged("Ann"), judged("Ann", f={"values": 1}), judged("Docx", exercise=None)]
    page = report.summary(results, SMALL_EXAM, ["grades.csv", "moodle.csv"])
    [picture] = re.findall(r"<h3>.{,99}f: 2 of 4 earn everything.*?</svg>", page, re.S)
    assert picture.count("exec of 17") == picture.count("exec of 19") == 2  # with its title
    [by_hand] = re.findall(r"have a look yourself.*?</table>", page, re.S)
    assert all(name in by_hand for name in ("exec of 17", "exec of 19", "Carl")) and "Ann" not in by_hand
    assert "mean 3.5 of 6 (n = 4)" in page and "Essays: 3 more points, to be added in formgrader" in page
    assert all(f'<a href="{name}">' in page for name in ("grades.csv", "moodle.csv")) and "canvas.csv" not in page
    everything = page.rpartition("<h2>")[2]
    assert everything.count("<th>") == 5 and everything.count("✓") == 4 and "0 / 0" not in everything


def test_a_report_speaks_of_cells_only_where_points_were_lost_and_where_it_explains_a_task():
    notes = [[2, "raised"], [5, "time"], [7, "time"], [8, "closed"]]
    page = report.learner_page(judged("Ann", notes=notes))
    assert "Cell" not in page and "Nothing written" not in page
    page = report.learner_page(judged("Ann", notes=notes, essay=0, f={"error NameError": 5}))
    table, below = page.split("</table>")
    assert (
        "<li>" in table
        and "Cells 5, 7 ran out of time: only their imports, definitions and assignments were run." in table
        and "Cell 2 raised" in table
    )
    assert "Cell" not in below and "第 5、7 个单元格超时" in table and "8" not in table.partition("<table>")[2]
    assert "Nothing written in the marked cell." in table and "标记的单元格里什么也没有写。" in table
    page = report.learner_page(judged("Ann", notes=notes, f={"values": 5}))
    assert "Cells 5, 7" in page.split("</table>")[1] and "Cells 5, 7" not in page.split("</table>")[0]


@pytest.mark.parametrize(
    "people",
    [
        [("Bob", "1002"), ("Bob", "1003"), ("Bob (1002)", "1007")],
        [("Bob", "1002"), ("Bob", "1003"), ("Bob (1002)", "1"), ("Bob (1002)", "2"), ("Bob (1002) (1)", "")],
        [("Bob", ""), ("Bob", "2"), ("Bob (2)", ""), ("Bob (2)", "2"), ("Bob (2) (2)", "3")],
    ],
)
def test_no_two_learners_are_one_student_of_the_gradebook(people):
    students = gradebook.student_ids(people)
    assert len(set(students.values())) == len(people)
    assert students == gradebook.student_ids(people[::-1])


def test_a_learner_alone_with_a_name_keeps_it_in_the_gradebook():
    people = [("Bob", "1002"), ("Bob", "1003"), ("Bob (1002)", "1007"), ("Ann", "1")]
    assert [*map(gradebook.student_ids(people).get, people)] == ["Bob (1002) (1002)", "Bob (1003)", "Bob (1002)", "Ann"]


# Runs that repeat, stop and go on -------------------------------------------------------------------------------------


def judge(*arguments, **options):
    command_line = [sys.executable, "-m", "normcourse.grade", *map(str, arguments)]
    return subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True, **options)


def written(out):
    return {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}


@needs_linux
@pytest.mark.slow
def test_the_same_seed_gives_the_same_files_byte_for_byte_whatever_the_number_of_jobs(graded, tests_of_03, tmp_path):
    folder, out, *_ = graded  # by two jobs
    done = judge(folder, "--out", tmp_path / "out", "--tests", tests_of_03, "--seed", 1, "--jobs", 1)
    assert done.returncode == 0, done.stderr
    assert written(tmp_path / "out") == written(out)


@needs_linux
@pytest.mark.slow
@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.long)])
def test_killed_it_goes_on_to_the_same_grades_and_grades_nothing_twice(times, sandbox, tests_of_03, tmp_path):
    folder, chance = tmp_path / "all", random.Random(0)
    hand_in(folder, **{f"s{i:03}": SOLVED if i % 3 else HALF for i in range(10 * times)})
    lay_out(folder, "another/course.ipynb")
    arguments = [folder, "--tests", tests_of_03, "--seed", 5]
    graded_here(folder, tmp_path / "undisturbed", tests_of_03, sandbox, 5)
    command_line = [sys.executable, "-m", "normcourse.grade", *map(str, arguments), "--out", tmp_path / "killed"]
    results, seen = tmp_path / "killed" / "results", {}
    for _ in range(times):
        running = subprocess.Popen(command_line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        target = len(seen) + chance.randrange(0, 8)
        wait_for(lambda: running.poll() is not None or len([*results.glob("*.json")]) >= target, 60)  # noqa: B023
        below = descendants(running.pid)
        running.send_signal(chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGINT]))
        running.wait(120)
        assert wait_for(lambda: not alive(below), 60), "processes are left"  # noqa: B023
        now = {path.name: path.stat().st_mtime_ns for path in results.glob("*.json")}
        assert now == now | seen, "a submission was graded twice, or lost"
        seen = now
    assert judge(*arguments, "--out", tmp_path / "killed").returncode == 0
    now = {path.name: path.stat().st_mtime_ns for path in results.glob("*.json")}
    assert now == now | seen
    kept = {path: content for path, content in written(tmp_path / "killed").items() if not path.name.startswith(".")}
    assert kept == written(tmp_path / "undisturbed")


@needs_linux
@pytest.mark.slow
def test_ctrl_c_ends_a_run_at_once_and_what_was_being_graded_is_graded_when_it_goes_on(tests_of_03, tmp_path):
    wrong = "# EXERCISE: welford\ndef welford(x):\n    return x"  # where an answer is right alone, no cell is run
    slow = hand_in(tmp_path / "all", a=[IMPORTS, "while True: pass", wrong])
    command = [sys.executable, "-m", "normcourse.grade", slow, "--out", tmp_path / "out", "--tests", tests_of_03]
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  a shell in the background ignores it
    running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    assert wait_for(lambda: any(cpu(pid) > 0.5 and polite(pid) for pid in descendants(running.pid)), 300)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=120)
    assert running.returncode == 130 and "Interrupted" in said
    assert not list((tmp_path / "out" / "results").glob("*.json"))


@needs_linux
def test_a_run_goes_on_with_its_own_seed_and_tests_only(tests_of_03, tmp_path):
    first = Run(tmp_path / "out", tests_of_03)
    assert Run(tmp_path / "out", tests_of_03).seed == first.seed
    assert Run(tmp_path / "other", tests_of_03).seed != first.seed
    with pytest.raises(ValueError, match="another seed; give another folder with --out"):
        Run(tmp_path / "out", tests_of_03, first.seed + 1)
    with pytest.raises(ValueError, match="other hidden tests"):
        Run(tmp_path / "out", HIDDEN)
    with pytest.raises(ValueError, match="the sandbox"):
        Run(tmp_path / "out", tests_of_03, unsafe=True)


# Where it runs --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def ordinary_user():
    """(prefix of a command line, home folder) that runs as a user without rights; as root only, who can make one."""
    name = f"normcourse-{os.getpid()}"  # a run that was killed may have left its user behind
    subprocess.run(["useradd", "--no-create-home", "--home-dir", "/tmp", name], check=True, capture_output=True)
    home = Path(tempfile.mkdtemp(prefix="normcourse-", dir="/tmp"))
    try:
        shutil.chown(home, name)
        # A Python below a folder that only root may enter is shown in a mount namespace of its own.
        closed = next((p for p in [*Path(sys.base_prefix).parents][::-1] if not p.stat().st_mode & 0o001), None)
        show = ""
        if closed:
            show = f"mkdir {home}/p && mount --bind {sys.base_prefix} {home}/p && mount -t tmpfs -o mode=755 none {closed} && mkdir -p {sys.base_prefix} && mount --move {home}/p {sys.base_prefix} && "
        yield ["unshare", "--mount", "sh", "-c", f'{show}exec runuser -u {name} -- "$@"', "sh"], home
    finally:
        subprocess.run(["userdel", name], check=True, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


@needs_linux
@pytest.mark.slow
@pytest.mark.skipif(platform.system() == "Linux" and os.getuid() != 0, reason="this run is by an ordinary user")
def test_an_ordinary_user_gets_the_same_grades_as_root(sandbox, tests_of_03):
    with ordinary_user() as (as_user, home):
        hand_in(home / "all", solved=SOLVED, half=HALF, root=[IMPORTS, "import os\nos.setuid(0)", HONEST["welford"]])
        shutil.copytree(tests_of_03, home / "tests")
        subprocess.run(["chmod", "-R", "a+rX", home], check=True)
        arguments = [home / "all", "--tests", home / "tests", "--seed", "3", "--out"]
        python = [sys.executable, "-m", "normcourse.grade"]
        (home / "by_user").mkdir()
        subprocess.run(["chmod", "a+rwx", home / "by_user"], check=True)
        done = subprocess.run(
            [*as_user, *python, *arguments, home / "by_user"], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        graded_here(home / "all", home / "by_root", home / "tests", sandbox, 3)
        assert written(home / "by_user") == written(home / "by_root")
        assert (home / "by_user" / "grades.csv").stat().st_uid != 0


@needs_linux
@pytest.mark.slow
def test_it_runs_from_a_folder_in_tmp_though_submissions_have_a_tmp_of_their_own(tests_of_03):
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        shutil.copytree(ROOT / "normcourse", Path(name, "normcourse"), ignore=shutil.ignore_patterns("__pycache__"))
        hand_in(Path(name, "all"), solved=SOLVED)
        command_line = [sys.executable, "-m", "normcourse.grade", "all", "--out", "out", "--tests", tests_of_03]
        done = subprocess.run(command_line, cwd=name, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert [line[5] for line in rows(Path(name, "out", "grades.csv"))[1:]] == ["16"]


def test_without_bubblewrap_it_refuses_and_says_what_to_install(tmp_path, monkeypatch, capsys):
    lay_out(tmp_path, "alice/x.ipynb")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert command.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "apt-get install bubblewrap" in said and "--unsafe-no-sandbox" in said and "沙箱" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "zh", "en"),
    [
        ("nothing --out out", "没有", "There is no"),
        ("empty --out out", "找不到", "No submissions are found in"),
        ("broken.zip --out out", "找不到", "No submissions are found in"),
        ("text.txt --out out", "既不是 zip 也不是 notebook", "neither a zip nor a notebook"),
        ("all --out text.txt", "是文件", "is a file, but the results need a folder"),
        ("all --out text.txt/out", "是文件", "is a file, but the results need a folder"),
        ("all --out out --tests empty", "没有隐藏测试", "holds no hidden tests"),
        ("all --out out --to-nbgrader nothing/gradebook.db", "建不了", "cannot be made"),
        ("all --out out --to-nbgrader empty", "建不了", "cannot be made"),
        ("all --out out --to-nbgrader text.txt", "不是 gradebook", "is no gradebook"),
        ("all --out out --jobs 0", "至少为 1", "at least 1"),
        ("all --out out --jobs many", "至少为 1", "at least 1"),
    ],
)
def test_the_command_refuses_what_cannot_do_in_both_languages_and_writes_nothing(
    arguments, zh, en, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path, "all/alice/x.ipynb")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("x")
    (tmp_path / "broken.zip").write_bytes(b"PK")
    before = sorted(tmp_path.rglob("*"))
    try:
        status = command.main(["--tests", str(HIDDEN), *arguments.split()])
    except SystemExit as ended:  # by argparse
        status = ended.code
    said = capsys.readouterr().err
    assert status == 2 and zh in said and en in said and "Traceback" not in said
    assert sorted(tmp_path.rglob("*")) == before


def test_the_manual_says_which_submission_counts_and_where_essays_get_their_points():
    manual = (ROOT / "docs" / "grading.md").read_text(encoding="utf-8")
    for words in ("得分最高的那份", "the best counts", "短文的分在 formgrader", "in formgrader"):
        assert words in manual


def test_without_linux_it_refuses_and_names_the_system(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(NoSandbox, match=r"needs Linux \(this is Darwin\)"):
        Sandbox()
    monkeypatch.delattr(os, "fork")
    with pytest.raises(NoSandbox, match="WSL 2"):
        Sandbox(unsafe=True)


@needs_linux
def test_namespaces_that_the_system_refuses_are_explained(monkeypatch):
    refuse = lambda private: ["sh", "-c", "echo bwrap: No permissions to create new namespace >&2; exit 1"]  # noqa: E731
    monkeypatch.setattr(sandbox_module, "bubblewrap", refuse)
    with pytest.raises(NoSandbox, match=r"(?s)No permissions to create new namespace.*apparmor_restrict"):
        Sandbox()


@pytest.mark.slow
def test_without_a_sandbox_it_grades_and_the_warning_cannot_be_missed(tests_of_03, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(child, "CELL_SECONDS", 1.0)
    hangs = [IMPORTS, HONEST["welford"], "import time; time.sleep(1000)"]
    hand_in(tmp_path / "all", solved=SOLVED, half=HALF, hangs=hangs)
    arguments = [tmp_path / "all", "--tests", tests_of_03, "--out", tmp_path / "out", "--unsafe-no-sandbox"]
    assert command.main([*map(str, arguments)]) == 0
    said = capsys.readouterr().err
    assert said.count("NO SANDBOX!") == 2 and said.count("没有沙箱") == 2
    assert "Graded without a sandbox" in (tmp_path / "out" / "index.html").read_text()
    assert [line[5] for line in rows(tmp_path / "out" / "grades.csv")[1:]] == ["6", "3", "16"]


@needs_linux
@pytest.mark.slow
def test_the_samples_are_graded_by_the_command_in_the_readme(tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make grade" in readme
    recipe = re.search(r"^grade:.*\n(?:\t.*\n)+", (ROOT / "Makefile").read_text(), re.M)[0]
    assert "tests/samples" in (ROOT / "Makefile").read_text() and "-m normcourse grade" in recipe
    assert judge("tests/samples", "--out", tmp_path / "out", "--seed", 1).returncode == 0
    lines = [line[:2] + line[4:7] for line in rows(tmp_path / "out" / "grades.csv")[1:]]
    assert [line[2] for line in lines] == ["graded"] * 3
    points = [float(line[3]) / float(line[4]) for line in lines]
    assert max(points) == 1 and min(points) < 0.5 and 0.2 < sorted(points)[1] < 1


def test_the_samples_are_of_the_exercises_that_are_handed_out():
    samples = [*(ROOT / "tests" / "samples").rglob("*.ipynb")]
    assert len(samples) >= 3
    for path in samples:
        sample = notebook.read(path.read_bytes())
        [released] = [p for p in (ROOT / "exercises").rglob("*.ipynb") if p.stem in path.name]
        names = [cell.name for cell in notebook.read(released.read_bytes()) if cell.name]
        assert [cell.name for cell in sample if cell.name] == names, path


def test_importing_the_judges_command_stays_light():
    code = "import sys, normcourse.grade.__main__, normcourse.grade.sandbox; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
