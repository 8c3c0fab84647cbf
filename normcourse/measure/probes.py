"""What a network does to its activations and gradients, layer by layer."""

import copy
import itertools

import torch
import torch.nn.functional as F

from ..norms import BatchNorm
from ..residual import HyperConnection, Residual

STEPS = ("random", "adam", "adam_one_rate")  # of `amplification`


def gradient_norms(model, inputs=None, *, loss=None, skips_only=False, batch_size=16, seed=0, **labels):
    """Gradient norms layer by layer, read from `.grad` after one real backward pass; parameters end without a `.grad`.

    Args:
        model: one of `models`, see `measure`.
        inputs: what the model takes; random ones of `batch_size` rows by default.
        loss: function of the last hidden state (after the final norm, if there is one) giving a number. By default a
            random direction of unit length is sent back from there: without a final norm 1 is what leaves the last
            layer, and every norm is the fraction that is left of it.
        skips_only: let no gradient through the branches: what is left came through skips and norms alone.
        seed: of the random inputs and direction; also a column.

    Returns: columns `layer` (0 … L), `gradient_norm` (of the loss with respect to the hidden state),
        `weight_gradient_norm` (with respect to the branch's parameters, nan for layer 0), `seed`, and the labels.
    """
    generator = _generator(seed)
    inputs = model.random_inputs(batch_size, generator) if inputs is None else inputs
    parameters = [list(block.sublayer.parameters()) for block in model.blocks]
    everything = list(model.parameters())
    _clear(everything)
    cut = [b.sublayer.register_forward_hook(lambda m, i, y: y.detach()) for b in model.blocks if skips_only]
    states = model.stream(model.embed(inputs).detach().requires_grad_())
    for hook in cut:
        hook.remove()
    for state in states[1:]:
        state.retain_grad()
    output = model.final_norm(states[-1])
    if loss is None:
        direction = torch.randn(output.shape, generator=generator, dtype=output.dtype)
        (output * (direction / direction.norm())).sum().backward()
    else:
        loss(output).backward()
    hidden = euclidean_norms([state.grad for state in states]).tolist()
    weights = [float(euclidean_norms([p.grad for p in group if p.grad is not None]).norm()) for group in parameters]
    _clear(everything)
    columns = {"layer": range(len(states)), "gradient_norm": hidden, "weight_gradient_norm": [float("nan"), *weights]}
    return _frame(columns, seed=seed, **labels)


def variances(model, inputs=None, *, batch_size=16, seed=0, **labels):
    """Variance of the hidden state's entries (over batch and features), layer by layer.

    Returns: columns `layer`, `variance`, `seed` and the labels. Arguments as in `gradient_norms`.
    """
    generator = _generator(seed)
    inputs = model.random_inputs(batch_size, generator) if inputs is None else inputs
    with torch.no_grad():
        values = [float(state.var(unbiased=False)) for state in model.stream(model.embed(inputs))]
    return _frame({"layer": range(len(values)), "variance": values}, seed=seed, **labels)


def jacobian_spectrum(model, inputs=None, *, layers=None, seed=0, **labels):
    """Singular values of the Jacobian ∂x_l/∂x_0 of the hidden state with respect to the input, in fp64.

    Args:
        model: a stack like `deep_mlp` whose blocks treat every row for itself (no batch_norm, no hyper_connection).
        inputs: one input (hidden_size,); random by default.
        layers: which l to look at; all by default.

    Returns: columns `layer`, `index` (0 for the largest), `singular_value`, `seed`, the labels, and `resolution`, the
        largest × width × 2.2e-16: singular values below it are rounding error.
    """
    model = copy.deepcopy(model).double()
    for module in model.modules():
        if isinstance(module, (BatchNorm, HyperConnection)):
            raise ValueError(f"the model has a {type(module).__name__}, which does not treat every row for itself")
    state = model.random_inputs(1, _generator(seed))[0].double() if inputs is None else inputs.double()
    if state.shape != (model.hidden_size,):
        raise ValueError(
            f"inputs has shape {tuple(state.shape)}; a Jacobian is taken at one input, ({model.hidden_size},)"
        )
    layers = list(range(len(model.blocks) + 1) if layers is None else layers)
    identity = torch.eye(model.hidden_size, dtype=torch.float64)
    jacobian, jacobians = identity, [identity]
    for block in model.blocks:
        rows = state.expand(len(identity), -1).clone().requires_grad_()
        out = block(rows)
        (of_block,) = torch.autograd.grad(out, rows, identity)  # row i: the gradient of output i
        jacobian, state = of_block @ jacobian, out[0].detach()
        jacobians.append(jacobian)
    spectra = torch.linalg.svdvals(torch.stack([jacobians[layer] for layer in layers]))
    columns = {
        "layer": [layer for layer in layers for _ in range(spectra.shape[1])],
        "index": [*range(spectra.shape[1])] * len(layers),
        "singular_value": spectra.flatten().tolist(),
        "resolution": (spectra[:, :1] * spectra.shape[1] * 2.2e-16).expand_as(spectra).flatten().tolist(),
    }
    return _frame(columns, seed=seed, **labels)


def path_gradients(model, inputs=None, *, batch_size=16, seed=0, **labels):
    """The gradient of a residual stack taken apart by path length, as in Veit et al. (2016), section 5.

    Every block offers two ways back, the skip or the branch, so the gradient at the input is a sum over 2^L paths.
    All paths through exactly k branches are summed exactly: with v_k for the part that has met k branches,
    v_k ← v_k + Jᵀ v_{k−1} from the last block to the first.

    Args: model: a stack of "residual" placements. inputs, batch_size, seed, labels: as in `gradient_norms`.
    Returns: columns `path_length` (0 … L), `gradient_norm`, `seed` and the labels; the gradient that arrives is the
        sum of the vectors behind the rows, which are nearly at right angles to each other.
    """
    if others := [block for block in model.blocks if not isinstance(block, Residual)]:
        raise ValueError(f"the model is wired as {others[0].formula}; paths are those of x + f(x)")
    generator = _generator(seed)
    inputs = model.random_inputs(batch_size, generator) if inputs is None else inputs
    with torch.no_grad():
        states = model.stream(model.embed(inputs))
    direction = torch.randn(states[0].shape, generator=generator)
    parts = torch.zeros(len(states), *direction.shape)
    parts[0] = direction / direction.norm()
    for block, state in zip(reversed(model.blocks), reversed(states[:-1])):
        copies = state.expand(len(parts) - 1, *state.shape).clone().requires_grad_()
        (through,) = torch.autograd.grad(block.branch(copies), copies, parts[:-1])
        parts[1:] += through
    norms = parts.flatten(1).norm(dim=1).tolist()
    return _frame({"path_length": range(len(norms)), "gradient_norm": norms}, seed=seed, **labels)


def amplification(model, step="random", *, size=1e-4, inputs=None, batch_size=16, seed=0, **labels):
    """How much a small step of the branches' weights changes the output: Liu et al., "Understanding the Difficulty of
    Training Transformers" (2020), section 4.

    Args:
        step: "random": Gaussian, ‖ΔW‖ = size · ‖W‖ for each matrix. "adam": one real step of Adam on a random linear
            function of the output, with learning rate size · rms(W), so that ‖ΔW‖ is the same. "adam_one_rate": with
            size / √hidden_size for every matrix of every model, as in training: smaller weights move relatively more.
        size: of the step; small, so that the output changes in proportion.
        inputs, batch_size, seed, labels: as in `gradient_norms`.

    Returns: one row, columns `depth`, `amplification` (‖ΔF‖² / (‖F‖² size²), F the output after the final norm),
        `seed` and the labels.
    """
    if step not in STEPS:
        raise ValueError(f"unknown step {step!r}; known are {', '.join(STEPS)}")
    generator = _generator(seed)
    inputs = model.random_inputs(batch_size, generator) if inputs is None else inputs
    matrices = [p for block in model.blocks for p in block.sublayer.parameters() if p.dim() > 1]
    before = [matrix.detach().clone() for matrix in matrices]
    with torch.set_grad_enabled(step != "random"):
        output = model.final_norm(model.stream(model.embed(inputs))[-1])
    if step != "random":
        direction = torch.randn(output.shape, generator=generator)
        gradients = torch.autograd.grad((output * direction).sum(), matrices)
    with torch.no_grad():
        try:
            for i, matrix in enumerate(matrices):
                if step == "random":
                    noise = torch.randn(matrix.shape, generator=generator)
                    matrix += size * matrix.norm() / noise.norm() * noise
                else:
                    rms = float(matrix.square().mean().sqrt()) if step == "adam" else model.hidden_size**-0.5
                    matrix += _adam_step(gradients[i], size * rms)
            changed = model.final_norm(model.stream(model.embed(inputs))[-1])
        finally:
            for matrix, old in zip(matrices, before):
                matrix.copy_(old)
        value = float((changed - output).square().sum() / output.square().sum()) / size**2
    return _frame({"depth": [len(model.blocks)], "amplification": [value]}, seed=seed, **labels)


def _adam_step(gradient, learning_rate):
    """The first step of torch.optim.Adam."""
    parameter = torch.zeros_like(gradient)
    parameter.grad = gradient
    torch.optim.Adam([parameter], lr=learning_rate).step()
    return parameter


def update_sizes(model, optimiser, loss, **labels):
    """One real step of an optimiser, layer by layer; the model is left as it was.

    Args:
        optimiser: function of the parameters giving an optimiser, e.g. `lambda p: torch.optim.Adam(p, lr=1e-3)`.
        loss: function of the model giving a number.

    Returns: columns `layer` (1 … L), and over the entries of the branch's parameters `gradient` (root mean square) and
        `update` (root mean square of what the step added), and the labels.
    """
    model = copy.deepcopy(model)
    loss(model).backward()
    before = [p.detach().clone() for p in model.parameters()]
    optimiser(model.parameters()).step()
    change = {p: p.detach() - old for p, old in zip(model.parameters(), before)}
    rows = []
    for block in model.blocks:
        parameters = [p for p in block.sublayer.parameters() if p.grad is not None]
        count = sum(p.numel() for p in parameters) ** 0.5
        gradient = float(euclidean_norms([p.grad for p in parameters]).norm()) / count
        rows.append((gradient, float(euclidean_norms([change[p] for p in parameters]).norm()) / count))
    gradients, updates = zip(*rows)
    return _frame({"layer": range(1, len(rows) + 1), "gradient": gradients, "update": updates}, **labels)


def updates(model, inputs=None, *, batch_size=16, seed=0, **labels):
    """How far every block moves and turns the hidden state; means over the rows (tokens) of the inputs.

    Returns: columns `layer` (1 … L), `relative_update` ‖x_l − x_{l−1}‖ / ‖x_{l−1}‖, `cosine` of x_l and x_{l−1},
        `cosine_to_input` of x_l and x_0, `seed` and the labels. Arguments as in `gradient_norms`.
    Raises: ValueError for hyper-connections, whose states are several.
    """
    states = [state.flatten(0, -2).double() for state in _states(model, inputs, batch_size, seed)]
    pairs = list(itertools.pairwise(states))
    columns = {
        "layer": range(1, len(states)),
        "relative_update": [float(((b - a).norm(dim=-1) / a.norm(dim=-1)).mean()) for a, b in pairs],
        "cosine": [float(F.cosine_similarity(a, b, dim=-1).mean()) for a, b in pairs],
        "cosine_to_input": [float(F.cosine_similarity(states[0], b, dim=-1).mean()) for b in states[1:]],
    }
    return _frame(columns, seed=seed, **labels)


def stale_branches(model, inputs=None, *, batch_size=16, seed=0, **labels):
    """How much each branch would miss if it ran beside the one before it: fed with x_{l−2} instead of x_{l−1}.

    Returns: columns `layer` (2 … L), `difference` ‖f_l(new) − f_l(stale)‖ / ‖f_l(new)‖ over all rows, with the norm in
        front of f_l where the wiring has one; `seed` and the labels. Arguments and errors as in `updates`.
    """
    states = _states(model, inputs, batch_size, seed)
    differences = []
    with torch.no_grad():
        for block, stale, new in zip(model.blocks[1:], states, states[1:]):
            outputs = []
            hook = block.sublayer.register_forward_hook(lambda module, args, output, to=outputs: to.append(output))
            try:
                block(new), block(stale)
            finally:
                hook.remove()
            differences.append(float((outputs[0] - outputs[1]).norm() / outputs[0].norm()))
    return _frame({"layer": range(2, len(states)), "difference": differences}, seed=seed, **labels)


def token_cosines(model, inputs=None, *, batch_size=4, seed=0, **labels):
    """How alike the hidden states of different positions are: the mean cosine over all pairs within a sequence.

    Args: model: a `models.Transformer`. inputs, batch_size, seed, labels: as in `gradient_norms`.
    Returns: columns `layer` (0 … L in residual branches), `cosine` (1: all positions alike), `seed` and the labels.
    """
    inputs = model.random_inputs(batch_size, _generator(seed)) if inputs is None else inputs
    cosines = []
    with torch.no_grad():
        for state in model.stream(model.embed(inputs)):
            if state.dim() != 3 or state.shape[1] < 2:
                raise ValueError(
                    f"a hidden state has shape {tuple(state.shape)}; expected (batch, sequence >= 2, hidden_size)"
                )
            unit = torch.nn.functional.normalize(state, dim=-1)
            length = state.shape[1]
            pairs = unit.sum(1).square().sum(-1) - length  # all pairs, each position with itself left out
            cosines.append(float(pairs.mean()) / (length * (length - 1)))
    return _frame({"layer": range(len(cosines)), "cosine": cosines}, seed=seed, **labels)


def _states(model, inputs, batch_size, seed):
    if not all(block.one_stream for block in model.blocks):
        raise ValueError("the model has hyper-connections: its hidden states are several streams, not one")
    inputs = model.random_inputs(batch_size, _generator(seed)) if inputs is None else inputs
    with torch.no_grad():
        return model.stream(model.embed(inputs))


def _generator(seed):
    """Another stream than the weights': from the same seed, the inputs would be the rows of the first weight matrix."""
    return torch.Generator().manual_seed(2**31 + seed)


def euclidean_norms(tensors):
    """Euclidean norms, summed in fp64: in fp32 the squares of a gradient of 1e-23 are already 0."""
    if not tensors:
        return torch.tensor([float("nan")])
    return torch.stack([torch.linalg.vector_norm(t, dtype=torch.float64) for t in tensors])


def _clear(parameters):
    for parameter in parameters:
        parameter.grad = None


def _frame(columns, **labels):
    import pandas

    return pandas.DataFrame({**columns, **labels})
