"""The drawings of chapter 12: the probes of every wiring, what DyT passes on, the recorded trainings, the logits."""

from ...canvas import (
    GREY,
    STYLES,
    band,
    curve,
    decades,
    finding,
    level,
    note,
    number,
    setup,
    spread,
    text,
    theory,
    window,
)
from ...i18n import TERMS, term
from ..curves import GRADIENT, LAYER, norm_name, reach, recorded
from .evidence import sensitivity
from .variants import WIRINGS

PROBES = {
    "variance": (("方差", "variance"), "第 {0} 层的方差", "Variance at layer {0}"),
    "gradient_norm": (GRADIENT, "回到第 0 层的梯度", "Gradient back at layer 0"),
    "relative_update": (("相对改变量", "relative update"), "第 {0} 层的相对改变量", "Relative update of layer {0}"),
}


def style(wiring):
    """Keywords for `curve`: the look of a wiring, registered or not."""
    look = WIRINGS[wiring].look
    return {"color": look.colour, "marker": look.marker, "linestyle": look.dash}


def probes(frame, ax):
    """One probe layer by layer, on a log axis: Pre-Norm with LayerNorm, and the wiring and norm that were chosen.

    Columns: layer, value, theory, placement, norm, seed, probe_of.
    """
    which, depth = frame["probe_of"].iloc[0], frame["layer"].max()
    axis, zh, en = PROBES[which]
    frame = frame.dropna(subset="value")
    limits = decades(frame["value"], 1, (-12, 12))
    setup(ax, LAYER, axis, reach(depth), limits, "log")
    ends = {}
    for (wiring, norm), rows in frame.groupby(["placement", "norm"], sort=False):
        x, middle, low, high = spread(rows, "layer", "value")
        name = f"{wiring} {norm}"
        band(ax, name, x, low, high, color=WIRINGS[wiring].look.colour)
        plain = norm in ("layer_norm", "") or not WIRINGS[wiring].uses_norm
        label = term(wiring, "\n") if plain else f"{term(wiring, chr(10))}\n{norm_name(norm)}"
        curve(ax, name, x, middle, label, **style(wiring))
        if rows["theory"].notna().any():
            line = rows.drop_duplicates("layer").dropna(subset="theory")
            words = text("理论", "theory", " ") if not ends else None
            theory(ax, name, line["layer"].to_numpy(), line["theory"].to_numpy(), words)
        ends[wiring] = middle[0 if which == "gradient_norm" else -1]
    said = {wiring: number(value) for wiring, value in ends.items()}
    finding(
        ax,
        f"{zh.format(depth)}：" + "，".join(f"{TERMS[w][0]} {value}" for w, value in said.items()),
        f"{en.format(depth)}: " + ", ".join(f"{TERMS[w][1]} {value}" for w, value in said.items()),
    )


def out_and_back(frame, axes):
    """Two panels against the scale of the rows: rms of what comes out, and of a gradient that comes back.

    Columns: norm, scale, output, gradient, theory_output, theory_gradient, alpha.
    """
    alpha, across = frame["alpha"].iloc[0], ("各行的尺度 s", "scale s of the rows")
    for ax, part, up, limits in (
        (axes[0], "output", ("输出的均方根", "rms of the output"), (1e-3, 3)),
        (axes[1], "gradient", ("传回的梯度", "gradient passed back"), (3e-3, 3e2)),
    ):
        setup(ax, across, up, (1e-2, 1e2), limits, "log", "log")
        for norm, rows in frame.groupby("norm", sort=False):
            curve(ax, norm, rows["scale"], rows[part], TERMS[norm][1], norm)
            theory(ax, norm, rows["scale"].to_numpy(), rows[f"theory_{part}"].to_numpy())
    ends = frame.set_index("norm").loc["dyt"]
    finding(
        axes[0],
        f"s 从 0.01 到 100：DyT 出来 {number(ends['output'].iloc[0])} 到 {number(ends['output'].iloc[-1])}",
        f"DyT puts out {number(ends['output'].iloc[0])} to {number(ends['output'].iloc[-1])}",
    )
    finding(
        axes[1],
        f"α = {alpha:g}：s = 100 时传回 {number(ends['gradient'].iloc[-1])}",
        f"α = {alpha:g}: {number(ends['gradient'].iloc[-1])} comes back at s = 100",
    )


KINDS = {"qk_norm": ("QK 归一化", "QK-norm"), "dyt": ("DyT", "DyT")}


def _kind(kind):
    """Names and look of a recorded kind."""
    if kind in KINDS:
        look = STYLES["dyt"] if kind == "dyt" else ("#A100F2", "P", "--")
        return KINDS[kind], {"color": look[0], "marker": look[1], "linestyle": look[2]}
    return TERMS[kind], style(kind)


def trained(frame, ax):
    """Recorded held-out losses against the learning rate: mean and range of the seeds, Pre-Norm and another kind.

    Columns: kind, learning_rate, seed, value, date, said (lower, higher or not settled, of the other kind).
    """
    rate, loss = ("学习率", "learning rate"), ("验证损失（nat）", "held-out loss (nats)")
    setup(ax, rate, loss, (8e-4, 4e-2), window(frame["value"], (2.4, 3.0), (2.4, 3.3), (2.2, 4.6)), "linear", "log")
    best = {}
    for kind, rows in frame.groupby("kind", sort=False):
        names, look = _kind(kind)
        by_rate = rows.groupby("learning_rate")["value"]
        at = by_rate.mean().index
        band(ax, kind, at, by_rate.min(), by_rate.max(), color=look["color"])
        curve(ax, kind, at, by_rate.mean(), text(*names), **look, markevery=1)
        best[kind] = by_rate.mean().min()
    low, high = ax.get_ylim()
    note(ax, "recorded", 8.6e-4, high - 0.02 * (high - low), f"{recorded()} {frame['date'].iloc[0]}", GREY, va="top")
    (_, reference), *others = best.items()
    if not others:
        finding(ax, f"前置归一化：最低 {reference:.2f} nat", f"Pre-Norm: {reference:.2f} nats at best")
        return
    kind, value = others[0]
    zh, en = _kind(kind)[0]
    gap = value - reference
    if frame["said"].iloc[0] == "not settled":
        gap = f"{gap:+.3f}".replace("-", "−")
        finding(
            ax,
            f"各取最好的学习率：{zh}{' ' * zh.isascii()}减前置归一化 {gap} nat，没有分出高下",
            f"Each at its best rate, {en} minus Pre-Norm: {gap} nats, not settled",
        )
        return
    finding(
        ax,
        f"各取最好的学习率：{zh}{' ' * zh.isascii()}比前置归一化{'高' if gap > 0 else '低'} {abs(gap):.3f} nat",
        f"Each at its best rate, {en} is {abs(gap):.3f} nats {'above' if gap > 0 else 'below'} Pre-Norm",
    )


def logits(frame, axes):
    """Two panels against the learning rate, with QK-norm and without: largest attention logit after the recorded
    training, and held-out loss.

    Columns: kind, learning_rate, seed, logit, held_out_loss, bound (√d), date.
    """
    rate, across = ("学习率", "learning rate"), (2e-4, 0.45)
    setup(
        axes[0],
        rate,
        ("最大的 |q·k|/√d", "largest |q·k|/√d"),
        across,
        decades(frame["logit"], 1, (-1, 9)),
        "log",
        "log",
    )
    loss = ("验证损失（nat）", "held-out loss (nats)")
    setup(
        axes[1], rate, loss, across, window(frame["held_out_loss"], (2.4, 3.4), (2.4, 4.4), (2.4, 6.4)), "linear", "log"
    )
    level(axes[0], "bound", frame["bound"].iloc[0], "√d")
    ends, excess = {}, {}
    for kind, words in (("pre_norm", ("没有 QK 归一化", "without QK-norm")), ("qk_norm", KINDS["qk_norm"])):
        rows, look = frame[frame["kind"] == kind], _kind(kind)[1]
        for ax, column in zip(axes, ("logit", "held_out_loss")):
            by_rate = rows.groupby("learning_rate")[column]
            at = by_rate.mean().index
            band(ax, kind, at, by_rate.min(), by_rate.max(), color=look["color"])
            curve(ax, kind, at, by_rate.mean(), text(*words) if ax is axes[0] else None, **look, markevery=1)
        ends[kind] = number(rows[rows["learning_rate"] == 0.03]["logit"].mean())
        excess[kind] = sensitivity(rows).mean()
    low, high = axes[1].get_ylim()
    at = low + 0.93 * (high - low)
    note(axes[1], "recorded", 2.4e-4, at, text("预先跑好的结果", "precomputed"), GREY, va="top")
    note(axes[1], "date", 2.4e-4, low + 0.8 * (high - low), frame["date"].iloc[0], GREY, va="top")
    finding(
        axes[0],
        f"学习率 0.03：没有 {ends['pre_norm']}，有 {ends['qk_norm']}",
        f"At rate 0.03: {ends['pre_norm']} without, {ends['qk_norm']} with",
    )
    finding(
        axes[1],
        f"平均多出：没有 {excess['pre_norm']:.2f}，有 {excess['qk_norm']:.2f}",
        f"Mean excess: {excess['pre_norm']:.2f} without, {excess['qk_norm']:.2f} with",
    )
