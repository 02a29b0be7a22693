//! A bridge, its subnet, and the leases on its addresses.
//!
//! A lease is an address that a living container holds ([`crate::leases`] says how it lies on disk).
//! When its owner dies, whatever is named after the address is removed. The lease is therefore
//! written before anything else is made, and is the last to go.

mod addresses;
mod handover;
mod rebuild;

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use crate::flows;
use crate::leases::{Book, Entry, Place, Record, first, lock, lock_to_look};
use crate::links::{self, Cable};
use crate::nat::{Door, Side, Table};
use crate::publish::{Publish, Reserved};
use crate::router;
use crate::strays::Strays;
use addresses::{first_of_six, is_for_hosts};

/// The bridge that containers are plugged into unless told otherwise.
const STANDARD: &str = "mini0";

/// A bridge: how it is called and where its subnet may lie. Making this value makes nothing; the
/// bridge comes with the first [`Lease`] that is attached, and leaves with the last.
#[derive(Debug, Clone)]
pub struct Bridge {
    run_dir: PathBuf,
    name: String,
    subnets: Vec<Ipv4Network>,
    shape: Shape,
    spared: Vec<IpAddr>,
    book: Book,
}

/// A container's address, and the ports of the host that are kept for it. Dropping it gives both
/// back, and takes down what was attached.
pub struct Lease {
    bridge: Bridge,
    place: Place,
    address: Ipv4Addr,
    six: Option<Ipv6Addr>,
    id: String,
    ports: Vec<Reserved>,
    /// The lease on disk; its lock says that we live.
    file: File,
    /// The rules, where they know of it.
    table: Option<Table>,
    /// Its hardware address, where somebody has chosen that.
    hardware: Option<[u8; 6]>,
}

/// What a bridge is like beyond its subnet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    /// The host's address; `None` is the subnet's first.
    pub gateway: Option<Ipv4Addr>,
    /// Where addresses are given out; `None` is all of the subnet.
    pub range: Option<Ipv4Network>,
    /// The same for IPv6.
    pub range6: Option<Ipv6Network>,
    /// The host's IPv6 address, with the prefix of the subnet; `None`: there is no IPv6.
    pub six: Option<Ipv6Network>,
    /// Whether nothing leads outside.
    pub internal: bool,
    /// The largest packet of its cables, in bytes; `None` is what the kernel gives them.
    pub mtu: Option<u32>,
    /// Whether its containers do not reach each other.
    pub apart: bool,
}

/// What a container wants of a bridge.
#[derive(Debug)]
pub struct Wish<'a> {
    /// Whose it is.
    pub id: &'a str,
    /// Ports of the host that are to lead to it.
    pub ports: Vec<Reserved>,
    /// The address that it has to be.
    pub address: Option<Ipv4Addr>,
    /// The IPv6 address that it has to be; `None` where the bridge has IPv6: any.
    pub six: Option<Ipv6Addr>,
}

/// Who lives in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// The container.
    pub id: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its IPv6 address.
    pub six: Option<Ipv6Addr>,
}

/// A lease whose container is plugged in. Dropping it undoes everything.
pub struct Endpoint {
    lease: Lease,
}

impl Bridge {
    /// The network that containers join unless told otherwise: `mini0`, on 10.88.0.0/16, or where
    /// the host already has a way there, 10.89.0.0/16, 172.30.0.0/16 or 192.168.88.0/24.
    pub fn standard(run_dir: &Path) -> Result<Self> {
        let subnets = [
            "10.88.0.0/16",
            "10.89.0.0/16",
            "172.30.0.0/16",
            "192.168.88.0/24",
        ]
        .iter()
        .map(|subnet| subnet.parse())
        .collect::<Result<_, _>>()?;
        Self::new(run_dir, STANDARD, subnets)
    }

    /// A bridge of this name; of the subnets, the first that is free is taken.
    ///
    /// # Errors
    /// The name is no name for a link (15 bytes, no slash; ip-link(8)), or a subnet is too small
    /// for a gateway and a container.
    pub fn new(run_dir: &Path, name: &str, subnets: Vec<Ipv4Network>) -> Result<Self> {
        let fits = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        ensure!(
            fits && name.starts_with(|first: char| first.is_ascii_alphabetic())
                && name.len() < libc::IFNAMSIZ,
            "{name:?} cannot name a bridge: a letter, then at most 14 letters, digits, '-', '_' or '.'"
        );
        for subnet in &subnets {
            ensure!(
                subnet.prefix() <= 29,
                "the subnet {subnet} is too small: /29 is the least"
            );
        }
        Ok(Self {
            run_dir: run_dir.to_owned(),
            name: name.to_owned(),
            subnets,
            shape: Shape::default(),
            spared: Vec::new(),
            book: Book::of(run_dir, name),
        })
    }

    /// The standard bridge, and each of which there is something on disk, as it was settled.
    ///
    /// # Errors
    /// Those of [`Bridge::standard`].
    pub fn all(run_dir: &Path) -> Result<Vec<Self>> {
        let mut all = vec![Self::standard(run_dir)?];
        for name in Book::all(run_dir) {
            if name == STANDARD {
                continue;
            }
            let place = Book::of(run_dir, &name).place().ok();
            let subnets = place.map(|place| place.gateway).into_iter().collect();
            let shape = Shape {
                gateway: place.map(|place| place.gateway.ip()),
                six: place.and_then(|place| place.six),
                internal: place.is_none_or(|place| place.internal),
                ..Shape::default()
            };
            // One that is none of ours is passed over.
            all.extend(Self::new(run_dir, &name, subnets).and_then(|one| one.shaped(shape)));
        }
        Ok(all)
    }

    /// The bridge, shaped.
    ///
    /// # Errors
    /// The gateway or the range is outside the subnet.
    pub fn shaped(self, shape: Shape) -> Result<Self> {
        for subnet in &self.subnets {
            if let Some(gateway) = shape.gateway {
                ensure!(
                    is_for_hosts(*subnet, gateway),
                    "no matching subnet for gateway {gateway}: {subnet} has no such place"
                );
            }
            if let Some(range) = shape.range {
                ensure!(
                    range.is_subnet_of(*subnet),
                    "no matching subnet for range {range}: it is not within {subnet}"
                );
            }
        }
        let six = match shape.six {
            Some(six) => {
                ensure!(
                    six.prefix() <= 126,
                    "the subnet {six} is too small: /126 is the least"
                );
                Some(first_of_six(six)?)
            }
            None => None,
        };
        Ok(Self {
            shape: Shape { six, ..shape },
            ..self
        })
    }

    /// The bridge, with addresses that no container gets.
    #[must_use]
    pub fn sparing(self, spared: Vec<IpAddr>) -> Self {
        Self { spared, ..self }
    }

    /// Removes what dead containers left of this network.
    pub fn sweep(&self) -> Result<()> {
        if !self.book.leases().is_dir() {
            return Ok(());
        }
        let _lock = lock(&self.run_dir)?;
        self.bury(None).map(|_| ())
    }

    /// The host's address there, with the prefix of the subnet: as it is, or as it would be first.
    pub fn gateway(&self) -> Result<Ipv4Network> {
        let first = self.subnets.first().context("a bridge needs a subnet")?;
        let place = self.place(&[]).or_else(|_| self.place_in(*first))?;
        Ok(place.gateway)
    }

    /// Forgets where it was, with the last lease. Of the standard one that is kept: where a container
    /// was once, its address is free again most likely.
    fn forget(&self) {
        if self.name != STANDARD {
            self.book.close();
        }
    }

    /// The same, where there is no lease.
    pub(crate) fn forget_if_empty(&self) -> Result<()> {
        if self.book.records()?.is_empty() {
            self.forget();
        }
        Ok(())
    }

    /// Links that no living container of this network needs.
    pub(crate) fn strays(&self) -> Result<Strays> {
        let gateways = self.gateways()?;
        let (living, dead) = self.book.living_and_dead()?;
        let addresses = |records: Vec<Record>| records.iter().map(|one| one.address).collect();
        let (living, dead): (Vec<_>, Vec<_>) = (addresses(living), addresses(dead));
        Strays::find(&self.name, &gateways, &living, &dead)
    }

    /// The leases of dead containers.
    pub(crate) fn dead(&self) -> Result<Vec<PathBuf>> {
        let (_, dead) = self.book.living_and_dead()?;
        Ok(dead.into_iter().map(|record| record.path).collect())
    }

    /// Takes a port of the host for a container.
    ///
    /// # Errors
    /// It is taken; another container's is known from its lease, so that the error can name it.
    pub fn reserve(&self, port: &Publish) -> Result<Reserved> {
        port.reserve().or_else(|error| {
            let _lock = lock_to_look(&self.run_dir)?;
            for bridge in Book::all(&self.run_dir) {
                let (living, _) = Book::of(&self.run_dir, &bridge).living_and_dead()?;
                // One that cannot be read is passed over: its owner is not known.
                for entry in living.iter().flat_map(Record::read) {
                    ensure!(
                        !entry.ports.iter().any(|other| port.collides(other)),
                        "Bind for {}/{} failed: port is already allocated to container {}",
                        port.on_host(),
                        port.protocol,
                        entry.id
                    );
                }
            }
            Err(error)
        })
    }

    /// The living containers of this network, by their leases. Takes no privileges.
    ///
    /// # Errors
    /// The leases cannot be read.
    pub fn residents(&self) -> Result<Vec<Resident>> {
        let Some(_lock) = lock_to_look(&self.run_dir)? else {
            return Ok(Vec::new());
        };
        let (living, _) = self.book.living_and_dead()?;
        // A lease that somebody has written over tells nobody who lives there.
        let resident = |record: &Record| {
            let Entry { id, six, .. } = record.read().ok()?;
            Some(Resident {
                id,
                address: record.address,
                six,
            })
        };
        Ok(living.iter().filter_map(resident).collect())
    }

    /// The bridge and the host's switches, whether they were there or not. The rules come before:
    /// no packet may find a bridge without its guard.
    fn stand(&self, place: &Place) -> Result<()> {
        links::ensure_bridge(&self.name, place.gateway)?;
        router::forward(&self.name, place.six.is_some())?;
        match place.six {
            Some(six) => links::add_six(&self.name, six),
            None => Ok(()),
        }
    }

    /// The host's end of a cable, as this network wants it.
    fn adapt(&self, host_end: &str) -> Result<()> {
        links::adapt_port(host_end, self.shape.mtu, self.shape.apart)
    }

    /// Takes an address for a container, whose ports of the host are kept with it; sweeps first.
    ///
    /// # Errors
    /// No subnet is free; no address is, or the wanted one is taken.
    pub fn lease(&self, wish: Wish<'_>) -> Result<Lease> {
        let _lock = lock(&self.run_dir)?;
        let living = self.bury(None)?;
        self.book.open()?;
        let place = if living.is_empty() {
            self.settle()?
        } else {
            self.place(&living)?
        };
        if place.six.is_some() {
            router::ensure_six()?;
        }
        let address = self.pick(&place, &living, wish.address)?;
        let six = self.pick_six(&place, &living, address, wish.six)?;
        let entry = Entry {
            id: wish.id.to_owned(),
            six,
            ports: wish.ports.iter().map(Reserved::port).collect(),
        };
        let file = self.book.write(address, &entry)?;
        Ok(Lease {
            bridge: self.clone(),
            place,
            address,
            six,
            id: entry.id,
            ports: wish.ports,
            file,
            table: None,
            hardware: None,
        })
    }

    /// Buries the dead: their rules, links and leases, and without living ones the bridge. Answers
    /// who lives.
    fn bury(&self, table: Option<Table>) -> Result<Vec<Record>> {
        let (living, dead) = self.book.living_and_dead()?;
        if !dead.is_empty() {
            let table = table.map_or_else(|| Table::of(&self.run_dir), Ok)?;
            self.take_down(&dead, living.is_empty(), &table)?;
        }
        Ok(living)
    }

    /// Removes everything that is named after the dead ones' addresses, their leases last; with the
    /// last container, the bridge.
    fn take_down(&self, dead: &[Record], last: bool, table: &Table) -> Result<()> {
        let mut condemned = Vec::new();
        for record in dead {
            let host_end = host_end(record.address);
            if links::condemn(&host_end)? {
                condemned.push(host_end);
            }
        }
        let place = self.place(dead);
        if last
            && let Ok(place) = &place
            && links::condemn_bridge(&self.name, place.gateway)?
        {
            condemned.push(self.name.clone());
        }
        let side = self.side(dead);
        table.dismiss(&side, last, || sides(&self.run_dir))?;
        let published: Vec<_> = side.doors.iter().map(|door| door.port).collect();
        flows::forget(table.line(), &published)?;
        if !condemned.is_empty() {
            links::remove_condemned(&condemned, Some(table.line().as_fd()))?;
        }
        for record in dead {
            fs::remove_file(&record.path)
                .with_context(|| format!("remove {}", record.path.display()))?;
        }
        if last {
            self.forget();
        }
        Ok(())
    }

    fn side(&self, records: &[Record]) -> Side {
        Side {
            bridge: self.name.clone(),
            place: self.place(records).ok(),
            doors: records.iter().flat_map(doors_of).collect(),
        }
    }

    /// Chooses the subnet, while there is no container: the one of last time, or the first to which
    /// the host knows no other way.
    fn settle(&self) -> Result<Place> {
        links::remove_orphan(&self.name, &self.gateways()?)?;
        let routed = links::routes()?;
        let remembered = self.book.place().ok();
        let last_time = remembered
            .and_then(|place| self.subnets.iter().find(|net| is_in(&place, **net)))
            .into_iter();
        let subnet = last_time
            .chain(&self.subnets)
            .find(|subnet| {
                let own = [
                    Some(IpNetwork::V4(**subnet)),
                    self.shape.six.map(IpNetwork::V6),
                ];
                let mut own = own.into_iter().flatten();
                !own.any(|own| routed.iter().any(|known| collide(*known, own)))
            })
            .with_context(|| {
                let mut tried: Vec<_> = self.subnets.iter().map(ToString::to_string).collect();
                tried.extend(self.shape.six.map(|six| six.to_string()));
                format!(
                    "no subnet is free for {}: this host has routes into {}",
                    self.name,
                    tried.join(", ")
                )
            })?;
        let place = self.place_in(*subnet)?;
        if remembered != Some(place) {
            self.book.settle(&place)?;
        }
        Ok(place)
    }

    /// Where the bridge is: as it was settled, or where its containers are, if that was lost.
    fn place(&self, records: &[Record]) -> Result<Place> {
        let mine = |place: &Place| self.subnets.iter().any(|subnet| is_in(place, *subnet));
        let settled = self.book.place();
        if let Some(place) = settled.as_ref().ok().copied().filter(mine) {
            return Ok(place);
        }
        let inhabited = |subnet: &&Ipv4Network| {
            let mut records = records.iter();
            records.any(|record| subnet.contains(record.address))
        };
        match self.subnets.iter().find(inhabited) {
            Some(subnet) => {
                let place = self.place_in(*subnet)?;
                self.book.settle(&place)?;
                Ok(place)
            }
            None => settled,
        }
    }

    /// The host's place, were this the subnet.
    fn place_in(&self, subnet: Ipv4Network) -> Result<Place> {
        let gateway = match self.shape.gateway {
            Some(gateway) => Ipv4Network::new(gateway, subnet.prefix())?,
            None => first(subnet)?,
        };
        Ok(Place {
            gateway,
            six: self.shape.six,
            internal: self.shape.internal,
        })
    }

    fn gateways(&self) -> Result<Vec<Ipv4Network>> {
        let places = self.subnets.iter().map(|subnet| self.place_in(*subnet));
        places.map(|place| Ok(place?.gateway)).collect()
    }
}

/// Every bridge that somebody alive is plugged into.
fn sides(run_dir: &Path) -> Result<Vec<Side>> {
    let mut sides = Vec::new();
    for bridge in Bridge::all(run_dir)? {
        let (living, _) = bridge.book.living_and_dead()?;
        if !living.is_empty() {
            sides.push(bridge.side(&living));
        }
    }
    Ok(sides)
}

/// The ports that lead to a lease's owner; none are known of a lease that was cut short, whose owner
/// came no further, or written over.
fn doors_of(record: &Record) -> Vec<Door> {
    let entry = record.read().ok();
    let door = |entry: Entry| doors(record.address, entry.six, entry.ports.into_iter());
    entry.map(door).unwrap_or_default()
}

fn doors(
    address: Ipv4Addr,
    six: Option<Ipv6Addr>,
    ports: impl Iterator<Item = Publish>,
) -> Vec<Door> {
    let to = |port: &Publish| match (port.address, six) {
        (Some(IpAddr::V6(_)), Some(six)) => six.into(),
        _ => address.into(),
    };
    ports
        .map(|port| Door {
            port,
            to: to(&port),
        })
        .collect()
}

impl Endpoint {
    /// The lease.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }
}

impl Lease {
    /// The container's IPv6 address, with the prefix of its subnet, where the bridge has IPv6.
    #[must_use]
    pub fn six(&self) -> Option<Ipv6Network> {
        Ipv6Network::new(self.six?, self.place.six?.prefix()).ok()
    }

    /// The host's IPv6 address in the subnet.
    #[must_use]
    pub fn gateway6(&self) -> Option<Ipv6Addr> {
        Some(self.place.six?.ip())
    }

    /// The container's address, with the prefix of its subnet.
    pub fn address(&self) -> Result<Ipv4Network> {
        Ok(Ipv4Network::new(self.address, self.place.gateway.prefix())?)
    }

    /// The host's address in the subnet: the container's way out.
    pub fn gateway(&self) -> Result<Ipv4Addr> {
        Ok(self.place.gateway.ip())
    }

    /// The hardware address that the container's end of the cable gets.
    pub fn hardware_address(&self) -> [u8; 6] {
        self.hardware.unwrap_or_else(|| links::mac(self.address))
    }

    /// The lease, with another [hardware address](Lease::hardware_address).
    #[must_use]
    pub fn with_hardware_address(self, hardware: [u8; 6]) -> Self {
        // Not by an update: whoever drops a lease gives it back.
        let mut lease = self;
        lease.hardware = Some(hardware);
        lease
    }

    /// The ports of the host that lead to the container.
    pub fn ports(&self) -> impl Iterator<Item = Publish> {
        self.ports.iter().map(Reserved::port)
    }

    fn side(&self) -> Side {
        Side {
            bridge: self.bridge.name.clone(),
            place: Some(self.place),
            doors: doors(self.address, self.six, self.ports()),
        }
    }

    /// The host's addresses in the subnet, unless nothing leads outside.
    fn ways_out(&self) -> Vec<IpAddr> {
        let six = self.gateway6().map(IpAddr::from);
        let mut gateways: Vec<_> = [self.place.gateway.ip().into()]
            .into_iter()
            .chain(six)
            .collect();
        gateways.retain(|_| !self.place.internal);
        gateways
    }

    /// The container's side of a cable, as it is wanted.
    fn configure(&self, cable: &Cable<'_>) -> Result<()> {
        router::heed_no_router(cable.interface)?;
        links::adapt_inside(cable.interface, self.hardware, self.bridge.shape.mtu)?;
        links::configure(cable)
    }

    fn cable<'a>(
        &'a self,
        host_end: &'a str,
        interface: &'a str,
        gateways: &'a [IpAddr],
    ) -> Result<Cable<'a>> {
        Ok(Cable {
            host_end,
            bridge: &self.bridge.name,
            interface,
            address: self.address()?,
            six: self.six(),
            gateways,
        })
    }

    /// Plugs a network namespace in: `interface` appears in it, has the leased address, and its
    /// default route leads out by the bridge, unless that is internal or another network was first.
    /// The published ports answer from here on. The host is a router from here on, too, and stays one.
    pub fn attach(self, netns: BorrowedFd<'_>, interface: &str) -> Result<Endpoint> {
        let mut lease = self; // dropped on any error, which takes down what was made so far
        let bridge = lease.bridge.clone();
        let Bridge { run_dir, name, .. } = &bridge;
        let host_end = host_end(lease.address);
        let gateways = lease.ways_out();
        let cable = {
            let _lock = lock(run_dir)?;
            let table = Table::of(run_dir)?;
            if !links::exists(name) {
                table.warn_of_firewalls(name)?;
            }
            table.admit(&lease.side(), || sides(run_dir))?;
            bridge.stand(&lease.place)?;
            flows::forget(table.line(), &lease.ports().collect::<Vec<_>>())?;
            lease.table = Some(table);
            let cable = lease.cable(&host_end, interface, &gateways)?;
            links::plug(&cable, netns)?;
            lease.bridge.adapt(&host_end)?;
            cable
        };
        links::within(netns, || lease.configure(&cable))?;
        Ok(Endpoint { lease })
    }
}

impl Drop for Lease {
    /// To leave is to die in good order: the lease is let go, and buried with the others.
    fn drop(&mut self) {
        let table = self.table.take();
        let leave = |table| {
            let _lock = lock(&self.bridge.run_dir)?;
            self.file.unlock().context("unlock the lease")?;
            self.bridge.bury(table)
        };
        // Once more where something failed: each step is content with what is done already.
        if let Err(error) = leave(table).or_else(|_| leave(None)) {
            tracing::warn!("the network of {} is not taken down: {error:#}", self.id);
        }
    }
}

/// The host's end of a container's cable: an address has eight hexadecimal digits, a name room for
/// fifteen.
fn host_end(address: Ipv4Addr) -> String {
    format!("veth{:08x}", u32::from(address))
}

/// The address that a host's end of a cable is named after.
pub(crate) fn address_behind(link: &str) -> Option<Ipv4Addr> {
    let number = u32::from_str_radix(link.strip_prefix("veth")?, 16).ok()?;
    let address = Ipv4Addr::from(number);
    (host_end(address) == link).then_some(address)
}

fn is_in(place: &Place, subnet: Ipv4Network) -> bool {
    place.gateway.network() == subnet.network() && place.gateway.prefix() == subnet.prefix()
}

/// Whether a subnet would hide, or be hidden by, what the host knows already.
fn collide(known: IpNetwork, subnet: IpNetwork) -> bool {
    known.contains(subnet.network()) || subnet.contains(known.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Ipv4Network {
        text.parse().expect(text)
    }

    #[test]
    fn a_route_into_the_subnet_is_in_its_way() {
        let ours = IpNetwork::V4(network("10.88.0.0/16"));
        for route in ["10.0.0.0/8", "10.88.3.4/32", "10.88.0.0/24"] {
            assert!(collide(route.parse().expect(route), ours), "{route}");
        }
        for route in ["10.89.0.0/16", "fd00::/8"] {
            assert!(!collide(route.parse().expect(route), ours), "{route}");
        }
    }

    #[test]
    fn a_links_name_is_checked_before_the_kernel_sees_it() {
        let subnets = || vec![network("10.1.0.0/24")];
        for name in ["", "a/b", "0br", "sixteen-letters-"] {
            assert!(
                Bridge::new(Path::new("/x"), name, subnets()).is_err(),
                "{name}"
            );
        }
        assert!(Bridge::new(Path::new("/x"), "br-0123456789ab", subnets()).is_ok());
        assert!(Bridge::new(Path::new("/x"), "br", vec![network("10.1.0.0/30")]).is_err());
    }

    #[test]
    fn the_hosts_end_is_named_after_the_address() {
        let address = Ipv4Addr::new(10, 88, 0, 2);
        assert_eq!(host_end(address), "veth0a580002");
        assert_eq!(address_behind("veth0a580002"), Some(address));
        for foreign in ["veth0A580002", "veth+a580002", "veth0", "eth0", "vethXYZ"] {
            assert_eq!(address_behind(foreign), None, "{foreign}");
        }
    }
}
