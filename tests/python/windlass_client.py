#!/usr/bin/env python3
"""A small client of the Windlass protocol, version 1: copy it with windlass_codec.py (W-...: see SPEC.md).

    with Client("127.0.0.1", 7410) as client:
        print(client.call("hash", {"algorithm": "sha256"}, b"hello").body)

    windlass_client.py HOST:PORT|PATH call OPERATION [key=value ...] < input
    windlass_client.py HOST:PORT|PATH ping|catalogue|status

It tries nothing again: a Failure says whether that is safe and after what time; SPEC.md, "Advice to clients", says how.
"""
from __future__ import annotations

import json, socket, sys, threading, time
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from typing import Any, NamedTuple

from windlass_codec import FRAME_MAX, ID_MAX, PREFACE, Frame, Kind, ProtocolError, encode_frame, read_frame


class ConnectionLost(Exception):
    """The connection ended without an answer: the outcome of the request is unknown (W-64)."""


class Failure(Exception):
    """The daemon refused or stopped a request, or the connection; `retry_after` is in milliseconds."""
    def __init__(self, code: int, message: str, retry_after: int | None = None, retry_safe: bool = False):
        super().__init__(f"code {code}: {message}")
        self.code, self.message, self.retry_after, self.retry_safe = code, message, retry_after, retry_safe


class Reply(NamedTuple):
    """The output of a request; times in microseconds."""
    body: bytes
    queue_time: int
    service_time: int
    load: int


class Client(AbstractContextManager):
    """A connection: `Client("127.0.0.1", 7410)` or `Client("/path/of/socket")`; threads may share it."""
    def __init__(self, host: str, port: int | None = None, timeout: float = 60.0, name: str = "python"):
        """`timeout`: seconds to wait for the connection, and for each answer before TimeoutError."""
        self._timeout, self._opened_at, self._next_id = timeout, time.time_ns() // 1000, 1
        self._lock, self._last_id = threading.Lock(), ID_MAX  # the last_id of a GoAway
        self._answers: dict[int, Future] = {0: Future()}  # by id; 0 is the Welcome, later the Closed
        self._no_work = self._no_more = None  # the exception by which no more Work, or nothing, may be sent
        if port is None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(timeout)
            self._socket.connect(host)
        else:
            self._socket = socket.create_connection((host, port), timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(None)
        hello = {"version_min": 1, "version_max": 1, "features": 0, "frame_bytes_max": FRAME_MAX, "window": 0}
        try:
            self._socket.sendall(PREFACE + encode_frame(Frame(Kind.HELLO, 0, hello | {"client": name})))
            threading.Thread(target=self._read, daemon=True).start()  # reads while others write (W-35)
            self.welcome: dict[str, Any] = self._wait(0).header
        except BaseException:
            self.__exit__()
            raise
        self._free = threading.Semaphore(self.welcome["in_flight_max"])

    def __exit__(self, *_: object) -> None:
        """Ends the connection without a word; this also ends the reading thread."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def submit(self, operation: str, parameters: dict[str, str] | None = None, body: bytes = b"",
               deadline_ms: int | None = None, priority: int = 0) -> int:
        """Sends a request without waiting for the answer; returns its id for `wait` and `cancel`."""
        if len(body) > self.welcome["body_bytes_max"]:
            raise Failure(13, "the body is larger than the daemon reads", retry_safe=True)
        header = dict(operation=operation, parameters=list((parameters or {}).items()), priority=priority,
                      sent_at=time.time_ns() // 1000, deadline=deadline_ms, body_total=len(body))
        self._free.acquire()  # W-39: never more than in_flight_max
        try:
            id_ = self._send(Frame(Kind.WORK, 0, header, body), ask=True)
        except BaseException:
            self._free.release()
            raise
        self._answers[id_].add_done_callback(lambda _: self._free.release())
        return id_

    def wait(self, id_: int) -> Reply:
        """Waits for the answer to a request, once; raises Failure or ConnectionLost."""
        frame = self._wait(id_)
        times = frame.header["queue_time"], frame.header["service_time"]
        return Reply(frame.body, *times, load=min(frame.header["load"], 100))

    def call(self, operation: str, parameters: dict[str, str] | None = None, body: bytes = b"",
             deadline_ms: int | None = None, priority: int = 0) -> Reply:
        """Sends a request and waits for its answer."""
        return self.wait(self.submit(operation, parameters, body, deadline_ms, priority))

    def cancel(self, id_: int) -> None:
        """Says that an answer is no longer wanted. It still comes (W-47)."""
        self._send(Frame(Kind.CANCEL, id_))

    def ping(self, body: bytes = b"") -> float:
        """Returns the seconds that a Ping and its Pong took."""
        start = time.monotonic()
        self._wait(self._send(Frame(Kind.PING, 0, None, body), ask=True))
        return time.monotonic() - start

    def query(self, subject: int) -> dict[str, Any]:
        """Asks for the catalogue (1) or the status (2)."""
        return json.loads(self._wait(self._send(Frame(Kind.QUERY, 0, {"subject": subject}), ask=True)).body)

    def close(self) -> dict[str, int]:
        """Ends the connection in order and returns the totals; answers may still be waited for afterwards."""
        self._answers[0] = Future()
        self._send(Frame(Kind.CLOSE, 0, {"opened_at": self._opened_at, "closed_at": time.time_ns() // 1000}))
        return {name: value for name, value in self._wait(0).header.items() if name != "extensions"}

    def _send(self, frame: Frame, ask: bool = False) -> int:
        """Sends a frame; `ask` gives it the next id, under which `_wait` will find the answer."""
        with self._lock:
            refusal = self._no_more or (self._no_work if frame.kind == Kind.WORK else None)
            if refusal:  # W-62, W-69
                raise refusal
            frame.id = self._next_id if ask else frame.id
            data = encode_frame(frame)
            if ask:
                self._answers[frame.id], self._next_id = Future(), frame.id + 1
            with suppress(OSError):  # the reader finds out why, and settles every answer
                self._socket.sendall(data)
            return frame.id

    def _wait(self, id_: int) -> Frame:
        answer = self._answers[id_]
        answer.exception(self._timeout)  # after a TimeoutError it may be waited for again
        del self._answers[id_]
        return answer.result()

    def _settle(self, id_: int, outcome: Frame | Exception) -> None:
        answer = self._answers.get(id_)
        if answer and not answer.done():
            (answer.set_exception if isinstance(outcome, Exception) else answer.set_result)(outcome)

    def _read(self) -> None:
        """Reads to the end of the stream, then settles what is still unanswered."""
        lost = ConnectionLost("the connection ended; the outcome is unknown")
        try:
            stream = self._socket.makefile("rb")
            if stream.read(len(PREFACE)) != PREFACE:
                raise ProtocolError("this is no Windlass daemon")
            while frame := read_frame(stream):
                self._act(frame)
        except (ProtocolError, OSError) as error:
            lost.__cause__ = error
        with self._lock:
            self._no_more = self._no_more or self._no_work or lost
        for id_ in list(self._answers):  # W-63, W-64
            self._settle(id_, Failure(21, "never accepted", None, True) if id_ > self._last_id else lost)
        self.__exit__()

    def _act(self, frame: Frame) -> None:
        """Acts on a frame from the daemon."""
        kind, header, outcome = frame.kind, frame.header or {}, frame
        if kind >= 128 or kind in (Kind.DATA, Kind.CREDIT):
            return
        if kind == Kind.FAILURE:
            outcome = Failure(*(header[name] for name in ("code", "message", "retry_after", "retry_safe")))
        if any(number % 2 for number, _ in header.get("extensions", [])):  # W-84
            outcome = ProtocolError("an extension that must be understood")
        if kind == Kind.PING:  # answered by another thread: this one must go on reading
            pong = Frame(Kind.PONG, frame.id, None, frame.body)
            threading.Thread(target=self._send, args=(pong,), daemon=True).start()
        elif kind == Kind.GOAWAY:
            self._last_id = header["last_id"]
            self._no_work = self._no_work or Failure(21, "the daemon takes no more here", None, True)
        elif kind in (Kind.WELCOME, Kind.REPLY, Kind.FAILURE, Kind.PONG, Kind.INFO, Kind.CLOSED):
            if kind == Kind.FAILURE and frame.id == 0:
                self._no_more = outcome
            self._settle(frame.id, outcome)
        else:
            raise ProtocolError(f"kind {kind} from a daemon")  # W-20


def parse_address(text: str) -> tuple[str, int | None]:
    """Reads HOST:PORT, or the path of a Unix socket (anything with a slash)."""
    host, _, port = text.rpartition(":")
    return (text, None) if "/" in text else (host.strip("[]"), int(port))


def main(target: str, command: str, *words: str) -> None:
    """The command line."""
    with Client(*parse_address(target)) as client:
        if command == "call":
            operation, *pairs = words
            parameters = dict(pair.split("=", 1) for pair in pairs)
            sys.stdout.buffer.write(client.call(operation, parameters, sys.stdin.buffer.read()).body)
        elif command == "ping":
            print(f"{client.ping() * 1e6:.0f} us")
        else:
            print(json.dumps(client.query({"catalogue": 1, "status": 2}[command]), indent=2))
        client.close()


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[2] not in ("call", "ping", "catalogue", "status"):
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    try:
        main(*sys.argv[1:])
    except (Failure, ProtocolError, ConnectionLost, OSError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
