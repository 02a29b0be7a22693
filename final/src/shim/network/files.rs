//! hosts, hostname and resolv.conf: what is mounted over the image's.

use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use network::files::{LOCALHOST, Resolver, host_resolv_conf, reachable_servers};

use crate::keeper;
use crate::state::Container;

/// What the files of a container are made of.
pub struct Files {
    /// What its hosts begins with.
    hosts: String,
    /// Its addresses, for its own lines there.
    addresses: Vec<IpAddr>,
    servers: Servers,
    /// What `host-gateway` stands for.
    gateway: Option<Ipv4Addr>,
}

/// Whom a container asks for names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Servers {
    /// Those of the host, its resolver on loopback among them.
    OfHost,
    /// Those of the host that can be reached from elsewhere.
    Reachable,
    /// A carrier's.
    Carrier(IpAddr),
    /// The keeper, who asks the others.
    Keeper,
}

impl Files {
    /// Those of a container with a network of its own.
    pub fn own(addresses: Vec<IpAddr>, servers: Servers, gateway: Option<Ipv4Addr>) -> Files {
        Files {
            hosts: LOCALHOST.to_owned(),
            addresses,
            servers,
            gateway,
        }
    }

    /// Those of a container in the host's network: the host's.
    pub fn of_host() -> Result<Files> {
        let hosts = match fs::read("/etc/hosts") {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => LOCALHOST.to_owned(),
            Err(error) => return Err(error).context("read /etc/hosts"),
        };
        Ok(Files {
            hosts,
            addresses: Vec::new(),
            servers: Servers::OfHost,
            gateway: Some(Ipv4Addr::LOCALHOST),
        })
    }

    /// Writes them into `directory`. Returns resolv.conf, as it is in there.
    pub fn write(&self, container: &Container, directory: &Path) -> Result<String> {
        let resolv_conf = self.resolv_conf(container)?;
        for (name, text) in [
            ("hosts", &self.hosts(container)?),
            ("hostname", &format!("{}\n", hostname(container))),
            ("resolv.conf", &resolv_conf),
        ] {
            let path = directory.join(name);
            // Whoever the container's program runs as must be able to read them, whatever our umask.
            fs::write(&path, text)
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o644)))
                .with_context(|| format!("write {}", path.display()))?;
        }
        Ok(resolv_conf)
    }

    /// What its hosts says of itself.
    pub fn own_lines(&self, container: &Container) -> Vec<String> {
        let names = names(container, hostname(container));
        let lines = self.addresses.iter();
        lines.map(|address| format!("{address}\t{names}")).collect()
    }

    fn hosts(&self, container: &Container) -> Result<String> {
        let mut text = self.hosts.clone();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        for extra in &container.host.extra_hosts {
            let (name, address) = extra
                .split_once(['=', ':'])
                .with_context(|| format!("bad format for add-host: \"{extra}\""))?;
            let address = match address {
                "host-gateway" => self
                    .gateway
                    .with_context(|| {
                        format!("{name}:host-gateway: this container has no way to the host")
                    })?
                    .to_string(),
                address => address.trim_matches(['[', ']']).to_owned(),
            };
            text += &format!("{address}\t{name}\n");
        }
        for line in self.own_lines(container) {
            text += &format!("{line}\n");
        }
        Ok(text)
    }

    pub fn resolv_conf(&self, container: &Container) -> Result<String> {
        let asked = &container.host;
        let host = host_resolv_conf()?;
        if self.servers == Servers::Keeper {
            let options = options_with_ndots(&asked.dns_options, &host);
            let resolver = Resolver {
                servers: &[keeper::ADDRESS.into()],
                search: &asked.dns_search,
                options: &options,
            };
            return Ok(resolver.over(&host));
        }
        let mut servers = Vec::new();
        for server in &asked.dns {
            let server: IpAddr = server
                .parse()
                .with_context(|| format!("{server} is not an ip address"))?;
            servers.push(server);
        }
        if servers.is_empty() {
            servers = match self.servers {
                Servers::Carrier(server) => vec![server],
                Servers::Reachable => reachable_servers()?,
                Servers::OfHost | Servers::Keeper => servers,
            };
        }
        if servers.is_empty() && asked.dns_search.is_empty() && asked.dns_options.is_empty() {
            return Ok(host);
        }
        let resolver = Resolver {
            servers: &servers,
            search: &asked.dns_search,
            options: &asked.dns_options,
        };
        Ok(resolver.over(&host))
    }
}

/// A name without a dot may be a neighbour's, and is asked for as it is before any domain is tried
/// (resolv.conf(5), ndots); unless somebody wants it otherwise.
fn options_with_ndots(asked: &[String], host: &str) -> Vec<String> {
    let mut options = asked.to_vec();
    if options.is_empty() {
        let lines = host.lines().map(str::split_whitespace);
        let lines = lines.filter_map(|mut words| (words.next()? == "options").then_some(words));
        options.extend(lines.flatten().map(str::to_owned));
    }
    if !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push("ndots:0".to_owned());
    }
    options
}

fn hostname(container: &Container) -> &str {
    match container.config.hostname.as_str() {
        "" => container.short_id(),
        name => name,
    }
}

/// With a domain, the whole name and the short one.
fn names(container: &Container, hostname: &str) -> String {
    let whole = match container.config.domainname.as_str() {
        "" => hostname.to_owned(),
        domain => format!("{hostname}.{domain}"),
    };
    match whole.split_once('.') {
        Some((short, _)) => format!("{whole} {short}"),
        None => whole,
    }
}
