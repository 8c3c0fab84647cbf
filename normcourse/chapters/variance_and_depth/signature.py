"""The signature picture of chapter 07: the path of the stream, a spiral of updates that straightens."""

import functools

import numpy as np
import pandas as pd
from matplotlib.collections import PolyCollection

from ...canvas import GREY, STYLES, finding, note, signed, text
from ...i18n import term
from ...measure import updates, variances
from ...models import deep_mlp
from ...theory import mean_field
from ...theory import updates as expected_updates
from ..scenes import DASHES, arrow, ink, stage

DEPTH, WIDTH = 50, 128


def spiral(layer=DEPTH, placement="pre_norm", gain=1.4, seed=0):
    """Length of the stream after every layer, in units of the input's, and by how many degrees the layer turned it: at
    initialisation, 50 layers of 128, ReLU. `theory_length` and `theory_turn`: for infinite width."""
    return _path(placement, gain, seed).assign(here=layer)


@functools.lru_cache(maxsize=64)
def _path(placement, gain, seed):
    model = deep_mlp(DEPTH, WIDTH, placement, gain=gain, seed=seed)
    variance = variances(model, seed=seed)["variance"]
    cosines = np.concatenate([[1.0], updates(model, seed=seed)["cosine"]])
    expected, turned = mean_field(placement, DEPTH, gain)[0], expected_updates(placement, DEPTH, gain)[1]
    columns = {"layer": range(DEPTH + 1), "length": np.sqrt(variance / variance[0])}
    columns |= {"turn": np.degrees(np.arccos(np.clip(cosines, -1, 1))), "theory_length": np.sqrt(expected)}
    return pd.DataFrame(columns | {"theory_turn": np.degrees(np.arccos([1.0, *turned])), "placement": placement})


def draw(frame, ax):
    """The stream's tip layer by layer, in one plane: as far from the middle as the stream is long, every layer turned
    against the one before by the angle between them. Each layer's update is the outer side of its triangle."""
    here, placement = int(frame["here"].iloc[0]), frame["placement"].iloc[0]
    colour, reach = STYLES[placement].colour, 1.08 * frame[["length", "theory_length"]].to_numpy().max()
    tips = _tips(frame["length"], frame["turn"])
    across, up = (
        ("主干长度和转角", "length and direction of the stream"),
        ("每个三角形是一层", "a triangle for every layer"),
    )
    height = ax.get_window_extent().height / ax.get_window_extent().width
    edge = 2 * reach / height - 1.15 * reach
    stage(ax, across, up, (-1.15 * reach, edge), (-reach, reach), "equal")
    expected = _tips(frame["theory_length"], frame["theory_turn"])
    ax.plot(*expected.T, color=ink(), linestyle=DASHES, linewidth=1.2, zorder=4)
    triangles = np.stack([np.zeros((here, 2)), tips[:here], tips[1 : here + 1]], axis=1)
    shape = {"facecolors": colour, "edgecolors": colour, "linewidths": 0.4}
    ax.add_collection(PolyCollection(triangles, alpha=0.12, **shape), autolim=False)
    ax.add_collection(PolyCollection(triangles[-1:], alpha=0.6, **shape), autolim=False)
    ax.plot(*tips[: here + 1].T, color=colour, linewidth=2.4, marker="o", markersize=3.5, zorder=5)
    arrow(ax, (0, 0), tips[here], ink(), 1.6, zorder=6)
    ax.plot(*tips[0], "o", color=GREY, markersize=7, zorder=6)
    turn, length = frame["turn"].to_numpy(), frame["length"].to_numpy()
    words = text(f"第 {here} 层", f"layer {here}", "  ")
    right = {"x": 0.97 * edge, "ha": "right"}
    note(ax, "name", y=0.86 * reach, words=term(placement, " / "), fontsize=12, **right)
    note(ax, "layer", y=0.62 * reach, words=words, fontsize=12, **right)
    note(ax, "turn", y=0.32 * reach, words=f"{signed(turn[here], 0)}°", fontsize=22, **right)
    words = text(f"长度 {length[here]:.1f}", f"length {length[here]:.1f}", "  ")
    note(ax, "length", y=0.16 * reach, words=words, fontsize=12, **right)
    first, last = f"{signed(turn[1], 0)}°", f"{signed(turn[here], 0)}°"
    if here == 1:
        finding(ax, f"第 1 层把主干转了 {first}", f"Layer 1 turns the stream by {first}")
    else:
        finding(
            ax,
            f"第 1 层把主干转了 {first}，第 {here} 层转 {last}",
            f"Layer 1 turns the stream by {first}, layer {here} by {last}",
        )


def _tips(length, turn):
    angle = np.radians(np.cumsum(turn))
    return np.stack([length * np.cos(angle), length * np.sin(angle)], axis=1)
