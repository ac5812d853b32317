"""Runs and their results: starting a command, its output afterwards, stopping it, seeing it again.

Called by `_rpc`. Invariants: a result's bytes are the store's bytes; up to 64 MiB are kept here,
more are fetched from the node each time they are asked for.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from . import _connect, _http
from ._errors import HpcError, HpcTimeout, Interrupted, Unavailable
from ._follow import Follower, run_path
from ._show import Screen, display, is_kernel
from ._wire import STREAMS, new_id

if TYPE_CHECKING:
    from ._shares import Share

_KEEP_BYTES = 64 << 20
_STDIN_CHUNK = 256 << 10
_FETCH_FAILURES = 5


class Result:
    """How a command ended, and what it wrote.

    `stdout` and `stderr` are text; bytes that are not UTF-8 are surrogate escapes in it, as in
    file names from `os.listdir`, so nothing is lost. `stdout_bytes` and `stderr_bytes` are the
    bytes themselves. `returncode` is 128 + the signal's number if `signal` ended the command, and
    `None` if it has not ended or nobody saw it end. `duration` is in seconds, by the node's clock.
    """

    def __init__(self, run: Run, info: dict[str, Any], kept: dict[int, bytearray] | None) -> None:
        self.run, self.id, self._info, self._kept = run, run.id, info, kept
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

    def _bytes(self, stream: int) -> bytes:
        if self._kept is not None:
            return bytes(self._kept[stream])
        return self.run._fetch(stream, self._info["sizes"][STREAMS[stream]])

    def __str__(self) -> str:
        text = self.state if self.returncode is None else f"exit {self.returncode}"
        text += f" ({self.signal})" if self.signal else ""
        return f"{text}: {self.reason}" if self.reason else text

    def __repr__(self) -> str:
        return f"<Result {self}, run {self.id}>"

    def _ipython_display_(self) -> None:
        """Shows one line if it failed; what it wrote has been shown before."""
        if not self.ok:
            display({"text/plain": str(self)})


class Run:
    """A command on the node, running or over, by its id; from any notebook, at any time."""

    def __init__(self, cluster: str, run_id: str) -> None:
        self.cluster, self.id = cluster, run_id
        self._path = run_path(cluster, run_id)
        self._goes_on = False  # Whether it was started here and not seen to end.

    def attach(self, *, quiet: bool = False) -> Result:
        """Shows every byte from the store and follows to the end. ■ stops the showing only."""
        return self._follow(None, quiet=quiet)

    def kill(self) -> None:
        """Ends every process of the run at once."""
        _http.get_json("POST", f"{self._path}/kill")

    def signal(self, name: str = "INT") -> None:
        """Sends a signal to the command: `INT`, `TERM`, `HUP`, `USR1`, …"""
        _http.get_json("POST", f"{self._path}/signal", {"signal": name.removeprefix("SIG")})

    def share(
        self,
        *users: str,
        drive: bool = False,
        hours: float | None = None,
        stream: str | None = None,
    ) -> Share:
        """Shows the run to other users of the cluster, by their login names.

        With `drive` they can type into it, interrupt it and set its size, as if they were you, for
        at most 7 days. `hours` is how long it lasts; without it until you take it back. `stream`
        shares only `'stdout'` or only `'stderr'`.
        """
        from ._shares import share

        content: dict[str, Any] = {"run": self.id, "streams": [stream] if stream else []}
        return share(self.cluster, {"run": content}, users, drive, hours)

    def unshare(self) -> None:
        """Takes back every share of this run; whoever is looking is cut."""
        from ._shares import Shares

        for each in Shares(self.cluster).by_me:
            if each.run_id == self.id:
                each.revoke()

    @property
    def info(self) -> dict[str, Any]:
        """What the agent knows of it now, as in the protocol's `Run`."""
        info: dict[str, Any] = _http.get_json("GET", self._path)
        return info

    @property
    def result(self) -> Result:
        """Its result so far; final when `state` is `exited` or `lost`."""
        return Result(self, self.info, None)

    @property
    def state(self) -> str:
        """`queued`, `running`, `stalled`, `exited` or `lost`."""
        return self.result.state

    @property
    def returncode(self) -> int | None:
        """Its exit code, once it has one."""
        return self.result.returncode

    @property
    def stdout(self) -> str:
        """What it has written to stdout so far."""
        return self.result.stdout

    @property
    def stderr(self) -> str:
        """What it has written to stderr so far."""
        return self.result.stderr

    def __repr__(self) -> str:
        return f"<Run {self.id} on {self.cluster}>"

    def _follow(
        self,
        spec: dict[str, Any] | None,
        *,
        stdin: bytes = b"",
        timeout: float | None = None,
        quiet: bool = False,
    ) -> Result:
        """Starts it if there is a `spec`, shows it, and returns its result at its end."""
        kept: dict[int, bytearray] | None = {stream: bytearray() for stream in STREAMS}
        screen = None if quiet else Screen()

        def take(stream: int, data: bytes) -> None:
            nonlocal kept
            if kept is not None:
                kept[stream] += data
                if sum(map(len, kept.values())) > _KEEP_BYTES:
                    kept = None
            if screen:
                screen.write(stream, data)

        follower = Follower(self.cluster, self.id, spec, take, timeout)
        over = threading.Event()
        if stdin:
            threading.Thread(target=self._feed, args=(stdin, over), daemon=True).start()
        try:
            follower.follow()
        finally:
            over.set()
            self._goes_on = follower.started and not follower.ended
            if screen:
                screen.close()
                self._tell_more(screen)
        result = Result(self, follower.info, kept)
        if result.reason and screen:
            sys.stderr.write(f"{screen.end_line()}{result.reason}\n")
        if follower.timed_out:
            late = HpcTimeout(f"it took longer than {timeout} s and was killed")
            late.result = result
            raise late
        if follower.interrupts:
            raise Interrupted(str(result), result)
        return result

    def _fetch(self, stream: int, size: int) -> bytes:
        """Returns the first `size` bytes of a stream from the store."""
        data, failures = bytearray(), 0
        while len(data) < size:
            try:
                path = f"{self._path}/{STREAMS[stream]}?from={len(data)}&follow=false"
                answer = _http.request("GET", path)
                while len(data) < size:
                    more = answer.read_some()
                    if not more:
                        raise ConnectionError(f"{len(data)} of {size} bytes came")
                    data += more
                    failures = 0
                answer.keep()
            except _http.BROKEN as error:
                failures += 1
                if failures > _FETCH_FAILURES:
                    message = f"the output of run {self.id} could not be fetched"
                    raise Unavailable(message, causes=[repr(error)]) from error
        return bytes(data[:size])

    def _feed(self, data: bytes, over: threading.Event) -> None:
        """Sends stdin, in its own thread; each piece is taken once however often it is sent."""
        writer = new_id()
        for seq, start in enumerate(range(0, len(data), _STDIN_CHUNK), 1):
            piece = data[start : start + _STDIN_CHUNK]
            last = str(start + len(piece) == len(data)).lower()
            while not over.is_set():
                try:
                    path = f"{self._path}/stdin?writer={writer}&seq={seq}&eof={last}"
                    _http.get_json("POST", path, piece)
                    break
                except HpcError as error:
                    if error.code not in ("notFound", "notConnected", "unavailable"):
                        return  # It reads no more: what a broken pipe is elsewhere.
                over.wait(0.1)

    def _tell_more(self, screen: Screen) -> None:
        if not screen.hidden:
            return
        text = f"{screen.hidden:,} bytes more: the result's .stdout has them, and so has the page"
        sys.stderr.write(f"{screen.end_line()}… {text} (marconiview, Runs)\n")
        if is_kernel(sys.stderr):
            try:
                url = f"{page_url(self.cluster, timeout=1)}&run={self.id}"
            except HpcError:
                return
            link = f'<a href="{url}" target="_blank" rel="noopener">Open this run</a>'
            display({"text/html": f"{link} (good for one minute)", "text/plain": ""})


def page_url(cluster: str, timeout: float = 40) -> str:
    """Returns a new address of the cluster's page; its code is good once, for one minute."""
    path = f"/v1/clusters/{_connect.in_url(cluster)}/page"
    return str(_http.get_json("POST", path, timeout=timeout)["url"])
