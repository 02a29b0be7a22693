#!/bin/sh
# Step 1 of the contract by unshare(1), as far as that goes: what a shell script
# cannot do is to pass a signal on to a process that unshare(1) waits for.
set -u
fail() {
    echo "unshare.sh: $1" >&2
    exit 125
}

[ "${1-}" = run ] || fail "usage: unshare.sh run [--hostname NAME] [--] COMMAND [ARG]..."
shift
hostname=c$$
while [ $# -gt 0 ]; do
    case $1 in
    --hostname) hostname=${2-}; shift 2 || fail "--hostname wants a name" ;;
    --hostname=*) hostname=${1#*=}; shift ;;
    --) shift; break ;;
    --rootfs | --read-only | -v) fail "not yet implemented: task 02.1" ;;
    -*) fail "$1 is no option" ;;
    *) break ;;
    esac
done
[ $# -gt 0 ] || fail "no command was given"

users=
[ "$(id -u)" = 0 ] || users="--user --map-root-user"
# shellcheck disable=SC2016,SC2086  # the inner shell's own; two words, or none
exec unshare $users --mount --pid --fork --kill-child --uts --ipc --net --cgroup \
    sh -c 'hostname "$0" && exec "$@"' "$hostname" "$@"
