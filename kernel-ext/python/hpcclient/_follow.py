"""Following a run to its end through every cut: the place where nothing is lost or seen twice.

Called by `_run` with a run to start (`spec`) or only to watch, and by `_reader`, a step at a time.
One loop, in one of these states:

    opening ──► reading ──► ended        cut, silence: back to opening, by offset
       ▲           │                     ■ (KeyboardInterrupt): INT, the second time kill,
       └───────────┘                     the third time leave; then back to opening

Invariants: a byte is taken only at its own offset; an interrupt comes out only where the loop
waits, never between taking bytes and counting them; an id never starts two commands.
"""

from __future__ import annotations

import json
import time
from typing import Any, Callable

from . import _connect, _http
from ._errors import (
    AgentFailed,
    ConnectFailed,
    HpcError,
    HpcTimeout,
    Interrupted,
    NotConnected,
    Unavailable,
)
from ._interrupts import Interrupts
from ._show import Status
from ._wire import DATA, END, GAP, STATE, STREAMS, Frames

_NOTICE_SECONDS = 2.0
_STOP_SECONDS = 5.0
_PASSING = ("unavailable", "connectFailed", "agentFailed")
_LONGEST_PAUSE = 2.0
_LONGEST_LOGIN_PAUSE = 30.0  # A login node must not be asked every second for hours.


class Follower:
    """Takes a run's streams from the store until the run has ended."""

    def __init__(
        self,
        cluster: str,
        run_id: str,
        spec: dict[str, Any] | None,
        take: Callable[[int, bytes], None],
        timeout: float | None = None,
        tail: int | None = None,
    ) -> None:
        self._cluster, self._path, self._id = cluster, run_path(cluster, run_id), run_id
        self._spec, self._take = spec, take
        self._tail = tail  # Start at the last so many lines of each stream.
        self._until: float | None = None  # When `advance` returns at the latest.
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._answer: _http.Answer | None = None
        self._frames = Frames()
        self._offsets = dict.fromkeys(STREAMS, 0)
        self._found: set[int] = set()  # The streams whose place is known.
        self.missing: dict[int, int] = {}  # Bytes that are not kept any more, by stream.
        self._sent = False  # Whether the node may have got the spec.
        self._status, self._lost_at, self._delay = Status(), 0.0, 0.05
        self._reconnecting = False  # Whether the bridge is at it; then there is no use in waiting.
        self.interrupts, self.timed_out = 0, False
        self.info: dict[str, Any] = {}
        self.ended = False

    @property
    def started(self) -> bool:
        """Whether the run exists, as far as this side can know."""
        return bool(self.info) or self._sent

    def follow(self) -> None:
        """Returns at the run's end; `info` is then final. Raises what waiting cannot mend."""
        with Interrupts() as interrupts:
            try:
                while not self.ended:
                    self._step(interrupts)
                self.interrupts += interrupts.pending
            finally:
                self._status.clear()
                if not self.ended:
                    self._drop()

    def advance(self, until: float | None) -> None:
        """Waits for the next bytes, at most until this moment of the monotonic clock."""
        self._until = until
        try:
            with Interrupts() as interrupts:
                self._step(interrupts)
            if interrupts.pending:  # It came while bytes were taken; they stay.
                self._drop()
                self._interrupted()
        finally:
            self._until = None
            if self.ended or self._lost_at == 0:
                self._status.clear()

    def release(self) -> None:
        """Gives the connection back; the next step opens another, where this one was."""
        self._drop()

    @property
    def is_open(self) -> bool:
        """Whether it holds a connection."""
        return self._answer is not None

    def _step(self, interrupts: Interrupts) -> None:
        try:
            interrupts.arm()
            data = self._receive()
            interrupts.armed = False
            self._accept(data)
        except KeyboardInterrupt:
            self._drop()
            self._interrupted()
        except (*_http.BROKEN, HpcError) as error:
            interrupts.armed = False
            self._drop()
            if self._until is None or time.monotonic() < self._until:
                self._cut(error, interrupts)

    def _receive(self) -> bytes:
        """Opens the stream where it is not open, and waits for its next bytes."""
        if self._overdue():
            raise TimeoutError
        if self._answer is None:
            waited = self._lost_at and time.monotonic() - self._lost_at > _NOTICE_SECONDS
            is_long = waited and not self._reconnecting
            patience = self._patience(_http.SILENCE if is_long else _NOTICE_SECONDS)
            self._answer = self._open(patience)
        self._answer.set_timeout(self._patience(_http.SILENCE))
        data = self._answer.read_some()
        if not data:
            raise ConnectionError("the stream ended before the run")
        return data

    def _open(self, patience: float) -> _http.Answer:
        self._frames = Frames()
        if self._spec is not None and not self.info:
            before, self._sent = self._sent, True
            try:
                return _http.request("PUT", f"{self._path}?stream=true", self._spec, patience)
            except HpcError as error:
                # One that was lost on its way may have arrived; any other refusal is certain.
                self._sent = before or isinstance(error, Unavailable)
                raise
        query = "&".join(f"{name}={self._offsets[number]}" for number, name in STREAMS.items())
        query += "&follow=true"
        if self._tail is not None and not self._found:
            query += f"&tail={self._tail}"
        return _http.request("GET", f"{self._path}/stream?{query}", timeout=patience)

    def _overdue(self) -> bool:
        late = self._deadline is not None and time.monotonic() >= self._deadline
        return late and not self.timed_out

    def _patience(self, most: float) -> float:
        ends = [] if self._deadline is None or self.timed_out else [self._deadline]
        ends += [] if self._until is None else [self._until]
        now = time.monotonic()
        return max(0.001, min([most, *(end - now for end in ends)]))

    def _accept(self, data: bytes) -> None:
        for kind, stream, offset, payload in self._frames.push(data):
            if kind == DATA:
                have = self._place(stream, offset)
                if offset > have:
                    raise ConnectionError(f"bytes {have} to {offset} are missing")
                fresh = payload[have - offset :]
                self._offsets[stream] = have + len(fresh)
                if fresh:
                    self._take(stream, fresh)
            elif kind == GAP:
                have, to = self._place(stream, offset), int.from_bytes(payload, "big")
                if to > have:
                    self.missing[stream] = self.missing.get(stream, 0) + to - have
                    self._offsets[stream] = to
            elif kind in (STATE, END):
                self.info = json.loads(payload)
                self.ended = kind == END
        waiting = _waits_for(self.info)
        if waiting:
            self._status.say(f"waiting: {waiting}")
        else:
            self._status.clear()
        self._lost_at, self._delay, self._reconnecting = 0.0, 0.05, False
        if self.ended and self._answer is not None:
            self._answer.keep()
            self._answer = None

    def _place(self, stream: int, offset: int) -> int:
        """Returns where a stream goes on: with `tail`, where its first bytes are."""
        if self._tail is not None and not self._found:  # What has no bytes now starts here.
            sizes = self.info.get("sizes", {})
            self._offsets = {number: sizes.get(name, 0) for number, name in STREAMS.items()}
        if self._tail is not None and stream not in self._found:
            self._offsets[stream] = min(offset, self._offsets[stream])
        self._found.add(stream)
        return self._offsets[stream]

    def _cut(self, error: Exception, interrupts: Interrupts) -> None:
        """Waits and lets the loop go on, or raises what waiting cannot mend."""
        if self._overdue():
            if not self.started:
                raise HpcTimeout("the time is over before the command could be started") from error
            self.timed_out = True
            self._stop()
            return
        passing = _PASSING if self.started else ("unavailable",)
        if isinstance(error, HpcError) and error.code not in (*passing, "notConnected"):
            raise error
        self._lost_at = self._lost_at or time.monotonic()
        try:
            interrupts.arm()
            if isinstance(error, NotConnected):
                self._status.clear()
                _connect.connect(self._cluster)
            else:
                if time.monotonic() - self._lost_at > _NOTICE_SECONDS:
                    self._say_why()
                self._rest(error)
            interrupts.armed = False
        except KeyboardInterrupt:
            self._interrupted()
        except (*_http.BROKEN, HpcError) as failed:
            interrupts.armed = False
            if isinstance(failed, NotConnected):
                raise
            self._cut(failed, interrupts)

    def _say_why(self) -> None:
        """Shows what the bridge waits for; a bridge that does not say is waited for itself."""
        try:
            known = _connect.status(self._cluster, timeout=_NOTICE_SECONDS)
        except (*_http.BROKEN, HpcError):
            known = {}
        self._reconnecting = known.get("state") in ("connecting", "reconnecting")
        why = known.get("waiting") or "reconnecting…"
        self._status.say(f"waiting for {self._cluster}: {why}")

    def _rest(self, error: Exception) -> None:
        """Pauses before the next try, longer each time."""
        time.sleep(self._patience(self._delay))
        is_login = isinstance(error, (ConnectFailed, AgentFailed))
        longest = _LONGEST_LOGIN_PAUSE if is_login else _LONGEST_PAUSE
        self._delay = min(longest, self._delay * 2)

    def _interrupted(self) -> None:
        """■: tells the command to stop and lets the loop read on, or leaves."""
        self.interrupts += 1
        if self._spec is None:
            raise Interrupted(f"the command goes on; runs[{self._id!r}].attach() shows it")
        if not self.started:
            raise Interrupted("nothing was started")
        if self.interrupts > 2:
            raise Interrupted(f"left it; it may go on, see runs[{self._id!r}]")
        self._stop()

    def _stop(self) -> None:
        """Ends the command: gently at the first interrupt, else at once."""
        kill = self.timed_out or self.interrupts > 1 or self.info.get("state") == "queued"
        try:
            if not self.info:  # It may have been sent; now it is there, so it can be stopped.
                self.info = _http.get_json("PUT", self._path, self._spec, timeout=_STOP_SECONDS)
            if kill:
                _http.get_json("POST", f"{self._path}/kill", timeout=_STOP_SECONDS)
            else:
                _http.get_json(
                    "POST", f"{self._path}/signal", {"signal": "INT"}, timeout=_STOP_SECONDS
                )
        except (*_http.BROKEN, HpcError) as error:
            if isinstance(error, HpcError) and error.code == "conflict":
                return  # It ended by itself just now.
            goes_on = f"the cluster does not answer, the command goes on: runs[{self._id!r}]"
            raise (HpcTimeout(goes_on) if self.timed_out else Interrupted(goes_on)) from error

    def _drop(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None


def _waits_for(info: dict[str, Any]) -> str | None:
    """Returns what a run waits for, if it does."""
    if info.get("state") == "stalled":
        return str(info.get("reason", "its output cannot be stored"))
    position = info.get("position")
    if info.get("state") == "queued" and position:
        return f"{ordinal(position)} in the queue"
    return None


def ordinal(number: int) -> str:
    """Returns `1st`, `2nd`, `3rd`, `4th`, …"""
    teen = number // 10 % 10 == 1
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def run_path(cluster: str, run_id: str) -> str:
    """Returns the path of a run at the bridge; `owner:id` is a run that another user shares."""
    owner, _, own_id = run_id.rpartition(":")
    shared = f"shared/{_connect.in_url(owner)}/" if owner else ""
    return f"/c/{_connect.in_url(cluster)}/v1/{shared}runs/{own_id}"
