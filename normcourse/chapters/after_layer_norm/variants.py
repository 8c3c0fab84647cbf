"""What chapter 12 looks at and `residual` and `norms` do not have: newer wirings, QK-norm, and DyT with another α.

The wirings are not registered, so that the explorers of other chapters stay as they are; `WIRINGS` has them all.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import nn

from ...models import Attention
from ...norms import DyT, LayerNorm, rms_norm
from ...registry import GREEN, ORANGE, PURPLE, VERMILLION, Look
from ...residual import PLACEMENTS, Placement, PostNorm, PreNorm
from ...theory import law
from ...theory.laws import LAWS, Step


class MixLN(Placement):
    """Post-Norm in the first quarter of the layers, Pre-Norm in the others. Li, Yin & Liu, "Mix-LN" (2024), section 3.

    Args: share: that of the layers with Post-Norm, rounded down. Otherwise as `Placement`.
    """

    name, title, look = "mix_ln", ("Mix-LN", "Mix-LN"), Look(VERMILLION, "d", "-.")
    formula = "norm(x + f(x)), then x + f(norm(x))"
    final_norm = True
    reads_normalised = True

    def __init__(self, hidden_size, *args, share=0.25, **kwargs):
        super().__init__(hidden_size, *args, **kwargs)
        self.post = self.index // self.branches < math.floor(share * self.depth / self.branches)

    def forward(self, x):
        return self.norm(x + self.branch(x)) if self.post else x + self.branch(self.norm(x))


class Keel(Placement):
    """Post-Norm whose skip weighs as much as there are branches, with a norm in front of the branch as well.

    Chen & Wei, "Post-LayerNorm Is Back" (2026): Keel, with its α = L, L counted in branches.
    """

    name, title, look = "keel", ("Keel", "Keel"), Look(ORANGE, "8", "-.")
    formula = "norm(L·x + f(norm(x)))"
    reads_normalised = True

    def __init__(self, hidden_size, *args, **kwargs):
        super().__init__(hidden_size, *args, **kwargs)
        self.norm_out = self.new_norm(hidden_size)

    def forward(self, x):
        return self.norm_out(self.depth * x + self.branch(self.norm(x)))


class NGPT(Placement):
    """A step on the sphere, from x towards f(x). Loshchilov et al., "nGPT" (2024), equations 10 and 11.

    The sphere has the radius √d here, so that entries have the variance 1, as behind every norm of the course. α, one
    per feature, starts at 0.05 and is stored as α / (0.05 √d), as in the paper's section 2.5. What the paper also
    keeps on spheres, all matrices and the queries and keys, is left as it is: this is its wiring alone.
    """

    name, title, look = "ngpt", ("nGPT 的接法", "nGPT's wiring"), Look(GREEN, "H", "-.")
    formula = "⌈x + α ⊙ (⌈f(x)⌉ − x)⌉, ⌈x⌉ = √d·x/‖x‖"
    uses_norm = False
    START = 0.05

    def __init__(self, hidden_size, *args, **kwargs):
        super().__init__(hidden_size, *args, **kwargs)
        self.stored = nn.Parameter(torch.full((hidden_size,), hidden_size**-0.5))

    @property
    def alpha(self):
        return self.stored * self.START * self.hidden_size**0.5

    def to_sphere(self, x):
        return F.normalize(x, dim=-1) * self.hidden_size**0.5

    def forward(self, x):
        return self.to_sphere(x + self.alpha * (self.to_sphere(self.branch(x)) - x))


class MHC(Placement):
    """Hyper-connections whose weights cannot amplify: the streams are mixed by a doubly stochastic matrix.

    Xie et al., "mHC: Manifold-Constrained Hyper-Connections" (2025), equations 7 to 9: with x̃ = rms_norm(vec(H)),
    pre = σ(a x̃φ + b), post = 2 σ(a x̃φ + b), mix = Sinkhorn(exp(a x̃φ + b)) after 20 rounds, a = 0.01 at the start.

    The paper does not say where b starts. Here every branch at first reads 85 % of one stream and 5 % of each other,
    writes 1 to all of them, and the mixing is nearly the identity: with equal streams that is Pre-Norm n times over.
    """

    name, title, look = "mhc", ("流形约束超连接", "mHC"), Look(PURPLE, "+", "--")
    formula = "post·f(norm(pre·H)) + mix·H"
    one_stream = False
    final_norm = True
    reads_normalised = True
    ROUNDS = 20

    def __init__(self, hidden_size, *args, streams=4, **kwargs):
        super().__init__(hidden_size, *args, **kwargs)
        self.streams = n = streams
        read = torch.full((n,), 0.05)
        read[self.index % n] = 1 - 0.05 * (n - 1)
        self.pre_bias, self.post_bias = nn.Parameter(torch.logit(read)), nn.Parameter(torch.zeros(n))
        self.mix_bias = nn.Parameter(-4.0 * (1 - torch.eye(n)))
        self.phi = nn.Parameter(torch.zeros(n * hidden_size, 2 * n + n * n))
        self.scales = nn.Parameter(torch.full((3,), 0.01))

    def weights(self, streams):
        """pre (..., n), post (..., n) and mix (..., n, n) for the streams (..., n, hidden_size)."""
        n = self.streams
        moved = rms_norm(streams.flatten(-2)) @ self.phi
        pre, post, mix = moved.split([n, n, n * n], dim=-1)
        pre, post, mix = (a * part for a, part in zip(self.scales, (pre, post, mix)))
        mix = sinkhorn(mix.unflatten(-1, (n, n)) + self.mix_bias, self.ROUNDS)
        return torch.sigmoid(pre + self.pre_bias), 2 * torch.sigmoid(post + self.post_bias), mix

    def forward(self, x):
        streams = x.unsqueeze(-2).expand(*x.shape[:-1], self.streams, -1) if self.index == 0 else x
        pre, post, mix = self.weights(streams)
        y = self.branch(self.norm((pre.unsqueeze(-2) @ streams).squeeze(-2)))
        streams = post.unsqueeze(-1) * y.unsqueeze(-2) + mix @ streams
        return streams.sum(-2) if self.index == self.depth - 1 else streams


def sinkhorn(logits, rounds=20):
    """exp(logits), its rows and columns divided by their sums in turn: (..., n, n), in the end doubly stochastic.

    Sinkhorn & Knopp, "Concerning Nonnegative Matrices and Doubly Stochastic Matrices" (1967).
    """
    matrix = (logits - logits.amax((-2, -1), keepdim=True)).exp()
    for _ in range(rounds):
        matrix = matrix / matrix.sum(-1, keepdim=True)
        matrix = matrix / matrix.sum(-2, keepdim=True)
    return matrix


@law(MixLN)
def mix_ln(q, branch, norm, layer, depth):
    return LAWS[PostNorm if layer <= math.floor(0.25 * depth) else PreNorm](q, branch, norm, layer, depth)


@law(Keel)
def keel(q, branch, norm, layer, depth):
    reads = norm(q)
    value, slope = branch(reads)
    total = depth**2 * q + value
    after = norm(total)
    through = after / total
    factor = (depth**2 + slope * reads / q) * through
    return Step(after, factor, reads, value, through, skip=depth * math.sqrt(through))


@law(NGPT)
def ngpt(q, branch, norm, layer, depth):
    a, (value, slope) = NGPT.START, branch(q)
    through = 1 / ((1 - a) ** 2 * q + a**2)
    factor = ((1 - a) ** 2 + a**2 * slope / value) * through
    return Step(1.0, factor, q, value, a**2 / value * through, skip=(1 - a) * math.sqrt(through))


VARIANTS = {cls.name: cls for cls in (MixLN, Keel, NGPT, MHC)}
WIRINGS = PLACEMENTS | VARIANTS


class QKNormAttention(Attention):
    """Attention whose queries and keys are normalised in every head, each with weights of its own.

    Dehghani et al., "Scaling Vision Transformers to 22 Billion Parameters" (2023), section 2, without biases; before
    them, with ‖q‖ = 1 and one learned scale, Henry et al., "Query-Key Normalization for Transformers" (2020).
    """

    formula = "softmax(norm(q)·norm(k)/√d)"

    def __init__(self, attention):
        nn.Module.__init__(self)
        self.heads, self.value_path = attention.heads, attention.value_path
        self.query, self.key, self.value, self.out = attention.query, attention.key, attention.value, attention.out
        size = self.query.weight.shape[0] // self.heads
        self.query_norm, self.key_norm = LayerNorm(size, bias=False), LayerNorm(size, bias=False)

    def forward(self, x):
        q, k, v = heads(self, x)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).flatten(2))


def heads(attention, x):
    """Queries, keys and values (batch, heads, sequence, d) as they go into the product."""
    split = (w(x).unflatten(-1, (attention.heads, -1)) for w in (attention.query, attention.key, attention.value))
    q, k, v = (part.transpose(1, 2) for part in split)
    if isinstance(attention, QKNormAttention):
        q, k = attention.query_norm(q), attention.key_norm(k)
    return q, k, v


def with_qk_norm(model):
    """Give every attention of a `models.Transformer` QK-norm, in place; weights stay. Returns the model."""
    for block in model.blocks:
        if isinstance(block.sublayer, Attention):
            block.sublayer = QKNormAttention(block.sublayer)
    return model


@torch.no_grad()
def largest_logit(model, inputs):
    """The largest |q·k|/√d in each attention of a Transformer, a list."""
    found = []

    def look(attention, args):
        q, k, _ = heads(attention, args[0])
        found.append(float((q @ k.transpose(-1, -2)).abs().max()) / q.shape[-1] ** 0.5)

    hooks = [b.sublayer.register_forward_pre_hook(look) for b in model.blocks if isinstance(b.sublayer, Attention)]
    try:
        model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def dyt(alpha):
    """DyT whose α starts there, as a norm to give to a model."""
    return functools.partial(DyT, alpha=alpha)
