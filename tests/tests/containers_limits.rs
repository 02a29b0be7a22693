//! What a container may use: in force before its first instruction, or refused by the name of the
//! controller that is missing. A virtual machine has all of them: `cargo lab vm`.

use std::collections::BTreeSet;

use harness::engine::{Machine, Who, shell};
use harness::in_the_vm;

fn controllers(machine: &Machine) -> BTreeSet<String> {
    let offered = machine
        .host()
        .shell("cat /sys/fs/cgroup/cgroup.controllers");
    let offered: BTreeSet<String> = offered.split_whitespace().map(str::to_owned).collect();
    for controller in ["memory", "cpu", "pids", "cpuset"] {
        assert!(!in_the_vm() || offered.contains(controller), "{offered:?}");
    }
    offered
}

#[test]
fn a_limit_is_in_force_or_refused() {
    let machine = Machine::of(Who::Root);
    let offered = controllers(&machine);
    for (options, controller, file, value) in [
        ("-m 64m", "memory", "memory.max", "67108864"),
        ("-m 64m", "memory", "memory.swap.max", "0"),
        (
            "-m 64m --memory-swap 96m",
            "memory",
            "memory.swap.max",
            "33554432",
        ),
        (
            "-m 64m --memory-swap -1",
            "memory",
            "memory.swap.max",
            "max",
        ),
        (
            "--memory-reservation 32m",
            "memory",
            "memory.low",
            "33554432",
        ),
        ("--cpus 0.5", "cpu", "cpu.max", "50000 100000"),
        (
            "--cpu-quota 20000 --cpu-period 50000",
            "cpu",
            "cpu.max",
            "20000 50000",
        ),
        ("--cpuset-cpus 0", "cpuset", "cpuset.cpus", "0"),
        ("--cpuset-mems 0", "cpuset", "cpuset.mems", "0"),
        ("--pids-limit 64", "pids", "pids.max", "64"),
        ("--pids-limit -1", "", "cgroup.type", "domain"),
    ] {
        let read = format!("cat /sys/fs/cgroup/{file}");
        let line = format!("run --rm --network none {options} host {read}");
        if controller.is_empty() || offered.contains(controller) {
            assert_eq!(machine.ok(&line), value, "{options}");
        } else {
            println!("LIMITS ARE NOT SEEN HERE, for want of {controller}: `cargo lab vm` has it");
            let said = machine.fails(125, &line);
            assert!(
                said.contains(&format!("the {controller} controller")),
                "{options}: {said}"
            );
        }
    }
    machine.nothing_left();
}

#[test]
#[ignore = "the virtual machine has a memory controller"]
fn who_takes_more_memory_than_there_is_is_killed_and_that_is_told() {
    let machine = Machine::of(Who::Root);
    let script = "head -c 100000000 /dev/zero | tail -c 99999999 >/dev/null; exit $?";
    let words = shell("run --name aa -m 24m --network none host", script);
    assert_eq!(machine.minidocker(&words).code(), 137);
    let life = machine.container("aa").state()["life"].clone();
    assert_eq!(
        (&life["oom_killed"], &life["exit_code"]),
        (&true.into(), &137.into())
    );
    machine.nothing_left();
}

#[test]
#[ignore = "the virtual machine has a pids controller"]
fn a_fork_bomb_stays_where_it_is() {
    let machine = Machine::of(Who::Root);
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done; echo forked";
    let words = shell("run --rm --pids-limit 8 --network none host", script);
    let out = machine.minidocker(&words);
    assert!(!out.text().contains("forked") && out.code() != 0, "{out}");
    // A full container takes one more command from outside all the same.
    machine.ok("run -d --name full --pids-limit 1 --network none host sleep 1000");
    let cgroup = machine.ok(&["exec", "full", "cat", "/proc/self/cgroup"]);
    assert!(cgroup.ends_with("0::/"), "{cgroup}");
    machine.no_container_left();
    machine.nothing_left();
}
