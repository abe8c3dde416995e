# shellcheck shell=bash
# shellcheck disable=SC2154,SC2016,SC2015 # what is not assigned here is in ../run; what stands in single quotes is for the container
# The package: what it holds, and how it comes and goes.

part_install() {
    local errors before
    errors=$(lintian --fail-on error --tag-display-limit 0 "$deb" 2>&1) &&
        pass "lintian finds no error" || fail "lintian finds no error" "$errors"
    printf '%s\n' "$errors" | sed 's/^/      | /'
    before=$(cursor)
    check "apt installs it, with what it depends on" inside apt-get install -y --no-install-recommends \
        /opt/windlass-test/windlass.deb
    equal "the service runs after the installation" "$(property ActiveState)" active
    equal "it is enabled" "$(inside systemctl is-enabled windlass.service windlass.socket windlass-http.socket \
        windlass-admin.socket | sort -u)" enabled
    equal "it runs as its own user" "$(property User)/$(script 'stat -c %U /proc/$(systemctl show --value -p MainPID windlass)')" \
        windlass/windlass
    equal "the configuration is a conffile" "$(inside dpkg-query -W -f='${Conffiles}' windlass | awk '{ print $1 }')" \
        /etc/windlass/windlass.toml
    check "there are manual pages" inside man -w windlass windlassd windlass-call
    check "and completions that bash takes" inside bash -n /usr/share/bash-completion/completions/windlass
    check "no error in the journal" script "! journalctl -q --after-cursor '$before' -p err -u windlass | grep ."
    equal "the client reaches it" "$(script 'printf abc | windlass call hash -p algorithm=sha256')" \
        ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
}

# The same package with a higher version, as apt would find it.
next_version() {
    local tree
    tree=$(mktemp -d "$scratch/next.XXXXXX")
    dpkg-deb -R "$deb" "$tree"
    sed -i "s/^Version: .*/Version: $1/" "$tree/DEBIAN/control"
    dpkg-deb --root-owner-group -b "$tree" "$scratch/root/opt/windlass-test/next.deb" >/dev/null
}

part_upgrade() {
    local report before
    restart
    before=$(property MainPID)
    config '# changed by the operator'
    next_version 9.0.0-1
    report=$(load --address "$tcp" --address "$unix" --pause 1 \
        --command 'apt-get install -y /opt/windlass-test/next.deb >/opt/windlass-test/apt.log 2>&1')
    books "an upgrade under load loses nothing" "$report" refused lost doubled wrong failed unknown hung commands_failed
    printf '      longest time without an answer: %s ms\n' "$(field "$report" gap_ms_max)"
    equal "the operator's file is kept" "$(inside cat /etc/windlass/windlass.toml)" '# changed by the operator'
    if [[ $(property MainPID) != "$before" ]]; then pass "the new program runs"; else fail "the new program runs"; fi
    check "the same package again changes nothing" inside apt-get install -y --reinstall /opt/windlass-test/next.deb
}

part_remove() {
    inside systemctl reset-failed 2>/dev/null || true
    restart
    check "apt removes it" inside apt-get remove -y windlass
    check "nothing of it runs" script '! pgrep -x windlassd'
    check "nothing listens" script '! ss -Hltn "sport >= 7410 and sport <= 7412" | grep . && ! test -e /run/windlass.sock'
    check "the configuration stays" inside test -e /etc/windlass/windlass.toml
    check "apt purges it" inside apt-get purge -y windlass
    check "no file of it is left" script '! find /etc /usr /run /var/lib/systemd -name "*windlass*" -not -path "*/windlass-test*" | grep .'
    check "and it can be installed again" inside apt-get install -y /opt/windlass-test/windlass.deb
    check "and runs" until_so 10 is ActiveState active
}
