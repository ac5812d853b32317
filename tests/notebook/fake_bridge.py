"""A bridge that speaks the wire and misbehaves on request; for the unit tests only.

It runs nothing: `behave` decides what a command writes. Real ones are in test_quickstart.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from hpcclient._bridge import Address

TOKEN = "a-token"
NAMES = {1: "stdout", 2: "stderr", 3: "tty"}


def frame(kind, stream=0, offset=0, payload=b""):
    """Encodes one frame."""
    return struct.pack(">BBQI", kind, stream, offset, len(payload)) + payload


class FakeRun:
    """A run: what it wrote so far, in order, and how it ended."""

    def __init__(self, run_id, spec):
        self.id, self.spec, self.changed = run_id, spec, threading.Condition()
        self.pieces, self.sizes = [], {1: 0, 2: 0, 3: 0}
        self.ended, self.code, self.signal, self.reason = False, None, None, None
        self.signals, self.stdin, self.writers = [], b"", {}
        self.gaps, self.marks, self.state, self.told = {}, {}, "running", lambda: None

    def write(self, stream, data):
        """Adds output."""
        with self.changed:
            self.pieces.append((stream, self.sizes[stream], data))
            self.sizes[stream] += len(data)
            self.changed.notify_all()

    def end(self, code=0, signal=None, reason=None):
        """Ends it."""
        with self.changed:
            self.ended, self.code, self.signal, self.reason = True, code, signal, reason
            self.changed.notify_all()
        self.told()

    def be(self, state, **more):
        """Changes its state, and what else is told of it."""
        with self.changed:
            self.state = state
            self.marks.update(more)
            self.pieces.append((0, 0, b""))  # Wakes who follows; the state goes with it.
            self.changed.notify_all()
        self.told()

    def forget(self, stream, size):
        """Loses the first bytes of a stream."""
        self.gaps[stream] = size

    def reads(self, text, seconds=5):
        """Waits until this came to its stdin."""
        with self.changed:
            assert self.changed.wait_for(lambda: text in self.stdin, seconds), self.stdin

    def info(self):
        """The protocol's `Run`."""
        info = {"id": self.id, "spec": self.spec, "state": "exited" if self.ended else self.state}
        info |= {"createdMs": 1000, "startedMs": 1000, "host": "node", **self.marks}
        info["sizes"] = {NAMES[stream]: size for stream, size in self.sizes.items()}
        ending = {"exitCode": self.code, "signal": self.signal, "reason": self.reason}
        if self.ended:
            info |= {"endedMs": 3500, **{k: v for k, v in ending.items() if v is not None}}
        return info


class FakeBridge:
    """The server, its runs, and the ways in which it can fail."""

    def __init__(self):
        self.runs, self.requests, self.connections, self.ensured = {}, [], 0, 0
        self.behave = lambda run: run.end()
        self.connected, self.events, self.answers = True, [], {}
        self.cuts = []  # After so many bytes of a body of frames the connection is cut.
        self.rewind = 0  # So many bytes before the offset that was asked for are sent again.
        self.refuse = []  # Answers for the next requests for runs: (status, code).
        self.cut_stdin = 0
        self.watchers, self.most_watchers, self.mute = [], 0, False
        self.tail_from = {}  # Where the last lines of each stream start.
        self.page = 2  # The most runs in an answer.
        self.asked = {}  # Answers to what is asked of a run: its name in the path to a value.
        self.start()

    def start(self):
        """Listens on a new port."""
        handler = type("BoundHandler", (Handler,), {"bridge": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # Clients cut connections here on purpose.
        self.sockets = []
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self):
        """Stops, and cuts every connection."""
        self.cut_events()
        self.server.shutdown()
        self.server.server_close()
        for sock in self.sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def ensure(self):
        """What `hpcclient bridge --ensure` would tell."""
        self.ensured += 1
        return Address("127.0.0.1", self.server.server_address[1], TOKEN)

    def tell(self, event):
        """Sends every watcher an event."""
        for changed, events in list(self.watchers):
            with changed:
                events.append(event)
                changed.notify_all()

    def cut_events(self):
        """Cuts every stream of events."""
        self.tell(None)

    def seen(self, method, part=""):
        """The paths of the requests of this method that contain `part`."""
        return [path for verb, path, _ in self.requests if verb == method and part in path]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    bridge: FakeBridge
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.bridge.connections += 1
        self.bridge.sockets.append(self.connection)

    def log_message(self, *_):
        pass

    def answer(self, value=None, status=200):
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(204 if value is None else status)
        if value is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status, code, **more):
        self.answer({"code": code, "message": f"refused: {code}", **more}, status)

    def handle_any(self):
        host = f"127.0.0.1:{self.server.server_address[1]}"
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        bridge, url = self.bridge, urlsplit(self.path)
        bridge.requests.append((self.command, self.path, body))
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self.refuse(401, "unauthorized")
        if self.headers["Host"] != host or self.headers["Origin"] != f"http://{host}":
            return self.refuse(403, "forbidden")
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        query = {name: value[0] for name, value in parse_qs(url.query).items()}
        if parts[:2] == ["v1", "bridge"]:
            clusters = [{"name": "unit", "state": "connected" if bridge.connected else "failed"}]
            return self.answer({"defaultCluster": "unit", "clusters": clusters})
        if parts[:2] == ["v1", "prompts"]:
            bridge.answers[parts[2]] = json.loads(body)["answer"]
            return self.answer()
        if parts == ["v1", "login-page"]:
            return self.answer({"url": f"http://localhost:2/#code=l{len(bridge.requests)}"})
        if parts[:2] == ["v1", "clusters"] and parts[3] == "connect":
            return self.connect()
        if parts[:2] == ["v1", "clusters"] and parts[3] == "page":
            if not bridge.connected:
                return self.refuse(409, "notConnected")
            return self.answer({"url": f"http://localhost:1/#code=c{len(bridge.requests)}"})
        if not bridge.connected:
            return self.refuse(409, "notConnected", hints=["hpcclient connect unit"])
        if bridge.refuse and parts[3] == "runs":
            return self.refuse(*bridge.refuse.pop(0))
        return self.agent(parts[3:], query, body)

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = handle_any

    def agent(self, parts, query, body):
        bridge = self.bridge
        if parts[0] == "sessions":
            return self.answer()
        if parts[0] == "events":
            return self.events()
        if len(parts) == 1:
            runs = [run.info() for run in bridge.runs.values()][::-1]
            if query.get("session"):
                runs = [run for run in runs if run["spec"].get("session") == query["session"]]
            if "text" in query:
                runs = [run for run in runs if query["text"] in json.dumps(run["spec"]["command"])]
            if "live" in query:
                runs = [run for run in runs if run["state"] != "exited"]
            ids = [run["id"] for run in runs]
            start = ids.index(query["before"]) + 1 if "before" in query else 0
            page = runs[start : start + min(int(query["limit"]), bridge.page)]
            more = {"next": page[-1]["id"]} if start + len(page) < len(runs) else {}
            return self.answer({"runs": page, **more})
        new = self.command == "PUT" and parts[1] not in bridge.runs
        if new:
            run = FakeRun(parts[1], json.loads(body))
            run.told = lambda: bridge.mute or bridge.tell({"type": "run", "run": run.info()})
            bridge.runs[parts[1]] = run
            threading.Thread(target=bridge.behave, args=(run,), daemon=True).start()
        run = bridge.runs.get(parts[1])
        if run is None:
            return self.refuse(404, "notFound")
        what = parts[2] if len(parts) > 2 else ""
        if what in bridge.asked:
            value = bridge.asked[what]
            return self.chunks([value]) if isinstance(value, bytes) else self.answer(value)
        if query.get("stream") or what == "stream":
            return self.frames(run, query)
        if what in NAMES.values():
            stream = next(number for number, name in NAMES.items() if name == what)
            data = b"".join(data for number, _, data in run.pieces if number == stream)
            return self.chunks([data[int(query["from"]) :]])
        if self.command == "DELETE":
            del bridge.runs[run.id]
            bridge.tell({"type": "gone", "run": run.id})
            return self.answer()
        if self.command == "PATCH":
            run.marks.update(json.loads(body))
        elif what == "signal":
            run.signals.append(json.loads(body)["signal"])
        elif what == "kill":
            run.signals.append("KILL!")
            if not run.ended:
                run.end(137, "KILL")
        elif what == "stdin":
            return self.stdin(run, query, body)
        return self.answer(run.info())

    def stdin(self, run, query, body):
        if run.ended:
            return self.refuse(409, "conflict")
        if int(query["seq"]) > run.writers.get(query["writer"], 0):
            run.writers[query["writer"]] = int(query["seq"])
            with run.changed:
                run.stdin += body
                run.changed.notify_all()
        if self.bridge.cut_stdin:
            self.bridge.cut_stdin -= 1
            self.close_connection = True
            return None
        if query["eof"] == "true":
            run.write(1, run.stdin)
            run.end()
        return self.answer({"seq": int(query["seq"])})

    def connect(self):
        def lines():
            for event in self.bridge.events:
                yield json.dumps(event).encode() + b"\n"
                deadline = time.monotonic() + 5
                while event["type"] == "prompt" and event["id"] not in self.bridge.answers:
                    assert time.monotonic() < deadline
                    time.sleep(0.002)
                if event["type"] == "connected":
                    self.bridge.connected = True

        self.chunks(lines())

    def events(self):
        changed, events = threading.Condition(), [{"type": "ready", "seq": 0}]
        watcher = (changed, events)
        self.bridge.watchers.append(watcher)
        self.bridge.most_watchers = max(self.bridge.most_watchers, len(self.bridge.watchers))

        def lines():
            while True:
                with changed:
                    changed.wait_for(lambda: events)
                    event = events.pop(0)
                if event is None:
                    return
                yield json.dumps(event).encode() + b"\n"

        try:
            self.chunks(lines())
        finally:
            self.bridge.watchers.remove(watcher)

    def frames(self, run, query):
        have = {
            n: max(0, int(query.get(name, 0)) - self.bridge.rewind) for n, name in NAMES.items()
        }

        follow = query.get("follow") != "false"
        if "tail" in query:
            have.update(self.bridge.tail_from)

        def body():
            yield frame(4, payload=json.dumps(run.info()).encode())
            sent = 0
            while True:
                with run.changed:
                    while follow and sent == len(run.pieces) and not run.ended:
                        run.changed.wait(5)
                    pieces, ended = run.pieces[sent:], run.ended or not follow
                for stream, offset, data in pieces:
                    if not stream:
                        yield frame(4, payload=json.dumps(run.info()).encode())
                        continue
                    gone = run.gaps.get(stream, 0)
                    if have[stream] < gone:
                        yield frame(2, stream, have[stream], gone.to_bytes(8, "big"))
                        have[stream] = gone
                    skip = max(0, have[stream] - offset)
                    if data[skip:]:
                        yield frame(1, stream, offset + skip, data[skip:])
                sent += len(pieces)
                if ended and sent == len(run.pieces):
                    break
            yield frame(6)
            yield frame(5, payload=json.dumps(run.info()).encode())

        self.chunks(body(), self.bridge.cuts.pop(0) if self.bridge.cuts else None)

    def chunks(self, pieces, cut=None):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            if cut is not None and len(piece) > cut:
                self.wfile.write(b"%x\r\n%s" % (len(piece), piece[:cut]))
                self.close_connection = True
                return
            if piece:
                cut = cut and cut - len(piece)
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")
