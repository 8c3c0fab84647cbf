"""The mistakes that people make in exercise 13."""

import math

import torch

from normcourse.check import Mistake

MISTAKES = {}
STUDENT = {3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
NORMAL = dict.fromkeys(range(1, 11), 1.96)
NEXT = {n - 1: t for n, t in STUDENT.items()} | {10: 2.228}  # by degrees of freedom


def _interval(values, table=STUDENT, correction=1, root=True, fewest=3, scale=None):
    n = len(values)
    if n < fewest:
        return -math.inf, math.inf
    spread = values.std(correction=correction).item() if n > correction else 0.0
    middle, half = values.mean().item(), table.get(n, 12.706) * spread / (n**0.5 if root else 1)
    return middle - half, middle + half


# judge_by_rule --------------------------------------------------------------------------------------------------------


def _judge(rule="whole", **options):
    def wrong(values, low, high):
        bottom, top = _interval(values, **options)
        middle = values.mean().item()
        if rule == "mean":
            judged = 1 if low <= middle <= high else -1
        elif rule == "overlap":
            judged = 1 if bottom <= high and top >= low else -1
        elif rule == "two":
            judged = 1 if low <= bottom and top <= high else -1
        elif rule == "upper":
            judged = 1 if top <= high else -1 if bottom > high else 0
        elif rule == "lower":
            judged = 1 if low <= bottom else -1 if top < low else 0
        elif rule == "swapped":
            judged = 1 if bottom <= low and high <= top else -1 if top < low or bottom > high else 0
        else:
            judged = 1 if low <= bottom and top <= high else -1 if top < low or bottom > high else 0
        return bottom, top, judged

    return wrong


MISTAKES["judge_by_rule"] = (
    Mistake(
        _judge(table=NORMAL),
        "用了 1.96：那是种子很多时的系数。种子少时按 STUDENT 里的取。",
        "This is 1.96, the factor for very many seeds; for few of them take the one in STUDENT.",
    ),
    Mistake(
        _judge(table=NEXT),
        "STUDENT 的键是种子的个数 n，不是自由度 n − 1。",
        "The keys of STUDENT are the number of seeds n, not the degrees of freedom n − 1.",
    ),
    Mistake(
        _judge(correction=0),
        "标准差除以了 n：要除以 n − 1（torch 的 std 默认如此）。",
        "The standard deviation divides by n; it should be n − 1, as torch's std has it by default.",
    ),
    Mistake(
        _judge(root=False),
        "忘了除以 √n：这是单个种子散布的区间，不是均值的。",
        "√n is missing: this interval is of the single seeds and not of their mean.",
    ),
    Mistake(
        _judge(fewest=2),
        "两个种子也判了：不到三个，区间就没有边。",
        "Two seeds are judged as well; with fewer than three the interval has no ends.",
    ),
    Mistake(
        _judge(fewest=1),
        "一两个种子也判了：不到三个，区间就没有边。",
        "One or two seeds are judged as well; with fewer than three the interval has no ends.",
    ),
    Mistake(
        _judge("mean"),
        "只看了均值：要整个区间在界内才成立，整个在界外才不成立。",
        "Only the mean is looked at; it takes the whole interval inside to hold, and the whole outside to fail.",
    ),
    Mistake(
        _judge("overlap"),
        "碰到界内就算成立了：要整个区间都在界内。",
        "Touching the rule counts as holding; the whole interval has to be inside.",
    ),
    Mistake(
        _judge("two"),
        "跨在界上也判成不成立了：那是 0，定不了。",
        "An interval across a bound counts as failing; that is 0, not settled.",
    ),
    Mistake(_judge("upper"), "没有看下界 low。", "The lower bound is not looked at."),
    Mistake(_judge("lower"), "没有看上界 high。", "The upper bound is not looked at."),
    Mistake(
        _judge("swapped"),
        "比反了：要区间在界内，不是界在区间内。",
        "It is the wrong way round: the interval has to lie within the bounds, not the bounds within the interval.",
    ),
)

# fair_comparison ------------------------------------------------------------------------------------------------------


def _fair(
    common=True, best="mean", paired=True, edge="both", sign=1, broken=True, table=STUDENT, correction=1, at="own"
):  # fmt: skip
    def wrong(rates_a, losses_a, rates_b, losses_b):
        tables = []
        both = [rate for rate in rates_a.tolist() if rate in rates_b.tolist()]
        for rates, losses in ((rates_a, losses_a), (rates_b, losses_b)):
            places = [rates.tolist().index(rate) for rate in both] if common else list(range(len(rates)))
            tables.append(losses[places])
        chosen, places = [], []
        for rows in tables:
            scores = {
                "mean": rows.mean(1),
                "lowest": rows.amin(1),
                "median": rows.median(1).values,
                "last": rows[:, -1],
            }
            score = scores.get(best, rows.mean(1))
            if broken == "skip":
                score = rows.nan_to_num(nan=math.nan, posinf=math.nan).nanmean(1)
            elif broken:
                score = score.nan_to_num(nan=math.inf, posinf=math.inf)
            places.append(score.argmin().item())
            chosen.append(rows.amin(0) if best == "each" else rows[places[-1]])
        if at == "a":
            chosen[1], places[1] = tables[1][places[0]], places[0]
        if at == "b":
            chosen[0], places[0] = tables[0][places[1]], places[1]
        difference = sign * (chosen[0] - chosen[1])
        if paired:
            ends = _interval(difference, table, correction)
        else:
            n = len(difference)
            half = table.get(n, math.inf) * ((chosen[0].var() + chosen[1].var()) / n).sqrt().item()
            ends = difference.mean().item() - half, difference.mean().item() + half
        marks = [at in (0, len(rows) - 1) for at, rows in zip(places, tables)]
        lasts = [at == len(rows) - 1 for at, rows in zip(places, tables)]
        firsts = [at == 0 for at in places]
        found = {"both": any(marks), "all": all(marks), "last": any(lasts), "first": any(firsts), "none": False}
        found |= {"a": marks[0], "b": marks[1], "inside": not any(marks)}
        return difference.mean().item(), *ends, float(found[edge])

    return wrong


MISTAKES["fair_comparison"] = (
    Mistake(
        _fair(paired=False),
        "没有逐个种子相减：两边用的是同样的种子，先减，再求区间。",
        "The seeds are not paired: both sides have the same seeds, so subtract first and then take the interval.",
    ),
    Mistake(
        _fair(common=False),
        "只有一边跑过的学习率也用上了：只比两边都跑过的。",
        "Rates at which only one side was run are used; compare at those that both have.",
    ),
    Mistake(
        _fair(best="lowest"),
        "按碰巧最低的一个种子选了学习率：要按各种子的均值选。",
        "The rate is chosen by the one luckiest seed; choose by the mean over the seeds.",
    ),
    Mistake(
        _fair(best="each"),
        "每个种子各选了自己最好的学习率：一边只用一个学习率。",
        "Each seed gets its own best rate; one side uses one rate for all seeds.",
    ),
    Mistake(
        _fair(at="a"),
        "两边都用了 a 最好的学习率：b 要用它自己最好的。",
        "Both sides are taken at the best rate of a; b is due its own.",
    ),
    Mistake(
        _fair(at="b"),
        "两边都用了 b 最好的学习率：a 要用它自己最好的。",
        "Both sides are taken at the best rate of b; a is due its own.",
    ),
    Mistake(_fair(sign=-1), "减反了：应为 a 减 b。", "The sign is reversed: it should be a minus b."),
    Mistake(
        _fair(edge="last"), "网格有两头：最小的学习率也是边。", "A grid has two ends: the smallest rate is one, too."
    ),
    Mistake(
        _fair(edge="first"), "网格有两头：最大的学习率也是边。", "A grid has two ends: the largest rate is one, too."
    ),
    Mistake(
        _fair(edge="all"),
        "一边在网格的边上就够了，不必两边都在。",
        "One side at the edge of the grid is enough; it need not be both.",
    ),
    Mistake(_fair(edge="a"), "b 最好的学习率也可能在边上。", "The best rate of b may be at the edge as well."),
    Mistake(_fair(edge="b"), "a 最好的学习率也可能在边上。", "The best rate of a may be at the edge as well."),
    Mistake(
        _fair(edge="none"),
        "没有看最好的学习率是不是在网格的边上。",
        "Whether a best rate is at the edge of the grid is not looked at.",
    ),
    Mistake(_fair(edge="inside"), "edge 反了：在边上是 1。", "The last number is reversed: at the edge it is 1."),
    Mistake(
        _fair(broken=False),
        "有种子变成 nan 的学习率被 argmin 选中了：它不能算最好的。",
        "argmin picked a rate at which a seed became nan; that cannot be the best.",
    ),
    Mistake(
        _fair(broken="skip"),
        "发散了的种子被跳过了：一个学习率只要有一个种子发散，就不能算最好的。",
        "Seeds that diverged are left out; a rate at which even one diverged cannot be the best.",
    ),
    Mistake(
        _fair(table=NORMAL),
        "用了 1.96：种子少时按 STUDENT 里的取。",
        "This is 1.96; for few seeds take the factor in STUDENT.",
    ),
    Mistake(
        _fair(correction=0),
        "标准差除以了 n：要除以 n − 1。",
        "The standard deviation divides by n; it should be n − 1.",
    ),
)

# testify --------------------------------------------------------------------------------------------------------------


def _testify(
    generator="each", start=True, scale=True, dim=0, correction=0, before=False, factor=2, mean=True, once=0, kept=False
):  # fmt: skip
    def wrong(seeds, steps, learning_rate, normalised):
        shared = torch.Generator().manual_seed(seeds[0] if generator == "first" else 0)
        rows, w = [], torch.zeros(8, dtype=torch.float64)
        for index, seed in enumerate(seeds):
            own = torch.Generator().manual_seed({"index": index, "zero": 0}.get(generator, seed))
            g = shared if generator in ("first", "shared") else own
            x = torch.randn(32, 8, generator=g, dtype=torch.float64)
            x = x * 2.0 ** torch.arange(8) / 16 if scale else x
            if before and normalised:  # also what is to be predicted
                x = x / x.std(0, correction=0)
            y = x @ torch.randn(8, generator=g, dtype=torch.float64)
            if normalised:
                x = x / x.std(dim, correction=correction, keepdim=True)
            w = w if kept else torch.zeros(8, dtype=torch.float64)
            losses = []
            for step in range(steps + 1 + once):
                error = x @ w - y
                losses.append(error.square().mean().item())
                if step < steps + once:
                    w = w - learning_rate * factor * x.mT @ error / (len(x) if mean else 1)
            rows.append((losses[0], losses[-1]) if start else (losses[0], losses[0]))
        return torch.tensor(rows, dtype=torch.float64)

    return wrong


def _last_steps_gradient(seeds, steps, learning_rate, normalised):
    return _testify()(seeds, max(steps - 1, 0), learning_rate, normalised)


MISTAKES["testify"] = (
    Mistake(
        _testify("shared"),
        "所有种子共用了一个生成器：第二个数取决于前面跑了什么。每个种子自己建一个 torch.Generator。",
        "All seeds share one generator, so that the second number depends on what ran before it. Make one per seed.",
    ),
    Mistake(
        _testify("first"),
        "只有第一个种子起作用，后面的接着它往下抽：每个种子自己建一个 torch.Generator。",
        "Only the first seed counts, and the others go on from it. Make a torch.Generator for each seed.",
    ),
    Mistake(
        _testify("zero"),
        "种子没有用上：每行都一样，这是一次测量，不是几次。",
        "The seeds are not used: all rows are the same, which is one measurement and not several.",
    ),
    Mistake(
        _testify("index"),
        "用的是种子在列表里的位置，不是种子本身：换一个顺序，数就变了。",
        "It is the seed's place in the list that counts and not the seed: another order gives other numbers.",
    ),
    Mistake(
        _testify(start=False),
        "第二列还是训练之前的损失：初始化不能当作训练。",
        "The second column is still the loss before training: initialisation is not training.",
    ),
    Mistake(
        _last_steps_gradient,
        "少走了一步：第二列是 steps 步之后的损失。",
        "One step too few: the second column is the loss after all the steps.",
    ),
    Mistake(
        _testify(once=1),
        "多走了一步：第二列是 steps 步之后的损失。",
        "One step too many: the second column is the loss after `steps` of them.",
    ),
    Mistake(
        _testify(kept=True),
        "w 没有清零：后一个种子接着前一个训练。",
        "w is not reset: each seed goes on where the one before it ended.",
    ),
    Mistake(
        _testify(dim=1),
        "沿每一行求了标准差：每个特征（列）有自己的。",
        "The standard deviation is taken along rows; each feature, a column, has its own.",
    ),
    Mistake(
        _testify(correction=1),
        "标准差除以了 n − 1：这里按归一化的习惯除以 n。",
        "The standard deviation divides by n − 1; as norms do it, it should be n.",
    ),
    Mistake(
        _testify(before=True),
        "y 用归一化之后的 x 算了：有没有归一化，要预测的东西必须相同，否则两边比的不是同一件事。",
        "y is computed from the normalised x; with and without the norm the target has to be the same, or two different things are compared.",
    ),
    Mistake(_testify(scale=False), "特征没有乘上各自的大小。", "The features are not multiplied by their sizes."),
    Mistake(_testify(factor=1), "梯度少了一个 2。", "The gradient lacks a factor of 2."),
    Mistake(_testify(mean=False), "梯度没有除以行数 32。", "The gradient is not divided by the 32 rows."),
)
