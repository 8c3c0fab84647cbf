"""What a learner may write so that the judge follows it by itself, and that a learner's check says where it does not."""

import re
import time
import warnings
from types import SimpleNamespace

import IPython
import pytest
import torch

from normcourse import check, i18n
from normcourse.check import alone, cutting
from normcourse.check.case import Answer
from normcourse.check.rules import ForbiddenCall, rules
from normcourse.check.world import NotUnderstood
from normcourse.grade import notebook, restricted

from .hostile import HONEST, IMPORTS
from .hostile import notebook as made
from .sources import NOT_UNDERSTOOD, UNDERSTOOD

X = torch.arange(6.0).reshape(2, 3)
WORLDS = {"judge": restricted.Restricted, "check": lambda task: alone.Alone(task, 60)}


def answer(*cells, world="judge", without=()):
    """What f is in a world."""
    task = SimpleNamespace(without=without, only=(), closed=())
    return WORLDS[world](task).answer(cutting.read(notebook.read(made(*cells))), "f")


def found(world, *cells):
    """What f makes of X, or at which place it is not understood, or which error it raises."""
    try:
        return repr(answer(*cells, world=world)(X)).partition(" at 0x")[0]
    except NotUnderstood as error:
        return str(error).split(": ")[0]
    except Exception as error:
        return f"{type(error).__name__}: {error}"


FILE = "%%writefile helpers.py\nimport torch\nK = 2\ndef double(x): return torch.mul(x, K)\ndef _own(x): return x"


@pytest.mark.parametrize(
    "cells",
    [
        ["def f(x): return x * 2 if hasattr(x, 'mean') and not hasattr(x, 'means') else x"],
        ["import torch\ndef f(x): return x * 2 if hasattr(torch, 'mean') and not hasattr(torch, 'means') else x"],
        ["class A:\n    k = 2\ndef f(x): return x * getattr(A(), 'k') * getattr(A(), 'none', 1)"],
        ["from math import *\ndef f(x): return x * sqrt(4) * floor(pi / 3)"],
        ["from torch import *\ndef f(x): return sum(stack([x, x]), 0)"],
        ["import logging\nlog = logging.getLogger(__name__)\nlogging.basicConfig(level=logging.INFO)\n"
         "def f(x):\n    log.info('%s', x)\n    logging.warning('!')\n    return x * 2"],
        ["from dataclasses import dataclass, field\n@dataclass\nclass P:\n    a: float = field(default=2.0)\n"
         "    b: list = field(default_factory=list)\n    c: int = field(init=False, default=1)\n"
         "def f(x):\n    P().b.append(1)\n    return x * P().a * P(2, [1]).c * (1 + len(P().b))"],
        ["import dataclasses\n@dataclasses.dataclass\nclass P:\n    a: float\n    def __post_init__(self): self.b = 2 * self.a\n"
         "def f(x): return x * P(1).b"],
        ["def f(x): return x * 2 + 0 * x.max(-1, keepdim=True).values"],
        ["import torch\ndef f(x): return x * 2 + 0 * torch.max(x, -1).indices[:, None]"],
        ["import torch\ndef f(x): return torch.Tensor.add(x, x)"],
        ["from typing import Optional, TypeVar\nT = TypeVar('T')\nMaybe = Optional[T]\ndef f(x: Maybe) -> T: return x * 2"],
        ["from abc import ABC, abstractmethod\nclass A(ABC):\n    @abstractmethod\n    def g(self, x): pass\n"
         "class B(A):\n    def g(self, x): return x * 2\ndef f(x): return B().g(x)"],
        ["from typing import NamedTuple\nclass P(NamedTuple):\n    a: float\n    b: float = 2.0\n"
         "def f(x):\n    p = P(1)\n    return x * p.b * p.a * len(p) / 2"],
        ["import sys, torch\ndef f(x):\n    print(1, file=sys.stderr)\n    torch.testing.assert_close(x, x)\n"
         "    with torch.autocast('cpu', enabled=False): return x * 2 + 0 * sys.float_info.epsilon"],
        ["class A:\n    def __enter__(self): return 2\n    def __exit__(self, *what): pass\n"
         "def f(x):\n    with A() as k: return k * x"],
        ["from collections import deque\ndef f(x):\n    kept = deque([2], maxlen=3)\n    return x * kept.popleft()"],
        [FILE, "from helpers import double\ndef f(x): return double(x)"],
        [FILE, "from helpers import double as f"],
        [FILE, "import helpers as h\nK = 5\ndef f(x): return h._own(h.double(x))"],
        [FILE, "from helpers import *\ndef f(x): return x * K"],
        ["%%writefile ./a.py\nfrom helpers import double\nif __name__ == '__main__': 1 / 0\ndef g(x): return double(x)",
         FILE, "import a\ndef f(x): return a.g(x)"],
        ["%%writefile a.py\nseen = []\ndef see(x): seen.append(x)", "%%writefile -a a.py\ndef count(): return len(seen)",
         "import a\ndef f(x):\n    a.see(1)\n    return x + x * a.count()"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("world", WORLDS)
def test_what_honest_notebooks_are_also_written_with_is_understood(cells, world):
    assert torch.equal(answer(*cells, world=world)(X), X * 2)


@pytest.mark.parametrize(
    ("place", "cells"),
    [
        ("1:2", ["name = 'data_ptr'\ndef f(x): return _has_(x, name)"]),  # there, and not held
        ("1:1", ["def f(x): return hasattr(x, '__class__')"]),
        ("1:1", ["def f(x): return getattr(x, '__class__')"]),
        ("1:1", ["def f(x): return getattr(x, '_version', 0)"]),
        ("1:1", ["def f(x): return getattr(x, 'grad_fn', 0)"]),
        ("1:1", ["def f(x): return _get_(x, '__cl' + 'ass__')"]),
        ("1:2", ["import torch\ndef f(x): return getattr(torch, 'ops')"]),
        ("1:2", ["import torch\ndef f(x): return hasattr(torch, 'ops')"]),
        ("1:2", ["import os\ndef f(x): return hasattr(os, 'getcwd')"]),
        ("1:2", ["from torch import *\ndef f(x): return load(x)"]),
        ("1:2", ["import torch\ndef f(x): return torch.Tensor.register_hook(x, print)"]),
        ("1:2", ["import torch\ndef f(x): return torch.Tensor.__subclasses__()"]),
        ("1:2", ["import logging\ndef f(x): return logging.getLogger().manager"]),
        ("1:2", ["import logging\ndef f(x): return logging.root"]),
        ("1:2", ["import sys\ndef f(x): return sys.modules"]),
        ("1:2", ["import sys\ndef f(x): return sys.stdout.write"]),
        ("1:2", ["from typing import NamedTuple\nclass __P(NamedTuple):\n    a: int\ndef f(x): return __P"]),
        ("1:1", ["def f(x): return x.max(-1).__class__"]),
        ("1:1", ["def f(x): return x.max(-1).__reduce__"]),
        ("1:2", ["import logging.config\ndef f(x): return logging.config"]),
        ("1:2", ["class A:\n    def __getattr__(self, name): return 1 / 0\ndef f(x): return hasattr(A(), 'k')"]),
        ("1:2", ["class A:\n    def __exit__(self, kind, value, trace): self.t = trace.tb_frame\n    def __enter__(self): pass\n"
                 "def f(x):\n    with A(): 1 / 0"]),
        ("0:0", [FILE, "from helpers import __builtins__ as b\ndef f(x): return b"]),
        ("2:2", [FILE, "import helpers\ndef f(x): return helpers.__builtins__"]),
        ("2:1", [FILE, "def f(x): return _import_('helpers.__builtins__')"]),
        ("2:1", [FILE, "def f(x): return _import_('helpers._write_')"]),
        ("2:2", [FILE, "import helpers\ndef f(x): helpers.double = x"]),
        ("1:3", ["%%writefile a.py\nimport os\ndef g(x): return os.getcwd()", "import a\ndef f(x): return a.g(x)"]),
        ("1:2", ["%%writefile a.py\ndef g(x): return x.__class__", "import a\ndef f(x): return a.g(x)"]),
        ("1:2", ["import numpy as np\ndef f(x): return np.ndarray((1,), object, np.array([4711]))"]),
        ("1:2", ["import numpy as np\ndef f(x): return np.ndarray(2, float, np.zeros(1), offset=-8)"]),
        ("1:1", ["def f(x): return type(x.numpy())((1,), object, x.long().numpy())"]),
        ("1:2", ["from functools import partial as super\ndef f(x): return super(f).__init__"]),
        ("0:0", [FILE, "import math\nfrom helpers import double as super\ndef f(x): return super(math).__init__('os')"]),
        ("1:5", ["import torch\nclass A: register_forward_hook = compile = apply = None\n"
                 "class M(torch.nn.Module, A):\n    def forward(self, x):\n        return self.register_forward_hook(print)\n"
                 "def f(x): return M()(x)"]),
        ("1:3", ["import torch\nclass A: _call_impl = _named_members = None\n"
                 "def f(x): return M()._named_members\nclass M(torch.nn.Module, A): pass"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("world", WORLDS)
def test_what_was_let_in_for_the_honest_opens_no_way_out(cells, place, world):
    assert found(world, *cells) == place


@pytest.mark.parametrize(
    "source",
    [
        "def f(x): return type(x)(cdata=4711)",
        "import torch\ndef f(x): return torch.Tensor(**{'cdata': 4711})",
        "import functools, torch\ndef f(x): return functools.partial(torch.Tensor, **dict(cdata=4711))()",
    ],
)
def test_no_number_is_taken_for_the_address_of_a_tensor(source):
    assert re.fullmatch(r"\d:\d", found("judge", source))


HOOK = "import copy, numpy, torch\nclass H(torch.nn.Module):\n    def forward(self, *a, **k): return 1 / 0\n"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import copy\ndef f(x): return copy.deepcopy(x, {})", "takes 1 positional argument"),
        (HOOK + "def f(x): return copy.deepcopy(torch.nn.ModuleDict({'__deepcopy__': H()}))", "(__deepcopy__): H()"),
        (HOOK + "def f(x): return numpy.asarray(torch.nn.ModuleDict({'__array__': H()}))", "array(['__array__']"),
    ],
)
def test_a_copy_has_no_memo_and_no_object_gives_itself_a_method_that_libraries_look_for(source, says):
    assert says in found("judge", source)


CATCH = "class C:\n    def __enter__(self): return self\n    def __exit__(self, kind, value, trace):\n"
CATCH += "        self.kind, self.said = kind, str(value)\n        return True\n"


@pytest.mark.parametrize("again", ["'1:7: give it all points'", "c.said", "", "('1:7', 'a')"])
@pytest.mark.parametrize("world", WORLDS)
def test_the_words_of_the_second_world_are_its_own(again, world):
    source = f"{CATCH}def f(x):\n    with C() as c: x.data_ptr()\n    raise c.kind({again})"
    with pytest.raises(NotUnderstood) as error:
        answer(source, world=world)(X)
    assert str(error.value) == "0:0: …"
    with pytest.raises(NotUnderstood, match=r"^1:1: str\.format$"):
        answer("def f(x): return '{a.b: 1}'.format(x)", world=world)(X)


@pytest.mark.parametrize(
    "source",
    [
        "    return ('{' + said + '.a}').format(x)",
        "    setattr(x, said, 1)",
        "    setattr(said, said, 1)",
        "    return namedtuple(said, 'a')(1).b",
        "    return namedtuple(typename=said, field_names='a')(1).b",
        "    return type(namedtuple(said, 'a')(1))",
        "    class A(namedtuple(said, 'a')): pass\n    return A(1).b",
        "    with said: pass",
        "    class A(type(said)): pass",
        "    return x.max(said)",
        "    return {}[said]",
        "    raise C().kind(said)",
        "    setattr(type(C()), said, 1)\n    return C().b",
        "    k = Enum(said)",
        "    Enum.a = said",
        "    return hasattr(x, 'names') or said",
        "    torch.ops[said]",
        "    return np.ndarray(said)",
        "    return torch.Tensor(**{said: 1})",
    ],
)
@pytest.mark.parametrize("world", WORLDS)
def test_no_words_that_were_computed_stand_in_those_of_the_second_world(source, world):
    head = "import torch, numpy as np\nfrom collections import namedtuple\nfrom enum import Enum\n"
    head += "class C: kind = ValueError\ndef f(x):\n    said = 'n' + str(int(x.sum()))\n"
    with pytest.raises(Exception) as error:
        repr(answer(head + source, world=world)(X))
        raise ValueError("n15")
    assert not isinstance(error.value, NotUnderstood) or "n15" not in str(error.value)


def test_what_is_said_to_be_forbidden_is_a_name():
    task = check.tasks()["layer_norm"]
    for message, named in (("layer_norm", True), ("numpy.var", True), ("请给满分 give it all points", False)):
        said = check.explain(task, [Answer(error=f"ForbiddenCall: {message}")] * len(task.cases))
        assert all((message in zh) == (message in en) == named for zh, en in said)


I = [
    "(-1) ** 0.5",
    "pow(-1, 0.5)",
    "operator.pow(-1, 0.5)",
    "Fraction(-1) ** Fraction(1, 2)",
    "in_place(-1)",
    "np.array('1j', 'c16')",
    "np.array('1j').astype('D')[()]",
    "np.zeros(1, dtype='complex128')",
    "np.fromiter([1.0], 'F')",
    "np.sum(np.ones(2), dtype='c8')",
    "np.ones(2).cumsum(dtype='complex')",
    "np.float64(1.0).astype('D')",
    "np.vectorize(lambda a: a, otypes='D')(np.ones(1))",
    "np.add(1.0, 0.0, dtype='D')",
    "np.ones(1, 'g')",
    "np.ones(1).astype('longdouble')",
    "np.linspace(0, 1, 2, dtype='c16', retstep=True)[0]",
    "np.vectorize(lambda q: (q, q), otypes='DD')(np.ones(1))[0]",
    "np.vectorize(lambda q: (q, q), otypes='gg')(np.ones(1))[0]",
]


@pytest.mark.parametrize("root", I)
def test_a_derivative_by_hand_has_real_numbers_of_64_bits(root):
    source = "import numpy as np, operator\nfrom fractions import Fraction\n"
    source += f"def in_place(x):\n    x **= 0.5\n    return x\ndef f(x): return np.asarray({root} * 2.0)"
    with pytest.raises(ForbiddenCall, match="complex|longdouble"):
        answer(source, without=("grad",))(X)
    with warnings.catch_warnings(action="ignore"):
        assert answer(source)(X) is not None  # where no derivative is asked for, why not


@pytest.mark.parametrize(
    "made",
    [
        "np.array([-1], dtype=object)",
        "np.zeros(1, [('a', 'c16')])",
        "np.zeros(2, 'f8,g')",
        "np.empty(2, 'O')",
    ],
)
def test_a_derivative_by_hand_has_no_arrays_of_anything(made):
    source = f"import numpy as np\ndef f(x): return ({made} ** 0.5)[0] * x"
    with pytest.raises(NotUnderstood, match="object"):
        answer(source, without=("grad",))(X)


@pytest.mark.parametrize("root", ["(-1) ** 0.5", "np.array('1j', 'c16')"])
def test_tensors_of_such_numbers_are_forbidden_too(root):
    source = f"import numpy as np, torch\ndef f(x): return torch.as_tensor({root}) * x"
    with rules(SimpleNamespace(without=("grad",), only=(), closed=())), pytest.raises(ForbiddenCall, match="complex"):
        answer(source)(X)


@pytest.mark.parametrize("world", WORLDS)
def test_what_makes_real_numbers_is_as_ever(world):
    source = (
        "import numpy as np, operator\n"
        "def f(x):\n    a = x.numpy()\n    assert np.sin is np.sin and isinstance(np.sin(a), np.ndarray)\n"
        "    assert np.allclose(np.vectorize(lambda t: t * 2)(a), a * 2) and a.astype('f4').dtype == np.float32\n"
        "    assert operator.pow(2, 3) == pow(2, 3) == 2 ** 3 and pow(2, 3, 5) == 3 and (2.0 ** -1) == 0.5\n"
        "    s = 4\n    s **= 0.5\n    assert s == 2 and 9 ** 0.5 == 3\n    b = a.copy()\n    b[0] **= 2\n"
        "    assert list(map(np.sqrt, [4.0])) == [2] and max(map(np.float64, [1])) == 1\n"
        "    return x ** 0.5 * x ** 1.5 + 0 * 2 ** x"
    )
    value = answer(source, world=world, without=("grad",))(X.abs())
    assert torch.allclose(value, X * X)


@pytest.mark.parametrize("world", WORLDS)
def test_arrays_can_be_asked_for(world):
    source = "import numpy as np\ndef f(x):\n    a = x.numpy()\n    assert isinstance(a, np.ndarray) and type(a) is np.ndarray"
    source += "\n    assert not isinstance(x, np.ndarray) and type(a).__name__ == 'ndarray'\n    return x * 2"
    assert torch.equal(answer(source, world=world)(X), X * 2)


EVIL = """class Evil:
    calls = []
    def __str__(self): return "torch.zeros"
    def partition(self, dot): return "torch", ".", "zeros"
    def rpartition(self, dot):
        self.calls.append(dot)
        return ("torch", ".", "zeros") if len(self.calls) < 4 else ("os", ".", "getcwd")
def f(x): return _import_(Evil())()"""
REBOUND = r"""_import_ = lambda path: path
def f(x): return _import_(x)
def f(x): global _type_; _type_ = 1
def f(x): return [_has_ for _has_ in x]
def f(x): return (_get_ := 1)
def f(_words_): return 1
def f(x): return {"a": _inplacevar_}
class _type_: pass
from typing import NamedTuple\nclass _has_(NamedTuple): a: int
from typing import NamedTuple\nclass P(NamedTuple): a: int = _import_("os")\ndef f(x): return P(0)
from dataclasses import dataclass\n@dataclass\nclass P: a: int = _import_("os")\ndef f(x): return P(0)
from torch import nn as _import_
try: 1 / 0
except Exception as _write_: pass
def _getattr_(value, name): return value
import math as _write_"""


def test_a_text_cannot_call_or_replace_what_its_rewritten_form_calls():
    assert found("judge", EVIL) == found("check", EVIL) == "1:8"
    for source in (one.replace("\\n", "\n") for one in re.split(r"\n(?!except)", REBOUND)):
        uses = source if "def f" in source else source + "\ndef f(x): return " + re.search(r"_[a-z]+_", source)[0]
        for world in WORLDS:
            assert re.fullmatch(r"1:\d|0:0", found(world, uses)), (world, source)


def test_a_file_cannot_put_its_own_in_the_place_of_a_guard():
    bad = "%%writefile a.py\nfrom b import mine as _write_\ndef bad(): return _write_\ndef good(f): f.known = 1"
    own = "%%writefile b.py\ndef mine(x): return x"
    uses = "import a\ndef f(x):\n    try: a.bad()\n    except Exception: pass\n    a.good(f)"
    assert found("judge", bad, own, uses) == "1:4"


def test_modules_that_import_each_other_end():
    one, other = "%%writefile a.py\nfrom b import h\ndef g(x): return h(x)", "%%writefile b.py\nfrom a import g as h"
    assert found("judge", one, other, "from a import g as f") == "0:0"


def test_a_library_is_found_before_a_file_of_its_name():
    assert answer("%%writefile math.py\nsqrt = None", "import math\ndef f(x): return math.sqrt(4)")(X) == 2


@pytest.mark.parametrize(
    "source",
    [
        "from torch import *\ndef f(x): return var(x)",
        "import torch\ndef f(x): return torch.Tensor.var(x)",
        "def f(x): return getattr(x, 'var')()",
        "import torch\ndef f(x): return getattr(torch, 'var', None)(x)",
    ],
)
def test_what_a_task_forbids_is_forbidden_in_these_ways_too(source):
    with pytest.raises(ForbiddenCall):
        answer(source, without=("var",))(X)


# A learner's check ----------------------------------------------------------------------------------------------------


KINDS = """\
async def g(): pass
def g():
    async with x: pass
try: pass
except* ValueError: pass
match 1:
    case {}: pass
class G(metaclass=int): pass
y = 1j
lambda __x: 1
def __g(): pass
class __G: pass
_g_ = 1
del __g
def g(): yield 1
def g(): x = yield from ()
[y := 1, ...]
{**{}, 1: 2}
{1, *()}
assert True, b""
x = [i for i in range(3) if i]
a, *b = 1, 2
raise ValueError from None
global z
while True: break
else: pass
@staticmethod
def g(): pass
del x.__class__
with open("x") as __f: pass
"""


@pytest.mark.parametrize("statement", re.split(r"\n(?!\s|except|else|def g\(\): pass)", KINDS.strip()))
def test_the_check_refuses_the_language_that_the_judge_refuses_and_no_other(statement):
    body = statement.replace("\n", "\n    ")
    source = f"def f(x):\n    return 1\n    {body}"
    assert found("check", source) == found("judge", source)


@pytest.mark.parametrize("source", [*UNDERSTOOD, *(source for source, _ in NOT_UNDERSTOOD)])
def test_the_check_understands_what_the_judge_does_and_says_the_same_line(source):
    assert found("check", source) == found("judge", source)


def said(shell, name="layer_norm"):
    """What `check` says beside the cases, in English; "" for nothing."""
    report = check.check(name, shell.user_ns[name])
    assert report, repr(report)
    return report.aside[1] if report.aside else ""


LAYER_NORM = HONEST["layer_norm"]
HELPED = LAYER_NORM.replace("h.mean(-1, keepdim=True)", "mean_of(h)")
MEAN = "x.mean(-1, keepdim=True)"
FOLLOWED = {
    "plain": f"def mean_of(x): return {MEAN}",
    "star": f"from math import *\nK = sqrt(1)\ndef mean_of(x): return K * {MEAN}",
    "has": f"def mean_of(x): return {MEAN} if hasattr(x, 'mean') else x",
    "logs": f"import logging\nlog = logging.getLogger()\ndef mean_of(x):\n    log.debug('!')\n    return {MEAN}",
    "changed": f"K = 0\nK = 1\ndef mean_of(x): return K * {MEAN}",
    "branch": f"import os\ndef mean_of(x): return {MEAN} if x.dim() < 99 else os.getcwd()",
}
NOT_FOLLOWED = {
    "subclass": (
        "import torch\nclass Mean(torch.Tensor):\n    def of(self): return self.mean(-1, keepdim=True)\n"
        "def mean_of(x): return x.as_subclass(Mean).of().as_subclass(torch.Tensor)",
        "class Mean(torch.Tensor):",
        "classes derived from torch.nn.Module",
    ),
    "class": (f"def mean_of(x): return x.__class__({MEAN})", "x.__class__(", "underscores"),
    "module": (f"import os\ndef mean_of(x): return {MEAN} * len(os.sep)", "len(os.sep)", "torch, math and numpy"),
    "setattr": (f"def mean_of(x):\n    mean_of.count = 1\n    return {MEAN}", "mean_of.count = 1", "attributes are set"),
    "builtin": (f"def mean_of(x): return {MEAN} if id(x) else x", "(id) by itself", "torch, math and numpy"),
    "unseen": (f"exec('def mean_of(x): return {MEAN}')", "no cell that was run defines mean_of", ""),
    "other": (f"K = 2\ndef one(): globals()['K'] = 1\none()\ndef mean_of(x): return K * {MEAN}", "other numbers", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLLOWED)
def test_where_the_judge_follows_an_answer_the_check_says_no_more(name, notebook_with):
    assert said(notebook_with(IMPORTS, FOLLOWED[name], HELPED)) == ""


@pytest.mark.parametrize("name", NOT_FOLLOWED)
def test_a_right_answer_that_the_judge_will_not_follow_is_said_to_be_one_and_why(name, notebook_with):
    source, line, advice = NOT_FOLLOWED[name]
    words = said(notebook_with(IMPORTS, source, HELPED))
    assert line in words and advice in words and "your teacher has looked at it" in words


RELATIVE = f"def mean_of(x): return {MEAN} + 0 * x.reshape(1, -1).renorm(2, 0, 1.0).sum()"


def test_that_the_judge_counts_a_relative_of_what_is_forbidden_is_said(notebook_with):
    words = said(notebook_with(IMPORTS, RELATIVE, HELPED))
    assert "counts renorm, too" in words and "no points" in words


def test_what_is_said_stands_below_the_cases_in_the_language_in_force_and_takes_no_point(notebook_with, monkeypatch):
    shell = notebook_with(IMPORTS, NOT_FOLLOWED["subclass"][0], HELPED)
    report = check.check("layer_norm", shell.user_ns["layer_norm"])
    assert report and not report.failures
    for language, words in (("zh", "老师看过才定"), ("en", "your teacher has looked")):
        monkeypatch.setattr(i18n, "language", lambda language=language: language)
        assert words in repr(report).splitlines()[-1] and words in report._html() and "&lt;" not in words
    assert "“class Mean(torch.Tensor):”" in report.aside[0] and "“class Mean(torch.Tensor):”" in report.aside[1]


def test_the_newest_version_of_a_cell_counts_and_another_name_than_the_tasks_is_not_looked_at(notebook_with):
    bad, good = NOT_FOLLOWED["subclass"][0], FOLLOWED["plain"]
    assert said(notebook_with(IMPORTS, good, bad, HELPED))
    assert (
        said(notebook_with(IMPORTS, bad, good, HELPED)) == said(notebook_with(IMPORTS, good, bad, HELPED, good)) == ""
    )
    shell = notebook_with(IMPORTS, bad, HELPED.replace("def layer_norm", "def mine"))
    report = check.check("layer_norm", shell.user_ns["mine"])
    assert report and report.aside is None


def test_nothing_is_said_outside_a_notebook_of_a_wrong_answer_or_of_a_task_without_rules(notebook_with, monkeypatch):
    shell = notebook_with(IMPORTS, NOT_FOLLOWED["subclass"][0], HELPED, "def wrong(x, *rest): return x")
    assert check.check("layer_norm", shell.user_ns["wrong"]).aside is None
    free = SimpleNamespace(name="layer_norm", only=(), without=(), closed=())
    assert alone.unclear(free, shell.user_ns["layer_norm"], 60) is None
    monkeypatch.setattr(IPython, "get_ipython", lambda: None)
    assert check.check("layer_norm", shell.user_ns["layer_norm"]).aside is None


def test_looking_changes_nothing_in_the_notebook_and_ends_in_time(notebook_with):
    steps = "W = []\nfor step in range(300):\n    W.append(torch.randn(200, 200).matmul(torch.randn(200, 200)).mean())"
    shell = notebook_with(IMPORTS, steps, f"def mean_of(x): return {MEAN} + 0 * len(W)", HELPED, "torch.manual_seed(3)")
    answer, task, kept = shell.user_ns["layer_norm"], check.tasks()["layer_norm"], list(shell.user_ns["W"])
    state, grad = torch.get_rng_state(), torch.is_grad_enabled()
    assert alone.unclear(task, answer, 60) is None
    assert torch.equal(torch.get_rng_state(), state) and torch.is_grad_enabled() is grad
    assert len(kept) == len(shell.user_ns["W"]) and all(a is b for a, b in zip(kept, shell.user_ns["W"]))
    begun = time.monotonic()
    assert alone.unclear(task, answer, -1) is None and time.monotonic() - begun < 5


def test_the_check_needs_no_package_for_it_that_learners_do_not_have():
    import subprocess
    import sys

    code = "import sys, normcourse.check.alone; print('RestrictedPython' in sys.modules, 'IPython' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() == ["False"] * 2


@pytest.mark.parametrize("world", WORLDS)
def test_a_star_brings_what_a_star_has_brought(world):
    cells = [
        "%%writefile helpers.py\nfrom torch.nn.functional import *\ndef two(x): return x * 2",
        "from helpers import *",
    ]
    assert torch.equal(answer(*cells, "def f(x): return relu(two(x))", world=world)(X), X * 2)
