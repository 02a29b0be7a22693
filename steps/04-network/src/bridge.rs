//! A bridge, its subnet, and the leases on its addresses.
//!
//! On disk, under `<run_dir>/network`:
//! ```text
//! lock                     held (flock) by whoever changes any of this, or the links and rules
//! mini0/subnet             10.88.0.0/16, settled when the first container came
//! mini0/leases/10.88.0.2   the container's id, a published port a line; held by its owner for life
//! ```
//! The kernel drops a lock when its holder dies, of kill -9 too: a lease whose lock can be taken is
//! a dead container's, and whatever is named after its address is removed. The lease is therefore
//! written before anything else is made, and is the last to go.

mod handover;

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use ipnetwork::{Ipv4Network, Ipv6Network};

use crate::flows;
use crate::links::{self, Cable};
use crate::nat;
use crate::publish::{Publish, Reserved};
use crate::strays::Strays;

/// A bridge: how it is called and where its subnet may lie. Making this value makes nothing; the
/// bridge comes with the first [`Lease`] that is attached, and leaves with the last.
#[derive(Debug, Clone)]
pub struct Bridge {
    run_dir: PathBuf,
    name: String,
    subnets: Vec<Ipv4Network>,
}

/// A container's address, and the ports of the host that are kept for it. Dropping it gives both
/// back, and takes down what was attached.
pub struct Lease {
    bridge: Bridge,
    subnet: Ipv4Network,
    address: Ipv4Addr,
    id: String,
    ports: Vec<Reserved>,
    /// The lease on disk; its lock says that we live.
    file: File,
}

/// What a bridge is like beyond its subnet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    /// The host's address; `None` is the subnet's first.
    pub gateway: Option<Ipv4Addr>,
    /// Where addresses are given out; `None` is all of the subnet.
    pub range: Option<Ipv4Network>,
    /// The host's IPv6 address, with the prefix of the subnet; `None`: there is no IPv6.
    pub six: Option<Ipv6Network>,
    /// Whether nothing leads outside.
    pub internal: bool,
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
        Self::new(run_dir, "mini0", subnets)
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
        })
    }

    /// Removes what dead containers left of this network.
    pub fn sweep(&self) -> Result<()> {
        if !self.leases().is_dir() {
            return Ok(());
        }
        let _lock = lock(&self.run_dir)?;
        self.bury().map(|_| ())
    }

    /// Links and tables that no living container of this network needs.
    pub(crate) fn strays(&self) -> Result<Strays> {
        let gateways = self.subnets.iter().map(|subnet| gateway(*subnet));
        let gateways = gateways.collect::<Result<Vec<_>>>()?;
        let (mut living, mut dead) = (Vec::new(), Vec::new());
        for record in self.records_if_any()? {
            match record.file.try_lock() {
                Ok(()) => dead.push(record.address),
                Err(_) => living.push(record.address),
            }
        }
        Strays::find(&self.name, &gateways, &living, &dead)
    }

    /// The leases of dead containers.
    pub(crate) fn dead(&self) -> Result<Vec<PathBuf>> {
        let leases = self.records_if_any()?.into_iter();
        let dead = leases.filter(|record| record.file.try_lock().is_ok());
        let path = |record: Record| self.leases().join(record.address.to_string());
        Ok(dead.map(path).collect())
    }

    /// Takes a port of the host for a container.
    ///
    /// # Errors
    /// It is taken; another container's is known from its lease, so that the error can name it.
    pub fn reserve(&self, port: &Publish) -> Result<Reserved> {
        port.reserve().or_else(|error| {
            let _lock = lock(&self.run_dir)?;
            for record in self.records_if_any()? {
                let (owner, taken) = record.read()?;
                ensure!(
                    record.file.try_lock().is_ok()
                        || !taken.iter().any(|other| port.collides(other)),
                    "Bind for {}/{} failed: port is already allocated to container {owner}",
                    port.on_host(),
                    port.protocol
                );
            }
            Err(error)
        })
    }

    /// The bridge, shaped.
    ///
    /// # Errors
    /// The gateway or the range is outside the subnet.
    pub fn shaped(self, _shape: Shape) -> Result<Self> {
        Ok(self)
    }

    /// The living containers of this network, by their leases.
    ///
    /// # Errors
    /// A lease cannot be read.
    pub fn residents(&self) -> Result<Vec<Resident>> {
        Ok(Vec::new())
    }

    /// Makes all anew that somebody took away from living containers: bridge, cables, rules.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn rebuild(&self) -> Result<()> {
        Ok(())
    }

    /// Takes an address for a container, whose ports of the host are kept with it; sweeps first.
    ///
    /// # Errors
    /// No subnet is free; no address is, or the wanted one is taken.
    pub fn lease(&self, wish: Wish<'_>) -> Result<Lease> {
        let Wish { id, ports, .. } = wish;
        let _lock = lock(&self.run_dir)?;
        let leases = self.leases();
        fs::create_dir_all(&leases).with_context(|| format!("create {}", leases.display()))?;
        let living = self.bury()?;
        let subnet = if living.is_empty() {
            self.settle()?
        } else {
            self.remembered()?
        };
        let address = subnet
            .iter()
            .skip(2) // the network itself, and the gateway
            .find(|address| {
                *address != subnet.broadcast()
                    && !living.iter().any(|other| other.address == *address)
            })
            .with_context(|| format!("every address of {subnet} is taken by a container"))?;
        let file = self.write_lease(address, id, &ports)?;
        Ok(Lease {
            bridge: self.clone(),
            subnet,
            address,
            id: id.to_owned(),
            ports,
            file,
        })
    }

    fn write_lease(&self, address: Ipv4Addr, id: &str, ports: &[Reserved]) -> Result<File> {
        let path = self.leases().join(address.to_string());
        let write = || {
            let mut file = File::create_new(&path)?;
            file.lock()?;
            let ports = ports
                .iter()
                .map(|reserved| format!("{}\n", reserved.port()));
            file.write_all(format!("{id}\n{}", ports.collect::<String>()).as_bytes())?;
            Ok(file)
        };
        write().map_err(|error: std::io::Error| {
            let _ = fs::remove_file(&path); // what cannot be removed either is swept later
            anyhow!(error).context(format!("write the lease {}", path.display()))
        })
    }

    /// Buries the dead: their rules, links and leases, and without living ones the bridge. Answers
    /// who lives.
    fn bury(&self) -> Result<Vec<Record>> {
        let mut living = Vec::new();
        let mut dead = Vec::new();
        for record in self.records()? {
            match record.file.try_lock() {
                Ok(()) => dead.push(record),
                Err(TryLockError::WouldBlock) => living.push(record),
                Err(TryLockError::Error(error)) => bail!("lock a lease of {}: {error}", self.name),
            }
        }
        if !dead.is_empty() {
            self.take_down(&dead, living.is_empty())?;
        }
        Ok(living)
    }

    /// Removes everything that is named after the dead ones' addresses, their leases last; with the
    /// last container, the bridge.
    fn take_down(&self, dead: &[Record], last: bool) -> Result<()> {
        let mut condemned = Vec::new();
        for record in dead {
            let host_end = host_end(record.address);
            if links::condemn(&host_end)? {
                condemned.push(host_end);
            }
        }
        if last && links::condemn_bridge(&self.name, gateway(self.remembered()?)?)? {
            condemned.push(self.name.clone());
        }
        // A lease that was cut short is one whose owner came no further.
        let mut published = Vec::new();
        let mut tables = Vec::new();
        for record in dead {
            let ports = record.read().map(|(_, ports)| ports).unwrap_or_default();
            tables.extend(
                (!ports.is_empty()).then(|| nat::container_table(&self.name, record.address)),
            );
            published.extend(ports);
        }
        tables.extend(last.then(|| nat::bridge_table(&self.name)));
        let freed = nat::remove(&tables)?;
        flows::forget(&published)?;
        if !condemned.is_empty() {
            links::remove_condemned(&condemned, freed.as_ref().map(OwnedFd::as_fd))?;
        }
        for record in dead {
            let path = self.leases().join(record.address.to_string());
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }

    fn records_if_any(&self) -> Result<Vec<Record>> {
        match self.leases().is_dir() {
            true => self.records(),
            false => Ok(Vec::new()),
        }
    }

    fn records(&self) -> Result<Vec<Record>> {
        let leases = self.leases();
        let read = || -> std::io::Result<Vec<Record>> {
            let mut records = Vec::new();
            for entry in fs::read_dir(&leases)? {
                let entry = entry?;
                let Some(Ok(address)) = entry.file_name().to_str().map(str::parse) else {
                    continue;
                };
                records.push(Record {
                    address,
                    file: File::open(entry.path())?,
                });
            }
            Ok(records)
        };
        read().with_context(|| format!("read the leases in {}", leases.display()))
    }

    /// Chooses the subnet, while there is no container: the one of last time, or the first to which
    /// the host knows no other way.
    fn settle(&self) -> Result<Ipv4Network> {
        let gateways: Vec<_> = self
            .subnets
            .iter()
            .filter_map(|subnet| gateway(*subnet).ok())
            .collect();
        links::remove_orphan(&self.name, &gateways)?;
        let routed = links::routed()?;
        let remembered = self
            .remembered()
            .ok()
            .filter(|subnet| self.subnets.contains(subnet));
        let subnet = remembered
            .iter()
            .chain(&self.subnets)
            .find(|subnet| !routed.iter().any(|known| collide(*known, **subnet)))
            .with_context(|| {
                let tried: Vec<_> = self.subnets.iter().map(ToString::to_string).collect();
                format!(
                    "no subnet is free for {}: this host has routes into {}",
                    self.name,
                    tried.join(", ")
                )
            })?;
        if remembered != Some(*subnet) {
            // Written aside and renamed: a file cut short would forget where the bridge is.
            let path = self.subnet_file();
            let aside = path.with_extension("new");
            fs::write(&aside, format!("{subnet}\n"))
                .and_then(|()| fs::rename(&aside, &path))
                .with_context(|| format!("write {}", path.display()))?;
        }
        Ok(*subnet)
    }

    fn remembered(&self) -> Result<Ipv4Network> {
        let path = self.subnet_file();
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        text.trim()
            .parse()
            .with_context(|| format!("{} holds no subnet", path.display()))
    }

    fn subnet_file(&self) -> PathBuf {
        self.run_dir.join("network").join(&self.name).join("subnet")
    }

    fn leases(&self) -> PathBuf {
        self.run_dir.join("network").join(&self.name).join("leases")
    }
}

/// A lease found on disk.
struct Record {
    address: Ipv4Addr,
    file: File,
}

impl Record {
    fn read(&self) -> Result<(String, Vec<Publish>)> {
        let mut text = String::new();
        (&self.file)
            .read_to_string(&mut text)
            .with_context(|| format!("read the lease of {}", self.address))?;
        let mut lines = text.lines().map(str::to_owned);
        let id = lines.next().unwrap_or_default();
        Ok((id, lines.map(|line| line.parse()).collect::<Result<_>>()?))
    }
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
        None
    }

    /// The host's IPv6 address in the subnet.
    #[must_use]
    pub fn gateway6(&self) -> Option<Ipv6Addr> {
        None
    }

    /// The container's address, with the prefix of its subnet.
    pub fn address(&self) -> Result<Ipv4Network> {
        Ok(Ipv4Network::new(self.address, self.subnet.prefix())?)
    }

    /// The host's address in the subnet: the container's way out.
    pub fn gateway(&self) -> Result<Ipv4Addr> {
        Ok(gateway(self.subnet)?.ip())
    }

    /// The hardware address that the container's end of the cable gets.
    pub fn hardware_address(&self) -> [u8; 6] {
        links::mac(self.address)
    }

    /// The ports of the host that lead to the container.
    pub fn ports(&self) -> impl Iterator<Item = Publish> {
        self.ports.iter().map(Reserved::port)
    }

    /// Plugs a network namespace in: `interface` appears in it, has the leased address, and its
    /// default route leads out by the bridge unless another network was first. The published ports
    /// answer from here on.
    ///
    /// net.ipv4.ip_forward is switched on, and stays on afterwards, as other engines leave it: who
    /// else relies on it cannot be known.
    pub fn attach(self, netns: BorrowedFd<'_>, interface: &str) -> Result<Endpoint> {
        let lease = self; // dropped on any error, which takes down what was made so far
        let Bridge { run_dir, name, .. } = &lease.bridge;
        let address = lease.address()?;
        let gateway = gateway(lease.subnet)?;
        let host_end = host_end(lease.address);
        let cable = Cable {
            host_end: &host_end,
            bridge: name,
            interface,
            address,
        };
        {
            let _lock = lock(run_dir)?;
            // Rules first: no packet finds the bridge without its guard.
            nat::serve_bridge(name, lease.subnet)?;
            links::ensure_bridge(name, gateway)?;
            sysctl(
                "net/ipv4/ip_forward",
                "the host becomes a router between its links; stays on afterwards",
            )?;
            sysctl(
                &format!("net/ipv4/conf/{name}/route_localnet"),
                "the host's 127.0.0.1:PORT may lead over the bridge",
            )?;
            if !lease.ports.is_empty() {
                let table = nat::container_table(name, lease.address);
                let ports: Vec<_> = lease.ports.iter().map(Reserved::port).collect();
                nat::publish(&table, &lease.id, lease.address, &ports)?;
                flows::forget(&ports)?;
            }
            links::plug(&cable, netns)?;
        }
        links::inside(netns, || links::configure(&cable, gateway.ip()))?;
        Ok(Endpoint { lease })
    }
}

impl Drop for Lease {
    /// To leave is to die in good order: the lease is let go, and buried with the others.
    fn drop(&mut self) {
        let leave = || {
            let _lock = lock(&self.bridge.run_dir)?;
            self.file.unlock().context("unlock the lease")?;
            self.bridge.bury()
        };
        // Once more where something failed: each step is content with what is done already.
        if let Err(error) = leave().or_else(|_| leave()) {
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

/// The host's address in the subnet, the first, with the subnet's prefix.
fn gateway(subnet: Ipv4Network) -> Result<Ipv4Network> {
    let first = subnet
        .nth(1)
        .with_context(|| format!("{subnet} has no room for a gateway"))?;
    Ok(Ipv4Network::new(first, subnet.prefix())?)
}

/// Whether a subnet would hide, or be hidden by, what the host knows already. Routes shorter than
/// /8 (the default route, a VPN's two halves of everything) say where strangers live, and are no
/// claim on an address.
fn collide(known: Ipv4Network, subnet: Ipv4Network) -> bool {
    known.prefix() >= 8 && known.overlaps(subnet)
}

/// Takes the lock on everything below `<run_dir>/network`, waiting for it.
pub(crate) fn lock(run_dir: &Path) -> Result<File> {
    let path = run_dir.join("network/lock");
    let take = || {
        let file = match File::create(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(run_dir.join("network"))?;
                File::create(&path)?
            }
            other => other?,
        };
        file.lock()?;
        Ok(file)
    };
    take()
        .map_err(|error: std::io::Error| anyhow!(error).context(format!("lock {}", path.display())))
}

/// Switches a sysctl on where it is off. /proc/sys/net shows the caller's network namespace.
fn sysctl(name: &str, why: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name);
    if fs::read_to_string(&path).is_ok_and(|value| value.trim() == "1") {
        return Ok(());
    }
    tracing::info!(call = format!("write({path:?}, \"1\")"), "{why}");
    fs::write(&path, "1").with_context(|| format!("write 1 to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Ipv4Network {
        text.parse().expect(text)
    }

    #[test]
    fn a_route_into_the_subnet_is_in_its_way_and_the_default_route_is_not() {
        let ours = network("10.88.0.0/16");
        for route in ["10.0.0.0/8", "10.88.3.4/32", "10.88.0.0/24"] {
            assert!(collide(network(route), ours), "{route}");
        }
        for route in ["0.0.0.0/0", "0.0.0.0/1", "10.89.0.0/16"] {
            assert!(!collide(network(route), ours), "{route}");
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
