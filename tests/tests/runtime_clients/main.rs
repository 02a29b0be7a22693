//! The runtime under those who call runtimes: podman, docker, containerd, and
//! whoever writes bundles.
//!
//! Each test starts one client on a machine of its own, makes all checks of its
//! list against it, and tells of all that failed. `MINIRUNC=/usr/sbin/runc` puts
//! another runtime in the place of the workspace's, which shows that a check is
//! fair.

mod bundles;
mod checks;
mod containerd;
mod docker;
mod engine;
mod podman;

use harness::{Host, Setup, build_dir};

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

/// A machine with the clients' programs at /run/workspace/clients and an image
/// for them. What clients write beside what they are told to, they write to
/// memory.
fn machine(mut setup: Setup) -> Host {
    let clients = build_dir().with_file_name("clients");
    assert!(
        clients.is_dir(),
        "there is no {}: `cargo lab test` makes it first",
        clients.display()
    );
    setup.shown.push((clients, "clients".to_owned()));
    let host = Host::with(setup);
    host.shell("for dir in /var/lib /root /opt; do mount -t tmpfs -o mode=755 tmpfs $dir; done");
    host.shell(BUSYBOX);
    host
}

/// Makes `name` a command of the machine: `line` and what is given to `name`.
fn command(host: &Host, name: &str, line: &str) {
    let script = format!("#!/bin/sh\nexec {line} \"$@\"\n");
    let path = format!("/run/workspace/{name}");
    std::fs::write(host.path(&path), script).expect("write to the machine's memory");
    host.shell(&format!("chmod 755 {path}"));
}
