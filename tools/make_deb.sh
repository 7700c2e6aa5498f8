#!/bin/sh
# Make dist/kapla_VERSION_ARCHITECTURE.deb with dpkg-deb, for the Debian that this machine has.
#
# The libraries that Debian has are too old for Kapla, so the package carries an environment of its
# own in /usr/lib/kapla, for the Python of the system. It is made below build/, and whatever names
# that place is rewritten.
#
# Usage: make_deb.sh PYTHON-WITH-PIP
#   DEB_VERSION   another version than that in setup.cfg, as 0.1.0+1
#   DEB_PYTHON    the Python that the package is for; /usr/bin/python3
set -eu
cd "$(dirname "$0")/.."
pip_python=$1
system_python=$(readlink -f "${DEB_PYTHON:-/usr/bin/python3}")
build=$PWD/build/deb
root=$build/root
home=/usr/lib/kapla
python=$root$home/bin/python

for program in dpkg-deb dpkg gzip "$system_python"; do
    if ! command -v "$program" >/dev/null; then
        echo "deb: there is no $program here; a package is made on Debian" >&2
        exit 1
    fi
done

version=${DEB_VERSION:-$("$pip_python" -c '
import configparser
setup = configparser.ConfigParser()
setup.read("setup.cfg")
print(setup["metadata"]["version"])')}
architecture=$(dpkg --print-architecture)
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH="$epoch"

make_environment() {
    # What is left of a former build would be put into the wheel.
    rm -rf build/lib "$build"
    mkdir -p "$root/usr/lib"
    "$system_python" -m venv --without-pip "$root$home"
    "$pip_python" -m pip --python "$python" install -qq --disable-pip-version-check \
        --no-compile --no-warn-script-location '.[postgresql]'
    ln -sf "$system_python" "$root$home/bin/python"
    ln -sf python "$root$home/bin/python3"
    cat >"$root$home/pyvenv.cfg" <<END
home = ${system_python%/*}
include-system-site-packages = false
version = $("$system_python" -c 'import platform; print(platform.python_version())')
END
    # Only our own programs; others would be wrong by their first line.
    find "$root$home/bin" -type f ! -name 'kapla*' -delete
    find "$root$home/bin" -type l ! -name python ! -name python3 -delete
    sed -i "1s#^\#!$root#\#!#" "$root$home"/bin/kapla*
    find "$root$home" -name direct_url.json -delete
    rm -rf "$root$home/include"
}

put() { # MODE FILE PLACE
    mkdir -p "$root$(dirname "$3")"
    # Where the program is, in all that is made for another place.
    sed -e 's#/opt/kapla/bin/#/usr/bin/#g' -e "s#/opt/kapla/share#$home/share#g" \
        -e 's#%h/.local/bin/#/usr/bin/#g' "$2" >"$root$3"
    chmod "$1" "$root$3"
}

put_files() {
    put 644 packaging/kapla.toml /etc/kapla/kapla.toml
    for unit in kaplad.service kaplad.socket kapla-publish.service kapla-seed.service kapla-proxy.service; do
        put 644 packaging/$unit /usr/lib/systemd/system/$unit
    done
    for unit in kaplad.service kaplad.socket; do
        put 644 packaging/user/$unit /usr/lib/systemd/user/$unit
    done
    put 644 packaging/sysusers.conf /usr/lib/sysusers.d/kapla.conf
    put 644 packaging/kapla.preset /usr/lib/systemd/system-preset/50-kapla.preset
    put 644 packaging/tmpfiles.conf /usr/lib/tmpfiles.d/kapla.conf
    put 644 packaging/debian/copyright /usr/share/doc/kapla/copyright
    put 644 packaging/guix-daemon-kapla.conf \
        /usr/share/doc/kapla/examples/guix-daemon-kapla.conf
    mkdir -p "$root/usr/share/doc/kapla/docs"
    cp README.md "$root/usr/share/doc/kapla"
    cp docs/*.md "$root/usr/share/doc/kapla/docs"
    gzip -9n "$root/usr/share/doc/kapla/docs/changes.md"
    mkdir -p "$root/usr/bin"
    for program in kapla kaplad kapla-guix; do
        ln -s "../lib/kapla/bin/$program" "$root/usr/bin/$program"
    done
}

put_manual() {
    if ! "$python" -B -c 'import kapla.cli.manual' 2>/dev/null; then
        echo "deb: without man pages and completions; this version cannot make them"
        return
    fi
    share=$root/usr/share
    mkdir -p "$share/man" "$share/bash-completion/completions" "$share/zsh/vendor-completions" \
        "$share/fish/vendor_completions.d"
    "$python" -B -m kapla.cli.manual man "$build/man"
    for page in $(find "$build/man" -name '*.[1-9]'); do
        mkdir -p "$share/man/man${page##*.}"
        gzip -9nc "$page" >"$share/man/man${page##*.}/${page##*/}.gz"
    done
    "$python" -B -m kapla.cli.manual completions bash "$share/bash-completion/completions"
    "$python" -B -m kapla.cli.manual completions zsh "$share/zsh/vendor-completions"
    "$python" -B -m kapla.cli.manual completions fish "$share/fish/vendor_completions.d"
}

put_control() {
    mkdir -p "$root/DEBIAN"
    needed=$("$system_python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    size=$(du -ks --exclude=DEBIAN "$root" | cut -f1)
    sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@SIZE@/$size/" \
        -e "s/@PYTHON@/$needed/" packaging/debian/control >"$root/DEBIAN/control"
    cp packaging/debian/conffiles packaging/debian/postinst packaging/debian/prerm \
        packaging/debian/postrm "$root/DEBIAN"
    (cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
}

make_environment
put_files
put_manual
chmod -R u+rwX,go+rX,go-w "$root"
find "$root" -exec touch -hd "@$epoch" {} +
"$system_python" -m compileall -q -s "$root" -p / --invalidation-mode timestamp "$root$home/lib"
put_control
mkdir -p dist
# Anybody may build it: all files are root's in the package.
dpkg-deb --root-owner-group --build "$root" "dist/kapla_${version}_${architecture}.deb" >/dev/null
echo "deb: dist/kapla_${version}_${architecture}.deb"
