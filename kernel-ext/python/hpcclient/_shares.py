"""Shares: what this user shows to other users of the cluster, and what they show to this user.

Called by `_rpc` and `_run`. Invariants: a share has one id from the first attempt on, so no retry
shares twice.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote_from_bytes

from . import _connect, _http
from ._errors import HpcError
from ._result import Result
from ._run import Run
from ._stdin import Writer
from ._wire import Text, from_wire, new_id, to_bytes, to_wire


class Share:
    """Something that is shared: by you, then it can be revoked, or with you, then it can be seen.

    `owner` and `guests` are login names on the cluster, `access` is `'view'` or `'drive'`, `title`
    says what it is. `run_id` or `path` is what is shared; `expires` is in seconds since 1970.
    """

    def __init__(self, cluster: str, info: dict[str, Any], *, is_mine: bool) -> None:
        self.cluster, self.id, self.is_mine = cluster, str(info["id"]), is_mine
        spec = info["spec"]
        self.owner: str = info["owner"]
        self.guests: list[str] = spec["guests"]
        self.access: str = spec["access"]
        self.title: str = info["title"]
        self.run_id: str | None = spec["object"].get("run", {}).get("run")
        path = spec["object"].get("file", {}).get("path")
        self.path: str | None = None if path is None else from_wire(path)
        self._wire_path = path
        ends = spec.get("expiresMs")
        self.expires: float | None = None if ends is None else ends / 1000
        self._writer: Writer | None = None

    @property
    def run(self) -> Run:
        """The run that is shared."""
        if self.run_id is None:
            raise ValueError(f"a file is shared, not a run: read() returns {self.path}")
        return Run(self.cluster, self.run_id if self.is_mine else f"{self.owner}:{self.run_id}")

    def attach(self, *, quiet: bool = False) -> Result:
        """Shows every byte from the store and follows to the end. ■ stops the showing only."""
        return self.run.attach(quiet=quiet)

    def write(self, data: str | bytes) -> None:
        """Types into the run; needs a share to drive."""
        if self._writer is None:
            self._writer = Writer(self.cluster, self.run._path)
        self._writer.write(to_bytes(data))

    def read(self) -> bytes:
        """Returns the bytes of the file that is shared."""
        if self._wire_path is None:
            raise ValueError("a run is shared, not a file: attach() shows it")
        path = quote_from_bytes(to_bytes(self.path or ""))
        way = "file" if self.is_mine else f"shared/{_connect.in_url(self.owner)}/file"
        base = f"/c/{_connect.in_url(self.cluster)}/v1/{way}"
        return _http.request("GET", f"{base}?path={path}").read()

    def revoke(self) -> None:
        """Takes it back; whoever is looking is cut. One that is over stays so."""
        try:
            _http.get_json("DELETE", _path(self.cluster, self.id))
        except HpcError as error:
            if error.code != "notFound":
                raise

    def __repr__(self) -> str:
        return f"<Share {self.id}: {_line(self)}>"


class Shares:
    """What is shared by you and with you, asked from the node each time it is used."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster

    @property
    def by_me(self) -> list[Share]:
        """What you share, newest first."""
        return self._load()[0]

    @property
    def with_me(self) -> list[Share]:
        """What others share with you on the login node you are on, newest first."""
        return self._load()[1]

    @property
    def audit(self) -> list[dict[str, Any]]:
        """What guests did with what you share, newest first, as in the protocol's `AuditEntry`."""
        path = f"/c/{_connect.in_url(self._cluster)}/v1/audit?limit=1000"
        entries: list[dict[str, Any]] = _http.get_json("GET", path)["entries"]
        return entries

    def file(self, path: Text, *users: str, hours: float | None = None) -> Share:
        """Shares a file of yours on the cluster, by its absolute path or one from `~/`."""
        return share(self._cluster, {"file": {"path": to_wire(path)}}, users, False, hours)

    def __repr__(self) -> str:
        by_me, with_me = self._load()
        lines = [f"by me:   {_line(each)}" for each in by_me]
        lines += [f"with me: {_line(each)}" for each in with_me]
        return "\n".join(lines) or "nothing is shared"

    def _load(self) -> tuple[list[Share], list[Share]]:
        found = _http.get_json("GET", f"/c/{_connect.in_url(self._cluster)}/v1/shares")
        by_me = [Share(self._cluster, info, is_mine=True) for info in found["byMe"]]
        return by_me, [Share(self._cluster, info, is_mine=False) for info in found["withMe"]]


def share(
    cluster: str,
    content: dict[str, Any],
    users: Sequence[str],
    drive: bool,
    hours: float | None,
) -> Share:
    """Shares something with these users."""
    spec: dict[str, Any] = {
        "object": content,
        "guests": list(users),
        "access": "drive" if drive else "view",
    }
    if hours is not None:
        spec["expiresMs"] = int((time.time() + hours * 3600) * 1000)
    return Share(cluster, _http.get_json("PUT", _path(cluster, new_id()), spec), is_mine=True)


def _path(cluster: str, share_id: str) -> str:
    return f"/c/{_connect.in_url(cluster)}/v1/shares/{share_id}"


def _line(each: Share) -> str:
    """Returns a share in one line; a title may come from another user."""
    title = each.title if each.title.isprintable() else ascii(each.title)[1:-1]
    who = f"with {', '.join(each.guests)}" if each.is_mine else f"by {each.owner}"
    return f"{each.run_id or 'file'}  {each.access:<5} {who}  {title}"
