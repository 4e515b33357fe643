#!/usr/bin/env bash
# Installs what the tests run against: etcd, Redis and PostgreSQL, from Debian, and a Python with the
# packages of examples/clients/python, in target/python; Node.js with the clients that
# examples/clients/npm names, in target/npm; curl, which tries the account routes; Chromium, which the
# web client's tests look into without a screen; and valgrind, which counts instructions. Does nothing
# when they are here. The tests start copies of the servers, on free ports.
set -euo pipefail

has_postgres() {
    compgen -G "/usr/lib/postgresql/*/bin/postgres" >/dev/null
}

# Python's packages, each of the version and with the hash that the file says. The copy of the file
# says that they are there: the tests compare it.
python_packages() {
    local wanted=examples/clients/python/requirements-dev.txt has=target/python/requirements.txt
    if cmp -s "$wanted" "$has"; then
        echo "services.sh: target/python has its packages"
        return
    fi
    rm -rf target/python
    python3 -m venv target/python
    target/python/bin/pip install --quiet --disable-pip-version-check --require-hashes -r "$wanted"
    cp "$wanted" "$has"
    echo "services.sh: target/python is made"
}

# Clients from npm, of the versions and with the hashes of the lock file. Nothing of a package runs but
# what the tests load. The copy of the lock file is written last, as above.
npm_packages() {
    local wanted=examples/clients/npm has=target/npm
    if cmp -s "$wanted/package-lock.json" "$has/installed.json"; then
        echo "services.sh: target/npm has its packages"
        return
    fi
    rm -rf "$has"
    mkdir -p "$has"
    cp "$wanted/package.json" "$wanted/package-lock.json" "$has"
    npm ci --prefix "$has" --ignore-scripts --no-audit --no-fund --loglevel=error
    cp "$wanted/package-lock.json" "$has/installed.json"
    echo "services.sh: target/npm is made"
}

cd "$(dirname "${BASH_SOURCE[0]}")"
missing=()
command -v etcd >/dev/null || missing+=(etcd-server)
command -v redis-server >/dev/null || missing+=(redis-server)
command -v chromium >/dev/null || missing+=(chromium)
command -v valgrind >/dev/null || missing+=(valgrind)
has_postgres || missing+=(postgresql)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
command -v curl >/dev/null || missing+=(curl)
# Debian has Python without what makes virtual environments.
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)

if [ "${#missing[@]}" -eq 0 ]; then
    echo "services.sh: etcd, redis-server, postgres, python3, node, npm, curl, chromium and valgrind are installed"
    python_packages
    npm_packages
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "services.sh: ${missing[*]} must be installed by hand: this is not Debian (no apt-get)" >&2
    exit 1
fi

root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "services.sh: ${missing[*]} must be installed by root: run ./services.sh as root" >&2
        return 1
    fi
}

# Debian asks this file before it starts a service it has just installed; 101 is "no".
policy=/usr/sbin/policy-rc.d
kept=$policy.before-bastide
restore() {
    if [ -e "$kept" ]; then root mv "$kept" "$policy"; else root rm -f "$policy"; fi
}

if [ -e "$policy" ]; then root mv "$policy" "$kept"; fi
trap restore EXIT
printf '#!/bin/sh\nexit 101\n' | root tee "$policy" >/dev/null
root chmod 755 "$policy"

root apt-get update
root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
python_packages
npm_packages
