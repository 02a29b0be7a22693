//! Faults: each of the calls that the runtime makes fails once in turn, its
//! commands are killed at any moment, and used by many at once. Every time there
//! is a sentence and a status, and in the end a host as it was.

mod calls;
mod crowd;
mod kills;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use harness::{Bundle, Host};
use serde_json::json;

/// A bundle that uses much of what the runtime has.
fn rich<'a>(host: &'a Host, name: &str) -> Bundle<'a> {
    let mut bundle = Bundle::new(host, name);
    let dir = bundle.dir();
    // Of the groups above its own a container removes those that it can.
    host.shell(&format!(
        "mkdir -p /sys/fs/cgroup/faults {dir}/given {dir}/rootfs/filled; echo x >{dir}/rootfs/filled/x"
    ));
    bundle.bind(&format!("{dir}/given"), "/given/deep");
    bundle.add(
        "/mounts",
        json!({"destination": "/readonly", "source": format!("{dir}/given"), "type": "bind",
            "options": ["rbind", "ro", "nosuid", "rprivate"]}),
    );
    bundle.add(
        "/mounts",
        json!({"destination": "/filled", "type": "tmpfs", "source": "tmpfs",
            "options": ["tmpcopyup", "size=1m"]}),
    );
    bundle.add(
        "/linux/devices",
        json!({"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "uid": 7}),
    );
    bundle.add("/linux/namespaces", json!({"type": "time"}));
    bundle.set("/linux/timeOffsets", json!({"boottime": {"secs": 100}}));
    bundle.set(
        "/linux/sysctl",
        json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "9000"}),
    );
    bundle.set("/linux/cgroupsPath", json!(format!("/faults/{name}")));
    bundle.set("/domainname", json!("faults"));
    bundle.set("/process/oomScoreAdj", json!(100));
    bundle.set(
        "/process/user",
        json!({"uid": 7, "gid": 8, "additionalGids": [9]}),
    );
    bundle.set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILE", "soft": 512, "hard": 512}]),
    );
    for moment in [
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ] {
        let path = if moment == "startContainer" {
            "/bin/busybox"
        } else {
            "/bin/true"
        };
        bundle.set(
            &format!("/hooks/{moment}"),
            json!([{"path": path, "args": ["true"]}]),
        );
    }
    bundle.command(["sleep", "100"]);
    bundle.write();
    bundle
}

/// What the runtime could leave on a host, read without running anything there:
/// its state, cgroups, processes and mounts.
fn look(host: &Host) -> Vec<String> {
    let mut all = Vec::new();
    tree(&host.path("/run/minirunc"), &mut all);
    tree(&host.path("/sys/fs/cgroup"), &mut all);
    for entry in fs::read_dir(host.path("/proc"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if !line.is_empty() {
            all.push(format!("process {}", line.replace('\0', " ")));
        }
    }
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", host.pid())).unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    all.extend(places.map(|place| format!("mount {place}")));
    all.sort();
    all
}

/// The files of the runtime's state, and the directories of cgroups.
fn tree(dir: &Path, all: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_dir {
            tree(&entry.path(), all);
        }
        if is_dir || dir.to_string_lossy().contains("minirunc") {
            all.push(entry.path().display().to_string());
        }
    }
}

/// What is there that was not before, and what is no longer, once it has not
/// changed for a moment.
fn difference(host: &Host, before: &[String]) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let now = look(host);
        let left = now.iter().filter(|line| !before.contains(line));
        let gone = before.iter().filter(|line| !now.contains(line));
        let mut all: Vec<String> = left.map(|line| format!("left: {line}")).collect();
        all.extend(gone.map(|line| format!("gone: {line}")));
        if all.is_empty() || Instant::now() > end {
            return all;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
