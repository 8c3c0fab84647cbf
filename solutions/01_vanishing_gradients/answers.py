import itertools
import math

import numpy as np
import torch

from normcourse.measure import gradient_norms as the_package
from normcourse.models import deep_mlp
from normcourse.theory import mean_field as the_theory
from tests.answers import honest, mutant

# log10_gradient_norms


def slope(h, activation):
    return 1 - torch.tanh(h) ** 2 if activation == "tanh" else (h > 0).to(h.dtype)


def act(h, activation):
    return torch.tanh(h) if activation == "tanh" else torch.relu(h)


def forward(x, weights, activation):
    states = [x.double()]
    for W in weights:
        states.append(act(states[-1], activation) @ W.double().T)
    return states


def logs(deltas):
    return [math.log10(delta.norm()) if delta.norm() > 0 else -math.inf for delta in deltas]


@mutant("log10_gradient_norms", "slope of the activation function is missing")
def no_slope(x, weights, dy, activation="relu"):
    deltas = [dy.double()]
    for W in reversed(weights):
        deltas.append(deltas[-1] @ W.double())
    return logs(deltas[::-1])


@mutant("log10_gradient_norms", "at the wrong layer")
def slope_at_the_output(x, weights, dy, activation="relu"):
    states, deltas = forward(x, weights, activation), [dy.double()]
    for i in range(len(weights), 0, -1):
        back = deltas[0] @ weights[i - 1].double()
        if back.shape != states[i].shape:
            raise RuntimeError("The size of tensor a must match the size of tensor b")
        deltas.insert(0, back * slope(states[i], activation))
    return logs(deltas)


@mutant("log10_gradient_norms", "comes too early")
def slope_before_the_matrix(x, weights, dy, activation="relu"):
    states, delta = forward(x, weights, activation), dy.double()
    out = [delta]
    for h, W in zip(states[:0:-1], weights[::-1]):
        delta = (delta * slope(h, activation)) @ W.double()
        out.append(delta)
    return logs(reversed(out))


@mutant("log10_gradient_norms", "φ(W x)")
def activation_after_the_matrix(x, weights, dy, activation="relu"):
    h, before = x.double(), []
    for W in weights:
        before.append(h @ W.double().T)
        h = act(before[-1], activation)
    delta = dy.double()
    out = [delta]
    for z, W in zip(before[::-1], weights[::-1]):
        delta = (delta * slope(z, activation)) @ W.double()
        out.append(delta)
    return logs(out[::-1])


@mutant("log10_gradient_norms", "transposed once too often")
def transposed(x, weights, dy, activation="relu"):
    states, out = forward(x, weights, activation), [dy.double()]
    for h, W in zip(states[-2::-1], weights[::-1]):
        out.append(out[-1] @ W.double().T * slope(h, activation))
    return logs(out[::-1])


def right(x, weights, dy, activation="relu"):
    states, out = forward(x, weights, activation), [dy.double()]
    for h, W in zip(states[-2::-1], weights[::-1]):
        out.append(out[-1] @ W.double() * slope(h, activation))
    return out[::-1]


@mutant("log10_gradient_norms", "order is reversed")
def from_the_output(x, weights, dy, activation="relu"):
    return logs(right(x, weights, dy, activation)[::-1])


@mutant("log10_gradient_norms", "natural logarithm")
def natural(x, weights, dy, activation="relu"):
    return [math.log(delta.norm()) for delta in right(x, weights, dy, activation)]


@mutant("log10_gradient_norms", "norms themselves")
def norms(x, weights, dy, activation="relu"):
    return [delta.norm().item() for delta in right(x, weights, dy, activation)]


@mutant("log10_gradient_norms", "squared norm")
def squared(x, weights, dy, activation="relu"):
    return [math.log10((delta**2).sum()) for delta in right(x, weights, dy, activation)]


@mutant("log10_gradient_norms", "each row")
def rows_first(x, weights, dy, activation="relu"):
    return [math.log10(delta.norm(dim=1).mean()) for delta in right(x, weights, dy, activation)]


@mutant("log10_gradient_norms", "root mean square")
def rms(x, weights, dy, activation="relu"):
    return [math.log10(delta.pow(2).mean() ** 0.5) for delta in right(x, weights, dy, activation)]


@mutant("log10_gradient_norms", "dy is not used")
def sum_of_outputs(x, weights, dy, activation="relu"):
    return logs(right(x, weights, torch.ones_like(dy), activation))


@mutant("log10_gradient_norms", "1 − tanh²")
def tanh_not_squared(x, weights, dy, activation="relu"):
    states, out = forward(x, weights, activation), [dy.double()]
    for h, W in zip(states[-2::-1], weights[::-1]):
        factor = 1 - torch.tanh(h) if activation == "tanh" else (h > 0)
        out.append(out[-1] @ W.double() * factor)
    return logs(out[::-1])


@mutant("log10_gradient_norms", "1 − x²")
def tanh_of_tanh(x, weights, dy, activation="relu"):
    states, out = forward(x, weights, activation), [dy.double()]
    for h, W in zip(states[-2::-1], weights[::-1]):
        factor = 1 - h**2 if activation == "tanh" else (h > 0)
        out.append(out[-1] @ W.double() * factor)
    return logs(out[::-1])


@mutant("log10_gradient_norms", "tanh is taken twice")
def slope_of_the_activated(x, weights, dy, activation="relu"):
    kept, h, out = [], x.double(), [dy.double()]
    for W in weights:
        kept.append(act(h, activation))
        h = kept[-1] @ W.double().T
    for after, W in zip(kept[::-1], weights[::-1]):
        out.append(out[-1] @ W.double() * slope(after, activation))
    return logs(out[::-1])


@mutant("log10_gradient_norms", "Yours is ReLU")
def always_relu(x, weights, dy, activation="relu"):
    return logs(right(x, weights, dy, "relu"))


@mutant("log10_gradient_norms", "fp32 underflows")
def in_fp32(x, weights, dy, activation="relu"):
    hidden = [x]
    for W in weights:
        hidden.append(act(hidden[-1], activation) @ W.T)
    delta = dy
    out = [delta.norm().log10().item()]
    for h, W in zip(hidden[-2::-1], weights[::-1]):
        delta = (delta @ W) * slope(h, activation)
        out.insert(0, delta.norm().log10().item())
    return out


@mutant("log10_gradient_norms")
def norms_only_in_fp64(x, weights, dy, activation="relu"):
    hidden, delta = [x], dy
    for W in weights:
        hidden.append(act(hidden[-1], activation) @ W.T)
    out = [delta.double().norm().log10()]
    for h, W in zip(hidden[-2::-1], weights[::-1]):
        delta = (delta @ W) * slope(h, activation)
        out.insert(0, delta.double().norm().log10())
    return torch.stack(out)


@mutant("log10_gradient_norms", "expected (4,)")
def without_the_last_layer(x, weights, dy, activation="relu"):
    return logs(right(x, weights, dy, activation))[:-1]


@mutant("log10_gradient_norms", "without calling")
def by_autograd(x, weights, dy, activation="relu"):
    states = [x.double().requires_grad_()]
    for W in weights:
        states.append(act(states[-1], activation) @ W.double().T)
    return logs(torch.autograd.grad(states[-1], states, dy.double()))


@mutant("log10_gradient_norms", "without calling")
def from_the_package(x, weights, dy, activation="relu"):
    frame = the_package(deep_mlp(len(weights), x.shape[-1], "plain", "none", activation))
    return [math.log10(norm) for norm in frame["gradient_norm"]]


@mutant("log10_gradient_norms")
def by_differences(x, weights, dy, activation="relu"):
    states, step, out = forward(x, weights, activation), 1e-5, []
    for i, state in enumerate(states):
        delta = torch.zeros_like(state)
        for j in range(state.numel()):
            bump = torch.zeros_like(state)
            bump.view(-1)[j] = step
            ends = [forward(state + sign * bump, weights[i:], activation)[-1] for sign in (1, -1)]
            delta.view(-1)[j] = ((ends[0] - ends[1]) * dy.double()).sum() / (2 * step)
        out.append(delta)
        if state.numel() > 60:
            raise RuntimeError("too slow")
    return logs(out)


@honest("log10_gradient_norms")
def with_numpy(x, weights, dy, activation="relu"):
    f, df = (
        (np.tanh, lambda h: 1 / np.cosh(h) ** 2)
        if activation == "tanh"
        else (lambda h: np.maximum(h, 0), lambda h: np.heaviside(h, 0))
    )
    h, ws = [x.numpy().astype(np.float64)], [W.numpy().astype(np.float64) for W in weights]
    for W in ws:
        h.append(f(h[-1]) @ W.T)
    delta = dy.numpy().astype(np.float64)
    out = [np.linalg.norm(delta)]
    for state, W in zip(h[-2::-1], ws[::-1]):
        delta = delta @ W * df(state)
        out.append(np.linalg.norm(delta))
    return np.log10(out[::-1]).tolist()


@honest("log10_gradient_norms")
def rescaled_at_every_layer(x, weights, dy, activation="relu"):
    """Stays in the dtype of x: what is small is kept in the logarithm. ReLU does not mind a rescaled state."""
    hidden = [x]
    for W in weights:
        h = act(hidden[-1], activation) @ W.T
        hidden.append(h / h.norm() if activation == "relu" else h)
    total = math.log10(dy.norm())
    out, delta = [total], dy / dy.norm()
    for W in weights[::-1]:
        hidden.pop()
        delta = delta @ W * slope(hidden[-1], activation)
        total += math.log10(delta.norm())
        delta = delta / delta.norm()
        out.append(total)
    return out[::-1]


@honest("log10_gradient_norms")
def recursively(x, weights, dy, activation="relu"):
    def back(h, rest):
        if not rest:
            return [dy.double()]
        later = back(act(h, activation) @ rest[0].double().mT, rest[1:])
        return [torch.einsum("bo,oi,bi->bi", later[0], rest[0].double(), slope(h, activation)), *later]

    return logs(back(x.double(), weights))


@honest("log10_gradient_norms")
def as_one_tensor(x, weights, dy, activation="relu"):
    """In place on its own gradient, from the values after the activation function."""
    after = []
    h = x.to(torch.float64)
    for W in weights:
        after.append(act(h, activation))
        h = after[-1] @ W.to(torch.float64).T
    delta, out = dy.to(torch.float64).clone(), torch.empty(len(weights) + 1, dtype=torch.float64)
    out[-1] = delta.square().sum()
    for i in range(len(weights) - 1, -1, -1):
        delta = torch.mm(delta, weights[i].to(torch.float64))
        delta *= 1 - after[i] ** 2 if activation == "tanh" else after[i].sign()
        out[i] = delta.square().sum()
    return out.log10_().mul_(0.5)


# factor_per_layer


@mutant("factor_per_layer", "direction is reversed")
def upside_down(exponents):
    kept = exponents.isfinite()
    slope, _ = np.polyfit(np.arange(len(exponents))[kept.numpy()], exponents[kept].numpy(), 1)
    return 10**slope


@mutant("factor_per_layer", "by least squares")
def ends_only(exponents):
    y = exponents[exponents.isfinite()]
    return 10 ** ((y[0] - y[-1]) / (len(y) - 1)).item()


@mutant("factor_per_layer", "L + 1 numbers")
def ends_over_the_count(exponents):
    y = exponents[exponents.isfinite()]
    return 10 ** ((y[0] - y[-1]) / len(y)).item()


@mutant("factor_per_layer", "Wrong base")
def exp_of_the_slope(exponents):
    kept = exponents.isfinite()
    slope, _ = np.polyfit(np.arange(len(exponents))[kept.numpy()], exponents[kept].numpy(), 1)
    return math.exp(-slope)


@mutant("factor_per_layer", "b, the slope itself")
def slope_with_its_sign(exponents):
    kept = exponents.isfinite()
    return np.polyfit(np.arange(len(exponents))[kept.numpy()], exponents[kept].numpy(), 1)[0]


@mutant("factor_per_layer", "number the others afresh")
def numbered_afresh(exponents):
    y = [e for e in exponents.tolist() if e > -math.inf]
    return 10 ** -np.polyfit(range(len(y)), y, 1)[0]


@mutant("factor_per_layer", "return the slope")
def only_the_slope(exponents):
    kept = exponents.isfinite()
    slope, _ = np.polyfit(np.arange(len(exponents))[kept.numpy()], exponents[kept].numpy(), 1)
    return -slope


@mutant("factor_per_layer", "average of the ratios")
def mean_ratio(exponents):
    y = exponents[exponents.isfinite()]
    ratios = [10 ** (a - b) for a, b in itertools.pairwise(y.tolist())]
    return sum(ratios) / len(ratios)


@mutant("factor_per_layer", "tied to the origin")
def through_the_origin(exponents):
    kept = exponents.isfinite()
    layers = torch.arange(len(exponents), dtype=exponents.dtype)[kept]
    return 10 ** -(layers @ exponents[kept] / (layers @ layers)).item()


@mutant("factor_per_layer", "Leave those layers out")
def with_infinities(exponents):
    layers = torch.arange(len(exponents), dtype=torch.float64)
    dl, de = layers - layers.mean(), exponents - exponents.mean()
    return 10 ** -((dl * de).sum() / (dl * dl).sum()).item()


@mutant("factor_per_layer", "gradient of 0 into 1")
def infinities_to_zero(exponents):
    y = torch.where(exponents.isinf(), torch.zeros_like(exponents), exponents)
    return 10 ** -np.polyfit(np.arange(len(y)), y.numpy(), 1)[0]


@mutant("factor_per_layer")
def geometric_mean_from_a_fallback(exponents):
    y = exponents.clamp(min=-30)
    return 10 ** -np.polyfit(np.arange(len(y)), y.numpy(), 1)[0]


@mutant("factor_per_layer", "writes to its input")
def edits_the_exponents(exponents):
    kept = exponents.isfinite()
    layers = torch.arange(len(exponents), dtype=torch.float64)[kept]
    layers -= layers.mean()
    factor = 10 ** -((layers * exponents[kept]).sum() / layers.square().sum()).item()
    exponents -= exponents[-1].item()
    return factor


@mutant("factor_per_layer")
def median_of_steps(exponents):
    y = exponents[exponents.isfinite()]
    return 10 ** -float((y[1:] - y[:-1]).median())


@mutant("factor_per_layer")
def fitted_to_the_norms(exponents):
    norms = (10**exponents).numpy()
    slope, intercept = np.polyfit(np.arange(len(norms)), norms, 1)
    return abs(intercept / (intercept + slope * (len(norms) - 1))) ** (1 / (len(norms) - 1))


@honest("factor_per_layer")
def with_polyfit(exponents):
    kept = exponents.isfinite().numpy()
    return 10 ** -np.polyfit(np.flatnonzero(kept), exponents.numpy()[kept], 1)[0]


@honest("factor_per_layer")
def normal_equations(exponents):
    pairs = [(layer, e) for layer, e in enumerate(exponents.tolist()) if math.isfinite(e)]
    n, sl, se = len(pairs), sum(p[0] for p in pairs), sum(p[1] for p in pairs)
    sll, sle = sum(p[0] ** 2 for p in pairs), sum(p[0] * p[1] for p in pairs)
    return 10 ** -((n * sle - sl * se) / (n * sll - sl * sl))


@honest("factor_per_layer")
def from_the_covariance(exponents):
    layers = torch.arange(len(exponents)).to(exponents)
    both = torch.stack([layers, exponents])[:, exponents.isfinite()].cov()
    return torch.exp(-math.log(10) * both[0, 1] / both[0, 0])


# mean_field_factors


def grid(n=2001, limit=9.0):
    z = torch.linspace(-limit, limit, n, dtype=torch.float64)
    weight = torch.exp(-(z**2) / 2)
    return z, weight / weight.sum()


def both_moments(q, activation, grid=grid):
    if activation == "linear":
        return q, 1.0
    if activation == "relu":
        return q / 2, 0.5
    z, weight = grid()
    t = torch.tanh(math.sqrt(q) * z)
    return (weight * t**2).sum().item(), (weight * (1 - t**2) ** 2).sum().item()


def recursion(depth, variance, step):
    qs, cs = [variance], []
    for _ in range(depth):
        q, c = step(qs[-1])
        qs.append(q)
        cs.append(c)
    return qs, cs


@mutant("mean_field_factors", "take its root")
def chi(depth, gain, activation="tanh", variance=1.0):
    return recursion(depth, variance, lambda q: tuple(gain**2 * m for m in both_moments(q, activation)))


@mutant("mean_field_factors", "The root over")
def gain_outside_the_root(depth, gain, activation="tanh", variance=1.0):
    def step(q):
        value, slope = both_moments(q, activation)
        return gain**2 * value, gain * slope

    return recursion(depth, variance, step)


@mutant("mean_field_factors", "exactly 1/2")
def relu_on_the_grid_of_the_hint(depth, gain, activation="tanh", variance=1.0):
    return on_a_grid(torch.linspace(-8, 8, 641, dtype=torch.float64))(depth, gain, activation, variance)


def correct(depth, gain, activation, variance, grid=grid):
    def step(q):
        value, slope = both_moments(q, activation, grid)
        return gain**2 * value, gain * math.sqrt(slope)

    return recursion(depth, variance, step)


@mutant("mean_field_factors", "wrong order")
def factors_first(depth, gain, activation="tanh", variance=1.0):
    return correct(depth, gain, activation, variance)[::-1]


@mutant("mean_field_factors", "standard deviations √q")
def deviations(depth, gain, activation="tanh", variance=1.0):
    variances, factors = correct(depth, gain, activation, variance)
    return np.sqrt(variances).tolist(), factors


@mutant("mean_field_factors", "variance is not used")
def unit_input(depth, gain, activation="tanh", variance=1.0):
    return correct(depth, gain, activation, 1.0)


@mutant("mean_field_factors", "variance of 1/2")
def half_the_variance(depth, gain, activation="tanh", variance=1.0):
    def too_narrow():
        z = torch.linspace(-8, 8, 641, dtype=torch.float64)
        return z, torch.exp(-z * z) / torch.exp(-z * z).sum()

    return correct(depth, gain, activation, variance, too_narrow)


@mutant("mean_field_factors", "variance of 1/2")
def half_the_variance_throughout(depth, gain, activation="tanh", variance=1.0):
    z = (torch.arange(-800, 800, dtype=torch.float64) + 0.5) / 100
    return on_a_grid(z, power=2)(depth, gain, activation, variance)


@mutant("mean_field_factors", "stays that of the input")
def variance_not_followed(depth, gain, activation="tanh", variance=1.0):
    _, slope = both_moments(variance, activation)
    return [variance] * (depth + 1), [gain * slope**0.5] * depth


@mutant("mean_field_factors", "wrong variance")
def slope_at_the_new_variance(depth, gain, activation="tanh", variance=1.0):
    def step(q):
        q = gain**2 * both_moments(q, activation)[0]
        return q, gain * both_moments(q, activation)[1] ** 0.5

    return recursion(depth, variance, step)


@mutant("mean_field_factors", "square of the gain")
def gain_not_squared(depth, gain, activation="tanh", variance=1.0):
    def step(q):
        value, slope = both_moments(q, activation)
        return gain * value, gain * math.sqrt(slope)

    return recursion(depth, variance, step)


@mutant("mean_field_factors", "g² is missing")
def variance_without_gain(depth, gain, activation="tanh", variance=1.0):
    def step(q):
        value, slope = both_moments(q, activation)
        return value, gain * math.sqrt(slope)

    return recursion(depth, variance, step)


@mutant("mean_field_factors", "gain g is missing")
def factor_without_gain(depth, gain, activation="tanh", variance=1.0):
    def step(q):
        value, slope = both_moments(q, activation)
        return gain**2 * value, math.sqrt(slope)

    return recursion(depth, variance, step)


@mutant("mean_field_factors", "standard deviation √q")
def variance_times_z(depth, gain, activation="tanh", variance=1.0):
    def step(q):
        value, slope = both_moments(q**2, activation)
        return gain**2 * value, gain * math.sqrt(slope)

    return recursion(depth, variance, step)


@mutant("mean_field_factors", "E[φ']²")
def mean_before_square(depth, gain, activation="tanh", variance=1.0):
    def step(q):
        z, weight = grid()
        value, slope = both_moments(q, activation)
        if activation == "tanh":
            slope = (weight @ (1 - torch.tanh(q**0.5 * z) ** 2)).item() ** 2
        return gain**2 * value, gain * math.sqrt(0.25 if activation == "relu" else slope)

    return recursion(depth, variance, step)


@mutant("mean_field_factors", "φ' is not squared")
def slope_not_squared(depth, gain, activation="tanh", variance=1.0):
    def step(q):
        z, weight = grid()
        value, slope = both_moments(q, activation)
        if activation == "tanh":
            slope = (weight @ (1 - torch.tanh(q**0.5 * z) ** 2)).item()
        return gain**2 * value, gain * math.sqrt(slope)

    return recursion(depth, variance, step)


@mutant("mean_field_factors", "range of z is too narrow")
def two_standard_deviations(depth, gain, activation="tanh", variance=1.0):
    def step(q):
        value, slope = both_moments(q, activation, lambda: grid(401, 2.0))
        return gain**2 * value, gain * math.sqrt(slope)

    return recursion(depth, variance, step)


@mutant("mean_field_factors", "treated as linear")
def relu_as_linear(depth, gain, activation="tanh", variance=1.0):
    def step(q):
        value, slope = both_moments(q, "linear" if activation == "relu" else activation)
        return gain**2 * value, gain * math.sqrt(slope)

    return recursion(depth, variance, step)


@mutant("mean_field_factors", "subtract the squared mean")
def variance_about_the_mean(depth, gain, activation="tanh", variance=1.0):
    def step(q):
        value, slope = both_moments(q, activation)
        return gain**2 * (value - q / (2 * math.pi) if activation == "relu" else value), gain * math.sqrt(slope)

    return recursion(depth, variance, step)


def on_a_grid(z, open_at_zero=False, power=1):
    weight = torch.exp(-(z**2) / 2) ** power / (torch.exp(-(z**2) / 2) ** power).sum()

    def solve(depth, gain, activation="tanh", variance=1.0):
        f, df = {
            "tanh": (torch.tanh, lambda h: 1 - torch.tanh(h) ** 2),
            "relu": (torch.relu, lambda h: (h >= 0).double() if open_at_zero else (h > 0).double()),
            "linear": (lambda h: h, torch.ones_like),
        }[activation]

        def step(q):
            h = q**0.5 * z
            return gain**2 * (weight @ f(h) ** 2).item(), gain * (weight @ df(h) ** 2).item() ** 0.5

        return recursion(depth, variance, step)

    return solve


@mutant("mean_field_factors", "exactly 1/2")
def relu_on_a_grid(depth, gain, activation="tanh", variance=1.0):
    return on_a_grid(torch.linspace(-8, 8, 321, dtype=torch.float64))(depth, gain, activation, variance)


@mutant("mean_field_factors", "exactly 1/2")
def relu_on_a_coarse_grid(depth, gain, activation="tanh", variance=1.0):
    return on_a_grid(torch.linspace(-8, 8, 161, dtype=torch.float64), True)(depth, gain, activation, variance)


@mutant("mean_field_factors")
def random_samples(depth, gain, activation="tanh", variance=1.0):
    z = torch.randn(20000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def step(q):
        t = torch.tanh(q**0.5 * z)
        value, slope = both_moments(q, activation)
        if activation == "tanh":
            value, slope = (t**2).mean().item(), ((1 - t**2) ** 2).mean().item()
        return gain**2 * value, gain * math.sqrt(slope)

    return recursion(depth, variance, step)


@mutant("mean_field_factors", "reverse order")
def from_the_last_layer(depth, gain, activation="tanh", variance=1.0):
    def step(q):
        value, slope = both_moments(q, activation)
        return gain**2 * value, gain * math.sqrt(slope)

    variances, factors = recursion(depth, variance, step)
    return variances, factors[::-1]


@mutant("mean_field_factors", "without calling normcourse.theory")
def from_the_theory(depth, gain, activation="tanh", variance=1.0):
    variances, gradients = the_theory("plain", depth, gain, activation, variance)
    return variances, [a / b for a, b in itertools.pairwise(gradients)]


@mutant("mean_field_factors")
def tanh_at_the_origin(depth, gain, activation="tanh", variance=1.0):
    def step(q):
        if activation == "tanh":
            return gain**2 * (q - 2 * q**2), gain * math.sqrt(max(1 - 2 * q, 0.0))
        value, slope = both_moments(q, activation)
        return gain**2 * value, gain * math.sqrt(slope)

    return recursion(depth, variance, step)


@honest("mean_field_factors")
def gauss_hermite(depth, gain, activation="tanh", variance=1.0):
    z, weight = np.polynomial.hermite_e.hermegauss(150)
    weight = weight / weight.sum()

    def step(q):
        if activation == "tanh":
            t = np.tanh(math.sqrt(q) * z)
            value, slope = weight @ t**2, weight @ (1 - t**2) ** 2
        else:
            value, slope = both_moments(q, activation)
        return float(gain**2 * value), float(gain * math.sqrt(slope))

    return recursion(depth, variance, step)


@honest("mean_field_factors")
def by_symmetry(depth, gain, activation="tanh", variance=1.0):
    """Half of the line, midpoints: no point at 0, so ReLU's jump falls between two points."""
    return on_a_grid((torch.arange(-800, 800, dtype=torch.float64) + 0.5) / 100)(depth, gain, activation, variance)


@honest("mean_field_factors")
def trapezoid_in_a_list(depth, gain, activation="tanh", variance=1.0):
    def normal(f):
        z = np.linspace(-7, 7, 281)
        return (f(z) * np.exp(-z * z / 2)).sum() * 0.05 / math.sqrt(2 * math.pi)

    q, c = np.empty(depth + 1), np.empty(depth)
    q[0] = variance
    for i in range(depth):
        r = math.sqrt(q[i])
        if activation == "tanh":
            q[i + 1] = gain**2 * normal(lambda z, r=r: np.tanh(r * z) ** 2)
            c[i] = abs(gain) * math.sqrt(normal(lambda z, r=r: np.cosh(r * z) ** -4))
        else:
            share = 1 if activation == "linear" else 0.5
            q[i + 1], c[i] = gain**2 * share * q[i], gain * share**0.5
    return [q, c]


# orthogonal


@mutant("orthogonal", "signs are left open")
def signs_open(gaussian, gain=1.0):
    n, m = gaussian.shape
    q, _ = torch.linalg.qr(gaussian.T if n < m else gaussian)
    return gain * (q.T if n < m else q)


@mutant("orthogonal", "gain is not applied")
def gain_unused(gaussian, gain=1.0):
    n, m = gaussian.shape
    q, r = torch.linalg.qr(gaussian.T if n < m else gaussian)
    q = q * r.diagonal().sign()
    return q.T if n < m else q


@mutant("orthogonal", "Two mistakes")
def bare_q(gaussian, gain=1.0):
    n, m = gaussian.shape
    q = torch.linalg.qr(gaussian.T if n < m else gaussian).Q
    return q.T if n < m else q


@mutant("orthogonal", "closest to G")
def polar(gaussian, gain=1.0):
    u, _, vh = torch.linalg.svd(gaussian, full_matrices=False)
    return gain * u @ vh


@mutant("orthogonal", "singular value decomposition")
def left_vectors(gaussian, gain=1.0):
    n, m = gaussian.shape
    u = torch.linalg.svd(gaussian.T if n < m else gaussian, full_matrices=False).U
    return gain * (u.T if n < m else u)


@mutant("orthogonal", "at right angles")
def unit_columns(gaussian, gain=1.0):
    n, m = gaussian.shape
    return gain * gaussian / gaussian.norm(dim=int(n < m), keepdim=True)


@mutant("orthogonal", "full square matrix")
def complete(gaussian, gain=1.0):
    n, m = gaussian.shape
    q, r = torch.linalg.qr(gaussian.T if n < m else gaussian, mode="complete")
    q = torch.cat([q[:, : min(n, m)] * r.diagonal().sign(), q[:, min(n, m) :]], -1)
    return gain * (q.T if n < m else q)


@mutant("orthogonal", "extra 1/√d")
def scaled_like_a_gaussian(gaussian, gain=1.0):
    return gram_schmidt(gaussian, gain) / gaussian.shape[1] ** 0.5


@mutant("orthogonal", "applied twice")
def gain_twice(gaussian, gain=1.0):
    return gain * gram_schmidt(gaussian, gain)


@mutant("orthogonal", "fewer rows than columns")
def tall_only(gaussian, gain=1.0):
    q, r = torch.linalg.qr(gaussian)
    return gain * q * r.diagonal().sign()


@mutant("orthogonal", "never go back")
def left_transposed(gaussian, gain=1.0):
    q, r = torch.linalg.qr(gaussian.T if gaussian.shape[0] < gaussian.shape[1] else gaussian)
    return gain * q * r.diagonal().sign()


@mutant("orthogonal", "Square matrices")
def square_transposed(gaussian, gain=1.0):
    n, m = gaussian.shape
    q, r = torch.linalg.qr(gaussian.T if n <= m else gaussian)
    q = q * r.diagonal().sign()
    return gain * (q.T if n <= m else q)


@mutant("orthogonal")
def of_its_own_draw(gaussian, gain=1.0):
    return torch.nn.init.orthogonal_(torch.empty_like(gaussian), gain)


@mutant("orthogonal")
def negative_diagonal(gaussian, gain=1.0):
    n, m = gaussian.shape
    q, r = torch.linalg.qr(gaussian.T if n < m else gaussian)
    q = -q * r.diagonal().sign()
    return gain * (q.T if n < m else q)


@mutant("orthogonal", "leave out the [:, None]")
def signs_down_the_rows(gaussian, gain=1.0):
    n, m = gaussian.shape
    q, r = torch.linalg.qr(gaussian.mT if n < m else gaussian)
    q = torch.sign(torch.diag(r))[:, None] * q
    return gain * (q.mT if n < m else q)


@mutant("orthogonal", "leave out the [:, None]")
def signs_on_rows_after_q(gaussian, gain=1.0):
    n, m = gaussian.shape
    q, r = torch.linalg.qr(gaussian.T if n < m else gaussian)
    q = gain * q * r.diag().sign().unsqueeze(1)
    return q.T if n < m else q


@mutant("orthogonal")
def signs_on_the_rows(gaussian, gain=1.0):
    n, m = gaussian.shape
    q, r = torch.linalg.qr(gaussian.T if n < m else gaussian)
    q = q * r.diagonal().sign()[:, None] if len(q) == len(r) else q * r.diagonal().sign()
    return gain * (q.T if n < m else q)


@mutant("orthogonal", "expected torch.float32")
def dtype_lost(gaussian, gain=1.0):
    return gram_schmidt(gaussian.double(), gain)


@mutant("orthogonal")
def edited_in_place(gaussian, gain=1.0):
    made = gram_schmidt(gaussian, gain)
    gaussian.copy_(made)
    return gaussian


@honest("orthogonal")
def gram_schmidt(gaussian, gain=1.0):
    if gaussian.shape[0] < gaussian.shape[1]:
        return gram_schmidt(gaussian.T, gain).T
    columns = []
    for v in gaussian.T:
        for _ in range(2):
            for u in columns:
                v = v - (u @ v) * u
        columns.append(v / v.norm())
    return gain * torch.stack(columns, dim=1)


@honest("orthogonal")
def with_numpy_and_a_diagonal_matrix(gaussian, gain=1.0):
    a = gaussian.numpy()
    wide = a.shape[0] < a.shape[1]
    q, r = np.linalg.qr(a.T if wide else a)
    q = q @ np.diag(np.where(np.diag(r) < 0, -1.0, 1.0))
    return torch.from_numpy(np.ascontiguousarray(gain * (q.T if wide else q))).to(gaussian.dtype)


@honest("orthogonal")
def in_place_on_its_own_q(gaussian, gain=1.0):
    transposed = gaussian.size(0) < gaussian.size(1)
    q, r = torch.linalg.qr(gaussian.t() if transposed else gaussian, mode="reduced")
    q *= torch.copysign(torch.tensor(gain, dtype=q.dtype), r.diagonal())
    return q.t() if transposed else q


@honest("orthogonal")
def signs_from_g(gaussian, gain=1.0):
    tall = gaussian if gaussian.shape[0] >= gaussian.shape[1] else gaussian.mT
    q = torch.linalg.qr(tall)[0]
    q = gain * torch.where((q * tall).sum(0) >= 0, q, -q)
    return q if q.shape == gaussian.shape else q.mT
