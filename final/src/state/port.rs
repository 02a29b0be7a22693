//! Ports, as docker's command line and Dockerfiles write them.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use anyhow::{Result, anyhow, bail, ensure};

use super::Port;

impl Port {
    /// Reads `-p [[ADDRESS:][HOST]:]CONTAINER[/PROTOCOL]`, whose ports may be ranges of one length.
    ///
    /// # Errors
    /// It makes no sense, or asks for what there is not: IPv6, SCTP.
    pub fn parse(text: &str) -> Result<Vec<Port>> {
        let (place, protocol) = split_protocol(text)?;
        let (place, container) = place.rsplit_once(':').unwrap_or(("", place));
        let (address, host) = place.rsplit_once(':').unwrap_or(("", place));
        ensure!(!container.is_empty(), "no port specified: {text}<empty>");
        let Some(inside) = range(container) else {
            bail!("invalid containerPort: {container}");
        };
        let address = address_of(address)?;
        let outside = match host {
            "" => None,
            host => Some(range(host).ok_or_else(|| anyhow!("invalid hostPort: {host}"))?),
        };
        let lengths = outside
            .as_ref()
            .map(|outside| (outside.len(), inside.len()));
        if let Some((outside, inside)) = lengths {
            ensure!(
                outside == inside || inside > 1,
                "{text}: one port of the container cannot be published at one of several of the \
                 host's; write which, or none for any"
            );
            ensure!(
                outside == inside,
                "invalid ranges specified for container and host Ports: {container} and {host}"
            );
        }
        let hosts = match outside {
            None => vec![0; inside.len()],
            Some(outside) => outside.collect(),
        };
        let port = |(host, container): (u16, u16)| Port {
            address,
            host,
            container,
            protocol: protocol.clone(),
        };
        Ok(hosts.into_iter().zip(inside).map(port).collect())
    }
}

/// Reads what `--expose` and the instruction EXPOSE list: `80`, `80/udp`, `8000-8010/tcp`. Each
/// comes as docker's documents have it: `80/tcp`.
///
/// # Errors
/// It is no port, or of a protocol that nobody knows.
pub fn exposed(text: &str) -> Result<Vec<String>> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let known = ["tcp", "udp", "sctp"].contains(&protocol.as_str());
    ensure!(known, "the protocol is none of tcp, udp and sctp");
    let ports = range(ports).ok_or_else(|| anyhow!("{ports:?} is neither a port nor a range"))?;
    Ok(ports.map(|port| format!("{port}/{protocol}")).collect())
}

fn split_protocol(text: &str) -> Result<(&str, String)> {
    let (place, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    match protocol.as_str() {
        "tcp" | "udp" => Ok((place, protocol)),
        "sctp" => bail!("{text}: SCTP cannot be published, only tcp and udp"),
        _ => bail!("invalid proto: {protocol}"),
    }
}

fn address_of(text: &str) -> Result<Option<Ipv4Addr>> {
    let plain = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    match plain.unwrap_or(text).parse() {
        Ok(IpAddr::V4(address)) => Ok(Some(address).filter(|address| !address.is_unspecified())),
        Ok(IpAddr::V6(_)) => bail!("{text}: IPv6 addresses cannot be published"),
        Err(_) if text.is_empty() => Ok(None),
        Err(_) => bail!("invalid IP address: {text}"),
    }
}

/// `80` or `8000-8010`; none of them is 0.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let port = |text: &str| {
        // u16's own parser takes "+80".
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let port: u16 = text.parse().ok().filter(|_| digits)?;
        (port != 0).then_some(port)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let ports = Port::parse(text).expect(text);
        let shown = |port: &Port| {
            let address = port.address.unwrap_or(Ipv4Addr::UNSPECIFIED);
            format!(
                "{address}:{}->{}/{}",
                port.host, port.container, port.protocol
            )
        };
        ports.iter().map(shown).collect()
    }

    #[test]
    fn a_port_is_published_in_docker_s_notations() {
        assert_eq!(shown("80"), ["0.0.0.0:0->80/tcp"]);
        assert_eq!(shown("8080:80"), ["0.0.0.0:8080->80/tcp"]);
        assert_eq!(shown("127.0.0.1::80"), ["127.0.0.1:0->80/tcp"]);
        assert_eq!(shown("127.0.0.1:53:5353/UDP"), ["127.0.0.1:53->5353/udp"]);
        assert_eq!(
            shown("8000-8001:80-81"),
            ["0.0.0.0:8000->80/tcp", "0.0.0.0:8001->81/tcp"]
        );
        assert_eq!(shown("80-81"), ["0.0.0.0:0->80/tcp", "0.0.0.0:0->81/tcp"]);
    }

    #[test]
    fn a_wrong_port_is_refused_with_a_sentence() {
        for (text, why) in [
            ("", "no port specified: <empty>"),
            ("8080:", "no port specified: 8080:<empty>"),
            ("x", "invalid containerPort: x"),
            ("0", "invalid containerPort: 0"),
            ("+80", "invalid containerPort: +80"),
            ("81-80", "invalid containerPort: 81-80"),
            ("65536:80", "invalid hostPort: 65536"),
            ("80:80/icmp", "invalid proto: icmp"),
            ("80:80/sctp", "SCTP"),
            ("300.1.1.1:80:80", "invalid IP address: 300.1.1.1"),
            ("[::1]:80:80", "IPv6"),
            (
                "1-3:80-81",
                "invalid ranges specified for container and host Ports: 80-81 and 1-3",
            ),
            ("8000-8010:80", "one of several"),
        ] {
            let error = Port::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn ports_are_exposed_one_by_one_or_in_ranges() {
        assert_eq!(exposed("80").unwrap(), ["80/tcp"]);
        assert_eq!(exposed("7-8/UDP").unwrap(), ["7/udp", "8/udp"]);
        for text in ["", "80/", "a", "8-7", "0", "80/icmp", "-"] {
            assert!(exposed(text).is_err(), "{text:?}");
        }
    }
}
