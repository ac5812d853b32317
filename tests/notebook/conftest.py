"""Makes the package importable here and in the kernels that the tests start; the fixtures.

An installed package is used as it is, else the one in the source tree.
"""

from __future__ import annotations

import faulthandler
import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "kernel-ext" / "python"
if importlib.util.find_spec("hpcclient") is None:
    sys.path.insert(0, str(SOURCE))
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SOURCE), inherited]))

from fake_bridge import FakeBridge  # noqa: E402
from hpcclient import Rpc, _bridge, _http, _watch  # noqa: E402

# A shell starts `… &` with SIGINT ignored, and then Python makes no KeyboardInterrupt of it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def deadline():
    """Ends the whole run with every thread's stack when a test hangs."""
    faulthandler.dump_traceback_later(300, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def fake(monkeypatch):
    """A bridge with one connected cluster, which the package finds."""
    bridge = FakeBridge()
    monkeypatch.setattr(_bridge, "_ensure", bridge.ensure)
    monkeypatch.setattr(_bridge, "_known", None)
    monkeypatch.setenv("HPCCLIENT_CLUSTER", "unit")
    _http._kept.__dict__.clear()
    yield bridge
    watchers = list(_watch._watchers.values())
    for watcher in watchers:  # Their threads must not look for a bridge when this one is gone.
        watcher._runs.clear()
    bridge.cut_events()
    for thread in [each._thread for each in watchers if each._thread]:
        thread.join(10)
        assert not thread.is_alive()
    _watch._watchers.clear()
    bridge.stop()
    _http._kept.__dict__.clear()


@pytest.fixture
def rpc(fake, monkeypatch):
    """A session of its own on the fake bridge, which the page uses too."""
    rpc = Rpc()
    monkeypatch.setattr("hpcclient._view.hpcrpc", rpc)
    monkeypatch.setattr("atexit.register", lambda *_: None)
    return rpc


@pytest.fixture
def cluster():
    """The name of the real cluster that `cargo xtask test` started."""
    for name in ("HPCCLIENT_BIN", "HPCCLIENT_CLUSTER"):
        if not os.environ.get(name):
            pytest.fail(f"{name} is not set: `cargo xtask test` starts a cluster and sets it")
    return os.environ["HPCCLIENT_CLUSTER"]
