"""The tasks of exercise 01: gradient norms by hand, the factor per layer, mean-field theory, orthogonal weights."""

import math

import torch

from normcourse.check import Case, Task

from ..shared import DIFFERENTIATION, between, normal, uniform

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "linear": lambda h: h}


def network(g, *widths, gain=1.0, rows=4, dtype=torch.float64):
    """Inputs x, weights and the gradient dy at the output of a network with these widths."""
    pairs = zip(widths[1:], widths[:-1])
    weights = [normal(g, out, into, std=gain / math.sqrt(into), dtype=dtype) for out, into in pairs]
    return {
        "x": normal(g, rows, widths[0], dtype=dtype),
        "weights": weights,
        "dy": normal(g, rows, widths[-1]).to(dtype),
    }


# log10_gradient_norms ------------------------------------------------------------------------------------------------


def right_log10_gradient_norms(x, weights, dy, activation="relu"):
    with torch.enable_grad():
        states = [x.detach().requires_grad_()]
        for weight in weights:
            states.append(ACTIVATIONS[activation](states[-1]) @ weight.T)
        gradients = torch.autograd.grad(states[-1], states, dy)
    return [float(gradient.norm().log10()) for gradient in gradients]


def visible_log10_gradient_norms(g):
    yield Case("ReLU，三层", "ReLU, three layers", network(g, 5, 5, 5, 5) | {"activation": "relu"})
    yield Case("tanh，三层", "tanh, three layers", network(g, 5, 5, 5, 5, gain=1.5) | {"activation": "tanh"})
    yield Case("各层宽度不同", "layers of different widths", network(g, 6, 3, 7, 4) | {"activation": "tanh"})
    yield Case("不给激活函数", "activation not given", network(g, 4, 4, 4))
    yield Case(
        "fp32，40 层，梯度小到 1e-50",
        "fp32, 40 layers, a gradient of 1e-50",
        network(g, *[24] * 41, gain=0.08, dtype=torch.float32) | {"activation": "relu"},
        rounding=1e-4,
    )


def _near_the_kink(row, weight):
    """Change half of the first layer so that its sums of this row are ±1e-12: a step to either side of any input passes
    over some kink of the next ReLU."""
    h, half = row.relu(), len(weight) // 2
    wanted = 1e-12 * (-1.0) ** torch.arange(half).to(row)
    if h.any() and row.dtype == torch.float64:
        weight[:half] -= torch.outer(weight[:half] @ h - wanted, h) / (h @ h)


def hidden_log10_gradient_norms(g):
    def case(en, activation, *widths, rounding=1e-7, **draw):
        inputs = network(g, *widths, **draw)
        inputs["x"][:, 0] = 1e-12  # finite differences step over ReLU's kink here, in all rows: some die further on
        _near_the_kink(inputs["x"][0], inputs["weights"][0])
        return Case(en, en, inputs | ({"activation": activation} if activation else {}), rounding=rounding)

    d = between(g, 7, 10)
    yield case("ReLU", "relu", d, d, d, d)
    yield case("tanh", "tanh", d, d, d, gain=uniform(g, 1.0, 2.0))
    yield case("ReLU, widths", "relu", 9, d, 7, 12, 6)
    yield case("tanh, widths", "tanh", 3, d, 2, 4, 7)
    yield case("one layer", "tanh", d, d + 2)
    yield case("one row", "tanh", d, d, d, rows=1)
    yield case("many rows, growing", "relu", d, d, d, gain=3.0, rows=20)
    yield case("default", None, d, d, d)
    yield case("fp32", "tanh", d, d, d, dtype=torch.float32, rounding=1e-4)
    yield case("fp32, deep", "relu", *[24] * 41, gain=uniform(g, 0.06, 0.1), rows=3, dtype=torch.float32, rounding=1e-4)


# factor_per_layer ----------------------------------------------------------------------------------------------------


def right_factor_per_layer(exponents):
    layers = torch.arange(len(exponents), dtype=torch.float64)
    finite = exponents.isfinite()
    columns = torch.stack([layers[finite], torch.ones_like(layers[finite])], -1)
    return float(10 ** -torch.linalg.lstsq(columns, exponents[finite, None]).solution[0, 0])


def exponents(g, layers, factor, noise=0.3, dead=0, gap=()):
    layer = torch.arange(layers + 1, dtype=torch.float64)
    line = normal(g, mean=1.0) - math.log10(factor) * layer + normal(g, layers + 1, std=noise, dtype=torch.float64)
    line[[*range(dead), *gap]] = -math.inf
    return {"exponents": line}


def visible_factor_per_layer(g):
    yield Case("逐层缩小，有起伏", "shrinking, with scatter", exponents(g, 12, 0.6))
    yield Case("逐层增大", "growing", exponents(g, 20, 1.4))
    yield Case("正好是直线", "exactly a straight line", exponents(g, 10, 0.41, noise=0.0))
    yield Case("只有一层：两个数", "one layer: two numbers", exponents(g, 1, 0.5))
    yield Case("前三层的梯度是 0", "the gradient is 0 at the first three layers", exponents(g, 15, 0.3, dead=3))
    yield Case("中间有两层是 −inf", "−inf at two layers in the middle", exponents(g, 12, 0.5, gap=(4, 5)))


def hidden_factor_per_layer(g):
    yield Case("scatter", "scatter", exponents(g, between(g, 5, 30), uniform(g, 0.4, 0.9)))
    yield Case("growing", "growing", exponents(g, between(g, 5, 30), uniform(g, 1.1, 2.0)))
    yield Case("straight", "straight", exponents(g, between(g, 5, 30), uniform(g, 0.2, 0.9), noise=0.0))
    yield Case("two numbers", "two numbers", exponents(g, 1, uniform(g, 0.2, 0.9)))
    yield Case("three numbers", "three numbers", exponents(g, 2, uniform(g, 0.2, 0.9)))
    yield Case("zero at the input", "zero at the input", exponents(g, between(g, 6, 20), 0.2, dead=1))
    yield Case("zeros", "zeros", exponents(g, 20, 0.1, dead=between(g, 2, 10)))
    gap = between(g, 2, 8)
    yield Case("gap", "gap", exponents(g, between(g, 12, 20), uniform(g, 0.4, 0.9), gap=(gap, gap + 1)))
    yield Case("much scatter", "much scatter", exponents(g, 40, 1.0, noise=2.0))


# mean_field_factors --------------------------------------------------------------------------------------------------


def expectation(function, limit=12.0, step=0.01):
    """E f(z) for a standard normal z, f being smooth."""
    z = torch.linspace(-limit, limit, round(2 * limit / step) + 1, dtype=torch.float64)
    return float((function(z) * torch.exp(-z.square() / 2)).sum() / torch.exp(-z.square() / 2).sum())


def mean_squares(activation, q):
    """E φ(√q z)² and E φ'(√q z)²."""
    if activation == "tanh":
        root = math.sqrt(q)
        return (
            expectation(lambda z: torch.tanh(root * z) ** 2),
            expectation(lambda z: torch.cosh(root * z) ** -4.0),
        )
    return (q / 2, 0.5) if activation == "relu" else (q, 1.0)


def right_mean_field_factors(depth, gain, activation="tanh", variance=1.0):
    variances, factors = [variance], []
    for _ in range(depth):
        value, slope = mean_squares(activation, variances[-1])
        variances.append(gain**2 * value)
        factors.append(gain * math.sqrt(slope))
    return variances, factors


def visible_mean_field_factors(g):
    def case(zh, en, *inputs):
        return Case(zh, en, dict(zip(("depth", "gain", "activation", "variance"), inputs)), rounding=1e-3)

    yield case("tanh，g = 1.5", "tanh, g = 1.5", 6, 1.5, "tanh", 0.5)
    yield case("线性", "linear", 4, 0.8, "linear", 2.0)
    yield case("ReLU", "ReLU", 4, 1.2, "relu", 0.7)
    yield case("tanh，g = 0.6，20 层", "tanh, g = 0.6, 20 layers", 20, 0.6, "tanh", 1.0)
    yield case("tanh，g = 3：饱和", "tanh, g = 3: saturated", 8, 3.0, "tanh", 1.0)
    yield case("只给层数和增益", "depth and gain only", 3, 1.0)


def hidden_mean_field_factors(g):
    def case(en, depth, gain, activation, variance):
        inputs = {"depth": depth, "gain": gain, "activation": activation, "variance": variance}
        return Case(en, en, inputs, rounding=1e-3)

    # The variance starts well below the fixed point, 1.2 … 2.6: at it, all layers are alike.
    yield case("tanh", between(g, 3, 9), uniform(g, 1.7, 2.2), "tanh", uniform(g, 0.3, 0.6))
    yield case("tanh, small gain", between(g, 10, 20), uniform(g, 0.4, 0.7), "tanh", uniform(g, 0.5, 1.5))
    yield case("tanh, saturated", between(g, 5, 9), uniform(g, 2.5, 3.5), "tanh", uniform(g, 0.5, 1.5))
    yield case("tanh, large input", 3, uniform(g, 1.0, 1.5), "tanh", uniform(g, 2.0, 4.0))
    yield case("linear", between(g, 3, 9), uniform(g, 0.6, 0.9), "linear", uniform(g, 1.5, 2.5))
    yield case("ReLU", between(g, 3, 9), uniform(g, 1.0, 1.8), "relu", uniform(g, 0.4, 0.8))
    yield case("one layer", 1, uniform(g, 0.5, 1.5), "tanh", uniform(g, 0.5, 1.5))
    yield Case("defaults", "defaults", {"depth": 4, "gain": uniform(g, 0.8, 1.4)}, rounding=1e-3)


# orthogonal ----------------------------------------------------------------------------------------------------------


def right_orthogonal(gaussian, gain=1.0):
    """Gram–Schmidt, twice for the sake of rounding."""
    tall = gaussian if gaussian.shape[0] >= gaussian.shape[1] else gaussian.T
    columns = []
    for column in tall.unbind(-1):
        for _ in range(2):
            for other in columns:
                column = column - other * (other @ column)
        columns.append(column / column.norm())
    made = gain * torch.stack(columns, -1)
    return made if made.shape == gaussian.shape else made.T


def visible_orthogonal(g):
    def case(zh, en, rows, columns, dtype=torch.float64, **more):
        return Case(zh, en, {"gaussian": normal(g, rows, columns, dtype=dtype), **more})

    yield case("高的矩阵，增益 1.5", "a tall matrix, gain 1.5", 6, 4, gain=1.5)
    yield case("方阵", "a square matrix", 5, 5, gain=2.0)
    yield case("宽的矩阵", "a wide matrix", 3, 7, gain=0.5)
    yield case("不给增益", "gain not given", 8, 8)
    yield case("fp32", "fp32", 16, 4, torch.float32, gain=1.5)
    yield case("只有一列", "a single column", 5, 1, gain=3.0)


def alternating(matrix):
    """The matrix with signs turned so that the diagonal of its R goes −, +, −, …: who ignores these signs always fails."""
    if matrix.shape[0] < matrix.shape[1]:
        return alternating(matrix.T).T.contiguous()
    wanted = torch.tensor([-1.0, 1.0], dtype=matrix.dtype).repeat(matrix.shape[1])[: matrix.shape[1]]
    return matrix * wanted * torch.linalg.qr(matrix).R.diagonal().sign()


def hidden_orthogonal(g):
    def case(en, rows, columns, *gain, dtype=torch.float64):
        gaussian = alternating(normal(g, rows, columns, dtype=dtype))
        return Case(en, en, {"gaussian": gaussian} | dict(zip(["gain"], gain)))

    d = between(g, 4, 7)
    yield case("tall", d + 3, d, uniform(g, 1.2, 2.0))
    yield case("square", d, d, uniform(g, 0.3, 0.8))
    yield case("wide", d, d + 4, uniform(g, 1.2, 2.0))
    yield case("default gain", 2 * d, d)
    yield case("another square matrix", 6, 6, 1.4)
    yield case("a row", 1, d, 2.0)
    yield case("a column", d, 1, 2.0)
    yield case("fp32, tall", 5 * d, d, 1.5, dtype=torch.float32)
    yield case("fp32, wide", d, 5 * d, 1.5, dtype=torch.float32)


TASKS = [
    Task(
        "log10_gradient_norms",
        right_log10_gradient_norms,
        visible_log10_gradient_norms,
        cases=hidden_log10_gradient_norms,
        points=4,
        without=(*DIFFERENTIATION, "requires_grad", "retain_grad"),
        closed=("normcourse.measure",),
    ),
    Task(
        "factor_per_layer",
        right_factor_per_layer,
        visible_factor_per_layer,
        cases=hidden_factor_per_layer,
        points=2,
    ),
    Task(
        "mean_field_factors",
        right_mean_field_factors,
        visible_mean_field_factors,
        cases=hidden_mean_field_factors,
        points=4,
        closed=("normcourse.theory",),
    ),
    Task(
        "orthogonal",
        right_orthogonal,
        visible_orthogonal,
        cases=hidden_orthogonal,
        points=3,
    ),
]
