"""The judge's second world (`check.world`): RestrictedPython rewrites the source, and is the wall."""

import ast

import torch
from RestrictedPython import RestrictingNodeTransformer, compile_restricted_exec
from RestrictedPython.Guards import guarded_iter_unpack_sequence, guarded_unpack_sequence

from ..check.allowed import MAGIC
from ..check.cutting import FILE
from ..check.plainer import GUARDS, OURS
from ..check.world import NotUnderstood, World, where

POINTERS = {"cdata"}  # an option of torch.Tensor: an address


class Policy(RestrictingNodeTransformer):
    """RestrictedPython's rules, but for names of one underscore, `nonlocal` and `match`."""

    def check_name(self, node, name, allow_magic_methods=False):
        bound = name == "super" and not isinstance(getattr(node, "ctx", None), ast.Load)
        guarded = name and GUARDS.match(name) and not (allow_magic_methods and name in MAGIC and node.col_offset)
        if bound or guarded:
            self.error(node, name)

    def visit_Name(self, node):
        if node.id not in OURS:
            self.check_name(node, node.id)
        return node

    def visit_Constant(self, node):
        if type(node.value) is complex:
            self.error(node, "complex")
        return node

    def visit_Attribute(self, node):
        if GUARDS.match(node.attr):
            self.error(node, f".{node.attr}")
        own, node.attr = node.attr, node.attr.lstrip("_") or "_"
        made = super().visit_Attribute(node)
        if isinstance(made, ast.Call):
            made.args[1].value = own
        else:
            made.attr = own
        return made

    def visit_Call(self, node):  # RestrictedPython's refuses a function of one's own that is called eval
        if any(keyword.arg in POINTERS for keyword in node.keywords):
            self.error(node, "cdata")
        spread = any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords)
        node = self.node_contents_visit(node)
        if spread:
            node.args.insert(0, node.func)
            node.func = ast.copy_location(ast.Name("_apply_", ast.Load()), node.args[0])
        return node

    def visit_ClassDef(self, node):
        return ast.copy_location(super().visit_ClassDef(node), node)

    visit_Nonlocal = visit_Global = RestrictingNodeTransformer.node_contents_visit
    visit_Match = visit_match_case = visit_MatchSingleton = visit_MatchOr = visit_Nonlocal
    visit_MatchSequence = visit_Nonlocal

    def visit_MatchClass(self, node):
        if not isinstance(node.cls, ast.Name) or node.patterns or node.kwd_patterns:
            self.error(node, "case")
        return self.node_contents_visit(node)

    def visit_MatchValue(self, node):
        if isinstance(node.value, ast.Attribute):  # those that `Plainer` has no other words for
            self.error(node, "case")
        return self.node_contents_visit(node)

    def visit_MatchAs(self, node):
        self.check_name(node, node.name)
        return self.node_contents_visit(node)

    visit_MatchStar = visit_MatchAs


def _apply(function, *arguments, **options):
    if POINTERS & {*options}:
        raise NotUnderstood(where(0, "cdata"))
    return function(*arguments, **options)


def _attribute(module, name, found=torch.nn.Module.__getattr__):
    """Of a module that has a part of a magic name: `copy` and NumPy ask the object for these, not its class."""
    if name.startswith("__"):
        raise AttributeError(name)
    return found(module, name)


class Restricted(World):
    known = {"_getiter_": iter, "_apply_": _apply}
    known |= {"_unpack_sequence_": guarded_unpack_sequence, "_iter_unpack_sequence_": guarded_iter_unpack_sequence}

    def answer(self, code, name):
        torch.nn.Module.__getattr__ = _attribute  # of this process, which serves this world alone
        return super().answer(code, name)

    @staticmethod
    def compiled(module):
        """Raises: NotUnderstood."""
        made = compile_restricted_exec(module, FILE, policy=Policy)
        if made.errors:
            line, _, words = made.errors[0].removeprefix("Line ").partition(": ")
            raise NotUnderstood(where(int(line) if line.isdecimal() else 0, words))
        return made.code
