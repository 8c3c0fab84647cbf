"""The fork server, inside the sandbox: imports everything once, then forks a process for each submission.

    server     gets two sockets from the judge per submission and forks; it never sees a byte of a submission
    keeper     forked: enters new namespaces, forks the child, and kills it when the judge hangs up or memory runs out
    child      process 1 of those namespaces: gives up all rights, runs the cells, then answers calls

Run by `sandbox.py`: python -m normcourse.grade.server FD [--unsafe]
"""

import contextlib
import functools
import gc
import os
import random
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import types
from concurrent.futures import thread as pools
from unicodedata import normalize

import numpy
import torch

from ..check import cutting
from ..check.case import Answer, Task
from ..check.rules import ForbiddenCall
from . import confine, notebook, restricted, wire
from .closed import Closing

# What the notebooks of the course import: once here, not once per submission.
PRELOADED = (
    *("pandas", "matplotlib.pyplot", "ipywidgets", "normcourse.canvas", "normcourse.check", "normcourse.explore"),
    *("normcourse.i18n", "normcourse.measure", "normcourse.models", "normcourse.norms", "normcourse.chapters.curves"),
    *("normcourse.residual", "normcourse.theory", "normcourse.train", "torch._dynamo", "triton.runtime.interpreter"),
    *("normcourse.fused", "torch._refs", "torch._decomp.decompositions"),
)


def main():
    gc.disable()  # what is imported stays
    control, confined = socket.socket(fileno=int(sys.argv[1])), "--unsafe" not in sys.argv
    if confined and os.getuid() == 0:
        confine.become_nobody()
    shell = preload()
    random.seed(0)
    numpy.random.seed(0)
    torch.manual_seed(0)
    closing = Closing()
    gc.freeze()  # the children share these pages
    gc.enable()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    control.send(b"ready")
    while True:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not descriptors:
            return
        if os.fork() == 0:
            try:
                control.close()
                keep(*descriptors, shell, closing, confined)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        control.send(b"f")
        for descriptor in descriptors:
            os.close(descriptor)


def preload():
    """Import, and make the shell that all children inherit."""
    import importlib

    torch.set_num_threads(1)
    for module in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    without_pictures()
    warm_up()
    return quiet_shell()


def warm_up():
    """What torch prepares when an operation is first used without numbers, here and not once per submission."""
    x = torch.ones(2, 3, device="meta")
    for y in (x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False), x.square().mean(-1, keepdim=True)):
        ((x - y) / torch.sqrt(y + 1e-5) * torch.rsqrt(y) + x[0]).to(torch.float16).sum(0)


def without_pictures():
    """Nobody looks at what a graded notebook shows: explorers are not drawn, and the visible check, which knows the
    right answers and so is not in here, says nothing. Cells find these stand-ins, and nothing of the judge."""
    import normcourse

    from .. import check, explore

    nothing = types.FunctionType((lambda *arguments, **options: None).__code__, {})
    explore.explore = nothing
    stand_in = types.ModuleType("normcourse.check")
    stand_in.__dict__.update(dict.fromkeys(check.__all__, nothing))
    for name in [name for name in sys.modules if name.startswith(("normcourse.check", "normcourse.grade"))]:
        del sys.modules[name]
    normcourse.check = sys.modules["normcourse.check"] = stand_in
    del normcourse.grade


def quiet_shell():
    """An IPython shell: magics, widgets and plots work, but nothing is formatted, printed or kept."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    shell.enable_gui = lambda gui=None: None
    shell.system = shell.system_raw  # the other one needs a terminal
    shell.showtraceback = shell.showsyntaxerror = lambda *arguments, **options: None
    shell.display_formatter.format = lambda *arguments, **options: ({}, {})
    shell.display_pub.publish = lambda *arguments, **options: None
    shell.display_trap.hook = lambda value: None
    shell.register_magic_function(lambda line: None, "line", "matplotlib")  # the backend stays Agg
    return shell


def keep(talk, life, shell, closing, confined):
    """Start the child, tell the judge through `life` what it uses, and see to it that it ends: when the judge closes
    `life`, or when it takes too much memory."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if confined:
        confine.die_with_parent()
        confine.enter_namespaces()
    child = os.fork()
    if child == 0:
        try:
            become_child(talk, confined)
            serve(shell, closing, confined)
        except BaseException:
            traceback.print_exc()  # in words of its own only before the descriptors are closed
        finally:
            os._exit(0)
    os.close(talk)
    asked, usage = select.poll(), confine.Usage(child, confined)
    asked.register(life, select.POLLIN)
    with contextlib.suppress(Exception):  # it has just ended, or it hides: then it is ended now
        while os.waitpid(child, os.WNOHANG)[0] == 0 and not (confined and usage.memory() > confine.MEMORY):
            if asked.poll(50):
                if not os.read(life, 1):
                    break
                os.write(life, struct.pack("<d?", *usage.time()))
    with contextlib.suppress(OSError):
        (os.kill if confined else os.killpg)(child, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.waitpid(child, 0)


TALK = 3  # the descriptor of the child's only connection
WRITTEN = ("/tmp/", "/dev/shm/")  # where a cell can write files
SET_THREADS = torch.set_num_threads  # a cell may put another in its place
NICE = 5  # the judge and the keepers come first, whatever a submission starts


def become_child(talk, confined):
    os.setsid()
    if confined:
        confine.die_with_parent()
    os.dup2(talk, TALK)
    os.closerange(TALK + 1, 4096)
    if confined:
        confine.give_up_everything()
        os.chdir("/tmp")
    else:
        confine.set_limits()
    os.nice(NICE)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)


def serve(shell, closing, confined):
    """Read the cells and say what was found, run them, then answer one call after the other."""
    connection = socket.socket(fileno=TALK)
    header, _ = wire.receive(connection)
    cells = [notebook.Cell(**cell) for cell in header["cells"]]
    tasks = {
        name: Task(name, None, None, (), *map(tuple, rules))  # without, only, closed
        for name, rules in header["rules"].items()
    }
    if header["restricted"]:
        closing.begin(tasks.values(), WRITTEN if confined else ())
    wire.send(connection, {"missing": notebook.mark(cells, tasks)})
    # task -> (what was defined, all names at that time)
    solutions = CutOut(cells, tasks) if header["restricted"] else {}
    for cell in cells:
        if cell.number not in header["skipped"]:
            own = os.getpid()
            sources = notebook.definitions(cell.source) if cell.number in header["reduced"] else [cell.source]
            raised = run_cell(shell, cell, sources, solutions)
            if os.getpid() != own:  # a cell forked, and this is the copy
                os._exit(0)
            raised, _, line = (raised or "").partition(" ")
            wire.send(connection, {"cell": cell.number, "raised": raised or None, "line": int(line or 0)})
    if confined:
        if not header["restricted"]:  # else no cell has run that could have started one
            _end_idle_threads(shell)
        SET_THREADS(1)  # OpenMP would start more for an answer, cannot, and ends the process
        torch.set_num_threads = torch.set_num_interop_threads = lambda count: None
        confine.stay_alone()
    # The second world holds nothing of Python that would be watched, but for NumPy, if it is imported.
    watched = not header["restricted"] or any("numpy" in normalize("NFKC", cell.source) for cell in cells)
    while True:
        header, body = wire.receive(connection)
        reply, arrays = respond(shell, solutions, tasks, closing, watched, header, body)
        wire.send(connection, reply | {"id": header["id"]}, arrays)


def _end_idle_threads(shell):
    """End the threads that wait for nothing: the monitor of tqdm, those of thread pools, the loop of `%%bash`:
    nothing runs beside the answers."""
    with contextlib.suppress(Exception):
        sys.modules["tqdm"].tqdm.monitor.exit()
    with contextlib.suppress(Exception):
        pools._shutdown = True
        for queue in list(pools._threads_queues.values()):
            queue.put(None)
    with contextlib.suppress(Exception):
        loop = shell.magics_manager.registry["ScriptMagics"].event_loop
        loop.call_soon_threadsafe(loop.stop)
    end = time.monotonic() + 1
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            with contextlib.suppress(Exception):
                thread.join(max(0, end - time.monotonic()))


class CutOut(dict):
    """{task: (its answer in the second world, or something that raises why there is none, {})}, made when asked for."""

    def __init__(self, cells, tasks):
        self.code, self.tasks = cutting.read(cells), tasks

    def __missing__(self, name):
        try:
            self[name] = restricted.Restricted(self.tasks[name]).answer(self.code, name), {}
        except Exception as error:
            self[name] = functools.partial(_raise, error), {}
        return self[name]


def _raise(error, *arguments, **options):
    raise error


def run_cell(shell, cell, sources, solutions):
    """Run the code of a cell and keep what it defines under the names of the tasks it is marked for, with all that was
    defined by then. Returns None, or what became of it: "raised", "closed" where it called what the tasks are to be
    solved without, or "syntax 12" where line 12 is no Python."""
    before = {name: shell.user_ns.get(name) for name in cell.tasks}
    outcomes = [run(shell, source) for source in sources]
    for name, old in before.items():
        again = name not in solutions and name in shell.user_ns and name in notebook.defined(cell.source)
        if shell.user_ns.get(name) is not old or again:  # again: the same object, under its own name
            solutions[name] = shell.user_ns[name], dict(shell.user_ns)
    return next(filter(None, outcomes), None)


def run(shell, source):
    """Run code; where a statement raises, go on behind it. Returns as `run_cell`."""
    outcome = None
    try:
        while source:
            result = shell.run_cell(source, store_history=False)
            if result.success:
                break
            if isinstance(result.error_before_exec, SyntaxError):
                return f"syntax {result.error_before_exec.lineno or 1}"
            outcome, error = outcome or "raised", result.error_in_exec
            if error is None:
                break
            if type(error) is ForbiddenCall or (type(error) is PermissionError and error.errno is None):
                outcome = "closed"
            frames = traceback.walk_tb(error.__traceback__)
            lines = [line for frame, line in frames if frame.f_globals is shell.user_ns]
            source = notebook.behind(shell.transform_cell(source), lines[0]) if lines else ""
    except BaseException:
        return "raised"
    return outcome


def respond(shell, solutions, tasks, closing, watched, header, body):
    name = header["task"]
    case = wire.read_case(header["case"], body)
    try:
        solution, known = solutions[name]
    except KeyError:
        return wire.write_answer(Answer(error=f"NameError: {name} is not defined"))
    try:
        shell.user_ns.update(known)  # a later cell may have given helpers of this one another meaning
        given = closing.answer(solution, case, tasks[name], watched)
        size = sum(tensor.nbytes for tensor in [*given.results, *given.gradients.values()] if not tensor.is_meta)
        if size > header["limit"]:
            raise ValueError(f"the result has {size} bytes, far more than expected")
        return wire.write_answer(given)
    except BaseException as error:
        return wire.write_answer(Answer(error=f"{type(error).__name__}: {error}"))


if __name__ == "__main__":
    main()
