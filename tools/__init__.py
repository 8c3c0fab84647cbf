"""What maintainers and instructors run: builders, benchmarks, installers. The Makefile is the table of contents."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def pyproject():
    """pyproject.toml as a dict."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def version():
    """The version of this checkout, read without importing it."""
    text = (ROOT / "normcourse" / "__init__.py").read_text(encoding="utf-8")
    return text.split('__version__ = "')[1].split('"')[0]


def repository():
    """The address of the repository, without a slash at the end: `Repository` in [project.urls]; None while unset."""
    address = pyproject()["project"].get("urls", {}).get("Repository")
    return address.rstrip("/") if address else None
