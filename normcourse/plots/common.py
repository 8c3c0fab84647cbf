"""What several drawings share: names of axes, and curves with their band and closed form per placement."""

from ..canvas import band, curve, spread, text, theory
from ..i18n import term

LAYER = ("第几层", "layer")
LOSS = ("损失（nat）", "loss (nats)")
GRADIENT = ("梯度范数", "gradient norm")


def per_placement(frame, ax, column, named=True):
    """A curve with its band and closed form for every placement; gives how many times its first value each ends at.

    named: write "theory" on the first closed form.
    """
    values = {}
    for placement, rows in frame.groupby("placement", sort=False):
        x, middle, low, high = spread(rows, "layer", column)
        band(ax, placement, x, low, high, placement)
        curve(ax, placement, x, middle, term(placement, "\n"), placement)
        closed_form(ax, placement, rows, "layer", named=named and not values)
        values[placement] = middle[-1] / middle[0] if middle[0] else float("nan")
    return values


def recorded():
    return text("录制的结果", "recorded run", " ")


def closed_form(ax, name, rows, x, named):
    """The column `theory`, where there is one, over column x; one curve of a picture carries the name."""
    if "theory" in rows and rows["theory"].notna().any():
        line = rows.drop_duplicates(x).dropna(subset="theory")
        label = text("理论", "theory", " ") if named else None
        theory(ax, name, line[x].to_numpy(), line["theory"].to_numpy(), label)
