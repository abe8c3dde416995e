#!/usr/bin/env python3
"""Load on a daemon that is restarted, killed or upgraded meanwhile, and an account of every request.

Speaks the native protocol from SPEC.md alone. Each connection keeps some requests open, checks every answer against
hashlib, goes to a new connection when it is told to or when the old one breaks, and keeps books:

  refused   a connection could not be made (connection refused, no such file)
  lost      a request that a final GoAway covers, or that a graceful end owes an answer, has none
  doubled   a request has two answers
  wrong     an answer is not what hashlib says
  failed    a Failure other than Draining
  unknown   the connection broke without a goodbye while the request was open (a kill may do that, a restart may not)

Prints one JSON object. With --command, runs it --times times while the load goes on and measures for each how long
nobody had an answer.
"""

import argparse
import hashlib
import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

NOT_YET = 2**64 - 1
WELCOME, REPLY, FAILURE, GOAWAY, CLOSED = 2, 5, 6, 13, 15
DRAINING = 21


def varint(number):
    if number <= 250:
        return bytes([number])
    if number < 1 << 16:
        return b"\xfb" + struct.pack("<H", number)
    if number < 1 << 32:
        return b"\xfc" + struct.pack("<I", number)
    return b"\xfd" + struct.pack("<Q", number)


def text(value):
    return varint(len(value)) + value.encode()


def read_varint(data, at):
    first = data[at]
    if first <= 250:
        return first, at + 1
    width, form = {0xFB: (2, "<H"), 0xFC: (4, "<I"), 0xFD: (8, "<Q")}[first]
    return struct.unpack_from(form, data, at + 1)[0], at + 1 + width


def frame(kind, identity, header, body=b""):
    return struct.pack("<BBHIQ", kind, 0, len(header), len(body), identity) + header + body


HELLO = b"WINDLASS" + frame(1, 0, b"\x01\x01\x00" + varint(1 << 20) + b"\x00" + text("load") + b"\x00")
WORK = text("hash") + b"\x01" + text("algorithm") + text("sha256") + b"\x00\x00\x00\x00\x00"
CLOSE = frame(14, 0, b"\x00\x00\x00")


class Books:
    def __init__(self):
        self.lock = threading.Lock()
        self.counts = dict.fromkeys(
            ["answered", "retried", "refused", "lost", "doubled", "wrong", "failed", "unknown", "connections"], 0
        )
        self.times = []
        self.notes = []

    def add(self, name, by=1, note=None):
        with self.lock:
            self.counts[name] += by
            if note and len(self.notes) < 20:
                self.notes.append(f"{name}: {note}")

    def answered(self, now):
        with self.lock:
            self.counts["answered"] += 1
            self.times.append(now)


class Client(threading.Thread):
    def __init__(self, number, address, open_max, size, books, ending):
        super().__init__(daemon=True)
        self.number, self.address, self.open_max, self.size = number, address, open_max, size
        self.books, self.ending = books, ending
        self.sequence = 0

    def connect(self):
        if self.address.startswith("unix://"):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(self.address[7:])
        else:
            host, port = self.address[6:].rsplit(":", 1)
            connection = socket.create_connection((host, int(port)))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def run(self):
        while not self.ending.is_set():
            try:
                connection = self.connect()
            except OSError as error:
                self.books.add("refused", note=str(error))
                time.sleep(0.02)
                continue
            self.books.add("connections")
            with connection:
                self.serve(connection)

    def serve(self, connection):
        """One connection from Hello to its end, however it comes."""
        waiting, answered, identity = {}, set(), 0
        data, greeted = b"", False
        told_to_go, said_close, last_id = False, False, None
        ended_by = "end of stream"
        try:
            connection.sendall(HELLO)
            while True:
                if self.ending.is_set() and not said_close and not told_to_go:
                    connection.sendall(CLOSE)
                    said_close = True
                batch = b""
                while not (told_to_go or said_close) and len(waiting) < self.open_max:
                    identity += 1
                    self.sequence += 1
                    body = f"{os.getpid()}-{self.number}-{self.sequence}-".encode().ljust(self.size, b"x")
                    waiting[identity] = hashlib.sha256(body).hexdigest().encode()
                    batch += frame(3, identity, WORK, body)
                if batch:
                    connection.sendall(batch)
                if not select.select([connection], [], [], 0.2)[0]:
                    continue
                read = connection.recv(1 << 16)
                if not read:
                    break
                data += read
                if not greeted and len(data) >= 8:
                    assert data[:8] == b"WINDLASS", data[:8]
                    data, greeted = data[8:], True
                while greeted and len(data) >= 16:
                    kind, _, header_len, body_len, about = struct.unpack_from("<BBHIQ", data)
                    whole = 16 + header_len + body_len
                    if len(data) < whole:
                        break
                    header, body, data = data[16 : 16 + header_len], data[16 + header_len : whole], data[whole:]
                    if kind in (REPLY, FAILURE) and about:
                        if about in answered:
                            self.books.add("doubled", note=f"id {about}")
                        answered.add(about)
                        expected = waiting.pop(about, None)
                        if kind == REPLY and body == expected:
                            self.books.answered(time.monotonic())
                        elif kind == REPLY:
                            self.books.add("wrong", note=f"id {about}: {body[:80]!r}, not {expected!r}")
                        elif read_varint(header, 0)[0] == DRAINING:
                            self.books.add("retried")
                        else:
                            self.books.add("failed", note=repr(header))
                    elif kind == FAILURE:
                        # On the connection itself; the goodbye that follows says what became of the requests.
                        told_to_go = True
                    elif kind == GOAWAY:
                        told = read_varint(header, 0)[0]
                        told_to_go = True
                        last_id = told if told != NOT_YET else last_id
                    elif kind == CLOSED and waiting:
                        self.books.add("lost", len(waiting), "unanswered at Closed")
                        waiting.clear()
        except OSError as error:
            ended_by = str(error)
        if last_id is None:
            self.books.add("unknown", len(waiting), f"{ended_by}, {len(waiting)} open" if waiting else None)
            return
        covered = sum(1 for known in waiting if known <= last_id)
        self.books.add("lost", covered, f"{covered} up to last_id {last_id}, {ended_by}" if covered else None)
        self.books.add("retried", len(waiting) - covered)


def longest_gap(times, begin, end):
    inside = [begin] + [moment for moment in times if begin < moment < end] + [end]
    return max(after - before for before, after in zip(inside, inside[1:]))


def main():
    parser = argparse.ArgumentParser(description="load while something happens to the daemon")
    parser.add_argument("--address", action="append", required=True, help="tcp://HOST:PORT or unix:///PATH; repeated")
    parser.add_argument("--connections", type=int, default=4, help="per address")
    parser.add_argument("--open", type=int, default=4, help="requests open on each")
    parser.add_argument("--size", type=int, default=1024, help="bytes of each body")
    parser.add_argument("--command", help="what happens meanwhile, for the shell")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between two of them; half to one and a half")
    parser.add_argument("--seconds", type=float, default=5, help="how long, without --command")
    arguments = parser.parse_args()

    books, ending, gaps, statuses = Books(), threading.Event(), [], []
    clients = [
        Client(number, address, arguments.open, arguments.size, books, ending)
        for number, address in enumerate(arguments.address * arguments.connections)
    ]
    for client in clients:
        client.start()
    time.sleep(0.5)
    if arguments.command:
        for _ in range(arguments.times):
            begin = time.monotonic()
            statuses.append(subprocess.run(arguments.command, shell=True, check=False).returncode)
            time.sleep(arguments.pause * random.uniform(0.5, 1.5))
            end = time.monotonic()
            with books.lock:
                gaps.append(longest_gap(books.times, begin, end))
    else:
        time.sleep(arguments.seconds)
    ending.set()
    deadline = time.monotonic() + 30
    for client in clients:
        client.join(max(0.0, deadline - time.monotonic()))
    hung = sum(1 for client in clients if client.is_alive())
    gaps_ms = sorted(round(gap * 1000, 1) for gap in gaps)
    report = {
        **books.counts,
        "hung": hung,
        "commands_failed": sum(1 for status in statuses if status),
        "gap_ms_median": gaps_ms[len(gaps_ms) // 2] if gaps_ms else None,
        "gap_ms_max": gaps_ms[-1] if gaps_ms else None,
        "notes": books.notes,
    }
    json.dump(report, sys.stdout)
    print()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
