"""What several drawings share: names of axes, and curves with their band and closed form per placement."""

from ..canvas import GREY, band, curve, level, spread, text, theory
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
    return text("录制的结果", "recorded run", " ")


def closed_form(ax, name, rows, x, named):
    """The column `theory`, where there is one, over column x; one curve of a picture carries the name."""
    if "theory" in rows and rows["theory"].notna().any():
        line = rows.drop_duplicates(x).dropna(subset="theory")
        label = text("理论", "theory", " ") if named else None
        theory(ax, name, line[x].to_numpy(), line["theory"].to_numpy(), label)
