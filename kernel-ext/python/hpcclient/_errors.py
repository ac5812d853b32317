"""What can go wrong, as exceptions that a notebook shows as a sentence and a hint.

Raised by every module here. The codes are those of `ErrorCode` in the protocol.
Not here: retrying; that is `_follow`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._result import Result


class HpcError(Exception):
    """A failure: its `code`, what failed (`message`), why (`causes`), what to do (`hints`)."""

    code = "internal"

    def __init__(
        self, message: str, hints: list[str] | None = None, causes: list[str] | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.hints, self.causes = message, hints or [], causes or []

    def __str__(self) -> str:
        causes = [f"caused by: {cause}" for cause in self.causes]
        return "\n".join([self.message, *causes, *(f"hint: {hint}" for hint in self.hints)])

    def _render_traceback_(self) -> list[str]:
        """Tells IPython what to show: our insides help nobody."""
        return f"error: {self}".split("\n")


class NotConnected(HpcError):
    """The cluster is not connected, and connecting needs the user."""

    code = "notConnected"


class ConnectFailed(HpcError):
    """The login node could not be reached."""

    code = "connectFailed"


class AuthFailed(HpcError):
    """The server refused the login."""

    code = "authFailed"


class HostKeyUnknown(HpcError):
    """The server's key is unknown and was not accepted."""

    code = "hostKeyUnknown"


class HostKeyChanged(HpcError):
    """The server's key is not the known one; nothing was sent."""

    code = "hostKeyChanged"


class AgentFailed(HpcError):
    """The agent could not be installed or started on the node."""

    code = "agentFailed"


class VersionMismatch(HpcError):
    """The agent speaks another version of the protocol."""

    code = "versionMismatch"


class NotFound(HpcError):
    """The run, file or cluster does not exist."""

    code = "notFound"


class OtherNode(HpcError):
    """The run lives on another node, which cannot be reached from the present one."""

    code = "otherNode"


class NoSpace(HpcError):
    """The disk or the quota of the node is full."""

    code = "noSpace"


class Unavailable(HpcError):
    """The bridge or the agent stopped answering; trying again may help."""

    code = "unavailable"


class BridgeFailed(HpcError):
    """The local `hpcclient` program could not be found or started."""

    code = "bridgeFailed"


class HpcTimeout(HpcError, TimeoutError):
    """The command took longer than `timeout` and was killed; `result` is what it left.

    From `expect` and its like: what was waited for did not come in time, and the command goes on;
    `text` is what came.
    """

    code = "timeout"
    result: Result | None = None
    text = ""


class RunEnded(HpcError, EOFError):
    """The run ended before what was waited for came; `text` is what came, `result` its end."""

    code = "ended"
    result: Result | None = None
    text = ""


class Interrupted(KeyboardInterrupt):
    """The cell was interrupted; `result` is how the command ended, `None` if it goes on."""

    def __init__(self, message: str, result: Result | None = None) -> None:
        super().__init__(message)
        self.result = result

    def _render_traceback_(self) -> list[str]:
        return [f"interrupted: {self}"]


def from_wire(error: Any, status: int = 0) -> HpcError:
    """Makes the exception for an `ApiError`; anything else becomes an `internal` one."""
    if not isinstance(error, dict) or "code" not in error:
        return HpcError(f"the bridge answered {status} with no reason")
    kind = {each.code: each for each in HpcError.__subclasses__()}.get(error["code"], HpcError)
    made = kind(error.get("message", "it failed"), error.get("hints"), error.get("causes"))
    made.code = error["code"]
    return made
