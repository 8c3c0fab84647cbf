"""NormCourse: normalisation and residual connections, measured in front of you.

    norms      layer_norm, rms_norm, dynamic_tanh, batch_norm and their derivatives by hand
    residual   one class per wiring of sublayer, norm and skip
    registry   what both carry: name, title in two languages, look
    models     deep stacks and a small Transformer
    theory     the closed forms that are drawn over the measurements
    measure    probes: gradients, variances, Jacobian spectra as tidy DataFrames
    examine    the probes on any model: its wiring found by tracing it, and what is wrong with it
    train      one small training loop
    data       text to train on, recorded results, the font
    chapters   a folder per chapter: text, drawings (tidy DataFrame -> figure), long runs
    claims     popular claims as data, measured and judged by rule
    explore    sliders over an experiment
    fused      Triton kernels: norms, and norms with the addition before them, in one launch
    check      the exercises' checks
    grade      the judge, for instructors: python -m normcourse.grade
    i18n       two languages
    headers    those of tables, in Chinese too
    record     the runs too long for a notebook
    progress   what a learner has done, kept in one file on this machine
    predict    questions to guess, and the measured answer beside the guess
    lab        the notebooks in a folder of the learner's, open in JupyterLab

They load on first use, so that `import normcourse` adds next to nothing to `import torch`.
"""

from importlib import import_module

__version__ = "0.1.0"
__all__ = [
    "chapters",
    "check",
    "claims",
    "data",
    "examine",
    "explore",
    "fused",
    "grade",
    "headers",
    "i18n",
    "lab",
    "measure",
    "models",
    "norms",
    "predict",
    "progress",
    "record",
    "registry",
    "residual",
    "theory",
    "train",
]


def __getattr__(name):
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'normcourse' has no attribute {name!r}; its modules are {', '.join(__all__)}")


def __dir__():
    return [*globals(), *__all__]
