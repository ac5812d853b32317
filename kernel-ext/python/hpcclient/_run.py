"""A run by its id: seeing it again, its stored output, signals, its name and its end.

Called by `_rpc`. What reads and writes a run while it goes on is `_started`; how it is followed,
`_follow`.
"""

from __future__ import annotations

import json
import re
import sys
from re import Pattern
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from . import _connect, _http, _store
from ._errors import HpcError, Interrupted, Unavailable
from ._follow import Follower, run_path
from ._result import FINAL, KEEP_BYTES, Result, late
from ._show import Screen, display, is_kernel
from ._stdin import Feeder, Writer
from ._store import Hits, When
from ._wire import DATA, END, GAP, STREAMS, Frames, new_id

if TYPE_CHECKING:
    import os

    from ._shares import Share
    from ._started import Started

_FETCH_FAILURES = 5


class Run:
    """A command on the node, running or over, by its id; from any notebook, at any time."""

    def __init__(self, cluster: str, run_id: str) -> None:
        self.cluster, self.id = cluster, run_id
        self._path = run_path(cluster, run_id)
        self._goes_on = False  # Whether it was started here and not seen to end.

    def attach(self, *, quiet: bool = False, tail: int | None = None) -> Result:
        """Shows every byte from the store and follows to the end. ■ stops the showing only.

        `tail` starts at the last so many lines of each stream.
        """
        return self._follow(None, quiet=quiet, tail=tail)

    def future(self) -> Started:
        """The run as what `start` returns: for `concurrent.futures.as_completed` and `wait`, and
        to read what it writes from now on from its beginning."""
        from ._started import Started

        if ":" in self.id:  # Its owner's agent tells us nothing.
            raise HpcError("the run is another user's", ["attach() follows it to its end"])
        return Started._found(self)

    def result(self, timeout: float | None = None) -> Result:
        """Waits for its end, at most `timeout` seconds, and returns how it ended.

        A command that took longer than its own limit is an `HpcTimeout`.
        """
        info = self.info
        if info["state"] in FINAL:
            result = Result(self, info)
            too_late = result._late()
            if too_late:
                raise too_late
            return result
        return self.future().result(timeout)

    def kill(self) -> None:
        """Ends every process of the run at once."""
        self._kill()

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

    def rerun(self) -> Started:
        """Starts the same command again, with the same directory, environment and limits.

        What was written to its stdin is to be written again.
        """
        from ._started import Started

        return Started(self.cluster, new_id())._begin(self.info["spec"])

    @property
    def info(self) -> dict[str, Any]:
        """What the agent knows of it now, as in the protocol's `Run`."""
        info: dict[str, Any] = _http.get_json("GET", self._path)
        return info

    @property
    def state(self) -> str:
        """`queued`, `running`, `stalled`, `orphaned`, `exited` or `lost`."""
        return str(self.info["state"])

    @property
    def position(self) -> int | None:
        """Its place among those that wait for a process, 1 is the next; `None` if it does not."""
        return self.info.get("position")

    @property
    def returncode(self) -> int | None:
        """Its exit code, once it has one."""
        return self.info.get("exitCode")

    @property
    def stdout(self) -> str:
        """What it has written to stdout so far."""
        return Result(self, self.info).stdout

    @property
    def stderr(self) -> str:
        """What it has written to stderr so far."""
        return Result(self, self.info).stderr

    @property
    def name(self) -> str | None:
        """What you call it."""
        return self.info.get("name")

    @property
    def pinned(self) -> bool:
        """Whether it is kept however old it gets."""
        return bool(self.info.get("pinned"))

    def rename(self, name: str | None) -> None:
        """Gives it a name of at most 80 characters, or takes the name away."""
        self._mark({"name": name or ""})

    def pin(self) -> None:
        """Keeps it however old it gets."""
        self._mark({"pinned": True})

    def unpin(self) -> None:
        """Lets it be deleted when the store needs the space."""
        self._mark({"pinned": False})

    def delete(self) -> None:
        """Deletes it and its output from the node. One that still runs is refused."""
        _http.get_json("DELETE", self._path)

    def search(
        self,
        pattern: str | Pattern[str],
        *,
        stream: str | None = None,
        ignore_case: bool = False,
        limit: int | None = None,
    ) -> Hits:
        """Finds lines in its stored output, at the node.

        A `str` is meant as it is, a pattern of `re.compile` as a regular expression. Without
        `stream` (`'stdout'`, `'stderr'`, `'tty'`) all are searched.
        """
        fixed = isinstance(pattern, str)
        if not isinstance(pattern, str):
            ignore_case = ignore_case or bool(pattern.flags & re.IGNORECASE)
            pattern = pattern.pattern
        asked = {"pattern": pattern, "fixed": fixed, "ignoreCase": ignore_case}
        return Hits(self._get("search", **asked, stream=stream, limit=limit))

    def head(self, lines: int = 10, stream: str | None = None) -> str:
        """Returns the first lines of stdout (a console: of its terminal), or of `stream`."""
        return self._text(stream, head=lines)

    def tail(self, lines: int = 10, stream: str | None = None) -> str:
        """Returns the last lines of stdout (a console: of its terminal), or of `stream`."""
        return self._text(stream, tail=lines)

    def text(
        self, since: When | None = None, until: When | None = None, stream: str | None = None
    ) -> str:
        """Returns what it wrote between two moments (`datetime`, or seconds since 1970)."""
        return self._text(stream, since=_store.to_ms(since), until=_store.to_ms(until))

    def export(
        self, path: str | os.PathLike[str], as_: str = "raw", stream: str | None = None
    ) -> None:
        """Writes its output to a file here: `as_='raw'` as it is, `'text'` without escapes, or
        `'cast'`, a recording of a console for asciinema."""
        what = {"as": as_, **({"stream": stream} if stream else {})}
        _store.download(f"{self._path}/export?{urlencode(what)}", path)

    def __repr__(self) -> str:
        return f"<Run {self.id} on {self.cluster}>"

    def _kill(self) -> dict[str, Any]:
        """Kills it, unless it has ended; returns what it is then."""
        info: dict[str, Any] = _http.get_json("POST", f"{self._path}/kill")
        return info

    def _mark(self, marks: dict[str, Any]) -> None:
        _http.get_json("PATCH", self._path, marks)

    def _get(self, what: str, **query: Any) -> Any:
        return _http.get_json("GET", f"{self._path}/{what}?{_query(query)}")

    def _text(self, stream: str | None, **query: Any) -> str:
        stream = stream or ("tty" if self.info["spec"].get("pty") else "stdout")
        path = f"{self._path}/{stream}?{_query(query)}"
        return _store.body(path).decode("utf-8", "surrogateescape")

    def _follow(
        self,
        spec: dict[str, Any] | None,
        *,
        stdin: bytes = b"",
        timeout: float | None = None,
        quiet: bool = False,
        tail: int | None = None,
    ) -> Result:
        """Starts it if there is a `spec`, shows it, and returns its result at its end."""
        kept = None if tail is not None else {stream: bytearray() for stream in STREAMS}
        screen = None if quiet else Screen()

        def take(stream: int, data: bytes) -> None:
            nonlocal kept
            if kept is not None:
                kept[stream] += data
                if sum(map(len, kept.values())) > KEEP_BYTES:
                    kept = None
            if screen:
                screen.write(stream, data)

        follower = Follower(self.cluster, self.id, spec, take, timeout, tail)
        feeder = Feeder(Writer(self.cluster, self._path), stdin) if stdin else None
        try:
            follower.follow()
        finally:
            self._goes_on = follower.started and not follower.ended
            if feeder:
                feeder.stop()
            if screen:
                screen.close()
                self._tell_more(screen)
        missing = None if kept is None else follower.missing
        result = Result(self, follower.info, kept, missing)
        too_late = result._late() if spec is not None else None
        if screen:
            reasons = [] if too_late else [result.reason]
            lost = sum(follower.missing.values())
            reasons += [f"{lost:,} bytes of its output are not kept any more"] if lost else []
            reasons += [f"stdin was not sent: {feeder.error}"] if feeder and feeder.error else []
            for reason in filter(None, reasons):
                sys.stderr.write(f"{screen.end_line()}{reason}\n")
        if follower.timed_out and timeout is not None:
            raise late(timeout, result)
        if too_late:
            raise too_late
        if follower.interrupts:
            raise Interrupted(str(result), result)
        return result

    def _fetch(self, stream: int, sizes: dict[str, int]) -> tuple[bytes, int]:
        """Returns a stream up to its size from the store, and how many of its bytes are missing."""
        data, missing, failures = bytearray(), 0, 0
        size = sizes.get(STREAMS[stream], 0)
        while len(data) + missing < size:
            at = len(data) + missing
            try:
                came, gone = self._fetch_some(stream, at, sizes)
                data += came
                missing += gone
                if not came and not gone:
                    raise ConnectionError(f"{at} of {size} bytes came")
                failures = 0
            except _http.BROKEN as error:
                failures += 1
                if failures > _FETCH_FAILURES:
                    message = f"the output of run {self.id} could not be fetched"
                    raise Unavailable(message, causes=[repr(error)]) from error
        return bytes(data), missing

    def _fetch_some(self, stream: int, start: int, sizes: dict[str, int]) -> tuple[bytearray, int]:
        """Returns what one answer brings of a stream, and how many bytes it left out."""
        size = sizes[STREAMS[stream]]
        # Of the other streams only what came since.
        query = {name: sizes.get(name, 0) for name in STREAMS.values()}
        query[STREAMS[stream]] = start
        data, missing, frames = bytearray(), 0, Frames()
        path = f"{self._path}/stream?{urlencode(query)}&follow=false"
        answer = _http.request("GET", path)
        try:
            while start + len(data) + missing < size:
                more = answer.read_some()
                if not more:
                    break
                for kind, number, offset, payload in frames.push(more):
                    at = start + len(data) + missing
                    if number == stream and kind == DATA and offset <= at:
                        data += payload[at - offset :][: size - at]
                    elif number == stream and kind == GAP:
                        to = min(size, int.from_bytes(payload, "big"))
                        missing += max(0, to - at)
                    elif kind == END:
                        answer.keep()
                        return data, missing
        except _http.BROKEN:
            if not data and not missing:
                raise
        answer.close()
        return data, missing

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


def _query(values: dict[str, Any]) -> str:
    """Returns what is not `None` as a query; `true` and `false` as JSON has them."""
    shown = {key: value for key, value in values.items() if value is not None}
    shown = {k: json.dumps(v) if isinstance(v, bool) else v for k, v in shown.items()}
    return urlencode(shown)


def page_url(cluster: str, timeout: float = 40) -> str:
    """Returns a new address of the cluster's page; its code is good once, for one minute."""
    path = f"/v1/clusters/{_connect.in_url(cluster)}/page"
    return str(_http.get_json("POST", path, timeout=timeout)["url"])
