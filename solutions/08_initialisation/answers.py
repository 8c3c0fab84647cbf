import math
import re

import torch

from tests.answers import honest, mutant

# deep_norm_constants


@mutant("deep_norm_constants", "those of an encoder alone")
def each_for_itself(encoder, decoder):
    alpha_e, beta_e = ((2 * encoder) ** 0.25, (8 * encoder) ** -0.25) if encoder else (1.0, 1.0)
    count = 3 * decoder if encoder else 2 * decoder
    return (alpha_e, beta_e, count**0.25, (4 * count) ** -0.25) if decoder else (alpha_e, beta_e, 1.0, 1.0)


@mutant("deep_norm_constants", "three branches")
def two_branches_everywhere(encoder, decoder):
    alone = lambda n: ((2 * n) ** 0.25, (8 * n) ** -0.25)  # noqa: E731
    if not encoder or not decoder:
        return (*(alone(encoder) if encoder else (1.0, 1.0)), *(alone(decoder) if decoder else (1.0, 1.0)))
    a, b = alone(decoder)
    alpha = (2 * encoder * decoder * b * b / a) ** 0.25
    return alpha, 1 / (math.sqrt(2) * alpha), a, b


@mutant("deep_norm_constants", "a decoder alone has two")
def three_branches_everywhere(encoder, decoder):
    a, b = ((3 * decoder) ** 0.25, (12 * decoder) ** -0.25) if decoder else (1.0, 1.0)
    if not encoder:
        return 1.0, 1.0, a, b
    alpha = (2 * encoder) ** 0.25 if not decoder else (2 * encoder * decoder * b * b / a) ** 0.25
    return alpha, 1 / (math.sqrt(2) * alpha), a, b


@mutant("deep_norm_constants", "rounded to two digits")
def as_the_paper_prints_it(encoder, decoder):
    if encoder and decoder:
        size = (encoder**4 * decoder) ** (1 / 16)
        return 0.81 * size, 0.87 / size, (3 * decoder) ** 0.25, (12 * decoder) ** -0.25
    n = encoder or decoder
    pair = (2 * n) ** 0.25, (8 * n) ** -0.25
    return (*pair, 1.0, 1.0) if encoder else (1.0, 1.0, *pair)


@mutant("deep_norm_constants", "not squared")
def crossings_twice(encoder, decoder):
    if not (encoder and decoder):
        return as_the_paper_prints_it(encoder, decoder)
    a, b = (3 * decoder) ** 0.25, (12 * decoder) ** -0.25
    alpha = (2 * encoder * (decoder * b * b / a) ** 2) ** 0.25
    return alpha, 1 / (math.sqrt(2) * alpha), a, b


@mutant("deep_norm_constants", "wrong way round")
def beta_first(encoder, decoder):
    alpha_e, beta_e, alpha_d, beta_d = solved(encoder, decoder)
    return beta_e, alpha_e, beta_d, alpha_d


@mutant("deep_norm_constants")
def layers_swapped(encoder, decoder):
    return solved(decoder, encoder)


@mutant("deep_norm_constants")
def branches_of_the_encoder_forgotten(encoder, decoder):
    alpha_e, beta_e, alpha_d, beta_d = solved(encoder, decoder)
    return (alpha_e / 2**0.25, beta_e * 2**0.25, alpha_d, beta_d) if encoder and decoder else solved(encoder, decoder)


@mutant("deep_norm_constants")
def only_one_crossing(encoder, decoder):
    if not (encoder and decoder):
        return solved(encoder, decoder)
    a, b = (3 * decoder) ** 0.25, (12 * decoder) ** -0.25
    alpha = (2 * encoder * b * b / a) ** 0.25
    return alpha, 1 / (math.sqrt(2) * alpha), a, b


@mutant("deep_norm_constants")
def zeros_for_what_is_not_there(encoder, decoder):
    return tuple(value if value != 1.0 else 0.0 for value in solved(encoder, decoder))


@mutant("deep_norm_constants")
def beta_without_the_four(encoder, decoder):
    alpha_e, beta_e, alpha_d, beta_d = solved(encoder, decoder)
    scale = lambda beta: beta * 2**0.5 if beta != 1.0 else beta  # noqa: E731
    return alpha_e, scale(beta_e), alpha_d, scale(beta_d)


def solved(encoder, decoder):
    if not encoder or not decoder:
        n = encoder or decoder
        pair = (2 * n) ** 0.25, (8 * n) ** -0.25
        return (*pair, 1.0, 1.0) if encoder else (1.0, 1.0, *pair)
    a, b = (3 * decoder) ** 0.25, (12 * decoder) ** -0.25
    alpha = (2 * encoder * decoder * b * b / a) ** 0.25
    return alpha, 1 / (math.sqrt(2) * alpha), a, b


@honest("deep_norm_constants")
def closed_form(encoder, decoder):
    if encoder and decoder:
        size = (encoder**4 * decoder) ** (1 / 16)
        alpha = (2 / math.sqrt(12 * math.sqrt(3))) ** 0.25 * size
        return [alpha, 1 / math.sqrt(2) / alpha, (3 * decoder) ** 0.25, (12 * decoder) ** -0.25]
    branches = 2 * (encoder + decoder)
    alone = [math.sqrt(math.sqrt(branches)), 1 / math.sqrt(math.sqrt(4 * branches))]
    return [*alone, 1.0, 1.0] if encoder else [1.0, 1.0, *alone]


@honest("deep_norm_constants")
def in_torch(encoder, decoder):
    values = torch.ones(4, dtype=torch.float64)
    if decoder:
        count = torch.tensor(float(decoder * (3 if encoder else 2)), dtype=torch.float64)
        values[2], values[3] = count.pow(0.25), (4 * count).pow(-0.25)
    if encoder:
        through = decoder * values[3] ** 2 / values[2] if decoder else 1.0
        values[0] = (2 * encoder * through) ** 0.25
        values[1] = (2 * values[0] ** 2) ** -0.5
    return values


@honest("deep_norm_constants")
def by_bisection(encoder, decoder):
    def solve(condition):
        low, high = 1e-6, 1e6
        for _ in range(200):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if condition(middle) > 1 else (low, middle)
        return low, 1 / (math.sqrt(2) * low)

    alpha_d = beta_d = 1.0
    through = 1.0
    if decoder:
        count = 3 * decoder if encoder else 2 * decoder
        alpha_d, beta_d = solve(lambda alpha: count / alpha**4)
        through = decoder * beta_d**2 / alpha_d
    alpha_e, beta_e = solve(lambda alpha: through * 2 * encoder / alpha**4) if encoder else (1.0, 1.0)
    return alpha_e, beta_e, alpha_d, beta_d


# unit_variance


@mutant("unit_variance", "was not scaled")
def scaled_too_late(x, weights):
    found = []
    for weight in weights:
        x = torch.relu(x) @ weight.T
        found.append(x.square().mean().rsqrt())
    return torch.stack(found)


@mutant("unit_variance", "not its root")
def no_root(x, weights):
    found = []
    for weight in weights:
        y = torch.relu(x) @ weight.T
        found.append(1 / y.pow(2).mean())
        x = y * found[-1]
    return torch.stack(found)


@mutant("unit_variance", "A mean was subtracted")
def standard_deviation(x, weights):
    found = []
    for weight in weights:
        y = torch.relu(x) @ weight.T
        found.append(1 / y.std(unbiased=False))
        x = y * found[-1]
    return torch.stack(found)


@mutant("unit_variance", "ReLU is missing")
def linear(x, weights):
    found = []
    for weight in weights:
        y = x @ weight.T
        found.append(1 / y.square().mean().sqrt())
        x = y * found[-1]
    return torch.stack(found)


@mutant("unit_variance", "behind the matrix")
def relu_after(x, weights):
    found = []
    for weight in weights:
        y = x @ weight.T
        found.append(1 / y.square().mean().sqrt())
        x = torch.relu(y * found[-1])
    return torch.stack(found)


@mutant("unit_variance", "not transposed")
def no_transposition(x, weights):
    found = []
    for weight in weights:
        y = torch.relu(x) @ weight
        found.append(1 / y.square().mean().sqrt())
        x = y * found[-1]
    return torch.stack(found)


@mutant("unit_variance")
def feature_by_feature(x, weights):
    found = []
    for weight in weights:
        y = torch.relu(x) @ weight.T
        found.append(1 / y.square().mean(0).sqrt())
        x = y * found[-1]
    return torch.stack(found)


@mutant("unit_variance", "He initialisation")
def he(x, weights):
    fan_in = weights.shape[-1]
    return torch.stack([(2 / fan_in) ** 0.5 / w.pow(2).mean().sqrt() for w in weights])


@mutant("unit_variance", "the last layer only")
def the_last_one(x, weights):
    for weight in weights:
        x = torch.relu(x) @ weight.T
    return torch.ones(len(weights), dtype=x.dtype) / x.square().mean().sqrt() ** (1 / len(weights))


@mutant("unit_variance", "1 over them")
def what_to_divide_by(x, weights):
    found = []
    for weight in weights:
        y = torch.relu(x) @ weight.T
        found.append(y.square().mean().sqrt())
        x = y / found[-1]
    return torch.stack(found)


@mutant("unit_variance", "the layers before")
def all_factors_so_far(x, weights):
    found, together = [], 1.0
    for weight in weights:
        y = torch.relu(x) @ weight.T
        size = y.square().mean().sqrt()
        together = together / size
        found.append(together)
        x = y / size
    return torch.stack(found)


@mutant("unit_variance", "writes to its input")
def in_place(x, weights):
    found = []
    for i in range(len(weights)):
        h = torch.relu(x)
        found.append(1 / (h @ weights[i].T).square().mean().sqrt())
        weights[i] *= found[-1]
        x = h @ weights[i].T
    return torch.stack(found)


@mutant("unit_variance")
def the_scaled_weights(x, weights):
    found = []
    for weight in weights:
        h = torch.relu(x)
        found.append(weight / (h @ weight.T).square().mean().sqrt())
        x = h @ found[-1].T
    return torch.stack(found)


@honest("unit_variance")
def by_norms(x, weights):
    found = torch.empty_like(weights[:, 0, 0])
    for i, weight in enumerate(weights):
        y = x.clamp(min=0) @ weight.mT
        size = torch.linalg.vector_norm(y) / math.sqrt(y.numel())
        found[i] = 1 / size
        x = y / size
    return found


@honest("unit_variance")
def with_einsum(x, weights):
    sizes = []
    for weight in weights:
        x = torch.einsum("ni,oi->no", torch.maximum(x, torch.zeros_like(x)), weight)
        sizes.append((x * x).mean() ** 0.5)
        x = x / sizes[-1]
    return torch.stack(sizes).reciprocal()


@honest("unit_variance")
def on_a_copy(x, weights):
    weights, found = weights.clone(), weights.new_ones(weights.shape[0])
    for i in range(weights.shape[0]):
        h = torch.where(x > 0, x, 0.0)
        found[i] = (h @ weights[i].t()).pow(2).mean().rsqrt()
        weights[i] *= found[i]
        x = h @ weights[i].t()
    return found


@honest("unit_variance")
def with_functional(x, weights):
    factors = []
    for weight in weights.unbind(0):
        y = torch.nn.functional.linear(torch.nn.functional.relu(x), weight)
        factors.append((y.numel() / y.square().sum()).sqrt())
        x = factors[-1] * y
    return torch.stack(factors, dim=0)


# scale_projections


@mutant("scale_projections", "You count layers")
def by_layers(names, weights):
    layers = len({name.split(".")[1] for name in names if name.startswith("h.")})
    return [w / layers**0.5 if n.endswith("c_proj.weight") else w for n, w in zip(names, weights)]


@mutant("scale_projections", "Twice the layers")
def twice_the_layers(names, weights):
    layers = len({name.split(".")[1] for name in names if name.startswith("h.")})
    return [w / (2 * layers) ** 0.5 if n.endswith("c_proj.weight") else w for n, w in zip(names, weights)]


@mutant("scale_projections", "not by N")
def without_the_root(names, weights):
    count = sum("c_proj.weight" in name for name in names)
    return [w / count if n.endswith("c_proj.weight") else w for n, w in zip(names, weights)]


@mutant("scale_projections", "Biases are in it")
def with_biases(names, weights):
    count = sum("c_proj" in name for name in names)
    return [w / count**0.5 if "c_proj" in n else w for n, w in zip(names, weights)]


@mutant("scale_projections")
def biases_scaled_but_not_counted(names, weights):
    count = sum(name.endswith("c_proj.weight") for name in names)
    return [w / count**0.5 if "c_proj" in n else w for n, w in zip(names, weights)]


@mutant("scale_projections", "feed-forward branch is left out")
def attention_alone(names, weights):
    count = sum(name.endswith("attn.c_proj.weight") for name in names)
    return [w / count**0.5 if n.endswith("attn.c_proj.weight") else w for n, w in zip(names, weights)]


@mutant("scale_projections", "attention is left out")
def feed_forward_alone(names, weights):
    count = sum(name.endswith("mlp.c_proj.weight") for name in names)
    return [w / count**0.5 if n.endswith("mlp.c_proj.weight") else w for n, w in zip(names, weights)]


@mutant("scale_projections")
def every_matrix(names, weights):
    count = sum(name.endswith("c_proj.weight") for name in names)
    return [w / count**0.5 if w.dim() == 2 else w for w in weights]


@mutant("scale_projections", "You multiply")
def multiplied(names, weights):
    count = sum(name.endswith("c_proj.weight") for name in names)
    return [w * count**0.5 if n.endswith("c_proj.weight") else w for n, w in zip(names, weights)]


@mutant("scale_projections", "different numbers")
def layer_by_layer(names, weights):
    found = []
    for n, w in zip(names, weights):
        layer = int(n.split(".")[1]) if n.startswith("h.") else 0
        found.append(w / math.sqrt(2 * (layer + 1)) if n.endswith("c_proj.weight") else w)
    return found


@mutant("scale_projections", "writes to its input")
def in_place_too(names, weights):
    count = sum(name.endswith("c_proj.weight") for name in names)
    for n, w in zip(names, weights):
        if n.endswith("c_proj.weight"):
            w /= count**0.5
    return weights


@mutant("scale_projections", "Only the scaled ones")
def the_scaled_ones(names, weights):
    count = sum(name.endswith("c_proj.weight") for name in names)
    return [w / count**0.5 for n, w in zip(names, weights) if n.endswith("c_proj.weight")]


@honest("scale_projections")
def by_regular_expression(names, weights):
    found = [bool(re.search(r"c_proj\.weight$", name)) for name in names]
    return [w * (1 / math.sqrt(sum(found)) if yes else 1.0) for yes, w in zip(found, weights)]


@honest("scale_projections")
def with_indices(names, weights):
    branches = [i for i, name in enumerate(names) if name[-13:] == "c_proj.weight"]
    result = [w.clone() for w in weights]
    for i in branches:
        result[i] /= len(branches) ** 0.5
    return result


@honest("scale_projections")
def in_a_tuple(names, weights):
    chosen = {name for name in names if name.split(".")[-2:] == ["c_proj", "weight"]}
    scale = torch.tensor(float(len(chosen)), dtype=torch.float64).rsqrt().item()
    return tuple(weight.mul(scale) if name in chosen else weight for name, weight in zip(names, weights))
