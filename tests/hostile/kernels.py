"""Answers to `triton_rms_norm` with the right numbers and without a kernel that computes them: {name: (what it tries,
cells)}. They are right in the notebook (a test runs them there), and earn nothing.
"""

import textwrap

# Mathematics in Python's own numbers; a kernel only puts what was computed elsewhere into memory.
BY_NUMBERS = """import torch, triton
import triton.language as tl
import torch.nn.functional as F
def norm(rows, w, eps):
    return [[v / (sum(u * u for u in row) / len(row) + eps) ** 0.5 * g for v, g in zip(row, w)] for row in rows]
@triton.jit
def put(Y, i, value):
    tl.store(Y + i, value)
def written(x, rows):
    y = torch.empty_like(x)
    for i, value in enumerate([value for row in rows for value in row]): put[(1,)](y, i, value)
    return y
def by_numbers(read):  # the number that a tensor of one element holds
    def answer(x, weight, eps):
        m, n = x.shape
        rows = [[read(x[i, j]) for j in range(n)] for i in range(m)]
        return written(x, norm(rows, [read(weight[j]) for j in range(n)], eps))
    return answer
"""
OF_BITS = """@triton.jit
def split(X, B):
    bits = tl.load(X).to(tl.float32).to(tl.int32, bitcast=True)
    for k in range(32): tl.store(B + k, (bits >> k) & 1)
def read(t):
    bits = torch.empty(32, dtype=torch.int64)
    split[(1,)](t, bits)
    n = sum(int(bit(bits, k)) << k for k in range(32))
    sign, exponent, fraction = n >> 31, n >> 23 & 255, n & (1 << 23) - 1
    return (-1.0) ** sign * (1 + fraction / 2.0**23) * 2.0 ** (exponent - 127) if exponent else 0.0
"""
# Torch's own function; a kernel only copies its result.
BY_TORCH = """import torch, triton
import triton.language as tl
import torch.nn.functional as F
def right(x, weight, eps): return F.rms_norm(x.float(), x.shape[-1:], weight.float(), eps).to(x.dtype)
@triton.jit
def copies(X, Y, N, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(Y + at, tl.load(X + at, at < N), at < N)
def copied(x):
    y = torch.empty_like(x)
    copies[(triton.cdiv(x.numel(), 64),)](x, y, x.numel(), BLOCK=64)
    return y
"""
# The mathematics of the tiles of a row in NumPy, for kernels that reach it.
OF_TILES = """import torch, triton, numpy
import triton.language as tl
def tiles(x, w, N, eps):
    h, n = x.handle.data.astype("float64"), N.handle.data
    x.handle.data = (h / numpy.sqrt((h**2).sum() / n + eps) * w.handle.data).astype("float32")
    return x
"""
KERNEL = """@triton.jit
def kernel(X, W, Y, N, eps, BLOCK: tl.constexpr%s):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    inside = column < N
    x = tl.load(X + row * N + column, inside, other=0.0).to(tl.float32)
    w = tl.load(W + column, inside, other=0.0).to(tl.float32)
    y = x
%s
    tl.store(Y + row * N + column, y, inside)
"""
LAUNCH = """def triton_rms_norm(x, weight, eps):
    y, (m, n) = torch.empty_like(x), x.shape
    kernel[(m,)](x, weight, y, n, eps, BLOCK=triton.next_power_of_2(n)%s)
    return y
"""
MARKER = "# EXERCISE: triton_rms_norm\n"
ATTACKS = {}


def reading(name, tries, read, *before):
    """An answer that computes in Python's numbers. read: the source of `read`."""
    ATTACKS[name] = tries, [BY_NUMBERS, *before, read, f"{MARKER}triton_rms_norm = by_numbers(read)"]


def by_bits(name, tries, bit):
    """The same from single bits, which a kernel takes apart. bit: the source of `bit`."""
    reading(name, tries, OF_BITS, bit)


def torch_itself(name, tries, body, *before):
    """An answer that lets torch compute. body: of the function of (x, weight, eps)."""
    ATTACKS[name] = (
        tries,
        [
            BY_TORCH,
            *before,
            f"{MARKER}def triton_rms_norm(x, weight, eps):\n{textwrap.indent(textwrap.dedent(body).strip(), '    ')}",
        ],
    )


def in_kernel(name, tries, body, *before, parameters="", given="", start=OF_TILES):
    """A kernel that computes with something else. body: of it, from x and w to y."""
    kernel = KERNEL % (parameters, textwrap.indent(textwrap.dedent(body).strip(), "    "))
    ATTACKS[name] = tries, [start, *before, kernel, MARKER + LAUNCH % given]


# Numbers of tensors that become Python's -------------------------------------------------------------------------------

reading("text", "reads numbers from the text of an f-string", "def read(t): return float(f'{t:.17g}')")
reading(
    "what is shown",
    "reads numbers from what is shown",
    "def read(t): return float(repr(t.double()).partition('(')[2].partition(',')[0])",
)
reading("percent", "reads numbers from %s", "def read(t): return float(('%s' % t.double())[7:].partition(',')[0])")
reading("an item", "asks for the number", "def read(t): return t.item()")
reading("a list of numbers", "asks for a list", "def read(t): return t.reshape(1).tolist()[0]")
reading(
    "the storage",
    "reads the bytes below a tensor",
    """import struct
def read(t): return struct.unpack("d", bytes(t.double().clone().untyped_storage().tolist()[:8]))[0]""",
)
reading(
    "saved",
    "saves a tensor and reads the file",
    """import io, struct, zipfile
def read(t):
    file = io.BytesIO()
    torch.save(t.double().clone().untyped_storage(), file)
    z = zipfile.ZipFile(file)
    return struct.unpack("d", z.read(next(n for n in z.namelist() if "/data/" in n))[:8])[0]""",
)
reading("numpy", "looks at a tensor through NumPy", "import numpy\ndef read(t): return numpy.asarray(t).tolist()")
reading(
    "a print",
    "catches what a kernel prints",
    """import contextlib, io
@triton.jit
def probe(X): tl.device_print("", tl.load(X).to(tl.float64))
def read(t):
    with contextlib.redirect_stdout(io.StringIO()) as said: probe[(1,)](t)
    return float(said.getvalue().partition("[")[2].partition("]")[0])""",
)
reading(
    "words of a kernel's error",
    "reads numbers from the words with which a kernel fails",
    """@triton.jit
def probe(X):
    x = tl.load(X).to(tl.float64)
    assert False, f"<{x}>"
def read(t):
    try: probe[(1,)](t)
    except Exception as error: return float(str(error).partition("<[")[2].partition("]")[0])""",
)
reading(
    "a list around a kernel",
    "lets a kernel append to a list of the notebook",
    """box = []
@triton.jit
def probe(X): box.append(tl.load(X).to(tl.float64).handle.data.item())
def read(t):
    probe[(1,)](t)
    return box.pop()""",
)
reading(
    "a global of a kernel",
    "lets a kernel bind a name of the notebook",
    """@triton.jit
def probe(X):
    global seen
    seen = tl.load(X).to(tl.float64)
def read(t):
    probe[(1,)](t)
    return seen.handle.data.item()""",
)
by_bits(
    "a kernel that fails",
    "learns a bit from whether a kernel fails",
    """@triton.jit
def probe(B, k): assert tl.load(B + k) == 0, "one"
def bit(bits, k):
    try: probe[(1,)](bits, k)
    except Exception: return 1
    return 0""",
)
by_bits(
    "a copy of a kernel that fails",
    "the same with a copy of the kernel, whose errors nobody else knows of",
    """import copy
@triton.jit
def probe(B, k): assert tl.load(B + k) == 0
def bit(bits, k):
    try: copy.deepcopy(probe)[(1,)](bits, k)
    except Exception: return 1
    return 0""",
)
by_bits(
    "a kernel that fails in silence",
    "the same, and returns from the place where the error is let go",
    """@triton.jit
def probe(B, k): assert tl.load(B + k) == 0
def bit(bits, k):
    found = 1
    try:
        probe[(1,)](bits, k)
        found = 0
    finally: return found""",
)
for name, tries, kind in (
    ("a list for a kernel", "lets a kernel put numbers into a list that it is given", ""),
    ("a constant list", "the same, with the list in a constexpr", ": tl.constexpr"),
):
    by_bits(
        name,
        tries,
        f"""@triton.jit
def probe(B, k, box{kind}):
    for i in range(tl.load(B + k)): box += [i]
def bit(bits, k):
    box = []
    probe[(1,)](bits, k, box)
    return len(box)""",
    )
by_bits(
    "a default list",
    "the same, with the list as a default",
    """box = []
@triton.jit
def probe(B, k, into: tl.constexpr = box):
    for i in range(tl.load(B + k)): into += [i]
def bit(bits, k):
    box.clear()
    probe[(1,)](bits, k)
    return len(box)""",
)
BITS = {
    "a size": "torch.empty(bits[k], dtype=torch.int8).shape[0]",
    "a new size": "bits.new_empty(bits[k]).shape[0]",
    "a constructor": "torch.Tensor(0, bits[k]).shape[1]",
    "a device": 'torch.device("cuda", bits[k]).index',
    "a mask": "bits[k:k + 1][bits[k:k + 1].to(torch.bool)].shape[0]",
    "a mask in an index": "bits[k:k + 1][..., bits[k:k + 1].to(torch.bool)].numel()",
    "a slice": "bits[:bits[k]].shape[0]",
    "a dimension": "bits[:0].reshape(0, 1).unsqueeze(bits[k]).shape.index(1)",
    "a range": "len(range(bits[k]))",
    "a condition": "1 if bits[k] else 0",
    "a position": "[0, 1][bits[k]]",
    "a comparison": "int(bits[k] == 1)",
    "a repeated text": 'len("a" * bits[k])',
    "a letter": "ord(chr(bits[k]))",
    "a sequence": "bits[k:k + 1][Sequence(bits[k:k + 1].to(torch.bool))].shape[0]",
    "an error about an index": "said(bits, k)",
}
SEQUENCE = """class Sequence:
    def __init__(self, *parts): self.parts = parts
    def __len__(self): return len(self.parts)
    def __getitem__(self, i): return self.parts[i]
def said(bits, k):
    try: bits[:0][bits[k:k + 1]]
    except IndexError: pass
    try: bits[:1][bits[k:k + 1]]
    except IndexError: return 1
    return 0"""
for name, expression in BITS.items():
    by_bits(name, f"makes a bit Python's by `{expression}`", f"{SEQUENCE}\ndef bit(bits, k): return {expression}")

# Torch, where nobody looks --------------------------------------------------------------------------------------------

torch_itself(
    "an index that computes",
    "computes while torch asks an object for its index",
    """class Size:
    def __index__(self):
        self.y = right(x, weight, eps)
        return 1
size = Size()
torch.empty(size)
return copied(size.y)""",
)
torch_itself(
    "an operator of one's own",
    "defines an operator with a name that is allowed",
    "return copied(torch.ops.mine.clone(x, weight, eps))",
    """library = torch.library.Library("mine", "DEF")
library.define("clone(Tensor x, Tensor w, float eps) -> Tensor")
library.impl("clone", right, "CPU")""",
)
torch_itself(
    "a borrowed name",
    "hands a function with an allowed name to torch's own dispatch",
    """def clone(x): return right(x, weight, eps)
return copied(torch.overrides.handle_torch_function(clone, (x,), x))""",
)
torch_itself(
    "a subclass",
    "computes in the __torch_function__ of a subclass",
    "return copied(torch.clone(x.as_subclass(Mine)).y if False else Mine.answer(x, weight, eps))",
    """def look(cls, function, types, args=(), kwargs=None): return right(*Mine.given)
Mine = type("Mine", (torch.Tensor,), {"__torch_" + "function__": classmethod(look)})
made = torch.zeros(2).as_subclass(Mine)
def answer(x, weight, eps):
    Mine.given = x, weight, eps
    return torch.clone(made)
Mine.answer = staticmethod(answer)""",
)
torch_itself(
    "scripted",
    "calls a function that TorchScript made before",
    "return copied(scripted(x, weight, eps))",
    """scripted = torch.jit.CompilationUnit('''
def f(x, weight, eps: float):
    h = x.float()
    return (h * torch.rsqrt((h * h).mean(-1, keepdim=True) + eps) * weight).to(x.dtype)
''').f""",
)
torch_itself(
    "the dictionary of a module",
    "switches the watch off by a name from a dictionary",
    """with vars(torch._C)["Disable" + "TorchFunction"](): y = right(x, weight, eps)
return copied(y)""",
)
torch_itself("plainly", "calls torch", "return copied(right(x, weight, eps))")
torch_itself("without a kernel at all", "calls torch, and launches nothing", "return right(x, weight, eps)")
torch_itself(
    "multiplied afterwards",
    "lets a kernel copy, and computes with operators",
    "h = copied(x).float()\nreturn (h * torch.rsqrt((h * h).mean(-1, keepdim=True) + eps) * weight).to(x.dtype)",
)
torch_itself(
    "the package",
    "calls the package's own kernel",
    "from normcourse import fused\nreturn fused.rms_norm(x, weight, eps).to(x.dtype)",
)
torch_itself(
    "a grid that computes",
    "computes in the function that says how large a grid is",
    """def grid(meta):
    held.append(copied(right(x, weight, eps)))
    return (1,)
held, y = [], torch.empty_like(x)
copies[grid](x, y, 1, BLOCK=64)
return held.pop()""",
)
torch_itself(
    "a hook of a kernel",
    "computes in a hook that runs before a kernel",
    """held = []
copies.add_pre_run_hook(lambda *a, **k: held.append(right(x, weight, eps)))
copied(x)
copies.pre_run_hooks.clear()
return copied(held.pop())""",
)
torch_itself(
    "behind a kernel's name",
    "calls the function below a kernel",
    "return copied(below.fn(x, weight, eps))",
    "@triton.jit\ndef below(x, weight, eps): return right(x, weight, eps)",
)
torch_itself(
    "no decorator of Triton",
    "puts a class in the place of triton",
    "return kernel[(1,)](x, weight, eps)",
    """class triton:
    def __init__(self, f): self.f = f
    jit = classmethod(lambda cls, f: cls(f))
    def __getitem__(self, grid): return self.f
@triton.jit
def kernel(x, weight, eps): return right(x, weight, eps)""",
)
torch_itself(
    "other memory",
    "puts what torch computed below a tensor that a kernel wrote",
    "y = x.clone()\ncopies[(1,)](x, y, 1, BLOCK=64)\ny.set_(right(x, weight, eps))\nreturn y",
)
torch_itself(
    "written over",
    "writes what torch computed over what a kernel wrote",
    "y = copied(x)\ny.copy_(right(x, weight, eps))\nreturn y",
)
torch_itself(
    "data put in",
    "gives a tensor other data",
    "y = x.clone()\ncopies[(1,)](x, y, 1, BLOCK=64)\ny.data = right(x, weight, eps)\nreturn y",
)
torch_itself(
    "out of a function",
    "computes into the memory of a result",
    "y = copied(x)\nh = x.float()\ntorch.mul(h * torch.rsqrt(h.square().mean(-1, keepdim=True) + eps), weight, out=(z := torch.empty(x.shape)))\n"
    "return z.to(x.dtype)",
)
torch_itself(
    "by the gradient",
    "adds up in the backward pass of indexing",
    """y = right(x, weight, eps)
h = torch.zeros(2, requires_grad=True)
h[[0, 0, 1]].backward(torch.ones(3))
return copied(y)""",
)
torch_itself(
    "a decorator",
    "puts a function between the kernel and its name",
    "return copied(kernel[(1,)](x, weight, eps))",
    """class Around:
    def __init__(self, kernel): self.kernel = kernel
    def __getitem__(self, grid): return right
@Around
@triton.jit
def kernel(X): tl.store(X, 0.0)""",
)

# Kernels that are none ------------------------------------------------------------------------------------------------

in_kernel(
    "numpy in a kernel",
    "computes with NumPy in a kernel",
    """x.handle.data = (x.handle.data / numpy.sqrt((x.handle.data**2).sum() / N.handle.data + eps) * w.handle.data).astype("float32")
y = x""",
)
in_kernel(
    "text in a kernel",
    "reads numbers from text in a kernel",
    """total = 0.0
for i in range(BLOCK):
    total += float(f"{tl.sum(tl.where(column == i, x * x, 0.0))}".strip("[]"))
y = x / tl.sqrt(total / N + eps) * w""",
)
in_kernel("a function of the notebook", "calls a function that is no kernel", "y = tiles(x, w, N, eps)")
in_kernel(
    "a default", "gives a kernel a function as a default", "y = f(x, w, N, eps)", parameters=", f: tl.constexpr = tiles"
)
in_kernel(
    "a called argument",
    "gives a kernel a function to call",
    "y = f(x, w, N, eps)",
    parameters=", f: tl.constexpr",
    given=", f=tiles",
)
in_kernel(
    "a called constexpr",
    "calls a constexpr that holds a function",
    "y = F(x, w, N, eps)",
    "F = tl.constexpr(tiles)",
)
in_kernel(
    "an annotation",
    "runs code in the annotations of a kernel",
    "y = box[0](x, w, N, eps)",
    "box = []",
    parameters=", z: box.append(tiles) = 0",
)
in_kernel("a lambda", "writes a function in a kernel", "f = lambda x, w: tiles(x, w, N, eps)\ny = f(x, w)")
in_kernel("a comprehension", "computes in a comprehension", "y = [tiles(x, w, N, eps) for _ in range(1)][0]")
in_kernel("an import", "imports in a kernel", "from __main__ import tiles as f\ny = f(x, w, N, eps)")
in_kernel("an item of a table", "takes a function from a table", "y = TABLE[0](x, w, N, eps)", "TABLE = (tiles,)")
in_kernel(
    "the core of tl",
    "reaches a function through tl.core",
    "y = tl.core.mine(x, w, N, eps)",
    "setattr(tl.core, 'mine', tiles)",
)
in_kernel("something new in tl", "puts a function into tl", "y = tl.mine(x, w, N, eps)", "setattr(tl, 'mine', tiles)")
in_kernel(
    "another function in tl",
    "puts its own in the place of one of tl",
    "y = tl.swizzle2d(x, w, N, eps)",
    "setattr(tl, 'swizzle2d', tiles)",
)
in_kernel("a method of a tile", "puts a method on tiles", "y = x.mine(w, N, eps)", "setattr(tl.tensor, 'mine', tiles)")
in_kernel(
    "an object like tl",
    "calls an object that is not Triton's",
    "y = my.rsqrt(x, w, N, eps)",
    "class my:\n    path = 'triton.language'\n    rsqrt = staticmethod(tiles)",
)
in_kernel(
    "another source",
    "decorates one function and hands Triton another",
    "y = x",
    """def other(X, W, Y, N, eps, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    inside = column < N
    x = tl.load(X + row * N + column, inside, other=0.0).to(tl.float32)
    w = tl.load(W + column, inside, other=0.0).to(tl.float32)
    tl.store(Y + row * N + column, tiles(x, w, N, eps), inside)
theirs = triton
class triton:
    next_power_of_2 = theirs.next_power_of_2
    jit = staticmethod(lambda f: theirs.jit(other))""",
)
