#!/usr/bin/env python3
"""Checks windlass_codec against the examples of the specification: golden_suite.py SPEC.md

Every ```frame example is decoded, compared field by field with its annotations and encoded again; every frame of the
```session examples is decoded and encoded again. Cut or lengthened headers of all of them must be refused.
"""
from __future__ import annotations

import io
import json
import re
import sys
from typing import Any, Callable, Iterator

from windlass_codec import PREFACE, PREFIX, Frame, ProtocolError, encode_frame, read_frame, read_value, write_value

LINE = re.compile(r"^((?:[0-9a-f]{2} ?)+?)(?:\s+(\S[^=]*?) = (.*))?$")


def blocks(spec: str, word: str) -> Iterator[tuple[str, list[str]]]:
    """The fenced blocks that begin with a word, as (rest of that line, lines)."""
    for title, text in re.findall(rf"^```{word}[ ]?(.*?)\n(.*?)^```$", spec, re.MULTILINE | re.DOTALL):
        yield title, text.splitlines()


def example(lines: list[str]) -> list[tuple[str, str, bytes]]:
    """An example as (name, annotation, bytes of the field)."""
    fields, pending = [], b""
    for line in lines:
        match = LINE.match(line.rstrip())
        assert match, f"line not understood: {line!r}"
        pending += bytes.fromhex(match[1])
        if match[2]:
            fields.append((match[2], match[3], pending))
            pending = b""
    assert not pending, "bytes without a name"
    return fields


def parse(annotation: str, like: Any) -> Any:
    """The value of an annotation, in the type of the decoded value that it is compared with."""
    if annotation.startswith('"'):
        value, end = json.JSONDecoder().raw_decode(annotation)
        assert annotation[end:] == "" or annotation[end:].startswith(" — "), f"after the text: {annotation!r}"
        return value.encode() if isinstance(like, bytes) else value
    word = annotation.split(" — ")[0].removeprefix("some ")
    if word in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[word]
    if isinstance(like, bytes):
        return b"" if word == "empty" else bytes.fromhex(word)
    return int(re.match(r"\d+", word)[0])


def decoded(frame: Frame, name: str, data: bytes) -> Any:
    """The decoded value that an annotation speaks of."""
    if name in ("header_len", "body_len"):
        return PREFIX.unpack_from(data)[2 if name == "header_len" else 3]
    if name in ("kind", "flags", "id", "body"):
        return getattr(frame, name)
    if match := re.fullmatch(r"(parameters|extensions) count", name):
        return len(frame.header[match[1]])
    if match := re.fullmatch(r"(parameter|extension) (\d+) (key|value|number|content)", name):
        return frame.header[match[1] + "s"][int(match[2]) - 1][match[3] in ("value", "content")]
    return frame.header[name]


def decode(data: bytes) -> Frame:
    """Decodes bytes that must be one frame and nothing more."""
    stream = io.BytesIO(data)
    frame = read_frame(stream)
    assert frame is not None and not stream.read(1), "not exactly one frame"
    return frame


def refused(data: bytes) -> None:
    """Bytes that must not decode."""
    try:
        frame = decode(data)
    except ProtocolError:
        return
    raise AssertionError(f"decoded although forbidden: {frame}")


def check_example(lines: list[str]) -> None:
    """W-10, W-30: fields, values and bytes of an example."""
    fields = example(lines)
    data = b"".join(piece for _, _, piece in fields)
    frame = decode(data)
    for name, annotation, _ in fields:
        value = decoded(frame, name, data)
        wanted = parse(annotation, value)
        assert type(value) in (type(wanted), bool) or isinstance(value, int), f"{name}: {value!r} for {annotation!r}"
        assert value == wanted, f"{name}: decoded {value!r}, annotated {annotation!r}"
    named = {re.sub(r"^(parameter|extension) .*", r"\1s", re.sub(" count$", "", name)) for name, _, _ in fields}
    assert set(frame.header or {}) == named - {"kind", "flags", "header_len", "body_len", "id", "body"}, f"fields: {named}"
    assert encode_frame(frame) == data, f"encoded as {encode_frame(frame).hex(' ')}"
    check_bounds(data)


def check_bounds(data: bytes) -> None:
    """W-24: a header cut anywhere, or with a byte more, is refused (no header at all may mean no extensions)."""
    kind, flags, header_len, body_len, id_ = PREFIX.unpack_from(data)
    header, body = data[16:16 + header_len], data[16 + header_len:]
    for cut in range(1, header_len):
        refused(PREFIX.pack(kind, flags, cut, body_len, id_) + header[:cut] + body)
    refused(PREFIX.pack(kind, flags, header_len + 2, body_len, id_) + header + b"\0\0" + body)


def check_session(lines: list[str]) -> None:
    """W-1, W-88: both directions of the session begin with the preface and are whole frames."""
    for side in "CD":
        stream = io.BytesIO(b"".join(bytes.fromhex(line[2:]) for line in lines if line.startswith(side + " ") and "eof" not in line))
        assert stream.read(8) == PREFACE, "no preface"
        start = 8
        while frame := read_frame(stream):
            piece = stream.getvalue()[start:stream.tell()]
            assert encode_frame(frame) == piece, f"{piece.hex(' ')} encoded as {encode_frame(frame).hex(' ')}"
            check_bounds(piece)
            start = stream.tell()


def check_integers() -> None:
    """W-21, W-22: shortest forms are written, longer ones read, wider ones refused."""
    for value, text in ((0, "00"), (250, "fa"), (251, "fb fb 00"), (65535, "fb ff ff"), (65536, "fc 00 00 01 00"),
                        (2**32, "fd 00 00 00 00 01 00 00 00"), (2**64 - 1, "fd ff ff ff ff ff ff ff ff")):
        data = bytes.fromhex(text)
        assert write_value("u64", value) == data and read_value("u64", io.BytesIO(data)) == value, text
    for type_, good in (("u16", ("05", "fb 05 00")), ("u32", ("fb 05 00", "fc 05 00 00 00")), ("u64", ("fd 05" + " 00" * 7,))):
        assert all(read_value(type_, io.BytesIO(bytes.fromhex(text))) == 5 for text in good), type_
    for type_, text in (("u16", "fc 05 00 00 00"), ("u32", "fd 05" + " 00" * 7), ("u64", "fe" + " 00" * 16), ("u64", "ff"), ("bool", "02"),
                        ("?u64", "02 00"), ("text64", "02 c3 28"), ("text64", "41" + " 61" * 65), ("list16", "11")):
        try:
            read_value(type_, io.BytesIO(bytes.fromhex(text)))
        except ProtocolError:
            continue
        raise AssertionError(f"{type_} decoded from {text}")


def main() -> int:
    """Runs every case and counts."""
    spec = open(sys.argv[1], encoding="utf-8").read()
    cases: list[tuple[str, Callable[[], None]]] = [("integers and texts", check_integers)]
    cases += [(f"frame {title}", lambda lines=lines: check_example(lines)) for title, lines in blocks(spec, "frame")]
    cases += [(f"session {title}", lambda lines=lines: check_session(lines)) for title, lines in blocks(spec, "session")]
    failed = 0
    for title, case in cases:
        try:
            case()
            print(f"pass  {title}")
        except Exception as error:  # a case that breaks has failed
            failed += 1
            print(f"FAIL  {title}: {type(error).__name__}: {error}")
    print(f"{len(cases) - failed} passed, {failed} failed")
    return 1 if failed or len(cases) < 3 else 0


if __name__ == "__main__":
    sys.exit(main())
