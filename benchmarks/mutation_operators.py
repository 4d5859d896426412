"""The small defects of `make mutants`, as changes of a syntax tree: what a slip of the hand would do.

Comparisons (< and <=, == and !=, ...), arithmetic (+ and -, * and /, ...), and/or, a `not` or a sign left out, numbers,
True and False, a condition turned round, a call left out that only changes a value (detach, abs, clamp, relu, ...),
mean for sum and min for max, two arguments swapped, a statement left out.

Not changed: annotations, texts, assertions (they are there for the type checker), imports, decorators, and the messages
of refusals.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
# x.detach() or F.relu(x) becomes x: the name is that of a method or of a function, whose first argument is kept.
_LEFT_OUT = {"detach", "abs", "clamp", "clamp_", "relu", "sqrt", "square", "log", "exp", "normalize", "nan_to_num"}
_LEFT_OUT |= {"where", "masked_fill", "flip", "sigmoid", "softmax", "round"}
_OTHER_NAME = {"mean": "sum", "sum": "mean", "min": "max", "max": "min", "any": "all", "all": "any"}
_OTHER_NAME |= {"amin": "amax", "amax": "amin", "argmax": "argmin", "argmin": "argmax"}


@dataclass(frozen=True)
class Mutant:
    file: str  # relative to the checkout
    area: str
    number: int  # among the changes of its file
    line: int
    end_line: int
    in_function: bool
    before: str
    after: str
    text: str  # of the line

    def __str__(self) -> str:
        return f"{self.file}:{self.line}  {self.before}  ->  {self.after}    | {self.text}"


def mutants_of(file: str, source: str, area: str) -> list[Mutant]:
    """All small changes of one file."""
    tree, lines = ast.parse(source), source.splitlines()
    found = []
    for number, (node, place) in enumerate(_changes(tree)):
        found.append(
            Mutant(
                file=file,
                area=area,
                number=number,
                line=place.old.lineno,
                end_line=place.old.end_lineno or place.old.lineno,
                in_function=place.in_function,
                before=_one_line(place.old),
                after=_one_line(node),
                text=lines[place.old.lineno - 1].strip(),
            )
        )
    return found


def mutated_tree(source: str, number: int) -> ast.Module:
    """The tree of a file with one change; its line numbers are those of the file."""
    tree = ast.parse(source)
    for at, (new, place) in enumerate(_changes(tree)):
        if at == number:
            place.put(ast.copy_location(new, place.old))
            return ast.fix_missing_locations(tree)
    raise IndexError(f"the file has no change number {number}")


@dataclass(frozen=True)
class _Place:
    """Where a node stands in its parent."""

    parent: ast.AST
    name: str
    position: int | None  # in a list
    old: ast.expr | ast.stmt
    in_function: bool

    def put(self, new: ast.AST) -> None:
        if self.position is None:
            setattr(self.parent, self.name, new)
        else:
            getattr(self.parent, self.name)[self.position] = new


def _changes(tree: ast.Module) -> Iterator[tuple[ast.expr | ast.stmt, _Place]]:
    """(the new node, where it belongs), always in the same order."""
    for place in _places(tree, in_function=False):
        for new in _other_statements(place.old) if isinstance(place.old, ast.stmt) else _other_expressions(place):
            yield new, place


def _places(node: ast.AST, in_function: bool) -> Iterator[_Place]:
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases"):
            continue
        inside = in_function or (isinstance(node, ast.FunctionDef | ast.Lambda) and name == "body")
        several = isinstance(value, list)
        for position, child in enumerate(value if several else [value]):
            if not isinstance(child, ast.AST) or _is_left_alone(child):
                continue
            if isinstance(child, ast.expr | ast.stmt):
                yield _Place(node, name, position if several else None, child, inside)
            yield from _places(child, inside)


def _is_left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert | ast.Import | ast.ImportFrom | ast.JoinedStr):
        return True
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return True
    if isinstance(node, ast.keyword) and node.arg == "strict":  # of zip, like an assertion
        return True
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        return called in ("Refusal", "isinstance") or called.endswith("Error")
    return False


def _other_statements(node: ast.stmt) -> Iterator[ast.stmt]:
    if isinstance(node, ast.If):
        turned = copy.copy(node)
        turned.test = ast.UnaryOp(ast.Not(), node.test)
        yield turned
    is_call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    if is_call or isinstance(node, ast.AugAssign | ast.Raise):
        yield ast.Pass()


def _other_expressions(place: _Place) -> Iterator[ast.expr]:
    node = place.old
    match node:
        case ast.Compare(ops=[operator]):
            yield ast.Compare(node.left, [_COMPARISONS[type(operator)]()], node.comparators)
        case ast.BinOp(op=operator) if type(operator) in _ARITHMETIC and not _has_text(node):
            yield ast.BinOp(node.left, _ARITHMETIC[type(operator)](), node.right)
        case ast.BoolOp():
            yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield node.operand
        case ast.IfExp():
            yield ast.IfExp(node.test, node.orelse, node.body)
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(value * 2 if value else 1.0)
        case ast.Call():
            yield from _other_calls(node)


def _other_calls(node: ast.Call) -> Iterator[ast.expr]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    of_module = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in ("torch", "F", "math", "np")
    if name in _LEFT_OUT:
        if isinstance(node.func, ast.Attribute) and not of_module:
            yield node.func.value
        elif node.args and name != "where":
            yield node.args[0]
    if name in _OTHER_NAME:
        match node.func:
            case ast.Attribute(value=ast.Name(id="self")):  # a method or a layer of this name, and no reduction
                pass
            case ast.Attribute(value=owner):
                yield ast.Call(ast.Attribute(owner, _OTHER_NAME[name], ast.Load()), node.args, node.keywords)
            case ast.Name():
                yield ast.Call(ast.Name(_OTHER_NAME[name], ast.Load()), node.args, node.keywords)
    match node.args:
        case [ast.Name() | ast.Attribute() as first, ast.Name() | ast.Attribute() as second, *others]:
            if ast.unparse(first) != ast.unparse(second) and name not in ("getattr", "setattr", "hasattr", "zip"):
                yield ast.Call(node.func, [second, first, *others], node.keywords)


def _has_text(node: ast.BinOp) -> bool:
    def is_text(side: ast.expr) -> bool:
        return isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str))

    return is_text(node.left) or is_text(node.right)


def _one_line(node: ast.AST, most: int = 70) -> str:
    if isinstance(node, ast.If):
        return f"if {ast.unparse(node.test)}"
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."
