//! Many who use the runtime at once, and pids that were others' before.

use std::fs;

use harness::{Bundle, Host, Output, wait_for};
use serde_json::{Value, json};

use crate::{difference, look, rich};

/// Runs lines of a shell at the same time, and waits for all.
fn at_once(host: &Host, lines: &[String]) -> Vec<Output> {
    let quiet = |line: &String| format!("exec {line} </dev/null >/dev/null");
    let running: Vec<_> = lines
        .iter()
        .map(|line| host.spawn(["sh", "-c", &quiet(line)]))
        .collect();
    running.into_iter().map(harness::Running::wait).collect()
}

/// `line`, with what it leaves behind not holding our pipe.
fn detached(line: &str, number: usize) -> String {
    format!("sh -c '{line} 2>/tmp/said{number}; code=$?; cat /tmp/said{number} >&2; exit $code'")
}

fn successes(all: &[Output]) -> usize {
    all.iter().filter(|out| out.code() == 0).count()
}

#[test]
fn of_two_who_create_one_container_one_does() {
    let host = Host::new();
    let bundle = rich(&host, "one");
    bundle.start();
    bundle.delete();
    let before = look(&host);
    for _ in 0..10 {
        let lines = [0, 1, 2].map(|n| detached("minirunc create -b /tmp/one one", n));
        let all = at_once(&host, &lines);
        assert_eq!(successes(&all), 1, "{all:#?}");
        for out in all.iter().filter(|out| out.code() != 0) {
            assert!(out.exits(1).contains("container with id exists"), "{out}");
        }
        let state: Value =
            serde_json::from_str(&host.run(["minirunc", "state", "one"]).ok()).unwrap();
        assert_eq!(state["status"], "created");
        bundle.delete();
        let left = difference(&host, &before);
        assert!(left.is_empty(), "{left:#?}");
    }
}

#[test]
fn of_two_who_start_a_container_one_does() {
    let host = Host::new();
    let bundle = rich(&host, "one");
    for _ in 0..10 {
        bundle
            .background(&["minirunc", "create", "-b", "/tmp/one", "one"])
            .ok();
        let all = at_once(
            &host,
            &[
                "minirunc start one".to_owned(),
                "minirunc start one".to_owned(),
            ],
        );
        assert_eq!(successes(&all), 1, "{all:#?}");
        bundle.delete();
    }
}

#[test]
fn ten_containers_are_made_and_removed_at_once() {
    let host = Host::new();
    let bundle = rich(&host, "ten");
    bundle.start();
    bundle.delete();
    let before = look(&host);
    let mut spec = bundle.config.clone();
    // Each needs a cgroup of its own.
    spec["linux"]["cgroupsPath"] = Value::Null;
    let path = host.path("/tmp/ten/config.json");
    fs::write(path, spec.to_string()).unwrap();
    let lines = |line: &str| -> Vec<String> {
        let one = |n: usize| detached(&line.replace('N', &n.to_string()), n);
        (0..10).map(one).collect()
    };
    for line in [
        "minirunc run -d -b /tmp/ten tenN",
        "minirunc exec tenN true",
        "minirunc delete -f tenN",
    ] {
        let all = at_once(&host, &lines(line));
        assert_eq!(successes(&all), 10, "{line}: {all:#?}");
    }
    let left = difference(&host, &before);
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn a_container_that_is_removed_while_it_starts_is_gone() {
    let host = Host::new();
    let bundle = rich(&host, "gone");
    bundle.start();
    bundle.delete();
    let before = look(&host);
    for _ in 0..10 {
        bundle
            .background(&["minirunc", "create", "-b", "/tmp/gone", "gone"])
            .ok();
        let lines = [
            "minirunc start gone",
            "minirunc delete -f gone",
            "minirunc delete -f gone",
        ];
        let all = at_once(&host, &lines.map(str::to_owned));
        for out in &all {
            assert!([0, 1].contains(&out.code()), "{out}");
            assert!(!out.errors().contains("panicked"), "{out}");
        }
        let left = difference(&host, &before);
        assert!(left.is_empty(), "{left:#?}\n{all:#?}");
    }
}

#[test]
fn a_container_that_is_killed_from_many_sides_dies_once() {
    let host = Host::new();
    let bundle = rich(&host, "killed");
    bundle.start();
    let lines = ["minirunc kill killed KILL"; 6].map(str::to_owned);
    let all = at_once(&host, &lines);
    assert!(successes(&all) >= 1, "{all:#?}");
    for out in all.iter().filter(|out| out.code() != 0) {
        assert!(out.exits(1).contains("not running"), "{out}");
    }
    // A signal is sent before it is obeyed.
    wait_for("its end", 60, || {
        let out = host.run(["minirunc", "delete", "killed"]);
        (out.code() == 0).then_some(())
    });
}

/// A record whose pid is another process's by now.
#[test]
fn a_process_with_a_recycled_pid_is_left_alone() {
    let host = Host::new();
    let mut bundle = rich(&host, "recycled");
    bundle.set("/linux/cgroupsPath", Value::Null);
    bundle.start();
    let mut other = host.spawn(["sleep", "998"]);
    let pid: i32 = wait_for("the process to be there", 60, || {
        let inside = host.shell(
            "for p in /proc/[0-9]*; do grep -qsx sleep $p/comm && \
            [ \"$(tr '\\0' ' ' <$p/cmdline)\" = 'sleep 998 ' ] && echo ${p#/proc/}; done; true",
        );
        inside.trim().parse().ok()
    });
    edit(&host, &bundle, |record| record["pid"] = json!(pid));
    for line in [
        ["minirunc", "kill", "recycled", "KILL"].as_slice(),
        &["minirunc", "exec", "recycled", "true"],
        &["minirunc", "start", "recycled"],
        &["minirunc", "pause", "recycled"],
    ] {
        let out = host.run(line);
        assert_ne!(out.code(), 0, "{out}");
        assert!(other.is_running(), "{out}");
    }
    let state: Value =
        serde_json::from_str(&host.run(["minirunc", "state", "recycled"]).ok()).unwrap();
    assert_eq!(state["status"], "stopped");
    bundle.delete();
    assert!(
        other.is_running(),
        "delete --force has killed somebody else"
    );
    wait_for("the container's to be gone", 60, || {
        (host.shell("pgrep -cx sleep || true") == "1").then_some(())
    });
}

/// Records that are not the runtime's own do not make it a tool.
#[test]
fn a_record_that_makes_no_sense_kills_nobody() {
    let host = Host::new();
    let bundle = rich(&host, "nonsense");
    for pid in [0, 1, -1, i32::MAX] {
        bundle.start();
        edit(&host, &bundle, |record| record["pid"] = json!(pid));
        let out = host.run(["minirunc", "kill", "nonsense", "KILL"]);
        assert_ne!(out.code(), 0, "{out}");
        bundle.delete();
        assert_eq!(host.run(["echo", "alive"]).ok(), "alive");
    }
}

fn edit(host: &Host, bundle: &Bundle, change: impl FnOnce(&mut Value)) {
    let name = bundle.dir().replace("/tmp/", "/run/minirunc/");
    let path = host.path(&format!("{name}/state.json"));
    let mut record: Value =
        serde_json::from_slice(&fs::read(&path).expect("read the record")).expect("a record");
    change(&mut record);
    fs::write(path, record.to_string()).expect("write the record");
}
