"""Hostile cases: the preface, Hello, and single frames: prefix, header, kind."""
from __future__ import annotations

import select
import socket
from collections import Counter

from hostile_support import (CANCELLED, CLOSE, ID_MAX, MIB, OPENING, OPERATION, PROTOCOL, TAIL, TOO_LARGE,
                             UNSUPPORTED, VERSION, WORK_HEADER, Peer, answers, case, check, client, codes,
                             ended, hello, lives, number, options, raw, simple, valid, violates, welcome,
                             work)
from windlass_codec import PREFACE, Frame, Kind, encode_frame


@case
def wrong_preface() -> None:
    """W-3, W-7: what is no preface gets the preface, Failure ProtocolError on id 0, GoAway."""
    for data in (b"WINDLASs", b"windlass", b"\0" * 8, b"\xff" * 64, b"SSH-2.0-x\r\n",
                 b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"get / HTTP/1.1\r\n\r\n",
                 b" GET / HT", b"PROPFIND / HTTP/1.1\r\n\r\n", b"WINDLAST" + hello()):
        ended(Peer(data).rest(), 0, PROTOCOL, PROTOCOL)


@case
def http_request() -> None:
    """W-7: an HTTP request gets a readable HTTP answer and the end of the stream."""
    for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                 b"POST /work HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", b"OPTIONS * HTTP/1.1\r\n\r\n",
                 b"PRI * HTTP/2.0\r\n\r\n", b"GET /" + b"a" * 9000):
        peer = Peer(data)
        text = peer.stream.read().decode()
        head, _, body = text.partition("\r\n\r\n")
        check(head.startswith("HTTP/1.1 400 Bad Request\r\n") and "text/plain" in head and "indlass" in body,
              "got", text)


@case
def preface_cut() -> None:
    """W-7, W-60: end of stream before the first byte: silence; inside the preface or in Hello: Failure,
    reason 1."""
    peer = Peer(b"")
    peer.socket.shutdown(socket.SHUT_WR)
    check(peer.stream.read() == b"", "something was sent to an empty connection")
    for cut in [*range(1, 8), *range(9, len(OPENING))]:
        ended(Peer(OPENING[:cut]).rest(half_close=True), 0, PROTOCOL, PROTOCOL)


@case
def preface_alone() -> None:
    """W-3, W-55, W-59: end of stream between preface and Hello ends in order, with GoAway last."""
    frames = Peer(PREFACE).rest(half_close=True)
    check(frames and frames[-1].kind == Kind.GOAWAY and frames[-1].header["last_id"] == 0
          and frames[0].kind != Kind.WELCOME, "got", frames)


@case
def nothing_before_hello() -> None:
    """W-3, W-4: the daemon sends nothing before Hello; Work, Query and Ping may follow it at once."""
    peer = Peer(PREFACE + hello()[:-1])
    check(not select.select([peer.socket], [], [], 0.1)[0], "sent before Hello was complete")
    peer.send(hello()[-1:] + work(1, body=b"x") + simple(Kind.QUERY, 2, subject=1) + simple(Kind.PING, 3)
              + CLOSE)
    frames = peer.rest()
    kinds = sorted(f.kind for f in frames[1:-2])
    check(frames[0].kind == Kind.WELCOME and kinds == [Kind.REPLY, Kind.PONG, Kind.INFO], "got", frames)


@case
def versions() -> None:
    """W-5, W-79: version ranges without 1 get UnsupportedVersion and reason 2, whatever else Hello has."""
    for low, high in ((0, 0), (2, 2), (2, 65535), (65535, 65535), (1, 0), (2, 0), (2, 1)):
        for more in ({}, {"extensions": [(1, b"secret")]}, {"frame_max": 5}, {"features": 2**63}):
            frames = Peer(PREFACE + hello(low, high, **more) + TAIL).rest()
            ended(frames, 0, VERSION, VERSION)
            check(len(frames) == 2, "got", frames)
    for low, high in ((1, 1), (0, 1), (0, 65535), (1, 65535)):
        header = Peer(PREFACE + hello(low, high)).next().header
        check(header["version"] == 1 and header["features"] == 0, header)


@case
def hello_rules() -> None:
    """W-2, W-6, W-9, W-15, W-16, W-22, W-27, W-81: first frame, second Hello, bounds of Hello."""
    for name, data in valid().items():
        violates(data, f"{name} instead of Hello", opening=PREFACE)
    violates(hello(), "second Hello")
    violates(hello(name="again") * 2, "third Hello")
    for what, data in {"frame_bytes_max": hello(frame_max=32767), "frame_bytes_max 0": hello(frame_max=0),
                       "name": raw(1, hello()[16:-9] + b"\x41" + b"n" * 65 + b"\0"),
                       "id": raw(1, hello()[16:], id_=1), "body": raw(1, hello()[16:], b"x"),
                       "flag": raw(1, hello()[16:], flags=1), "no header": raw(1),
                       "u16 as fc": raw(1, b"\xfc\1\0\0\0" + hello()[17:])}.items():
        violates(data, what, opening=PREFACE)
    for data in (hello(frame_max=32768), hello(name=""), hello(name="\x1b[2J\n\0"), hello(name="é" * 32),
                 hello(features=2**64 - 1), raw(200, b"x", b"y", 9, 255) + hello(),
                 raw(1, b"\xfb\1\0" + hello()[17:]),
                 hello(extensions=[(2 * n, b"x" * n) for n in range(3, 19)])):
        frame = Peer(PREFACE + data).next()
        check(frame.kind == Kind.WELCOME and frame.header["features"] == 0 and frame.header["window"] == 0,
              data.hex(" "), "got", frame)


@case
def welcome_is_consistent() -> None:
    """W-6, W-19: frame_bytes_max holds a body of body_bytes_max behind the largest header; the limits are
    the given ones."""
    header = welcome()
    check(header["frame_bytes_max"] >= max(32768, header["body_bytes_max"] + 16384 + 16), header)
    check(options.body_limit == header["body_bytes_max"] and options.in_flight == header["in_flight_max"],
          header)


@case
def truncated() -> None:
    """W-59, W-60: every frame cut at every byte, then half-close: Failure on id 0, reason 1, and a begun
    Work Cancelled."""
    for name, data in valid().items():
        header_end = 16 + int.from_bytes(data[2:4], "little")
        for cut in range(1, len(data)):
            read = name == "Work" and cut >= header_end
            try:
                frames = Peer(OPENING + data[:cut]).rest(half_close=True)
                ended(frames, 3 if read else 0, PROTOCOL, PROTOCOL)
                check(frames[0].kind == Kind.WELCOME and codes(frames) == ({3: CANCELLED} if read else {}),
                      frames)
            except AssertionError as error:
                where = f"{name} cut at {cut} of {len(data)} (header ends at {header_end})"
                raise AssertionError(f"{where}: {error}") from error


@case
def truncated_and_gone() -> None:
    """W-60: every frame cut at every byte, then full close, half of them as a reset; nothing remains but
    the next connection."""
    for data in (OPENING, *valid().values()):
        for cut in range(len(data) + 1):
            peer = Peer(data[:cut] if data == OPENING else OPENING + data[:cut])
            if cut % 2:
                peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            peer.close()


@case
def lying_lengths() -> None:
    """W-11, W-15, W-19, W-25, W-36, W-37: lengths of 65535 and 2^32-1 are judged without waiting for the
    bytes."""
    for kind in [*range(1, 16), 128, 200, 255]:
        real = kind in (Kind.WORK, Kind.QUERY)
        for length in (65535, 16385):
            violates(raw(kind, b"\0" * 20, id_=int(real), header_len=length),
                     f"header_len {length}, kind {kind}")
        if kind != Kind.WORK:
            header = b""
            if kind == Kind.HELLO:
                header = hello()[16:]
            elif kind < 128 and kind not in (Kind.DATA, Kind.CANCEL, Kind.PING, Kind.PONG):
                header = valid().get(Kind(kind).name.capitalize(), b"")[16:]
            violates(raw(kind, header, id_=int(real), body_len=2**32 - 1), f"body_len 2^32-1, kind {kind}")
    frames = Peer(OPENING + raw(Kind.WORK, WORK_HEADER, id_=1, body_len=2**32 - 1)).rest()
    ended(frames, 1, TOO_LARGE)
    check(codes(frames) == {1: TOO_LARGE} and answers(frames)[1].header["retry_safe"], frames)


@case
def lying_headers() -> None:
    """W-22, W-23, W-24, W-25, W-26, W-27, W-29: inner lengths and counts that lie, wide integers, bad
    bools and texts."""
    echo, rest = b"\4echo", b"\0\0\0\0\0\0"  # parameters, sent_at, deadline, priority, body_total, extensions
    for what, header in {
            "empty": b"", "text beyond": b"\x05echo",
            "text 2^64-1": number(ID_MAX) + b"echo" + rest,
            "text 2^32": b"\xfc\xff\xff\xff\xff" + b"echo" + rest, "text shorter": b"\3echo" + rest,
            "length fe": b"\xfe" * 17 + rest, "length ff": b"\xff" + echo + rest,
            "not UTF-8": b"\4ech\xff" + rest, "surrogate": b"\3\xed\xa0\x80" + rest,
            "overlong": b"\2\xc0\x80" + rest, "count 1": echo + b"\1" + rest[1:],
            "count 64": echo + b"\x40" + rest[1:], "count 2^64-1": echo + number(ID_MAX) + rest[1:],
            "count 2^60": echo + number(2**60) + rest[1:], "deadline 2": echo + b"\0\0\2\0\0\0",
            "body_total ff": echo + b"\0\0\0\0\xff\0",
            "extension count 1": echo + rest[:-1] + b"\1",
            "extension count 17": echo + rest[:-1] + b"\x11" + b"\2\0" * 17,
            "extension count 2^64-1": echo + rest[:-1] + number(ID_MAX),
            "content beyond": echo + rest[:-1] + b"\1\2\2x",
            "content 2^64-1": echo + rest[:-1] + b"\1\2" + number(ID_MAX),
            "number as fc": echo + rest[:-1] + b"\1\xfc\2\0\0\0\0",
            "sent_at ff": echo + b"\0\xff\0\0\0\0", "byte left": echo + rest + b"\0"}.items():
        violates(raw(Kind.WORK, header, id_=1), what)
        violates(raw(Kind.WORK, header, id_=1, body_len=2**32 - 1), what + ", body too large")
        violates(raw(Kind.WORK, header, b"part", 1, 1), what + ", with more")
    for kind, header in ((Kind.QUERY, b""), (Kind.QUERY, b"\xfc\1\0\0\0\0"), (Kind.CREDIT, b""),
                         (Kind.CREDIT, b"\xff\0"), (Kind.CLOSE, b""), (Kind.CLOSE, b"\0\0"),
                         (Kind.CLOSE, b"\0\0\1")):
        violates(raw(kind, header, id_=int(kind != Kind.CLOSE)), f"{kind.name} header {header.hex()}")
    for kind in (Kind.DATA, Kind.CANCEL, Kind.PING, Kind.PONG):
        for header in (b"\1", b"\x11", b"\xff", b"\1\2\5"):
            violates(raw(kind, header, id_=77), f"{kind.name} header {header.hex()}")
    for name, data in valid().items():
        end = 16 + int.from_bytes(data[2:4], "little")
        body = b"" if name in ("Cancel", "Credit", "Query", "Close") else b"body"
        violates(raw(data[0], data[16:end] + b"\0", body, 0 if name == "Close" else 3),
                 f"{name}, byte left over")


@case
def wide_but_valid() -> None:
    """W-22, W-26, W-28, W-29: longer forms, 16 extensions and a header of exactly 16,384 bytes are read."""
    lives(raw(Kind.WORK,
              b"\xfd\4\0\0\0\0\0\0\0echo\xfb\0\0\xfc\0\0\0\0\1\xfb\x28\x23\0\1\xfd\0\0\0\0\0\0\0\0\xfb\0\0",
              id_=1), {1: 0}, "wide forms")
    lives(work(1, extensions=[(2 * n + 2, b"e" * n) for n in range(16)]), {1: 0}, "16 extensions")
    header = work(1, extensions=[(600, b"e" * 16366)])
    header = work(1, extensions=[(600, b"e" * (16366 - (len(header) - 16 - 16384)))])
    check(header[2:4] == b"\0\x40", "the suite builds", header[2:4])
    lives(header, {1: 0}, "16,384 bytes of header")


@case
def unknown_kinds() -> None:
    """W-12, W-13: kinds 0 and 16-127 are violations, kinds 128-255 are skipped with header and body."""
    for kind in [0, *range(16, 128)]:
        violates(raw(kind, b"\0", b"body" * (kind % 2), kind), f"kind {kind}")
    lives(b"".join(raw(kind, b"\xff" * (kind - 100), b"\3" * kind, kind * 2**56 + kind, kind)
                   for kind in range(128, 256)), {}, "kinds 128-255")
    lives(raw(255, b"\xff" * 16384, b"\3" * min(options.body_limit, MIB), ID_MAX, 255), {}, "large")


@case
def extensions() -> None:
    """W-36, W-82, W-83, W-85, W-87: even ones are ignored; odd ones refuse Work and Query, and end the
    connection elsewhere."""
    for number_ in (2, 4, 600, 65534, 0):
        for name, data in valid([(number_, b"content")]).items():
            if name != "Close":
                lives(data, {3: 0} if name == "Work" else {}, f"{name}, extension {number_}")
        violates(hello(extensions=[(number_, b"x")]), "second Hello")
        check(Peer(OPENING + valid([(number_, b"")])["Close"]).rest()[-2].kind == Kind.CLOSED,
              "Close with an even extension")
    for number_ in (1, 3, 601, 65535):
        for name, data in valid([(2, b"fine"), (number_, b"content")]).items():
            if name in ("Work", "Query"):
                lives(data, {3: UNSUPPORTED}, f"{name}, extension {number_}")
            else:
                violates(data, f"{name}, extension {number_}", UNSUPPORTED)
        violates(hello(extensions=[(number_, b"")]), f"Hello, extension {number_}", UNSUPPORTED,
                 opening=PREFACE)
    lives(work(1, body=b"\3" * min(MIB, options.body_limit), extensions=[(601, b"")]), {1: UNSUPPORTED},
          "its body is skipped")


@case
def ids() -> None:
    """W-16, W-17, W-18, W-31, W-32: ids that repeat, go back, are 0 or 2^64-1, or stand where none may be."""
    for id_ in (0, ID_MAX):
        violates(raw(Kind.WORK, WORK_HEADER, id_=id_), f"Work {id_}")
        violates(raw(Kind.QUERY, b"\1\0", id_=id_), f"Query {id_}")
    for again in (5, 4, 1):
        violates(work(5) + work(again), f"Work {again} after 5", last_id=5)
        violates(work(5, "nothing") + work(again), f"Work {again} after a refused 5", last_id=5,
                 answered={5: OPERATION})
    violates(raw(Kind.CLOSE, CLOSE[16:], id_=1), "Close 1")
    violates(raw(Kind.CLOSE, CLOSE[16:], id_=ID_MAX), "Close 2^64-1")
    lives(work(1) + work(2**40), {1: 0, 2**40: 0}, "gaps")
    lives(b"".join(raw(kind, b"", id_=id_) for kind in (Kind.DATA, Kind.CANCEL, Kind.PING, Kind.PONG)
                   for id_ in (0, ID_MAX)), {}, "any id")
    peer = Peer(OPENING + simple(Kind.QUERY, 9, subject=1) * 2 + simple(Kind.PING, 0, b"a")
                + simple(Kind.PING, 0, b"b") + CLOSE)
    got = Counter((f.kind, f.id, f.body[:1]) for f in peer.rest()[1:-2])
    check(got == {(12, 9, b"{"): 2, (10, 0, b"a"): 1, (10, 0, b"b"): 1}, "repeated Query and Ping ids")


@case
def directions() -> None:
    """W-20: kinds that only a daemon sends."""
    for frame in (Frame(Kind.WELCOME, 0,
                        dict(version=1, features=0, frame_bytes_max=65536, window=0, body_bytes_max=9,
                             in_flight_max=9, server="")),
                  Frame(Kind.REPLY, 1, dict(queue_time=0, service_time=0, load=0)),
                  Frame(Kind.FAILURE, 0, dict(code=1, message="", retry_safe=False, load=0)),
                  Frame(Kind.INFO, 1, None, b"{}"), Frame(Kind.GOAWAY, 0, dict(last_id=0, reason=0)),
                  Frame(Kind.CLOSED, 0, dict(requests=0, failures=0, bytes_in=0, bytes_out=0, queue_time=0,
                                             service_time=0))):
        violates(encode_frame(frame), Kind(frame.kind).name)
        violates(encode_frame(frame), Kind(frame.kind).name, opening=PREFACE)


@case
def flags_and_bodies() -> None:
    """W-14, W-15: undefined flags, *more* on the wrong kind, bodies on kinds without one."""
    for name, data in valid().items():
        for bit in range(0 if name not in ("Work", "Data") else 1, 8):
            violates(data[:1] + bytes([1 << bit]) + data[2:], f"{name}, flag {1 << bit}")
        if name in ("Cancel", "Credit", "Query", "Close"):
            violates(raw(data[0], data[16:], b"x", int.from_bytes(data[8:16], "little")),
                     f"{name} with a body")
    for kind in (Kind.PING, Kind.PONG):
        violates(raw(kind, body=b"p" * 65, id_=5), f"{kind.name} of 65 bytes")


@case
def pings() -> None:
    """W-15, W-29, W-49: Ping of 0 and 64 bytes, with and without header; a Pong nobody asked for is
    dropped."""
    for header in (b"", b"\0"):
        peer = Peer(OPENING + raw(Kind.PONG, header, b"q" * 64, 4) + raw(Kind.PING, header, b"", 0)
                    + raw(Kind.PING, header, b"p" * 64, ID_MAX))
        pongs = [(f.id, f.body) for f in peer.until(Kind.PONG, ID_MAX) if f.kind == Kind.PONG]
        check(sorted(pongs) == [(0, b""), (ID_MAX, b"p" * 64)], pongs)
        peer.close()


@case
def queries() -> None:
    """W-50, W-51, W-53, W-54: unknown subjects are Unsupported on the Query's id; the known ones are JSON
    objects."""
    lives(b"".join(simple(Kind.QUERY, n + 1, subject=s) for n, s in enumerate((0, 3, 250, 65535))),
          dict.fromkeys((1, 2, 3, 4), UNSUPPORTED))
    with client() as asker:
        for operation in asker.query(1)["operations"]:
            members = {"name", "about", "parameters", "result", "pure", "secret", "stretch_max_ms"}
            check(members <= set(operation), operation)
            for parameter in operation["parameters"]:
                check({"name", "type", "range", "default", "required", "about"} <= set(parameter), parameter)
        check(isinstance(asker.query(2), dict), "status")
