"""The kernels of pictures in blocked channels (see `layout`): convolutions, pools, and the changes of layout."""

from __future__ import annotations

from collections.abc import Container, Sequence
from functools import partial
from typing import Any

from gesher.base.dtypes import FLOAT, UINT16
from gesher.primitives import Expr
from gesher.symbolic import Dim, DimLike, product

from . import target
from .epilogues import Epilogue, epilogue_of
from .indexing import unravel
from .kernel import Kernel, Point, Spell, composite_of
from .kernels import blocked_packing as packing
from .kernels.blocked_choice import variant
from .kernels.packing_bf16 import blocked_pairs_shape, pack_blocked_pairs
from .layout import USUAL, is_depthwise, is_narrow, together
from .packed import packed
from .spelling import number
from .views import same_memory

# The relative L2 error against exact sums that Winograd's products may have.
MOST_ERROR = 1e-4
# Outputs up to which vectors of channels may beat vectors of outputs (GS_FEW_MOST).
MOST_OUTPUTS = 4
# From so many channels, outputs and places on, seven products of halves take less time than eight: 0.92 of it for 256
# channels of 14 x 14; with 64, or 7 x 7, nothing is won.
SEVEN_CHANNELS, SEVEN_PLACES = 128, 150


def _axes(**columns: Sequence[Any]) -> list[tuple[str, Any]]:
    """The two places of each array of the struct. Pictures of one axis are of height 1."""
    filled = {"pad": 0, "pad_end": 0}
    fields: list[tuple[str, Any]] = []
    for name, column in columns.items():
        assert 1 <= len(column) <= 2, f"{name}: pictures have one axis or two, not {len(column)}"
        whole = [filled.get(name, 1), *column] if len(column) == 1 else list(column)
        fields += [(f"{name}[{i}]", d) for i, d in enumerate(whole)]
    return fields


class BlockedConv(Kernel):
    """A convolution in blocked channels: direct, by Winograd's products, of each channel by itself, or of few outputs.
    """

    struct = "GsBlocked"
    tiles = True

    def __init__(self, e: Expr, x: Expr, w: Expr, of: dict[str, Any]):
        self.of, self.x, self.w = of, x, w
        self.columns = self.lanes = of["lanes"]
        self.places, self.tile_side = e.shape[2:-1], 0
        if is_depthwise(of["channels"], of["groups"], w):
            self.variant, weights = "depthwise", self._depthwise()
            self.header, self.function = "gs_blocked_depthwise_f32.h", "gs_blocked_depthwise_f32"
        elif is_narrow(of["channels"], of["groups"], w, self.lanes):
            self.variant, weights = "grouped", self._grouped()
            self.header, self.function = "gs_blocked_grouped_f32.h", "gs_blocked_grouped_f32"
        elif self._few(2) or (self._few(MOST_OUTPUTS) and not self._winograd_tile()):
            self.variant, weights = "few", self._by_output()
            self.header, self.function = "gs_blocked_few_f32.h", "gs_blocked_few_f32"
        elif side := self._winograd_tile():
            self.variant, self.tile_side, weights = f"winograd F({side}x{side})", side, self._winograd(side)
            self.header, self.function = "gs_winograd_f32.h", "gs_blocked_winograd_f32"
        elif self._strassen():
            self.variant, weights = "strassen", self._seven()
            self.header, self.function = "gs_blocked_strassen_f32.h", "gs_blocked_strassen_f32"
        elif target.bf16():
            self.variant, weights, self.precision = "direct", self._pairs(), target.told_bf16()
            self.header, self.function = "gs_blocked_bf16.h", "gs_blocked_conv_bf16"
        else:
            self.variant, weights = "direct", self._direct()
            self.header, self.function = "gs_blocked_f32.h", "gs_blocked_conv_f32"
        self.scratch = "" if self.variant in ("depthwise", "grouped") else self.function + "_scratch"
        self.can_give_half = target.bf16() and self.variant in ("direct", "depthwise")
        self.can_take_half = self.can_give_half and not of["plain_x"]
        super().__init__(e, [same_memory(x), weights])

    def _few(self, most: int) -> bool:
        """Whether at most so many outputs come of many products: then lanes do better as channels than as outputs."""
        of, (out, channels, *kernel) = self.of, _picture(self.w)
        return out <= most and of["groups"] == 1 and not of["plain_x"] and channels * kernel[0] * kernel[1] >= 64

    def _by_output(self) -> Expr:
        shape = _picture(self.w)
        return packed(("few outputs", self.lanes), [self.w], FLOAT,
                      packing.few_shape(shape[0], shape[1], shape[2], shape[3], self.lanes),
                      partial(_few_outputs, shape, self.lanes))

    def _winograd_tile(self) -> int:
        """The side of the tiles of outputs that Winograd's products shall make; 0 where sums shall be direct."""
        of, (out, channels, *kernel) = self.of, _picture(self.w)
        if len(self.places) != 2 or of["groups"] != 1 or of["plain_x"]:
            return 0
        # Nobody knows how large a picture of symbolic sizes is; most are not small.
        places = [d if isinstance(d, int) else USUAL for d in self.places]
        chosen = variant(out, channels, kernel, of["strides"], of["dilations"], places, target.threads(), self.lanes,
                         together(), of["largest"])
        tile = 0 if chosen == "direct" else int(chosen[-1])
        return tile if not tile or packing.winograd_error(channels, tile, of["strides"][0]) <= MOST_ERROR else 0

    def _winograd(self, side: int) -> Expr:
        out, channels = _picture(self.w)[:2]
        stride = self.of["strides"][0]
        return packed(("winograd", side, stride, self.lanes), [self.w], FLOAT,
                      packing.winograd_shape(out, channels, self.lanes, side, stride),
                      partial(packing.pack_winograd, b=self.lanes, tile=side, stride=stride))

    def _strassen(self) -> bool:
        """Whether seven products shall be made in place of eight: of single taps, large enough to be cut in halves."""
        of, (out, channels, *kernel) = self.of, _picture(self.w)
        if target.bf16() or of["groups"] != 1 or of["plain_x"] or kernel != [1, 1] or _gated(self.x) is not None \
                or any(pad != 0 for pads in of["pads"] for pad in pads):
            return False
        places = product([d if isinstance(d, int) else USUAL for d in self.places])
        return channels % (2 * self.lanes) == 0 and -(-out // self.lanes) % 4 == 0 \
            and min(out, channels) >= SEVEN_CHANNELS and isinstance(places, int) and places >= SEVEN_PLACES

    def _seven(self) -> Expr:
        shape = _picture(self.w)
        return packed(("strassen", self.lanes), [self.w], FLOAT,
                      packing.strassen_shape(shape[0], shape[1], self.lanes), partial(_strassen, shape, self.lanes))

    def _depthwise(self) -> Expr:
        shape = _picture(self.w)
        return packed(("depthwise", self.lanes), [self.w], FLOAT,
                      packing.depthwise_shape(shape[0], shape[2], shape[3], self.lanes),
                      partial(_per_channel, shape, self.lanes))

    def _grouped(self) -> Expr:
        shape = _picture(self.w)
        return packed(("narrow groups", self.lanes), [self.w], FLOAT,
                      packing.grouped_shape(shape[0], shape[1], shape[2], shape[3], self.lanes),
                      partial(_narrow_groups, shape, self.lanes))

    def _direct(self) -> Expr:
        of, shape = self.of, _picture(self.w)
        groups, plain = of["groups"], of["plain_x"]
        return packed(("blocked", groups, self.lanes, plain), [self.w], FLOAT,
                      packing.blocked_shape(shape[0], of["channels"], shape[2], shape[3], groups, self.lanes),
                      partial(_blocked, shape, groups, self.lanes, plain))

    def _pairs(self) -> Expr:
        of, shape = self.of, _picture(self.w)
        return packed(("blocked pairs", of["groups"], self.lanes), [self.w], UINT16,
                      blocked_pairs_shape(shape[0], of["channels"], shape[2], shape[3], of["groups"], self.lanes),
                      partial(_blocked_pairs, shape, of["groups"], self.lanes))

    epilogue = Epilogue()
    gate: Expr | None = None

    def absorbs(self, end: Expr, held: Container[Expr]) -> bool:
        """Biases, a residual, bounds and silu: the kernel does these while the sums are in registers."""
        found = epilogue_of(end, self.expr, self.lanes, held)
        if found is None:
            return False
        self.epilogue = found
        self.operands += found.biases
        if found.residual is not None:
            self.operands.append(found.residual)
        return True

    @classmethod
    def match(cls, e: Expr) -> BlockedConv | None:
        bundle = composite_of(e, "blocked_convolve")
        if bundle is None or bundle.args[1].prim != "constant":
            return None
        (x, w), of = bundle.args, dict(bundle.params["of"])
        made = cls(e, x, w, of)
        gated = _gated(x)
        if gated is not None and made.variant == "direct" and of["groups"] == 1 and not of["plain_x"]:
            # As many multiplications as there are weights, instead of places by channels. What rounds x gates it too.
            places = [d if isinstance(d, int) else USUAL for d in gated[0].shape[2:-1]]
            if made.precision or product(w.shape) < product(places) * of["channels"]:
                made.gate, made.can_take_half = same_memory(gated[1]), False
                made.operands = [same_memory(gated[0]), made.operands[1], made.gate]
        return made

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        # The operand has other sizes than x, where it is what x is another view of.
        of, x = self.of, self.x
        places = x.shape[2:] if of["plain_x"] else x.shape[2:-1]
        fields = [("N", x.shape[0]), ("C", of["channels"]), ("O", self.w.shape[0]), ("group", of["groups"]),
                  *_axes(**{"in": places, "out": self.places, "kernel": self.w.shape[2:], "stride": of["strides"],
                            "dilation": of["dilations"], "pad": [lo for lo, _ in of["pads"]]}),
                  ("plain_x", int(of["plain_x"])), ("tile", self.tile_side)]
        after = self.epilogue
        more = [(name, point(b)) for name, b in zip(("bias", "bias_too"), after.biases)]
        more += [(name, point(e)) for name, e in (("residual", after.residual), ("gate", self.gate)) if e is not None]
        if after.silu:
            more.append(("silu", "1"))
        if after.clamp is not None:
            more += [("clamp", "1"), *((k, number(b, FLOAT)) for k, b in zip(("low", "high"), after.clamp))]
        more += [(name, "1") for name, half in (("x_bf16", self.x_half), ("y_bf16", self.y_half)) if half]
        # Pictures and weights go by the struct's float pointers, whatever they hold.
        cast = "(const float*)"
        return [*((k, spell(d)) for k, d in fields), ("x", cast + point(self.operands[0])),
                ("w", cast + point(self.operands[1])), *more]

    x_half = y_half = False

    def gives_half(self) -> None:
        self.y_half = True
        self._halves()

    def takes_half(self) -> None:
        self.x_half = True
        self._halves()

    def _halves(self) -> None:
        if self.variant == "depthwise":
            self.header, self.function = "gs_blocked_depthwise_bf16.h", "gs_blocked_depthwise_bf16"

    def tile(self, batch: Dim, m: DimLike, n: DimLike) -> tuple[DimLike, ...]:
        image, block = unravel(self.expr.shape[:2], batch)
        return (image, block, *unravel(self.places, m), n)

    def flops(self) -> DimLike | None:
        return 2 * self.x.shape[0] * product(self.places) * product(self.w.shape)

    def describe(self) -> str:
        w = self.w.shape
        gated = "gated " if self.gate is not None else ""
        return f"{self.variant} convolution {'x'.join(map(str, w[2:]))}, {gated}{w[1]}*{self.of['groups']} -> {w[0]} " \
               f"channels{self.precision}"


def _gated(x: Expr) -> tuple[Expr, Expr] | None:
    """Blocks and the numbers, one a channel of each image, that multiply them; None where `x` is no such product."""
    if x.prim != "mul":
        return None
    for blocks, repeated in (x.args, x.args[::-1]):
        if repeated.prim == "broadcast" and repeated.args[0].shape == (*x.shape[:2], *(1,) * (x.rank - 3), x.shape[-1]):
            return blocks, repeated.args[0]
    return None


def _picture(w: Expr) -> tuple[int, ...]:
    """The shape of weights, those of one axis with a height of 1."""
    shape: tuple[int, ...] = tuple(w.shape)  # type: ignore[arg-type]
    return shape if len(shape) == 4 else (*shape[:2], 1, shape[2])


def _per_channel(shape: tuple[int, ...], lanes: int, w: Any) -> Any:
    return packing.pack_depthwise(w.reshape(shape), lanes)


def _narrow_groups(shape: tuple[int, ...], lanes: int, w: Any) -> Any:
    return packing.pack_grouped(w.reshape(shape), lanes)


def _strassen(shape: tuple[int, ...], lanes: int, w: Any) -> Any:
    return packing.pack_strassen(w.reshape(shape), lanes)


def _few_outputs(shape: tuple[int, ...], lanes: int, w: Any) -> Any:
    return packing.pack_few(w.reshape(shape), lanes)


def _blocked(shape: tuple[int, ...], groups: int, lanes: int, plain: bool, w: Any) -> Any:
    return packing.pack_blocked(w.reshape(shape), groups, lanes, plain)


def _blocked_pairs(shape: tuple[int, ...], groups: int, lanes: int, w: Any) -> Any:
    return pack_blocked_pairs(w.reshape(shape), groups, lanes)


class BlockedWindow(Kernel):
    """The maximum or sum over windows of places in blocks."""

    header, struct, function = "gs_blocked_window_f32.h", "GsBlockedWindow", "gs_blocked_window_f32"

    @classmethod
    def match(cls, e: Expr) -> BlockedWindow | None:
        bundle = composite_of(e, "blocked_window")
        if bundle is None or e.dtype is not FLOAT:
            return None
        of = dict(bundle.params["of"])
        if of["op"] == "min":
            return None
        # A window wholly inside the padding has no element, which the kernel does not expect.
        reach = [(k - 1) * d + 1 for k, d in zip(of["size"], of["dilations"])]
        if any(not isinstance(pad, int) or pad >= r for r, pads in zip(reach, of["pads"]) for pad in pads):
            return None
        return cls(e, [same_memory(bundle.args[0])])

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        bundle = self.expr.args[0]
        x, of = bundle.args[0], dict(bundle.params["of"])
        fields = [("N", x.shape[0]), ("blocks", x.shape[1]),
                  *_axes(**{"in": x.shape[2:-1], "out": self.expr.shape[2:-1], "kernel": of["size"],
                            "stride": of["strides"], "dilation": of["dilations"],
                            "pad": [lo for lo, _ in of["pads"]], "pad_end": [hi for _, hi in of["pads"]]}),
                  ("mean", 2 if of["op"] == "sum" else 0)]
        return [*((k, spell(d)) for k, d in fields), ("x", point(self.operands[0]))]


class _Move(Kernel):
    """A change of layout."""

    header, struct = "gs_blocked_move_f32.h", "GsBlockedMove"
    composite = ""

    @classmethod
    def match(cls, e: Expr) -> _Move | None:
        bundle = composite_of(e, cls.composite)
        if bundle is None or e.dtype is not FLOAT:
            return None
        return cls(e, [same_memory(bundle.args[0])])

    def fields(self, spell: Spell, point: Point) -> list[tuple[str, str]]:
        bundle = self.expr.args[0]
        plain = bundle.args[0] if self.composite == "to_blocks" else self.expr
        fields = [("N", plain.shape[0]), ("C", plain.shape[1]), ("places", product(plain.shape[2:]))]
        return [*((k, spell(d)) for k, d in fields), ("x", point(self.operands[0]))]


class ToBlocks(_Move):
    composite, function = "to_blocks", "gs_blocked_from_plain"


class ToPlain(_Move):
    composite, function = "to_plain", "gs_blocked_to_plain"
