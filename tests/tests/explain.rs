//! `--explain` tells of every call that makes a container, and of none that did
//! not happen: it is held against strace(1).

use std::collections::BTreeMap;

use harness::{Host, User, assert_same, explained};

/// The calls that must be explained, as the man pages name them.
const CALLS: &str = "clone,clone3,fork,vfork,unshare,setns,mount,umount2,pivot_root,sethostname,\
    execve,fsopen,fsmount,move_mount,open_tree,mount_setattr";

/// How often each call was made by the program itself: successfully, and at all.
type Counts = BTreeMap<String, (usize, usize)>;

/// One name for the calls that all begin a process.
fn family(call: &str) -> &str {
    if ["clone3", "fork", "vfork"].contains(&call) {
        "clone"
    } else {
        call
    }
}

/// Runs a step under strace(1), and returns what it explained and what it did.
fn traced(host: &Host, user: User, argv: &[&str]) -> (Counts, Counts, String) {
    host.shell("rm -rf /tmp/traces; mkdir -m 777 /tmp/traces");
    let calls = format!("trace={CALLS}");
    let mut whole = vec!["env", "-C", "/"];
    if user == User::Student {
        whole.extend([
            "HOME=/home/student",
            "USER=student",
            "XDG_RUNTIME_DIR=/run/user/1000",
        ]);
    }
    whole.extend([
        "strace",
        "-ff",
        "--pidns-translation",
        "-qq",
        "-s",
        "200",
        "-e",
        &calls,
        "-o",
        "/tmp/traces/t",
    ]);
    if user == User::Student {
        // A tracer without rights would take newuidmap's away as well.
        whole.extend(["-u", "student"]);
    }
    whole.extend(argv);
    let out = host.run(whole);
    out.ok();
    let mut told = Counts::new();
    for one in explained(&out.errors()) {
        if CALLS.split(',').any(|call| call == one.name()) {
            let count = told.entry(family(one.name()).to_owned()).or_default();
            *count = (count.0 + 1, count.1 + 1);
        }
    }
    let first =
        host.shell("grep -l 'execve(.*\"--explain\"' /tmp/traces/t.* | sort -t. -k2 -n | head -n1");
    let mut seen = Counts::new();
    follow(
        host,
        first.trim_start_matches("/tmp/traces/t."),
        true,
        &mut seen,
    );
    (told, seen, out.errors())
}

/// Counts the calls of process `pid` and of its children, up to where they
/// become another program: what that does is not ours to explain.
fn follow(host: &Host, pid: &str, is_first: bool, seen: &mut Counts) {
    let trace = host.run(["cat", &format!("/tmp/traces/t.{pid}")]).text();
    let skip = usize::from(is_first);
    for line in trace
        .lines()
        .filter(|line| line.contains('(') && line.contains(" = "))
        .skip(skip)
    {
        let name = line.split('(').next().unwrap_or_default();
        let is_thread = line.contains("CLONE_THREAD");
        let result = line.rsplit(" = ").next().unwrap_or_default();
        let failed = result.starts_with('-') || result.starts_with('?');
        // Threads are not told of, but what they do is.
        if !is_thread {
            let count = seen.entry(family(name).to_owned()).or_default();
            *count = (count.0 + usize::from(!failed), count.1 + 1);
        }
        if failed {
            continue;
        }
        if family(name) == "clone" {
            let translated = result
                .split("/* ")
                .nth(1)
                .and_then(|rest| rest.split(' ').next());
            let child = translated.unwrap_or_else(|| result.split(' ').next().unwrap_or_default());
            follow(host, child, false, seen);
        }
        if name == "execve" {
            return;
        }
    }
}

fn holds(host: &Host, user: User, argv: &[&str]) {
    let (told, seen, text) = traced(host, user, argv);
    for call in ["clone", "execve"] {
        assert!(
            seen.contains_key(call),
            "a container without {call}? {seen:?}"
        );
    }
    for (call, (done, tried)) in &seen {
        let said = told.get(call).map_or(0, |count| count.0);
        assert!(
            (*done..=*tried).contains(&said),
            "{user:?} {argv:?}: {call} was called {tried} times, {done} of them with success, \
             and explained {said} times:\n{text}\n{told:?}\n{seen:?}"
        );
    }
    for call in told.keys() {
        assert!(
            seen.contains_key(call),
            "{user:?} {argv:?}: {call} was explained and never called:\n{text}"
        );
    }
}

#[test]
fn every_call_of_step_1_is_explained() {
    let host = Host::new();
    for user in [User::Root, User::Student] {
        holds(
            &host,
            user,
            &["step01", "run", "--explain", "--hostname", "box", "true"],
        );
        holds(
            &host,
            user,
            &["step01", "run", "--explain", "--init", "true"],
        );
    }
}

#[test]
fn every_call_of_step_2_is_explained() {
    let host = Host::new();
    for user in [User::Root, User::Student] {
        // The first run makes the default rootfs, the second finds it.
        for _ in 0..2 {
            holds(&host, user, &["step02", "run", "--explain", "true"]);
        }
        holds(
            &host,
            user,
            &[
                "step02",
                "run",
                "--explain",
                "--read-only",
                "-v",
                "/srv:/a/b:ro",
                "true",
            ],
        );
    }
}

#[test]
fn every_call_of_step_3_is_explained() {
    let host = Host::new();
    for user in [User::Root, User::Student] {
        holds(&host, user, &["step03", "run", "--explain", "true"]);
    }
}

#[test]
fn every_call_of_step_4_is_explained() {
    let host = Host::online();
    for user in [User::Root, User::Student] {
        holds(
            &host,
            user,
            &["step04", "run", "--explain", "--network", "none", "true"],
        );
        holds(
            &host,
            user,
            &["step04", "run", "--explain", "-p", "8080:80", "true"],
        );
    }
}

#[test]
fn every_call_of_step_5_is_explained() {
    let host = Host::online();
    for user in [User::Root, User::Student] {
        holds(&host, user, &["step05", "run", "--explain", "host", "true"]);
    }
}

#[test]
fn without_explain_nothing_is_said() {
    let host = Host::new();
    for step in ["step01", "step02", "step03"] {
        let out = host.run([step, "run", "true"]);
        assert_eq!(out.exits(0), "", "{out}");
    }
}

#[test]
fn a_reader_who_has_seen_enough_does_not_keep_the_host_from_being_cleaned() {
    let host = Host::online();
    host.run(["step04", "run", "true"]).ok();
    let before = host.snapshot();
    for user in [User::Root, User::Student] {
        let first = host.run_as(
            user,
            ["sh", "-c", "step04 run --explain true 2>&1 | head -n 1"],
        );
        assert!(first.ok().starts_with("parent"), "{user:?}");
    }
    assert_same(&before, || host.snapshot());
}
