"""Probes: what a network does to its activations and gradients, as tidy DataFrames (one row per measured number).

They work on the models of `models` (anything with `embed`, `stream`, `final_norm` and `random_inputs`). Layer 0 is the
input, layer l the output of block l. Keyword `labels` become columns, so that frames of several runs can be
concatenated: `gradient_norms(model, placement="pre_norm", seed=3)`.

    probes    gradients, variances, Jacobian spectra, steps and updates, layer by layer
    surgery   layers left out, swapped, merged or read out early
    tracing   what happens inside one block
"""

from .probes import (
    amplification,
    euclidean_norms,
    gradient_norms,
    jacobian_spectrum,
    path_gradients,
    stale_branches,
    token_cosines,
    update_sizes,
    updates,
    variances,
)
from .surgery import Merged, layer_drops, layer_merges, layer_swaps, merged_from, readouts
from .tracing import wiring

__all__ = [
    "Merged",
    "amplification",
    "euclidean_norms",
    "gradient_norms",
    "jacobian_spectrum",
    "layer_drops",
    "layer_merges",
    "layer_swaps",
    "merged_from",
    "path_gradients",
    "readouts",
    "stale_branches",
    "token_cosines",
    "update_sizes",
    "updates",
    "variances",
    "wiring",
]
