"""Chapter 02: which directions shrink, and what a learned weight does to the first steps."""

import pytest
import torch

from normcourse import data
from normcourse.chapters.residual_connections import evidence
from normcourse.measure import jacobian_spectrum
from normcourse.models import deep_mlp


def spectrum(gain, seed, weight=None):
    model = deep_mlp(1, 48, "residual", "none", "linear", gain, seed)
    if weight is not None:
        with torch.no_grad():
            model.blocks[0].sublayer.weight.copy_(weight)
    return jacobian_spectrum(model, layers=[1], seed=seed)["singular_value"]


def test_a_random_branch_shrinks_nearly_half_of_all_directions_and_half_the_identity_none():
    """|(I + aW)u|² = 1 + 2a uᵀWu + a²|Wu|²: to first order the sign is that of the symmetric part of W, half of whose
    eigenvalues are negative. They lie on a semicircle of radius √2 with density 0.45 in its middle, and a²|Wu|² ≈ a²
    moves the border by a/2: at a = 0.1 some 0.45 · 0.05 = 2% fewer, and one of 48 values is another 2%."""
    shares = [float((spectrum(0.1, seed) < 1).mean()) for seed in range(5)]
    assert 0.4 < sum(shares) / 5 < 0.5
    assert spectrum(0.1, 0, torch.eye(48) / 2).tolist() == pytest.approx([1.5] * 48, rel=1e-6)


def test_with_4_layers_the_learned_weight_costs_at_one_rate_and_pays_at_the_best_ones():
    """The 95% intervals of Student's t over five seeds, 2.78 standard errors, lie on either side of 0."""
    runs = evidence.weighted_minus_plain_branch()
    for setting, sign in (("4", -1), ("4_at_0.01", 1), ("12", -1), ("12_at_0.01", -1)):
        values = runs[runs["setting"] == setting]["value"]
        assert len(values) == 5 and values.mean() * sign > 2.78 * values.sem(), setting


def test_the_depth_from_which_a_learned_weight_helps_is_the_one_that_the_text_names():
    """Chapter 02 says between which depths the sign flips, at each rate."""
    runs = data.recorded("first_steps").pivot_table(
        index=["learning_rate", "depth"], columns="placement", values="loss", aggfunc="mean"
    )
    helps = (runs["rezero"] < runs["residual"]).unstack()
    for rate, last, first in ((0.01, 4, 6), (0.003, 12, 20)):
        depths = helps.columns.to_series()
        assert depths[~helps.loc[rate]].max() == last and depths[helps.loc[rate]].min() == first
