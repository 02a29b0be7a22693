//! A small image for those who call runtimes.

use crate::host::Host;

/// A root file system of the machine's own busybox, at /tmp/image/root, and of
/// that an image as docker saves them, at /tmp/busybox.tar.
const BUSYBOX: &str = r#"
    mkdir -p /tmp/image/root /tmp/image/saved
    cd /tmp/image/root
    mkdir -p bin dev etc home proc root sys tmp
    for name in $(busybox --list); do ln -s busybox "bin/$name"; done
    cp --remove-destination "$(command -v busybox)" bin/busybox
    printf 'root:x:0:0::/root:/bin/sh\nann:x:1234:2345::/tmp:/bin/sh\n' >etc/passwd
    printf 'root:x:0:\nstaff:x:2345:\nextra:x:3456:ann\n' >etc/group
    echo text >etc/plain
    cd ..
    tar -C root --numeric-owner -cf saved/layer.tar .
    id=sha256:$(sha256sum <saved/layer.tar | cut -d' ' -f1)
    echo '{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["sh"]},
        "rootfs":{"type":"layers","diff_ids":["'$id'"]}}' >saved/config.json
    echo '[{"Config":"config.json","RepoTags":["docker.io/library/busybox:latest"],
        "Layers":["layer.tar"]}]' >saved/manifest.json
    tar -C saved -cf /tmp/busybox.tar .
    chmod 644 /tmp/busybox.tar
"#;

/// Makes a root file system of the machine's own busybox, at /tmp/image/root, and of that an image
/// as docker saves them, `busybox`, at /tmp/busybox.tar.
///
/// # Panics
/// Where there is no busybox.
pub fn busybox(host: &Host) {
    host.shell(BUSYBOX);
}
