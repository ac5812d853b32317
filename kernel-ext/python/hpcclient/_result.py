"""How a command ended, and what it wrote.

Made by `_run` and `_started`. Invariants: a result's bytes are the store's bytes, so many as it
says are missing and no more; up to 64 MiB are kept here, else they are fetched when asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._errors import HpcTimeout
from ._show import display
from ._wire import STREAMS

if TYPE_CHECKING:
    from ._run import Run

KEEP_BYTES = 64 << 20
FINAL = ("exited", "lost")


class Result:
    """How a command ended, and what it wrote.

    `stdout` and `stderr` are text; bytes that are not UTF-8 are surrogate escapes in it, as in
    file names from `os.listdir`, so nothing is lost. `stdout_bytes` and `stderr_bytes` are the
    bytes themselves. `returncode` is 128 + the signal's number if `signal` ended the command, and
    `None` if it has not ended or nobody saw it end. `duration` is in seconds, by the node's clock.
    """

    def __init__(
        self,
        run: Run,
        info: dict[str, Any],
        kept: dict[int, bytearray] | None = None,
        missing: dict[int, int] | None = None,
    ) -> None:
        self.run, self.id, self._info, self._kept = run, run.id, info, kept
        self._missing: dict[int, int] = dict(missing or {})
        self.state: str = info["state"]
        self.returncode: int | None = info.get("exitCode")
        self.signal: str | None = info.get("signal")
        self.reason: str | None = info.get("reason")
        started, ended = info.get("startedMs"), info.get("endedMs")
        self.duration = (ended - started) / 1000 if started and ended else None

    @property
    def ok(self) -> bool:
        """Whether the command ended with 0."""
        return self.returncode == 0

    @property
    def stdout(self) -> str:
        """What it wrote to stdout (a console: to its terminal)."""
        return self.stdout_bytes.decode("utf-8", "surrogateescape")

    @property
    def stderr(self) -> str:
        """What it wrote to stderr."""
        return self.stderr_bytes.decode("utf-8", "surrogateescape")

    @property
    def stdout_bytes(self) -> bytes:
        """The bytes of `stdout`."""
        return self._bytes(3 if self._info["spec"].get("pty") else 1)

    @property
    def stderr_bytes(self) -> bytes:
        """The bytes of `stderr`."""
        return self._bytes(2)

    @property
    def missing(self) -> int:
        """How many bytes of its output are not kept any more; they are left out of the above."""
        if self._kept is None:
            for stream in STREAMS:
                if stream not in self._missing:
                    self._bytes(stream)
        return sum(self._missing.values())

    def load(self) -> Result:
        """Fetches the output now if it is small enough to be kept here; returns itself."""
        if self._kept is None and sum(self._info["sizes"].values()) <= KEEP_BYTES:
            self._kept = {stream: bytearray(self._bytes(stream)) for stream in STREAMS}
        return self

    def _bytes(self, stream: int) -> bytes:
        if self._kept is not None:
            return bytes(self._kept[stream])
        data, self._missing[stream] = self.run._fetch(stream, self._info["sizes"])
        return data

    def _late(self) -> HpcTimeout | None:
        """Returns the error of a command that the node ended for taking too long."""
        limit = self._info["spec"].get("timeoutMs")
        told = (self.reason or "").startswith("it took longer than")
        seen = self.signal == "KILL" and (self.duration or 0) * 1000 >= (limit or 0)
        return late(limit / 1000, self) if limit and (told or seen) else None

    def __str__(self) -> str:
        text = self.state if self.returncode is None else f"exit {self.returncode}"
        text += f" ({self.signal})" if self.signal else ""
        text += f": {self.reason}" if self.reason else ""
        missing = sum(self._missing.values())
        return f"{text}; {missing:,} bytes of its output are not kept" if missing else text

    def __repr__(self) -> str:
        return f"<Result {self}, run {self.id}>"

    def _ipython_display_(self) -> None:
        """Shows one line if it failed; what it wrote has been shown before."""
        if not self.ok:
            display({"text/plain": str(self)})


def late(seconds: float, result: Result) -> HpcTimeout:
    """Returns the error of a command that took too long, with what it left."""
    error = HpcTimeout(f"it took longer than {seconds:g} s and was killed")
    error.result = result
    return error
