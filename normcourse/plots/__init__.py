"""The drawings of the chapters: a tidy DataFrame of `measure` becomes a figure whose title is the finding.

Each takes `(frame, ax)`, with several panels `(frame, axes)`. Columns are those of the probes in `measure`; a column
`theory` holds the closed form, if there is one.
"""

from .depth import edited_layers, layer_updates, merged_layers, read_layers, rewired_curves, stream_variance
from .gradients import (
    degradation,
    gradient_flow,
    jacobian_products,
    layer_drops,
    learning_rate_map,
    one_layer,
    path_lengths,
    skip_spectrum,
    training_curves,
    variance_growth,
    weight_gradients,
)
from .layer_norm import (
    before_and_after,
    drift_and_loss,
    eps_place,
    geometry,
    norm_spectrum,
    statistics_cubes,
    weight_growth,
)
from .placements import (
    amplification,
    block_diagram,
    gradient_profiles,
    identity_path,
    last_layer,
    slope,
    token_similarity,
    update_sizes,
    warmup_map,
)
from .rms_norm import mean_share, norm_quality, norm_timings, recentring, rotation
