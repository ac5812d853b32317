"""The protocol's pieces: run ids, texts that may not be UTF-8, binary frames.

Called by `_run`, `_follow` and `_rpc`. The same shapes as `crates/protocol`.
Invariants: a frame is given out whole or not at all.
"""

from __future__ import annotations

import base64
import os
import shlex
import struct
import time
import uuid
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Union

from ._errors import HpcError

if TYPE_CHECKING:
    from collections.abc import Iterator

Text = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]", int, float]

DATA, GAP, RESIZE, STATE, END, PING = range(1, 7)
STREAMS = {1: "stdout", 2: "stderr", 3: "tty"}
_HEADER = struct.Struct(">BBQI")
_MAX_PAYLOAD = 1 << 20


def new_id() -> str:
    """Returns a version 7 UUID: the time in milliseconds, then 74 random bits."""
    bits = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    bits = bits & ~(0xF << 76) | 7 << 76
    return str(uuid.UUID(int=bits & ~(3 << 62) | 2 << 62))


def to_bytes(value: Text) -> bytes:
    """Returns the bytes that a shell or a program gets for a Python value."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, PurePath):  # The node has forward slashes, whatever this machine has.
        value = value.as_posix()
    elif isinstance(value, (int, float)):
        value = str(value)
    elif not isinstance(value, str):
        return to_bytes(os.fspath(value))
    return value.encode("utf-8", "surrogateescape")


def to_wire(value: Text) -> str | dict[str, str]:
    """Returns a `ByteString`: text, or base64 where the bytes are not UTF-8."""
    raw = to_bytes(value)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def from_wire(value: str | dict[str, str] | None) -> str:
    """Returns a `ByteString` as text; bytes that are not UTF-8 become surrogates, as in `os`."""
    if isinstance(value, dict):
        return base64.b64decode(value["base64"]).decode("utf-8", "surrogateescape")
    return value or ""


def quote(value: Any) -> str:
    """Returns one argument of a command as shell text: a `str` as it is, all else quoted."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        return " ".join(map(_quote_one, value))
    return _quote_one(value)


def _quote_one(value: Text) -> str:
    return shlex.quote(to_bytes(value).decode("utf-8", "surrogateescape"))


class Frames:
    """Puts frames together from bytes that come in any pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def push(self, data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """Takes bytes; gives `(type, stream, offset, payload)` of every whole frame."""
        self._buffer += data
        start = 0
        try:
            while len(self._buffer) - start >= _HEADER.size:
                kind, stream, offset, length = _HEADER.unpack_from(self._buffer, start)
                known = DATA <= kind <= PING and (kind not in (DATA, GAP) or stream in STREAMS)
                if not known or length > _MAX_PAYLOAD:
                    what = f"frame type {kind} of stream {stream}, {length} bytes"
                    raise HpcError(f"the stream is damaged: {what}")
                end = start + _HEADER.size + length
                if len(self._buffer) < end:
                    break
                payload = bytes(memoryview(self._buffer)[start + _HEADER.size : end])
                start = end
                yield kind, stream, offset, payload
        finally:
            del self._buffer[:start]
