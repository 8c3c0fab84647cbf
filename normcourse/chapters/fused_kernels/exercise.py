"""The figures of exercise 10. Each takes the functions that the learner wrote."""

import pandas as pd
import torch

from ... import canvas
from ...explore import explore
from ...i18n import text
from ..figures import figure


@figure
def in_units_of_x(bytes_moved):
    def experiment(rows=4096, columns=4096):
        cases = [(op, fused) for op in ("rms_norm", "add_rms_norm") for fused in (False, True)]
        moved = [bytes_moved(rows, columns, 2, *case) / (2 * rows * columns) for case in cases]
        return pd.DataFrame({"case": cases, "moved": moved})

    def draw(frame, ax):
        places, moved = [0, 1, 2.6, 3.6], frame["moved"]
        unit = ("读写了几份 x", "sizes of x moved")
        canvas.setup(ax, ("", ""), unit, (-0.6, 4.2), (0, 13))
        ax.bar(places, moved, width=0.7, color=[canvas.VERMILLION, canvas.BLUE] * 2)
        for place, height in zip(places, moved):
            ax.text(place, height + 0.2, f"{height:.1f}", ha="center")
        ways = [text("逐步", "step by step"), text("融合", "fused")]
        ax.set_xticks(places, [f"{name}\n{way}" for name in ("RMSNorm", "+ RMSNorm") for way in ways])
        ratio = moved[2] / moved[3]
        canvas.finding(
            ax,
            f"加法和 RMSNorm 合成一个核函数，速度最多是 {ratio:.1f} 倍",
            f"Add and RMSNorm in one kernel: at most {ratio:.1f} times as fast",
        )

    return explore(experiment, draw, rows=[1, 16, 256, 4096], columns=[4, 64, 1024, 4096])


@figure
def up_to(triton_rms_norm):
    g, measured = torch.Generator().manual_seed(0), []
    for n in range(1, 66):
        y = triton_rms_norm(torch.randn(1, n, generator=g), torch.ones(n), 1e-6)
        measured.append((n, y.square().mean().sqrt().item(), (2 ** (n - 1).bit_length() / n) ** 0.5))
    lengths = pd.DataFrame(measured, columns=["N", "yours", "by_tile"])

    def experiment(columns=33):
        return lengths[lengths["N"] <= columns]

    def draw(frame, ax):
        x, y = ("每行的个数 N", "numbers per row, N"), ("输出的均方根", "rms of the output")
        canvas.setup(ax, x, y, (0, frame["N"].max() + 1), (0.9, 1.5))
        canvas.curve(ax, "yours", frame["N"], frame["yours"], label=text("你的", "yours"), markevery=1)
        canvas.theory(ax, "tile", frame["N"], frame["by_tile"], label=text("除以 BLOCK", "divided by BLOCK"), at=18)
        worst = frame["by_tile"].max()
        canvas.finding(
            ax,
            f"除以 N，均方根都是 {frame['yours'].mean():.2f}；除以 BLOCK，最多会到 {worst:.2f}",
            f"Divided by N, the rms is {frame['yours'].mean():.2f}; by BLOCK it would be up to {worst:.2f}",
        )

    return explore(experiment, draw, columns=[9, 17, 33, 65])


@figure
def with_update(triton_add_rms_norm):
    def stream(update, dtype):
        x, weight = torch.full((1, 4), update, dtype=torch.float16), torch.ones(4)
        residual, values = torch.full((1, 4), 256.0, dtype=dtype), []
        for _ in range(25):
            values.append(residual[0, 0].item())
            _, residual = triton_add_rms_norm(x, residual, weight, 1e-6)
        return pd.DataFrame({"update": update, "dtype": str(dtype)[6:], "value": values})

    updates = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    streams = pd.concat(stream(update, dtype) for update in updates for dtype in (torch.float16, torch.float32))

    def experiment(update=0.1):
        return streams[streams["update"] == update]

    def draw(frame, ax):
        canvas.setup(ax, ("第几层", "layer"), ("主干上的数", "number in the stream"), (0, 24), (255, 264))
        end = {}
        for dtype, colour in (("float16", canvas.VERMILLION), ("float32", canvas.BLUE)):
            values = frame.loc[frame["dtype"] == dtype, "value"].to_numpy()
            canvas.curve(ax, dtype, range(25), values, label=dtype, color=colour)
            end[dtype] = values[-1]
        numbers = f"float16 {end['float16']:.1f}", f"float32 {end['float32']:.1f}"
        added = frame["update"].iloc[0]
        canvas.finding(
            ax, f"24 层，每层加 {added}：{'，'.join(numbers)}", f"24 layers, each adding {added}: {', '.join(numbers)}"
        )

    return explore(experiment, draw, update=updates)


@figure
def partial_sums(backward_bytes):
    def experiment(rows=4096, columns=4096):
        programs = [2**k for k in range(15)]
        moved = {held: [backward_bytes(rows, columns, 2, p, held) for p in programs] for held in (True, False)}
        units = {held: [count / (6 * rows * columns) for count in counts] for held, counts in moved.items()}
        return pd.DataFrame({"programs": programs, "held": units[True], "wide": units[False]}).assign(rows=rows)

    def draw(frame, ax):
        x, y = ("程序的个数", "programs"), ("几份三个矩阵", "bytes / 3 matrices")
        top = canvas.window(frame["wide"], (0.8, 3.4), (0.8, 4.4))
        canvas.setup(ax, x, y, (1, 2**14), top, xscale="log")
        for column, colour, marker, zh, en in (
            ("held", canvas.BLUE, "o", "放得下", "rows fit"),
            ("wide", canvas.VERMILLION, "s", "放不下", "they do not"),
        ):
            style = {"color": colour, "marker": marker, "markevery": 1}
            canvas.curve(ax, column, frame["programs"], frame[column], text(zh, en), **style)
        few, many = frame.set_index("programs")["held"].loc[[256, 2**14]]
        canvas.finding(
            ax,
            f"{frame['rows'].iloc[0]} 行：256 个程序搬 {few:.2f}，每行一个搬 {many:.2f}",
            f"{frame['rows'].iloc[0]} rows: 256 programs move {few:.2f}, one per row {many:.2f}",
        )

    return explore(experiment, draw, rows=[1024, 4096, 16384], columns=[1024, 4096])
