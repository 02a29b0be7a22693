//! What somebody else takes away or spoils.

use std::fs;

use harness::engine::{Machine, shell};
use harness::wait_for;

use crate::{Bystander, SERVER, addresses, assert_addresses, leases, link, online};

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
        assert!(miss_each_other(&machine) || bystander.is_silent(), "{what}");
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

/// The links, addresses and routes of a container, each as the kernel has them.
fn inside(machine: &Machine, name: &str) -> Vec<String> {
    let pid = machine.container(name).init().pid;
    let asked = ["link", "-4 addr", "-6 addr", "route", "-6 route"].map(|question| {
        // Numbers are new, and counters go on.
        let script =
            format!("nsenter -t {pid} -n ip -o {question} | sed 's/^[0-9]*: //;s/@if[0-9]*//;s/ tentative//'");
        let mut lines: Vec<_> = (machine.host().shell(&script).lines())
            .map(|line| line.split(" qdisc ").next().unwrap_or_default().to_owned())
            .collect();
        lines.sort();
        lines.join("\n")
    });
    asked.into()
}

#[test]
fn cables_that_are_gone_altogether_are_laid_again_as_they_were() {
    let machine = online();
    let host = machine.host();
    let bystander = Bystander::new(&machine);
    machine.ok("network create --ipv6 --subnet 10.77.0.0/24 --subnet fd00:77::/64 blue");
    machine.ok("network create --internal deep");
    machine.ok(&shell(
        "run -d --name one --network deep --network blue --network red -p 8090:80 host",
        SERVER,
    ));
    machine.ok("run -d --name two --network red host sleep 1000");
    machine.ok("run -d --name alone -p 8091:80 host busybox httpd -f -p 80 -h /etc");
    let seen = || ["one", "alone"].map(|name| inside(&machine, name));
    let before = seen();
    assert!(
        before[0][4].contains("default via fd00:77::1"),
        "{before:?}"
    );
    let answers = |port: u16| {
        let url = format!("http://192.0.2.1:{port}/hostname");
        let curl = ["curl", "-sS", "--noproxy", "*", "-m3", "-o/dev/null", &url];
        host.outside(curl).code() == 0
    };
    let cables = "ip -br link | grep -o '^veth[0-9a-f]*'";
    for (what, script) in [
        ("all", format!("{cables} | xargs -n1 ip link del")),
        (
            "the way out",
            "nsenter -t $PID -n ip link del eth1; ip link del mini0".to_owned(),
        ),
        (
            "and bridges and rules",
            format!(
                "{cables} | xargs -n1 ip link del; nft flush ruleset
                 ip -br link show type bridge | cut -d' ' -f1 | xargs -n1 ip link del"
            ),
        ),
    ] {
        println!("{what}");
        let pid = machine.container("one").init().pid;
        host.shell(&format!("PID={pid}; {script}"));
        assert!(!answers(8090), "{what}");
        let told = machine.ok("network reload");
        assert_eq!(told.lines().count(), 4, "{told}");
        // The kernel tells links of each other when it finds the time.
        wait_for(&format!("{what} to be as before: {before:#?}"), 60, || {
            let now = seen();
            (now == before).then_some(()).or_else(|| {
                println!("{now:#?}");
                None
            })
        });
        wait_for(what, 60, || {
            (meet(&machine) && answers(8090) && answers(8091)).then_some(())
        });
        machine.ok("exec one ping -c1 -W20 192.0.2.2");
        bystander.is_unharmed();
        assert_addresses(&machine);
    }

    // A link in the container's way, a shim that is stopped, and one that is killed meanwhile: that is
    // told, and the others have their cables.
    let stopped = machine.container("two").shim().expect("a shim");
    let killed = machine.container("alone").shim().expect("a shim");
    let pid = machine.container("one").init().pid;
    host.shell(&format!(
        "kill -STOP {stopped} {killed}; {cables} | xargs -n1 ip link del
         nsenter -t {pid} -n ip link add eth0 type bridge"
    ));
    let reload = machine.spawn("network reload");
    // Asked anew all the time: a call from before the cable was there would take seconds.
    wait_for("the bystander to answer", 60, || {
        (!bystander.is_silent()).then_some(())
    });
    host.shell(&format!("kill -9 {killed}"));
    let said = reload.wait();
    assert_eq!(said.code(), 1, "{said}");
    let said = said.errors();
    assert!(
        said.contains("the shim of container two does not answer"),
        "{said}"
    );
    assert!(said.contains("lay the cable to network deep"), "{said}");
    assert!(!said.contains("alone"), "{said}");
    host.shell(&format!(
        "kill -CONT {stopped}; nsenter -t {pid} -n ip link del eth0"
    ));
    machine.ok("network reload two one");
    wait_for("all to be well", 60, || {
        (meet(&machine) && answers(8090)).then_some(())
    });
    machine.ok("rm -f one two alone");
    machine.ok("network rm blue deep");
    // A router of IPv6 is what this host has become, and stays.
    host.shell("echo 0 >/proc/sys/net/ipv6/conf/all/forwarding");
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
