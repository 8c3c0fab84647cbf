import math

import torch

from tests.answers import honest, mutant

T = {3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


def ends(values):
    n = values.numel()
    if n < 3:
        return -math.inf, math.inf
    half = T[n] * (values.std() / math.sqrt(n)).item()
    return values.mean().item() - half, values.mean().item() + half


def by_the_rule(bottom, top, low, high):
    if bottom >= low and top <= high:
        return 1
    return -1 if top < low or bottom > high else 0


# judge_by_rule


@mutant("judge_by_rule", "1.96")
def normal_quantile(values, low, high):
    if len(values) < 3:
        return -math.inf, math.inf, 0
    half = 1.96 * values.std().item() / len(values) ** 0.5
    bottom, top = values.mean().item() - half, values.mean().item() + half
    return bottom, top, by_the_rule(bottom, top, low, high)


@mutant("judge_by_rule", "number of seeds n, not the degrees")
def by_degrees_of_freedom(values, low, high):
    n = len(values)
    if n < 3:
        return -math.inf, math.inf, 0
    half = {2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228}[n]
    half = half * values.std().item() / n**0.5
    bottom, top = values.mean().item() - half, values.mean().item() + half
    return bottom, top, by_the_rule(bottom, top, low, high)


@mutant("judge_by_rule", "divides by n;")
def biased(values, low, high):
    n = len(values)
    if n < 3:
        return -math.inf, math.inf, 0
    half = T[n] * values.std(correction=0).item() / n**0.5
    bottom, top = values.mean().item() - half, values.mean().item() + half
    return bottom, top, by_the_rule(bottom, top, low, high)


@mutant("judge_by_rule", "√n is missing")
def no_root(values, low, high):
    n = len(values)
    if n < 3:
        return -math.inf, math.inf, 0
    bottom, top = values.mean().item() - T[n] * values.std().item(), values.mean().item() + T[n] * values.std().item()
    return bottom, top, by_the_rule(bottom, top, low, high)


@mutant("judge_by_rule", "Only the mean")
def point_estimate(values, low, high):
    return *ends(values), 1 if low <= values.mean().item() <= high else -1


@mutant("judge_by_rule", "Touching the rule")
def any_overlap(values, low, high):
    bottom, top = ends(values)
    return bottom, top, -1 if top < low or bottom > high else 1


@mutant("judge_by_rule", "across a bound")
def never_open(values, low, high):
    bottom, top = ends(values)
    return bottom, top, 1 if low <= bottom and top <= high else -1


@mutant("judge_by_rule", "lower bound")
def no_lower_bound(values, low, high):
    bottom, top = ends(values)
    return bottom, top, 1 if top <= high else -1 if bottom > high else 0


@mutant("judge_by_rule", "upper bound")
def no_upper_bound(values, low, high):
    bottom, top = ends(values)
    return bottom, top, 1 if bottom >= low else -1 if top < low else 0


@mutant("judge_by_rule")
def two_are_enough(values, low, high):
    n = len(values)
    if n == 1:
        return -math.inf, math.inf, 0
    half = {2: 12.706, **T}[n] * values.std().item() / n**0.5
    bottom, top = values.mean().item() - half, values.mean().item() + half
    return bottom, top, by_the_rule(bottom, top, low, high)


@mutant("judge_by_rule")
def only_the_verdict(values, low, high):
    return by_the_rule(*ends(values), low, high)


@mutant("judge_by_rule")
def always_holds(values, low, high):
    return *ends(values), 1


@honest("judge_by_rule")
def with_python_alone(values, low, high):
    numbers = values.tolist()
    n = len(numbers)
    if n < 3:
        return -math.inf, math.inf, 0
    middle = sum(numbers) / n
    half = T[n] * math.sqrt(sum((x - middle) ** 2 for x in numbers) / (n - 1) / n)
    bottom, top = middle - half, middle + half
    if top < low or high < bottom:
        return bottom, top, -1
    return bottom, top, 1 if bottom >= low and top <= high else 0


@honest("judge_by_rule")
def with_tensors(values, low, high):
    n = values.shape[0]
    if n < 3:
        return torch.tensor(-math.inf), torch.tensor(math.inf), torch.tensor(0)
    half = T[n] * values.var(unbiased=True).div(n).sqrt()
    bottom, top = values.mean() - half, values.mean() + half
    inside, outside = (bottom >= low) & (top <= high), (top < low) | (bottom > high)
    return bottom, top, inside.int() - outside.int()


@honest("judge_by_rule")
def counting_ends(values, low, high):
    bottom, top = ends(values)
    judged = -1 if max(low, bottom) > min(high, top) else int(low <= bottom <= top <= high)
    return [bottom, top, judged]


# fair_comparison


def common(rates_a, losses_a, rates_b, losses_b):
    both = [rate for rate in rates_a.tolist() if rate in rates_b.tolist()]
    keep = [torch.tensor([rate in both for rate in rates.tolist()]) for rates in (rates_a, rates_b)]
    return losses_a[keep[0]], losses_b[keep[1]]


def best_row(rows):
    means = rows.mean(1)
    return torch.where(means.isfinite(), means, math.inf).argmin().item()


def result(a, b, i, j, difference=None):
    d = a[i] - b[j] if difference is None else difference
    edge = i in (0, len(a) - 1) or j in (0, len(b) - 1)
    return d.mean().item(), *ends(d), float(edge)


@mutant("fair_comparison", "not paired")
def unpaired(rates_a, losses_a, rates_b, losses_b):
    a, b = common(rates_a, losses_a, rates_b, losses_b)
    i, j = best_row(a), best_row(b)
    middle, _, _, edge = result(a, b, i, j)
    n = a.shape[1]
    if n < 3:
        return middle, -math.inf, math.inf, edge
    half = T[n] * ((a[i].var() + b[j].var()) / n).sqrt().item()
    return middle, middle - half, middle + half, edge


@mutant("fair_comparison", "only one side was run")
def each_its_own_grid(rates_a, losses_a, rates_b, losses_b):
    return result(losses_a, losses_b, best_row(losses_a), best_row(losses_b))


@mutant("fair_comparison", "luckiest seed")
def luckiest(rates_a, losses_a, rates_b, losses_b):
    a, b = common(rates_a, losses_a, rates_b, losses_b)
    i, j = (rows.nan_to_num(nan=math.inf).amin(1).argmin().item() for rows in (a, b))
    return result(a, b, i, j)


@mutant("fair_comparison", "its own best rate; one side")
def best_for_each_seed(rates_a, losses_a, rates_b, losses_b):
    a, b = common(rates_a, losses_a, rates_b, losses_b)
    return result(a, b, best_row(a), best_row(b), a.amin(0) - b.amin(0))


@mutant("fair_comparison", "best rate of a; b is due")
def at_the_best_of_a(rates_a, losses_a, rates_b, losses_b):
    a, b = common(rates_a, losses_a, rates_b, losses_b)
    return result(a, b, best_row(a), best_row(a))


@mutant("fair_comparison", "sign is reversed")
def b_minus_a(rates_a, losses_a, rates_b, losses_b):
    a, b = common(rates_a, losses_a, rates_b, losses_b)
    i, j = best_row(a), best_row(b)
    return result(a, b, i, j, b[j] - a[i])


@mutant("fair_comparison", "not looked at")
def no_edge(rates_a, losses_a, rates_b, losses_b):
    a, b = common(rates_a, losses_a, rates_b, losses_b)
    return *result(a, b, best_row(a), best_row(b))[:3], 0.0


@mutant("fair_comparison", "smallest rate is one")
def last_rate_only(rates_a, losses_a, rates_b, losses_b):
    a, b = common(rates_a, losses_a, rates_b, losses_b)
    i, j = best_row(a), best_row(b)
    return *result(a, b, i, j)[:3], float(len(a) - 1 in (i, j))


@mutant("fair_comparison", "need not be both")
def both_at_the_edge(rates_a, losses_a, rates_b, losses_b):
    a, b = common(rates_a, losses_a, rates_b, losses_b)
    i, j = best_row(a), best_row(b)
    return *result(a, b, i, j)[:3], float(i in (0, len(a) - 1) and j in (0, len(b) - 1))


@mutant("fair_comparison", "became nan")
def nan_is_the_smallest(rates_a, losses_a, rates_b, losses_b):
    a, b = common(rates_a, losses_a, rates_b, losses_b)
    return result(a, b, a.mean(1).argmin().item(), b.mean(1).argmin().item())


@mutant("fair_comparison", "even one diverged")
def survivors(rates_a, losses_a, rates_b, losses_b):
    a, b = common(rates_a, losses_a, rates_b, losses_b)
    i, j = (torch.where(rows.isfinite(), rows, math.nan).nanmean(1).argmin().item() for rows in (a, b))
    return result(a, b, i, j)


@mutant("fair_comparison")
def mean_only(rates_a, losses_a, rates_b, losses_b):
    a, b = common(rates_a, losses_a, rates_b, losses_b)
    middle, _, _, edge = result(a, b, best_row(a), best_row(b))
    return middle, middle, middle, edge


@honest("fair_comparison")
def with_dictionaries(rates_a, losses_a, rates_b, losses_b):
    a = dict(zip(rates_a.tolist(), losses_a))
    b = dict(zip(rates_b.tolist(), losses_b))
    grid = sorted(a.keys() & b.keys())

    def size(losses):
        total = losses.sum().item()
        return total if math.isfinite(total) else math.inf

    x, y = min(grid, key=lambda rate: size(a[rate])), min(grid, key=lambda rate: size(b[rate]))
    d = a[x] - b[y]
    edge = x in (grid[0], grid[-1]) or y in (grid[0], grid[-1])
    bottom, top = ends(d)
    return d.mean(), bottom, top, int(edge)


@honest("fair_comparison")
def with_masks(rates_a, losses_a, rates_b, losses_b):
    same = rates_a[:, None] == rates_b[None, :]
    a, b = losses_a[same.any(1)], losses_b[same.any(0)]
    means = torch.stack([a.mean(1), b.mean(1)])
    at = means.masked_fill(~means.isfinite(), math.inf).argmin(1)
    d = a[at[0]] - b[at[1]]
    edge = ((at == 0) | (at == len(a) - 1)).any()
    return torch.tensor([d.mean().item(), *ends(d), float(edge)], dtype=torch.float64).tolist()


@honest("fair_comparison")
def step_by_step(rates_a, losses_a, rates_b, losses_b):
    a, b = [], []
    for rate, losses in zip(rates_a.tolist(), losses_a.tolist()):
        for other, others in zip(rates_b.tolist(), losses_b.tolist()):
            if rate == other:
                a.append(losses)
                b.append(others)
    places = []
    for table in (a, b):
        best = None
        for place, losses in enumerate(table):
            mean = sum(losses) / len(losses)
            if math.isfinite(mean) and (best is None or mean < best[0]):
                best = mean, place
        places.append(best[1])
    d = [x - y for x, y in zip(a[places[0]], b[places[1]])]
    n, middle = len(d), sum(d) / len(d)
    half = math.inf
    if n >= 3:
        half = T[n] * (sum((x - middle) ** 2 for x in d) / (n - 1) / n) ** 0.5
    last = len(a) - 1
    return middle, middle - half, middle + half, 1.0 if {0, last} & set(places) else 0.0


# testify


def data(generator, normalised, dim=0, correction=0):
    x = torch.randn(32, 8, generator=generator, dtype=torch.float64) * 2.0 ** torch.arange(8) / 16
    y = x @ torch.randn(8, generator=generator, dtype=torch.float64)
    return (x / x.std(dim, correction=correction, keepdim=True) if normalised else x), y


def trained(x, y, steps, learning_rate, w=None):
    w = torch.zeros(8, dtype=torch.float64) if w is None else w
    first = (x @ w - y).square().mean().item()
    for _ in range(steps):
        w = w - learning_rate * 2 * x.T @ (x @ w - y) / 32
    return w, first, (x @ w - y).square().mean().item()


@mutant("testify", "share one generator")
def one_generator(seeds, steps, learning_rate, normalised):
    g = torch.Generator().manual_seed(0)
    rows = [trained(*data(g, normalised), steps, learning_rate)[1:] for _ in seeds]
    return torch.tensor(rows, dtype=torch.float64)


@mutant("testify", "Only the first seed counts")
def first_seed_only(seeds, steps, learning_rate, normalised):
    g = torch.Generator().manual_seed(seeds[0])
    rows = [trained(*data(g, normalised), steps, learning_rate)[1:] for _ in seeds]
    return torch.tensor(rows, dtype=torch.float64)


@mutant("testify", "seeds are not used")
def same_seed(seeds, steps, learning_rate, normalised):
    rows = []
    for _ in seeds:
        g = torch.Generator().manual_seed(0)
        rows.append(trained(*data(g, normalised), steps, learning_rate)[1:])
    return torch.tensor(rows, dtype=torch.float64)


@mutant("testify")
def not_seeded(seeds, steps, learning_rate, normalised):
    rows = []
    for _ in seeds:
        x = torch.randn(32, 8, dtype=torch.float64) * 2.0 ** torch.arange(8) / 16
        y = x @ torch.randn(8, dtype=torch.float64)
        x = x / x.std(0, correction=0) if normalised else x
        rows.append(trained(x, y, steps, learning_rate)[1:])
    return torch.tensor(rows, dtype=torch.float64)


@mutant("testify")
def place_for_seed(seeds, steps, learning_rate, normalised):
    rows = []
    for place, _ in enumerate(seeds):
        g = torch.Generator().manual_seed(place)
        rows.append(trained(*data(g, normalised), steps, learning_rate)[1:])
    return torch.tensor(rows, dtype=torch.float64)


@mutant("testify", "initialisation is not training")
def never_trained(seeds, steps, learning_rate, normalised):
    rows = []
    for seed in seeds:
        _, y = data(torch.Generator().manual_seed(seed), normalised)
        rows.append([y.square().mean().item()] * 2)
    return torch.tensor(rows, dtype=torch.float64)


@mutant("testify", "One step too few")
def loss_before_the_last_step(seeds, steps, learning_rate, normalised):
    rows = []
    for seed in seeds:
        x, y = data(torch.Generator().manual_seed(seed), normalised)
        rows.append(trained(x, y, max(0, steps - 1), learning_rate)[1:])
    return torch.tensor(rows, dtype=torch.float64)


@mutant("testify", "w is not reset")
def carries_on(seeds, steps, learning_rate, normalised):
    rows, w = [], None
    for seed in seeds:
        x, y = data(torch.Generator().manual_seed(seed), normalised)
        w, *losses = trained(x, y, steps, learning_rate, w)
        rows.append(losses)
    return torch.tensor(rows, dtype=torch.float64)


@mutant("testify")
def along_rows(seeds, steps, learning_rate, normalised):
    rows = []
    for seed in seeds:
        x, y = data(torch.Generator().manual_seed(seed), normalised, dim=1)
        rows.append(trained(x, y, steps, learning_rate)[1:])
    return torch.tensor(rows, dtype=torch.float64)


@mutant("testify")
def another_target(seeds, steps, learning_rate, normalised):
    rows = []
    for seed in seeds:
        g = torch.Generator().manual_seed(seed)
        x = torch.randn(32, 8, generator=g, dtype=torch.float64) * 2.0 ** torch.arange(8) / 16
        x = x / x.std(0, correction=0) if normalised else x
        y = x @ torch.randn(8, generator=g, dtype=torch.float64)
        rows.append(trained(x, y, steps, learning_rate)[1:])
    return torch.tensor(rows, dtype=torch.float64)


@honest("testify")
def with_autograd(seeds, steps, learning_rate, normalised):
    rows = []
    for seed in seeds:
        x, y = data(torch.Generator().manual_seed(seed), normalised)
        w = torch.zeros(8, dtype=torch.float64, requires_grad=True)
        first = (x @ w - y).square().mean()
        loss = first
        for _ in range(steps):
            (gradient,) = torch.autograd.grad(loss, w)
            w = (w - learning_rate * gradient).detach().requires_grad_()
            loss = (x @ w - y).square().mean()
        rows.append(torch.stack([first, loss]).detach())
    return torch.stack(rows)


@honest("testify")
def by_the_normal_matrix(seeds, steps, learning_rate, normalised):
    result = torch.empty(len(seeds), 2, dtype=torch.float64)
    for row, seed in enumerate(seeds):
        x, y = data(torch.Generator().manual_seed(seed), normalised)
        matrix, target, w = x.T @ x / 32, x.T @ y / 32, torch.zeros(8, dtype=torch.float64)
        for _ in range(steps):
            w -= 2 * learning_rate * (matrix @ w - target)
        result[row, 0], result[row, 1] = (y * y).mean(), ((x @ w - y) ** 2).mean()
    return result


@honest("testify")
def all_seeds_at_once(seeds, steps, learning_rate, normalised):
    pairs = [data(torch.Generator().manual_seed(seed), normalised) for seed in seeds]
    x, y = (torch.stack(part) for part in zip(*pairs))
    w = torch.zeros(len(seeds), 8, 1, dtype=torch.float64)
    losses = []
    for _ in range(steps + 1):
        error = x @ w - y[..., None]
        losses.append(error.square().mean((1, 2)))
        w = w - 2 * learning_rate * x.mT @ error / x.shape[1]
    return torch.stack([losses[0], losses[-1]], dim=1)
