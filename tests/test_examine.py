"""`examine` names the wiring that a model's paper states, leaves the model as it was, and finds what was broken."""

import math
import random
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from normcourse import measure, theory
from normcourse.examine import NOT_OURS, examine, repeated_blocks
from normcourse.examine.__main__ import main
from normcourse.examine.trace import Trace
from normcourse.models import Transformer, deep_mlp, seeded
from normcourse.residual import PLACEMENTS, Plain, PostNorm

transformers = pytest.importorskip("transformers")
SMALL = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
KV = {**SMALL, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
GPT = {"vocab_size": 99, "n_embd": 32, "n_layer": 3, "n_head": 4, "bos_token_id": 0, "eos_token_id": 0}
IMAGES = {**SMALL, "image_size": 16, "patch_size": 4}
# model, its configuration, the wiring and norm of all its branches, how the factor is written, norms within branches.
# GPT-2: Radford et al. (2019), 2.3. Llama: Touvron et al. (2023), 2.2. Qwen2, Qwen3 (QK-norm) and Mistral follow Llama.
# BERT: Devlin et al. (2019), 3, and RoBERTa: the first Transformer's. Gemma 2: Gemma Team (2024), 2; OLMo 2: OLMo Team
# (2025), 2.1. ViT: Dosovitskiy et al. (2021), equations 2 and 3.
KNOWN = {
    "GPT2LMHeadModel": ("GPT2Config", GPT, "pre_norm", "layer_norm", "w", 0),
    "LlamaForCausalLM": ("LlamaConfig", KV, "pre_norm", "rms_norm", "w", 0),
    "Qwen2ForCausalLM": ("Qwen2Config", KV, "pre_norm", "rms_norm", "w", 0),
    "Qwen3ForCausalLM": ("Qwen3Config", KV, "pre_norm", "rms_norm", "w", 2),
    "MistralForCausalLM": ("MistralConfig", KV, "pre_norm", "rms_norm", "w", 0),
    "BertModel": ("BertConfig", SMALL, "post_norm", "layer_norm", "w", 0),
    "RobertaModel": ("RobertaConfig", {**SMALL, "pad_token_id": 1}, "post_norm", "layer_norm", "w", 0),
    "Gemma2ForCausalLM": ("Gemma2Config", KV, "peri_norm", "rms_norm", "1 + w", 0),
    "Olmo2ForCausalLM": ("Olmo2Config", {**SMALL, "pad_token_id": 0}, "res_post_norm", "rms_norm", "w", 2),
    "ViTModel": ("ViTConfig", IMAGES, "pre_norm", "layer_norm", "w", 0),
    "GPTJForCausalLM": ("GPTJConfig", {**GPT, "rotary_dim": 8}, "parallel", "layer_norm", "w", 0),
}


def known(name, **changes):
    config, settings, *_ = KNOWN[name]
    torch.manual_seed(0)
    return getattr(transformers, name)(getattr(transformers, config)(**settings | changes))


def inputs_of(name):
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(2, 3, 16, 16, generator=generator)
        if "ViT" in name
        else torch.randint(2, 99, (2, 12), generator=generator)
    )


@pytest.mark.parametrize("name", KNOWN)
def test_the_wiring_of_a_known_architecture_is_the_one_its_paper_states(name):
    *_, placement, norm, weight, within = KNOWN[name]
    seen = examine(known(name), inputs_of(name))
    rows = seen.placements
    assert len(seen.frame) == 3 and len(rows) == 6 and list(rows["block"]) == [1, 1, 2, 2, 3, 3]
    assert {*rows["placement"]} == {placement} and {*rows["norm"]} == {norm} and {*rows["weight"]} == {weight}
    assert list(rows["inner_norms"][rows["branch"] == 1]) == [within] * 3
    assert not len(seen.faults), seen


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_wiring_is_found_in_half_precision(dtype):
    for name in ("GPT2LMHeadModel", "Gemma2ForCausalLM"):
        seen = examine(known(name).to(dtype), inputs_of(name))
        assert {*seen.placements["placement"]} == {KNOWN[name][2]} and {*seen.placements["norm"]} == {KNOWN[name][3]}
        assert {*seen.frame["dtype"]} == {str(dtype).removeprefix("torch.")}


@pytest.mark.parametrize("norm_first", [True, False])
def test_torchs_own_encoder_is_what_norm_first_says(norm_first):
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=False, norm_first=norm_first)
    final = nn.LayerNorm(16) if norm_first else None
    model = nn.TransformerEncoder(layer, 3, norm=final, enable_nested_tensor=False)
    seen = examine(model, torch.randn(5, 2, 16))
    assert {*seen.placements["placement"]} == {"pre_norm" if norm_first else "post_norm"}
    assert len(seen.placements) == 6 and {*seen.placements["eps"]} == {1e-5}


@pytest.mark.parametrize("placement", [p for p in PLACEMENTS if p != "hyper_connection"])
@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_every_wiring_of_the_course_is_called_by_its_name(placement, norm):
    for model in (
        deep_mlp(5, 32, placement, norm),
        Transformer(vocabulary=20, width=16, heads=2, depth=2, placement=placement, norm=norm, dropout=0.1),
    ):
        seen = examine(model, model.random_inputs(6, torch.Generator().manual_seed(0)))
        assert list(seen.placements["placement"]) == [placement] * len(model.blocks)
        expected = norm if PLACEMENTS[placement].uses_norm else ""
        assert {*seen.placements["norm"]} == {expected}


def test_factors_are_those_of_the_wiring():
    for placement, column, factor in (
        ("deep_norm", "skip", 6**0.25),
        ("layer_scale", "scale", 0.1),
        ("rezero", "scale", 0),
    ):
        model = deep_mlp(6, 16, placement)
        seen = examine(model, torch.randn(4, 16))
        assert seen.placements[column].to_numpy() == pytest.approx(factor, abs=1e-6)


class Stack(nn.Module):
    def __init__(self, blocks, after=None):
        super().__init__()
        self.layers, self.after = nn.ModuleList(blocks), after or nn.Identity()

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.after(x)


class WithBatchNorm(nn.Module):
    """He et al. (2015)."""

    def __init__(self):
        super().__init__()
        self.one, self.two = (nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(2))
        self.norm, self.norm_out = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x):
        return F.relu(x + self.norm_out(self.two(F.relu(self.norm(self.one(x))))))


class Dense(nn.Module):
    """Huang et al., "Densely Connected Convolutional Networks" (2017)."""

    def __init__(self, channels):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(channels), nn.Conv2d(channels, 4, 3, padding=1)

    def forward(self, x):
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


class TwoNorms(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.behind, self.f = nn.LayerNorm(16), nn.LayerNorm(16), nn.Linear(16, 16)

    def forward(self, x):
        return self.behind(x + self.f(self.before(x)))


def test_what_is_not_one_of_ours_is_called_that_with_a_diagram():
    image, rows = torch.randn(2, 4, 6, 6), torch.randn(8, 16)
    for model, x, words in (
        (Stack([WithBatchNorm() for _ in range(3)]), image, ["weights", "batch_norm", "relu", "weights"]),
        (nn.Sequential(*(Dense(4 * i) for i in (1, 2, 3))), image, ["batch_norm", "relu", "weights", "cat"]),
        (Stack([TwoNorms() for _ in range(3)]), rows, ["layer_norm", "weights", "+", "layer_norm"]),
        (deep_mlp(3, 16, "hyper_connection"), rows, []),
    ):
        seen = examine(model, x)
        assert {*seen.placements["placement"]} == {NOT_OURS} and sorted(seen.diagrams) == [1, 2, 3]
        operations = [*seen.diagrams[2]["operation"]]
        assert operations[0] == "x" and [o for o in operations if o in words][: len(words)] == words


def test_a_plain_network_has_no_skips():
    layers = [module for _ in range(5) for module in (nn.Linear(16, 16), nn.ReLU())]
    seen = examine(nn.Sequential(nn.Linear(8, 16), *layers, nn.Linear(16, 3)), torch.randn(4, 8))
    assert list(seen.placements["placement"]) == ["plain"] * 5 and "plain" in {*seen.findings["kind"]}


class TwoStreams(nn.Module):
    """Hidden state and residual apart, added by the next layer, as in inference engines; all by keyword."""

    def __init__(self):
        super().__init__()
        self.norm, self.norm_2 = nn.RMSNorm(16, eps=1e-6), nn.RMSNorm(16, eps=1e-6)
        self.one, self.two = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, *, hidden, residual=None):
        residual = hidden if residual is None else hidden + residual
        residual = torch.add(self.one(self.norm(residual)), residual)
        return self.two(F.gelu(self.norm_2(residual))), residual


class Streams(Stack):
    def forward(self, x):
        residual = None
        for layer in self.layers:
            x, residual = layer(hidden=x, residual=residual)
        return x + residual


class InPlace(nn.Module):
    """Dropout, another dtype within the branch, `+=`, and a dict as output."""

    def __init__(self):
        super().__init__()
        self.norm, self.f, self.g = nn.LayerNorm(16), nn.Linear(16, 16), nn.Linear(16, 16).bfloat16()

    def forward(self, state):
        x = state["hidden"].clone()
        x += F.dropout(self.g(F.relu(self.f(self.norm(state["hidden"]))).bfloat16()).float(), 0.2)
        return {"hidden": x}


class Fused(nn.Module):
    """The addition in one operator with the product."""

    def __init__(self):
        super().__init__()
        self.norm, self.weight = nn.LayerNorm(16), nn.Parameter(torch.randn(16, 16) / 4)

    def forward(self, x):
        return torch.addmm(x, self.norm(x), self.weight)


class Handmade(nn.Module):
    """Of "The Annotated Transformer": γ (x − mean) / (std + ε) + β."""

    def __init__(self):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.rand(16) + 0.5), nn.Parameter(torch.randn(16))
        self.f = nn.Linear(16, 16)

    def forward(self, x):
        y = self.scale * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + self.shift
        return x + self.f(y)


def test_tuples_keywords_dropout_casts_fused_adds_and_several_streams_are_followed():
    x = torch.randn(3, 4, 16)

    class Dicts(Stack):
        def forward(self, x):
            state = {"hidden": x}
            for layer in self.layers:
                state = layer(state)
            return state["hidden"]

    for model, given, norm, branches in (
        (Streams([TwoStreams() for _ in range(3)]), x, "rms_norm", 2),
        (Dicts([InPlace() for _ in range(3)]), x, "layer_norm", 1),
        (Stack([Fused() for _ in range(3)]), x[0], "layer_norm", 1),
        (Stack([Handmade() for _ in range(3)]), x, "layer_norm", 1),
    ):
        seen = examine(model, given)
        rows = seen.placements
        assert list(rows["placement"]) == ["pre_norm"] * 3 * branches and {*rows["norm"]} == {norm}
        assert list(rows["block"]) == sorted([1, 2, 3] * branches) and not len(seen.faults)


def test_the_numbers_are_those_of_the_courses_probes():
    model = deep_mlp(6, 64, "pre_norm", seed=1)
    x = model.random_inputs(8, torch.Generator().manual_seed(0))
    frame = examine(model, x).frame
    assert frame["variance"].to_numpy() == pytest.approx(
        measure.variances(model, x)["variance"][1:].to_numpy(), rel=1e-5
    )
    moved = measure.updates(model, x)
    for column in ("relative_update", "cosine"):
        assert frame[column].to_numpy() == pytest.approx(moved[column].to_numpy(), rel=1e-5)
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(x.shape, generator=generator)
    back = measure.gradient_norms(model, x, loss=lambda y: (y * (direction / direction.norm())).sum())
    assert frame["gradient"].to_numpy() == pytest.approx(back["gradient_norm"][1:].to_numpy(), rel=1e-4)
    sizes = [b.sublayer.weight.detach().norm().item() for b in model.blocks]
    assert np.all(frame["weight"].to_numpy() >= sizes)


@pytest.mark.parametrize("placement", ["pre_norm", "post_norm", "peri_norm", "res_post_norm", "deep_norm"])
def test_the_theory_drawn_is_that_of_the_wiring(placement):
    """With the branch's variance measured, the curves are those of mean-field theory, up to its own spread at width 512."""
    model = deep_mlp(20, 512, placement, gain=1.4)
    frame = examine(model, model.random_inputs(16, torch.Generator().manual_seed(0))).frame
    expected = theory.mean_field(placement, 20, 1.4)[0][1:]
    assert frame["theory_variance"].to_numpy() == pytest.approx(expected, rel=0.1)
    relative, cosines = theory.updates(placement, 20, 1.4)
    assert frame["theory_update"].to_numpy() == pytest.approx(relative, rel=0.1)
    assert frame["theory_cosine"].to_numpy() == pytest.approx(cosines, rel=0.05)


def test_positions_are_as_alike_as_the_probe_says():
    model = Transformer(vocabulary=20, width=32, heads=2, depth=2, placement="pre_norm")
    ids = model.random_inputs(4, torch.Generator().manual_seed(0))
    expected = measure.token_cosines(model, ids)["cosine"].to_numpy()[1:]
    assert examine(model, ids).frame["alike"].to_numpy() == pytest.approx(expected, abs=1e-4)


def state_of(model):
    tensors = {k: (v, v.clone()) for k, v in {**dict(model.named_parameters()), **dict(model.named_buffers())}.items()}
    grads = {k: p.grad if p.grad is None else (p.grad, p.grad.clone()) for k, p in model.named_parameters()}
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()]
    attributes = [{k: v for k, v in vars(m).items() if isinstance(v, (int, float, str))} for m in model.modules()]
    return tensors, grads, hooks, attributes, [m.training for m in model.modules()]


class Counting(WithBatchNorm):
    """It remembers things from run to run, draws random numbers and may fail."""

    def __init__(self, fail=False):
        super().__init__()
        self.runs, self.fail = 0, fail
        self.register_buffer("last", torch.zeros(()))

    def forward(self, x):
        self.runs += 1
        self.last = x.detach().mean()
        self.seen = x
        random.random(), np.random.rand(), torch.rand(1)
        if self.fail:
            raise RuntimeError("broken")
        return super().forward(x)


@pytest.mark.parametrize("fail", [False, True])
def test_the_model_is_left_as_it_was_bit_for_bit_also_after_an_error(fail):
    model, x = Stack([Counting(), Counting(), Counting(fail)]), torch.randn(2, 4, 6, 6)
    model.layers[1].eval()
    model.layers[0].one.weight.requires_grad_(False)
    model.layers[1].one.weight.grad = torch.full_like(model.layers[1].one.weight, 3.0)
    given = x.clone()
    before, numbers = state_of(model), (random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state())
    if fail:
        with pytest.raises(RuntimeError, match="broken"):
            examine(model, x)
    else:
        examine(model, x)
    after = state_of(model)
    for one, other in zip(before[:2], after[:2]):
        assert one.keys() == other.keys()
        for name in one:
            assert (one[name] is None) == (other[name] is None)
            assert one[name] is None or (one[name][0] is other[name][0] and torch.equal(one[name][1], other[name][0]))
    assert before[2:] == after[2:] and not hasattr(model.layers[0], "seen")
    assert random.getstate() == numbers[0] and (np.random.get_state()[1] == numbers[1]).all()
    assert torch.equal(torch.get_rng_state(), numbers[2]) and torch.equal(x, given) and not x.requires_grad


def test_it_runs_the_model_once_and_gives_the_same_again():
    runs = []
    model = known("GPT2LMHeadModel")  # in training mode, with dropout
    model.register_forward_hook(lambda *_: runs.append(1))
    one, two = (examine(model, inputs_of("GPT2")).frame for _ in range(2))
    assert len(runs) == 2 and one.equals(two)


def faulty(change):
    model = Transformer(vocabulary=30, width=32, heads=2, depth=5, placement="pre_norm", seed=0)
    change(model)
    return examine(model, model.random_inputs(4, torch.Generator().manual_seed(0)))


def the_fault(seen, kind):
    rows = seen.faults[seen.faults["kind"] == kind]
    assert len(rows) >= 1, seen
    return rows.iloc[0]


def test_weights_that_are_30_times_too_large_are_found():
    def change(model):
        with torch.no_grad():
            model.blocks[6].sublayer.out.weight.mul_(30)

    seen = faulty(change)
    fault = the_fault(seen, "weights")
    assert len(seen.faults[seen.faults["kind"] == "weights"]) == 1
    assert fault["block"] == 7 and fault["number"] == pytest.approx(30, rel=0.1) and fault["chapter"] == 8
    assert "sublayer.out.weight" in fault["zh"] and "sublayer.out.weight" in fault["en"]


def test_a_missing_skip_is_found():
    def change(model):
        model.blocks[4] = Plain(32, model.blocks[4].sublayer)

    fault = the_fault(faulty(change), "missing_skip")
    assert fault["block"] == 5 and abs(fault["number"]) < 0.5 and fault["chapter"] == 2


def test_a_missing_skip_inside_a_block_of_two_branches_is_found():
    model = known("LlamaForCausalLM")
    layer = model.model.layers[1]

    def forward(x, position_embeddings=None, **_):
        x = layer.self_attn(
            hidden_states=layer.input_layernorm(x), position_embeddings=position_embeddings, attention_mask=None
        )[0]
        return x + layer.mlp(layer.post_attention_layernorm(x))

    layer.forward = forward
    fault = the_fault(examine(model, inputs_of("Llama")), "missing_skip")
    assert fault["block"] == 2 and abs(fault["number"]) < 0.5


def test_a_frozen_layer_is_found():
    seen = faulty(lambda model: model.blocks[3].sublayer.requires_grad_(False))
    fault = the_fault(seen, "frozen")
    assert fault["block"] == 4 and fault["number"] == 2 * 32 * 4 * 32 and fault["chapter"] == 1
    assert seen.frame["gradient"].gt(0).all()


def test_a_wholly_frozen_model_still_has_its_gradients_measured():
    model = known("BertModel").requires_grad_(False)
    seen = examine(model, inputs_of("Bert"))
    assert {*seen.placements["placement"]} == {"post_norm"}
    model = deep_mlp(3, 16, "pre_norm").requires_grad_(False)
    assert examine(model, torch.randn(4, 16)).frame["gradient"].gt(0).all()


def test_one_post_norm_block_among_pre_norm_ones_is_found():
    def change(model):
        old = model.blocks[5]
        model.blocks[5] = PostNorm(32, old.sublayer, depth=10, index=5)

    seen = faulty(change)
    fault = the_fault(seen, "odd_wiring")
    assert list(seen.placements["placement"]) == ["pre_norm"] * 5 + ["post_norm"] + ["pre_norm"] * 4
    assert fault["block"] == 6 and fault["number"] == pytest.approx(1, abs=0.01) and fault["chapter"] == 6


class HalfNorm(nn.Module):
    def __init__(self, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(16)), eps

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class HalfBlock(nn.Module):
    def __init__(self, eps):
        super().__init__()
        self.norm, self.f = HalfNorm(eps), nn.Linear(16, 16, bias=False)

    def forward(self, x):
        return x + self.f(self.norm(x))


@pytest.mark.parametrize("eps", [0.0, 1e-8])
def test_an_eps_that_is_0_in_fp16_is_found_and_the_block_where_it_bites(eps):
    torch.manual_seed(0)
    model = Stack([HalfBlock(1e-5), HalfBlock(eps), HalfBlock(1e-5)]).half()
    with torch.no_grad():
        model.layers[0].f.weight.zero_()
    seen = examine(model, torch.full((4, 16), 1e-4).half())
    fault = the_fault(seen, "eps")
    assert fault["block"] == 2 and fault["number"] == eps and fault["chapter"] == 9
    bad = the_fault(seen, "non_finite")
    assert bad["block"] == 2 and bad["number"] == seen.frame["non_finite"][1] == 64


def test_a_sound_model_has_no_faults():
    assert not len(faulty(lambda model: None).faults)


def test_blocks_may_be_given_by_name_or_as_modules_and_are_asked_for_where_there_are_none():
    model = known("BertModel")
    assert repeated_blocks(model) == list(model.encoder.layer) == repeated_blocks(model, "encoder.layer")
    assert len(examine(model, inputs_of("Bert"), blocks=list(model.encoder.layer)[:2]).frame) == 2
    with pytest.raises(ValueError, match="没有重复的块(.|\n)*no repeated blocks"):
        examine(nn.Linear(4, 4), torch.randn(2, 4))
    with pytest.raises(
        ValueError, match="模型里没有 'layers'(.|\n)*the model has no 'layers'; it begins with embeddings"
    ):
        repeated_blocks(model, "layers")
    shared = Stack([block := HalfBlock(1e-5), block, block])
    assert len(examine(shared, torch.randn(4, 16), blocks="layers.0").frame) == 3


def test_stages_are_opened():
    model = nn.Sequential(*(nn.Sequential(*(WithBatchNorm() for _ in range(2))) for _ in range(3)))
    assert len(repeated_blocks(model)) == 6


def test_the_loss_may_be_given_and_a_models_own_is_used():
    model, ids = known("GPT2LMHeadModel").eval(), inputs_of("GPT2")
    own = examine(model, ids, labels=ids).frame
    given = examine(
        model, ids, loss=lambda out: F.cross_entropy(out.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    )
    assert given.frame["gradient"].to_numpy() == pytest.approx(own["gradient"].to_numpy(), rel=1e-4)


def test_the_trace_knows_a_view_that_is_written_to():
    x = torch.randn(4, 8)
    with Trace(nn.Linear(1, 1), x) as trace:
        y = x * 2
        y[:, 0] += 1
    assert trace.find(y).op == "written" and trace.find(y).active


def test_the_report_is_text_in_both_languages():
    seen = faulty(lambda model: model.blocks[3].sublayer.requires_grad_(False))
    report = str(seen)
    assert "! 第 4 块有 8192 个参数拿不到梯度" in report and "8192 parameters of block 4 get no gradient" in report
    assert "前置归一化" in report and "Pre-Norm" in report and "<li><b>!</b>" in seen._repr_html_()
    assert not math.isnan(seen.findings["number"].iloc[0])


@pytest.mark.slow
def test_a_script_is_examined_on_the_command_line(tmp_path, capsys):
    script = tmp_path / "mine.py"
    script.write_text(
        "import torch\nfrom normcourse.models import deep_mlp\n\n\ndef make_model():\n"
        "    return deep_mlp(4, 16, 'post_norm'), torch.randn(3, 16)\n"
    )
    command = [sys.executable, "-m", "normcourse.examine"]
    run = subprocess.run([*command, f"{script}:make_model"], capture_output=True, text=True, encoding="utf-8")
    assert run.returncode == 0 and "Post-Norm" in run.stdout and "后置归一化" in run.stdout, run.stderr
    for wrong, words in (
        (f"{script}:nothing", "nothing"),
        ("nowhere.py:make", "nowhere.py"),
        ("mine", "script.py:make_model"),
    ):
        assert main([wrong]) == 2 and words in capsys.readouterr().err


def test_an_examination_in_another_thread_does_not_touch_what_a_seed_draws():
    """As where an explorer draws beside a cell: the random states that it puts back are those of all threads."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)  # with dropout, which draws
    model, x, done = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False), torch.randn(2, 4, 16), []
    thread = threading.Thread(target=lambda: [examine(model, x) for _ in range(40) if not done])
    thread.start()
    try:
        drawn = set()
        while thread.is_alive():
            with seeded(0):
                torch.rand(10)
                time.sleep(0.001)
                drawn.add(float(torch.rand(1)))
    finally:
        done.append(True)
        thread.join()
    assert len(drawn) == 1


def test_parts_that_are_compiled_are_seen_as_they_were_written():
    from torch._dynamo.utils import counters

    def encoder():
        with seeded(0):
            layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True, norm_first=True)
            return nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)

    x = torch.randn(2, 5, 16)
    expected = examine(encoder(), x)
    model = encoder()
    model.layers[0] = torch.compile(model.layers[0])  # a block
    model.layers[1].linear1 = torch.compile(model.layers[1].linear1)  # a part of a block
    model.layers[2].compile()  # in place
    counters.clear()
    seen = examine(model, x)
    assert seen.placements.equals(expected.placements)
    assert not counters["frames"]["total"]  # nothing was compiled for it, the examination itself least of all
