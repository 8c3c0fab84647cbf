"""How a residual branch f, a norm and a skip connection are wired: one class per wiring, all with one signature.

A stack is a chain of placements. `depth` and `index` count residual branches: a Transformer layer has two (attention
and feed-forward), a layer of `models.deep_mlp` has one.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .norms import NORMS, LayerNorm
from .registry import (
    BLUE,
    BROWN,
    GREEN,
    GREY,
    MINT,
    ORANGE,
    PURPLE,
    SAND,
    SKY,
    SLATE,
    VERMILLION,
    VIOLET,
    Look,
    Registry,
)

PLACEMENTS = Registry("placement")


class Placement(nn.Module):
    """One residual branch with its norm and skip; subclasses write the formula in `forward`.

    Args:
        hidden_size: size of the last dimension of x.
        sublayer: module f, from (..., hidden_size) to the same shape.
        norm: a key of `NORMS` or anything that makes a module from hidden_size. Wirings whose formula has no norm
            (`uses_norm` is False) do not build one.
        dropout: probability of zeroing an element of f's output.
        depth: number of residual branches in the whole stack.
        index: position of this one, 0 … depth − 1.
        branches: residual branches per layer, for the formulas that papers state in layers.
        generator: source of random numbers for the wiring's own parameters.

    Raises: ValueError where one of them is out of range, or f or x does not fit hidden_size.
    """

    formula = ""  # for display; what a program needs to know stands in the next four
    uses_norm = True
    final_norm = False  # a stack of these ends in a norm: the stream itself is never normalised
    additive = False  # x + …: what comes in goes out unchanged, with something added
    reads_normalised = False  # the branch reads a state that a norm has given its variance
    one_stream = True  # the state between two blocks is one hidden state, (..., hidden_size)

    def __init__(
        self, hidden_size, sublayer, norm=LayerNorm, dropout=0.0, depth=1, index=0, *, branches=1, generator=None
    ):
        super().__init__()
        if depth < 1 or not 0 <= index < depth:
            raise ValueError(f"depth is {depth} and index is {index}; expected depth >= 1 and 0 <= index < depth")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}; it is a probability, 0 <= dropout < 1")
        self.hidden_size, self.depth, self.index, self.branches = hidden_size, depth, index, branches
        self.new_norm = NORMS.find(norm)
        self.sublayer, self.dropout = sublayer, dropout
        if self.uses_norm:
            self.norm = self.new_norm(hidden_size)

    @property
    def branch_gain(self):
        """Factor that the wiring asks of the initial weights of its branch."""
        return 1.0

    def branch(self, x):
        """dropout(f(x)), with f's shape checked: a branch that broadcasts would be added without a word."""
        y = self.sublayer(x)
        if y.shape != x.shape:
            raise ValueError(
                f"the sublayer turned {tuple(x.shape)} into {tuple(y.shape)}; to be added to x it must keep the shape"
            )
        return F.dropout(y, self.dropout, self.training) if self.dropout else y

    def __call__(self, x):
        if x.dim() == 0 or x.shape[-1] != self.hidden_size:
            name = type(self).__name__
            raise ValueError(f"x has shape {tuple(x.shape)}, but this {name} has hidden_size {self.hidden_size}")
        return super().__call__(x)

    def extra_repr(self):
        return f"{self.formula}, index={self.index}, depth={self.depth}"


@PLACEMENTS.register
class Plain(Placement):
    """No skip at all: what deep networks were before 2015."""

    name, title, look = "plain", ("普通", "plain"), Look(VERMILLION, "o")
    formula = "f(x)"
    uses_norm = False

    def forward(self, x):
        return self.branch(x)


@PLACEMENTS.register
class Residual(Placement):
    """He et al., "Identity Mappings in Deep Residual Networks" (2016), equation 3, without any norm."""

    name, title, look = "residual", ("残差", "residual"), Look(GREEN, "s")
    formula = "x + f(x)"
    uses_norm = False
    additive = True

    def forward(self, x):
        return x + self.branch(x)


@PLACEMENTS.register
class Highway(Placement):
    """A learned gate T = sigmoid(W x + b) chooses between f(x) and x; b starts at −2, so the gate starts mostly shut.

    Srivastava, Greff & Schmidhuber, "Highway Networks" (2015), equation 3 and section 2.2.
    """

    name, title, look = "highway", ("高速", "highway"), Look(PURPLE, "^")
    formula = "T(x)·f(x) + (1 − T(x))·x"
    uses_norm = False

    def __init__(self, hidden_size, *args, generator=None, **kwargs):
        super().__init__(hidden_size, *args, generator=generator, **kwargs)
        self.gate_weight = nn.Parameter(torch.randn(hidden_size, hidden_size, generator=generator) / hidden_size**0.5)
        self.gate_bias = nn.Parameter(torch.full((hidden_size,), -2.0))

    def forward(self, x):
        gate = torch.sigmoid(F.linear(x, self.gate_weight, self.gate_bias))
        return gate * self.branch(x) + (1 - gate) * x


@PLACEMENTS.register
class PostNorm(Placement):
    """The wiring of the first Transformer and of BERT. Vaswani et al., "Attention Is All You Need" (2017), 3.1."""

    name, title, look = "post_norm", ("后置归一化", "Post-Norm"), Look(ORANGE, "D")
    formula = "norm(x + f(x))"
    reads_normalised = True

    def forward(self, x):
        return self.norm(x + self.branch(x))


@PLACEMENTS.register
class PreNorm(Placement):
    """The wiring of GPT-2 and most models since.

    Xiong et al., "On Layer Normalization in the Transformer Architecture" (2020).
    """

    name, title, look = "pre_norm", ("前置归一化", "Pre-Norm"), Look(BLUE, "v")
    formula = "x + f(norm(x))"
    final_norm = True
    additive = True
    reads_normalised = True

    def forward(self, x):
        return x + self.branch(self.norm(x))


@PLACEMENTS.register
class ResPostNorm(Placement):
    """The branch is normalised on its way out. Liu et al., "Swin Transformer V2" (2022), section 3.2."""

    name, title, look = "res_post_norm", ("残差后归一化", "Res-Post-Norm"), Look(SKY, "P", "--")
    formula = "x + norm(f(x))"
    final_norm = True
    additive = True

    def forward(self, x):
        return x + self.norm(self.branch(x))


@PLACEMENTS.register
class PeriNorm(Placement):
    """A norm on both sides of the branch, as in Gemma 2. Kim et al., "Peri-LN" (2025), section 3.

    The norm on the embedding that the paper has as an option is left out.
    """

    name, title, look = "peri_norm", ("双侧归一化", "Peri-Norm"), Look(VIOLET, "X")
    formula = "x + norm(f(norm(x)))"
    final_norm = True
    additive = True
    reads_normalised = True

    def __init__(self, hidden_size, *args, **kwargs):
        super().__init__(hidden_size, *args, **kwargs)
        self.norm_out = self.new_norm(hidden_size)

    def forward(self, x):
        return x + self.norm_out(self.branch(self.norm(x)))


@PLACEMENTS.register
class DeepNorm(Placement):
    """Post-Norm with a weighted skip: α = (2N)^¼, and the branch's weights start smaller by β = (8N)^−¼.

    N layers of two branches make 2N = `depth` branches, which is how the constants are counted here.
    Wang et al., "DeepNet: Scaling Transformers to 1,000 Layers" (2022), figure 2 (encoder-only or decoder-only).
    """

    name, title, look = "deep_norm", ("DeepNorm", "DeepNorm"), Look(BROWN, "p", "--")
    formula = "norm(α·x + f(x))"
    reads_normalised = True

    @staticmethod
    def constants(depth):
        """α and β of a stack of `depth` branches."""
        return depth**0.25, (4 * depth) ** -0.25

    @property
    def alpha(self):
        return self.constants(self.depth)[0]

    @property
    def branch_gain(self):
        return self.constants(self.depth)[1]

    def forward(self, x):
        return self.norm(self.alpha * x + self.branch(x))


@PLACEMENTS.register
class ReZero(Placement):
    """One learned number per branch, starting at 0. Bachlechner et al., "ReZero is All You Need" (2020)."""

    name, title, look = "rezero", ("ReZero", "ReZero"), Look(MINT, "<", "--")
    formula = "x + α·f(x)"
    uses_norm = False
    additive = True

    def __init__(self, hidden_size, *args, **kwargs):
        super().__init__(hidden_size, *args, **kwargs)
        self.alpha = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x + self.alpha * self.branch(x)


@PLACEMENTS.register
class LayerScale(Placement):
    """Pre-Norm with one learned factor per feature: 0.1 up to 18 layers, 1e-5 up to 24, 1e-6 beyond.

    Touvron et al., "Going Deeper with Image Transformers" (2021), equation 4 and section 2.
    """

    name, title, look = "layer_scale", ("LayerScale", "LayerScale"), Look(SAND, ">", "--")
    formula = "x + λ ⊙ f(norm(x))"
    final_norm = True
    additive = True
    reads_normalised = True

    def __init__(self, hidden_size, *args, **kwargs):
        super().__init__(hidden_size, *args, **kwargs)
        self.scale = nn.Parameter(torch.full((hidden_size,), self.initial(self.depth / self.branches)))

    @staticmethod
    def initial(layers):
        """λ at the start, in a stack of so many layers."""
        return 0.1 if layers <= 18 else 1e-5 if layers <= 24 else 1e-6

    def forward(self, x):
        return x + self.scale * self.branch(self.norm(x))


@PLACEMENTS.register
class ScaledPreNorm(Placement):
    """Pre-Norm whose norm is divided by √layer, layers counted from 1, so that deep branches add less.

    Sun et al., "The Curse of Depth in Large Language Models" (2025): LayerNorm Scaling.
    """

    name, title, look = "scaled_pre_norm", ("缩放前置归一化", "Scaled Pre-Norm"), Look(SLATE, "h", "--")
    formula = "x + f(norm(x)/√l)"
    final_norm = True
    additive = True
    reads_normalised = True

    def forward(self, x):
        layer = self.index // self.branches + 1
        return x + self.branch(self.norm(x) / layer**0.5)


@PLACEMENTS.register
class HyperConnection(Placement):
    """n copies of the stream; each branch reads a mixture of them, and they are mixed among themselves.

    The first placement of a stack copies x (..., d) into (..., n, d), the last one sums the copies again. At the
    start every branch reads one copy and writes to all of them, which is Pre-Norm n times over.
    Zhu et al., "Hyper-Connections" (2024), section 2, static and dynamic, with its initialisation of the connections;
    the paper also scales the last matrix of every branch by √n, which is left to the branch here.

    Args: streams: n. dynamic: let the mixing depend on the input. Otherwise as `Placement`.
    """

    name, title, look = "hyper_connection", ("超连接", "hyper-connection"), Look(GREY, "*")
    formula = "B·f(norm(Aₘ·H)) + Aᵣ·H"
    one_stream = False
    final_norm = True
    reads_normalised = True

    def __init__(self, hidden_size, *args, streams=4, dynamic=True, **kwargs):
        super().__init__(hidden_size, *args, **kwargs)
        self.streams = streams
        read = torch.zeros(1, streams)
        read[0, self.index % streams] = 1.0
        self.mix = nn.Parameter(torch.cat([read, torch.eye(streams)]))  # row 0: Aₘ, what the branch reads; rest: Aᵣ
        self.write = nn.Parameter(torch.ones(streams))  # B
        self.dynamic = dynamic
        if dynamic:
            self.dynamic_norm = self.new_norm(hidden_size)
            self.dynamic_mix = nn.Parameter(torch.zeros(hidden_size, streams + 1))
            self.dynamic_write = nn.Parameter(torch.zeros(hidden_size))
            self.mix_scale = nn.Parameter(torch.tensor(0.01))
            self.write_scale = nn.Parameter(torch.tensor(0.01))

    def forward(self, x):
        streams = x.unsqueeze(-2).expand(*x.shape[:-1], self.streams, -1) if self.index == 0 else x
        if streams.dim() < 2 or streams.shape[-2] != self.streams:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; inside a stack HyperConnection expects (..., {self.streams}, "
                f"{self.hidden_size}), as the placement with index 0 makes it"
            )
        mix, write = self.mix, self.write
        if self.dynamic:
            normed = self.dynamic_norm(streams)
            mix = mix + self.mix_scale * torch.tanh(normed @ self.dynamic_mix).transpose(-1, -2)
            write = write + self.write_scale * torch.tanh(normed @ self.dynamic_write)
        mixed = mix @ streams
        y = self.branch(self.norm(mixed[..., 0, :]))
        streams = write.unsqueeze(-1) * y.unsqueeze(-2) + mixed[..., 1:, :]
        return streams.sum(-2) if self.index == self.depth - 1 else streams
