"""`hpcrpc`: any attribute is a command in this process' shell on the login node.

The session (the shell that remembers `cd`, `export`, functions, `module load`) is this process';
it is ended when the process exits. Not here: how a run is followed; that is `_run`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import uuid
from collections.abc import Sequence
from typing import Any, Callable, overload

from . import _connect, _http
from ._errors import HpcError
from ._run import Result, Run
from ._shares import Shares
from ._wire import Text, from_wire, new_id, quote, to_bytes, to_wire


class Rpc:
    """Commands on a cluster's login node.

    `hpcrpc.ls('-la *.py')` runs `ls -la *.py` in the shell of this notebook, shows its output as
    it comes and returns a `Result`. A `str` is shell text as it is; a list, a tuple, a `Path` or
    `bytes` is quoted. Keyword arguments are those of `execute`. A failed command raises nothing;
    look at `returncode`. The names documented here win over commands of the same name:
    `hpcrpc.command('run')` is the command `run`, and `hpcrpc.command('gcc-14')` one that is no
    Python name.
    """

    def __init__(self) -> None:
        self._cluster: str | None = None
        self._session = f"nb-{uuid.uuid4()}"
        self._clusters_used: set[str] = set()
        self._open_runs: set[str] = set()

    @property
    def cluster(self) -> str:
        """The cluster's name or ssh destination: what `connect` or you set, else
        `HPCCLIENT_CLUSTER`, else the configuration's default."""
        return self._cluster or os.environ.get("HPCCLIENT_CLUSTER") or "default"

    @cluster.setter
    def cluster(self, name: str | None) -> None:
        self._cluster = name

    def connect(self, dest: str | None = None) -> Rpc:
        """Logs in to `dest` (a name, or `user@host:port`) and uses it from now on.

        Calls connect by themselves; this is for another cluster, or to be asked early.
        """
        before, self._cluster = self._cluster, dest or self._cluster
        try:
            _connect.connect(self.cluster)
        except BaseException:
            self._cluster = before
            raise
        return self

    def disconnect(self) -> None:
        """Ends the connection of this cluster for every notebook; runs go on."""
        _http.get_json("POST", f"/v1/clusters/{_connect.in_url(self.cluster)}/disconnect")

    def renew(self) -> Rpc:
        """Renews your certificate by the cluster's `renew_command` in config.toml, and connects.

        What the command says is shown; it may open a browser.
        """
        _connect.renew(self.cluster)
        return self

    def status(self) -> dict[str, Any]:
        """The connection as the bridge sees it: `state`, `destination`, `node`, `waiting`, …"""
        return _connect.status(self.cluster)

    def execute(
        self,
        line: Text,
        *,
        cwd: Text | None = None,
        env: dict[str, Text] | None = None,
        stdin: str | bytes | None = None,
        timeout: float | None = None,
        quiet: bool = False,
    ) -> Result:
        """Runs a line in this process' shell, which remembers what it changes.

        `cwd` and `env` hold for this line only. `stdin` is what the command reads. After `timeout`
        seconds it is killed and `HpcTimeout` raised. `quiet` shows nothing. ■ sends SIGINT, the
        second time SIGKILL, the third time leaves the command alone.
        """
        return self._call({"shell": to_wire(line)}, cwd, env, stdin, timeout, quiet)

    def run(
        self,
        argv: Sequence[Text],
        *,
        cwd: Text | None = None,
        env: dict[str, Text] | None = None,
        stdin: str | bytes | None = None,
        timeout: float | None = None,
        quiet: bool = False,
    ) -> Result:
        """Runs a program with exactly these arguments, without a shell.

        It starts in the shell's directory and waits for no line, so threads can run many at once.
        The keyword arguments are those of `execute`.
        """
        if isinstance(argv, (str, bytes)):
            raise TypeError("argv is a list, such as ['ls', '-la']; for shell text use execute")
        command = {"argv": [to_wire(each) for each in argv]}
        return self._call(command, cwd, env, stdin, timeout, quiet)

    def command(self, name: str) -> Callable[..., Result]:
        """Returns the command of this name as a function."""

        def call(*args: Any, **options: Any) -> Result:
            return self.execute(" ".join([name, *map(quote, args)]), **options)

        call.__name__ = call.__qualname__ = name
        call.__doc__ = f"Runs `{name}` with its arguments; see `help(hpcrpc)`."
        return call

    @property
    def runs(self) -> Runs:
        """The runs of this process, oldest first: `runs[-1]` is the newest. `runs['<id>']` is any
        run of the cluster, `runs['alice:<id>']` one that alice shares with you, and `runs.all`
        lists those of every notebook."""
        return Runs(self.cluster, self._session)

    @property
    def shares(self) -> Shares:
        """What you share and what others share with you: `shares.by_me`, `shares.with_me`. A
        file is shared with `shares.file('~/result.csv', 'bob')`, a run with `run.share('bob')`."""
        return Shares(self.cluster)

    def __getattr__(self, name: str) -> Callable[..., Result]:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.command(name)

    def __repr__(self) -> str:
        return f"<hpcrpc: cluster {self.cluster!r}>"

    def _call(
        self,
        command: dict[str, Any],
        cwd: Text | None,
        env: dict[str, Text] | None,
        stdin: str | bytes | None,
        timeout: float | None,
        quiet: bool,
    ) -> Result:
        fed = to_bytes(stdin or b"")
        spec = {"command": command, "session": self._session, "stdin": "open" if fed else "closed"}
        if cwd is not None:
            spec["cwd"] = to_wire(cwd)
        if env:
            spec["env"] = {name: to_wire(value) for name, value in env.items()}
        run = Run(self.cluster, new_id())
        if not self._clusters_used:
            atexit.register(self._end_session)
        self._clusters_used.add(run.cluster)
        self._open_runs.add(run.id)
        try:
            return run._follow(spec, stdin=fed, timeout=timeout, quiet=quiet)
        finally:
            if not run._goes_on:
                self._open_runs.discard(run.id)

    def _end_session(self) -> None:
        """Ends the shell when the process exits, unless a command in it was left running."""
        for cluster in self._clusters_used if not self._open_runs else ():
            with contextlib.suppress(HpcError):
                path = f"/c/{_connect.in_url(cluster)}/v1/sessions/{self._session}"
                _http.get_json("DELETE", path, timeout=1)


class Runs(Sequence[Run]):
    """A list of runs, oldest first, asked from the node each time it is used."""

    def __init__(self, cluster: str, session: str | None) -> None:
        self._cluster, self._session = cluster, session

    @property
    def all(self) -> Runs:
        """The runs of every notebook and console of this user on the cluster."""
        return Runs(self._cluster, None)

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
        query = f"&session={self._session}" if self._session else ""
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
    return f"{info['id']}  {state:<9} {ascii(text)[1:-1] if not text.isprintable() else text}"


def connect(dest: str | None = None) -> Rpc:
    """Logs in to a cluster (a name, or `user@host:port`) and makes it the one of `hpcrpc` and
    `marconiview`."""
    return hpcrpc.connect(dest)


hpcrpc = Rpc()
