"""What modules of others do late or otherwise under capture, done as at a plain call."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def ready(module: Any) -> None:
    """Let transformers' models install their hooks that collect hidden states.

    They note in an attribute that it was done; set while PyTorch traces, the attribute is put back, the hooks stay, and
    the next call installs them a second time.
    """
    found = sys.modules.get("transformers.utils.output_capturing")
    install = getattr(found, "maybe_install_capturing_hooks", None)
    registry = getattr(found, "_CAN_RECORD_REGISTRY", None)
    if install is None or registry is None:
        return
    # Outer models first: they see to those inside.
    for part in module.modules():
        if registry.get(part):
            install(part)


@contextmanager
def needless_masks_left_out() -> Iterator[None]:
    """While this is entered, transformers' encoders have no mask where nothing is masked, as when they are called.

    Told that they are exported, they make a mask of ones for the sake of those who ask which values a given mask has,
    also where none was given. Models that shorten their sequence between layers then find that it does not fit.
    """
    source: Any = sys.modules.get("transformers.masking_utils")
    asked = getattr(source, "_ignore_bidirectional_mask_sdpa", None)
    if asked is None:
        yield
        return

    def needless(padding_mask: Any, *args: Any, **named: Any) -> Any:
        whole = all(x is None for x in (padding_mask, *args[1:], *(v for n, v in named.items() if n != "kv_length")))
        return whole or asked(padding_mask, *args, **named)

    source._ignore_bidirectional_mask_sdpa = needless
    try:
        yield
    finally:
        source._ignore_bidirectional_mask_sdpa = asked


@contextmanager
def idle_moves_left_out() -> Iterator[None]:
    """While this is entered, `part.to(dtype)` in a module's own forward does nothing where nothing is to be done.

    PyTorch swaps the weights all the same, and cannot with those of a capture (routers of experts do this).
    """
    moved = torch.nn.Module.to

    def to(self: Any, *args: Any, **named: Any) -> Any:
        device, dtype, _, layout = torch._C._nn._parse_to(*args, **named)
        held = [*self.parameters(), *self.buffers()]
        same = all((device is None or x.device == device) and (dtype is None or x.dtype == dtype
                                                               or not (x.is_floating_point() or x.is_complex()))
                   for x in held)
        return self if same and layout is None else moved(self, *args, **named)

    torch.nn.Module.to = to    # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.nn.Module.to = moved    # type: ignore[method-assign]


@contextmanager
def boxes_suppressed_at_once() -> Iterator[None]:
    """While this is entered, torchvision keeps boxes of several classes apart by their places, however many there are.

    Of many boxes it goes through the classes one by one instead, for the sake of memory: a branch on a number that only
    the data tell, which PyTorch cannot capture. Both keep the same boxes.
    """
    source: Any = sys.modules.get("torchvision.ops.boxes")
    asked = getattr(source, "batched_nms", None)
    if asked is None:
        yield
        return

    def at_once(boxes: Any, scores: Any, idxs: Any, iou_threshold: float) -> Any:
        # With a zero beside them, so that there may be no boxes.
        largest = torch.cat([boxes.flatten(), boxes.new_zeros(1)]).max()
        return source.nms(boxes + (idxs.to(boxes) * (largest + 1))[:, None], scores, iou_threshold)

    source.batched_nms = at_once
    try:
        yield
    finally:
        source.batched_nms = asked
