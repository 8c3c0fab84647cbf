"""The process of one submission, as the judge sees it."""

import contextlib
import socket
import time

from . import wire


class Child:
    """The process of one submission, as the judge sees it: something that answers, or not, or badly."""

    def __init__(self, talk, life):
        self._talk, self._life = talk, life
        self._calls = 0

    def run(self, cells, seconds, deadline):
        """Run the cells. Yields (cell number, whether it raised) after each. Raises: as `call`.

        Args: seconds: for each cell. deadline: for all of them.
        """
        self._send({"cells": cells}, (), deadline)
        for cell in cells:
            due = min(time.monotonic() + seconds, deadline)
            header, _ = wire.receive(self._talk, due, 0, wire.HEADER_LIMIT)
            if header.get("cell") != cell["number"] or type(header.get("raised")) is not bool:
                raise wire.Malformed("no word of the cell")
            yield cell["number"], header["raised"]

    def call(self, header, arrays, deadline, body_limit):
        """The `Answer` to a call. Raises: wire.Malformed, wire.Ended, TimeoutError at the deadline."""
        self._calls += 1
        self._send(header | {"id": self._calls}, arrays, deadline)
        reply, body = wire.receive(self._talk, deadline, body_limit, wire.HEADER_LIMIT)
        if reply.get("id") != self._calls:
            raise wire.Malformed("an answer to another question")
        return wire.read_answer(reply, body)

    def _send(self, header, arrays, deadline):
        self._talk.settimeout(max(deadline - time.monotonic(), 1e-3))
        wire.send(self._talk, header, arrays)

    def end(self):
        """Kill it and all it started; returns when they are gone."""
        self._talk.close()
        with contextlib.suppress(OSError):
            self._life.shutdown(socket.SHUT_WR)
            self._life.settimeout(10)
            self._life.recv(1)
        self._life.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.end()
