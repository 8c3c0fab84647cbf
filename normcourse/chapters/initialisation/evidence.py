"""What the claims of chapter 08 are measured by, see `normcourse.claims`."""

from statistics import mean

import pandas as pd

from ... import data
from ...measure import variances
from ..learning_rates import loss_difference
from ..small_transformers import small_transformer


def deep_starts():
    """The recorded runs of deep stacks, with those at the rates beyond the first grid."""
    return pd.concat([data.recorded(f"deep_starts{more}") for more in ("", "_faster")], ignore_index=True)


def trained(start, depth):
    """Those of one start at one depth."""
    runs = deep_starts()
    return runs[(runs["start"] == start) & (runs["depth"] == depth)]


def _differences(settings):
    """Loss after 40 steps of one start minus that of another, each at its best rate; {setting: (one, other, depth)}."""
    return pd.concat(
        loss_difference(name, trained(one, depth), trained(other, depth), "to_40")
        for name, (one, other, depth) in settings.items()
    )


def identity_minus_usual():
    """Loss of stacks whose branches begin at 0 minus that of the same wiring with the usual matrices; recorded."""
    settings = {f"residual_{depth}": ("fixup", "unscaled", depth) for depth in (30, 100, 300)}
    settings |= {f"scaled_{depth}": ("fixup", "multiplied", depth) for depth in (30, 100, 300)}
    return _differences(settings | {f"pre_norm_{depth}": ("zero_init", "pre_norm", depth) for depth in (30, 100, 300)})


def growth_minus_none():
    """Loss of stacks whose variance grows with depth minus that of those that begin with a constant one; recorded."""
    settings = {f"residual_{depth}": ("unscaled", "fixup", depth) for depth in (100, 300)}
    settings |= {f"scaled_{depth}": ("multiplied", "fixup", depth) for depth in (100, 300)}
    return _differences(settings | {f"pre_norm_{depth}": ("pre_norm", "zero_init", depth) for depth in (100, 300)})


def scaled_minus_not():
    """Loss of stacks with branches scaled by 1/√L minus that without; recorded."""
    settings = {f"residual_{depth}": ("multiplied", "unscaled", depth) for depth in (30, 100, 300)}
    return _differences(settings | {f"pre_norm_{depth}": ("gpt2", "pre_norm", depth) for depth in (30, 100, 300)})


def branches_together(layers=24):
    """What all branches of a Pre-Norm Transformer together add to the variance, with their last matrices divided by the
    root of the number of layers or of branches, in units of one branch not divided (their mean); five seeds."""
    rows = []
    for setting, count in (("layers", layers), ("branches", 2 * layers)):
        rows += [(setting, seed, added(count, layers, seed)) for seed in range(5)]
    return pd.DataFrame(rows, columns=["setting", "seed", "value"])


def added(count, layers=24, seed=0):
    """The same for one model and one number that is counted."""
    model, sizes = small_transformer("pre_norm", layers, seed=seed), []
    for block in model.blocks:
        block.sublayer.value_path[-1].scale(count**-0.5)
        block.sublayer.register_forward_hook(lambda module, args, y: sizes.append(count * y.var().item()))
    variance = variances(model, seed=seed)["variance"]
    return (variance.iloc[-1] - variance.iloc[0]) / mean(sizes)


def bert_minus_xavier():
    """Loss of Post-Norm with matrices of BERT's standard deviation minus that with Xavier's, at the best rates and at
    0.003; recorded. 0.07 at width 64 is what 0.02 is at BERT's 768: 0.02 · √(768/64)."""
    runs, parts = data.recorded("bert_std"), []
    xavier = runs[runs["std"] == 0]
    for std in (0.02, 0.07):
        own = runs[runs["std"] == std]
        parts.append(loss_difference(f"{std:g}", own, xavier))
        one, other = (part[part["learning_rate"] == 3e-3] for part in (own, xavier))
        value = one.set_index("seed")["loss"] - other.set_index("seed")["loss"]
        parts.append(pd.DataFrame({"setting": f"{std:g}_at_0.003", "seed": value.index, "value": value.to_numpy()}))
    return pd.concat(parts).fillna({"edge": False})
