"""What several chapters draw: names of axes, a curve with its band and closed form per placement, training curves."""

from ..canvas import GREY, band, curve, finding, level, number, setup, spread, text, theory
from ..i18n import TERMS, term

LAYER = ("第几层", "layer")
LOSS = ("损失（nat）", "loss (nats)")
GRADIENT = ("梯度范数", "gradient norm")


def per_placement(frame, ax, column, x="layer", named=True):
    """A curve with its band and closed form for every placement.

    Args: column: what is drawn, against column x. named: write "theory" on the first closed form.
    Returns: {placement: (x, mean over the seeds)}.
    """
    lines = {}
    for placement, rows in frame.groupby("placement", sort=False):
        at, middle, low, high = spread(rows, x, column)
        band(ax, placement, at, low, high, placement)
        curve(ax, placement, at, middle, term(placement, "\n"), placement)
        closed_form(ax, placement, rows, x, named=named and not lines)
        lines[placement] = at, middle
    return lines


def against_the_whole(frame, ax, here):
    """Loss of trained networks with a layer changed, per placement, over that of the whole network (`layer` 0); `here`
    is marked. Returns: the losses without and with the change there, in words."""
    parts = []
    for placement, rows in frame.groupby("placement", sort=False):
        whole = rows.loc[rows["layer"] == 0, "loss"].mean()
        x, middle, low, high = spread(rows[rows["layer"] > 0], "layer", "loss")
        band(ax, placement, x, low, high, placement)
        curve(ax, placement, x, middle, term(placement, "\n"), placement, markevery=1)
        level(ax, f"whole {placement}", whole, text("完整网络", "whole networks", " ") if not parts else None)
        parts.append(f"{term(placement, '/')} {whole:.2f} → {middle[here - 1]:.2f}")
    ax.axvline(here, color=GREY, linewidth=8, alpha=0.25)
    return "   ".join(parts)


def norm_name(norm):
    """One name where there is room for one: the English one, which Chinese readers know too; "no norm" is no name."""
    return term(norm, "\n") if norm == "none" else TERMS[norm][1]


def recorded():
    return text("预先跑好的结果", "precomputed", " ")


def closed_form(ax, name, rows, x, named):
    """The column `theory`, where there is one, over column x; one curve of a picture carries the name."""
    if "theory" in rows and rows["theory"].notna().any():
        line = rows.drop_duplicates(x).dropna(subset="theory")
        label = text("理论", "theory", " ") if named else None
        theory(ax, name, line[x].to_numpy(), line["theory"].to_numpy(), label)


def gradient_flow(frame, ax):
    """What is left of the gradient on its way back from the output, per placement; the band spans the seeds."""
    depth, several = frame["layer"].max(), frame["placement"].nunique() > 1
    back = ("距输出的层数", "layers back from the output")
    setup(ax, back, GRADIENT, (0, 200 if several else 100), (1e-20, 1e20) if several else (1e-24, 1e8), "log")
    frame = frame.assign(layer=depth - frame["layer"]).sort_values("layer", kind="stable")
    left = {p: y[-1] / y[0] for p, (_, y) in per_placement(frame, ax, "gradient_norm").items()}
    if several:
        each = "  ".join(f"{term(placement, '/')} {number(value)}" for placement, value in left.items())
        ax.set_title(text(f"往回走 {depth} 层，梯度还剩：", f"{depth} layers back, what is left:", " ") + f"\n{each}")
    else:
        value = number(next(iter(left.values())))
        finding(
            ax,
            f"往回走 {depth} 层，梯度变成原来的 {value} 倍",
            f"{depth} layers back, the gradient is {value} times what it was",
        )


def training_curves(frame, ax):
    """Training loss against steps, per placement, smoothed over 20 steps; the band spans the seeds."""
    steps = frame["step"].max()
    setup(ax, ("训练步数", "training step"), LOSS, (0, steps), (2.0, 5.0))
    if "unigram" in frame:
        words = text("只用字符频率", "character frequencies only", " ")
        level(ax, "unigram", frame["unigram"].iloc[0], words, below=True)
    ends = {}
    for placement, rows in frame.groupby("placement", sort=False):
        smooth = rows.pivot(index="step", columns="seed", values="loss").rolling(20, min_periods=1).mean()
        band(ax, placement, smooth.index, smooth.min(axis=1), smooth.max(axis=1), placement)
        curve(ax, placement, smooth.index, smooth.mean(axis=1), term(placement, "\n"), placement)
        ends[placement] = smooth.iloc[-1].mean()
    each = "  ".join(f"{term(placement, '/')} {loss:.2f}" for placement, loss in ends.items())
    ax.set_title(text(f"{steps} 步之后的训练损失：", f"Training loss after {steps} steps:", " ") + f"\n{each}")
