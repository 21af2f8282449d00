"""OpenVINO, kept from calling home.

Its import sends usage data to a third party and leaves files in the user's home, unless the package that does it is
missing: then it takes a stub of its own. Import it from here only.
"""

import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from types import ModuleType

cast("dict[str, ModuleType | None]", sys.modules)["openvino_telemetry"] = None

import openvino  # noqa: E402 - after the line above
from openvino import opset13 as op  # noqa: E402

__all__ = ["op", "openvino"]
