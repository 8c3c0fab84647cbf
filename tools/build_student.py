"""`make student`: student/normcourse.zip to hand out: notebooks, exercises, the package, and how to open them."""

import zipfile

from . import ROOT

HANDED_OUT = ("notebooks", "exercises", "normcourse", "docs", "Makefile", "README.md", "LICENSE", "pyproject.toml")
HANDED_OUT += ("constraints.txt", "environment.yml", "tools/install_torch.sh", "tools/install_sandbox.sh")
LEFT_OUT = ("__pycache__", "Thumbs.db")  # and hidden files
DATE = (2020, 1, 1, 0, 0, 0)  # of every file, whatever this machine says: the same content makes the same zip


def build(folder, root=ROOT):
    """Write the zip into a folder and return its path. Needs no git: what is there is handed out, in whatever state.

    Raises: FileNotFoundError where a part of the course is missing altogether.
    """
    files = []
    for part in HANDED_OUT:
        path = root / part
        if not path.exists():
            raise FileNotFoundError(f"{part} 不在了，发不出去 · is not there, so it cannot be handed out: {path}")
        files += [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "normcourse.zip"
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(files):
            name = file.relative_to(root)
            if not any(part.startswith(".") or part in LEFT_OUT for part in name.parts):
                entry = zipfile.ZipInfo(f"normcourse/{name.as_posix()}", DATE)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return target


def main():
    try:
        path = build(ROOT / "student")
    except OSError as error:
        raise SystemExit(str(error)) from None
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
