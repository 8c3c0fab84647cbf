"""The process of one submission, as the judge sees it: something that answers, or not, or badly.

Time here is a submission's own, in seconds: the CPU time of all its processes, and the time in which all of them slept.
What runs beside it on a busy machine takes nothing of that.
"""

import contextlib
import select
import socket
import struct
import time
from dataclasses import asdict

from ..check.rules import EVERYTHING
from . import wire
from .notebook import Refused

CELL_SECONDS = 10.0  # for one cell of a notebook
NOTEBOOK_SECONDS = 60.0  # for all of them, however often they are run
WALL_SECONDS = 900.0  # for a submission by the clock on the wall, behind all others
AHEAD = 1 << 15  # bytes of calls that wait for their answers
CHILDREN = 5  # processes per submission: where one hangs or dies, the next goes on with what is left
LAST = 3  # and then, of all cells reduced to what answers may need
LOOK = 0.2  # seconds between looks at what a process does that is waited for


class Budget:
    """What a submission may still use, over all processes that are started for it.

    cells: for running its cells as they are. all: for everything, that included.
    """

    def __init__(self, answers):
        """answers: seconds for answering."""
        self.cells = NOTEBOOK_SECONDS
        self.whole = self.all = NOTEBOOK_SECONDS + LAST * CELL_SECONDS + answers
        self.until = time.monotonic() + WALL_SECONDS


class Child:
    """A process in the sandbox."""

    def __init__(self, talk, life, until=float("inf")):
        """until: the end of all waiting, of `time.monotonic`."""
        self._talk, self._life, self.until = talk, life, until
        self._asked = self._answered = 0
        self._cpu, self._slept, self._waited = 0.0, 0.0, 0.0
        self._looked = self._counted = time.monotonic()
        self._poll = select.poll()
        self._life.settimeout(30)

    def read(self, cells, rules, skipped, reduced, limit, restricted=False):
        """Send the cells. Returns the tasks without an answer, found before any of them runs.

        limit, here and below: the value of `used` that ends it. Raises: as `reply`."""
        header = {"cells": cells, "rules": rules, "skipped": skipped, "reduced": reduced, "restricted": restricted}
        wire.send(self._talk, header, (), self._until(limit, select.POLLOUT))
        found, _ = wire.receive(self._talk, self._until(limit), 0, 1 << 20)
        return found["missing"]

    def ran(self, number, limit):
        """Wait until a cell was run. Returns as `server.run_cell`. Raises: as `reply`."""
        header, _ = wire.receive(self._talk, self._until(limit), 0, wire.HEADER_LIMIT)
        raised, line = header.get("raised"), header.get("line", 0)
        if header.get("cell") != number or raised not in (None, "raised", "closed", "syntax") or type(line) is not int:
            raise wire.Malformed("no word of the cell")
        line = max(1, min(line, 10**6))
        return f"syntax {line}" if raised == "syntax" else raised

    def ask(self, header, arrays, limit):
        """Send a call. Raises: wire.Ended, TimeoutError."""
        self._asked += 1
        wire.send(self._talk, header | {"id": self._asked}, arrays, self._until(limit, select.POLLOUT))

    def reply(self, limit, body_limit):
        """The `Answer` to the earliest call that has none yet. Raises: wire.Malformed, wire.Ended, TimeoutError."""
        self._answered += 1
        reply, body = wire.receive(self._talk, self._until(limit), body_limit, wire.HEADER_LIMIT)
        if reply.get("id") != self._answered:
            raise wire.Malformed("an answer to another question")
        return wire.read_answer(reply, body)

    def used(self):
        """Seconds of its own that it has used."""
        if self._life.fileno() >= 0 and time.monotonic() - self._looked > 0.01:
            self._look()
        return self._cpu + self._slept

    def _look(self):
        """Ask its keeper what it has used. Returns whether all its processes sleep."""
        self._looked = time.monotonic()
        with contextlib.suppress(OSError, struct.error):  # the keeper has gone, and so has the child
            self._life.sendall(b"?")
            self._cpu, asleep = struct.unpack("<d?", self._life.recv(9))
            return asleep
        return True

    def _until(self, limit, event=select.POLLIN):
        """What waits for the connection, as `wire` wants it."""

        def wait():
            self._poll.register(self._talk, event)
            there = False
            while not there:
                begun = time.monotonic()
                there = self._poll.poll(max(1000 * (self._counted + LOOK - begun), 0))
                now = time.monotonic()
                self._waited += now - begun
                if now - self._counted < LOOK:
                    continue
                asleep = self._look()
                if asleep and not there and not (there := self._poll.poll(0)):
                    self._slept += min(self._waited, 2 * LOOK)  # for the rest the judge itself was kept waiting
                self._waited, self._counted = 0.0, self._looked
                if self._cpu + self._slept >= limit or self._looked >= self.until:
                    raise TimeoutError

        return wait

    def end(self):
        """Kill it and all it started; returns when they are gone."""
        self.used()
        self.dismiss()
        with contextlib.suppress(OSError):
            while self._life.recv(100):
                pass
        self._life.close()

    def dismiss(self):
        """Kill it and all it started, without waiting. What is left is the keeper's business."""
        self._talk.close()
        with contextlib.suppress(OSError):
            self._life.shutdown(socket.SHUT_WR)


class Attempt:
    """A submission's notebook in the sandbox, run when first asked something. Where its process hangs or dies, another
    is started. Of the cell at which that happened it runs what imports, defines and assigns only; if that hangs, too,
    nothing. When `CHILDREN` or the time are used up, that goes for all cells.

    restricted: no cell is run; the answers are cut out and live in the second world. Else there are no rules; only what
    kernels read and write past the end is watched."""

    def __init__(self, cells, tasks, sandbox, budget, restricted=False):
        self.code = [asdict(cell) for cell in cells if cell.kind == "code"]
        self.restricted = restricted
        self.rules = {
            name: [[*task.without], [*task.only], [*task.closed]]
            if restricted
            else [[], [EVERYTHING] if task.only else [], []]
            for name, task in tasks.items()
        }
        self.read = None
        self.sandbox, self.budget, self.child, self.used = sandbox, budget, None, 0
        self.reduced, self.left_out, self.raised = set(), {}, {}
        self.skipped = {cell["number"] for cell in self.code} if restricted else set()
        self.disturbed, self.last = False, 0

    def answers(self, trials, seconds):
        """For each trial the `Answer`, or why there is none: "time", "ended" or "malformed"; after one of these, all
        others of the task have none either."""
        given, asked, begun = [], 0, None
        try:
            child = self._running()
            begun = child.used()
            limit = begun + min(seconds, self.budget.all)
            for trial in trials:
                # Ask ahead, so that neither side waits for the other, but never more than a socket holds.
                while asked < len(trials) and (asked == len(given) or _bytes(trials[len(given) : asked + 1]) < AHEAD):
                    child.ask(trials[asked].header, trials[asked].arrays, limit)
                    asked += 1
                given.append(child.reply(limit, trial.limit))
        except (TimeoutError, wire.Ended, wire.Malformed) as error:
            self._lost(error)
            given += [_reason(error)] * (len(trials) - len(given))
        if begun is not None:
            self.budget.all -= child.used() - begun
        return given

    def reading(self):
        """The tasks without an answer, found before any code ran. Raises: notebook.Refused for what is no Python."""
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
            reduced = self.used >= CHILDREN or self.budget.cells <= 0
            if reduced:
                self._reduce_all()
            self.used += 1
            child = self.child = self.sandbox.spawn(self.budget.until)
            self.raised, running = {}, None
            left = min(self.budget.all, CELL_SECONDS) if reduced else self.budget.cells
            todo = iter([cell["number"] for cell in self.code if cell["number"] not in self.skipped])
            try:
                soon = min(CELL_SECONDS, left)
                self.read = child.read(self.code, self.rules, [*self.skipped], [*self.reduced], soon, self.restricted)
                for running in todo:
                    if raised := child.ran(running, min(child.used() + CELL_SECONDS, left)):
                        self.raised[running] = raised
            except (TimeoutError, wire.Ended, wire.Malformed) as error:
                self._lost(error)
                if running is None:
                    raise wire.Ended from error
                self.left_out[running] = _reason(error)
                (self.skipped if running in self.reduced else self.reduced).add(running)
            self.budget.all -= child.used()
            if not reduced:
                self.budget.cells -= child.used()
        return self.child

    def _reduce_all(self):
        """Raises: wire.Ended where that was tried often enough."""
        if self.last == LAST or self.budget.all <= 0:
            raise wire.Ended
        self.last += 1
        self.reduced = {cell["number"] for cell in self.code}

    def _lost(self, error):
        self.disturbed |= not isinstance(error, wire.Malformed)
        self.finish()

    def finish(self):
        """End the process and wait until it is gone, so that it can tell the next one nothing."""
        if self.child is not None:
            self.child.end()
            self.child = None

    def notes(self):
        """What a learner may want to know about cells: (cell number, "time", "ended", "malformed", "raised", "closed"
        or "syntax", with a line)."""
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
