"""A run's output for asyncio: the same bytes as `_reader`'s, without a thread.

Called by `_aio`. Invariants: every byte is seen once, through cuts; who is cancelled loses nothing:
what has come stays for the next call, which opens the stream where it was.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from . import _bridge, _connect, _http
from ._errors import HpcError, NotConnected, from_wire
from ._follow import run_path
from ._text import Sought, TextBuffer
from ._wire import DATA, END, GAP, STATE, STREAMS, Frames

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_PASSING = ("unavailable", "connectFailed", "agentFailed")
_LONGEST_PAUSE = 2.0
_PIECE = 1 << 16
_BROKEN = (*_http.BROKEN, asyncio.IncompleteReadError, asyncio.TimeoutError)

T = TypeVar("T")


class AsyncReader:
    """The place in a run's output up to which it was read."""

    def __init__(self, cluster: str, run_id: str) -> None:
        self._cluster, self._path = cluster, f"{run_path(cluster, run_id)}/stream?"
        self._buffer, self._lock = TextBuffer(), asyncio.Lock()
        self._offsets = dict.fromkeys(STREAMS, 0)
        self._pieces: AsyncIterator[bytes] | None = None
        self._frames = Frames()
        self._info: dict[str, Any] = {}

    async def line(self) -> str:
        """Returns the next line, nothing at the end."""
        return await self._wait(self._buffer.line)

    async def all(self) -> str:
        """Returns everything up to the end."""
        pieces: list[str] = []

        def take() -> str | None:
            pieces.append(self._buffer.take())
            return "".join(pieces) if self._buffer.over else None

        try:
            return await self._wait(take)
        except BaseException:
            self._buffer.put_back("".join(pieces))
            raise

    async def match(self, sought: Sought, timeout: float | None) -> str:
        """Returns the text up to and with the first match."""

        def take() -> str | None:
            found = self._buffer.match(sought)
            if found is None and self._buffer.over:
                code = self._info.get("exitCode")
                how = self._info.get("state", "") if code is None else f"exit {code}"
                raise self._buffer.ended(sought, how)
            return found

        try:
            return await asyncio.wait_for(self._wait(take), timeout)
        except asyncio.TimeoutError:
            raise self._buffer.late(sought, timeout) from None

    async def _wait(self, take: Callable[[], T | None]) -> T:
        async with self._lock:
            pause = 0.05
            while (taken := take()) is None:
                try:
                    await self._advance()
                    pause = 0.05
                except NotConnected:
                    self._drop()
                    await asyncio.to_thread(_connect.connect, self._cluster)
                except (*_BROKEN, HpcError) as error:
                    self._drop()
                    if isinstance(error, HpcError) and error.code not in _PASSING:
                        raise
                    await asyncio.sleep(pause)
                    pause = min(_LONGEST_PAUSE, pause * 2)
                except BaseException:
                    self._drop()
                    raise
            return taken

    async def _advance(self) -> None:
        """Waits for the next bytes and takes them."""
        if self._pieces is None:
            query = "&".join(f"{name}={self._offsets[each]}" for each, name in STREAMS.items())
            self._pieces, self._frames = _body(f"{self._path}{query}&follow=true"), Frames()
        data = await asyncio.wait_for(_next_of(self._pieces), _http.SILENCE)
        for kind, stream, offset, payload in self._frames.push(data):
            if kind == DATA:
                have = self._offsets[stream]
                if offset > have:
                    raise ConnectionError(f"bytes {have} to {offset} are missing")
                self._offsets[stream] = max(have, offset + len(payload))
                self._buffer.feed(stream, payload[have - offset :])
            elif kind == GAP:
                self._offsets[stream] = max(self._offsets[stream], int.from_bytes(payload, "big"))
            elif kind in (STATE, END):
                self._info = json.loads(payload)
                if kind == END:
                    self._buffer.end()
                    self._drop()

    def _drop(self) -> None:
        # An iterator that is let go closes its connection.
        self._pieces = None


async def _next_of(pieces: AsyncIterator[bytes]) -> bytes:
    # An end before the run's own is a cut.
    async for piece in pieces:
        return piece
    raise ConnectionError("the stream ended before the run")


async def _body(path: str) -> AsyncIterator[bytes]:
    """Sends a GET to the bridge and gives the pieces of its answer as they come."""
    address = await asyncio.to_thread(_bridge.address)
    try:
        reader, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:
        _bridge.forget(address)
        raise
    try:
        writer.write(_http.head(address, "GET", path, b""))
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split(" ", 2)[1])
        if "transfer-encoding: chunked" not in head:
            length = int(head.partition("content-length:")[2].split("\r", 1)[0] or 0)
            body = await reader.readexactly(length)
            if status == 401:
                _bridge.forget(address)
                raise ConnectionError("the bridge is another one now")
            raise from_wire(json.loads(body or b"null"), status)
        while size := await _chunk_size(reader):
            while size:
                piece = await reader.read(min(size, _PIECE))
                if not piece:
                    raise ConnectionError("the stream was cut")
                size -= len(piece)
                yield piece
            await reader.readexactly(2)
    finally:
        writer.close()


async def _chunk_size(reader: asyncio.StreamReader) -> int:
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise ConnectionError("the stream was cut")
    return int(line, 16)
