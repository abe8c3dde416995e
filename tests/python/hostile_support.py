"""What the hostile cases share: frames of any bytes, connections that send them, and checks of answers."""
from __future__ import annotations

import argparse
import socket
from collections import Counter
from typing import Any, Callable

from windlass_client import Client, parse_address
from windlass_codec import ID_MAX, PREFACE, PREFIX, Frame, Kind, ProtocolError, encode_frame, read_frame

TIMEOUT, MIB = 15.0, 1 << 20
PROTOCOL, VERSION, OPERATION, PARAMETER, TOO_LARGE, UNSUPPORTED = 1, 2, 10, 11, 13, 14  # codes of chapter 9
OVERLOADED, DEADLINE, CANCELLED = 20, 30, 31
CASES: list[Callable[[], None]] = []
options = argparse.Namespace()  # filled by the runner


class Skip(Exception):
    """The daemon runs with limits under which a case cannot be tried."""


def case(function: Callable[[], None]) -> Callable[[], None]:
    """Adds a function to the cases."""
    CASES.append(function)
    return function


def check(condition: Any, *what: Any) -> None:
    """An assertion that survives -O and says what was got."""
    if not condition:
        raise AssertionError(" ".join(str(w) for w in what)[:600])


def raw(kind: int, header: bytes = b"", body: bytes = b"", id_: int = 0, flags: int = 0,
        header_len: int | None = None, body_len: int | None = None) -> bytes:
    """A frame of any bytes, whose prefix may lie."""
    lengths = len(header) if header_len is None else header_len, len(body) if body_len is None else body_len
    return PREFIX.pack(kind, flags, *lengths, id_) + header + body


def hello(low: int = 1, high: int = 1, frame_max: int = 2**30, name: str = "hostile", **more: Any) -> bytes:
    return encode_frame(Frame(Kind.HELLO, 0,
                              dict(version_min=low, version_max=high, features=0, frame_bytes_max=frame_max,
                                   window=0, client=name) | more))


def work(id_: int, operation: str = "echo", body: bytes = b"", flags: int = 0, deadline: int | None = None,
         total: int | None = None, extensions: Any = (), parameters: Any = (), **more: str) -> bytes:
    pairs = [*parameters, *((key.rstrip("_"), value) for key, value in more.items())]
    header = dict(operation=operation, parameters=pairs, sent_at=0, deadline=deadline, priority=0,
                  body_total=total, extensions=extensions)
    return encode_frame(Frame(Kind.WORK, id_, header, body, flags))


def simple(kind: Kind, id_: int = 0, body: bytes = b"", **header: Any) -> bytes:
    return encode_frame(Frame(kind, id_, header or None, body))


def valid(extensions: Any = ()) -> dict[str, bytes]:
    """A valid frame of every kind that a client sends after Hello."""
    ext: dict[str, Any] = {"extensions": list(extensions)}
    return {"Work": work(3, "hash", b"hello", parameters=[("algorithm", "sha256")], total=5, deadline=9000,
                         extensions=ext["extensions"]),
            "Data": simple(Kind.DATA, 3, b"data", **ext), "Cancel": simple(Kind.CANCEL, 3, **ext),
            "Credit": simple(Kind.CREDIT, 3, bytes=70000, **ext),
            "Ping": simple(Kind.PING, 3, b"ping", **ext), "Pong": simple(Kind.PONG, 3, b"pong", **ext),
            "Query": simple(Kind.QUERY, 3, subject=1, **ext),
            "Close": simple(Kind.CLOSE, 0, opened_at=1, closed_at=300, **ext)}


CLOSE, OPENING, TAIL = valid()["Close"], PREFACE + hello(), work(ID_MAX - 1)
WORK_HEADER = work(1)[16:]


def shown(data: bytes) -> str:
    return data[:120].hex(" ") + ("..." if len(data) > 120 else "")


def number(value: int) -> bytes:
    return b"\xfd" + value.to_bytes(8, "little")


class Peer:
    """A connection that sends what it likes and reads frames."""

    def __init__(self, data: bytes = OPENING) -> None:
        host, port = parse_address(options.address)
        self.socket = socket.socket(socket.AF_UNIX) if port is None else socket.socket()
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(host if port is None else (host, port))
        self.stream, self.begun = self.socket.makefile("rb"), False
        self.send(data)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def next(self) -> Frame | None:
        """The next frame; the preface is read before the first."""
        if not self.begun:
            self.begun = True
            start = self.stream.read(8)
            check(start in (PREFACE, b""), "W-1: the daemon began with", start)
        return read_frame(self.stream)

    def rest(self, half_close: bool = False) -> list[Frame]:
        """Every frame to the end of the stream, which must be an orderly one."""
        if half_close:
            self.socket.shutdown(socket.SHUT_WR)
        frames = list(iter(self.next, None))
        self.close()
        return frames

    def until(self, kind: Kind, id_: int = 0) -> list[Frame]:
        """Frames up to one of that kind and id."""
        frames: list[Frame] = []
        while not frames or (frames[-1].kind, frames[-1].id) != (kind, id_):
            frame = self.next()
            check(frame, "the stream ended before", kind.name, id_, "after", frames)
            frames.append(frame)
        return frames

    def close(self) -> None:
        self.stream.close()
        self.socket.close()


def answers(frames: list[Frame]) -> dict[int, Frame]:
    """The answers by id; no id may be answered twice (W-33)."""
    found = [f for f in frames if f.kind in (Kind.REPLY, Kind.FAILURE) and f.id]
    check(max(Counter(f.id for f in found).values(), default=1) == 1, "answered twice:", found)
    return {f.id: f for f in found}


def codes(frames: list[Frame]) -> dict[int, int]:
    """The answers as id → code, 0 for a Reply."""
    return {i: 0 if f.kind == Kind.REPLY else f.header["code"] for i, f in answers(frames).items()}


def ended(frames: list[Frame], last_id: int, reason: int, failure: int | None = None) -> None:
    """W-55: GoAway is the last frame. `failure`: code of the Failure on id 0, which must not be there
    without it."""
    check(frames and frames[-1].kind == Kind.GOAWAY, "GoAway is not the last of", frames)
    got = frames[-1].header["last_id"], frames[-1].header["reason"]
    check(got == (last_id, reason), f"GoAway {got}, expected {(last_id, reason)} in", frames)
    on_zero = [f.header["code"] for f in frames if f.kind == Kind.FAILURE and f.id == 0]
    check(on_zero == ([] if failure is None else [failure]), "Failures on id 0:", on_zero, "expected",
          failure)
    check(sum(f.kind == Kind.GOAWAY for f in frames) == 1, "more than one GoAway")


def violates(data: bytes, what: Any = "", code: int = PROTOCOL, last_id: int = 0, opening: bytes = OPENING,
             answered: dict[int, int] | None = None) -> None:
    """W-66, W-67: Failure on id 0 and the end, without half-closing; the Work that follows at once is not acted
    upon."""
    try:
        frames = Peer(opening + data + TAIL).rest()
        ended(frames, last_id, code, code)
        failure = next(f for f in frames if f.kind == Kind.FAILURE and f.id == 0)
        check(failure.header["retry_safe"] is False and failure.header["message"], "the Failure is", failure)
        check((frames[0].kind == Kind.WELCOME) == (opening == OPENING), "first frame", frames[0])
        check(answered is None and ID_MAX - 1 not in answers(frames) or codes(frames) == answered, "answers",
              codes(frames), "expected", answered)
    except (AssertionError, OSError, ProtocolError) as error:
        raise AssertionError(f"[{what}] sent {shown(opening + data)}: {error!r}") from error


def lives(data: bytes, wanted: dict[int, int], what: Any = "") -> list[Frame]:
    """Frames that get exactly these answers (id → code) on a connection that lives on and closes in order."""
    try:
        frames = Peer(OPENING + data + raw(Kind.PING, body=b"alive", id_=ID_MAX) + TAIL + CLOSE).rest()
        check(codes(frames) == wanted | {ID_MAX - 1: 0}, "answers", codes(frames), "expected", wanted)
        check(any((f.kind, f.id, f.body) == (Kind.PONG, ID_MAX, b"alive") for f in frames)
              and frames[-2].kind == Kind.CLOSED, "frames", frames)
        ended(frames, ID_MAX - 1, 0)
        return frames
    except (AssertionError, OSError, ProtocolError) as error:
        raise AssertionError(f"[{what}] sent {shown(data)}: {error!r}") from error


def welcome() -> dict[str, Any]:
    peer = Peer()
    header = peer.next().header
    peer.close()
    return header


def client() -> Client:
    """A well-behaved connection."""
    return Client(*parse_address(options.address), timeout=TIMEOUT)
