"""From `.proto` text to descriptors, by protoc as a process of its own: whatever it does, the worker lives."""

from __future__ import annotations

import binascii
import re
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeAlias

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError

from embedstream.decode.plain import bytes_of
from embedstream.decode.schema import Unusable
from embedstream.errors import RetryLater

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from embedstream.decode.schema import Schema

ROOT = "__value.proto"
"""The name of a registry's schema, which has none of its own."""
_SECONDS = 60
_MOST_REASON = 300
_ERROR = re.compile(r"^.+:\d+:\d+: (?!warning).*$", re.MULTILINE)
_UNWRITABLE = (FileExistsError, IsADirectoryError, NotADirectoryError)
# Confluent's registry knows these without a reference; its producers annotate with them.
_META = """syntax = "proto3";
package confluent;
import "google/protobuf/descriptor.proto";
message Meta {
  string doc = 1;
  map<string, string> params = 2;
  repeated string tags = 3;
}
extend google.protobuf.FileOptions { Meta file_meta = 1088; }
extend google.protobuf.MessageOptions { Meta message_meta = 1088; }
extend google.protobuf.FieldOptions { Meta field_meta = 1088; }
extend google.protobuf.EnumOptions { Meta enum_meta = 1088; }
extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }
"""
_DECIMAL = """syntax = "proto3";
package confluent.type;
message Decimal {
  bytes value = 1;
  uint32 precision = 2;
  int32 scale = 3;
}
"""
_BUILT_IN = {"confluent/meta.proto": _META, "confluent/type/decimal.proto": _DECIMAL}

Files: TypeAlias = dict[str, FileDescriptorProto]


def files_of_schema(schema: Schema) -> Files:
    """The descriptors of a registry's schema and of all that it imports, by name; raises Unusable.

    A registry keeps what was registered: Java's producers register text, Python's the descriptor in base64.
    """
    texts = {reference.name: reference.text for reference in schema.references} | {ROOT: schema.text}
    ready = {name: file for name, text in texts.items() if (file := _descriptor(name, text))}
    written = {name: text for name, text in texts.items() if name not in ready}
    if ROOT in ready:
        needed = {name for file in ready.values() for name in file.dependency} - ready.keys()
        if not needed:
            return ready
        written[ROOT] = "".join(['syntax = "proto3";\n', *(f"import {_quoted(name)};\n" for name in sorted(needed))])
    return _compile(written, ready) | ready


def files_of_path(path: Path, directory: Path) -> tuple[Files, str]:
    """The descriptors of a `.proto` file and of all that it imports, and its own name among them; raises Unusable.

    Imports are looked for in `directory`, and in the folder of the file.
    """
    inside = path.is_relative_to(directory)
    folders = [directory, path.parent] if inside else [path.parent, directory]
    files = _protoc(path, list(dict.fromkeys(folders)), ())
    return files, str(path.relative_to(folders[0]))


def is_text(schema: Schema) -> bool:
    return _descriptor(ROOT, schema.text) is None


def _descriptor(name: str, text: str) -> FileDescriptorProto | None:
    if not text:
        return None
    try:
        file = FileDescriptorProto.FromString(bytes_of(text))
    except (binascii.Error, ValueError, DecodeError):
        return None
    file.name = name
    return file


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _compile(texts: Mapping[str, str], ready: Files) -> Files:
    with _scratch() as scratch:
        folder = Path(scratch) / "files"
        for name, text in {**_BUILT_IN, **texts}.items():
            _write(folder, name, text)
        return _protoc(folder / ROOT, [folder], ready.values())


def _scratch() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="embedstream-protoc-")
    except OSError as exc:
        raise RetryLater(f"a schema cannot be written to a temporary directory ({type(exc).__name__})") from exc


def _write(folder: Path, name: str, text: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or not path.parts:
        raise Unusable("refers to another one by a name that is no path inside of a folder")
    target = folder / path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except (*_UNWRITABLE, UnicodeEncodeError) as exc:
        raise Unusable(f"cannot be written to a file ({type(exc).__name__})") from exc
    except OSError as exc:
        raise RetryLater(f"a schema cannot be written to a temporary file ({type(exc).__name__})") from exc


def _protoc(file: Path, folders: Sequence[Path], ready: Iterable[FileDescriptorProto]) -> Files:
    with _scratch() as scratch:
        known, out = Path(scratch) / "known", Path(scratch) / "out"
        known.write_bytes(FileDescriptorSet(file=ready).SerializeToString())
        # -P: no file of a schema's folder may be taken for a Python module.
        command = [sys.executable, "-P", "-m", "grpc_tools.protoc", *(f"-I{folder}" for folder in folders)]
        command += [f"--descriptor_set_in={known}", "--include_imports", f"--descriptor_set_out={out}", str(file)]
        _run(command)
        return {each.name: each for each in FileDescriptorSet.FromString(out.read_bytes()).file}


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False, text=True
        )
    except subprocess.TimeoutExpired as exc:
        raise RetryLater(f"protoc did not compile a schema within {_SECONDS} s") from exc
    except OSError as exc:
        raise RetryLater(f"protoc cannot be started ({type(exc).__name__})") from exc
    if done.returncode:
        said = _ERROR.search(done.stderr)
        reason = said[0] if said else f"it ends with {done.returncode}"
        raise Unusable(f"is refused by protoc: {reason[:_MOST_REASON]}")
