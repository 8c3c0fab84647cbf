"""`make bench-fused`: the fused kernels beside torch, torch.compile, Liger-Kernel and quack, on a GPU.

Each provider is compared with fp64 before it is timed. Times are of the device alone: calls are captured in a CUDA
graph that goes through inputs larger than the cache in turn, so that every call finds it cold. A fraction is the time
in which a copy, measured in the same run, would move the bytes that the operation must move, over the time it took.

    python -m tools.bench_fused --dtype bf16 --size 4096 8192 --op rms_norm --out artefacts/fused.json
"""

import argparse
import itertools
import json
import platform
import statistics
import sys
import time
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import torch
import torch._functorch.config
import torch.nn.functional as F

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
OPS = ["layer_norm", "rms_norm", "add_layer_norm", "add_rms_norm"]
DIRECTIONS = ["forward", "backward", "both"]
SIZES = [128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072]
EPS = {"layer_norm": 1e-5, "rms_norm": 1e-6}
GOALS = {  # fraction of the floor, up to that N: forward, add + norm forward, backward, add + norm backward
    512: (0.90, 0.90, 0.80, 0.82),
    4096: (0.96, 0.96, 0.90, 0.90),
    8192: (0.97, 0.97, 0.88, 0.90),
    32768: (0.96, 0.95, 0.80, 0.82),
    131072: (0.90, 0.85, 0.65, 0.65),
}
TENSOR_BYTES = 2**28  # five times the cache of an H200
CALLS = 4  # in one graph


def floor_bytes(op, direction, m, n, itemsize):
    """Bytes that must cross the memory bus: each input read once, each output written once.

    Saved statistics are fp32, 4 bytes per row and statistic; weights and their gradients are n elements each.
    """
    statistics_bytes = 4 * m * (2 if op.endswith("layer_norm") else 1)
    parameters = n * itemsize * (2 if op.endswith("layer_norm") else 1)
    matrix = m * n * itemsize
    forward = (4 if op.startswith("add") else 2) * matrix + statistics_bytes + parameters
    # backward reads the weight (not the bias) and writes dweight, dbias
    backward = (4 if op.startswith("add") else 3) * matrix + statistics_bytes + parameters + n * itemsize
    return {"forward": forward, "backward": backward, "both": forward + backward}[direction]


def goal(op, direction, n):
    """The fraction aimed at, None for forward and backward together."""
    if direction == "both":
        return None
    column = 2 * (direction == "backward") + op.startswith("add")
    return next(goals[column] for size, goals in GOALS.items() if n <= size)


def torch_eager(op, x, residual, weight, bias):
    total = x if residual is None else x + residual
    if op.endswith("layer_norm"):
        y = F.layer_norm(total, total.shape[-1:], weight, bias, EPS["layer_norm"])
    else:
        y = F.rms_norm(total, total.shape[-1:], weight, EPS["rms_norm"])
    return (y,) if residual is None else (y, total)


def normcourse(op, x, residual, weight, bias):
    from normcourse import fused

    inputs = [t for t in (x, residual, weight, bias) if t is not None]
    out = getattr(fused, op)(*inputs)
    return out if residual is not None else (out,)


def liger(op, x, residual, weight, bias):
    from liger_kernel.ops.fused_add_rms_norm import LigerFusedAddRMSNormFunction
    from liger_kernel.ops.layer_norm import LigerLayerNormFunction
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    if op == "layer_norm":
        return (LigerLayerNormFunction.apply(x, weight, bias, EPS[op]),)
    if op == "rms_norm":
        return (LigerRMSNormFunction.apply(x, weight, EPS[op], 0.0, "llama", False),)
    if op == "add_rms_norm":
        return LigerFusedAddRMSNormFunction.apply(x, residual, weight, EPS["rms_norm"], 0.0, "llama", False)
    raise NotImplementedError("Liger-Kernel has no fused add + layer_norm")


def quack(op, x, residual, weight, bias):
    from quack.rmsnorm import rmsnorm

    if op == "rms_norm":
        return (rmsnorm(x, weight, eps=EPS[op]),)
    if op == "add_rms_norm":
        return rmsnorm(x, weight, residual=residual, eps=EPS["rms_norm"], prenorm=True)
    raise NotImplementedError("quack has no layer_norm with a gradient")


def torch_compiled(op, x, *tensors):
    return _compiled(op, x.shape, x.dtype)(x, *tensors)


@lru_cache(maxsize=1)
def _compiled(op, shape, dtype):
    torch._dynamo.reset()  # or after a handful of shapes it would give up compiling for each
    return torch.compile(lambda *tensors: torch_eager(op, *tensors), dynamic=False)


PROVIDERS = {
    "normcourse": normcourse,
    "torch": torch_eager,
    "torch.compile": torch_compiled,
    "Liger-Kernel": liger,
    "quack": quack,
}


def make_inputs(op, m, n, dtype, device, seed=0):
    """(x, residual, weight, bias), None for what op does not take, and one cotangent per output."""
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, device=device, dtype=dtype)

    adds = op.startswith("add")
    x, residual = normal(m, n), normal(m, n) if adds else None
    weight, bias = normal(n), normal(n) if op.endswith("layer_norm") else None
    tensors = [None if t is None else t.requires_grad_() for t in (x, residual, weight, bias)]
    return tensors, [normal(m, n) for _ in range(1 + adds)]


def check(provider, op, n, dtype, device, rows=64):
    """A ValueError unless values and gradients are those of fp64, within twice the error of torch's own operator
    (and 16 units of fp32, which is what sums are made in)."""
    tensors, cotangents = make_inputs(op, rows, n, dtype, device, seed=1)

    def results(function, convert=lambda t: t):
        own = [None if t is None else convert(t.detach()).requires_grad_() for t in tensors]
        outputs = function(op, *own)
        given = [t for t in own if t is not None]
        return [*(o.detach() for o in outputs), *torch.autograd.grad(outputs, given, [convert(c) for c in cotangents])]

    def error(found, truth):
        return float((found.double() - truth).norm() / truth.norm())

    truth = results(torch_eager, torch.Tensor.double)
    names = ["y", *(["new_residual"] if op.startswith("add") else [])]
    names += [f"d{name}" for name, t in zip(("x", "residual", "weight", "bias"), tensors) if t is not None]
    for name, found, theirs, exact in zip(names, results(provider), results(torch_eager), truth):
        ours, bound = error(found, exact), 2 * error(theirs, exact) + 2**-20
        if not ours <= bound:  # NaN too
            raise ValueError(f"{name} differs from fp64 by {ours:.1e}, more than {bound:.1e}")


def device_time(calls, repeats=9):
    """Median seconds per call: `calls` in one CUDA graph, replayed."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for call in calls:  # compiles, and warms up
            call()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for call in calls:
                call()
        graph.replay()
        times = []
        for _ in range(repeats):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record(stream)
            graph.replay()
            end.record(stream)
            end.synchronize()
            times.append(start.elapsed_time(end) / 1e3 / len(calls))
    return statistics.median(times)


def calls_of(provider, op, direction, m, n, dtype, device):
    """Functions to be timed, each on inputs of its own so that none finds the cache warm."""
    calls = []
    for seed in range(2):
        tensors, cotangents = make_inputs(op, m, n, dtype, device, seed)
        given = [t for t in tensors if t is not None]

        def forward(tensors=tensors):
            return provider(op, *tensors)

        def both(tensors=tensors, given=given, cotangents=cotangents):
            return torch.autograd.grad(provider(op, *tensors), given, cotangents)

        if direction == "forward":
            calls.append(torch.no_grad()(forward))
        elif direction == "both":
            calls.append(both)
        else:
            calls.append(backward_of(forward, given, cotangents))
    return [calls[i % 2] for i in range(CALLS)]


def backward_of(forward, given, cotangents):
    outputs = []

    def backward():
        if not outputs:  # on the stream of the first call, which is the one that is captured
            outputs.extend(forward())
        return torch.autograd.grad(outputs, given, cotangents, retain_graph=True)

    return backward


def copy_bandwidth(device):
    """Bytes read and written per second by a copy of TENSOR_BYTES."""
    pairs = [[torch.randn(TENSOR_BYTES // 4, device=device) for _ in range(2)] for _ in range(2)]
    seconds = device_time([lambda a=a, b=b: a.copy_(b) for a, b in pairs * 2])
    return 2 * TENSOR_BYTES / seconds


def host_time(provider, op, device, calls=200):
    """Seconds of the CPU per forward and backward on inputs too small to keep the device busy."""
    tensors, cotangents = make_inputs(op, 4, 1024, torch.bfloat16, device)
    given = [t for t in tensors if t is not None]
    times = []
    for _ in range(5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            torch.autograd.grad(provider(op, *tensors), given, cotangents)
        times.append((time.perf_counter() - start) / calls)
        torch.cuda.synchronize()
    return min(times)


def versions():
    found = {"python": platform.python_version(), "cuda": torch.version.cuda}
    for package in ("torch", "triton", "liger-kernel", "quack-kernels", "normcourse"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def write(path, hardware, bandwidth, rows, host, command):
    """One JSON file: hardware, versions, date, how it was called, and the rows of the table."""
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "hardware": hardware,
        "versions": versions(),
        "copy_bytes_per_second": bandwidth,
        "tensor_bytes": TENSOR_BYTES,
        "host_seconds": host,
        "results": rows,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def measure(name, op, direction, n, dtype, bandwidth, device):
    """One row of the table; `failed` says why there is no time."""
    itemsize = DTYPES[dtype].itemsize
    m = TENSOR_BYTES // (n * itemsize)
    row = {"provider": name, "op": op, "direction": direction, "dtype": dtype, "M": m, "N": n}
    row["floor_bytes"] = floor_bytes(op, direction, m, n, itemsize)
    row["goal"] = goal(op, direction, n) if name == "normcourse" else None
    try:
        check(PROVIDERS[name], op, n, DTYPES[dtype], device)
        row["seconds"] = device_time(calls_of(PROVIDERS[name], op, direction, m, n, DTYPES[dtype], device))
        row["bytes_per_second"] = row["floor_bytes"] / row["seconds"]
        row["fraction"] = row["bytes_per_second"] / bandwidth
    except Exception as failure:
        row["failed"] = f"{type(failure).__name__}: {failure}".split("\n")[0][:200]
    torch.cuda.empty_cache()
    return row


def line(row):
    name = f"{row['op']:15} {row['direction']:9} {row['dtype']:5} {row['N']:7} {row['provider']:13}"
    if "failed" in row:
        return f"{name}  {row['failed']}"
    wanted = (
        "" if row["goal"] is None else f"  goal {row['goal']:4.0%}{'' if row['fraction'] >= row['goal'] else '  short'}"
    )
    return f"{name} {1e6 * row['seconds']:9.1f} µs {row['bytes_per_second'] / 1e9:7.0f} GB/s {row['fraction']:6.1%}{wanted}"


def arguments(argv):
    parser = argparse.ArgumentParser(prog="python -m tools.bench_fused", description=__doc__.split("\n")[0])
    parser.add_argument("--op", nargs="+", choices=OPS, default=OPS)
    parser.add_argument("--direction", nargs="+", choices=DIRECTIONS, default=DIRECTIONS)
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--size", nargs="+", type=int, default=SIZES, help="N, the length of a row")
    parser.add_argument("--provider", nargs="+", choices=PROVIDERS, default=list(PROVIDERS))
    parser.add_argument("--out", type=Path, default=Path("artefacts/fused.json"))
    return parser.parse_args(argv)


def main(argv):
    options = arguments(argv)
    if not torch.cuda.is_available():
        return "bench-fused needs a CUDA GPU, and torch finds none here: nothing was measured, nothing was written"
    torch._functorch.config.donated_buffer = False  # torch.compile's backward is run more than once
    device = torch.device("cuda", torch.cuda.current_device())
    properties = torch.cuda.get_device_properties(device)
    hardware = {
        "device": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "capability": f"{properties.major}.{properties.minor}",
    }
    bandwidth = copy_bandwidth(device)
    print(f"{hardware['device']}: a copy moves {bandwidth / 1e9:.0f} GB/s; {versions()}")
    rows, host = [], {}
    for dtype, op, direction, n, name in itertools.product(
        options.dtype, options.op, options.direction, options.size, options.provider
    ):
        rows.append(measure(name, op, direction, n, dtype, bandwidth, device))
        print(line(rows[-1]), flush=True)
        write(options.out, hardware, bandwidth, rows, host, argv)  # what was measured is kept if a later one hangs
    for op, name in itertools.product(options.op, options.provider):
        try:
            host[f"{op} {name}"] = host_time(PROVIDERS[name], op, device)
            print(f"{op:15} {name:13} {1e6 * host[f'{op} {name}']:6.1f} µs of the host, forward and backward")
        except Exception as failure:
            print(f"{op:15} {name:13} {type(failure).__name__}")
    write(options.out, hardware, bandwidth, rows, host, argv)
    print(f"written to {options.out}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
