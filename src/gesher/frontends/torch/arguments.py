"""Arguments and results as flat lists of named tensors, whatever they are packed in.

A module may take and give tuples, dictionaries, dataclasses and objects with tensors in them (a cache of keys and
values). ONNX has a flat list of named tensors. `mapped` walks such a value in one fixed order, tells every tensor with
its name, and builds the same thing anew around other tensors:

    (x, {"mask": m})                    0, 1.mask
    past_key_values: DynamicCache       past_key_values.0.key, past_key_values.0.value, ...
    ModelOutput(logits=..., ...)        logits, present.0.key, ...

No class needs to be registered with PyTorch for this, and none is.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from .rows import Rows

Visit = Callable[[str, Any], Any]
"""What is done to each leaf, by its name; it answers what takes the leaf's place."""

# What layers of a cache call their tensors, and what ONNX models do.
_CACHED = {"keys": "key", "values": "value"}


def leaves(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """Every tensor in `value` (and every size that PyTorch knows as a symbol only), by name, in order."""
    found: list[tuple[str, Any]] = []

    def keep(path: str, leaf: Any) -> Any:
        found.append((path, leaf))
        return leaf

    mapped(value, keep, name)
    return found


def rebuilt(value: Any, given: Iterator[Any]) -> Any:
    """`value` anew, its tensors replaced by the next ones of `given`."""
    return mapped(value, lambda _, leaf: next(given))


def mapped(value: Any, visit: Visit, name: str = "") -> Any:
    """`value` anew, every tensor in it replaced by what `visit` says. What holds no tensor stays the very object."""
    return _Walk(visit).walk(value, name)


class _Walk:
    def __init__(self, visit: Visit, numbers: bool = False):
        self.visit, self.numbers = visit, numbers
        self.seen: dict[int, Any] = {}

    def walk(self, value: Any, name: str) -> Any:
        if isinstance(value, (torch.Tensor, torch.SymInt)):
            return self.visit(name, value)
        if self.numbers and type(value) in (int, float):
            return self.visit(name, value)
        if value is None or isinstance(value, (str, bytes, bool, int, float, complex, type, torch.dtype, torch.device,
                                               torch.nn.Module)):
            return value
        if id(value) in self.seen:
            return self.seen[id(value)]
        made = self._structure(value, name)
        self.seen[id(value)] = made
        return made

    def _structure(self, value: Any, name: str) -> Any:
        if isinstance(value, Mapping):
            return self._mapping(value, name)
        if isinstance(value, Rows):
            return self.visit(name, value.tensor)
        if isinstance(value, (list, tuple)):
            return self._sequence(value, name)
        if hasattr(value, "layers") and isinstance(value.layers, list):
            return self._layers(value, name)
        if hasattr(value, "self_attention_cache") and hasattr(value, "cross_attention_cache"):
            made = copy.copy(value)
            made.self_attention_cache = self._layers(value.self_attention_cache, name, "decoder.")
            made.cross_attention_cache = self._layers(value.cross_attention_cache, name, "encoder.")
            return made
        if dataclasses.is_dataclass(value) or (hasattr(value, "__dict__") and _holds_tensors(value)):
            return self._attributes(value, name)
        return value

    def _mapping(self, value: Mapping[Any, Any], name: str) -> Any:
        parts = {k: self.walk(v, _joined(name, str(k))) for k, v in value.items()}
        if type(value) is dict:
            return parts
        # A model's output is a dictionary and a dataclass at once: it keeps its fields in both.
        made = copy.copy(value)
        for k, v in parts.items():
            if v is not value[k]:
                made[k] = v    # type: ignore[index]
        return made

    def _sequence(self, value: Any, name: str) -> Any:
        fields = getattr(type(value), "_fields", None)
        names = fields or range(len(value))
        # Keys and values as tuples of pairs, as models had them before there were caches.
        pairs = _pairs_of_a_cache(value, name)
        parts = []
        for label, part in zip(names, value):
            if pairs:
                parts.append(type(part)(self.walk(x, f"{name}.{label}.{k}") for k, x in zip(pairs, part)))
            else:
                parts.append(self.walk(part, _joined(name, str(label))))
        return type(value)(*parts) if fields else type(value)(parts)

    def _layers(self, cache: Any, name: str, side: str = "") -> Any:
        """A cache with a list of layers: name.0.key, name.0.value."""
        made, before = copy.copy(cache), _length(cache)
        made.layers = []
        for i, layer in enumerate(cache.layers):
            fresh = copy.copy(layer)
            # Keys before values, then what else a layer may hold, in the order of its making.
            names = sorted(vars(layer), key=lambda n: (list(_CACHED).index(n) if n in _CACHED else len(_CACHED)))
            for n in names:
                # What a layer counts in numbers is no part of what it holds.
                if not n.startswith("_") and not isinstance(getattr(layer, n), (int, float, torch.SymInt)):
                    setattr(fresh, n, self.walk(getattr(layer, n), f"{name}.{i}.{side}{_CACHED.get(n, n)}"))
            made.layers.append(fresh)
        after = _length(made)
        if after is not None and after is not before:
            # Layers with a window count the tokens that they have seen in a number of Python's, which a capture would
            # take for a constant. What the longest layer holds is that number, as long as none has dropped any.
            for layer in made.layers:
                if isinstance(getattr(layer, "cumulative_length", None), int) and layer.cumulative_length == before:
                    layer.cumulative_length = after
        return made

    def _attributes(self, value: Any, name: str) -> Any:
        made = copy.copy(value)
        held = vars(value) if hasattr(value, "__dict__") else {f.name: getattr(value, f.name)
                                                               for f in dataclasses.fields(value)}
        for n, v in held.items():
            part = self.walk(v, _joined(name, n))
            if part is not v:
                object.__setattr__(made, n, part)
        return made


def _length(cache: Any) -> Any:
    """How many tokens the longest layer of a cache holds; None where none is filled."""
    lengths = [layer.keys.shape[-2] for layer in cache.layers
               if isinstance(getattr(layer, "keys", None), torch.Tensor) and layer.keys.ndim == 4]
    if not lengths:
        return None
    longest = lengths[0]
    for n in lengths[1:]:
        # Symbols are compared by their hints only where numbers are.
        longest = n if isinstance(n, int) and isinstance(longest, int) and n > longest else longest
        longest = n if isinstance(n, torch.SymInt) and isinstance(longest, int) else longest
    return longest


def _pairs_of_a_cache(value: Any, name: str) -> tuple[str, ...] | None:
    """What to call the parts of `past_key_values[i]` where it is a tuple of pairs (or fours) of tensors."""
    last = name.rpartition(".")[2]
    if last not in ("past_key_values", "present") or not value:
        return None
    sizes = {len(part) if isinstance(part, (list, tuple)) and all(isinstance(x, torch.Tensor) for x in part) else 0
             for part in value}
    return {frozenset({2}): ("key", "value"),
            frozenset({4}): ("decoder.key", "decoder.value", "encoder.key", "encoder.value")}.get(frozenset(sizes))


def _joined(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part


def _holds_tensors(value: Any, depth: int = 3) -> bool:
    """True where an attribute of the object is a tensor, or a container of some, a few steps deep."""
    if isinstance(value, torch.Tensor):
        return True
    if depth == 0 or isinstance(value, (str, bytes, int, float, type, torch.nn.Module)) or value is None:
        return False
    if isinstance(value, Mapping):
        return any(_holds_tensors(v, depth - 1) for v in value.values())
    if isinstance(value, (list, tuple)):
        return any(_holds_tensors(v, depth - 1) for v in value)
    if type(value).__module__.split(".")[0] in ("torch", "builtins", "numpy"):
        return False
    return hasattr(value, "__dict__") and any(_holds_tensors(v, depth - 1) for v in vars(value).values())


def result_names(result: Any, numbers: bool = False) -> list[tuple[str, Any]]:
    """What a module gave, by the names that its outputs shall have; with `numbers`, plain numbers too.

    A field keeps its name, keys and values become `present.0.key`; where there is no name, `output`, or `output_0` ...
    """
    found: list[tuple[str, Any]] = []

    def keep(path: str, leaf: Any) -> Any:
        found.append((_output_name(result, path), leaf))
        return leaf

    _Walk(keep, numbers).walk(result, "")
    return found


def _output_name(result: Any, path: str) -> str:
    head, _, rest = path.partition(".")
    if not path or (path == "0" and isinstance(result, (list, tuple)) and len(result) == 1):
        return "output"
    if head == "past_key_values" or _is_cache(result, head):
        return f"present.{rest}" if rest else "present"
    if path.replace(".", "").isdigit():
        return f"output_{path.replace('.', '_')}"
    return f"output_{path}" if head.isdigit() else path


def _is_cache(result: Any, head: str) -> bool:
    """True where a part of a result is a cache of keys and values."""
    if isinstance(result, Mapping):
        part = result.get(head)
    elif isinstance(result, (list, tuple)) and head.isdigit():
        part = result[int(head)]
    else:
        part = getattr(result, head, None)
    return isinstance(getattr(part, "layers", None), list) or hasattr(part, "self_attention_cache")
