"""A cluster inside the notebook: run commands on its login node, see its pages.

    from hpcclient import *
    hpcrpc.ls('-la')
    marconiview

Everything else is in `hpcrpc`'s own help. Importing starts nothing and opens no connection.
"""

from __future__ import annotations

from ._errors import (
    AgentFailed,
    AuthFailed,
    BridgeFailed,
    ConnectFailed,
    HostKeyChanged,
    HostKeyUnknown,
    HpcError,
    HpcTimeout,
    Interrupted,
    NoSpace,
    NotConnected,
    NotFound,
    OtherNode,
    RunEnded,
    Unavailable,
    VersionMismatch,
)
from ._result import Result
from ._rpc import Rpc, connect, hpcrpc
from ._run import Run
from ._runs import Runs
from ._shares import Share, Shares
from ._started import Started
from ._view import View, marconiview

__all__ = [
    "AgentFailed",
    "AuthFailed",
    "BridgeFailed",
    "ConnectFailed",
    "HostKeyChanged",
    "HostKeyUnknown",
    "HpcError",
    "HpcTimeout",
    "Interrupted",
    "NoSpace",
    "NotConnected",
    "NotFound",
    "OtherNode",
    "Result",
    "Rpc",
    "Run",
    "RunEnded",
    "Runs",
    "Share",
    "Shares",
    "Started",
    "Unavailable",
    "VersionMismatch",
    "View",
    "connect",
    "hpcrpc",
    "marconiview",
]
