"""The recorded run of chapter 02: the first steps, with a learned weight on the branch and without."""

from ... import data
from ...models import CharacterMLP
from ...record import Run
from ...train import train


def first_steps(placement, depth, learning_rate, seed):
    """Mean training loss of the first 20 steps of the character model of chapter 01, at `torch.nn.Linear`'s gain."""
    ids, vocabulary = data.encode(data.load_text("en"))
    model = CharacterMLP(len(vocabulary), depth, placement, gain=3**-0.5, seed=seed)
    batches = data.next_characters(ids, 64, 8, seed)
    history = train(model, batches, steps=20, learning_rate=learning_rate, progress=False)
    return {"loss": round(history["loss"].mean(), 4) if len(history) == 20 else float("inf")}


FIRST_STEPS = {
    "placement": ["residual", "rezero"],
    "depth": [2, 4, 6, 8, 12, 20, 50],
    "learning_rate": [3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1],
    "seed": [0, 1, 2, 3, 4],
}
CONDITIONS = "Adam, 20 steps, batch 64, width 64, context 8, ReLU, weights as torch.nn.Linear draws them without biases"
RUNS = {"first_steps": Run(first_steps, FIRST_STEPS, f"{CONDITIONS}, text: Moby-Dick 1–22")}
