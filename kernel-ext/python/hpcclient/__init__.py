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
    Unavailable,
    VersionMismatch,
)
from ._rpc import Rpc, Runs, connect, hpcrpc
from ._run import Result, Run
from ._shares import Share, Shares
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
    "Runs",
    "Share",
    "Shares",
    "Unavailable",
    "VersionMismatch",
    "View",
    "connect",
    "hpcrpc",
    "marconiview",
]
