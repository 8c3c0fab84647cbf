"""The mistakes that people make in exercise 12."""

import torch
import torch.nn.functional as F

from normcourse.check import Mistake

MISTAKES = {}

# qk_norm_logits -------------------------------------------------------------------------------------------------------


def _rms(x, eps, axis=-1):
    return x * torch.rsqrt(x.square().mean(axis, keepdim=True) + eps)


def _qk(divide=0.5, norm=_rms, keys=True, weights="each", normed=True):
    """Logits with mistakes to switch on. divide: the power of d that they are divided by."""

    def wrong(q, k, query_weight, key_weight, eps=1e-6):
        d = q.shape[-1]
        if normed:
            q, k = norm(q, eps), norm(k, eps) if keys else k
        first, second = {
            "each": (query_weight, key_weight),
            "query": (query_weight, query_weight),
            "none": (1.0, 1.0),
        }[weights]
        return (q * first) @ (k * second).mT / d**divide

    return wrong


def _lengths(x, eps):
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + eps)


def _centred(x, eps):
    return _rms(x - x.mean(-1, keepdim=True), eps)


def _eps_outside(x, eps):
    return x / (x.square().mean(-1, keepdim=True).sqrt() + eps)


def _no_eps(x, eps):
    return _rms(x, 0.0)


def _over_positions(x, eps):
    return _rms(x, eps, -2)


def _whole_tensor(x, eps):
    return x * torch.rsqrt(x.square().mean() + eps)


def _detached(x, eps):
    return x * torch.rsqrt(x.detach().square().mean(-1, keepdim=True) + eps)


def _fixed_eps(x, eps):
    return _rms(x, 1e-6)


MISTAKES["qk_norm_logits"] = (
    Mistake(
        _qk(divide=0),
        "没有除以 √d：均方根归一化之后 q·k 最大是 d，除以 √d 才是 √d。",
        "The division by √d is missing: after the norm q·k may be as large as d, and only then √d.",
    ),
    Mistake(
        _qk(divide=1),
        "除以了 d，应除以 √d。",
        "Divided by d; it should be √d.",
    ),
    Mistake(
        _qk(norm=_lengths),
        "q 和 k 的长度变成了 1：这里除以均方根，长度是 √d。",
        "The lengths of q and k became 1; divide by the root mean square, which leaves a length of √d.",
    ),
    Mistake(
        _qk(norm=_centred),
        "减去了均值，那是层归一化：这里只除以均方根。",
        "The mean is subtracted, as in LayerNorm; here they are only divided by the root mean square.",
    ),
    Mistake(
        _qk(keys=False),
        "只归一化了 q：k 大了，打分照样没有上界。",
        "Only q is normalised: with large keys the logits have no bound.",
    ),
    Mistake(
        _qk(normed=False),
        "没有归一化：打分随 q 和 k 的大小一起变大。",
        "Nothing is normalised: the logits grow with q and k.",
    ),
    Mistake(
        _qk(weights="none"),
        "没有用到学来的缩放：query_weight 和 key_weight 要乘上去。",
        "The learned scales are not used: multiply with query_weight and key_weight.",
    ),
    Mistake(
        _qk(weights="query"),
        "q 和 k 用了同一份缩放：k 用 key_weight。",
        "q and k got the same scale; key_weight belongs to k.",
    ),
    Mistake(
        _qk(norm=_eps_outside),
        "ε 放在了根号外面：它和 x² 同单位，要放在根号里面。",
        "ε stands outside the root; it has the unit of x² and belongs inside.",
    ),
    Mistake(
        _qk(norm=_no_eps),
        "没有用 ε。",
        "ε is not used.",
    ),
    Mistake(
        _qk(norm=_fixed_eps),
        "ε 写死了：用参数 eps。",
        "ε is a fixed number; use the argument eps.",
    ),
    Mistake(
        _qk(norm=_over_positions),
        "对位置求了均方根：每个位置、每个头各自对最后一维求。",
        "The root mean square was taken over the positions; every position of every head has its own, over the last dimension.",
    ),
    Mistake(
        _qk(norm=_whole_tensor),
        "整个张量共用一个均方根：每个位置、每个头要各有一个。",
        "The whole tensor shares one root mean square; every position of every head needs its own.",
    ),
    Mistake(
        _qk(norm=_detached),
        "均方根从计算图里摘掉了（detach）：梯度要经过它。",
        "The root mean square was detached; the gradient has to pass through it.",
    ),
)

# dyt_backward ---------------------------------------------------------------------------------------------------------


def _dyt(slope="1 - t²", alpha=True, weight=True, alpha_sum="all", through="x", dweight="t", reduce="rows", y="full"):
    """y and the four gradients with mistakes to switch on."""

    def wrong(dy, x, a, w, b):
        t = torch.tanh(a * x)
        down = {"1 - t²": 1 - t.square(), "1": torch.ones_like(t), "1 - t": 1 - t, "t": t}[slope]
        g = dy * w if weight else dy
        dx = g * down * (a if alpha else 1)
        terms = (dy if weight == "dx" else g) * down * {"x": x, "t": t, "1": 1, "αx": a * x}[through]
        dalpha = {"all": terms.sum().reshape(1), "mean": terms.mean().reshape(1), "features": _rows(terms)}[alpha_sum]
        each = dy * (t if dweight == "t" else x)
        if reduce == "rows":
            dw, db = _rows(each), _rows(dy)
        elif reduce == "first":
            dw, db = (each.sum(0), dy.sum(0)) if dy.dim() > 1 else (each, dy)
        elif reduce == "mean":
            count = dy.numel() // dy.shape[-1]
            dw, db = _rows(each) / count, _rows(dy) / count
        else:
            dw, db = each, dy
        return {"full": t * w + b, "no bias": t * w, "no weight": t + b}[y], dx, dalpha, dw, db

    return wrong


def _rows(terms):
    return terms.reshape(-1, terms.shape[-1]).sum(0)


MISTAKES["dyt_backward"] = (
    Mistake(
        _dyt(y="no bias"),
        "y 里没有加 bias。",
        "bias is not added to y.",
    ),
    Mistake(
        _dyt(y="no weight"),
        "y 里没有乘 weight。",
        "y is not multiplied by weight.",
    ),
    Mistake(
        _dyt(slope="1"),
        "tanh 的导数 1 − tanh² 没有乘：饱和的地方梯度应接近 0。",
        "tanh's derivative, 1 − tanh², is missing: where it is saturated the gradient should be near 0.",
    ),
    Mistake(
        _dyt(slope="1 - t"),
        "tanh 的导数是 1 − tanh²，不是 1 − tanh。",
        "tanh's derivative is 1 − tanh², not 1 − tanh.",
    ),
    Mistake(
        _dyt(alpha=False),
        "dx 里少了 α：对 αx 求导之后还要乘上里面的 α。",
        "dx lacks α: after the derivative at αx comes the inner one, α.",
    ),
    Mistake(
        _dyt(weight=False),
        "dx 和 dα 里少了 weight：dy 要先乘 weight 才传进 tanh。",
        "dx and dα lack weight: dy is multiplied by weight before it reaches the tanh.",
    ),
    Mistake(
        _dyt(weight="dx"),
        "dα 里少了 weight：dy 要先乘 weight。",
        "dα lacks weight: multiply dy by it first.",
    ),
    Mistake(
        _dyt(through="1"),
        "dα 里少了 x：∂(αx)/∂α = x。",
        "dα lacks x: ∂(αx)/∂α = x.",
    ),
    Mistake(
        _dyt(through="αx"),
        "dα 里多了一个 α：∂(αx)/∂α 是 x，不是 αx。",
        "dα has an α too many: ∂(αx)/∂α is x, not αx.",
    ),
    Mistake(
        _dyt(through="t"),
        "dα 里乘的是 tanh(αx)，应为 x 本身。",
        "dα has tanh(αx) where x itself belongs.",
    ),
    Mistake(
        _dyt(alpha_sum="features"),
        "dα 每个特征一个：α 只有一个，它的梯度要对所有元素求和，形状 (1,)。",
        "dα has one number per feature, but there is a single α: its gradient is the sum over all elements, of shape (1,).",
    ),
    Mistake(
        _dyt(alpha_sum="mean"),
        "dα 求了平均，应求和。",
        "dα was averaged; it should be a sum.",
    ),
    Mistake(
        _dyt(dweight="x"),
        "dweight 里是 x，应为 tanh(αx)：weight 乘的是它。",
        "dweight has x where tanh(αx) belongs: that is what weight multiplies.",
    ),
    Mistake(
        _dyt(reduce="mean"),
        "dweight 和 dbias 对行求了平均，应求和。",
        "dweight and dbias were averaged over the rows; they should be sums.",
    ),
    Mistake(
        _dyt(reduce="first"),
        "dweight 和 dbias 只对第一维求了和：除最后一维以外都要加。",
        "dweight and dbias were summed over the first dimension only; sum over all but the last.",
    ),
    Mistake(
        _dyt(reduce="none"),
        "dweight 和 dbias 没有对行求和：它们的形状是 (d,)。",
        "dweight and dbias are not summed over the rows; their shape is (d,).",
    ),
)

# sandwich_stack -------------------------------------------------------------------------------------------------------


def _norm(x):
    return F.layer_norm(x, x.shape[-1:])


def _same(x):
    return x


def _sandwich(inner=_norm, outer=_norm, where="branch", parallel=False, law=None, start="all", first=True):
    """The stack and its law with mistakes to switch on; law gives the next variance from (q, skip, scale)."""
    law = law or (lambda q, skip, scale: skip**2 * q + scale**2)

    def wrong(x, branches, skip, scale):
        q = {
            "all": lambda: x.var(correction=0),
            "unbiased": lambda: x.var(),
            "rows": lambda: x.var(-1, correction=0).mean(),
            "squares": lambda: x.square().mean(),
            "one": lambda: torch.ones((), dtype=x.dtype),
            "std": lambda: x.std(correction=0),
        }[start]()
        variances, x0 = [q], x
        for branch in branches:
            reads = x0 if parallel else x
            if where == "branch":
                x = skip * x + scale * outer(branch(inner(reads)))
            elif where == "inside":
                x = skip * x + outer(scale * branch(inner(reads)))
            elif where == "post":
                x = outer(skip * x + scale * branch(inner(reads)))
            else:
                x = skip * (x + scale * outer(branch(inner(reads))))
            variances.append(law(variances[-1], skip, scale))
        variances = variances if first else variances[1:] or variances
        return x, torch.stack([torch.as_tensor(v, dtype=x.dtype) for v in variances])

    return wrong


MISTAKES["sandwich_stack"] = (
    Mistake(
        _sandwich(inner=_same),
        "分支前面的归一化没有做：f 读的是 n(x)。",
        "The norm in front of the branch is missing: f reads n(x).",
    ),
    Mistake(
        _sandwich(outer=_same),
        "分支后面的归一化没有做：加上去的是 scale·n(f(n(x)))。",
        "The norm behind the branch is missing: what is added is scale·n(f(n(x))).",
    ),
    Mistake(
        _sandwich(inner=_same, outer=_same),
        "两处归一化都没有做。",
        "Both norms are missing.",
    ),
    Mistake(
        _sandwich(where="inside"),
        "scale 乘在了归一化里面，被它除掉了：乘在外面。",
        "scale stands inside the norm, which divides it out again; multiply outside.",
    ),
    Mistake(
        _sandwich(where="post"),
        "归一化放在了相加之后，那是后置归一化：只归一化分支的输出。",
        "The norm comes after the sum, as in Post-Norm; only the branch's output is normalised.",
    ),
    Mistake(
        _sandwich(where="both"),
        "skip 也乘到了分支上：它只乘 x。",
        "skip multiplies the branch, too; it belongs to x alone.",
    ),
    Mistake(
        _sandwich(parallel=True),
        "所有分支读的都是最初的 x：每个分支读上一步的结果。",
        "All branches read the first x; each should read what the one before left.",
    ),
    Mistake(
        _sandwich(law=lambda q, skip, scale: skip * q + scale),
        "方差公式里没有平方：一个数乘以 s，方差乘以 s²。",
        "The law has no squares: a factor s multiplies a variance by s².",
    ),
    Mistake(
        _sandwich(law=lambda q, skip, scale: skip**2 * q + scale),
        "方差公式里 scale 没有平方。",
        "scale is not squared in the law.",
    ),
    Mistake(
        _sandwich(law=lambda q, skip, scale: q + scale**2),
        "方差公式里没有 skip：x 乘了 skip，它的方差乘 skip²。",
        "The law lacks skip: x is multiplied by it, so its variance by skip².",
    ),
    Mistake(
        _sandwich(law=lambda q, skip, scale: skip**2 * q + scale**2 * q),
        "分支加上的方差乘了 q：归一化之后它是 scale²，与主干的大小无关。",
        "The branch's variance is multiplied by q; behind a norm it is scale², whatever the size of the stream.",
    ),
    Mistake(
        _sandwich(law=lambda q, skip, scale: (skip * q**0.5 + scale) ** 2),
        "相加的是标准差：x 和分支的输出正交，相加的是方差。",
        "The standard deviations were added; the stream and the branch are orthogonal, so variances add.",
    ),
    Mistake(
        _sandwich(start="unbiased"),
        "开头的方差除以了 n − 1：这里除以 n（correction=0）。",
        "The first variance was divided by n − 1; here it is divided by n (correction=0).",
    ),
    Mistake(
        _sandwich(start="squares"),
        "开头是均方，没有减去均值：要的是 x 所有元素的方差。",
        "The first number is the mean square, without the mean subtracted; it should be the variance of all of x.",
    ),
    Mistake(
        _sandwich(start="rows"),
        "开头的方差是逐行求再平均的：要 x 所有元素一起的方差。",
        "The first variance is the average over rows; it should be that of all elements together.",
    ),
    Mistake(
        _sandwich(start="one"),
        "方差从 1 开始了：从 x 的方差开始。",
        "The variances start at 1; they should start at that of x.",
    ),
    Mistake(
        _sandwich(first=False),
        "方差少了第一个：从输入的方差开始，一共 L + 1 个。",
        "The first variance is missing: start with that of the input, L + 1 numbers in all.",
    ),
)
