"""Compile the kernels for GPUs that need not be there, and read what came out: registers, spills, widths of loads.

    report("layer_norm", "forward", 4096)["registers"]

Compiling needs no GPU, but it needs a triton that does not interpret; where this process interprets, another does it.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from .interpreter import INTERPRETED, triton
from .launch import KERNELS
from .tiles import STAGES, Tile, backward_tile, compiler_options, forward_tile

DTYPES = ["bf16", "fp16", "fp32", "fp64"]
TARGETS = {"cuda:80": ("cuda", 80, 32), "cuda:90": ("cuda", 90, 32), "hip:gfx942": ("hip", "gfx942", 64)}
MATRICES = ["X", "Residual", "Sum", "Y", "DY", "DSum", "DX", "W", "B"]  # in the dtype asked for; the others are wide


def report(kind, kernel, n, dtype="bf16", target="cuda:90", add=False, tile=None):
    """One kernel, compiled as it would be launched for rows of n elements, or with another tile.

    Args:
        kind: "layer_norm" or "rms_norm".  kernel: "forward" or "backward"; for a wide row also "backward_means".
        dtype: "bf16", "fp16", "fp32" or "fp64".  target: a key of `TARGETS`.  add: with the addition of a residual.
        tile: (rows, columns, threads), a row held in registers, where `tiles` would choose another.

    Returns: a dict of the arguments, the tile, and
        registers: per thread.
        spills: instructions that move a register to or from memory.
        shared: bytes of shared memory.
        loads, stores: {bits of one access: number of such instructions}, global memory only.
        fp64: number of instructions in fp64.
        ttir, assembly: the program as Triton's first representation and as the machine's instructions.
    """
    return reports([dict(kind=kind, kernel=kernel, n=n, dtype=dtype, target=target, add=add, tile=tile)])[0]


def reports(requests):
    """`report` for a list of dicts of its arguments."""
    known = {"kind": KERNELS, "kernel": ["forward", "backward", "backward_means"], "dtype": DTYPES, "target": TARGETS}
    for name, value in ((name, request[name]) for request in requests for name in known if name in request):
        if value not in known[name]:
            raise ValueError(f"{name} is {value!r}; known are {', '.join(known[name])}")
    if not INTERPRETED.value:
        return [_compile(**request) for request in requests]
    environment = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-m", __name__], input=json.dumps(requests), env=environment, capture_output=True, text=True
    )
    if run.returncode:
        raise RuntimeError(f"compiling in another process failed:\n{run.stderr[-2000:]}")
    found = json.loads(run.stdout.splitlines()[-1])
    for one in found:  # JSON turned the bits into text
        one.update({access: {int(bits): n for bits, n in one[access].items()} for access in ("loads", "stores")})
    return found


def _compile(kind, kernel, n, dtype="bf16", target="cuda:90", add=False, tile=None):
    wide, itemsize = ("fp64", 8) if dtype == "fp64" else ("fp32", 4)
    chosen = forward_tile if kernel == "forward" else backward_tile
    tile = Tile(*tile) if tile else chosen(n, itemsize, interpreted=False)
    function = getattr(KERNELS[kind], "forward_wide" if kernel == "forward" and not tile.held else kernel)
    values = {"N": n, "eps": 1e-5, "offset": 0.0, "ROWS": tile.rows, "COLUMNS": tile.columns, "STAGES": STAGES}
    absent = {"DResidual"}
    absent |= set() if add else {"Residual", "Sum", "DSum"}
    absent |= {"GMean", "GXMean"} if tile.held else set()
    values |= dict.fromkeys(absent)
    signature = {
        name: "constexpr" if name in values else "i32" if name == "M" else "*" + (dtype if name in MATRICES else wide)
        for name in function.arg_names
    }
    pointers = [(i,) for i, name in enumerate(function.arg_names) if signature[name][0] == "*"]
    program = triton.compile(
        triton.compiler.ASTSource(
            function,
            signature,
            constexprs={name: value for name, value in values.items() if name in signature},
            attrs={pointer: [["tt.divisibility", 16]] for pointer in pointers},  # as every tensor torch allocates
        ),
        target=triton.backends.compiler.GPUTarget(*TARGETS[target]),
        options=compiler_options(tile, warp=TARGETS[target][2]),
    )
    read = _read_amd if target.startswith("hip") else _read_nvidia
    return {
        **dict(kind=kind, kernel=kernel, n=n, dtype=dtype, target=target, add=add),
        **dict(rows=tile.rows, columns=tile.columns, threads=tile.threads, held=tile.held),
        **dict(shared=program.metadata.shared, ttir=program.asm["ttir"]),
        **read(program),
    }


def _read_nvidia(program):
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "kernel.cubin"
        binary.write_bytes(program.asm["cubin"])
        usage, assembly = (
            subprocess.run([tool, option, binary], capture_output=True, text=True, check=True).stdout
            for option in ("-res-usage", "-sass")
        )
    return {
        "registers": int(re.search(r"REG:(\d+)", usage)[1]),
        "spills": len(re.findall(r"\b(?:LDL|STL)\b", assembly)),
        "loads": _widths(re.findall(r"\bLDG(?:STS)?\.E\S*", assembly), {".128": 128, ".64": 64, "16": 16, "8": 8}, 32),
        "stores": _widths(re.findall(r"\bSTG\.E\S*", assembly), {".128": 128, ".64": 64, "16": 16, "8": 8}, 32),
        "fp64": len(re.findall(r"\bD(?:ADD|MUL|FMA|SETP)\b", assembly)),
        "assembly": assembly,
    }


def _read_amd(program):
    assembly = program.asm["amdgcn"]
    names = {"dwordx4": 128, "dwordx3": 96, "dwordx2": 64, "short": 16, "byte": 8}
    return {
        "registers": int(re.search(r"\.vgpr_count:\s+(\d+)", assembly)[1]),
        "spills": sum(int(count) for count in re.findall(r"\.[sv]gpr_spill_count:\s+(\d+)", assembly)),
        "loads": _widths(re.findall(r"\b(?:global|buffer)_load_\w+", assembly), names, 32),
        "stores": _widths(re.findall(r"\b(?:global|buffer)_store_\w+", assembly), names, 32),
        "fp64": len(re.findall(r"\bv_(?:add|mul|fma)_f64", assembly)),
        "assembly": assembly,
    }


def _widths(instructions, names, otherwise):
    """How many instructions access how many bits, read off their names."""
    widths = [next((bits for name, bits in names.items() if name in i), otherwise) for i in instructions]
    return {bits: widths.count(bits) for bits in sorted(set(widths))}


if __name__ == "__main__":
    print(json.dumps(reports(json.load(sys.stdin))))
