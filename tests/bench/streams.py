"""Times streams and consoles beside what users have otherwise: ssh, ssh | tee, ssh -t, tmux inside ssh.

`cargo xtask bench` runs it on a login node of its own. Ours stores every byte at the node; ssh stores none, tee on the
user's machine. Prints one table; a ratio above 1 says that ours is better.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import pty
import select
import shlex
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import time
import urllib.request
import uuid

import websocket

PLACE = json.loads(os.environ["TESTBED"])
CLUSTER = os.environ["HPCCLIENT_CLUSTER"]
CLIENT = os.environ["HPCCLIENT_BIN"]
STATE = pathlib.Path(os.environ["HPCCLIENT_STATE_DIR"])
TMP = pathlib.Path(os.environ["TMPDIR"])
MEGA = 1_000_000
THROUGHPUT = 500 * MEGA
UNSEEN = 10_000 * MEGA
FLOOD = f"exec head -c {UNSEEN} /dev/zero"
LINE = 1_000 * MEGA
ONE_LINE = f"head -c {LINE} /dev/zero | tr '\\0' x"
KEYS = 200
HISTORY = 4 << 20

ROWS: list[tuple[str, str, str, str]] = []


def log(line):
    print(line, file=sys.stderr, flush=True)


def row(what, ours, others="", ratio=""):
    ROWS.append((what, ours, others, ratio))
    log(f"  {what}: {ours} {others} {ratio}")


def client(*args, **more):
    return subprocess.run([CLIENT, *args], check=True, stdin=subprocess.DEVNULL, **more)


def ssh(*options):
    named = {
        "BatchMode": "yes",
        "UserKnownHostsFile": PLACE["knownHosts"],
        "IdentityFile": PLACE["key"],
        "IdentitiesOnly": "yes",
        "ControlMaster": "auto",
        "ControlPath": f"{TMP}/streams-control",
        "ControlPersist": "yes",
        "LogLevel": "ERROR",
    }
    pairs = [part for name, value in named.items() for part in ("-o", f"{name}={value}")]
    target = f"{PLACE['user']}@{PLACE['host']}"
    return ["ssh", "-F", "none", "-p", str(PLACE["port"]), *pairs, *options, target]


class Bridge:
    """The bridge's HTTP, with its token."""

    def __init__(self):
        client("connect", CLUSTER, capture_output=True)
        self.address = json.loads((STATE / "bridge.json").read_text())
        self.origin = self.address["url"].rstrip("/")

    def ask(self, method, path, body=None):
        request = urllib.request.Request(
            f"{self.origin}/c/{CLUSTER}/v1/{path}",
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={
                "Authorization": f"Bearer {self.address['token']}",
                "Origin": self.origin,
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.read()

    def start(self, argv, **spec):
        run = new_id()
        self.ask("PUT", f"runs/{run}", {"command": {"argv": argv}, **spec})
        return run

    def run(self, run):
        return json.loads(self.ask("GET", f"runs/{run}"))

    def until_over(self, run, each=lambda: None):
        while self.run(run)["state"] not in ("exited", "lost"):
            each()
            time.sleep(0.1)
        return self.run(run)

    def live(self):
        return websocket.create_connection(
            f"{self.origin.replace('http', 'ws')}/c/{CLUSTER}/v1/live",
            subprotocols=["hpcclient.v1", f"bearer.{self.address['token']}"],
            origin=self.origin,
            timeout=60,
        )


def new_id():
    """Returns a UUID version 7, as clients make them."""
    milliseconds = time.time_ns() // 1_000_000
    random = uuid.uuid4().int & ((1 << 74) - 1)
    high, low = random >> 62, random & ((1 << 62) - 1)
    return str(uuid.UUID(int=milliseconds << 80 | 7 << 76 | high << 64 | 2 << 62 | low))


def memory(pid):
    """Returns the bytes that are a process's own, which is what another process costs."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if "RssAnon" in line)


def parent(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


def throughput():
    command = f"head -c {THROUGHPUT} /dev/zero"

    def seconds(argv):
        def once():
            start = time.perf_counter()
            subprocess.run(
                argv,
                check=True,
                shell=isinstance(argv, str),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            return time.perf_counter() - start

        return once

    plain = [*ssh(), command]
    ways = {
        "ours": seconds([CLIENT, "run", "--", *command.split()]),
        "ssh": seconds(plain),
        "tee": seconds(f"{shlex.join(plain)} | tee {TMP}/tee-file"),
    }
    times = {name: [] for name in ways}
    for _ in range(3):
        for name, once in ways.items():
            times[name].append(once())
    (TMP / "tee-file").unlink()
    rate = {name: THROUGHPUT / MEGA / statistics.median(all_) for name, all_ in times.items()}
    for name, label in (("ssh", "ssh"), ("tee", "ssh | tee file")):
        row(
            "output to the user, stored",
            f"{rate['ours']:.0f} MB/s",
            f"{label} {rate[name]:.0f} MB/s",
            f"{rate['ours'] / rate[name]:.2f}",
        )


def unseen(bridge, what, command, size):
    agent = json.loads(bridge.ask("GET", "status"))["hello"]["pid"]
    before, peak = memory(agent), {"agent": 0, "shim": 0}
    start = time.perf_counter()
    run = bridge.start(["sh", "-c", command])
    shim = None

    def sample():
        nonlocal shim
        with contextlib.suppress(OSError, StopIteration, KeyError):
            shim = shim or parent(bridge.run(run)["pid"])
            peak["shim"] = max(peak["shim"], memory(shim))
        peak["agent"] = max(peak["agent"], memory(agent))

    ended = bridge.until_over(run, sample)
    took = time.perf_counter() - start
    assert ended["state"] == "exited", ended
    assert ended["sizes"]["stdout"] == size, ended
    row(what, f"{size / MEGA / took:.0f} MB/s", "wanted 200 MB/s")
    more = (peak["agent"] - before) / MEGA
    row("  memory of the agent then", f"{more:+.1f} MB", "wanted at most +8 MB")
    row("  memory of its supervisor", f"{peak['shim'] / MEGA:.1f} MB", "wanted at most 8 MB")
    # The testbed's disk is wanted for what follows.
    for folder in pathlib.Path(STATE.parent.parent, "node/state/runs").glob(f"*/{run}"):
        shutil.rmtree(folder)


class OurConsole:
    def __init__(self, bridge, argv):
        self.socket = bridge.live()
        self.run = bridge.start(argv, pty={"cols": 80, "rows": 24})
        self.bridge, self.seq = bridge, 0
        opening = {"type": "open", "channel": 1, "run": self.run, "credit": 1 << 30}
        self.socket.send(json.dumps(opening))

    def send(self, key):
        self.seq += 1
        self.socket.send_binary(struct.pack(">IQ", 1, self.seq) + key)

    def read(self):
        while True:
            message = self.socket.recv()
            # The echo of a key is all that comes then.
            if isinstance(message, bytes) and data_in(message):
                return message[4:]

    def close(self):
        self.bridge.ask("POST", f"runs/{self.run}/kill", {})
        self.socket.close()


class SshConsole:
    def __init__(self, argv):
        ours, theirs = pty.openpty()
        self.fd = ours
        self.process = subprocess.Popen(
            [*ssh("-tt"), shlex.join(argv)],
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        os.close(theirs)

    def send(self, key):
        os.write(self.fd, key)

    def read(self):
        ready, _, _ = select.select([self.fd], [], [], 20)
        assert ready, "no echo"
        return os.read(self.fd, 1 << 16)

    def close(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.fd)


def echo(bridge):
    """Milliseconds from a key to its echo; keys come at a typist's pace."""
    ways = {
        "ours": lambda: OurConsole(bridge, ["cat"]),
        "ssh -t": lambda: SshConsole(["cat"]),
    }
    tmux = shutil.which("tmux")
    if tmux:
        argv = [tmux, "-L", f"bench-{os.getpid()}", "-f", "/dev/null", "new-session", "cat"]
        ways["tmux in ssh"] = lambda: SshConsole(argv)
    times = {}
    for name, make in ways.items():
        console = make()
        took = []
        for number in range(KEYS + 5):
            key = bytes([ord("a") + number % 26])
            # What is drawn beside the key, such as a status line, is not its echo.
            time.sleep(0.5 if number < 2 else 0.01)
            start = time.perf_counter()
            console.send(key)
            while key not in console.read():
                pass
            took.append((time.perf_counter() - start) * 1000)
        console.close()
        times[name] = sorted(took[5:])
    if tmux:
        subprocess.run([*argv[:3], "kill-server"], check=False, capture_output=True)

    def at(name, part):
        return times[name][int(len(times[name]) * part)]

    for name in list(times)[1:]:
        row(
            "console, key to echo, p50 / p95",
            f"{at('ours', 0.5):.2f} / {at('ours', 0.95):.2f} ms",
            f"{name} {at(name, 0.5):.2f} / {at(name, 0.95):.2f} ms",
            f"{at(name, 0.5) / at('ours', 0.5):.2f} / {at(name, 0.95) / at('ours', 0.95):.2f}",
        )


def data_in(message):
    """Returns how many bytes of data the frames of a binary message carry."""
    at, total = 4, 0
    while at < len(message):
        kind, _, _, length = struct.unpack_from(">BBQI", message, at)
        total += length if kind == 1 else 0
        at += 14 + length
    return total


def attach(bridge):
    """Until a console with 4 MiB of history is on the screen of one who comes."""
    run = bridge.start(
        ["sh", "-c", f"yes 0123456789 | head -c {HISTORY}; sleep 1000"],
        pty={"cols": 80, "rows": 24},
    )
    while bridge.run(run)["sizes"]["tty"] < HISTORY:
        time.sleep(0.05)
    time.sleep(0.5)
    size, took = bridge.run(run)["sizes"]["tty"], []
    for _ in range(10):
        start = time.perf_counter()
        socket = bridge.live()
        opening = {"type": "open", "channel": 1, "run": run, "credit": 1 << 30}
        socket.send(json.dumps(opening))
        seen = 0
        while seen < size:
            message = socket.recv()
            if isinstance(message, bytes):
                seen += data_in(message)
        took.append((time.perf_counter() - start) * 1000)
        socket.close()
    bridge.ask("POST", f"runs/{run}/kill", {})
    row("attach to a console with 4 MiB of history", f"{statistics.median(took):.0f} ms")


def upgrade():
    """How long ten viewers of consoles see nothing while the bridge and the agent are replaced, and back."""
    first = pathlib.Path(os.environ["HPCCLIENT_AGENT"])
    current, line = TMP / "current-agent", "while :; do echo tick; read -rt 0.02 -u 9; done"
    environment = {**os.environ, "HPCCLIENT_AGENT": str(current)}

    def place(mark):
        draft = TMP / "next-agent"
        draft.write_bytes(first.read_bytes() + mark)
        draft.chmod(0o700)
        draft.replace(current)

    place(b"")
    client("stop", capture_output=True)
    client("connect", CLUSTER, capture_output=True, env=environment)
    bridge = Bridge()
    runs = [
        bridge.start(["bash", "-c", f"exec 9<> <(:); {line}"], pty={"cols": 80, "rows": 24})
        for _ in range(10)
    ]
    viewers = [
        subprocess.Popen(
            [CLIENT, "attach", run],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        for run in runs
    ]
    for mark, name in ((b"another build", "upgrade"), (b"", "downgrade")):
        watch(viewers, 1.0)
        before = json.loads(bridge.ask("GET", "status"))["hello"]
        place(mark)
        os.kill(bridge.address["pid"], signal.SIGKILL)
        connect = subprocess.Popen(
            [CLIENT, "connect", CLUSTER],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        longest = watch(viewers, 6.0)
        connect.wait()
        bridge = Bridge()
        after = json.loads(bridge.ask("GET", "status"))["hello"]
        assert before["build"] != after["build"], "the agent was not replaced"
        what = f"{name} of the agent under 10 consoles, blackout"
        row(what, f"{longest * 1000:.0f} ms", "wanted below 2000 ms")
    for run in runs:
        assert bridge.run(run)["state"] == "running"
        bridge.ask("POST", f"runs/{run}/kill", {})
    for viewer in viewers:
        viewer.kill()
        viewer.wait()


def watch(viewers, seconds):
    """Reads all viewers for a time and returns the longest that one of them was silent."""
    end = time.monotonic() + seconds
    last = {viewer.stdout.fileno(): time.monotonic() for viewer in viewers}
    longest = 0.0
    while time.monotonic() < end:
        ready, _, _ = select.select(list(last), [], [], 0.05)
        for fd in ready:
            assert os.read(fd, 1 << 16), "a viewer ended"
            now = time.monotonic()
            longest, last[fd] = max(longest, now - last[fd]), now
    return max(longest, *(time.monotonic() - since for since in last.values()))


def main():
    bridge = Bridge()
    for title, measure in (
        ("throughput", throughput),
        ("10 GB", lambda: unseen(bridge, "10 GB that nobody looks at", FLOOD, UNSEEN)),
        ("one line", lambda: unseen(bridge, "one line of 1 GB", ONE_LINE, LINE)),
        ("echo", lambda: echo(bridge)),
        ("attach", lambda: attach(bridge)),
        ("upgrade", upgrade),
    ):
        log(title)
        measure()
    widths = [max(len(cells[n]) for cells in ROWS) for n in range(3)]
    print("\nstreams and consoles: ours, others, ratio")
    for what, ours, others, ratio in ROWS:
        print(f"{what:{widths[0]}}  {ours:>{widths[1]}}  {others:{widths[2]}}  {ratio}".rstrip())


main()
