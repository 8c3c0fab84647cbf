"""The mistakes that people make in exercise 01."""

import math

import torch

from normcourse.check import Mistake

from .tasks import ACTIVATIONS, expectation, mean_squares

MISTAKES = {}

# log10_gradient_norms ------------------------------------------------------------------------------------------------


def _slope_of_tanh(power=2):
    return lambda h: 1 - torch.tanh(h) ** power


SLOPES = {"relu": lambda h: (h > 0).to(h.dtype), "tanh": _slope_of_tanh()}


def _norms(
    slopes=SLOPES,
    at="before",
    turned=False,
    activation_last=False,
    slope_first=False,
    ones=False,
    only=None,
    wide=True,
    size=torch.Tensor.norm,
    log=torch.log10,
    last_first=False,
):
    """The backward pass with mistakes to switch on."""

    def wrong(x, weights, dy, activation="relu"):
        name = only or activation
        phi, slope = ACTIVATIONS[name], slopes[name]
        h, delta = x, torch.ones_like(dy) if ones else dy
        if wide:
            h, delta, weights = h.double(), delta.double(), [weight.double() for weight in weights]
        before, after = [], []
        for weight in weights:
            before.append(h @ weight.T if activation_last else h)
            h = phi(before[-1]) if activation_last else phi(h) @ weight.T
            after.append(h)
        norms = [size(delta)]
        for weight, read, written in zip(weights[::-1], before[::-1], after[::-1]):
            back = weight.T if turned else weight
            if activation_last:
                delta = (delta * slope(read)) @ back
            elif slope_first:
                delta = (delta * slope(written)) @ back
            else:
                delta = delta @ back * slope(read if at == "before" else written)
            norms.append(size(delta))
        return [log(norm).item() for norm in (norms if last_first else norms[::-1])]

    return wrong


def _rows_averaged(delta):
    return delta.norm(dim=-1).mean()


def _root_mean_square(delta):
    return delta.square().mean().sqrt()


NO_SLOPE = dict.fromkeys(SLOPES, torch.ones_like)


MISTAKES["log10_gradient_norms"] = (
    Mistake(
        _norms(slopes=NO_SLOPE),
        "没有乘激活函数的导数：每退一层，除了乘 W，还要逐元素乘 φ'。",
        "The slope of the activation function is missing: on the way back through a layer, multiply by W and, element by element, by φ'.",
    ),
    Mistake(
        _norms(at="after"),
        "φ' 取错了层：φ 作用在 x_{l−1} 上，导数也要在 x_{l−1} 处取，你取在了 x_l 处。",
        "φ' is taken at the wrong layer: φ acts on x_{l−1}, so its slope belongs there; yours is taken at x_l.",
    ),
    Mistake(
        _norms(slope_first=True),
        "φ' 乘得太早，又取在了 x_l 处：先用 W 传回去，再乘 x_{l−1} 处的 φ'。",
        "φ' comes too early, and at x_l: go back through W first, then multiply by φ' at x_{l−1}.",
    ),
    Mistake(
        _norms(activation_last=True),
        "你的层是 φ(W x)，这里的层是 W φ(x)：先激活，再乘 W。",
        "Your layer is φ(W x); here it is W φ(x): the activation function comes first, then W.",
    ),
    Mistake(
        _norms(turned=True),
        "W 多转置了一次：前向是 φ(x) @ W.T，每行的梯度传回来就是 delta @ W。",
        "W is transposed once too often: the forward pass is φ(x) @ W.T, so a row of gradients comes back as delta @ W.",
    ),
    Mistake(
        _norms(last_first=True),
        "次序反了：第一个数属于输入（第 0 层），最后一个属于输出。",
        "The order is reversed: the first number belongs to the input, layer 0, and the last one to the output.",
    ),
    Mistake(
        _norms(log=torch.log),
        "取的是自然对数，要的是以 10 为底的对数。",
        "This is the natural logarithm; the logarithm to base 10 is asked for.",
    ),
    Mistake(
        _norms(log=lambda norm: norm),
        "返回的是范数本身，还要取以 10 为底的对数。",
        "You return the norms themselves; take their logarithm to base 10.",
    ),
    Mistake(
        _norms(log=lambda norm: norm.square().log10()),
        "这是范数的平方的对数，少开了一次根号。",
        "This is the logarithm of the squared norm: the square root is missing.",
    ),
    Mistake(
        _norms(size=_rows_averaged),
        "你先对每一行求范数，再取平均：应当对整批的所有元素一起求一个范数。",
        "You take the norm of each row and average; take one norm over all elements of the batch instead.",
    ),
    Mistake(
        _norms(size=_root_mean_square),
        "这是均方根，不是范数：平方要相加，不是取平均。",
        "This is the root mean square, not the norm: add the squares up instead of averaging them.",
    ),
    Mistake(
        _norms(ones=True),
        "没有用 dy：你从全 1 开始往回传，那是各输出之和的梯度。",
        "dy is not used: you start from ones, which gives the gradient of the sum of the outputs.",
    ),
    Mistake(
        _norms(slopes=SLOPES | {"tanh": _slope_of_tanh(1)}),
        "tanh 的导数是 1 − tanh²，你少了平方。",
        "The slope of tanh is 1 − tanh²; your square is missing.",
    ),
    Mistake(
        _norms(slopes=SLOPES | {"tanh": lambda h: 1 - h**2}),
        "tanh 的导数是 1 − tanh²，你用了 1 − x²。",
        "The slope of tanh is 1 − tanh²; yours is 1 − x².",
    ),
    Mistake(
        _norms(slopes=SLOPES | {"tanh": lambda h: 1 - torch.tanh(h).tanh() ** 2}),
        "tanh 取了两次：导数是 1 − tanh²，其中的 tanh 已经是激活之后的值。",
        "tanh is taken twice: the slope is 1 − tanh², and that tanh is the value after the activation function already.",
    ),
    Mistake(
        _norms(only="relu"),
        "不管 activation 是什么，你用的都是 ReLU。",
        "Yours is ReLU, whatever the argument activation says.",
    ),
    Mistake(
        _norms(wide=False),
        "在 fp32 里下溢了：太小的数变成 0，对数就成了 −inf。一开始就把输入和权重转成 fp64。",
        "fp32 underflows: what is too small becomes 0, and its logarithm −inf. Convert the input and the weights to fp64 first.",
    ),
)


# factor_per_layer ----------------------------------------------------------------------------------------------------


def _factor(base=10.0, sign=-1, ends=False, count=0, skip=True, renumber=False, origin=False):
    def wrong(exponents):
        y = exponents
        x = torch.arange(len(y), dtype=y.dtype)
        if skip:
            x, y = x[y.isfinite()], y[y.isfinite()]
            x = torch.arange(len(y), dtype=y.dtype) if renumber else x
        elif skip is None:
            y = y.nan_to_num(neginf=0.0)
        if ends:
            slope = (y[-1] - y[0]) / (len(y) - 1 + count)
        elif origin:
            slope = (x * y).sum() / x.square().sum()
        else:
            dx, dy = x - x.mean(), y - y.mean()
            slope = (dx * dy).sum() / (dx.square().sum() + count)
        return float(base ** (sign * slope))

    return wrong


def _slope(sign):
    return lambda exponents: sign * math.log10(_factor()(exponents))


def _mean_of_ratios(exponents):
    y = exponents[exponents.isfinite()]
    return float((10 ** (y[:-1] - y[1:])).mean())


MISTAKES["factor_per_layer"] = (
    Mistake(
        _factor(sign=1),
        "方向反了：梯度从最后一层往回走，所以每层的因子是 10 的 −b 次方，b 是斜率。",
        "The direction is reversed: the gradient travels from the last layer back, so the factor is 10 to the power of −b, b being the slope.",
    ),
    Mistake(
        _factor(ends=True),
        "只用了首尾两个数：要用最小二乘法，对所有的层拟合直线。",
        "Only the first and the last number are used; fit the line to all layers by least squares.",
    ),
    Mistake(
        _factor(ends=True, count=1),
        "只用了首尾两个数，又除以了数的个数：L + 1 个数之间只有 L 层。",
        "Only the first and the last number are used, and divided by how many there are: L + 1 numbers are L layers apart.",
    ),
    Mistake(
        _factor(base=math.e),
        "底数错了：给的是以 10 为底的对数，要用 10 的幂，不是 exp。",
        "Wrong base: the logarithms given are to base 10, so take a power of 10, not exp.",
    ),
    Mistake(
        _slope(-1),
        "返回的是斜率 b 本身，还要取 10 的 −b 次方。",
        "You return b, the slope itself; take 10 to the power of −b.",
    ),
    Mistake(
        _slope(1),
        "返回的是 −b，还要取 10 的幂：10 的 −b 次方。",
        "You return the slope, as −b; take 10 to that power.",
    ),
    Mistake(
        _mean_of_ratios,
        "这是相邻两层之比的平均：有起伏时会偏大。应当对指数拟合一条直线。",
        "This is the average of the ratios of neighbouring layers, which scatter makes too large. Fit a line to the exponents.",
    ),
    Mistake(
        _factor(origin=True),
        "你的直线固定过原点：截距也要一起拟合。",
        "Your line is tied to the origin; fit the intercept too.",
    ),
    Mistake(
        _factor(renumber=True),
        "去掉几层之后，其余的层被重新编了号：每一层要用它原来的 l。",
        "With some layers left out, you number the others afresh; each keeps the l that it had.",
    ),
    Mistake(
        _factor(skip=False),
        "指数里有 −inf（梯度为 0），结果就成了 nan：先把这些层去掉。",
        "One −inf among the exponents, where the gradient is 0, makes the result nan. Leave those layers out first.",
    ),
    Mistake(
        _factor(skip=None),
        "你把 −inf 换成了 0，也就是把梯度 0 当成了 1：这些层应该去掉。",
        "You replace −inf by 0, which turns a gradient of 0 into 1. Leave those layers out.",
    ),
)


# mean_field_factors --------------------------------------------------------------------------------------------------


def _theory(
    moments=mean_squares,
    gain_power=2,
    factor=lambda gain, slope: gain * math.sqrt(slope),
    follow=True,
    slope_after=False,
    start=None,
    give=lambda q, factors: (q, factors),
):
    """The recursion with mistakes to switch on."""

    def wrong(depth, gain, activation="tanh", variance=1.0):
        variance = start or variance
        q, factors = [variance], []
        for _ in range(depth):
            q.append(gain**gain_power * moments(activation, q[-1])[0] if follow else variance)
            slope = moments(activation, q[-1] if slope_after else q[-2])[1]
            factors.append(factor(gain, slope))
        return give(q, factors)

    return wrong


def _variance_for_std(activation, q):
    return mean_squares(activation, q**2)


def _squared_means(activation, q):
    if activation == "tanh":
        slope = expectation(lambda z: torch.cosh(math.sqrt(q) * z) ** -2.0)
        return mean_squares(activation, q)[0], slope**2
    return (q / 2, 0.25) if activation == "relu" else (q, 1.0)


def _first_power(activation, q):
    if activation == "tanh":
        return mean_squares(activation, q)[0], expectation(lambda z: torch.cosh(math.sqrt(q) * z) ** -2.0)
    return mean_squares(activation, q)


def _centred(activation, q):
    value, slope = mean_squares(activation, q)
    return value - (q / (2 * math.pi) if activation == "relu" else 0.0), slope


def _narrow_grid(activation, q):
    if activation == "tanh":
        root = math.sqrt(q)
        return tuple(
            expectation(f, limit=2.0)
            for f in (lambda z: torch.tanh(root * z) ** 2, lambda z: torch.cosh(root * z) ** -4.0)
        )
    return mean_squares(activation, q)


def _narrow_weights(activation, q):
    return mean_squares(activation, q / 2 if activation == "tanh" else q)


def _relu_ignored(activation, q):
    return mean_squares("linear" if activation == "relu" else activation, q)


def _relu_slope(step, at_zero):
    """ReLU on a grid: what the point at 0 counts for depends on the step."""

    def moments(activation, q):
        if activation != "relu":
            return mean_squares(activation, q)
        value = expectation(lambda z: q * torch.relu(z) ** 2, 8.0, step)
        return value, expectation(lambda z: (z >= 0 if at_zero else z > 0).double(), 8.0, step)

    return moments


MISTAKES["mean_field_factors"] = (
    Mistake(
        _theory(factor=lambda gain, slope: gain**2 * slope),
        "这是梯度平方的因子 χ，还要开根号。",
        "This is χ, the factor of the squared gradient; take its root.",
    ),
    Mistake(
        _theory(factor=lambda gain, slope: gain * slope),
        "E[φ'²] 没有开根号。",
        "The root over E[φ'²] is missing.",
    ),
    Mistake(
        _theory(follow=False),
        "方差一直是输入的方差：每层都要更新 q。",
        "The variance stays that of the input; update q at every layer.",
    ),
    Mistake(
        _theory(slope_after=True),
        "φ' 用错了方差：第 l 层的 φ 读的是 x_{l−1}，要用 q_{l−1}，你用了 q_l。",
        "φ' has the wrong variance: φ of layer l reads x_{l−1}, so it takes q_{l−1}; you use q_l.",
    ),
    Mistake(
        _theory(gain_power=1),
        "方差要乘增益的平方，你只乘了增益。",
        "The variance is multiplied by the square of the gain; you multiply by the gain.",
    ),
    Mistake(
        _theory(gain_power=0),
        "更新方差时没有乘 g²。",
        "The g² is missing where the variance is updated.",
    ),
    Mistake(
        _theory(factor=lambda gain, slope: math.sqrt(slope)),
        "因子里没有乘增益 g。",
        "The gain g is missing from the factors.",
    ),
    Mistake(
        _theory(moments=_variance_for_std),
        "z 前面应是标准差 √q，你乘的是方差 q。",
        "z is to be multiplied by the standard deviation √q; you multiply by the variance q.",
    ),
    Mistake(
        _theory(moments=_squared_means),
        "先平方，再取期望：要的是 E[φ'²]，你算的是 E[φ']²。",
        "Square first, then take the expectation: E[φ'²] is needed, yours is E[φ']².",
    ),
    Mistake(
        _theory(moments=_first_power),
        "φ' 忘了平方：要的是 E[φ'²]，你算的是 E[φ']。",
        "φ' is not squared: E[φ'²] is needed, yours is E[φ'].",
    ),
    Mistake(
        _theory(moments=_narrow_grid),
        "z 的范围太窄：±2 之外还有百分之五的概率。取到 ±8。",
        "The range of z is too narrow: five per cent of the probability lies beyond ±2. Go to ±8.",
    ),
    Mistake(
        _theory(moments=_relu_ignored),
        "你把 ReLU 当成了线性：它只让一半通过，E φ² = q/2，E φ'² = 1/2。",
        "ReLU is treated as linear, but it lets only half through: E φ² = q/2 and E φ'² = 1/2.",
    ),
    Mistake(
        _theory(moments=_centred),
        "多减了均值的平方：传到下一层的是 E φ²；ReLU 的均值不是 0，它也算在里面。",
        "You subtract the squared mean. What goes on to the next layer is E φ²; ReLU's mean is not 0, and it counts.",
    ),
    *(
        Mistake(
            _theory(moments=_relu_slope(step, at_zero)),
            "很接近，但 ReLU 的导数在 z = 0 处跳变，而网格正好有这个点。E φ'² 就是 1/2。",
            "Close, but the slope of ReLU jumps at z = 0, where the grid has a point. E φ'² is exactly 1/2.",
        )
        for step in (0.1, 0.05, 0.02, 0.025, 0.01)
        for at_zero in (False, True)
    ),
    Mistake(
        _theory(give=lambda q, factors: (q, factors[::-1])),
        "因子的次序反了：第一个属于第 1 层。",
        "The factors are in reverse order: the first belongs to layer 1.",
    ),
    Mistake(
        _theory(give=lambda q, factors: (factors, q)),
        "两个结果的次序反了：先是方差 q，再是因子 c。",
        "The results are in the wrong order: the variances q first, then the factors c.",
    ),
    Mistake(
        _theory(give=lambda q, factors: ([math.sqrt(v) for v in q], factors)),
        "返回的是标准差 √q，要的是方差 q。",
        "You return standard deviations √q; the variances q are asked for.",
    ),
    Mistake(
        _theory(start=1.0),
        "参数 variance 没有用上：q_0 是它，不总是 1。",
        "The argument variance is not used: it is q_0, which is not always 1.",
    ),
    *(
        Mistake(
            _theory(moments=moments),
            "权重 e^(−z²) 对应的方差是 1/2；标准正态分布的是 e^(−z²/2)。",
            "Weights e^(−z²) stand for a variance of 1/2; the standard normal distribution has e^(−z²/2).",
        )
        for moments in (_narrow_weights, lambda activation, q: mean_squares(activation, q / 2))
    ),
)


# orthogonal ----------------------------------------------------------------------------------------------------------


def _orthogonal(signs=True, turn=True, use_gain=True, rows=False, scale=None, method="qr", back=True, times=None):
    def wrong(gaussian, gain=1.0):
        wide = gaussian.shape[0] < gaussian.shape[1]
        if rows:
            wide = gaussian.shape[0] <= gaussian.shape[1]
        a = gaussian.T if turn and wide else gaussian
        if method == "polar":
            u, _, v = torch.linalg.svd(a, full_matrices=False)
            q = u @ v
        elif method == "unit":
            q = a / a.norm(dim=0)
        elif method == "complete":
            q, r = torch.linalg.qr(a, mode="complete")
        elif method == "left":
            q = torch.linalg.svd(a, full_matrices=False)[0]
        else:
            q, r = torch.linalg.qr(a)
        if times:
            q = times(r.diagonal().sign()[:, None], q)
        elif signs and method in ("qr", "complete"):
            q = q.clone()
            q[:, : r.shape[-1]] *= torch.where(r.diagonal() < 0, -1.0, 1.0).to(q.dtype)
        q = q.T if turn and wide and back else q
        factor = gain if scale is None else scale(gain, gaussian)
        return q * factor if use_gain else q

    return wrong


MISTAKES["orthogonal"] = (
    Mistake(
        _orthogonal(signs=False),
        "符号没有定下来：把 Q 的每一列乘上 R 对角线上相应那个数的符号。",
        "The signs are left open: multiply each column of Q by the sign of its number on R's diagonal.",
    ),
    *(
        Mistake(
            _orthogonal(times=times),
            "符号乘到了 Q 的行上，应当乘到列上：不要 [:, None]。",
            "The signs multiply the rows of Q; they belong to its columns: leave out the [:, None].",
        )
        for times in (lambda sign, q: sign * q, lambda sign, q: q * sign)
    ),
    Mistake(_orthogonal(use_gain=False), "没有乘增益。", "The gain is not applied."),
    Mistake(
        _orthogonal(signs=False, use_gain=False),
        "两处错误：没有乘增益，Q 的符号也没有定下来。",
        "Two mistakes: the gain is not applied, and the signs of Q are left open.",
    ),
    Mistake(
        _orthogonal(method="polar"),
        "这是离 G 最近的正交矩阵 U Vᵀ，也正交，但这里要的是 QR 分解的 Q。",
        "This is U Vᵀ, the orthogonal matrix closest to G. It is orthogonal too, but the Q of the QR decomposition is asked for.",
    ),
    Mistake(
        _orthogonal(method="left"),
        "这是奇异值分解的 U，这里要的是 QR 分解的 Q。",
        "This is the U of the singular value decomposition; the Q of the QR decomposition is asked for.",
    ),
    Mistake(
        _orthogonal(method="unit"),
        "每一列的长度是 1 了，但各列还不互相垂直。",
        "Each column has length 1 now, but they are not at right angles to each other yet.",
    ),
    Mistake(
        _orthogonal(method="complete"),
        'Q 是整个方阵：只要与 G 形状相同的那一部分（mode="reduced"，默认就是）。',
        'Q is the full square matrix; only the part with the shape of G is needed (mode="reduced", the default).',
    ),
    Mistake(
        _orthogonal(scale=lambda gain, a: gain / math.sqrt(a.shape[-1])),
        "多除了 √d：正交矩阵的元素本来就是 1/√d 左右，只乘增益。",
        "There is an extra 1/√d: the entries of an orthogonal matrix are already about 1/√d. Multiply by the gain only.",
    ),
    Mistake(
        _orthogonal(scale=lambda gain, a: gain**2),
        "增益乘了两次。",
        "The gain is applied twice.",
    ),
    Mistake(
        _orthogonal(rows=True),
        "方阵也被转置了：只有行比列少时才转置。",
        "Square matrices are transposed too; transpose only where there are fewer rows than columns.",
    ),
    Mistake(
        _orthogonal(turn=False),
        "行比列少时，各列不可能都互相垂直：先转置，最后再转回来，让各行互相垂直。",
        "With fewer rows than columns the columns cannot all be at right angles. Transpose first and back at the end: then the rows are.",
    ),
    Mistake(
        _orthogonal(back=False),
        "转置之后忘了转回来：结果的形状要和 G 相同。",
        "You transpose and never go back: the result should have the shape of G.",
    ),
)
