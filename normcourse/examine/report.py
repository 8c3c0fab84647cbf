"""What an examination found, as tables, as words and as pictures."""

import html
import math
from collections import Counter, defaultdict

from ..i18n import text
from ..residual import PLACEMENTS
from ..theory.laws import LAWS
from .findings import findings
from .wirings import NOT_OURS, branches, diagram, has_skip

COLUMNS = [
    *("block", "variance", "rms", "gradient", "weight", "weight_gradient", "update", "relative_update", "cosine"),
    *("outlier", "largest", "alike", "dtype", "non_finite"),
]
THEORY = ("theory_variance", "theory_update", "theory_cosine")
ADDS = ("residual", "pre_norm", "res_post_norm", "peri_norm", "parallel", "scaled_pre_norm", "layer_scale", "rezero")


class Examination:
    """See `examine`. In a notebook it shows its report; `print` gives it as text.

    frame: one row a block: `variance` and `rms` of the stream after it, `gradient` (norm, with respect to that state),
        `weight` and `weight_gradient` (norms over its parameters), `update` (root mean square of what it added),
        `relative_update` and `cosine` (to the block before, means over rows), `outlier` (largest entry over rms),
        `largest`, `alike` (mean cosine of two positions, for batch × positions × features), `dtype`, `non_finite`
        (entries); `theory_variance`, `theory_update`, `theory_cosine` where the wiring has a closed form.
    placements: one row a residual branch: `block`, `branch`, `placement`, `norm`, `weight` ("w" or "1 + w"), `eps`,
        `skip` and `scale` (factors of skip and branch), `inner_norms`, `variance` of the branch, and `why` where it is
        not one of ours.
    findings: `kind`, `fault` (True or False), `number`, `block`, `chapter`, `zh`, `en`.
    diagrams: {block: frame of steps} for every block that is not one of ours.
    """

    def __init__(self, run):
        import pandas

        rows = _rows(run, branches(run.graph))
        blocks = [row | theory for row, theory in zip(run.rows, _theory(rows, run))]
        self.frame = pandas.DataFrame(blocks, columns=[*COLUMNS, *THEORY])
        self.placements = pandas.DataFrame(rows)
        self.diagrams = {}
        for number in sorted({row["block"] for row in rows if row["placement"] == NOT_OURS}):
            start, ends, _ = run.edges[number - 1]
            steps = diagram(run.graph, start, ends)
            self.diagrams[number] = pandas.DataFrame(steps, columns=["step", "operation", "inputs"])
        self.findings = pandas.DataFrame(
            findings(blocks, rows, run), columns=["kind", "fault", "number", "block", "chapter", "zh", "en"]
        )

    @property
    def faults(self):
        """The findings that say that something is wrong."""
        return self.findings[self.findings["fault"]]

    @property
    def wiring(self):
        """The commonest placement."""
        return Counter(self.placements["placement"]).most_common(1)[0][0]

    @property
    def anatomy(self):
        """What the pictures are drawn from: one row a branch, with the numbers of its block."""
        rows = self.placements[["block", "branch", "placement", "norm"]]
        return rows.merge(self.frame, on="block")

    def plot(self):
        """The figure: the model drawn, and its variance, gradients and updates, with theory. Returns: an image."""
        from .pictures import Picture

        return Picture(self)

    def lines(self):
        """The report as lines of text, in the language in force."""
        yield text(f"{len(self.frame)} 块", f"{len(self.frame)} blocks", " · ")
        for _, row in self.findings.iterrows():
            mark = "!" if row["fault"] else "·"
            chapter = text(f"第 {row['chapter']:02d} 章", f"chapter {row['chapter']:02d}", " · ")
            yield f"{mark} {text(row['zh'], row['en'], '  ')}  [{chapter}]"

    def __str__(self):
        shown = self.frame[["block", "variance", "gradient", "relative_update", "cosine", "outlier", "non_finite"]]
        if len(shown) > 14:
            shown = shown.iloc[[*range(7), *range(len(shown) - 7, len(shown))]]
        table = shown.to_string(index=False, float_format="{:.3g}".format)
        return "\n".join([*self.lines(), "", table])

    __repr__ = __str__

    def _repr_html_(self):
        items = "".join(
            f"<li>{'<b>!</b> ' if row['fault'] else ''}"
            f"{html.escape(text(row['zh'], row['en'], '  '))} "
            f"({html.escape(text(f'第 {row.chapter:02d} 章', f'chapter {row.chapter:02d}', ' · '))})</li>"
            for _, row in self.findings.iterrows()
        )
        return f"<ul>{items}</ul>"


def _rows(run, found):
    rows, edges = [], run.edges
    per_block = Counter()
    for branch in found:
        block = (branch.block if branch.block is not None else 0) + 1
        per_block[block] += 1
        norm, out = branch.norm or {}, branch.out_norm or {}
        rows.append(
            {
                "block": block,
                "branch": per_block[block],
                "placement": branch.placement,
                "norm": norm.get("kind", ""),
                "weight": norm.get("weight", ""),
                "eps": norm.get("eps", math.nan),
                "skip": branch.skip,
                "scale": branch.scale,
                "learned": branch.learned or "",
                "inner_norms": branch.inner_norms,
                "variance": branch.variance,
                "gain": out.get("gain", norm.get("gain", 1.0)),
                "why": branch.why,
            }
        )
    for number, (start, ends, _) in enumerate(edges, start=1):
        skips = any(has_skip(run.graph, start, end) for end in ends)
        if skips and number in per_block:
            continue
        nothing = {"norm": "", "weight": "", "eps": math.nan, "skip": math.nan, "scale": math.nan, "learned": ""}
        place = {"block": number, "branch": per_block[number] + 1, "placement": NOT_OURS if skips else "plain"}
        why = "something gets past the weights, but not as x + f(x)" if skips else ""
        if not skips and per_block[number]:
            why = "no skip"
        rows.append({**place, **nothing, "inner_norms": 0, "variance": math.nan, "gain": 1.0, "why": why})
    return sorted(rows, key=lambda row: (row["block"], row["branch"]))


def _theory(placements, run):
    """The closed form of the wiring, one curve for the whole depth: of the model it takes the variance of the state
    that goes in, and one number for the first, second … branch of a block, the mean variance of these branches.

    Returns: a row a block, as dicts; NaN where there is no closed form."""
    names = [row["placement"] for row in placements if row["placement"] != "plain"]
    usual = Counter(names).most_common(1)[0][0] if names else "plain"
    wiring = PLACEMENTS.get("pre_norm" if usual == "parallel" else usual)
    sizes, skips, gains = defaultdict(list), defaultdict(list), defaultdict(list)
    for row in placements:
        if row["placement"] == usual:
            sizes[row["branch"]].append(row["variance"])
        skips[row["branch"]].append(row["skip"])
        gains[row["branch"]].append(row["gain"])
    branches = [tuple(map(_mean, (sizes[i], skips[i], gains[i]))) for i in sorted(sizes)]
    if wiring not in LAWS or usual in ("plain", "highway") or any(math.isnan(v) for v, _, _ in branches):
        return [dict.fromkeys(THEORY, math.nan)] * len(run.rows)
    q, found = run.start_variance, []
    for _ in run.rows:
        before, cosine = q, 1.0
        for v, skip, gain in branches:
            after, s = _step(usual, q, v, skip, gain)
            cosine, q = cosine * s * math.sqrt(q / after) if after > 0 else math.nan, after
        kept = cosine * math.sqrt(q * before)  # the part of the old state that is left, times its variance
        update = math.sqrt(max(q + before - 2 * kept, 0.0) / before) if before else math.nan
        found.append(dict(zip(THEORY, (q, update, cosine))))
    return found


def _mean(values):
    """Of those that are known."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _step(wiring, q, v, skip, gain):
    """Variance after one branch of variance v, and the factor of the old state. gain: of the norm behind the sum."""
    total = skip**2 * q + v
    return (total, skip) if wiring in ADDS else (gain, skip * math.sqrt(gain / total))
