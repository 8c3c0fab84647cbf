"""Those that want points for numbers they have not computed."""

from . import HONEST, IDLE, IMPORTS, all_four, attack

HONEST_MERGE = HONEST["merge_statistics"]

attack(
    "finds_the_solutions",
    "searches the disk for solutions and hidden tests and runs what it finds",
    "import os, json, torch\n"
    "found = [os.path.join(d, f) for d, _, fs in os.walk('/') if not d.startswith(('/proc', '/usr')) for f in fs\n"
    "         if ('solution' in d or 'hidden' in d + f or f.startswith('03_layer')) and f.endswith(('.py', '.ipynb', '.md'))]\n"
    "for path in found:\n"
    "    text = open(path).read()\n"
    "    cells = [''.join(c['source']) for c in json.loads(text)['cells']] if path.endswith('ipynb') else [text]\n"
    "    for cell in cells:\n"
    "        try: exec(cell)\n"
    "        except Exception: pass",
    "# EXERCISE: welford\nwelford = globals()['welford']",
)
attack(
    "asks_the_check",
    "takes the right answers out of the package's visible check",
    "from normcourse import check\ntasks = check.tasks()",
    *(f"# EXERCISE: {name}\n{name} = tasks[{name!r}].right" for name in HONEST),
)
attack(
    "imports_the_check",
    "imports the module that defines the visible tasks",
    "from normcourse.check import layer_normalisation as topic",
    "# EXERCISE: merge_statistics\nmerge_statistics = topic.MERGE_STATISTICS.right",
    "# EXERCISE: welford\nwelford = topic.WELFORD.right",
)
attack(
    "calls_the_package",
    "hands in normcourse.norms, which the task forbids",
    "import normcourse.norms as norms, torch",
    "# EXERCISE: layer_norm\ndef layer_norm(x, weight=None, bias=None, eps=1e-5):\n    return norms.layer_norm(x, weight, bias, eps)",
)
attack(
    "calls_torch",
    "hands in torch's own layer_norm",
    "import torch.nn.functional as F",
    "# EXERCISE: layer_norm\ndef layer_norm(x, weight=None, bias=None, eps=1e-5):\n    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)",
)

LAYER_NORM = "# EXERCISE: layer_norm\ndef layer_norm(x, weight=None, bias=None, eps=1e-5):\n    return built_in(x, x.shape[-1:], weight, bias, eps)"
attack(
    "alias_of_torch",
    "torch's layer_norm under another name",
    "from torch.nn.functional import layer_norm as built_in",
    LAYER_NORM,
)
attack(
    "name_in_pieces",
    "torch's layer_norm by a name put together at run time",
    "import torch.nn.functional as F\nbuilt_in = getattr(F, '_'.join(['layer', 'norm']))",
    LAYER_NORM,
)
attack(
    "through_torch_ops",
    "torch's layer_norm through torch.ops, which is not torch.nn.functional",
    "import torch\nop = getattr(torch.ops.aten, ''.join(['native_', 'layer', '_norm']))\n"
    "built_in = lambda x, shape, weight, bias, eps: op(x, list(shape), weight, bias, eps)[0]",
    LAYER_NORM,
)
attack(
    "through_a_module",
    "torch.nn.LayerNorm with the weights put in",
    "import torch\ndef built_in(x, shape, weight, bias, eps):\n"
    "    module = torch.nn.LayerNorm(shape, eps, elementwise_affine=False)\n"
    "    y = module(x)\n    y = y if weight is None else y * weight\n    return y if bias is None else y + bias",
    LAYER_NORM,
)
attack(
    "watch_switched_off",
    "takes off the watch on forbidden functions while it calls one",
    "import torch, torch.nn.functional as F\ndef built_in(*arguments):\n"
    "    with torch._C.DisableTorchFunction():\n        return F.layer_norm(*arguments)",
    LAYER_NORM,
)
attack(
    "in_another_thread",
    "calls the forbidden function in a thread that nobody watches",
    "import torch.nn.functional as F\nfrom concurrent.futures import ThreadPoolExecutor\n"
    "built_in = lambda *a: ThreadPoolExecutor(1).submit(F.layer_norm, *a).result()",
    LAYER_NORM,
)
attack(
    "scripted",
    "compiles the forbidden call with TorchScript, which calls past the watch",
    "import torch\nfrom typing import Optional, List\n@torch.jit.script\n"
    "def built_in(x: torch.Tensor, shape: List[int], w: Optional[torch.Tensor], b: Optional[torch.Tensor], eps: float):\n"
    "    return torch.nn.functional.layer_norm(x, shape, w, b, eps)",
    LAYER_NORM,
)
attack(
    "profile_removed",
    "removes the profile function that guards the package's own layer_norm",
    "import sys\nfrom normcourse import norms\ndef built_in(x, shape, weight, bias, eps):\n"
    "    sys.setprofile(None)\n    return norms.layer_norm(x, weight, bias, eps)",
    LAYER_NORM,
)
attack(
    "hidden_in_exec",
    "hides the forbidden call in text that is decoded and run",
    "import base64\nexec(base64.b64decode(b'aW1wb3J0IHRvcmNoCmRlZiBidWlsdF9pbigqYSk6CiAgICB3aXRoIHRvcmNoLl9DLkRpc2FibGVUb3JjaEZ1bmN0aW9uKCk6CiAgICAgICAgcmV0dXJuIHRvcmNoLm5uLmZ1bmN0aW9uYWwubGF5ZXJfbm9ybSgqYSkK'))",
    LAYER_NORM,
)
attack(
    "autograd_for_the_derivative",
    "lets autograd do the backward pass that was to be written by hand",
    IMPORTS,
    HONEST["layer_norm"],
    "# EXERCISE: layer_norm_backward\ndef layer_norm_backward(dy, x, weight, eps=1e-5):\n"
    "    x, w, b = x.clone().requires_grad_(), weight.clone().requires_grad_(), torch.zeros_like(weight).requires_grad_()\n"
    "    return torch.autograd.grad((layer_norm(x, w, b, eps) * dy).sum(), (x, w, b))",
    earned=4.0,
)
attack(
    "comparisons_patched",
    "makes every comparison of torch and numpy say yes",
    "import torch, numpy\nfor module in (torch, torch.testing, torch.Tensor, numpy, numpy.testing):\n"
    "    for name in ('equal', 'allclose', 'isclose', 'array_equal', 'assert_close', 'assert_allclose', '__eq__'):\n"
    "        setattr(module, name, lambda *a, **k: True)",
    *IDLE,
)
attack(
    "builtins_patched",
    "changes len, all, abs, isinstance and zip for everybody",
    "import builtins\nbuiltins.len = lambda x: 1\nbuiltins.all = builtins.any = lambda x: True\n"
    "builtins.zip = lambda *a: []\nbuiltins.isinstance = lambda *a: True\nbuiltins.abs = lambda x: 0",
    *IDLE,
)
attack(
    "judge_patched",
    "replaces compare, earned and the encoding in the modules it can reach",
    "import normcourse.check.comparison as comparison, normcourse.check.runner as runner\n"
    "import normcourse.grade.wire as wire, normcourse.grade.server as server\n"
    "comparison.compare = lambda *a: None\nrunner.rules = None\n"
    "wire.write_answer = lambda a: ({'arrays': [], 'results': 0, 'numbers': [], 'kind': 'tensor', 'gradients': [], 'changed': [], 'error': None, 'passed': True, 'points': 100}, [])",
    *IDLE,
)
attack(
    "score_in_the_reply",
    "adds points and a pass to its replies",
    "import normcourse.grade.wire as wire\nhonest = wire.write_answer\n"
    "def rich(a):\n    header, arrays = honest(a)\n    return header | {'points': 16, 'passed': True, 'failed': {}, 'where': None}, arrays\n"
    "wire.write_answer = rich",
    *IDLE,
)
attack(
    "false_tensor",
    "returns tensors of a subclass that is equal to everything",
    "import torch\nclass Yes(torch.Tensor):\n"
    "    @classmethod\n    def __torch_function__(cls, function, types, args=(), kwargs=None):\n"
    "        return True if function.__name__ in ('equal', 'allclose', 'isclose') else super().__torch_function__(function, types, args, kwargs or {})\n"
    "    def __eq__(self, other): return True",
    *all_four(
        "    return tuple(torch.zeros_like(a).as_subclass(Yes) for a in arguments if isinstance(a, torch.Tensor))"
    ),
)
attack(
    "peeks_into_frames",
    "looks for the expected values in the frames of its callers",
    *all_four(
        "    import sys\n    frame, found = sys._getframe(), []\n    while frame:\n"
        "        found += [v for k, v in frame.f_locals.items() if k in ('want', 'right', 'expected', 'trial', 'exact')]\n"
        "        frame = frame.f_back\n    return found[0].results"
    ),
)
attack(
    "searches_memory",
    "looks for tasks and answers among all objects in memory",
    *all_four(
        "    import gc\n    tasks = [o for o in gc.get_objects() if type(o).__name__ == 'Task' and o.name == name and o.right]\n"
        "    return tasks[0].right(*arguments)"
    ),
)
FORGED = """
import json, os, struct, torch
def frame(header, body=b''):
    head = json.dumps(header).encode()
    return struct.pack('<II', len(head), len(body)) + head + body
YES = {'arrays': [], 'results': 0, 'numbers': [], 'kind': 'tensor', 'gradients': [], 'changed': [], 'error': None}
"""
attack(
    "replies_in_advance",
    "writes forged replies before it is asked",
    FORGED + "for n in range(200):\n    os.write(3, frame(YES | {'id': n}))",
    *IDLE,
)
attack(
    "cells_in_advance",
    "says that all cells have run before they have, then answers for them",
    FORGED
    + "for n in range(2, 6):\n    os.write(3, frame({'cell': n, 'raised': False}))\nfor n in range(1, 60):\n    os.write(3, frame(YES | {'id': n}))",
    *IDLE,
)
attack(
    "answers_itself",
    "reads the calls from the connection itself and answers with nan",
    FORGED
    + "import socket\nconnection = socket.socket(fileno=os.dup(3))\nfor n in range(2, 6):\n    os.write(3, frame({'cell': n, 'raised': False}))\n"
    "for n in range(1, 60):\n    connection.recv(1 << 20)\n"
    "    os.write(3, frame(YES | {'id': n, 'results': 1, 'numbers': [False], 'arrays': [['float32', [1], 'cpu']]}, struct.pack('<f', float('nan'))))",
    *IDLE,
)
attack(
    "huge_frame",
    "announces four gigabytes and sends little",
    "import os, struct",
    *all_four("    import os, struct\n    os.write(3, struct.pack('<II', 4_000_000_000, 4_000_000_000))\n    return 0"),
)
attack(
    "deep_header",
    "sends a header nested deeper than a parser can go",
    *all_four("    import os, struct\n    os.write(3, struct.pack('<II', 60000, 0) + b'[' * 60000)\n    return 0"),
)
attack(
    "endless_frames",
    "floods the connection with garbage",
    *all_four("    import os\n    while True:\n        os.write(3, os.urandom(1 << 16))"),
)
attack(
    "huge_arrays", "returns arrays of gigabytes", *all_four("    return torch.zeros(100_000_000, dtype=torch.uint8)")
)
attack(
    "strange_shapes",
    "describes arrays that cannot be: negative, huge, on other devices, of unknown dtypes",
    FORGED + "import itertools, normcourse.grade.wire as wire\n"
    "odd = itertools.cycle([['float32', [-1], 'cpu'], ['float32', [2**40], 'cpu'], ['float32', [2**31 - 1] * 16, 'meta'], ['object', [1], 'cpu'],\n"
    "    ['float32', [1], 'cuda'], ['float32', 'x', 'cpu'], [[], {}, 7], 5, ['float32', [True], 'cpu'], ['float32', [1e3], 'cpu']])\n"
    "wire.write_answer = lambda a: (YES | {'arrays': [next(odd)], 'results': 1, 'numbers': [False]}, [])",
    *IDLE,
)
attack(
    "all_nan",
    "returns nan, which is near nothing and far from nothing",
    *all_four("    return tuple(torch.full_like(a, float('nan')) for a in arguments if isinstance(a, torch.Tensor))"),
)
attack(
    "object_arrays",
    "returns numpy arrays of objects with an __eq__ and a __reduce__",
    "class Yes:\n    def __eq__(self, other): return True\n    def __reduce__(self): return (print, ('run by the judge',))",
    *all_four("    import numpy\n    return numpy.array([Yes()] * 3, dtype=object)"),
)
attack(
    "pickles",
    "sends pickles that would run a command",
    "import normcourse.grade.wire as wire, numpy, io\nclass Run:\n    def __reduce__(self):\n        import os\n        return os.system, ('touch /tmp/unpickled',)\n"
    "def write_answer(a):\n    file = io.BytesIO()\n    numpy.save(file, numpy.array([Run()], dtype=object), allow_pickle=True)\n"
    "    return {'arrays': [['object', [1], 'cpu']], 'results': 1, 'numbers': [False], 'kind': 'tensor', 'gradients': [], 'changed': [], 'error': None}, [file.getvalue()]\n"
    "wire.write_answer = write_answer",
    *IDLE,
)
attack(
    "input_transformer",
    "rewrites the cells after they were read, by a transformer of IPython",
    "import torch.nn.functional as F\nshell = get_ipython()\n"
    "def rewrite(lines):\n    return ['layer_norm = lambda x, w=None, b=None, eps=1e-5: F.layer_norm(x, x.shape[-1:], w, b, eps)'] if 'layer_norm(' in ''.join(lines) else lines\n"
    "shell.input_transformers_cleanup.append(rewrite)",
    "# EXERCISE: layer_norm\ndef layer_norm(x, weight=None, bias=None, eps=1e-5):\n    return x",
)
attack(
    "shell_patched",
    "replaces run_cell and the name space of the shell",
    "import torch.nn.functional as F\nshell = get_ipython()\nclass Space(dict):\n    def get(self, key, default=None): return F.layer_norm\n"
    "shell.run_cell = lambda *a, **k: type('R', (), {'success': True})()\nshell.user_ns = Space()",
    *IDLE,
)
attack(
    "constant_answers",
    "remembers answers to the visible cases and gives them by shape",
    *all_four(
        "    shapes = {(4, 3): 0.1, (2, 5): 0.2}\n    return tuple(torch.full_like(a, shapes.get(tuple(a.shape), 0.0)) for a in arguments if isinstance(a, torch.Tensor))"
    ),
)
attack(
    "one_answer_for_another_task",
    "answers each call with the work of another task",
    IMPORTS,
    HONEST_MERGE,
    *(
        f"# EXERCISE: {name}\ndef {name}(*arguments):\n    return merge_statistics(1, *arguments[:2], 1, *arguments[:2])"
        for name in ("layer_norm", "layer_norm_backward", "welford")
    ),
    earned=3.0,
)
attack(
    "exit_with_success",
    "replaces the loop that answers by one that says yes to everything",
    FORGED
    + "import normcourse.grade.server as server\nserver.respond = lambda *a: (YES, [])\nserver.answer = lambda *a: None",
    *IDLE,
)
attack(
    "leaves_through_the_error",
    "puts what it is given into error messages and into names of exceptions",
    *all_four("    raise type('Secret_' + str(arguments), (Exception,), {})(f'secret {arguments}')"),
)
