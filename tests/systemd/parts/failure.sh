# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016,SC2015 # what is not assigned here is in ../run; what stands in single quotes is for the container
# What goes wrong: busy, stuck, killed, out of something.

part_watchdog() {
    local since pid cores
    # A short watchdog makes the same test shorter.
    drop_in watchdog $'[Service]\nWatchdogSec=4'
    config "$with_spin"
    restart
    pid=$(property MainPID)
    cores=$(nproc)
    spin "$busy" "$((cores * 3))"
    check "every core is busy" until_so 10 busy_workers "$cores"
    sleep "$busy"
    equal "$busy s with every core busy, and not killed" "$(property MainPID)/$(property NRestarts)" "$pid/0"
    script 'systemctl stop "spin-*"' || true

    drop_in faults "$(faults_build)
ExecStart=/opt/windlass-test/windlassd-faults --config /etc/windlass/windlass.toml"
    config ''
    restart
    pid=$(property MainPID)
    sleep 5
    equal "idle, and not killed" "$(property MainPID)" "$pid"
    since=$(cursor)
    inside systemctl kill --kill-whom=main --signal=USR2 windlass.service
    script 'systemd-run --quiet --collect --unit=waits windlass call hash --deadline 60s </dev/null'
    check "a stuck bridge is killed by the watchdog and restarted" until_so 30 is_like NRestarts '^[1-9]'
    check "the daemon says why" until_so 10 said "$since" "requests wait while a worker is idle"
    check "systemd says that it was the watchdog" until_so 10 said "$since" "Watchdog timeout"
    check "active again" until_so 10 is ActiveState active
    check "and answers" inside windlass ping
    no_drop_ins
    restart
}

part_kills() {
    local report since
    since=$(cursor)
    drop_in limit $'[Unit]\nStartLimitIntervalSec=0'
    restart
    # Each is one kill of one process: the next waits until systemd has started another in place of the last.
    report=$(LIMIT=1200 load --address "$tcp" --address "$unix" --times "$kills" --pause 1.2 --open 8 \
        --command 'running() { systemctl show --value -p MainPID windlass.service; }
            before=$(running)
            systemctl kill --kill-whom=main --signal=KILL windlass.service || exit 1
            for _ in $(seq 300); do
                now=$(running)
                [ "$now" != 0 ] && [ "$now" != "$before" ] && systemctl is-active --quiet windlass.service && exit 0
                sleep 0.1
            done
            exit 1')
    books "after $kills kills it came back each time; nothing refused, wrong or doubled" "$report" \
        refused doubled wrong failed lost hung commands_failed
    printf '      outcome unknown: %s requests; without an answer: median %s ms, longest %s ms\n' \
        "$(field "$report" unknown)" "$(field "$report" gap_ms_median)" "$(field "$report" gap_ms_max)"
    check "all of them were counted as restarts" is NRestarts "$kills"
    check "the Unix socket answers" inside windlass --address "$unix" ping
    # All operations are pure, so the client repeats a request that was open; what may not be repeated, as in bench,
    # is reported as a lost connection.
    config "$with_spin"
    restart
    spin 4
    script 'windlass bench spin -p for=10s --connections 1 --pipeline 1 --duration 5s --json >/opt/windlass-test/bench.json 2>&1 || true' &
    check "two requests are open" until_so 10 busy_workers 2
    inside systemctl kill --kill-whom=main --signal=KILL windlass.service
    check "the client repeats an open request by itself" until_so 30 said "$since" "spin-1.service: Deactivated successfully"
    wait $!
    matches "and reports a lost connection where it may not" "$(inside cat /opt/windlass-test/bench.json)" '[Cc]onnection'
    sed 's/^/      | /' "$scratch/root/opt/windlass-test/bench.json"
    config ''
    no_drop_ins
    # A Unix socket of the daemon's own, without activation: its stale file is replaced.
    script 'systemctl stop "windlass*"; systemctl mask --quiet --runtime windlass.socket windlass-http.socket windlass-admin.socket'
    config 'listen.unix = ["/run/windlass/own.sock"]'
    restart
    inside systemctl kill --kill-whom=main --signal=KILL windlass.service
    check "a Unix socket of its own works again after a kill" until_so 10 inside windlass --address \
        unix:///run/windlass/own.sock ping
    script 'systemctl stop windlass.service; systemctl unmask --quiet --runtime windlass.socket windlass-http.socket windlass-admin.socket'
    config ''
    restart
}

part_limits() {
    local report shortage
    # Descriptors: 256, and 300 who want in.
    drop_in descriptors $'[Service]\nLimitNOFILE=256'
    restart
    script 'cat >/opt/windlass-test/many.py <<"EOF"
import socket
held = []
for _ in range(300):
    connection = socket.create_connection(("127.0.0.1", 7410))
    held.append(connection)
import subprocess
assert subprocess.run(["systemctl", "is-active", "--quiet", "windlass"]).returncode == 0
EOF
python3 /opt/windlass-test/many.py'
    # They are closed, but the daemon has yet to see it; until then it rightly refuses who comes.
    check "with 256 descriptors, 300 connections are noticed to have left" until_so 20 nobody_connected
    check "and survived" inside windlass ping
    equal "without a restart" "$(property NRestarts)" 0
    no_drop_ins

    # A machine whose cgroups count memory kills a process that uses too much; elsewhere it is refused the memory.
    if [[ $(property MemoryCurrent) =~ ^[0-9]+$ ]]; then
        shortage='MemoryMax=200M'
        drop_in memory $'[Service]\nMemoryHigh=infinity\nMemoryMax=200M'
    else
        shortage='LimitAS=700M, as cgroups count no memory here'
        drop_in memory $'[Service]\nLimitAS=700M'
    fi
    config '[cpu]
threads = 2
memory = "512MiB"'
    restart
    script 'for i in 1 2 3 4; do
        head -c 60000000 /dev/zero | windlass call compress -p algorithm=zstd -p level=19 -o /dev/null || true
    done' >/dev/null 2>&1 &
    report=$(load --address "$unix" --seconds 6)
    wait $!
    if [[ $(field "$report" wrong) == 0 && $(field "$report" doubled) == 0 ]]; then
        pass "little memory ($shortage): no wrong answer ($(field "$report" answered) answered, $(property NRestarts) restarts)"
    else
        fail "little memory ($shortage): no wrong answer" "$report"
    fi
    check "and it serves, or was restarted to" until_so 20 inside windlass ping
    no_drop_ins
    config ''

    # A full disk under the logs: standard error to a file on a file system without room.
    script 'mkdir -p /mnt/full; mount -t tmpfs -o size=64k tmpfs /mnt/full; head -c 100000 /dev/zero >/mnt/full/fill || true' 2>/dev/null
    drop_in log $'[Service]\nStandardError=append:/mnt/full/log'
    config '[log]
level = "debug"'
    restart
    report=$(load --address "$unix" --seconds 3)
    books "a full disk for logs costs lines and no request" "$report" refused lost doubled wrong failed unknown hung
    check "and the daemon runs on" is NRestarts 0
    no_drop_ins
    config ''
    restart
    inside umount /mnt/full

    part_clock
}

# Whether the daemon has no open connection, as its admin door sees it, which has a place of its own.
nobody_connected() {
    inside python3 -c '
import json, sys, urllib.request
status = json.load(urllib.request.urlopen("http://127.0.0.1:7412/status.json", timeout=10))
sys.exit(status["connections"]["open"] != 0)'
}

# A container shares its clocks with its machine, and setting those is not for a test.
part_clock() {
    local report since
    # The wall clock: libfaketime stands between the daemon and its C library, and moves it by what a file says.
    drop_in clock "[Service]
Environment=LD_PRELOAD=$(inside dpkg -L libfaketime | grep -m 1 'libfaketimeMT\.so\.1$')
Environment=FAKETIME_TIMESTAMP_FILE=/opt/windlass-test/clock FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1
StandardError=append:/opt/windlass-test/clock.log"
    config '[log]
level = "debug"
format = "json"'
    script 'echo +0 >/opt/windlass-test/clock; chmod 644 /opt/windlass-test/clock; chmod 755 /opt/windlass-test'
    restart
    since=$(cursor)
    script 'systemd-run --quiet --collect --unit=holds windlass call echo -p delay=4s --deadline 60s </dev/null'
    report=$(load --address "$tcp" --times 6 --pause 1 \
        --command 'case $(cat /opt/windlass-test/clock) in +20y) jump=-20y ;; *) jump=+20y ;; esac
            echo $jump >/opt/windlass-test/clock
            systemctl kill --kill-whom=main --signal=USR1 windlass.service')
    books "a wall clock that jumps by decades costs no request" "$report" refused lost doubled wrong failed unknown hung \
        commands_failed
    check "nor one that waits meanwhile" until_so 20 said "$since" "holds.service: Deactivated successfully"
    equal "the daemon runs on, watchdog and all" "$(property NRestarts)/$(property ActiveState)" 0/active
    equal "it did jump: its log has lines of both ends" \
        "$(inside grep -oE '^\{"timestamp":"20(0|4)' /opt/windlass-test/clock.log | sort -u | wc -l)" 2
    no_drop_ins
    config ''
    restart
    printf '      that no decision asks the wall clock is also a rule of the house: tests/suites/house.rs\n'

    # In a time namespace the monotonic clocks can be moved, though only before the start.
    report=$(script 'unshare --time --boottime 100000000 --monotonic 100000000 --fork -- bash -euc "
        windlassd --set listen.tcp=127.0.0.1:7510 --set listen.http=127.0.0.1:0 --set listen.admin=127.0.0.1:0 2>/dev/null &
        for _ in {1..50}; do windlass --address tcp://127.0.0.1:7510 ping >/dev/null 2>&1 && break; sleep 0.1; done
        printf abc | windlass --address tcp://127.0.0.1:7510 call hash -p algorithm=sha256
        kill %1; wait %1"' || true)
    matches "on a monotonic clock three years ahead it serves and drains" "$report" '^ba7816bf'
}
