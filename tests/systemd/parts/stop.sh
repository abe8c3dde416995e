# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016,SC2015 # what is not assigned here is in ../run; what stands in single quotes is for the container
# Ends: restarts under load, drains that are long, drains that never end.

part_restarts() {
    local report since
    # As many restarts as this are no accident here.
    drop_in limit $'[Unit]\nStartLimitIntervalSec=0'
    restart
    since=$(cursor)
    report=$(LIMIT=1200 load --address "$tcp" --address "$unix" --times "$restarts" --pause 0.3 \
        --command 'systemctl restart windlass.service')
    books "$restarts restarts under load lose nothing" "$report" refused lost doubled wrong failed unknown hung \
        commands_failed
    printf '      without an answer: median %s ms, longest %s ms; the goal is 50 ms on a machine with nothing else to do,\n' \
        "$(field "$report" gap_ms_median)" "$(field "$report" gap_ms_max)"
    printf '      most of it is the sandbox, which systemd sets up anew (load average here: %s)\n' \
        "$(cut -d ' ' -f 1 /proc/loadavg)"
    journal "$since" | python3 tests/systemd/pauses.py | sed 's/^/      /'
    below "median time without an answer, ms" "$(field "$report" gap_ms_median)" "$gap"
    no_drop_ins
}

# spin SECONDS [COUNT]: requests that keep workers busy, in the background of the container.
spin() {
    local count=${2:-1}
    script "for i in \$(seq $count); do
        systemd-run --quiet --collect --unit=spin-\$i windlass call spin -p for=$1s --deadline $(($1 + 60))s </dev/null
    done" >/dev/null
    until_so 10 busy_workers 1
}
# busy_workers COUNT: at least so many workers run something.
busy_workers() {
    inside windlass status --json | python3 -c '
import json, sys
status = json.load(sys.stdin)
sys.exit(sum(worker["running"] is not None for worker in status["workers"]) < int(sys.argv[1]))' "$1"
}
with_spin='[operations]
enabled = ["echo", "hash", "spin"]'

part_drain() {
    local since begin
    # A stop timeout of 2 s, and a request of 6.
    config "$with_spin
[drain]
timeout = \"20s\""
    drop_in stop $'[Service]\nTimeoutStopSec=2'
    restart
    spin 6
    since=$(cursor)
    begin=$SECONDS
    (LIMIT=60 inside systemctl stop windlass.service) &
    check "the status line says what is waited for" until_so 10 is_like StatusText '^draining: 1 requests on 1 connections'
    wait $!
    equal "a drain longer than TimeoutStopSec is not killed" "$(property Result)/$(property ExecMainStatus)" success/0
    below "and takes no longer than its request, s" $((SECONDS - begin)) 8
    check "it is said to be draining" until_so 10 said "$since" "draining"

    # A request that never looks at its stop flag, from a client that would otherwise ask again and so start the next daemon.
    config '[drain]
timeout = "4s"
cancel_grace = "1s"'
    drop_in faults "$(faults_build)
ExecStart=/opt/windlass-test/windlassd-faults --config /etc/windlass/windlass.toml"
    restart
    script 'systemd-run --quiet --collect --unit=stuck windlass call fault-stuck --no-retry --deadline 300s </dev/null'
    check "a request is stuck" until_so 10 busy_workers 1
    begin=$(date +%s.%N)
    LIMIT=60 inside systemctl stop windlass.service || true
    below "a drain without end is over at drain.timeout + cancel_grace, s" \
        "$(awk -v b="$begin" -v e="$(date +%s.%N)" 'BEGIN { print e - b }')" 6.5
    equal "with exit status 75, not killed" "$(property ExecMainCode)/$(property ExecMainStatus)" 1/75
    no_drop_ins
    config ''
    restart

    # quiet: longer than TimeoutStopSec, too.
    config '[drain]
quiet = "8s"'
    drop_in stop $'[Service]\nTimeoutStopSec=2'
    restart
    (LIMIT=60 inside systemctl stop windlass.service) &
    check "quiet: not ready any more, but serving" until_so 6 is_like StatusText 'draining: 0 requests'
    check "it still answers" inside windlass --address "$unix" ping
    wait $!
    equal "quiet longer than TimeoutStopSec is not killed" "$(property Result)/$(property ExecMainStatus)" success/0
    no_drop_ins
    config ''
    restart
}
