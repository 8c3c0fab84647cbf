"""The mistakes that people make in exercise 06."""

import torch
import torch.nn.functional as F

from normcourse.check import Mistake

from .tasks import FORMULAS

MISTAKES = {}

# wire ----------------------------------------------------------------------------------------------------------------


def _wire(**changed):
    """All four, some of them wrong."""

    def wrong(placement, x, f, norm, norm_out=None):
        return (FORMULAS | changed)[placement](x, f, norm, norm_out)

    return wrong


MISTAKES["wire"] = (
    Mistake(
        _wire(post_norm=FORMULAS["pre_norm"], pre_norm=FORMULAS["post_norm"]),
        "前置和后置对调了：后置归一化在相加之后归一化，前置归一化在进分支之前。",
        "Pre-Norm and Post-Norm are exchanged: Post-Norm normalises after the addition, Pre-Norm before the branch.",
    ),
    Mistake(
        _wire(post_norm=FORMULAS["pre_norm"]),
        "这是前置归一化：后置归一化的 norm 在最外面，包住相加的结果。",
        "This is Pre-Norm. In Post-Norm the norm is outermost: it takes the sum.",
    ),
    Mistake(
        _wire(post_norm=FORMULAS["res_post_norm"]),
        "后置归一化里，norm 作用在相加的结果上；你只归一化了分支的输出，那是 Res-Post-Norm。",
        "In Post-Norm the norm takes the sum; yours takes the output of the branch only, which is Res-Post-Norm.",
    ),
    Mistake(
        _wire(post_norm=lambda x, f, norm, out: norm(f(x))),
        "后置归一化里没有跳跃连接：先 x + f(x)，再归一化。",
        "Post-Norm has lost its skip: x + f(x) first, then the norm.",
    ),
    Mistake(
        _wire(pre_norm=lambda x, f, norm, out: norm(x) + f(norm(x))),
        "前置归一化的跳跃连接上也有 norm：主干上的 x 应当原样相加。",
        "In your Pre-Norm the skip is normalised too; the x of the stream is to be added untouched.",
    ),
    Mistake(
        _wire(pre_norm=lambda x, f, norm, out: f(norm(x))),
        "前置归一化里没有跳跃连接：缺了 x +。",
        "Pre-Norm has lost its skip: x + is missing.",
    ),
    Mistake(
        _wire(pre_norm=lambda x, f, norm, out: norm(x + f(norm(x)))),
        "前置归一化里多了一个 norm：末端的那个归一化，整个网络只有一个，不在每一层里。",
        "Pre-Norm has a norm too many: the one at the end stands once after the whole network, not in every layer.",
    ),
    Mistake(
        _wire(res_post_norm=FORMULAS["post_norm"]),
        "Res-Post-Norm 只归一化分支的输出，x 在外面相加；你写的是后置归一化。",
        "Res-Post-Norm normalises the output of the branch only and adds x outside; yours is Post-Norm.",
    ),
    Mistake(
        _wire(res_post_norm=FORMULAS["pre_norm"]),
        "Res-Post-Norm 的 norm 在分支的出口，不在入口。",
        "In Res-Post-Norm the norm is at the exit of the branch, not at its entrance.",
    ),
    Mistake(
        _wire(res_post_norm=lambda x, f, norm, out: norm(f(x))),
        "Res-Post-Norm 里没有跳跃连接：缺了 x +。",
        "Res-Post-Norm has lost its skip: x + is missing.",
    ),
    Mistake(
        _wire(peri_norm=lambda x, f, norm, out: out(f(norm(x)))),
        "双侧归一化里没有跳跃连接：缺了 x +。",
        "Peri-Norm has lost its skip: x + is missing.",
    ),
    Mistake(
        _wire(peri_norm=lambda x, f, norm, out: x + norm(f(out(x)))),
        "双侧归一化的两个 norm 对调了：norm 在分支入口，norm_out 在出口。",
        "The two norms of Peri-Norm are exchanged: norm is at the entrance of the branch, norm_out at its exit.",
    ),
    Mistake(
        _wire(peri_norm=lambda x, f, norm, out: x + norm(f(norm(x)))),
        "双侧归一化把同一个 norm 用了两次：出口用 norm_out，它有自己的权重。",
        "Peri-Norm uses the same norm twice; the exit has norm_out, with weights of its own.",
    ),
    Mistake(
        _wire(peri_norm=lambda x, f, norm, out: out(x + f(norm(x)))),
        "双侧归一化的 norm_out 在分支里面：先归一化，再和 x 相加。",
        "In Peri-Norm norm_out belongs to the branch: normalise first, then add x.",
    ),
    Mistake(
        _wire(peri_norm=FORMULAS["pre_norm"]),
        "双侧归一化里没有用上 norm_out。",
        "Peri-Norm does not use norm_out.",
    ),
)


# post_ln_block -------------------------------------------------------------------------------------------------------


def _printed(x, attention, feed_forward, norm1, norm2):
    middle = x + norm1(attention(x))
    return middle + norm2(feed_forward(middle))


def _pre_ln(x, attention, feed_forward, norm1, norm2):
    middle = x + attention(norm1(x))
    return middle + feed_forward(norm2(middle))


def _first_half(x, attention, feed_forward, norm1, norm2):
    middle = norm1(x + attention(x))
    return middle + norm2(feed_forward(middle))


def _second_half(x, attention, feed_forward, norm1, norm2):
    middle = x + norm1(attention(x))
    return norm2(middle + feed_forward(middle))


def _skip_from_the_input(x, attention, feed_forward, norm1, norm2):
    return norm2(x + feed_forward(norm1(x + attention(x))))


def _skip_past_norm1(x, attention, feed_forward, norm1, norm2):
    middle = x + attention(x)
    return norm2(middle + feed_forward(norm1(middle)))


def _branch_from_the_input(x, attention, feed_forward, norm1, norm2):
    return norm2(norm1(x + attention(x)) + feed_forward(x))


def _norms_exchanged(x, attention, feed_forward, norm1, norm2):
    middle = norm2(x + attention(x))
    return norm1(middle + feed_forward(middle))


def _norm1_twice(x, attention, feed_forward, norm1, norm2):
    middle = norm1(x + attention(x))
    return norm1(middle + feed_forward(middle))


def _without_skips(x, attention, feed_forward, norm1, norm2):
    return norm2(feed_forward(norm1(attention(x))))


def _one_norm(x, attention, feed_forward, norm1, norm2):
    middle = x + attention(x)
    return norm2(middle + feed_forward(middle))


def _feed_forward_first(x, attention, feed_forward, norm1, norm2):
    middle = norm1(x + feed_forward(x))
    return norm2(middle + attention(middle))


MISTAKES["post_ln_block"] = (
    Mistake(
        _printed,
        "这还是原来那段代码：它归一化的是分支的输出。后置归一化要归一化相加的结果。",
        "This is still the listing as printed: it normalises the outputs of the branches. Post-Norm normalises the sums.",
    ),
    Mistake(
        _pre_ln,
        "这是前置归一化：norm 跑到分支的入口去了。它应当在相加之后。",
        "This is Pre-Norm: the norms have moved to the entrances of the branches. They belong after the additions.",
    ),
    Mistake(
        _first_half,
        "只修好了前一半（注意力）；前馈那一半归一化的还是分支的输出。",
        "Only the first half, attention, is repaired; the feed-forward half still normalises the output of its branch.",
    ),
    Mistake(
        _second_half,
        "只修好了后一半（前馈）；注意力那一半归一化的还是分支的输出。",
        "Only the second half, feed-forward, is repaired; the attention half still normalises the output of its branch.",
    ),
    Mistake(
        _skip_from_the_input,
        "第二个跳跃连接是从 x 出发的：应当从前一半的输出出发。",
        "The second skip starts from x; it should start from what the first half returns.",
    ),
    Mistake(
        _skip_past_norm1,
        "第二个跳跃连接绕过了 norm1：前馈分支和它的跳跃连接，读的都应当是归一化之后的结果。",
        "The second skip goes past norm1; the feed-forward branch and its skip should both read the normalised sum.",
    ),
    Mistake(
        _branch_from_the_input,
        "前馈分支读的还是最初的 x：应当读前一半的输出。",
        "The feed-forward branch still reads the first x; it should read what the first half returns.",
    ),
    Mistake(
        _norms_exchanged,
        "两个 norm 对调了：norm1 属于注意力，norm2 属于前馈。",
        "The norms are exchanged: norm1 belongs to attention, norm2 to feed-forward.",
    ),
    Mistake(
        _norm1_twice,
        "norm1 用了两次，norm2 没有用上。",
        "norm1 is used twice and norm2 not at all.",
    ),
    Mistake(
        _without_skips,
        "两个跳跃连接都不见了：要先 x + 分支的输出，再归一化。",
        "Both skips are gone: add x to the output of the branch first, then normalise.",
    ),
    Mistake(
        _one_norm,
        "norm1 没有用上：每个分支之后都要归一化一次。",
        "norm1 is not used: there is a norm after each of the two branches.",
    ),
    Mistake(
        _feed_forward_first,
        "次序反了：先注意力，后前馈。",
        "The order is reversed: attention comes first, feed-forward second.",
    ),
)


# loss_curve ----------------------------------------------------------------------------------------------------------


def _layer_norm(h, eps=1e-5):
    return F.layer_norm(h, h.shape[-1:], eps=eps)


def _train(
    sign=-1.0,
    end=("pre_norm",),
    keep=False,
    first=0,
    extra=1,
    loss_of=F.mse_loss,
    only_last=False,
    branch=lambda h, w: torch.tanh(h) @ w.T,
    norm=_layer_norm,
    **changed,
):
    """Gradient descent with mistakes to switch on."""

    def wrong(placement, weights, x, targets, learning_rate, steps):
        weights = [w.detach().clone().requires_grad_() for w in weights]
        sums, losses = [torch.zeros_like(w) for w in weights], []
        for _ in range(steps + 1):
            h = x
            for w in weights:
                f = lambda h, w=w: branch(h, w)  # noqa: E731
                h = (FORMULAS | changed)[placement](h.detach() if only_last else h, f, norm, None)
            loss = loss_of(norm(h) if placement in end else h, targets)
            losses.append(loss.item())
            slopes = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
            sums = [old + new if keep else new for old, new in zip(sums, slopes)]
            weights = [(w + sign * learning_rate * s).detach().requires_grad_() for w, s in zip(weights, sums)]
        return losses[first : steps + extra]

    return wrong


WITHOUT_SKIP = {
    "post_norm": lambda x, f, norm, out: norm(f(x)),
    "pre_norm": lambda x, f, norm, out: f(norm(x)),
}


MISTAKES["loss_curve"] = (
    Mistake(
        _train(extra=0),
        "少了最后一个损失：第 steps 步之后还要再算一次，一共 steps + 1 个数。",
        "The last loss is missing: it is computed once more after the last step, steps + 1 numbers in all.",
    ),
    Mistake(
        _train(first=1),
        "少了第一个损失：第一步之前的损失也要，一共 steps + 1 个数。",
        "The first loss is missing: the one before the first step counts too, steps + 1 numbers in all.",
    ),
    Mistake(
        _train(keep=True),
        "梯度在累加：每一步只用这一步的梯度，之前要清零。",
        "The gradients accumulate: every step needs its own gradient, so clear the old one first.",
    ),
    Mistake(
        _train(end=()),
        "前置归一化的末端少了一个归一化：输出是 norm(h)。",
        "Pre-Norm lacks the norm at its end: the output is norm(h).",
    ),
    Mistake(
        _train(end=("pre_norm", "post_norm")),
        "后置归一化的末端多了一个归一化：它的每一层已经以归一化结束。",
        "Post-Norm has a norm too many at the end: each of its layers ends in one already.",
    ),
    Mistake(
        _train(sign=1.0),
        "方向反了：下降要减去学习率乘以梯度。",
        "The wrong direction: to descend, subtract the learning rate times the gradient.",
    ),
    Mistake(
        _train(loss_of=lambda y, targets: (y - targets).square().sum()),
        "损失是所有元素的平均，你用了求和。",
        "The loss is the mean over all entries; yours is their sum.",
    ),
    Mistake(
        _train(loss_of=lambda y, targets: F.mse_loss(y, targets) / 2),
        "损失前面多了 ½：只取平方的平均。",
        "There is a factor ½ in your loss; take the mean of the squares alone.",
    ),
    Mistake(
        _train(branch=lambda h, w: torch.relu(h) @ w.T),
        "激活函数是 tanh，你用了 ReLU。",
        "The activation function is tanh; yours is ReLU.",
    ),
    Mistake(
        _train(norm=lambda h: _layer_norm(h, 1e-6)),
        "ε 用了 10⁻⁶：这里是 torch 的默认值 10⁻⁵。",
        "Your ε is 10⁻⁶; here it is torch's default, 10⁻⁵.",
    ),
    Mistake(
        _train(norm=lambda h: h),
        "哪里都没有归一化。",
        "There is no norm anywhere.",
    ),
    *(
        Mistake(
            _train(**changed),
            "少了跳跃连接：每一层都要把 h 加到分支的输出上。",
            "A skip is missing: every layer adds h to the output of its branch.",
        )
        for changed in (WITHOUT_SKIP, *({name: formula} for name, formula in WITHOUT_SKIP.items()))
    ),
    Mistake(
        _train(only_last=True),
        "只有最后一层在学：h 在层与层之间被 detach 了，前面的权重没有梯度。",
        "Only the last layer learns: h is detached between layers, and the earlier weights get no gradient.",
    ),
    Mistake(
        _train(post_norm=FORMULAS["pre_norm"], end=("pre_norm", "post_norm")),
        "placement 没有起作用：后置归一化训练的也是前置归一化的网络。",
        "placement makes no difference: for Post-Norm, too, you train the network of Pre-Norm.",
    ),
    Mistake(
        _train(pre_norm=FORMULAS["post_norm"], end=()),
        "placement 没有起作用：前置归一化训练的也是后置归一化的网络。",
        "placement makes no difference: for Pre-Norm, too, you train the network of Post-Norm.",
    ),
    Mistake(
        _train(branch=lambda h, w: torch.tanh(h) @ w),
        "权重没有转置：W tanh(h) 对每一行来说是 tanh(h) @ W.T。",
        "The weights are not transposed: for every row, W tanh(h) is tanh(h) @ W.T.",
    ),
    Mistake(
        _train(branch=lambda h, w: torch.tanh(h @ w.T)),
        "次序反了：先取 tanh，再乘 W。",
        "The order is reversed: tanh first, then W.",
    ),
    Mistake(
        _train(pre_norm=lambda x, f, norm, out: norm(x) + f(norm(x))),
        "前置归一化的跳跃连接上也有 norm：主干上的 h 应当原样相加。",
        "In your Pre-Norm the skip is normalised too; the h of the stream is to be added untouched.",
    ),
)


# warmup_rate ---------------------------------------------------------------------------------------------------------


def _rate(after=1, width=-0.5, rise=-1.5, fall=-0.5, pick=min, rise_after=None, constant=False, longer=0, without=None):
    """The schedule with mistakes to switch on."""

    def wrong(step, hidden_size, warmup):
        t, up = step + after, step + (after if rise_after is None else rise_after)
        if not warmup:
            return hidden_size**width * (t**fall if without is None else without)
        down = warmup**-0.5 if constant else t**fall
        return hidden_size**width * pick(down, up * (warmup + longer) ** rise)

    return wrong


def _no_case_without_warmup(step, hidden_size, warmup):
    return hidden_size**-0.5 * min((step + 1) ** -0.5, (step + 1) * warmup**-1.5)


def _zero_counts_as_one(step, hidden_size, warmup):
    return _rate(after=0)(max(step, 1), hidden_size, warmup)


MISTAKES["warmup_rate"] = (
    Mistake(
        _rate(after=0),
        "步数差了 1：step 从 0 数起，公式里的 t 从 1 数起。",
        "Off by one step: step counts from 0, the t of the formula from 1.",
    ),
    Mistake(
        _zero_counts_as_one,
        "max(step, 1) 让前两次更新用了同样的学习率，之后也都差一步：t 是 step + 1。",
        "max(step, 1) gives the first two updates the same rate, and every later one is off by a step: t is step + 1.",
    ),
    Mistake(
        _rate(after=2),
        "步数多加了 1：t 是 step + 1。",
        "One step too many: t is step + 1.",
    ),
    Mistake(
        _rate(rise_after=0),
        "上升的那一段用了 step，下降的那一段用了 step + 1：两段的 t 是同一个。",
        "The rise counts with step, the fall with step + 1; t is the same in both.",
    ),
    Mistake(
        _rate(pick=max),
        "取了两项里较大的：应取较小的。",
        "You take the larger of the two terms; it is the smaller that counts.",
    ),
    Mistake(
        _rate(width=0.0),
        "缺了因子 1/√d（hidden_size）。",
        "The factor 1/√d (hidden_size) is missing.",
    ),
    Mistake(
        _rate(width=0.5),
        "hidden_size 的指数是 −1/2：网络越宽，学习率越小。",
        "The exponent of hidden_size is −1/2: the wider the network, the smaller the rate.",
    ),
    Mistake(
        _rate(rise=-0.5),
        "预热那一项是 t · w^(−3/2)，你用了 w^(−1/2)。",
        "The term of the warm-up is t · w^(−3/2); yours has w^(−1/2).",
    ),
    Mistake(
        _rate(rise=1.5),
        "w 的指数是 −3/2，你用了 +3/2：那一项太大，从来不会被取到。",
        "The exponent of w is −3/2; yours is +3/2, which makes the term so large that it never counts.",
    ),
    Mistake(
        _rate(longer=1),
        "你用了 w + 1：公式里是 w 本身，w = 0 要单独处理。",
        "Yours has w + 1; the formula has w itself, and w = 0 needs a case of its own.",
    ),
    Mistake(
        _rate(rise=-1.0),
        "预热那一项是 t · w^(−3/2)，你用了 t / w：那样升到的不是 1/√w，两段接不上。",
        "The term of the warm-up is t · w^(−3/2); yours is t / w, which does not meet the other term at 1/√w.",
    ),
    Mistake(
        _rate(constant=True),
        "预热之后学习率停在最大值：它还要按 1/√t 下降。",
        "After the warm-up your rate stays at its peak; it should fall like 1/√t.",
    ),
    Mistake(
        _rate(fall=-1.0),
        "预热之后按 1/t 下降：应为 1/√t。",
        "After the warm-up your rate falls like 1/t; it should be 1/√t.",
    ),
    Mistake(
        _rate(without=0.0),
        "warmup = 0 时学习率不是 0：没有预热，只剩下降的一项。",
        "With warmup = 0 the rate is not 0: without a warm-up the falling term is all there is.",
    ),
    Mistake(
        _rate(without=1.0),
        "warmup = 0 时你的学习率是常数：没有预热，也要按 1/√t 下降。",
        "With warmup = 0 your rate is constant; without a warm-up, too, it falls like 1/√t.",
    ),
    Mistake(
        _no_case_without_warmup,
        "warmup = 0 时 0 的负次方没有意义：那时只有下降的一项。",
        "With warmup = 0 a negative power of 0 has no value; then there is only the falling term.",
    ),
)


# identity_path -------------------------------------------------------------------------------------------------------


def _accounts(cut=lambda h, f, norm: norm(h + f(h).detach()), join=FORMULAS["post_norm"], part=lambda w, s: (w, s)):
    """Both gradients by autograd, with mistakes to switch on: how the branch is cut, how a layer is wired, and what of
    the whole gradient and the skips' is returned."""

    def wrong(x, branches, norm, dy):
        found = []
        for layer in (lambda h, f: join(h, f, norm, None), lambda h, f: cut(h, f, norm)):
            start = x.detach().clone().requires_grad_()
            h = start
            for f in branches:
                h = layer(h, f)
            grads = torch.autograd.grad(h, start, dy, allow_unused=True, materialize_grads=True)
            found.append(grads[0])
        return part(*found)

    return wrong


def _summed(x, branches, norm, dy):
    return _accounts()(x, branches, norm, torch.ones_like(x))


MISTAKES["identity_path"] = (
    Mistake(
        _accounts(part=lambda whole, skips: (skips, whole)),
        "两个结果的次序反了：先是全部梯度，再是跳跃连接的。",
        "The results are in the wrong order: the whole gradient first, then that of the skips.",
    ),
    Mistake(
        _accounts(cut=lambda h, f, norm: norm(h)),
        "分支从前向里去掉了，norm 除以的标准差就变了。分支的输出要照样相加，只是不让梯度进去。",
        "The branch is gone from the forward pass, so the norm divides by another standard deviation. Its output must still be added; only the gradient stays out.",
    ),
    Mistake(
        _accounts(part=lambda whole, skips: (whole, whole - skips)),
        "第二个结果是经过分支的那一部分：要的是只走跳跃连接的那一部分。",
        "The second result is the part that went through branches; return the one through the skips alone.",
    ),
    Mistake(
        _accounts(cut=lambda h, f, norm: norm(h.detach() + f(h))),
        "截断的是跳跃连接：应当把分支的输出 detach，让 h 自己通过。",
        "You cut the skip; detach the output of the branch instead, and let h itself pass.",
    ),
    Mistake(
        _accounts(part=lambda whole, skips: (whole, whole)),
        "两个结果相同：分支没有截断。",
        "The two results are the same: the branches are not cut.",
    ),
    Mistake(
        _accounts(part=lambda whole, skips: (whole, whole + skips)),
        "第二个结果里还留着第一次的梯度：.grad 会累加，第二次之前要清零，或者用 torch.autograd.grad。",
        "The second result still contains the first: .grad accumulates. Clear it in between, or use torch.autograd.grad.",
    ),
    Mistake(
        _accounts(part=lambda whole, skips: (whole + skips, whole + skips)),
        "两个结果是同一个 .grad，两次 backward 的梯度都加在里面。用 torch.autograd.grad，或者每次都从 x 的新副本开始。",
        "Both results are the same .grad, in which the gradients of the two backward passes add up. Use torch.autograd.grad, or a fresh copy of x each time.",
    ),
    Mistake(
        lambda x, branches, norm, dy: (_accounts()(x, branches, norm, dy)[0], dy),
        "第二个结果就是 dy：在前置归一化里是这样；这里的跳跃连接也经过 norm，每个 norm 都会改变它。",
        "The second result is dy itself. That is so in Pre-Norm; here the skips go through the norms, and each of them changes it.",
    ),
    Mistake(
        lambda x, branches, norm, dy: _accounts()(x, branches[::-1], norm, dy),
        "分支的次序反了：x 先经过 branches[0]。",
        "The branches are in reverse order: x meets branches[0] first.",
    ),
    Mistake(
        _accounts(join=FORMULAS["pre_norm"], cut=lambda h, f, norm: h + f(norm(h)).detach()),
        "这是前置归一化的网络：它只走跳跃连接的梯度就是 dy 本身。这里的一层是 norm(x + f(x))。",
        "This is a Pre-Norm network, where the gradient through the skips is dy itself. A layer here is norm(x + f(x)).",
    ),
    Mistake(
        _summed,
        "dy 没有用上：往回传的应是 dy，不是全 1。",
        "dy is not used: what is sent back should be dy, not ones.",
    ),
    Mistake(
        _accounts(part=lambda whole, skips: (whole.norm(), skips.norm())),
        "返回的是范数：要的是两个梯度本身，形状和 x 一样。",
        "You return the norms; return the two gradients themselves, in the shape of x.",
    ),
)
