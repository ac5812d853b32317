"""Times a remote command as users know it: ours beside ssh with ControlMaster, paramiko and asyncssh.

`cargo xtask bench` runs it on a login node of its own. Every method has its connection open before it is timed;
methods take turns in rounds, so that what else the machine does meets all of them. Prints medians in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time

import asyncssh
import paramiko
from hpcclient import Rpc

PLACE = json.loads(os.environ["TESTBED"])
ROUNDS = 5
COMMANDS = {"true": "true", "ls -la": "ls -la /usr"}


def log(line):
    print(line, file=sys.stderr, flush=True)


class Hpcclient:
    name = "hpcclient"

    def __init__(self, port, cluster):
        self.rpc = Rpc()
        self.rpc.connect(cluster)
        self.rpc.true(quiet=True)

    def call(self, command):
        result = self.rpc.execute(command, quiet=True)
        assert result.returncode == 0, result.stderr
        return result.stdout_bytes

    def close(self):
        pass


class ControlMaster:
    name = "ssh (ControlMaster)"

    def __init__(self, port, cluster):
        target = f"{PLACE['user']}@{PLACE['host']}"
        options = {
            "BatchMode": "yes",
            "ControlPath": f"{os.environ['TMPDIR']}/control-{port}",
            "UserKnownHostsFile": PLACE["knownHosts"],
            "IdentityFile": PLACE["key"],
            "IdentitiesOnly": "yes",
        }
        pairs = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        self.ssh = ["ssh", "-F", "none", "-p", str(port), *pairs]
        self.target = target
        self.master = subprocess.Popen([*self.ssh, "-M", "-N", target], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        check = [*self.ssh, "-O", "check", target]
        while (
            subprocess.run(check, check=False, capture_output=True).returncode
            and time.monotonic() < deadline
        ):
            time.sleep(0.05)

    def call(self, command):
        argv = [*self.ssh, self.target, command]
        return subprocess.run(
            argv, check=True, stdin=subprocess.DEVNULL, capture_output=True
        ).stdout

    def close(self):
        self.master.terminate()
        self.master.wait()


class Paramiko:
    name = "paramiko"

    def __init__(self, port, cluster):
        self.client = paramiko.SSHClient()
        self.client.load_host_keys(PLACE["knownHosts"])
        self.client.connect(
            PLACE["host"],
            port,
            PLACE["user"],
            key_filename=PLACE["key"],
            allow_agent=False,
            look_for_keys=False,
        )
        # Without this each call waits 40 ms for a delayed acknowledgement; its users set it, too.
        transport = self.client.get_transport()
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self, command):
        _, stdout, _ = self.client.exec_command(command)
        output = stdout.read()
        assert stdout.channel.recv_exit_status() == 0
        return output

    def close(self):
        self.client.close()


class Asyncssh:
    name = "asyncssh"

    def __init__(self, port, cluster):
        self.loop = asyncio.new_event_loop()
        self.connection = self.loop.run_until_complete(
            asyncssh.connect(
                PLACE["host"],
                port,
                username=PLACE["user"],
                client_keys=[PLACE["key"]],
                known_hosts=PLACE["knownHosts"],
                agent_path=None,
                config=None,
            )
        )

    def call(self, command):
        result = self.loop.run_until_complete(
            self.connection.run(command, check=True, encoding=None)
        )
        return result.stdout

    def close(self):
        self.connection.close()
        self.loop.run_until_complete(self.connection.wait_closed())
        self.loop.close()


METHODS = [Hpcclient, ControlMaster, Paramiko, Asyncssh]


def measure(port, cluster, calls):
    """Returns {command: {method: [milliseconds]}} of calls in rotated rounds."""
    methods = [make(port, cluster) for make in METHODS]
    times = {label: {method.name: [] for method in methods} for label in COMMANDS}
    for label, command in COMMANDS.items():
        expected = subprocess.run(command, check=True, shell=True, capture_output=True).stdout
        for number in range(ROUNDS):
            turn = number % len(methods)
            for method in methods[turn:] + methods[:turn]:
                for call in range(calls + 2):
                    start = time.perf_counter()
                    output = method.call(command)
                    took = (time.perf_counter() - start) * 1000
                    assert output == expected, f"{method.name}: another output"
                    if call >= 2:  # The first two warm it up.
                        times[label][method.name].append(took)
            log(f"  {label}: round {number + 1} of {ROUNDS}")
    for method in methods:
        method.close()
    return times


def throughput(cluster):
    """Returns MB/s of 100 MB of output: ours, stored at the node, and ssh's, not stored."""
    command = "head -c 100000000 /dev/zero"
    rates = {}
    for make in (Hpcclient, ControlMaster):
        method = make(PLACE["port"], cluster)
        times = []
        for _ in range(3):
            start = time.perf_counter()
            assert len(method.call(command)) == 100_000_000
            times.append(time.perf_counter() - start)
        rates[method.name] = 100 / statistics.median(times)
        method.close()
    return rates


def show(title, times):
    print(f"\n{title}")
    print(f"{'':22}" + "".join(f"{label:>12}{'ratio':>8}" for label in times))
    ours = {label: statistics.median(each["hpcclient"]) for label, each in times.items()}
    for make in METHODS:
        line = f"{make.name:22}"
        for label, each in times.items():
            median = statistics.median(each[make.name])
            line += f"{median:9.2f} ms{median / ours[label]:7.2f}×"
        print(line)


def main():
    log("loopback")
    show(
        "loopback, median of a call",
        measure(PLACE["port"], os.environ["HPCCLIENT_CLUSTER"], 40),
    )
    log("25 ms each way")
    show(
        "25 ms each way, median of a call",
        measure(PLACE["slowPort"], PLACE["slowCluster"], 5),
    )
    log("throughput")
    print("\n100 MB of output, loopback")
    for name, rate in throughput(os.environ["HPCCLIENT_CLUSTER"]).items():
        print(f"{name:22}{rate:9.0f} MB/s")


main()
