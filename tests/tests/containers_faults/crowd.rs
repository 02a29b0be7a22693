//! Many who do the same at once.

use harness::engine::kills::listed;
use harness::engine::{Machine, Who};
use harness::{Output, Running, wait_for};

use crate::Bystander;

/// Runs commands at the same time, and waits for all.
fn at_once(machine: &Machine, lines: &[String]) -> Vec<Output> {
    let running: Vec<_> = lines.iter().map(|line| machine.spawn(line)).collect();
    running.into_iter().map(Running::wait).collect()
}

fn times(n: usize, line: &str) -> Vec<String> {
    (0..n).map(|n| line.replace('N', &n.to_string())).collect()
}

fn successes(all: &[Output]) -> usize {
    all.iter().filter(|out| out.code() == 0).count()
}

#[test]
fn ten_who_start_one_container_start_it_once() {
    for who in [Who::Root, Who::Student] {
        let machine = Machine::of(who);
        let bystander = Bystander::new(&machine);
        for _ in 0..3 {
            machine.ok("create --name one --network none host sleep 1000");
            let all = at_once(&machine, &times(10, "start one"));
            // To start what runs is nothing to complain of.
            assert_eq!(successes(&all), 10, "{all:#?}");
            assert_eq!(machine.shims().len(), 2, "{:?}", machine.shims());
            let sleeps = machine.processes();
            let sleeps = sleeps.iter().filter(|it| it.line == "sleep 1000");
            assert_eq!(sleeps.count(), 1);
            // Two who remove it at once both get what they want, or one hears of the other.
            let all = at_once(&machine, &times(2, "rm -f one"));
            assert!(successes(&all) >= 1, "{all:#?}");
            for out in all.iter().filter(|out| out.code() != 0) {
                assert!(out.errors().contains("already in progress"), "{out}");
            }
            assert_eq!(machine.ids().len(), 1);
        }
        bystander.is_unharmed();
        machine.nothing_left();
    }
}

#[test]
fn of_many_who_want_one_name_one_gets_it() {
    let machine = Machine::of(Who::Root);
    for _ in 0..3 {
        let all = at_once(&machine, &times(8, "create --name one host true"));
        assert_eq!(successes(&all), 1, "{all:#?}");
        for out in all.iter().filter(|out| out.code() != 0) {
            assert!(out.exits(1).contains("is already in use"), "{out}");
        }
        assert_eq!(machine.ids().len(), 1, "nobody else has left a container");
        machine.ok("rm one");
    }
    machine.nothing_left();
}

#[test]
fn whatever_is_done_to_one_container_at_once_ends_in_a_state() {
    let machine = Machine::of(Who::Root);
    let bystander = Bystander::new(&machine);
    for _ in 0..5 {
        machine.ok("run -d --name one host sleep 1000");
        let lines = [
            "stop -t 0 one",
            "kill one",
            "restart -t 0 one",
            "pause one",
            "unpause one",
            "exec one true",
            "start one",
            "ps -a",
        ];
        let all = at_once(&machine, &lines.map(str::to_owned));
        for out in &all {
            // Who is executed may be killed, or its container paused in this moment.
            assert!([0, 1, 125, 126, 137].contains(&out.code()), "{out}");
            assert!(!out.errors().contains("panicked"), "{out}");
        }
        // Whoever has just ended is listed as running until its shim has noticed.
        wait_for(&format!("a state after {all:#?}"), 60, || {
            let state = listed(&machine, "one");
            let lives = ["running", "paused"].map(|state| [("one".to_owned(), state.to_owned())]);
            let lives = lives.iter().any(|lives| *lives == *state);
            (machine.shims().len() == 1 + usize::from(lives)).then_some(())
        });
        machine.ok("rm -f one");
    }
    bystander.is_unharmed();
    machine.nothing_left();
}

#[test]
fn a_container_outlives_more_callers_than_its_shim_can_hear() {
    let machine = Machine::of(Who::Root);
    let script = "(ulimit -Sn 64; minidocker run -d --name one --network none host sleep 1000)
        pid=$(minidocker inspect -f '{{.State.Pid}}' one); shim=$(cut -d' ' -f4 /proc/$pid/stat)
        for n in $(seq 80); do minidocker wait one >/dev/null & done
        until test $(ls /proc/$shim/fd | wc -l) -ge 64; do test -d /proc/$shim || exit 1; done
        kill $(jobs -p); wait
        minidocker exec one true && test -d /proc/$pid";
    machine.script(script).ok();
    machine.nothing_left();
}

#[test]
fn fifty_containers_live_at_once() {
    let machine = Machine::of(Who::Root);
    let all = at_once(&machine, &times(50, "run -d --name cN host sleep 1000"));
    assert_eq!(successes(&all), 50, "{all:#?}");
    let listed = listed(&machine, "c");
    assert_eq!(listed.len(), 50);
    assert!(
        listed.iter().all(|(_, state)| state == "running"),
        "{listed:?}"
    );
    assert_eq!(machine.shims().len(), 50);
    let mut addresses: Vec<String> = (0..50)
        .map(|n| machine.container(&format!("c{n}")).state())
        .map(|state| state["life"]["networks"]["bridge"]["address"].to_string())
        .collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 50, "{addresses:?}");
    let all = at_once(&machine, &times(50, "exec cN hostname"));
    assert_eq!(successes(&all), 50, "{all:#?}");
    let all = at_once(&machine, &times(50, "rm -f cN"));
    assert_eq!(successes(&all), 50, "{all:#?}");
    machine.nothing_left();
}

#[test]
fn whoever_asks_a_stopped_shim_is_told_so_and_it_does_what_they_want_when_it_goes_on() {
    let machine = Machine::of(Who::Root);
    machine.ok("network create front");
    machine.ok("run -d --name one host sleep 1000");
    let shim = machine.container("one").shim().expect("a shim");
    machine.host().shell(&format!("kill -STOP {shim}"));
    let lines = [
        "kill -s HUP one",
        "pause one",
        "exec one true",
        "network connect front one",
        "network disconnect bridge one",
        "stop -t 0 one",
    ];
    for out in at_once(&machine, &lines.map(str::to_owned)) {
        let said = out.errors();
        assert_ne!(out.code(), 0, "{out}");
        assert!(
            said.contains("one does not answer: it is stopped")
                && said.contains(&format!("kill -CONT {shim}")),
            "{out}"
        );
    }
    assert_eq!(machine.container("one").status(), "running");
    machine.host().shell(&format!("kill -CONT {shim}"));
    wait_for("the container to end", 60, || {
        (machine.container("one").status() == "exited").then_some(())
    });
    machine.ok("rm one");
    machine.ok("network rm front");
    machine.nothing_left();
}
