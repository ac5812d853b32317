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
from typing import Any, Callable, Union

from . import _connect, _http
from ._aio import Aio
from ._errors import HpcError
from ._result import Result
from ._run import Run
from ._runs import Runs
from ._shares import Shares
from ._show import note
from ._started import Started
from ._wire import Text, new_id, quote, to_bytes, to_wire

Env = dict[str, Text]
Stdin = Union[str, bytes, Callable[[], str], None]

_TERMINAL = (80, 24)


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
        env: Env | None = None,
        stdin: Stdin = None,
        timeout: float | None = None,
        quiet: bool = False,
    ) -> Result:
        """Runs a line in this process' shell, which remembers what it changes.

        `cwd` and `env` hold for this line only. `stdin` is what the command reads; `stdin=input`
        sends it the lines that you type. After `timeout` seconds it is killed, also when this
        machine sleeps then, and `HpcTimeout` raised. `quiet` shows nothing. ■ sends SIGINT, the
        second time SIGKILL, the third time leaves the command alone.
        """
        spec = self._spec({"shell": to_wire(line)}, cwd, env, timeout)
        return self._call(spec, stdin, timeout, quiet)

    def run(
        self,
        argv: Sequence[Text],
        *,
        cwd: Text | None = None,
        env: Env | None = None,
        stdin: Stdin = None,
        timeout: float | None = None,
        nice: int | None = None,
        quiet: bool = False,
    ) -> Result:
        """Runs a program with exactly these arguments, without a shell.

        It starts in the shell's directory and waits for no line, so threads can run many at once.
        `nice` is how much it gives way to others, 0 to 19. The other keyword arguments are those
        of `execute`.
        """
        if isinstance(argv, (str, bytes)):
            raise TypeError("argv is a list, such as ['ls', '-la']; for shell text use execute")
        spec = self._spec({"argv": [to_wire(each) for each in argv]}, cwd, env, timeout, nice)
        return self._call(spec, stdin, timeout, quiet)

    def start(
        self,
        command: Text | Sequence[Text],
        *,
        cwd: Text | None = None,
        env: Env | None = None,
        stdin: str | bytes | bool = True,
        timeout: float | None = None,
        nice: int | None = None,
        name: str | None = None,
        pty: tuple[int, int] | bool = False,
        show: bool = False,
    ) -> Started:
        """Starts a command and returns at once; it goes on while the notebook does.

        A `str` is a line for a login shell (bash) of its own, so that it does not hold up this
        notebook's shell; a list is a program and its arguments. Both start in the directory of
        this notebook's shell. stdin stays open for `write` until `eof()`; text for `stdin` is all
        it gets, `False` is none. `pty` runs it in a terminal, of (columns, rows) if you say so.
        `show` shows what it writes in this cell. See `help(Started)` for what comes back:

            r = hpcrpc.start('python -i')
            r.expect('>>> '); r.write('6 * 7\n'); r.expect('>>> ')
        """
        spec = self._start_spec(command, cwd, env, stdin, timeout, nice, pty)
        self._use()
        run = Started(self.cluster, new_id())._begin(spec)
        if name:
            try:
                run.rename(name)
            except HpcError as error:  # It goes on, and is not to be lost for that.
                note(f"it could not be given its name: {error}")
        if isinstance(stdin, (str, bytes)):
            run._feed(stdin)
        return run.show() if show else run

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
        run of the cluster, `runs['alice:<id>']` one that alice shares with you, `runs.all` lists
        those of every notebook, `runs.find(…)` some."""
        return Runs(self.cluster, session=self._session)

    @property
    def consoles(self) -> Runs:
        """The consoles that are open, of every notebook and of the page."""
        return Runs(self.cluster, console=True, live=True)

    @property
    def aio(self) -> Aio:
        """The same for asyncio: `await hpcrpc.aio.execute(…)`; see `help(hpcrpc.aio)`."""
        return Aio(self)

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

    def _spec(
        self,
        command: dict[str, Any],
        cwd: Text | None,
        env: Env | None,
        timeout: float | None,
        nice: int | None = None,
    ) -> dict[str, Any]:
        """Returns the protocol's `RunSpec`, with closed stdin."""
        spec: dict[str, Any] = {"command": command, "session": self._session, "stdin": "closed"}
        if cwd is not None:
            spec["cwd"] = to_wire(cwd)
        if env:
            spec["env"] = {name: to_wire(value) for name, value in env.items()}
        if timeout is not None:
            spec["timeoutMs"] = max(1, round(timeout * 1000))
        if nice is not None:
            spec["nice"] = nice
        return spec

    def _start_spec(
        self,
        command: Text | Sequence[Text],
        cwd: Text | None,
        env: Env | None,
        stdin: str | bytes | bool,
        timeout: float | None,
        nice: int | None,
        pty: tuple[int, int] | bool,
    ) -> dict[str, Any]:
        is_list = isinstance(command, (list, tuple))
        argv: Any = command if is_list else ["bash", "-lc", command]
        wired = [to_wire(each) for each in argv]
        spec = self._spec({"argv": wired}, cwd, env, timeout, nice)
        spec["stdin"] = "closed" if stdin is False else "open"
        if pty:
            cols, rows = pty if isinstance(pty, tuple) else _TERMINAL
            spec["pty"] = {"cols": cols, "rows": rows}
        return spec

    def _use(self) -> None:
        """Notes that this process has a session at the cluster, which its end is to end."""
        if not self._clusters_used:
            atexit.register(self._end_session)
        self._clusters_used.add(self.cluster)

    def _call(
        self, spec: dict[str, Any], stdin: Stdin, timeout: float | None, quiet: bool
    ) -> Result:
        self._use()
        if callable(stdin):
            started = Started(self.cluster, new_id())
            self._begin(started, {**spec, "stdin": "open"})
            return started.interact(stdin)
        fed = to_bytes(stdin or b"")
        spec["stdin"] = "open" if fed else "closed"
        run = Run(self.cluster, new_id())
        self._open_runs.add(run.id)
        try:
            return run._follow(spec, stdin=fed, timeout=timeout, quiet=quiet)
        finally:
            if not run._goes_on:
                self._open_runs.discard(run.id)

    def _begin(self, run: Started, spec: dict[str, Any]) -> None:
        """Starts a run whose shell is not ended while it goes on."""
        self._open_runs.add(run.id)
        run.add_done_callback(lambda _: self._open_runs.discard(run.id))
        try:
            run._begin(spec)
        except HpcError:
            self._open_runs.discard(run.id)
            raise

    def _end_session(self) -> None:
        """Ends the shell when the process exits, unless a command in it was left running."""
        for cluster in self._clusters_used if not self._open_runs else ():
            with contextlib.suppress(HpcError):
                path = f"/c/{_connect.in_url(cluster)}/v1/sessions/{self._session}"
                _http.get_json("DELETE", path, timeout=1)


def connect(dest: str | None = None) -> Rpc:
    """Logs in to a cluster (a name, or `user@host:port`) and makes it the one of `hpcrpc` and
    `marconiview`."""
    return hpcrpc.connect(dest)


hpcrpc = Rpc()
