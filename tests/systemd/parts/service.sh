# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016,SC2015 # what is not assigned here is in ../run; what stands in single quotes is for the container
# The unit, its states, its journal, its sockets.

part_unit() {
    local units=(windlass.service windlass.socket windlass-http.socket windlass-admin.socket) said score
    said=$(script "cd /usr/lib/systemd/system && systemd-analyze verify ${units[*]} 2>&1" || true)
    equal "systemd-analyze verify is silent" "$said" ""
    score=$(inside systemd-analyze security --no-pager windlass.service | tail -n 1 | grep -oE '[0-9]+\.[0-9]')
    below "systemd-analyze security" "$score" 1.5
}

part_states() {
    local since
    equal "stop with its sockets" "$(script "systemctl stop 'windlass*'; echo \$?; systemctl is-active windlass || true")" \
        "$(printf '0\ninactive')"
    equal "a drained end is exit status 0" "$(property ExecMainStatus)/$(property Result)" 0/success
    check "start" inside systemctl start windlass.service
    equal "started" "$(property ActiveState)/$(property SubState)" active/running
    matches "the status line says how things stand" "$(property StatusText)" '^serving'
    check "with load it says so" until_so 20 status_under_load
    check "systemctl status succeeds" inside systemctl status windlass.service
    check "restart" inside systemctl restart windlass.service
    equal "started again" "$(property ActiveState)" active
    inside systemctl stop windlass.service
    check "a connection starts it again" inside windlass ping
    equal "which systemd did" "$(property ActiveState)" active
    # Wrong configuration: the exit status has a name, and no restart is tried.
    config 'cpu.threads = "many"'
    inside systemctl restart windlass.service 2>/dev/null || true
    equal "a bad file is exit status 78, and not tried again" \
        "$(property ExecMainStatus)/$(property ActiveState)/$(property NRestarts)" 78/failed/0
    config ''
    restart
    equal "the next start is a good one" "$(property ActiveState)" active
    # One that never starts is given up after ten attempts, and its sockets refuse instead of letting clients wait.
    drop_in broken $'[Service]\nExecStart=\nExecStart=/bin/false\nRestartSec=100ms'
    since=$(cursor)
    inside systemctl restart windlass.service 2>/dev/null || true
    check "what never starts is given up" until_so 30 said "$since" "Start request repeated too quickly"
    check "and its sockets are closed" until_so 10 script '! ss -Hltn "sport >= 7410 and sport <= 7412" | grep .'
    no_drop_ins
    script "systemctl reset-failed 'windlass*'; systemctl start windlass.service"
    check "as the README says, it is started again by hand" inside windlass ping
}

status_under_load() {
    load --address "$tcp" --seconds 6 >/dev/null &
    local loader=$!
    sleep 5.5
    local text
    text=$(property StatusText)
    wait "$loader"
    [[ $text =~ ^serving:\ [1-9][0-9]*\ connections,\ [0-9]+\ of\ [0-9]+\ workers\ busy ]]
}

part_journal() {
    local since found
    since=$(cursor)
    config '[log]
level = "debug"
[operations]
enabled = ["echo", "hash"]'
    drop_in faults "$(faults_build)
ExecStart=/opt/windlass-test/windlassd-faults --config /etc/windlass/windlass.toml --set operations.enabled=hash,echo,fault-panic"
    restart
    inside windlass call fault-panic </dev/null >/dev/null 2>&1 || true
    found=$(entry "$since" . OPERATION=fault-panic)
    matches "OPERATION= finds what an operation did" "$found" '"OPERATION" *: *"fault-panic"'
    matches "an error has priority 3" "$found" '"PRIORITY" *: *"3"'
    found=$(entry "$since" . CONNECTION=1)
    matches "CONNECTION= finds what a connection did" "$found" '"CONNECTION" *: *"1"'
    found=$(entry "$since" '"MESSAGE" *: *"ready"' _SYSTEMD_UNIT=windlass.service)
    matches "an ordinary event has priority 6" "$found" '"PRIORITY" *: *"6"'
    matches "and the identifier of the daemon" "$found" '"SYSLOG_IDENTIFIER" *: *"windlassd"'
    no_drop_ins
    config ''
    restart
}

# The build with the faults, in place of the real one.
faults_build() { printf '[Service]\nExecStart=\n'; }

# answers URL: with status 200.
answers() { inside python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10)' "$1"; }

part_activation() {
    local since
    equal "the sockets come from systemd" "$(inside ss -Hltnp 'sport = 7410' | grep -c '"systemd"')" 1
    equal "the Unix socket is for the group" "$(inside stat -c '%U %G %a' /run/windlass.sock)" 'windlass windlass 660'
    check "and answers" inside windlass --address "$unix" ping
    check "HTTP answers on its socket" answers http://127.0.0.1:7411/v1/operations
    check "admin answers on its socket" answers http://127.0.0.1:7412/readyz
    # Addresses of the file that are not used are named.
    since=$(cursor)
    config 'listen.tcp = ["127.0.0.1:7999"]'
    restart
    check "a configured address that is not used is named in the journal" until_so 10 said "$since" "not used" KEY=listen.tcp
    config ''
    # A socket with a name that is no door.
    inside mkdir -p /etc/systemd/system/windlass.socket.d
    inside tee /etc/systemd/system/windlass.socket.d/name.conf <<<$'[Socket]\nFileDescriptorName=gate' >/dev/null
    since=$(cursor)
    script "systemctl daemon-reload; systemctl stop 'windlass*'; systemctl start windlass.socket; systemctl start windlass.service || true" 2>/dev/null
    equal "an unknown name is exit status 78" "$(property ExecMainStatus)" 78
    check "with a message that names it" until_so 10 said "$since" "a socket named 'gate', which is no door"
    inside rm -r /etc/systemd/system/windlass.socket.d
    # Without the sockets, the same file.
    script "systemctl daemon-reload; systemctl stop 'windlass*'; systemctl reset-failed 'windlass*' || true
        systemctl mask --quiet --runtime windlass.socket windlass-http.socket windlass-admin.socket; systemctl start windlass.service"
    check "without socket activation the same configuration works" inside windlass ping
    equal "on sockets of its own" "$(inside ss -Hltnp 'sport >= 7410 and sport <= 7412' | grep -c windlassd)" 3
    check "HTTP too" answers http://127.0.0.1:7411/v1/operations
    script "systemctl stop windlass.service; systemctl unmask --quiet --runtime windlass.socket windlass-http.socket windlass-admin.socket
        systemctl start windlass.service"
    check "and with it again" inside windlass --address "$unix" ping
}

part_reload() {
    local since report pid
    config ''
    restart
    pid=$(property MainPID)
    since=$(cursor)
    config '[queue]
capacity = 4096'
    check "reload" inside systemctl reload windlass.service
    check "the changed key is named" until_so 10 said "$since" "configuration reloaded"
    check "active again, and says so" until_so 10 is_like StatusText '^serving'
    equal "the same process" "$(property MainPID)" "$pid"
    config '[io]
threads = 2'
    since=$(cursor)
    inside systemctl reload windlass.service
    check "what needs a restart is named" until_so 10 said "$since" "needs a restart" KEY=io.threads
    since=$(cursor)
    config '[queue]
capacity = "lots"
[drian]
timeout = "1s"'
    report=$(load --address "$tcp" --times 3 --pause 0.3 --command '! systemctl reload windlass.service 2>/dev/null')
    books "a reload of a broken file fails, and everything goes on" "$report" refused lost doubled wrong failed unknown \
        hung commands_failed retried
    check "with every problem in the journal" until_so 10 said "$since" "drian"
    equal "still active, the same process" "$(property ActiveState)/$(property MainPID)" "active/$pid"
    # Past the check: SIGHUP alone.
    since=$(cursor)
    inside systemctl kill --kill-whom=main --signal=HUP windlass.service
    check "SIGHUP with a broken file is refused" until_so 10 said "$since" "reload refused"
    check "and the status line says so" until_so 10 is_like StatusText 'reload was refused'
    config ''
    inside systemctl reload windlass.service
    check "until the next good one" until_so 10 is_like StatusText '^serving( |:|$)(.*workers|$)'
    more_threads
    report=$(load --address "$tcp" --times 20 --pause 0.1 --command 'systemctl reload windlass.service')
    books "20 reloads under load lose nothing" "$report" refused lost doubled wrong failed unknown hung commands_failed \
        retried
}

# NAME:NICE of each CPU thread, in one line.
cpu_threads() { inside ps -L -o comm=,ni= -p "$(property MainPID)" | awk '/^windlass-cpu-/ { print $1 ":" $2 }' | sort | xargs; }
cpu_threads_are() { [[ $(cpu_threads) == "$1" ]]; }
# How many spins were answered, all in all; and within so many seconds.
spins_done() {
    inside windlass status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["requests"]["spin"]["done"])'
}
spins_within() {
    local before
    before=$(spins_done)
    sleep "$1"
    echo $(($(spins_done) - before))
}

# A reload from one CPU thread to two and back, under load.
more_threads() {
    local one two report pid bench
    config "$with_spin
[cpu]
threads = 1
nice = 5"
    restart
    pid=$(property MainPID)
    check "one CPU thread" until_so 10 cpu_threads_are "windlass-cpu-0:5"
    inside windlass bench spin -p for=5ms --connections 4 --pipeline 4 --duration 12s --json >"$scratch/bench.json" &
    bench=$!
    check "it is busy" until_so 10 busy_workers 1
    one=$(spins_within 3)
    config "$with_spin
[cpu]
threads = 2
nice = 6"
    check "a reload asks for two" inside systemctl reload windlass.service
    check "two CPU threads, of the new niceness, and no other" until_so 10 cpu_threads_are \
        "windlass-cpu-0:6 windlass-cpu-1:6"
    two=$(spins_within 3)
    config "$with_spin
[cpu]
threads = 1"
    check "a reload asks for one again" inside systemctl reload windlass.service
    check "one CPU thread, of the usual niceness" until_so 10 cpu_threads_are "windlass-cpu-0:19"
    # Here, because a subshell cannot wait for it.
    if wait "$bench"; then pass "the load ends"; else fail "the load ends"; fi
    report=$(cat "$scratch/bench.json")
    equal "no request failed" "$(field "$report" failures)/$(field "$report" unanswered)/$(field "$report" broken_connections)" '{}/0/0'
    printf '      with two threads %s times the throughput of one (%s and %s requests in 3 s; load average here: %s)\n' \
        "$(awk -v one="$one" -v two="$two" 'BEGIN { printf "%.2f", two / one }')" "$one" "$two" "$(cut -d ' ' -f 1 /proc/loadavg)"
    equal "all in the same process" "$(property MainPID)" "$pid"
    config ''
    inside systemctl reload windlass.service
}
