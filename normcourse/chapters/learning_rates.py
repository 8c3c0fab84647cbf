"""What evidence from recorded runs needs: the best learning rate of each, and whether its grid was wide enough."""

import numpy as np
import pandas as pd

FALLING = 0.01  # nats: a loss that still falls by more than this at the last learning rate has its best beyond the grid


def best_losses(runs, column="loss"):
    """The losses at the gain and learning rate with the lowest mean, and whether a better rate may lie beyond the grid.

    Args: runs: rows of a recorded run with columns learning_rate, seed, `column`, and gain where it varies.
    Returns: Series of losses by seed, bool.
    """
    keys = [key for key in ("gain", "learning_rate") if key in runs]
    means = runs.groupby(keys)[column].mean()
    best = means.idxmin()
    *gain, rate = best if isinstance(best, tuple) else (best,)
    by_rate = means.loc[gain[0]] if gain else means
    at = by_rate.index.get_loc(rate)
    neighbour = by_rate.iloc[1 if at == 0 else at - 1]
    edge = at in (0, len(by_rate) - 1) and neighbour - by_rate.iloc[at] > FALLING
    chosen = runs[np.logical_and.reduce([runs[key] == value for key, value in zip(keys, [*gain, rate])])]
    return chosen.set_index("seed")[column].sort_index(), bool(edge)


def loss_difference(setting, one, other, column="loss"):
    """Loss of `one` minus loss of `other`, seed by seed, each at its best learning rate, as a frame of evidence.

    The edge of a grid counts for the one that loses: a wider grid could only let the winner win by more.
    """
    (a, a_edge), (b, b_edge) = best_losses(one, column), best_losses(other, column)
    difference = a - b
    edge = a_edge if difference.mean() > 0 else b_edge
    return pd.DataFrame({"setting": setting, "seed": difference.index, "value": difference.to_numpy(), "edge": edge})
