"""`python -m normcourse lab`: the course's notebooks and exercises in a folder of the learner's, open in JupyterLab."""

import hashlib
import json
import os
import signal
from pathlib import Path, PurePath

from . import __version__
from .progress import FILE, RECEIPT, VARIABLE

INSTALLED = Path(__file__).parent / "course"  # in a wheel; in a checkout they lie beside the package
COURSE = INSTALLED if INSTALLED.is_dir() else Path(__file__).parents[1]
HANDED_OUT = ("notebooks/*.ipynb", "exercises/*/*.ipynb", "exercises/*/*.png")
FIRST = PurePath("notebooks", "00_start_here.ipynb")


class CannotOpen(Exception):
    """The course cannot be opened; says why in both languages, a line each."""


def put(folder, course=COURSE):
    """Put the course's files into a folder. What the learner has changed is never written over.

    A file that is as it was put there is brought up to date. Of one that was changed and for which this version has
    news, the new one is laid beside it, under a name with the version. A deleted file comes back.

    Args: folder: made where it does not exist; may be the checkout itself, in which nothing happens. course: where the
        files come from.
    Returns: {name, with forward slashes: "new", "updated" or "beside"}, only what was written.
    Raises: CannotOpen where the folder cannot be written or is a file.
    """
    folder, course = Path(folder), Path(course)
    if folder.resolve() == course.resolve():
        return {}
    receipt, written = _receipt(folder), {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(file for pattern in HANDED_OUT for file in course.glob(pattern)):
            name, content = path.relative_to(course).as_posix(), path.read_bytes()
            mine, before = folder / name, receipt.get(name)
            now = hashlib.sha256(content).hexdigest()
            there = hashlib.sha256(mine.read_bytes()).hexdigest() if mine.exists() else None
            if there == now or (there not in (None, before) and before == now):
                receipt[name] = now
                continue
            target, kind = mine, "new" if there is None else "updated"
            if there not in (None, before):
                target, kind = beside(mine, __version__), "beside"
            _write(target, content)
            receipt[name], written[target.relative_to(folder).as_posix()] = now, kind
        _write(folder / RECEIPT, json.dumps({"version": __version__, "files": receipt}, indent=1).encode())
    except (NotADirectoryError, FileExistsError):
        raise CannotOpen(
            f"{folder} 是文件或在文件里面，放不了课程；换一个文件夹：python -m normcourse lab 文件夹\n"
            f"{folder} is a file or inside one; give another folder: python -m normcourse lab FOLDER"
        ) from None
    except OSError as error:
        raise CannotOpen(
            f"写不进 {folder}（{error.strerror}）；换一个自己能写的文件夹：python -m normcourse lab 文件夹\n"
            f"{folder} cannot be written ({error.strerror}); give a folder of your own: python -m normcourse lab FOLDER"
        ) from None
    return written


def beside(path, version):
    """Where a newer version of a file goes that the learner has changed: `03_x.ipynb` → `03_x (0.2.0).ipynb`."""
    return path.with_name(f"{path.stem} ({version}){path.suffix}")


def _receipt(folder):
    try:
        return dict(json.loads((folder / RECEIPT).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or not ours any more: then nothing is written over
        return {}


def _write(path, content):
    """All of it or nothing: a start that is cut off leaves no half a notebook."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)


def arguments(folder, options=()):
    """What JupyterLab is started with, to open the course in `folder`; options are passed on, and win."""
    given = [f"--ServerApp.root_dir={Path(folder).absolute()}", f"--LabApp.default_url=/lab/tree/{FIRST.as_posix()}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in a container, say
        given.append("--ServerApp.allow_root=True")
    return [*given, *options]


def open_lab(folder, options=()):
    """Put the course into `folder` and serve it in JupyterLab until Ctrl-C. Raises: CannotOpen."""
    try:
        from jupyterlab.labapp import LabApp
    except ModuleNotFoundError:
        raise CannotOpen(
            '没有装 JupyterLab：pip install "normcourse[lab]"\n'
            'JupyterLab is not installed: pip install "normcourse[lab]"'
        ) from None
    written = put(folder)
    for name, kind in written.items():
        if kind == "beside":
            print(f"你的改动保留着，新版本放在旁边 · your changes are kept, the new version lies beside them: {name}")
    os.environ.setdefault(VARIABLE, str(Path(folder).absolute() / FILE))  # in a checkout, too: kernels inherit it
    print(f"课程在 · the course is in {Path(folder).absolute()}    Ctrl-C 结束 · ends it", flush=True)
    server = LabApp.initialize_server(argv=arguments(folder, options))
    signal.signal(signal.SIGINT, lambda *_: server.stop(from_signal=True))  # at once, and not only in a terminal
    server.start()
