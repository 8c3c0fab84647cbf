"""The process of one submission, as the judge sees it: something that answers, or not, or badly."""

import contextlib
import socket
import time
from dataclasses import asdict

from . import wire
from .notebook import Refused

CELL_SECONDS = 10.0  # for one cell of a notebook
NOTEBOOK_SECONDS = 60.0  # for all of them, however often they are run
AHEAD = 1 << 15  # bytes of calls that wait for their answers
CHILDREN = 5  # processes per submission: where one hangs or dies, the next goes on with what is left
LAST = 3  # and then, of all cells reduced to what answers may need


class Child:
    """A process in the sandbox."""

    def __init__(self, talk, life):
        self._talk, self._life = talk, life
        self._asked = self._answered = 0

    def read(self, cells, rules, skipped, reduced, deadline):
        """Send the cells. Returns (tasks without an answer, {task: [(cell number, what breaks its rules)]}), found
        before any of them runs. Raises: as `reply`."""
        header = {"cells": cells, "rules": rules, "skipped": skipped, "reduced": reduced}
        self._send(header, (), deadline)
        found, _ = wire.receive(self._talk, deadline, 0, 1 << 20)
        return found["missing"], found["broken"]

    def ran(self, number, deadline):
        """Wait until a cell was run. Returns None, "raised" or "closed". Raises: as `reply`."""
        header, _ = wire.receive(self._talk, deadline, 0, wire.HEADER_LIMIT)
        if header.get("cell") != number or header.get("raised") not in (None, "raised", "closed"):
            raise wire.Malformed("no word of the cell")
        return header["raised"]

    def ask(self, header, arrays, deadline):
        """Send a call. Raises: wire.Ended, TimeoutError."""
        self._asked += 1
        self._send(header | {"id": self._asked}, arrays, deadline)

    def reply(self, deadline, body_limit):
        """The `Answer` to the earliest call that has none yet. Raises: wire.Malformed, wire.Ended, TimeoutError."""
        self._answered += 1
        reply, body = wire.receive(self._talk, deadline, body_limit, wire.HEADER_LIMIT)
        if reply.get("id") != self._answered:
            raise wire.Malformed("an answer to another question")
        return wire.read_answer(reply, body)

    def _send(self, header, arrays, deadline):
        self._talk.settimeout(max(deadline - time.monotonic(), 1e-3))
        wire.send(self._talk, header, arrays)

    def end(self):
        """Kill it and all it started; returns when they are gone."""
        self.dismiss()
        with contextlib.suppress(OSError):
            self._life.settimeout(10)
            self._life.recv(1)
        self._life.close()

    def dismiss(self):
        """Kill it and all it started, without waiting. What is left is the keeper's business."""
        self._talk.close()
        with contextlib.suppress(OSError):
            self._life.shutdown(socket.SHUT_WR)


class Attempt:
    """A submission's notebook in the sandbox, run when first asked something. Where its process hangs or dies, another
    is started. Of the cell at which that happened it runs what imports, defines and assigns only; if that hangs, too,
    nothing. When `CHILDREN` or the time are used up, that goes for all cells."""

    def __init__(self, cells, tasks, sandbox):
        self.code = [asdict(cell) for cell in cells if cell.kind == "code"]
        self.rules = {name: [list(task.without), list(task.only), list(task.closed)] for name, task in tasks.items()}
        self.read = None
        self.sandbox, self.child, self.used, self.left = sandbox, None, 0, NOTEBOOK_SECONDS
        self.reduced, self.skipped, self.left_out, self.raised = set(), set(), {}, {}
        self.disturbed, self.last = False, 0

    def answers(self, trials, seconds):
        """For each trial the `Answer`, or why there is none: "time", "ended" or "malformed"; after one of these, all
        others of the task have none either."""
        given, asked, deadline = [], 0, None
        try:
            child = self._running()
            deadline = time.monotonic() + seconds
            for trial in trials:
                # Ask ahead, so that neither side waits for the other, but never more than a socket holds.
                while asked < len(trials) and (asked == len(given) or _bytes(trials[len(given) : asked + 1]) < AHEAD):
                    child.ask(trials[asked].header, trials[asked].arrays, deadline)
                    asked += 1
                given.append(child.reply(deadline, trial.limit))
        except (TimeoutError, wire.Ended, wire.Malformed) as error:
            self._lost()
            given += [_reason(error)] * (len(trials) - len(given))
        return given

    def reading(self):
        """What was found in the code before any of it ran: the tasks without an answer, and for each task the rules it
        breaks. Raises: notebook.Refused where it could not be read."""
        with contextlib.suppress(wire.Ended):
            self._running()
        if self.read is None:
            raise Refused(
                "代码读不出来：嵌套得太深，或者太长。", "The code cannot be parsed: nested too deep, or too long."
            )
        return self.read

    def _running(self):
        """The child, after the cells were run."""
        while self.child is None:
            if self.used >= CHILDREN or self.left <= 0:
                self._reduce_all()
            self.used += 1
            self.child, self.raised, begun, running = self.sandbox.spawn(), {}, time.monotonic(), None
            todo = iter([cell["number"] for cell in self.code if cell["number"] not in self.skipped])
            deadline = begun + self.left
            try:
                soon = min(begun + CELL_SECONDS, deadline)
                self.read = self.child.read(self.code, self.rules, [*self.skipped], [*self.reduced], soon)
                for running in todo:
                    if raised := self.child.ran(running, min(time.monotonic() + CELL_SECONDS, deadline)):
                        self.raised[running] = raised
            except (TimeoutError, wire.Ended, wire.Malformed) as error:
                self._lost()
                if running is None:
                    raise wire.Ended from error
                self.left_out[running] = _reason(error)
                (self.skipped if running in self.reduced else self.reduced).add(running)
            self.left -= time.monotonic() - begun
        return self.child

    def _reduce_all(self):
        """Raises: wire.Ended where that was tried often enough."""
        if self.last == LAST:
            raise wire.Ended
        self.last, self.left = self.last + 1, CELL_SECONDS
        self.reduced = {cell["number"] for cell in self.code}

    def _lost(self):
        self.disturbed = True
        self.finish()

    def finish(self):
        """End the process and wait until it is gone, so that it can tell the next one nothing."""
        if self.child is not None:
            self.child.end()
            self.child = None

    def notes(self):
        """What a learner may want to know about cells: (cell number, "time", "ended", "malformed", "raised" or
        "closed")."""
        return sorted({**self.raised, **self.left_out}.items())

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.child is not None:
            self.child.dismiss()


def _reason(error):
    return {TimeoutError: "time", wire.Ended: "ended"}.get(type(error), "malformed")


def _bytes(trials):
    return sum(2000 + sum(map(len, trial.arrays)) for trial in trials)  # with the headers
