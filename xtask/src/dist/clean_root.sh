# Installs, upgrades, removes and purges the package; nothing is left. In a root of its own.
# Arguments: the version before, this version; both are in /packages.
set -eu
before=$1
now=$2

# Where the kernel says how many processors there are.
mount -t sysfs -o ro sysfs /sys

fail() {
    echo "package: $*" >&2
    exit 1
}

# Whatever a package may leave: files but for dpkg's own and the copies that passwd makes, and users.
state() {
    find / -xdev \( -path /proc -o -path /sys -o -path /packages -o -path /var/lib/dpkg \) -prune -o -print |
        grep -v -E '^/(etc/[a-z]+-|etc/\.pwd\.lock|var/log/(dpkg|alternatives)\.log)$' | sort
    cat /etc/passwd /etc/group
}

version() {
    dpkg-query --show --showformat='${Version}' meshlb
}

state > /packages/state.before

dpkg --install "/packages/meshlb_${before}_amd64.deb"
[ "$(version)" = "$before" ] || fail "$(version) is installed, not $before"
meshlb --version
meshlb check /etc/meshlb/meshlb.toml > /dev/null
owner=$(stat --format='%U:%G %a' /etc/meshlb/meshlb.toml)
[ "$owner" = "root:meshlb 640" ] || fail "the configuration is $owner"
as() {
    setpriv --reuid="$1" --regid="$2" --clear-groups meshlb check /etc/meshlb/meshlb.toml
}
as meshlb meshlb > /dev/null || fail "the agent's user cannot read its configuration"
if as nobody nogroup > /dev/null 2>&1; then fail "anybody can read the configuration"; fi
[ -z "$(dpkg --verify meshlb)" ] || fail "$(dpkg --verify meshlb)"
for file in man/man1/meshlb.1.gz man/man1/meshlb-run.1.gz bash-completion/completions/meshlb \
    zsh/vendor-completions/_meshlb fish/vendor_completions.d/meshlb.fish \
    doc/meshlb/copyright doc/meshlb/THIRD-PARTY.txt doc/meshlb/meshlb.cdx.json; do
    [ -s "/usr/share/$file" ] || fail "there is no $file"
done
said=$(systemd-analyze verify /usr/lib/systemd/system/meshlb.service 2>&1)
[ -z "$said" ] || fail "$said"
# That command's own.
rm -rf /run/systemd

# What the administrator wrote, and what the agent remembers, survive.
echo '# ours' >> /etc/meshlb/meshlb.toml
mkdir -p /var/lib/meshlb /var/log/meshlb
touch /var/lib/meshlb/overrides.json /var/log/meshlb/flows.log
dpkg --force-confold --install "/packages/meshlb_${now}_amd64.deb"
[ "$(version)" = "$now" ] || fail "$(version) is installed, not $now"
grep -q '^# ours' /etc/meshlb/meshlb.toml || fail "the upgrade has replaced the configuration"
owner=$(stat --format='%U:%G %a' /etc/meshlb/meshlb.toml)
[ "$owner" = "root:meshlb 640" ] || fail "the configuration is $owner after the upgrade"

dpkg --remove meshlb
[ ! -e /usr/bin/meshlb ] || fail "the program is still there"
grep -q '^# ours' /etc/meshlb/meshlb.toml || fail "a removal has removed the configuration"
[ -e /var/lib/meshlb/overrides.json ] || fail "a removal has removed what the agent remembers"

dpkg --purge meshlb
state > /packages/state.after
diff /packages/state.before /packages/state.after || fail "a purge leaves something behind"
echo "package: installed, upgraded from $before to $now, removed and purged; nothing is left"
