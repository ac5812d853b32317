"""A run that was started and goes on: written to, read from, waited for.

Made by `hpcrpc.start` and by `Run.future`. It is a `concurrent.futures.Future`, so `as_completed`
and `wait` take it; how it ends comes from `_watch`, whose one thread serves all of them.
Not here: reading (`_reader`), writing (`_stdin`), the future's ends in asyncio (`_aio`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from concurrent import futures
from typing import IO, TYPE_CHECKING, Any

from . import _connect, _http
from ._converse import converse
from ._errors import HpcError, Interrupted, NotConnected, Unavailable
from ._reader import Reader
from ._result import FINAL, Result
from ._run import Run
from ._stdin import CHUNK, Writer
from ._text import Sought
from ._watch import watcher
from ._wire import to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

    Future = futures.Future[Result]
else:
    Future = futures.Future

_SLICE = 1.0
_MOST_SHOWN = 16
_shown = threading.BoundedSemaphore(_MOST_SHOWN)


class Started(Run, Future):
    """A command that goes on while the notebook does.

    What it writes is read in the order in which it was written, stdout and stderr together as on
    a terminal: `expect`, `readline`, `read_some`, `read`, or a line at a time by `for line in r`.
    `result()` waits for the end; `result().stdout` has the streams apart, whatever was read.
    """

    def __init__(self, cluster: str, run_id: str) -> None:
        Run.__init__(self, cluster, run_id)
        Future.__init__(self)
        self._seen: dict[str, Any] = {}
        self._cancelling, self._settling = False, threading.Lock()
        self._reader = Reader(cluster, run_id)
        self._writer = Writer(cluster, self._path)

    def write(self, data: str | bytes) -> None:
        """Writes to its stdin. Through a lost connection it waits; nothing is written twice."""
        self._writer.write(to_bytes(data))

    def write_file(self, file: str | os.PathLike[str] | IO[Any]) -> None:
        """Writes a file of this machine, or what a file object has, to its stdin."""
        if isinstance(file, (str, os.PathLike)):
            with open(file, "rb") as opened:
                self.write_file(opened)
            return
        while piece := file.read(CHUNK):
            self.write(piece)

    def eof(self) -> None:
        """Ends its stdin."""
        self._writer.write(b"", eof=True)

    def expect(self, sought: Sought, timeout: float | None = 30) -> str:
        """Waits until `sought` comes; returns what was written up to and with it.

        A `str` is meant as it is, a pattern of `re.compile` as a regular expression. What did not
        come in `timeout` seconds is an `HpcTimeout`, what cannot come any more a `RunEnded`; both
        have what came as `text`, and it stays for the next call.
        """
        return self._reader.match(sought, timeout)

    def readline(self, timeout: float | None = None) -> str:
        """Returns the next line with its end; nothing at the run's end."""
        return self._reader.line(timeout)

    def read_some(self, timeout: float | None = None) -> str:
        """Returns what has come since, waiting for something; nothing at the run's end."""
        return self._reader.some(timeout)

    def read(self, timeout: float | None = None) -> str:
        """Returns everything from here to the run's end."""
        return self._reader.all(timeout)

    def __iter__(self) -> Iterator[str]:
        """Gives its lines as they come, to its end."""
        while line := self.readline():
            yield line

    def interact(self, ask: Callable[[], str] = input) -> Result:
        """Shows what it writes and sends it the lines that you type, to its end.

        `ask` returns a line; an `EOFError` of it ends stdin. ■ interrupts the command.
        """
        return converse(self, ask)

    def result(self, timeout: float | None = None) -> Result:
        """Waits for its end, at most `timeout` seconds, and returns how it ended.

        A command that took longer than its own limit is an `HpcTimeout`.
        """
        until = None if timeout is None else time.monotonic() + timeout
        try:
            while not self.done():
                left = _SLICE if until is None else min(_SLICE, until - time.monotonic())
                if left <= 0:
                    raise futures.TimeoutError(f"{self!r} goes on after {timeout} s")
                watcher(self.cluster).log_in()
                futures.wait([self], left)
        except KeyboardInterrupt:
            raise Interrupted(f"the command goes on; runs[{self.id!r}]") from None
        return Future.result(self, 0)

    def running(self) -> bool:
        """Whether it lives and does not wait for its turn."""
        return not self.done() and self._seen.get("state") not in (None, "queued")

    def cancel(self) -> bool:
        """Kills every process of it; `False` if it was over."""
        if self.done():
            return self.cancelled()
        self._cancelling = True  # Its end may be told before the kill is answered.
        try:
            info = self._kill()
        except BaseException:
            self._cancelling = False
            if self._seen.get("state") in FINAL:
                self._settle(self._seen)
            raise
        self._cancelling = False
        if not self._ended_by_itself(info):
            self._settle_cancelled()
        self._settle(info)
        return self.cancelled()

    def show(self) -> Started:
        """Shows what it writes in this cell from its first byte on, while the cell ends."""
        if not _shown.acquire(blocking=False):
            raise HpcError(f"{_MOST_SHOWN} runs are shown already", ["start it without show=True"])

        def follow() -> None:
            try:
                self._follow(None)
            except HpcError as error:
                sys.stderr.write(f"{error}\n")
            finally:
                _shown.release()

        threading.Thread(target=follow, name=f"shows {self.id}", daemon=True).start()
        return self

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else self._seen.get("state", "starting")
        return f"<Started {self.id} on {self.cluster}: {state}>"

    @classmethod
    def _found(cls, run: Run) -> Started:
        """Returns a known run as a future."""
        started, watch = cls(run.cluster, run.id), watcher(run.cluster)
        watch.add(started)
        try:
            watch.has(started, started.info)
        except BaseException:
            watch.remove(started)
            raise
        return started

    def _begin(self, spec: dict[str, Any]) -> Started:
        """Starts it; returns once the node has it."""
        watch = watcher(self.cluster)
        watch.add(self)
        try:
            watch.has(self, self._put(spec))
        except BaseException:
            watch.remove(self)
            raise
        return self

    def _put(self, spec: dict[str, Any]) -> dict[str, Any]:
        """Sends the spec until it is surely there; the same id is never started twice."""
        pause, sent = 0.05, False
        while True:
            try:
                info: dict[str, Any] = _http.get_json("PUT", self._path, spec)
                return info
            except NotConnected:
                _connect.connect(self.cluster)
            except Unavailable:
                sent = True
            except HpcError as error:
                if not sent or error.code not in ("connectFailed", "agentFailed"):
                    raise
            time.sleep(pause)
            pause = min(2.0, pause * 2)

    def _feed(self, stdin: str | bytes) -> None:
        """Writes all that its stdin gets; one that reads none of it, or is over, is no error."""
        try:
            self._writer.write(to_bytes(stdin), eof=True)
        except HpcError as error:
            if error.code != "conflict":
                raise

    def _settle(self, info: dict[str, Any]) -> bool:
        """Takes what is told of it; returns whether that was its end."""
        self._seen = info
        if info["state"] not in FINAL:
            return self.done()
        if self._cancelling:  # What the kill finds decides; it settles this.
            return True
        result = Result(self, info)
        too_late = result._late()
        with contextlib.suppress(futures.InvalidStateError):  # It is told twice.
            if too_late:
                self.set_exception(too_late)
            else:
                self.set_result(result)
        return True

    def _ended_by_itself(self, info: dict[str, Any]) -> bool:
        """Whether a kill found it over: ended without one, or by its own time limit."""
        if info["state"] != "exited":
            return False
        return info.get("signal") != "KILL" or Result(self, info)._late() is not None

    def _settle_cancelled(self) -> None:
        with self._settling:
            if not self.done() and Future.cancel(self):
                self.set_running_or_notify_cancel()

    def _fail(self, error: HpcError) -> None:
        with contextlib.suppress(futures.InvalidStateError):
            self.set_exception(error)

    def _interrupt(self) -> None:
        """What ■ does: `INT`, or the end of what has not begun."""
        with contextlib.suppress(HpcError):
            if self._seen.get("state") == "queued":
                self.kill()
            else:
                self.signal("INT")
