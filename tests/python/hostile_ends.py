"""Hostile cases: the end of a connection, timeouts and too many connections."""
from __future__ import annotations

import random
import select
import time

from hostile_support import (CANCELLED, CLOSE, ID_MAX, OPENING, OPERATION, OVERLOADED, PROTOCOL, TIMEOUT,
                             Peer, Skip, answers, case, check, codes, ended, hello, options, raw, simple,
                             valid, violates, work)
from windlass_codec import PREFACE, Kind, ProtocolError


@case
def close_then_end() -> None:
    """W-30, W-55, W-56, W-58: Close, with and without end of stream: all answers, Closed with right
    totals, GoAway."""
    for half_close in (False, True):
        data = work(1, body=b"12345") + work(2, "nothing", b"xyz") + work(7, body=b"123", delay="200ms")
        frames = Peer(OPENING + data + CLOSE).rest(half_close)
        totals = frames[-2].header
        check(frames[-2].kind == Kind.CLOSED and codes(frames) == {1: 0, 2: OPERATION, 7: 0}, frames)
        counts = [totals[name] for name in ("requests", "failures", "bytes_in", "bytes_out")]
        check(counts == [3, 1, 11, 8], totals)
        ended(frames, 7, 0)


@case
def closed_times() -> None:
    """W-30: queue_time and service_time of Closed are the sums of those of the Replies."""
    for _ in range(20):
        frames = Peer(OPENING + b"".join(work(n, "hash", b"h" * n * 100) for n in (1, 2, 3)) + CLOSE).rest()
        for name in ("queue_time", "service_time"):
            single = [f.header[name] for f in frames if f.kind == Kind.REPLY]
            check(frames[-2].header[name] == sum(single),
                  f"{name} of Closed is {frames[-2].header[name]}, of the Replies", single)


@case
def end_without_close() -> None:
    """W-55, W-59: end of stream without Close: what runs or waits is Cancelled at once, no Closed, reason
    0."""
    peer = Peer(OPENING + work(1, body=b"ready") + work(2, "spin", for_="20s", deadline=60000)
                + work(3, delay="20s", deadline=60000))
    start = time.monotonic()
    frames = peer.until(Kind.REPLY, 1) + peer.rest(half_close=True)
    check(codes(frames) == {1: 0, 2: CANCELLED, 3: CANCELLED} and time.monotonic() - start < 5, frames)
    check(all(f.kind != Kind.CLOSED for f in frames), "Closed without Close")
    ended(frames, 3, 0)
    ended(Peer().rest(half_close=True), 0, 0)


@case
def after_close() -> None:
    """W-57, W-66: after Close a Work, Query, Hello or Close is a violation; Cancel, Ping, Pong, Credit,
    Data and 128-255 are not."""
    open_ = work(1, delay="2s") + CLOSE
    for what, data in {"Work": work(2), "Query": simple(Kind.QUERY, 2, subject=1), "Hello": hello(),
                       "Close": CLOSE, "kind 99": raw(99)}.items():
        violates(open_ + data, f"{what} after Close", last_id=1)
    frames = Peer(OPENING + open_ + simple(Kind.PING, 5) + simple(Kind.PONG, 6) + raw(Kind.CREDIT, b"\0\0")
                  + raw(Kind.DATA, b"", b"d", 1) + raw(222, b"x") + simple(Kind.CANCEL, 1)).rest()
    check(codes(frames) == {1: CANCELLED} and any((f.kind, f.id) == (Kind.PONG, 5) for f in frames)
          and frames[-2].kind == Kind.CLOSED, frames)
    ended(frames, 1, 0)


@case
def violation_with_open_requests() -> None:
    """W-33, W-66: a violation stops the open requests; each is answered once, nothing after it is acted
    upon."""
    start = time.monotonic()
    violates(work(1, delay="20s") + work(2, "spin", for_="20s", deadline=60000) + raw(0), "kind 0", last_id=2,
             answered={1: CANCELLED, 2: CANCELLED})
    check(time.monotonic() - start < 8, "took", time.monotonic() - start)


def drip(peer: Peer, data: bytes, interval: float) -> float:
    """Sends byte by byte until the daemon says something; returns how long that took."""
    start = time.monotonic()
    for at in range(len(data)):
        if select.select([peer.socket], [], [], interval)[0]:
            break
        peer.send(data[at:at + 1])
    select.select([peer.socket], [], [], TIMEOUT)
    return time.monotonic() - start


@case
def slow_handshake() -> None:
    """W-76: silence, and a byte now and then, before the end of Hello: ended by the handshake timeout."""
    limit = (options.handshake_timeout_ms or 99999) / 1000
    if limit > 6:
        raise Skip("needs --handshake-timeout-ms of at most 6000")
    for data in (b"", PREFACE + hello(name="n" * 64)):
        peer = Peer(b"")
        took = drip(peer, data, min(1, limit / 5))
        ended(peer.rest(), 0, PROTOCOL, PROTOCOL)
        check(limit * 0.9 <= took <= limit + 2, f"ended after {took:.2f} s")


@case
def slow_frame() -> None:
    """W-33, W-77: a frame that has begun and stops, or comes a byte at a time, is ended by the read
    timeout."""
    limit = (options.read_timeout_ms or 99999) / 1000
    if limit > 6:
        raise Skip("needs --read-timeout-ms of at most 6000")
    long_ = work(1, body=b"b" * 4000, parameters=[("k", "v" * 200)])
    for start, data, last_id in ((long_[:1], b"", 0), (long_[:60], b"", 0), (long_[:-100], b"", 1),
                                 (b"", long_, 0), (long_[:300], long_[300:], 1),
                                 (raw(200, b"", b"x", body_len=5000), b"x" * 4998, 0)):
        peer = Peer(OPENING)
        peer.next()
        peer.send(start)
        took = drip(peer, data, min(1, limit / 5))
        frames = peer.rest()
        check(took <= 3 * limit + 2, f"ended after {took:.2f} s")
        read = last_id or 1 in codes(frames)  # how far a dripping Work came before its end is not promised
        ended(frames, int(read), PROTOCOL, PROTOCOL)
        check(set(answers(frames)) == ({1} if read else set()), frames)


@case
def too_many_connections() -> None:
    """W-8: a connection over the limit gets preface, Failure Overloaded, GoAway without having said
    anything."""
    if not options.connections or options.connections > 900:
        raise Skip("needs --connections of at most 900")
    peers, frames = [], []
    for _ in range(options.connections + 1):
        peer = Peer()
        frame = peer.next()
        if frame.kind == Kind.FAILURE:
            frames = [frame, *peer.rest()]
            break
        peers.append(peer)
    ended(frames, 0, OVERLOADED, OVERLOADED)
    check(len(frames) == 2 and frames[0].header["retry_safe"], frames)
    silent = Peer(b"").rest()
    ended(silent, 0, OVERLOADED, OVERLOADED)
    for peer in peers:
        peer.rest(half_close=True)


@case
def garbage() -> None:
    """W-55, W-66: 500 connections of random frames and bytes (seeded): every one ends in order, after
    frames that are valid."""
    chance = random.Random(7410)
    for n in range(500):
        data = b"" if n % 10 == 0 else OPENING
        for _ in range(chance.randrange(1, 12)):
            header = chance.randbytes(chance.choice((0, 1, 2, 12, 40)))
            body = chance.randbytes(chance.choice((0, 0, 3, 64, 300)))
            if chance.random() < 0.6:
                if chance.random() < 0.1:
                    data += chance.choice(list(valid().values())[:-1])[:-16]
                else:
                    data += raw(chance.choice((4, 7, 8, 9, 10, 130)), b"", b"", chance.randrange(9))
            else:
                data += raw(chance.randrange(256), header, body, chance.choice((0, n, 2**63, ID_MAX)),
                            chance.choice((0, 0, 0, 1, 128)))
        try:
            frames = Peer(data).rest(half_close=True)
            check(frames and frames[-1].kind == Kind.GOAWAY
                  and (frames[0].kind == Kind.WELCOME) == bool(n % 10), frames)
            answers(frames)
        except (AssertionError, OSError, ProtocolError) as error:
            raise AssertionError(f"connection {n}, sent {data.hex(' ')}: {error!r}") from error
