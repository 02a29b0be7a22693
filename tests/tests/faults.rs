//! Faults: each of the calls that make a container fails once in turn, and the
//! parent is killed at any moment. Every time there is a sentence and a status,
//! and a host as it was.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, SystemTime};

use harness::{Host, Output, User, assert_same, strace, wait_for};

/// A run that uses everything that step 4 has.
const RUN: [&str; 9] = [
    "step04",
    "run",
    "-p",
    "8080:80",
    "-v",
    "/srv:/data:ro",
    "echo",
    "the command",
    "ran",
];

/// What a failed message over a socket is told about in.
const NETLINK: &[&str] = &[
    "link",
    "address",
    "route",
    "bridge",
    "veth",
    "rule",
    "nf",
    "netlink",
    "network",
    "table",
    "port",
    "gate",
    "interface",
];

/// What may fail, with words of which the sentence must hold one.
const FAULTS: [(&str, &str, &[&str]); 16] = [
    ("mount", "EIO", &["mount"]),
    ("umount2", "EIO", &["umount", "unmount", "detach", "root"]),
    ("pivot_root", "EIO", &["pivot_root", "root"]),
    (
        "clone3",
        "EAGAIN",
        &["clone", "process", "namespace", "thread"],
    ),
    ("unshare", "EIO", &["unshare", "namespace"]),
    ("setns", "EIO", &["setns", "namespace"]),
    ("sethostname", "EIO", &["hostname", "name"]),
    ("sendto", "EIO", NETLINK),
    ("sendmsg", "EIO", NETLINK),
    ("mkdir", "EIO", &["/", "directory", "make", "create"]),
    ("mkdirat", "EIO", &["/", "directory", "make", "create"]),
    ("fsopen", "EIO", &["mount", "fsopen"]),
    ("fsmount", "EIO", &["mount"]),
    ("move_mount", "EIO", &["mount"]),
    ("open_tree", "EIO", &["mount", "bind", "open"]),
    ("mount_setattr", "EIO", &["mount", "read-only"]),
];

fn with_fault(host: &Host, call: &str, error: &str, n: usize) -> Output {
    let options = strace::failing(call, error, n);
    host.run(line(&options))
}

fn line(options: &[String]) -> impl Iterator<Item = &str> {
    let options = options.iter().map(String::as_str);
    std::iter::once("strace").chain(options).chain(RUN)
}

/// How often each call is made, in the process that makes it most often.
fn counts(host: &Host) -> BTreeMap<String, usize> {
    let calls: Vec<&str> = FAULTS.iter().map(|(call, ..)| *call).collect();
    let options = strace::tracing(&calls, "/tmp/trace");
    host.run(line(&options)).ok();
    strace::most_calls(&host.shell("cat /tmp/trace; rm /tmp/trace"))
}

#[test]
fn whatever_call_fails_there_is_a_sentence_a_status_and_a_host_as_it_was() {
    let host = Host::online();
    host.run(RUN).ok();
    let before = host.snapshot();
    let counts = counts(&host);
    let mut complaints = String::new();
    for (call, error, words) in FAULTS {
        for n in 1..=counts.get(call).copied().unwrap_or(0) {
            let out = with_fault(&host, call, error, n);
            if let Some(complaint) = judge(&out, words) {
                complaints += &format!("{call} number {n}: {complaint}: {out}\n");
            }
            if out.text() == "the command ran" {
                // It was the tear-down that failed: the next command repairs.
                host.run(RUN);
            }
            let looks = || assert_same(&before, || host.snapshot());
            if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(looks)) {
                let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                complaints += &format!("{call} number {n} ({out}): {text}\n");
                host.run(RUN);
            }
        }
    }
    assert!(complaints.is_empty(), "{complaints}");
}

/// What is wrong with how a run with a fault ended.
fn judge(out: &Output, words: &[&str]) -> Option<&'static str> {
    let errors = out.errors();
    match out.code() {
        // There was another way, or nobody needs what failed.
        0 if out.text() == "the command ran" => None,
        125 if !errors.contains("step04: ") => Some("no sentence"),
        125 if errors.contains("panicked") => Some("a panic"),
        125 if !words.iter().any(|word| errors.contains(word)) => {
            Some("the operation is not named")
        }
        125 => None,
        _ => Some("the status should be 125"),
    }
}

#[test]
fn killed_at_any_moment_the_next_command_leaves_nothing() {
    let host = Host::online();
    for user in [User::Root, User::Student] {
        host.run_as(user, RUN).ok();
    }
    let before = host.snapshot();
    for user in [User::Root, User::Student] {
        for _ in 0..20 {
            let chance = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .subsec_nanos();
            let moment = Duration::from_micros(u64::from(chance / 7 % 80_000));
            let running = host.spawn_as(
                user,
                ["step04", "run", "-p", "8080:80", "sh", "-c", "sleep 0.02"],
            );
            running.kill_after(moment);
            // Its child, which is about to end as well, has a hold on all that is its own until then.
            wait_for("the child to be gone, too", 60, || {
                let left = host.run(["pgrep", "-x", "step04"]);
                left.text().is_empty().then_some(())
            });
            // Student's port was held by a helper, which the kernel is ending now.
            wait_for("the next command to run", 60, || {
                (host.run_as(user, RUN).code() == 0).then_some(())
            });
            let looks = || assert_same(&before, || host.snapshot());
            if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(looks)) {
                let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                panic!("{user:?}, killed after {moment:?}: {text}");
            }
        }
    }
}
