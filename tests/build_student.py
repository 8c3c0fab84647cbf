"""`make student`: student/normcourse.zip, what an instructor hands out: notebooks, exercises, the package, how to open it."""

import subprocess
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
HANDED_OUT = ("notebooks/", "exercises/", "normcourse/", "Makefile", "README.md", "docs/", "LICENSE")
HANDED_OUT += ("pyproject.toml", "constraints.txt", "environment.yml")


def build(folder):
    """Write the zip into a folder and return its path. Files that git ignores stay out."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    names = sorted(name for name in listed.stdout.decode().split("\0") if name.startswith(HANDED_OUT))
    folder.mkdir(exist_ok=True)
    path = folder / "normcourse.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(ROOT / name, f"normcourse/{name}")
    return path


def main():
    path = build(ROOT / "student")
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
