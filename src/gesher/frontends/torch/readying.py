"""What modules of others do late, at their first call, done before they are captured: tracing would undo half of it."""

from __future__ import annotations

import sys
from typing import Any


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
