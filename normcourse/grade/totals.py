"""How the totals of an exercise are distributed."""

import statistics
from collections import Counter

from .page import both

STEPS = 10


def totals(shares):
    """A table of bars. shares: of all points, for each learner."""
    counts = Counter(min(int(STEPS * share + 1e-9), STEPS - 1) if share < 1 else STEPS for share in shares)
    middle = statistics.median(shares)
    words = f"总分的分布（中位数 {middle:.0%}）", f"How the totals are distributed (median {middle:.0%})"
    yield f'<p>{both(words)}</p><table class="totals">'
    for step in range(STEPS + 1):
        label = "100 %" if step == STEPS else f"{100 * step // STEPS} – {100 * (step + 1) // STEPS} %"
        width = 100 * counts[step] / max(counts.values())
        bar = f'<div class="bar" style="width:{width:.0f}%"></div>' if counts[step] else ""
        yield f'<tr><td class="number">{label}</td><td class="number">{counts[step] or ""}</td>'
        yield f'<td style="width:75%">{bar}</td></tr>'
    yield "</table>"
