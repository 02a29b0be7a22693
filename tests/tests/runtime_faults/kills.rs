//! The runtime's commands are killed at any moment.

use std::time::{Duration, SystemTime};

use harness::{Bundle, Host};

use crate::{difference, look, rich};

/// How often each command is killed.
const TIMES: usize = 30;

/// A moment within the time that the command takes.
fn moment() -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Duration::from_micros(u64::from(
        now.map_or(0, |now| now.subsec_nanos()) / 7 % 60_000,
    ))
}

/// Kills `line` again and again. Before it `ready` is done; what it has left is
/// to go by one `delete --force`.
fn killed(host: &Host, bundle: &Bundle, name: &str, line: &str, ready: &[&[&str]]) {
    let delete = ["minirunc", "delete", "--force", name];
    let get_ready = || {
        for line in ready {
            bundle.background(line).ok();
        }
    };
    get_ready();
    host.run(delete).ok();
    let before = look(host);
    for _ in 0..TIMES {
        get_ready();
        let moment = moment();
        let script = format!(
            "{line} >/dev/null 2>&1 </dev/null & sleep {}; kill -KILL $!; wait",
            moment.as_secs_f64()
        );
        host.run(["sh", "-c", &script]);
        host.run(delete).ok();
        let left = difference(host, &before);
        assert!(left.is_empty(), "killed after {moment:?}: {left:#?}");
    }
}

#[test]
fn create_killed_at_any_moment_leaves_what_delete_removes() {
    let host = Host::new();
    let bundle = rich(&host, "create");
    killed(
        &host,
        &bundle,
        "create",
        "minirunc create -b /tmp/create create",
        &[],
    );
}

#[test]
fn run_killed_at_any_moment_leaves_what_delete_removes() {
    let host = Host::new();
    let bundle = rich(&host, "run");
    killed(&host, &bundle, "run", "minirunc run -b /tmp/run run", &[]);
}

#[test]
fn start_killed_at_any_moment_leaves_what_delete_removes() {
    let host = Host::new();
    let bundle = rich(&host, "start");
    let create = ["minirunc", "create", "-b", "/tmp/start", "start"];
    killed(&host, &bundle, "start", "minirunc start start", &[&create]);
}

#[test]
fn exec_killed_at_any_moment_leaves_what_delete_removes() {
    let host = Host::new();
    let bundle = rich(&host, "exec");
    let run = ["minirunc", "run", "-d", "-b", "/tmp/exec", "exec"];
    killed(
        &host,
        &bundle,
        "exec",
        "minirunc exec exec sleep 99",
        &[&run],
    );
}

#[test]
fn delete_killed_at_any_moment_leaves_what_delete_removes() {
    let host = Host::new();
    let bundle = rich(&host, "delete");
    let run = ["minirunc", "run", "-d", "-b", "/tmp/delete", "delete"];
    killed(
        &host,
        &bundle,
        "delete",
        "minirunc delete -f delete",
        &[&run],
    );
}
