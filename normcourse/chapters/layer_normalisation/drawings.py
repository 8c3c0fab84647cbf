"""The drawings of chapter 03: what layer normalisation does to a vector, to gradients and to the weights before it."""

import numpy as np
from matplotlib.collections import LineCollection, PolyCollection

from ...canvas import (
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    SKY,
    STYLES,
    VERMILLION,
    band,
    curve,
    decades,
    finding,
    level,
    note,
    number,
    setup,
    signed,
    text,
    theory,
    tone,
)
from ...i18n import TERMS
from ..curves import LOSS, norm_name


def before_and_after(frame, axes):
    """Histogram of a token's features before the norm (column `x`) and after it (`y`), with the same bins."""
    x, y = frame["x"].to_numpy(), frame["y"].to_numpy()
    centre, size = x.mean(), x.std()
    edges = np.arange(-5, 5.01, 0.25)
    shares = np.histogram(y, edges)[0] / len(y)
    z = np.linspace(-5, 5, 201)
    normal = 0.25 * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    top = 1.2 * max(shares.max(), normal.max())
    panels = [("归一化之前", "before", x, edges * size + centre, 12), ("归一化之后", "after", y, edges, 5)]
    for ax, (zh, en, values, bins, reach) in zip(axes, panels):
        name = ("特征的取值", "value of a feature")
        setup(ax, name, ("特征占比", "share of features") if ax is axes[0] else ("", ""), (-reach, reach), (0, top))
        ax.stairs(shares, bins, fill=True, color=SKY, alpha=0.8)
        ax.stairs(shares, bins, color=BLUE, linewidth=1.0)
        ax.axvline(values.mean(), ymax=0.88, color=GREY, linewidth=1.2)
        skew, mean, std = signed(_skewness(values), 1), signed(values.mean(), 2), values.std()
        still = ax is axes[1] and skew == signed(_skewness(x), 1)
        words = f"μ = {mean}，σ = {std:.2f}，偏度{'仍是' if still else ''} {skew}"
        finding(ax, f"{zh}：{words}", f"{en}: μ = {mean}, σ = {std:.2f}, skewness {'still ' if still else ''}{skew}")
        outside = np.abs(values) > reach
        words = text(f"图外 {outside.sum()} 个，最远", f"{outside.sum()} outside, as far as", " ")
        furthest = values[np.abs(values).argmax()]
        words = f"{words} {signed(furthest, 0)}{' →' if furthest > 0 else ''}" if outside.any() else ""
        note(ax, "outside", 0.98 * reach, 0.93 * top, words, VERMILLION, ha="right")
    theory(axes[1], "normal", z, normal, "N(0, 1)", at=1.0)


def geometry(frame, axes):
    """Points in three dimensions on their way from the input (`x0 …`) over `c0 …` to where they are now (`p0 …`).

    A panel for each `norm`; the columns `azimuth` and `elevation` give the direction one looks from.
    """
    right, up, towards = _view(frame["azimuth"].iloc[0], frame["elevation"].iloc[0])

    def flat(points):
        return points @ np.stack([right, up], axis=1)

    for ax, (norm, rows) in zip(axes, frame.groupby("norm", sort=False)):
        start, middle, now = (rows[[f"{name}{i}" for i in range(3)]].to_numpy() for name in "xcp")
        ax.set(xlim=(-3.7, 3.7), ylim=(-3.7, 3.7), aspect="equal")
        ax.set_axis_off()
        _surface(ax, norm, flat)
        path = np.stack([flat(start), flat(middle), flat(now)], axis=1)
        ax.add_collection(LineCollection(path, colors=GREY, linewidths=0.7, alpha=0.6))
        ax.scatter(*flat(start).T, s=10, facecolors="none", edgecolors=GREY, linewidths=0.8, zorder=3)
        depth = now @ towards
        colour = STYLES[norm].colour
        ax.scatter(*flat(now).T, s=22 + 6 * np.clip(depth, -2, 4), color=colour, zorder=4, linewidths=0)
        far, radii = np.abs(now.sum(axis=1)).max() / np.sqrt(3), np.linalg.norm(now, axis=1)
        low, high = f"{radii.min():.2f}", f"{radii.max():.2f}"
        between = low if low == high else f"{low} … {high}"
        zh, en = f"离平面最远 {far:.2f}，半径 {between}", f"off the plane by ≤ {far:.2f}, radius {between}"
        finding(ax, f"{TERMS[norm][0]}：{zh}", f"{TERMS[norm][1]}: {en}")


def _surface(ax, norm, flat):
    """Where the outputs of a norm of three features lie, drawn with `flat`, from three dimensions to two: the circle in
    its plane, or the sphere."""
    turn = np.linspace(0, 2 * np.pi, 121)[:, None]
    radius, one, colour = np.sqrt(3), np.ones(3) / np.sqrt(3), STYLES[norm].colour
    if norm == "layer_norm":
        ring = np.cos(turn) * np.array([1, -1, 0]) / np.sqrt(2) + np.sin(turn) * np.array([1, 1, -2]) / np.sqrt(6)
        ax.fill(*flat(3.3 * ring).T, color=SKY, alpha=0.16, linewidth=0)
        ax.plot(*flat(radius * ring).T, color=colour, linewidth=1.6)
        ax.plot(*flat(np.outer([-3.4, 3.4], one)).T, color=GREEN, linewidth=1.6, linestyle="--", zorder=1)
        _beside(ax, "axis", flat(3.4 * one), "(1, 1, 1)", GREEN)
    else:
        ax.fill(radius * np.cos(turn), radius * np.sin(turn), color=colour, alpha=0.14, linewidth=0)
        circles = [np.cos(turn) * np.eye(3)[i] + np.sin(turn) * np.eye(3)[j] for i, j in _PAIRS]
        ax.add_collection(LineCollection([flat(radius * c) for c in circles], colors=colour, linewidths=0.9))
    for i in range(3):
        ax.plot(*flat(np.outer([0, 3.0], np.eye(3)[i])).T, color=GREY, linewidth=0.9, zorder=1)
        _beside(ax, f"x{i}", flat(3.0 * np.eye(3)[i]), f"$x_{i + 1}$", tone("soft"))


def eps_place(frame, axes):
    """Output and gradient against the size of the input, for every place of eps; the gradient over 1/σ."""
    eps, dtype = frame["eps"].iloc[0], frame["dtype"].iloc[0]
    x = ("输入的标准差 σ", "std σ of the input")
    panels = [
        ("output", ("输出的标准差", "std of the output"), (1e-7, 1e4)),
        ("gradient_norm", ("传回来的梯度", "gradient passed back"), (1e-5, 1e9)),
    ]
    for ax, (column, name, ylim) in zip(axes, panels):
        setup(ax, x, name, (1e-8, 1e4), ylim, "log", "log")
        for place, (colour, marker, _, _) in _PLACES.items():
            rows = frame[frame["place"] == place]
            curve(ax, place, rows["std"], rows[column], color=colour, marker=marker, markevery=2)
    std = np.logspace(-8, 4, 25)
    theory(axes[1], "slope", std, 1 / std, "1/σ", at=30)
    level(axes[1], "inside", eps**-0.5, rf"$1/\sqrt{{\varepsilon}}$ = {number(eps**-0.5, formula=True)}")
    for i, (colour, _, sign, formula) in enumerate(_PLACES.values()):
        note(axes[0], formula, 2e-8, 10 ** (3.1 - 0.9 * i), f"{sign} {formula}", colour, fontsize=11)
    one = frame[np.isclose(frame["std"], 1e-3)].set_index("place")["output"]
    inside, outside = number(one["inside"]), number(one["outside"])
    finding(
        axes[0],
        f"{dtype}，σ = 0.001：ε 在根号内剩 {inside}，在外剩 {outside}",
        f"{dtype}, σ = 0.001: ε inside the root {inside}, outside {outside}",
    )
    inner = frame.loc[frame["place"] == "inside", "gradient_norm"]
    lost, largest = frame["gradient_norm"].isna().sum(), number(inner.max())
    zh, en = f"ε 在根号内：梯度最大 {largest}", f"ε inside the root: gradient ≤ {largest}"
    nans = (f"；{lost} 个点是 nan（×）", f"; {lost} points nan (×)") if lost else ("", "")
    finding(axes[1], zh + nans[0], en + nans[1])


def norm_spectrum(frame, ax):
    """Singular values of both norms' Jacobians, sorted, over their closed form; what is below rounding error is 0.

    Columns `norm`, `index`, `singular_value`, `resolution`; `theory` 1/√(σ² + ε) and `stretch` ε/√(σ² + ε)³, where
    σ² is the mean square for RMSNorm.
    """
    d, last = frame["index"].max() + 1, 8
    x = (f"方向，由大到小，共 {d} 个，这里是最后几个", f"directions, sorted: the last of {d}")
    limits = decades(frame["singular_value"], 4, (-12, 4))
    setup(ax, x, ("奇异值", "singular value"), (-last + 0.4, 0.6), limits, "log")
    names = [index for index in range(1 - last, 1) if d + index > 0]
    ax.set_xticks(names, [str(d + index) for index in names])
    passed = {}
    for norm, size, shift in (("rms_norm", 13.0, 0.12), ("layer_norm", 13.0, -0.12)):
        rows = frame[frame["norm"] == norm]
        values = np.where(rows["singular_value"] > rows["resolution"], rows["singular_value"], 0.0)
        shown = slice(-last, None)
        at = rows["index"].to_numpy()[shown] - d + 1 + shift
        style = {"markersize": size, "linestyle": "", "markevery": 1}
        curve(ax, norm, at, values[shown], norm_name(norm), norm, **style)
        passed[norm] = int((values > 0.01 * rows["theory"].iloc[0]).sum())
    flat, stretch = rows["theory"].iloc[0], rows["stretch"].iloc[0]
    level(ax, "flat", flat, r"$1/\sqrt{\sigma^2 + \varepsilon}$")
    words = r"$\varepsilon\,/\,\sqrt{\sigma^2 + \varepsilon}^{\,3}$"
    level(ax, "stretch", stretch, f"{words} = {number(stretch, formula=True)}")
    words = text("0：这个方向挡住了", "0: this direction is blocked", "  ") + " ▼"
    note(ax, "zero", -0.25, 0.035, words, tone("soft"), ha="right", transform=ax.get_xaxis_transform())
    ln, rms = passed["layer_norm"], passed["rms_norm"]
    finding(
        ax,
        f"{d} 个方向里，LayerNorm 放行 {ln} 个，RMSNorm 放行 {rms} 个",
        f"Of {d} directions LayerNorm passes {ln}, RMSNorm {rms}",
    )


def weight_growth(frame, axes):
    """Squared norm of the weights before a norm under SGD, over Pythagoras; and the learning rate that is left.

    Rows with `here` are runs at the chosen learning rate, the others (grey) at other ones.
    """
    steps, square = frame["step"].max(), r"$\|W\|^2$"
    x = ("训练步数", "training step")
    heights, rates = (decades(frame[column], 1, (-6, 8)) for column in ("squared_norm", "effective_rate"))
    setup(axes[0], x, (square, square), (0, steps), heights, "log")
    setup(axes[1], x, (rf"$\eta\,/\,${square}", rf"$\eta\,/\,${square}"), (0, steps), rates, "log")
    for ax, column in zip(axes, ("squared_norm", "effective_rate")):
        for (rate, seed), rows in frame[~frame["here"]].groupby(["rate", "seed"]):
            curve(ax, (rate, seed), rows["step"], rows[column], color=GREY, marker="", linewidth=1.0, alpha=0.6)
        for seed, rows in frame[frame["here"]].groupby("seed"):
            curve(ax, seed, rows["step"], rows[column], color=BLUE, marker="", linewidth=2.0, zorder=3)
    runs = frame[frame["here"]]
    first, last = (runs[runs["step"] == step].mean(numeric_only=True) for step in (0, steps))
    one = runs[runs["seed"] == 0]
    if one["theory"].notna().any():
        words = text("勾股定理", "Pythagoras", " ")
        theory(axes[0], "pythagoras", one["step"].to_numpy(), one["theory"].to_numpy(), words, at=steps * 0.8)
    growth, start = last["squared_norm"] / first["squared_norm"], number(first["effective_rate"])
    if np.isfinite(growth):
        end = number(last["effective_rate"])
        finding(
            axes[0],
            f"{steps} 步之后，{square} 变成 {number(growth)} 倍",
            f"after {steps} steps {square} is {number(growth)} ×",
        )
        finding(axes[1], f"等效学习率：{start} → {end}", f"effective rate: {start} → {end}")
    else:
        finding(axes[0], f"{steps} 步之内就发散了", f"diverged within {steps} steps")
        finding(axes[1], f"等效学习率从 {start} 起", f"effective rate, from {start}")


def drift_and_loss(frame, axes):
    """Training loss, and how far the statistics of the layers move in one step (column `moved`); bands over the seeds.

    Column `measure` says which statistic: "shift" (means of the features) or "scale" (standard deviation of the layer).
    """
    steps = frame["step"].max()
    names = {"shift": ("单元均值每步移动", "means move per step"), "scale": ("尺度每步变化", "scale moves per step")}
    moved = names[frame["measure"].iloc[0]]
    x = ("训练步数", "training step")
    setup(axes[0], x, LOSS, (0, steps), (2.6, 4.2))
    setup(axes[1], x, moved, (0, steps), decades(frame["moved"], 1, (-6, 1)), "log")
    level(axes[0], "unigram", frame["unigram"].iloc[0])  # among the curves: its name has room below them only
    note(axes[0], "unigram", 5, 2.64, "- - " + text("只用字符频率", "character frequencies only", " "))
    ends = {}
    for ax, column in zip(axes, ("loss", "moved")):
        for variant, (colour, marker, zh, en) in _VARIANTS.items():
            groups = frame[frame["variant"] == variant].groupby("step")[column]
            middle = groups.mean()
            band(ax, variant, middle.index, groups.min(), groups.max(), color=colour)
            style = {"color": colour, "marker": marker, "markevery": 2}
            label = text(zh, en) if ax is axes[1] else None
            curve(ax, variant, middle.index, middle, label, **style)
            ends[column, variant] = number(middle.iloc[-1])
    normed, shaken = ends["loss", "layer_norm"], ends["loss", "shaken"]
    finding(
        axes[0],
        f"{steps} 步时的损失：层归一化 {normed}，晃动 {shaken}",
        f"loss at {steps}: LayerNorm {normed}, shaken {shaken}",
    )
    normed, none = ends["moved", "layer_norm"], ends["moved", "none"]
    finding(axes[1], f"层归一化 {normed}，没有归一化 {none}", f"LayerNorm {normed}, no norm {none}")


def statistics_cubes(frame, axes):
    """A (batch, sequence, feature) cube per `norm`, its samples side by side: which elements of x have a say in one y.

    Columns `batch`, `position`, `feature`, `influence` (∂y/∂x of the chosen y) and `chosen`.
    """
    for ax, (norm, rows) in zip(axes, frame.groupby("norm", sort=False)):
        here, share = rows[rows["chosen"]].iloc[0], rows[rows["influence"] > 0]
        _cube(ax, rows)
        elsewhere = share["batch"] != here["batch"]
        later = ~elsewhere & (share["position"] > here["position"])
        zh = f"{len(share)} 个数决定 y，别的样本里 {elsewhere.sum()}，后面的位置 {later.sum()}"
        en = f"{len(share)} affect y, other samples {elsewhere.sum()}, later {later.sum()}"
        ax.set_title(text(f"{TERMS[norm][0]}：{zh}", f"{TERMS[norm][1]}: {en}"), fontsize=11)


def _cube(ax, rows):
    batches, positions, features = (rows[name].max() + 1 for name in ("batch", "position", "feature"))
    pitch, deep = features + 1.3, np.array([0.42, 0.34])
    ax.set(xlim=(-1.0, batches * pitch - 0.6), ylim=(-1.2, positions + 1.2), aspect="equal", anchor="NW")
    ax.set_axis_off()
    polygons, colours, dots = [], [], []
    for row in rows.itertuples():
        face = VERMILLION if row.chosen else SKY if row.influence > 0 else tone("empty")
        corner = np.array([row.batch * pitch + row.feature, positions - 1.0 - row.position])
        square = corner + np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
        faces = [square]
        if row.position == 0:
            faces.append([square[3], square[2], square[2] + deep, square[3] + deep])
        if row.feature == features - 1:
            faces.append([square[1], square[2], square[2] + deep, square[1] + deep])
        polygons += faces
        colours += [face] * len(faces)
        if row.chosen:
            chosen = corner + 0.5
        elif row.influence > 0:
            dots.append(corner + 0.5)
    ax.add_collection(PolyCollection(polygons, facecolors=colours, edgecolors=GREY, linewidths=0.6))
    ax.plot(*np.array(dots).T, "o", color="black", markersize=2.5)
    y = ax.text(*chosen, "y", color="black", fontsize=10, ha="center", va="center", zorder=6)
    y._normcourse_ground = VERMILLION
    for batch in range(batches):
        words = text(f"样本 {batch + 1}", f"sample {batch + 1}", " ")
        note(ax, f"sample {batch}", batch * pitch + features / 2, positions + 0.5, words, **_LEGEND)
    words = text("特征", "feature", " ") + " →"
    note(ax, "feature", features / 2, -0.3, words, va="top", **_LEGEND)
    words = "← " + text("位置", "position", " ")
    note(ax, "position", -0.3, positions / 2, words, tone("soft"), fontsize=9, rotation=90, **_UPRIGHT)


_PAIRS = ((0, 1), (1, 2), (0, 2))
_UPRIGHT = {"ha": "right", "va": "center"}
_LEGEND = {"fontsize": 9, "ha": "center"}
_PLACES = {
    "inside": (BLUE, "o", "●", r"$\sqrt{\sigma^2 + \varepsilon}$"),
    "outside": (VERMILLION, "s", "■", r"$\sigma + \varepsilon$"),
    "clamp": (GREEN, "^", "▲", r"$\max(\sigma, \varepsilon)$"),
}
_VARIANTS = {
    "none": (*STYLES["none"][:2], "无归一化", "no norm"),
    "layer_norm": (*STYLES["layer_norm"][:2], *TERMS["layer_norm"]),
    "shaken": (PURPLE, "s", "加上晃动", "shaken"),
}


def _skewness(values):
    return float((((values - values.mean()) / values.std()) ** 3).mean())


def _view(azimuth, elevation):
    """Right, up and the direction towards the eye, for an orthographic view; angles in degrees."""
    a, e = np.radians(azimuth), np.radians(elevation)
    right = np.array([-np.sin(a), np.cos(a), 0])
    towards = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    return right, np.cross(towards, right), towards


def _beside(ax, name, place, words, colour):
    length = np.linalg.norm(place)
    if length > 2.0:  # an axis seen nearly end on has no room for its name: the surface is there
        note(ax, name, *np.clip(place * (1 + 0.26 / length), -3.6, 3.6), words, colour, ha="center", va="center")
