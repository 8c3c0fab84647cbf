"""Chapter 01: what biases change."""

import math

import pytest

from normcourse import measure, theory
from normcourse.models import deep_mlp


@pytest.mark.parametrize("bias", [0.0, (3 * 64) ** -0.5])
def test_without_biases_all_weights_starve_together_and_with_them_the_early_ones(bias):
    """Log of the first over the last layer's weight gradient against mean-field theory, the chapter's 40 ReLU layers. A
    squared gradient fluctuates by at most 5/width per layer, its log over 40 layers by √(40 · 5/64) = 1.8, half of
    that in the norm; four standard errors of five seeds, and the drift 5 · 40/(4 · 64) of `tests/test_measure.py`."""
    depth, width, gain = 40, 64, 0.6
    expected = theory.weight_gradients("plain", depth, width, gain, "relu", bias=bias)
    logs = []
    for seed in range(5):
        norms = measure.gradient_norms(deep_mlp(depth, width, "plain", gain=gain, bias=bias, seed=seed), seed=seed)
        norms = norms["weight_gradient_norm"]
        logs.append(math.log(norms.iloc[1] / norms.iloc[-1]))
    wanted = math.log(expected[0] / expected[-1])
    assert sum(logs) / 5 == pytest.approx(wanted, abs=4 * 0.9 / 5**0.5 + 5 * depth / (4 * width))
    assert (wanted < math.log(1e-10)) == (bias > 0) and (abs(wanted) < 1e-6) == (bias == 0)
