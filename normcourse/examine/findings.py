"""What an examination says: every finding with its number, its block and the chapter that explains it."""

import math
import statistics
from collections import Counter, defaultdict

import torch

from .wirings import wiring_name

CHAPTERS = {"gradient": 1, "missing_skip": 2, "norm": 3, "wiring": 6, "variance": 7, "weights": 8, "numerics": 9}
TIMES = 8.0  # from the median of the same weights in other blocks, up or down, counts as strange
OUTLIER = 50.0  # times the root mean square; a million normal numbers stay below 6
VANISHED, EXPLODED = 1e-3, 1e3
FP16 = torch.finfo(torch.float16)


def number(value):
    """Three digits, as one reads them. (That of `canvas` needs matplotlib, which a machine that trains may lack.)"""
    digits = f"{value:.3g}" if not 100 <= abs(value) < 1e5 else f"{value:.0f}"
    return digits.replace("-", "−")


def findings(blocks, branches, run):
    """All findings, the faults first: [(kind, fault, number, block, chapter, zh, en)]. block: 0 for the whole.

    blocks, branches: the rows of the two tables of an `Examination`, as dicts.
    """
    found = [
        *_non_finite(blocks),
        *_eps(run),
        *_missing_skips(blocks, branches),
        *_odd_wirings(blocks, branches),
        *_weights(run),
        *_frozen(run),
        *_gradient(blocks),
        *_outliers(blocks),
    ]
    return [*found, *_wiring(branches), *_variance(blocks, branches), *_updates(blocks)]


def _non_finite(blocks):
    bad = [row for row in blocks if row["non_finite"]]
    if bad:
        block, count, dtype = (bad[0][column] for column in ("block", "non_finite", "dtype"))
        yield (
            *("non_finite", True, count, block, CHAPTERS["numerics"]),
            f"第 {block} 块（{dtype}）输出 {count} 个 inf 或 nan，它是第一个",
            f"block {block} ({dtype}) puts out {count} inf or nan, and is the first to",
        )
    elif (row := _most(blocks, "largest"))["largest"] > FP16.max / 4 and {r["dtype"] for r in blocks} != {"float16"}:
        block, largest = row["block"], row["largest"]
        yield (
            *("fp16", True, largest, block, CHAPTERS["numerics"]),
            f"第 {block} 块的最大值 {number(largest)}，fp16 只到 65504",
            f"the largest entry after block {block} is {number(largest)}; fp16 ends at 65504",
        )


def _most(blocks, column):
    """The row with the largest number in a column."""
    return max(blocks, key=lambda row: -math.inf if math.isnan(row[column]) else row[column])


def _eps(run):
    """Norms that nothing protects from a row of zeros: ε is 0, or is less than the numbers it is added to can hold."""
    where = defaultdict(list)
    for node in run.graph.nodes:
        eps = node.norm and node.norm["eps"]
        if node.norm and eps is not None:
            stored = torch.tensor(eps).to(node.norm["computed_in"]).item()
            if stored == 0:
                where[eps, str(node.norm["computed_in"]).removeprefix("torch.")].append((node.block or 0) + 1)
    for (eps, dtype), blocks in where.items():
        yield (
            *("eps", True, eps, blocks[0], CHAPTERS["numerics"]),
            f"第 {blocks[0]} 块归一化的 ε 在 {dtype} 里是 0（写的是 {eps:g}；这样的共 {len(blocks)} 个）",
            f"the ε of a norm of block {blocks[0]} is 0 in {dtype} (written as {eps:g}; norms like it: {len(blocks)})",
        )


def _missing_skips(blocks, branches):
    per_block = Counter(row["block"] for row in branches if row["placement"] != "plain")
    usual = Counter(per_block[block] for block in sorted(per_block)).most_common(1)[0][0] if per_block else 0
    without = {row["block"] for row in branches if row["placement"] == "plain"}
    fewer = [row["block"] for row in blocks if per_block[row["block"]] < usual]
    everywhere = len(without) == len(blocks)
    for block in sorted({*without, *fewer} if not everywhere else ()):
        cosine, have = blocks[block - 1]["cosine"], per_block[block]
        printed = number(round(cosine, 2))
        yield (
            *("missing_skip", True, cosine, block, CHAPTERS["missing_skip"]),
            f"第 {block} 块少了跳跃连接（有 {have} 条，别的块 {usual} 条）；输出与输入的余弦 {printed}",
            f"block {block} lacks a skip (it has {have}, others {usual}); cosine of output and input {printed}",
        )
    if everywhere:
        yield (
            *("plain", False, len(without), 0, CHAPTERS["missing_skip"]),
            f"{len(without)} 块都没有跳跃连接",
            f"none of the {len(without)} blocks has a skip",
        )


def _odd_wirings(blocks, branches):
    rows = [row for row in branches if row["placement"] != "plain"]
    for position in sorted({row["branch"] for row in rows}):
        group = [row for row in rows if row["branch"] == position]
        counts = Counter((row["placement"], row["norm"]) for row in group)
        (usual, norm), many = counts.most_common(1)[0]
        if 2 * many <= len(group) or len(counts) == 1:
            continue
        for row in group:
            if (row["placement"], row["norm"]) != (usual, norm):
                variance = blocks[row["block"] - 1]["variance"]
                zh, en = _named(row["placement"], row["norm"])
                zh_usual, en_usual = _named(usual, norm)
                yield (
                    *("odd_wiring", True, variance, row["block"], CHAPTERS["wiring"]),
                    f"第 {row['block']} 块第 {position} 个分支是{zh}，其余 {many} 个是{zh_usual}；"
                    f"这一块之后方差 {number(variance)}",
                    f"branch {position} of block {row['block']} is {en}, the other {many} are {en_usual}; "
                    f"the variance after it is {number(variance)}",
                )


def _named(placement, norm):
    zh, en = wiring_name(placement)
    known = {"layer_norm": "LayerNorm", "rms_norm": "RMSNorm", "batch_norm": "BatchNorm", "group_norm": "GroupNorm"}
    kind = known.get(norm, norm)
    return (f"{zh}（{kind}）", f"{en} ({kind})") if kind else (zh, en)


def _weights(run):
    """A block whose weights are far from those of the same name in the other blocks."""
    sizes = defaultdict(dict)
    for number_, (_, _, block) in enumerate(run.edges, start=1):
        for name, parameter in run.named[id(block)]:
            if parameter.dim() > 1 and parameter.numel():
                sizes[name, tuple(parameter.shape)][number_] = run.sizes[id(parameter)] / parameter.numel() ** 0.5
    for (name, _), of_blocks in sizes.items():
        middle = statistics.median(of_blocks.values())
        for block, size in of_blocks.items():
            if len(of_blocks) > 2 and middle > 0 and not 1 / TIMES < size / middle < TIMES:
                times = size / middle
                yield (
                    *("weights", True, times, block, CHAPTERS["weights"]),
                    f"第 {block} 块的 {name} 是其他块的 {number(times)} 倍",
                    f"{name} of block {block} is {number(times)} times that of the other blocks",
                )


def _frozen(run):
    """Parameters that get no gradient, where those of other blocks do."""
    counts = {}
    for number_, (_, _, block) in enumerate(run.edges, start=1):
        parameters = [p for _, p in run.named[id(block)]]
        without = [p for p in parameters if run.gradients.get(id(p)) is None]
        counts[number_] = sum(p.numel() for p in without), sum(p.numel() for p in parameters)
    usual = min((still for still, _ in counts.values()), default=0)
    for block, (still, total) in counts.items():
        if still > usual and run.gradients:
            yield (
                *("frozen", True, still, block, CHAPTERS["gradient"]),
                f"第 {block} 块有 {still} 个参数拿不到梯度（共 {total} 个）",
                f"{still} parameters of block {block} get no gradient (of {total})",
            )


def _gradient(blocks):
    good = [row["gradient"] for row in blocks if math.isfinite(row["gradient"])]
    if len(good) > 1 and good[-1] > 0:
        times = good[0] / good[-1]
        fault = not VANISHED < times < EXPLODED
        yield (
            *("gradient", fault, times, 1, CHAPTERS["gradient"]),
            f"第 1 块的梯度是最后一块的 {number(times)} 倍",
            f"the gradient after block 1 is {number(times)} times that after the last",
        )


def _outliers(blocks):
    row = _most(blocks, "outlier")
    block, value = row["block"], row["outlier"]
    if value > OUTLIER:
        yield (
            *("outlier", True, value, block, CHAPTERS["numerics"]),
            f"第 {block} 块之后最大的数是均方根的 {number(value)} 倍",
            f"after block {block} the largest entry is {number(value)} times the root mean square",
        )


def _wiring(branches):
    groups = defaultdict(list)
    for row in branches:
        groups[row["placement"], row["norm"]].append(row)
    for (placement, norm), group in groups.items():
        if placement == "plain":
            continue
        zh, en = _named(placement, norm)
        extra_zh = extra_en = ""
        if {row["weight"] for row in group} == {"1 + w"}:
            extra_zh, extra_en = "，缩放写作 1 + w", ", scaled by 1 + w"
        for column, words in (("skip", ("跳跃连接", "skip")), ("scale", ("分支", "branch"))):
            factor = statistics.fmean(row[column] for row in group)
            if placement != "highway" and abs(factor - 1) > 1e-3:
                extra_zh += f"，{words[0]}乘 {number(factor)}"
                extra_en += f", {words[1]} × {number(factor)}"
        if why := next((row["why"] for row in group if row["why"]), ""):
            extra_zh, extra_en = f"{extra_zh}（{WHY.get(why, why)}）", f"{extra_en} ({why})"
        first = 0 if len(group) > 1 else group[0]["block"]
        yield (
            *("wiring", False, len(group), first, CHAPTERS["wiring"]),
            f"{len(group)} 个残差分支：{zh}{extra_zh}",
            f"{len(group)} residual {'branches' if len(group) > 1 else 'branch'}: {en}{extra_en}",
        )


WHY = {
    "no skip": "没有跳跃连接",
    "some of what the branch reads is normalised, some is not": "分支读的状态有的归一化了，有的没有",
    "a skip over other residual branches": "跳过了别的残差分支",
    "a norm behind the sum and one at the branch": "和之后有归一化，分支上也有",
    "something gets past the weights, but not as x + f(x)": "有东西绕过了权重，但不是 x + f(x)",
}
for _name in ("relu", "gelu", "tanh", "silu", "threshold"):
    WHY[f"{_name} after the sum"] = f"相加之后还有 {_name}"
for _many in range(2, 9):
    WHY[f"{_many} branches read the same state"] = f"{_many} 个分支读同一个状态"


def _variance(blocks, branches):
    variance, theory = ([row[column] for row in blocks] for column in ("variance", "theory_variance"))
    if len(variance) > 1 and not any(map(math.isnan, variance)) and variance[0] > 0:
        times, wiring = variance[-1] / variance[0], Counter(row["placement"] for row in branches).most_common(1)[0][0]
        zh, en = f"方差从第 1 块到第 {len(variance)} 块变成 {number(times)} 倍", ""
        en = f"from block 1 to block {len(variance)} the variance becomes {number(times)} times as large"
        if not any(map(math.isnan, theory)):
            expected = theory[-1] / theory[0]
            zh, en = (
                f"{zh}（{_named(wiring, '')[0]}的理论：{number(expected)}）",
                (f"{en} (theory of {_named(wiring, '')[1]}: {number(expected)})"),
            )
        yield "variance", False, times, 0, CHAPTERS["variance"], zh, en


def _updates(blocks):
    update = [row["relative_update"] for row in blocks]
    if len(update) > 1 and not any(map(math.isnan, update)):
        yield (
            *("updates", False, update[-1], len(update), CHAPTERS["variance"]),
            f"第 1 块把主干改变 {update[0]:.0%}，最后一块 {update[-1]:.0%}",
            f"block 1 changes the stream by {update[0]:.0%}, the last one by {update[-1]:.0%}",
        )
