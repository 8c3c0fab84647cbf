"""The fused kernels compiled for GPUs that need not be there: what the machine's instructions are, on any machine."""

import itertools
import re
from functools import lru_cache

import pytest

from normcourse.fused import compiled

pytestmark = pytest.mark.slow  # Triton compiles for a minute

KINDS = ["layer_norm", "rms_norm"]
KERNELS = ["forward", "backward"]
SIZES = [128, 256, 512, 1024, 1128, 2048, 3072, 4096, 5120, 8192]
WIDE = [16384, 32768, 131072]
ARGUMENTS = ["kernel", "n", "dtype", "target", "add"]
ASKED = [
    *itertools.product(KERNELS, SIZES, ["bf16"], ["cuda:90"], [False, True]),
    *itertools.product(KERNELS, WIDE, ["bf16"], ["cuda:90"], [True]),
    *itertools.product(KERNELS, [1024, 131072], ["bf16"], ["cuda:80", "hip:gfx942"], [True]),
    *itertools.product(["backward_means"], [131072], ["bf16"], list(compiled.TARGETS), [True]),
    *itertools.product(KERNELS, [3072], ["fp16", "fp32", "fp64"], ["cuda:90"], [True]),
]


@lru_cache
def reports(kind):
    """Every report that the tests below look at, from one process per kind."""
    return dict(zip(ASKED, compiled.reports([{"kind": kind, **dict(zip(ARGUMENTS, one))} for one in ASKED])))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_up_to_8192_in_bf16_spill_no_register_on_hopper(kind, kernel, n):
    for add in (False, True):
        report = reports(kind)[kernel, n, "bf16", "cuda:90", add]
        assert report["spills"] == 0 and report["registers"] * report["threads"] <= 65536
        assert report["held"], "one read of the row"


def least_accesses(report, matrices):
    """How often each thread must load or store 16 bytes to cover the tile of each matrix once."""
    size = {"bf16": 2, "fp16": 2, "fp32": 4, "fp64": 8}[report["dtype"]]
    return matrices * max(1, report["rows"] * report["columns"] * size // (report["threads"] * 16))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_up_to_8192_in_bf16_are_loaded_and_stored_128_bits_at_a_time_on_hopper(kind, kernel, n):
    for add in (False, True):
        report = reports(kind)[kernel, n, "bf16", "cuda:90", add]
        inputs, outputs = (1 + add, 1 + add) if kernel == "forward" else (2 + add, 1)
        assert report["loads"][128] >= least_accesses(report, inputs)
        assert report["stores"][128] >= least_accesses(report, outputs)
        # what is left is once per row (rstd, mean) or once per column (w, b and the partial dw, db at the end)
        narrow = sum(count for access in ("loads", "stores") for bits, count in report[access].items() if bits < 128)
        assert narrow <= (12 if kind == "layer_norm" else 6), (report["loads"], report["stores"])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_computed_in_fp64_unless_x_is_fp64(kind, kernel):
    for one, report in reports(kind).items():
        if one[0] == kernel:
            assert (report["fp64"] > 0) == (report["dtype"] == "fp64"), one


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kind", KINDS)
def test_wide_rows_spill_no_register_on_hopper(kind, kernel):
    for n in WIDE:
        report = reports(kind)[kernel, n, "bf16", "cuda:90", True]
        assert report["spills"] == 0
        assert report["held"] == (kernel == "forward" and n <= 32768)


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_that_held_a_row_of_16384_in_backward_would_spill_on_hopper(kind):
    """Why backward reads wide rows twice, see `fused.traffic`."""
    held = {"kind": kind, "kernel": "backward", "n": 16384, "tile": (1, 16384, 1024)}
    for report in compiled.reports([held | {"add": add} for add in (False, True)]):
        assert report["held"] and report["registers"] == 64 == 65536 // report["threads"]
        assert report["spills"] > 50


@pytest.mark.parametrize("target", list(compiled.TARGETS))
@pytest.mark.parametrize("kind", KINDS)
def test_every_kernel_compiles_for_ampere_hopper_and_cdna3_without_spills(kind, target):
    compiled_for_it = {one: report for one, report in reports(kind).items() if one[3] == target}
    found = {one[:2] for one, report in compiled_for_it.items() if report["spills"] == 0}
    assert found >= {("forward", 1024), ("forward", 131072), ("backward", 1024), ("backward", 131072)}
    assert ("backward_means", 131072) in found
    assert all(report["threads"] <= 1024 for report in compiled_for_it.values())
    limit = {"cuda:80": 163, "cuda:90": 227, "hip:gfx942": 64}[target]  # KiB of shared memory for one program
    assert all(report["shared"] <= limit * 1024 for report in compiled_for_it.values())


@pytest.mark.parametrize("kind", KINDS)
def test_every_dtype_compiles_for_hopper(kind):
    for kernel, dtype in itertools.product(KERNELS, ["fp16", "fp32", "fp64"]):
        report = reports(kind)[kernel, 3072, dtype, "cuda:90", True]
        assert report["spills"] == 0 or dtype == "fp64", report  # the division of fp64 is a routine with a stack


def addresses(ttir):
    """(argument, bits of the offset) for each address that the kernel forms from a pointer argument."""
    origin = {name: name for name in re.findall(r"%(\w+): !tt\.ptr", ttir)}
    for result, operation, operand, rest in re.findall(r"%(\w+) = tt\.(splat|broadcast|addptr) %(\w+)(.*)", ttir):
        if operand in origin:
            origin[result] = origin[operand]
            if operation == "addptr":
                yield origin[operand], int(re.search(r", (?:tensor<[\dx]+)?i(32|64)>?(?: loc|$)", rest)[1])


@pytest.mark.parametrize("kernel", [*KERNELS, "backward_means"])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_addressed_with_64_bits(kind, kernel):
    """A matrix may have more than 2^31 elements; offsets within a row of W and B stay below N."""
    for n in [131072] if kernel == "backward_means" else [1024, 131072]:
        ttir = reports(kind)[kernel, n, "bf16", "cuda:90", True]["ttir"]
        offsets = list(addresses(ttir))
        assert {"X", "Rstd"} <= {argument for argument, _ in offsets}
        assert {argument for argument, bits in offsets if bits == 32} <= {"W", "B"}, offsets
        # and no product is formed in 32 bits and widened later, but for the first column of a block
        products = re.findall(r"%(\w+) = arith\.muli .* : (?:tensor<[\dx]+)?i32", ttir)
        assert all(name.startswith("column") for name in products), products


def test_a_report_names_what_it_does_not_know():
    with pytest.raises(ValueError, match="target is 'cuda:75'; known are cuda:80, cuda:90, hip:gfx942"):
        compiled.report("layer_norm", "forward", 1024, target="cuda:75")
    with pytest.raises(ValueError, match="kind is 'norm'; known are layer_norm, rms_norm"):
        compiled.report("norm", "forward", 1024)
