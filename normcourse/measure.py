"""Probes: what a network does to its activations and gradients, as tidy DataFrames (one row per measured number).

They work on the models of `models` (anything with `embed`, `stream`, `final_norm` and `random_inputs`). Layer 0 is the
input, layer l the output of block l. Keyword `labels` become columns, so that frames of several runs can be
concatenated: `gradient_norms(model, placement="pre_norm", seed=3)`.
"""

import contextlib
import copy
import itertools

import torch
import torch.nn.functional as F
import torch.overrides

from .norms import BatchNorm
from .residual import HyperConnection, PostNorm


def gradient_norms(model, inputs=None, *, loss=None, skips_only=False, batch_size=16, seed=0, **labels):
    """Gradient norms layer by layer, read from `.grad` after one real backward pass; parameters end without a `.grad`.

    Args:
        model: see above.
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


def amplification(model, step="random", *, size=1e-4, inputs=None, batch_size=16, seed=0, **labels):
    """How much a small step of the branches' weights changes the output: Liu et al., "Understanding the Difficulty of
    Training Transformers" (2020), section 4.

    Args:
        step: "random": Gaussian, ‖ΔW‖ = size · ‖W‖ for each matrix. "adam": one real step of Adam on a random linear
            function of the output, with learning rate size · rms(W), so that ‖ΔW‖ is the same.
        size: of the step; small, so that the output changes in proportion.
        inputs, batch_size, seed, labels: as in `gradient_norms`.

    Returns: one row, columns `depth`, `amplification` (‖ΔF‖² / (‖F‖² size²), F the output after the final norm),
        `seed` and the labels.
    """
    if step not in ("random", "adam"):
        raise ValueError(f"unknown step {step!r}; known are random, adam")
    generator = _generator(seed)
    inputs = model.random_inputs(batch_size, generator) if inputs is None else inputs
    matrices = [p for block in model.blocks for p in block.sublayer.parameters() if p.dim() > 1]
    before = [matrix.detach().clone() for matrix in matrices]
    with torch.set_grad_enabled(step == "adam"):
        output = model.final_norm(model.stream(model.embed(inputs))[-1])
    if step == "adam":
        direction = torch.randn(output.shape, generator=generator)
        gradients = torch.autograd.grad((output * direction).sum(), matrices)
    with torch.no_grad():
        try:
            for i, matrix in enumerate(matrices):
                if step == "random":
                    noise = torch.randn(matrix.shape, generator=generator)
                    matrix += size * matrix.norm() / noise.norm() * noise
                else:
                    matrix += _adam_step(gradients[i], size * float(matrix.square().mean().sqrt()))
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


def wiring(block, x):
    """What happens inside one placement, found by running it: the sublayer and norms as wholes, all else by operation.

    Args: block: a `residual.Placement`. x: its input (..., hidden_size).
    Returns: columns `step` (0 is x), `operation` ("x", "f", "norm", "+", "× 1.5" …), `inputs` (steps it reads, a tuple)
        and `variance` of its output's entries; the last row is the block's output.
    """
    recorder = _Recorder(block, x)
    with torch.no_grad(), recorder:
        block(x)
    return _frame(dict(zip(("step", "operation", "inputs", "variance"), zip(*recorder.rows))))


class _Recorder(torch.overrides.TorchFunctionMode):
    """Writes down every operation on tensors that come from x; inside the sublayer and the norms it looks away."""

    NAMES = {"add": "+", "mul": "×", "truediv": "÷", "div": "÷"}

    def __init__(self, block, x):
        super().__init__()
        self.rows, self.tensors, self.inside = [], [], 0
        self.known = {id(p): name for name, p in block.named_parameters()}
        self.hooks = []
        parts = {block.sublayer: "f"} | {m: "norm" for n, m in block.named_children() if n.startswith("norm")}
        for part, name in parts.items():
            self.hooks.append(part.register_forward_pre_hook(self._enter))
            self.hooks.append(part.register_forward_hook(lambda m, args, out, name=name: self._leave(name, args, out)))
        self._write("x", (), x)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name = getattr(function, "__name__", "").strip("_")
        steps = self._steps(args)
        if not self.inside and isinstance(out, torch.Tensor) and steps:
            others = [
                self.known.get(id(a)) or f"{a:.3g}" for a in args if isinstance(a, (int, float)) or id(a) in self.known
            ]
            self._write(" ".join([self.NAMES.get(name, name), *others]), steps, out)
        return out

    def __exit__(self, *exception):
        for hook in self.hooks:
            hook.remove()
        return super().__exit__(*exception)

    def _enter(self, module, args):
        self.inside += 1

    def _leave(self, name, args, out):
        self.inside -= 1
        self._write(name, self._steps(args), out)

    def _steps(self, args):
        return tuple(i for a in args for i, tensor in enumerate(self.tensors) if a is tensor)

    def _write(self, operation, steps, out):
        self.inside += 1  # the variance is ours, not the block's
        self.rows.append((len(self.rows), operation, steps, float(out.detach().var(unbiased=False))))
        self.inside -= 1
        self.tensors.append(out)


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


class Merged(torch.nn.Module):
    """Two residual branches made one of twice the width: both read the same x, and their outputs are added.

    For x + f(norm(x)) that is x + f₁(norm₁(x)) + f₂(norm₂(x)), for Post-Norm norm₂(x + f₁(x) + f₂(x)).
    Raises: ValueError for wirings where this has no meaning.
    """

    def __init__(self, first, second):
        super().__init__()
        if not (isinstance(first, PostNorm) or first.formula.startswith("x + ")):
            raise ValueError(f"layers wired as {first.formula} cannot be merged; those of x + … and norm(x + f(x)) can")
        self.first, self.second = first, second

    def forward(self, x):
        if isinstance(self.first, PostNorm):
            return self.second.norm(x + self.first.branch(x) + self.second.branch(x))
        return self.first(x) + self.second(x) - x


@contextlib.contextmanager
def merged_from(model, start=1, *, branches=1):
    """The model with its layers from `start` on (1 … L) merged two by two into layers of twice the width; as a context.

    Args: branches: blocks per layer, 2 for a Transformer. An odd layer at the end stays as it is.
    """
    layers = _layers(model, branches)
    if not 1 <= start <= len(layers):
        raise ValueError(f"start is {start}; expected a layer, 1 … {len(layers)}")
    alone, rest = layers[: start - 1], layers[start - 1 :]
    pairs = [_merge(*rest[i : i + 2]) for i in range(0, len(rest), 2)]
    with _rewired(model, alone + pairs):
        yield model


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


def layer_drops(model, loss, *, branches=1, **labels):
    """What each layer is worth to a trained model: the loss with that layer replaced by the identity.

    Args: model: any model with `blocks`. loss: function of the model giving a number. branches: blocks per layer, 2 for
        a Transformer.
    Returns: columns `layer` (the layer left out, 1 … L; 0 for the whole model), `loss` and the labels.
    """
    layers = _layers(model, branches)
    return _losses(model, loss, [layers[:i] + layers[i + 1 :] for i in range(len(layers))], labels)


def layer_swaps(model, loss, *, branches=1, **labels):
    """How much the order of the layers matters: the loss with layers l and l + 1 exchanged.

    Arguments and columns as in `layer_drops`; `layer` is the l of the pair, 1 … L − 1.
    """
    layers = _layers(model, branches)
    swapped = [[*layers[:i], layers[i + 1], layers[i], *layers[i + 2 :]] for i in range(len(layers) - 1)]
    return _losses(model, loss, swapped, labels)


def layer_merges(model, loss, *, branches=1, **labels):
    """How deep the model really is: the loss with layers l and l + 1 merged into one of twice the width, see `Merged`.

    Arguments and columns as in `layer_swaps`.
    """
    layers = _layers(model, branches)
    merged = [[*layers[:i], _merge(*layers[i : i + 2]), *layers[i + 2 :]] for i in range(len(layers) - 1)]
    return _losses(model, loss, merged, labels)


def readouts(model, inputs, targets, *, normalised=True, branches=1, **labels):
    """The model's own head applied to the hidden state after every layer, as if the model ended there.

    With `normalised` the final norm stands in front of the head, as it does at the end; without, the head reads the
    bare state. Known as the logit lens (nostalgebraist 2020).

    Args: model: with a `head`, from hidden states to logits. inputs, targets: a batch, as for `train`. branches: as in
        `layer_drops`.
    Returns: columns `layer` (0 … L), `loss` (nats per target), `rms` (root mean square of the logits), and the labels.
    """
    if not hasattr(model, "head"):
        raise ValueError(f"{type(model).__name__} has no head that turns hidden states into logits")
    _layers(model, branches)
    with torch.no_grad():
        states = model.stream(model.embed(inputs))[::branches]
        logits = [model.head(model.final_norm(state) if normalised else state) for state in states]
        losses = [float(F.cross_entropy(y.flatten(0, -2), targets.flatten())) for y in logits]
        sizes = [float(y.square().mean().sqrt()) for y in logits]
    return _frame({"layer": range(len(states)), "loss": losses, "rms": sizes}, **labels)


def _states(model, inputs, batch_size, seed):
    if any(isinstance(block, HyperConnection) for block in model.blocks):
        raise ValueError("the model has hyper-connections: its hidden states are several streams, not one")
    inputs = model.random_inputs(batch_size, _generator(seed)) if inputs is None else inputs
    with torch.no_grad():
        return model.stream(model.embed(inputs))


def _layers(model, branches):
    """The blocks in groups of `branches`."""
    blocks = list(model.blocks)
    if branches < 1 or len(blocks) % branches:
        raise ValueError(f"branches is {branches}, but {len(blocks)} blocks cannot be cut into layers of that many")
    return [blocks[i : i + branches] for i in range(0, len(blocks), branches)]


def _merge(first, second=None):
    return first if second is None else [Merged(a, b) for a, b in zip(first, second)]


@contextlib.contextmanager
def _rewired(model, layers):
    """The model with other layers in place of its own, for as long as the context lasts."""
    blocks = model.blocks
    model.blocks = torch.nn.ModuleList(block for layer in layers for block in layer)
    try:
        yield
    finally:
        model.blocks = blocks


def _losses(model, loss, variants, labels):
    with torch.no_grad():
        losses = [float(loss(model))]
        for layers in variants:
            with _rewired(model, layers):
                losses.append(float(loss(model)))
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
