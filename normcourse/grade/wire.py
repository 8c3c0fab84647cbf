"""What goes between the judge and a submission's process: a header in JSON and the bytes of arrays, nothing that runs.

frame     8 bytes of lengths, the header, the arrays one after the other; nothing is unpickled, nothing evaluated
case      judge -> child: inputs as a tree of JSON with the tensors by number
answer    child -> judge: written by hostile code, so every part of it is checked here; `Malformed` if it is not right
"""

import contextlib
import json
import math
import struct
import time

import numpy
import torch

from ..check.case import Answer, Case, Function

HEADER_LIMIT = 1 << 16  # bytes of a child's header
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
    """What came over the wire is not what was agreed."""


class Ended(Exception):
    """The other side is gone."""


def send(connection, header, arrays=()):
    """Send a header and byte strings. Raises: Ended, TimeoutError (after the socket's timeout)."""
    head = json.dumps(header).encode()
    try:
        connection.sendall(b"".join([struct.pack("<II", len(head), sum(map(len, arrays))), head, *arrays]))
    except TimeoutError:
        raise
    except OSError as error:
        raise Ended from error


def receive(connection, deadline=None, body_limit=1 << 32, header_limit=1 << 32):
    """(header, body) of the next frame.

    Args: deadline: of `time.monotonic`. body_limit, header_limit: bytes.
    Raises: Malformed, Ended, TimeoutError.
    """
    head_size, body_size = struct.unpack("<II", _exactly(connection, 8, deadline))
    if head_size > header_limit or body_size > body_limit:
        raise Malformed(f"{head_size} + {body_size} bytes; at most {header_limit} + {body_limit} were expected")
    head, body = _exactly(connection, head_size, deadline), _exactly(connection, body_size, deadline)
    try:
        header = json.loads(bytes(head))
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the header is not JSON: {type(error).__name__}") from None
    if not isinstance(header, dict):
        raise Malformed("the header is not an object")
    return header, body


def _exactly(connection, size, deadline):
    buffer = bytearray(size)
    view, have = memoryview(buffer), 0
    while have < size:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
        try:
            got = connection.recv_into(view[have:])
        except TimeoutError:
            raise
        except OSError as error:
            raise Ended from error
        if not got:
            raise Ended
        have += got
    return buffer


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


def write_case(case):
    """(header, arrays) of a case, without its name: that is the instructor's."""
    found = []
    header = {
        "inputs": _write(case.inputs, found),
        "init": _write(case.init, found),
        "state": _write(case.state, found),
        "gradients": case.gradients,
        "seed": case.seed,
        "device": case.device,
    }
    header["arrays"], arrays = pack(found)
    return header, arrays


def read_case(header, body):
    """The case that `write_case` wrote."""
    tensors = unpack(header["arrays"], body)
    parts = {name: _read(header[name], tensors) for name in ("inputs", "init", "state")}
    return Case("", "", **parts, gradients=header["gradients"], seed=header["seed"], device=header["device"])


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
