"""Reading what a run writes while it runs: by line, up to a prompt, all of it.

Called by `_started`. Invariants: every byte is seen once, through cuts; between calls at most a few
runs of this process keep their connection, however many are read.
"""

from __future__ import annotations

import threading
import time
from typing import Callable, TypeVar

from ._errors import HpcTimeout
from ._follow import Follower
from ._text import Sought, TextBuffer

_KEPT_OPEN = 4
_open: list[Reader] = []  # Readers that keep a connection between calls, the last used last.
_open_lock = threading.Lock()

T = TypeVar("T")


class Reader:
    """The place in a run's output up to which it was read."""

    def __init__(self, cluster: str, run_id: str) -> None:
        self._lock, self._buffer = threading.RLock(), TextBuffer()
        self._follower = Follower(cluster, run_id, None, self._buffer.feed)

    def line(self, timeout: float | None) -> str:
        """Returns the next line, nothing at the end."""
        return self._wait(self._buffer.line, timeout, "\n")

    def some(self, timeout: float | None) -> str:
        """Returns what came, at least one character; nothing at the end."""

        def take() -> str | None:
            return self._buffer.take() or ("" if self._buffer.over else None)

        return self._wait(take, timeout, "any output")

    def all(self, timeout: float | None) -> str:
        """Returns everything up to the end."""
        pieces: list[str] = []

        def take() -> str | None:
            pieces.append(self._buffer.take())
            return "".join(pieces) if self._buffer.over else None

        try:
            return self._wait(take, timeout, "its end")
        except BaseException:
            if not self._buffer.over:
                self._buffer.put_back("".join(pieces))
            raise

    def match(self, sought: Sought, timeout: float | None) -> str:
        """Returns the text up to and with the first match."""

        def take() -> str | None:
            found = self._buffer.match(sought)
            if found is None and self._buffer.over:
                info = self._follower.info
                code = info.get("exitCode")
                how = info["state"] if code is None else f"exit {code}"
                raise self._buffer.ended(sought, how)
            return found

        return self._wait(take, timeout, sought)

    def _wait(self, take: Callable[[], T | None], timeout: float | None, sought: Sought) -> T:
        until = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            try:
                while True:
                    taken = take()
                    if taken is not None:
                        return taken
                    if until is not None and time.monotonic() >= until:
                        raise self._late(sought, timeout)
                    self._follower.advance(until)
                    if self._follower.ended:
                        self._buffer.end()
            finally:
                self._keep()

    def _late(self, sought: Sought, timeout: float | None) -> HpcTimeout:
        return self._buffer.late(sought, timeout)

    def _keep(self) -> None:
        """Keeps the connection for the next call; the one that waits longest loses its own."""
        with _open_lock:
            if self in _open:
                _open.remove(self)
            if self._follower.is_open:
                _open.append(self)
            oldest = _open.pop(0) if len(_open) > _KEPT_OPEN else None
        # One that is in use has its connection for the time of the call.
        if oldest is not None and oldest._lock.acquire(blocking=False):
            try:
                oldest._follower.release()
            finally:
                oldest._lock.release()
