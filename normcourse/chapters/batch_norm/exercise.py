"""The figures of exercise 04. Each takes the function that the learner wrote."""

import pandas as pd
import torch

from ... import canvas
from ...explore import explore
from ..figures import figure


@figure
def with_padding(masked_moments):
    def experiment(mean=2.0):
        x = mean + torch.randn(8, 40, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        rows = []
        for length in range(40, 3, -2):
            mask = torch.arange(40).expand(8, 40) < torch.where(torch.arange(8)[:, None] < 7, length, 40)
            padded, everything = torch.where(mask[..., None], x, 0.0), torch.ones_like(mask)
            (_, real), (_, counted) = masked_moments(padded, mask), masked_moments(padded, everything)
            rows.append((1 - mask.double().mean().item(), real.item(), counted.item()))
        return pd.DataFrame(rows, columns=["share", "real", "counted"]).assign(mean=mean)

    def draw(frame, ax):
        m, share = frame["mean"][0], frame["share"]
        canvas.setup(ax, ("填充占的比例", "share of padding"), ("方差", "variance"), (0, 0.85), (0, 6))
        canvas.curve(ax, "real", share, frame["real"], canvas.text("只算真词元", "real tokens"), color=canvas.PURPLE)
        canvas.curve(ax, "counted", share, frame["counted"], canvas.text("填充算在内", "padding counted"), "batch_norm")
        canvas.theory(ax, "law", share, (1 - share) * (1 + share * m**2), "(1−p)(σ² + pμ²)", at=0.35)
        ratio = frame["counted"].iloc[-1] / frame["real"].iloc[-1]
        zh = f"均值 {m:.1f}，填充占 {share.iloc[-1]:.0%}：算进去的方差是真方差的 {ratio:.2f} 倍"
        en = f"Mean {m:.1f}, {share.iloc[-1]:.0%} padding: counted in, it makes {ratio:.2f} × the variance"
        canvas.finding(ax, zh, en)

    return explore(experiment, draw, mean=(0.0, 4.0, 0.5))


@figure
def running(update_running):
    def experiment(momentum=0.1):
        mean, var, rows = torch.zeros(1), torch.ones(1), []
        generator = torch.Generator().manual_seed(0)
        for step in range(61):
            rows.append((step, mean.item()))
            centre = 1.0 if step < 30 else -1.0  # the data change
            mean, var = update_running(mean, var, centre + torch.randn(8, 8, 1, generator=generator), momentum)
        return pd.DataFrame(rows, columns=["step", "mean"]).assign(momentum=momentum)

    def draw(frame, ax):
        m, steps = frame["momentum"][0], frame["step"]
        canvas.setup(ax, ("步", "step"), ("滑动平均的均值", "running mean"), (0, 60), (-1.6, 1.6))
        canvas.curve(ax, "mean", steps, frame["mean"], placement="batch_norm")
        first = 1 - (1 - m) ** steps.clip(upper=30)
        later = (1 - m) ** (steps - 30).clip(lower=0)
        canvas.theory(ax, "law", steps, first * later - (1 - later), "(1 − m)ᵗ", at=5)
        lag = (frame["mean"][30:] > 0).sum()
        canvas.finding(
            ax,
            f"m = {m:.2f}：数据在第 30 步变号，滑动平均晚了 {lag} 步",
            f"m = {m:.2f}: the data change sign at step 30, the running mean {lag} steps later",
        )

    return explore(experiment, draw, momentum=(0.02, 0.5, 0.02))


@figure
def view_and_transpose(batch_norm_sequence):
    def experiment(positions=10, features=16):
        x = torch.randn(4, positions, features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        x = x * torch.linspace(0.2, 3, features) + torch.linspace(-2, 2, features)
        one, zero = torch.ones(features).double(), torch.zeros(features).double()
        right = batch_norm_sequence(x, one, zero)
        cut = batch_norm_sequence(x.view(4, features, positions).mT, one[:1], zero[:1]).mT.reshape(x.shape)
        return pd.DataFrame(
            {
                "feature": range(1, features + 1),
                "right": right.std((0, 1), correction=0),
                "cut": cut.std((0, 1), correction=0),
            }
        )

    def draw(frame, ax):
        last = len(frame)
        canvas.setup(ax, ("特征", "feature"), ("输出的标准差", "std of the output"), (0.5, last + 0.5), (0, 2.2))
        canvas.curve(ax, "right", frame["feature"], frame["right"], "transpose", "batch_norm", markevery=1)
        canvas.curve(
            ax, "cut", frame["feature"], frame["cut"], "view", color=canvas.VERMILLION, marker="s", markevery=1
        )
        low, high = frame["cut"].min(), frame["cut"].max()
        canvas.finding(
            ax,
            f"用 view，各特征的标准差不再是 1，而是 {low:.1f} 到 {high:.1f}",
            f"With view the features' spreads are not 1 but {low:.1f} to {high:.1f}",
        )

    return explore(experiment, draw, positions=[4, 10, 32], features=[8, 16, 32])
