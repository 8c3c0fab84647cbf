"""`fused.replace`: what it recognises by its behaviour, what it leaves, and models of `transformers` with random weights."""

import copy

import pytest
import torch
from torch import nn

from normcourse import fused, norms

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = [
    pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning:triton"),
    pytest.mark.filterwarnings("ignore:Mismatch dtype"),
    pytest.mark.gpu,
]


class Scaled(nn.Module):
    """A norm without the word in its name. power: of the root; inside: whether eps stands in it."""

    def __init__(self, width, one_plus=False, eps=1e-4, inside=True, ceiling=None, noise=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))
        self.one_plus, self.delta, self.inside, self.ceiling, self.noise = one_plus, eps, inside, ceiling, noise

    def forward(self, x):
        square = x.float().square().mean(-1, keepdim=True)
        root = (square + self.delta).sqrt() if self.inside else square.sqrt() + self.delta
        y = (x / root * (self.weight + self.one_plus)).type_as(x)
        y = y if self.ceiling is None else y.clamp(max=self.ceiling)
        return y + self.noise * torch.randn_like(y) * self.training


class RMSNorm(nn.Module):
    """A norm by name that computes something else: the unbiased standard deviation."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-5) * self.weight + self.bias


class ConditionedNorm(nn.LayerNorm):
    def forward(self, x, scale):
        return super().forward(x) * scale


FOUND = {
    "LayerNorm, eps=1e-05": lambda: nn.LayerNorm(12),
    "LayerNorm, eps=0.1": lambda: nn.LayerNorm(12, eps=0.1, bias=False),
    "LayerNorm, eps=1e-06": lambda: nn.LayerNorm(12, eps=1e-6, elementwise_affine=False),
    "LayerNorm, eps=0.001": lambda: norms.LayerNorm(12, eps=0.001),
    "RMSNorm, eps=that of the dtype": lambda: nn.RMSNorm(12),
    "RMSNorm, eps=0.01": lambda: nn.RMSNorm(12, eps=0.01),
    "RMSNorm, eps=0.0001": lambda: Scaled(12),
    "RMSNorm with 1 + weight, eps=0.0001": lambda: Scaled(12, one_plus=True),
}
LEFT = {
    "it computes neither": lambda: RMSNorm(12),
    "it computes neither LayerNorm": lambda: Scaled(12, inside=False),
    "it computes neither LayerNorm nor": lambda: Scaled(12, ceiling=2.0),
    "it computes neither LayerNorm nor RMSNorm": lambda: Scaled(12, noise=0.1),
    "it keeps statistics": lambda: nn.BatchNorm1d(12),
    "it cannot be called": lambda: nn.GroupNorm(1, 12),
    "missing 1 required positional argument: 'scale'": lambda: ConditionedNorm(12),
    "it does not normalise one dimension of a known width": lambda: nn.LayerNorm((3, 12)),
    "it is fused already": lambda: fused.LayerNorm(12),
}


def randomised(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator).to(parameter))
    return model


@pytest.mark.parametrize("words", FOUND)
def test_a_norm_is_recognised_by_what_it_computes(words):
    model = randomised(nn.Sequential(nn.Linear(12, 12), FOUND[words]())).to(DEVICE)
    former, state = model[1], {name: t.clone() for name, t in model.state_dict().items()}
    x = torch.randn(7, 3, 12, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    dy = torch.randn(7, 3, 12, generator=torch.Generator().manual_seed(2)).to(DEVICE)

    def run():
        y = model(x)
        return [y, *torch.autograd.grad(y, model.parameters(), dy)]

    before, parameters = run(), list(model.parameters())
    done = fused.replace(model, interpret=True)
    assert isinstance(model[1], (fused.LayerNorm, fused.RMSNorm)) and words in done.replaced["1"] and not done.left
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)
    for found, truth in zip(run(), before):
        torch.testing.assert_close(found, truth, rtol=2e-5, atol=2e-5)
    copy.deepcopy(model)(x)
    done.undo()
    assert model[1] is former and all(torch.equal(a, b) for a, b in zip(run(), before))


@pytest.mark.parametrize("why", LEFT)
def test_what_is_no_such_norm_is_left_and_said_why(why):
    model = nn.ModuleDict({"block": nn.ModuleDict({"part": LEFT[why]()})})
    former = model["block"]["part"]
    done = fused.replace(model)
    assert model["block"]["part"] is former and not done.replaced
    assert why in done.left["block.part"] and f"block.part: left, {done.left['block.part']}" in str(done)


def test_a_module_used_twice_stays_one_and_hooks_mode_and_frozen_weights_are_kept():
    norm = nn.LayerNorm(6)
    model = nn.ModuleDict({"a": norm, "b": nn.Sequential(norm)}).eval()
    norm.weight.requires_grad_(False)
    seen = []
    handle = norm.register_forward_hook(lambda *_: seen.append("hook"))
    done = fused.replace(model)
    assert model["a"] is model["b"][0] is not norm and not model["a"].training and set(done.replaced) == {"a", "b.0"}
    model["a"](torch.ones(2, 6))
    assert seen == ["hook"] and not model["a"].weight.requires_grad
    handle.remove()
    model["a"](torch.ones(2, 6))
    assert seen == ["hook"]
    model["a"].weight = nn.Parameter(torch.zeros(6))
    model.train()
    done.undo()
    assert model["a"] is model["b"][0] is norm and norm.training and not norm.weight.any()
    done.undo()  # a second time does nothing
    assert fused.replace(norm).left == {"": "it is the model itself, which has no place to be replaced in"}


def test_weights_on_meta_are_no_hindrance():
    with torch.device("meta"):
        model = nn.Sequential(nn.LayerNorm(6), nn.RMSNorm(6))
    assert len(fused.replace(model).replaced) == 2 and model[0].weight.is_meta


# --- models of transformers ---------------------------------------------------------------------------------------------

SIZES = dict(num_hidden_layers=2, hidden_size=32, intermediate_size=48, num_attention_heads=2, vocab_size=50)
SIZES |= dict(num_key_value_heads=2, head_dim=16, max_position_embeddings=32, attn_implementation="eager")
MODELS = {
    "GPT2": (dict(n_layer=2, n_embd=32, n_head=2, vocab_size=50, n_positions=32), "LMHeadModel", 5),
    "Bert": (SIZES, "Model", 5),
    "Llama": (SIZES, "ForCausalLM", 5),
    "Gemma2": (SIZES, "ForCausalLM", 9),
    "T5": (dict(d_model=32, d_kv=16, d_ff=48, num_layers=1, num_heads=2, vocab_size=50), "EncoderModel", 3),
}
OFF = dict(attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
OFF |= dict(dropout_rate=0.0)


def transformer(name):
    transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'normcourse[test]'")
    options, head, norms_in_it = MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**options, **OFF)
    return randomised(getattr(transformers, name + head)(config)).to(DEVICE), norms_in_it


def value_and_gradients(model):
    tokens = torch.arange(24, device=DEVICE).view(2, 12) * 7 % 50
    y = model(input_ids=tokens)[0]
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(3)).to(y)
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(y, list(named.values()), dy, allow_unused=True)
    return {"y": y.detach()} | {name: g for name, g in zip(named, gradients) if g is not None}


def error(found, truth, largest):
    """Relative to the size of the truth; where that is 0 but for rounding, to the largest gradient."""
    size = float(truth.norm())
    return float((found.double() - truth).norm()) / (size if size > 1e-9 * largest else largest)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", MODELS)
def test_models_of_transformers_keep_their_numbers_and_gradients(name, dtype):
    model, norms_in_it = transformer(name)
    model = model.to(dtype)
    before = value_and_gradients(model)
    exact = value_and_gradients(copy.deepcopy(model).double())
    done = fused.replace(model, interpret=True)
    assert len(done.replaced) == norms_in_it and not done.left, str(done)
    assert ("1 + weight" in str(done)) == (name == "Gemma2")
    largest = max(float(value.norm()) for value in exact.values())
    for key, found in value_and_gradients(model).items():
        # as near to fp64 as the model was before, but for chance
        assert found.dtype == before[key].dtype
        was, now = (error(value, exact[key], largest) for value in (before[key], found))
        assert now <= 1.5 * was + 8 * torch.finfo(dtype).eps, (key, now, was)
    done.undo()
    assert all(torch.equal(value, before[key]) for key, value in value_and_gradients(model).items())


@pytest.mark.parametrize("weight", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("x", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("path", ["llama.modeling_llama.LlamaRMSNorm", "gemma2.modeling_gemma2.Gemma2RMSNorm", "t5.modeling_t5.T5LayerNorm"])  # fmt: skip
def test_the_result_has_the_dtype_that_the_class_gave_it(path, x, weight):
    pytest.importorskip("transformers", reason="needs transformers: pip install 'normcourse[test]'")
    module, _, name = path.rpartition(".")
    module = __import__(f"transformers.models.{module}", fromlist=[name])
    model = randomised(nn.Sequential(getattr(module, name)(32))).to(DEVICE, weight)
    inputs = torch.randn(5, 32, generator=torch.Generator().manual_seed(1)).to(DEVICE, x)
    truth = model(inputs)
    fused.replace(model, interpret=True)
    found = model(inputs)
    assert found.dtype == truth.dtype
    unit = max(torch.finfo(t).eps for t in (x, weight))
    torch.testing.assert_close(found, truth, rtol=4 * unit, atol=4 * unit)
