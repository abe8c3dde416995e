"""The frames of the Windlass protocol, version 1: from bytes to `Frame` and back.

The numbers W-... are those of the specification.
"""
from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, BinaryIO

PREFACE = b"WINDLASS"
PREFIX = struct.Struct("<BBHIQ")  # kind, flags, header_len, body_len, id
ID_MAX = 2**64 - 1
HEADER_MAX = 16_384
FRAME_MAX = 2**30  # the largest frame that this client reads

Kind = IntEnum("Kind", "HELLO WELCOME WORK DATA REPLY FAILURE CANCEL CREDIT PING PONG "
                       "QUERY INFO GOAWAY CLOSE CLOSED")
ID_ZERO = {Kind.HELLO, Kind.WELCOME, Kind.GOAWAY, Kind.CLOSE, Kind.CLOSED}
ID_REAL = {Kind.WORK, Kind.REPLY, Kind.QUERY, Kind.INFO}
MORE_DEFINED = {Kind.WORK, Kind.DATA, Kind.REPLY}
BODY_MAX = dict.fromkeys(MORE_DEFINED | {Kind.INFO}, FRAME_MAX) | {Kind.PING: 64, Kind.PONG: 64}

LAYOUTS = {  # chapter 5: "?" marks an optional, the number of a text or list is its bound (W-26)
    Kind.HELLO: "version_min:u16 version_max:u16 features:u64 frame_bytes_max:u32 window:u32 client:text64",
    Kind.WELCOME: "version:u16 features:u64 frame_bytes_max:u32 window:u32 body_bytes_max:u64 "
                  "in_flight_max:u32 server:text64",
    Kind.WORK: "operation:text64 parameters:list64 sent_at:u64 deadline:?u64 priority:byte body_total:?u64",
    Kind.REPLY: "queue_time:u64 service_time:u64 load:byte body_total:?u64",
    Kind.FAILURE: "code:u16 message:text1024 retry_after:?u64 retry_safe:bool load:byte",
    Kind.CREDIT: "bytes:u64",
    Kind.QUERY: "subject:u16",
    Kind.GOAWAY: "last_id:u64 reason:u16",
    Kind.CLOSE: "opened_at:u64 closed_at:u64",
    Kind.CLOSED: "requests:u64 failures:u64 bytes_in:u64 bytes_out:u64 queue_time:u64 service_time:u64",
}
FIELDS = {kind: [tuple(field.split(":")) for field in (LAYOUTS.get(kind, "") + " extensions:list16").split()]
          for kind in Kind}  # kind → list of (field, type)
DEFAULTS = {"deadline": None, "body_total": None, "retry_after": None, "extensions": []}
PAIRS = {"list64": ("text64", "text4096"), "list16": ("u16", "data16384")}  # of parameters and extensions
INTEGER_SIZES = {0xFB: 2, 0xFC: 4, 0xFD: 8, 0xFE: 99, 0xFF: 99}  # first byte → how many follow


class ProtocolError(Exception):
    """The bytes break the protocol."""


@dataclass
class Frame:
    """One frame; a header of no bytes is None, that of an unknown kind stays bytes."""
    kind: int
    id: int = 0
    header: Any = None  # name → value, as in FIELDS
    body: bytes = b""
    flags: int = 0


def write_value(type_: str, value: Any) -> bytes:
    """Writes one field of a header (chapter 4)."""
    if type_[0] == "?":
        return b"\0" if value is None else b"\1" + write_value(type_[1:], value)
    if type_ in ("byte", "bool"):
        return bytes([value])
    if type_[0] == "u":
        if not 0 <= value < 1 << int(type_[1:]):
            raise ProtocolError(f"{value} is no {type_}")
        if value <= 250:
            return bytes([value])
        tag, size = next((tag, size) for tag, size in INTEGER_SIZES.items() if value < 1 << 8 * size)
        return bytes([tag]) + value.to_bytes(size, "little")
    data = value.encode() if type_.startswith("text") else value
    if len(data) > int(type_[4:]):
        raise ProtocolError(f"{len(data)} in a {type_}")
    start = write_value("u64", len(data))
    if type_ in PAIRS:
        data = b"".join(write_value(part, item) for pair in value for part, item in zip(PAIRS[type_], pair))
    return start + data


def take(stream: BinaryIO, size: int) -> bytes:
    """Reads exactly so many bytes."""
    data = stream.read(size)
    if len(data) < size:
        raise ProtocolError("the bytes end too early")
    return data


def read_value(type_: str, stream: BinaryIO) -> Any:
    """Reads one field of a header: the inverse of `write_value`."""
    if type_[0] == "?":
        return read_value(type_[1:], stream) if read_value("bool", stream) else None
    if type_[0] == "u":
        tag = take(stream, 1)[0]
        size = INTEGER_SIZES.get(tag, 0)
        if 8 * size > int(type_[1:]):
            raise ProtocolError(f"{tag:02x} begins no {type_}")  # W-22
        return int.from_bytes(take(stream, size), "little") if size else tag
    number = take(stream, 1)[0] if type_[0] == "b" else read_value("u64", stream)  # or a length or count
    if number > ({"byte": 255, "bool": 1}.get(type_) or int(type_[4:])):
        raise ProtocolError(f"{number} in a {type_}")
    if type_[0] == "b":
        return bool(number) if type_ == "bool" else number
    if type_ in PAIRS:
        return [tuple(read_value(part, stream) for part in PAIRS[type_]) for _ in range(number)]
    data = take(stream, number)
    try:
        return data.decode() if type_.startswith("text") else data
    except UnicodeDecodeError as error:
        raise ProtocolError("a text that is not UTF-8") from error


def encode_frame(frame: Frame) -> bytes:
    """Writes a frame; what DEFAULTS has may be missing from the header."""
    header = frame.header or b""
    if isinstance(header, dict):
        values = DEFAULTS | header
        header = b"".join(write_value(type_, values[name]) for name, type_ in FIELDS[frame.kind])
    return PREFIX.pack(frame.kind, frame.flags, len(header), len(frame.body), frame.id) + header + frame.body


def read_frame(stream: BinaryIO) -> Frame | None:
    """Reads a frame, None at the end of the stream; raises ProtocolError for what chapters 3 and 4 forbid."""
    first = stream.read(1)
    if not first:
        return None
    kind, flags, header_len, body_len, id_ = PREFIX.unpack(first + take(stream, 15))
    if header_len > HEADER_MAX or 16 + header_len + body_len > FRAME_MAX:
        raise ProtocolError("a frame over the limits")
    if kind < 128 and (kind not in FIELDS or flags > (kind in MORE_DEFINED)
                       or body_len > BODY_MAX.get(kind, 0) or (kind in ID_ZERO and id_ != 0)
                       or (kind in ID_REAL and id_ in (0, ID_MAX))):
        raise ProtocolError(f"kind {kind}, flags {flags}, body of {body_len} bytes, id {id_}")
    header: Any = take(stream, header_len)
    if kind < 128 and (header or kind in LAYOUTS):  # the others may come without a header (W-29)
        fields = io.BytesIO(header)
        header = {name: read_value(type_, fields) for name, type_ in FIELDS[kind]}
        if fields.read(1):
            raise ProtocolError("bytes left over in a header")  # W-24
    return Frame(kind, id_, header or None, take(stream, body_len), flags)
