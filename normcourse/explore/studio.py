"""The studio: two background threads that draw for all explorers."""

import atexit
import contextlib
import sys
import threading
import time
from collections import OrderedDict

import IPython
import torch

PAUSE = 0.05  # seconds without a move before drawing ahead, so that the browser gets to paint
LONG_PAUSE = 0.5  # and before drawing all along the slider, and the neighbours along the others
TURN = 0.0005  # seconds after which a thread that draws lets others run: a cell asks for its turn a dozen times


class Studio:
    """Two threads: one draws what someone waits for, one ahead.

    For each explorer only the latest request counts, so a fast mouse never builds up a queue. Between two pictures the
    threads hold on to no explorer, and `forget` makes them let go of one that was closed.
    """

    def __init__(self):
        self.drawing = threading.Lock()  # matplotlib draws one figure at a time
        self.change = threading.Condition()
        self.requests, self.plans = OrderedDict(), OrderedDict()  # explorer: position; explorer: (soon, later)
        self.last_move = 0.0
        self.waiting = 0  # how many wait for a picture: then nothing is begun ahead, it would take the time from them
        self.cell_runs = False  # the learner waits: and no move arrives before its end
        self.threads, self.closed = [], False

    def open(self):
        """Start the threads, and limit torch to one thread per computation, with the first explorer of the process.

        The networks of the course are too small to gain from a second one, and where the learner's cell, drawing ahead
        and the browser share two cores, threads that wait for each other made cells more than ten times slower: also
        when only the drawing was limited, so it has to be the process. Who wants more sets it after the first explorer.
        """
        with self.change:
            if self.threads:
                return
            torch.set_num_threads(1)
            sys.setswitchinterval(min(TURN, sys.getswitchinterval()))
            self.threads = [threading.Thread(target=t, daemon=True) for t in (self._serve, self._work_ahead)]
            for thread in self.threads:
                thread.start()
            atexit.register(self.close)
        events = getattr(IPython.get_ipython(), "events", None)
        if events is not None:
            events.register("pre_execute", lambda: self._cell(True))
            events.register("post_execute", lambda: self._cell(False))

    def request(self, explorer, position):
        self._tell(lambda: self.requests.update({explorer: position}))

    def cancel(self, explorer):
        self._tell(lambda: self.requests.pop(explorer, None))

    def plan(self, explorer, soon, later):
        def update():
            self.plans[explorer] = (soon, later)
            self.plans.move_to_end(explorer)

        self._tell(update)

    def forget(self, explorer):
        self._tell(lambda: (self.requests.pop(explorer, None), self.plans.pop(explorer, None)))

    @contextlib.contextmanager
    def waited_for(self):
        """While someone waits for a picture that another thread draws."""
        with self.change:
            self.waiting += 1
        try:
            yield
        finally:
            with self.change:
                self.waiting -= 1
                self.last_move = time.monotonic()
                self.change.notify_all()

    def close(self):
        self.closed = True
        with self.change:
            self.change.notify_all()
        for thread in self.threads:
            thread.join(timeout=5)

    def _tell(self, update):
        with self.change:
            update()
            self.last_move = time.monotonic()
            self.change.notify_all()

    def _cell(self, runs):
        with self.change:
            self.cell_runs = runs
            self.change.notify_all()

    def _serve(self):
        torch.set_num_threads(1)  # OpenMP counts by thread
        while not self.closed:
            with self.change:
                self.change.wait_for(lambda: self.requests or self.closed)
                if self.closed:
                    return
                explorer, position = self.requests.popitem(last=False)
                self.waiting += 1
            try:
                with contextlib.suppress(Exception):  # what the experiment raises is shown; this is a closed front end
                    explorer._work(position)
            finally:
                del explorer
                with self.change:
                    self.waiting -= 1
                    self.change.notify_all()

    def _work_ahead(self):
        torch.set_num_threads(1)
        while not self.closed:
            with self.change:
                explorer, positions, wait = self._next_plan()
                if explorer is None:
                    self.change.wait(wait)
                    continue
                position = positions.pop(0)
            with contextlib.suppress(BaseException):  # shown when somebody goes there
                explorer._work_ahead(position)
            del explorer

    def _next_plan(self):
        """The positions to draw ahead next, those of the explorer moved last first; or how long to wait for one."""
        if self.requests or self.waiting or self.cell_runs:
            return None, None, None
        rest = time.monotonic() - self.last_move
        waits = []
        for stage, pause in enumerate((PAUSE, LONG_PAUSE)):
            for explorer in reversed(self.plans):
                if self.plans[explorer][stage]:
                    if rest >= pause:
                        return explorer, self.plans[explorer][stage], None
                    waits.append(max(pause - rest, PAUSE))
        return None, None, min(waits) if waits else None


studio = Studio()
