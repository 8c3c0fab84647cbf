"""The figures of exercise 09. Each takes the function that the learner wrote."""

import math

import pandas as pd
import torch

from ... import canvas
from ...explore import explore
from ..figures import figure


@figure
def chunked(absorb):
    def experiment(mean_over_std=30):
        x = torch.randn(50, 512, generator=torch.Generator().manual_seed(0)) + mean_over_std
        x, rows = x.bfloat16(), []
        exact = x.double().var(-1, correction=0)
        for size in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512):
            count, mean, squares = 0, torch.zeros(50), torch.zeros(50)
            narrow = mean.bfloat16(), squares.bfloat16()
            for chunk in x.split(size, -1):
                narrow = [part.bfloat16() for part in absorb(count, narrow[0].float(), narrow[1].float(), chunk)[1:]]
                count, mean, squares = absorb(count, mean, squares, chunk)
            errors = [((s.double() / 512 / exact - 1).square().mean().sqrt()).item() for s in (squares, narrow[1])]
            rows.append((size, *errors))
        return pd.DataFrame(rows, columns=["size", "wide", "narrow"]).assign(ratio=mean_over_std)

    def draw(frame, ax):
        x, y = ("每块几个数", "numbers per chunk"), ("方差的相对误差", "relative error of the variance")
        canvas.setup(ax, x, y, (1, 512), (1e-8, 10), "log", "log")
        canvas.curve(ax, "narrow", frame["size"], frame["narrow"], label="bf16", color=canvas.VERMILLION, markevery=1)
        canvas.curve(ax, "wide", frame["size"], frame["wide"], label="fp32", color=canvas.BLUE, markevery=1)
        one, wide = canvas.number(frame.loc[0, "narrow"]), canvas.number(frame["wide"].max())
        canvas.finding(
            ax,
            f"均值 {frame['ratio'][0]}：统计量存成 bf16，逐个更新差 {one}；存成 fp32，最多差 {wide}",
            f"Mean {frame['ratio'][0]}: kept in bf16, one by one, off by {one}; kept in fp32 by at most {wide}",
        )

    return explore(experiment, draw, mean_over_std=(0, 60, 5))


@figure
def logarithms(log_rms):
    def experiment(features=64):
        z = torch.randn(features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        exponent = torch.arange(-36, 37, 2, dtype=torch.float64)
        x = (10 ** exponent[:, None] * z).float()
        straight = x.square().mean(-1).sqrt().log()
        exact = math.log(10) * exponent + z.square().mean().sqrt().log()
        return pd.DataFrame({"exponent": exponent, "stable": log_rms(x), "straight": straight, "exact": exact})

    def draw(frame, ax):
        x, y = ("数的大小（10 的几次方）", "size, as a power of 10"), ("均方根的对数", "log of the rms")
        canvas.setup(ax, x, y, (-38, 38), (-95, 95))
        style = {"linestyle": "", "markevery": 1}
        canvas.curve(ax, "straight", frame["exponent"], frame["straight"], color=canvas.VERMILLION, marker="s", **style)
        canvas.curve(ax, "stable", frame["exponent"], frame["stable"], label="log_rms", color=canvas.BLUE, **style)
        canvas.theory(ax, "exact", frame["exponent"].to_numpy(), frame["exact"].to_numpy())
        lost = (~frame["straight"].map(math.isfinite)).sum()
        worst = canvas.number((frame["stable"] - frame["exact"]).abs().max())
        canvas.finding(
            ax,
            f"{len(frame)} 种大小里，直接算有 {lost} 种得到 ±∞；log_rms 最多差 {worst}",
            f"Of {len(frame)} sizes {lost} give ±∞ straight on; log_rms is off by at most {worst}",
        )

    return explore(experiment, draw, features=[4, 16, 64, 256])


@figure
def integers_left(quantise_channels):
    def experiment(bits=8):
        z, rows = torch.randn(256, 8, generator=torch.Generator().manual_seed(0)), []
        for size in (2.0 ** torch.arange(0, 9)).tolist():
            x = z * torch.tensor([size] + 7 * [1.0])
            channels, _ = quantise_channels(x, bits)
            tensor, _ = quantise_channels(x.reshape(-1, 1), bits)
            left = [len(q[:, 1:].unique()) for q in (channels, tensor.reshape(x.shape))]
            rows.append((size, *left))
        return pd.DataFrame(rows, columns=["size", "channels", "tensor"]).assign(bits=bits)

    def draw(frame, ax):
        x, y = ("离群通道是别的几倍", "outlier over the others"), ("别的通道用到的整数", "integers used by the others")
        canvas.setup(ax, x, y, (1, 256), (0.8, 400), "log", "log")
        names = {"channels": ("每个通道", "channel", canvas.BLUE), "tensor": ("整个张量", "tensor", canvas.VERMILLION)}
        for column, (zh, en, colour) in names.items():
            style = {"color": colour, "markevery": 1, "marker": "o" if column == "channels" else "s"}
            canvas.curve(ax, column, frame["size"], frame[column], label=canvas.text(zh, en), **style)
        row, bits = frame.iloc[6], frame["bits"][0]
        left = f"{row['channels']:.0f}", f"{row['tensor']:.0f}"
        canvas.finding(
            ax,
            f"{bits} 比特，大 64 倍：每个通道一个尺度时用到 {left[0]} 个整数，共用时 {left[1]} 个",
            f"{bits} bits, 64 times larger: {left[0]} integers used with own scales, {left[1]} with a common one",
        )

    return explore(experiment, draw, bits=[8, 6, 4])


@figure
def sums(sum_error_bound):
    def experiment(dtype="bfloat16"):
        x, rows = torch.rand(20, 1024, generator=torch.Generator().manual_seed(0)).to(getattr(torch, dtype)), []
        for n in 2 ** torch.arange(1, 11).numpy():
            part, exact = x[:, :n], x[:, :n].double().sum(-1)
            total, halves = part[:, 0], part
            for i in range(1, n):
                total = total + part[:, i]
            while halves.shape[-1] > 1:
                halves = halves[:, ::2] + halves[:, 1::2]
            for pairwise, result in ((False, total), (True, halves[:, 0])):
                error = (result.double() - exact).abs().max().item()
                rows.append((n, pairwise, error, sum_error_bound(part, pairwise).max().item()))
        return pd.DataFrame(rows, columns=["n", "pairwise", "error", "bound"]).assign(dtype=dtype)

    def draw(frame, ax):
        x, y = ("个数 n", "numbers n"), ("和的误差", "error of the sum")
        low = 1e-9 if frame["dtype"][0] == "float32" else 1e-5
        canvas.setup(ax, x, y, (2, 1024), (low, low * 1e9), "log", "log")
        for pairwise, colour, marker, zh, en in (
            (False, canvas.VERMILLION, "s", "依次", "in a row"),
            (True, canvas.BLUE, "o", "两两", "pairwise"),
        ):
            rows = frame[frame["pairwise"] == pairwise]
            style = {"color": colour, "marker": marker, "markevery": 1}
            canvas.curve(ax, en, rows["n"], rows["error"], label=canvas.text(zh, en), **style)
            canvas.theory(ax, en, rows["n"].to_numpy(), rows["bound"].to_numpy())
        one, two = (canvas.number(frame[frame["pairwise"] == p]["error"].iloc[-1]) for p in (False, True))
        canvas.finding(
            ax,
            f"1024 个数的和：依次加差 {one}，两两加差 {two}；虚线是上界",
            f"Sum of 1024 numbers: off by {one} in a row, by {two} pairwise; dashed: the bounds",
        )

    return explore(experiment, draw, dtype=["bfloat16", "float16", "float32"])
