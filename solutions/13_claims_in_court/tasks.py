"""The tasks of exercise 13: a verdict by rule, a fair comparison, and a measurement that can be repeated."""

import math

import torch

from normcourse.check import Case, Task

from ..shared import between, uniform

STUDENT = {3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}

# judge_by_rule --------------------------------------------------------------------------------------------------------


def interval(values):
    n = len(values)
    if n < 3:
        return -math.inf, math.inf
    middle, half = values.mean().item(), STUDENT[n] * values.std().item() / n**0.5
    return middle - half, middle + half


def right_judge_by_rule(values, low, high):
    bottom, top = interval(values)
    judged = 1 if low <= bottom and top <= high else -1 if top < low or bottom > high else 0
    return bottom, top, judged


def _values(g, n, middle, half):
    """n numbers whose 95% interval is exactly middle ± half."""
    z = torch.randn(n, generator=g, dtype=torch.float64)
    z = (z - z.mean()) / z.std()
    return middle + z * half * n**0.5 / STUDENT.get(n, 10.0)


def _rule(zh, en, values, low, high):
    return Case(zh, en, {"values": values, "low": low, "high": high}, rounding=1e-7)


def visible_judge_by_rule(g):
    yield _rule("区间在两条界之间", "the interval between both bounds", _values(g, 5, 1.0, 0.2), 0.5, 1.5)
    yield _rule("整个区间在界之上", "all of it above", _values(g, 4, 2.0, 0.3), 0.0, 1.0)
    yield _rule("整个区间在界之下", "all of it below", _values(g, 6, -1.0, 0.4), 0.0, math.inf)
    yield _rule("均值在里面，区间跨过上界", "the mean inside, the interval across", _values(g, 3, 0.9, 0.3), 0.0, 1.0)
    yield _rule("均值在外面，区间跨过下界", "the mean outside, the interval across", _values(g, 8, -0.1, 0.3), 0.0, 1.0)
    yield _rule("没有下界", "no lower bound", _values(g, 10, -3.0, 0.5), -math.inf, 0.0)
    yield _rule("两个种子，挨得很近", "two seeds, close together", _values(g, 2, 0.5, 0.01), 0.0, 1.0)
    yield _rule("一个种子", "a single seed", torch.tensor([0.5], dtype=torch.float64), 0.0, 1.0)
    yield _rule("区间比两条界还宽", "an interval wider than the rule", _values(g, 3, 0.5, 2.0), 0.4, 0.6)
    yield _rule("差一点就出界", "just within", _values(g, 7, 0.0, 0.999), -1.0, 1.0)


def hidden_judge_by_rule(g):
    n, x = between(g, 3, 10), uniform(g, -2, 2)
    yield _rule("", "inside", _values(g, n, x, 0.3), x - 1, x + 1)
    yield _rule("", "above", _values(g, n, x, 0.3), x - 2, x - 0.5)
    yield _rule("", "below", _values(g, between(g, 3, 10), x, 0.3), x + 0.5, math.inf)
    yield _rule("", "mean inside, across the upper bound", _values(g, 4, x, 0.4), x - 1, x + 0.15)
    yield _rule("", "mean inside, across the lower bound", _values(g, 5, x, 0.4), x - 0.15, x + 1)
    yield _rule("", "mean outside, across", _values(g, 6, x, 0.4), x + 0.15, x + 1)
    yield _rule("", "no upper bound", _values(g, n, x, 0.4), x - 1, math.inf)
    yield _rule("", "two seeds", _values(g, 2, x, 0.001), x - 1, x + 1)
    yield _rule("", "two seeds outside", _values(g, 2, x, 0.001), x + 1, x + 2)
    yield _rule("", "one seed", torch.tensor([x], dtype=torch.float64), x - 1, x + 1)
    yield _rule("", "wider than the rule", _values(g, 3, x, 2.0), x - 0.1, x + 0.1)
    yield _rule("", "just within", _values(g, 3, x, 0.999), x - 1, x + 1)


# fair_comparison ------------------------------------------------------------------------------------------------------


def right_fair_comparison(rates_a, losses_a, rates_b, losses_b):
    both = [rate for rate in rates_a.tolist() if rate in rates_b.tolist()]
    best, chosen = [], []
    for rates, losses in ((rates_a, losses_a), (rates_b, losses_b)):
        rows = losses[[rates.tolist().index(rate) for rate in both]]
        best.append(rows.mean(1).nan_to_num(nan=math.inf, posinf=math.inf).argmin().item())
        chosen.append(rows[best[-1]])
    difference = chosen[0] - chosen[1]
    edge = any(at in (0, len(both) - 1) for at in best)
    return difference.mean().item(), *interval(difference), float(edge)


def _table(g, best, count, seeds, shared, offset, lucky):
    """Losses (rates, seeds) with the lowest mean at `best`. Seeds differ much more than the wirings do; one of them is
    lucky at a rate where the others do badly."""
    rates = torch.arange(count, dtype=torch.float64)
    table = 3 + offset + 0.25 * (rates - best).abs()[:, None] + shared
    table = table + 0.02 * torch.randn(count, seeds, generator=g, dtype=torch.float64)
    if lucky is not None:
        table[lucky] += 2
        table[lucky, 0] = 0.1 + offset
    return table


def _fair(
    zh, en, g, best_a=2, best_b=1, count=5, seeds=5, offset=0.1, lucky=(4, 3), more_a=0, more_b=0, broken=None
):  # fmt: skip
    shared = torch.linspace(-0.4, 0.4, seeds, dtype=torch.float64)[torch.randperm(seeds, generator=g)]
    rates = 1e-4 * 3.0 ** torch.arange(count + more_a, dtype=torch.float64)
    a = _table(g, best_a, count, seeds, shared, offset, lucky[0])
    b = _table(g, best_b, count, seeds, shared, 0.0, lucky[1])
    if broken is not None:  # a run that diverged, at what would be the best rate otherwise
        a[best_a - 1] -= 0.6
        a[best_a - 1, -1] = broken
    better = torch.full((1, seeds), 0.3, dtype=torch.float64) + shared  # beyond the common grid all is better
    a = torch.cat([a, *[better] * more_a])
    rates_a, rates_b = rates, rates[:count]
    if more_b:
        rates_b, b = torch.cat([rates[:1] / 3, rates_b]), torch.cat([better, b])
    inputs = {"rates_a": rates_a, "losses_a": a, "rates_b": rates_b, "losses_b": b}
    return Case(zh, en, inputs, rounding=1e-7)


def visible_fair_comparison(g):
    yield _fair("两边都在网格里面", "both inside the grid", g)
    yield _fair("b 更差", "b is the worse one", g, 1, 3, offset=-0.2, lucky=(3, 1))
    yield _fair("没有碰巧好的种子", "no lucky seed", g, 3, 2, lucky=(None, None))
    yield _fair("a 最好的在最大的学习率", "the best of a at the largest rate", g, 4, 2, lucky=(1, 3))
    yield _fair("b 最好的在最小的学习率", "the best of b at the smallest rate", g, 2, 0, lucky=(4, 3))
    yield _fair("a 最好的在最小的学习率", "the best of a at the smallest rate", g, 0, 2, lucky=(3, 1))
    yield _fair("b 最好的在最大的学习率", "the best of b at the largest rate", g, 2, 4, lucky=(4, 0))
    yield _fair("两边最好的都在边上", "both best at the edge", g, 4, 0, lucky=(None, None))
    yield _fair("a 多跑了两个学习率", "a was run at two more rates", g, 2, 3, more_a=2, lucky=(None, None))
    yield _fair("b 多跑了一个更小的", "b was run at a smaller one, too", g, 1, 2, more_b=1, lucky=(None, None))
    yield _fair("有一次训练变成了 nan", "a run that became nan", g, 2, 2, broken=math.nan, lucky=(4, 0))
    yield _fair("有一次训练是无穷大", "a run that is infinite", g, 3, 1, broken=math.inf, lucky=(None, 3))
    yield _fair("三个种子", "three seeds", g, 2, 1, count=4, seeds=3, lucky=(0, 3))
    yield _fair("两个种子", "two seeds", g, 1, 2, count=4, seeds=2, lucky=(None, None))


def hidden_fair_comparison(g):
    n, x = between(g, 4, 9), uniform(g, 0.05, 0.3)
    yield _fair("", "inside", g, 1, 3, seeds=n, offset=x, lucky=(3, 0))
    yield _fair("", "negative", g, 3, 2, seeds=n, offset=-x, lucky=(0, 4))
    yield _fair("", "six rates", g, 2, 4, count=6, seeds=n, offset=x, lucky=(None, 1))
    yield _fair("", "a at the first rate", g, 0, 2, seeds=n, lucky=(3, 4))
    yield _fair("", "a at the last rate", g, 4, 2, seeds=n, lucky=(2, 0))
    yield _fair("", "b at the first rate", g, 2, 0, seeds=n, lucky=(4, 2))
    yield _fair("", "b at the last rate", g, 2, 4, seeds=n, lucky=(0, 1))
    yield _fair("", "both at the edge", g, 0, 4, seeds=n, lucky=(None, None))
    yield _fair("", "more rates for a", g, 3, 2, seeds=n, more_a=1, lucky=(None, None))
    yield _fair("", "more rates for b", g, 2, 1, seeds=n, more_b=1, lucky=(None, None))
    yield _fair("", "nan", g, 2, 3, seeds=n, broken=math.nan, lucky=(4, 1))
    yield _fair("", "inf", g, 3, 2, seeds=n, broken=math.inf, lucky=(None, 0))
    yield _fair("", "three seeds", g, 2, 2, seeds=3, lucky=(0, 4))
    yield _fair("", "two seeds", g, 2, 1, seeds=2, lucky=(None, None))


# testify --------------------------------------------------------------------------------------------------------------


def right_testify(seeds, steps, learning_rate, normalised):
    rows = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(32, 8, generator=generator, dtype=torch.float64) * 2.0 ** torch.arange(8) / 16
        y = x @ torch.randn(8, generator=generator, dtype=torch.float64)
        if normalised:
            x = x / x.std(0, correction=0)
        w, losses = torch.zeros(8, dtype=torch.float64), []
        for _ in range(steps + 1):
            error = x @ w - y
            losses.append(error.square().mean().item())
            w = w - learning_rate * 2 * x.mT @ error / len(x)
        rows.append((losses[0], losses[-1]))
    return torch.tensor(rows, dtype=torch.float64)


def _testify(zh, en, seeds, steps, learning_rate=0.05, normalised=False):
    inputs = {"seeds": seeds, "steps": steps, "learning_rate": learning_rate, "normalised": normalised}
    return Case(zh, en, inputs, dtype=torch.float64, rounding=1e-7)


def visible_testify(g):
    yield _testify("三个种子，不归一化", "three seeds, not normalised", (0, 1, 2), 20, 0.005)
    yield _testify("归一化", "normalised", (0, 1, 2), 20, normalised=True)
    yield _testify("种子换一个顺序", "seeds in another order", (2, 0, 1), 20, normalised=True)
    yield _testify("同一个种子出现两次", "one seed twice", (5, 5, 3), 5, normalised=True)
    yield _testify("只有一个种子", "a single seed", (7,), 10, 0.005)
    yield _testify("零步：没有训练", "no steps: not trained", (0, 4), 0, normalised=True)
    yield _testify("另一个学习率", "another learning rate", (1, 2, 3), 3, 0.1, True)


def hidden_testify(g):
    a, n = between(g, 10, 900), between(g, 4, 30)
    yield _testify("", "three seeds", (a, a + 1, a + 2), n, 0.006)
    yield _testify("", "normalised", (a, a + 7), n, 0.04, True)
    yield _testify("", "another order", (a + 2, a, a + 1), n, 0.04, True)
    yield _testify("", "one seed twice", (a, a + 1, a), n, 0.005)
    yield _testify("", "one seed", (a + 3,), n, 0.03, True)
    yield _testify("", "no steps", (a, a + 1), 0, 0.03)
    yield _testify("", "one step", (a, a + 1), 1, 0.03, True)


TASKS = [
    Task(
        "judge_by_rule",
        right_judge_by_rule,
        visible_judge_by_rule,
        cases=hidden_judge_by_rule,
        points=5,
    ),
    Task(
        "fair_comparison",
        right_fair_comparison,
        visible_fair_comparison,
        cases=hidden_fair_comparison,
        points=6,
    ),
    Task("testify", right_testify, visible_testify, cases=hidden_testify, points=5),
]
