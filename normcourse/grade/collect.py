"""What was handed in: finds the notebooks in folders and zips, and says whose they are.

Nothing is unpacked to disk. Everything that somebody may have meant as a submission becomes a `Submission`, if only
one that is refused with a reason; what an operating system leaves behind (`__MACOSX`, `.DS_Store`) does not.
"""

import functools
import hashlib
import io
import itertools
import os
import stat
import struct
import threading
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .layouts import Layout
from .notebook import LARGEST, Refused, too_large

LARGEST_ZIP_INSIDE = 64 << 20  # bytes of a zip within a zip
MEMBERS = 20_000  # of the zip that is graded
DIRECTORY = 4 << 20  # bytes of the list of members of a zip that somebody handed in; zipfile reads it whole
FILES = 200  # of a zip that somebody handed in, with those in zips inside it
DEPTH = 2  # zips within zips
RATIO = 200  # of size to compressed size; a notebook with pictures has about 1, a bomb 1000
IGNORED = {
    "__MACOSX",
    ".ipynb_checkpoints",
    "__pycache__",
    "Thumbs.db",
    "desktop.ini",
    ".DS_Store",
    ".git",
    ".gitignore",
}
ARCHIVES = {".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz"}


@dataclass(frozen=True)
class Submission:
    """One file that was handed in.

    path: where it lies, below the folder that is graded, with `!` after a zip's name. read: gives its bytes, or raises
    Refused. learner: as the layout names them. id: their number in Moodle ("participant") or Canvas ("user") or their
    user name in Blackboard, if the layout says. system: "moodle", "canvas", "blackboard" or "". when: it, or the zip it
    is in, came here, in seconds since 1970.
    """

    path: str
    read: object
    learner: str
    id: str = ""
    system: str = ""
    when: int = 0

    def digest(self, salt=b""):
        """A name for this very file at this very place, and its content; for what cannot be read, the reason."""
        try:
            content, reason = self.read(), None
        except Refused as refused:
            content, reason = b"", refused
        key = hashlib.sha256(salt + self.path.encode("utf-8", "surrogateescape") + b"\0" + content)
        key.update(reason.en.encode() if reason else b"")
        return key.hexdigest()[:32], content, reason


def collect(folder, assignments=(), out=None):
    """The list of `Submission` in a folder, or in a single notebook or zip, in the order of their paths.

    Args:
        assignments: names of exercises, such as "03_layer_normalisation"; a folder of this name is not a learner.
        out: a folder of results, left out if it lies inside.

    Raises: FileNotFoundError.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"there is no {folder}")
    top = folder if folder.is_dir() else folder.parent
    out = out and Path(out).resolve()
    files = list(_walk(folder, top, out)) if folder.is_dir() else list(_file(folder, top, MEMBERS))
    notebooks = [path for path, _ in files if path.lower().endswith(".ipynb")]
    layout = Layout([path for path, _ in files], assignments)
    submissions, times, came = [], Counter(), functools.cache(lambda name: _came(top / name))
    for path, read in sorted(files, key=lambda file: file[0]):
        if path not in notebooks and layout.lies_beside(path, notebooks):
            continue  # a picture or a data file that came with a notebook
        whose = layout.whose(path)
        times[path] += 1  # a zip may hold several files of one name
        name = path if times[path] == 1 else f"{path} #{times[path]}"
        submissions.append(Submission(name, read, *whose, came(path.partition("!/")[0])))
    return submissions


def _came(path):
    try:
        return int(path.lstat().st_ctime)
    except OSError:  # its name is no text
        return 0


def _ignored(name):
    return name in IGNORED or name.startswith("._")


def _walk(folder, top, out):
    """(path, read) of everything in a folder on disk but `out`; links are not followed."""
    entries = [entry for entry in os.scandir(folder) if not _ignored(entry.name)]
    entries = [entry for entry in sorted(entries, key=lambda entry: entry.name) if Path(entry.path).resolve() != out]
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), top, out)
        else:
            yield from _file(Path(entry.path), top)
    if not entries and folder != top:
        yield _shown(folder, top), _refuse("文件夹是空的。", "The folder is empty.")


def _shown(path, top):
    return str(PurePosixPath(path.relative_to(top))).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _file(path, top, files=FILES):
    name, status = _shown(path, top), path.lstat()
    if stat.S_ISLNK(status.st_mode):
        yield name, _refuse("是一个链接，不是文件。", "It is a link, not a file.")
    elif not stat.S_ISREG(status.st_mode):
        yield name, _refuse("不是普通文件。", "It is not a regular file.")
    elif path.suffix.lower() == ".zip":
        archive = Archive(functools.partial(open, path, "rb"), None if files == MEMBERS else DIRECTORY)
        yield from _at_most(files, _zip(archive, name, DEPTH), name)
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
    """A zip that is opened when it is read, and closed when others are. opened: gives the file. directory: the most
    bytes that its list of members may have."""

    OPEN = 4
    _lock, _recent = threading.RLock(), []

    def __init__(self, opened, directory=DIRECTORY):
        self.opened, self.directory, self._zip = opened, directory, None

    def members(self):
        with self._lock:
            return [info for info in self._use().infolist() if not info.filename.endswith("/")]

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
            if self.directory is not None and _directory(self._file) > self.directory:
                raise zipfile.BadZipFile("too many members")
            self._zip = zipfile.ZipFile(self._file)
            self._recent.append(self)
            if len(self._recent) > self.OPEN:
                oldest = self._recent.pop(0)
                oldest._zip.close()
                oldest._file.close()
                oldest._zip = None
        return self._zip


def _directory(file):
    """Bytes of a zip's list of members, as the record at its end says; those of more than 4 GB say 4 GB."""
    file.seek(max(file.seek(0, os.SEEK_END) - (1 << 16) - 22, 0))
    record = file.read().rpartition(b"PK\5\6")[2]
    return struct.unpack("<I", record[8:12])[0] if len(record) >= 18 else 0


def _at_most(limit, files, name):
    """The (path, read) in a zip, or a single refusal where they are too many or the zip is broken."""
    try:
        found = list(itertools.islice(files, limit + 1))
    except Exception as error:  # zipfile raises many kinds
        kind = type(error).__name__
        yield name, _refuse("压缩包读不出来，可能坏了。", f"The zip cannot be read, perhaps it is broken ({kind}).")
        return
    if len(found) > limit:
        found = [(name, _refuse(f"压缩包里的文件超过 {limit} 个，太多了。", f"The zip holds more than {limit} files."))]
    yield from found


def _zip(archive, name, depth):
    """(path, read) of everything in a zip, itself perhaps in a zip."""
    try:
        members = archive.members()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError, Refused):
        yield name, _refuse("压缩包打不开，可能没有传完。", "The zip cannot be opened; perhaps it was cut short.")
        return
    found = False
    for info in members:
        inside = PurePosixPath(_member_name(info).replace("\\", "/"))
        if any(map(_ignored, inside.parts)):
            continue
        found, path = True, f"{name}!/{inside}"
        if (
            not inside.parts
            or inside.is_absolute()
            or ".." in inside.parts
            or (len(inside.parts[0]) > 1 and inside.parts[0][1] == ":")
        ):
            yield path, _refuse("压缩包里的路径指到了包外面。", "A path in the zip leads out of it.")
        elif stat.S_ISLNK(info.external_attr >> 16):
            yield path, _refuse("是一个链接，不是文件。", "It is a link, not a file.")
        elif inside.suffix.lower() == ".ipynb":
            yield path, lambda info=info: archive.read(info, LARGEST)
        elif inside.suffix.lower() == ".zip" and depth > 1:
            content = functools.partial(archive.read, info, LARGEST_ZIP_INSIDE)
            inner = Archive(lambda content=content: io.BytesIO(content()))
            yield from _at_most(FILES, _zip(inner, path, depth - 1), path)
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
