//! What somebody else takes away or spoils.

use std::fs;

use harness::engine::Machine;
use harness::wait_for;

use crate::{Bystander, addresses, assert_addresses, leases, link, online};

/// Two who know each other by name, in the network red.
fn pair(machine: &Machine) {
    for name in ["one", "two"] {
        machine.ok(&format!(
            "run -d --name {name} --network red host sleep 1000"
        ));
    }
}

fn meet(machine: &Machine) -> bool {
    let out = machine.minidocker("exec one ping -c1 -W20 two");
    out.code() == 0
}

fn miss_each_other(machine: &Machine) -> bool {
    let out = machine.minidocker("exec one ping -c1 -W1 two");
    out.code() != 0
}

#[test]
fn a_bridge_and_rules_that_somebody_removed_are_made_anew() {
    let machine = online();
    let host = machine.host();
    let bystander = Bystander::new(&machine);
    pair(&machine);
    let rules = || {
        let text = host.shell("nft list ruleset");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let before = (rules(), addresses(&machine, "one"));
    let red = link(&machine, "red");
    for (what, script) in [
        ("a bridge", format!("ip link del {red}")),
        ("rules", "nft flush ruleset".to_owned()),
        ("both", format!("ip link del {red}; nft flush ruleset")),
        (
            "cables",
            format!(
                "ip -br link show master {red} | cut -d@ -f1 | xargs -n1 ip link set nomaster dev"
            ),
        ),
        ("an address", format!("ip address flush dev {red}")),
    ] {
        println!("{what}");
        assert!(meet(&machine));
        host.shell(&script);
        assert!(
            miss_each_other(&machine) || bystander.is_silent(),
            "{what}"
        );
        let told = machine.ok("network reload");
        assert_eq!(told.lines().count(), 3, "{told}");
        assert!(meet(&machine), "{what}");
        bystander.is_unharmed();
        machine.ok("exec one ping -c1 -W20 192.0.2.2");
        assert_eq!((rules(), addresses(&machine, "one")), before, "{what}");
        assert_addresses(&machine);
    }
    // Without a reload, the next who comes brings back what they need.
    host.shell("nft flush ruleset");
    machine.ok("run --rm --network red host ping -c1 -W20 192.0.2.2");
    // Who leaves a bridge that is gone leaves as usual.
    host.shell(&format!("ip link del {red}"));
    machine.ok("rm -f one two");
    machine.ok("network reload");
    bystander.leaves();
}

#[test]
fn leases_that_make_no_sense_harm_nobody() {
    let machine = online();
    let bystander = Bystander::new(&machine);
    pair(&machine);
    let leased = machine
        .run()
        .join("network")
        .join(link(&machine, "red"))
        .join("leases");
    let one = leased.join(&addresses(&machine, "one")[0]);
    for text in ["", "\0", "ffff", "no container\n", &"x".repeat(100_000)] {
        fs::write(&one, text).expect("write a lease");
        // Nobody holds this one.
        fs::write(leased.join("10.255.255.1"), text).expect("write a lease");
        machine.ok("run -d --name three --network red host sleep 1000");
        assert_ne!(addresses(&machine, "three"), addresses(&machine, "one"));
        machine.ok("network inspect red");
        machine.ok("network connect green one");
        machine.ok("network disconnect green one");
        machine.ok("network reload");
        machine.ok("rm -f three");
        assert_addresses(&machine);
        bystander.is_unharmed();
    }
    // Who has no address for a name is no lease.
    for name in ["x", "10.0.0.0.1", ".hidden"] {
        fs::write(leased.join(name), "x").expect("write what is no lease");
    }
    machine.ok("run --rm --network red host ping -c1 -W20 two");
    for name in ["x", "10.0.0.0.1", ".hidden"] {
        fs::remove_file(leased.join(name)).ok();
    }
    assert_addresses(&machine);
    machine.ok("restart -t 0 one");
    assert!(meet(&machine));
    // What says where the host is in its network.
    let place = leased.with_file_name("subnet");
    let before = fs::read(&place).expect("the subnet");
    for text in ["", "x", "10.0.0.0/99"] {
        fs::write(&place, text).expect("write a subnet");
        let out = machine.minidocker("run --rm --network red host true");
        assert!(!out.errors().contains("panicked"), "{out}");
        assert!(out.code() == 0 || out.errors().contains("subnet"), "{out}");
        bystander.is_unharmed();
    }
    fs::write(&place, before).expect("write a subnet");
    machine.ok("rm -f one two");
    assert_eq!(leases(&machine).len(), 2);
    bystander.leaves();
}

#[test]
fn a_killed_keeper_of_names_is_replaced() {
    let machine = online();
    let host = machine.host();
    let bystander = Bystander::new(&machine);
    pair(&machine);
    for _ in 0..3 {
        assert!(meet(&machine));
        // Who wanted to be one, and found another, takes a moment to end.
        let keeper = wait_for("one keeper", 60, || {
            let mut keepers = machine.processes();
            keepers.retain(|it| it.name == "minidocker-keep");
            keepers.pop().filter(|_| keepers.is_empty())
        });
        host.shell(&format!("kill -9 {}", keeper.pid));
        wait_for("names to be known again", 60, || {
            (!miss_each_other(&machine)).then_some(())
        });
        // And to those who come then.
        machine.ok("run --rm --network red host ping -c1 -W20 two");
    }
    bystander.leaves();
}
