"""The figures of chapter 14. Each takes a tidy DataFrame (columns in its docstring) and draws onto given axes."""

from ...canvas import GREY, STYLES, curve, decades, finding, number, setup, text
from ...examine.pictures import x_ray
from ..curves import GRADIENT


def watched(frame, axes):
    """Columns of an `anatomy`, `step`, `loss` and `shown`: left the model at step `shown`, right its gradients then and
    at the first step."""
    shown = int(frame["shown"].iloc[0])
    now, first = frame[frame["step"] == shown], frame[frame["step"] == frame["step"].min()]
    x_ray(now, axes[0])
    ax, depth = axes[1], int(frame["block"].max())
    setup(ax, ("第几块", "block"), GRADIENT, (0.5, depth + 0.5), decades(frame["gradient"], 1), "log")
    placement = now["placement"].iloc[0]
    for name, rows, words, colour in (
        ("first", first, text("第 0 步", "step 0", "\n"), GREY),
        ("now", now, text(f"第 {shown} 步", f"step {shown}", "\n"), STYLES[placement].colour),
    ):
        if name == "first" or shown:
            blocks = rows.drop_duplicates("block")
            curve(ax, name, blocks["block"], blocks["gradient"], words, placement, color=colour)
    loss = now["loss"].iloc[0]
    blocks = now.drop_duplicates("block")["gradient"]
    times = number(blocks.iloc[0] / blocks.iloc[-1])
    finding(
        ax,
        f"第 {shown} 步，损失 {loss:.2f}：首尾梯度之比 {times}",
        f"Step {shown}, loss {loss:.2f}: gradient first / last {times}",
    )
