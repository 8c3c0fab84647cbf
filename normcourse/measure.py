"""Probes: what a network does to its activations and gradients, as tidy DataFrames (one row per measured number).

They work on the models of `models` (anything with `embed`, `stream`, `final_norm` and `random_inputs`). Layer 0 is the
input, layer l the output of block l. Keyword `labels` become columns, so that frames of several runs can be
concatenated: `gradient_norms(model, placement="pre_norm", seed=3)`.
"""

import copy

import torch

from .norms import BatchNorm
from .residual import HyperConnection


def gradient_norms(model, inputs=None, *, loss=None, batch_size=16, seed=0, **labels):
    """Gradient norms layer by layer, read from `.grad` after one real backward pass; parameters end without a `.grad`.

    Args:
        model: see above.
        inputs: what the model takes; random ones of `batch_size` rows by default.
        loss: function of the last hidden state (after the final norm, if there is one) giving a number. By default a
            random direction of unit length is sent back from there: without a final norm 1 is what leaves the last
            layer, and every norm is the fraction that is left of it.
        seed: of the random inputs and direction; also a column.

    Returns: columns `layer` (0 … L), `gradient_norm` (of the loss with respect to the hidden state),
        `weight_gradient_norm` (with respect to the block's parameters, nan for layer 0), `seed`, and the labels.
    """
    generator = _generator(seed)
    inputs = model.random_inputs(batch_size, generator) if inputs is None else inputs
    parameters = [list(block.parameters()) for block in model.blocks]
    everything = list(model.parameters())
    _clear(everything)
    states = model.stream(model.embed(inputs).detach().requires_grad_())
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
    """The gradient of a residual stack taken apart by path length, as in Veit et al. (2016), section 4.

    Every block offers two ways back, the skip or the branch, so the gradient at the input is a sum over 2^L paths.
    All paths through exactly k branches are summed exactly: with v_k for the part that has met k branches,
    v_k ← v_k + Jᵀ v_{k−1} from the last block to the first.

    Args: model: a stack of "residual" placements. inputs, batch_size, seed, labels: as in `gradient_norms`.
    Returns: columns `path_length` (0 … L), `gradient_norm`, `seed` and the labels; the gradient that arrives is the
        sum of the vectors behind the rows, which are nearly at right angles to each other.
    """
    if any(block.formula != "x + f(x)" for block in model.blocks):
        raise ValueError(f"the model is wired as {model.blocks[0].formula}; paths are those of x + f(x)")
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


def layer_drops(model, loss, **labels):
    """What each block is worth to a trained model: the loss with that block replaced by the identity.

    Args: model: any model with `blocks`. loss: function of the model giving a number.
    Returns: columns `layer` (the block left out, 1 … L; 0 for the whole model), `loss` and the labels.
    """
    blocks, losses = model.blocks, []
    with torch.no_grad():
        losses.append(float(loss(model)))
        try:
            for left_out in range(len(blocks)):
                model.blocks = torch.nn.ModuleList([b for i, b in enumerate(blocks) if i != left_out])
                losses.append(float(loss(model)))
        finally:
            model.blocks = blocks
    return _frame({"layer": range(len(losses)), "loss": losses}, **labels)


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
