"""What the claims of chapter 11 are measured by, see `normcourse.claims`. The slices are cut in one process here;
that real processes find the same numbers is tested."""

import pandas as pd
import torch

from ...norms import layer_norm, rms_norm

RANKS, TOKENS, WIDTH = 4, 64, 512


def features(seed, skew=1.0):
    """Tokens whose features differ in mean and size from feature to feature, as activations do."""
    generator = torch.Generator().manual_seed(seed)
    shift, size = (torch.randn(WIDTH, generator=generator) * skew for _ in range(2))
    return shift + size.exp() * torch.randn(TOKENS, WIDTH, generator=generator)


def by_itself(norm, x, dim):
    """Every rank normalises its slice as if it were all there is; the slices side by side again."""
    return torch.cat([norm(part) for part in x.chunk(RANKS, dim)], dim)


def without_communication():
    """Error of the output where no rank says anything to another (rms, over that of the right output), five seeds."""
    cases = {"features_layer": (layer_norm, 1), "features_rms": (rms_norm, 1), "tokens_layer": (layer_norm, 0)}
    rows = []
    for seed in range(5):
        x = features(seed)
        for setting, (norm, dim) in cases.items():
            right = norm(x)
            error = (by_itself(norm, x, dim) - right).square().mean() / right.square().mean()
            rows.append((setting, seed, error.sqrt().item()))
    return pd.DataFrame(rows, columns=["setting", "seed", "value"])
