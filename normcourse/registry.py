"""What the course knows by name. A wiring or a norm is one class that carries its `name` (the key), its `title` in both
languages and its `look`; `residual.PLACEMENTS` and `norms.NORMS` are the registries, and terms, styles, choices of
explorers and the tests of all wirings and norms derive from them.
"""

from collections.abc import Mapping
from typing import NamedTuple

from torch import nn

# Okabe & Ito (2008), safe for colour-blind readers; their black is theory's, their yellow too pale for a line. Below
# them what is farthest from all others for normal, deuteranopic, protanopic and tritanopic eyes at once.
BLUE, SKY, GREEN, ORANGE, VERMILLION, PURPLE, GREY = (
    "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#888888",
)  # fmt: skip
VIOLET, BROWN, MINT, SLATE, SAND = "#A100F2", "#8C5438", "#8CD098", "#596B7A", "#CDBB5E"


class Look(NamedTuple):
    """How curves are drawn throughout the course; colour is never the only cue. Marker and dash as in matplotlib."""

    colour: str
    marker: str
    dash: str = "-"


class Registry(dict):
    """{name: class} in the order of registration. `del registry[name]` takes a class out again, everywhere.

    Args: kind: what its classes are called in messages.
    """

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def register(self, cls):
        """Decorator for a class with `name`, `title` (中文, English) and `look` (a `Look`).

        Raises: TypeError where one is missing, ValueError where the name belongs to another class. (The same class
        defined again, as when a cell is run twice, takes its own place.)
        """
        for attribute in ("name", "title", "look"):
            if not hasattr(cls, attribute):
                raise TypeError(f"{cls.__name__} has no {attribute}; a {self.kind} has a name, a title and a look")
        known = self.get(cls.name, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"the name {cls.name!r} belongs to {known.__name__}; give {cls.__name__} its own")
        self[cls.name] = cls
        return cls

    def find(self, choice):
        """See `find`."""
        return find(choice, self, self.kind)

    def each(self, attribute):
        """{name: that attribute of the class}, a view that follows the registry."""
        return _Each(self, attribute)


class _Each(Mapping):
    def __init__(self, registry, attribute):
        self.registry, self.attribute = registry, attribute

    def __getitem__(self, name):
        return getattr(self.registry[name], self.attribute)

    def __iter__(self):
        return iter(self.registry)

    def __len__(self):
        return len(self.registry)


def find(choice, known, kind):
    """`choice` itself if it is callable, else `known[choice]`; a ValueError lists the known names."""
    if isinstance(choice, nn.Module):
        raise TypeError(
            f"{kind} is a module, {type(choice).__name__}(…); give its class or its name: {', '.join(known)}"
        )
    if callable(choice):
        return choice
    if choice not in known:
        raise ValueError(f"unknown {kind} {choice!r}; known are {', '.join(known)}")
    return known[choice]
