"""`make gpu`: what only a GPU can show, in eight minutes on one card.

The tests marked gpu first, for at most four minutes; then, for what is left, the benchmark: bf16, each norm alone and
after an addition, forward and backward, from the sizes that matter most. The JSON is written after each row, so that a
run that is cut off keeps what it measured; `--dry-run` says what would be run, anywhere.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
MINUTES, TESTS = 8, 4
SIZES = ["4096", "8192", "1024", "16384", "131072", "256"]


def commands(out):
    """(what it is for, command, its share of the seconds that are left)."""
    tests = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-m", "gpu", "tests"]
    bench = [sys.executable, "-m", "tools.bench_fused", "--dtype", "bf16", "--direction", "forward", "backward"]
    return [
        ("tests", tests, TESTS / MINUTES),
        ("benchmark", [*bench, "--size", *SIZES, "--op", "rms_norm", "add_rms_norm", "--out", str(out)], 0.7),
        ("benchmark of LayerNorm", [*bench, "--size", *SIZES[:3], "--op", "layer_norm", "add_layer_norm",
                                    "--out", str(out.with_stem(out.stem + "_layer_norm"))], 1.0),
    ]  # fmt: skip


def main(argv):
    parser = argparse.ArgumentParser(prog="python -m tools.gpu", description=__doc__.split("\n")[0])
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("artefacts/fused.json"))
    options = parser.parse_args(argv)
    if options.dry_run:
        for name, command, _ in commands(options.out):
            print(f"{name}: {' '.join(command[1:])}")
        return 0
    import torch

    if not torch.cuda.is_available():
        return "make gpu needs a CUDA GPU, and torch finds none here: nothing was run, nothing was written"
    end, failed = time.monotonic() + 60 * MINUTES, []
    for name, command, share in commands(options.out):
        left = share * (end - time.monotonic())
        try:
            code = subprocess.run(command, cwd=ROOT, timeout=left).returncode
            failed += [f"{name} ended with {code}"] if code else []
        except subprocess.TimeoutExpired:
            failed.append(f"{name} was cut off after {left:.0f} s")
    return "; ".join(failed) or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
