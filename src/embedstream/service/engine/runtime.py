"""OpenVINO, kept from calling home, and one core of it.

Its import sends usage data to a third party and leaves files in the user's home, unless the package that does it is
missing: then it takes a stub of its own. Import it from here only.
"""

import sys
from functools import cache
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from types import ModuleType

cast("dict[str, ModuleType | None]", sys.modules)["openvino_telemetry"] = None

import openvino  # noqa: E402 - after the line above
from openvino import opset13 as op  # noqa: E402

__all__ = ["core", "op", "openvino"]


@cache
def core() -> openvino.Core:
    """The process's only core, which is never given up.

    A core that loads the CPU plugin gives the thread a stack for signal handlers, and takes it away when it ends. Two
    that end in the order in which they began leave a stack behind that is gone: the next signal ends the process.
    """
    return openvino.Core()
