//! Pids and locks that were somebody else's before.

use std::fs;

use harness::engine::{Machine, Who};
use harness::{Running, wait_for};
use serde_json::{Value, json};

use crate::Bystander;

/// Somebody who has nothing to do with containers, and must not be signalled.
fn passer_by(machine: &Machine) -> (Running, i32) {
    let running = machine.host().spawn_as(machine.user(), ["sleep", "777"]);
    let pid = wait_for("a process", 60, || {
        let all = machine.processes();
        all.iter()
            .find(|it| it.line == "sleep 777")
            .map(|it| it.pid)
    });
    (running, pid)
}

/// Kills a container's processes and its shim, so that nobody writes down that it ended.
fn crash(machine: &Machine, name: &str) {
    let container = machine.container(name);
    let (shim, init) = (container.shim().expect("a shim"), container.init().pid);
    let kill = ["kill", "-KILL", &shim.to_string(), &init.to_string()];
    machine.host().run(kill);
    wait_for("both to end", 60, || {
        (container.process(shim).is_none() && container.process(init).is_none()).then_some(())
    });
}

/// Gives all that is written of a container another pid.
fn recycle(machine: &Machine, name: &str, pid: i32) {
    let container = machine.container(name);
    container.edit(|state| state["life"]["pid"] = json!(pid));
    let runtime = machine
        .run()
        .join("runtime")
        .join(container.id())
        .join("state.json");
    if let Ok(text) = fs::read(&runtime) {
        let mut state: Value = serde_json::from_slice(&text).expect("the runtime's state");
        state["pid"] = json!(pid);
        fs::write(&runtime, state.to_string()).expect("write the runtime's state");
    }
}

const LINES: [&str; 9] = [
    "ps -a",
    "kill one",
    "stop -t 0 one",
    "pause one",
    "exec one true",
    "top one",
    "stats --no-stream one",
    "wait one",
    "inspect one",
];

#[test]
fn a_process_with_a_containers_pid_gets_no_signal() {
    for who in [Who::Root, Who::Student] {
        let machine = Machine::of(who);
        let bystander = Bystander::new(&machine);
        let (mut other, pid) = passer_by(&machine);
        for line in LINES
            .into_iter()
            .chain(["restart -t 0 one", "start one", "rm -f one"])
        {
            machine.ok("run -d --name one --network none host sleep 1000");
            crash(&machine, "one");
            recycle(&machine, "one", pid);
            let out = machine.minidocker(line);
            assert!(!out.errors().contains("panicked"), "{out}");
            let state = machine.ok("ps -a --filter name=one --format {{.State}}");
            let runs = ["restart -t 0 one", "start one"].contains(&line);
            assert!(
                state.is_empty() || runs == (state == "running"),
                "{line}: {state}"
            );
            machine.ok("rm -f one");
            assert!(other.is_running(), "`{line}` has killed somebody else");
            bystander.lives();
        }
        let frozen = machine
            .host()
            .shell(&format!("grep State: /proc/{pid}/status"));
        assert!(frozen.contains("sleeping"), "{frozen}");
        drop(other);
        bystander.is_unharmed();
        machine.nothing_left();
    }
}

#[test]
fn a_pid_that_makes_no_sense_harms_nobody() {
    let machine = Machine::of(Who::Root);
    let bystander = Bystander::new(&machine);
    for pid in [0, 1, -1, i32::MAX] {
        machine.ok("run -d --name one --network none host sleep 1000");
        recycle(&machine, "one", pid);
        for line in LINES {
            // For whose answer the shim is asked, not the file.
            if line != "wait one" {
                let out = machine.minidocker(line);
                assert!(!out.errors().contains("panicked"), "{out}");
            }
        }
        machine.ok("rm -f one");
        bystander.lives();
    }
    bystander.is_unharmed();
    machine.nothing_left();
}

#[test]
fn who_holds_a_shims_lock_and_is_none_is_told_of() {
    let machine = Machine::of(Who::Root);
    let bystander = Bystander::new(&machine);
    machine.ok("run -d --name one --network none host sleep 1000");
    crash(&machine, "one");
    let lock = format!(
        "/run/minidocker/containers/{}/shim",
        machine.container("one").id()
    );
    let holder = machine
        .host()
        .spawn(["flock", "--no-fork", &lock, "sleep", "778"]);
    wait_for("the lock to be held", 60, || {
        (machine.shims().len() > 1).then_some(())
    });
    for line in [
        "ps -a",
        "stop -t 0 one",
        "kill one",
        "exec one true",
        "start one",
    ] {
        let out = machine.minidocker(line);
        assert!(!out.errors().contains("panicked"), "{out}");
    }
    drop(holder);
    machine.ok("rm -f one");
    bystander.is_unharmed();
    machine.nothing_left();
}
