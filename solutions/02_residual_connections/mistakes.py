"""The mistakes that people make in exercise 02."""

import math

import torch

from normcourse.check import Mistake

MISTAKES = {}

# input_gradient ------------------------------------------------------------------------------------------------------


def _stack(
    skip="given",
    inner=torch.relu,
    before=None,
    outer=None,
    after=None,
    after_plain=True,
    detach=False,
    blocks=slice(None),
    transposed=False,
    loss=lambda out, direction: (out * direction).sum(),
    give=lambda gradient: gradient,
):
    """The network with mistakes to switch on; the gradient itself is autograd's."""

    def wrong(x, weights_in, weights_out, direction, residual=True):
        x = x.detach().clone().requires_grad_()
        wiring = skip if skip != "given" else "each" if residual else "none"
        if wiring in ("first", "whole") and not residual:
            wiring = "none"
        h = x
        for first, second in list(zip(weights_in, weights_out))[blocks]:
            read = before(h) if before else h
            branch = read @ first if transposed else read @ first.T
            branch = inner(branch)
            branch = branch @ second if transposed else branch @ second.T
            branch = outer(branch) if outer else branch
            carried = {"each": h, "first": x}.get(wiring, 0.0)
            h = (carried.detach() if detach and residual else carried) + branch
            h = after(h) if after and (residual or after_plain) else h
        h = h + x if wiring == "whole" else h
        (gradient,) = torch.autograd.grad(loss(h, direction), x)
        return give(gradient)

    return wrong


def _same(h):
    return h


MISTAKES["input_gradient"] = (
    Mistake(
        _stack(skip="none"),
        "没有跳跃连接：residual 为真时每一块是 h + f(h)，你只有 f(h)。",
        "There is no skip: with residual, a block is h + f(h); yours is f(h) only.",
    ),
    Mistake(
        _stack(skip="each"),
        "没有用上参数 residual：它为假时，每一块只是 f(h)。",
        "The argument residual is not used: where it is false, a block is f(h) alone.",
    ),
    Mistake(
        _stack(skip="whole"),
        "跳跃连接只有一条，绕过了整个网络：应该每一块各有一条。",
        "There is a single skip around the whole network; every block needs its own.",
    ),
    Mistake(
        _stack(skip="first"),
        "每一块加回来的都是最初的 x：应该加这一块自己的输入 h。",
        "Every block adds the first input x; it should add its own input h.",
    ),
    Mistake(_stack(inner=_same), "分支里没有 ReLU。", "The branch has no ReLU."),
    *(
        Mistake(
            _stack(after=torch.relu, after_plain=after_plain),
            "相加之后又做了一次 ReLU，连主干上的梯度也挡住了。这里的块是 h + f(h)，主干上没有 ReLU。",
            "There is a ReLU after the sum, where it blocks the stream as well. The block is h + f(h), with no ReLU on the stream.",
        )
        for after_plain in (False, True)
    ),
    Mistake(
        _stack(outer=torch.relu),
        "分支的末尾多了一个 ReLU：它只在两个矩阵之间。",
        "There is one ReLU too many, at the end of the branch; the only one stands between the two matrices.",
    ),
    Mistake(
        _stack(inner=_same, outer=torch.relu),
        "ReLU 放错了地方：它应在两个矩阵之间，你放在了分支末尾。",
        "The ReLU is in the wrong place: it belongs between the two matrices, yours stands at the end of the branch.",
    ),
    Mistake(
        _stack(inner=_same, before=torch.relu),
        "ReLU 放错了地方：它应在两个矩阵之间，你放在了它们前面。",
        "The ReLU is in the wrong place: it belongs between the two matrices, yours stands before them.",
    ),
    Mistake(
        _stack(transposed=True),
        "少了转置：权重的形状是（输出，输入），所以是 h @ W.T。",
        "A transpose is missing: weights have shape (outputs, inputs), so it is h @ W.T.",
    ),
    Mistake(
        _stack(blocks=slice(None, None, -1)),
        "块的次序反了：输入先经过 weights_in[0]。",
        "The blocks are in reverse order: the input meets weights_in[0] first.",
    ),
    Mistake(
        _stack(blocks=slice(-1)),
        "少了最后一块。",
        "The last block is left out.",
    ),
    Mistake(
        _stack(detach=True),
        "跳跃连接被 detach 了：前向没有变，梯度却只能走分支。",
        "The skip is detached: the forward pass is right, but the gradient can take the branches only.",
    ),
    Mistake(
        _stack(loss=lambda out, direction: out.sum()),
        "没有用 direction：损失是 direction 与输出逐元素相乘再求和。",
        "direction is not used: the loss is the sum of direction times the output, element by element.",
    ),
    Mistake(
        _stack(loss=lambda out, direction: (out * direction).mean()),
        "损失取了平均：应该求和。",
        "The loss is a mean; it should be the sum.",
    ),
    Mistake(
        _stack(give=torch.Tensor.norm),
        "返回的是梯度的范数，这里要梯度本身。",
        "You return the norm of the gradient; the gradient itself is asked for.",
    ),
)


# residual_block_backward ---------------------------------------------------------------------------------------------


def _block(
    skip=lambda dy, x: dy,
    branch=True,
    mask="inside",
    turned=False,
    give=lambda dx, dW1, dW2: (dx, dW1, dW2),
    active=True,
    through=True,
    mask_on_weights=True,
    rows=None,
    mean=False,
):
    """The backward pass with mistakes to switch on."""

    def wrong(dy, x, W1, W2):
        inside = x @ W1.T
        hidden = inside.clamp(min=0) if active else inside
        back = dy @ W2.T if turned else dy @ W2
        open_at = {"inside": inside, "back": back, "x": x}.get(mask, torch.ones_like(inside)) > 0
        masked = back * open_at
        reached = masked @ W1.T if turned else masked @ W1
        reached = reached * (x > 0) if mask == "end" else reached
        dx = skip(dy, x) + (reached if branch else 0.0)
        inner = masked if mask_on_weights else back
        if not through:
            inner = dy * open_at

        def outer(left, right):
            if rows is None:
                left, right = (t.reshape(-1, t.shape[-1]) for t in (left, right))
            product = left.T @ right if rows is None or left.dim() == 2 else (left.mT @ right).sum(0)
            return product / len(left) if mean else product

        return give(dx, outer(inner, x), outer(dy, hidden))

    return wrong


MISTAKES["residual_block_backward"] = (
    Mistake(
        _block(skip=lambda dy, x: 0.0),
        "dx 里没有跳跃连接的那一份：dy 本身也要原样加进去。",
        "The skip is missing from dx: dy itself has to be added, unchanged.",
    ),
    Mistake(
        _block(skip=lambda dy, x: 1.0),
        "跳跃连接的导数是 1，它要乘 dy：dx 里加的是 dy，不是 1。",
        "The derivative of the skip is 1, and it multiplies dy: add dy to dx, not 1.",
    ),
    Mistake(
        _block(skip=lambda dy, x: x),
        "dx 里加的是 x：顺着跳跃连接回来的是 dy。",
        "You add x to dx; what comes back along the skip is dy.",
    ),
    Mistake(
        _block(branch=False),
        "dx 里只有跳跃连接的那一份：x 还通过分支影响 y。",
        "dx has the share of the skip only; x acts on y through the branch too.",
    ),
    Mistake(
        _block(mask="none"),
        "没有乘 ReLU 的导数：W1 x ≤ 0 的地方梯度是 0。",
        "The slope of ReLU is missing: where W1 x ≤ 0 the gradient is 0.",
    ),
    *(
        Mistake(
            _block(mask=mask),
            "ReLU 的导数，你看的是 x 的符号：ReLU 作用在 W1 x 上，要看 W1 x 的符号。",
            "ReLU's slope follows the sign of x; ReLU acts on W1 x, so take the sign of that.",
        )
        for mask in ("x", "end")
    ),
    Mistake(
        _block(mask="back"),
        "ReLU 的导数，你看的是梯度的符号：要看前向时 W1 x 的符号。",
        "ReLU's slope follows the sign of the gradient; take the sign of W1 x, from the forward pass.",
    ),
    Mistake(
        _block(mask_on_weights=False),
        "dW1 里没有乘 ReLU 的导数，dx 里倒乘了：两处都要乘。",
        "ReLU's slope is in dx, but missing from dW1; it belongs in both.",
    ),
    Mistake(
        _block(turned=True),
        "矩阵多转置了一次：前向是 h @ W.T，梯度传回来就是 dy @ W。",
        "The matrices are transposed once too often: the forward pass is h @ W.T, so the gradient comes back as dy @ W.",
    ),
    Mistake(
        _block(give=lambda dx, dW1, dW2: (dx, dW1.T, dW2.T)),
        "dW1 和 dW2 转置了：它们的形状要和 W1、W2 相同。",
        "dW1 and dW2 are transposed; they should have the shapes of W1 and W2.",
    ),
    Mistake(
        _block(give=lambda dx, dW1, dW2: (dx, dW2, dW1)),
        "结果的次序不对：应为 dx、dW1、dW2。",
        "The results are in the wrong order: return dx, dW1, dW2.",
    ),
    Mistake(
        lambda dy, x, W1, W2: _block()(x, dy, W1, W2),
        "dy 和 x 对调了：第一个参数是 dy。",
        "dy and x are exchanged: dy is the first argument.",
    ),
    Mistake(
        _block(active=False),
        "dW2 要用 ReLU 之后的值，你用了 W1 x。",
        "dW2 needs the values after ReLU; yours has W1 x.",
    ),
    Mistake(
        _block(through=False),
        "dW1 里没有经过 W2：dy 先乘 W2，才到 ReLU。",
        "dW1 skips W2: dy goes through W2 before it reaches the ReLU.",
    ),
    Mistake(
        _block(mean=True),
        "权重的梯度对各行取了平均：应该求和。",
        "The gradients of the weights are averaged over the rows; they should be summed.",
    ),
)


# smallest_singular_values --------------------------------------------------------------------------------------------


def _minimum(J, a):
    return torch.linalg.svdvals(torch.eye(len(J), dtype=J.dtype) + a * J)[-1]


def _slope(J):
    return torch.linalg.eigvalsh((J + J.T) / 2)[0].item()


def _skip(value=_minimum, slope=_slope):
    def wrong(J, scales):
        return torch.stack([value(J, a) for a in scales]), slope(J)

    return wrong


def _eigenvalue(J, a):
    return torch.linalg.eigvals(torch.eye(len(J), dtype=J.dtype) + a * J).abs().min()


MISTAKES["smallest_singular_values"] = (
    Mistake(
        _skip(value=_eigenvalue),
        "这是特征值的绝对值：J 不对称时，从它看不出梯度缩小多少。要用奇异值。",
        "These are absolute eigenvalues. Unless J is symmetric they do not tell how much a gradient shrinks; take singular values.",
    ),
    Mistake(
        _skip(value=lambda J, a: torch.linalg.svdvals(torch.eye(len(J), dtype=J.dtype) + a * J)[0]),
        "这是最大的奇异值，要的是最小的。",
        "This is the largest singular value; the smallest is asked for.",
    ),
    Mistake(
        _skip(value=lambda J, a: a * torch.linalg.svdvals(J)[-1]),
        "忘了加 I：矩阵是 I + aJ，不是 aJ。",
        "The I is missing: the matrix is I + aJ, not aJ.",
    ),
    Mistake(
        _skip(value=lambda J, a: torch.linalg.svdvals(1 + a * J)[-1]),
        "1 + aJ 给每个元素都加了 1：单位矩阵是 torch.eye。",
        "1 + aJ adds 1 to every element; the identity matrix is torch.eye.",
    ),
    Mistake(
        _skip(value=lambda J, a: 1 + a * torch.linalg.svdvals(J)[-1]),
        "奇异值不能这样相加：I + aJ 的最小奇异值不是 1 + a σ_min(J)。这正是“梯度至少是 1”错的地方。",
        'Singular values do not add up like this: the smallest one of I + aJ is not 1 + a σ_min(J). This is where "at least 1" goes wrong.',
    ),
    Mistake(
        _skip(value=lambda J, a: 1 - a * torch.linalg.svdvals(J)[0]),
        "1 − a σ_max(J) 只是一个下界，最小的奇异值可以比它大得多。要直接算 I + aJ 的奇异值。",
        "1 − a σ_max(J) is a lower bound only; the smallest singular value can be far above it. Compute that of I + aJ itself.",
    ),
    Mistake(
        _skip(value=lambda J, a: 1 + a * _slope(J)),
        "这是 a = 0 处的切线，只在 a 很小时可用。这里要准确的值。",
        "This is the tangent at a = 0, good for small a only. The exact values are asked for.",
    ),
    Mistake(
        _skip(value=lambda J, a: _minimum(J, a) ** 2),
        "少开了一次根号：这是奇异值的平方。",
        "A root is missing: these are squares of singular values.",
    ),
    Mistake(
        _skip(slope=lambda J: 2 * _slope(J)),
        "斜率多了一倍：对称部分是 (J + Jᵀ)/2。",
        "The slope is twice what it should be: the symmetric part is (J + Jᵀ)/2.",
    ),
    Mistake(
        _skip(slope=lambda J: torch.linalg.eigvals(J).real.min().item()),
        "斜率用了 J 自己的特征值：要用对称部分 (J + Jᵀ)/2 的。",
        "The slope is an eigenvalue of J itself; take that of the symmetric part (J + Jᵀ)/2.",
    ),
    Mistake(
        _skip(slope=lambda J: torch.linalg.eigvalsh(J)[0].item()),
        "eigvalsh 只看下三角，把 J 当成对称的：先取对称部分 (J + Jᵀ)/2。",
        "eigvalsh reads the lower triangle only and takes J for symmetric; form the symmetric part (J + Jᵀ)/2 first.",
    ),
    Mistake(
        _skip(slope=lambda J: torch.linalg.eigvalsh((J + J.T) / 2)[-1].item()),
        "斜率取了最大的特征值：最小的奇异值怎样变，由最小的特征值决定。",
        "The slope is the largest eigenvalue; the smallest one decides how the smallest singular value moves.",
    ),
    Mistake(
        _skip(slope=lambda J: -torch.linalg.svdvals(J)[0].item()),
        "−σ_max(J) 是最坏的可能，不是这个 J 的斜率：要取对称部分的最小特征值。",
        "−σ_max(J) is the worst that could be, not the slope for this J. Take the smallest eigenvalue of the symmetric part.",
    ),
    Mistake(
        _skip(slope=lambda J: -_slope(J)),
        "斜率的符号反了。",
        "The slope has the wrong sign.",
    ),
    *(
        Mistake(
            _skip(slope=lambda J, h=h: (_minimum(J, h).item() - 1) / h),
            "这是差分得到的近似：斜率有准确的表达式，是对称部分的最小特征值。",
            "This is an approximation by differences. The slope has an exact form: the smallest eigenvalue of the symmetric part.",
        )
        for h in (1e-3, 1e-4, 1e-5, 1e-6)
    ),
)


# path_shares ---------------------------------------------------------------------------------------------------------


def _shares(
    p=lambda chi: chi / (1 + chi),
    how="log",
    count=True,
    normalise=True,
    give=lambda shares: shares,
    plus=1,
    dtype=torch.float64,
):
    def wrong(depth, chi):
        q = p(chi)
        k = torch.arange(depth + 1).to(dtype)
        if how == "numbers":
            shares = [math.comb(depth, i) * q**i * (1 - q) ** (depth - i) for i in range(depth + 1)]
            return torch.tensor(shares, dtype=dtype)
        n = torch.tensor(float(depth), dtype=dtype)
        ways = torch.lgamma(n + plus) - torch.lgamma(k + plus) - torch.lgamma(n - k + plus)
        ways = ways if count else torch.zeros_like(k)
        if not normalise:
            shares = torch.exp(ways + torch.xlogy(k, torch.tensor(chi, dtype=dtype)))
        elif how == "plain":
            shares = ways.exp() * q**k * (1 - q) ** (n - k)
        elif how == "odds":
            chi = torch.tensor(chi, dtype=dtype)
            shares = torch.exp(ways + torch.xlogy(k, chi) - n * torch.log1p(chi))
        elif how == "careless":
            odds = torch.tensor([q, 1 - q], dtype=dtype).log()
            shares = torch.exp(ways + k * odds[0] + (n - k) * odds[1])
        else:
            odds = torch.tensor([q, 1 - q], dtype=dtype)
            shares = torch.exp(ways + torch.xlogy(k, odds[0]) + torch.xlogy(n - k, odds[1]))
        return give(shares)

    return wrong


def _fractions(depth, chi):
    return [math.comb(depth, k) * chi**k / (1 + chi) ** depth for k in range(depth + 1)]


def _numbers(plus=1):
    """In plain numbers, through math.log and math.lgamma, which raise where torch says inf."""

    def wrong(depth, chi):
        logs = [math.lgamma(k + plus) for k in range(depth + 1)]
        total = depth * math.log(1 + chi)
        pairs = zip(logs, logs[::-1])
        return [math.exp(logs[-1] - a - b + k * math.log(chi) - total) for k, (a, b) in enumerate(pairs)]

    return wrong


def _amplitude(chi):
    return math.sqrt(chi) / (1 + math.sqrt(chi))


OVERFLOW = (
    "数值溢出：二项式系数太大，幂又太小。全部取对数再相加（torch.lgamma），最后才取 exp。",
    "Out of range: the binomial coefficients are too large and the powers too small. Add logarithms (torch.lgamma) and take exp at the very end.",
)


MISTAKES["path_shares"] = (
    Mistake(
        _shares(p=lambda chi: chi),
        "把 χ 当成了概率：跳跃连接的权是 1，分支的是 χ，所以概率是 χ/(1 + χ)。",
        "χ is taken for a probability. The skip weighs 1 and the branch χ, so the probability is χ/(1 + χ).",
    ),
    Mistake(
        _shares(normalise=False),
        "没有除以总和 (1 + χ)^L：份额加起来应该是 1。",
        "The division by the total (1 + χ)^L is missing; shares add up to 1.",
    ),
    Mistake(
        _shares(count=False),
        "少了路径的条数：长度为 k 的路径有 C(L, k) 条。",
        "The number of paths is missing: there are C(L, k) of length k.",
    ),
    Mistake(
        _shares(p=lambda chi: 0.5),
        "这是路径条数的份额，没有用 χ：每过一个分支，梯度的平方要乘 χ。",
        "This is the share of the paths by number. χ is not used, but every branch multiplies the squared gradient by it.",
    ),
    Mistake(
        _shares(p=_amplitude),
        "你用了 √χ：份额说的是梯度的平方，每个分支乘 χ。",
        "This has √χ; the shares are of the squared gradient, which a branch multiplies by χ.",
    ),
    Mistake(
        _shares(give=lambda shares: shares.flip(0)),
        "次序反了：第 k 个数属于恰好经过 k 个分支的路径。",
        "The order is reversed: entry k belongs to the paths through exactly k branches.",
    ),
    Mistake(
        _shares(give=torch.sqrt),
        "份额多开了一次根号：它们说的就是梯度的平方。",
        "There is a root too many: the shares are of the squared gradient itself.",
    ),
    *(
        Mistake(
            wrong,
            "差了 1：n 的阶乘的对数是 lgamma(n + 1)，不是 lgamma(n)。",
            "Off by one: the logarithm of n factorial is lgamma(n + 1), not lgamma(n).",
        )
        for wrong in (_shares(plus=0), _numbers(plus=0))
    ),
    *(Mistake(wrong, *OVERFLOW) for wrong in (_shares(how="numbers"), _shares(how="plain"), _fractions)),
    *(
        Mistake(
            _shares(how=how, dtype=torch.float32),
            "在 fp32 里算 lgamma：3000 层时它大约是 21000，fp32 剩下的位数不够。用 fp64。",
            "lgamma in fp32: at 3000 layers it is about 21000, which leaves fp32 too few digits. Use fp64.",
        )
        for how in ("log", "odds")
    ),
    Mistake(
        _numbers(),
        "χ = 0 时 math.log(0) 会出错：单独处理这种情形，或者用 torch.xlogy，它规定 0 · log 0 = 0。",
        "At χ = 0, math.log(0) is an error. Treat χ = 0 separately, or use torch.xlogy, which takes 0 · log 0 as 0.",
    ),
    Mistake(
        _shares(how="careless"),
        "χ = 0 时得到 0 · log 0 = nan：用 torch.xlogy，它规定 0 · log 0 = 0。",
        "At χ = 0 this is 0 · log 0 = nan. torch.xlogy takes 0 · log 0 as 0.",
    ),
)
