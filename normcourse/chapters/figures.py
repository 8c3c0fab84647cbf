"""What the figures of the exercises have in common, see the `exercise.py` of the chapters."""

import functools

from ..check import once_written


def figure(make):
    """A function that makes an explorer of what the learner wrote. Where that is not written yet, it says so."""

    @functools.wraps(make)
    def made(*written):
        return once_written(lambda: make(*written))

    return made
