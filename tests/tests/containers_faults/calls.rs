//! Calls that fail once, and calls at which everybody who makes them is killed.

use harness::engine::kills::listed;
use harness::engine::{Machine, Who};
use harness::{Output, strace, wait_for};

use crate::Bystander;

/// What may fail, and how.
const FAULTS: [(&str, &str); 29] = [
    ("accept4", "EMFILE"),
    ("bind", "EIO"),
    ("clone3", "EAGAIN"),
    ("connect", "EIO"),
    ("fchownat", "EIO"),
    ("fdatasync", "EIO"),
    ("flock", "EIO"),
    ("fsync", "EIO"),
    ("ftruncate", "ENOSPC"),
    ("link", "EIO"),
    ("linkat", "EIO"),
    ("listen", "EIO"),
    ("mkdir", "ENOSPC"),
    ("mkdirat", "ENOSPC"),
    ("mount", "EIO"),
    ("move_mount", "EIO"),
    ("openat2", "EIO"),
    ("pidfd_send_signal", "EIO"),
    ("pipe2", "EMFILE"),
    ("recvmsg", "EIO"),
    ("rename", "EIO"),
    ("renameat2", "EIO"),
    ("rmdir", "EBUSY"),
    ("sendmsg", "EIO"),
    ("setns", "EIO"),
    ("socket", "EMFILE"),
    ("umount2", "EIO"),
    ("unlink", "EIO"),
    ("unlinkat", "EIO"),
];

/// How many faults of each kind a command gets.
const MOST: usize = 12;

/// Runs a command as our child and strace as our grandchild (`-D`), not the other way round. The shim
/// that it may leave behind is traced as well.
fn traced(machine: &Machine, options: &[String], line: &str) -> Output {
    let words = ["strace", "-D"].into_iter();
    let words = words.chain(options.iter().map(String::as_str));
    let words = words.chain(["minidocker"]).chain(line.split_whitespace());
    machine.host().run(words)
}

/// The calls of a command, each with its error and number, as many as are tried.
fn calls(machine: &Machine, line: &str) -> Vec<(&'static str, &'static str, usize)> {
    let names: Vec<&str> = FAULTS.iter().map(|(call, _)| *call).collect();
    traced(machine, &strace::tracing(&names, "/tmp/trace"), line).ok();
    let trace = std::fs::read_to_string(machine.host().path("/tmp/trace")).expect("a trace");
    std::fs::remove_file(machine.host().path("/tmp/trace")).ok();
    let most = strace::most_calls(&trace);
    let mut all = Vec::new();
    for (call, error) in FAULTS {
        let count = most.get(call).copied().unwrap_or(0);
        all.extend((1..=count).map(|n| (call, error, n)));
    }
    assert!(!all.is_empty(), "{line} does nothing");
    let step = all.len().div_ceil(MOST);
    all.into_iter().step_by(step).collect()
}

/// Spoils the calls of `line` one after the other; `ready` makes it possible.
fn spoil(ready: &[&str], line: &str) {
    let machine = Machine::of(Who::Root);
    let bystander = Bystander::new(&machine);
    let get_ready = || {
        for line in ready {
            machine.ok(*line);
        }
    };
    let look = |what: &str| {
        // Who has just died is listed as running until its shim has noticed.
        wait_for(&format!("the truth: {line}: {what}"), 60, || {
            let state = listed(&machine, "one");
            let runs = state
                .iter()
                .any(|(_, state)| ["running", "paused"].contains(&state.as_str()));
            (machine.shims().len() == 1 + usize::from(runs)).then_some(())
        });
        let out = machine.minidocker("rm -f one");
        assert!(out.code() == 0, "{what}: {out}");
        assert!(listed(&machine, "one").is_empty(), "{line}: {what}");
        bystander.lives();
    };
    get_ready();
    let calls = calls(&machine, line);
    look("nothing");
    for (call, error, n) in calls {
        get_ready();
        let out = traced(&machine, &strace::failing(call, error, n), line);
        let said = out.errors();
        let told = out.code() == 0 || said.contains("minidocker: ");
        assert!(
            told && !said.contains("panicked"),
            "{call} {n} fails with {error}: {out}"
        );
        look(&format!("{call} {n} fails with {error}"));
        get_ready();
        traced(&machine, &strace::killing(call, n), line);
        look(&format!("{call} {n} kills"));
    }
    bystander.is_unharmed();
    machine.nothing_left();
}

#[test]
fn a_create_whose_calls_fail_or_kill() {
    spoil(&[], "create --name one host sleep 1000");
}

#[test]
fn a_start_whose_calls_fail_or_kill() {
    spoil(&["create --name one host sleep 1000"], "start one");
}

#[test]
fn an_exec_whose_calls_fail_or_kill() {
    spoil(
        &["run -d --name one --network none host sleep 1000"],
        "exec one true",
    );
}

#[test]
fn a_stop_whose_calls_fail_or_kill() {
    spoil(&["run -d --name one host sleep 1000"], "stop -t 0 one");
}

#[test]
fn a_removal_whose_calls_fail_or_kill() {
    spoil(&["run -d --name one host sleep 1000"], "rm -f one");
}
