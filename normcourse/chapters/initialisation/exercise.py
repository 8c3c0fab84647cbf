"""The figures of exercise 08. Each takes the function that the learner wrote."""

import pandas as pd
import torch

from ... import canvas
from ...explore import explore
from ...measure import variances
from ...models import Transformer
from ..figures import figure


@figure
def constants(deep_norm_constants):
    def experiment(decoder=12):
        rows = []
        for layers in (2, 4, 8, 16, 32, 64, 128, 256, 512, 1000):
            size = (layers**4 * decoder) ** (1 / 16)
            paper = 0.81 * size, 0.87 / size
            alone, beside = deep_norm_constants(layers, 0), deep_norm_constants(layers, decoder)
            rows.append((layers, *map(float, (*alone[:2], *beside[:2])), *paper))
        columns = ["layers", "alone_alpha", "alone_beta", "alpha", "beta", "paper_alpha", "paper_beta"]
        return pd.DataFrame(rows, columns=columns).assign(decoder=decoder)

    def draw(frame, ax):
        canvas.setup(ax, ("编码器的层数", "encoder layers"), ("α，β", "α, β"), (1.8, 1200), (0.05, 20), "log", "log")
        for column, colour, marker, zh, en in (
            ("alone", canvas.ORANGE, "s", "单独", "alone"),
            ("", canvas.BLUE, "o", "有解码器", "with decoder"),
        ):
            for letter, name in (("alpha", "α"), ("beta", "β")):
                key = f"{column}_{letter}".strip("_")
                words = f"{name} {canvas.text(zh, en, ' ')}"
                canvas.curve(ax, key, frame["layers"], frame[key], words, color=colour, marker=marker, markevery=1)
        for letter in ("alpha", "beta"):
            canvas.theory(ax, letter, frame["layers"].to_numpy(), frame[f"paper_{letter}"].to_numpy())
        last, decoder = frame.iloc[-1], int(frame["decoder"].iloc[0])
        alpha, beta = f"{last['alpha']:.2f}", f"{last['beta']:.3f}"
        canvas.finding(
            ax,
            f"1000 层编码器加 {decoder} 层解码器：α = {alpha}，β = {beta}；虚线是论文的公式",
            f"Encoder of 1000 layers, decoder of {decoder}: α = {alpha}, β = {beta}; dashed: the paper",
        )

    return explore(experiment, draw, decoder=[6, 12, 24, 100])


@figure
def two_hundred_layers(unit_variance):
    def experiment(seed=0):
        generator = torch.Generator().manual_seed(seed)
        x, weights = torch.randn(16, 64, generator=generator), torch.randn(200, 64, 64, generator=generator) / 32**0.5
        rows = []
        for name, chosen in (("drawn", weights), ("scaled", weights * unit_variance(x, weights)[:, None, None])):
            h = x
            for layer, weight in enumerate(chosen, start=1):
                h = torch.relu(h) @ weight.T
                rows.append((name, layer, h.double().square().mean().item()))
        return pd.DataFrame(rows, columns=["name", "layer", "square"])

    def draw(frame, ax):
        canvas.setup(ax, ("第几层", "layer"), ("均方", "mean square"), (0, 200), (1e-6, 1e3), "log")
        said = {}
        for name, colour, marker, zh, en in (
            ("drawn", canvas.VERMILLION, "s", "照理论", "as theory says"),
            ("scaled", canvas.BLUE, "o", "缩放过", "scaled"),
        ):
            rows = frame[frame["name"] == name]
            canvas.curve(ax, name, rows["layer"], rows["square"], canvas.text(zh, en), color=colour, marker=marker)
            said[name] = canvas.number(rows["square"].iloc[-1])
        canvas.finding(
            ax,
            f"200 层之后的均方：照理论取的权重 {said['drawn']}，逐层缩放的 {said['scaled']}",
            f"Mean square after 200 layers: {said['drawn']} as theory says, {said['scaled']} scaled layer by layer",
        )

    return explore(experiment, draw, seed=(0, 9))


@figure
def stream(scale_projections):
    def experiment(layers=24):
        rows = []
        for scaled in (False, True):
            model = Transformer(vocabulary=50, width=32, heads=2, depth=layers, context=32)
            matrices = {}
            for i, block in enumerate(model.blocks):
                kind = "mlp" if i % 2 else "attn"
                for name, weight in block.sublayer.named_parameters():
                    last = name.startswith(("out", "down"))
                    matrices[f"h.{i // 2}.{kind}.{'c_proj.weight' if last else name}"] = weight
            if scaled:
                new = scale_projections([*matrices], [weight.detach().clone() for weight in matrices.values()])
                for weight, value in zip(matrices.values(), new):
                    weight.data.copy_(value)
            rows.append(variances(model, scaled=scaled))
        return pd.concat(rows).assign(layers=layers)

    def draw(frame, ax):
        layers = int(frame["layers"].iloc[0])
        canvas.setup(
            ax, ("第几个分支", "branch"), ("方差", "variance"), (0, 2 * layers), (0, 1.2 * frame["variance"].max())
        )
        said = []
        for scaled, colour, marker, zh, en in (
            (False, canvas.VERMILLION, "s", "不缩放", "not scaled"),
            (True, canvas.BLUE, "o", "缩放", "scaled"),
        ):
            rows = frame[frame["scaled"] == scaled]
            canvas.curve(ax, en, rows["layer"], rows["variance"], canvas.text(zh, en), color=colour, marker=marker)
            said.append(canvas.number(rows["variance"].iloc[-1] - rows["variance"].iloc[0]))
        canvas.finding(
            ax,
            f"{layers} 层的分支一共加上的方差：不缩放 {said[0]}，缩放 {said[1]}",
            f"Branches of {layers} layers add a variance of {said[0]}, and of {said[1]} when scaled",
        )

    return explore(experiment, draw, layers=[6, 12, 24, 48])
