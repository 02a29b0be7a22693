//! Published ports as people write and read them: `-p`, `--expose`, `docker port`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::state::{Container, Port};

/// Reads `-p`: `[[IP:][HOST]:]CONTAINER[/PROTOCOL]`, where a port may be a range, or
/// `published=HOST,target=CONTAINER,protocol=PROTOCOL`.
///
/// # Errors
/// It is nothing of the kind, or a thing of docker's that there is not here: SCTP.
pub fn parse_port(text: &str) -> Result<Vec<Port>> {
    let short = match text.contains('=') {
        true => shorten(text)?,
        false => text.to_owned(),
    };
    let (address, host, container) = split(&short);
    let (container, protocol) = split_protocol(container);
    let address = parse_address(address)?;
    ensure!(!container.is_empty(), "No port specified: {text}<empty>");
    let (first, last) =
        parse_range(container).with_context(|| format!("Invalid containerPort: {container}"))?;
    ensure!(first != 0, "Invalid containerPort: {container}");
    let on_host = match host {
        "" => None,
        host => Some(parse_range(host).with_context(|| format!("Invalid hostPort: {host}"))?),
    };
    let protocol = parse_protocol(protocol)?;
    let port = Port {
        address,
        protocol,
        ..Port::default()
    };
    match on_host {
        // One port of the container, and any of these of the host.
        Some((host, end)) if first == last && host != end => Ok(vec![Port {
            host,
            last: end,
            container: first,
            ..port
        }]),
        Some((host, end)) => {
            ensure!(
                last - first == end - host,
                "Invalid ranges specified for container and host Ports: {container} and {}",
                range(host, end)
            );
            let pairs = (host..=end).zip(first..=last);
            Ok(pairs
                .map(|(host, container)| Port {
                    host,
                    container,
                    ..port.clone()
                })
                .collect())
        }
        None => Ok((first..=last)
            .map(|container| Port {
                container,
                ..port.clone()
            })
            .collect()),
    }
}

/// Reads `--expose`: `PORT[-PORT][/PROTOCOL]`; answers `80/tcp`, one each.
///
/// # Errors
/// It is nothing of the kind.
pub fn parse_expose(text: &str) -> Result<Vec<String>> {
    ensure!(
        !text.contains(':'),
        "invalid port format for --expose: {text}"
    );
    let (ports, protocol) = split_protocol(text);
    let (first, last) =
        parse_range(ports).with_context(|| format!("invalid range format for --expose: {text}"))?;
    let protocol = parse_protocol(protocol)?;
    Ok((first..=last)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

/// What is published of a container that runs, by its own ports: that is what people look for.
#[must_use]
pub fn published(container: &Container) -> Vec<Port> {
    let mut ports = container.life.ports.clone();
    ports.sort_by_key(|port| (port.container, port.protocol.clone(), on_host(port)));
    ports
}

/// Where the host answers.
#[must_use]
pub fn on_host(port: &Port) -> SocketAddr {
    let address = port.address.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    SocketAddr::new(address, port.host)
}

/// The long form as the short one.
fn shorten(text: &str) -> Result<String> {
    let (mut published, mut target, mut protocol) = ("", "", "tcp");
    for field in text.split(',') {
        let (key, value) = field.split_once('=').with_context(|| {
            format!("invalid publish opts format (should be name=value but got '{field}')")
        })?;
        match key {
            "published" => published = value,
            "target" => target = value,
            "protocol" => protocol = value,
            "mode" => {}
            _ => bail!(
                "invalid publish option {key}: there are published, target, protocol and mode"
            ),
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

/// Address, the host's port, the container's.
fn split(text: &str) -> (&str, &str, &str) {
    let Some((rest, container)) = text.rsplit_once(':') else {
        return ("", "", text);
    };
    match rest.rsplit_once(':') {
        Some((address, host)) => (address, host, container),
        None => ("", rest, container),
    }
}

fn split_protocol(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        None | Some((_, "")) => (text.trim_end_matches('/'), "tcp"),
        Some(parts) => parts,
    }
}

fn parse_address(text: &str) -> Result<Option<IpAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    let plain = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = plain.unwrap_or(text).parse();
    let address = address.map_err(|_| anyhow!("Invalid ip address: {text}"))?;
    Ok(Some(address))
}

fn parse_protocol(text: &str) -> Result<String> {
    let protocol = text.to_ascii_lowercase();
    match protocol.as_str() {
        "tcp" | "udp" => Ok(protocol),
        "sctp" => bail!("SCTP ports cannot be published: tcp and udp can"),
        _ => bail!("Invalid proto: {text}"),
    }
}

fn parse_range(text: &str) -> Result<(u16, u16)> {
    let number = |text: &str| -> Result<u16> {
        // u16's own parser takes "+80".
        ensure!(
            text.bytes().all(|byte| byte.is_ascii_digit()),
            "{text:?} is no port"
        );
        text.parse().with_context(|| format!("{text:?} is no port"))
    };
    let Some((first, last)) = text.split_once('-') else {
        let port = number(text)?;
        return Ok((port, port));
    };
    let (first, last) = (number(first)?, number(last)?);
    ensure!(first <= last, "{text} is no range of ports");
    Ok((first, last))
}

fn range(first: u16, last: u16) -> String {
    match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each as `ADDRESS:HOST[-LAST]:CONTAINER/PROTOCOL`.
    fn read(text: &str) -> Vec<String> {
        let show = |port: Port| {
            let host = range(port.host, port.last.max(port.host));
            let address = port.address.map(|address| address.to_string());
            let (container, protocol) = (port.container, port.protocol);
            format!(
                "{}:{host}:{container}/{protocol}",
                address.unwrap_or_default()
            )
        };
        let ports = parse_port(text).unwrap_or_else(|error| panic!("{text}: {error:#}"));
        ports.into_iter().map(show).collect()
    }

    fn refused(text: &str) -> String {
        parse_port(text).expect_err(text).to_string()
    }

    #[test]
    fn a_port_is_written_as_docker_has_it() {
        assert_eq!(read("80"), [":0:80/tcp"]);
        assert_eq!(read("80/udp"), [":0:80/udp"]);
        assert_eq!(read("8080:80"), [":8080:80/tcp"]);
        assert_eq!(read(":80"), [":0:80/tcp"]);
        assert_eq!(read("0:80"), [":0:80/tcp"]);
        assert_eq!(read("127.0.0.1:8080:80/TCP"), ["127.0.0.1:8080:80/tcp"]);
        assert_eq!(read("127.0.0.1::80"), ["127.0.0.1:0:80/tcp"]);
        assert_eq!(read("0.0.0.0:53:53/udp"), ["0.0.0.0:53:53/udp"]);
        assert_eq!(read("[::1]:8080:80"), ["::1:8080:80/tcp"]);
        assert_eq!(read("::1:8080:80"), ["::1:8080:80/tcp"]);
        assert_eq!(read("[::]::80"), [":::0:80/tcp"]);
        assert_eq!(read("8080:80/"), [":8080:80/tcp"]);
        assert_eq!(
            read("published=8080,target=80,protocol=udp,mode=ingress"),
            [":8080:80/udp"]
        );
    }

    #[test]
    fn a_range_leads_to_a_range_or_is_a_choice_for_one_port() {
        assert_eq!(read("80-81"), [":0:80/tcp", ":0:81/tcp"]);
        assert_eq!(read("8000-8001:80-81"), [":8000:80/tcp", ":8001:81/tcp"]);
        assert_eq!(read("8000-8010:80"), [":8000-8010:80/tcp"]);
        assert_eq!(read("65535-65535:80"), [":65535:80/tcp"]);
        assert_eq!(
            refused("8000-8010:80-81"),
            "Invalid ranges specified for container and host Ports: 80-81 and 8000-8010"
        );
        assert_eq!(
            refused("8000:80-81"),
            "Invalid ranges specified for container and host Ports: 80-81 and 8000"
        );
    }

    #[test]
    fn what_is_no_port_is_refused_in_dockers_words() {
        for (text, sentence) in [
            ("x", "Invalid containerPort: x"),
            ("80:x", "Invalid containerPort: x"),
            ("80:0", "Invalid containerPort: 0"),
            ("80:65536", "Invalid containerPort: 65536"),
            ("80:81-80", "Invalid containerPort: 81-80"),
            ("+80:80", "Invalid hostPort: +80"),
            ("-:80", "Invalid hostPort: -"),
            ("300.1.1.1:80:80", "Invalid ip address: 300.1.1.1"),
            ("80:80/icmp", "Invalid proto: icmp"),
            ("8080:", "No port specified: 8080:<empty>"),
            ("", "No port specified: <empty>"),
            (":", "No port specified: :<empty>"),
        ] {
            assert_eq!(refused(text), sentence);
        }
        assert!(refused("80/sctp").contains("SCTP"));
        assert_eq!(refused("[::1:80:80"), "Invalid ip address: [::1");
        assert!(refused("host=80").contains("publish option host"));
    }

    #[test]
    fn what_is_exposed_is_a_port_or_a_range() {
        let expose = |text: &str| parse_expose(text).expect(text);
        assert_eq!(expose("80"), ["80/tcp"]);
        assert_eq!(expose("53-54/udp"), ["53/udp", "54/udp"]);
        for wrong in ["80:80", "x", "2-1", "", "80/icmp"] {
            assert!(parse_expose(wrong).is_err(), "{wrong}");
        }
    }
}
