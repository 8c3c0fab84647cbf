"""The wiring of every residual branch, read off the traced graph.

A residual branch is an addition one of whose terms, passed on unchanged or with a factor, is also what the other terms
were computed from, by way of learned weights. Where norms stand around it gives the name: in front of the branch,
behind it, behind the sum.
"""

from collections import Counter
from dataclasses import dataclass, field

from ..i18n import TERMS
from .trace import Node

NOT_OURS = "not one of ours"
NAMES = {
    (False, False, False): "residual",
    (True, False, False): "pre_norm",
    (False, True, False): "res_post_norm",
    (True, True, False): "peri_norm",
    (False, False, True): "post_norm",
}


@dataclass
class Branch:
    """One residual branch.

    total: the node of the sum. source: the state that the skip brings. output: the branch's term. skip, scale: factors
    of the two. reads: factor between the norm and the branch. parallel: how many branches the sum has.
    """

    total: Node
    source: Node
    output: Node
    block: int | None
    placement: str = NOT_OURS
    norm: dict | None = None
    out_norm: dict | None = None
    skip: float = 1.0
    scale: float = 1.0
    learned: str | None = None
    reads: float = 1.0
    inner_norms: int = 0
    parallel: int = 1
    post: Node | None = None
    variance: float = float("nan")
    why: str = ""
    places: tuple = field(default=(False, False))


def branches(graph):
    """All residual branches of a run in their order, with the names of their wirings."""
    sums = [n for n in graph.nodes if n.op in ("add", "sub") and len(n.sources) > 1 and graph.live >> n.index & 1]
    inner, found = set(), []
    for total in reversed(sums):
        if total.index not in inner:
            terms = _terms(graph, total, inner)
            found = (_gated(graph, total, terms) or _residual(graph, total, terms)) + found
    _name(graph, found)
    return found


def _terms(graph, total, inner, factor=1.0):
    """(source, operand, factor, learned) of the terms; sums within, used for nothing else, are taken apart."""
    terms = []
    for position, operand in enumerate(o for o in total.operands if isinstance(o, Node) and o.active):
        sign = 1.0 if position == 0 else total.alpha * (-1.0 if total.op == "sub" else 1.0)
        source, step, learned, passed = graph.walk_up(operand)
        alone = all(len(graph.consumers.get(n.index, [])) == 1 for n in passed)
        if source.op in ("add", "sub") and len(source.sources) > 1 and alone and not source.norm:
            inner.add(source.index)
            terms += _terms(graph, source, inner, factor * sign * step)
        else:
            variance = total.variances.get(operand.index, float("nan")) * sign**2
            terms.append((source, operand, factor * sign * step, learned, variance))
    return terms


def _residual(graph, total, terms):
    best = max(terms, key=lambda t: sum(_leads(graph, t[0], other[0]) for other in terms if other is not t))
    outer = [t for t in terms if t is not best and _leads(graph, best[0], t[0])]
    if not outer:
        return []
    for state, factor, learned in graph.way_up(best[1]):  # the skip brings what the branches read, and nothing before
        if any(_leads(graph, state, t[0]) for t in outer):
            best = (state, best[1], best[2] / (graph.walk_up(best[1])[1] or 1.0) * factor, learned)
            break
    if best[3]:
        return []
    made = []
    for source, operand, factor, learned, variance in outer:
        walked = source
        branch = Branch(total, best[0], operand, _block(graph, best[0], total, walked), skip=best[2], scale=factor)
        branch.learned, branch.parallel, branch.variance = learned, len(outer), variance
        _look_inside(graph, branch, walked)
        made.append(branch)
    return made


def _leads(graph, source, end):
    return graph.comes_from(end, source) and bool(graph.weights_between(source, end))


def _block(graph, source, total, end):
    """The block that the branch is in. (Its sum may stand between two blocks, or in the one after.)"""
    blocks = [w.block for w in graph.weights_between(source, end) if w.block is not None]
    return blocks[-1] if blocks else total.block


def _look_inside(graph, branch, end):
    """Norms at both ends of the branch, and those within."""
    source = branch.source
    inside = [
        n
        for n in graph.nodes[source.index + 1 : end.index + 1]
        if graph.live >> n.index & 1 and graph.comes_from(n, source) and (n is end or graph.comes_from(end, n))
    ]
    within = {n.index for n in inside}
    entries = [n for n in graph.readers(source) if n.index in within]
    first = [n for n in entries if n.norm]
    if first and len(first) == len(entries):
        branch.norm = first[0].norm
        if len(uses := graph.consumers.get(first[0].index, [])) == 1 and (step := graph.step_up(uses[0])):
            branch.reads = step[1] if uses[0].op in ("mul", "div") else 1.0
    elif first:
        branch.why = "some of what the branch reads is normalised, some is not"
    ends = [end] if end.norm and end not in first else []
    if ends:
        branch.out_norm = end.norm
    branch.inner_norms = sum(1 for n in inside if n.norm) - (len(first) if branch.norm else 0) - len(ends)
    sums = [n for n in inside if n.op == "add" and n is not end and len(n.sources) > 1]
    if any(_skips_within(graph, n, source) for n in sums):
        branch.why = "a skip over other residual branches"
    branch.places = bool(branch.norm), bool(branch.out_norm)


def _skips_within(graph, total, source):
    terms = [graph.walk_up(o)[0] for o in total.sources]
    return any(
        a.index > source.index and a is not b and graph.comes_from(a, source) and _leads(graph, a, b)
        for a in terms
        for b in terms
    )


def _gated(graph, total, terms):
    """T·f(x) + (1 − T)·x: two products whose gates add up to 1."""
    if len(terms) != 2 or any(t[0].op != "mul" or len(t[0].sources) != 2 for t in terms):
        return []
    one, two = (t[0].sources for t in terms)
    for gate, output in (one, one[::-1]):
        for rest, skip in (two, two[::-1]):
            for f, x, opened in ((output, skip, gate), (skip, output, rest)):
                a, b, source = gate.sample, rest.sample, graph.walk_up(x)[0]
                if a is None or b is None or a.shape != b.shape or not _leads(graph, source, f):
                    continue
                if (a + b - 1).abs().max() < 1e-3:
                    open_ = float(opened.sample.mean())
                    made = Branch(
                        total, source, f, _block(graph, source, total, f), "highway", scale=open_, skip=1 - open_
                    )
                    made.variance = float(f.sample.var(unbiased=False))
                    return [made]
    return []


def _name(graph, found):
    """Names for all branches; the last sum of a stack may have the final norm behind it, which is not its own."""
    plain = [b for b in found if b.placement == NOT_OURS]
    for branch in plain:
        readers = graph.readers(branch.total)
        branch.post = readers[0] if len(readers) == 1 and readers[0].norm else None
        if not branch.post and len(readers) == 1 and readers[0].op in ("relu", "threshold", "gelu", "tanh", "silu"):
            branch.why = f"{readers[0].op} after the sum"
    usual = Counter(bool(b.post) for b in plain[:-1])
    for branch in plain:
        finals = usual[False] >= usual[True] if usual else any(branch.places)
        twice = branch.post and any(reader.norm for reader in graph.readers(branch.post))  # its own, then the final one
        if branch.post and branch.total is plain[-1].total and finals and not twice:
            branch.post = None
        branch.placement = _placement(branch)
    if sum(b.placement == "scaled_pre_norm" for b in plain) > 1:  # its first layer divides by 1
        for branch in plain:
            if branch.placement == "pre_norm":
                branch.placement = "scaled_pre_norm"


def _placement(branch):
    if branch.why:
        return NOT_OURS
    if branch.parallel > 1:
        branch.why = f"{branch.parallel} branches read the same state"
        return "parallel"
    name = NAMES.get((*branch.places, bool(branch.post)), NOT_OURS)
    if name == NOT_OURS:
        branch.why = "a norm behind the sum and one at the branch"
    if branch.post:
        branch.norm = branch.post.norm
    elif not branch.norm:
        branch.norm = branch.out_norm
    if name == "post_norm" and abs(branch.skip - 1) > 1e-3:
        return "deep_norm"
    if name == "residual" and branch.learned == "scalar":
        return "rezero"
    if name == "pre_norm" and branch.learned == "vector":
        return "layer_scale"
    if name == "pre_norm" and abs(branch.reads - 1) > 1e-3:
        return "scaled_pre_norm"
    return name


def has_skip(graph, start, end):
    """Whether anything gets from one node to the other without passing learned weights."""
    waiting, seen = [end], set()
    while waiting:
        node = waiting.pop()
        if node is start:
            return True
        if node.index in seen or graph.weighs(node) or not graph.comes_from(node, start):
            continue
        seen.add(node.index)
        waiting += node.sources
    return False


def diagram(graph, start, ends, limit=60):
    """What happens between two nodes, step by step: [(step, operation, inputs)], norms and products with weights as
    wholes; step 0 is the state that goes in."""
    steps, rows = {start.index: 0}, [(0, "x", ())]
    reach = 0
    for end in ends:
        reach |= graph.before[end.index] | 1 << end.index

    def step_of(node):
        while node.index not in steps and (node.op in PASSED_OVER or node.output) and node.sources:
            node = node.sources[0]
        return steps.get(node.index)

    for node in graph.nodes[start.index + 1 :]:
        if not (reach >> node.index & 1 and node.active and graph.comes_from(node, start)):
            continue
        if node.op in PASSED_OVER or len(rows) > limit:
            continue
        inputs = tuple(dict.fromkeys(s for s in map(step_of, node.sources) if s is not None))
        if graph.weighs(node):
            words = "weights"
        else:
            words = node.norm["kind"] if node.norm else SIGNS.get(node.op, node.op.strip("_"))
        steps[node.index] = len(rows)
        rows.append((len(rows), words, inputs))
    return rows


PASSED_OVER = {
    *("view", "reshape", "_unsafe_view", "expand", "permute", "transpose", "t", "unsqueeze", "squeeze", "alias"),
    *("detach", "clone", "contiguous", "_to_copy", "slice", "select", "written", "copy", "split", "unbind", "chunk"),
}
SIGNS = {
    "add": "+",
    "sub": "−",
    "mul": "×",
    "div": "÷",
    "_scaled_dot_product_flash_attention_for_cpu": "attention",
    "_scaled_dot_product_flash_attention": "attention",
    "_scaled_dot_product_efficient_attention": "attention",
    "_softmax": "softmax",
}


def wiring_name(placement):
    """What a wiring is called, (中文, English)."""
    own = {NOT_OURS: ("不是课里的接法", NOT_OURS), "parallel": ("并行", "parallel")}
    return own.get(placement) or TERMS[placement]
