"""The judge's end of the sandbox: starts the fork server in bubblewrap and asks it for one process per submission."""

import os
import platform
import shutil
import site
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
SECONDS_TO_START = 600
# What of the package a submission can import. The rest of `check` is the instructor's or knows answers, the rest of
# this folder is of no use to it.
SEEN = {
    "check": (
        "__init__.py",
        "allowed.py",
        "case.py",
        "comparison.py",
        "cutting.py",
        "errors.py",
        "kernels.py",
        "kinds.py",
        "launches.py",
        "plainer.py",
        "real.py",
        "recorded.py",
        "rules.py",
        "runner.py",
        "wire.py",
        "world.py",
        "writer.py",
    ),
    "grade": (
        "__init__.py",
        "server.py",
        "notebook.py",
        "wire.py",
        "confine.py",
        "closed.py",
        "restricted.py",
    ),
}
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives", "/etc/fonts")
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "USER": "learner",
    "LANG": "C.UTF-8",
    "MPLBACKEND": "Agg",
    "TRITON_INTERPRET": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    **{f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")},
}


class NoSandbox(Exception):
    """This machine has no sandbox; says what to do."""


class Sandbox:
    """A running fork server.

    Args:
        private: folders that nobody inside may see, even where they lie within Python's own.
        unsafe: run without a sandbox: no namespaces, everything readable. For one's own notebooks.

    Raises: NoSandbox.
    """

    def __init__(self, private=(), unsafe=False):
        if not hasattr(os, "fork"):
            raise NoSandbox(WINDOWS)
        self.private, self.unsafe = [Path(path).resolve() for path in private], unsafe
        self._lock, self._stopped = threading.Lock(), False
        self._folder = tempfile.TemporaryDirectory(prefix="normcourse-")
        if not unsafe:
            self._try_bubblewrap()
        self._start()

    def spawn(self, until=float("inf")):
        """A new `Child`, whose end by the clock is `until`. A server that died is started again, once."""
        from .child import Child  # imports torch, while the server is starting

        talk, theirs = socket.socketpair()
        life, their_life = socket.socketpair()
        with theirs, their_life, self._lock:
            if self._stopped:
                raise NoSandbox("已停止 · stopped")
            if not self._forked(theirs, their_life):
                self._stop()
                self._start()
                if not self._forked(theirs, their_life):
                    raise NoSandbox("沙箱一启动就停了 · the sandbox stops as soon as it has started")
        return Child(talk, life, until)

    def _forked(self, talk, life):
        """Whether the server made a process for these sockets. It says so: one that is dying still takes requests."""
        self._wait_until_ready()
        try:
            socket.send_fds(self._control, [b"f"], [talk.fileno(), life.fileno()])
            return self._control.recv(1) == b"f"
        except OSError:
            return False

    def stop(self):
        """End all processes now, whatever they do; no new one is started."""
        self._stopped = True
        self._server.kill()

    def close(self):
        self._stop()
        self._folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def _start(self):
        self._control, theirs = socket.socketpair()
        self._ready = False
        self._errors = open(Path(self._folder.name, "errors"), "w+b")  # noqa: SIM115  closed with the server
        command = [sys.executable, "-m", "normcourse.grade.server", str(theirs.fileno())]
        environment = ENVIRONMENT | {"PYTHONPATH": str(PACKAGE.parent)}
        if self.unsafe:
            environment = os.environ | environment | {"HOME": self._folder.name}
            command.append("--unsafe")
        else:
            environment |= {"MPLCONFIGDIR": "/tmp", "PYTHONPATH": str(inside(PACKAGE.parent))}
            command = [*bubblewrap(self.private), "--", str(inside(sys.executable)), *command[1:]]
        with theirs:
            self._server = subprocess.Popen(
                command,
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                start_new_session=True,  # Ctrl-C is for the judge, which then ends the server in good order
            )

    def _wait_until_ready(self):
        if not self._ready:
            self._control.settimeout(SECONDS_TO_START)
            try:
                self._ready = self._control.recv(5) == b"ready"
            except OSError:
                self._ready = False
            if not self._ready:
                self._errors.seek(0)
                said = self._errors.read()[-2000:].decode(errors="replace")
                raise NoSandbox(f"沙箱没有启动 · the sandbox did not start:\n{said}")

    def _stop(self):
        self._control.close()
        self._server.kill()  # and with it all it started
        self._server.wait()
        self._errors.close()

    def _try_bubblewrap(self):
        if platform.system() != "Linux":
            raise NoSandbox(NO_LINUX.format(system=platform.system()))
        if not shutil.which("bwrap"):
            raise NoSandbox(NO_BUBBLEWRAP)
        tried = subprocess.run(
            [*bubblewrap([]), "--", "/usr/bin/env", "unshare", "--user", "--pid", "--fork", "true"],
            capture_output=True,
            text=True,
        )
        if tried.returncode:
            raise NoSandbox(NO_NAMESPACES.format(said=tried.stderr.strip()))


def inside(path):
    """Where a path is found in the sandbox: where it is, but for those in /tmp, which is private there."""
    path = Path(path)
    return Path("/from-tmp", path.relative_to("/tmp")) if path.is_relative_to("/tmp") else path


def bubblewrap(private):
    """The command line: a read-only system with Python and what of this package may be seen, no network, no home."""
    arguments = ["bwrap", "--die-with-parent", "--new-session", "--unshare-pid", "--unshare-net", "--unshare-ipc"]
    arguments += ["--unshare-uts", "--unshare-cgroup-try"]
    if os.getuid() == 0:  # stays root until Python has started, and can read what is root's; then `become_nobody`
        # bubblewrap's own /proc has read-only parts when made by root, and with these the children may not mount theirs
        arguments += ["--cap-drop", "ALL", "--dir", "/proc"]
        for capability in ("SETUID", "SETGID", "SYS_ADMIN"):
            arguments += ["--cap-add", f"CAP_{capability}"]
    else:
        arguments += ["--unshare-user", "--proc", "/proc"]
    for path in SYSTEM:
        if os.path.islink(path):
            arguments += ["--symlink", os.readlink(path), path]
        else:
            arguments += ["--ro-bind-try", path, path]
    prefixes = [Path(folder) for folder in (sys.base_prefix, sys.prefix, site.getusersitepackages())]
    prefixes = [folder for folder in dict.fromkeys(prefixes) if folder.is_dir() and not folder.is_relative_to("/usr")]
    parents = {parent for folder in [*prefixes, PACKAGE] for parent in inside(folder).parents} - {Path("/")}
    for folder in sorted(parents):  # bubblewrap would give them the rights of the original, such as /root's
        arguments += ["--perms", "0755", "--dir", str(folder)]
    for folder in prefixes:
        arguments += ["--ro-bind", str(folder), str(inside(folder))]
    for folder in private:
        if any(folder.is_relative_to(seen) for seen in [*prefixes, "/usr"]):
            arguments += ["--tmpfs", str(inside(folder)), "--remount-ro", str(inside(folder))]
    arguments += ["--tmpfs", str(inside(PACKAGE))]
    for path in sorted(PACKAGE.iterdir()):
        names = SEEN.get(path.name)
        if names is not None:
            arguments += ["--perms", "0755", "--dir", str(inside(path))]
        for part in [path] if names is None else [path / name for name in names]:
            arguments += ["--ro-bind", str(part), str(inside(part))]
    arguments += ["--remount-ro", str(inside(PACKAGE))]
    arguments += ["--tmpfs", "/dev", "--dir", "/dev/shm", "--perms", "1777", "--tmpfs", "/tmp"]
    for device in ("null", "full", "random", "urandom"):  # not zero, a way to memory that no limit counts
        arguments += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        arguments += ["--symlink", f"/proc/self/fd/{number}", f"/dev/{name}"]
    return [
        *arguments,
        "--symlink",
        "/proc/self/fd",
        "/dev/fd",
        "--remount-ro",
        "/dev",
        "--remount-ro",
        "/",
        "--chdir",
        "/tmp",
    ]


INSTALL = """\
    Debian, Ubuntu   sudo apt-get install bubblewrap
    Fedora           sudo dnf install bubblewrap
    Arch             sudo pacman -S bubblewrap"""

UNSAFE = """\
自己写的 notebook 可以加 --unsafe-no-sandbox 评分；别人的不行：里面的代码在这台机器上什么都能做。
Your own notebooks can be graded with --unsafe-no-sandbox; never other people's: their code could do anything here."""

NO_BUBBLEWRAP = f"""\
评分要在 bubblewrap 沙箱里运行学生的代码，这台机器上没有。请安装：
Learners' code is run in a bubblewrap sandbox, which this machine does not have. Install it:
{INSTALL}
{UNSAFE}"""

NO_LINUX = f"""\
沙箱需要 Linux（这里是 {{system}}）。请在 Linux 机器、虚拟机或 WSL 2 里评分，并在那里安装 bubblewrap：
The sandbox needs Linux (this is {{system}}). Grade on Linux, in a virtual machine or in WSL 2, with bubblewrap:
{INSTALL}
{UNSAFE}"""

NO_NAMESPACES = f"""\
bubblewrap 在，但系统不让它建立命名空间 · bubblewrap is there, but the system does not let it make namespaces:
    {{said}}
Ubuntu 24.04:   sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0
Debian 10, 11:  sudo sysctl -w kernel.unprivileged_userns_clone=1
Docker:         docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined --cap-add SYS_ADMIN …
{UNSAFE}"""

WINDOWS = """\
评分需要 Linux；在 Windows 上请用 WSL 2。
Grading needs Linux; on Windows, use WSL 2."""
