//! Faults: commands, shims and first processes that are killed at any moment, calls that fail, disks
//! that are full, files that make no sense, crowds, and pids that were others' before. Afterwards `ps`
//! tells the truth, nothing is left, and a bystander has not noticed.
//!
//! The wall clock cannot be moved for some processes alone, a time namespace knows no CLOCK_REALTIME:
//! in its place state is written that comes from the future.

mod calls;
mod crowd;
mod damage;
mod disk;
mod kills;
mod pids;

use harness::engine::{Container, Machine};
use harness::wait_for;

/// A container that counts, and is nobody's business.
struct Bystander<'a> {
    machine: &'a Machine,
    init: i32,
    shim: i32,
}

impl<'a> Bystander<'a> {
    fn new(machine: &'a Machine) -> Bystander<'a> {
        let count = "n=0; while :; do n=$((n + 1)); echo $n; sleep 0.1; done";
        let words = "run -d --name bystander --network none host sh -c".split(' ');
        machine.ok(&words.chain([count]).collect::<Vec<_>>());
        let container = machine.container("bystander");
        Bystander {
            machine,
            init: container.init().pid,
            shim: container.shim().expect("a shim"),
        }
    }

    fn container(&self) -> Container<'a> {
        self.machine.container("bystander")
    }

    /// Its processes are those that it always had.
    #[track_caller]
    fn lives(&self) {
        let container = self.container();
        assert_eq!(container.status(), "running");
        assert_eq!(container.init().pid, self.init);
        assert!(container.process(self.shim).is_some(), "its shim is gone");
    }

    /// The same, it counts on, and its log has every number.
    #[track_caller]
    fn is_unharmed(&self) {
        self.lives();
        let container = self.container();
        let count = || container.log().lines().count();
        let before = count();
        wait_for("the bystander to count on", 60, || {
            (count() > before).then_some(())
        });
        let log = container.log();
        let in_order = log.lines().zip(1..).all(|(line, n)| line == n.to_string());
        assert!(in_order, "{log}");
        let listed = self
            .machine
            .ok("ps --filter name=bystander --format {{.State}}");
        assert_eq!(listed, "running");
    }
}
