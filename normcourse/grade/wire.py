"""What goes between the judge and a submission's process: a header in JSON and the bytes of arrays, nothing that runs.

frame     8 bytes of lengths, the header, the arrays one after the other; nothing is unpickled, nothing evaluated
case      judge -> child, answer    child -> judge: as in `normcourse.check.wire`
"""

import json
import socket
import struct

from ..check.wire import Malformed, read_answer, read_case, write_answer, write_case

__all__ = ["Ended", "Malformed", "read_answer", "read_case", "receive", "send", "write_answer", "write_case"]

HEADER_LIMIT = 1 << 16  # bytes of a child's header


class Ended(Exception):
    """The other side is gone."""


def send(connection, header, arrays=(), wait=None):
    """Send a header and byte strings. wait: called before each part that is sent, until the socket takes one; it raises
    what ends that. Without it the socket blocks. Raises: Ended, and what `wait` raises."""
    head = json.dumps(header).encode()
    left = memoryview(b"".join([struct.pack("<II", len(head), sum(map(len, arrays))), head, *arrays]))
    while left:
        if wait:
            wait()
        try:
            left = left[connection.send(left, socket.MSG_DONTWAIT if wait else 0) :]
        except BlockingIOError:
            continue
        except OSError as error:
            raise Ended from error


def receive(connection, wait=None, body_limit=1 << 32, header_limit=1 << 32):
    """(header, body) of the next frame.

    Args: wait: as in `send`, until there is something to read. body_limit, header_limit: bytes.
    Raises: Malformed, Ended, and what `wait` raises.
    """
    head_size, body_size = struct.unpack("<II", _exactly(connection, 8, wait))
    if head_size > header_limit or body_size > body_limit:
        raise Malformed(f"{head_size} + {body_size} bytes; at most {header_limit} + {body_limit} were expected")
    head, body = _exactly(connection, head_size, wait), _exactly(connection, body_size, wait)
    try:
        header = json.loads(bytes(head))
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the header is not JSON: {type(error).__name__}") from None
    if not isinstance(header, dict):
        raise Malformed("the header is not an object")
    return header, body


def _exactly(connection, size, wait):
    buffer = bytearray(size)
    view, have = memoryview(buffer), 0
    while have < size:
        if wait:
            wait()
        try:
            got = connection.recv_into(view[have:])
        except OSError as error:
            raise Ended from error
        if not got:
            raise Ended
        have += got
    return buffer
