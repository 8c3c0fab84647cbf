"""Triton, compiled on a GPU and interpreted without one. The choice is made here, before triton is first imported."""

import contextlib
import os
import sys
import threading

import torch

from ..cells import beside_cells


@contextlib.contextmanager
def chosen():
    """Without a GPU, TRITON_INTERPRET=1: triton reads it when it is imported and at each @triton.jit, not at launches.
    Afterwards the environment is as it was, for the learner's own kernels and for processes to come."""
    imported = sys.modules.get("triton")
    too_late = imported is not None and isinstance(imported.language.sum, imported.JITFunction)
    if torch.cuda.is_available() or "TRITON_INTERPRET" in os.environ or too_late:
        yield
        return
    os.environ["TRITON_INTERPRET"] = "1"
    try:
        yield
    finally:
        del os.environ["TRITON_INTERPRET"]


try:
    with chosen():
        import triton
        import triton.language as tl
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "normcourse.fused needs triton, which is not installed: pip install 'normcourse[fused]'. Triton has packages "
        "for Linux only; elsewhere normcourse.norms computes the same in plain torch",
        name=missing.name,
    ) from missing

# triton decorates its own tl.sum, tl.cdiv … when it is imported: later the variable no longer helps
constexpr = tl.constexpr
INTERPRETED = tl.constexpr(not isinstance(tl.sum, triton.JITFunction))


class _OneAtATime(contextlib.ContextDecorator):
    """No function of this file is on the way to a launch: exercises forbid calling those of this package."""

    lock = threading.RLock()
    __enter__, __exit__ = lock.__enter__, lock.__exit__


if INTERPRETED.value:
    # The interpreter is made for one thread: it exchanges the functions of tl during a launch and keeps the place in
    # the grid in one object for the whole process. An explorer's threads launch beside the learner's cells, whose own
    # kernels count too: so not only our launches wait for each other, but all.
    from triton.runtime import interpreter
    from triton.runtime.interpreter import InterpretedFunction

    with chosen(), contextlib.suppress(ModuleNotFoundError):
        import triton.experimental.gluon  # which the first launch does, and it reads the variable too
    InterpretedFunction.run = _OneAtATime()(InterpretedFunction.run)

    # A launch begins by looking through the globals of its kernel, which in a notebook are those of all cells.
    interpreter._patch_lang = beside_cells(interpreter._patch_lang)


def check_can_run(device):
    """A RuntimeError where kernels cannot run on `device`, saying what to do."""
    if device.type == "cuda" or (device.type == "cpu" and INTERPRETED.value):
        return
    if device.type != "cpu":
        raise RuntimeError(f"the tensors are on {device}; fused kernels run on cuda, or interpreted on cpu")
    if torch.cuda.is_available():
        raise RuntimeError(
            "the tensors are on cpu and this process compiles for the GPU: move them with .cuda(), or start Python "
            "with TRITON_INTERPRET=1 in the environment to interpret the kernels"
        )
    raise RuntimeError(
        "triton was imported before normcourse.fused, so the kernels can no longer be interpreted on cpu: restart "
        "Python and import normcourse.fused first (torch.compile imports triton too), or start it with "
        "TRITON_INTERPRET=1 in the environment"
    )


with chosen():

    @triton.jit
    def round_to(x, dtype: tl.constexpr):
        """x (fp32 or fp64) in `dtype`, to nearest, ties to even, as the hardware does.

        The interpreter by itself cuts the lower half of an fp32 off to make a bf16, wrong by up to a whole unit.
        Adding half a unit less one, and the last bit that stays, makes cutting off the same as rounding to even.
        """
        if INTERPRETED and dtype == tl.bfloat16:
            x = x.to(tl.float32)
            bits = x.to(tl.uint32, bitcast=True)
            nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
            nearest = tl.where(x == x, nearest, 0x7FC0)  # a NaN's bits must not carry into an infinity
            return nearest.to(tl.uint16).to(tl.bfloat16, bitcast=True)
        return x.to(dtype)

    @triton.jit
    def rsqrt(x):
        """1/√x (fp32 or fp64), rounded once, as the hardware's is to a unit.

        The interpreter by itself rounds twice, the root and then the quotient, which is felt in every number of a row.
        """
        if INTERPRETED:
            return tl.rsqrt(x.to(tl.float64)).to(x.dtype)
        return tl.rsqrt(x)
