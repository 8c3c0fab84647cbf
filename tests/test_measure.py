"""The probes against autograd by hand, and the experiments of the chapters against closed forms.

Where a random network is compared with theory for infinite width, the bound is: four standard errors of the mean over the
seeds, plus the known drift of a finite width. The logarithm of a squared norm fluctuates in each layer with a variance of
at most 5/width (ReLU; 2/width for linear: a chi-square, Hanin & Nica 2018), so the mean of log(norm) falls
below the log of the mean by at most 5/(4 width) per layer.
"""

import math

import pytest
import torch
from torch import nn

from normcourse import data, theory
from normcourse.measure import gradient_norms, jacobian_spectrum, layer_drops, path_gradients, variances
from normcourse.models import CharacterMLP, Transformer, deep_mlp
from normcourse.norms import LayerNorm
from normcourse.residual import PLACEMENTS
from normcourse.train import train

SEEDS = range(12)


def agrees(samples, expected, depth, width):
    """Mean of `samples` (log of a norm, one per seed) equals `expected` within the bound of this file's first lines."""
    samples = torch.tensor(samples, dtype=torch.float64)
    error = 4 * samples.std() / len(samples) ** 0.5
    drift = depth * 5 / (4 * width)
    difference = float(samples.mean()) - expected
    assert abs(difference) <= error + drift, f"off by {difference:.3f}, allowed {error:.3f} + {drift:.3f}"
    assert error + drift < 0.4 * max(1.0, abs(expected)), "the bound is too loose to show anything"


@pytest.mark.parametrize(
    ("activation", "gain", "factor"),
    [
        ("linear", 0.6, 0.6),
        ("linear", 1.1, 1.1),
        ("relu", 0.6, 0.6 / 2**0.5),
        ("relu", 2**0.5, 1.0),
        ("relu", 1.7, 1.7 / 2**0.5),
    ],
)
def test_a_plain_nets_gradient_is_multiplied_by_one_factor_per_layer(activation, gain, factor):
    depth, width = 20, 384
    logs = []
    for seed in SEEDS:
        frame = gradient_norms(deep_mlp(depth, width, "plain", activation=activation, gain=gain, seed=seed), seed=seed)
        logs.append(math.log(frame["gradient_norm"][0]))
    agrees(logs, depth * math.log(factor), depth, width)


@pytest.mark.parametrize("gain", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("placement", ["plain", "residual", "highway"])
def test_a_tanh_nets_gradient_and_variance_follow_mean_field_theory(placement, gain):
    depth, width = 20, 256
    _, gradients = theory.mean_field(placement, depth, gain, "tanh")
    forward, _ = theory.mean_field(placement, depth, gain, "tanh")
    models = [deep_mlp(depth, width, placement, activation="tanh", gain=gain, seed=seed) for seed in SEEDS]
    logs = [math.log(gradient_norms(m, seed=s)["gradient_norm"][0]) for s, m in enumerate(models)]
    agrees(logs, math.log(gradients[0]), depth, width)
    logs = [math.log(variances(m, seed=s)["variance"].iloc[-1]) / 2 for s, m in enumerate(models)]
    agrees(logs, math.log(forward[-1]) / 2, depth, width)


@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_an_unnormalised_residual_stack_doubles_its_variance_per_block(activation):
    depth, width = 30, 256
    gain = 2**0.5 if activation == "relu" else 1.0
    logs = []
    for seed in SEEDS:
        frame = variances(deep_mlp(depth, width, "residual", activation=activation, gain=gain, seed=seed), seed=seed)
        logs.append(math.log(frame["variance"].iloc[-1] / frame["variance"][0]) / 2)
    agrees(logs, math.log(2**depth) / 2, depth, width)


def test_shrinking_the_branch_by_the_root_of_depth_caps_the_gradient():
    for depth in (50, 200):
        logs = []
        for seed in SEEDS:
            model = deep_mlp(depth, 128, "residual", gain=1.0 / depth**0.5, seed=seed)
            logs.append(math.log(gradient_norms(model, seed=seed)["gradient_norm"][0]))
        agrees(logs, depth / 2 * math.log(1 + 0.5 / depth), 1, 128)  # the drift is that of one whole branch


@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_weight_gradients_of_homogeneous_plain_nets_do_not_depend_on_the_layer(activation):
    """⟨W_l, ∂loss/∂W_l⟩ is the same for all l where f is homogeneous; norms of W_l being equal, norms of gradients nearly are."""
    logs = []
    for seed in SEEDS:
        frame = gradient_norms(deep_mlp(30, 256, "plain", activation=activation, gain=0.6, seed=seed), seed=seed)
        logs.append(math.log(frame["weight_gradient_norm"][1] / frame["weight_gradient_norm"][30]))
    agrees(logs, 0.0, 1, 256)


def test_mean_field_of_relu_and_linear_is_the_closed_form():
    for gain in (0.5, 2**0.5, 2.0):
        forward, backward = theory.mean_field("plain", 7, gain, "relu")
        assert forward[-1] == pytest.approx((gain**2 / 2) ** 7, rel=1e-3)
        assert backward[0] == pytest.approx((gain / 2**0.5) ** 7, rel=1e-3)
        forward, backward = theory.mean_field("residual", 7, gain, "linear")
        assert forward[-1] == pytest.approx((1 + gain**2) ** 7, rel=1e-6)
        assert backward[0] == pytest.approx((1 + gain**2) ** 3.5, rel=1e-6)
    with pytest.raises(ValueError, match="hyper_connection.*known are plain, residual, highway"):
        theory.mean_field("hyper_connection", 3)


def test_gaussian_moments_equal_a_monte_carlo_average():
    z = torch.randn(4_000_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for activation, phi in (("tanh", torch.tanh), ("relu", torch.relu), ("gelu", nn.functional.gelu)):
        for q in (0.3, 2.0):
            x = (q**0.5 * z).requires_grad_()
            y = phi(x)
            (slope,) = torch.autograd.grad(y.sum(), x)
            value, derivative = theory.gaussian_moments(activation, q)
            assert value == pytest.approx(float(y.square().mean()), rel=5e-3)
            assert derivative == pytest.approx(float(slope.square().mean()), rel=5e-3)


def test_lyapunov_exponents_match_products_of_gaussian_matrices():
    width, depth = 16, 40
    logs = []
    for seed in range(40):
        frame = jacobian_spectrum(
            deep_mlp(depth, width, "plain", activation="linear", gain=1.0, seed=seed), layers=[depth]
        )
        logs.append([math.log(frame["singular_value"][i]) for i in (0, 4)])
    expected = theory.gaussian_product(width, depth)
    means, errors = torch.tensor(logs).mean(0), torch.tensor(logs).std(0) / 40**0.5
    for i, index in enumerate((0, 4)):
        # At a finite depth the spectrum still lies inside the exponents' by a few units; the growth per layer is right.
        assert abs(float(means[i]) - math.log(expected[index])) / depth <= 4 * float(errors[i]) / depth + 0.06


@pytest.mark.parametrize("a", [0.2, 0.6, 1.0, 1.6])
def test_edges_of_the_skip_spectrum_match_a_large_random_matrix(a):
    n = 1200
    G = torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) / n**0.5
    values = torch.linalg.svdvals(torch.eye(n, dtype=torch.float64) + a * G)
    smallest, largest = theory.skip_edges(a)
    assert float(values[0]) == pytest.approx(largest, rel=0.01)
    assert float(values[-1]) == pytest.approx(smallest, abs=0.02)  # edge fluctuations are of order n^(-2/3) = 0.009


def test_gradient_norms_equal_autograd_by_hand():
    model = deep_mlp(4, 8, "pre_norm", "layer_norm", seed=1)
    x = torch.randn(5, 8)
    frame = gradient_norms(model, x, loss=lambda y: y.pow(2).sum(), placement="pre_norm", seed=7)
    h0 = x.clone().requires_grad_()
    h1 = model.blocks[0](h0)
    h = h1
    for block in model.blocks[1:]:
        h = block(h)
    loss = model.final_norm(h).pow(2).sum()
    weights = list(model.blocks[2].sublayer.parameters())
    expected = torch.autograd.grad(loss, [h0, h1, *weights])
    assert frame["gradient_norm"][0] == pytest.approx(expected[0].norm().item(), rel=1e-5)
    assert frame["gradient_norm"][1] == pytest.approx(expected[1].norm().item(), rel=1e-5)
    by_hand = math.sqrt(sum(float(g.norm()) ** 2 for g in expected[2:]))
    assert frame["weight_gradient_norm"][3] == pytest.approx(by_hand, rel=1e-5)
    assert list(frame.columns) == ["layer", "gradient_norm", "weight_gradient_norm", "seed", "placement"]
    assert math.isnan(frame["weight_gradient_norm"][0]) and set(frame["seed"]) == {7}
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_gradient_whose_square_underflows_is_not_reported_as_zero():
    frame = gradient_norms(deep_mlp(60, 64, "plain", gain=0.6))
    assert 1e-26 < frame["gradient_norm"][0] < 1e-20


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_probes_work_on_transformers(placement):
    model = Transformer(vocabulary=9, width=16, heads=2, depth=2, placement=placement)
    frame = gradient_norms(model, batch_size=3)
    assert len(frame) == 5 and (frame["gradient_norm"] > 0).all()
    assert (variances(model, batch_size=3)["variance"] > 0).all()


def test_jacobian_spectrum_equals_finite_differences():
    model = deep_mlp(3, 6, "residual", activation="tanh", seed=2).double()
    x = torch.randn(6, dtype=torch.float64)
    columns = []
    for i in range(6):
        step = torch.zeros(6, dtype=torch.float64)
        step[i] = 1e-6
        columns.append((model.stream(x + step)[2] - model.stream(x - step)[2]) / 2e-6)
    expected = torch.linalg.svdvals(torch.stack(columns, dim=1)).tolist()
    frame = jacobian_spectrum(model, x, layers=[2])
    assert frame["singular_value"].tolist() == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="one input"):
        jacobian_spectrum(model, torch.randn(2, 6))


def test_jacobian_spectrum_leaves_the_model_as_it_was():
    model = deep_mlp(2, 4)
    jacobian_spectrum(model)
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_path_gradients_add_up_to_the_gradient_and_count_paths():
    model = deep_mlp(5, 8, "residual", gain=1.0, seed=3)
    x = torch.randn(1, 8)
    frame = path_gradients(model, x, seed=4)
    # by brute force: every subset of branches, with the Jacobian of each branch at the real hidden state
    states = model.stream(x)
    jacobians = [torch.autograd.functional.jacobian(b.branch, s[0]) for b, s in zip(model.blocks, states)]
    generator = torch.Generator().manual_seed(2**31 + 4)
    direction = torch.randn(1, 8, generator=generator)[0]
    parts = torch.zeros(6, 8)
    for mask in range(32):
        v = direction / direction.norm()
        for layer in reversed(range(5)):
            v = jacobians[layer].T @ v if mask >> layer & 1 else v
        parts[mask.bit_count()] += v
    assert frame["gradient_norm"].tolist() == pytest.approx(parts.norm(dim=1).tolist(), rel=1e-4)
    with pytest.raises(ValueError, match="paths are those of"):
        path_gradients(deep_mlp(2, 8, "pre_norm"))


@pytest.mark.parametrize("gain", [0.6, 2**0.5])
def test_path_shares_are_binomial(gain):
    shares = []
    for seed in SEEDS:
        norms = path_gradients(deep_mlp(12, 256, "residual", gain=gain, seed=seed), batch_size=8, seed=seed)[
            "gradient_norm"
        ]
        shares.append((norms**2 / (norms**2).sum()).to_numpy())
    mean = sum(shares) / len(shares)
    expected = theory.path_shares(12, gain)
    assert sum(expected) == pytest.approx(1.0)
    assert (
        abs(mean - expected).max() < 0.03
    )  # 12 blocks of width 256 blur a share of about 0.3 by 12 · 5/256 of itself at most


def test_layer_drops_equal_networks_built_without_the_layer():
    model = CharacterMLP(11, 4, "residual", seed=1)
    ids = torch.randint(11, (32, 8))
    frame = layer_drops(model, lambda m: m(ids).square().mean(), placement="residual")
    x = model.embed(ids)
    for left_out in range(1, 5):
        h = x
        for index, block in enumerate(model.blocks, 1):
            h = h if index == left_out else block(h)
        assert frame["loss"][left_out] == pytest.approx(float(model.head(h).square().mean()), rel=1e-5)
    assert frame["loss"][0] == pytest.approx(float(model(ids).square().mean()), rel=1e-6)
    assert len(model.blocks) == 4


def test_training_learns_and_equals_a_loop_written_by_hand():
    ids, vocabulary = data.encode(data.load_text("en")[:5000])
    settings = {"steps": 30, "learning_rate": 3e-3}
    history = train(
        CharacterMLP(len(vocabulary), 2, "residual"), data.next_characters(ids, 16, 8), progress=False, **settings
    )
    model = CharacterMLP(len(vocabulary), 2, "residual")
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _, (x, y) in zip(range(30), data.next_characters(ids, 16, 8)):
        loss = nn.functional.cross_entropy(model(x), y)
        model.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert history["loss"].tolist() == pytest.approx(losses, rel=1e-4)
    assert history["loss"].tail(5).mean() < history["loss"].head(5).mean()


def test_training_stops_at_a_loss_that_is_not_finite_and_keeps_its_history():
    def broken(inputs):
        return torch.full((len(inputs), 3), float("nan"), requires_grad=True)

    model = nn.Linear(1, 1)
    model.forward = broken
    batches = iter([(torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64))] * 5)
    history = train(model, batches, steps=5, learning_rate=0.1, progress=False)
    assert len(history) == 1 and math.isnan(history["loss"][0])
    with pytest.raises(ValueError, match="steps is 0"):
        train(model, batches, steps=0, learning_rate=0.1)


def test_an_interrupted_training_returns_what_it_has():
    def batches():
        for _ in range(3):
            yield torch.zeros(2, 8, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
        raise KeyboardInterrupt

    history = train(CharacterMLP(5, 1, "residual"), batches(), steps=10, learning_rate=1e-3, progress=False)
    assert history["step"].tolist() == [1, 2, 3]


def test_the_texts_are_there_and_batches_are_excerpts():
    for language, start, least in (("en", "CHAPTER 1. Loomings.", 200_000), ("zh", "《感遇", 28_000)):
        text = data.load_text(language)
        assert text.startswith(start) and len(text) >= least
        ids, vocabulary = data.encode(text)
        assert "".join(vocabulary[i] for i in ids[:50]) == text[:50]
        inputs, targets = next(data.batches(ids, 4, 16, seed=3))
        assert inputs.shape == targets.shape == (4, 16) and torch.equal(inputs[:, 1:], targets[:, :-1])
        excerpt = "".join(vocabulary[i] for i in inputs[0])
        assert excerpt in text
    with pytest.raises(ValueError, match="no text in language 'de'; there are en, zh"):
        data.load_text("de")
    with pytest.raises(ValueError, match="at least 11"):
        next(data.batches(torch.arange(5), 2, 10))
    with pytest.raises(FileNotFoundError, match="no recorded result 'nothing'"):
        data.recorded("nothing")


def test_training_without_clipping_survives_a_gradient_norm_beyond_single_precision():
    model = nn.Linear(2, 2, bias=False)
    batches = iter([(torch.full((1, 2), 1e30), torch.tensor([0]))] * 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0, 0.0], [1e-3, 0.0]]))
    history = train(model, batches, steps=2, learning_rate=1e-3, progress=False)
    assert history["gradient_norm"][0] > 1e29 and torch.isfinite(model.weight).all()


def test_a_placement_with_a_norm_gets_one_by_default():
    assert isinstance(deep_mlp(2, 8, "pre_norm").blocks[0].norm, LayerNorm)
    assert isinstance(deep_mlp(2, 8, "pre_norm", "none").blocks[0].norm, nn.Identity)
    with pytest.raises(TypeError, match="norm is a module, LayerNorm"):
        deep_mlp(2, 8, "pre_norm", LayerNorm(8))


def test_probes_refuse_what_they_would_get_wrong():
    for placement, norm in (("pre_norm", "batch_norm"), ("hyper_connection", "layer_norm")):
        with pytest.raises(ValueError, match="does not treat every row for itself"):
            jacobian_spectrum(deep_mlp(2, 8, placement, norm))
    assert len(path_gradients(CharacterMLP(7, 3, "residual"))) == 4
    frozen = gradient_norms(deep_mlp(2, 8).requires_grad_(False))
    assert frozen["weight_gradient_norm"].isna().all() and (frozen["gradient_norm"] > 0).all()
