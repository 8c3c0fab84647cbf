"""The drawings of chapter 10: the roofline, what a compiled kernel is made of, and recomputation."""

import numpy as np

from ...canvas import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILLION,
    curve,
    finding,
    note,
    setup,
    text,
    theory,
)

_GROUPS = {
    "steps": (("逐步：加法和归一化", "steps of add and norm"), VERMILLION, "s"),
    "fused": (("融合", "fused"), BLUE, "o"),
    "product": (("矩阵乘法", "matrix products"), GREEN, "D"),
    "attention": (("注意力", "attention"), PURPLE, "^"),
    "gelu": (("GELU", "GELU"), ORANGE, "v"),
}


def roofline(frame, ax):
    """The launches of a block under the roof of a GPU: operations per second over operations per byte, log scales.

    Columns: group, intensity, speed (TFLOP/s at most), time (share of the block's), bandwidth, peak; gpu, width.
    """
    bandwidth, peak, gpu, width = (frame[name].iloc[0] for name in ("bandwidth", "peak", "gpu", "width"))
    x = ("每字节做几次运算", "operations per byte"), ("每秒运算（10¹²）", "operations per second (10¹²)")
    setup(ax, *x, (0.04, 2e4), (0.04, 3e3), "log", "log")
    edge = peak / bandwidth
    roof = np.array([0.04, edge, 2e4])
    theory(ax, "roof", roof, np.minimum(roof * bandwidth, peak) / 1e12, text("屋顶", "roof", " "), at=2)
    for group, rows in frame.groupby("group", sort=False):
        words, colour, marker = _GROUPS[group]
        style = {"color": colour, "marker": marker, "linestyle": "", "markevery": 1, "markersize": 8}
        curve(ax, group, rows["intensity"], rows["speed"], text(*words, between=" "), **style)
    times = frame.groupby("group")["time"].sum()
    before = times["steps"] / times.drop("fused").sum()
    after = times["fused"] / times.drop("steps").sum()
    zh = f"{gpu}，宽 {width}：加法和归一化占时间的 {before:.1%}，融合后 {after:.1%}"
    en = f"{gpu}, width {width}: adds and norms take {before:.1%} of the time, fused {after:.1%}"
    finding(ax, zh, en)


def compiled(frame, axes):
    """Left, how many instructions load and store how many bits at once; right, the instructions that move, in order.

    Columns: kind ("loads" or "stores"), bits, count; n, kernel, registers, spills, threads, listing.
    """
    left, right = axes
    n, registers, spills, threads, listing = (
        frame[name].iloc[0] for name in ("n", "registers", "spills", "threads", "listing")
    )
    if frame["kind"].iloc[0] == "absent":
        for ax in axes:
            ax.set_axis_off()
        left.set_title(listing, fontsize=11.5)
        return
    setup(left, ("一条指令搬几个比特", "bits per instruction"), ("几条指令", "instructions"), (-0.6, 3.6), (0, 1))
    widths, top = [16, 32, 64, 128], max(4, frame["count"].max())
    for shift, kind, colour in ((-0.2, "loads", BLUE), (0.2, "stores", ORANGE)):
        rows = frame[frame["kind"] == kind].set_index("bits")["count"].reindex(widths, fill_value=0)
        left.bar(np.arange(4) + shift, rows, width=0.36, color=colour)
    left.set_xticks(range(4), [str(width) for width in widths])
    left.set_ylim(0, 1.35 * top)
    note(left, "loads", -0.45, 1.26 * top, "■ " + text("读", "loads", " "), BLUE, va="center")
    note(left, "stores", -0.45, 1.14 * top, "■ " + text("写", "stores", " "), ORANGE, va="center")
    programs = int(65536 // (registers * threads))
    zh = f"N = {n}：寄存器 {registers}，溢出 {spills}"
    left.set_title(text(zh, f"N = {n}: {registers} registers, {spills} spills"), fontsize=11.5)
    right.set(xlim=(0, 1), ylim=(0, 1))
    right.set_axis_off()
    for line, words in enumerate(listing.split("\n")):
        right.text(0.02, 0.97 - 0.068 * line, words, family="monospace", fontsize=9.5, va="center")
    zh, en = f"一个处理器同时跑 {programs} 个程序", f"{programs} programs at once per processor"
    right.set_title(text(zh, en), fontsize=11.5)


def recomputation(frame, ax):
    """Activation memory over the layers per segment, as a share of that without recomputation.

    Columns: layers, kept, most, theory; segment, calls, work, depth.
    """
    segment, calls, work, depth = (frame[name].iloc[0] for name in ("segment", "calls", "work", "depth"))
    setup(
        ax,
        ("每段几层", "layers per segment"),
        ("激活值的内存", "activation memory"),
        (0.9, 18),
        (0, 1.15),
        xscale="log",
    )
    ax.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
    ax.minorticks_off()
    style = {"markevery": 1}
    curve(ax, "most", frame["layers"], frame["most"], text("最多时", "at most"), color=VERMILLION, marker="s", **style)
    curve(ax, "kept", frame["layers"], frame["kept"], text("前向之后", "after forward"), color=BLUE, **style)
    fine = frame["layers"].to_numpy()
    theory(ax, "law", fine, frame["theory"].to_numpy(), text("⌈L/k⌉·输入 + k·层", "⌈L/k⌉ inputs + k layers"), at=2)
    ax.axvline(segment, color=GREY, linewidth=1.2)
    here = frame[frame["layers"] == segment].iloc[0]
    zh = f"{depth} 层，每段 {segment} 层：内存 {here['most']:.0%}，前向 {calls:.1f} 遍，整步 {work:.2f} 倍"
    en = f"{depth} layers by {segment}: {here['most']:.0%} of memory, {calls:.1f} forward passes, step × {work:.2f}"
    finding(ax, zh, en)
