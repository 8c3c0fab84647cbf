"""An answer's source in the words that the second world (`world`) has rules for: imports, annotations, dataclasses and
writes in place become calls and assignments."""

import ast
import copy
import re

from .cutting import imports_of

GUARDS = re.compile(r"__|_.*_$")
SLOTS = ("__slots__", "__constants__")  # that change nothing
WORDS = ("__name__", "__qualname__", "__doc__")
# Functions of `World` that `Plainer` calls.
OURS = ("_inplacevar_", "_import_", "_words_", "_type_", "_has_", "_get_", "_set_", "_init_", "_power_")
SIGNS = {ast.Mult: "*=", ast.Div: "/=", ast.Mod: "%=", ast.Pow: "**=", ast.Sub: "-=", ast.LShift: "<<=", ast.Add: "+="}
SIGNS |= {
    ast.RShift: ">>=",
    ast.BitOr: "|=",
    ast.BitAnd: "&=",
    ast.BitXor: "^=",
    ast.FloorDiv: "//=",
    ast.MatMult: "@=",
}


def _init(node):
    """`__init__` of a dataclass; what `field` says of a field is taken out of the class."""
    parameters, sets = ["self"], []
    for one in [one for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)]:
        name, options = one.target.id, {}
        if isinstance(one.value, ast.Call) and re.fullmatch(r"(\w+\.)?field", ast.unparse(one.value.func)):
            options = {option.arg: ast.unparse(option.value) for option in one.value.keywords}
            one.value = next((option.value for option in one.value.keywords if option.arg == "default"), None)
        made = f"({options['default_factory']})()" if "default_factory" in options else None
        default = "..." if made else ast.unparse(one.value) if one.value else None
        if options.get("init") == "False":
            sets.append(f"self.{name} = {made or default}")
            continue
        parameters.append(f"{name}={default}" if default else name)
        sets.append(f"self.{name} = {made} if {name} is ... else {name}" if made else f"self.{name} = {name}")
    for one in node.body:
        if isinstance(one, ast.FunctionDef) and one.name == "__post_init__":
            one.name = "post_init"
            sets.append("self.post_init()")
    lines = "".join(f"\n    {line}" for line in sets) or " pass"
    init = ast.parse(f"def __init__({', '.join(parameters)}):{lines}").body[0]
    for made in ast.walk(init):
        ast.copy_location(made, node.body[0])
    return ast.fix_missing_locations(init)


def _captured(pattern, tests):
    """The pattern with names for values that are attributes; how these compare is added to tests."""
    options = pattern.patterns if isinstance(pattern, ast.MatchOr) else [pattern]
    values = [one.value for one in options if isinstance(one, ast.MatchValue)]
    if len(values) == len(options) and any(isinstance(value, ast.Attribute) for value in values):
        name = f"_case{len(tests)}"
        same = [ast.Compare(ast.Name(name, ast.Load()), [ast.Eq()], [value]) for value in values]
        tests.append(ast.BoolOp(ast.Or(), [*same, ast.Constant(False)]))
        return ast.copy_location(ast.MatchAs(name=name), pattern)
    if isinstance(pattern, ast.MatchSequence):
        pattern.patterns = [_captured(one, tests) for one in pattern.patterns]
    return pattern


class Plainer(ast.NodeTransformer):
    """What RestrictedPython has no rule for, in words that it has rules for; annotations go."""

    def __init__(self, module=""):
        self.module = module or "__main__"

    def visit_Import(self, node):
        found = [(ast.Name(name, ast.Store()), ast.Constant(path)) for name, path in imports_of(node)]
        made = [ast.Assign([name], ast.Call(ast.Name("_import_", ast.Load()), [path], [])) for name, path in found]
        return [ast.fix_missing_locations(ast.copy_location(one, node)) for one in made]

    visit_ImportFrom = visit_Import

    def visit_Attribute(self, node):
        self.generic_visit(node)
        if node.attr not in WORDS or not isinstance(node.ctx, ast.Load):
            return node
        made = ast.Call(ast.Name("_words_", ast.Load()), [node.value, ast.Constant(node.attr)], [])
        return ast.fix_missing_locations(ast.copy_location(made, node))

    def visit_Name(self, node):
        if node.id in OURS:  # a text that calls these itself could hand them anything; this name is refused
            node.id = f"_{node.id}"
        named = node.id == "__name__" and isinstance(node.ctx, ast.Load)
        return ast.copy_location(ast.Constant(self.module), node) if named else node

    def visit_Call(self, node):
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) and not node.keywords else ""
        written_out = len(node.args) > 1 and isinstance(node.args[1], ast.Constant)
        if (name == "type" and len(node.args) == 1) or (name in ("hasattr", "getattr") and written_out):
            ours = {"type": "_type_", "hasattr": "_has_", "getattr": "_get_"}[name]
            node.func = ast.copy_location(ast.Name(ours, ast.Load()), node.func)
        base = node.func.value if isinstance(node.func, ast.Attribute) and node.func.attr == "__init__" else None
        of_super = isinstance(base, ast.Call) and isinstance(base.func, ast.Name) and base.func.id == "super"
        if isinstance(base, ast.Name | ast.Attribute) or of_super:  # torch.nn.Module.__init__(self)
            node.func, node.args = ast.copy_location(ast.Name("_init_", ast.Load()), base), [base, *node.args]
        if name == "setattr" and len(node.args) == 3:
            node.func = ast.copy_location(ast.Name("_set_", ast.Load()), node.func)
        return node

    def visit_BinOp(self, node):
        self.generic_visit(node)
        whole = isinstance(node.right, ast.Constant) and type(node.right.value) is int
        if not isinstance(node.op, ast.Pow) or whole:
            return node
        made = ast.Call(ast.Name("_power_", ast.Load()), [node.left, node.right], [])
        return ast.fix_missing_locations(ast.copy_location(made, node))

    def visit_match_case(self, node):
        """`case A.x:` as `case _case0 if _case0 == A.x:`; a pattern cannot hold the call that looks at an attribute."""
        tests, place = [], node.pattern
        node.pattern = _captured(place, tests)
        if tests:
            node.guard = ast.BoolOp(ast.And(), [*tests, node.guard or ast.Constant(True)])
            ast.fix_missing_locations(ast.copy_location(node.guard, place))
        return self.generic_visit(node)

    def visit_ClassDef(self, node):
        slots = [one for one in node.body if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) in SLOTS]
        node.body = [one for one in node.body if one not in slots] or [ast.copy_location(ast.Pass(), slots[0])]
        fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
        others = [one for one in node.body if not isinstance(one, ast.AnnAssign | ast.Expr)]
        bases = " ".join(map(ast.unparse, node.bases))
        if re.search(r"\bTypedDict$", bases):
            made = ast.Assign([self.visit(ast.Name(node.name, ast.Store()))], ast.Name("dict", ast.Load()))
            return ast.fix_missing_locations(ast.copy_location(made, node))
        if re.search(r"\bNamedTuple$", bases):
            named = ast.Call(ast.Name("_import_", ast.Load()), [ast.Constant("collections.namedtuple")], [])
            names = ast.Constant(" ".join(ast.unparse(one.target) for one in fields))
            defaults = ast.List([self.visit(one.value) for one in fields if one.value], ast.Load())
            made = ast.Call(named, [ast.Constant(node.name), names], [ast.keyword("defaults", defaults)])
            if others:
                node.bases, node.body = [], others
                node = self.generic_visit(node)
                node.bases = [ast.fix_missing_locations(ast.copy_location(made, node))]
                return node
            made = ast.Assign([self.visit(ast.Name(node.name, ast.Store()))], made)
            return ast.fix_missing_locations(ast.copy_location(made, node))
        plain = [one for one in node.decorator_list if not re.search(r"\bdataclass(\(.*\))?$", ast.unparse(one))]
        if len(plain) < len(node.decorator_list):  # its fields stand in the annotations, which go
            node.body.append(_init(node))
            node.decorator_list = plain
        return self.generic_visit(node)

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_FunctionDef(self, node):
        node.returns = None
        return self.generic_visit(node)

    def visit_Assign(self, node):
        target, *more = node.targets
        if isinstance(target, ast.Attribute) and target.attr in WORDS and not more:  # nobody asks what it is called
            return ast.copy_location(ast.Pass(), node)
        return self.generic_visit(node)

    def visit_AnnAssign(self, node):
        self.generic_visit(node)
        made = ast.Assign([node.target], node.value) if node.value else ast.Pass()
        return ast.copy_location(made, node)

    def visit_AugAssign(self, node):
        self.generic_visit(node)
        if isinstance(node.target, ast.Name):
            return node
        old = copy.deepcopy(node.target)
        old.ctx = ast.Load()
        operation = ast.Constant(SIGNS[type(node.op)])
        value = ast.Call(ast.Name("_inplacevar_", ast.Load()), [operation, old, node.value], [])
        made = ast.copy_location(ast.Assign([node.target], value), node)
        return ast.fix_missing_locations(made)
