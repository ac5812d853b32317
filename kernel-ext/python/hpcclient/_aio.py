"""`hpcrpc.aio`: commands for asyncio, also inside Jupyter's own loop.

Made by `Rpc.aio`. Requests that are short go through the loop's threads, what is waited for long
(a run's end, its next line) through none: a thousand runs can be awaited at once.
Invariants: nothing blocks the loop; who is cancelled stops waiting at once.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from ._aio_stream import AsyncReader
from ._started import Started
from ._watch import watcher
from ._wire import new_id, to_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ._result import Result
    from ._rpc import Env, Rpc
    from ._text import Sought
    from ._wire import Text


class Aio:
    """`hpcrpc` for asyncio: `await hpcrpc.aio.execute('make')`.

    Nothing is shown; the result has what was written. Many can be awaited at once. A task that is
    cancelled while it waits in `execute` or `run` interrupts its command, as ■ does; what `start`
    returned goes on.
    """

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    async def execute(
        self,
        line: Text,
        *,
        cwd: Text | None = None,
        env: Env | None = None,
        stdin: str | bytes | None = None,
        timeout: float | None = None,
    ) -> Result:
        """Runs a line in this process' shell, as `hpcrpc.execute` does."""
        spec = self._rpc._spec({"shell": to_wire(line)}, cwd, env, timeout)
        return await self._call(spec, stdin)

    async def run(
        self,
        argv: Sequence[Text],
        *,
        cwd: Text | None = None,
        env: Env | None = None,
        stdin: str | bytes | None = None,
        timeout: float | None = None,
        nice: int | None = None,
    ) -> Result:
        """Runs a program with exactly these arguments, as `hpcrpc.run` does."""
        if isinstance(argv, (str, bytes)):
            raise TypeError("argv is a list, such as ['ls', '-la']; for shell text use execute")
        spec = self._rpc._spec({"argv": [to_wire(each) for each in argv]}, cwd, env, timeout, nice)
        return await self._call(spec, stdin)

    async def start(self, command: Text | Sequence[Text], **options: Any) -> AsyncRun:
        """Starts a command and returns once the node has it; takes what `hpcrpc.start` takes."""
        return AsyncRun(await asyncio.to_thread(self._rpc.start, command, **options))

    async def _call(self, spec: dict[str, Any], stdin: str | bytes | None) -> Result:
        spec["stdin"] = "open" if stdin else "closed"
        self._rpc._use()
        run = Started(self._rpc.cluster, new_id())
        lock, is_there, is_cancelled = threading.Lock(), False, False

        def begin() -> None:
            nonlocal is_there
            self._rpc._begin(run, spec)
            with lock:
                is_there = True
                give_up = is_cancelled
            if give_up:
                run._interrupt()
            elif stdin:
                run._feed(stdin)

        try:
            await asyncio.to_thread(begin)
            return await _end_of(run)
        except asyncio.CancelledError:
            with lock:  # What is being started now can only be interrupted once it is there.
                is_cancelled = True
                interrupt = is_there
            if interrupt:
                asyncio.get_running_loop().run_in_executor(None, run._interrupt)
            raise


class AsyncRun:
    """What `aio.start` returns: `run` is the same run for code that is not async.

    `async for line in r` gives its lines as they come; see `Started` for what the others do. To be
    cancelled only ends the waiting; `cancel()` and `kill()` end the command.
    """

    def __init__(self, run: Started) -> None:
        self.run, self.id = run, run.id
        self._reader = AsyncReader(run.cluster, run.id)

    async def wait(self) -> Result:
        """Waits for its end and returns how it ended."""
        return await _end_of(self.run)

    async def write(self, data: str | bytes) -> None:
        """Writes to its stdin."""
        await asyncio.to_thread(self.run.write, data)

    async def eof(self) -> None:
        """Ends its stdin."""
        await asyncio.to_thread(self.run.eof)

    async def expect(self, sought: Sought, timeout: float | None = 30) -> str:
        """Waits until `sought` comes; returns what was written up to and with it."""
        return await self._reader.match(sought, timeout)

    async def readline(self) -> str:
        """Returns the next line with its end; nothing at the run's end."""
        return await self._reader.line()

    async def read(self) -> str:
        """Returns everything from here to the run's end."""
        return await self._reader.all()

    async def __aiter__(self) -> AsyncIterator[str]:
        """Gives its lines as they come, to its end."""
        while line := await self.readline():
            yield line

    async def signal(self, name: str = "INT") -> None:
        """Sends a signal to the command."""
        await asyncio.to_thread(self.run.signal, name)

    async def kill(self) -> None:
        """Ends every process of it at once."""
        await asyncio.to_thread(self.run.kill)

    async def cancel(self) -> bool:
        """Kills every process of it; `False` if it was over."""
        return await asyncio.to_thread(self.run.cancel)

    def __repr__(self) -> str:
        return f"<AsyncRun of {self.run!r}>"


async def _end_of(run: Started) -> Result:
    """Waits for a run's end without a thread, and fetches its output."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not ended.done():
            ended.set_result(None)

    def on_end(_: object) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell)

    run.add_done_callback(on_end)
    watch = watcher(run.cluster)
    while not ended.done():
        await asyncio.wait({ended}, timeout=1)
        if watch.needs_login and not ended.done():
            await asyncio.to_thread(watch.log_in)
    result = run.result()
    return await asyncio.to_thread(result.load)
