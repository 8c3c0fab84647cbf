"""What was handed in: finds the notebooks in folders and zips, and says whose they are.

Nothing is unpacked to disk. Everything that somebody may have meant as a submission becomes a `Submission`, if only
one that is refused with a reason; what an operating system leaves behind (`__MACOSX`, `.DS_Store`) does not.
"""

import functools
import hashlib
import io
import itertools
import os
import re
import stat
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .notebook import LARGEST, Refused, too_large

LARGEST_ZIP_INSIDE = 64 << 20  # bytes of a zip within a zip
MEMBERS = 20_000  # of a zip
DEPTH = 2  # zips within zips
RATIO = 200  # of size to compressed size; a notebook with pictures has about 1, a bomb 1000
IGNORED = {"__MACOSX", ".ipynb_checkpoints", "__pycache__", "Thumbs.db", "desktop.ini"}
ARCHIVES = {".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz"}

# "Zhang San_1234567_assignsubmission_file_/x.ipynb", without folders "Zhang San_1234567_assignsubmission_file_x.ipynb"
MOODLE = re.compile(r"(?P<learner>[^/]+?)_(?P<id>\d+)_assignsubmission_(?:file|onlinetext)_?")
# "zhangsan_LATE_1234_56789_x.ipynb": the user's number, then the submission's
CANVAS = re.compile(r"(?P<learner>[^/_]+)_(?:LATE_)?(?P<id>\d+)_\d+_.+")


@dataclass(frozen=True)
class Submission:
    """One file that was handed in.

    path: where it lies, below the folder that is graded, with `!` after a zip's name. read: gives its bytes, or raises
    Refused. learner: as the layout names them. id: their number in Moodle ("participant") or Canvas ("user"), if the
    layout says. system: "moodle", "canvas" or "".
    """

    path: str
    read: object
    learner: str
    id: str = ""
    system: str = ""

    def digest(self, salt=b""):
        """A name for this very file at this very place, and its content; for what cannot be read, the reason."""
        try:
            content, reason = self.read(), None
        except Refused as refused:
            content, reason = b"", refused
        key = hashlib.sha256(salt + self.path.encode("utf-8", "surrogateescape") + b"\0" + content)
        key.update(reason.en.encode() if reason else b"")
        return key.hexdigest()[:32], content, reason


def collect(folder, assignments=()):
    """The list of `Submission` in a folder, or in a single notebook or zip, in the order of their paths.

    Args: assignments: names of exercises, such as "03_layer_normalisation"; a folder of this name is not a learner.
    Raises: FileNotFoundError.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"there is no {folder}")
    top = folder if folder.is_dir() else folder.parent
    files = list(_walk(folder, top)) if folder.is_dir() else list(_file(folder, top))
    notebooks = [path for path, _ in files if path.endswith(".ipynb")]
    wrapper = _wrapper([path for path, _ in files], assignments)
    submissions = []
    for path, read in sorted(files, key=lambda file: file[0]):
        if not path.endswith(".ipynb") and _lies_beside(path, notebooks):
            continue  # a picture or a data file that came with a notebook
        submissions.append(Submission(path, read, *_whose(path, wrapper, assignments)))
    return submissions


def _walk(folder, top):
    """(path, read) of everything in a folder on disk; links are not followed."""
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    entries = [entry for entry in entries if entry.name not in IGNORED and not entry.name.startswith((".", "._"))]
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), top)
        else:
            yield from _file(Path(entry.path), top)
    if not entries and folder != top:
        yield _shown(folder, top), _refuse("文件夹是空的。", "The folder is empty.")


def _shown(path, top):
    return str(PurePosixPath(path.relative_to(top))).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _file(path, top):
    name, status = _shown(path, top), path.lstat()
    if stat.S_ISLNK(status.st_mode):
        yield name, _refuse("是一个链接，不是文件。", "It is a link, not a file.")
    elif not stat.S_ISREG(status.st_mode):
        yield name, _refuse("不是普通文件。", "It is not a regular file.")
    elif path.suffix.lower() == ".zip":
        yield from _zip(Archive(functools.partial(open, path, "rb")), name, DEPTH)
    elif path.suffix.lower() == ".ipynb":
        yield name, lambda: _read(path)
    else:
        yield name, _refuse(*_not_a_notebook(path.suffix))


def _read(path):
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST:
            raise too_large(size)
        return file.read(LARGEST + 1)


class Archive:
    """A zip that is opened when it is read, and closed when others are. opened: gives the file."""

    OPEN = 4
    _lock, _recent = threading.RLock(), []

    def __init__(self, opened):
        self.opened, self._zip = opened, None

    def members(self):
        with self._lock:
            return [info for info in self._use().infolist() if not info.is_dir()]

    def read(self, info, largest):
        """The bytes of one member, whose stated size is not believed. Raises: Refused."""
        if info.file_size > 1 << 20 and info.file_size > RATIO * max(info.compress_size, 1):
            raise Refused(
                "压缩包里的文件解开后大得可疑，没有打开。",
                "Unpacked, this file would be suspiciously large; it was not opened.",
            )
        try:
            with self._lock, self._use().open(info) as member:
                content = member.read(largest + 1)
        except Exception as error:  # encrypted, cut short, an unknown method: zipfile and zlib raise many kinds
            kind = type(error).__name__
            raise Refused("压缩包里的文件读不出来。", f"The file in the zip cannot be read ({kind}).") from None
        if max(len(content), info.file_size) > largest:
            raise too_large(max(len(content), info.file_size))
        return content

    def _use(self):
        if self._zip is None:
            self._file = self.opened()
            self._zip = zipfile.ZipFile(self._file)
            self._recent.append(self)
            if len(self._recent) > self.OPEN:
                oldest = self._recent.pop(0)
                oldest._zip.close()
                oldest._file.close()
                oldest._zip = None
        return self._zip


def _zip(archive, name, depth):
    """(path, read) of everything in a zip, itself perhaps in a zip."""
    try:
        members = archive.members()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError, Refused):
        yield name, _refuse("压缩包打不开，可能没有传完。", "The zip cannot be opened; perhaps it was cut short.")
        return
    if len(members) > MEMBERS:
        yield (
            name,
            _refuse(f"压缩包里有 {len(members)} 个文件，太多了。", f"The zip holds {len(members)} files, too many."),
        )
        return
    found = False
    for info in members:
        inside = PurePosixPath(_member_name(info).replace("\\", "/"))
        if IGNORED & set(inside.parts) or inside.name.startswith("."):
            continue
        found, path = True, f"{name}!/{inside}"
        if inside.is_absolute() or ".." in inside.parts or (len(inside.parts[0]) > 1 and inside.parts[0][1] == ":"):
            yield path, _refuse("压缩包里的路径指到了包外面。", "A path in the zip leads out of it.")
        elif stat.S_ISLNK(info.external_attr >> 16):
            yield path, _refuse("是一个链接，不是文件。", "It is a link, not a file.")
        elif inside.suffix.lower() == ".ipynb":
            yield path, lambda info=info: archive.read(info, LARGEST)
        elif inside.suffix.lower() == ".zip" and depth > 1:
            content = functools.partial(archive.read, info, LARGEST_ZIP_INSIDE)
            yield from _zip(Archive(lambda content=content: io.BytesIO(content())), path, depth - 1)
        else:
            yield path, _refuse(*_not_a_notebook(inside.suffix))
    if not found:
        yield name, _refuse("压缩包是空的。", "The zip is empty.")


def _member_name(info):
    """The name of a zip's member. Those that do not say they are UTF-8 come from Windows: in China, GB 18030."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        raw = info.filename.encode("cp437")
    except UnicodeEncodeError:
        return info.filename
    for encoding in ("utf-8", "gb18030"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return info.filename


def _refuse(zh, en):
    def read():
        raise Refused(zh, en)

    return read


def _not_a_notebook(suffix):
    if suffix.lower() in ARCHIVES:
        return f"{suffix} 压缩包读不了；请用 zip。", f"A {suffix} archive cannot be read; use zip."
    return f"{suffix or '这'} 不是 notebook（.ipynb）。", f"{suffix or 'This'} is not a notebook (.ipynb)."


def _lies_beside(path, notebooks):
    """Whether a file came together with a notebook: in the same learner's folder, or under the same Canvas number."""
    canvas = CANVAS.fullmatch(PurePosixPath(path).name)
    if canvas:
        return any((m := CANVAS.fullmatch(PurePosixPath(n).name)) and m["id"] == canvas["id"] for n in notebooks)
    folder = str(PurePosixPath(path).parent)
    return folder != "." and not folder.endswith("!") and any(n.startswith(f"{folder}/") for n in notebooks)


def _parts(path):
    return [part for part in re.split(r"!?/", path) if part]


def _wrapper(paths, assignments):
    """How many leading folders all paths have in common, such as that of the course; a learner's own is not counted."""
    split = [_parts(path) for path in paths]
    if len(split) < 2:
        return 0
    columns = itertools.takewhile(lambda names: len(set(names)) == 1, zip(*(parts[:-1] for parts in split)))
    common = len(list(columns))
    if all(len(parts) == common + 1 and _is_assignment(parts[-1], assignments) for parts in split):
        return max(common - 1, 0)
    return common


def _is_assignment(name, assignments):
    return any(PurePosixPath(name).stem == assignment for assignment in assignments)


def _whose(path, wrapper, assignments):
    """(learner, id, system) as the layout says."""
    parts = _parts(path)
    for part in parts:
        if found := MOODLE.match(part):
            return found["learner"].strip(), found["id"], "moodle"
    if found := CANVAS.fullmatch(parts[-1]):
        return found["learner"], found["id"], "canvas"
    if len(parts) > 1 and (found := CANVAS.fullmatch(parts[0])):  # a zip that was handed in through Canvas
        return found["learner"], found["id"], "canvas"
    folders = [part for part in parts[wrapper:-1] if not _is_assignment(part, assignments)]
    if folders:
        return folders[0].removesuffix(".zip"), "", ""
    stem = PurePosixPath(parts[-1]).stem
    for assignment in assignments:  # "03_layer_normalisation_张三.ipynb"
        stem = re.sub(rf"[-_ ]*{re.escape(assignment)}[-_ ]*", "", stem) or stem
    return stem, "", ""
