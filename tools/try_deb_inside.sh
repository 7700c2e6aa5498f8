#!/bin/sh
# Run by tools/try_deb.sh in the system where the package is installed: says what it does, and
# leaves /root/try.passed if all of it went well.
exec >/root/try.log 2>&1
set -eu
export DEBIAN_FRONTEND=noninteractive ERIS_STORE_URL= HOME=/root LC_ALL=C.UTF-8
cd /root

failed=
say() { echo "  $*"; }
fail() {
    failed=yes
    echo "  FAILED: $*"
    journalctl --no-pager -n 40 -u kaplad -u kaplad.socket -u kapla-publish
    exit 1
}
trap '[ $? -eq 0 ] || [ -n "$failed" ] || fail "the last step"' EXIT
as() { # USER COMMAND
    su -l "$1" -s /bin/sh -c "$2"
}
pid_of() { systemctl show -p MainPID --value "$1"; }

say "installed: the daemon runs, and its socket is the service manager's"
systemctl start kaplad.service
[ "$(stat -c %a:%U:%G /run/kapla/eris.sock)" = 660:kapla:kapla ] || fail "the socket"
[ "$(stat -c %a:%U /var/lib/kapla)" = 700:kapla ] || fail "the directory of the store"
[ "$(ps -o user= -p "$(pid_of kaplad)")" = kapla ] || fail "the daemon's user"
dpkg -V kapla

say "a store in PostgreSQL: the driver is there, and no server"
kaplad --check --store postgresql:///kapla 2>&1 | grep -q 'No such file or directory' ||
    fail "the driver of PostgreSQL"

say "used: by members of the group alone"
useradd -m alice && usermod -aG kapla alice
useradd -m bob
as alice 'echo hello >greeting && kapla encode --name greeting greeting && kapla stat >/dev/null'
! as bob 'kapla stat' || fail "somebody who is no member may use the socket"

say "restarted: nobody who connects is turned away"
before=$(pid_of kaplad)
(systemctl restart kaplad && touch restarted) &
while ! [ -e restarted ]; do as alice 'kapla stat >/dev/null'; done
wait
[ "$(pid_of kaplad)" != "$before" ] || fail "the restart"
systemctl reload kaplad

say "a user's own: started by its socket"
uid=$(id -u bob)
systemctl start "user@$uid.service"
as bob "export XDG_RUNTIME_DIR=/run/user/$uid
    systemctl --user start kaplad.socket &&
    kapla encode /etc/hostname >/dev/null && systemctl --user is-active kaplad.service"
systemctl stop "user@$uid.service"

say "in a terminal: the client is faster than the daemon"
useradd -m carol
as carol 'export XDG_RUNTIME_DIR=$HOME
    kaplad 2>kaplad.log &
    kapla encode --name notes /etc/hostname >/dev/null && kapla stat >/dev/null && kill $!'

say "publishing: the key comes from the service manager"
mkdir -p /etc/guix /srv/items/hello
echo hello >/srv/items/hello/file
kapla signing-key generate /etc/guix >/dev/null
mkdir -p /etc/systemd/system/kapla-publish.service.d
sed -n 's/^\(ExecStart=.*\)/[Service]\nExecStart=\n\1 --items \/srv\/items/p' \
    /usr/lib/systemd/system/kapla-publish.service \
    >/etc/systemd/system/kapla-publish.service.d/items.conf
systemctl daemon-reload
systemctl start kapla-publish.service
[ "$(ps -o user= -p "$(pid_of kapla-publish)")" = kapla-publish ] || fail "the publisher's user"
curl -sf http://127.0.0.1:8080/nix-cache-info | grep -q StoreDir || fail "the publisher"

say "upgraded: edited settings and the store are kept, and the new daemon runs"
echo '# My own line.' >>/etc/kapla/kapla.toml
before=$(pid_of kaplad)
dpkg -i --force-confold next.deb >upgrade.log 2>&1 ||
    fail "the upgrade: $(tail -n 5 upgrade.log)"
dpkg-query -W -f '${Version}\n' kapla | grep -q '+next$'
grep -q '^# My own line' /etc/kapla/kapla.toml || fail "the settings are not kept"
[ -e /etc/kapla/kapla.toml.dpkg-dist ] || fail "the new settings are not beside the old"
[ "$(pid_of kaplad)" != "$before" ] || fail "the old daemon still runs"
[ "$(as alice 'kapla decode @greeting~0 -')" = hello ] || fail "the store"

say "removed: the store, the settings and the users are kept"
apt-get -qq remove kapla >/dev/null 2>&1
[ -e /var/lib/kapla/blocks.sqlite ] && [ -e /etc/kapla/kapla.toml ] || fail "something is lost"
getent passwd kapla >/dev/null || fail "the user is gone"
! [ -e /usr/lib/kapla ] && ! [ -e /usr/bin/kapla ] || fail "programs are left"
! systemctl is-active --quiet kaplad.service kaplad.socket || fail "it still runs"

say "installed again: what was there is there"
dpkg -i --force-confold next.deb >/dev/null 2>&1
[ "$(as alice 'kapla decode @greeting~0 -')" = hello ] || fail "the store"

say "purged: nothing is left"
apt-get -qq purge kapla 2>&1 | grep 'removing the store'
for path in /var/lib/kapla /var/cache/kapla /etc/kapla /run/kapla /run/eris.sock /usr/lib/kapla; do
    ! [ -e "$path" ] || fail "$path is left"
done
! getent passwd kapla kapla-publish kapla-seed kapla-proxy || fail "users are left"
! getent group kapla kapla-publish kapla-seed kapla-proxy || fail "groups are left"
touch /root/try.passed
