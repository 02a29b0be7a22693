//! Faults of networks: commands and shims that are killed at any moment, links and rules that somebody
//! else removes, leases that make no sense, crowds, and all that can be full. Afterwards nothing is
//! left, no address is given twice, and a bystander has not noticed.

mod crowd;
mod damage;
mod kills;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};

use harness::engine::{Machine, Wanted, shell};
use harness::wait_for;

/// Root's machine, with a network behind it.
fn online() -> Machine {
    Machine::with(Wanted {
        outside: true,
        ..Wanted::default()
    })
}

/// Answers on port 80.
const SERVER: &str = "mkdir /dev/shm/www && echo hello >/dev/shm/www/index.html && exec busybox httpd -f -p 80 -h /dev/shm/www";

/// A container in the networks red and green, which answers, and is nobody's business.
struct Bystander<'a> {
    machine: &'a Machine,
    init: i32,
    addresses: Vec<String>,
}

impl<'a> Bystander<'a> {
    /// Makes both networks, and the container.
    fn new(machine: &'a Machine) -> Bystander<'a> {
        machine.ok("network create red");
        machine.ok("network create green");
        let words = "run -d --name bystander --network red --network green -p 8080:80 host";
        machine.ok(&shell(words, SERVER));
        let it = Bystander {
            machine,
            init: machine.container("bystander").init().pid,
            addresses: addresses(machine, "bystander"),
        };
        wait_for("the bystander to answer", 60, || it.answers().then_some(()));
        it
    }

    fn says(&self, seconds: u8) -> String {
        let curl = format!("curl -sS --noproxy * -m{seconds} http://192.0.2.1:8080/");
        self.machine.host().outside(curl.split(' ')).text()
    }

    fn answers(&self) -> bool {
        self.says(20) == "hello"
    }

    fn is_silent(&self) -> bool {
        self.says(1).is_empty()
    }

    /// Its process and addresses are those that it always had, and it answers.
    #[track_caller]
    fn is_unharmed(&self) {
        assert_eq!(self.machine.container("bystander").init().pid, self.init);
        assert_eq!(addresses(self.machine, "bystander"), self.addresses);
        assert!(self.answers(), "the bystander cannot be reached");
    }

    /// The same; then it goes, with its networks and everything else.
    #[track_caller]
    fn leaves(self) {
        self.is_unharmed();
        self.machine.no_container_left();
        self.machine.ok("network rm red green");
        self.machine.nothing_left();
    }
}

/// A container's addresses, as its state has them.
#[track_caller]
fn addresses(machine: &Machine, name: &str) -> Vec<String> {
    let state = machine.container(name).state();
    let networks = state["life"]["networks"].as_object();
    let networks = networks.into_iter().flatten();
    networks
        .filter_map(|(_, network)| Some(network["address"].as_str()?.to_owned()))
        .collect()
}

/// The name of a network's bridge.
#[track_caller]
fn link(machine: &Machine, network: &str) -> String {
    let id = machine.ok(&["network", "inspect", "--format", "{{.Id}}", network]);
    format!("mini-{}", &id[..10])
}

/// The leases that are there, of all networks.
fn leases(machine: &Machine) -> BTreeSet<String> {
    let networks = fs::read_dir(machine.run().join("network"));
    let networks = networks.into_iter().flatten().flatten();
    let leases = networks.flat_map(|network| fs::read_dir(network.path().join("leases")));
    leases
        .flatten()
        .flatten()
        .filter_map(|lease| lease.file_name().into_string().ok())
        .collect()
}

/// Sees that every address is leased and is one container's, that nobody who has ended has one, and
/// that each container has as many links as it is in networks.
#[track_caller]
fn assert_addresses(machine: &Machine) {
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    let running = machine.ok("ps --no-trunc --format {{.Names}}");
    for name in running.lines() {
        let addresses = addresses(machine, name);
        let pid = machine.container(name).init().pid;
        let devices = machine.host().path(&format!("/proc/{pid}/net/dev"));
        // Who ends meanwhile has none.
        if let Ok(devices) = fs::read_to_string(devices) {
            let cables = devices.matches("eth").count();
            assert_eq!(cables, addresses.len(), "{name}: {addresses:?}\n{devices}");
        }
        for address in addresses {
            let other = owners.insert(address.clone(), name.to_owned());
            assert!(other.is_none(), "{address} is {name}'s and {other:?}'s");
        }
    }
    let owned: BTreeSet<String> = owners.into_keys().collect();
    let until = Instant::now() + Duration::from_secs(60);
    while leases(machine) != owned {
        assert!(
            Instant::now() < until,
            "leases {:?}, and addresses of containers {owned:?}",
            leases(machine)
        );
        // The next command sees who has ended.
        machine.ok("ps");
    }
}
