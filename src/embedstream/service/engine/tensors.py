"""The tensors of a model's safetensors files, one or many, in float32, float16 or bfloat16."""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from embedstream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    Array = npt.NDArray[np.float32]

INDEX = ".index.json"
"""What the name of the file ends with that says which tensor is in which of many."""

_BF16 = "BF16"
_FLOATS = ("F64", "F32", "F16", _BF16)
_WORDS = ("word_embeddings.weight", "tok_embeddings.weight", "embed_tokens.weight")


def files_of(weights: Path) -> tuple[Path, ...]:
    """The files of tensors: that one, or those that an index names.

    Raises ConfigError where the index makes no sense, or names a file that is not there.
    """
    if not weights.name.endswith(INDEX):
        return (weights,)
    try:
        names = set(json.loads(weights.read_bytes())["weight_map"].values())
        files = tuple(weights.parent / name for name in sorted(names))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ConfigError(
            f"{weights} is no index of safetensors files ({exc}): use a complete model directory"
        ) from exc
    for path in files:
        if path.parent != weights.parent or not path.is_file():
            raise ConfigError(f"{weights} names {path.name}, which is not there: use a complete model directory")
    return files


class Tensors:
    """All tensors of a model, of whatever numbers they are held in.

    Raises ConfigError for a file that is not safetensors' own.
    """

    def __init__(self, weights: Path) -> None:
        self._files: dict[str, _File] = {name: file for path in files_of(weights) for name, file in _opened(path)}
        self._read: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._of(name).shape(name)

    def numbers(self, name: str) -> str:
        """How they are held: F32, BF16, I8 and so on."""
        return self._of(name).numbers(name)

    def held_halves(self, name: str) -> npt.NDArray[np.uint16] | None:
        """The bits of a tensor in bfloat16, as they lie in the file; None where it is in other numbers."""
        if self.numbers(name) != _BF16:
            return None
        self._read.add(name)
        return self._of(name).halves(name)

    def get(self, name: str) -> Array:
        """In float32; raises TypeError if it holds no real numbers, KeyError if there is none."""
        if self.numbers(name) not in _FLOATS:
            raise TypeError(f"{name} is held in {self.numbers(name)}")
        self._read.add(name)
        return self.raw(name).astype(np.float32, copy=False)

    def raw(self, name: str) -> npt.NDArray[Any]:
        """As held, bfloat16 alone made float32."""
        return self._of(name).get(name)

    def unread(self, beginning: str) -> list[str]:
        """The tensors of such names that nobody asked for."""
        return sorted(name for name in self._files if name.startswith(beginning) and name not in self._read)

    def _of(self, name: str) -> _File:
        if name not in self._files:
            raise KeyError(f"there is no {name}")
        return self._files[name]


class _File:
    def __init__(self, path: Path) -> None:
        self._path = path
        # It checks the whole header.
        self._open = cast("Any", safe_open(path, framework="np"))
        with path.open("rb") as file:
            [size] = struct.unpack("<Q", file.read(8))
            self._header = cast("Mapping[str, Any]", json.loads(file.read(size)))
        self._start = size + 8

    def names(self) -> list[str]:
        return list(self._open.keys())

    def numbers(self, name: str) -> str:
        return str(self._header[name]["dtype"])

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._header[name]["shape"])

    def get(self, name: str) -> npt.NDArray[Any]:
        if self.numbers(name) != _BF16:
            return cast("npt.NDArray[Any]", self._open.get_tensor(name))
        # A bfloat16 is the upper half of a float32.
        return (self.halves(name).astype(np.uint32) << 16).view(np.float32)

    def halves(self, name: str) -> npt.NDArray[np.uint16]:
        begin, _ = self._header[name]["data_offsets"]
        return np.memmap(self._path, "<u2", "r", self._start + begin, self.shape(name))


def _opened(path: Path) -> list[tuple[str, _File]]:
    try:
        file = _File(path)
    except (OSError, SafetensorError) as exc:
        raise ConfigError(f"{path} cannot be read as safetensors ({exc}): save the model again") from exc
    return [(name, file) for name in file.names()]


def held_in_bf16(weights: Path) -> bool:
    """Whether most of a model's numbers are bfloat16 in its files."""
    tensors = Tensors(weights)
    sizes = [(math.prod(tensors.shape(name)), tensors.numbers(name) == _BF16) for name in tensors]
    return 2 * sum(size for size, is_bf16 in sizes if is_bf16) > sum(size for size, _ in sizes)


def check_vocabulary(weights: Path, vocabulary: int) -> None:
    """Raises ConfigError where a tokenizer with so many ids has some that the weights know nothing of."""
    tensors = Tensors(weights)
    for name in (name for name in tensors if name.endswith(_WORDS)):
        rows = tensors.shape(name)[0]
        if vocabulary > rows:
            raise ConfigError(
                f"the tokenizer beside {weights} has {vocabulary} tokens, but the weights only {rows}: "
                "use a directory in which both are the same model's"
            )
