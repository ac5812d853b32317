"""Writing to a run's stdin: each byte is taken once, however often it has to be sent.

Used by `_run` and `_started`. A piece bears the writer's id and a number; the agent takes a number
once. Invariants: pieces go out in their order; a piece whose fate is unknown goes again, under
its number, before anything else; errors come out to who writes.
"""

from __future__ import annotations

import threading
import time

from . import _connect, _http
from ._errors import HpcError, NotConnected, NotFound, Unavailable
from ._wire import new_id

CHUNK = 256 << 10
_PASSING = ("unavailable", "connectFailed", "agentFailed")
_LONGEST_PAUSE = 2.0


class Writer:
    """One writer of one run."""

    def __init__(self, cluster: str, path: str) -> None:
        self._cluster, self._path, self._id = cluster, path, new_id()
        self._lock, self._seq = threading.Lock(), 0
        self._unsure: tuple[int, bytes, bool] | None = None

    def write(self, data: bytes, eof: bool = False) -> None:
        """Sends the bytes, waiting through cuts; then the end if `eof`."""
        with self._lock:
            if self._unsure is not None:
                self._send(*self._unsure, None)
            self._write(data, eof, None)

    def feed(self, data: bytes, over: threading.Event) -> None:
        """Sends the bytes and the end from a thread that nobody can answer questions in.

        The run may be not there yet; once it is `over` nothing is sent any more.
        """
        with self._lock:
            self._write(data, True, over)

    def _write(self, data: bytes, eof: bool, over: threading.Event | None) -> None:
        starts = range(0, len(data), CHUNK) if data else [0] if eof else []
        for start in starts:
            piece = data[start : start + CHUNK]
            last = eof and start + len(piece) == len(data)
            if not self._send(self._seq + 1, piece, last, over):
                return

    def _send(self, seq: int, piece: bytes, eof: bool, over: threading.Event | None) -> bool:
        """Sends one piece until it is taken; not if the run is over before."""
        path = f"{self._path}/stdin?writer={self._id}&seq={seq}&eof={str(eof).lower()}"
        self._seq, self._unsure = seq, (seq, piece, eof)
        pause = 0.05
        while over is None or not over.is_set():
            try:
                _http.get_json("POST", path, piece)
                self._unsure = None
                return True
            except NotConnected:
                if over is None:
                    _connect.connect(self._cluster)
                    continue
            except HpcError as error:
                early = over is not None and isinstance(error, NotFound)
                if error.code not in _PASSING and not early:
                    self._unsure = None  # It was refused, so it was not taken.
                    raise
            except _http.BROKEN:
                pass
            if over is None:
                time.sleep(pause)
            else:
                over.wait(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)
        return False


class Feeder:
    """Feeds a run's stdin from a thread of its own while the run is followed."""

    def __init__(self, writer: Writer, data: bytes) -> None:
        self._over = threading.Event()
        self.error: HpcError | None = None
        self._writer, self._data = writer, data
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends it when the run is over."""
        self._over.set()

    def _feed(self) -> None:
        try:
            self._writer.feed(self._data, self._over)
        except HpcError as error:
            # A conflict says that nothing is read any more: what a broken pipe is elsewhere.
            if error.code != "conflict":
                self.error = error
        except Exception as error:
            self.error = Unavailable(repr(error))
