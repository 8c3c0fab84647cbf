"""The tasks of exercise 07: the variance law, DeepNorm's constants, a probe of one's own, and what a layer is worth."""

import itertools
import math

import torch

from normcourse import residual
from normcourse.check import Case, Function, Task

from ..shared import between, normal, uniform

PACKAGE = ("normcourse.measure", "normcourse.residual", "normcourse.theory")


# stream_variance -----------------------------------------------------------------------------------------------------


def right_stream_variance(placement, branch_variances, input_variance):
    """Closed forms: a product for the residual stack, sums for the rest."""
    v = torch.tensor([0.0, *branch_variances], dtype=torch.float64)
    layers = torch.arange(len(v), dtype=torch.float64)
    if placement == "residual":
        return (input_variance * torch.cumprod(1 + v, 0)).tolist()
    if placement == "post_norm":
        return [input_variance] + [1.0] * len(branch_variances)
    added = {"pre_norm": v, "scaled_pre_norm": v / layers.clamp(min=1), "peri_norm": layers.clamp(max=1)}
    return (input_variance + torch.cumsum(added[placement], 0)).tolist()


def visible_stream_variance(g):
    def case(zh, en, placement, layers, input_variance):
        v = [uniform(g, 0.3, 2.0) for _ in range(layers)]
        inputs = {"placement": placement, "branch_variances": v, "input_variance": input_variance}
        return Case(zh, en, inputs)

    yield case("前置归一化", "Pre-Norm", "pre_norm", 4, 1.0)
    yield case("后置归一化", "Post-Norm", "post_norm", 3, 1.0)
    yield case("没有归一化", "without a norm", "residual", 4, 1.0)
    yield case("缩放前置归一化", "scaled Pre-Norm", "scaled_pre_norm", 5, 1.0)
    yield case("双侧归一化", "Peri-Norm", "peri_norm", 4, 1.0)
    yield case("输入方差 3，前置归一化", "input variance 3, Pre-Norm", "pre_norm", 3, 3.0)
    yield case("输入方差 3，后置归一化", "input variance 3, Post-Norm", "post_norm", 3, 3.0)
    yield case("输入方差 3，没有归一化", "input variance 3, without a norm", "residual", 3, 3.0)
    yield case("一层也没有", "no layer at all", "scaled_pre_norm", 0, 2.0)


def hidden_stream_variance(g):
    def case(en, placement, layers, input_variance=1.0):
        v = [uniform(g, 0.2, 2.5) for _ in range(layers)]
        return Case(en, en, {"placement": placement, "branch_variances": v, "input_variance": input_variance})

    for placement in ("pre_norm", "post_norm", "residual", "scaled_pre_norm", "peri_norm"):
        yield case(placement, placement, between(g, 3, 9))
        yield case(f"{placement}, input", placement, between(g, 3, 9), uniform(g, 1.5, 5.0))
    yield case("one layer", "scaled_pre_norm", 1, uniform(g, 1.5, 5.0))
    yield case("no layer", "post_norm", 0, uniform(g, 1.5, 5.0))


# deepnorm_constants --------------------------------------------------------------------------------------------------


def right_deepnorm_constants(layers):
    """As the package has them, for `layers` layers of two branches."""
    block = residual.DeepNorm(1, torch.nn.Identity(), depth=2 * layers)
    return block.alpha, block.branch_gain


def visible_deepnorm_constants(g):
    for layers in (12, 1, 100, 1000):
        zh, en = f"{layers} 层", f"{layers} layer{'s' * (layers > 1)}"
        yield Case(zh, en, {"layers": layers})


def hidden_deepnorm_constants(g):
    for low, high in ((6, 30), (31, 200), (201, 2000), (2, 5)):
        yield Case(f"up to {high}", f"up to {high}", {"layers": between(g, low, high)})
    yield Case("one layer", "one layer", {"layers": 1})


# layer_probe ---------------------------------------------------------------------------------------------------------


def right_layer_probe(x, blocks):
    """Token by token, and the angle from the sides of the triangle (law of cosines)."""
    updates, cosines = [], []
    for block in blocks:
        after, shares, angles = block(x), [], []
        for old, new in zip(x.reshape(-1, x.shape[-1]), after.reshape(-1, x.shape[-1])):
            a, b, c = (math.sqrt(side.square().sum().item()) for side in (old, new, new - old))
            shares.append(c / a)
            angles.append((a * a + b * b - c * c) / (2 * a * b))
        updates.append(math.fsum(shares) / len(shares))
        cosines.append(math.fsum(angles) / len(angles))
        x = after
    return updates, cosines


def visible_layer_probe(g):
    def case(zh, en, layers, *shape, dtype=torch.float64, kind="tanh"):
        d = shape[-1]
        sizes = torch.exp(normal(g, *shape[:-1], 1, dtype=torch.float64))
        x = (sizes * normal(g, *shape, mean=0.3, dtype=torch.float64)).to(dtype)
        rounding = 1e-4 if dtype == torch.float32 else None  # numbers would be compared in fp64
        return Case(zh, en, {"x": x, "blocks": [block(g, d, kind, dtype) for _ in range(layers)]}, rounding=rounding)

    yield case("3 层", "3 layers", 3, 4, 5)
    yield case("只有 1 层", "a single layer", 1, 4, 3)
    yield case("批 × 序列 × 特征", "batch × sequence × feature", 4, 2, 3, 6)
    yield case("只有一个词元", "a single token", 3, 7, kind="linear")
    yield case("fp32", "fp32", 3, 3, 8, dtype=torch.float32)


def block(g, d, kind="linear", dtype=torch.float64):
    """A layer whose output still resembles its input."""
    matrix = torch.eye(d, dtype=torch.float64) + normal(g, d, d, std=0.7 / d**0.5, dtype=torch.float64)
    return Function(kind, matrix.to(dtype))


def hidden_layer_probe(g):
    def case(en, layers, *shape, dtype=torch.float64, kind="tanh"):
        sizes = torch.exp(normal(g, *shape[:-1], 1, dtype=torch.float64))
        x = (sizes * normal(g, *shape, mean=-0.3, dtype=torch.float64)).to(dtype)
        blocks = [block(g, shape[-1], kind, dtype) for _ in range(layers)]
        return Case(en, en, {"x": x, "blocks": blocks}, rounding=1e-4 if dtype == torch.float32 else None)

    rows, d = between(g, 3, 6), between(g, 4, 9)
    yield case("a few layers", between(g, 2, 5), rows, d)
    yield case("one layer", 1, rows, d)
    yield case("linear layers", 4, rows, d, kind="linear")
    yield case("three dimensions", 3, 2, rows, d)
    yield case("four dimensions", 3, 2, 1, rows, d)
    yield case("one token", 3, d)
    yield case("fp32", 3, rows, 2 * d, dtype=torch.float32)


# layer_worth ---------------------------------------------------------------------------------------------------------


def right_layer_worth(x, targets, blocks, head):
    """Cross-entropy as minus the logarithm of a softmax; each variant is a list of functions."""

    def cost(layers):
        h = x
        for one in layers:
            h = one(h)
        chosen = head(h).softmax(-1).gather(-1, targets[..., None])
        return -chosen.log().mean().item()

    def merged(first, second):
        return lambda h: h + (first(h) - h) + (second(h) - h)

    whole, numbers = cost(blocks), range(len(blocks))
    dropped = [cost([blocks[i] for i in numbers if i != left_out]) - whole for left_out in numbers]
    pairs = [cost([*blocks[:i], merged(a, b), *blocks[i + 2 :]]) for i, (a, b) in enumerate(itertools.pairwise(blocks))]
    return dropped, [pair - whole for pair in pairs]


def visible_layer_worth(g):
    def case(zh, en, layers, *shape, classes=5, kind="linear"):
        d = shape[-1]
        inputs = {"x": normal(g, *shape, dtype=torch.float64)}
        inputs["targets"] = torch.randint(classes, shape[:-1], generator=g)
        inputs["blocks"] = [block(g, d, kind) for _ in range(layers)]
        inputs["head"] = Function("linear", normal(g, classes, d, dtype=torch.float64))
        return Case(zh, en, inputs)

    yield case("3 层", "3 layers", 3, 6, 4)
    yield case("5 层", "5 layers", 5, 8, 6, kind="tanh")
    yield case("批 × 序列 × 特征", "batch × sequence × feature", 3, 2, 4, 5)
    yield case("2 层", "2 layers", 2, 7, 4, kind="tanh")


def hidden_layer_worth(g):
    def case(en, layers, *shape, kind="tanh"):
        d, classes = shape[-1], between(g, 3, 7)
        inputs = {"x": normal(g, *shape, dtype=torch.float64)}
        inputs["targets"] = torch.randint(classes, shape[:-1], generator=g)
        inputs["blocks"] = [block(g, d, kind) for _ in range(layers)]
        inputs["head"] = Function("linear", normal(g, classes, d, dtype=torch.float64))
        return Case(en, en, inputs)

    rows, d = between(g, 4, 8), between(g, 3, 7)
    yield case("a few layers", between(g, 3, 5), rows, d)
    yield case("two layers", 2, rows, d)
    yield case("linear layers", 4, rows, d, kind="linear")
    yield case("three dimensions", 3, 2, rows, d)
    yield case("four dimensions", 3, 2, 1, rows, d)
    yield case("many layers", 8, rows, d)


TASKS = [
    Task(
        "stream_variance",
        right_stream_variance,
        visible_stream_variance,
        cases=hidden_stream_variance,
        points=4,
        closed=PACKAGE,
    ),
    Task(
        "deepnorm_constants",
        right_deepnorm_constants,
        visible_deepnorm_constants,
        cases=hidden_deepnorm_constants,
        points=3,
        closed=PACKAGE,
    ),
    Task(
        "layer_probe",
        right_layer_probe,
        visible_layer_probe,
        cases=hidden_layer_probe,
        points=4,
        closed=PACKAGE,
    ),
    Task(
        "layer_worth",
        right_layer_worth,
        visible_layer_worth,
        cases=hidden_layer_worth,
        points=5,
        closed=PACKAGE,
    ),
]
