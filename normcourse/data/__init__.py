"""Text to train on, recorded results, and the font of the figures. Sources and licences are in data/README.md."""

from pathlib import Path

import torch

FOLDER = Path(__file__).parent
TEXTS = {"en": "text/moby_dick_1-22.txt", "zh": "text/tang_300.txt"}
FONT = FOLDER / "font" / "NormCourseSans.otf"


def load_text(language="en"):
    """The text as one string: "en" Moby-Dick, chapters 1–22 (217 k characters), "zh" 唐诗三百首 (28 k characters)."""
    if language not in TEXTS:
        raise ValueError(f"no text in language {language!r}; there are {', '.join(TEXTS)}")
    return (FOLDER / TEXTS[language]).read_text(encoding="utf-8")


def encode(text):
    """Token ids of the text's characters, int64 of shape (characters,), and the sorted vocabulary they index."""
    vocabulary = sorted(set(text))
    number = {character: i for i, character in enumerate(vocabulary)}
    return torch.tensor([number[character] for character in text]), vocabulary


def batches(ids, batch_size, length, seed=0):
    """Endless random excerpts of `ids`: pairs of inputs and targets, both (batch_size, length), targets one ahead."""
    if len(ids) <= length:
        raise ValueError(f"the text has {len(ids)} tokens; excerpts of length {length} need at least {length + 1}")
    generator = torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(len(ids) - length, (batch_size, 1), generator=generator)
        window = ids[starts + torch.arange(length + 1)]
        yield window[:, :-1], window[:, 1:]


def next_characters(ids, batch_size, context, seed=0):
    """Endless random pairs for `models.CharacterMLP`: inputs (batch_size, context) and the next id (batch_size,)."""
    for inputs, targets in batches(ids, batch_size, context, seed):
        yield inputs, targets[:, -1]


def recorded(name):
    """What a chapter recorded as a DataFrame; `.attrs` holds its provenance (command, machine, versions, date)."""
    import json

    import pandas

    known = {path.stem: path for path in sorted(FOLDER.parent.glob("chapters/*/recorded/*.csv"))}
    if name not in known:
        raise FileNotFoundError(f"no recorded result {name!r}; recorded are: {', '.join(known) or 'none yet'}")
    path = known[name]
    frame = pandas.read_csv(path, comment="#")
    with path.open(encoding="utf-8") as file:
        frame.attrs = json.loads(file.readline().removeprefix("#"))
    return frame
