#!/usr/bin/env python3
"""Attacks a running Windlass daemon and compares what it does with the specification.

    hostile_suite.py HOST:PORT [--body-limit BYTES] [--in-flight N] [--handshake-timeout-ms N]
                     [--read-timeout-ms N] [--connections N] [--only WORD]

The options say with which limits the daemon runs; what is not given is taken from its Welcome, or its case is
skipped. Every case has connections of its own; after each, an old and a new well-behaved connection must
still work. The docstring of a case names the requirements that it shows.
"""
from __future__ import annotations

import argparse
import re
import sys
import time

import hostile_frames  # noqa: F401  importing a module of cases adds them
import hostile_requests  # noqa: F401
import hostile_ends  # noqa: F401
from hostile_support import CASES, Skip, check, client, options, welcome
from windlass_client import Client


def still_works(old: Client) -> None:
    """An old and a new connection must work, whatever others did."""
    with client() as new:
        for connection in (old, new):
            check(connection.call("echo", body=b"lift").body == b"lift", "the echo differs")
        new.close()


def main() -> int:
    """Runs the cases and counts."""
    parser = argparse.ArgumentParser(description="Attacks a running Windlass daemon.")
    parser.add_argument("address")
    for name in ("body-limit", "in-flight", "handshake-timeout-ms", "read-timeout-ms", "connections"):
        parser.add_argument("--" + name, type=int)
    parser.add_argument("--only", default="")
    parser.parse_args(namespace=options)
    header = welcome()
    options.body_limit = options.body_limit or header["body_bytes_max"]
    options.in_flight = options.in_flight or header["in_flight_max"]
    old, passed, failed = client(), 0, 0
    for function in CASES:
        if options.only not in function.__name__:
            continue
        title = f"{function.__name__} ({', '.join(re.findall(r'W-[0-9]+', function.__doc__ or ''))})"
        start = time.monotonic()
        try:
            try:
                function()
            finally:
                still_works(old)
            passed += 1
            print(f"pass  {title}  {time.monotonic() - start:.1f} s", flush=True)
        except Skip as reason:
            print(f"skip  {title}: {reason}", flush=True)
        except Exception as error:  # whatever breaks a case has failed it
            failed += 1
            print(f"FAIL  {title}: {type(error).__name__}: {error}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
