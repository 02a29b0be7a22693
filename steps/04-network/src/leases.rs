//! What is on disk of a network.
//!
//! Under `<run_dir>/network`:
//! ```text
//! lock                     held (flock) by whoever changes any of this, or the links and rules
//! mini0/subnet             10.88.0.1/16, the host's place; settled when the first container came
//! mini0/leases/10.88.0.2   the container's id, a published port a line; held by its owner for life
//! ```
//! The kernel drops a lock when its holder dies, of kill -9 too: a lease whose lock can be taken is
//! a dead container's. Where a bridge has IPv6, `subnet` has the host's IPv6 address as well, and a
//! lease the container's.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use ipnetwork::{Ipv4Network, Ipv6Network};

use crate::publish::Publish;

/// The host's place in a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The host's address, with the prefix of the subnet.
    pub gateway: Ipv4Network,
    /// The same in IPv6.
    pub six: Option<Ipv6Network>,
    /// Whether nothing leads outside.
    pub internal: bool,
}

/// What a lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub id: String,
    pub six: Option<Ipv6Addr>,
    pub ports: Vec<Publish>,
}

/// A lease found on disk.
pub(crate) struct Record {
    pub address: Ipv4Addr,
    pub path: PathBuf,
    pub file: File,
}

/// One network's directory.
#[derive(Debug, Clone)]
pub(crate) struct Book {
    directory: PathBuf,
}

impl Book {
    pub fn of(run_dir: &Path, bridge: &str) -> Self {
        Self {
            directory: run_dir.join("network").join(bridge),
        }
    }

    /// The bridges of which there is a directory.
    pub fn all(run_dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(run_dir.join("network")).into_iter().flatten();
        let mut names: Vec<_> = entries
            .flatten()
            .filter(|entry| entry.path().join("leases").is_dir())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    pub fn leases(&self) -> PathBuf {
        self.directory.join("leases")
    }

    fn place_file(&self) -> PathBuf {
        self.directory.join("subnet")
    }

    /// Makes the directory where it is missing.
    pub fn open(&self) -> Result<()> {
        let leases = self.leases();
        fs::create_dir_all(&leases).with_context(|| format!("create {}", leases.display()))
    }

    /// Removes the directory, in which no lease is left. Where something else lies in it, it stays.
    pub fn close(&self) {
        let _ = fs::remove_file(self.place_file());
        let _ = fs::remove_dir(self.leases());
        let _ = fs::remove_dir(&self.directory);
    }

    /// The leases, of the living and the dead. What has no address for a name, or is no file, is
    /// none.
    pub fn records(&self) -> Result<Vec<Record>> {
        let leases = self.leases();
        let read = || -> std::io::Result<Vec<Record>> {
            let mut records = Vec::new();
            for entry in fs::read_dir(&leases)? {
                let entry = entry?;
                let Some(Ok(address)) = entry.file_name().to_str().map(str::parse) else {
                    continue;
                };
                let path = entry.path();
                if !entry.file_type()?.is_file() {
                    continue;
                }
                match File::open(&path) {
                    // Its owner has gone meanwhile; whoever holds the lock does not see this.
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    file => records.push(Record {
                        address,
                        path,
                        file: file?,
                    }),
                }
            }
            Ok(records)
        };
        match read() {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            read => read.with_context(|| format!("read the leases in {}", leases.display())),
        }
    }

    /// The leases of the living, and those of the dead.
    pub fn living_and_dead(&self) -> Result<(Vec<Record>, Vec<Record>)> {
        let (mut living, mut dead) = (Vec::new(), Vec::new());
        for record in self.records()? {
            // Shared, so that two who look do not take each other for the owner.
            match record.file.try_lock_shared() {
                Ok(()) => dead.push(record),
                Err(TryLockError::WouldBlock) => living.push(record),
                Err(TryLockError::Error(error)) => {
                    bail!("lock the lease {}: {error}", record.path.display())
                }
            }
        }
        Ok((living, dead))
    }

    /// Writes a lease, and holds it.
    pub fn write(&self, address: Ipv4Addr, entry: &Entry) -> Result<File> {
        let path = self.leases().join(address.to_string());
        let write = || {
            let mut file = File::create_new(&path)?;
            file.lock()?;
            file.write_all(entry.to_string().as_bytes())?;
            Ok(file)
        };
        write().map_err(|error: std::io::Error| {
            let _ = fs::remove_file(&path); // what cannot be removed either is swept later
            anyhow!(error).context(format!("write the lease {}", path.display()))
        })
    }

    /// Where the bridge was last time.
    pub fn place(&self) -> Result<Place> {
        let path = self.place_file();
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Place::read(&text).with_context(|| format!("{} holds no subnet", path.display()))
    }

    /// Remembers where it is.
    pub fn settle(&self, place: &Place) -> Result<()> {
        // Written aside and renamed: a file cut short would forget where the bridge is.
        let path = self.place_file();
        let aside = path.with_extension("new");
        fs::write(&aside, place.to_string())
            .and_then(|()| fs::rename(&aside, &path))
            .with_context(|| format!("write {}", path.display()))
    }
}

impl Record {
    pub fn read(&self) -> Result<Entry> {
        // Not from where the last reader stopped.
        fs::read_to_string(&self.path)
            .map_err(anyhow::Error::from)
            .and_then(|text| Entry::read(&text))
            .with_context(|| {
                format!(
                    "the lease {} is not as its container wrote it",
                    self.path.display()
                )
            })
    }
}

impl Entry {
    fn read(text: &str) -> Result<Self> {
        let mut lines = text.lines().peekable();
        let id = lines.next().unwrap_or_default().to_owned();
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            bail!("it names no container");
        }
        let six = lines.peek().and_then(|line| line.parse().ok());
        Ok(Self {
            id,
            six,
            ports: lines
                .skip(usize::from(six.is_some()))
                .map(str::parse)
                .collect::<Result<_>>()?,
        })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.id)?;
        if let Some(six) = self.six {
            writeln!(f, "{six}")?;
        }
        self.ports.iter().try_for_each(|port| writeln!(f, "{port}"))
    }
}

impl Place {
    fn read(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let gateway = lines.next().unwrap_or_default().trim().parse()?;
        let mut place = Self {
            gateway: first(gateway)?,
            six: None,
            internal: false,
        };
        for line in lines {
            match line {
                "internal" => place.internal = true,
                six => place.six = Some(six.parse()?),
            }
        }
        Ok(place)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.gateway)?;
        if let Some(six) = self.six {
            writeln!(f, "{six}")?;
        }
        match self.internal {
            true => writeln!(f, "internal"),
            false => Ok(()),
        }
    }
}

/// An address with the prefix of its subnet: that one, or the first where the subnet is named.
pub(crate) fn first(subnet: Ipv4Network) -> Result<Ipv4Network> {
    if subnet.ip() != subnet.network() {
        return Ok(subnet);
    }
    let first = subnet.nth(1);
    let first = first.with_context(|| format!("{subnet} has no room for a gateway"))?;
    Ok(Ipv4Network::new(first, subnet.prefix())?)
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

/// The same lock for those who only look: they wait for whoever changes something, not for each
/// other. `None`: there is nothing to look at.
pub(crate) fn lock_to_look(run_dir: &Path) -> Result<Option<File>> {
    let path = run_dir.join("network/lock");
    match File::open(&path).and_then(|file| file.lock_shared().map(|()| file)) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in [
            "10.88.0.1/16\n",
            "10.1.0.9/24\nfd00::1/64\n",
            "10.1.0.9/24\ninternal\n",
        ] {
            assert_eq!(Place::read(text).expect(text).to_string(), text);
        }
        for text in [
            "abc\n",
            "abc\n80:80/tcp\n127.0.0.1:53:5353/udp\n",
            "abc\nfd00::2\n[::]:80:80/tcp\n",
        ] {
            assert_eq!(Entry::read(text).expect(text).to_string(), text);
        }
    }

    #[test]
    fn a_subnet_stands_for_its_first_address() {
        let place = Place::read("10.88.0.0/16").expect("place");
        assert_eq!(place.to_string(), "10.88.0.1/16\n");
    }

    #[test]
    fn a_damaged_file_is_an_error_and_no_more() {
        for text in ["", "\0\0\0", "10.88.0.0/99", "10.1.0.1/24\nx", "fd00::1/64"] {
            assert!(Place::read(text).is_err(), "{text:?}");
        }
        for text in [
            "",
            "\n80:80",
            "abc\n99999:1",
            "\u{1b}[2J",
            "abc\nfd00::2\nx",
        ] {
            assert!(Entry::read(text).is_err(), "{text:?}");
        }
    }
}
