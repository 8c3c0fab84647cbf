"""The kernels of `normcourse.fused` as a GPU gets them, the bytes of kernels in the interpreter, and what torch.compile
makes of the same program. All of it can be imported, and says what is missing, on a machine without triton."""

import contextlib
import functools
import re

import numpy as np
import pandas as pd
import torch

from ...check import no_triton
from ...i18n import text

try:
    from ...fused.interpreter import tl, triton
except ImportError:
    triton = tl = no_triton

SIZES = (256, 1000, 1023, 4096, 8192, 16384)
LINES = 15  # of instructions in the picture
KERNELS = ("forward", "backward")
NO_TRITON = ("没有安装 Triton，这里编译不了", "Triton is not installed: nothing to compile")
MOVING = r"(?:LDG|LDGSTS|STG|SHFL|BAR|MUFU|LDL|STL)\b\S*"  # memory, other threads, 1/√, and spills


@functools.cache
def hopper():
    """{(N, kernel): report} of RMSNorm with addition in bf16 for an H100, all compiled in one go: about ten seconds."""
    from ...fused import compiled  # needs triton

    wanted = [dict(kind="rms_norm", kernel=kernel, n=n, add=True) for n in SIZES for kernel in KERNELS]
    return {(one["n"], one["kernel"]): one for one in compiled.reports(wanted)}


def instructions(assembly):
    """The instructions in the program's order, without their arguments."""
    return re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][A-Z0-9_.]*)", assembly)


def story(assembly):
    """What moves data, in the program's order; the same ones in a row are counted: ["16 × LDG.E.128", …]."""
    found = []
    for name in filter(re.compile(MOVING).match, instructions(assembly)):
        name = name.removesuffix(".DEFER_BLOCKING")
        if found and found[-1][0] == name:
            found[-1][1] += 1
        else:
            found.append([name, 1])
    return [f"{count:3d} × {name}" for name, count in found]


def of_machine(n=4096, kernel="forward"):
    """A compiled kernel as a table: kind, bits, count, and what else its report says."""
    try:
        report = hopper()[n, kernel]
    except ModuleNotFoundError:
        absent = {"n": n, "kernel": kernel, "registers": 1, "spills": 0, "threads": 1, "listing": text(*NO_TRITON)}
        return pd.DataFrame({"kind": ["absent"], "bits": 0, "count": 0}).assign(**absent)
    rows = [(kind, bits, count) for kind in ("loads", "stores") for bits, count in report[kind].items()]
    frame = pd.DataFrame(rows, columns=["kind", "bits", "count"])
    lines = story(report["assembly"])
    lines = lines if len(lines) <= LINES else [*lines[: LINES - 4], f"      … {len(lines) - LINES + 1}", *lines[-3:]]
    same = {name: report[name] for name in ("n", "kernel", "registers", "spills", "threads")}
    return frame.assign(listing="\n".join(lines), **same)


@contextlib.contextmanager
def loads_and_stores():
    """Inside, {"read": bytes, "written": bytes} of all kernels: lanes that a mask switches off move nothing. Empty
    where kernels are compiled for a GPU: those are not seen."""
    from ...fused.interpreter import INTERPRETED

    if not INTERPRETED.value:
        yield {}
        return
    moved = {"read": 0, "written": 0}
    from triton.runtime.interpreter import InterpreterBuilder

    names = {"create_masked_load": "read", "create_masked_store": "written"}
    before = {name: getattr(InterpreterBuilder, name) for name in names}

    def counting(name):
        def call(builder, pointers, *rest, **options):
            mask = rest[0] if names[name] == "read" else rest[1]
            lanes = int(np.broadcast_to(mask.data, pointers.data.shape).sum())
            moved[names[name]] += lanes * pointers.get_element_ty().primitive_bitwidth // 8
            return before[name](builder, pointers, *rest, **options)

        return call

    for name in names:
        setattr(InterpreterBuilder, name, counting(name))
    try:
        yield moved
    finally:
        for name, function in before.items():
            setattr(InterpreterBuilder, name, function)


def generated(function, *inputs):
    """The C++ that torch.compile writes for a function on these CPU tensors, tidied up; None, and a sentence on the
    screen, where this machine cannot do it. One number at a time (no vectors), which is easier to read."""
    from torch._inductor import config
    from torch._inductor.utils import run_and_get_code

    torch.compiler.reset()
    try:
        with config.patch({"cpp.simdlen": 1, "compile_threads": 1}):
            _, (source, *_) = run_and_get_code(torch.compile(function), *inputs)
    except Exception as error:  # no compiler, no OpenMP, a Python too new: all the same here
        zh = "这台机器上没有 torch.compile 能用的 C++ 编译器，这一格只好跳过"
        print(text(zh, "This machine has no C++ compiler that torch.compile can use; this cell is skipped"))
        print(f"({type(error).__name__})")
        return None
    body = source[source.index('extern "C"') : source.index("''')")]
    body = re.sub(r"static_cast<\w+>\(([^()]*)\)", r"\1", body).replace("int64_t ", "")
    body = re.sub(r"\b(\d+)L\b", r"\1", body)
    lines = [line for line in body.splitlines() if re.search(r"\bfor\(|tmp|ptr\d+\[", line)]
    depths = [(len(line) - len(line.lstrip())) // 4 for line in lines]
    return "\n".join(" " * (depth - min(depths)) + line.strip() for depth, line in zip(depths, lines))


def passes(source):
    """How often a generated program reads and writes each of its tensors: {pointer: (reads, writes)}."""
    pointers = sorted(set(re.findall(r"\b(?:in|out)_ptr\d+(?=\[)", source)))
    lines = source.splitlines()
    writes = {p: sum(line.strip().startswith(f"{p}[") for line in lines) for p in pointers}
    return {p: (sum(f"{p}[" in line for line in lines) - writes[p], writes[p]) for p in pointers}
