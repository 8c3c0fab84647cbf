"""The drawing of chapter 00."""

import numpy as np

from ...canvas import SKY, finding, setup, theory, window


def one_layer(frame, ax):
    """Histogram of one layer's outputs over the density of N(0, gain²)."""
    gain, y = frame["gain"].iloc[0], frame["y"].to_numpy()
    (_, far), bins = window(3.2 * gain, (0, 2), (0, 4), (0, 6)), 97
    heights, edges = np.histogram(y, bins=np.linspace(-far, far, bins))
    heights = heights / len(y) / np.diff(edges)
    x = np.linspace(-far, far, 241)
    density = np.exp(-(x**2) / (2 * gain**2)) / (gain * np.sqrt(2 * np.pi))
    top = window(1.05 * max(heights.max(), density.max()), (0, 0.5), (0, 1), (0, 2.1), (0, 4))
    setup(ax, ("y 的取值", "value of y"), ("密度", "density"), (-far, far), top)
    ax.stairs(heights, edges, fill=True, color=SKY, alpha=0.8)
    theory(ax, "normal", x, density, f"$N(0, g^2)$, g = {gain:.2f}", at=np.sqrt(2) * gain)
    zh, en = (
        f"y 的标准差：测得 {y.std():.2f}，理论值 g = {gain:.2f}",
        f"standard deviation of y: {y.std():.2f} measured, ",
    )
    if (outside := (np.abs(y) > far).mean()) >= 0.0005:
        zh, en = f"{zh}（{outside:.1%} 在图外）", f"({outside:.1%} outside) {en}"
    finding(ax, zh, f"{en}g = {gain:.2f} in theory")
