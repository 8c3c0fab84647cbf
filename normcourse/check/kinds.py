"""Classes that stand in the second world (`world`) for those of Python and torch that an answer may derive from.

What the real ones do behind the scenes is left out: no machinery of enum, no engine of autograd is within reach.
"""

import torch


class Namespace:
    """`types.SimpleNamespace`."""

    def __init__(self, **values):
        for name, value in values.items():
            if not name.startswith("_"):  # a module that derives from this, too, keeps its own
                setattr(self, name, value)


class Kept:
    """What `ctx` is in `Function`."""

    saved_tensors, needs_input_grad = (), ()

    def save_for_backward(self, *tensors):
        self.saved_tensors = tensors

    def set_materialize_grads(self, value):
        pass


class Function:
    """`torch.autograd.Function`: what `forward` and `backward` of a class derived from it get and give is handed to
    torch and back by a class that a text never sees."""

    @classmethod
    def apply(cls, *arguments):
        kept = Kept()

        class Real(torch.autograd.Function):
            @staticmethod
            def forward(real, *arguments):
                kept.needs_input_grad = real.needs_input_grad
                if hasattr(cls, "setup_context"):
                    made = cls.forward(*arguments)
                    cls.setup_context(kept, arguments, made)
                else:
                    made = cls.forward(kept, *arguments)
                real.save_for_backward(*kept.saved_tensors)
                kept.saved_tensors = ()
                return made

            @staticmethod
            def backward(real, *slopes):
                kept.saved_tensors = real.saved_tensors
                return cls.backward(kept, *slopes)

        return Real.apply(*arguments)


class auto:
    """`enum.auto`."""


class Members(type):
    """What an enumeration itself can do: be looped over, and find a member by value or name."""

    def __new__(meta, name, bases, space):
        made = super().__new__(meta, name, bases, space)
        made.__members__ = {}
        for key, value in space.items():
            if key.startswith("__") or hasattr(type(value), "__get__"):  # methods and properties
                continue
            value = (key.lower() if made.__lower__ else len(made.__members__) + 1) if isinstance(value, auto) else value
            same = [member for member in made.__members__.values() if member.value == value]
            member = same[0] if same else object.__new__(made)
            if not same:
                vars(member).update(name=key, value=value)
            made.__members__[key] = member
            setattr(made, key, member)
        return made

    def __call__(cls, value):
        for member in cls.__members__.values():
            if member is value or member.value == value:
                return member
        raise ValueError(f"{value!r} is not a valid {cls.__name__}")

    def __getitem__(cls, name):
        return cls.__members__[name]

    def __iter__(cls):
        return iter(dict.fromkeys(cls.__members__.values()))

    def __len__(cls):
        return len(list(iter(cls)))


class Enum(metaclass=Members):
    __lower__ = False

    def __str__(self):
        return f"{type(self).__name__}.{self.name}"


class Valued(Enum):
    """Members that are equal to their values."""

    def __eq__(self, other):
        return self.value == (other.value if isinstance(other, Valued) else other)

    def __hash__(self):
        return hash(self.value)

    def __lt__(self, other):
        return self.value < (other.value if isinstance(other, Valued) else other)

    def __gt__(self, other):
        return self.value > (other.value if isinstance(other, Valued) else other)

    def __index__(self):
        return int(self.value)


class IntEnum(Valued):
    """`enum.IntEnum`."""


class StrEnum(Valued):
    """`enum.StrEnum`."""

    __lower__ = True

    def __str__(self):
        return self.value


BASES = (Namespace, Kept, Function, Enum, Valued, IntEnum, StrEnum)
