"""The recorded runs of chapter 01; chapter 02 draws the first, too."""

import torch

from ... import data
from ...models import CharacterMLP
from ...record import Run
from ...train import train
from ..small_transformers import final_loss


def degradation(placement, gain, depth, learning_rate, seed):
    """Training loss of a deep character model after 500 steps: the mean of the first 20 and of the last 50 steps."""
    ids, vocabulary = data.encode(data.load_text("en"))
    model = CharacterMLP(
        len(vocabulary), depth, placement, width=64, context=8, activation="relu", gain=gain, seed=seed
    )
    batches = data.next_characters(ids, 64, 8, seed)
    history = train(model, batches, steps=500, learning_rate=learning_rate, progress=False)
    return {"early_loss": round(history["loss"][:20].mean(), 4), "loss": final_loss(history, 500)}


def degradation_with_biases(gain, depth, learning_rate, seed):
    """`degradation` of a plain network whose layers have biases, drawn as `torch.nn.Linear` draws them."""
    ids, vocabulary = data.encode(data.load_text("en"))
    model = CharacterMLP(len(vocabulary), depth, "plain", width=64, context=8, activation="relu", gain=gain, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for block in model.blocks:
        block.sublayer.bias = torch.nn.Parameter((2 * torch.rand(64, generator=generator) - 1) / 64**0.5)
    batches = data.next_characters(ids, 64, 8, seed)
    history = train(model, batches, steps=500, learning_rate=learning_rate, progress=False)
    return {"early_loss": round(history["loss"][:20].mean(), 4), "loss": final_loss(history, 500)}


DEGRADATION = {
    "placement": ["plain", "residual", "highway", "rezero"],
    "gain": [3**-0.5, 2**0.5],
    "depth": [1, 2, 4, 8, 12, 16, 20, 30, 40, 50],
    "learning_rate": [3e-4, 1e-3, 3e-3, 1e-2],
    "seed": [0, 1, 2],
}
# What chapter 02 compares, beyond the edge of that grid.
FASTER = {"placement": ["residual", "highway", "rezero"], "depth": [4, 20, 50], "learning_rate": [3e-2]}

CONDITIONS = "Adam, 500 steps, batch 64, width 64, context 8, ReLU, text: Moby-Dick 1–22"
RUNS = {
    "degradation": Run(degradation, DEGRADATION, CONDITIONS),
    "degradation_faster": Run(degradation, DEGRADATION | FASTER, CONDITIONS),
    "degradation_with_biases": Run(
        degradation_with_biases,
        {
            "gain": [3**-0.5, 2**0.5],
            "depth": [2, 4, 20, 30],
            "learning_rate": [3e-4, 1e-3, 3e-3, 1e-2],
            "seed": [0, 1, 2],
        },
        f"{CONDITIONS}; biases uniform in ±1/√64",
    ),
}
# Where the best learning rate is at an end of its grid (`learning_rates.best_losses`), and what follows from it.
EDGES = {
    "degradation": [
        (
            {"placement": ["plain"], "depth": [1, 2, 4]},
            "they win over the deeper ones: a larger rate could only add to it",
        ),
        ({"placement": ["plain"], "depth": [20], "gain": [3**-0.5]}, "at 0.01 it has just its character frequencies"),
        (
            {"placement": ["residual", "highway", "rezero"], "depth": [1, 2, 8, 12, 16, 30, 40]},
            "chapter 02 says so; it compares 4, 20 and 50 layers, where a larger rate was tried",
        ),
    ],
    "degradation_with_biases": [({"depth": [2, 4]}, "as without biases")],
}
