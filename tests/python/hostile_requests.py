"""Hostile cases: requests, their limits, deadlines and Cancel."""
from __future__ import annotations

import select
import time
from collections import Counter
from typing import Sequence

from hostile_support import (CANCELLED, CLOSE, DEADLINE, ID_MAX, MIB, OPENING, OPERATION, OVERLOADED,
                             PARAMETER, TAIL, TOO_LARGE, UNSUPPORTED, WORK_HEADER, Peer, Skip, answers, case,
                             check, client, codes, ended, hello, lives, number, options, raw, simple,
                             violates, welcome, work)
from windlass_codec import PREFACE, Kind, write_value


@case
def refused_requests() -> None:
    """W-31, W-41, W-72: unknown operation; unknown, doubled, missing and out-of-range parameters; the
    connection lives."""
    for name in ("", "Echo", "echo ", "x" * 64, "é" * 32):
        check(answers(lives(work(1, name), {1: OPERATION}, name))[1].header["retry_safe"],
              "not started, so retry_safe")
    for parameters in ([("nothing", "1")], [("", "")], [("delay", "1ms"), ("delay", "1ms")], [("delay", "")],
                       [("delay", "-1s")], [("delay", "1")], [("delay", "1 s")],
                       [("delay", "999999h")], [("delay", "99999999999999999999s")], [("delay", "1e3ms")],
                       [("delay", "1ms\0")], [("Delay", "1ms")]):
        lives(work(1, parameters=parameters), {1: PARAMETER}, parameters)
    with client() as asker:
        for operation in asker.query(1)["operations"]:
            for p in operation["parameters"]:
                if p["type"] != "text":
                    lives(work(1, operation["name"], parameters=[(p["name"], "no such value")]),
                          {1: PARAMETER}, (operation["name"], p["name"]))
            if any(p["required"] for p in operation["parameters"]):
                lives(work(1, operation["name"]), {1: PARAMETER}, (operation["name"], "missing"))


@case
def bounds() -> None:
    """W-26, W-75: 64 parameters, names of 64 and values of 4,096 bytes are read, more is a violation;
    bytes count, not letters."""

    def header(operation: bytes = b"echo", parameters: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
        def text(data: bytes) -> bytes:
            return write_value("u64", len(data)) + data

        pairs = b"".join(text(part) for pair in parameters for part in pair)
        return text(operation) + bytes([len(parameters)]) + pairs + b"\0" * 5

    for what, data in {"65 parameters": header(parameters=[(b"k", b"")] * 65),
                       "name of 65": header(b"n" * 65), "name of 66 in 33 letters": header("é".encode() * 33),
                       "key of 65": header(parameters=[(b"k" * 65, b"")]),
                       "value of 4097": header(parameters=[(b"k", b"v" * 4097)]),
                       "value of 4098 in 2049 letters": header(parameters=[(b"k", "é".encode() * 2049)]),
                       }.items():
        violates(raw(Kind.WORK, data, id_=1), what)
    for data in (header(parameters=[(b"k%d" % n, b"") for n in range(64)]),
                 header(parameters=[(b"k" * 64, b"v" * 4096)]),
                 header(parameters=[(b"k", "é".encode() * 2048)])):
        lives(raw(Kind.WORK, data, id_=1), {1: PARAMETER}, "at the bound")


@case
def body_limit() -> None:
    """W-35, W-36, W-37, W-55: a body at the limit is taken; over it TooLarge, read without a reset even
    after sending all."""
    limit = options.body_limit
    check(answers(lives(work(1, body=b"b" * limit), {1: 0}, "at the limit"))[1].body == b"b" * limit,
          "the echo differs")
    for size in {limit + 1, MIB - 1, MIB}:
        if limit < size <= MIB:
            frames = lives(work(1, body=b"b" * size), {1: TOO_LARGE}, size)
            check(answers(frames)[1].header["retry_safe"] is True, "retry_safe")
    for size in (max(limit, MIB) + 1, max(limit, MIB) + 3 * MIB):
        for sent in (size, 0, 1, 70000):
            opened = work(1, delay="100ms", body=b"other") if options.in_flight > 1 else b""
            peer = Peer(OPENING + opened + raw(Kind.WORK, WORK_HEADER, b"b" * sent, 2, body_len=size)
                        + (TAIL if sent == size else b""))
            frames = peer.rest()
            ended(frames, 2, TOO_LARGE)
            got = answers(frames)
            check(set(got) == {1, 2} - set([] if opened else [1]) and codes(frames)[2] == TOO_LARGE
                  and got[2].header["retry_safe"] is True, size, sent, frames)
    violates(raw(Kind.DATA, id_=1, body_len=welcome()["frame_bytes_max"] - 15),
             "Data one byte over frame_bytes_max")
    lives(raw(Kind.DATA, b"", b"d" * min(limit, MIB), 1), {}, "Data at the limit is skipped")


@case
def body_total_and_more() -> None:
    """W-40, W-48, W-86: contradicting body_total; *more* is Unsupported, retry_safe, and its Data is
    dropped."""
    for total in (0, 4, 6, 2**64 - 1):
        violates(work(1, body=b"hello", total=total), f"body_total {total}")
    violates(work(1, total=1), "body_total 1 without a body")
    lives(work(1, body=b"hello", total=5), {1: 0})
    lives(work(1, total=0), {1: 0})
    for total in (None, 0, 5, 2**63):
        frames = lives(work(1, body=b"hello", flags=1, total=total) + raw(Kind.DATA, b"", b"x" * 9000, 1, 1)
                       + raw(Kind.DATA, b"\0", b"y", 1), {1: UNSUPPORTED}, total)
        check(answers(frames)[1].header["retry_safe"] is True, frames)
    lives(raw(Kind.DATA, b"", b"x", 5) + raw(Kind.CREDIT, b"\0\0", id_=5)
          + raw(Kind.CREDIT, number(ID_MAX) + b"\0", id_=0), {}, "Data and Credit are dropped")
    frames = Peer(OPENING + raw(Kind.WORK, WORK_HEADER, b"b" * 9, 1, 1, body_len=MIB + 1)).rest()
    ended(frames, 1, codes(frames)[1])


@case
def reply_too_large() -> None:
    """W-38: a Reply over the client's frame_bytes_max becomes TooLarge, retry_safe false; smaller ones
    pass."""
    if options.body_limit < 40000:
        raise Skip("the body limit is too small")
    frames = Peer(PREFACE + hello(frame_max=32768) + work(1, body=b"x" * 40000) + work(2, body=b"x" * 32600)
                  + CLOSE).rest()
    check(codes(frames) == {1: TOO_LARGE, 2: 0} and answers(frames)[1].header["retry_safe"] is False,
          codes(frames))


@case
def in_flight() -> None:
    """W-33, W-39, W-47, W-48, W-56: requests over in_flight_max are Overloaded, retry_safe; all are
    answered once, totals hold."""
    count = options.in_flight
    data = b"".join(work(n, delay="5s", deadline=60000) for n in range(1, count + 9))
    data += b"".join(simple(Kind.CANCEL, n) for n in range(1, count + 9))
    frames = Peer(OPENING + data + CLOSE).rest()
    got = codes(frames)
    check(got == {n: CANCELLED if n <= count else OVERLOADED for n in range(1, count + 9)},
          Counter(got.values()), list(got.items())[:9])
    check(all(f.header["retry_safe"] for n, f in answers(frames).items() if n > count),
          "Overloaded without retry_safe")
    check((frames[-2].header["requests"], frames[-2].header["failures"]) == (count + 8, count + 8),
          frames[-2])
    ended(frames, count + 8, 0)


@case
def cancel() -> None:
    """W-33, W-47, W-48, W-49: Cancel of running, waiting, answered and unknown ids: one answer each, Pong
    meanwhile."""
    count, start = min(options.in_flight, 6), time.monotonic()
    peer = Peer(OPENING + b"".join(work(n, "spin", for_="2s", deadline=60000) for n in range(1, count + 1))
                + simple(Kind.PING, 99))
    frames = peer.until(Kind.PONG, 99)
    peer.send(b"".join(simple(Kind.CANCEL, n) for n in [*range(count, 0, -1), 0, 1, 7777, ID_MAX]))
    while len(answers(frames)) < count:
        frames.append(peer.next())
    check(set(codes(frames).values()) == {CANCELLED} and time.monotonic() - start < 1.9, codes(frames),
          time.monotonic() - start)
    peer.send(b"".join(simple(Kind.CANCEL, n) for n in range(count + 2)) + CLOSE)
    frames += peer.rest()
    check(set(answers(frames)) == set(range(1, count + 1)) and frames[-2].header["failures"] == count, frames)
    ended(frames, count, 0)


@case
def deadlines() -> None:
    """W-42, W-43, W-44: deadline 0 and one that cannot be kept: DeadlineExceeded without retry_after; the
    body's arrival counts."""
    for deadline, operation, more in ((0, "echo", {}), (0, "spin", {"for_": "1s"}),
                                      (50, "spin", {"for_": "5s"}), (50, "echo", {"delay": "5s"})):
        start = time.monotonic()
        frames = lives(work(1, operation, deadline=deadline, **more), {1: DEADLINE}, (deadline, operation))
        check(answers(frames)[1].header["retry_after"] is None and time.monotonic() - start < 2, frames)
    peer = Peer(OPENING + work(1, body=b"late", deadline=100)[:-1])
    peer.next()
    select.select([peer.socket], [], [], 0.4)
    peer.send(b"e" + CLOSE)
    check(codes(peer.rest()) == {1: DEADLINE}, "a body that came too late")
    lives(work(1, deadline=2**64 - 1), {1: 0}, "longest deadline")


@case
def pipelining() -> None:
    """W-4, W-33, W-34, W-56: 1000 small requests without waiting: one answer each, echoed right, in any
    order."""
    frames = Peer(OPENING + b"".join(work(n, body=b"%d" % n, deadline=60000) for n in range(1, 1001))
                  + CLOSE).rest()
    got = answers(frames)
    check(set(got) == set(range(1, 1001)), len(got), "answers")
    allowed = {0, OVERLOADED} if options.in_flight < 1000 else {0}
    check(all(f.body == b"%d" % n if f.kind == Kind.REPLY else f.header["code"] in allowed
              and f.header["retry_safe"] for n, f in got.items()), Counter(codes(frames).values()))
    check(frames[-2].header["requests"] == 1000
          and frames[-2].header["failures"] == sum(f.kind == Kind.FAILURE for f in got.values()), frames[-2])


@case
def never_reads() -> None:
    """W-33, W-35, W-78: a client that writes until it is stopped and only then reads gets every answer."""
    size, count, sent, frames = min(options.body_limit, 250_000), 150, 0, []
    data = b"".join(work(n, body=b"z" * size, deadline=60000) for n in range(1, count + 1))
    peer = Peer()
    while sent < len(data) and select.select([], [peer.socket], [], 0.3)[1]:
        sent += peer.socket.send(memoryview(data)[sent:sent + 65536])
    while sent < len(data):
        frames.append(peer.next())
        while sent < len(data) and select.select([], [peer.socket], [], 0)[1]:
            sent += peer.socket.send(memoryview(data)[sent:sent + 65536])
    peer.send(CLOSE)
    frames += peer.rest()
    check(set(answers(frames)) == set(range(1, count + 1)) and set(codes(frames).values()) <= {0, OVERLOADED},
          Counter(codes(frames).values()))
