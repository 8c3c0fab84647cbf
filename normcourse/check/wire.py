"""Cases and answers as data: a header in JSON and the bytes of arrays, nothing that runs.

case      inputs as a tree of JSON with the tensors by number
answer    perhaps written by hostile code, so every part of it is checked in reading; `Malformed` if it is not right
"""

import contextlib
import math

import numpy
import torch

from .case import Answer, Case, Function

DIMENSIONS = 16
WORDS_LIMIT = 500  # characters of an error message or of a kind
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Malformed(Exception):
    """What was to be read is not what was agreed."""


def pack(tensors):
    """([[dtype, shape, device], …], [bytes, …]) of a list of tensors; those on the meta device have no bytes."""
    described, arrays = [], []
    for tensor in tensors:
        described.append([NAMES[tensor.dtype], list(tensor.shape), tensor.device.type])
        if tensor.device.type != "meta":
            plain = tensor.detach().cpu().contiguous()
            arrays.append(
                plain.view(torch.int16).numpy().tobytes() if plain.dtype == torch.bfloat16 else plain.numpy().tobytes()
            )
    return described, arrays


def unpack(described, body):
    """The tensors that `pack` described; their sizes must add up to those of the body."""
    tensors, at = [], 0
    if not isinstance(described, list):
        raise Malformed("no list of arrays")
    for entry in described:
        if not (isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str) and entry[0] in DTYPES):
            raise Malformed("an array without a known dtype")
        dtype, shape, device = DTYPES[entry[0]], entry[1], entry[2]
        if not (
            isinstance(shape, list)
            and len(shape) <= DIMENSIONS
            and all(type(n) is int and 0 <= n < 2**31 for n in shape)
        ):
            raise Malformed("an array without a shape")
        if device == "meta":
            with _as_malformed():
                tensors.append(torch.empty(shape, dtype=dtype, device="meta"))
            continue
        size = math.prod(shape) * dtype.itemsize
        if device != "cpu" or size > len(body) - at:
            raise Malformed("an array that is not there")
        with _as_malformed():
            tensors.append(_tensor(dtype, shape, body[at : at + size]))
        at += size
    if at != len(body):
        raise Malformed("bytes left over")
    return tensors


def _tensor(dtype, shape, content):
    if not content:
        return torch.empty(shape, dtype=dtype)
    if dtype == torch.bool:  # any byte may come, only 0 and 1 are booleans
        return torch.from_numpy(numpy.frombuffer(content, numpy.uint8) != 0).reshape(shape)
    return torch.frombuffer(bytearray(content), dtype=dtype).reshape(shape)


@contextlib.contextmanager
def _as_malformed():
    try:
        yield
    except (RuntimeError, ValueError, TypeError) as error:
        raise Malformed(f"an array that cannot be: {type(error).__name__}") from None


# Cases: written by the judge, read by the child -----------------------------------------------------------------------


def write_case(case, visible=False):
    """(header, arrays) of a case. Only a visible case comes with its name, rounding and dtypes."""
    found = []
    header = {
        "inputs": _write(case.inputs, found),
        "init": _write(case.init, found),
        "state": _write(case.state, found),
        "gradients": case.gradients,
        "seed": case.seed,
        "device": case.device,
    }
    if visible:
        header |= {"zh": case.zh, "en": case.en, "rounding": case.rounding, "dtype": _write(case.dtype, found)}
    header["arrays"], arrays = pack(found)
    return header, arrays


def read_case(header, body):
    """The case that `write_case` wrote."""
    tensors = unpack(header["arrays"], body)
    parts = {name: _read(header.get(name), tensors) for name in ("inputs", "init", "state", "dtype")}
    plain = {name: header.get(name) for name in ("gradients", "seed", "device", "rounding")}
    return Case(header.get("zh", ""), header.get("en", ""), **parts, **plain)


def _write(value, found):
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, torch.Tensor):
        found.append(value)
        return {"tensor": len(found) - 1}
    if isinstance(value, torch.dtype):
        return {"dtype": NAMES[value]}
    if isinstance(value, Function):
        return {"function": value.kind, "parts": [_write(tensor, found) for tensor in value.tensors]}
    if isinstance(value, dict):
        return {"dict": [[key, _write(part, found)] for key, part in value.items()]}
    if isinstance(value, (tuple, list)):
        return {type(value).__name__: [_write(part, found) for part in value]}
    raise TypeError(f"a case holds {type(value).__name__}; only data can be sent: tensors, numbers, strings, Function")


def _read(value, tensors):
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "dtype" in value:
        return DTYPES[value["dtype"]]
    if "function" in value:
        return Function(value["function"], *(_read(part, tensors) for part in value["parts"]))
    if "dict" in value:
        return {key: _read(part, tensors) for key, part in value["dict"]}
    [(kind, parts)] = value.items()
    return {"tuple": tuple, "list": list}[kind](_read(part, tensors) for part in parts)


# Answers: written by the child, read by the judge ---------------------------------------------------------------------


def write_answer(answer):
    """(header, arrays) of an answer."""
    described, arrays = pack([*answer.results, *answer.gradients.values()])
    header = {
        "arrays": described,
        "results": len(answer.results),
        "numbers": answer.numbers,
        "kind": answer.kind[:WORDS_LIMIT],
        "gradients": list(answer.gradients),
        "changed": answer.changed,
        "error": None if answer.error is None else answer.error[:WORDS_LIMIT],
    }
    return header, arrays


def read_answer(header, body):
    """The answer in a frame that hostile code may have written. Raises: Malformed."""
    tensors = unpack(header.get("arrays"), body)
    count, numbers, kind, error = (header.get(name) for name in ("results", "numbers", "kind", "error"))
    gradients, changed = header.get("gradients"), header.get("changed")
    if type(count) is not int or not 0 <= count <= len(tensors):
        raise Malformed("results without a count")
    if not (_list_of(bool, numbers) and _list_of(str, gradients) and _list_of(str, changed) and isinstance(kind, str)):
        raise Malformed("a part of the answer is missing")
    if not (error is None or isinstance(error, str)) or count + len(gradients) != len(tensors):
        raise Malformed("the parts of the answer do not fit")
    if error is None and len(numbers) != count:
        raise Malformed("the parts of the answer do not fit")
    named = dict(zip(gradients, tensors[count:]))
    words = None if error is None else error[:WORDS_LIMIT]
    return Answer(tensors[:count], numbers, kind[:WORDS_LIMIT], named, changed, words)


def _list_of(kind, value):
    return isinstance(value, list) and all(type(part) is kind for part in value)
