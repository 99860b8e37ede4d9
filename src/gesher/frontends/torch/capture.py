"""From a module and an example to a functional graph of ATen operators, with names for its inputs, outputs and dims.

Modules are captured in evaluation mode (and put back afterwards): an exported model is for inference. What a reader
would guess wrong:

- What is captured is a shell around the module that takes and gives flat tensors (`arguments`), so that the module's
  own caches, dictionaries and dataclasses need not be known to PyTorch.
- Free dims are captured as sizes that may be 0 or 1 too (`backed_size_oblivious`): what PyTorch then still asks of them
  are the branches that the module itself takes, and these are kept as preconditions with their line of source.
- Dims of one name are made equal before the module runs, not found to be equal by and by.
"""

from __future__ import annotations

import copy
import inspect
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

from gesher.base.errors import UnsupportedError
from gesher.frontends.protocol import ExportOptions
from gesher.ir import DimLike
from gesher.symbolic import Dim, is_symbol

from .arguments import leaves, rebuilt, result_names
from .dims import Asked, Place, asked, resized, seen_sizes
from .functionalising import functional
from .packed import PackedWhole, batches_free
from .preconditions import Precondition, line_of, lines_of_users, precondition, relation
from .readying import boxes_suppressed_at_once, idle_moves_left_out, needless_masks_left_out, ready
from .recurrent import RecurrencesWhole
from .sizes import said
from .unasking import Unasking
from .whole_numbers import sizes_stay_symbols


@dataclass(slots=True)
class Captured:
    """A program, ready to be translated.

    Attributes:
        program: functional, with big operators whole.
        title: the class name of the module.
        module: what was captured, to be asked for its own answers; None where only a program was given.
        args, kwargs: the example.
        inputs, outputs: the name of each tensor that the program takes and gives.
        results: the outputs by the names that `result_names` finds them under.
        asked: the dims that are free.
        dims: what each of PyTorch's symbols is, over named ones.
        conditions: what the program takes for granted of them.
        by_pytree: the arguments are flattened by PyTorch's registry, as a program that was captured elsewhere has it.
    """

    program: Any
    title: str
    module: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: list[str]
    outputs: list[str]
    results: list[str] = field(default_factory=list)
    asked: Asked = field(default_factory=Asked)
    dims: dict[str, DimLike] = field(default_factory=dict)
    conditions: list[Precondition] = field(default_factory=list)
    by_pytree: bool = False

    def leaves(self) -> list[tuple[str, Any]]:
        """The example's tensors, by the names of the inputs."""
        if self.by_pytree:
            found = [x for x in pytree.tree_leaves((self.args, self.kwargs)) if isinstance(x, torch.Tensor)]
        else:
            found = [x for _, x in leaves((self.args, self.kwargs))]
        return list(zip(self.inputs, found))

    def called_with(self, tensors: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The example around other tensors."""
        given = iter(tensors)
        if self.by_pytree:
            args, kwargs = pytree.tree_map_only(torch.Tensor, lambda _: next(given), (self.args, self.kwargs))
        else:
            args, kwargs = rebuilt((self.args, self.kwargs), given)
        return args, kwargs


def capture(obj: Any, example: Any, options: ExportOptions) -> Captured:
    """Capture a module on its example, or take a program as it is.

    Raises:
        UnsupportedError: PyTorch cannot capture it, or fixes a dim that was asked to be free.
    """
    if isinstance(obj, torch.export.ExportedProgram):
        from .programs import taken

        return taken(obj, options)
    args, kwargs = _arguments(obj, example)
    names = _argument_names(obj, args, kwargs)
    flat = leaves(dict(zip(names, (*args, *kwargs.values()))))
    wished = asked(flat, options.dynamic, options.settings.get("ranges"))
    captured = Captured(None, type(obj).__name__, obj, args, kwargs, [n for n, _ in flat], [], asked=wished)
    ready(obj)
    found = _settled(captured)
    if found.changes_weights:
        # Some modules scale their weights when they are first called, and note that it was done.
        with evaluating(obj), torch.no_grad():
            obj(*copy.deepcopy(args), **copy.deepcopy(kwargs))
        found = _settled(captured)
    if found.fixed:
        told = "; ".join(dict.fromkeys(found.fixed))
        raise UnsupportedError(f"{captured.title} fixes a dim that was asked to be free: {told}",
                               who="torch", advice="leave it out of dynamic, or write the module without a branch on "
                                                   "that size; where its parts must divide a size, ask for multiples: "
                                                   'dynamic={"x": {2: "32*rows"}}')
    captured.program, captured.results = found.program, found.outputs
    captured.outputs = unique(found.outputs, set(captured.inputs))
    captured.dims, captured.conditions = found.dims, found.conditions
    return captured


def _settled(captured: Captured) -> _Findings:
    """Capture, at other sizes too where the example's leave fewer dims free."""
    module, wished = captured.module, captured.asked
    with evaluating(module), _attributes_kept(module), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = _captured_if_need_be_with_symbols(captured)
        if found.merged or found.fixed:
            # Dims of one size by chance, or of the size of something else, may have been taken for it.
            others = seen_sizes(wished, distinct=True)
            again = _captured(captured, others) if others != seen_sizes(wished) else found
            found = min(found, again, key=lambda f: (len(f.fixed), len(f.merged)))
        if found.fixed:
            with sizes_stay_symbols(module):
                found = _less_fixed(captured, found)
    return found


def _captured_if_need_be_with_symbols(captured: Captured) -> _Findings:
    """Capture; where a size that only the data tell is put through `int` or `len`, with these leaving it a symbol."""
    sizes = seen_sizes(captured.asked)
    try:
        return _captured(captured, sizes)
    except UnsupportedError as e:
        if type(e.__cause__).__name__ != "GuardOnDataDependentSymNode":
            raise
        try:
            with sizes_stay_symbols(captured.module):
                return _captured(captured, sizes)
        except UnsupportedError:
            raise e from e.__cause__


def _less_fixed(captured: Captured, found: _Findings) -> _Findings:
    """Another capture, if that leaves more dims free."""
    try:
        again = _captured(captured, seen_sizes(captured.asked, distinct=True))
    except UnsupportedError:
        return found
    return min(found, again, key=lambda f: len(f.fixed))


def _captured(captured: Captured, sizes: Mapping[str, int]) -> _Findings:
    """Capture once, at these sizes."""
    wished = captured.asked
    tensors = resized(captured.leaves(), wished, sizes)
    free: list[Any] = [{axis: torch.export.Dim.AUTO for (j, axis) in wished.sizes if j == i} or None
                       for i in range(len(tensors))]
    noted = _Noted()
    shell = Shell(captured.module, captured.args, captured.kwargs, wished, noted)
    with capturing():
        try:
            program = torch.export.export(shell, tuple(tensors), dynamic_shapes=(tuple(free),) if free else None,
                                          strict=False)
            found = _Findings(captured, program, noted)
            found.program = functional(program)
            found.changes_weights = any(s.kind.name == "PARAMETER_MUTATION"
                                        for s in found.program.graph_signature.output_specs)
        except UnsupportedError:
            raise
        except Exception as e:
            raise UnsupportedError(f"{captured.title} cannot be captured by torch.export: {_told(e)}", who="torch",
                                   advice="PyTorch's own message names the line; a module that branches on values "
                                          "needs torch.cond, or torch.where") from e
    return found


@dataclass(slots=True)
class _Noted:
    """What the shell saw while it ran under capture. (Attributes that it sets on itself are taken back.)"""

    symbols: dict[Place, Any] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    env: Any = None
    ours: int = 0


class Shell(torch.nn.Module):
    """The module with flat arguments and results."""

    def __init__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], wished: Asked, noted: _Noted):
        super().__init__()
        self.module = module
        self._call, self._asked, self._noted = (args, kwargs), wished, noted

    def forward(self, *tensors: Any) -> Any:
        self._tie(tensors)
        args, kwargs = rebuilt(self._call, iter(tensors))
        named = result_names(self.module(*args, **kwargs))
        self._noted.outputs = [n for n, _ in named]
        return tuple(x for _, x in named)

    def _tie(self, tensors: tuple[Any, ...]) -> None:
        """Say at once which sizes are equal by their names."""
        first: dict[str, Any] = {}
        noted = self._noted
        for (i, axis), size in sorted(self._asked.sizes.items(), key=lambda item: not is_symbol(item[1])):
            n = tensors[i].shape[axis]
            noted.symbols[i, axis] = n
            if isinstance(n, torch.SymInt):
                noted.env = n.node.shape_env
            if is_symbol(size) and size.name not in first:
                first[size.name] = n
            else:
                known = _evaluated(size, first)
                if known is not None:
                    torch._check(n == known)
        noted.ours = len(noted.env.guards) if noted.env is not None else 0


def _evaluated(size: Any, known: Mapping[str, Any]) -> Any:
    """A dim over sizes of PyTorch's; None where a name has none, or it is more than sums, products and quotients."""
    if not isinstance(size, Dim):
        return size
    if is_symbol(size):
        return known.get(size.name)
    parts = [_evaluated(a, known) for a in size.args]
    if any(p is None for p in parts):
        return None
    made = parts[0]
    for p in parts[1:]:
        if size.op == "add":
            made = made + p
        elif size.op == "mul":
            made = made * p
        elif size.op == "floordiv":
            made = made // p
        elif size.op == "mod":
            made = made % p
        else:
            return None
    return made


class _Findings:
    """What a capture made of the dims: their symbols, what it fixed, merged, and takes for granted."""

    def __init__(self, captured: Captured, program: Any, noted: _Noted):
        self.dims: dict[str, DimLike] = {}
        self.fixed: list[str] = []
        self.merged: list[str] = []
        self.conditions: list[Precondition] = []
        self.program, self.outputs = program, noted.outputs
        self.changes_weights = False
        self._captured, self._env = captured, noted.env
        users = [s.arg.name for s in program.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
        values = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
        known: dict[Place, Any] = {}
        for (i, axis) in captured.asked.sizes:
            known[i, axis] = values[users[i]].shape[axis]
        # Plain symbols first: sums are then made of known ones.
        for place, n in sorted(known.items(), key=lambda item: not _plain(item[1])):
            self._settle(place, n, noted)
        self._guards(noted)
        self._pinned()

    def _settle(self, place: Place, n: Any, noted: _Noted) -> None:
        wish = self._captured.asked.sizes[place]
        leaf = self._captured.inputs[place[0]]
        if isinstance(n, int):
            where = self._line(noted.symbols.get(place))
            self.fixed.append(f"'{wish}' (dim {place[1]} of '{leaf}') is always {n}"
                              + (f", by {where}" if where else ""))
            return
        e = n.node.expr
        if e.is_Symbol and str(e) not in self.dims:
            self.dims[str(e)] = wish
            return
        is_now = self._say(e)
        if is_now is not None and is_now != wish:
            where = self._line(noted.symbols.get(place))
            self.merged.append(f"{wish} == {is_now}")
            made = relation("==", wish, is_now, where)
            if made is not None:
                self.conditions.append(made)

    def _pinned(self) -> None:
        """Sizes that some condition leaves no choice."""
        for c in self.conditions:
            for name, n in self._captured.asked.example.items():
                seen = max(n, 3)
                others = [m for m in range(1, 2 * seen + 9) if c.holds({name: m}) is not None]
                if others and sum(c.holds({name: m}) is True for m in others) == 1:
                    self.fixed.append(f"'{name}' has one size only, by {c.assumption}")

    def _say(self, e: Any) -> DimLike | None:
        try:
            return said(e, lambda name: self.dims[name])
        except (UnsupportedError, KeyError):
            return None

    def _line(self, size: Any) -> str:
        """Where a symbol was given up for a number or another symbol."""
        if not isinstance(size, torch.SymInt):
            return ""
        own = getattr(size.node, "_expr", None)
        return line_of(getattr(self._env, "replacements_slocs", {}).get(own))

    def _guards(self, noted: _Noted) -> None:
        if self._env is None:
            return
        seen: set[str] = set()
        for guard in list(self._env.guards)[noted.ours:]:
            e = guard.expr
            for _ in range(8):
                e, was = e.xreplace(self._env.replacements), e
                if e == was:
                    break
            try:
                made = precondition(e, lambda name_of: said(name_of, lambda name: self.dims[name]), line_of(guard.sloc))
            except (UnsupportedError, KeyError, TypeError):
                continue    # about sizes that only the data tell: the module's own check, which stays its own
            if made is not None and made.text not in seen:
                seen.add(made.text)
                self.conditions.append(made)


def _plain(n: Any) -> bool:
    return isinstance(n, torch.SymInt) and bool(n.node.expr.is_Symbol)


@contextmanager
def capturing() -> Iterator[None]:
    """How PyTorch shall capture: with sizes that may be 0 or 1, lines of users in guards, recurrences whole."""
    from torch.fx.experimental import _config

    with ExitStack() as stack:
        stack.enter_context(_config.patch(backed_size_oblivious=True))    # type: ignore[attr-defined]
        stack.enter_context(lines_of_users())
        stack.enter_context(needless_masks_left_out())
        stack.enter_context(idle_moves_left_out())
        stack.enter_context(boxes_suppressed_at_once())
        stack.enter_context(RecurrencesWhole())
        stack.enter_context(batches_free())
        stack.enter_context(PackedWhole())
        stack.enter_context(Unasking())
        stack.enter_context(torch.no_grad())
        yield


@contextmanager
def evaluating(module: Any) -> Iterator[Any]:
    """The module in evaluation mode; each part goes back to its own mode afterwards."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield module
    finally:
        for m, training in modes:
            m.training = training


@contextmanager
def _attributes_kept(module: Any) -> Iterator[None]:
    """What a module keeps in plain attributes (tables that it grows as needed) is as before afterwards.

    Lists and dictionaries too: a result that is kept there for the next call would be one without numbers.
    """
    kept = [(m, dict(vars(m))) for m in module.modules()]
    held = [(v, v.copy()) for _, before in kept for n, v in before.items()
            if isinstance(v, (dict, list, set)) and n not in ("_modules", "_parameters", "_buffers")]
    try:
        yield
    finally:
        for container, was in held:
            if _ids(container) != _ids(was):
                container.clear()
                getattr(container, "extend" if isinstance(container, list) else "update")(was)
        for m, before in kept:
            now = vars(m)
            for n in [n for n in now if n not in before]:
                del now[n]
            for n, v in before.items():
                if n != "training" and (n not in now or now[n] is not v):
                    now[n] = v


def _ids(container: Any) -> list[int]:
    """Which objects a container holds."""
    return [id(x) for x in (*container, *(container.values() if isinstance(container, dict) else ()))]


def _told(error: Exception) -> str:
    """PyTorch's message, short, without folders."""
    text = str(error).strip().split("\n\n")[0]
    text = re.sub(r'File "[^"]*[/\\]', 'File "', text)
    text = re.sub(r"(?<![\w.])/[^\s:'\"]+/", "", text)
    where = _line_of_error(error)
    return text[:1500] + (f" ({where})" if where and where not in text else "")


def _line_of_error(error: Exception) -> str:
    """The innermost line of the module's own source that an error passed through."""
    trace, found = error.__traceback__, ""
    ours = (os.path.dirname(torch.__file__), os.path.dirname(__file__))
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if not name.startswith(ours) and not name.startswith("<"):
            found = f"{os.path.basename(name)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def unique(names: list[str], taken: set[str]) -> list[str]:
    """Names for outputs, none of which is taken by an input or twice."""
    made: list[str] = []
    for name in names:
        while name in taken:
            name += "_out"
        taken.add(name)
        made.append(name)
    return made


def _arguments(module: Any, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments from an example: a tensor, a tuple, a dictionary, or numpy arrays of them."""
    if example is None:
        raise UnsupportedError(f"{type(module).__name__} needs an example input to be exported", who="torch",
                               advice="gesher.export(module, (x,)), or --example x.npy on the command line")

    def tensor(x: Any) -> Any:
        return torch.as_tensor(x) if type(x).__module__ == "numpy" else x

    example = pytree.tree_map(tensor, example)
    if isinstance(example, Mapping):
        return (), dict(example)
    return (tuple(example) if isinstance(example, (tuple, list)) else (example,)), {}


def _argument_names(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[str]:
    parameters = list(inspect.signature(module.forward).parameters.values())
    names: list[str] = []
    for i in range(len(args)):
        p = parameters[min(i, len(parameters) - 1)] if parameters else None
        variadic = p is None or p.kind is inspect.Parameter.VAR_POSITIONAL
        names.append(f"args_{i}" if variadic or p is None else p.name)
    return [*names, *kwargs]
