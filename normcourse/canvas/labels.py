"""Where the labels go. Names of curves, closed forms and levels are placed together, when a drawing is done: beside
each other, off the lines, and inside the figure, whose panels leave them room.

Places are counted in the figure's pixels and set as shares of the axes, so that they hold at any density.
"""

import itertools

import numpy as np
from matplotlib import patheffects

from .look import legible, tone

GAP = 9  # pixels from a line's end to its name
ROOM = 8  # pixels between a panel's labels and what is beside them
EDGE = 14  # pixels: a line that ends so near the axes' edge has its name in the margin
SIZES = {"end": 10.5}
SMALLEST_TITLE = 9.5


def begin(ax):
    """Nothing is drawn yet."""
    ax._normcourse_labels = []


def keep(ax, name, make):
    """The artist of that name on these axes, made where there is none."""
    kept = ax.__dict__.setdefault("_normcourse_kept", {})
    if name not in kept:
        kept[name] = make()
    kept[name].set_visible(True)
    return kept[name]


def name_line(ax, name, words, colour, spots, kind, rank=0.0):
    """Ask for words at one of `spots`, points in data coordinates, the best one first.

    kind: "end", beside the end of a curve; "line", anywhere along one; "above" or "below", along a level.
    rank: of labels that are equally high, the one of higher rank goes above.
    """
    ax.__dict__.setdefault("_normcourse_labels", []).append((name, words, colour, spots, kind, rank))


def arrange(figure, axes):
    """Give the panels of a finished drawing their widths, and its labels their places."""
    renderer = figure.canvas.get_renderer()
    for ax in axes:
        ax.apply_aspect()
    labels = {ax: [_Label(ax, renderer, *asked) for asked in ax._normcourse_labels] for ax in axes}
    if figure.axes == list(axes):
        _divide(figure, axes, labels, renderer)
    for ax in axes:
        _place(ax, labels[ax], renderer)
    _fit_titles(figure, axes, renderer)
    for mark in (mark for ax in axes for mark in (*ax.texts, ax._left_title, ax.title)):
        if mark.get_text():
            box = mark.get_bbox_patch()
            ground = getattr(mark, "_normcourse_ground", None) or (box.get_facecolor() if box else None)
            mark.set_color(legible(mark.get_color(), ground))


class _Label:
    """Words that look for a place; `width` and `height` are in pixels."""

    def __init__(self, ax, renderer, name, words, colour, spots, kind, rank):
        self.ax, self.spots, self.kind, self.rank = ax, spots, kind, rank
        style = {"va": "bottom", "ha": "left", "fontsize": SIZES.get(kind, 10), "zorder": 6}
        style |= {"transform": ax.transAxes, "linespacing": 1.1}
        self.mark = keep(ax, f"label {name}", lambda: ax.text(0, 0, "", **style))
        self.mark.set(text=words, color=colour, visible=True)
        self.mark.set_path_effects([patheffects.withStroke(linewidth=3, foreground=tone("paper"))])
        box = self.mark.get_window_extent(renderer)
        self.width, self.height = box.width, box.height

    def put(self, x, y):
        left, bottom, right, top = self.ax.bbox.extents
        self.mark.set_position(((x - left) / (right - left), (y - bottom) / (top - bottom)))
        self.box = np.array([x, y, x + self.width, y + self.height])


def _divide(figure, axes, labels, renderer):
    """Panels side by side leave room for ticks on their left and for the names of their curves on their right; the rest
    is theirs. Where `gridspec_kw` placed them, they stay."""
    grid = axes[0].get_subplotspec().get_gridspec()
    if grid.nrows > 1 or grid.ncols != len(axes) or figure._normcourse_new[1].get("gridspec_kw"):
        return
    left, right = [], []
    for ax in axes:
        ticks = ax.yaxis.get_tightbbox(renderer) if ax.axison and ax.yaxis.get_visible() else None
        out = ax.bbox.x0 - ticks.x0 if ticks is not None else 0.0
        left.append(ROOM + 6 * np.ceil(out / 6))
        ends = [GAP + label.width for label in labels[ax] if label.kind == "end"]
        ends.append(12.0 if ax.axison else 0.0)  # half the name of the last tick
        ax._normcourse_ticks = max(out, 0.0)
        right.append(ROOM + 6 * np.ceil(max(ends, default=0.0) / 6))
    total = figure.bbox.width
    free = total - sum(left) - sum(right)
    ratios = np.array(grid.get_width_ratios(), float)
    if free < 0.4 * total:
        return
    x, widths = 0.0, free * ratios / ratios.sum()
    for ax, before, width, after in zip(axes, left, widths, right):
        place = ax.get_position()
        ax.set_position([(x + before) / total, place.y0, width / total, place.height])
        x += before + width + after


def _place(ax, labels, renderer):
    """The names in the margin, spread over its height; then each of the others where it is least in the way."""
    if not labels:
        return
    lines, fixed = _line_points(ax), _other_texts(ax, labels, renderer)
    left, bottom, right, top = ax.bbox.extents
    bounds = _bounds(ax)
    ends = {label: ax.transData.transform(label.spots[0]) for label in labels if label.kind == "end"}
    for label, (x, y) in ends.items():
        ends[label] = min(max(x, left), right), y
    placed = list(fixed)
    columns = []
    for label in sorted(ends, key=lambda label: -ends[label][0]):
        if columns and abs(ends[columns[-1][0]][0] - ends[label][0]) < EDGE:
            columns[-1].append(label)
        else:
            columns.append([label])
    for column in columns:
        x = max(ends[label][0] for label in column)
        _spread(column, [ends[label][1] for label in column], x + GAP, bottom - 4, top + 6)
        above = np.inf
        for label in sorted(column, key=lambda label: -label.box[1]):
            if right - x >= EDGE and _cost(label.box, placed, lines, bounds) > 0:
                places = _around(label, *ends[label], top, bottom)  # in the order that the column has
                places = ((x, y, worse + 3000 * (y + label.height > above + 1)) for x, y, worse in places)
                _search(label, places, placed, lines, bounds)
            above = label.box[1]
            placed.append(label.box)
    for label in labels:
        if label.kind != "end":
            _search(label, _along(ax, label), placed, lines, bounds)
            placed.append(label.box)


def _spread(column, heights, x, low, high):
    """Labels in a column at x, as near to these heights as they can be without covering each other."""
    heights = np.clip(np.nan_to_num(heights, nan=low, posinf=1e6, neginf=-1e6), low - 1e6, high + 1e6)
    order = sorted(range(len(column)), key=lambda i: (round(float(np.clip(heights[i], low, high)), 1), column[i].rank))
    sizes = np.array([column[i].height for i in order])
    before = np.concatenate([[0.0], np.cumsum(sizes)[:-1]]) + 1.0 * np.arange(len(order))
    wanted = np.clip(heights[order], low + sizes / 2, high - sizes / 2) - sizes / 2 - before
    blocks = []  # of labels that touch: [mean wish, how many]
    for wish in wanted:
        blocks.append([wish, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, n), (b, m) = blocks[-2:]
            blocks[-2:] = [[(a * n + b * m) / (n + m), n + m]]
    bottoms = np.repeat([wish for wish, _ in blocks], [n for _, n in blocks])
    room = high - (before[-1] + sizes[-1])
    for i, offset in zip(order, np.clip(bottoms, low, max(low, room))):
        column[i].put(x, offset + before[order.index(i)])


def _search(label, places, placed, lines, bounds):
    """Put it at the place that costs least; `places` are (x, y, how much worse than the best)."""
    best = None
    for x, y, worse in places:
        box = np.array([x, y, x + label.width, y + label.height])
        if best is not None and worse >= best[0]:
            continue
        cost = worse + _cost(box, placed, lines, bounds)
        if best is None or cost < best[0]:
            best = cost, x, y
    label.put(*best[1:])


def _cost(box, placed, lines, bounds):
    """How bad a box is: over other words or out of bounds worst, over lines by their length."""
    cost = 0.0
    for other in placed:
        across = min(box[2], other[2]) - max(box[0], other[0]) + 2
        up = min(box[3], other[3]) - max(box[1], other[1])
        if across > 0 and up > 0:
            cost += 3000 + across * up
    out = max(bounds[0] - box[0], bounds[1] - box[1], box[2] - bounds[2], box[3] - bounds[3], 0.0)
    cost += 3000 + 20 * out if out > 0.5 else 0.0
    x, y = lines
    covered = ((x > box[0] - 1) & (x < box[2] + 1) & (y > box[1] - 2) & (y < box[3] + 2)).sum()
    return cost + 12.0 * covered


def _around(label, x, y, top, bottom):
    """Places about a curve's end that is inside the axes."""
    w, h = label.width, label.height
    for step in (0, 0.6, 1.2, 1.8, 2.6, 3.5, 5.0, 7.0):
        for sign in (1, -1) if step else (1,):
            for across in (GAP, -w / 2, -w - GAP, -1.5 * w):
                place = min(max(y - h / 2 + sign * step * h, bottom - 2), top - h)
                yield x + across, place, 8 * step + (0 if across == GAP else 12)


def _along(ax, label):
    """Places along a closed form or a level."""
    w, h = label.width, label.height
    left, right = ax.bbox.x0, ax.bbox.x1
    if label.kind == "line":
        points = ax.transData.transform(label.spots)
        for rank, (x, y) in enumerate(points[:: max(1, len(points) // 40)]):
            for lift in (5, 12, 22, 36, 54, 76):
                for across in (6, -w - 6, -w / 2):
                    yield x + across, y + lift, rank + lift - 5
                    yield x + across, y - lift - h, rank + lift + 1
        return
    y = ax.transData.transform((ax.get_xlim()[0], label.spots[0][1]))[1]
    sides = {"above": y + 4, "below": y - h - 4}
    for share in np.linspace(0, 1, 13):
        x = left + 8 + share * (right - left - w - 12)
        yield x, sides[label.kind], 20 * share
        yield x, sides["below" if label.kind == "above" else "above"], 20 * share + 9


def _bounds(ax):
    """Where labels may be: over the axes, and on their right up to the next panel or the figure's edge."""
    left, bottom, right, top = ax.bbox.extents
    end = ax.figure.bbox.width - 2
    for other in ax.figure.axes:
        if other is not ax and other.bbox.x0 > left + 1 and other.bbox.y0 < top and other.bbox.y1 > bottom:
            end = min(end, other.bbox.x0 - vars(other).get("_normcourse_ticks", 0.0) - 3)
    return left + 1, bottom - 4, max(end, right), top + 6


def _line_points(ax):
    """Points of all lines on the axes, three pixels apart, in pixels: arrays x, y."""
    left, bottom, right, top = ax.bbox.extents
    found = [np.zeros((0, 2))]
    for line in ax.lines:
        if not line.get_visible() or line.get_zorder() < 1.5:
            continue
        with np.errstate(all="ignore"):
            points = line.get_transform().transform(line.get_xydata())
        points = points[np.isfinite(points).all(axis=1)]
        points = np.clip(points, (left - 4000, bottom - 4000), (right + 4000, top + 4000))
        radius = line.get_markersize() / 144 * ax.figure.dpi if line.get_marker() not in ("None", "", None) else 0.0
        found += [np.add(points, (a * radius, b * radius)) for a, b in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))]
        if len(points) > 1 and line.get_linestyle() not in ("None", ""):
            length = np.concatenate([[0], np.hypot(*np.diff(points, axis=0).T).cumsum()])
            at = np.arange(0, min(length[-1], 20000), 3.0)
            found.append(np.stack([np.interp(at, length, points[:, i]) for i in (0, 1)], axis=1))
    x, y = np.concatenate(found).T
    inside = (x >= left - 1) & (x <= right + 1) & (y >= bottom - 1) & (y <= top + 1)
    return x[inside], y[inside]


def _other_texts(ax, labels, renderer):
    """Boxes of the words that are where they are."""
    ours = {label.mark for label in labels}
    texts = [t for t in ax.texts if t not in ours and t.get_visible() and t.get_text().strip()]
    return [np.array(t.get_window_extent(renderer).extents) for t in texts]


def _fit_titles(figure, axes, renderer):
    """A title that would run into the next panel or out of the figure becomes smaller, within limits."""
    for ax in axes:
        title, start = ax._left_title, ax.bbox.x0
        if not title.get_text():
            continue
        others = [o for o in axes if o.bbox.x0 > start + 1 and o.bbox.y0 < ax.bbox.y1 and o.bbox.y1 > ax.bbox.y0]
        end = min([o.bbox.x0 for o in others], default=figure.bbox.width) - ROOM
        if not others and len(axes) == 1:
            start = ROOM  # over the names of the ticks, too
        width = title.get_window_extent(renderer).width
        free = end - ax.bbox.x0
        if width > free and len(axes) == 1:
            title.set_x((max(start, end - width) - ax.bbox.x0) / ax.bbox.width)
            free = end - start
        if width > free:
            title.set_fontsize(max(SMALLEST_TITLE, title.get_fontsize() * free / width))


def pairs(boxes):
    """Pairs of names whose boxes overlap by more than a pixel; boxes: (name, (x0, y0, x1, y1))."""
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        if min(a[2], b[2]) - max(a[0], b[0]) > 1 and min(a[3], b[3]) - max(a[1], b[1]) > 1:
            yield one, other
