"""The drawings of chapter 05: RMSNorm beside LayerNorm."""

import numpy as np

from ...canvas import (
    GREEN,
    GREY,
    STYLES,
    band,
    curve,
    decades,
    finding,
    level,
    note,
    setup,
    signed,
    text,
    theory,
    tone,
    window,
)
from ..curves import LAYER, closed_form, each, norm_name, recorded


def recentring(frame, axes):
    """Histograms of what both norms make of the same numbers; mean and spread of RMSNorm's output against the mean m.

    Columns: panel; where it is "values": norm, value; where it is "sweep": m, mean, spread, rms and their theory;
    here (the chosen m), recentre (whether RMSNorm got x − mean).
    """
    left, right = axes
    here, recentre = frame["here"].iloc[0], frame["recentre"].iloc[0]
    setup(left, ("输出的取值", "value of the output"), ("占比", "share of entries"), (-4, 4), (0, 0.4))
    values = {norm: rows["value"].to_numpy() for norm, rows in frame[frame["panel"] == "values"].groupby("norm")}
    bins = np.linspace(-4, 4, 33)
    for norm, y in values.items():
        filled = norm == "layer_norm"
        style = {"fill": filled, "color": STYLES[norm].colour, "alpha": 0.35 if filled else 1.0, "linewidth": 2}
        left.stairs(np.histogram(y, bins)[0] / len(y), bins, **style)
    note(left, "layer_norm", -3.9, 0.37, "LayerNorm", STYLES["layer_norm"].colour)
    note(left, "rms_norm", -3.9, 0.34, "RMSNorm", STYLES["rms_norm"].colour)
    gap, mean = np.abs(values["rms_norm"] - values["layer_norm"]).max(), values["rms_norm"].mean()
    if recentre:
        finding(left, f"减去均值：最大差别 {gap:.4f}", f"mean subtracted: max difference {gap:.4f}")
    else:
        mean = signed(mean, 2)
        finding(left, f"RMSNorm 输出的均值 {mean}", f"mean of RMSNorm's output: {mean}")
    mean_of_x, output = ("x 的均值 m（以 σ 计）", "mean m of x, in σ"), ("RMSNorm 的输出", "RMSNorm's output")
    setup(right, mean_of_x, output, (-3, 3), (-1.1, 1.3))
    sweep = frame[frame["panel"] == "sweep"]
    for column, label, colour, marker in (
        ("rms", ("均方根", "rms"), GREY, "^"),
        ("mean", ("均值", "mean"), *STYLES["rms_norm"][:2]),
        ("spread", ("标准差", "spread"), GREEN, "D"),
    ):
        style = {"color": colour, "marker": marker, "linestyle": ""}
        curve(right, column, sweep["m"], sweep[column], text(*label), **style)
        theory(right, column, sweep["m"].to_numpy(), sweep[f"{column}_theory"].to_numpy())
    right.axvline(here, color=GREY, linewidth=1.2)
    spread = values["rms_norm"].std()
    here = signed(here, 1)
    finding(right, f"m = {here} 时标准差 {spread:.2f}", f"spread at m = {here}: {spread:.2f}")


def mean_share(frame, ax):
    """Share of the mean in the power of the hidden state that each norm sees, per norm, against the layer; log scale.

    Columns: layer, share, norm, seed, step, width.
    """
    step, width = frame["step"].iloc[0], frame["width"].iloc[0]
    share, limits = ("均值占功率的比例", "mean's share of power"), decades(frame["share"], 1, (-5, 0))
    setup(ax, LAYER, share, (0, frame["layer"].max()), limits, "log")
    level(ax, "chance", 1 / width, text("随机向量", "random vector", " ") + f": 1/d = {1 / width:.1%}")
    last = {}
    for norm, rows in frame.groupby("norm", sort=False):
        groups = rows.groupby("layer")["share"]
        mean = groups.mean()
        band(ax, norm, mean.index, groups.min(), groups.max(), norm)
        curve(ax, norm, mean.index, mean, norm_name(norm), norm, markevery=1)
        last[norm] = mean.iloc[-1]
    zh, en = each(last, lambda share: f"{share:.1%}")
    zh = f"第 {step} 步，最后一层的功率里均值占：{zh}"
    finding(ax, zh, f"Step {step}, the mean's share of the last layer's power: {en}")


FORMS = {
    "copy": ("", "copy", GREY, False),
    "F.layer_norm": ("", "F.layer_norm", STYLES["layer_norm"].colour, False),
    "F.rms_norm": ("", "F.rms_norm", STYLES["rms_norm"].colour, False),
    "layer_norm": ("从零写的", "layer_norm", STYLES["layer_norm"].colour, True),
    "rms_norm": ("从零写的", "rms_norm", STYLES["rms_norm"].colour, True),
}


def norm_timings(frame, axes):
    """Bars of the time of every form, forward and backward, in copies of x; black marks: its bytes at copy speed.

    Columns: direction, form, milliseconds, copies (the time in copies of x), bytes_in_copies.
    """
    names = {"forward": ("前向", "forward"), "backward": ("反向", "backward")}
    for ax, (direction, (zh, en)), limit in zip(axes, names.items(), (15, 45)):
        rows = frame[frame["direction"] == direction].set_index("form")
        setup(ax, (f"{zh}耗时（复制 x 几遍）", f"{en}, in copies of x"), ("", ""), (0, limit), (4.5, -0.75))
        ax.set_yticks([])
        for place, (form, (origin, name, colour, scratch)) in enumerate(FORMS.items()):
            if form in rows.index:
                value, ms, floor = rows.loc[form, ["copies", "milliseconds", "bytes_in_copies"]]
                style = {"facecolor": tone("paper"), "hatch": "///"} if scratch else {"facecolor": colour}
                ax.barh(place, min(value, limit), 0.4, alpha=0.75, linewidth=1.2, edgecolor=colour, **style)
                ax.plot([floor, floor], [place - 0.22, place + 0.22], color=tone("ink"), linewidth=2.5)
                words = text(f"{origin} ", "from scratch: ", "") if origin and ax is axes[0] else ""
                words = f"{words}{name}  {_milliseconds(ms)}{' →' if value > limit else ''}"
                note(ax, form, 0.01 * limit, place - 0.25, words, va="bottom")
        ratio = rows.loc["F.rms_norm", "copies"] / rows.loc["F.layer_norm", "copies"]
        zh = f"{zh}：F.rms_norm 的用时是 F.layer_norm 的 {ratio:.1f} 倍"
        finding(ax, zh, f"{en}: F.rms_norm takes {ratio:.1f} × F.layer_norm")
    words = text("竖线：字节数 ÷ 复制的速度", "upright lines: bytes ÷ speed of a copy")
    note(axes[1], "marks", 0.45, 0.2, words, va="bottom")


def _milliseconds(ms):
    return f"{ms:.3f} ms" if ms < 0.1 else f"{ms:.2f} ms" if ms < 10 else f"{ms:.0f} ms"


DIVERGED = 5.0  # nats; guessing all characters alike costs 4.3


def norm_quality(frame, axes):
    """Recorded losses against the learning rate, per norm with every seed as a point; and paired differences by seed.

    Columns: norm, learning_rate, seed, held_out_loss, here (a learning rate), against (a norm), date.
    """
    left, right = axes
    here, other = frame["here"].iloc[0], frame["against"].iloc[0]
    loss = ("验证损失（nat）", "held-out loss (nats)")
    setup(left, ("学习率", "learning rate"), loss, (2.2e-4, 4.5e-2), (2.2, 3.4), "linear", "log")
    for norm in ("layer_norm", other):
        rows, look = frame[frame["norm"] == norm], STYLES[norm]
        beside = 0.93 if norm == "layer_norm" else 1.07
        points = {"marker": look.marker, "linestyle": "", "color": look.colour, "alpha": 0.45}
        left.plot(rows["learning_rate"] * beside, rows["held_out_loss"].clip(upper=3.38), **points)
        mean = rows.groupby("learning_rate")["held_out_loss"].mean()
        curve(left, norm, mean.index * beside, mean, norm_name(norm), norm, marker="")
    left.axvline(here, color=GREY, linewidth=10, alpha=0.2)
    by_seed = frame[frame["learning_rate"] == here].pivot(index="seed", columns="norm", values="held_out_loss")
    difference = by_seed[other] - by_seed["layer_norm"]
    zh, en = each(by_seed[["layer_norm", other]].mean(), lambda loss: f"{loss:.3f}" if loss < DIVERGED else "—")
    finding(left, f"学习率 {here:g}：{zh}", f"rate {here:g}: {en}")
    reach = 0.06 if other == "rms_norm" else 0.6
    setup(right, ("种子", "seed"), ("损失之差（nat）", "difference (nats)"), (-0.5, 9.5), (-reach, reach))
    note(right, "recorded", -0.3, 0.97 * reach, f"{recorded()} {frame['date'].iloc[0]}", tone("soft"), va="top")
    level(right, "zero", 0)
    curve(right, f"difference {other}", difference.index, difference, placement=other, linestyle="", markevery=1)
    diverged = (by_seed[other] > DIVERGED).sum()
    if diverged:
        finding(right, f"{len(by_seed)} 个种子里有 {diverged} 个发散", f"{diverged} of {len(by_seed)} seeds diverged")
        return
    middle, error = difference.mean(), difference.std() / len(difference) ** 0.5
    band(right, f"error {other}", [-0.5, 9.5], [middle - error] * 2, [middle + error] * 2, other)
    right.axhline(middle, color=STYLES[other].colour, linewidth=1.5)
    found = f"{signed(middle, 3, '+')} ± {error:.3f}"
    finding(right, f"减去 LayerNorm：{found}", f"minus LayerNorm: {found}")


def rotation(frame, ax):
    """Size of norm(Rx) − R norm(x) against the position that RoPE turns by, per norm, over the closed forms.

    Columns: position, difference, theory, norm, here.
    """
    here, values = frame["here"].iloc[0], {}
    size = ("差的均方根", "rms of norm(Rx) − R norm(x)")
    limits = window(frame[["difference", "theory"]], (-0.03, 0.7), (-0.03, 1.3))
    setup(ax, ("位置", "position"), size, (0, frame["position"].max()), limits)
    for norm, rows in frame.groupby("norm", sort=False):
        curve(ax, norm, rows["position"], rows["difference"], norm_name(norm), norm)
        closed_form(ax, norm, rows, "position", named=norm == "layer_norm")
        values[norm] = rows.loc[rows["position"] == here, "difference"].iloc[0]
    ax.axvline(here, color=GREY, linewidth=1.2)
    zh, en = each(values)
    finding(ax, f"位置 {here}，先转与后转相差：{zh}", f"At position {here} the order changes the result by: {en}")
