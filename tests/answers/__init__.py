"""Answers to the exercises as learners might hand them in: wrong ones (mutants) and right ones in other words (honest).

One file per exercise. `mutant(task, named=…)`: must not earn full marks, and where `named` is given, the first case of
the visible check that fails says these words in English. `honest(task)`: must earn full marks.
"""

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
