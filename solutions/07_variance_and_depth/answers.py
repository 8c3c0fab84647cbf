import itertools
import math

import torch
import torch.nn.functional as F

from normcourse import residual, theory
from tests.answers import honest, mutant

# stream_variance


def walk(placement, variances, q, **changed):
    """The law step by step; `changed` replaces the step of a placement."""
    steps = {
        "residual": lambda q, v, i: q * (1 + v),
        "pre_norm": lambda q, v, i: q + v,
        "post_norm": lambda q, v, i: 1.0,
        "scaled_pre_norm": lambda q, v, i: q + v / (i + 1),
        "peri_norm": lambda q, v, i: q + 1,
        **changed,
    }
    found = [q]
    for i, v in enumerate(variances):
        found.append(steps[placement](found[-1], v, i))
    return found


@mutant("stream_variance", "first entry is missing")
def without_the_input(placement, branch_variances, input_variance):
    return walk(placement, branch_variances, input_variance)[1:]


@mutant("stream_variance", "not used")
def starts_at_one(placement, branch_variances, input_variance):
    return walk(placement, branch_variances, 1.0)


@mutant("stream_variance", "standard deviations")
def roots(placement, branch_variances, input_variance):
    return [q**0.5 for q in walk(placement, branch_variances, input_variance)]


@mutant("stream_variance", "however large the stream")
def pre_norm_multiplies(placement, branch_variances, input_variance):
    return walk(placement, branch_variances, input_variance, pre_norm=lambda q, v, i: q * (1 + v))


@mutant("stream_variance", "adds v per layer, not 1")
def pre_norm_adds_one(placement, branch_variances, input_variance):
    return walk(placement, branch_variances, input_variance, pre_norm=lambda q, v, i: q + 1)


@mutant("stream_variance", "multiply by 1 + v")
def residual_adds(placement, branch_variances, input_variance):
    return walk(placement, branch_variances, input_variance, residual=lambda q, v, i: q + v)


@mutant("stream_variance", "doubling only for v = 1")
def residual_doubles(placement, branch_variances, input_variance):
    return walk(placement, branch_variances, input_variance, residual=lambda q, v, i: 2 * q)


@mutant("stream_variance", "lost the skip")
def residual_without_skip(placement, branch_variances, input_variance):
    return walk(placement, branch_variances, input_variance, residual=lambda q, v, i: v * q)


@mutant("stream_variance", "after every layer is 1")
def post_norm_adds(placement, branch_variances, input_variance):
    return walk(placement, branch_variances, input_variance, post_norm=lambda q, v, i: 1 + v)


@mutant("stream_variance", "does not stay")
def post_norm_keeps_the_input(placement, branch_variances, input_variance):
    return walk(placement, branch_variances, input_variance, post_norm=lambda q, v, i: q)


@mutant("stream_variance", "not by √l")
def divided_by_the_root(placement, branch_variances, input_variance):
    return walk(placement, branch_variances, input_variance, scaled_pre_norm=lambda q, v, i: q + v / math.sqrt(i + 1))


@mutant("stream_variance", "divided by l once")
def divided_twice(placement, branch_variances, input_variance):
    return walk(placement, branch_variances, input_variance, scaled_pre_norm=lambda q, v, i: q + v / (i + 1) ** 2)


@mutant("stream_variance", "count of all layers")
def divided_by_the_depth(placement, branch_variances, input_variance):
    depth = len(branch_variances)
    return walk(placement, branch_variances, input_variance, scaled_pre_norm=lambda q, v, i: q + v / depth)


@mutant("stream_variance", "divided by 1, not by 0")
def counted_from_zero(placement, branch_variances, input_variance):
    return walk(placement, branch_variances, input_variance, scaled_pre_norm=lambda q, v, i: q + v / i)


@mutant("stream_variance", "divided by 1, not by 2")
def counted_from_two(placement, branch_variances, input_variance):
    return walk(placement, branch_variances, input_variance, scaled_pre_norm=lambda q, v, i: q + v / (i + 2))


@mutant("stream_variance", "ends in a norm")
def peri_norm_adds_v(placement, branch_variances, input_variance):
    return walk(placement, branch_variances, input_variance, peri_norm=lambda q, v, i: q + v)


@mutant("stream_variance", "without calling normcourse.theory")
def law_of_the_package(placement, branch_variances, input_variance):
    if branch_variances:
        theory.mean_field(placement, len(branch_variances), (2 * branch_variances[0]) ** 0.5, variance=input_variance)
    return walk(placement, branch_variances, input_variance)


@mutant("stream_variance")
def only_the_last(placement, branch_variances, input_variance):
    return walk(placement, branch_variances, input_variance)[-1]


@mutant("stream_variance")
def first_branch_for_all(placement, branch_variances, input_variance):
    same = [branch_variances[0] for _ in branch_variances] if branch_variances else []
    return walk(placement, same, input_variance)


@honest("stream_variance")
def with_accumulate(placement, v, q0):
    layers = range(1, len(v) + 1)
    if placement == "residual":
        return [*itertools.accumulate([q0, *v], lambda q, b: q + b * q)]
    if placement == "post_norm":
        return [q0] + [1] * len(v)
    added = {
        "pre_norm": v,
        "peri_norm": [1] * len(v),
        "scaled_pre_norm": [b / layer for b, layer in zip(v, layers)],
    }
    return [*itertools.accumulate([q0, *added[placement]])]


@honest("stream_variance")
def as_a_tensor(placement, branch_variances, input_variance):
    v = torch.tensor(branch_variances, dtype=torch.float64)
    q = torch.full((len(v) + 1,), float(input_variance), dtype=torch.float64)
    if placement == "post_norm":
        q[1:] = 1
    elif placement == "residual":
        q[1:] *= (1 + v).log().cumsum(0).exp()
    else:
        reads = {"pre_norm": v, "scaled_pre_norm": v / torch.arange(1, len(v) + 1), "peri_norm": torch.ones_like(v)}
        q[1:] += reads[placement].cumsum(0)
    return q


@honest("stream_variance")
def by_recursion(placement, branch_variances, input_variance):
    if not branch_variances:
        return [input_variance]
    *before, v = branch_variances
    known = by_recursion(placement, before, input_variance)
    step = {
        "residual": v * known[-1],
        "pre_norm": v,
        "scaled_pre_norm": (v**0.5 / math.sqrt(len(known))) ** 2,
        "peri_norm": 1.0,
        "post_norm": 1.0 - known[-1],
    }
    return [*known, known[-1] + step[placement]]


# deepnorm_constants


@mutant("deepnorm_constants", "not branches")
def counted_in_branches(layers):
    depth = 2 * layers
    return (2 * depth) ** 0.25, (8 * depth) ** -0.25


@mutant("deepnorm_constants", "halved")
def halved(layers):
    return layers**0.25, (4 * layers) ** -0.25


@mutant("deepnorm_constants", "wrong order")
def beta_first(layers):
    return (8 * layers) ** -0.25, (2 * layers) ** 0.25


@mutant("deepnorm_constants", "lacks its minus")
def beta_grows(layers):
    return (2 * layers) ** 0.25, (8 * layers) ** 0.25


@mutant("deepnorm_constants", "α² and β²")
def squares(layers):
    return math.sqrt(2 * layers), 1 / math.sqrt(8 * layers)


@mutant("deepnorm_constants", "yours is −1/2")
def beta_root(layers):
    return (2 * layers) ** 0.25, 1 / math.sqrt(8 * layers)


@mutant("deepnorm_constants", "minus too many")
def alpha_shrinks(layers):
    return (2 * layers) ** -0.25, (8 * layers) ** -0.25


@mutant("deepnorm_constants", "not 1/α")
def inverse_of_alpha(layers):
    alpha = (2 * layers) ** 0.25
    return alpha, 1 / alpha


@mutant("deepnorm_constants", "yours has 4N")
def beta_of_4n(layers):
    return (2 * layers) ** 0.25, (4 * layers) ** -0.25


@mutant("deepnorm_constants", "GPT-2")
def gpt_2(layers):
    return (2 * layers) ** 0.25, 1 / math.sqrt(2 * layers)


@mutant("deepnorm_constants", "encoder–decoder")
def encoder_of_both(layers):
    return 0.81 * (layers**4 * layers) ** (1 / 16), 0.87 * (layers**4 * layers) ** (-1 / 16)


@mutant("deepnorm_constants")
def decoder_of_both(layers):
    return (3 * layers) ** 0.25, (12 * layers) ** -0.25


@mutant("deepnorm_constants")
def whole_exponent(layers):
    return (2 * layers) ** (1 // 4), (8 * layers) ** (-1 // 4)


@mutant("deepnorm_constants", "number")
def alpha_only(layers):
    return (2 * layers) ** 0.25


@mutant("deepnorm_constants", "without calling normcourse.residual")
def asked_the_package(layers):
    block = residual.DeepNorm(4, torch.nn.Identity(), depth=2 * layers)
    return block.alpha, block.branch_gain


@honest("deepnorm_constants")
def by_two_roots(layers):
    return math.sqrt(math.sqrt(2 * layers)), 1 / math.sqrt(math.sqrt(8 * layers))


@honest("deepnorm_constants")
def from_their_product(layers):
    alpha = math.pow(2 * layers, 0.25)
    return alpha, 1 / (alpha * math.sqrt(2))


@honest("deepnorm_constants")
def as_tensors(layers):
    n = torch.tensor(layers, dtype=torch.float64)
    return (2 * n).pow(0.25), (8 * n).pow(-0.25)


@honest("deepnorm_constants")
def from_the_branches(layers):
    branches = sum(1 for _ in range(layers) for _ in ("attention", "feed-forward"))
    return [math.exp(math.log(branches) / 4), math.exp(-math.log(4 * branches) / 4)]


# layer_probe


def sizes(tensor):
    return tensor.norm(dim=-1)


def stepped(x, blocks, update=None, cosine=None):
    update = update or (lambda old, new: (sizes(new - old) / sizes(old)).mean())
    cosine = cosine or (lambda old, new: F.cosine_similarity(old, new, dim=-1).mean())
    updates, cosines = [], []
    for f in blocks:
        new = f(x)
        updates.append(update(x, new).item())
        cosines.append(cosine(x, new).item())
        x = new
    return updates, cosines


@mutant("layer_probe", "whole tensor: compute")
def everything_at_once(x, blocks):
    return stepped(
        x,
        blocks,
        lambda old, new: torch.norm(new - old) / torch.norm(old),
        lambda old, new: (old * new).sum() / (torch.norm(old) * torch.norm(new)),
    )


@mutant("layer_probe", "take the ratio of every token first")
def update_of_the_whole(x, blocks):
    return stepped(x, blocks, lambda old, new: (new - old).norm() / old.norm())


@mutant("layer_probe", "ratio of two means")
def ratio_of_means(x, blocks):
    return stepped(x, blocks, lambda old, new: sizes(new - old).mean() / sizes(old).mean())


@mutant("layer_probe", "end to end")
def cosine_of_the_whole(x, blocks):
    return stepped(x, blocks, cosine=lambda old, new: F.cosine_similarity(old.flatten(), new.flatten(), dim=0))


@mutant("layer_probe", "divide by the output")
def relative_to_the_output(x, blocks):
    return stepped(x, blocks, lambda old, new: (sizes(new - old) / sizes(new)).mean())


@mutant("layer_probe", "lengths of output and input")
def growth(x, blocks):
    return stepped(x, blocks, lambda old, new: (sizes(new) / sizes(old)).mean())


@mutant("layer_probe", "difference of lengths")
def change_of_length(x, blocks):
    return stepped(x, blocks, lambda old, new: ((sizes(new) - sizes(old)).abs() / sizes(old)).mean())


@mutant("layer_probe", "squared ratios")
def squared_ratio(x, blocks):
    return stepped(x, blocks, lambda old, new: ((new - old).pow(2).sum(-1) / old.pow(2).sum(-1)).mean())


@mutant("layer_probe", "Every block reads x")
def state_not_carried(x, blocks):
    pairs = [(x, f(x)) for f in blocks]
    updates = [(sizes(new - old) / sizes(old)).mean().item() for old, new in pairs]
    return updates, [F.cosine_similarity(old, new, dim=-1).mean().item() for old, new in pairs]


@mutant("layer_probe", "with the input x₀")
def cosine_to_the_input(x, blocks):
    return stepped(x, blocks, cosine=lambda old, new: F.cosine_similarity(x, new, dim=-1).mean())


@mutant("layer_probe", "has the update in it")
def cosine_of_the_update(x, blocks):
    return stepped(x, blocks, cosine=lambda old, new: F.cosine_similarity(new - old, old, dim=-1).mean())


@mutant("layer_probe", "wrong order")
def cosines_first(x, blocks):
    return stepped(x, blocks)[::-1]


@mutant("layer_probe", "Layer 0")
def with_layer_zero(x, blocks):
    updates, cosines = stepped(x, blocks)
    return [0.0, *updates], [1.0, *cosines]


@mutant("layer_probe")
def over_the_first_dimension(x, blocks):
    return stepped(
        x,
        blocks,
        lambda old, new: ((new - old).norm(dim=0) / old.norm(dim=0)).mean(),
        lambda old, new: F.cosine_similarity(old, new, dim=0).mean(),
    )


@mutant("layer_probe")
def only_dimension_one(x, blocks):
    return stepped(
        x,
        blocks,
        lambda old, new: ((new - old).norm(dim=1) / old.norm(dim=1)).mean(),
        lambda old, new: F.cosine_similarity(old, new).mean(),
    )


@mutant("layer_probe")
def median_over_tokens(x, blocks):
    return stepped(x, blocks, lambda old, new: (sizes(new - old) / sizes(old)).median())


@mutant("layer_probe")
def writes_the_state(x, blocks):
    updates, cosines = stepped(x, blocks)
    for f in blocks:
        x.copy_(f(x))
    return updates, cosines


@honest("layer_probe")
def over_a_list_of_states(x, blocks):
    states = [*itertools.accumulate([x, *blocks], lambda h, f: f(h))]
    updates, cosines = [], []
    for old, new in itertools.pairwise(states):
        unit_old, unit_new = F.normalize(old, dim=-1), F.normalize(new, dim=-1)
        updates.append(torch.mean(torch.linalg.vector_norm(new - old, dim=-1) / torch.linalg.vector_norm(old, dim=-1)))
        cosines.append(torch.mean((unit_old * unit_new).sum(-1)))
    return [float(u) for u in updates], [float(c) for c in cosines]


@honest("layer_probe")
def as_two_tensors(x, blocks):
    states = [x.flatten(0, -2) if x.dim() > 1 else x[None]]
    for f in blocks:
        states.append(f(states[-1]))
    stacked = torch.stack(states).double()
    lengths = stacked.square().sum(-1).sqrt()
    updates = stacked.diff(dim=0).square().sum(-1).sqrt() / lengths[:-1]
    cosines = (stacked[1:] * stacked[:-1]).sum(-1) / (lengths[1:] * lengths[:-1])
    return updates.mean(1), cosines.mean(1)


@honest("layer_probe")
def token_after_token(x, blocks):
    updates, cosines = [0.0] * len(blocks), [0.0] * len(blocks)
    tokens = x.reshape(-1, x.shape[-1])
    for token in tokens:
        for i, f in enumerate(blocks):
            new = f(token)
            updates[i] += float((new - token).norm() / token.norm()) / len(tokens)
            cosines[i] += float(new @ token / (new.norm() * token.norm())) / len(tokens)
            token = new
    return updates, cosines


# layer_worth


def entropy(logits, targets):
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)).item()


def run(x, blocks):
    for f in blocks:
        x = f(x)
    return x


def worth(x, targets, blocks, head, without=None, merge=None, loss=entropy):
    without = without or (lambda i: [f for j, f in enumerate(blocks) if j != i])
    merge = merge or (lambda f, g: lambda h: f(h) + g(h) - h)
    whole = loss(head(run(x, blocks)), targets)
    dropped = [loss(head(run(x, without(i))), targets) - whole for i in range(len(blocks))]
    merged = []
    for i in range(len(blocks) - 1):
        pair = merge(blocks[i], blocks[i + 1])
        merged.append(loss(head(run(x, [*blocks[:i], pair, *blocks[i + 2 :]])), targets) - whole)
    return dropped, merged


@mutant("layer_worth", "losses themselves")
def losses_not_changes(x, targets, blocks, head):
    whole = entropy(head(run(x, blocks)), targets)
    return tuple([change + whole for change in changes] for changes in worth(x, targets, blocks, head))


@mutant("layer_worth", "sign is reversed")
def whole_minus_changed(x, targets, blocks, head):
    return tuple([-change for change in changes] for changes in worth(x, targets, blocks, head))


@mutant("layer_worth", "All layers after l")
def stops_at_the_layer(x, targets, blocks, head):
    return worth(x, targets, blocks, head, without=lambda i: blocks[:i])


@mutant("layer_worth", "All layers before l")
def pops_from_the_list(x, targets, blocks, head):
    _, merged = worth(x, targets, blocks, head)
    whole, dropped = entropy(head(run(x, blocks)), targets), []
    remaining = list(blocks)
    while remaining:
        remaining.pop(0)
        dropped.append(entropy(head(run(x, remaining)), targets) - whole)
    return dropped, merged


@mutant("layer_worth", "run them again")
def contribution_taken_off(x, targets, blocks, head):
    whole, last, dropped, h = entropy(head(run(x, blocks)), targets), run(x, blocks), [], x
    for f in blocks:
        new = f(h)
        dropped.append(entropy(head(last - new + h), targets) - whole)
        h = new
    return dropped, worth(x, targets, blocks, head)[1]


@mutant("layer_worth", "skip counts twice")
def merged_with_two_skips(x, targets, blocks, head):
    return worth(x, targets, blocks, head, merge=lambda f, g: lambda h: f(h) + g(h))


@mutant("layer_worth", "not to average")
def averaged(x, targets, blocks, head):
    return worth(x, targets, blocks, head, merge=lambda f, g: lambda h: 0.5 * (f(h) + g(h)))


@mutant("layer_worth", "swaps the two")
def swapped(x, targets, blocks, head):
    return worth(x, targets, blocks, head, merge=lambda f, g: lambda h: f(g(h)))


@mutant("layer_worth", "one after the other")
def still_in_sequence(x, targets, blocks, head):
    return worth(x, targets, blocks, head, merge=lambda f, g: lambda h: g(f(h)))


@mutant("layer_worth", "loss is a sum")
def summed(x, targets, blocks, head):
    return worth(x, targets, blocks, head, loss=lambda y, t: entropy(y, t) * t.numel())


@mutant("layer_worth", "Softmax is applied twice")
def softmax_twice(x, targets, blocks, head):
    return worth(x, targets, blocks, head, loss=lambda y, t: entropy(y.softmax(-1), t))


@mutant("layer_worth", "flatten(0, -2)")
def not_flattened(x, targets, blocks, head):
    return worth(x, targets, blocks, head, loss=lambda y, t: F.cross_entropy(y, t).item())


@mutant("layer_worth", "wrong order")
def merges_first(x, targets, blocks, head):
    return worth(x, targets, blocks, head)[::-1]


@mutant("layer_worth")
def branch_by_zero(x, targets, blocks, head):
    return worth(x, targets, blocks, head, without=lambda i: [*blocks[:i], lambda h: 0 * h, *blocks[i + 1 :]])


@mutant("layer_worth")
def share_of_errors(x, targets, blocks, head):
    return worth(x, targets, blocks, head, loss=lambda y, t: (y.argmax(-1) != t).double().mean().item())


@mutant("layer_worth")
def relative_changes(x, targets, blocks, head):
    whole = entropy(head(run(x, blocks)), targets)
    return tuple([change / whole for change in changes] for changes in worth(x, targets, blocks, head))


@mutant("layer_worth", "None")
def nothing_returned(x, targets, blocks, head):
    worth(x, targets, blocks, head)


@honest("layer_worth")
def with_an_index_to_skip(x, targets, blocks, head):
    def loss(skip=None, merge=None):
        h, i = x, 0
        while i < len(blocks):
            if i == merge:
                h = h + (blocks[i](h) - h) + (blocks[i + 1](h) - h)
                i += 2
                continue
            h = h if i == skip else blocks[i](h)
            i += 1
        logits = head(h)
        log_p = logits - logits.logsumexp(-1, keepdim=True)
        return -log_p.gather(-1, targets.unsqueeze(-1)).mean()

    base = loss()
    drops = [float(loss(skip=i) - base) for i in range(len(blocks))]
    return drops, [float(loss(merge=i) - base) for i in range(len(blocks) - 1)]


@honest("layer_worth")
def starting_from_stored_states(x, targets, blocks, head):
    states = [x]
    for f in blocks:
        states.append(f(states[-1]))

    def loss(h, rest):
        logits = head(run(h, rest)).movedim(-1, 1) if x.dim() > 2 else head(run(h, rest))
        return F.cross_entropy(logits, targets).item()

    whole = loss(states[-1], [])
    dropped = [loss(h, blocks[i + 1 :]) - whole for i, h in enumerate(states[:-1])]
    merged = []
    for i, h in enumerate(states[:-2]):
        merged.append(loss(states[i + 1] + blocks[i + 1](h) - h, blocks[i + 2 :]) - whole)
    return [dropped, merged]


@honest("layer_worth")
def with_lists_put_back(x, targets, blocks, head):
    layers, dropped, merged = list(blocks), [], []
    whole = entropy(head(run(x, layers)), targets)
    for i in range(len(layers)):
        taken = layers.pop(i)
        dropped.append(entropy(head(run(x, layers)), targets) - whole)
        layers.insert(i, taken)
    for i in range(len(layers) - 1):
        pair = layers[i : i + 2]
        layers[i : i + 2] = [lambda h, pair=pair: pair[0](h) + pair[1](h) - h]
        merged.append(entropy(head(run(x, layers)), targets) - whole)
        layers[i : i + 1] = pair
    return dropped, merged
