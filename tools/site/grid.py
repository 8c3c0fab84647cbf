"""Which positions of an explorer are drawn ahead.

A long slider is thinned, its ends and its start kept. Where all combinations of the thinned positions are few enough,
all of them are drawn; else every pair of the main control with one other, the rest standing at their start; else the
pair of the two main controls, and each of the others alone. The main control is the one that plays, else the first
slider.
"""

import itertools
import math

FEWEST = 3  # positions of a slider


def thinned(count, start, size):
    """`size` of the positions 0 … count − 1, as even as can be, with both ends and the start among them."""
    if size >= count:
        return [*range(count)]
    kept = {0, count - 1, start}
    kept |= {round(i * (count - 1) / max(size - 1, 1)) for i in range(size)}
    spare = sorted(kept - {0, count - 1, start}, key=lambda i: abs(i - start))
    while len(kept) > max(size, len({0, count - 1, start})):
        kept.remove(spare.pop(0))  # the start has taken the place of the one beside it
    return sorted(kept)


def _all(sizes, order):
    return math.prod(sizes)


def _pairs(sizes, order):
    main = sizes[order[0]]
    return main * (1 + sum(size - 1 for i, size in enumerate(sizes) if i != order[0]))


def _star(sizes, order):
    return math.prod(sizes[i] for i in order[:2]) + sum(sizes[i] - 1 for i in order[2:])


def grid(counts, start, sliders, limit, main=None):
    """What to draw ahead of an explorer.

    Args: counts, start: of each control, how many positions and the first one. sliders: whether it may be thinned.
        limit: how many pictures at most. main: the index of the control that plays.
    Returns: (positions of each control that a reader can choose, the combinations that are drawn, the start first).
    """
    if not counts or limit <= 1:
        return [[i] for i in start], [tuple(start)]
    order = sorted(range(len(counts)), key=lambda i: (i != main, not sliders[i], i))
    least = [min(count, FEWEST) if slider else count for count, slider in zip(counts, sliders)]
    size = next((way for way in (_all, _pairs, _star) if way(least, order) <= limit), _star)
    sizes, grew = [*least], True
    while grew:
        grew = False
        for i in [order[0], order[0], *order]:  # the main one twice as fast
            more = [n + (j == i) for j, n in enumerate(sizes)]
            if more[i] <= counts[i] and size(more, order) <= limit:
                sizes, grew = more, True
    kept = [thinned(*each) for each in zip(counts, start, sizes)]
    return kept, _combinations(kept, start, order, size)


def _combinations(kept, start, order, size):
    if size is _all:
        found = itertools.product(*kept)
    else:
        partners = order[1:] if size is _pairs else order[1:2]
        found = [p for i in partners for p in _moved(kept, start, (order[0], i))]
        found += [p for i in order for p in _moved(kept, start, (i,))]
    return [*dict.fromkeys([tuple(start), *found])]


def _moved(kept, start, axes):
    """The positions that only these controls leave the start by."""
    for values in itertools.product(*(kept[i] for i in axes)):
        position = [*start]
        for i, value in zip(axes, values):
            position[i] = value
        yield tuple(position)
