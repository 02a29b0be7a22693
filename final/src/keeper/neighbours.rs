//! Who is called what, and lives where: the leases of the networks that people made, joined with what
//! their containers' states say.
//!
//! ```text
//! DATA/networks/ID.json                  which networks there are
//! RUN/network/LINK/leases/ADDRESS        who lives there: [`network::bridge::Bridge::residents`]
//! DATA/containers/ID/state.json          their names: who is renamed is so at once
//! ```
//!
//! To read all of that for each question would be right, and slow. So it is read once, and the kernel
//! is asked before each answer whether any of it has changed since (inotify(7)): one call that finds
//! nothing. An event is there when the change is, so that the very next question sees it.
//!
//! One change makes no event: a shim that dies of kill -9 leaves its lease behind. But its connection
//! to the keeper ends with it.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use cli::Dirs;
use ipnetwork::{Ipv4Network, Ipv6Network};
use network::bridge::Resident;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use crate::state::{Container, Network, Places};

/// Those of all containers, kept as long as nothing changes.
#[derive(Debug)]
pub(super) struct Directory {
    dirs: Dirs,
    now: RefCell<Option<Rc<Neighbours>>>,
    /// How often each container is registered: twice for a moment, where one has come back.
    registered: RefCell<HashMap<String, usize>>,
    /// Those who were registered, and whose lease may still be there.
    gone: RefCell<HashSet<String>>,
}

/// All that is known at one moment.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    watch: Option<OwnedFd>,
    /// The networks, by their names.
    rooms: Vec<Room>,
    /// What those who live there want of us.
    people: HashMap<String, Person>,
}

/// One network, as far as names go.
#[derive(Debug)]
pub(super) struct Room {
    /// The network's name.
    pub(super) name: String,
    pub(super) internal: bool,
    pub(super) subnet: Option<Ipv4Network>,
    pub(super) subnet6: Option<Ipv6Network>,
    /// Who lives there, and what they are called there.
    pub(super) residents: Vec<(Resident, Vec<String>)>,
}

/// What a container says of itself.
#[derive(Debug)]
struct Person {
    /// What it is called first of all.
    name: String,
    /// The networks that it is to be in, its mode's first.
    memberships: Vec<String>,
    /// `--dns`.
    servers: Vec<SocketAddr>,
}

/// Whom a container's other questions go to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Others {
    /// Nobody: it has no way out.
    Nobody,
    /// The host's own resolvers.
    OfHost,
    /// Those that it wants.
    These(Vec<SocketAddr>),
}

/// Whose an address is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Owner<'a> {
    /// A container's: its name, its short id, and the network.
    Container(&'a str, &'a str, &'a str),
    /// Nobody's, in a network that the asker is in.
    Nobody,
    /// Not ours to know.
    Elsewhere,
}

impl Directory {
    pub(super) fn new(dirs: &Dirs) -> Directory {
        Directory {
            dirs: dirs.clone(),
            now: RefCell::default(),
            registered: RefCell::default(),
            gone: RefCell::default(),
        }
    }

    /// A container has registered.
    pub(super) fn came(&self, id: &str) {
        *self
            .registered
            .borrow_mut()
            .entry(id.to_owned())
            .or_default() += 1;
        self.gone.borrow_mut().remove(id);
        self.now.take();
    }

    /// A registration has ended.
    pub(super) fn left(&self, id: &str) {
        let mut registered = self.registered.borrow_mut();
        match registered.get_mut(id) {
            Some(times @ 2..) => *times -= 1,
            _ => {
                registered.remove(id);
                self.gone.borrow_mut().insert(id.to_owned());
            }
        }
        self.now.take();
    }

    /// How it is now.
    pub(super) fn now(&self) -> Rc<Neighbours> {
        let mut now = self.now.borrow_mut();
        if let Some(known) = now.as_ref().filter(|known| !known.has_changed()) {
            return Rc::clone(known);
        }
        let mut gone = self.gone.borrow_mut();
        let registered = self.registered.borrow().keys().cloned().collect();
        let read = Rc::new(Neighbours::read(&self.dirs, registered, &mut gone));
        *now = Some(Rc::clone(&read));
        read
    }
}

impl Neighbours {
    /// Reads it all, of those who are `registered` as well whose lease makes no sense. What cannot be
    /// read is not there. Of those who are `gone` only they stay whose leases do.
    fn read(dirs: &Dirs, registered: HashSet<String>, gone: &mut HashSet<String>) -> Neighbours {
        // First the watch: what changes while it is read makes an event.
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        let mut watch = inotify::init(flags).ok();
        let replaced = WatchFlags::MOVED_TO;
        let listed = replaced | WatchFlags::CREATE | WatchFlags::DELETE;
        look_at(&mut watch, &dirs.data.join("networks"), listed);

        let mut rooms = Vec::new();
        let mut leaseholders = HashSet::new();
        for network in Network::all(dirs).unwrap_or_default() {
            let Ok(bridge) = network.bridge(dirs) else {
                continue;
            };
            let leases = dirs.run.join("network").join(network.link()).join("leases");
            look_at(&mut watch, &leases, listed | WatchFlags::MODIFY);
            let mut residents = bridge.residents().unwrap_or_default();
            leaseholders.extend(residents.iter().map(|resident| resident.id.clone()));
            residents.retain(|resident| !gone.contains(&resident.id));
            rooms.push((network, residents));
        }
        gone.retain(|id| leaseholders.contains(id));

        let mut containers = HashMap::new();
        for id in leaseholders.into_iter().chain(registered) {
            let places = Places::of(dirs, &id);
            look_at(&mut watch, &places.data, replaced);
            if let Ok(container) = places.read() {
                containers.insert(id, container);
            }
        }
        let rooms = rooms.into_iter();
        Neighbours {
            watch,
            rooms: rooms
                .map(|(network, residents)| Room::new(network, residents, &containers))
                .collect(),
            people: containers
                .into_iter()
                .map(|(id, container)| (id, Person::new(&container)))
                .collect(),
        }
    }

    /// Whether it is otherwise by now. Where the host has no watches left, it may always be.
    fn has_changed(&self) -> bool {
        let Some(watch) = &self.watch else {
            return true;
        };
        rustix::io::read(watch, &mut [0; 1024]) != Err(Errno::AGAIN)
    }

    /// Who is called `name` (in lower case, without a dot at its end) among those whom the asker
    /// sees: a name, or a name, a dot and the network's.
    pub(super) fn called(&self, asker: &str, name: &str) -> Vec<&Resident> {
        for room in self.rooms_of(asker) {
            let within = name
                .strip_suffix(&room.name.to_ascii_lowercase())
                .and_then(|name| name.strip_suffix('.'));
            let found = room.called(name, within);
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }

    /// Whose an address is.
    pub(super) fn owner(&self, asker: &str, address: IpAddr) -> Owner<'_> {
        let mut owner = Owner::Elsewhere;
        for room in self.rooms_of(asker) {
            if let Some(resident) = room.at(address) {
                let short = resident.id.get(..12).unwrap_or(&resident.id);
                let person = self.people.get(&resident.id);
                let name = person.map_or(short, |person| &person.name);
                return Owner::Container(name, short, &room.name);
            }
            if room.has(address) {
                owner = Owner::Nobody;
            }
        }
        owner
    }

    /// Whom the asker's other questions go to.
    pub(super) fn others(&self, asker: &str) -> Others {
        let Some(person) = self.people.get(asker) else {
            return Others::Nobody;
        };
        // Of a network whose file cannot be read nobody knows whether it leads out.
        let leads_out = |name: &String| {
            let mut rooms = self.rooms.iter();
            name == Network::DEFAULT || rooms.any(|room| room.name == *name && !room.internal)
        };
        if !person.memberships.iter().any(leads_out) {
            return Others::Nobody;
        }
        match person.servers.is_empty() {
            true => Others::OfHost,
            false => Others::These(person.servers.clone()),
        }
    }

    /// The networks that somebody lives in, in the order in which they are theirs.
    fn rooms_of(&self, id: &str) -> Vec<&Room> {
        let lives = |room: &&Room| room.residents.iter().any(|(resident, _)| resident.id == id);
        let mut rooms: Vec<_> = self.rooms.iter().filter(lives).collect();
        if let Some(person) = self.people.get(id) {
            let place = |room: &&Room| {
                let mut all = person.memberships.iter();
                all.position(|name| *name == room.name)
                    .unwrap_or(usize::MAX)
            };
            rooms.sort_by_key(place);
        }
        rooms
    }
}

impl Room {
    fn new(
        network: Network,
        residents: Vec<Resident>,
        containers: &HashMap<String, Container>,
    ) -> Room {
        let names = |resident: &Resident| match containers.get(&resident.id) {
            Some(container) => names(container, &network.name),
            None => Vec::new(),
        };
        let residents = residents.into_iter();
        Room {
            residents: residents
                .map(|resident| {
                    let names = names(&resident);
                    (resident, names)
                })
                .collect(),
            name: network.name,
            internal: network.internal,
            subnet: network.subnet,
            subnet6: network.subnet6,
        }
    }

    /// Who has one of two names.
    fn called(&self, name: &str, within: Option<&str>) -> Vec<&Resident> {
        let is_it = |own: &String| own == name || Some(own.as_str()) == within;
        let all = self.residents.iter();
        all.filter(|(_, names)| names.iter().any(is_it))
            .map(|(resident, _)| resident)
            .collect()
    }

    fn at(&self, address: IpAddr) -> Option<&Resident> {
        let mut all = self.residents.iter().map(|(resident, _)| resident);
        all.find(|resident| match address {
            IpAddr::V4(address) => resident.address == address,
            IpAddr::V6(address) => resident.six == Some(address),
        })
    }

    fn has(&self, address: IpAddr) -> bool {
        let four = |address: Ipv4Addr| self.subnet.is_some_and(|subnet| subnet.contains(address));
        let six = |address: Ipv6Addr| self.subnet6.is_some_and(|subnet| subnet.contains(address));
        match address {
            IpAddr::V4(address) => four(address),
            IpAddr::V6(address) => six(address),
        }
    }
}

impl Person {
    fn new(container: &Container) -> Person {
        let memberships = container.host.memberships().into_iter();
        let servers = container.host.dns.iter();
        Person {
            name: container.name.clone(),
            memberships: memberships.map(|(name, _)| name.to_owned()).collect(),
            servers: servers
                .filter_map(|server| Some(SocketAddr::new(server.parse().ok()?, 53)))
                .collect(),
        }
    }
}

/// What a container is called in a network, as docker has it: its name, its aliases there, its short
/// id and its host name. (Its whole id has 64 digits, and a label of a name 63 at most; RFC 1035,
/// 2.3.4.)
fn names(container: &Container, network: &str) -> Vec<String> {
    let memberships = container.host.memberships().into_iter();
    let aliases = memberships
        .filter(|(name, _)| *name == network)
        .flat_map(|(_, wanted)| wanted.aliases);
    let own = [
        container.name.as_str(),
        container.short_id(),
        container.config.hostname.as_str(),
    ];
    let own = own.into_iter().filter(|name| !name.is_empty());
    own.map(str::to_owned)
        .chain(aliases)
        .map(|name| name.to_ascii_lowercase())
        .collect()
}

/// Has the kernel tell of changes in a directory that is there. Without watches left, or a kernel that
/// has any, there is no watch.
fn look_at(watch: &mut Option<OwnedFd>, directory: &Path, flags: WatchFlags) {
    let Some(descriptor) = watch else { return };
    let flags = flags | WatchFlags::ONLYDIR;
    match inotify::add_watch(&*descriptor, directory, flags) {
        Ok(_) | Err(Errno::NOENT) => {}
        Err(_) => *watch = None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use anyhow::Result;

    use super::*;

    fn resident(id: &str, address: [u8; 4], six: Option<&str>) -> Result<Resident> {
        Ok(Resident {
            id: id.to_owned(),
            address: address.into(),
            six: six.map(str::parse).transpose()?,
        })
    }

    fn room(name: &str, third: u8, people: &[(&str, u8, &[&str])]) -> Result<Room> {
        let mut residents = Vec::new();
        for (id, last, names) in people {
            let six = (*id == "db").then(|| format!("fd00::{last}"));
            let found = resident(id, [10, third, 0, *last], six.as_deref())?;
            let names = names.iter().map(|&name| name.to_owned()).collect();
            residents.push((found, names));
        }
        Ok(Room {
            name: name.to_owned(),
            internal: name == "back",
            subnet: Some(format!("10.{third}.0.0/24").parse()?),
            subnet6: Some(format!("fd00:{third}::/64").parse()?),
            residents,
        })
    }

    fn person(name: &str, memberships: &[&str], servers: &[&str]) -> Result<Person> {
        let servers = servers
            .iter()
            .map(|server| Ok(SocketAddr::new(server.parse()?, 53)));
        Ok(Person {
            name: name.to_owned(),
            memberships: memberships.iter().map(|&name| name.to_owned()).collect(),
            servers: servers.collect::<Result<_>>()?,
        })
    }

    /// web and db are in front, db and far in back, 40 workers in front.
    pub(in super::super) fn neighbours() -> Result<Neighbours> {
        let long = "c".repeat(64);
        let workers: Vec<String> = (0..40).map(|n| format!("worker{n}")).collect();
        let mut front: Vec<(&str, u8, &[&str])> = vec![
            ("web", 2, &["web"]),
            ("db", 3, &["db", "store"]),
            (&long, 9, &["unspeakable"]),
        ];
        let numbers = 20..;
        front.extend(
            workers
                .iter()
                .zip(numbers)
                .map(|(id, last)| -> (&str, u8, &[&str]) { (id, last, &["worker"]) }),
        );
        let rooms = vec![
            room("back", 2, &[("far", 2, &["far"]), ("db", 3, &["db"])])?,
            room("front", 1, &front)?,
        ];
        let people = [
            ("web".to_owned(), person("web", &["front"], &[])?),
            (
                "db".to_owned(),
                person("db", &["front", "back"], &["192.0.2.1"])?,
            ),
            ("far".to_owned(), person("far", &["back"], &[])?),
            ("lost".to_owned(), person("lost", &["back", "torn"], &[])?),
            (
                "plain".to_owned(),
                person("plain", &["bridge", "back"], &[])?,
            ),
            (long.clone(), person(&long, &["front"], &[])?),
        ];
        Ok(Neighbours {
            watch: None,
            rooms,
            people: people.into(),
        })
    }

    #[test]
    fn who_is_in_two_networks_has_the_address_of_the_first() -> Result<()> {
        let known = neighbours()?;
        let address = |asker| -> Vec<_> {
            let found = known.called(asker, "db").into_iter();
            found.map(|found| found.address).collect()
        };
        assert_eq!(address("web"), [Ipv4Addr::new(10, 1, 0, 3)]);
        assert_eq!(address("db"), [Ipv4Addr::new(10, 1, 0, 3)]);
        assert_eq!(address("far"), [Ipv4Addr::new(10, 2, 0, 3)]);
        assert!(address("nobody").is_empty());
        Ok(())
    }

    #[test]
    fn whom_others_questions_go_to_depends_on_the_way_out() -> Result<()> {
        let known = neighbours()?;
        let server = SocketAddr::new("192.0.2.1".parse()?, 53);
        assert_eq!(known.others("web"), Others::OfHost);
        assert_eq!(known.others("db"), Others::These(vec![server]));
        assert_eq!(known.others("far"), Others::Nobody);
        assert_eq!(known.others("nobody"), Others::Nobody);
        assert_eq!(known.others("lost"), Others::Nobody);
        assert_eq!(known.others("plain"), Others::OfHost);
        Ok(())
    }
}
