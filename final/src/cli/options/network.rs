//! How a container is connected, and who it can call by name.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use minidocker::engine::containers::ports::{parse_expose, parse_port};
use minidocker::state::{HostConfig, Wanted};
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
    /// What it is connected to: bridge, none, host, or container:NAME
    #[arg(long, visible_alias = "net", value_name = "NETWORK", default_value = "bridge",
          hide_default_value = true, value_parser = mode)]
    network: String,
    /// Its address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
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
        for text in &self.publish {
            for port in parse_port(text)? {
                listening.insert(format!("{}/{}", port.container, port.protocol), json!({}));
                if !host.ports.contains(&port) {
                    host.ports.push(port);
                }
            }
        }
        host.publish_all_ports = self.publish_all;
        host.network_mode = self.network;
        if let Some(address) = self.ip {
            host.networks.insert(
                host.network_mode.clone(),
                Wanted {
                    address: Some(address),
                    ..Wanted::default()
                },
            );
        }
        host.dns = self.dns;
        host.dns_search = self.dns_search;
        host.dns_options = self.dns_option;
        host.extra_hosts = self.add_host;
        Ok(listening)
    }
}

fn mode(text: &str) -> Result<String> {
    match text.split_once(':') {
        Some(("container", "")) => bail!("invalid container format container:<name|id>"),
        None if text.is_empty() || text == "default" => Ok("bridge".to_owned()),
        _ => Ok(text.to_owned()),
    }
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

    #[test]
    fn a_published_port_is_exposed_too() {
        let mut host = HostConfig::default();
        let network = Network {
            publish: vec![
                "8080:80".to_owned(),
                "published=53,target=53,protocol=udp".to_owned(),
            ],
            publish_all: false,
            expose: vec!["7-8/udp".to_owned()],
            network: mode("default").unwrap(),
            ip: None,
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_option: Vec::new(),
            add_host: Vec::new(),
        };
        let listening = network.write(&mut host).expect("write");
        let listening: Vec<_> = listening.keys().map(String::as_str).collect();
        assert_eq!(listening, ["53/udp", "7/udp", "8/udp", "80/tcp"]);
        assert_eq!(host.ports.len(), 2);
        assert_eq!(host.network_mode, "bridge");
        assert!(mode("container:").is_err());
        assert!(parse_port("published=1,what=2").is_err());
    }
}
