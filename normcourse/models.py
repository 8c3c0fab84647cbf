"""Deep stacks to experiment on: a placement, a norm and a branch, repeated. Nothing else.

Every model has `blocks`, its residual branches in order, which is where `measure` looks.
"""

import contextlib
import threading
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import nn

from .norms import NORMS
from .registry import find
from .residual import PLACEMENTS

one_at_a_time = threading.RLock()  # whoever sets torch's global generator, or puts it back as it was
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "linear": nn.Identity}


@contextlib.contextmanager
def seeded(seed):
    """torch's global generator at this seed inside, and as it was afterwards, for one thread at a time.

    For models of others, which draw their weights from no other generator: an explorer's thread may make one while a
    cell does.
    """
    with one_at_a_time, torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def deep_mlp(depth, width, placement="residual", norm=None, activation="relu", gain=1.0, seed=0, dropout=0.0, bias=0.0):
    """A stack of `depth` branches f(x) = W φ(x) + b, with W drawn from N(0, gain²/width) and b from N(0, bias²).

    With the activation in front of the matrix, f(x) has mean zero whatever φ is, so that the second moments of x
    and f(x) add up in a residual stack, and the plain stack is the network of mean-field theory.

    Args:
        depth: number of branches, >= 1.
        width: hidden size of the input, of every layer and of the output.
        placement: a key of `PLACEMENTS` or such a class.  norm: a key of `NORMS` or such a class;
            by default layer_norm where the placement has a norm.
        activation: a key of `ACTIVATIONS`.
        gain: √2 keeps the second moment of a plain ReLU net, 1 that of a linear one, 1/√3 is what
            `torch.nn.Linear` draws by default.
        bias: standard deviation of the biases; with 0, the default, there are none.
        seed: of the weights; the global random state is neither used nor changed.

    Returns: `DeepMLP`, from (..., width) to (..., width).
    """
    return DeepMLP(depth, width, placement, norm, activation, gain, seed, dropout, bias)


class Stack(nn.Module):
    """What both models share: the chain of placements and the final norm that some wirings need."""

    def assemble(self, sublayers, hidden_size, placement, norm, dropout, branches, generator):
        placement = PLACEMENTS.find(placement)
        norm = NORMS.find(norm or ("layer_norm" if placement.uses_norm else "none"))
        self.hidden_size = hidden_size
        self.blocks = nn.ModuleList(
            placement(
                hidden_size,
                sublayer,
                norm,
                dropout,
                depth=len(sublayers),
                index=index,
                branches=branches,
                generator=generator,
            )
            for index, sublayer in enumerate(sublayers)
        )
        self.final_norm = norm(hidden_size) if placement.final_norm else nn.Identity()

    def stream(self, x):
        """The hidden states: x (..., hidden_size) itself, then the output of every block."""
        states = [x]
        for block in self.blocks:
            states.append(block(states[-1]))
        return states


class DeepMLP(Stack):
    """See `deep_mlp`."""

    def __init__(self, depth, width, placement, norm, activation, gain, seed, dropout=0.0, bias=0.0):
        super().__init__()
        _check_counts(depth=depth, width=width)
        phi = find(activation, ACTIVATIONS, "activation")
        generator = torch.Generator().manual_seed(seed)
        branches = [Branch(width, phi(), gain / width**0.5, bias, generator) for _ in range(depth)]
        self.assemble(branches, width, placement, norm, dropout, 1, generator)
        for block in self.blocks:
            block.sublayer.scale(block.branch_gain)

    def embed(self, x):
        return x

    def forward(self, x):
        return self.final_norm(self.stream(x)[-1])

    def random_inputs(self, batch_size, generator):
        """Standard normal inputs (batch_size, width)."""
        return torch.randn(batch_size, self.hidden_size, generator=generator)


class Transformer(Stack):
    """A decoder-only Transformer: token ids (batch, sequence) to logits (batch, sequence, vocabulary).

    Args:
        vocabulary: number of token ids.  width: hidden size.  heads: attention heads, dividing width.
        depth: number of layers, each an attention and a feed-forward branch of inner size 4 × width.
        placement, norm, activation, dropout: as in `deep_mlp`.
        context: longest sequence.
        gain: of the Xavier-normal weights (Glorot & Bengio 2010), as the first Transformer used them.
        seed: of the weights; the global random state is neither used nor changed.
    """

    def __init__(
        self,
        *,
        vocabulary,
        width,
        heads,
        depth,
        placement="pre_norm",
        norm="layer_norm",
        activation="gelu",
        context=256,
        dropout=0.0,
        gain=1.0,
        seed=0,
    ):
        super().__init__()
        _check_counts(vocabulary=vocabulary, width=width, heads=heads, depth=depth, context=context)
        if width % heads:
            raise ValueError(f"width is {width} and heads is {heads}; width must be a multiple of heads")
        phi = find(activation, ACTIVATIONS, "activation")
        generator = torch.Generator().manual_seed(seed)
        self.vocabulary, self.context = vocabulary, context
        # tokens and positions each have variance 1/2, so that their sum has variance 1
        self.tokens = nn.Parameter(torch.randn(vocabulary, width, generator=generator) * 0.5**0.5)
        self.positions = nn.Parameter(torch.randn(context, width, generator=generator) * 0.5**0.5)
        sublayers = []
        for _ in range(depth):
            sublayers += [Attention(width, heads, gain, generator), FeedForward(width, phi, gain, generator)]
        self.assemble(sublayers, width, placement, norm, dropout, 2, generator)
        for block in self.blocks:
            for matrix in block.sublayer.value_path:
                matrix.scale(block.branch_gain)
        self.head = Linear(width, vocabulary, xavier(width, vocabulary), generator)

    def embed(self, ids):
        if ids.dtype not in (torch.int32, torch.int64) or ids.dim() != 2:
            raise ValueError(
                f"ids is {ids.dtype} of shape {tuple(ids.shape)}; expected int64 token ids (batch, sequence)"
            )
        if ids.shape[1] > self.context:
            raise ValueError(f"the sequence has {ids.shape[1]} tokens, but context is {self.context}")
        return self.tokens[ids] + self.positions[: ids.shape[1]]

    def forward(self, ids):
        return self.head(self.final_norm(self.stream(self.embed(ids))[-1]))

    def random_inputs(self, batch_size, generator):
        """Token ids (batch_size, min(32, context)), uniformly drawn."""
        return torch.randint(self.vocabulary, (batch_size, min(32, self.context)), generator=generator)


class CharacterMLP(Stack):
    """The next character from the `context` characters before it: ids (batch, context) to logits (batch, vocabulary).

    Each character becomes width / context numbers, side by side they enter the stack of `deep_mlp`, and a matrix reads
    the result out. Bengio et al., "A Neural Probabilistic Language Model" (2003), deepened.

    Args: vocabulary: number of token ids.  context: characters seen, dividing width.  The others as in `deep_mlp`.
    """

    def __init__(
        self, vocabulary, depth, placement, *, width=64, context=8, norm=None, activation="relu", gain=1.0, seed=0
    ):
        super().__init__()
        _check_counts(vocabulary=vocabulary, context=context)
        if width % context:
            raise ValueError(f"width is {width} and context is {context}; width must be a multiple of context")
        stack = DeepMLP(depth, width, placement, norm, activation, gain, seed)
        generator = torch.Generator().manual_seed(2**30 + seed)  # not the numbers that made the first weight matrix
        self.vocabulary, self.context, self.hidden_size = vocabulary, context, width
        self.tokens = nn.Parameter(torch.randn(vocabulary, width // context, generator=generator))
        self.blocks, self.final_norm = stack.blocks, stack.final_norm
        self.head = Linear(width, vocabulary, xavier(width, vocabulary), generator)

    def embed(self, ids):
        if ids.dtype not in (torch.int32, torch.int64) or ids.shape[-1] != self.context:
            raise ValueError(
                f"ids is {ids.dtype} of shape {tuple(ids.shape)}; expected int64 ids (batch, {self.context})"
            )
        return self.tokens[ids].flatten(-2)

    def forward(self, ids):
        return self.head(self.final_norm(self.stream(self.embed(ids))[-1]))

    def random_inputs(self, batch_size, generator):
        """Token ids (batch_size, context), uniformly drawn."""
        return torch.randint(self.vocabulary, (batch_size, self.context), generator=generator)


class Attention(nn.Module):
    """Causal multi-head self-attention without biases. Vaswani et al. (2017), section 3.2."""

    def __init__(self, width, heads, gain, generator):
        super().__init__()
        self.heads = heads
        std = gain * xavier(width, width)
        self.query, self.key, self.value, self.out = (Linear(width, width, std, generator) for _ in range(4))
        self.value_path = [self.value, self.out]  # what DeepNorm scales by β

    def forward(self, x):
        q, k, v = (w(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for w in (self.query, self.key, self.value))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """W₂ φ(W₁ x) with inner size 4 × width, without biases. Vaswani et al. (2017), section 3.3."""

    def __init__(self, width, activation, gain, generator):
        super().__init__()
        self.up = Linear(width, 4 * width, gain * xavier(width, 4 * width), generator)
        self.activation = activation()
        self.down = Linear(4 * width, width, gain * xavier(4 * width, width), generator)
        self.value_path = [self.up, self.down]

    def forward(self, x):
        return self.down(self.activation(self.up(x)))


class Linear(nn.Module):
    """W x without a bias, W ~ N(0, std²) drawn from `generator`."""

    def __init__(self, inputs, outputs, std, generator):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, generator=generator).mul_(std))

    def forward(self, x):
        return F.linear(x, self.weight)

    def scale(self, factor):
        with torch.no_grad():
            self.weight.mul_(factor)


class Branch(Linear):
    """W φ(x) + b, see `deep_mlp`."""

    def __init__(self, width, activation, std, bias, generator):
        super().__init__(width, width, std, generator)
        self.activation = activation
        self.bias = nn.Parameter(torch.randn(width, generator=generator) * bias) if bias else None

    def forward(self, x):
        return F.linear(self.activation(x), self.weight, self.bias)


def xavier(inputs, outputs):
    """Standard deviation of Glorot & Bengio (2010), equation 12."""
    return (2 / (inputs + outputs)) ** 0.5


def _check_counts(**counts):
    for name, count in counts.items():
        if not isinstance(count, Integral) or count < 1:
            raise ValueError(f"{name} is {count!r}; expected a whole number >= 1")
