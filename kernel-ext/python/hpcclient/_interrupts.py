"""■ (SIGINT) while something is waited for: it comes out where it is harmless, and only there.

Called by `_follow`. Invariant: an interrupt is never lost; it is raised only while `armed`.
"""

from __future__ import annotations

import signal
import threading
from typing import Any


class Interrupts:
    """Counts SIGINT while a run is followed; raises it only while `armed`."""

    def __init__(self) -> None:
        self.pending, self.armed = False, False
        self._old: Any = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            old = signal.getsignal(signal.SIGINT)
            if callable(old):
                self._old = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        if self._old is not None:
            signal.signal(signal.SIGINT, self._old)

    def _on_signal(self, *_: object) -> None:
        self.pending = True
        if self.armed:
            self.disarm_and_raise()

    def arm(self) -> None:
        """From here on an interrupt is raised, one that came before at once."""
        self.armed = True
        if self.pending:
            self.disarm_and_raise()

    def disarm_and_raise(self) -> None:
        """Raises the interrupt that is pending."""
        self.armed = self.pending = False
        raise KeyboardInterrupt
