"""Tasks that ask for a derivative by hand: the hidden cases give nothing to finite differences, however many points they
use, and all to the formula. Steps are the best that somebody finds who tries many."""

import functools
import itertools
from dataclasses import replace

import numpy
import pytest
import torch

from normcourse.check.comparison import compare
from normcourse.check.runner import answer, right_answer
from normcourse.grade.hidden import load_each
from tools.build_exercises import SOLUTIONS


def weights(points):
    """Of a central difference: {step: weight} of the positive ones; the others are the same with the sign turned."""
    steps = numpy.arange(1, points // 2 + 1, dtype=float)
    powers = numpy.stack([steps ** (2 * i + 1) for i in range(len(steps))])
    return zip(steps.tolist(), numpy.linalg.solve(powers, [0.5, *[0] * (len(steps) - 1)]).tolist())


def gradients(outputs, dy, leaves, points, step):
    """Of sum(dy · outputs(*leaves)) for each leaf. Terms are subtracted before they are added up, which rounds least.
    step: of what a row of the leaf spreads, as a power of 2, by which nothing is rounded."""
    found = []
    for index, leaf in enumerate(leaves):
        spread = leaf.std(-1, correction=0, keepdim=True).clamp(min=1e-3) if leaf.dim() else torch.ones(())
        size = 2.0 ** torch.floor(torch.log2(step * spread)).expand_as(leaf)
        slope = torch.zeros_like(leaf)
        for place in itertools.product(*map(range, leaf.shape)):
            for distance, weight in weights(points):
                ends = []
                for sign in (1, -1):
                    moved = leaf.clone()
                    moved[place] += sign * distance * size[place]
                    ends.append(outputs(*leaves[:index], moved, *leaves[index + 1 :]))
                slope[place] += weight * ((ends[0] - ends[1]) * dy).sum() / size[place]
        found.append(slope)
    return found


def layer_norm(x, eps):
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


def of_layer_norm(differentiate, dy, x, weight, eps=1e-5):
    [dx] = differentiate(lambda x: layer_norm(x, eps) * weight, dy, [x])
    return dx, (dy * layer_norm(x, eps)).reshape(-1, len(weight)).sum(0), dy.reshape(-1, len(weight)).sum(0)


def of_rms_norm(differentiate, dy, x, weight, eps=1e-6):
    norm = lambda x: x / (x.square().mean(-1, keepdim=True) + eps).sqrt()  # noqa: E731
    [dx] = differentiate(lambda x: norm(x) * weight, dy, [x])
    return dx, (dy * norm(x)).reshape(-1, len(weight)).sum(0)


def of_slices(differentiate, dys, slices, weights, eps):
    [dx] = differentiate(lambda x: layer_norm(x, eps) * torch.cat(weights), torch.cat(dys, -1), [torch.cat(slices, -1)])
    return list(dx.split([part.shape[-1] for part in slices], -1))


def of_dyt(differentiate, dy, x, alpha, weight, bias):
    outputs = lambda *leaves: torch.tanh(leaves[1] * leaves[0]) * leaves[2] + leaves[3]  # noqa: E731
    leaves = [x, alpha, weight, bias]
    return outputs(*leaves), *differentiate(outputs, dy, leaves)


def of_block(differentiate, dy, x, W1, W2):
    return tuple(differentiate(lambda x, W1, W2: x + torch.relu(x @ W1.mT) @ W2.mT, dy, [x, W1, W2]))


def of_network(differentiate, x, weights, dy, activation="relu"):
    apply = {"relu": torch.relu, "tanh": torch.tanh}[activation]
    forward = lambda x, left: functools.reduce(lambda state, weight: apply(state) @ weight.T, left, x)  # noqa: E731
    states = [forward(x, weights[:depth]) for depth in range(len(weights) + 1)]
    slopes = [
        differentiate(lambda x, depth=depth: forward(x, weights[depth:]), dy, [state])[0]
        for depth, state in enumerate(states)
    ]
    return [float(slope.norm().log10()) for slope in slopes]


TASKS = {
    "layer_norm_backward": of_layer_norm,
    "rms_norm_backward": of_rms_norm,
    "split_layer_norm_backward": of_slices,
    "residual_block_backward": of_block,
    "log10_gradient_norms": of_network,
    "dyt_backward": of_dyt,
}
STEPS = [1e-12, 1e-11, 1e-10, 1e-9, 1e-7, 1e-5, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.25, 0.5, 1.0]
WIDE_STEPS = [1e-5, 1e-3, 0.03, 0.1, 0.25]
WIDE = ("layer_norm_backward", "rms_norm_backward", "split_layer_norm_backward")
ALL = {name: task for tasks, _ in load_each(SOLUTIONS).values() for name, task in tasks.items()}


def first_case(name, seed):
    return next(iter(ALL[name].cases(torch.Generator().manual_seed(seed))))


# In DyT each output is a tanh of one input: differences of eight points are as good as a formula there, and
# docs/grading.md says so.
@pytest.mark.parametrize(
    ("name", "points"), [(name, n) for name in TASKS for n in (2, 4, 6, 8, 10) if name != "dyt_backward" or n < 8]
)
def test_differences_fail_the_first_case_without_which_there_are_no_points(name, points):
    task, case = ALL[name], first_case(name, seed=points)
    attempt = lambda differentiate: answer(functools.partial(TASKS[name], differentiate), case, task)  # noqa: E731
    right = right_answer(task, case)
    for step in WIDE_STEPS if name in WIDE else STEPS:
        assert compare(attempt(functools.partial(gradients, points=points, step=step)), right, case) is not None, step


@pytest.mark.parametrize("name", TASKS)
def test_the_same_outputs_differentiated_by_torch_are_right(name):
    def differentiate(outputs, dy, leaves):
        leaves = [leaf.detach().requires_grad_() for leaf in leaves]
        return list(torch.autograd.grad(outputs(*leaves), leaves, dy))

    task, case = replace(ALL[name], without=()), first_case(name, seed=0)
    given = answer(functools.partial(TASKS[name], differentiate), case, task)
    assert compare(given, right_answer(task, case), case) is None


@pytest.mark.parametrize("name", ["residual_block_backward", "log10_gradient_norms"])
@pytest.mark.parametrize("step", [1e-12, 1e-10, 1e-9, 1e-8, 1e-6, 1e-4, 1e-3, 0.01])
def test_at_a_kink_differences_to_the_better_side_fail_too(name, step):
    """Of the two sides, the one that is nearer to what torch says: nobody has it, but nobody has better."""

    def differentiate(outputs, dy, leaves):
        parts = [leaf.detach().clone().requires_grad_() for leaf in leaves]
        exact = torch.autograd.grad(outputs(*parts), parts, dy)
        found = []
        for index, (leaf, true) in enumerate(zip(leaves, exact)):
            slope = torch.zeros_like(leaf)
            for place in itertools.product(*map(range, leaf.shape)):
                sides = []
                for sign in (1, -1):
                    moved = leaf.clone()
                    moved[place] += sign * step
                    ends = outputs(*leaves[:index], moved, *leaves[index + 1 :]) - outputs(*leaves)
                    sides.append((ends * dy).sum() / (sign * step))
                slope[place] = min(sides, key=lambda side: abs(side - true[place]))
            found.append(slope)
        return found

    for seed in range(3):
        task, case = replace(ALL[name], without=()), first_case(name, seed)
        given = answer(functools.partial(TASKS[name], differentiate), case, task)
        assert compare(given, right_answer(task, case), case) is not None, seed
