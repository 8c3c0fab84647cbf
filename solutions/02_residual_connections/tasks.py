"""The tasks of exercise 02: residual against plain, a block's backward pass, I + aJ, and the paths of the gradient."""

import math

import torch

from normcourse.check import Case, Task

from ..shared import DIFFERENTIATION, FORMULA, between, normal, uniform

# input_gradient ------------------------------------------------------------------------------------------------------


def right_input_gradient(x, weights_in, weights_out, direction, residual=True):
    """The chain rule by hand, from the last block to the first."""
    state, masks = x, []
    for first, second in zip(weights_in, weights_out):
        inside = state @ first.mT
        masks.append(inside > 0)
        state = (state if residual else 0) + inside.clamp(min=0) @ second.mT
    gradient = direction
    for first, second, mask in list(zip(weights_in, weights_out, masks))[::-1]:
        gradient = (gradient if residual else 0) + (gradient @ second * mask) @ first
    return gradient


def stack(g, depth, d, hidden, rows=4, gain=1.0, dtype=torch.float64):
    return {
        "x": normal(g, rows, d, dtype=dtype),
        "weights_in": [normal(g, hidden, d, std=gain / math.sqrt(d), dtype=dtype) for _ in range(depth)],
        "weights_out": [normal(g, d, hidden, std=gain / math.sqrt(hidden), dtype=dtype) for _ in range(depth)],
        "direction": normal(g, rows, d, dtype=dtype),
    }


def visible_input_gradient(g):
    yield Case("三个残差块", "three residual blocks", stack(g, 3, 6, 6) | {"residual": True})
    yield Case("三个普通块", "three plain blocks", stack(g, 3, 6, 6) | {"residual": False})
    yield Case("中间更宽，不给 residual", "wider inside, residual not given", stack(g, 2, 4, 9))
    yield Case("只有一块", "a single block", stack(g, 1, 5, 5, rows=2) | {"residual": True})
    yield Case(
        "fp32，50 个残差块",
        "fp32, 50 residual blocks",
        stack(g, 50, 8, 8, gain=0.6, dtype=torch.float32),
        rounding=1e-3,
    )


def hidden_input_gradient(g):
    def case(en, depth, d, hidden, *residual, rounding=None, **draw):
        return Case(en, en, stack(g, depth, d, hidden, **draw) | dict(zip(["residual"], residual)), rounding=rounding)

    depth, d = between(g, 2, 5), between(g, 5, 8)
    yield case("residual", depth, d, d, True)
    yield case("plain", depth, d, d, False)
    yield case("residual, wide", depth, d, 3 * d, True)
    yield case("plain, wide", depth, d, 3 * d, False, gain=1.4)
    yield case("residual by default, narrow", depth, d, 3)
    yield case("one block", 1, d, d, True, rows=1)
    yield case("large gain", depth, d, 2 * d, True, gain=uniform(g, 2.0, 3.0))
    yield case("50 residual blocks", 50, 8, 8, True, gain=uniform(g, 0.4, 0.6))
    yield case("fp32", 2, 4, 6, True, rows=2, dtype=torch.float32)


# residual_block_backward ---------------------------------------------------------------------------------------------


def right_residual_block_backward(dy, x, W1, W2):
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in (x, W1, W2)]
        y = leaves[0] + torch.relu(leaves[0] @ leaves[1].mT) @ leaves[2].mT
        return torch.autograd.grad(y, leaves, dy)


def block(g, *shape, hidden, dtype=torch.float64):
    d = shape[-1]
    return {
        "dy": normal(g, *shape, dtype=dtype),
        "x": normal(g, *shape, dtype=dtype),
        "W1": normal(g, hidden, d, std=d**-0.5, dtype=dtype),
        "W2": normal(g, d, hidden, std=hidden**-0.5, dtype=dtype),
    }


def visible_residual_block_backward(g):
    yield Case("普通的矩阵", "an ordinary matrix", block(g, 7, 4, hidden=4))
    yield Case("中间更宽", "wider inside", block(g, 5, 3, hidden=8))
    yield Case("批 × 序列 × 特征", "batch × sequence × feature", block(g, 2, 3, 4, hidden=5))
    yield Case("只有一个向量", "a single vector", block(g, 6, hidden=9))
    yield Case("fp32", "fp32", block(g, 8, 8, hidden=16, dtype=torch.float32))


def _near_the_kink(x, W1):
    """Move each row of x to where all neurons that it can satisfy, but for one, have ±1e-9 before ReLU: finite
    differences to either side step over some kink, or are so small that rounding is left of them."""
    count = min(x.shape[-1] - 1, len(W1))
    for i, row in enumerate(x):
        some = W1[(i + torch.arange(count)) % len(W1)]
        wanted = 1e-9 * (-1.0) ** ((i + torch.arange(count)) // 2 + i)
        row -= torch.linalg.pinv(some) @ (some @ row - wanted.to(row))


def hidden_residual_block_backward(g):
    def case(en, *shape, hidden, **draw):
        inputs = block(g, *shape, hidden=hidden, **draw)
        if inputs["x"].dtype != torch.float64:
            return Case(en, en, inputs)
        _near_the_kink(inputs["x"].view(-1, shape[-1]), inputs["W1"])
        return Case(en, en, inputs, rounding=FORMULA[torch.float64])

    rows, d = between(g, 5, 9), between(g, 4, 7)
    yield case("matrix", rows, d, hidden=d)
    yield case("wide", rows, d, hidden=4 * d)
    yield case("narrow", rows, d, hidden=3)
    yield case("three dimensions", 2, rows, d, hidden=d + 2)
    yield case("four dimensions", 2, 1, rows, d, hidden=2 * d)
    yield case("one vector", d, hidden=2 * d)
    yield case("fp32", 2, 2, 4, hidden=6, dtype=torch.float32)


# smallest_singular_values --------------------------------------------------------------------------------------------


def right_smallest_singular_values(J, scales):
    matrices = torch.eye(len(J), dtype=J.dtype) + scales[:, None, None] * J
    steepest = torch.linalg.eigvalsh(-(J + J.mT) / 2)[-1]
    return torch.linalg.matrix_norm(matrices, ord=-2), -float(steepest)


def jacobian(g, d, kind="gaussian", count=4, dtype=torch.float64):
    J = normal(g, d, d, std=d**-0.5, dtype=dtype)
    J = {"gaussian": J, "antisymmetric": J - J.T, "triangular": J.triu(1), "symmetric": J + J.T}[kind]
    return {"J": J, "scales": torch.rand(count, generator=g, dtype=torch.float64).to(dtype) * 2}


def visible_smallest_singular_values(g):
    yield Case("任意的 J", "any J", jacobian(g, 4))
    yield Case("对称的 J", "a symmetric J", jacobian(g, 5, "symmetric"))
    yield Case("反对称的 J", "an antisymmetric J", jacobian(g, 4, "antisymmetric"))
    yield Case("三角的 J：特征值全是 0", "a triangular J: all eigenvalues 0", jacobian(g, 6, "triangular"))
    yield Case("只有一个 a", "a single a", jacobian(g, 3, count=1))
    yield Case("fp32", "fp32", jacobian(g, 8, dtype=torch.float32), rounding=1e-4)


def sloping(slope, inputs):
    """The inputs with a multiple of I added to J so that the slope is given, and one a so small that it tells: whether a
    singular value falls below 1 is no matter of chance."""
    J, scales = inputs["J"], inputs["scales"]
    symmetric = (J + J.T) / 2
    scales[0] = 0.1
    return {"J": J + (slope - torch.linalg.eigvalsh(symmetric)[0]) * torch.eye(len(J), dtype=J.dtype), "scales": scales}


def hidden_smallest_singular_values(g):
    d = between(g, 3, 7)
    yield Case("any", "any", sloping(-1.0, jacobian(g, d)))
    yield Case("larger", "larger", sloping(-1.5, jacobian(g, 12, count=6)))
    yield Case("symmetric", "symmetric", sloping(-1.2, jacobian(g, d, "symmetric")))
    yield Case("antisymmetric", "antisymmetric", jacobian(g, d, "antisymmetric"))
    yield Case("triangular", "triangular", jacobian(g, d + 1, "triangular"))
    yield Case("two by two", "two by two", sloping(-0.8, jacobian(g, 2, count=3)))
    yield Case("a number", "a number", sloping(uniform(g, 0.3, 0.9), jacobian(g, 1, count=3)))
    yield Case("fp32", "fp32", sloping(-0.7, jacobian(g, d, dtype=torch.float32)), rounding=1e-4)


# path_shares ---------------------------------------------------------------------------------------------------------


def right_path_shares(depth, chi):
    """From each share to the next, in logarithms: times χ (depth − k) / (k + 1)."""
    if chi == 0:
        return torch.eye(depth + 1, dtype=torch.float64)[0]
    k = torch.arange(depth, dtype=torch.float64)
    steps = torch.log(chi * (depth - k) / (k + 1)).cumsum(0)
    return torch.exp(torch.cat([steps.new_zeros(1), steps]) - depth * math.log1p(chi))


def visible_path_shares(g):
    yield Case("10 层，χ = 0.3", "10 layers, χ = 0.3", {"depth": 10, "chi": 0.3})
    yield Case("7 层，χ = 2", "7 layers, χ = 2", {"depth": 7, "chi": 2.0})
    yield Case("只有一层", "a single layer", {"depth": 1, "chi": 0.5})
    yield Case("3000 层，χ = 1", "3000 layers, χ = 1", {"depth": 3000, "chi": 1.0})
    yield Case("3000 层，χ = 1/3000", "3000 layers, χ = 1/3000", {"depth": 3000, "chi": 1 / 3000})
    yield Case("分支关着，χ = 0", "shut branches, χ = 0", {"depth": 5, "chi": 0.0})


def hidden_path_shares(g):
    def case(en, depth, chi):
        rounding = 1e-8 if depth > 1000 else None  # of lgamma, at values around 20 000
        return Case(en, en, {"depth": depth, "chi": chi}, rounding=rounding)

    yield case("few layers", between(g, 5, 15), uniform(g, 0.1, 0.8))
    yield case("large branches", between(g, 5, 15), uniform(g, 1.5, 3.0))
    yield case("one layer", 1, uniform(g, 0.2, 0.8))
    yield case("two layers", 2, uniform(g, 0.2, 0.8))
    yield case("100 layers", 100, uniform(g, 0.01, 0.5))
    yield case("thousands of layers", between(g, 2500, 3500), uniform(g, 0.5, 1.5))
    yield case("thousands, shrunk", between(g, 2500, 3500), uniform(g, 1e-3, 3e-3))
    yield case("shut", between(g, 3, 9), 0.0)


TASKS = [
    Task(
        "input_gradient",
        right_input_gradient,
        visible_input_gradient,
        cases=hidden_input_gradient,
        points=4,
        closed=("normcourse.residual", "normcourse.models", "normcourse.measure"),
    ),
    Task(
        "residual_block_backward",
        right_residual_block_backward,
        visible_residual_block_backward,
        cases=hidden_residual_block_backward,
        points=4,
        without=(*DIFFERENTIATION, "requires_grad", "retain_grad"),
    ),
    Task(
        "smallest_singular_values",
        right_smallest_singular_values,
        visible_smallest_singular_values,
        cases=hidden_smallest_singular_values,
        points=4,
    ),
    Task(
        "path_shares",
        right_path_shares,
        visible_path_shares,
        cases=hidden_path_shares,
        points=4,
        closed=("normcourse.theory",),
    ),
]
