#!/bin/sh
# Ask apt for the system packages that are missing, and for nothing else.
# Usage: deps.sh [PACKAGE]...        without arguments: all that the tests need, a browser and a database
set -eu

is_there() {
    case $1 in
        python3-venv) python3 -c 'import ensurepip, venv' ;;
        libcoap3-bin) command -v coap-client-notls ;;
        nix-bin) command -v nix-store ;;
        curl | fish | mandoc | zsh) command -v "$1" ;;
        chromium) command -v chromium || command -v chromium-browser || command -v google-chrome ;;
        postgresql) command -v initdb || ls /usr/lib/postgresql/*/bin/initdb ;;
        guile-3.0) command -v guile ;;
        debootstrap) command -v debootstrap ;;
        systemd-container) command -v systemd-nspawn ;;
        # Networks are made by root alone: nobody else has a use for these.
        iproute2) [ "$(id -u)" -ne 0 ] || command -v ip ;;
        nftables) [ "$(id -u)" -ne 0 ] || command -v nft ;;
        *) return 1 ;;
    esac >/dev/null 2>&1
}

# Two of these under "make -j" take turns: apt would refuse the second.
if command -v flock >/dev/null; then
    exec 9<"$0"
    flock 9
fi

browser=
database=
[ $# -gt 0 ] || browser=chromium
[ $# -gt 0 ] || database=postgresql
[ $# -gt 0 ] || set -- python3-venv libcoap3-bin nix-bin curl guile-3.0 iproute2 nftables zsh fish mandoc
missing=
for package; do
    is_there "$package" || missing="$missing $package"
done

if [ -z "$missing" ]; then
    echo "deps: nothing is missing"
elif ! command -v apt-get >/dev/null; then
    echo "deps: skipped, there is no apt-get here; please install what gives you:$missing"
elif [ "$(id -u)" -ne 0 ]; then
    echo "deps: skipped, only root may install; please run: apt-get install$missing"
else
    echo "deps: installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    # Word splitting is meant: one argument a package.
    # shellcheck disable=SC2086
    if ! { apt-get -qq update && apt-get -qq install --no-install-recommends $missing; } >/dev/null
    then
        echo "deps: apt-get could not install$missing; its messages above say why" >&2
        exit 1
    fi
fi

# Only what comes over the network has an end: what is half installed is worse than nothing.
install_browser() {
    export DEBIAN_FRONTEND=noninteractive
    timeout 60 apt-get -qq update || return 1
    timeout 180 apt-get -qq install --download-only --no-install-recommends "$browser" || return 1
    apt-get -qq install --no-install-recommends "$browser"
}

# It is large, and not every distribution has one as a package: without it its test is skipped.
if [ -n "$browser" ] && ! is_there "$browser"; then
    if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
        echo "deps: there is no $browser; the test with a browser is skipped"
    elif ! install_browser >/dev/null 2>&1; then
        echo "deps: apt-get could not install $browser; the test with a browser is skipped"
    else
        echo "deps: $browser is installed"
    fi
fi

# Debian makes a database of its own when it is installed, and starts it, unless it is told not to.
install_database() {
    export DEBIAN_FRONTEND=noninteractive
    timeout 60 apt-get -qq update || return 1
    timeout 180 apt-get -qq install --download-only --no-install-recommends "$database" || return 1
    apt-get -qq install --no-install-recommends postgresql-common || return 1
    told=/etc/postgresql-common/createcluster.conf
    grep -qs '^create_main_cluster = false' "$told" || echo 'create_main_cluster = false' >>"$told"
    apt-get -qq install --no-install-recommends "$database"
}

# Stores may be in one: without it the tests of that are skipped.
if [ -n "$database" ] && ! is_there "$database"; then
    if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
        echo "deps: there is no $database; the tests with a database are skipped"
    elif ! install_database >/dev/null 2>&1; then
        echo "deps: apt-get could not install $database; the tests with a database are skipped"
    else
        echo "deps: $database is installed"
    fi
fi
