import math

import numpy as np
import torch

from normcourse.models import deep_mlp
from normcourse.theory import path_shares as the_theory
from tests.answers import honest, mutant

# input_gradient


def gradient(x, weights_in, weights_out, direction, block, start=None, finish=None):
    """Autograd through a stack of blocks `block(h, W1, W2)`."""
    x = x.detach().clone().requires_grad_()
    h = x
    for W1, W2 in zip(weights_in, weights_out):
        h = block(h, W1, W2)
    h = finish(h, x) if finish else h
    (h * direction).sum().backward()
    return x.grad


def branch(h, W1, W2):
    return torch.relu(h @ W1.T) @ W2.T


@mutant("input_gradient", "There is no skip")
def always_plain(x, weights_in, weights_out, direction, residual=True):
    return gradient(x, weights_in, weights_out, direction, branch)


@mutant("input_gradient", "argument residual is not used")
def always_residual(x, weights_in, weights_out, direction, residual=True):
    return gradient(x, weights_in, weights_out, direction, lambda h, W1, W2: h + branch(h, W1, W2))


@mutant("input_gradient", "single skip around")
def one_skip(x, weights_in, weights_out, direction, residual=True):
    return gradient(x, weights_in, weights_out, direction, branch, finish=lambda h, x: h + x if residual else h)


@mutant("input_gradient", "adds the first input")
def skip_from_the_input(x, weights_in, weights_out, direction, residual=True):
    leaf = x.clone().requires_grad_()
    h = leaf
    for W1, W2 in zip(weights_in, weights_out):
        h = leaf + branch(h, W1, W2) if residual else branch(h, W1, W2)
    (h * direction).sum().backward()
    return leaf.grad


@mutant("input_gradient", "no ReLU")
def without_relu(x, weights_in, weights_out, direction, residual=True):
    return gradient(x, weights_in, weights_out, direction, lambda h, W1, W2: residual * h + h @ W1.T @ W2.T)


@mutant("input_gradient", "after the sum")
def relu_on_the_stream(x, weights_in, weights_out, direction, residual=True):
    return gradient(
        x, weights_in, weights_out, direction, lambda h, W1, W2: torch.relu(residual * h + branch(h, W1, W2))
    )


@mutant("input_gradient", "after the sum")
def the_original_resnet(x, weights_in, weights_out, direction, residual=True):
    return gradient(
        x,
        weights_in,
        weights_out,
        direction,
        lambda h, W1, W2: (h + branch(h, W1, W2)).relu() if residual else branch(h, W1, W2),
    )


@mutant("input_gradient", "last block is left out")
def stops_before_the_last(x, weights_in, weights_out, direction, residual=True):
    leaf = x.clone().requires_grad_()
    h = leaf
    for i in range(len(weights_in) - 1):
        f = branch(h, weights_in[i], weights_out[i])
        h = h + f if residual else f
    return torch.autograd.grad((h * direction).sum(), leaf)[0]


@mutant("input_gradient", "one ReLU too many")
def relu_twice(x, weights_in, weights_out, direction, residual=True):
    return gradient(
        x, weights_in, weights_out, direction, lambda h, W1, W2: residual * h + torch.relu(branch(h, W1, W2))
    )


@mutant("input_gradient", "at the end of the branch")
def relu_last(x, weights_in, weights_out, direction, residual=True):
    return gradient(x, weights_in, weights_out, direction, lambda h, W1, W2: residual * h + torch.relu(h @ W1.T @ W2.T))


@mutant("input_gradient", "stands before them")
def relu_first(x, weights_in, weights_out, direction, residual=True):
    return gradient(x, weights_in, weights_out, direction, lambda h, W1, W2: residual * h + torch.relu(h) @ W1.T @ W2.T)


@mutant("input_gradient", "transpose is missing")
def not_transposed(x, weights_in, weights_out, direction, residual=True):
    return gradient(x, weights_in, weights_out, direction, lambda h, W1, W2: residual * h + torch.relu(h @ W1) @ W2)


@mutant("input_gradient", "reverse order")
def last_block_first(x, weights_in, weights_out, direction, residual=True):
    block = lambda h, W1, W2: residual * h + branch(h, W1, W2)  # noqa: E731
    return gradient(x, weights_in[::-1], weights_out[::-1], direction, block)


@mutant("input_gradient", "skip is detached")
def skip_detached(x, weights_in, weights_out, direction, residual=True):
    return gradient(x, weights_in, weights_out, direction, lambda h, W1, W2: residual * h.detach() + branch(h, W1, W2))


@mutant("input_gradient", "direction is not used")
def sum_of_outputs(x, weights_in, weights_out, direction, residual=True):
    block = lambda h, W1, W2: residual * h + branch(h, W1, W2)  # noqa: E731
    return gradient(x, weights_in, weights_out, torch.ones_like(direction), block)


@mutant("input_gradient", "loss is a mean")
def mean_loss(x, weights_in, weights_out, direction, residual=True):
    block = lambda h, W1, W2: residual * h + branch(h, W1, W2)  # noqa: E731
    return gradient(x, weights_in, weights_out, direction, block) / x.numel()


@mutant("input_gradient", "norm of the gradient")
def only_the_norm(x, weights_in, weights_out, direction, residual=True):
    block = lambda h, W1, W2: residual * h + branch(h, W1, W2)  # noqa: E731
    return gradient(x, weights_in, weights_out, direction, block).norm()


@mutant("input_gradient", "in-place operation")
def leaf_changed_in_place(x, weights_in, weights_out, direction, residual=True):
    h = x.requires_grad_()
    for W1, W2 in zip(weights_in, weights_out):
        if residual:
            h += branch(h, W1, W2)
        else:
            h = branch(h, W1, W2)
    (h * direction).sum().backward()
    return x.grad


@mutant("input_gradient", "writes to its input")
def input_overwritten(x, weights_in, weights_out, direction, residual=True):
    result = gradient(x, weights_in, weights_out, direction, lambda h, W1, W2: residual * h + branch(h, W1, W2))
    x.copy_(result)
    return result


@mutant("input_gradient")
def branch_halved_in_the_backward(x, weights_in, weights_out, direction, residual=True):
    """The skip alone carries the gradient."""
    return gradient(
        x,
        weights_in,
        weights_out,
        direction,
        lambda h, W1, W2: h + branch(h.detach(), W1, W2) if residual else branch(h, W1, W2),
    )


@mutant("input_gradient")
def by_forward_differences(x, weights_in, weights_out, direction, residual=True):
    def loss(x):
        h = x
        for W1, W2 in zip(weights_in, weights_out):
            h = residual * h + branch(h, W1, W2)
        return (h * direction).sum()

    result, step = torch.empty_like(x), 1e-6
    for i in range(x.numel()):
        bumped = x.flatten()
        bumped[i] += step
        result.view(-1)[i] = (loss(bumped.view_as(x)) - loss(x)) / step
    return result


@mutant("input_gradient", "expected (4, 6)")
def averaged_over_the_batch(x, weights_in, weights_out, direction, residual=True):
    block = lambda h, W1, W2: residual * h + branch(h, W1, W2)  # noqa: E731
    return gradient(x, weights_in, weights_out, direction, block).mean(0)


@mutant("input_gradient")
def by_the_package(x, weights_in, weights_out, direction, residual=True):
    model = deep_mlp(len(weights_in), x.shape[-1], "residual" if residual else "plain")
    x = x.float().requires_grad_()
    return torch.autograd.grad(model(x), x, direction.float())[0].to(direction.dtype)


@honest("input_gradient")
def by_hand(x, weights_in, weights_out, direction, residual=True):
    h, kept = x, []
    for W1, W2 in zip(weights_in, weights_out):
        z = h @ W1.T
        kept.append(z > 0)
        f = torch.where(kept[-1], z, 0) @ W2.T
        h = h + f if residual else f
    delta = direction.clone()
    for W1, W2, mask in zip(reversed(weights_in), reversed(weights_out), reversed(kept)):
        back = (delta @ W2 * mask) @ W1
        delta = delta + back if residual else back
    return delta


@honest("input_gradient")
def stream_in_place(x, weights_in, weights_out, direction, residual=True):
    """The matrix product needs no h on the way back, since the weights ask for no gradient."""
    leaf = x.clone().requires_grad_()
    h = leaf.clone()
    for W1, W2 in zip(weights_in, weights_out):
        f = branch(h, W1, W2)
        h = h.add_(f) if residual else f
    h.backward(direction)
    return leaf.grad


@honest("input_gradient")
def with_functional_vjp(x, weights_in, weights_out, direction, residual=True):
    def network(h):
        for first, second in zip(weights_in, weights_out):
            f = torch.nn.functional.linear(torch.nn.functional.relu(torch.nn.functional.linear(h, first)), second)
            h = f.add_(h) if residual else f
        return h

    _, back = torch.func.vjp(network, x)
    return back(direction)[0]


@honest("input_gradient")
def row_by_row_as_modules(x, weights_in, weights_out, direction, residual=True):
    class Block(torch.nn.Module):
        def __init__(self, W1, W2):
            super().__init__()
            self.W1, self.W2 = W1, W2

        def forward(self, h):
            f = self.W2 @ (self.W1 @ h).clamp(min=0)
            return h + f if residual else f

    network = torch.nn.Sequential(*map(Block, weights_in, weights_out))
    rows = [row.detach().requires_grad_() for row in x]
    return torch.stack([torch.autograd.grad(network(row), row, d)[0] for row, d in zip(rows, direction)])


@honest("input_gradient")
def by_jacobians(x, weights_in, weights_out, direction, residual=True):
    eye, gradients = torch.eye(x.shape[-1], dtype=x.dtype), []
    for h, delta in zip(x, direction):
        J = eye
        for W1, W2 in zip(weights_in, weights_out):
            z = W1 @ h
            J = (residual * eye + W2 @ ((z > 0).to(x.dtype)[:, None] * W1)) @ J
            h = residual * h + W2 @ z.relu()
        gradients.append(J.T @ delta)
    return torch.stack(gradients)


# residual_block_backward


def flat(t):
    return t.reshape(-1, t.shape[-1])


def parts(dy, x, W1, W2):
    """Rows of dy and x, W1 x, and what reaches it."""
    dy, rows = flat(dy), flat(x)
    z = rows @ W1.T
    return dy, rows, z, (dy @ W2) * (z > 0)


@mutant("residual_block_backward", "skip is missing")
def no_skip(dy, x, W1, W2):
    g, rows, z, dz = parts(dy, x, W1, W2)
    return (dz @ W1).view_as(x), dz.T @ rows, g.T @ z.relu()


@mutant("residual_block_backward", "not 1")
def one_for_the_skip(dy, x, W1, W2):
    g, rows, z, dz = parts(dy, x, W1, W2)
    return (1 + dz @ W1).view_as(x), dz.T @ rows, g.T @ z.relu()


@mutant("residual_block_backward", "You add x to dx")
def x_for_the_skip(dy, x, W1, W2):
    g, rows, z, dz = parts(dy, x, W1, W2)
    return x + (dz @ W1).view_as(x), dz.T @ rows, g.T @ z.relu()


@mutant("residual_block_backward", "sign of x")
def mask_at_the_end(dy, x, W1, W2):
    g, rows, z, _ = parts(dy, x, W1, W2)
    dz = g @ W2
    return (g + (dz @ W1) * (rows > 0)).view_as(x), dz.T @ rows, g.T @ z.relu()


@mutant("residual_block_backward", "wrong order")
def dW2_first(dy, x, W1, W2):
    g, rows, z, dz = parts(dy, x, W1, W2)
    return (g + dz @ W1).view_as(x), g.T @ z.relu(), dz.T @ rows


@mutant("residual_block_backward", "dy and x are exchanged")
def arguments_exchanged(x, dy, W1, W2):
    g, rows, z, dz = parts(dy, x, W1, W2)
    return (g + dz @ W1).view_as(x), dz.T @ rows, g.T @ z.relu()


@mutant("residual_block_backward", "share of the skip only")
def skip_only(dy, x, W1, W2):
    g, rows, z, dz = parts(dy, x, W1, W2)
    return dy.clone(), dz.T @ rows, g.T @ z.relu()


@mutant("residual_block_backward", "slope of ReLU is missing")
def no_mask(dy, x, W1, W2):
    g, rows, z, _ = parts(dy, x, W1, W2)
    dz = g @ W2
    return (g + dz @ W1).view_as(x), dz.T @ rows, g.T @ z.relu()


@mutant("residual_block_backward", "sign of x")
def mask_of_x(dy, x, W1, W2):
    g, rows, z, _ = parts(dy, x, W1, W2)
    dz = (g @ W2) * (rows > 0)
    return (g + dz @ W1).view_as(x), dz.T @ rows, g.T @ z.relu()


@mutant("residual_block_backward", "sign of the gradient")
def mask_of_the_gradient(dy, x, W1, W2):
    g, rows, z, _ = parts(dy, x, W1, W2)
    dz = (g @ W2).relu()
    return (g + dz @ W1).view_as(x), dz.T @ rows, g.T @ z.relu()


@mutant("residual_block_backward", "missing from dW1")
def mask_missing_in_dW1(dy, x, W1, W2):
    g, rows, z, dz = parts(dy, x, W1, W2)
    return (g + dz @ W1).view_as(x), (g @ W2).T @ rows, g.T @ z.relu()


@mutant("residual_block_backward", "transposed once too often")
def transposed(dy, x, W1, W2):
    g, rows, z, _ = parts(dy, x, W1, W2)
    dz = (g @ W2.T) * (z > 0)
    return (g + dz @ W1.T).view_as(x), dz.T @ rows, g.T @ z.relu()


@mutant("residual_block_backward", "dW1 and dW2 are transposed")
def weights_transposed(dy, x, W1, W2):
    g, rows, z, dz = parts(dy, x, W1, W2)
    return (g + dz @ W1).view_as(x), rows.T @ dz, z.relu().T @ g


@mutant("residual_block_backward", "values after ReLU")
def dW2_before_relu(dy, x, W1, W2):
    g, rows, z, dz = parts(dy, x, W1, W2)
    return (g + dz @ W1).view_as(x), dz.T @ rows, g.T @ z


@mutant("residual_block_backward", "skips W2")
def dW1_past_W2(dy, x, W1, W2):
    g, rows, z, dz = parts(dy, x, W1, W2)
    return (g + dz @ W1).view_as(x), (g * (z > 0)).T @ rows, g.T @ z.relu()


@mutant("residual_block_backward", "averaged")
def mean_over_rows(dy, x, W1, W2):
    g, rows, z, dz = parts(dy, x, W1, W2)
    return (g + dz @ W1).view_as(x), dz.T @ rows / len(g), g.T @ z.relu() / len(g)


@mutant("residual_block_backward", "must match the size")
def only_for_matrices(dy, x, W1, W2):
    z = x @ W1.T
    dz = (dy @ W2) * (z > 0)
    return dy + dz @ W1, dz.transpose(0, -1) @ x, dy.transpose(0, -1) @ z.relu()


@mutant("residual_block_backward", "without calling")
def by_autograd(dy, x, W1, W2):
    x, W1, W2 = (t.clone().requires_grad_() for t in (x, W1, W2))
    y = x + torch.relu(x @ W1.T) @ W2.T
    y.backward(dy)
    return x.grad, W1.grad, W2.grad


@mutant("residual_block_backward", "2 tensors")
def dx_forgotten(dy, x, W1, W2):
    g, rows, z, dz = parts(dy, x, W1, W2)
    return dz.T @ rows, g.T @ z.relu()


@mutant("residual_block_backward", "writes to its input")
def added_to_dy(dy, x, W1, W2):
    g, rows, z, dz = parts(dy, x, W1, W2)
    dW2 = g.T @ z.relu()
    dy += (dz @ W1).view_as(x)
    return dy, dz.T @ rows, dW2


@mutant("residual_block_backward")
def skip_through_relu(dy, x, W1, W2):
    g, rows, z, dz = parts(dy, x, W1, W2)
    return (g * (rows > 0) + dz @ W1).view_as(x), dz.T @ rows, g.T @ z.relu()


@mutant("residual_block_backward")
def by_differences(dy, x, W1, W2):
    leaves, results = [x, W1, W2], []
    for i, leaf in enumerate(leaves):
        result = torch.empty_like(leaf)
        for j in range(leaf.numel()):
            ends = []
            for step in (1e-6, -1e-6):
                a, b, c = (t.clone() if k == i else t for k, t in enumerate(leaves))
                (a, b, c)[i].view(-1)[j] += step
                ends.append(((a + torch.relu(a @ b.T) @ c.T) * dy).sum())
            result.view(-1)[j] = (ends[0] - ends[1]) / 2e-6
        results.append(result)
    return results


@honest("residual_block_backward")
def with_einsum(dy, x, W1, W2):
    z = torch.einsum("...d,hd->...h", x, W1)
    dz = torch.einsum("...d,dh->...h", dy, W2) * (z > 0)
    dx = dy + torch.einsum("...h,hd->...d", dz, W1)
    return dx, torch.einsum("...h,...d->hd", dz, x), torch.einsum("...d,...h->dh", dy, z.clamp(min=0))


@honest("residual_block_backward")
def token_by_token(dy, x, W1, W2):
    dx, dW1, dW2 = [], torch.zeros_like(W1), torch.zeros_like(W2)
    for row, g in zip(flat(x), flat(dy)):
        z = W1 @ row
        dz = torch.where(z > 0, W2.T @ g, torch.zeros_like(z))
        dx.append(g + W1.T @ dz)
        dW1 += torch.outer(dz, row)
        dW2 += torch.outer(g, z.relu())
    return [torch.stack(dx).reshape(x.shape), dW1, dW2]


@honest("residual_block_backward")
def with_numpy(dy, x, W1, W2):
    g, rows = dy.numpy().reshape(-1, dy.shape[-1]), x.numpy().reshape(-1, x.shape[-1])
    z = rows @ W1.numpy().T
    dz = np.where(z > 0, g @ W2.numpy(), 0)
    dx = (g + dz @ W1.numpy()).reshape(x.shape)
    return tuple(map(torch.from_numpy, (dx, dz.T @ rows, g.T @ np.maximum(z, 0))))


@honest("residual_block_backward")
def in_place_on_its_own(dy, x, W1, W2):
    rows, g = x.flatten(0, -2) if x.dim() > 1 else x[None], dy.flatten(0, -2) if dy.dim() > 1 else dy[None]
    h = torch.mm(rows, W1.t()).relu_()
    dz = torch.mm(g, W2).mul_(h.sign())
    return torch.addmm(g, dz, W1).reshape(x.shape), dz.t().mm(rows), g.t().mm(h)


# smallest_singular_values


def matrices(J, scales):
    return torch.eye(len(J), dtype=J.dtype) + scales[:, None, None] * J


def slope(J):
    return torch.linalg.eigvalsh((J + J.T) / 2).min().item()


@mutant("smallest_singular_values", "absolute eigenvalues")
def eigenvalues(J, scales):
    return torch.linalg.eigvals(matrices(J, scales)).abs().amin(-1), slope(J)


@mutant("smallest_singular_values", "largest singular value")
def largest(J, scales):
    return torch.linalg.svdvals(matrices(J, scales))[:, 0], slope(J)


@mutant("smallest_singular_values", "The I is missing")
def without_identity(J, scales):
    return torch.linalg.svdvals(scales[:, None, None] * J)[:, -1], slope(J)


@mutant("smallest_singular_values", "adds 1 to every element")
def one_for_identity(J, scales):
    return torch.linalg.svdvals(1 + scales[:, None, None] * J)[:, -1], slope(J)


@mutant("smallest_singular_values", "do not add up")
def at_least_one(J, scales):
    return 1 + scales * torch.linalg.svdvals(J).min(), slope(J)


@mutant("smallest_singular_values", "lower bound only")
def lower_bound(J, scales):
    return 1 - scales * torch.linalg.matrix_norm(J, 2), slope(J)


@mutant("smallest_singular_values", "tangent at a = 0")
def tangent(J, scales):
    return 1 + scales * slope(J), slope(J)


@mutant("smallest_singular_values", "A root is missing")
def squares(J, scales):
    M = matrices(J, scales)
    return torch.linalg.eigvalsh(M.mT @ M)[:, 0], slope(J)


@mutant("smallest_singular_values", "twice what it should be")
def slope_doubled(J, scales):
    return torch.linalg.svdvals(matrices(J, scales))[:, -1], torch.linalg.eigvalsh(J + J.T)[0].item()


@mutant("smallest_singular_values", "eigenvalue of J itself")
def slope_from_J(J, scales):
    return torch.linalg.svdvals(matrices(J, scales))[:, -1], torch.linalg.eigvals(J).real.min()


@mutant("smallest_singular_values", "lower triangle only")
def slope_from_the_lower_triangle(J, scales):
    return torch.linalg.svdvals(matrices(J, scales))[:, -1], torch.linalg.eigvalsh(J).min()


@mutant("smallest_singular_values", "slope is the largest eigenvalue")
def slope_of_the_largest(J, scales):
    return torch.linalg.svdvals(matrices(J, scales))[:, -1], torch.linalg.eigvalsh((J + J.T) / 2)[-1]


@mutant("smallest_singular_values", "worst that could be")
def steepest_possible(J, scales):
    return torch.linalg.svdvals(matrices(J, scales))[:, -1], -torch.linalg.svdvals(J)[0]


@mutant("smallest_singular_values", "wrong sign")
def slope_positive(J, scales):
    return torch.linalg.svdvals(matrices(J, scales))[:, -1], -slope(J)


@mutant("smallest_singular_values", "by differences")
def slope_by_differences(J, scales):
    small = torch.linalg.svdvals(matrices(J, torch.tensor([1e-4], dtype=J.dtype)))[0, -1]
    return torch.linalg.svdvals(matrices(J, scales))[:, -1], (small.item() - 1) / 1e-4


@mutant("smallest_singular_values")
def slope_by_central_differences(J, scales):
    ends = torch.linalg.svdvals(matrices(J, torch.tensor([1e-4, -1e-4], dtype=J.dtype)))[:, -1]
    return torch.linalg.svdvals(matrices(J, scales))[:, -1], ((ends[0] - ends[1]) / 2e-4).item()


@mutant("smallest_singular_values", "expected (4,)")
def all_of_them(J, scales):
    return torch.linalg.svdvals(matrices(J, scales)), slope(J)


@mutant("smallest_singular_values")
def never_below_one(J, scales):
    return torch.linalg.svdvals(matrices(J, scales))[:, -1].clamp(min=1), slope(J)


@mutant("smallest_singular_values", "writes to its input")
def identity_added_in_place(J, scales):
    steepest = slope(J)
    J.diagonal().add_(1)
    J = J - torch.eye(len(J), dtype=J.dtype)
    return torch.linalg.svdvals(matrices(J, scales))[:, -1], steepest


@honest("smallest_singular_values")
def one_by_one(J, scales):
    eye = torch.eye(*J.shape, dtype=J.dtype)
    values = [torch.linalg.svd(eye + a * J).S.min() for a in scales]
    return torch.stack(values), torch.linalg.eigvalsh(J / 2 + J.T / 2).min()


@honest("smallest_singular_values")
def with_numpy_norms(J, scales):
    A = J.numpy()
    values = [np.linalg.norm(np.eye(len(A)) + a * A, ord=-2) for a in scales.numpy().astype(float)]
    return torch.tensor(values, dtype=J.dtype), float(np.linalg.eigvalsh((A + A.T) / 2).min())


@honest("smallest_singular_values")
def from_the_spectral_norm(J, scales):
    M = matrices(J, scales)
    values = torch.linalg.matrix_norm(M, ord=-2)
    return [values, torch.linalg.eigh(J + J.mT).eigenvalues[0] / 2]


@honest("smallest_singular_values")
def as_diagonal_blocks(J, scales):
    """The singular values are the positive eigenvalues of [[0, M], [Mᵀ, 0]]."""
    d, M = len(J), matrices(J, scales)
    zero = torch.zeros_like(M)
    big = torch.cat([torch.cat([zero, M], -1), torch.cat([M.mT, zero], -1)], -2)
    return torch.linalg.eigvalsh(big)[:, d], -torch.linalg.eigvalsh(-(J + J.T)).max().item() / 2


# path_shares


@mutant("path_shares", "taken for a probability")
def chi_as_probability(depth, chi):
    return [math.comb(depth, k) * chi**k * (1 - chi) ** (depth - k) for k in range(depth + 1)]


@mutant("path_shares", "division by the total")
def not_normalised(depth, chi):
    k = torch.arange(depth + 1, dtype=torch.float64)
    ways = torch.lgamma(k[-1] + 1) - torch.lgamma(k + 1) - torch.lgamma(k[-1] - k + 1)
    return torch.exp(ways + torch.xlogy(k, torch.tensor(chi, dtype=torch.float64)))


@mutant("path_shares", "number of paths is missing")
def without_the_count(depth, chi):
    p = chi / (1 + chi)
    k = torch.arange(depth + 1, dtype=torch.float64)
    return p**k * (1 - p) ** (depth - k)


@mutant("path_shares", "share of the paths by number")
def by_number(depth, chi):
    return logs(depth, 1.0)


@mutant("path_shares", "√χ")
def of_the_amplitude(depth, chi):
    r = math.sqrt(chi)
    return logs(depth, r)


def logs(depth, chi):
    k = torch.arange(depth + 1, dtype=torch.float64)
    ways = torch.lgamma(k[-1] + 1) - torch.lgamma(k + 1) - torch.lgamma(k[-1] - k + 1)
    p = torch.tensor(chi / (1 + chi), dtype=torch.float64)
    return torch.exp(ways + torch.xlogy(k, p) + torch.xlogy(k[-1] - k, 1 - p))


@mutant("path_shares", "order is reversed")
def from_the_longest(depth, chi):
    return logs(depth, chi).flip(0)


@mutant("path_shares", "Out of range")
def with_comb(depth, chi):
    p = chi / (1 + chi)
    shares = [math.comb(depth, k) * p**k * (1 - p) ** (depth - k) for k in range(depth + 1)]
    return torch.tensor(shares, dtype=torch.float64)


@mutant("path_shares", "Out of range")
def with_tensors_out_of_range(depth, chi):
    k = torch.arange(depth + 1, dtype=torch.float64)
    n, p = float(depth), chi / (1 + chi)
    ways = torch.exp(
        torch.lgamma(torch.tensor(n + 1.0, dtype=torch.float64)) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    )
    return ways * p**k * (1 - p) ** (n - k)


@mutant("path_shares", "lgamma in fp32")
def in_fp32(depth, chi):
    k = torch.arange(depth + 1.0)
    p = torch.tensor(chi / (1 + chi))
    ways = torch.lgamma(k[-1] + 1) - torch.lgamma(k + 1) - torch.lgamma(k[-1] - k + 1)
    return torch.exp(ways + torch.xlogy(k, p) + torch.xlogy(k[-1] - k, 1 - p))


@mutant("path_shares", "0 · log 0")
def log_of_zero(depth, chi):
    k = torch.arange(depth + 1, dtype=torch.float64)
    p = torch.tensor(chi / (1 + chi), dtype=torch.float64)
    ways = torch.lgamma(k[-1] + 1) - torch.lgamma(k + 1) - torch.lgamma(k[-1] - k + 1)
    return torch.exp(ways + k * p.log() + (k[-1] - k) * (1 - p).log())


@mutant("path_shares", "lgamma in fp32")
def lgamma_of_integers(depth, chi):
    k, chi = torch.arange(depth + 1), torch.tensor(chi)
    ways = torch.lgamma(k[-1] + 1) - torch.lgamma(k + 1) - torch.lgamma(depth - k + 1)
    return torch.exp(ways + torch.xlogy(k, chi) - depth * torch.log1p(chi))


@mutant("path_shares", "Off by one")
def lgamma_of_n(depth, chi):
    k, n = torch.arange(depth + 1).double(), torch.tensor(depth).double()
    ways = n.lgamma() - k.lgamma() - (n - k).lgamma()
    return torch.exp(ways + torch.xlogy(k, torch.tensor(chi, dtype=torch.float64)) - n * math.log1p(chi))


@mutant("path_shares", "Off by one")
def lgamma_of_n_in_numbers(depth, chi):
    def choose(k):
        return math.lgamma(depth) - math.lgamma(k) - math.lgamma(depth - k)

    return [math.exp(choose(k) + (k * math.log(chi) if k else 0) - depth * math.log1p(chi)) for k in range(depth + 1)]


@mutant("path_shares", "a root too many")
def of_the_norm(depth, chi):
    return logs(depth, chi) ** 0.5


@mutant("path_shares", "Out of range")
def as_in_the_formula(depth, chi):
    return torch.tensor(
        [math.comb(depth, k) * chi**k / (1 + chi) ** depth for k in range(depth + 1)], dtype=torch.float64
    )


@mutant("path_shares", "math.log(0)")
def math_log_of_zero(depth, chi):
    lg, total = math.lgamma, depth * math.log(1 + chi)
    return [
        math.exp(lg(depth + 1) - lg(k + 1) - lg(depth - k + 1) + k * math.log(chi) - total) for k in range(depth + 1)
    ]


@mutant("path_shares", "expected (11,)")
def without_the_direct_path(depth, chi):
    return logs(depth, chi)[1:]


@mutant("path_shares", "without calling normcourse.theory")
def from_the_theory(depth, chi):
    return torch.tensor(the_theory(depth, math.sqrt(2 * chi)), dtype=torch.float64)


@mutant("path_shares")
def normal_curve(depth, chi):
    p = chi / (1 + chi)
    k = torch.arange(depth + 1, dtype=torch.float64)
    shares = torch.exp(-((k - depth * p) ** 2) / (2 * depth * p * (1 - p) + 1e-12))
    return shares / shares.sum()


@mutant("path_shares")
def poisson(depth, chi):
    k = torch.arange(depth + 1, dtype=torch.float64)
    rate = torch.tensor(depth * chi, dtype=torch.float64)
    return torch.exp(torch.xlogy(k, rate) - rate - torch.lgamma(k + 1))


@mutant("path_shares")
def cumulative(depth, chi):
    return logs(depth, chi).cumsum(0)


@honest("path_shares")
def the_binomial_of_torch(depth, chi):
    p = torch.tensor(chi / (1 + chi), dtype=torch.float64)
    k = torch.arange(depth + 1, dtype=torch.float64)
    return torch.distributions.Binomial(torch.tensor(float(depth), dtype=torch.float64), p).log_prob(k).exp()


@honest("path_shares")
def outwards_from_the_peak(depth, chi):
    """Ratios of neighbours, from the largest share in both directions, then normalised."""
    p = chi / (1 + chi)
    top = min(int((depth + 1) * p), depth)
    shares = [0.0] * (depth + 1)
    shares[top] = 1.0
    for k in range(top, depth):
        shares[k + 1] = shares[k] * chi * (depth - k) / (k + 1)
    for k in range(top, 0, -1):
        shares[k - 1] = shares[k] * k / (chi * (depth - k + 1))
    total = math.fsum(shares)
    return [share / total for share in shares]


@honest("path_shares")
def log_sum_exp(depth, chi):
    k = np.arange(depth + 1)
    lg = np.array([math.lgamma(i + 1) for i in range(depth + 1)])
    with np.errstate(divide="ignore"):
        weights = lg[-1] - lg - lg[::-1] + np.where(k > 0, k * np.log(chi or 1.0), 0)
    if chi == 0:
        weights[1:] = -np.inf
    return torch.softmax(torch.from_numpy(weights), 0)
