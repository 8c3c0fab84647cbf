"""Where the hidden cells of solution notebooks look for what stands in `normcourse.grade.hidden`."""

from ..grade.hidden import assert_right, load, load_each

__all__ = ["assert_right", "load", "load_each"]
