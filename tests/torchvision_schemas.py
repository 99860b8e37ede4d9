"""Importing this lets transformers and timm import a torchvision whose C extension does not load.

What torchvision registers meanings for must have been declared before it is imported; `bench/architecture_zoo` has the
declarations, read here by path, for the zoo itself would import every framework. Without torchvision nothing changes.
"""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_FILE = Path(__file__).resolve().parents[1] / "bench" / "architecture_zoo" / "torchvision_schemas.py"

_spec = spec_from_file_location("torchvision_schemas", _FILE)
assert _spec is not None and _spec.loader is not None
# Kept, for the declarations last as long as it.
_module = module_from_spec(_spec)
_spec.loader.exec_module(_module)
