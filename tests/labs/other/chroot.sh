#!/bin/sh
# Step 2 as so many tutorials have it: mounts in a new mount namespace, and then
# chroot(1). It looks like a container, and the host's files are still there.
set -u
fail() {
    echo "chroot.sh: $1" >&2
    exit 125
}

[ "${1-}" = run ] || fail "usage: chroot.sh run [OPTIONS] [--] COMMAND [ARG]..."
shift
hostname=c$$ rootfs='' read_only='' volumes=''
while [ $# -gt 0 ]; do
    case $1 in
    --hostname) hostname=${2-}; shift 2 || fail "$1 wants a value" ;;
    --rootfs) rootfs=${2-}; shift 2 || fail "$1 wants a value" ;;
    -v | --volume) volumes="$volumes ${2-}"; shift 2 || fail "$1 wants a value" ;;
    --read-only) read_only=yes; shift ;;
    --) shift; break ;;
    -m | --memory | --cpus | --pids-limit) fail "not yet implemented: task 03.1" ;;
    -*) fail "$1 is no option" ;;
    *) break ;;
    esac
done
[ $# -gt 0 ] || fail "no command was given"

if [ -z "$rootfs" ]; then
    rootfs=${XDG_DATA_HOME:-${HOME:-/root}/.local/share}/minidocker/busybox
    if ! [ -x "$rootfs/bin/sh" ]; then
        for dir in bin etc mnt root tmp; do mkdir -p "$rootfs/$dir"; done
        for name in $(busybox --list); do ln -sf busybox "$rootfs/bin/$name"; done
        rm -f "$rootfs/bin/busybox"
        cp "$(command -v busybox)" "$rootfs/bin/busybox" || fail "install busybox-static"
    fi
fi

[ -d "$rootfs" ] || fail "$rootfs is no directory"
users=
[ "$(id -u)" = 0 ] || users="--user --map-root-user"
export ROOTFS="$rootfs" READ_ONLY="$read_only" VOLUMES="$volumes"
# shellcheck disable=SC2016,SC2086  # the inner shell's own; two words, or none
exec unshare $users --mount --pid --fork --kill-child --uts --ipc --net --cgroup sh -euc '
    hostname "$0"
    if [ "$READ_ONLY" ]; then mount --bind "$ROOTFS" "$ROOTFS"; fi
    mkdir -p "$ROOTFS/proc" "$ROOTFS/sys" "$ROOTFS/dev"
    mount -t proc proc "$ROOTFS/proc"
    mount -t sysfs -o ro sysfs "$ROOTFS/sys"
    mount --rbind /dev "$ROOTFS/dev"
    for volume in $VOLUMES; do
        source=${volume%%:*} rest=${volume#*:}
        target=$ROOTFS${rest%%:*}
        mkdir -p "${target%/*}"
        if [ -d "$source" ]; then mkdir -p "$target"; else : >>"$target"; fi
        mount --bind "$source" "$target"
        [ "$rest" = "${rest%:ro}" ] || mount -o remount,bind,ro "$target"
    done
    if [ "$READ_ONLY" ]; then mount -o remount,bind,ro "$ROOTFS"; fi
    exec chroot "$ROOTFS" "$@"' "$hostname" "$@"
