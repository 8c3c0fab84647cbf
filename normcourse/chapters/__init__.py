"""The chapters, a folder each, found by looking: a new chapter is a new folder here, and nothing else lists it.

    chapter.toml   number, titles, minutes, what is measured: the tables of README and of chapter 00 come from it
    lesson.md      the notebook's text source; a chapter without one is still being written
    drawings.py    tidy DataFrame -> figure, for this chapter's explorers
    questions.toml what readers guess first, see `normcourse.predict`
    words.toml     names of its controls and of its tables' headers, where no other chapter has them
    exercise.py    the figures of its exercise: what the learner wrote -> explorer
    claims.toml    the popular claims that are measured in it, see `normcourse.claims`
    evidence.py    their measurements
    runs.py        the runs too long for a notebook, see `normcourse.record`
    recorded/      their results

What several chapters draw is in `curves`, what the figures of all exercises have in common in `figures`.
"""

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Chapter:
    """What chapter.toml says.

    number: 0 … 14. title, measures: {"zh": …, "en": …}, what it is called and what is measured in it. minutes: to read
    and try it, None while it is being written. folder: where it lies.
    """

    number: int
    title: dict
    measures: dict
    folder: Path
    minutes: int | None = None

    @property
    def name(self):
        """That of its notebook and of its exercise, as "03_layer_normalisation"."""
        return f"{self.number:02d}_{self.folder.name}"

    @property
    def lesson(self):
        """Its text source, None while it is being written."""
        path = self.folder / "lesson.md"
        return path if path.exists() else None


@functools.cache
def chapters():
    """All chapters in order, those that are being written included.

    Raises: ValueError where a chapter.toml lacks something or two have the same number.
    """
    found = []
    for path in sorted(FOLDER.glob("*/chapter.toml")):
        try:
            found.append(Chapter(folder=path.parent, **tomllib.loads(path.read_text(encoding="utf-8"))))
        except (TypeError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"{path.parent.name}/chapter.toml: {error}") from None
    found.sort(key=lambda chapter: chapter.number)
    numbers = [chapter.number for chapter in found]
    if twice := {number for number in numbers if numbers.count(number) > 1}:
        raise ValueError(f"two chapters have the number {min(twice)}")
    return found
