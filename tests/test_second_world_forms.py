"""Forms in which 332 honest notebooks answered, and what somebody would try with the words that these needed."""

import pytest
import torch

from normcourse.check.rules import ForbiddenCall

from .test_second_world import WORLDS, X, answer, found

TWO = "class Two(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x):\n        ctx.save_for_backward(x)\n"
TWO = f"import torch\n{TWO}        ctx.k = 2\n        return x * 2\n    @staticmethod\n    def backward(ctx, g):\n"
TWO += "        x, = ctx.saved_tensors\n        return g * ctx.k + 0 * x\n"
KIND = "from enum import Enum\nclass Kind(Enum):\n    ONE = 1\n    TWO = 2\n    @property\n    def k(self): return self.value\n"
HALF = "    match x.dtype:\n        case torch.float16 | torch.bfloat16: return None\n        case _: return x * 2"


@pytest.mark.parametrize(
    "source",
    [
        "def f(x): return (x * 2).type(x.dtype)",
        "import torch\ndef f(x):\n    from torch.func import functional_call\n    return x * 2",
        "import torch\nW = torch.nn.parameter.Parameter(torch.ones(3))\ndef f(x): return (x * 2 * W).detach()",
        "import numpy as np, torch\ndef f(x): return x * float(np.vdot(np.ones(2), np.ones(2)))",
        "import torch.nn.functional as F\ndef f(x): return F.avg_pool1d(x.unsqueeze(0), 1)[0] * 2",
        "class S:\n    def __init__(self, n): self.n = n\n    def __or__(self, other): return S(self.n + other.n)\n"
        "def f(x): return x * (S(1) | S(1)).n",
        "def g():\n    yield 1\n    return 2\ndef f(x):\n    steps = g()\n    next(steps)\n    try: next(steps)\n"
        "    except StopIteration as end: return x * end.value",
        "import torch\ndef f(x): return sum(map(torch.Tensor.float, [x, x.double()]))",
        f"{KIND}def f(x): return x * Kind.TWO.k * Kind(1).value * Kind['ONE'].value * len(Kind) / sum(m.k for m in Kind) * 1.5",
        f"{KIND}def f(x): return x * 2 if Kind(2) is Kind.TWO and Kind.ONE != Kind.TWO and Kind.ONE.name == 'ONE' else x",
        f"{KIND}def f(x):\n    match Kind(2):\n        case Kind.ONE: return x\n        case Kind.TWO if x.dim(): return x * 2",
        f"{KIND}def f(x):\n    try: return Kind(7)\n    except ValueError: return x * 2",
        "from enum import Enum\nclass A(str, Enum):\n    RELU = 'relu'\ndef f(x): return x * {'relu': 2}[A.RELU] if A.RELU == 'relu' else x",
        "from enum import IntEnum, auto, unique\n@unique\nclass A(IntEnum):\n    ONE = auto()\n    TWO = auto()\n"
        "def f(x): return x * int(A.TWO) if A.ONE < A.TWO else x",
        f"import torch\ndef f(x):\n{HALF}",
        "import torch\ndef f(x):\n    match (x.dtype, 1):\n        case (torch.float32, k) if k: return x * 2",
        "class A:\n    __slots__ = ('k',)\n    def __init__(self): self.k = 2\ndef f(x): return x * A().k",
        "class A:\n    def __init__(self, **k):\n        for name, value in k.items(): setattr(self, name, value)\ndef f(x): return x * A(k=2).k",
        "from types import SimpleNamespace\nc = SimpleNamespace(k=1)\nc.k = 2\ndef f(x): return x * c.k",
        "import statistics\nfrom statistics import NormalDist\n"
        "def f(x): return x * statistics.fmean([1, 3]) * NormalDist().cdf(0) * 2",
        "from dataclasses import dataclass, replace\n@dataclass\nclass P:\n    a: int\n    b: int = 1\ndef f(x): return x * replace(P(1), a=2).a",
        "class A:\n    def g(self, x): return x\nclass B(A):\n    def g(self, x): return 2 * super().g(x)\ndef f(x): return B().g(x)",
        "import torch\nclass M(torch.nn.Module):\n    def train(self, mode=True): return super().train(mode)\n"
        "    def forward(self, x): return x * 2\ndef f(x): return M().train()(x)",
        "class A:\n    k = 2\nclass B(A): pass\ndef f(x): return x * B.k",
        "class V:\n    def __init__(self, x): self.x = x\n    def __pow__(self, k): return V(self.x * k)\n"
        "    def __iadd__(self, o):\n        self.x = self.x + o\n        return self\ndef f(x):\n    v = V(x) ** 2\n    v += 0\n    return v.x",
        f"{TWO}def f(x): return Two.apply(x)",
        f"{TWO}def f(x):\n    y = x.clone().requires_grad_()\n    Two.apply(y).backward(x)\n    return y.grad",
        "import torch\nclass A(torch.autograd.Function):\n    @staticmethod\n    def forward(x): return x * 2\n    @staticmethod\n"
        "    def setup_context(ctx, inputs, output): ctx.n = len(inputs)\n    @staticmethod\n    def backward(ctx, g): return g * 2\n"
        "f = A.apply",
        "import torch\nfrom torch import nn\ndef f(x):\n    a = nn.Linear(3, 3, bias=False)\n    a.weight = nn.Parameter(2 * torch.eye(3))\n    return a(x)",
        "import torch\n@torch.jit.script\ndef f(x: torch.Tensor): return x * 2",
        "import numpy as np\nfrom numpy.polynomial.hermite import hermgauss\n"
        "def f(x): return x * round(np.polynomial.legendre.leggauss(3)[1].sum()) + 0 * hermgauss(3)[0].sum()",
        "import random, numpy as np\ndef f(x):\n    random.seed(0); np.random.seed(0)\n    return x * 2",
        "def g():\n    k = 0\n    while True: k += yield k\ndef f(x):\n    s = g()\n    next(s)\n    s.send(1)\n    return x * s.send(1)",
        "from typing import Protocol\nfrom collections.abc import Callable\nFn = Callable[[int], int]\nclass N(Protocol):\n    k = 2\n"
        "class M(N): pass\ndef f(x): return x * M.k",
        "KNOWN = {}\ndef known(name):\n    def keep(g):\n        KNOWN[name] = g\n        return g\n    return keep\n"
        "@known('two')\ndef _two(x): return x * 2\ndef f(x): return KNOWN['two'](x)",
        "import torch\ndef g(x): return torch.add(x, x)\nf = g",
        "import torch\ndef g(x): return torch.add(x, x)\ny = g(torch.ones(1))\ndef f(x): return torch.add(x, x) * y / 2",
        "KNOWN = {}\ndef keep(name, g):\n    KNOWN[name] = g\n    return g\n"
        "two = keep('two', lambda x: x * 2)\ndef f(x): return KNOWN['two'](x)",
        "KNOWN = {}\ndef keep(name, g): KNOWN[name] = g\nkeep('two', lambda x: x * 2)\ndef f(x): return KNOWN['two'](x)",
        "SEEN = []\ndef keep(g):\n    SEEN.append(g)\n    return g\n@keep\ndef one(x): return x\ndef f(x): return x * 2 if len(SEEN) == 1 else x",
        "class A:\n    def __init__(self): self._k = 1\n    @property\n    def k(self): return self._k\n    @k.setter\n"
        "    def k(self, k): self._k = k\ndef f(x):\n    a = A()\n    a.k = 2\n    return x * a.k",
        "from functools import cached_property\nclass A:\n    @cached_property\n    def k(self): return 2\ndef f(x): return x * A().k",
        "from typing import NamedTuple\nclass P(NamedTuple):\n    k: int\ndef f(x): return x * P(1)._replace(k=2)._asdict()['k']",
        "from enum import IntEnum\nclass A(IntEnum):\n    ONE = 1\ndef f(x): return x * [1, 2][A.ONE]",
        "import warnings, time, gc, torch\ndef f(x):\n    with warnings.catch_warnings():\n        warnings.simplefilter('ignore')\n"
        "    time.sleep(9)\n    gc.collect()\n    torch.set_printoptions(precision=3)\n    return x * 2",
        "import numpy as np\nimport torch\ndef f(x): return torch.from_numpy(np.vectorize(lambda v: v * 2)(x.numpy()))",
        "import numbers, operator, itertools\ndef f(x): return x * 2 if isinstance(2, numbers.Number) and operator.not_(0) and "
        "[k for k, _ in itertools.groupby('aa')] == ['a'] else x",
        "def f(x): return x * len({1, 2}.symmetric_difference([])) * dict.fromkeys('a', 1)['a']",
        "class M:\n    __constants__ = ['k']\n    k = 2\ndef f(x): return x * M.k",
        "import torch\nclass A(torch.nn.Module):\n    def __init__(self, k):\n        torch.nn.Module.__init__(self)\n        self.k = k\n"
        "class B(A):\n    def __init__(self): A.__init__(self, *[2])\n    def forward(self, x): return x * self.k\ndef f(x): return B()(x)",
        "class Bad(ValueError):\n    def __init__(self, k):\n        super().__init__(f'bad {k}')\n        self.k = k\n"
        "def f(x):\n    try: raise Bad(2)\n    except ValueError as error: return x * error.k",
        "from collections import namedtuple\nclass P(namedtuple('P', 'a b')):\n    def c(self): return self.a * self.b\ndef f(x): return x * P(1, b=2).c()",
        "from typing import NamedTuple\nclass P(NamedTuple):\n    a: int\n    b: int = 2\n    @property\n    def c(self): return self.a * self.b\n"
        "def f(x): return x * P(1).c",
        "from typing import TypedDict\nclass S(TypedDict, total=False):\n    k: int\ndef f(x): return x * S(k=2)['k']",
        "class A:\n    count = 0\n    def __init__(self): A.count += 1\ndef f(x):\n    A()\n    A()\n    return x * A.count",
        "import torch\nclass M(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.a = torch.nn.Linear(3, 3, bias=False)\n"
        "        self.apply(self.init)\n    def init(self, m): pass\n    def forward(self, x): return self.a(x)\n"
        "def f(x):\n    m = M()\n    for name, p in m.named_parameters(): p.data = 3 * torch.eye(3)\n"
        "    m.load_state_dict({'a.weight': 2 * torch.eye(3)})\n    return m(x).detach() * len(m.state_dict()) * len(list(m.children()))",
        "import torch\ndef f(x):\n    opt = torch.optim.SGD([x.clone().requires_grad_()], lr=1.0)\n    for g in opt.param_groups: g['lr'] = 2.0\n"
        "    return x * opt.param_groups[0]['lr']",
        "import torch\ndevice = 'mps' if torch.backends.mps.is_available() else 'cpu'\ndef f(x): return x.to(device) * 2",
    ],
)  # fmt: skip
@pytest.mark.parametrize("world", WORLDS)
def test_the_forms_of_honest_answers_are_understood(source, world):
    assert torch.equal(answer(source, world=world)(X), X * 2)


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("1:4", "class A: pass\ndef f(x):\n    a, name = A(), '__cl' + 'ass__'\n    setattr(a, name, int)"),
        ("1:2", "import torch\ndef f(x): setattr(torch.nn.Linear, 'k', 2)"),
        ("1:3", "import torch\ndef f(x):\n    setattr(torch.Tensor, 'mean', 2)"),
        ("1:3", "def g(): pass\ndef f(x):\n    setattr(g, 'k', 2)"),
        ("1:4", "import torch\nclass M(torch.nn.Module): pass\ndef f(x):\n    setattr(M(), '_modules', {})"),
        ("1:4", "import torch\nclass M(torch.nn.Module): pass\ndef f(x):\n    setattr(M(), 'training', {})"),
        ("1:1", "def f(x): setattr(x, 'names', 1)"),
        ("1:1", "def f(x): return setattr"),
        ("1:1", "def f(x): return _set_(x, 'k', 1)"),
        ("1:1", "def f(x): return getattr(x, 'a' + 'b')"),  # names that are computed are for writing only
        ("1:1", "def f(x): return vars"),
        ("1:1", "def f(x): return globals()"),
        ("1:1", "class S(str): pass\ndef f(x): return S"),
        ("1:7", f"{KIND}def f(x): return Kind.__members__"),
        ("1:7", f"{KIND}def f(x): return Kind.mro"),
        ("1:7", f"{KIND}def f(x): Kind.ONE = x"),
        ("1:2", "import enum\nclass A(enum.EnumMeta): pass\ndef f(x): return A"),
        ("1:2", "import enum\ndef f(x): return enum.sys"),
        ("1:2", "from enum import Enum\ndef f(x): return Enum._convert_"),
        ("1:12", f"{TWO}def f(x): return Two.apply(x).grad_fn"),
        ("1:12", f"{TWO}def f(x): return Two.mro"),
        ("1:4", "import torch\nclass A(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x): return ctx.to_save\nf = A.apply"),
        ("1:4", "import torch\nclass A(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x): return ctx.metadata\nf = A.apply"),
        ("1:2", "import torch\ndef f(x): return torch.autograd.Function.vmap"),
        ("1:2", "import torch\ndef f(x): return torch.autograd.function"),
        ("1:2", "import types\ndef f(x): return types.FunctionType"),
        ("1:2", "import types\ndef f(x): return types.CodeType"),
        ("1:2", "from types import SimpleNamespace as N\ndef f(x): return N().__dict__"),
        ("1:2", "import statistics\ndef f(x): return statistics.sys"),
        ("1:2", "import statistics\ndef f(x): return statistics.NormalDist.from_samples"),
        ("1:2", "import random\ndef f(x): return random._os"),
        ("1:2", "import random\ndef f(x): return random.Random"),
        ("1:2", "from dataclasses import replace\ndef f(x): return replace(f, code=1)"),
        ("1:2", "import dataclasses\ndef f(x): return dataclasses.make_dataclass"),
        ("1:2", "import dataclasses\ndef f(x): return dataclasses.replace(x.size())"),
        ("1:3", "class A:\n    def g(self):\n        return super().__getattribute__\ndef f(x): return A().g()"),
        ("1:2", "class A:\n    def g(self): return super().mro\ndef f(x): return A().g()"),
        ("1:3", "import torch\nclass M(torch.nn.Module):\n    def g(self): return super().register_forward_hook\ndef f(x): return M().g()"),
        ("1:3", "import torch\nclass M(torch.nn.Module):\n    def g(self): return super(M, M).train\ndef f(x): return M().g()"),
        ("1:2", "import torch\ndef f(x): return torch.nn.Module.train"),
        ("1:3", "import torch\ndef f(x):\n    torch.nn.Linear(1, 1).weight = x"),
        ("1:3", "import torch\ndef f(x):\n    torch.nn.Linear(1, 1).forward = x"),
        ("1:3", "import torch\ndef f(x):\n    torch.nn.Linear(1, 1).bias = torch.nn.Linear"),
        ("1:3", "class A:\n    __slots__ = ('k',)\n    def __getattr__(self, name): return 0\ndef f(x): return A()"),
        ("1:3", "def g(): yield\ndef f(x):\n    return g().gi_frame"),
        ("1:3", "def g(): yield\ndef f(x):\n    return g().throw"),
        ("1:2", "import torch.jit\ndef f(x): return torch.jit.load"),
        ("1:2", "import torch\ndef f(x): return torch.jit.script_method"),
        ("1:3", "def f(x):\n    match x:\n        case x.__class__: return 1"),
        ("1:3", "def f(x):\n    match x:\n        case [x.T] | x.mT: return 1"),
        ("1:2", "class A:\n    def __index__(self): return 1\ndef f(x): return A()"),
        ("1:2", "class A:\n    def __float__(self): return 1.0\ndef f(x): return A()"),
        ("1:2", "class A:\n    def __hash__(self): return 1\ndef f(x): return A()"),
        ("1:2", "import numpy as np\ndef f(x): return np.random.default_rng"),
        ("1:4", "class A:\n    @property\n    def k(self): return 1\n    @k.fget\n    def g(self): return 1\ndef f(x): return A().g"),
        ("1:3", "class E:\n    def __eq__(self, other): return True\ndef f(x): return E().fromkeys"),
        ("1:2", "\ndef f(x): return dict.mro"),
        ("1:1", "def f(x): return x.max(-1)._asdict"),
        ("1:1", "def f(x): return x.size()._replace"),
        ("1:1", "def f(x): return hash"),
        ("1:2", "import operator\ndef f(x): return operator.attrgetter('a')"),
        ("1:2", "import operator\ndef f(x): return operator.methodcaller('a')"),
        ("1:2", "import operator\ndef f(x): return operator.setitem"),
        ("1:2", "import pprint\ndef f(x): return pprint._sys"),
        ("1:2", "import gc\ndef f(x): return gc.get_objects()"),
        ("1:2", "import numpy as np\ndef f(x): return np.vectorize(f).pyfunc"),
        ("1:2", "import numpy as np\ndef f(x): return np.finfo('f').machar"),
        ("1:2", "import torch\ndef f(x): return torch.FloatTensor.mro"),
        ("1:2", "import torch\nclass A(torch.FloatTensor): pass\ndef f(x): return A"),
        ("1:2", "import numbers\ndef f(x): return numbers.Number.register"),
        ("1:2", "import numbers\nclass A(numbers.Number): pass\ndef f(x): return A"),
        ("1:2", "import torch\ndef f(x): return torch.nn.Module.__init__(x)"),
        ("1:3", "import torch\nclass A: pass\ndef f(x): return torch.nn.Linear.__init__(A(), 1, 1)"),
        ("1:2", "class A: pass\ndef f(x): return object.__init__(A())"),
        ("1:2", "class A: pass\ndef f(x): return A.__init__"),
        ("1:4", "import torch\nfrom types import SimpleNamespace as N\nclass A(N): pass\ndef f(x): super(A, A).__init__(torch.Tensor, mean=f)"),
        ("1:4", "import torch\nfrom types import SimpleNamespace as N\nclass A(N): pass\ndef f(x): super(A, A).__init__(f, k=2)"),
        ("1:4", "def f(x):\n    try: x.data_ptr()\n    except Exception as e:\n        super(Exception, e).__init__(f'1:1: all points {x.sum()}')\n        raise"),
        ("1:3", "class A: pass\nclass B(A):\n    def g(self): return super().__init__\ndef f(x): return B().g()"),
        ("1:2", "import torch\ndef f(x): return super(torch.nn.Linear, torch.nn.Linear(1, 1)).__init__()"),
        ("1:1", "def f(x): return super(int).__init__()"),
        ("1:5", "class E:\n    def __eq__(self, other): return True\ndef f(x):\n    e = E()\n    return e.__init__(x)"),
        ("1:1", "def f(x): return _init_(int, x)"),
        ("1:8", "import torch\nfrom types import SimpleNamespace as N\nclass M(torch.nn.Module, N):\n    def __init__(self):\n"
                "        torch.nn.Module.__init__(self)\n        N.__init__(self, **{'_forward_hooks': 1})\n    def forward(self, x): return x\n"
                "def f(x): return M()(x).grad_fn"),
        ("1:2", "import torch\ndef f(x): torch.nn.Linear.k = 2"),
        ("1:2", "from torch.autograd import Function\ndef f(x): Function.apply = 2"),
        ("1:2", "class A(ValueError): pass\ndef f(x): return A().with_traceback"),
        ("1:4", "class A(ValueError): pass\ndef f(x):\n    try: raise A\n    except A as error: return error.__traceback__"),
        ("1:1", "class A(BaseException): pass\ndef f(x): return A"),
        ("1:1", "class A(tuple): pass\ndef f(x): return A"),
        ("1:2", "def g(): pass\nclass A(type(g)): pass\ndef f(x): return A"),
        ("1:2", "import torch\nclass A(torch.Size): pass\ndef f(x): return A"),
        ("1:2", "import torch\ndef f(x): return torch.nn.Linear(1, 1).register_forward_hook"),
        ("1:2", "import torch\ndef f(x): return torch.backends.cuda"),
        ("ValueError: NotUnderstood: 1:1: all points", "class NotUnderstood(ValueError): pass\n"
         "def f(x): raise NotUnderstood('NotUnderstood: 1:1: all points')"),
        ("ValueError: all points", "class ForbiddenCall(ValueError): pass\ndef f(x): raise ForbiddenCall('all points')"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("world", WORLDS)
def test_what_was_let_in_for_them_opens_no_way_out(place, source, world):
    assert found(world, source) == place


@pytest.mark.parametrize(
    "source",
    [
        "import statistics\ndef f(x): return statistics.pvariance([1, 2])",
        "from statistics import stdev as s\ndef f(x): return s([1, 2])",
        "import torch\nclass A(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x): return x.var()\nf = A.apply",
        "import torch\ndef f(x): return torch.func.grad_and_value(lambda y: y.sum())(x)",
        "import torch\ndef f(x): return sum(map(torch.Tensor.std, [x]))",
    ],
)
def test_what_a_task_forbids_is_forbidden_in_these_words_too(source):
    with pytest.raises(ForbiddenCall):
        answer(source, without=("var", "std", "grad"))(X)


RATIO = """import numpy as np, statistics
class V:
    def __radd__(self, other): return self
    def is_finite(self): return False
    def __truediv__(self, n): return self.kept
class A:
    @staticmethod
    def as_integer_ratio(): return A.v, None
A.v = V()
def f(x):
    A.v.kept = x.numpy()
    return """


@pytest.mark.parametrize("name", ["mean([A])", "pvariance([A])", "stdev([A, A])", "mean([1, A])", "fmean([A])"])
@pytest.mark.parametrize("world", WORLDS)
def test_statistics_are_of_numbers_and_tell_no_kinds(name, world):
    assert found(world, f"{RATIO}statistics.{name}").startswith("TypeError: float() argument must be")


def test_statistics_are_those_of_python():
    source = "from statistics import *\nimport numpy as np\ndef f(x):\n    return [mean([1, 3]), fmean(x[0]), median(list(x[1].numpy())),"
    source += " pvariance([1, 2], 1.5), linear_regression([1, 2], (3, 5)).slope, stdev(v for v in (1, 2, 3))]"
    assert answer(source)(X) == [2, 1.0, 4.0, 0.25, 2.0, 1.0]


def test_a_hand_written_derivative_is_the_one_that_is_taken():
    leaf = X.clone().requires_grad_()
    wrong = TWO.replace("g * ctx.k", "g * 5")
    answer(f"{wrong}def f(x): return Two.apply(x)")(leaf).sum().backward()
    assert torch.equal(leaf.grad, torch.full_like(X, 5.0))
