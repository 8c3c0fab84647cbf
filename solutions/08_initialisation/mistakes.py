"""The mistakes that people make in exercise 08."""

import math

import torch

from normcourse.check import Mistake

MISTAKES = {}

# deep_norm_constants -------------------------------------------------------------------------------------------------


def _constants(
    alone=2,
    beside=3,
    split="even",
    power=1.0,
    crossings=True,
    own=2,
    rounded=False,
    swapped=False,
    root=0.25,
    there=True,
):
    """The constants with mistakes to switch on."""

    def both(count):
        alpha = count**root if split == "even" else count**0.5 if split == "alpha" else 1.0
        beta = {"even": (4 * count) ** -root, "alpha": 0.5**0.5, "beta": (2 * count) ** -0.5, "one": count**-root}[
            split
        ]
        return (beta, alpha) if swapped else (alpha, beta)

    def wrong(encoder, decoder):
        if not decoder:
            return (*both(alone * encoder), 1.0, 1.0)
        if not encoder:
            return (1.0, 1.0, *both((alone if there else beside) * decoder))
        alpha_d, beta_d = both(beside * decoder)
        if rounded:
            size = (encoder**4 * decoder) ** (1 / 16)
            return 0.81 * size, 0.87 / size, alpha_d, beta_d
        if not crossings:
            return (*both(own * encoder), alpha_d, beta_d)
        one, other = (beta_d, alpha_d) if swapped else (alpha_d, beta_d)
        alpha = (own * encoder * (decoder * other**2 / one) ** power) ** 0.25
        beta = 2**-0.5 / alpha
        return (beta, alpha, alpha_d, beta_d) if swapped else (alpha, beta, alpha_d, beta_d)

    return wrong


MISTAKES["deep_norm_constants"] = (
    Mistake(
        _constants(crossings=False),
        "编码器的改变还要经过解码器的交叉注意力：和解码器一起用时，α 和 β 不是单独用时的。",
        "The encoder's change goes through the decoder's cross-attentions: beside a decoder, its α and β are not those of an encoder alone.",
    ),
    Mistake(
        _constants(beside=2),
        "有编码器时，解码器一层有三个分支：自注意力、交叉注意力、前馈。",
        "Beside an encoder, a layer of the decoder has three branches: self-attention, cross-attention and feed-forward.",
    ),
    Mistake(
        _constants(there=False),
        "没有编码器就没有交叉注意力：只有解码器时，一层是两个分支。",
        "Without an encoder there is no cross-attention: a layer of a decoder alone has two branches.",
    ),
    Mistake(
        _constants(alone=1, beside=1, own=1),
        "数的是分支，不是层：一层有两个，带交叉注意力时三个。",
        "Count branches, not layers: a layer has two, and three with cross-attention.",
    ),
    Mistake(
        _constants(rounded=True),
        "0.81 和 0.87 是论文舍入到两位的数：从方程解出来。",
        "0.81 and 0.87 are the paper's numbers rounded to two digits; solve the equation.",
    ),
    Mistake(
        _constants(power=2.0),
        "交叉注意力的因子在条件里只出现一次，不平方。",
        "The factor of the cross-attentions stands in the condition once, not squared.",
    ),
    Mistake(
        _constants(swapped=True),
        "α 和 β 的次序反了：先 α，它不小于 1 上下，随深度变大。",
        "α and β are the wrong way round: α comes first, and grows with depth.",
    ),
    Mistake(
        _constants(split="one"),
        "β 少了一个 4：v = w = β 时，v² + w² = 2β²。",
        "β lacks a 4: with v = w = β, v² + w² is 2β².",
    ),
    Mistake(
        _constants(root=0.5),
        "开方开少了：α² = √M，所以 α = M^¼。",
        "A root is missing: α² = √M, and therefore α = M^¼.",
    ),
    Mistake(
        _constants(split="beta"),
        "全都压在 β 上了：α 不是 1，两边对半分，α² = √M。",
        "β carries all of it: α is not 1, the two share evenly, α² = √M.",
    ),
)

# unit_variance -------------------------------------------------------------------------------------------------------


def _variance(size="rms", follow=True, order="before", transpose=True, divide=True, over=None):
    """Layer by layer with mistakes to switch on."""

    def factor(y):
        if over == "features":
            return 1 / y.square().mean(0).sqrt()
        found = {
            "rms": y.square().mean().sqrt(),
            "square": y.square().mean(),
            "std": y.std(correction=0),
            "norm": y.norm(),
            "largest": y.abs().max(),
        }[size]
        return 1 / found if divide else found

    def wrong(x, weights):
        factors = []
        for weight in weights:
            y = (torch.relu(x) if order == "before" else x) @ (weight.T if transpose else weight)
            factors.append(factor(y))
            x = y / y.square().mean().sqrt() if not divide else y * factors[-1] if follow else y
            x = torch.relu(x) if order == "after" else x
        return torch.stack(factors)

    return wrong


def _he(x, weights):
    return math.sqrt(2 / weights.shape[-1]) / weights.square().mean((1, 2)).sqrt()


def _at_the_end(x, weights):
    for weight in weights:
        x = torch.relu(x) @ weight.T
    return (1 / x.square().mean().sqrt() ** (1 / len(weights))).expand(len(weights))


def _since_the_input(x, weights):
    return torch.cumprod(_variance()(x, weights), 0)


MISTAKES["unit_variance"] = (
    Mistake(
        _variance(follow=False),
        "下一层用的仍是没有缩放的输出：先把这一层的输出乘上它的因子，再往下走。",
        "The next layer still reads the output that was not scaled: multiply this layer's output by its factor, then go on.",
    ),
    Mistake(
        _variance(size="square"),
        "用的是均方，不是它的平方根。",
        "You use the mean square, not its root.",
    ),
    Mistake(
        _variance(size="std"),
        "减去了均值：要的是均方为 1，输出的均值不一定是 0。",
        "A mean was subtracted; the mean square is to be 1, and the mean of the outputs need not be 0.",
    ),
    Mistake(
        _variance(order="none"),
        "少了 ReLU：每一层读到的是 relu(x)。",
        "The ReLU is missing: every layer reads relu(x).",
    ),
    Mistake(
        _variance(order="after"),
        "ReLU 放到矩阵后面了：先 relu(x)，再乘矩阵。",
        "The ReLU stands behind the matrix; relu(x) comes first.",
    ),
    Mistake(
        _variance(transpose=False),
        "矩阵没有转置：输出是 relu(x) @ W.T。",
        "The matrix is not transposed: the output is relu(x) @ W.T.",
    ),
    Mistake(
        _variance(over="features"),
        "每个特征各有一个因子：一层只要一个，所有行和所有特征一起求。",
        "Every feature has its own factor; a layer has one, over all rows and features.",
    ),
    Mistake(
        _variance(divide=False),
        "这是要除以的数：返回要乘上的因子，是它的倒数。",
        "These are the numbers to divide by; return the factors to multiply by, which are 1 over them.",
    ),
    Mistake(
        _since_the_input,
        "前面各层的因子也乘进去了：前面的层已经缩放过，这里只管这一层。",
        "The factors of the layers before are multiplied in; those are scaled already, and each factor is for its own layer.",
    ),
    Mistake(
        _variance(size="norm"),
        "用的是范数：它比均方根大 √个数 倍。",
        "You use the norm, which is larger than the root mean square by the root of the count.",
    ),
    Mistake(
        _he,
        "这是 He 初始化：平均来说对，每一层差一点，200 层乘起来就差远了。要用 x 一层一层量。",
        "This is He initialisation: right on average, a little off at each layer, and far off after 200. Measure layer by layer, with x.",
    ),
    Mistake(
        _at_the_end,
        "只看了最后一层：每一层的均方都要是 1。",
        "You look at the last layer only; the mean square is to be 1 at each.",
    ),
)

# scale_projections ---------------------------------------------------------------------------------------------------


def _chosen(suffix):
    return lambda name: name.endswith(suffix)


PROJECTIONS = _chosen("c_proj.weight")


def _scale(chosen=PROJECTIONS, count="branches", power=0.5, divide=True, only=False):
    def wrong(names, weights):
        layers = len({name.split(".")[1] for name in names if name.startswith("h.")})
        branches = sum(map(chosen, names))
        found = []
        for name, weight in zip(names, weights):
            if not chosen(name):
                found += [] if only else [weight.clone()]
                continue
            layer = int(name.split(".")[1]) if name.startswith("h.") else 0
            number = {
                "branches": branches,
                "layers": layers,
                "twice": 2 * layers,
                "so_far": 2 * (layer + 1),
                "all": len(names),
            }[count]
            found.append(weight / number**power if divide else weight * number**power)
        return found

    return wrong


MISTAKES["scale_projections"] = (
    Mistake(
        _scale(count="layers"),
        "数的是层：GPT-2 的 N 是残差分支的个数，写进主干的矩阵有几个就是几。",
        "You count layers; GPT-2's N is the number of residual branches, as many as there are matrices that write to the stream.",
    ),
    Mistake(
        _scale(count="twice"),
        "2 × 层数只对每层两个分支的模型成立：数 c_proj.weight 有几个。",
        "Twice the layers is right only where a layer has two branches: count the c_proj.weight that are there.",
    ),
    Mistake(_scale(power=1.0), "少了平方根：除以 √N，不是 N。", "A root is missing: divide by √N, not by N."),
    Mistake(
        _scale(chosen=lambda name: "c_proj" in name),
        "偏置也算进去了：只要名字以 c_proj.weight 结尾的。",
        "Biases are in it, too: only names that end in c_proj.weight count.",
    ),
    Mistake(
        _scale(chosen=_chosen("attn.c_proj.weight")),
        "漏了前馈的 c_proj：它也写进主干。",
        "The c_proj of the feed-forward branch is left out; it writes to the stream as well.",
    ),
    Mistake(
        _scale(chosen=_chosen("mlp.c_proj.weight")),
        "漏了注意力的 c_proj：它也写进主干。",
        "The c_proj of attention is left out; it writes to the stream as well.",
    ),
    Mistake(
        _scale(chosen=_chosen(".weight")),
        "所有权重都缩小了：只缩写进主干的 c_proj.weight。",
        "All weights are scaled; only c_proj.weight, which writes to the stream, is.",
    ),
    Mistake(_scale(divide=False), "乘了 √N，该除。", "You multiply by √N where you should divide."),
    Mistake(
        _scale(count="so_far"),
        "每层除了不同的数：所有分支都除以同一个 √N。",
        "Layers are divided by different numbers; all branches are divided by the same √N.",
    ),
    Mistake(
        _scale(count="all"),
        "N 成了参数的个数：只数 c_proj.weight。",
        "N has become the number of parameters; count only c_proj.weight.",
    ),
    Mistake(
        _scale(only=True),
        "只返回了缩过的：其余的原样放回，次序不变。",
        "Only the scaled ones are returned; put the others back as they are, in the same order.",
    ),
)
