"""What several chapters draw: names of axes, a curve with its band and closed form per placement, training curves."""

from ..canvas import (
    GREY,
    STYLES,
    band,
    curve,
    decades,
    finding,
    level,
    number,
    setup,
    signed,
    spread,
    text,
    theory,
    window,
)
from ..i18n import TERMS, term

LAYER = ("第几层", "layer")
LOSS = ("损失（nat）", "loss (nats)")
GRADIENT = ("梯度范数", "gradient norm")


def reach(depth, start=0):
    """Limits of an axis of layers that holds `depth` of them and moves seldom."""
    return window(depth, *((start, end) for end in (10, 20, 40, 60, 100, 200)))


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
    is marked. Returns: {placement: what the change there adds to the loss}."""
    added, wholes = {}, {}
    for placement, rows in frame.groupby("placement", sort=False):
        whole = rows.loc[rows["layer"] == 0, "loss"].mean()
        x, middle, low, high = spread(rows[rows["layer"] > 0], "layer", "loss")
        band(ax, placement, x, low, high, placement)
        curve(ax, placement, x, middle, term(placement, "\n"), placement, markevery=1)
        wholes[placement] = whole
        added[placement] = middle[here - 1] - whole
    for placement, whole in wholes.items():
        words = text("完整网络", "whole network", " ") if whole == max(wholes.values()) else None
        level(ax, f"whole {placement}", whole, words, colour=STYLES[placement].colour)
    ax.axvline(here, color=GREY, linewidth=8, alpha=0.25, zorder=1)
    return added


def each(values, form=number):
    """What {placement: value} says in Chinese and in English."""
    said = {placement: form(value) for placement, value in values.items()}
    zh = "，".join(f"{TERMS[placement][0]} {value}" for placement, value in said.items())
    return zh, ", ".join(f"{TERMS[placement][1]} {value}" for placement, value in said.items())


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
    depth = frame["layer"].max()
    back = ("距输出的层数", "layers back from the output")
    setup(ax, back, GRADIENT, reach(depth), decades(frame[["gradient_norm", "theory"]], 8, (-48, 48)), "log")
    frame = frame.assign(layer=depth - frame["layer"]).sort_values("layer", kind="stable")
    left = {p: y[-1] / y[0] for p, (_, y) in per_placement(frame, ax, "gradient_norm").items()}
    least, most = min(left, key=left.get), max(left, key=left.get)
    low, high = number(left[least]), number(left[most])
    if left[least] == 0:
        zh = f"{TERMS[least][0]}网络的梯度在 float32 里下溢成 0（▼）"
        en = f"the {TERMS[least][1]} network's gradient underflows to 0 in float32 (▼)"
    elif len(left) == 1:
        zh, en = f"梯度变成原来的 {low} 倍", f"the gradient is {low} times what it was"
    else:
        zh = f"{TERMS[least][0]}网络的梯度变成 {low} 倍，{TERMS[most][0]}网络的 {high} 倍"
        en = f"{low} times the gradient in the {TERMS[least][1]} network, {high} in the {TERMS[most][1]} one"
    finding(ax, f"往回走 {depth} 层，{zh}", f"{depth} layers back, {en}")


def training_curves(frame, ax):
    """Training loss against steps, per placement, smoothed over 20 steps; the band spans the seeds."""
    steps = frame["step"].max()
    setup(ax, ("训练步数", "training step"), LOSS, (0, steps), (2.0, 4.6))
    if "unigram" in frame:
        words = text("只用字符频率", "character frequencies only", " ")
        level(ax, "unigram", frame["unigram"].iloc[0], words)
    ends = {}
    for placement, rows in frame.groupby("placement", sort=False):
        smooth = rows.pivot(index="step", columns="seed", values="loss").rolling(20, min_periods=1).mean()
        band(ax, placement, smooth.index, smooth.min(axis=1), smooth.max(axis=1), placement)
        curve(ax, placement, smooth.index, smooth.mean(axis=1), term(placement, "\n"), placement)
        ends[placement] = smooth.iloc[-1].mean()
    best, worst = min(ends, key=ends.get), max(ends, key=ends.get)
    gap, low = signed(ends[worst] - ends[best], 2), signed(ends[best], 2)
    finding(
        ax,
        f"{steps} 步之后，{TERMS[best][0]}的训练损失最低：{low}，比{TERMS[worst][0]}低 {gap}",
        f"After {steps} steps {TERMS[best][1]} has the lowest training loss: {low}, {gap} below {TERMS[worst][1]}",
    )
