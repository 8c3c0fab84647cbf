"""The blocks of a model: the modules that it repeats, found by their structure."""

from collections import Counter, defaultdict

from torch import nn

from ..i18n import text

HOLDERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def repeated_blocks(model, blocks=None):
    """The modules that the model is a stack of, in the order of the model.

    Found by structure: of all groups of modules that are alike (of one class, or neighbours with parameters of the
    same names and shapes), the one that holds the most parameters; stages that are themselves stacks are opened.

    Args: blocks: a list of modules, or the name of one that holds them (as "model.layers"), or of a single module
        that the model runs several times.
    Raises: ValueError where there are none, with what to do in both languages.
    """
    if blocks is not None:
        return _given(model, blocks)
    named = {}  # module: its parameters, with their names
    groups = [group for group in _alike(model, named) if len(group) > 1]
    groups = [group for group in groups if all(map(_has_children, group))] or groups  # a matrix is a block at need only
    if not groups:
        raise ValueError(
            text(
                "这个模型里没有重复的块；用 blocks= 指定：一个模块列表，或者名字，例如 blocks='model.layers'",
                "no repeated blocks in this model; give blocks=, a list of modules or a name, as blocks='model.layers'",
            )
        )
    group = max(groups, key=lambda group: _size(group, named))
    while inner := _inside(group, named):
        group = inner
    return group


def _given(model, blocks):
    if not isinstance(blocks, str):
        if not (blocks := list(blocks)) or not all(isinstance(block, nn.Module) for block in blocks):
            raise ValueError(text("blocks 里要有模块，而且都是模块", "blocks must hold modules, at least one"))
        return blocks
    try:
        found = model.get_submodule(blocks)
    except AttributeError:
        known = ", ".join(dict.fromkeys(name.split(".")[0] for name, _ in model.named_modules() if name))
        message = f"模型里没有 {blocks!r}；第一层有 {known}", f"the model has no {blocks!r}; it begins with {known}"
        raise ValueError(text(*message)) from None
    return list(found) if isinstance(found, (nn.Sequential, nn.ModuleList)) else [found]


def _alike(model, named):
    modules = list(model.modules())
    by_class = defaultdict(list)
    for module in modules:
        if not type(module).__module__.startswith("torch.nn"):
            by_class[type(module)].append(module)
    for group in by_class.values():
        nested = {id(inner) for module in group for inner in module.modules() if inner is not module}
        if not any(id(module) in nested for module in group):
            yield group
    for parent in modules:
        children = [child for child in parent.children() if _named(child, named)]
        shapes = [tuple((name, p.shape) for name, p in _named(child, named)) for child in children]
        by_shape = defaultdict(list)
        for shape, child in zip(shapes, children):
            by_shape[shape].append(child)
        yield from by_shape.values()
        if isinstance(parent, HOLDERS) and all(_has_children(child) or not _torchs(child) for child in children):
            counts = Counter(map(type, children)) + Counter(shapes)
            if children and 2 * max(counts.values()) > len(children):  # one odd block among its like
                yield children


def _inside(stages, named):
    """The blocks of stages: modules with parts of their own, several in a stage, that hold nearly all it has."""
    found = []
    for stage in stages:
        groups = [g for g in _alike(stage, named) if len(g) > 1 and all(_has_children(m) for m in g)]
        best = max(groups, key=lambda group: _size(group, named), default=[])
        if len(best) < 2 or _size(best, named)[0] < 0.8 * _size([stage], named)[0]:
            return None
        found += best
    return found


def _size(group, named):
    """More parameters first, then fewer modules: what holds the others comes before what it holds."""
    return sum(p.numel() for module in group for _, p in _named(module, named)), -len(group)


def _named(module, named):
    """`named_parameters` as a list, each module's put together once."""
    if module not in named:
        named[module] = [(name, p) for name, p in module._parameters.items() if p is not None]
        for prefix, child in module.named_children():
            named[module] += ((f"{prefix}.{name}", p) for name, p in _named(child, named))
    return named[module]


def _has_children(module):
    return any(True for _ in module.children())


def _torchs(module):
    return type(module).__module__.startswith("torch.nn")
