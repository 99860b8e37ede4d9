"""Every error Gesher raises on purpose, and how it is told.

    GesherError
    ├─ FormatError        the bytes are not a model              (offset, field path)
    ├─ ModelError         it is a model, but not a right one     (place, rule broken, advice)
    ├─ UnsupportedError   right, but we or that engine can't     (who, what, who else could)
    ├─ CompileError       our fault; carries a bundle that replays it
    └─ RunError           the inputs do not fit, or a kernel failed

An error says what, where and what now. The place is a tuple from the outside in
(`("resnet.onnx", "graph 'main'", "node 'conv_7' (Conv, opset 22)")`); a layer that knows more of it
than the one that raised calls `error.within("resnet.onnx")` and re-raises.
"""

from __future__ import annotations

from typing import Self


class GesherError(Exception):
    """The root of Gesher's errors.

    Args:
        what: one sentence on what is wrong.
        place: where, from the outside in; each part is printed as it is.
        advice: what the reader can do now.
    """

    def __init__(self, what: str, *, place: tuple[str, ...] | list[str] | str = (), advice: str | None = None):
        super().__init__(what)
        self.what = what
        self.place: tuple[str, ...] = (place,) if isinstance(place, str) else tuple(place)
        self.advice = advice

    def within(self, *outer: str) -> Self:
        """Put `outer` in front of the place, and return the error to be raised again."""
        self.place = (*outer, *self.place)
        return self

    def __str__(self) -> str:
        lines = [self.what]
        if self.place:
            lines.append("  at " + " › ".join(self.place))
        if self.advice:
            lines.append("  " + self.advice)
        return "\n".join(lines)


class FormatError(GesherError):
    """The bytes are not a model. `offset` counts bytes from the start of the file (-1: unknown)."""

    def __init__(self, what: str, *, offset: int = -1, place: tuple[str, ...] | list[str] | str = (),
                 advice: str | None = None):
        super().__init__(what, place=place, advice=advice)
        self.offset = offset

    def __str__(self) -> str:
        text = super().__str__()
        return text if self.offset < 0 else f"{text}\n  at byte {self.offset} of the file"


class ModelError(GesherError):
    """It is a model, but not a right one. `rule` names the rule that it breaks (kebab-case, see `checker`)."""

    def __init__(self, what: str, *, rule: str = "", place: tuple[str, ...] | list[str] | str = (),
                 advice: str | None = None):
        super().__init__(what, place=place, advice=advice)
        self.rule = rule


class UnsupportedError(GesherError):
    """Right, but we or that engine can't. `who` refuses `what`; `others` could."""

    def __init__(self, what: str, *, who: str = "gesher", others: tuple[str, ...] = (),
                 place: tuple[str, ...] | list[str] | str = (), advice: str | None = None):
        if advice is None and others:
            advice = "what could: " + ", ".join(others)
        super().__init__(what, place=place, advice=advice)
        self.who = who
        self.others = others


class CompileError(GesherError):
    """The compiler failed on a right model: our fault. `bundle` is a folder that replays it."""

    def __init__(self, what: str, *, bundle: str | None = None, place: tuple[str, ...] | list[str] | str = (),
                 advice: str | None = None):
        if advice is None and bundle:
            advice = f"to replay it: {bundle}"
        super().__init__(what, place=place, advice=advice)
        self.bundle = bundle


class RunError(GesherError):
    """The inputs do not fit the model, or a kernel failed while running."""
