"""What the claims of chapter 07 are measured by, see `normcourse.claims`."""

import numpy as np
import pandas as pd
import torch

from ... import data
from ...measure import merged_from, readouts, updates, variances
from ...models import deep_mlp
from ..learning_rates import best_losses, loss_difference
from ..small_transformers import small_transformer


def variance_factors(depth=100):
    """Variance of the hidden state over an earlier one, gain √2, ReLU, width 128, five seeds: behind all layers, behind
    the first, and the mean factor of one of the last ten."""
    rows = []
    for placement in ("post_norm", "pre_norm", "peri_norm"):
        for seed in range(5):
            model = deep_mlp(depth, 128, placement, gain=2**0.5, seed=seed)
            q = variances(model, seed=seed).set_index("layer")["variance"]
            rows.append((placement, seed, q[depth] / q[0]))
            if placement == "pre_norm":
                rows.append(("pre_norm_first", seed, q[1] / q[0]))
                rows.append(("pre_norm_late", seed, (q[depth] / q[depth - 10]) ** 0.1))
    return pd.DataFrame(rows, columns=["setting", "seed", "value"])


@torch.no_grad()
def small_later_changes(depth=50):
    """Pre-Norm networks of width 256, gain 1, ReLU, five seeds: the relative update of the last layer over that of the
    first, and the relative change of the output when the layers from 49, 25 or 1 on are merged in pairs."""
    rows = []
    for seed in range(5):
        model = deep_mlp(depth, 256, "pre_norm", seed=seed)
        update = updates(model, seed=seed).set_index("layer")["relative_update"]
        rows.append(("update", seed, update[depth] / update[1]))
        states = model.stream(model.random_inputs(16, torch.Generator().manual_seed(1000 + seed)))
        for start in (49, 25, 1):
            with merged_from(model, start):
                x = states[start - 1]
                for block in model.blocks[start - 1 :]:
                    x = block(x)
            rows.append((f"merged_{start}", seed, float((x - states[-1]).norm() / states[-1].norm())))
    return pd.DataFrame(rows, columns=["setting", "seed", "value"])


def _best_warmup(runs):
    """The rows with the warm-up that reaches the lowest loss, at its best gain and learning rate."""
    by_warmup = {steps: rows for steps, rows in runs.groupby("warmup")}
    return min(by_warmup.values(), key=lambda rows: best_losses(rows)[0].mean())


def post_norm_minus_pre_norm():
    """Loss of Post-Norm minus that of Pre-Norm, seed by seed; recorded.

    end_DEPTH: training loss, each at its best gain, learning rate and, with 12 and 24 layers, warm-up. tuned_GAIN: loss
    on held-out text read backwards after fine-tuning on that, each at its best learning rate; or at the one given.
    """
    equal = data.recorded("equal_depth")
    deeper, tuned = (
        pd.concat([data.recorded(name), data.recorded(f"{name}_faster")]) for name in ("warmup", "rewiring")
    )
    both, parts = ("post_norm", "pre_norm"), []
    parts.append(loss_difference("end_6", *(equal[equal["placement"] == p] for p in both)))
    for depth in (12, 24):
        runs = deeper[deeper["depth"] == depth]
        parts.append(loss_difference(f"end_{depth}", *(_best_warmup(runs[runs["placement"] == p]) for p in both)))
    tuned = tuned[(tuned["reading"] == "backwards") & (tuned["start"] == tuned["placement"])]
    for gain in (0.6, 1.0):
        one, other = (tuned[(tuned["placement"] == p) & (tuned["gain"] == gain)] for p in both)
        parts.append(loss_difference(f"tuned_{gain}", one, other, "after"))
        slow = (runs[runs["learning_rate"] == 3e-4].set_index("seed")["after"].sort_index() for runs in (one, other))
        value = next(slow) - next(slow)
        name = f"tuned_{gain}_at_0.0003"
        parts.append(pd.DataFrame({"setting": name, "seed": value.index, "value": value.to_numpy(), "edge": False}))
    return pd.concat(parts)


def forgotten_more(gain, backwards):
    """How much higher Post-Norm's loss on text read forwards is than Pre-Norm's, where fine-tuning has brought both to
    the same loss on text read backwards: interpolated between the rates 0.0003 and 0.001, seed by seed; recorded."""
    grid, rows = data.recorded("rewiring"), []
    grid = grid[(grid["reading"] == "backwards") & (grid["start"] == grid["placement"]) & (grid["gain"] == gain)]
    for seed, runs in grid[grid["learning_rate"] <= 1e-3].groupby("seed"):
        forwards = []
        for placement in ("post_norm", "pre_norm"):
            run = runs[runs["placement"] == placement].sort_values("after")
            forwards.append(np.interp(backwards, run["after"], run["after_forwards"], left=np.nan, right=np.nan))
        rows.append((gain, backwards, seed, *forwards, forwards[0] - forwards[1]))
    columns = ["gain", "loss backwards", "seed", "forwards, Post-Norm", "forwards, Pre-Norm", "difference"]
    return pd.DataFrame(rows, columns=columns)


def head_start_lost(learning_rate=1e-3):
    """Post-Norm rewired as Pre-Norm: what share of its head start over new weights it has lost against the network that
    stays Post-Norm, before the first further step and around the 50th; recorded. 0: as good as that, 1: as new."""
    grid = data.recorded("rewiring")
    grid = grid[(grid["reading"] == "forwards") & (grid["learning_rate"] == learning_rate)]
    parts = []
    for gain in (0.6, 1.0):
        runs = grid[grid["gain"] == gain].set_index(["start", "placement", "seed"]).sort_index()
        kept, switched = runs.loc["post_norm", "post_norm"], runs.loc["post_norm", "pre_norm"]
        new = runs.loc["scratch", "pre_norm"]
        for name, column in (("at_once", "before"), ("after_50", "loss_50")):
            value = (switched[column] - kept[column]) / (new[column] - kept[column])
            parts.append(pd.DataFrame({"setting": f"{name}_{gain}", "seed": value.index, "value": value.to_numpy()}))
    return pd.concat(parts)


def without_final_norm_minus_with():
    """Loss of Pre-Norm Transformers of gain 1 without the norm on top minus that with it: before the first step, three
    seeds; and after 300 steps, each at its best learning rate, recorded."""
    ids, _ = data.encode(data.load_text("en"))
    rows = []
    for depth in (12, 24):
        for seed in range(3):
            model = small_transformer("pre_norm", depth, seed=seed)
            x, y = next(data.batches(ids, 8, 32, seed=seed))
            without, with_it = (
                readouts(model, x, y, branches=2, normalised=norm)["loss"].iloc[-1] for norm in (False, True)
            )
            rows.append((f"start_{depth}", seed, without - with_it, False))
    runs = data.recorded("stream_end")
    trained = loss_difference("trained_12", *(runs[runs["final_norm"] == norm] for norm in (False, True)))
    return pd.concat([pd.DataFrame(rows, columns=["setting", "seed", "value", "edge"]), trained])
