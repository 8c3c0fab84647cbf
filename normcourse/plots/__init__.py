"""The drawings of the chapters: a tidy DataFrame of `measure` becomes a figure whose title is the finding.

Each takes `(frame, ax)`, with several panels `(frame, axes)`. Columns are those of the probes in `measure`; a column
`theory` holds the closed form, if there is one.
"""

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
