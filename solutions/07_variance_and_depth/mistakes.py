"""The mistakes that people make in exercise 07."""

import itertools
import math

import torch
import torch.nn.functional as F

from normcourse.check import Mistake

MISTAKES = {}

# stream_variance -----------------------------------------------------------------------------------------------------


LAWS = {
    "residual": lambda q, v, layer, layers: q + q * v,
    "pre_norm": lambda q, v, layer, layers: q + v,
    "post_norm": lambda q, v, layer, layers: 1.0,
    "scaled_pre_norm": lambda q, v, layer, layers: q + v / layer,
    "peri_norm": lambda q, v, layer, layers: q + 1.0,
}


def _law(first=0, begin=None, count=1, **changed):
    """All five laws, some of them wrong; `first`: entries left out, `begin`: in place of the input variance."""

    def wrong(placement, branch_variances, input_variance):
        q = [input_variance if begin is None else begin]
        for layer, v in enumerate(branch_variances, start=count):
            q.append((LAWS | changed)[placement](q[-1], v, layer, len(branch_variances)))
        return q[first:]

    return wrong


def _standard_deviations(placement, branch_variances, input_variance):
    return [math.sqrt(q) for q in _law()(placement, branch_variances, input_variance)]


MISTAKES["stream_variance"] = (
    Mistake(
        _law(first=1),
        "少了第 0 个数：列表从输入的方差开始，一共 L + 1 个数。",
        "The first entry is missing: the list begins with the variance of the input, L + 1 numbers in all.",
    ),
    Mistake(
        _law(begin=1.0),
        "输入的方差没有用上：q₀ 是 input_variance，不一定是 1。",
        "The variance of the input is not used: q₀ is input_variance, which need not be 1.",
    ),
    Mistake(
        _standard_deviations,
        "返回的是标准差：要的是方差。",
        "You return standard deviations; return the variances.",
    ),
    Mistake(
        _law(pre_norm=LAWS["residual"]),
        "前置归一化的分支读的是归一化之后的 x，主干再大，写出的方差也总是 v：每层加 v。",
        "A Pre-Norm branch reads a normalised x and always writes the variance v, however large the stream is: add v per layer.",
    ),
    Mistake(
        _law(pre_norm=LAWS["peri_norm"]),
        "前置归一化每层加的是 v，不是 1。",
        "Pre-Norm adds v per layer, not 1.",
    ),
    Mistake(
        _law(residual=LAWS["pre_norm"]),
        "没有归一化时，分支读的是方差为 q 的主干，写出 v·q：每层乘 1 + v。",
        "Without a norm the branch reads the stream's variance q and writes v·q: multiply by 1 + v per layer.",
    ),
    Mistake(
        _law(residual=lambda q, v, layer, layers: 2 * q),
        "没有归一化时每层乘 1 + v；只有 v = 1 时才是翻倍。",
        "Without a norm each layer multiplies by 1 + v; that is doubling only for v = 1.",
    ),
    Mistake(
        _law(residual=lambda q, v, layer, layers: q * v),
        "没有归一化的那种接法漏了跳跃连接：每层乘 1 + v，不是 v。",
        "In the wiring without a norm you have lost the skip: each layer multiplies by 1 + v, not by v.",
    ),
    Mistake(
        _law(post_norm=lambda q, v, layer, layers: 1 + v),
        "后置归一化在相加之后归一化：每层之后的方差都是 1。",
        "Post-Norm normalises after the addition: the variance after every layer is 1.",
    ),
    Mistake(
        _law(post_norm=lambda q, v, layer, layers: q),
        "后置归一化从第 1 层起，方差就是 1，不会停在输入的方差上。",
        "In Post-Norm the variance is 1 from layer 1 on; it does not stay at the variance of the input.",
    ),
    Mistake(
        _law(scaled_pre_norm=lambda q, v, layer, layers: q + v / math.sqrt(layer)),
        "缩放前置归一化把分支的输入除以 √l，分支的方差就除以 l，不是除以 √l。",
        "Scaled Pre-Norm divides the input of the branch by √l, and so the branch's variance by l, not by √l.",
    ),
    Mistake(
        _law(scaled_pre_norm=lambda q, v, layer, layers: q + v / layer**2),
        "缩放前置归一化里，分支的方差只除以一次 l：除以 √l 的是输入，平方之后才是 l。",
        "In scaled Pre-Norm the branch's variance is divided by l once: it is the input that is divided by √l, and squaring makes that l.",
    ),
    Mistake(
        _law(scaled_pre_norm=lambda q, v, layer, layers: q + v / layers),
        "缩放前置归一化除以的是这一层的序号 l，不是总层数。",
        "Scaled Pre-Norm divides by l, the number of this layer, not by the count of all layers.",
    ),
    Mistake(
        _law(count=0),
        "缩放前置归一化的 l 从 1 数起：第一层除以 1，不是 0。",
        "In scaled Pre-Norm l counts from 1: the first layer is divided by 1, not by 0.",
    ),
    Mistake(
        _law(count=2),
        "缩放前置归一化的 l 从 1 数起：第一层除以 1，不是 2。",
        "In scaled Pre-Norm l counts from 1: the first layer is divided by 1, not by 2.",
    ),
    Mistake(
        _law(peri_norm=LAWS["pre_norm"]),
        "双侧归一化的分支以归一化结束，写出的方差总是 1，与 v 无关。",
        "The branch of Peri-Norm ends in a norm: it always writes the variance 1, whatever v is.",
    ),
)


# deepnorm_constants --------------------------------------------------------------------------------------------------


def _constants(alpha=0.25, beta=-0.25, branches=1, of_beta=None):
    of_beta = branches if of_beta is None else of_beta

    def wrong(layers):
        return (2 * layers * branches) ** alpha, (8 * layers * of_beta) ** beta

    return wrong


MISTAKES["deepnorm_constants"] = (
    Mistake(
        _constants(branches=2),
        "N 数的是层，不是分支：一层有注意力和前馈两个分支，公式里的 2 和 8 已经把它们算进去了。",
        "N counts layers, not branches. A layer has two branches, attention and feed-forward, and the 2 and the 8 in the formulas already include them.",
    ),
    Mistake(
        _constants(branches=0.5),
        "N 多除了一个 2：传进来的 layers 就是 N。",
        "N is halved; the argument layers is N itself.",
    ),
    Mistake(
        lambda layers: _constants()(layers)[::-1],
        "两个常数的次序反了：先是 α，再是 β。",
        "The constants are in the wrong order: α first, then β.",
    ),
    Mistake(
        _constants(beta=0.25),
        "β 的指数缺了负号：网络越深，分支的初始权重越小，β < 1。",
        "The exponent of β lacks its minus: the deeper the network, the smaller the initial weights of its branches, and β < 1.",
    ),
    Mistake(
        _constants(alpha=0.5, beta=-0.5),
        "指数应是 1/4 和 −1/4，你用了 1/2 和 −1/2：这是 α² 和 β²。",
        "The exponents are 1/4 and −1/4; yours are 1/2 and −1/2, which gives α² and β².",
    ),
    Mistake(
        _constants(beta=-0.5),
        "β 的指数应是 −1/4，你用了 −1/2。",
        "The exponent of β is −1/4; yours is −1/2.",
    ),
    Mistake(
        _constants(alpha=-0.25),
        "α 的指数多了负号：跳跃连接要放大，α > 1。",
        "The exponent of α has a minus too many: the skip is made larger, and α > 1.",
    ),
    Mistake(
        _constants(of_beta=0.25),
        "β 里应是 8N，你用了 2N：β 不是 1/α。",
        "β has 8N, yours has 2N; β is not 1/α.",
    ),
    Mistake(
        _constants(of_beta=0.5),
        "β 里应是 8N，你用了 4N。",
        "β has 8N, yours has 4N.",
    ),
    Mistake(
        lambda layers: ((2 * layers) ** 0.25, (2 * layers) ** -0.5),
        "你的 β 是 GPT-2 的 1/√(2N)；DeepNorm 的是 (8N)^(−1/4)。",
        "This β is GPT-2's 1/√(2N); that of DeepNorm is (8N)^(−1/4).",
    ),
    Mistake(
        lambda layers: (0.81 * layers ** (5 / 16), 0.87 * layers ** (-5 / 16)),
        "这是编码器–解码器模型里编码器的常数：这里的模型只有编码器，或只有解码器。",
        "These are the constants for the encoder of an encoder–decoder; take those for an encoder alone or a decoder alone.",
    ),
)


# layer_probe ---------------------------------------------------------------------------------------------------------


def _rows(tensor):
    return torch.linalg.vector_norm(tensor, dim=-1)


def _cosine(a, b):
    return (a * b).sum(-1) / (_rows(a) * _rows(b))


def _probe(
    update=lambda new, old: (_rows(new - old) / _rows(old)).mean(),
    cosine=lambda new, old, x: _cosine(new, old).mean(),
    carry=True,
    order=lambda updates, cosines: (updates, cosines),
):
    def wrong(x, blocks):
        updates, cosines, state = [], [], x
        for block in blocks:
            new = block(state)
            updates.append(update(new, state).item())
            cosines.append(cosine(new, state, x).item())
            state = new if carry else state
        return order(updates, cosines)

    return wrong


MISTAKES["layer_probe"] = (
    Mistake(
        _probe(
            lambda new, old: (new - old).norm() / old.norm(),
            lambda new, old, x: _cosine(new.flatten(), old.flatten()),
        ),
        "范数和余弦是对整个张量取的：每个词元（最后一维）各算各的，再取平均。",
        "Norms and cosines are taken over the whole tensor: compute them for every token (the last dimension), then average.",
    ),
    Mistake(
        _probe(lambda new, old: (new - old).norm() / old.norm()),
        "改变量的范数是对整个张量取的：先对每个词元求比值，再取平均。",
        "The norms in the update are taken over the whole tensor: take the ratio of every token first, then average.",
    ),
    Mistake(
        _probe(lambda new, old: _rows(new - old).mean() / _rows(old).mean()),
        "这是平均值之比：先对每个词元求比值，再取平均。",
        "This is the ratio of two means: take the ratio of every token first, then average.",
    ),
    Mistake(
        _probe(cosine=lambda new, old, x: _cosine(new.flatten(), old.flatten())),
        "余弦是把所有词元拉成一个向量算的：每个词元算一个，再取平均。",
        "The cosine is computed from all tokens laid end to end: compute one per token, then average.",
    ),
    Mistake(
        _probe(lambda new, old: (_rows(new - old) / _rows(new)).mean()),
        "除以的是这一层输出的长度：相对改变量要除以输入的长度。",
        "You divide by the output's length; divide the update by the length of the layer's input.",
    ),
    Mistake(
        _probe(lambda new, old: (_rows(new) / _rows(old)).mean()),
        "这是输出与输入的长度之比：要的是两者之差的长度，除以输入的长度。",
        "This is the ratio of the lengths of output and input; take the length of their difference, divided by that of the input.",
    ),
    Mistake(
        _probe(lambda new, old: ((_rows(new) - _rows(old)).abs() / _rows(old)).mean()),
        "这是长度之差：只转方向、不变长短，也是改变。先相减，再取范数。",
        "This is a difference of lengths; turning without growing is a change too. Subtract first, then take the norm.",
    ),
    Mistake(
        _probe(lambda new, old: (_rows(new - old) / _rows(old)).square().mean()),
        "这是比值的平方：取平均之前要开根号。",
        "These are squared ratios: take the square root before you average.",
    ),
    Mistake(
        _probe(carry=False),
        "每一层读的都是 x：第 l 层要读上一层的输出。",
        "Every block reads x; block l should read the output of the one before.",
    ),
    Mistake(
        _probe(cosine=lambda new, old, x: _cosine(new, x).mean()),
        "余弦是和输入 x₀ 算的：要和上一层的输出算。",
        "The cosine is the one with the input x₀; take the one with the output of the layer before.",
    ),
    Mistake(
        _probe(cosine=lambda new, old, x: _cosine(new - old, old).mean()),
        "余弦里用了改变量：要用这一层的输入和输出两个隐藏状态来算。",
        "The cosine has the update in it; compute it from two hidden states, the layer's input and its output.",
    ),
    Mistake(
        _probe(order=lambda updates, cosines: (cosines, updates)),
        "两个列表的次序反了：先是相对改变量，再是余弦。",
        "The lists are in the wrong order: relative updates first, then cosines.",
    ),
    Mistake(
        _probe(order=lambda updates, cosines: ([0.0, *updates], [1.0, *cosines])),
        "多了第 0 层：每层一个数，从第 1 层开始，共 L 个。",
        "Layer 0 is one too many: return L numbers, one per layer, beginning with layer 1.",
    ),
)


# layer_worth ---------------------------------------------------------------------------------------------------------


def _cross_entropy(logits, targets):
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten())


def _side_by_side(first, second):
    return lambda h: first(h) + second(h) - h


def _worth(
    loss=_cross_entropy,
    without=lambda blocks, i: blocks[:i] + blocks[i + 1 :],
    merge=_side_by_side,
    change=lambda value, whole: value - whole,
    order=lambda dropped, merged: (dropped, merged),
):
    """What layers are worth, with mistakes to switch on."""

    def wrong(x, targets, blocks, head):
        def value(layers):
            h = x
            for one in layers:
                h = one(h)
            return loss(head(h), targets).item()

        whole, blocks = value(blocks), list(blocks)
        dropped = [change(value(without(blocks, i)), whole) for i in range(len(blocks))]
        merged = [
            change(value([*blocks[:i], merge(blocks[i], blocks[i + 1]), *blocks[i + 2 :]]), whole)
            for i in range(len(blocks) - 1)
        ]
        return order(dropped, merged)

    return wrong


def _later_layers_unaware(x, targets, blocks, head):
    states = [x]
    for layer in blocks:
        states.append(layer(states[-1]))
    whole = _cross_entropy(head(states[-1]), targets).item()
    dropped = [
        _cross_entropy(head(states[-1] - (new - old)), targets).item() - whole
        for old, new in itertools.pairwise(states)
    ]
    return dropped, _worth()(x, targets, blocks, head)[1]


MISTAKES["layer_worth"] = (
    Mistake(
        _worth(change=lambda value, whole: value),
        "返回的是损失本身：要减去完整网络的损失。",
        "You return the losses themselves; subtract the loss of the whole network.",
    ),
    Mistake(
        _worth(change=lambda value, whole: whole - value),
        "符号反了：要用改动之后的损失减去完整网络的损失，涨了就是正数。",
        "The sign is reversed: take the loss after the change minus that of the whole network, so that a rise is positive.",
    ),
    Mistake(
        _worth(without=lambda blocks, i: blocks[:i]),
        "第 l 层之后的层也一起去掉了：只跳过一层，后面的照常运行。",
        "All layers after l are gone as well; skip a single one and run the rest.",
    ),
    Mistake(
        _worth(without=lambda blocks, i: blocks[i + 1 :]),
        "第 l 层之前的层也一起去掉了（用 pop 的话，列表本身会变短）：每次都从完整的网络出发，只跳过一层。",
        "All layers before l are gone as well (pop shortens the list itself); start from the whole network every time and skip a single one.",
    ),
    Mistake(
        _later_layers_unaware,
        "只从最后的隐藏状态里减去了这一层的贡献：后面的层读到的输入也变了，要重新运行。",
        "You only take the layer's contribution off the last hidden state. But the later layers now read a different input: run them again.",
    ),
    Mistake(
        _worth(merge=lambda first, second: lambda h: first(h) + second(h)),
        "并联时跳跃连接算了两次：两层的输出里各有一个 x，要减去一个 x。",
        "When merged, the skip counts twice: each of the two outputs contains x, so subtract x once.",
    ),
    Mistake(
        _worth(merge=lambda first, second: lambda h: (first(h) + second(h)) / 2),
        "并联不是取平均：两个分支的输出都要完整地加到 x 上。",
        "To merge is not to average: add the output of both branches to x in full.",
    ),
    Mistake(
        _worth(merge=lambda first, second: lambda h: first(second(h))),
        "这是交换两层：并联时，两个分支读的是同一个 x。",
        "This swaps the two layers; when merged, both branches read the same x.",
    ),
    Mistake(
        _worth(merge=lambda first, second: lambda h: second(first(h))),
        "两层还是一前一后：并联时，第二个分支读的也是 x，不是第一层的输出。",
        "The two still run one after the other; when merged, the second branch reads x as well, not the output of the first layer.",
    ),
    Mistake(
        _worth(loss=lambda logits, targets: F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="sum")),
        "损失用了求和：要对所有词元取平均。",
        "The loss is a sum; average it over all tokens.",
    ),
    Mistake(
        _worth(loss=lambda logits, targets: _cross_entropy(logits.softmax(-1), targets)),
        "softmax 做了两次：cross_entropy 要的是 logits。",
        "Softmax is applied twice: cross_entropy takes logits.",
    ),
    Mistake(
        _worth(loss=F.cross_entropy),
        "logits 有三维时，cross_entropy 把第 1 维当成类别：先把 logits 用 flatten(0, -2) 压成两维，targets 用 flatten() 压成一维。",
        "With three dimensions cross_entropy takes dimension 1 for the classes: first use flatten(0, -2) on the logits and flatten() on the targets.",
    ),
    Mistake(
        _worth(order=lambda dropped, merged: (merged, dropped)),
        "两个列表的次序反了：先是去掉一层，再是并联两层。",
        "The lists are in the wrong order: leaving one out first, merging two second.",
    ),
)
