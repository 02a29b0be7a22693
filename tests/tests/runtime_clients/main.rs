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

use harness::{Host, Setup, build_dir, busybox};

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
    busybox(&host);
    host
}

/// Makes `name` a command of the machine: `line` and what is given to `name`.
fn command(host: &Host, name: &str, line: &str) {
    let script = format!("#!/bin/sh\nexec {line} \"$@\"\n");
    let path = format!("/run/workspace/{name}");
    std::fs::write(host.path(&path), script).expect("write to the machine's memory");
    host.shell(&format!("chmod 755 {path}"));
}
