//! How a container is connected, and who it can call by name.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use minidocker::engine::containers::ports::{parse_expose, parse_port};
use minidocker::state::{self, HostConfig, Wanted};
use serde_json::{Value, json};

/// How a container is connected.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(super) struct Network {
    /// Lead a port of the host to the container; without one of the host's to any
    #[arg(short, long, value_name = "[[IP:]HOST:]CONTAINER[/udp]")]
    publish: Vec<String>,
    /// Lead ports of the host to all that are exposed
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Say which ports its program listens on
    #[arg(long, value_name = "PORT[-PORT][/udp]")]
    expose: Vec<String>,
    /// What it is connected to: bridge, none, host, container:NAME, or networks that were made, each
    /// also as name=NETWORK,alias=NAME,ip=ADDRESS,ip6=ADDRESS,mac-address=ADDRESS
    #[arg(long, visible_alias = "net", value_name = "NETWORK", value_parser = attachment)]
    network: Vec<Attachment>,
    /// Its address in the first of them
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// Its IPv6 address in the first of them
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
    /// Its hardware address in the first of them, as 02:00:00:00:00:01
    #[arg(long, value_name = "ADDRESS", value_parser = hardware)]
    mac_address: Option<[u8; 6]>,
    /// What others call it in the first of them, beside its name
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
    /// A server that knows names
    #[arg(long, value_name = "ADDRESS", value_parser = server)]
    dns: Vec<String>,
    /// A domain in which names without a dot are looked for
    #[arg(long, value_name = "DOMAIN", value_parser = domain)]
    dns_search: Vec<String>,
    /// An option of the resolver's
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// A name with its address
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = extra_host)]
    add_host: Vec<String>,
}

impl Network {
    /// Writes it down. Returns the exposed ports, the published ones among them.
    ///
    /// # Errors
    /// Something makes no sense.
    pub(super) fn write(self, host: &mut HostConfig) -> Result<BTreeMap<String, Value>> {
        let mut listening = BTreeMap::new();
        for text in &self.expose {
            let ports = parse_expose(text)?;
            listening.extend(ports.into_iter().map(|port| (port, json!({}))));
        }
        let mut known = HashSet::new();
        for text in &self.publish {
            for port in parse_port(text)? {
                listening.insert(format!("{}/{}", port.container, port.protocol), json!({}));
                if known.insert(port.clone()) {
                    host.ports.push(port);
                }
            }
        }
        host.publish_all_ports = self.publish_all;
        let first = Wanted {
            aliases: self.network_alias,
            address: self.ip,
            six: self.ip6,
            hardware: self.mac_address,
        };
        connect(self.network, first, host)?;
        host.dns = self.dns;
        host.dns_search = self.dns_search;
        host.dns_options = self.dns_option;
        host.extra_hosts = self.add_host;
        Ok(listening)
    }
}

/// One `--network`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Attachment {
    /// A network's name or id, or a mode.
    name: String,
    wanted: Wanted,
}

/// `NETWORK`, or `name=NETWORK,alias=NAME,ip=ADDRESS`.
fn attachment(text: &str) -> Result<Attachment> {
    let mut one = Attachment::default();
    if text.contains('=') {
        for field in text.split(',') {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
            match key.as_str() {
                "name" => value.clone_into(&mut one.name),
                "alias" => one.wanted.aliases.push(value.to_owned()),
                "ip" => one.wanted.address = Some(value.parse().context("invalid IPv4 address")?),
                "ip6" => one.wanted.six = Some(value.parse().context("invalid IPv6 address")?),
                "mac-address" => one.wanted.hardware = Some(hardware(value)?),
                _ => bail!("invalid field key {key}; there are: name, alias, ip, ip6, mac-address"),
            }
        }
        ensure!(!one.name.is_empty(), "network name/id is not specified");
    } else {
        text.clone_into(&mut one.name);
    }
    match one.name.split_once(':') {
        Some(("container", "")) => bail!("invalid container format container:<name|id>"),
        None if one.name.is_empty() || one.name == "default" => {
            state::Network::DEFAULT.clone_into(&mut one.name);
        }
        _ => {}
    }
    Ok(one)
}

/// Writes down what it is connected to; what is `first` was said of the first alone.
fn connect(mut all: Vec<Attachment>, first: Wanted, host: &mut HostConfig) -> Result<()> {
    if all.is_empty() {
        all.push(attachment(state::Network::DEFAULT)?);
    }
    let is_made = |one: &Attachment| {
        let predefined = ["bridge", "host", "none"].contains(&one.name.as_str());
        !predefined && !one.name.starts_with("container:")
    };
    ensure!(
        all.iter().all(is_made) || !all.iter().any(is_made),
        "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
    );
    if let Some(one) = all.first_mut() {
        ensure!(
            first.hardware.is_none() || (one.name != "host" && !one.name.starts_with("container:")),
            "conflicting options: mac-address and the network mode"
        );
        one.name.clone_into(&mut host.network_mode);
        add(&mut one.wanted, first)?;
    }
    let several = all.len() > 1;
    for Attachment { name, wanted } in all {
        ensure!(
            !host.networks.contains_key(&name),
            "network {name:?} is specified multiple times"
        );
        if several || wanted != Wanted::default() {
            host.networks.insert(name, wanted);
        }
    }
    Ok(())
}

/// What was said in a network's own words, and beside them.
fn add(own: &mut Wanted, beside: Wanted) -> Result<()> {
    ensure!(
        own.aliases.is_empty() || beside.aliases.is_empty(),
        "conflicting options: cannot specify both --network-alias and per-network alias"
    );
    ensure!(
        own.address.is_none() || beside.address.is_none(),
        "conflicting options: cannot specify both --ip and per-network IPv4 address"
    );
    ensure!(
        own.six.is_none() || beside.six.is_none(),
        "conflicting options: cannot specify both --ip6 and per-network IPv6 address"
    );
    ensure!(
        own.hardware.is_none() || beside.hardware.is_none(),
        "conflicting options: cannot specify both --mac-address and per-network MAC address"
    );
    own.hardware = own.hardware.or(beside.hardware);
    own.aliases.extend(beside.aliases);
    own.address = own.address.or(beside.address);
    own.six = own.six.or(beside.six);
    Ok(())
}

/// Six numbers of two hexadecimal digits, with colons or dashes; one machine's (IEEE 802: the lowest bit
/// of the first is that of a group).
fn hardware(text: &str) -> Result<[u8; 6]> {
    let what = || format!("{text} is not a valid mac address");
    let byte = |part: &str| {
        let digits = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
        u8::from_str_radix(part, 16).ok().filter(|_| digits)
    };
    let separator = if text.contains('-') { '-' } else { ':' };
    let bytes: Option<Vec<u8>> = text.split(separator).map(byte).collect();
    let address: [u8; 6] = bytes
        .with_context(what)?
        .try_into()
        .ok()
        .with_context(what)?;
    ensure!(address[0] & 1 == 0 && address != [0; 6], "{}", what());
    Ok(address)
}

fn server(text: &str) -> Result<String> {
    let address: IpAddr = text
        .trim()
        .parse()
        .with_context(|| format!("{text} is not an ip address"))?;
    Ok(address.to_string())
}

/// `.` is the wish to have none.
fn domain(text: &str) -> Result<String> {
    let label = |label: &str| {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        (1..=63).contains(&label.len()) && label.bytes().all(inside)
    };
    let whole = text.trim().trim_end_matches('.');
    let fits = whole.len() <= 253 && whole.split('.').all(label);
    ensure!(text.trim() == "." || fits, "{text} is not a valid domain");
    Ok(text.trim().to_owned())
}

/// Written with a colon, or with an equals sign; `host-gateway` is the host as the container sees
/// it.
fn extra_host(text: &str) -> Result<String> {
    let parts = text.split_once('=').or_else(|| text.split_once(':'));
    let Some((name, address)) = parts.filter(|(name, _)| !name.is_empty()) else {
        bail!("bad format for add-host: \"{text}\"");
    };
    let plain = address
        .strip_prefix('[')
        .and_then(|address| address.strip_suffix(']'))
        .unwrap_or(address);
    ensure!(
        plain == "host-gateway" || plain.parse::<IpAddr>().is_ok(),
        "invalid IP address in add-host: \"{address}\""
    );
    // It becomes a line of /etc/hosts.
    ensure!(
        !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#'),
        "bad format for add-host: \"{text}\""
    );
    Ok(format!("{name}:{plain}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_name_and_an_address() {
        assert_eq!(extra_host("db:10.0.0.1").unwrap(), "db:10.0.0.1");
        assert_eq!(extra_host("db=10.0.0.1").unwrap(), "db:10.0.0.1");
        assert_eq!(extra_host("six:[::1]").unwrap(), "six:::1");
        assert_eq!(extra_host("h:host-gateway").unwrap(), "h:host-gateway");
        for text in [
            "",
            "db",
            ":1.2.3.4",
            "db:",
            "db:1.2.3",
            "db:x",
            "a b:1.2.3.4",
        ] {
            assert!(extra_host(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_hardware_address_is_one_machine_s() {
        let address = [2, 0x42, 0xac, 0, 0, 0x1f];
        assert_eq!(hardware("02:42:ac:00:00:1F").unwrap(), address);
        assert_eq!(hardware("02-42-ac-00-00-1f").unwrap(), address);
        for text in [
            "",
            "02:42:ac:00:00",
            "2:42:ac:0:0:1",
            "x2:42:ac:00:00:01",
            "+2:42:ac:00:00:01",
            "01:42:ac:00:00:01",
            "00:00:00:00:00:00",
        ] {
            assert!(hardware(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_are_looked_up_at_addresses_and_in_domains() {
        assert_eq!(server("1.1.1.1").unwrap(), "1.1.1.1");
        assert_eq!(
            server("dns.example").unwrap_err().to_string(),
            "dns.example is not an ip address"
        );
        for text in ["example.org", ".", "a-b.c_d"] {
            assert!(domain(text).is_ok(), "{text:?}");
        }
        for text in ["", "..", "a..b", "a b", "a\nb"] {
            assert!(domain(text).is_err(), "{text:?}");
        }
    }

    fn network(words: &[&str]) -> Network {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            network: Network,
        }
        let words = ["run"].iter().chain(words);
        clap::Parser::try_parse_from(words)
            .map(|line: Line| line.network)
            .expect("a line")
    }

    #[test]
    fn a_published_port_is_exposed_too() {
        let mut host = HostConfig::default();
        let words = ["-p", "8080:80", "-p", "published=53,target=53,protocol=udp"];
        let network = network(&[&words[..], &["--expose", "7-8/udp", "--net", "default"]].concat());
        let listening = network.write(&mut host).expect("write");
        let listening: Vec<_> = listening.keys().map(String::as_str).collect();
        assert_eq!(listening, ["53/udp", "7/udp", "8/udp", "80/tcp"]);
        assert_eq!(host.ports.len(), 2);
        assert_eq!(host.network_mode, "bridge");
        assert!(parse_port("published=1,what=2").is_err());
    }

    #[test]
    fn a_container_is_connected_to_several_networks() {
        let written = |words: &[&str]| {
            let mut host = HostConfig::default();
            network(words).write(&mut host).map(|_| host)
        };
        let host = written(&[
            "--network",
            "front",
            "--network",
            "name=back,alias=a,alias=b,ip=10.1.0.7",
            "--ip",
            "10.0.0.7",
            "--ip6",
            "fd00::7",
            "--network-alias",
            "web",
        ])
        .expect("write");
        assert_eq!(host.network_mode, "front");
        let front = &host.networks["front"];
        assert_eq!(front.aliases, ["web"]);
        assert_eq!(front.address, Some(Ipv4Addr::new(10, 0, 0, 7)));
        assert_eq!(
            front.six.map(|six| six.to_string()).as_deref(),
            Some("fd00::7")
        );
        assert_eq!(host.networks["back"].aliases, ["a", "b"]);
        assert_eq!(
            written(&["--net", "none"]).expect("write").networks.len(),
            0
        );
        for (words, said) in [
            (
                &["--network", "a", "--network", "a"][..],
                "network \"a\" is specified multiple times",
            ),
            (
                &["--network", "a", "--network", "host"],
                "cannot attach both user-defined",
            ),
            (
                &["--network", "name=a,ip=10.0.0.7", "--ip", "10.0.0.8"],
                "both --ip and per-network",
            ),
        ] {
            let error = written(words).expect_err(said).to_string();
            assert!(error.contains(said), "{error}");
        }
        for text in ["container:", "alias=a", "name=a,what=b", "name=a,ip=b"] {
            assert!(attachment(text).is_err(), "{text}");
        }
    }
}
