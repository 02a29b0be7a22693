//! What a program reads to find its way: resolv.conf, hosts, hostname.
//!
//! They lie in `<run_dir>/network/containers/<id>`, to be bind-mounted over the container's own. An
//! flock on the directory says that the container lives; one that can be taken is a dead one's.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::leases::lock;

/// The container's files, with their places in it.
const TARGETS: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"];

/// The name servers that docker falls back to.
const PUBLIC: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)),
    IpAddr::V4(Ipv4Addr::new(8, 8, 4, 4)),
];

/// A directory with the three files. Dropping it removes them.
pub struct Files {
    directory: PathBuf,
    _lock: File,
}

/// Who the container is, for its files.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// Names the directory; unique among living containers.
    pub id: &'a str,
    /// Its host name.
    pub hostname: &'a str,
    /// Its address; `None` where it has but loopback.
    pub address: Option<Ipv4Addr>,
    /// The only name server that it can reach; `None` to choose among the host's.
    pub nameserver: Option<Ipv4Addr>,
}

impl Files {
    /// Writes the files, after removing those of dead containers.
    ///
    /// # Errors
    /// The id is no file name, or a living container has it.
    pub fn write(run_dir: &Path, who: &Identity<'_>) -> Result<Self> {
        let Identity {
            id,
            hostname,
            address,
            nameserver,
        } = *who;
        let is_name = !id.is_empty() && !id.contains('/') && id != "." && id != "..";
        ensure!(
            is_name,
            "{id:?} cannot name a container: it must be usable as a file name"
        );
        let containers = containers(run_dir);
        let directory = containers.join(id);
        let files = {
            let _lock = lock(run_dir)?;
            fs::create_dir_all(&containers)
                .with_context(|| format!("create {}", containers.display()))?;
            sweep(&containers)?;
            Self::claim(&directory)?
        };
        let servers = match nameserver {
            Some(server) => vec![server.into()],
            None => reachable_servers()?,
        };
        let resolver = Resolver {
            servers: &servers,
            ..Resolver::default()
        };
        let resolv = resolver.over(&host_resolv_conf()?);
        let own = address
            .map(|address| format!("{address}\t{hostname}\n"))
            .unwrap_or_default();
        files.put("resolv.conf", &resolv)?;
        files.put("hosts", &format!("{LOCALHOST}{own}"))?;
        files.put("hostname", &format!("{hostname}\n"))?;
        Ok(files)
    }

    /// Each file and its place in the container.
    pub fn list(&self) -> [(PathBuf, &'static str); 3] {
        TARGETS.map(|target| {
            (
                self.directory.join(target.trim_start_matches("/etc/")),
                target,
            )
        })
    }

    /// The directory, which may hold other things of the same life.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn claim(directory: &Path) -> Result<Self> {
        let place = directory.display().to_string();
        match DirBuilder::new().mode(0o755).create(directory) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("a container of this id is running: {place} exists")
            }
            made => made.with_context(|| format!("create {place}"))?,
        }
        let lock = File::open(directory).and_then(|file| file.lock().map(|()| file));
        lock.map(|_lock| Self {
            directory: directory.to_owned(),
            _lock,
        })
        .map_err(|error| {
            let _ = fs::remove_dir(directory); // what cannot be removed either is swept later
            anyhow!(error).context(format!("lock {place}"))
        })
    }

    fn put(&self, name: &str, text: &str) -> Result<()> {
        let path = self.directory.join(name);
        // Whoever the container's program runs as must be able to read them, whatever our umask.
        fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o644)))
            .with_context(|| format!("write {}", path.display()))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            tracing::warn!("{} is not removed: {error}", self.directory.display());
        }
    }
}

/// The directory of all containers' directories.
pub(crate) fn containers(run_dir: &Path) -> PathBuf {
    run_dir.join("network/containers")
}

/// The directories whose lock nobody holds.
pub(crate) fn dead(containers: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(containers).into_iter().flatten().flatten();
    let mut all: Vec<_> = entries.map(|entry| entry.path()).collect();
    all.retain(|path| File::open(path).is_ok_and(|directory| directory.try_lock().is_ok()));
    all
}

/// Removes those, with the networks' lock in hand: nobody takes a directory of that name meanwhile.
pub(crate) fn sweep(containers: &Path) -> Result<()> {
    for directory in dead(containers) {
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed.with_context(|| {
                format!("remove what a dead container left, {}", directory.display())
            })?,
        }
    }
    Ok(())
}

/// What every container's hosts begins with.
pub const LOCALHOST: &str = "\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
";

/// The host's resolv.conf.
///
/// # Errors
/// It cannot be read.
pub fn host_resolv_conf() -> Result<String> {
    read_host("/etc/resolv.conf")
}

/// The host's name servers, as far as a container can reach them. A resolver on the host's loopback
/// is out of reach: in the container, 127.0.0.1 is the container. systemd-resolved, the usual one
/// there, writes down elsewhere whom it asks itself.
///
/// # Errors
/// The host's resolv.conf cannot be read.
pub fn reachable_servers() -> Result<Vec<IpAddr>> {
    let mut servers = reachable(&host_resolv_conf()?);
    if servers.is_empty() {
        servers = reachable(&read_host("/run/systemd/resolve/resolv.conf")?);
    }
    if servers.is_empty() {
        servers = PUBLIC.to_vec();
    }
    Ok(servers)
}

/// The file's text; none where there is no file. Bytes outside UTF-8 can only be in comments.
fn read_host(path: &str) -> Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("read {path}")),
    }
}

/// The IPv4 name servers that are not on loopback; the container has no way to IPv6 ones.
fn reachable(resolv: &str) -> Vec<IpAddr> {
    resolv
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok())?
        })
        .filter(|server: &IpAddr| {
            server.is_ipv4() && !server.is_loopback() && !server.is_unspecified()
        })
        .collect()
}

/// What a container's resolv.conf(5) has instead of the host's lines; an empty list keeps them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resolver<'a> {
    /// Name servers.
    pub servers: &'a [IpAddr],
    /// Domains in which a short name is looked for; `.` alone: none.
    pub search: &'a [String],
    /// Options.
    pub options: &'a [String],
}

impl Resolver<'_> {
    /// The text, over the host's.
    pub fn over(&self, host: &str) -> String {
        let mut text = String::new();
        for server in self.servers {
            text += &format!("nameserver {server}\n");
        }
        let kept = |line: &&str| match line.split_whitespace().next() {
            Some("nameserver") => self.servers.is_empty(),
            Some("search" | "domain") => self.search.is_empty(),
            Some("options") => self.options.is_empty(),
            Some("sortlist") => true,
            _ => false,
        };
        for line in host.lines().filter(kept) {
            text += &format!("{line}\n");
        }
        if !self.search.is_empty() && self.search != ["."] {
            text += &format!("search {}\n", self.search.join(" "));
        }
        if !self.options.is_empty() {
            text += &format!("options {}\n", self.options.join(" "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_on_loopback_or_ipv6_is_left_out_and_options_are_kept() {
        let host = "# local\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 2001:db8::1\n\
                    nameserver 192.0.2.53 # office\noptions edns0\nsearch lan example.org\n";
        let servers = reachable(host);
        let mut resolver = Resolver {
            servers: &servers,
            ..Resolver::default()
        };
        let text = resolver.over(host);
        assert_eq!(
            text,
            "nameserver 192.0.2.53\noptions edns0\nsearch lan example.org\n"
        );
        let (search, options) = ([".".to_owned()], ["ndots:2".to_owned()]);
        (resolver.search, resolver.options) = (&search, &options);
        assert_eq!(
            resolver.over(host),
            "nameserver 192.0.2.53\noptions ndots:2\n"
        );
    }

    #[test]
    fn nothing_reachable_is_an_empty_list() {
        assert_eq!(
            reachable("nameserver 127.0.0.53\nnameserver\nnameserver x\n; nameserver 1.2.3.4"),
            [] as [IpAddr; 0]
        );
    }
}
