"""The figures of exercise 07. Each takes the functions that the learner wrote."""

import pandas as pd
import torch
import torch.nn.functional as F

from ... import canvas, data, measure
from ...explore import explore
from ...i18n import term
from ...models import CharacterMLP, deep_mlp
from ..figures import figure

PLACEMENTS = ["residual", "peri_norm", "pre_norm", "scaled_pre_norm", "post_norm"]


def through_the_skips(alpha, beta, branches):
    g = torch.Generator().manual_seed(0)
    start, dy = torch.randn(2, 8, 64, generator=g)
    start = h = start.requires_grad_()
    for w in beta * 2**0.5 / 8 * torch.randn(branches, 64, 64, generator=g):
        h = F.layer_norm(alpha * h + (h.relu() @ w.T).detach(), (64,))
    (gradient,) = torch.autograd.grad(h, start, dy)
    return float(gradient.double().norm() / dy.norm())  # the squares of 1e-30 are 0 in fp32


@figure
def law_and_network(stream_variance):
    def experiment(depth=40, gain=1.4):
        frames = []
        for placement in PLACEMENTS:
            law = stream_variance(placement, [gain**2 / 2] * depth, 1.0)
            measured = measure.variances(deep_mlp(depth, 128, placement, gain=gain), placement=placement)
            frames.append(measured.assign(law=law))
        return pd.concat(frames)

    def draw(frame, ax):
        depth = frame["layer"].max()
        y = ("主干的方差", "variance of the stream")
        canvas.setup(ax, ("层", "layer"), y, (0, depth), (0.5, 1e4), "log")
        for placement, rows in frame[frame["law"] < 9e3].groupby("placement", sort=False):
            canvas.curve(ax, placement, rows["layer"], rows["variance"], term(placement, "\n"), placement, linestyle="")
            canvas.theory(ax, placement, rows["layer"].tolist(), rows["law"].tolist())
        ends = frame[frame["layer"] == depth].set_index("placement")["law"].map(canvas.number)
        zh, en = (
            "{residual}（无归一化）、{pre_norm}（前置）、{scaled_pre_norm}（缩放）",
            "{residual} without a norm, {pre_norm} in Pre-Norm, {scaled_pre_norm} scaled",
        )
        canvas.finding(ax, f"{depth} 层之后：" + zh.format(**ends), f"After {depth} layers: " + en.format(**ends))

    return explore(experiment, draw, depth=(5, 60), gain=(0.2, 2.0, 0.2))


@figure
def left(deepnorm_constants):
    def experiment(layers=100):
        rows = []
        for n in [n for n in (1, 3, 10, 30, 100) if n < layers] + [layers]:
            alpha, beta = deepnorm_constants(n)
            theory = (1 + beta**2 / alpha**2) ** -n
            rows.append(("deep_norm", n, through_the_skips(alpha, beta, 2 * n), theory))
            rows.append(("post_norm", n, through_the_skips(1, 1, 2 * n), 2.0**-n))
        return pd.DataFrame(rows, columns=["placement", "layers", "left", "theory"])

    def draw(frame, ax):
        y = ("剩下的梯度", "gradient left")
        canvas.setup(ax, ("层数 N", "layers N"), y, (1, 100), (1e-4, 2), "log", "log")
        for placement, rows in frame.groupby("placement", sort=False):
            canvas.curve(ax, placement, rows["layers"], rows["left"], term(placement, "\n"), placement)
            canvas.theory(ax, placement, rows["layers"].tolist(), rows["theory"].tolist())
        deep, post = (canvas.number(share) for share in frame["left"].tail(2))
        n = frame["layers"].max()
        canvas.finding(
            ax,
            f"{n} 层：DeepNorm 剩 {deep}，后置归一化剩 {post}",
            f"{n} layers: DeepNorm leaves {deep}, Post-Norm {post}",
        )

    return explore(experiment, draw, layers=[10, 30, 100])


@figure
def probed(layer_probe):
    def experiment(gain=1.0):
        frames = []
        for placement in ("residual", "post_norm", "pre_norm"):
            for seed in range(3):
                x = torch.randn(8, 64, generator=torch.Generator().manual_seed(99 + seed))
                updates, _ = layer_probe(x, deep_mlp(50, 64, placement, gain=gain, seed=seed).blocks)
                frames.append(pd.DataFrame({"layer": range(1, 51), "update": updates, "placement": placement}))
        return pd.concat(frames).assign(gain=gain)

    def draw(frame, ax):
        canvas.setup(ax, ("层", "layer"), ("相对改变量", "relative update"), (1, 50), (0.03, 3), "log", "log")
        for placement, rows in frame.groupby("placement", sort=False):
            layers, middle, low, high = canvas.spread(rows, "layer", "update")
            canvas.band(ax, placement, layers, low, high, placement)
            canvas.curve(ax, placement, layers, middle, term(placement, "\n"), placement)
        v = frame["gain"].iloc[0] ** 2 / 2
        canvas.theory(ax, "law", layers, (v / (1 + (layers - 1) * v)) ** 0.5, "√(v / q)")
        last = frame[frame["layer"] > 40].groupby("placement")["update"].mean().map("{:.0%}".format)
        zh, en = (
            "第 41–50 层：无归一化 {residual}，前置归一化 {pre_norm}",
            "Layers 41–50: {residual} without a norm, {pre_norm} in Pre-Norm",
        )
        canvas.finding(ax, zh.format(**last), en.format(**last))

    return explore(experiment, draw, gain=(0.2, 2.0, 0.2))


@figure
def at_step(layer_worth):
    ids, vocabulary = data.encode(data.load_text("en"))
    windows = ids.unfold(0, 9, 1)
    unseen, rows = windows[-20_000::40], []
    for seed in range(2):
        model, g = CharacterMLP(len(vocabulary), 8, "pre_norm", seed=seed), torch.Generator().manual_seed(seed)
        optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
        for step in range(401):
            if step in (0, 100, 200, 400):
                x, head = model.embed(unseen[:, :8]), torch.nn.Sequential(model.final_norm, model.head)
                changes = layer_worth(x.detach(), unseen[:, 8], list(model.blocks), head)
                for edit, values in zip(("drop", "merge"), changes):
                    rows += [(step, seed, edit, layer, value) for layer, value in enumerate(values, 1)]
            batch = windows[torch.randint(len(ids) - 20_008, (128,), generator=g)]
            optimiser.zero_grad()
            F.cross_entropy(model(batch[:, :8]), batch[:, 8]).backward()
            optimiser.step()
    worth = pd.DataFrame(rows, columns=["step", "seed", "edit", "layer", "change"])

    def experiment(step=400):
        return worth[worth["step"] == step]

    def draw(frame, ax):
        canvas.setup(ax, ("第几层", "layer"), ("损失的变化", "change of the loss"), (0.5, 8.5), (-0.2, 0.6))
        for edit, placement in (("drop", "pre_norm"), ("merge", "residual")):
            change = frame[frame["edit"] == edit].groupby("layer")["change"]
            shift = 0.0 if edit == "drop" else 0.5  # a merged pair stands between its two layers
            x = change.mean().index
            canvas.band(ax, edit, x + shift, change.min(), change.max(), placement)
            canvas.curve(ax, edit, x + shift, change.mean(), placement=placement)
            canvas.note(ax, edit, 8.4, 0.54 - shift / 10, term(edit), canvas.STYLES[placement][0], ha="right")
        ends = frame[frame["edit"] == "drop"].groupby("layer")["change"].mean()
        step, first, last = frame["step"].iloc[0], *(f"{ends[layer]:+.2f}" for layer in (1, 8))
        zh = f"{step} 步之后：去掉第 1 层，损失 {first} nat；第 8 层，{last}"
        canvas.finding(ax, zh, f"After {step} steps: without layer 1 {first} nats, without layer 8 {last}")

    return explore(experiment, draw, step=[400, 200, 100, 0])
