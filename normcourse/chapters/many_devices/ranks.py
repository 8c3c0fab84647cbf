"""Real processes, one per rank, that a notebook starts once, gives work to, and ends.

    ranks = Ranks(4)                                # four processes and their connections: some seconds
    results, messages = ranks.run(function, [(x0,), (x1,), (x2,), (x3,)], uses=[other_function])
    ranks.close()

`function(comm, *arguments)` runs on every rank, see `rank.Comm`. Its source is sent, so it may stand in a cell; it
knows `torch`, `dist`, `math`, `os` and the functions named in `uses`.

However it ends, no process stays: `close`, an interrupt or an error during `run`, a rank that dies, the end of Python,
or its sudden death, which the ranks notice by their input.
"""

import contextlib
import inspect
import pickle
import queue
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import weakref
from pathlib import Path

from ...i18n import text
from .rank import receive, send

RANK = Path(__file__).parent / "rank.py"


class RankError(RuntimeError):
    """A rank raised an error, died or did not answer; all of them were ended."""


class Ranks:
    """`world` processes on this machine, a power of two. `pids`: of those that are running."""

    def __init__(self, world=4, seconds=240):
        if world not in (1, 2, 4, 8):
            raise ValueError(f"world is {world}; expected 1, 2, 4 or 8")
        self.world, self._processes, self._lock = world, [], threading.Lock()
        self._folder, self._answers = tempfile.mkdtemp(), queue.Queue()
        self._end = weakref.finalize(self, _end, self._processes, self._folder)  # at the end of Python, too
        try:
            for rank in range(world):
                self._processes.append(self._start(rank))
            for rank, process in enumerate(self._processes):
                threading.Thread(target=_listen, args=(rank, process, self._answers), daemon=True).start()
            self._gather(range(world), seconds)
        except BaseException:
            self.close()
            raise

    def _start(self, rank):
        command = [sys.executable, str(RANK), str(rank), str(self.world), self._folder]
        # a group of its own: an interrupt of the notebook is for the notebook
        if sys.platform == "win32":
            apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        else:
            apart = {"start_new_session": True}
        with open(Path(self._folder) / f"errors{rank}", "wb") as errors:
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=self._folder, **apart
            )

    @property
    def pids(self):
        return [process.pid for process in self._processes if process.poll() is None]

    def run(self, function, arguments, uses=(), seconds=120):
        """Run `function(comm, *arguments[rank])` on as many ranks as there are arguments: 1, 2, 4 …, the lowest.

        Returns: their results, and the messages that they sent: a list of (rank, round, to, bytes).
        Raises: RankError where a rank failed, KeyboardInterrupt where the cell was interrupted; all are ended then.
        """
        if len(arguments) not in (1, 2, 4, 8) or len(arguments) > self.world:
            raise ValueError(f"there are {len(arguments)} arguments for {self.world} ranks; expected a power of two")
        source = "\n\n".join(textwrap.dedent(inspect.getsource(part)) for part in (*uses, function))
        with self._lock:
            if len(self.pids) < self.world:
                zh = "这些进程已经结束了：再运行一次 Ranks(…) 那一格。"
                raise RankError(text(zh, "These processes have ended: run the cell with Ranks(…) again."))
            try:
                for process, given in zip(self._processes, arguments):
                    send(process.stdin, (source, function.__name__, len(arguments), pickle.dumps(tuple(given))))
                answers = self._gather(range(len(arguments)), seconds)
            except BaseException as error:
                self.close()
                if isinstance(error, OSError):  # it is gone already
                    raise RankError(text("有一个进程没有了。", "One of the processes is gone.")) from error
                raise
        messages = [(rank, *one) for rank, (_, sent) in enumerate(answers) for one in sent]
        return [result for result, _ in answers], messages

    def _gather(self, ranks, seconds):
        """An answer of each of these ranks, in their order."""
        found, until = {}, time.monotonic() + seconds
        while len(found) < len(ranks):
            try:
                rank, kind, value = self._answers.get(timeout=0.1)
            except queue.Empty:
                if time.monotonic() > until:
                    zh, en = f"等了 {seconds} 秒，没有答复", f"no answer within {seconds} seconds"
                    raise RankError(text(zh, en)) from None
                continue
            if kind == "error" and (dead := self._dead()) is not None:
                rank, kind = dead, "died"  # the error is that of one who waited for it
            if kind == "error":
                raise RankError(text(f"第 {rank} 号进程出错：", f"Error on rank {rank}:") + f"\n{value}")
            if kind == "died":
                zh = f"第 {rank} 号进程死了，其余的也已经结束。"
                raise RankError(text(zh, f"Rank {rank} died; the others have been ended too.") + self._last_words(rank))
            found[rank] = value
        return [found[rank] for rank in ranks]

    def _dead(self, seconds=1.0):
        """The rank that has ended by itself, if any has; it may be noticed a little later than what it causes."""
        until = time.monotonic() + seconds
        while True:
            dead = [rank for rank, process in enumerate(self._processes) if process.poll() is not None]
            if dead or time.monotonic() > until:
                return dead[0] if dead else None
            time.sleep(0.05)

    def _last_words(self, rank):
        lines = (Path(self._folder) / f"errors{rank}").read_text(errors="replace").splitlines()
        return "".join(f"\n{line}" for line in lines[-3:] if "Error" in line)

    def close(self):
        """End all processes; again and again does no harm."""
        self._end()


def _end(processes, folder):
    for process in processes:
        if process.poll() is None:
            process.kill()
    for process in processes:
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # what was not sent yet
                pipe.close()
    shutil.rmtree(folder, ignore_errors=True)


def _listen(rank, process, answers):
    """In a thread: what the rank says goes to the answers, and that it died."""
    try:
        while True:
            answers.put((rank, *receive(process.stdout)))
    except (EOFError, OSError, ValueError):
        answers.put((rank, "died", None))
