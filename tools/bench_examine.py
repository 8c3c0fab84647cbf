"""`make bench-examine`: what `normcourse.examine` adds to a forward and backward pass of the model that it examines.

One thread, one process; passes and examinations alternate; medians of the processor's time, which other processes
disturb less than the clock's. A pass is one forward and one backward with gradients of all parameters; `adds` is
(examine − pass) / pass, so that 3 means "as long as three passes more". Goal: at most 3, for any model.

Arguments: how many rounds (15), then names of models (all).
"""

import statistics
import sys
import time
import warnings

import torch
import transformers
from torch import nn

from normcourse.chapters.small_transformers import small_transformer
from normcourse.chapters.your_own_model import architectures
from normcourse.examine import examine
from normcourse.models import deep_mlp


def ours(placement, depth):
    model = small_transformer(placement, depth)
    return model, torch.randint(0, 20, (8, 32), generator=torch.Generator().manual_seed(0))


def torchs(width, norm_first):
    layer = nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True, norm_first=norm_first)
    return nn.TransformerEncoder(layer, 12, enable_nested_tensor=False), torch.randn(8, 32, width)


def real(name, width=64, **more):
    """A model of `transformers` that the tests know, with 12 blocks, and 8 sequences of 32 words or 8 small images."""
    sizes = {"vocab_size": 99, "hidden_size": width, "num_hidden_layers": 12, "num_attention_heads": 4}
    config = getattr(transformers, f"{name.removesuffix('Model').removesuffix('ForCausalLM')}Config")
    model = getattr(transformers, name)(config(**sizes, intermediate_size=4 * width, pad_token_id=0, **more)).eval()
    return model, torch.randn(8, 3, 32, 32) if "ViT" in name else torch.randint(2, 99, (8, 32))


KV = {"num_key_value_heads": 4, "head_dim": 16}
MODELS = {
    "ours, 12 × 64": lambda: ours("pre_norm", 12),
    "torch's encoder, 12 × 64": lambda: torchs(64, True),
    "torch's encoder, Post-Norm, 12 × 64": lambda: torchs(64, False),
    "GPT-2, 12 × 64": lambda: architectures.build("GPT-2", 12, 64),
    "Llama, 12 × 64": lambda: architectures.build("Llama", 12, 64),
    "Gemma 2, 12 × 64": lambda: architectures.build("Gemma 2", 12, 64),
    "Qwen 3, 12 × 64": lambda: real("Qwen3ForCausalLM", **KV),
    "Mistral, 12 × 64": lambda: real("MistralForCausalLM", **KV),
    "BERT, 12 × 64": lambda: real("BertModel"),
    "RoBERTa, 12 × 64": lambda: real("RobertaModel"),
    "OLMo 2, 12 × 64": lambda: real("Olmo2ForCausalLM"),
    "ViT, 12 × 64": lambda: real("ViTModel", image_size=32, patch_size=4),
    "MLP, 12 × 64": lambda: (deep_mlp(12, 64, "pre_norm"), torch.randn(256, 64)),
    "torch's encoder, 12 × 512": lambda: torchs(512, True),
    "GPT-2, 12 × 512": lambda: architectures.build("GPT-2", 12, 512),
    "Llama, 12 × 512": lambda: architectures.build("Llama", 12, 512),
}


def one_pass(model, given):
    """One forward and one backward, to the same scalar that `examine` makes up."""
    output = model(given)
    output = output if isinstance(output, torch.Tensor) else output[0]
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
    value = (output.float() * (direction / direction.norm())).sum()
    torch.autograd.grad(value, [p for p in model.parameters() if p.requires_grad], allow_unused=True)


def seconds(run, *arguments):
    start = time.process_time()
    run(*arguments)
    return time.process_time() - start


def main(rounds=15, names=()):
    print(f"{'':38}{'pass':>9}{'examine':>9}{'adds':>7}")
    for name in names or MODELS:
        torch.manual_seed(0)
        model, given = MODELS[name]()
        both = [(seconds(one_pass, model, given), seconds(examine, model, given)) for _ in range(rounds + 1)][1:]
        alone, examined = (1000 * statistics.median(times) for times in zip(*both))
        print(f"{name:38}{alone:6.1f} ms{examined:6.1f} ms{(examined - alone) / alone:6.1f}×", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main(*map(int, sys.argv[1:2]), names=sys.argv[2:])
