"""Looks at a finished figure as a reader does, by the boxes of what matplotlib has drawn, and says what is wrong.

Independent of `canvas.labels`, which puts the labels where they are.
"""

import itertools
import warnings
from typing import NamedTuple

import numpy as np
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.transforms import Bbox

SLACK = 1.0  # pixels at 100 to the inch that two boxes may share


class Words(NamedTuple):
    kind: str  # title, axis, tick, label, figure
    text: str
    box: Bbox
    axes: object
    artist: object


def faults(figure):
    """What is wrong with the figure's texts, a sentence each; draws it first."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        figure.draw_without_rendering()
        words = [*texts(figure)]
    found = [f"missing glyph: {w.message}" for w in said if "lyph" in str(w.message)]
    for one, other in itertools.combinations(words, 2):
        if overlap(one.box, other.box):
            found.append(f"{one.kind} {one.text!r} over {other.kind} {other.text!r}")
    width, height = figure.bbox.width, figure.bbox.height
    for one in words:
        b = one.box
        if b.x0 < -SLACK or b.y0 < -SLACK or b.x1 > width + SLACK or b.y1 > height + SLACK:
            found.append(f"{one.kind} {one.text!r} leaves the figure")
        for ax in figure.axes:
            if ax is not one.axes and one.axes is not None and ax.axison and overlap(b, ax.bbox):
                found.append(f"{one.kind} {one.text!r} in another panel")
        if one.kind == "label":
            found += [f"label {one.text!r} on a line" for line in lines(one.axes) if crosses(line, b)][:1]
    return found


def texts(figure):
    """All words that are to be seen."""
    renderer = figure.canvas.get_renderer()

    def words(kind, artist, ax):
        if artist.get_visible() and artist.get_text().strip():
            yield Words(kind, artist.get_text(), artist.get_window_extent(renderer), ax, artist)

    for ax in figure.axes:
        if not ax.get_visible():
            continue
        for title in (ax.title, ax._left_title, ax._right_title):
            yield from words("title", title, ax)
        for text in ax.texts:
            yield from words("label", text, ax)
        for text in ax.get_legend().get_texts() if ax.get_legend() else ():
            yield from words("label", text, ax)
        if ax.axison:
            for axis in (ax.xaxis, ax.yaxis):
                if axis.get_visible():
                    yield from words("axis", axis.label, ax)
                    for tick in axis._update_ticks():
                        for text in (tick.label1, tick.label2):
                            yield from words("tick", text, ax)
    for text in figure.texts:
        yield from words("figure", text, None)


def overlap(one, other):
    across = min(one.x1, other.x1) - max(one.x0, other.x0)
    up = min(one.y1, other.y1) - max(one.y0, other.y0)
    return across > SLACK and up > SLACK


def lines(ax):
    """Paths of all lines to be seen on the axes, in pixels."""
    for line in ax.lines:
        if line.get_visible() and line.get_linestyle() not in ("None", "", " ") and line.get_zorder() >= 1.5:
            with np.errstate(all="ignore"):
                points = line.get_transform().transform(line.get_xydata())
            yield ax, points
    for collection in ax.collections:
        if isinstance(collection, LineCollection) and collection.get_visible() and ax.axison:
            for path in collection.get_paths():
                yield ax, collection.get_transform().transform(path.vertices)


def crosses(line, box):
    """Whether a line, where it is on its axes, runs through a box (less a pixel and a half on every side)."""
    ax, points = line
    view = ax.bbox
    x0, x1 = max(box.x0 + 1.5, view.x0), min(box.x1 - 1.5, view.x1)
    y0, y1 = max(box.y0 + 1.5, view.y0), min(box.y1 - 1.5, view.y1)
    if x0 >= x1 or y0 >= y1:
        return False
    points = np.clip(np.where(np.isfinite(points), points, np.nan), -1e5, 1e5)
    start, step = points[:-1], np.diff(points, axis=0)
    with np.errstate(all="ignore"):  # Liang and Barsky: the share of each segment that is inside the box
        enter, leave = np.zeros(len(start)), np.ones(len(start))
        for axis, low, high in ((0, x0, x1), (1, y0, y1)):
            a, b = (low - start[:, axis]) / step[:, axis], (high - start[:, axis]) / step[:, axis]
            still = step[:, axis] == 0
            beside = still & ~((start[:, axis] >= low) & (start[:, axis] <= high))
            first = np.where(still, np.where(beside, np.inf, -np.inf), np.minimum(a, b))
            last = np.where(still, np.where(beside, -np.inf, np.inf), np.maximum(a, b))
            enter, leave = np.maximum(enter, first), np.minimum(leave, last)
    return bool((enter <= leave).any())


def used(ax):
    """The shares of the axes' width and height that what is drawn on them takes; a level counts with its height."""
    boxes, levels = [], []
    for line in ax.lines:
        if line.get_visible() and line.get_transform() == ax.get_yaxis_transform(which="grid"):
            levels += [
                y for y in line.get_transform().transform(line.get_xydata())[:, 1] if ax.bbox.y0 <= y <= ax.bbox.y1
            ]
        if line.get_visible() and len(line.get_xydata()) and line.get_transform() == ax.transData:
            boxes.append(_extent(ax, line.get_transform().transform(line.get_xydata())))
    for patch in [*ax.patches, *ax.collections]:
        if patch.get_visible():
            for path in [patch.get_path()] if hasattr(patch, "get_path") else patch.get_paths():
                if len(path.vertices):
                    boxes.append(_extent(ax, patch.get_transform().transform(path.vertices)))
            if hasattr(patch, "get_offsets") and len(patch.get_offsets()):
                boxes.append(_extent(ax, patch.get_offset_transform().transform(patch.get_offsets())))
    boxes += [_extent(ax, image.get_window_extent().corners()) for image in ax.images]
    boxes = [b for b in boxes if b is not None]
    if not boxes:
        return 0.0, 0.0
    low = np.min([b[0] for b in boxes], axis=0)
    high = np.max([b[1] for b in boxes], axis=0)
    low[1], high[1] = min([low[1], *levels]), max([high[1], *levels])
    return tuple((high - low) / ax.bbox.size)


def _extent(ax, points):
    points = points[np.isfinite(points).all(axis=1)]
    points = points[(points >= ax.bbox.min - 1).all(axis=1) & (points <= ax.bbox.max + 1).all(axis=1)]
    return (points.min(axis=0), points.max(axis=0)) if len(points) else None


def ground(words, figure):
    """The colour under some words: their box's, the image's under their middle, else the axes' or the figure's."""
    box = words.artist.get_bbox_patch()
    if box is not None:
        return to_rgba(box.get_facecolor())
    middle = (words.box.min + words.box.max) / 2
    for image in words.axes.images if words.axes is not None else ():
        column, row = words.axes.transData.inverted().transform(middle)
        rows, columns = image.get_array().shape[:2]
        if 0 <= round(row) < rows and 0 <= round(column) < columns:
            return tuple(image.to_rgba(image.get_array())[round(row), round(column)])
    for collection in reversed(words.axes.collections if words.axes is not None else ()):
        if isinstance(collection, PolyCollection):
            place = collection.get_transform().inverted().transform(middle)
            held = [i for i, path in enumerate(collection.get_paths()) if path.contains_point(place)]
            faces = collection.get_facecolor()
            if held and faces[held[-1] % len(faces)][3] == 1:
                return tuple(faces[held[-1] % len(faces)])
    return to_rgba(figure.get_facecolor())
