"""What a file says of its values' types, and how far that is believed.

Exporters write more than they know. A graph input whose size is `?`, or -1, or 0, has a size that nobody knows; the
same `?` in two places says nothing about their being equal. Elements of a sequence that are declared to be scalars may
be anything. Of all other values inference knows better than the file: what is declared fills gaps, and where the two
contradict each other, inference stands and a complaint is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.ir import (
    DimLike,
    MapType,
    OptionalType,
    SequenceType,
    Shape,
    SparseTensorType,
    TensorType,
    Type,
    print_shape,
)
from gesher.ops import Fact
from gesher.symbolic import Contradiction, Dim, Equalities, decide_eq, fresh, is_symbol, substitute

# Names that exporters give to dimensions they have no name for; two of them need not be the same size.
ANONYMOUS = frozenset(("?", "-1", "None", "none", "*"))


@dataclass(slots=True)
class Declarations:
    """Reads declared types: with sizes given by the caller put in, and sizes that say nothing taken away."""

    given: Mapping[str, int] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def of_input(self, type: Type | None, name: str, warn: Callable[[str, str], None]) -> Type | None:
        """The type of a model input; a size that the file does not tell becomes a symbol of its own.

        `warn` is told (what, advice) of a size that is written as a number but cannot be meant so.
        """
        def dim(d: DimLike | None, i: int) -> DimLike:
            if isinstance(d, int) and d <= 0:
                warn(f"the input '{name}' declares dim {i} as {d}; it is taken as unknown",
                     "a size that may vary is written as a name, or left out")
                d = None
            d = self._put_in(d)
            return fresh(f"dim {i} of the input '{name}' has no name") if d is None else d

        return _with_dims(type, dim)

    def of_value(self, type: Type | None) -> Type | None:
        """The type that the file declares of any other value, with None for sizes that say nothing."""
        def dim(d: DimLike | None, i: int) -> DimLike | None:
            return self._put_in(None if isinstance(d, int) and d <= 0 else d)

        return _with_dims(type, dim)

    def _put_in(self, d: DimLike | None) -> DimLike | None:
        if not isinstance(d, Dim):
            return d
        if d.op == "sym":
            if d.is_fresh or d.name in ANONYMOUS:
                return None
            if d.name in self.given:
                self.used.add(d.name)
                return self.given[d.name]
            return d
        symbols = d.symbols()
        if any(s.name in ANONYMOUS for s in symbols):
            return None
        known = {s: self.given[s.name] for s in symbols if s.name in self.given}
        self.used.update(s.name for s in known)
        return substitute(d, known) if known else d


def _with_dims(type: Type | None, dim: Callable[[DimLike | None, int], DimLike | None]) -> Type | None:
    if isinstance(type, (TensorType, SparseTensorType)):
        shape = type.shape
        if shape is None:
            return type
        new = tuple(d if d.__class__ is int and d > 0 else dim(d, i) for i, d in enumerate(shape))
        return type if new == shape else type.__class__(type.dtype, new)
    if isinstance(type, SequenceType) and isinstance(type.element, TensorType) and type.element.shape == ():
        # Writers who know no shape leave an empty one; ONNX's own cases do, of elements that have a rank.
        return SequenceType(TensorType(type.element.dtype))
    if isinstance(type, (SequenceType, OptionalType)):
        return type.__class__(_with_dims(type.element, dim))
    if isinstance(type, MapType):
        return MapType(type.key, _with_dims(type.value, dim))
    return type


def refine(fact: Fact, declared: Type, equalities: Equalities, input_symbols: frozenset[Dim], why: str
           ) -> tuple[Fact, str | None]:
    """`fact` with its gaps filled by what the file declares, and a complaint where the two contradict each other.

    A size that no operator could tell takes the declared name or number; a name that stands for no input's size becomes
    another word for what was inferred. Nothing that was inferred changes.
    """
    if fact.type is None:
        return Fact(declared, why=fact.why), None
    try:
        type = _merged(fact.type, declared, equalities, input_symbols, why)
    except ModelError as e:
        return fact, e.what
    if type is fact.type:
        return fact, None
    return Fact(type, fact._value, constant=fact.constant, why=fact.why), None


def _merged(a: Type | None, b: Type | None, equalities: Equalities, known: frozenset[Dim], why: str) -> Type | None:
    if a is None or b is None:
        return b if a is None else a
    if isinstance(a, (SequenceType, OptionalType)) and a.__class__ is b.__class__:
        element = _merged(a.element, b.element, equalities, known, why)
        return a if element is a.element else a.__class__(element)
    if isinstance(a, (TensorType, SparseTensorType)) and a.__class__ is b.__class__:
        assert isinstance(b, (TensorType, SparseTensorType))
        dtype = a.dtype
        if dtype is dtypes.UNDEFINED:
            dtype = b.dtype
        elif b.dtype is not dtypes.UNDEFINED and b.dtype is not dtype:
            raise ModelError(f"the file declares {b}, inference finds {a}")
        shape = _merged_shape(a.shape, b.shape, equalities, known, why)
        return a if dtype is a.dtype and shape is a.shape else a.__class__(dtype, shape)
    if a.__class__ is not b.__class__:
        raise ModelError(f"the file declares {b}, inference finds {a}")
    return a


def _merged_shape(a: Shape | None, b: Shape | None, equalities: Equalities, known: frozenset[Dim], why: str
                  ) -> Shape | None:
    if a is None or b is None:
        return b if a is None else a
    if len(a) != len(b):
        raise ModelError(f"the file declares the shape {print_shape(b)}, inference finds {print_shape(a)}")
    new = []
    changed = False
    for x, y in zip(a, b):
        if y is None or x is y:
            new.append(x)
            continue
        if x is None:
            new.append(y)
            changed = True
            continue
        if x.__class__ is int and y.__class__ is int:
            if x != y:
                raise ModelError(f"the file declares the shape {print_shape(b)}, inference finds {print_shape(a)}")
            new.append(x)
            continue
        if _contradict(x, y, equalities, known, why):
            raise ModelError(f"the file declares the shape {print_shape(b)}, inference finds {print_shape(a)}")
        new.append(x)
    return tuple(new) if changed else a


def _contradict(x: DimLike, y: DimLike, equalities: Equalities, known: frozenset[Dim], why: str) -> bool:
    x, y = equalities.resolve(x), equalities.resolve(y)
    if x is y or x == y:
        return False
    # Only what stands for nothing yet may be bound: a symbol of an input is never set by a declaration further down,
    # for exporters leave `batch` on outputs whose size they have long fixed.
    if (is_symbol(x) and x not in known and x.is_fresh) or (is_symbol(y) and y not in known):  # type: ignore[union-attr]
        try:
            equalities.unify(x, y, why)
        except Contradiction:
            return True
        return False
    return decide_eq(x, y) is False
