#!/usr/bin/env bash
# Installs the servers that the tests run against: etcd, Redis and PostgreSQL, from Debian.
# Does nothing when they are here. The tests start copies of their own, on free ports.
set -euo pipefail

has_postgres() {
    compgen -G "/usr/lib/postgresql/*/bin/postgres" >/dev/null
}

missing=()
command -v etcd >/dev/null || missing+=(etcd-server)
command -v redis-server >/dev/null || missing+=(redis-server)
has_postgres || missing+=(postgresql)

if [ "${#missing[@]}" -eq 0 ]; then
    echo "services.sh: etcd, redis-server and postgres are installed"
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
