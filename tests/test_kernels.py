"""Triton kernels in the second world: what people write is followed, and only what a kernel computed and stored counts."""

import copy
import threading

import pytest
import torch

from normcourse import check
from normcourse.check import alone, cutting, kernels, launches
from normcourse.check.comparison import compare
from normcourse.check.runner import answer
from normcourse.check.world import NotUnderstood
from normcourse.grade import notebook, restricted

from .hostile import kernels as hostile
from .hostile import notebook as made
from .kernels import IMPORTS, LAUNCH, REVIEWED, ROWS, STYLES
from .test_second_world import said

triton = pytest.importorskip("triton")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning"),
    pytest.mark.skipif(not launches.interpreted(), reason="kernels run interpreted here: TRITON_INTERPRET=1"),
]
WORLDS = {"judge": restricted.Restricted, "check": lambda task: alone.Alone(task, 60)}
TASK = check.tasks()["triton_rms_norm"]


def found(*cells, world="judge", cases=slice(2)):
    """What becomes of an answer: "right", where it is not understood, an error, or where it differs."""
    try:
        function = WORLDS[world](TASK).answer(cutting.read(notebook.read(made(*cells))), TASK.name)
    except NotUnderstood as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    for case, right in list(zip(TASK.cases, TASK.right))[cases]:
        given = answer(function, case, TASK)
        if difference := compare(given, right, case):
            return (given.error or difference.where).removeprefix("NotUnderstood: ")
    return "right"


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("world", WORLDS)
def test_kernels_as_people_write_them_are_right(style, world):
    assert found(*STYLES[style], world=world) == "right"


@pytest.mark.parametrize(
    ("style", "place"),
    [
        ("numpy on shapes", "3:3: numpy.prod"),
        ("autotune", "2:1: triton.autotune"),
    ],
)
@pytest.mark.parametrize("world", WORLDS)
def test_what_is_for_the_instructor_to_see_is_said_with_its_place(style, place, world):
    assert found(*REVIEWED[style], world=world) == place


@pytest.mark.parametrize(
    "grid", ["[m]", "(m / 1,)", "(True,)", "((m,),)", "m", "lambda meta: [m]", "x.dtype", "Grid()"]
)
def test_a_grid_is_a_tuple_of_whole_numbers_or_a_function_that_says_it(grid):
    own = "class Grid:\n    def __len__(self): return 1\n    def __getitem__(self, i): return 2\n"
    assert found(IMPORTS, ROWS, own + LAUNCH.replace("kernel[(m,)]", f"kernel[{grid}]")) == "3:6: launch: grid"


@pytest.mark.parametrize("name", hostile.ATTACKS)
def test_no_way_round_a_kernel_is_right(name):
    assert found(*hostile.ATTACKS[name][1], cases=slice(1)) != "right"


def test_there_are_many_ways_round_a_kernel_and_each_says_what_it_tries():
    assert len(hostile.ATTACKS) >= 60 and all(len(tries) > 10 for tries, _ in hostile.ATTACKS.values())


# The source of a kernel -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "y = np.sqrt(x)",
        "y = x.handle",
        "x.handle.data = w",
        "y = x.__class__",
        "y = x.type.__init__(1)",
        "y = tl.core",
        "y = tl.core.load(X)",
        "y = tl.extra.libdevice.rsqrt(x)",
        "y = tl.math.core.load(X)",
        "y = tl.inline_asm_elementwise('', '', [x], tl.float32, True, 1)",
        "y = tl.tensor(x, x.type)",
        "y = tl.pointer_type(tl.float32)",
        "y = tl.load.__globals__",
        "y = tl",
        "y = [tl][0].core",
        "tl.load = x",
        "y = interpreter_semantic.to_tensor(1, False)",
        "interpreter_semantic = x",
        "y = __builtins__",
        "y = open('/etc/passwd')",
        "y = getattr(x, 'handle')",
        "y = (lambda: x)()",
        "y = [i for i in range(3)]",
        "y = {1: x}",
        "y = (z := x)",
        "y = f'{x.handle}'",
        "y = '{0.handle}'.format(x)",
        "y = tl.load(*X)",
        "y = tl.load(**X)",
        "y = x(1)",
        "y = (x + 1)(1)",
        "y = 1j",
        "y = b'1'",
        "y = float(x)",
        "y = int(f'{x}')",
        "a, *b = x, w",
        "x[0] = 1",
        "x[0] += 1",
        "del x",
        "import os",
        "global z",
        "def f(): pass",
        "class A: pass",
        "yield x",
        "with x: pass",
        "try: y = x\n    finally: pass",
        "raise ValueError",
        "match x:\n        case _: pass",
    ],
)
def test_a_kernel_holds_no_more_than_tl_and_arithmetic(statement):
    kernel = ROWS.replace("    tl.store", f"    {statement}\n    tl.store")
    place = found("import numpy as np\n" + IMPORTS, kernel, LAUNCH)
    assert place.startswith("2:2: " if statement.startswith("interpreter_semantic =") else "2:7: "), place


@pytest.mark.parametrize("parameters", ["*more", "**more", "*, more=1", "more, /"])
def test_a_kernel_takes_its_parameters_as_a_list(parameters):
    kernel = ROWS.replace("(X, W", f"({parameters}, X, W" if parameters == "more, /" else "(X, W")
    kernel = kernel if parameters == "more, /" else kernel.replace("BLOCK: tl.constexpr", f"BLOCK, {parameters}")
    assert found(IMPORTS, kernel, LAUNCH) == "2:2: kernel: *"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("[]", "list"),
        ("([],)", "tuple"),
        ("tl.constexpr([])", "constexpr"),
        ("print", "function"),
        ("object()", "object"),
        ("tl.constexpr(print)", "constexpr"),
        ("{}", "dict"),
        ("lambda x: x", "function"),
    ],
)
def test_a_kernel_is_given_nothing_that_could_hold_or_run_something(value, kind):
    more = ROWS.replace("eps,", "eps, more,")
    assert found(IMPORTS, more, LAUNCH.replace("eps, BLOCK", f"eps, {value}, BLOCK")) == f"3:3: launch: {kind}"
    around = ROWS.replace("x * tl", "MORE * x * tl")
    assert found(IMPORTS, f"MORE = {value}\n{around}", LAUNCH) == "2:8: kernel: MORE"
    default = ROWS.replace("tl.constexpr)", f"tl.constexpr, more={value})")
    assert found(IMPORTS, default, LAUNCH) == "2:2: kernel: ="


# Memory ---------------------------------------------------------------------------------------------------------------

COPY = """@triton.jit
def copy(X, Y, N, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(Y + at, tl.load(X + at, at < N), at < N)"""
X = torch.arange(12.0).reshape(3, 4)


def launched(body, x=X, source=COPY):
    """What a wrapper with this body makes of x."""
    function = f"{source}\ndef triton_rms_norm(x):\n    y = torch.empty_like(x)\n    {body}"
    return restricted.Restricted(TASK).answer(cutting.read(notebook.read(made(IMPORTS, function))), TASK.name)(x)


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        ("return x", 0),
        ("return x.clone()", 0),
        ("return torch.zeros_like(x)", 0),
        ("copy[(1,)](x, y, 4, BLOCK=4); return torch.zeros_like(x)", 0),
        ("copy[(1,)](x, y, 12, BLOCK=16); return x", 0),
        ("copy[(1,)](x, y, 12, BLOCK=16); return y", 12),
        ("copy[(1,)](x, y, 5, BLOCK=16); return y", 5),
        ("y = torch.zeros_like(x); copy[(2,)](x, y, 7, BLOCK=4); return y", 7),
        ("y = x.clone(); copy[(1,)](x, y, 5, BLOCK=8); return y", 5),
        ("copy[(3,)](x, y, 12, BLOCK=4); return y.double().view(-1).to(x.dtype).reshape(3, 4)", 12),
        ("copy[(1,)](x, y, 11, BLOCK=16); return y.clone()", 0),
        ("copy[(1,)](x, y, 12, BLOCK=16); return y.T.contiguous().T", 12),
        ("copy[(1,)](x, y, 8, BLOCK=16); return y[:2]", 8),
        ("y = torch.empty(3, 8); copy[(1,)](x, y, 12, BLOCK=16); return y.view(-1)[:12].view(3, 4)", 12),
        ("z = torch.empty_like(x); copy[(1,)](x, z, 12, BLOCK=16); del z; return torch.zeros_like(x)", 0),
    ],
)
def test_elements_that_no_kernel_stored_are_nan(body, stored):
    result = launched(body)
    assert int((~result.isnan()).sum()) == stored
    assert torch.equal(result[~result.isnan()], X.flatten()[:stored].reshape(result[~result.isnan()].shape))


OWN = "from typing import NamedTuple\nclass P(NamedTuple):\n    a: object\n    b: object\n    def __iter__(self): return iter((X, X))\n"


def test_a_tuple_of_ones_own_kind_is_looked_at_too():
    one, two = launched("return P(x, x.clone())", source=OWN + COPY)
    [[three, [four]]] = launched("return [P(x, (x,))]", source=OWN + COPY)
    assert all(part.isnan().all() for part in (one, two, three, four))


def test_a_copy_of_a_kernel_does_not_keep_its_errors_to_itself():
    world = restricted.Restricted(TASK)
    function = f"{COPY}\ndef triton_rms_norm(x): return copy"
    world.answer(cutting.read(notebook.read(made(IMPORTS, function))), TASK.name)
    kernel = world.spaces[""][0]["copy"]
    assert copy.deepcopy(kernel)._launch.__self__ is kernel._launch.__self__


def test_several_results_are_looked_at_one_by_one():
    one, two = launched("copy[(1,)](x, y, 12, BLOCK=16); return y, torch.zeros_like(x)")
    assert torch.equal(one, X) and two.isnan().all()


def test_atomic_operations_store_too():
    add = COPY.replace(
        "tl.store(Y + at, tl.load(X + at, at < N), at < N)", "tl.atomic_add(Y + at, tl.load(X + at, at < N), at < N)"
    )
    assert torch.equal(launched("y = torch.zeros_like(x); copy[(1,)](x, y, 12, BLOCK=16); return y", source=add), X)


@pytest.mark.parametrize(
    "statement",
    [
        "tl.store(Y + 2**40, 1.0)",
        "tl.store(Y - 1, 1.0)",
        "tl.store(Y + 12, 1.0)",
        "tl.store(Y + tl.arange(0, 16), 1.0)",
        "tl.load(X + 2**40)",
        "tl.load(X - 2**20)",
        "tl.atomic_add(Y + 2**40, 1.0)",
        "tl.atomic_cas(Y.to(tl.pointer_type(tl.int32)) + 2**40, 0, 1)",
        "tl.load(tl.make_block_ptr(X, (99, 4), (4, 1), (50, 0), (1, 4), (1, 0)))",
    ],
)
def test_a_kernel_reaches_no_other_memory_than_that_of_its_tensors(statement, monkeypatch):
    monkeypatch.setattr(kernels.allowed, "TL", kernels.allowed.TL | {"pointer_type"})
    function = f"{COPY}\n    {statement}\ndef triton_rms_norm(x):\n    y = x.new_empty(12)\n    copy[(1,)](x, y, 12, BLOCK=16)\n    return y"
    f = restricted.Restricted(TASK).answer(cutting.read(notebook.read(made(IMPORTS, function))), TASK.name)
    with pytest.raises(Exception, match="outside of the tensors"):
        f(X)


def test_masked_lanes_may_point_anywhere():
    masked = COPY.replace("Y + at, tl", "Y + at + tl.where(at < N, 0, 2**40), tl")
    assert torch.equal(launched("copy[(1,)](x, y, 12, BLOCK=16); return y", source=masked), X)


def test_an_error_in_a_kernel_ends_the_answer_whoever_catches_it():
    failing = COPY + "\n    assert tl.load(X) < 0"
    for body in (
        "try: copy[(1,)](x, y, 12, BLOCK=16)\n    except Exception: pass\n    return y",
        "try: copy[(1,)](x, y, 12, BLOCK=16)\n    finally: return y",
    ):
        with pytest.raises(Exception, match="AssertionError"):
            launched(body, source=failing)


def test_launches_of_others_go_on_beside_and_tritons_own_functions_are_back_afterwards():
    from triton.runtime import interpreter

    from normcourse.fused import rms_norm

    native, results, done = interpreter._interpreter, [], threading.Event()

    def others():
        while not done.is_set():
            results.append(rms_norm(X))

    beside = threading.Thread(target=others)
    beside.start()
    try:
        for _ in range(20):
            assert torch.equal(launched("copy[(1,)](x, y, 12, BLOCK=16); return y"), X)
    finally:
        done.set()
        beside.join()
    assert interpreter._interpreter is native and not isinstance(triton.language.sum, triton.JITFunction)
    assert len(results) > 2 and all(torch.equal(result, results[0]) for result in results)
    torch.testing.assert_close(results[0], torch.nn.functional.rms_norm(X, (4,), eps=1e-6))


# A learner's check ----------------------------------------------------------------------------------------------------


def test_the_check_says_of_a_right_kernel_what_the_judge_will_not_follow(notebook_with):
    assert said(notebook_with(IMPORTS, ROWS, LAUNCH), TASK.name) == ""
    told = {name: said(notebook_with(*cells), TASK.name) for name, cells in SAID.items()}
    for name, parts in {
        "wrapper": ("numpy.prod", "allocates, looks at shapes"),
        "launch": ("kernel[", "(launch: list)", "launches that are given tensors"),
        "kernel": ("x.handle", "functions of tl, other kernels, arithmetic"),
    }.items():
        assert all(part in told[name] for part in (*parts, "your teacher has looked at it")), told[name]


SAID = {
    "wrapper": REVIEWED["numpy on shapes"],
    "launch": [IMPORTS, ROWS.replace("eps,", "eps, more,"), LAUNCH.replace("eps, BLOCK", "eps, [], BLOCK")],
    "kernel": [IMPORTS, ROWS.replace("    tl.store", "    print(x.handle.data)\n    tl.store"), LAUNCH],
}


def test_the_check_says_it_in_chinese_too(notebook_with):
    for cells, words in zip(SAID.values(), ("分配内存", "整数的元组", "tl 的函数")):
        shell = notebook_with(*cells)
        zh, en = check.check(TASK.name, shell.user_ns[TASK.name]).aside
        assert words in zh and "老师看过才定" in zh and words not in en


def test_the_check_says_that_what_the_judge_counts_as_computing_earns_no_points(notebook_with):
    words = said(
        notebook_with(
            IMPORTS, ROWS, LAUNCH.replace("return y", "z = torch.empty_like(y)\n    z.copy_(y)\n    return z")
        ),
        TASK.name,
    )
    assert "counts copy, too" in words and "no points" in words


def test_the_check_prints_nothing_twice_and_says_nothing_where_kernels_are_compiled(notebook_with, monkeypatch, capsys):
    printing = ROWS.replace("    tl.store", "    tl.device_print('here', row)\n    tl.store")
    shell = notebook_with(IMPORTS, printing, LAUNCH)
    check.diagnose(TASK, shell.user_ns[TASK.name])
    once = capsys.readouterr().out.count("here")
    assert said(shell, TASK.name) == "" and capsys.readouterr().out.count("here") == once > 0
    shell = notebook_with(*SAID["wrapper"])
    monkeypatch.setattr(alone, "interpreted", lambda: False)
    assert said(shell, TASK.name) == ""


def test_the_check_looks_at_the_clock_before_each_launch():
    world = alone.Alone(TASK, 60)
    function = f"{COPY}\ndef triton_rms_norm(x, y):\n    copy[(1,)](x, y, 12, BLOCK=16)\n    return y"
    run = world.answer(cutting.read(notebook.read(made(IMPORTS, function))), TASK.name)
    assert torch.equal(run(X, torch.empty_like(X)), X)
    world.end = 0
    with pytest.raises(alone.Late):
        run(X, torch.empty_like(X))
