"""Chapter 10: the counts against sums by hand and closed forms, recomputation against autograd, claims by counting."""

import re

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from normcourse.chapters.fused_kernels import evidence, signature
from normcourse.chapters.fused_kernels.counting import (
    GPUS,
    Counted,
    add_rms_norm_steps,
    by_steps,
    count_block,
    fused_frame,
    seconds,
)
from normcourse.chapters.fused_kernels.kernels import passes, story
from normcourse.chapters.fused_kernels.recomputing import kept_bytes, memory_and_work, recomputed, run, transformer
from normcourse.norms import rms_norm

from ..lessons import definitions


def like(*shape, dtype=torch.bfloat16):
    return torch.empty(*shape, dtype=dtype, device="meta")


# counts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (4096, 4096), (100_000, 16)])
def test_the_steps_move_ten_matrices_and_a_few_numbers_a_row(rows, columns):
    frame = evidence.launches(rows, columns)
    matrix, row, column = 2 * rows * columns, 2 * rows, 2 * columns
    # r and s²: 3 and 2; the mean of s²: 1; mean + ε, its root; x̂: 2 and rstd; y: 2 and w
    assert frame["bytes"].sum() == 10 * matrix + (1 + 2 + 2 + 1) * row + column
    assert frame["op"].tolist() == ["add", "mul", "mean", "add", "rsqrt", "mul", "mul"]


def test_a_view_moves_nothing_and_an_expanded_tensor_is_as_small_as_it_is_stored():
    x = like(8, 16)
    with Counted() as counted:
        x.view(16, 8).t()[2:]
        x + like(1, 16).expand(8, 16)
    (one,) = counted.launches
    assert one.op == "add" and one.bytes == 2 * (128 + 16 + 128)


def test_a_matrix_product_is_counted_by_its_definition():
    with Counted() as counted:
        like(7, 11) @ like(11, 13)
    (one,) = counted.launches
    assert one.flops == 2 * 7 * 11 * 13 and one.bytes == 2 * (77 + 143 + 91)


def test_a_launch_on_the_roofline_takes_the_longer_of_both_times():
    frame = count_block(by_steps, 4096)
    bandwidth, peak = GPUS["H100"]
    times = seconds(frame)
    assert (times >= frame["bytes"] / bandwidth - 1e-18).all() and (times >= frame["flops"] / peak - 1e-18).all()
    products = frame["op"] == "mm"
    assert products.sum() == 6 and (times[products] == frame["flops"][products] / peak).all()
    assert frame["flops"][products].sum() == 2 * 12 * 4096**2 * evidence.ROWS  # 4 d² and 8 d² weights a token
    assert frame["op"].eq("add + norm").sum() == 2 * 7


def test_the_steps_compute_rms_norm_and_fusing_leaves_the_other_launches_as_they_are():
    x, r, w = (torch.randn(5, 6, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(3))
    found = add_rms_norm_steps(x, r, w[0])
    assert torch.allclose(found["y"], rms_norm(x + r, w[0]), rtol=1e-13) and torch.equal(found["s"], x + r)
    before, after = count_block(by_steps, 1024), fused_frame(count_block(by_steps, 1024), evidence.ROWS, 1024)
    rest = [frame[frame["op"] != "add + norm"]["bytes"].sum() for frame in (before, after)]
    assert rest[0] == rest[1] and len(after) == len(before) - 12


def test_the_claims_follow_from_counting_matrices():
    """Addition and norm move 10 matrices in steps, 5 in two kernels, 4 in one, up to the numbers that come one a row."""
    saved = evidence.saved_by_fusing().set_index("setting")["value"]
    assert saved["pair_steps"] == pytest.approx(60, abs=0.1) and saved["pair_kernel"] == pytest.approx(20, abs=0.1)
    cost = evidence.cost_of_norms().set_index("setting")["value"]
    assert cost["flops_4096"] < 0.02 < 5 < cost["time_steps_4096"] < cost["time_steps_1024"]
    assert saved["block_steps_4096"] < cost["time_steps_4096"]  # one cannot save more than there is


# the picture ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("program", "steps", "fused"), [("add_rms_norm", 10, 4), ("rms_norm", 7, 2)])
def test_the_journey_crosses_as_often_as_the_steps_read_and_write(program, steps, fused):
    frame = signature.journey(20, program, 1024)
    ends = frame.groupby("way")["stop"].max()
    assert ends["fused"] == fused and ends["steps"] == pytest.approx(steps, abs=0.01)
    assert ((frame["stop"] - frame["start"]) * 4096).round().eq(frame["bytes"]).all()
    rows = frame[frame["way"] == "steps"]
    assert rows["launch"].nunique() == (7 if fused == 4 else 6)
    for launch, part in rows.groupby("launch"):
        assert part["up"].iloc[-1], launch  # each launch ends by writing


# kernels --------------------------------------------------------------------------------------------------------------


def test_the_story_counts_instructions_in_a_row():
    assembly = "\n".join(
        f"        /*{i:04x}*/    {text} ;    /* 0x00 */"
        for i, text in enumerate(
            [
                "@!P0 LDG.E.128 R4, desc[UR4][R2.64]",
                "LDG.E.128 R8, [R2]",
                "FMUL R1, R2, R3",
                "MUFU.RSQ R7, R7",
                "BAR.SYNC.DEFER_BLOCKING 0x0",
                "@P1 STG.E desc[UR4], R5",
            ]
        )
    )
    assert [line.split(" × ") for line in map(str.strip, story(assembly))] == [
        ["2", "LDG.E.128"],
        ["1", "MUFU.RSQ"],
        ["1", "BAR.SYNC"],
        ["1", "STG.E"],
    ]


def test_passes_are_read_off_a_programs_text():
    source = "for(x0)\n  auto tmp0 = in_ptr0[x0];\n  auto tmp1 = out_ptr0[x0] + in_ptr0[0];\n  out_ptr0[x0] = tmp0;"
    assert passes(source) == {"in_ptr0": (2, 0), "out_ptr0": (1, 1)}


def test_the_lesson_can_be_read_without_triton():
    """Every call that launches a kernel stands inside once_written, and the kernels are only written down."""
    from tools.build_notebooks import lessons, read

    cells = [c.source for c in read(lessons(["10"])[0].source).cells if c.cell_type == "code"]
    launching = [
        c
        for c in cells
        if re.search(r"^\w+\[\w*\(|^(launch|counted_bytes|compared|backward_in_parts|over_the_fewest)\(", c, re.M)
    ]
    assert not launching and sum("once_written(" in c for c in cells) == 6


# recomputation --------------------------------------------------------------------------------------------------------


def test_what_is_kept_of_a_chain_is_known():
    """tanh keeps its output, a square its input: four tensors, of which the squares' inputs are the tanhs' outputs."""
    x = torch.randn(10, requires_grad=True)
    _, kept = kept_bytes(lambda: x.tanh().square().tanh().square(), torch.nn.Identity())
    assert kept == 2 * 10 * 4
    layer = torch.nn.Linear(10, 10)
    _, kept = kept_bytes(lambda: layer(x[None]), layer)
    assert kept == 10 * 4  # the input; the weight is there anyway


def test_recomputation_changes_no_gradient_and_doubles_the_calls():
    model, x = transformer(4), torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    expected = torch.autograd.grad(run(model, x, 0).square().sum(), x)[0]
    for segment in (1, 2, 4):
        assert torch.equal(torch.autograd.grad(run(model, x, segment).square().sum(), x)[0], expected)
        assert recomputed(4, segment)["calls"] == 2 and recomputed(4, 0)["calls"] == 1
    assert recomputed(4, 1, 2)["calls"] == 1.5


@pytest.mark.parametrize("depth", [4, 8])
def test_the_most_that_is_in_memory_follows_the_formula(depth):
    frame = memory_and_work(depth, 2)
    assert (frame["most"] / frame["theory"]).tolist() == pytest.approx([1] * len(frame), abs=1e-9)
    assert frame["kept"].is_monotonic_decreasing and frame["most"].is_monotonic_increasing
    assert 1.15 < frame["work"].iloc[0] < 4 / 3 + 0.01  # one more forward pass of about three


def test_what_a_checkpoint_keeps_is_its_input():
    x = torch.randn(6, 6, requires_grad=True)
    block = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Tanh(), torch.nn.Linear(6, 6))
    _, kept = kept_bytes(lambda: checkpoint(block, x.exp(), use_reentrant=False), block)
    assert kept == 6 * 6 * 4  # exp keeps its output, which is that input


def test_the_roofline_of_the_lesson_has_every_launch_under_the_roof():
    frame = definitions("10")["roofline"](hidden_size=1024, gpu="A100")
    roof = (frame["intensity"] * frame["bandwidth"]).clip(upper=frame["peak"]) / 1e12
    assert (frame["speed"] <= roof * (1 + 1e-9)).all() and set(frame["group"]) == {
        *("steps", "fused", "product", "attention", "gelu")
    }
