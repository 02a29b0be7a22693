//! Many at once, and places that are full.

use std::collections::BTreeSet;
use std::fs;

use harness::Running;
use harness::engine::Machine;

use crate::{Bystander, addresses, assert_addresses, link, online};

/// Starts a container in a network; it fails with a sentence.
#[track_caller]
fn refused(machine: &Machine, options: &str, words: &[&str]) {
    let said = machine.fails(125, &format!("run --rm {options} host true"));
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn fifty_who_start_at_once_have_fifty_addresses() {
    let machine = online();
    let bystander = Bystander::new(&machine);
    let all: Vec<Running> = (0..50)
        .map(|n| format!("run -d --name c{n} --network red -p 80 host sleep 1000"))
        .map(|line| machine.spawn(&line))
        .collect();
    for one in all {
        one.wait().ok();
    }
    let all: BTreeSet<String> = (0..50)
        .flat_map(|n| addresses(&machine, &format!("c{n}")))
        .collect();
    assert_eq!(all.len(), 50);
    assert_addresses(&machine);
    for (from, to) in [(0, 49), (49, 0), (17, 31)] {
        machine.ok(&format!("exec c{from} ping -c1 -W20 c{to}"));
    }
    bystander.leaves();
}

#[test]
fn a_network_that_is_full_says_so_and_an_address_is_one_containers() {
    let machine = online();
    let bystander = Bystander::new(&machine);
    machine.ok("network create --subnet 10.79.0.0/29 tiny");
    machine.ok("run -d --name c0 --network tiny --ip 10.79.0.4 host sleep 1000");
    refused(
        &machine,
        "--network tiny --ip 10.79.0.4",
        &["Address already in use: 10.79.0.4"],
    );
    refused(&machine, "--network tiny --ip 10.79.0.1", &["10.79.0.1"]);
    refused(&machine, "--network tiny --ip 10.79.0.0", &["10.79.0.0"]);
    refused(&machine, "--network tiny --ip 10.79.0.7", &["10.79.0.7"]);
    refused(&machine, "--network tiny --ip 10.78.0.4", &["10.78.0.4"]);
    for n in 1..5 {
        machine.ok(&format!(
            "run -d --name c{n} --network tiny host sleep 1000"
        ));
    }
    refused(&machine, "--network tiny", &["10.79.0.0/29"]);
    let said = machine.fails(1, "network connect tiny bystander");
    assert!(said.contains("10.79.0.0/29"), "{said}");
    assert_addresses(&machine);
    machine.ok("rm -f c2");
    machine.ok("run -d --name c5 --network tiny host sleep 1000");
    // Who was promised an address gets it back, or hears who has it.
    machine.ok("stop -t 0 c0");
    machine.ok("run -d --name c6 --network tiny --ip 10.79.0.4 host sleep 1000");
    let said = machine.fails(1, "start c0");
    assert!(said.contains("10.79.0.4"), "{said}");
    machine.ok("rm -f c6");
    machine.ok("start c0");
    assert_eq!(addresses(&machine, "c0"), ["10.79.0.4"]);
    assert_addresses(&machine);
    for n in [0, 1, 3, 4, 5] {
        machine.ok(&format!("rm -f c{n}"));
    }
    machine.ok("network rm tiny");
    bystander.leaves();
}

/// Runs commands of ip(8).
#[track_caller]
fn batch(machine: &Machine, lines: impl Iterator<Item = String>) {
    let host = machine.host();
    fs::write(host.path("/tmp/batch"), lines.collect::<String>()).expect("write commands");
    host.shell("ip -batch /tmp/batch; rm /tmp/batch");
}

#[test]
fn a_bridge_with_no_port_left_says_so() {
    let machine = online();
    let bystander = Bystander::new(&machine);
    machine.ok("network create --subnet 10.80.0.0/16 big");
    machine.ok("run -d --name one --network big host sleep 1000");
    let big = link(&machine, "big");
    // A bridge has 1023: ten bits, and 0 is none.
    let pairs = (0..511).map(|n| format!("link add a{n} type veth peer b{n}\n"));
    let ends = (0..511).flat_map(|n| [format!("a{n}"), format!("b{n}")]);
    let plugged = ends
        .take(1021)
        .map(|end| format!("link set {end} master {big}\n"));
    batch(&machine, pairs.chain(plugged));
    machine.ok("run -d --name two --network big host sleep 1000");
    refused(&machine, "--network big", &["1023"]);
    let said = machine.fails(1, "network connect big bystander");
    assert!(said.contains("1023"), "{said}");
    assert_addresses(&machine);
    machine.ok("exec one ping -c1 -W20 two");
    batch(&machine, (0..511).map(|n| format!("link del a{n}\n")));
    machine.ok("rm -f one two");
    machine.ok("network rm big");
    bystander.leaves();
}

#[test]
fn a_subnet_that_the_host_has_a_way_to_is_refused() {
    let machine = online();
    let host = machine.host();
    let bystander = Bystander::new(&machine);
    let said = machine.fails(1, "network create --subnet 192.0.2.0/25 near");
    assert!(said.contains("192.0.2.0"), "{said}");
    // One that came later.
    machine.ok("network create --subnet 10.81.0.0/24 later");
    host.shell("ip route add 10.81.0.128/25 via 192.0.2.2");
    refused(&machine, "--network later", &["10.81.0.0/24"]);
    let said = machine.fails(1, "network connect later bystander");
    assert!(said.contains("10.81.0.0/24"), "{said}");
    host.shell("ip route del 10.81.0.128/25");
    machine.ok("run --rm --network later host true");
    machine.ok("network rm later");
    bystander.leaves();
}
