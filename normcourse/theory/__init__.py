"""The closed forms that are drawn over the measurements: networks of infinite width at initialisation.

In a wide layer W φ(x) with W ~ N(0, gain²/width), the entries of x are as good as Gaussian, and everything follows from
two averages over a standard normal z:  E φ(√q z)²  for the forward pass and  E φ'(√q z)²  for the backward pass.
Sources: Poole et al. (2016), Schoenholz et al., "Deep Information Propagation" (2017); for the residual stack Yang &
Schoenholz, "Mean Field Residual Networks" (2017).

    gaussian  the averages, and spectra of Gaussian matrices
    laws      one block of each wiring, with each norm; `@law` registers another
    probes    what the probes of `measure` give
    surgery   layers merged
"""

from .gaussian import gaussian_difference, gaussian_moments, gaussian_product, skip_edges
from .laws import has_law, law
from .probes import (
    amplification,
    identity_path,
    mean_field,
    path_shares,
    stale_branches,
    updates,
    weight_gradients,
)
from .surgery import merged

__all__ = [
    "amplification",
    "gaussian_difference",
    "gaussian_moments",
    "gaussian_product",
    "has_law",
    "identity_path",
    "law",
    "mean_field",
    "merged",
    "path_shares",
    "skip_edges",
    "stale_branches",
    "updates",
    "weight_gradients",
]
