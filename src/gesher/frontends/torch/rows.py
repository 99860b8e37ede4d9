"""`list(x)` of a tensor in a module's own source, while the module is captured: its rows, without counting them.

A list has so many elements as the first dim is long, so PyTorch can only fix that dim. Models that take batches apart
this way mostly join the rows again at once (LLaVA and its kin: `torch.cat(list(features))`), and what comes of it is
the tensor in another shape. Whoever looks at single rows counts them, and then the dim is fixed as before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Rows(list[Any]):
    """The rows of a tensor of one dim or more, as a list that is made when somebody looks into it."""

    def __init__(self, tensor: torch.Tensor):
        super().__init__()
        self.tensor = tensor

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tensor)

    def __len__(self) -> int:
        return len(self.tensor)

    def __getitem__(self, place: Any) -> Any:
        return list(self)[place]

    def __add__(self, other: Any) -> list[Any]:
        return [*self, *other]

    def __radd__(self, other: Any) -> list[Any]:
        return [*other, *self]

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    __hash__ = None

    def changed(self, *_: Any, **__: Any) -> Any:
        raise TypeError("a list of a tensor's rows cannot be changed while the module is captured")

    append = extend = insert = pop = remove = reverse = sort = clear = __setitem__ = __delitem__ = changed
    __iadd__ = __imul__ = __mul__ = __rmul__ = changed

    def joined(self, axis: int) -> torch.Tensor:
        """What `torch.cat` gives."""
        axis %= self.tensor.ndim - 1
        return self.tensor.movedim(0, axis).flatten(axis, axis + 1)

    def stacked(self, axis: int) -> torch.Tensor:
        """What `torch.stack` gives."""
        return self.tensor.movedim(0, axis)


_JOINS = {torch.cat: Rows.joined, torch.concat: Rows.joined, torch.concatenate: Rows.joined,
          torch.stack: Rows.stacked}


class RowsJoined(TorchFunctionMode):
    """While this is entered, rows are joined without being counted; other functions of PyTorch get a real list."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(isinstance(a, Rows) for a in (*args, *kwargs.values())):
            rows = args[0] if args else kwargs.get("tensors")
            axis = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", 0))
            if func in _JOINS and isinstance(rows, Rows) and "out" not in kwargs:
                return _JOINS[func](rows, axis)
            args = tuple([*a] if isinstance(a, Rows) else a for a in args)
            kwargs = {k: [*a] if isinstance(a, Rows) else a for k, a in kwargs.items()}
        return func(*args, **kwargs)
