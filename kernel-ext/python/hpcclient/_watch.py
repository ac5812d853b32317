"""Learns how runs end: one thread a cluster reads the agent's events, however many runs there are.

Called by `_started`. After each cut the thread subscribes first and then asks for what it may have
missed. Invariants: a run's end is told once; nobody is asked anything from this thread: where a
login needs a person it waits for one, and `needs_login` says so.
"""

from __future__ import annotations

import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from . import _connect, _http
from ._errors import HpcError, NotConnected, NotFound

if TYPE_CHECKING:
    from ._started import Started

_SILENCE = 60.0
"""Seconds after which the events are asked for again: they have no pings."""

_FEW = 8
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
_LONGEST_LOGIN_PAUSE = 30.0  # A login node must not be asked every second for hours.
_PASSING = ("unavailable", "connectFailed", "agentFailed")

_watchers: dict[str, Watcher] = {}
_lock = threading.Lock()


def watcher(cluster: str) -> Watcher:
    """Returns the cluster's one watcher."""
    with _lock:
        return _watchers.setdefault(cluster, Watcher(cluster))


if hasattr(os, "register_at_fork"):  # The thread is not in the child.
    os.register_at_fork(after_in_child=_watchers.clear)


class Watcher:
    """Waits for the end of every run that it was given."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._path = f"/c/{_connect.in_url(cluster)}/v1"
        self._runs: dict[str, Started] = {}
        self._known: set[str] = set()  # Those that the agent surely has.
        self._lock, self._pause = threading.Lock(), _FIRST_PAUSE
        self._thread: threading.Thread | None = None
        self.needs_login, self._asking = False, threading.Lock()

    def add(self, run: Started) -> None:
        """Watches a run that is about to be started."""
        with self._lock:
            self._runs[run.id] = run
            if self._thread is None:
                name = f"hpcclient events of {self._cluster}"
                self._thread = threading.Thread(target=self._watch, name=name, daemon=True)
                self._thread.start()

    def has(self, run: Started, info: dict[str, Any]) -> None:
        """Says that the agent has it, and what it was then."""
        with self._lock:
            self._known.add(run.id)
        self._tell(info)

    def log_in(self) -> None:
        """Connects where that needs a person: for who waits and can ask. One asks at a time."""
        if self.needs_login and self._asking.acquire(blocking=False):
            try:
                _connect.connect(self._cluster)
                self.needs_login = False
            finally:
                self._asking.release()

    def remove(self, run: Started) -> None:
        """Watches it no more: it could not be started."""
        with self._lock:
            self._runs.pop(run.id, None)
            self._known.discard(run.id)

    def _tell(self, info: dict[str, Any]) -> None:
        run = self._runs.get(info["id"])
        if run is not None and run._settle(info):
            self.remove(run)

    def _lose(self, run_id: str) -> None:
        run = self._runs.get(run_id)
        if run is not None:
            self.remove(run)
            run._fail(NotFound(f"the run {run_id} was deleted"))

    def _watch(self) -> None:
        while self._goes_on():
            longest = _LONGEST_PAUSE
            try:
                self._follow()
            except NotConnected:
                if not self._log_in():
                    longest = _LONGEST_LOGIN_PAUSE
            except (*_http.BROKEN, HpcError, ValueError, KeyError):
                pass
            time.sleep(self._pause)
            self._pause = min(longest, self._pause * 2)

    def _goes_on(self) -> bool:
        with self._lock:
            if not self._runs:
                self._thread = None
            return self._thread is not None

    def _follow(self) -> None:
        """Reads events until they end or nobody waits any more."""
        answer = _http.request("GET", f"{self._path}/events")
        try:
            self.needs_login = False
            answer.set_timeout(_SILENCE)
            rest, caught_up = b"", False
            while self._runs:
                data = answer.read_some()
                if not data:
                    return
                *lines, rest = (rest + data).split(b"\n")
                for line in filter(None, lines):
                    self._take(json.loads(line))
                if not caught_up and lines:
                    self._catch_up()
                    caught_up, self._pause = True, _FIRST_PAUSE
        finally:
            answer.close()

    def _take(self, event: dict[str, Any]) -> None:
        if event["type"] == "run":
            self._tell(event["run"])
        elif event["type"] == "gone":
            self._lose(event["run"])

    def _catch_up(self) -> None:
        """Asks how the runs are: by themselves if they are few, else by the list."""
        with self._lock:
            wanted = sorted(self._known & self._runs.keys())
        if len(wanted) > _FEW:
            found = self._listed(wanted[0])
            for info in found.values():
                self._tell(info)
            wanted = [each for each in wanted if each not in found]
        for run_id in wanted:
            try:
                self._tell(_http.get_json("GET", f"{self._path}/runs/{run_id}"))
            except NotFound:
                self._lose(run_id)

    def _listed(self, oldest: str) -> dict[str, dict[str, Any]]:
        """Returns all runs that are not older than this one."""
        found: dict[str, dict[str, Any]] = {}
        before: str | None = ""
        while before is not None:
            page = _http.get_json("GET", f"{self._path}/runs?limit=500{before}")
            found.update((info["id"], info) for info in page["runs"])
            more = page.get("next") and page["runs"] and page["runs"][-1]["id"] > oldest
            before = f"&before={page['next']}" if more else None
        return found

    def _log_in(self) -> bool:
        """Connects if that needs nobody; `False`: it is to be tried again, and not soon."""
        if self.needs_login:
            return True
        try:
            _connect.connect(self._cluster, quietly=True)
        except _http.BROKEN:
            return False
        except HpcError as error:
            self.needs_login = error.code not in _PASSING
            return self.needs_login
        return True
