#!/bin/sh
# Try the package on a clean Debian: install it, use it, upgrade it, remove and purge it, under a
# systemd of its own. Needs root, debootstrap and systemd-nspawn, and a few minutes; what it makes is
# below build/deb-test, and the bare system there is kept for the next time.
#
# Usage: try_deb.sh
#   DEB_SUITE    the Debian; bookworm
#   DEB_MIRROR   where it is had; that of this machine
set -eu
cd "$(dirname "$0")/.."
suite=${DEB_SUITE:-bookworm}
mirror=${DEB_MIRROR:-http://deb.debian.org/debian}
place=$PWD/build/deb-test
base=$place/$suite
root=$place/root
# Longer than anything that works takes, each, on a machine that has other things to do.
boot_s=600
fetch_s=900

if [ "$(id -u)" -ne 0 ]; then
    echo "deb-test: skipped, only root can start a system" >&2
    exit 0
fi
tools/deps.sh debootstrap systemd-container
package=$(ls dist/kapla_*.deb 2>/dev/null | grep -v '+next_' | tail -n 1)
if [ -z "$package" ]; then
    echo "deb-test: there is no package in dist; make it with: make deb" >&2
    exit 1
fi

make_base() {
    [ ! -e "$base/made" ] || return 0
    rm -rf "$base"
    mkdir -p "$place"
    echo "deb-test: fetching $suite"
    if ! timeout "$fetch_s" debootstrap "$suite" "$base" "$mirror" >"$place/debootstrap.log" 2>&1
    then
        echo "deb-test: debootstrap failed; see $place/debootstrap.log" >&2
        exit 1
    fi
    touch "$base/made"
}

# A later version of the same, whose settings differ too.
make_next() {
    rm -rf "$place/next"
    dpkg-deb -R "$package" "$place/next"
    sed -i 's/^Version: .*/&+next/' "$place/next/DEBIAN/control"
    echo '# Another line, of a later version.' >>"$place/next/etc/kapla/kapla.toml"
    dpkg-deb --root-owner-group -Zgzip -b "$place/next" "$root/root/next.deb" >/dev/null
    rm -rf "$place/next"
}

container() { # SECONDS ARGUMENT...
    seconds=$1
    shift
    timeout -k 10 "$seconds" systemd-nspawn --quiet --register=no --keep-unit -D "$root" "$@" \
        </dev/null
}

make_base
rm -rf "$root"
cp -a "$base" "$root"
cp "$package" "$root/root/kapla.deb"
make_next
install -m 755 tools/try_deb_inside.sh "$root/root/try.sh"
cat >"$root/etc/systemd/system/try.service" <<'END'
[Unit]
After=kaplad.service

[Service]
Type=oneshot
ExecStart=/root/try.sh
ExecStopPost=/bin/systemctl poweroff
TimeoutStartSec=500
END
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../try.service "$root/etc/systemd/system/multi-user.target.wants"

echo "deb-test: installing $package"
container "$fetch_s" --pipe --resolv-conf=copy-host sh -c '
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update && apt-get -qq install --no-install-recommends /root/kapla.deb curl dbus libpam-systemd
' >"$place/install.log" 2>&1 || {
    tail -n 20 "$place/install.log" >&2
    exit 1
}
echo "deb-test: starting the system"
container "$boot_s" --private-network --boot >"$place/boot.log" 2>&1 || true
cat "$root/root/try.log" 2>/dev/null || tail -n 20 "$place/boot.log"
if ! [ -e "$root/root/try.passed" ]; then
    echo "deb-test: failed" >&2
    exit 1
fi
rm -rf "$root"
echo "deb-test: passed"
