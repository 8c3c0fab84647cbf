"""The figures of exercise 06. Each takes the functions that the learner wrote."""

import pandas as pd
import torch
import torch.nn.functional as F

from ... import canvas
from ...explore import explore
from ...i18n import TERMS, term, text
from ..figures import figure

PLACEMENTS = ["post_norm", "pre_norm", "res_post_norm", "peri_norm"]


def norm(h):
    return F.layer_norm(h, h.shape[-1:])


@figure
def after_the_stack(wire):
    def experiment(layers=20):
        rows, g = [], torch.Generator().manual_seed(0)
        x, weights = torch.randn(32, 64, generator=g), torch.randn(layers, 64, 64, generator=g) / 8
        for factor in (0.1, 0.3, 1, 3, 10):
            for placement in PLACEMENTS:
                h = x
                for w in factor * weights:
                    h = wire(placement, h, lambda h, w=w: torch.relu(h) @ w.T, norm, norm)
                rows.append((placement, factor, h.var(unbiased=False).item()))
        return pd.DataFrame(rows, columns=["placement", "factor", "variance"])

    def draw(frame, ax):
        x, y = ("分支权重乘以", "factor on the branches' weights"), ("末端的方差", "variance at the end")
        canvas.setup(ax, x, y, (0.1, 10), (0.5, 1e4), "log", "log")
        for placement, rows in frame.groupby("placement", sort=False):
            name = term(placement, "\n")
            canvas.curve(ax, placement, rows["factor"], rows["variance"], name, placement)
        pre = frame[frame["placement"] == "pre_norm"].set_index("factor")["variance"]
        times = canvas.number(pre[10] / pre[1])
        zh = f"权重乘 10：只有前置归一化变，{times} 倍"
        canvas.finding(ax, zh, f"Weights × 10: only Pre-Norm changes, {times}-fold")

    return explore(experiment, draw, layers=(1, 40))


@figure
def unmasked(wire, post_ln_block, as_printed):
    def experiment(listing="as_printed"):
        block = {"as_printed": as_printed, "post_ln_block": post_ln_block}[listing]
        x, *weights = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        weights = [w / 4 for w in weights]
        attention = lambda h: (h @ h.T / 4).softmax(-1) @ h @ weights[0]  # noqa: E731
        feed_forward = lambda h: h.relu() @ weights[1]  # noqa: E731
        y, rows = block(x, attention, feed_forward, norm, norm), []
        for placement in PLACEMENTS:
            h = wire(placement, wire(placement, x, attention, norm, norm), feed_forward, norm, norm)
            rows.append((placement, float((h - y).norm() / y.norm())))
        return pd.DataFrame(rows, columns=["placement", "difference"]).assign(listing=listing)

    def draw(frame, ax):
        canvas.setup(ax, ("", ""), ("输出相差", "difference in the output"), (-0.6, 3.6), (0, 1.6))
        ax.bar(range(4), frame["difference"], width=0.45, color=[canvas.STYLES[p][0] for p in PLACEMENTS])
        ax.set_xticks(range(4), [term(p, "\n") for p in PLACEMENTS])
        for i, difference in enumerate(frame["difference"]):
            ax.text(i, difference + 0.03, f"{difference:.0%}", ha="center")
        closest, post = TERMS[frame.loc[frame["difference"].idxmin(), "placement"]], frame["difference"].iloc[0]
        canvas.finding(
            ax,
            f"{frame['listing'].iloc[0]} 其实是{closest[0]}，与后置归一化相差 {post:.0%}",
            f"{frame['listing'].iloc[0]} is really {closest[1]}; it differs from Post-Norm by {post:.0%}",
        )

    return explore(experiment, draw, listing=["as_printed", "post_ln_block"])


@figure
def over_the_grid(loss_curve):
    RATES, runs = [0.1, 0.3, 1, 3, 10, 30, 100], []
    for seed in range(3):
        g = torch.Generator().manual_seed(seed)
        *weights, teacher = torch.randn(17, 16, 16, generator=g, dtype=torch.float64) / 4
        x = torch.randn(64, 16, generator=g, dtype=torch.float64)
        for placement in ("post_norm", "pre_norm"):
            for rate in RATES:
                losses = loss_curve(placement, weights, x, norm((x @ teacher.T).tanh()), rate, 40)
                runs += [(placement, seed, rate, step, loss) for step, loss in enumerate(losses)]
    curves = pd.DataFrame(runs, columns=["placement", "seed", "rate", "step", "loss"])

    def experiment(step=40):
        return curves[curves["step"] == step]

    def draw(frame, ax):
        step = frame["step"].iloc[0]
        y = (f"{step} 步之后的损失", f"loss after {step} steps")
        canvas.setup(ax, ("学习率", "learning rate"), y, (0.1, 100), (0.05, 5), "log", "log")
        best = {}
        for placement, rows in frame.groupby("placement"):
            x, middle, low, high = canvas.spread(rows, "rate", "loss")
            canvas.band(ax, placement, x, low, high, placement)
            canvas.curve(ax, placement, x, middle, term(placement, "\n"), placement)
            best[placement] = f"{middle.min():.2f}"
        post, pre = best["post_norm"], best["pre_norm"]
        canvas.finding(
            ax, f"各取最好的学习率：后置 {post}，前置 {pre}", f"Each at its best rate: Post-Norm {post}, Pre-Norm {pre}"
        )

    return explore(experiment, draw, step=(0, 40))


@figure
def schedules(warmup_rate):
    def experiment(warmup=8000):
        rows = [(w, t, warmup_rate(t, 512, w)) for w in dict.fromkeys((4000, warmup)) for t in range(0, 40000, 200)]
        return pd.DataFrame(rows, columns=["warmup", "step", "rate"])

    def draw(frame, ax):
        canvas.setup(ax, ("更新次数", "updates"), ("学习率", "learning rate"), (0, 40000), (0, 1.1e-3))
        for colour, (w, rows) in zip((canvas.GREY, canvas.BLUE), frame.groupby("warmup", sort=False)):
            canvas.curve(ax, w, rows["step"], rows["rate"], color=colour, marker="")
            top = rows.loc[rows["rate"].idxmax()]
            canvas.note(ax, w, top["step"] + 400, top["rate"], f"w = {w}", colour)
        ends = frame.groupby("warmup", sort=False)["rate"].agg(["max", "last"])
        peak, last = ends.iloc[-1] / ends.iloc[0]
        zh = f"预热 {w} 步，而不是 4000 步：尖顶 × {peak:.2f}，末尾 × {last:.2f}"
        canvas.finding(ax, zh, f"{w} steps of warm-up instead of 4000: the peak × {peak:.2f}, the end × {last:.2f}")

    return explore(experiment, draw, warmup=(2000, 12000, 1000))


@figure
def two_accounts(identity_path):
    def experiment(gain=1.4):
        g, rows = torch.Generator().manual_seed(0), []
        x, dy = norm(torch.randn(2, 32, 64, generator=g))
        weights = gain / 8 * torch.randn(30, 64, 64, generator=g)
        branches = [lambda h, w=w: torch.relu(h) @ w.T for w in weights]
        for layers in (1, 5, 10, 15, 20, 25, 30):
            whole, skips = identity_path(x, branches[:layers], norm, dy)
            rows.append((layers, float(whole.norm() / dy.norm()), float(skips.norm() / dy.norm())))
        return pd.DataFrame(rows, columns=["layers", "whole", "skips"]).assign(gain=gain)

    def draw(frame, ax):
        layers, gain = frame["layers"], frame["gain"].iloc[0]
        canvas.setup(ax, ("层数", "layers"), ("到达输入的梯度", "gradient at the input"), (0, 30), (1e-6, 10), "log")
        canvas.curve(ax, "whole", layers, frame["whole"], text("全部", "whole"), color=canvas.ORANGE)
        canvas.curve(ax, "skips", layers, frame["skips"], text("只走跳跃连接", "skips alone"), color=canvas.GREY)
        canvas.theory(ax, "theory", layers, (1 + gain**2 / 2) ** (-layers / 2), "(1 + v)^(−l/2)")
        whole, skips = (canvas.number(frame[column].iloc[-1]) for column in ("whole", "skips"))
        canvas.finding(
            ax, f"30 层：跳跃连接剩 {skips}，全部剩 {whole}", f"30 layers: the skips leave {skips}, all paths {whole}"
        )

    return explore(experiment, draw, gain=(0.2, 2.0, 0.2))
