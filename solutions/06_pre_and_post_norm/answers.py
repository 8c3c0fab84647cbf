import math

import torch
import torch.nn.functional as F

from normcourse import residual
from tests.answers import honest, mutant

# wire


@mutant("wire", "exchanged")
def pre_and_post_exchanged(placement, x, f, norm, norm_out=None):
    if placement == "pre_norm":
        return norm(x + f(x))
    if placement == "post_norm":
        return x + f(norm(x))
    return x + norm(f(x)) if placement == "res_post_norm" else x + norm_out(f(norm(x)))


def others(placement, x, f, norm, norm_out):
    """What is right, for the placements that a mutant leaves alone."""
    if placement == "post_norm":
        return norm(x + f(x))
    if placement == "pre_norm":
        return x + f(norm(x))
    return x + norm(f(x)) if placement == "res_post_norm" else x + norm_out(f(norm(x)))


@mutant("wire", "This is Pre-Norm")
def post_is_pre(placement, x, f, norm, norm_out=None):
    return x + f(norm(x)) if placement == "post_norm" else others(placement, x, f, norm, norm_out)


@mutant("wire", "which is Res-Post-Norm")
def post_is_res_post(placement, x, f, norm, norm_out=None):
    return x + norm(f(x)) if placement == "post_norm" else others(placement, x, f, norm, norm_out)


@mutant("wire", "Post-Norm has lost its skip")
def post_without_skip(placement, x, f, norm, norm_out=None):
    return norm(f(x)) if placement == "post_norm" else others(placement, x, f, norm, norm_out)


@mutant("wire", "skip is normalised too")
def pre_normalises_the_stream(placement, x, f, norm, norm_out=None):
    if placement == "pre_norm":
        x = norm(x)
        return x + f(x)
    return others(placement, x, f, norm, norm_out)


@mutant("wire", "Pre-Norm has lost its skip")
def pre_without_skip(placement, x, f, norm, norm_out=None):
    return f(norm(x)) if placement == "pre_norm" else others(placement, x, f, norm, norm_out)


@mutant("wire", "a norm too many")
def pre_with_the_final_norm_inside(placement, x, f, norm, norm_out=None):
    return norm(x + f(norm(x))) if placement == "pre_norm" else others(placement, x, f, norm, norm_out)


@mutant("wire", "yours is Post-Norm")
def res_post_is_post(placement, x, f, norm, norm_out=None):
    return norm(x + f(x)) if placement in ("post_norm", "res_post_norm") else others(placement, x, f, norm, norm_out)


@mutant("wire", "not at its entrance")
def res_post_is_pre(placement, x, f, norm, norm_out=None):
    return x + f(norm(x)) if placement == "res_post_norm" else others(placement, x, f, norm, norm_out)


@mutant("wire", "Res-Post-Norm has lost its skip")
def res_post_without_skip(placement, x, f, norm, norm_out=None):
    return norm(f(x)) if placement == "res_post_norm" else others(placement, x, f, norm, norm_out)


@mutant("wire", "Peri-Norm has lost its skip")
def peri_without_skip(placement, x, f, norm, norm_out=None):
    return norm_out(f(norm(x))) if placement == "peri_norm" else others(placement, x, f, norm, norm_out)


@mutant("wire", "two norms of Peri-Norm are exchanged")
def peri_norms_exchanged(placement, x, f, norm, norm_out=None):
    return x + norm(f(norm_out(x))) if placement == "peri_norm" else others(placement, x, f, norm, norm_out)


@mutant("wire", "the same norm twice")
def peri_with_one_norm(placement, x, f, norm, norm_out=None):
    return x + norm(f(norm(x))) if placement == "peri_norm" else others(placement, x, f, norm, norm_out)


@mutant("wire", "belongs to the branch")
def peri_norm_out_on_the_stream(placement, x, f, norm, norm_out=None):
    return norm_out(x + f(norm(x))) if placement == "peri_norm" else others(placement, x, f, norm, norm_out)


@mutant("wire", "does not use norm_out")
def peri_without_norm_out(placement, x, f, norm, norm_out=None):
    return x + f(norm(x)) if placement == "peri_norm" else others(placement, x, f, norm, norm_out)


@mutant("wire", "writes to its input x")
def added_in_place(placement, x, f, norm, norm_out=None):
    if placement == "post_norm":
        x += f(x)
        return norm(x)
    return others(placement, x, f, norm, norm_out)


@mutant("wire", "without calling normcourse.residual")
def wired_by_the_package(placement, x, f, norm, norm_out=None):
    block = residual.PLACEMENTS[placement](x.shape[-1], torch.nn.Identity())
    block.sublayer.forward, block.norm.forward = f, norm
    return block(x)


@mutant("wire", "gradient of x")
def norm_under_no_grad(placement, x, f, norm, norm_out=None):
    def frozen(h):
        with torch.no_grad():
            return norm(h)

    return others(placement, x, f, frozen if placement == "pre_norm" else norm, norm_out)


@mutant("wire", "None")
def wired_without_return(placement, x, f, norm, norm_out=None):
    if placement == "post_norm":
        norm(x + f(x))
    else:
        return others(placement, x, f, norm, norm_out)


@mutant("wire")
def built_in_norm(placement, x, f, norm, norm_out=None):
    def plain(h):
        return F.layer_norm(h, h.shape[-1:])

    return others(placement, x, f, plain, plain)


@honest("wire")
def as_a_table(kind, h, branch, first, second=None):
    table = {
        "post_norm": lambda: first(branch(h) + h),
        "pre_norm": lambda: branch(first(h)) + h,
        "res_post_norm": lambda: first(branch(h)) + h,
        "peri_norm": lambda: second(branch(first(h))) + h,
    }
    return table[kind]()


@honest("wire")
def by_where_the_norms_stand(placement, x, f, norm, norm_out=None):
    before = norm if placement in ("pre_norm", "peri_norm") else None
    after = {"res_post_norm": norm, "peri_norm": norm_out}.get(placement)
    y = f(before(x) if before else x)
    y = after(y) if after else y
    return norm(x + y) if placement == "post_norm" else x + y


@honest("wire")
def in_place_on_the_branch(placement, x, f, norm, norm_out=None):
    y = x.clone()
    if placement in ("pre_norm", "peri_norm"):
        y = norm(y)
    y = f(y)
    if placement == "res_post_norm":
        y = norm(y)
    elif placement == "peri_norm":
        y = norm_out(y)
    y = y.add(x)
    match placement:
        case "post_norm":
            return norm(y)
        case _:
            return y


# post_ln_block


@mutant("post_ln_block", "still the listing")
def as_printed(x, attention, feed_forward, norm1, norm2):
    h = norm1(attention(x))
    x = x + h
    h = norm2(feed_forward(x))
    return x + h


@mutant("post_ln_block", "This is Pre-Norm")
def repaired_to_pre(x, attention, feed_forward, norm1, norm2):
    x = x + attention(norm1(x))
    return x + feed_forward(norm2(x))


@mutant("post_ln_block", "Only the first half")
def half_repaired(x, attention, feed_forward, norm1, norm2):
    x = norm1(x + attention(x))
    return x + norm2(feed_forward(x))


@mutant("post_ln_block", "Only the second half")
def other_half_repaired(x, attention, feed_forward, norm1, norm2):
    x = x + norm1(attention(x))
    return norm2(x + feed_forward(x))


@mutant("post_ln_block", "starts from x")
def second_skip_from_x(x, attention, feed_forward, norm1, norm2):
    h = norm1(x + attention(x))
    return norm2(x + feed_forward(h))


@mutant("post_ln_block", "goes past norm1")
def second_skip_past_norm1(x, attention, feed_forward, norm1, norm2):
    x = attention(x) + x
    return norm2(feed_forward(norm1(x)) + x)


@mutant("post_ln_block", "still reads the first x")
def feed_forward_reads_the_old_x(x, attention, feed_forward, norm1, norm2):
    h = attention(x).add(x)
    h = norm1(h)
    return norm2(h.add(feed_forward(x)))


@mutant("post_ln_block", "norms are exchanged")
def norms_in_the_wrong_order(x, attention, feed_forward, norm1, norm2):
    x = norm2(x + attention(x))
    return norm1(x + feed_forward(x))


@mutant("post_ln_block", "norm2 not at all")
def one_norm_for_both(x, attention, feed_forward, norm1, norm2):
    for f in (attention, feed_forward):
        x = norm1(x + f(x))
    return x


@mutant("post_ln_block", "Both skips are gone")
def no_skips(x, attention, feed_forward, norm1, norm2):
    return norm2(feed_forward(norm1(attention(x))))


@mutant("post_ln_block", "norm1 is not used")
def norm_only_at_the_end(x, attention, feed_forward, norm1, norm2):
    x = x + attention(x)
    return norm2(x + feed_forward(x))


@mutant("post_ln_block", "order is reversed")
def feed_forward_first(x, attention, feed_forward, norm1, norm2):
    x = norm1(x + feed_forward(x))
    return norm2(x + attention(x))


@mutant("post_ln_block", "writes to its input x")
def block_in_place(x, attention, feed_forward, norm1, norm2):
    x += attention(x)
    h = norm1(x)
    return norm2(h + feed_forward(h))


@mutant("post_ln_block")
def normalised_twice(x, attention, feed_forward, norm1, norm2):
    x = norm1(x + norm1(attention(x)))
    return norm2(x + norm2(feed_forward(x)))


@mutant("post_ln_block", "without calling normcourse.residual")
def block_by_the_package(x, attention, feed_forward, norm1, norm2):
    for f, norm in ((attention, norm1), (feed_forward, norm2)):
        block = residual.PostNorm(x.shape[-1], torch.nn.Identity())
        block.sublayer.forward, block.norm.forward = f, norm
        x = block(x)
    return x


@mutant("post_ln_block")
def position_by_position(x, attention, feed_forward, norm1, norm2):
    rows = [norm1(row + attention(row[None])[0]) for row in x.reshape(-1, x.shape[-1])]
    h = torch.stack(rows).reshape(x.shape)
    return norm2(h + feed_forward(h))


@honest("post_ln_block")
def in_one_expression(x, attention, feed_forward, norm1, norm2):
    return norm2((h := norm1(x + attention(x))) + feed_forward(h))


@honest("post_ln_block")
def with_add_and_norm(x, attention, feed_forward, norm1, norm2):
    def add_and_norm(residual, branch, norm):
        return norm(branch(residual) + residual)

    return add_and_norm(add_and_norm(x, attention, norm1), feed_forward, norm2)


@honest("post_ln_block")
def as_modules(x, attention, feed_forward, norm1, norm2):
    class Sublayer(torch.nn.Module):
        def __init__(self, branch, norm):
            super().__init__()
            self.branch, self.norm = branch, norm

        def forward(self, residual):
            out = self.branch(residual)
            return self.norm(torch.add(residual, out))

    return torch.nn.Sequential(Sublayer(attention, norm1), Sublayer(feed_forward, norm2))(x)


@honest("post_ln_block")
def one_sequence_at_a_time(x, attention, feed_forward, norm1, norm2):
    out = []
    for sequence in x.reshape(-1, *x.shape[-2:]):
        h = norm1(sequence + attention(sequence))
        out.append(norm2(h + feed_forward(h)))
    return torch.stack(out).reshape(x.shape)


# loss_curve


def plain_norm(h):
    return F.layer_norm(h, (h.shape[-1],))


def forward(placement, weights, h):
    for w in weights:
        h = h + torch.tanh(plain_norm(h)) @ w.T if placement == "pre_norm" else plain_norm(h + torch.tanh(h) @ w.T)
    return plain_norm(h) if placement == "pre_norm" else h


def descend(network, placement, weights, x, targets, rate, steps, loss_of=F.mse_loss, sign=1.0):
    weights = [w.detach().clone().requires_grad_() for w in weights]
    losses = []
    for step in range(steps + 1):
        loss = loss_of(network(placement, weights, x), targets)
        losses.append(loss.item())
        if step < steps:
            gradients = torch.autograd.grad(loss, weights, allow_unused=True)
            with torch.no_grad():
                for w, g in zip(weights, gradients):
                    if g is not None:
                        w -= sign * rate * g
    return losses


@mutant("loss_curve", "last loss is missing")
def one_loss_per_step(placement, weights, x, targets, rate, steps):
    return descend(forward, placement, weights, x, targets, rate, steps)[:-1]


@mutant("loss_curve", "first loss is missing")
def losses_after_each_step(placement, weights, x, targets, rate, steps):
    return descend(forward, placement, weights, x, targets, rate, steps)[1:]


@mutant("loss_curve", "accumulate")
def forgets_zero_grad(placement, weights, x, targets, learning_rate, steps):
    weights = [w.detach().clone().requires_grad_() for w in weights]
    losses = []
    for step in range(steps + 1):
        loss = (forward(placement, weights, x) - targets).square().mean()
        losses.append(loss.item())
        if step < steps:
            loss.backward()
            with torch.no_grad():
                for w in weights:
                    w -= learning_rate * w.grad
    return losses


@mutant("loss_curve", "lacks the norm at its end")
def no_final_norm(placement, weights, x, targets, rate, steps):
    def network(placement, weights, h):
        for w in weights:
            h = h + torch.tanh(plain_norm(h)) @ w.T if placement == "pre_norm" else plain_norm(h + torch.tanh(h) @ w.T)
        return h

    return descend(network, placement, weights, x, targets, rate, steps)


@mutant("loss_curve", "a norm too many")
def final_norm_for_both(placement, weights, x, targets, rate, steps):
    def network(placement, weights, h):
        h = forward(placement, weights, h)
        return plain_norm(h) if placement == "post_norm" else h

    return descend(network, placement, weights, x, targets, rate, steps)


@mutant("loss_curve", "wrong direction")
def climbs(placement, weights, x, targets, rate, steps):
    return descend(forward, placement, weights, x, targets, rate, steps, sign=-1.0)


@mutant("loss_curve", "their sum")
def summed_loss(placement, weights, x, targets, rate, steps):
    return descend(forward, placement, weights, x, targets, rate, steps, lambda y, t: F.mse_loss(y, t, reduction="sum"))


@mutant("loss_curve", "factor ½")
def half_the_loss(placement, weights, x, targets, rate, steps):
    half = lambda y, t: 0.5 * ((y - t) ** 2).mean()  # noqa: E731
    return descend(forward, placement, weights, x, targets, rate, steps, half)


def network_of(activation=torch.tanh, norm=plain_norm, skip=("pre_norm", "post_norm")):
    def network(placement, weights, h):
        for w in weights:
            carried = h if placement in skip else 0
            h = carried + activation(norm(h)) @ w.T if placement == "pre_norm" else norm(carried + activation(h) @ w.T)
        return norm(h) if placement == "pre_norm" else h

    return network


@mutant("loss_curve", "yours is ReLU")
def with_relu(placement, weights, x, targets, rate, steps):
    return descend(network_of(torch.relu), placement, weights, x, targets, rate, steps)


@mutant("loss_curve", "ε is 10⁻⁶")
def smaller_eps(placement, weights, x, targets, rate, steps):
    def norm(h):
        centred = h - h.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    return descend(network_of(norm=norm), placement, weights, x, targets, rate, steps)


@mutant("loss_curve", "no norm anywhere")
def not_normalised(placement, weights, x, targets, rate, steps):
    return descend(network_of(norm=torch.clone), placement, weights, x, targets, rate, steps)


@mutant("loss_curve", "A skip is missing")
def without_skips(placement, weights, x, targets, rate, steps):
    return descend(network_of(skip=()), placement, weights, x, targets, rate, steps)


@mutant("loss_curve", "A skip is missing")
def without_skips_in_post(placement, weights, x, targets, rate, steps):
    return descend(network_of(skip=("pre_norm",)), placement, weights, x, targets, rate, steps)


@mutant("loss_curve", "A skip is missing")
def without_skips_in_pre(placement, weights, x, targets, rate, steps):
    return descend(network_of(skip=("post_norm",)), placement, weights, x, targets, rate, steps)


@mutant("loss_curve", "Only the last layer learns")
def detached_between_layers(placement, weights, x, targets, rate, steps):
    def network(placement, weights, h):
        for w in weights:
            h = h.detach()
            h = h + torch.tanh(plain_norm(h)) @ w.T if placement == "pre_norm" else plain_norm(h + torch.tanh(h) @ w.T)
        return plain_norm(h) if placement == "pre_norm" else h

    return descend(network, placement, weights, x, targets, rate, steps)


@mutant("loss_curve", "for Post-Norm, too")
def always_pre(placement, weights, x, targets, rate, steps):
    return descend(forward, "pre_norm", weights, x, targets, rate, steps)


@mutant("loss_curve", "for Pre-Norm, too")
def always_post(placement, weights, x, targets, rate, steps):
    return descend(forward, "post_norm", weights, x, targets, rate, steps)


@mutant("loss_curve", "not transposed")
def not_transposed(placement, weights, x, targets, rate, steps):
    return descend(forward, placement, [w.T for w in weights], x, targets, rate, steps)


@mutant("loss_curve", "tanh first")
def tanh_outside(placement, weights, x, targets, rate, steps):
    def network(placement, weights, h):
        for w in weights:
            h = h + torch.tanh(plain_norm(h) @ w.T) if placement == "pre_norm" else plain_norm(h + torch.tanh(h @ w.T))
        return plain_norm(h) if placement == "pre_norm" else h

    return descend(network, placement, weights, x, targets, rate, steps)


@mutant("loss_curve", "skip is normalised too")
def stream_normalised(placement, weights, x, targets, rate, steps):
    def network(placement, weights, h):
        if placement == "post_norm":
            return forward(placement, weights, h)
        for w in weights:
            h = plain_norm(h)
            h = h + torch.tanh(h) @ w.T
        return plain_norm(h)

    return descend(network, placement, weights, x, targets, rate, steps)


@mutant("loss_curve", "writes to its input")
def trains_the_given_weights(placement, weights, x, targets, learning_rate, steps):
    losses = []
    for step in range(steps + 1):
        for w in weights:
            w.requires_grad_()
        loss = F.mse_loss(forward(placement, weights, x), targets)
        losses.append(loss.item())
        if step < steps:
            gradients = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                for w, g in zip(weights, gradients):
                    w -= learning_rate * g
    return losses


@mutant("loss_curve")
def with_adam(placement, weights, x, targets, learning_rate, steps):
    weights = [w.detach().clone().requires_grad_() for w in weights]
    optimiser, losses = torch.optim.Adam(weights, lr=learning_rate), []
    for _ in range(steps + 1):
        loss = F.mse_loss(forward(placement, weights, x), targets)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return losses


@mutant("loss_curve")
def row_after_row_sgd(placement, weights, x, targets, rate, steps):
    losses = [F.mse_loss(forward(placement, weights, x), targets).item()]
    weights = [w.detach().clone() for w in weights]
    for step in range(steps):
        row = step % len(x)
        weights = [w.requires_grad_() for w in weights]
        loss = F.mse_loss(forward(placement, weights, x[row]), targets[row])
        weights = [(w - rate * g).detach() for w, g in zip(weights, torch.autograd.grad(loss, weights))]
        losses.append(F.mse_loss(forward(placement, weights, x), targets).item())
    return losses


@mutant("loss_curve")
def in_fp32(placement, weights, x, targets, rate, steps):
    return descend(forward, placement, [w.float() for w in weights], x.float(), targets.float(), rate, steps)


@honest("loss_curve")
def with_torch_sgd(placement, weights, x, targets, learning_rate, steps):
    weights = [w.detach().clone().requires_grad_() for w in weights]
    optimiser, losses = torch.optim.SGD(weights, lr=learning_rate), []
    for _ in range(steps + 1):
        loss = F.mse_loss(forward(placement, weights, x), targets)
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return losses


@honest("loss_curve")
def with_linear_layers(placement, weights, x, targets, learning_rate, steps):
    d = x.shape[-1]
    layers = torch.nn.ModuleList(torch.nn.Linear(d, d, bias=False, dtype=x.dtype) for _ in weights)
    for layer, w in zip(layers, weights):
        layer.weight.data.copy_(w)
    norm = torch.nn.LayerNorm(d, elementwise_affine=False)

    def loss():
        h = x
        for layer in layers:
            h = h + layer(norm(h).tanh()) if placement == "pre_norm" else norm(h + layer(h.tanh()))
        return torch.mean((norm(h) - targets) ** 2 if placement == "pre_norm" else (h - targets) ** 2)

    curve = []
    for _ in range(steps):
        layers.zero_grad()
        now = loss()
        now.backward()
        curve.append(now.item())
        for p in layers.parameters():
            p.data.sub_(p.grad, alpha=learning_rate)
    return [*curve, loss().item()]


@honest("loss_curve")
def as_a_tensor_of_numbers(placement, weights, x, targets, learning_rate, steps):
    stacked = torch.stack(tuple(weights)).detach().clone().requires_grad_()
    losses = torch.empty(steps + 1, dtype=torch.float64)
    for step in range(steps + 1):
        loss = (forward(placement, stacked.unbind(), x) - targets).pow(2).sum() / x.numel()
        losses[step] = loss.detach()
        stacked = (stacked - learning_rate * torch.autograd.grad(loss, stacked)[0]).detach().requires_grad_()
    return losses


# warmup_rate


@mutant("warmup_rate", "Off by one step")
def step_from_zero(step, hidden_size, warmup):
    if warmup == 0:
        return hidden_size**-0.5 / step**0.5
    return hidden_size**-0.5 * min(1 / step**0.5 if step else 1.0, step * warmup**-1.5)


@mutant("warmup_rate", "max(step, 1)")
def at_least_one(step, hidden_size, warmup):
    t = max(step, 1)
    return hidden_size**-0.5 * (min(t**-0.5, t * warmup**-1.5) if warmup else t**-0.5)


@mutant("warmup_rate", "One step too many")
def two_added(step, hidden_size, warmup):
    t = step + 2
    return hidden_size**-0.5 * (min(t**-0.5, t * warmup**-1.5) if warmup else t**-0.5)


@mutant("warmup_rate", "larger of the two")
def the_larger(step, hidden_size, warmup):
    t = step + 1
    return hidden_size**-0.5 * (max(t**-0.5, t * warmup**-1.5) if warmup else t**-0.5)


@mutant("warmup_rate", "1/√d")
def no_hidden_size(step, hidden_size, warmup):
    t = step + 1
    return min(t**-0.5, t * warmup**-1.5) if warmup else t**-0.5


@mutant("warmup_rate", "exponent of hidden_size")
def times_the_root(step, hidden_size, warmup):
    t = step + 1
    return hidden_size**0.5 * (min(t**-0.5, t * warmup**-1.5) if warmup else t**-0.5)


@mutant("warmup_rate", "w^(−1/2)")
def wrong_exponent(step, hidden_size, warmup):
    t = step + 1
    return hidden_size**-0.5 * (min(t**-0.5, t * warmup**-0.5) if warmup else t**-0.5)


@mutant("warmup_rate", "never counts")
def positive_exponent(step, hidden_size, warmup):
    t = step + 1
    return hidden_size**-0.5 * (min(t**-0.5, t * warmup**1.5) if warmup else t**-0.5)


@mutant("warmup_rate", "Yours has w + 1")
def one_added_to_the_warmup(step, hidden_size, warmup):
    t = step + 1
    return hidden_size**-0.5 * min(t**-0.5, t * (warmup + 1) ** -1.5)


@mutant("warmup_rate", "rate is constant")
def constant_without_warmup(step, hidden_size, warmup):
    if warmup == 0:
        return 1 / math.sqrt(hidden_size)
    t = step + 1
    return min(1 / math.sqrt(t), t / warmup**1.5) / math.sqrt(hidden_size)


@mutant("warmup_rate", "does not meet")
def rises_to_one(step, hidden_size, warmup):
    t = step + 1
    return hidden_size**-0.5 * (min(t**-0.5, t / warmup) if warmup else t**-0.5)


@mutant("warmup_rate", "stays at its peak")
def constant_after_warmup(step, hidden_size, warmup):
    t = step + 1
    if warmup == 0:
        return (hidden_size * t) ** -0.5
    return (hidden_size * warmup) ** -0.5 * min(1.0, t / warmup)


@mutant("warmup_rate", "falls like 1/t;")
def falls_too_fast(step, hidden_size, warmup):
    t = step + 1
    return hidden_size**-0.5 * (min(1 / t, t * warmup**-1.5) if warmup else 1 / t)


@mutant("warmup_rate", "negative power of 0")
def no_case_for_zero(step, hidden_size, warmup):
    return hidden_size**-0.5 * min((step + 1) ** -0.5, (step + 1) * warmup**-1.5)


@mutant("warmup_rate", "same in both")
def only_the_fall_shifted(step, hidden_size, warmup):
    fall = (step + 1) ** -0.5
    return hidden_size**-0.5 * (min(fall, step * warmup**-1.5) if warmup else fall)


@mutant("warmup_rate", "the rate is not 0")
def nothing_without_warmup(step, hidden_size, warmup):
    t = step + 1
    return hidden_size**-0.5 * min(t**-0.5, t * warmup**-1.5) if warmup else 0.0


@mutant("warmup_rate")
def whole_division(step, hidden_size, warmup):
    t = step + 1
    peak = (hidden_size * max(warmup, 1)) ** -0.5
    return peak * (t // warmup) if t < warmup else (hidden_size * t) ** -0.5


@honest("warmup_rate")
def in_two_pieces(step, hidden_size, warmup):
    t = step + 1
    if t < warmup:
        return t / (warmup * math.sqrt(warmup * hidden_size))
    return 1 / math.sqrt(t * hidden_size)


@honest("warmup_rate")
def by_torch(step, hidden_size, warmup):
    t = torch.tensor(step + 1.0, dtype=torch.float64)
    rise = t / torch.tensor(float(warmup), dtype=torch.float64) ** 1.5
    return torch.minimum(t.rsqrt(), rise).item() / hidden_size**0.5


@honest("warmup_rate")
def relative_to_the_peak(step, hidden_size, warmup):
    t, top = step + 1, max(warmup, 1)
    return (hidden_size * top) ** -0.5 * min(math.sqrt(top / t), t / top)


# identity_path


def stack(x, branches, layer):
    h = start = x.clone().requires_grad_()
    for f in branches:
        h = layer(h, f)
    return start, h


def both(x, branches, norm, dy, whole=None, skips=None):
    found = []
    for layer in (whole or (lambda h, f: norm(h + f(h))), skips or (lambda h, f: norm(h + f(h).detach()))):
        start, h = stack(x, branches, layer)
        found.append(torch.autograd.grad(h, start, dy)[0])
    return tuple(found)


@mutant("identity_path", "wrong order")
def skips_first(x, branches, norm, dy):
    return both(x, branches, norm, dy)[::-1]


@mutant("identity_path", "gone from the forward pass")
def branches_removed(x, branches, norm, dy):
    return both(x, branches, norm, dy, skips=lambda h, f: norm(h))


@mutant("identity_path", "part that went through branches")
def the_difference(x, branches, norm, dy):
    whole, skips = both(x, branches, norm, dy)
    return whole, whole - skips


@mutant("identity_path", "You cut the skip")
def skips_detached(x, branches, norm, dy):
    return both(x, branches, norm, dy)[0], branch_only(x, branches, norm, dy)


def branch_only(x, branches, norm, dy):
    start, h = stack(x, branches, lambda h, f: norm(h.detach() + f(h)))
    return torch.autograd.grad(h, start, dy)[0]


@mutant("identity_path", "are the same")
def not_cut(x, branches, norm, dy):
    return both(x, branches, norm, dy, skips=lambda h, f: norm(h + f(h)))


@mutant("identity_path", "accumulates")
def grad_not_cleared(x, branches, norm, dy):
    start = x.clone().requires_grad_()
    found = []
    for cut in (False, True):
        h = start
        for f in branches:
            h = norm(h + (f(h).detach() if cut else f(h)))
        h.backward(dy)
        found.append(start.grad.clone())
    return found


@mutant("identity_path", "the same .grad")
def grad_twice_without_a_copy(x, branches, norm, dy):
    start = x.clone().requires_grad_()
    h = start
    for f in branches:
        h = norm(h + f(h))
    h.backward(dy)
    whole = start.grad
    h = start
    for f in branches:
        h = norm(h + f(h).detach())
    h.backward(dy)
    return whole, start.grad


@mutant("identity_path", "dy itself. That is so")
def skips_unchanged(x, branches, norm, dy):
    return both(x, branches, norm, dy)[0], dy.clone()


@mutant("identity_path", "reverse order")
def last_branch_first(x, branches, norm, dy):
    return both(x, list(reversed(branches)), norm, dy)


@mutant("identity_path", "Pre-Norm network")
def a_pre_norm_stack(x, branches, norm, dy):
    return both(x, branches, norm, dy, lambda h, f: h + f(norm(h)), lambda h, f: h + f(norm(h)).detach())


@mutant("identity_path", "dy is not used")
def sent_back_ones(x, branches, norm, dy):
    found = []
    for cut in (False, True):
        start, h = stack(x, branches, lambda h, f, cut=cut: norm(h + (f(h).detach() if cut else f(h))))
        h.sum().backward()
        found.append(start.grad)
    return found


@mutant("identity_path", "return the norms")
def norms_of_both(x, branches, norm, dy):
    whole, skips = both(x, branches, norm, dy)
    return whole.norm().item(), skips.norm().item()


@mutant("identity_path")
def only_the_last_branch_cut(x, branches, norm, dy):
    def layer(h, f):
        return norm(h + (f(h).detach() if f is branches[-1] else f(h)))

    return both(x, branches, norm, dy, skips=layer) if len(branches) > 1 else both(x, branches, norm, dy)


@mutant("identity_path")
def only_the_number_two(x, branches, norm, dy):
    whole, _ = both(x, branches, norm, dy)
    return whole, dy * 2 ** (-len(branches) / 2)


@mutant("identity_path", "RuntimeError")
def under_no_grad(x, branches, norm, dy):
    def layer(h, f):
        with torch.no_grad():
            return norm(h + f(h))

    return both(x, branches, norm, dy, skips=layer)


@mutant("identity_path")
def final_norm_added(x, branches, norm, dy):
    found = []
    for cut in (False, True):
        start, h = stack(x, branches, lambda h, f, cut=cut: norm(h + (f(h).detach() if cut else f(h))))
        found.append(torch.autograd.grad(norm(h), start, dy)[0])
    return found


@honest("identity_path")
def with_no_grad_for_the_branch(x, branches, norm, dy):
    def layer(h, f):
        with torch.no_grad():
            y = f(h)
        return norm(h + y)

    return both(x, branches, norm, dy, skips=layer)


@honest("identity_path")
def with_backward(x, branches, norm, dy):
    results = []
    for through in (True, False):
        leaf = x.detach().clone().requires_grad_(True)
        h = leaf
        for f in branches:
            h = norm(h + f(h if through else h.detach()))
        h.backward(gradient=dy)
        results.append(leaf.grad)
    return results


@honest("identity_path")
def by_vjp(x, branches, norm, dy):
    def network(x, stored=None):
        h = x
        for i, f in enumerate(branches):
            h = norm(h + (f(h) if stored is None else stored[i]))
        return h

    outputs, h = [], x
    for f in branches:
        outputs.append(f(h))
        h = norm(h + outputs[-1])
    return torch.func.vjp(network, x)[1](dy)[0], torch.func.vjp(lambda x: network(x, outputs), x)[1](dy)[0]


@honest("identity_path")
def by_an_inner_product(x, branches, norm, dy):
    pair = []
    for keep in (1.0, 0.0):
        start, h = stack(x, branches, lambda h, f, keep=keep: norm(h + keep * f(h) + (1 - keep) * f(h).detach()))
        (h * dy).sum().backward()
        pair.append(start.grad)
    return tuple(pair)
