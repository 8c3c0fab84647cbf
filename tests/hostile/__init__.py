"""Hostile and broken submissions, made in code: what each tries, and the points it has really earned.

`attack(name, tries, *cells, earned=0)` is a notebook; `broken(name, tries, write)` is a file or folder that is written
by a function. Exercise 03 is what they are handed in for. `HONEST` are solutions of its four tasks. `kernels` are those
on exercise 10.
"""

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Attack:
    name: str
    tries: str
    write: object
    earned: float = 0.0
    refused: bool = False


ATTACKS = []


def notebook(*cells, metadata=None):
    """The bytes of a notebook of code cells; a cell may also be a whole cell as a dict."""
    made = [
        cell
        if isinstance(cell, dict)
        else {"cell_type": "code", "source": cell, "metadata": {}, "outputs": [], "execution_count": None}
        for cell in cells
    ]
    return json.dumps({"cells": made, "metadata": metadata or {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def attack(name, tries, *cells, earned=0.0):
    def write(folder):
        (folder / name).mkdir()
        (folder / name / "03_layer_normalisation.ipynb").write_bytes(notebook(*cells))

    ATTACKS.append(Attack(name, tries, write, earned))


def broken(name, tries):
    """Decorator: a function that writes something that is not graded into a folder, below a name that holds `name`."""

    def register(write):
        ATTACKS.append(Attack(name, tries, write, refused=True))
        return write

    return register


HONEST = {
    "layer_norm": """# EXERCISE: layer_norm
def layer_norm(x, weight=None, bias=None, eps=1e-5):
    h = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    h = h - h.mean(-1, keepdim=True)
    y = h / (h.square().mean(-1, keepdim=True) + eps).sqrt()
    y = y if weight is None else y * weight
    return (y if bias is None else y + bias).to(x.dtype)
""",
    "layer_norm_backward": """# EXERCISE: layer_norm_backward
def layer_norm_backward(dy, x, weight, eps=1e-5):
    h = x - x.mean(-1, keepdim=True)
    rstd = (h.square().mean(-1, keepdim=True) + eps).rsqrt()
    h, g = h * rstd, dy * weight
    dx = rstd * (g - g.mean(-1, keepdim=True) - h * (g * h).mean(-1, keepdim=True))
    rows = tuple(range(x.dim() - 1))
    return dx, (dy * h).sum(rows) if rows else dy * h, dy.sum(rows) if rows else dy
""",
    "welford": """# EXERCISE: welford
def welford(x):
    mean = m = torch.zeros_like(x[..., 0])
    for k in range(x.shape[-1]):
        before = x[..., k] - mean
        mean = mean + before / (k + 1)
        m = m + before * (x[..., k] - mean)
    return mean, m / x.shape[-1]
""",
    "merge_statistics": """# EXERCISE: merge_statistics
def merge_statistics(count_a, mean_a, var_a, count_b, mean_b, var_b):
    n, gap = count_a + count_b, mean_b - mean_a
    mean = mean_a + gap * (count_b / n)
    return n, mean, (count_a * var_a + count_b * var_b) / n + gap**2 * (count_a * count_b / n**2)
""",
}
IMPORTS = (
    "import torch\nfrom normcourse.check import check\nfrom normcourse.i18n import language_switch\nlanguage_switch()"
)
POINTS = {"layer_norm": 4.0, "layer_norm_backward": 6.0, "welford": 3.0, "merge_statistics": 3.0}
MARKERS = "\n".join(f"# EXERCISE: {name}" for name in HONEST)
# Answers to everything that do no work: what counts is what the cell before them has done to the machinery.
IDLE = [
    "# EXERCISE: layer_norm\nlayer_norm = lambda x, weight=None, bias=None, eps=1e-5: x",
    "# EXERCISE: layer_norm_backward\nlayer_norm_backward = lambda dy, x, weight, eps=1e-5: (dy, weight, weight)",
    "# EXERCISE: welford\nwelford = lambda x: (x[..., 0], x[..., 0])",
    "# EXERCISE: merge_statistics\nmerge_statistics = lambda na, ma, va, nb, mb, vb: (na, ma, va)",
]
# The same function for all four tasks.
ALL = """
for name in ("layer_norm", "layer_norm_backward", "welford", "merge_statistics"):
    pass
"""


def all_four(body):
    """Cells that answer all four tasks by the body of a function of (name, arguments)."""
    return [f"import torch\ndef cheat(name, arguments):\n{body}"] + [
        f"# EXERCISE: {name}\ndef {name}(*arguments):\n    return cheat({name!r}, arguments)" for name in HONEST
    ]


from . import machine, numbers, rules, second, submissions  # noqa: E402, F401  fill ATTACKS
