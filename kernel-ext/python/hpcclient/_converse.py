"""Talking with a command: what it writes is shown while the lines that are typed go to it.

Called by `Started.interact` and by `hpcrpc.execute(…, stdin=input)`.
Invariants: the main thread asks, so that ■ comes there; another one shows; when the command ends,
the question that nobody needs to answer any more ends too.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Callable

from ._errors import HpcError, Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._result import Result
    from ._started import Started


def converse(run: Started, ask: Callable[[], str]) -> Result:
    """Returns the run's result at its end."""
    shower = _Shower(run)
    presses = 0
    while not shower.over.is_set():
        try:
            with shower.asking():
                line = ask()
            run.write(line + "\n")
        except EOFError:
            with contextlib.suppress(HpcError):
                run.eof()
            break
        except KeyboardInterrupt:
            if shower.over.is_set():
                break
            presses += 1
            _stop(run, presses)
        except HpcError as error:
            if error.code != "conflict":  # It ended or closed its stdin.
                raise
            break
    while not shower.over.is_set():
        try:
            shower.over.wait()
        except KeyboardInterrupt:
            presses += 1
            _stop(run, presses)
    if shower.error is not None:
        raise shower.error
    result = run.result()
    if presses:
        raise Interrupted(str(result), result)
    return result


def _stop(run: Started, presses: int) -> None:
    if presses > 2:
        raise Interrupted(f"left it; it may go on, see runs[{run.id!r}]") from None
    with contextlib.suppress(HpcError):
        if presses > 1:
            run.kill()
        else:
            run._interrupt()


class _Shower:
    """Shows a run in a thread of its own, and wakes who asks when it ends."""

    def __init__(self, run: Started) -> None:
        self.over = threading.Event()
        self._run, self._lock, self._asker = run, threading.Lock(), 0
        self.error: HpcError | None = None
        threading.Thread(target=self._show, name=f"shows {run.id}", daemon=True).start()

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """The time in which a line is waited for."""
        with self._lock:
            if self.over.is_set():
                raise KeyboardInterrupt
            self._asker = threading.get_ident()
        try:
            yield
        finally:
            with self._lock:
                self._asker = 0

    def _show(self) -> None:
        try:
            self._run._follow(None)
        except HpcError as error:
            self.error = error
        finally:
            with self._lock:
                self.over.set()
                if self._asker == threading.main_thread().ident:
                    signal.pthread_kill(self._asker, signal.SIGINT)
