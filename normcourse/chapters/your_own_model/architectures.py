"""Real architectures with random weights, small enough for a notebook: configurations only, nothing is downloaded."""

import copy
import functools
import importlib.util

import torch
from torch import nn

from ...i18n import text
from ...models import Transformer, seeded

WORDS, LENGTH = 256, 32  # vocabulary, tokens of a sequence
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Name on the slider: class and configuration in `transformers`.
REAL = {
    "GPT-2": ("GPT2LMHeadModel", "GPT2Config"),
    "BERT": ("BertModel", "BertConfig"),
    "Llama": ("LlamaForCausalLM", "LlamaConfig"),
    "Gemma 2": ("Gemma2ForCausalLM", "Gemma2Config"),
    "OLMo 2": ("Olmo2ForCausalLM", "Olmo2Config"),
}
# Where `transformers` is not there: torch's own encoder in both orders, and three models of the course.
INSTEAD = ("torch, norm_first", "torch, norm last", "peri_norm", "res_post_norm", "deep_norm")


def available():
    """Names of the models to choose from."""
    return list(REAL if importlib.util.find_spec("transformers") else INSTEAD)


def architectures():
    """The same; says in both languages what to do where `transformers` is missing."""
    if (names := available()) == list(REAL):
        return names
    print(
        text(
            "没有装 transformers（pip install transformers）：这一章改用 nn.TransformerEncoder 和课程自己的模型。",
            "transformers is not installed (pip install transformers): this chapter goes on with "
            "nn.TransformerEncoder and models of the course.",
        )
    )
    return names


def build(name, depth=12, width=64, dtype="fp32", seed=0):
    """A model of `depth` blocks as its authors initialise it, in evaluation mode, and token ids or states to run on.

    Each call gives a model of its own: an explorer's thread and a cell may examine theirs at the same time.
    """
    model, inputs = _built(name, depth, width, dtype, seed)
    return copy.deepcopy(model), inputs


@functools.lru_cache(maxsize=32)
def _built(name, depth, width, dtype, seed):
    with seeded(seed):  # `transformers` draws from no other generator
        model = _real(name, depth, width) if name in REAL else _instead(name, depth, width)
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randint(3, WORDS, (2, LENGTH), generator=generator)
    if name.startswith("torch"):
        inputs = torch.randn(2, LENGTH, width, generator=generator).to(DTYPES[dtype])
    return model.eval().to(DTYPES[dtype]), inputs


def _real(name, depth, width):
    import transformers

    made, config = (getattr(transformers, part) for part in REAL[name])
    sizes = {"vocab_size": WORDS, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if name == "GPT-2":
        return made(config(**sizes, n_embd=width, n_layer=depth, n_head=4))
    sizes |= {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": 4}
    if name != "BERT":
        sizes |= {"num_key_value_heads": 4, "head_dim": width // 4}
    return made(config(**sizes, intermediate_size=4 * width))


def _instead(name, depth, width):
    if name not in INSTEAD:
        raise ValueError(text(f"没有模型 {name}", f"there is no model {name}"))
    if not name.startswith("torch"):
        return Transformer(vocabulary=WORDS, width=width, heads=4, depth=depth, placement=name)
    first = name.endswith("norm_first")
    layer = nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True, norm_first=first)
    return nn.TransformerEncoder(layer, depth, nn.LayerNorm(width) if first else None, enable_nested_tensor=False)
