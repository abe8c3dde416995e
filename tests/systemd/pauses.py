#!/usr/bin/env python3
"""Where the time of a restart goes: reads a journal (journalctl -o json) and prints the median of each stretch.

The moments are those at which the journal was told, so a stretch is right to about a millisecond.
"""

import json
import statistics
import sys

# Whose message begins each stretch, how it begins, and what the stretch is.
MOMENTS = [
    ("systemd", "Stopping windlass.service", "systemd tells the daemon to stop"),
    ("windlassd", "draining", "the daemon drains"),
    ("windlassd", "ended", "the process ends and systemd notices"),
    ("systemd", "Starting windlass.service", "systemd sets up the sandbox, the program is loaded and reads its file"),
    ("windlassd", "", "the daemon starts its threads and listeners"),
    ("windlassd", "ready", "systemd calls the unit started"),
    ("systemd", "Started windlass.service", None),
]


def main():
    stretches = [[] for _ in MOMENTS[1:]]
    expected, before = 0, None
    for line in sys.stdin:
        entry = json.loads(line)
        who, message = entry.get("SYSLOG_IDENTIFIER"), str(entry.get("MESSAGE"))
        now = int(entry["__REALTIME_TIMESTAMP"]) / 1000
        if (who, message[: len(MOMENTS[0][1])]) == MOMENTS[0][:2]:
            expected, before = 1, now
        elif expected and who == MOMENTS[expected][0] and message.startswith(MOMENTS[expected][1]):
            stretches[expected - 1].append(now - before)
            expected, before = (expected + 1) % len(MOMENTS), now
    for (_, _, what), times in zip(MOMENTS, stretches):
        if times:
            print(f"{statistics.median(times):7.1f} ms  {what} ({len(times)} times, longest {max(times):.1f})")


if __name__ == "__main__":
    main()
