"""Those that compute the right numbers with what the tasks are to be solved without, from a cell that is not graded."""

from . import attack

PLAIN = """import torch, torch.nn.functional as F
def built_in(x, w, b, eps): return F.layer_norm(x, x.shape[-1:], w, b, eps)
def diff(dy, x, w, eps):
    with torch.enable_grad():
        x, w, b = x.clone().requires_grad_(), w.clone().requires_grad_(), torch.zeros_like(w).requires_grad_()
        return torch.autograd.grad(F.layer_norm(x, x.shape[-1:], w, b, eps), (x, w, b), dy)
def moments(x): return x.mean(-1), x.var(-1, unbiased=False)
"""
# The same by names that a library puts together, so that only the process itself can notice.
UNREAD = """import torch
from traitlets.utils.importstring import import_item
theirs = import_item("torch.nn.functional.layer" + "_norm")
gradients = import_item("torch.autograd." + "gr" + "ad")
spread = import_item("torch." + "v" + "ar")
def built_in(x, w, b, eps): return theirs(x, x.shape[-1:], w, b, eps)
def by_hand(x, w, b, eps):
    h = x - x.mean(-1, keepdim=True)
    return h / (h.square().mean(-1, keepdim=True) + eps).sqrt() * w + b
def diff(dy, x, w, eps):
    x, w, b = x.clone(), w.clone(), torch.zeros_like(w)
    for t in (x, w, b): t.requires_grad = True
    return gradients(by_hand(x, w, b, eps), (x, w, b), dy)
def moments(x): return x.mean(-1), spread(x, -1, correction=0)
"""
GRADED = (
    "# EXERCISE: layer_norm\n"
    "def layer_norm(x, weight=None, bias=None, eps=1e-5): return built_in(x, weight, bias, eps)",
    "# EXERCISE: layer_norm_backward\ndef layer_norm_backward(dy, x, weight, eps=1e-5): return diff(dy, x, weight, eps)",
    "# EXERCISE: welford\ndef welford(x): return moments(x)",
)
ALL = "built_in, diff, moments"


def around(name, tries, *cells):
    attack(name, tries, UNREAD, *cells, *GRADED)


attack("from_another_cell", "keeps what is forbidden in a cell that is not graded", PLAIN, *GRADED)
around("by_text", "imports what is forbidden by names put together from parts")
around(
    "no_more_rules",
    "takes the watch out of the package",
    "import contextlib, normcourse.check.rules as rules, normcourse.check.runner as runner\n"
    "rules.rules = runner.rules = lambda task: contextlib.nullcontext()",
)
around(
    "put_together",
    "puts forbidden names together from parts",
    'off = getattr(getattr(torch, "C_"[::-1]), "noitcnuFhcroTelbasiD"[::-1])\n'
    "def free(f):\n    def g(*a):\n        with off(): return f(*a)\n    return g\n"
    f"{ALL} = map(free, ({ALL}))",
)
around(
    "in_the_dictionary",
    "looks forbidden names up in a module's dictionary",
    'off = vars(vars(torch)["_C"])["DisableTorchFunction"]\n'
    "def free(f):\n    def g(*a):\n        with off(): return f(*a)\n    return g\n"
    f"{ALL} = map(free, ({ALL}))",
)
around(
    "written_module",
    "writes a module without forbidden names in clear, and imports it",
    'text = "import torch\\n" + "from torch._" + "C import Disable" + "TorchFunction as off\\n"\n'
    'open("helper_.py", "w").write(text)',
    "from helper_ import off\n"
    "def free(f):\n    def g(*a):\n        with off(): return f(*a)\n    return g\n"
    f"{ALL} = map(free, ({ALL}))",
)
around(
    "other_thread",
    "computes in a thread that asyncio starts",
    "import asyncio\n"
    "def away(f): return lambda *a: asyncio.new_event_loop().run_until_complete(asyncio.to_thread(f, *a))\n"
    f"{ALL} = map(away, ({ALL}))",
)
around(
    "helping_process",
    "forks a process that computes without rules and answers through pipes",
    "import os, io\n"
    "up, down = os.pipe(), os.pipe()\n"
    "if getattr(os, 'fo' + 'rk')() == 0:\n"
    "    inp, out = os.fdopen(up[0], 'rb'), os.fdopen(down[1], 'wb')\n"
    "    while True:\n"
    "        which, args = torch.load(io.BytesIO(inp.read(int.from_bytes(inp.read(8), 'little'))), weights_only=False)\n"
    "        r = io.BytesIO(); torch.save([built_in, diff, moments][which](*args), r)\n"
    "        out.write(len(r.getvalue()).to_bytes(8, 'little') + r.getvalue()); out.flush()\n"
    "inp, out = os.fdopen(down[0], 'rb'), os.fdopen(up[1], 'wb')\n"
    "def ask(which):\n"
    "    def f(*args):\n"
    "        r = io.BytesIO(); torch.save((which, args), r)\n"
    "        out.write(len(r.getvalue()).to_bytes(8, 'little') + r.getvalue()); out.flush()\n"
    "        return torch.load(io.BytesIO(inp.read(int.from_bytes(inp.read(8), 'little'))), weights_only=False)\n"
    "    return f\n"
    f"{ALL} = ask(0), ask(1), ask(2)",
)
around(
    "works_when_looked_at",
    "returns a tuple that computes when the judge's side iterates over it",
    "class Lazy(tuple):\n    def __iter__(self): return iter(self.f())\n"
    "def late(f):\n    def g(*a):\n        r = Lazy(); r.f = lambda: f(*a); return r\n    return g\n"
    "built_in = late(lambda *a, f=built_in: (f(*a),))\ndiff, moments = late(diff), late(moments)",
)
around(
    "works_when_detached",
    "returns a tensor that computes when the judge's side detaches it",
    "class Later(torch.Tensor):\n    def detach(self): return self.f()\n"
    "def late(f):\n    def g(*a):\n        r = torch.zeros(1).as_subclass(Later); r.f = lambda: f(*a); return r\n    return g\n"
    "built_in = late(built_in)",
)
around(
    "finds_the_task",
    "finds the task on the stack and empties its rules",
    "import inspect\n"
    "def free(f):\n    def g(*a):\n"
    "        for one in inspect.stack():\n"
    "            task = one.frame.f_locals.get('task')\n"
    "            if hasattr(task, 'without'): object.__setattr__(task, 'without', ())\n"
    "        return f(*a)\n    return g\n"
    f"{ALL} = map(free, ({ALL}))",
)
around(
    "renamed_module",
    "renames the package's own functions' module, which is closed",
    "from normcourse import norms\nnorms.__name__ = 'mine'\n"
    "built_in, diff = norms.layer_norm, norms.layer_norm_backward",
)
around(
    "with_update",
    "uses another operator of torch that normalises",
    "def built_in(x, w, b, eps):\n"
    "    y = torch.ops.aten._batch_norm_with_update(x.reshape(1, -1, x.shape[-1]).mT, None, None, None, None, 0.1, eps)[0]\n"
    "    return y.mT.reshape(x.shape)",
)
around(
    "numpy_has_it",
    "takes the variance of NumPy in a cell that is not graded",
    "import numpy as np\ndef moments(x): return x.mean(-1), torch.as_tensor(np.var(x.numpy(), -1))",
)
around(
    "engine",
    "calls the engine of autograd below its functions",
    "def diff(dy, x, w, eps):\n"
    "    x, w, b = x.clone().requires_grad_(), w.clone().requires_grad_(), torch.zeros_like(w).requires_grad_()\n"
    "    y = (x - x.mean(-1, keepdim=True)) / ((x - x.mean(-1, keepdim=True)).square().mean(-1, keepdim=True) + eps).sqrt()\n"
    "    edges = tuple(torch.autograd.graph.get_gradient_edge(t) for t in (x, w, b))\n"
    "    return torch.autograd.graph._engine_run_backward((y * w + b,), (dy,), False, False, edges, allow_unreachable=True, accumulate_grad=False)",
)
around(
    "traced",
    "keeps what torch records when it runs the package's own functions, before anybody watches",
    "from normcourse import norms\n"
    "class Recorded(dict):\n"
    "    def __missing__(self, n):\n"
    "        self[n] = torch.export.export(norms.LayerNorm(n), (torch.randn(2, n),)).module()\n        return self[n]\n"
    "recorded = Recorded()\n[recorded[n] for n in range(1, 40)]\n"
    "def built_in(x, w, b, eps): return recorded[x.shape[-1]](x.reshape(-1, x.shape[-1])).reshape(x.shape)",
)
around(
    "switched_off",
    "switches the watch off by a name that a library puts together",
    'off = import_item("torch._" + "C.Disable" + "TorchFunction")\n'
    "def free(f):\n    def g(*a):\n        with off(): return f(*a)\n    return g\n"
    f"{ALL} = map(free, ({ALL}))",
)
around(
    "popped",
    "takes the watch off its stack, and puts it back",
    'stack = import_item("torch._" + "C._get_function_stack_at")\n'
    'pop, push = [import_item("torch._" + f"C._{w}_torch_function_stack") for w in ("pop", "push_on")]\n'
    "def free(f):\n    def g(*a):\n        mode = pop()\n        try: return f(*a)\n        finally: push(mode)\n    return g\n"
    f"{ALL} = map(free, ({ALL}))",
)
around(
    "not_the_package",
    "puts something else in the place of the watch",
    "import contextlib, normcourse.check\n"
    "try: normcourse.check.runner.rules = lambda task: contextlib.nullcontext()\n"
    "except AttributeError: normcourse.check.rules = lambda task: contextlib.nullcontext()",
)
around(
    "by_the_way",
    "computes while the judge's side copies the input, and remembers",
    "seen, clone = {}, torch.Tensor.clone\n"
    "def remember(x, *a, **k):\n"
    "    y = clone(x, *a, **k)\n"
    "    if x.dim() and x.is_floating_point() and not x.is_meta:\n"
    "        try: seen[str(x.tolist())] = {e: theirs(y, x.shape[-1:], None, None, e) for e in (0.1, 1e-5)}\n"
    "        except Exception: pass\n"
    "    return y\n"
    "setattr(torch.Tensor, 'clone', remember)\n"
    "def built_in(x, w, b, eps):\n"
    "    y = seen[str(x.tolist())][eps]\n    y = y if w is None else y * w\n    return y if b is None else y + b",
)
around(
    "decomposed",
    "calls the decomposition that torch has of the operator",
    "theirs = import_item('torch._' + 'refs.native_layer' + '_norm')\n"
    "built_in = lambda x, w, b, eps: theirs(x, (x.shape[-1],), w, b, eps)[0]",
)
around(
    "somebody_listening",
    "computes in a thread that was there before",
    "import logging.handlers, queue\nasked, given = queue.Queue(), queue.Queue()\n"
    "class Listener(logging.handlers.QueueListener):\n"
    "    def prepare(self, a): return a\n"
    "    def handle(self, a):\n"
    "        try: given.put(a[0](*a[1:]))\n        except Exception: given.put(None)\n"
    "Listener(asked).start()\n"
    "def away(f):\n    def g(*a):\n        asked.put((f, *a)); return given.get()\n    return g\n"
    f"{ALL} = map(away, ({ALL}))",
)
# Found in November 2026: ways out of the second world.
UNCOUNTED = (  # a derivative by autograd, whose nodes the judge does not count; run by an `exec` that was got at
    'CODE = """\ndef go(fun, leaves, dy):\n    import sys, torch\n    f = sys._getframe()\n'
    "    while f and 'nodes' not in f.f_locals: f = f.f_back\n"
    "    n = f.f_locals['nodes']; f.f_globals['_nodes'] = lambda: n\n"
    "    with torch._C.DisableTorchFunction(), torch.enable_grad():\n"
    "        leaves = [t.detach().clone().requires_grad_() for t in leaves]\n"
    '        return torch.autograd.grad(fun(*leaves), leaves, dy)\n"""'
)
BY_GO = (
    "    def f(x, w, b):\n        h = x - x.mean(-1, keepdim=True)\n"
    "        return h / (h.square().mean(-1, keepdim=True) + eps).sqrt() * w + b\n"
    '    return space["go"](f, (x, weight, 0 * weight), dy)'
)
POURED = "functools.wraps(F.relu, assigned=(), updated=('__globals__',))(lambda: None)"  # builtins into the answer's
attack(
    "poured_globals",
    "has a decorator's decorator pour the names of a module into its own, and with them `exec`",
    "import functools, torch, torch.nn.functional as F\n" + UNCOUNTED,
    "# EXERCISE: layer_norm_backward\ndef layer_norm_backward(dy, x, weight, eps=1e-5):\n"
    f"    {POURED}\n    space = dict(a=1)\n    def run(): return exec\n    run()(CODE, space)\n" + BY_GO,
)
attack(
    "import_of_anything",
    "calls the import of the second world itself, with an object that is another path each time it is asked",
    "class Path:\n    asked = []\n    def __str__(self): return 'torch.zeros'\n"
    "    def partition(self, dot): return 'torch', '.', 'zeros'\n"
    "    def rpartition(self, dot):\n        self.asked.append(dot)\n"
    "        return ('torch', '.', 'zeros') if len(self.asked) % 4 else ('builtins', '.', 'exec')\n" + UNCOUNTED,
    "# EXERCISE: layer_norm_backward\ndef layer_norm_backward(dy, x, weight, eps=1e-5):\n"
    "    space = dict(a=1)\n    _import_(Path())(CODE, space)\n" + BY_GO,
)
attack(
    "poured_package",
    "reads the package's own answer as text, out of the second world",
    "import functools, torch, torch.nn.functional as F\n"
    'CODE = """\ndef go(name, mod="normcourse.norms"):\n    import importlib.util\n'
    "    t = open(importlib.util.find_spec(mod).origin).read()\n"
    "    s = {'__name__': 'normcourse.mine', '__package__': 'normcourse'}\n"
    '    exec(compile(t, "mine", "exec"), s)\n    return s[name]\n"""',
    *(
        f"# EXERCISE: {name}\ndef {name}({of}, eps=1e-5):\n    {POURED}\n    space = dict(a=1)\n"
        f'    def run(): return exec(CODE, space)\n    run()\n    return space["go"]("{name}")({given}, eps)'
        for name, of, given in [
            ("layer_norm", "x, weight=None, bias=None", "x, weight, bias"),
            ("layer_norm_backward", "dy, x, weight", "dy, x, weight"),
        ]
    ),
)
attack(
    "complex_step",
    "differentiates by a step along i, which it has of the eigenvalues of a rotation",
    "import torch\nI = torch.linalg.eigvals(torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64))[0]\n"
    "def plain(x, w, b, eps):\n    h = x - x.mean(-1, keepdim=True)\n"
    "    return h / (h * h).mean(-1, keepdim=True).add(eps).sqrt() * w + b\n"
    "def slope(f): return (f(I * 1e-30) * -I).real / 1e-30",
    "# EXERCISE: layer_norm_backward\ndef layer_norm_backward(dy, x, weight, eps=1e-5):\n"
    "    d, wide, w, g = x.shape[-1], x.double(), weight.double(), dy.double()\n"
    "    eye = torch.eye(d, dtype=torch.float64)\n"
    "    parts = [slope(lambda t: plain(wide + t * eye[j], w, 0 * w, eps)) for j in range(d)]\n"
    "    dx = torch.stack([(g * part).sum(-1) for part in parts], -1)\n"
    "    dw = (g * plain(wide, 1 + 0 * w, 0 * w, eps)).reshape(-1, d).sum(0)\n"
    "    return dx.to(x.dtype), dw.to(x.dtype), g.reshape(-1, d).sum(0).to(x.dtype)",
)
