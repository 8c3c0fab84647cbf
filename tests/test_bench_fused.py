"""What of `make bench-fused` can be seen without a GPU: it measures nothing, and counts and checks rightly."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tools import bench_fused as bench

pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning:triton")


@pytest.mark.skipif(torch.cuda.is_available(), reason="only where there is no GPU")
def test_without_a_gpu_nothing_is_measured_and_nothing_is_written(tmp_path):
    command = [sys.executable, "-m", "tools.bench_fused", "--out", str(tmp_path / "fused.json")]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert run.returncode == 1 and not list(tmp_path.iterdir())
    assert "needs a CUDA GPU" in run.stderr and "nothing was measured" in run.stderr


def test_options_name_what_is_known():
    options = bench.arguments(["--op", "rms_norm", "--size", "128", "4096", "--dtype", "bf16"])
    assert (options.op, options.size, options.dtype) == (["rms_norm"], [128, 4096], ["bf16"])
    assert bench.arguments([]).size[-1] == 131072 and set(bench.arguments([]).dtype) == {"bf16", "fp16", "fp32"}
    with pytest.raises(SystemExit):
        bench.arguments(["--op", "batch_norm"])


def test_the_byte_floor_counts_each_tensor_once():
    m, n, e = 1000, 4096, 2
    matrix = m * n * e
    assert bench.floor_bytes("rms_norm", "forward", m, n, e) == 2 * matrix + 4 * m + n * e  # x, y; rstd; w
    assert bench.floor_bytes("layer_norm", "forward", m, n, e) == 2 * matrix + 8 * m + 2 * n * e  # and mean; b
    assert bench.floor_bytes("add_rms_norm", "forward", m, n, e) == 4 * matrix + 4 * m + n * e  # residual, sum
    assert bench.floor_bytes("rms_norm", "backward", m, n, e) == 3 * matrix + 4 * m + 2 * n * e  # dy, x, dx; w, dw
    assert bench.floor_bytes("layer_norm", "backward", m, n, e) == 3 * matrix + 8 * m + 3 * n * e  # and db
    assert bench.floor_bytes("add_layer_norm", "backward", m, n, e) == 4 * matrix + 8 * m + 3 * n * e  # and dsum
    for op in bench.OPS:
        parts = [bench.floor_bytes(op, direction, m, n, e) for direction in ("forward", "backward")]
        assert bench.floor_bytes(op, "both", m, n, e) == sum(parts)


def test_the_goal_is_that_of_the_next_larger_row():
    assert bench.goal("rms_norm", "forward", 128) == 0.90 and bench.goal("add_rms_norm", "backward", 128) == 0.82
    assert bench.goal("layer_norm", "forward", 8192) == 0.97 and bench.goal("layer_norm", "backward", 65536) == 0.65
    assert bench.goal("layer_norm", "both", 128) is None
    assert all(bench.goal(op, "forward", n) for op in bench.OPS for n in bench.SIZES)


@pytest.mark.parametrize("dtype", list(bench.DTYPES.values()))
@pytest.mark.parametrize("op", bench.OPS)
def test_a_right_provider_passes_the_check_before_timing(op, dtype):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("normcourse", "torch"):
        bench.check(bench.PROVIDERS[name], op, 300, dtype, device)


def of_a_residual_off_by_a_hundredth(op, x, residual, weight, bias):
    return bench.torch_eager(op, x, None if residual is None else residual * 1.01, weight, bias)


def with_a_gradient_that_is_missing_a_term(op, x, residual, weight, bias):
    return bench.torch_eager(op, x * 0.5 + x.detach() * 0.5, residual, weight, bias)


def with_a_nan(op, x, residual, weight, bias):
    y, *rest = bench.torch_eager(op, x, residual, weight, bias)
    return (torch.where(torch.arange(len(y))[:, None] == 3, torch.nan, y), *rest)


@pytest.mark.parametrize(
    ("provider", "wrong"),
    [(of_a_residual_off_by_a_hundredth, "y"), (with_a_gradient_that_is_missing_a_term, "dx"), (with_a_nan, "y")],
)
def test_a_wrong_provider_is_named_and_not_timed(provider, wrong, monkeypatch):
    monkeypatch.setitem(bench.PROVIDERS, "wrong", provider)
    monkeypatch.setattr(bench, "device_time", lambda *_: pytest.fail("a wrong provider was timed"))
    row = bench.measure("wrong", "add_rms_norm", "forward", 256, "bf16", 4e12, torch.device("cpu"))
    assert row["failed"].startswith(f"ValueError: {wrong} differs from fp64") and "seconds" not in row
    assert "differs from fp64" in bench.line(row)


def test_a_provider_that_is_not_installed_is_a_row_that_says_so():
    row = bench.measure("quack", "layer_norm", "forward", 256, "bf16", 4e12, torch.device("cpu"))
    assert "failed" in row and "seconds" not in row


def test_the_file_holds_hardware_versions_date_and_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "device_time", lambda calls: 1e-3)
    monkeypatch.setattr(bench, "TENSOR_BYTES", 2**16)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    row = bench.measure("torch", "rms_norm", "backward", 256, "bf16", 1e9, device)
    assert row["M"] == 128 and row["bytes_per_second"] == pytest.approx(row["floor_bytes"] / 1e-3)
    assert row["fraction"] == pytest.approx(row["floor_bytes"] / 1e-3 / 1e9)
    path = tmp_path / "folder" / "fused.json"
    bench.write(path, {"device": "a card"}, 1e9, [row], {}, ["--op", "rms_norm"])
    found = json.loads(path.read_text())
    assert found["results"] == [row] and found["hardware"] == {"device": "a card"}
    assert found["versions"]["torch"] and found["date"].endswith("+00:00") and found["command"] == ["--op", "rms_norm"]


@pytest.mark.parametrize("direction", bench.DIRECTIONS)
def test_the_calls_that_are_timed_run_on_two_sets_of_inputs(direction):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    calls = bench.calls_of(bench.torch_eager, "add_layer_norm", direction, 8, 64, torch.float32, device)
    first, second, again, _ = (call() for call in calls)
    assert len(calls) == bench.CALLS and len(first) == (2 if direction == "forward" else 4)
    assert not torch.equal(first[0], second[0]) and torch.equal(first[0], again[0])
