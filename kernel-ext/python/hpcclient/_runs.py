"""Lists of runs, asked from the node each time they are used.

Called by `_rpc` for `hpcrpc.runs` and `hpcrpc.consoles`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any, overload
from urllib.parse import urlencode

from . import _connect, _http
from ._follow import ordinal
from ._run import Run
from ._wire import from_wire


class Runs(Sequence[Run]):
    """A list of runs, oldest first, asked from the node each time it is used."""

    def __init__(self, cluster: str, **filters: Any) -> None:
        self._cluster, self._filters = cluster, filters

    @property
    def all(self) -> Runs:
        """The runs of every notebook and console of this user on the cluster."""
        return Runs(self._cluster, **{**self._filters, "session": None})

    def find(
        self,
        *,
        text: str | None = None,
        state: str | None = None,
        console: bool | None = None,
        live: bool | None = None,
    ) -> Runs:
        """Returns those with `text` in their command or name, in this `state`, that are consoles
        or are not, that are not over yet. `hpcrpc.runs.all.find(…)` looks through all."""
        asked = {"text": text, "state": state, "console": console, "live": live}
        asked = {name: value for name, value in asked.items() if value is not None}
        return Runs(self._cluster, **{**self._filters, **asked})

    @overload
    def __getitem__(self, which: int | str) -> Run: ...
    @overload
    def __getitem__(self, which: slice) -> list[Run]: ...
    def __getitem__(self, which: int | str | slice) -> Run | list[Run]:
        if isinstance(which, str):
            owner, colon, own_id = which.rpartition(":")
            return Run(self._cluster, owner + colon + str(uuid.UUID(own_id)))
        newest = -which if isinstance(which, int) and which < 0 else None
        runs = [Run(self._cluster, info["id"]) for info in self._load(newest)]
        return runs[which]

    def __len__(self) -> int:
        return len(self._load(None))

    def __repr__(self) -> str:
        return "\n".join(_line(info) for info in self._load(20)) or "no runs yet"

    def _load(self, newest: int | None) -> list[dict[str, Any]]:
        """Returns the newest so many runs, or all, oldest first."""
        runs: list[dict[str, Any]] = []
        path = f"/c/{_connect.in_url(self._cluster)}/v1/runs?limit="
        asked = {name: value for name, value in self._filters.items() if value is not None}
        asked = {k: json.dumps(v) if isinstance(v, bool) else v for k, v in asked.items()}
        query = f"&{urlencode(asked)}" if asked else ""
        before: str | None = ""
        while before is not None and (newest is None or len(runs) < newest):
            limit = 500 if newest is None else min(500, newest - len(runs))
            page = _http.get_json("GET", f"{path}{limit}{query}{before}")
            runs += page["runs"]
            before = f"&before={page['next']}" if page.get("next") else None
        return runs[::-1]


def _line(info: dict[str, Any]) -> str:
    """Returns a run in one line, as `repr` of a list shows it."""
    command = info["spec"]["command"]
    if isinstance(command, str):
        text = "login shell"
    elif "shell" in command:
        text = from_wire(command["shell"])
    else:
        text = " ".join(map(from_wire, command["argv"]))
    code = info.get("exitCode")
    state = info["state"] if code is None else f"exit {code}"
    if info.get("position"):
        state = f"{ordinal(info['position'])} in the queue"
    marks = "* " if info.get("pinned") else ""
    text = f"{marks}{info['name']}: {text}" if info.get("name") else f"{marks}{text}"
    return f"{info['id']}  {state:<9} {ascii(text)[1:-1] if not text.isprintable() else text}"
