"""Answers to the exercises as learners might hand them in: wrong ones (mutants) and right ones in other words (honest).

They stand in answers.py of each exercise. `mutant(task, named=…)`: must not earn full marks, and where `named` is given,
the first case of the visible check that fails says these words in English. `honest(task)`: must earn full marks.

They take nothing from tasks.py on purpose: a learner's code is another way to the same numbers, and the judge's tests hand
them in as notebooks, which see nothing else.
"""

from normcourse.grade.hidden import module
from tools.build_exercises import SOLUTIONS

MUTANTS, HONEST = [], []


def mutant(task, named=None):
    def register(answer):
        MUTANTS.append((task, answer, named))
        return answer

    return register


def honest(task):
    def register(answer):
        HONEST.append((task, answer))
        return answer

    return register


def of(exercise):
    """The module with the answers to an exercise, as "03_layer_normalisation"."""
    return module(SOLUTIONS / exercise / "answers.py")


for path in sorted(SOLUTIONS.glob("[0-9]*/answers.py")):
    of(path.parent.name)
