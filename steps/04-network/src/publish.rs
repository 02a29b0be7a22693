//! `-p 127.0.0.1:8080:80/tcp`: which port of the host leads to which port of the container.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage, bind,
    getsockname, listen, setsockopt, socket, sockopt,
};

/// The transport of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// The default.
    Tcp,
    /// Asked for with `/udp`.
    Udp,
}

impl Protocol {
    /// The number that an IP header carries (`/etc/protocols`).
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// One published port: `[IP:]HOST:CONTAINER[/tcp|/udp]`, as docker's `-p` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish {
    /// The address of the host that answers; `None` means each of IPv4, `::` each of IPv6.
    pub address: Option<IpAddr>,
    /// The port of the host; 0: any that is free, which [`Publish::reserve`] picks.
    pub host: u16,
    /// The port that the container's program listens on.
    pub container: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl FromStr for Publish {
    type Err = anyhow::Error;

    /// Reads docker's syntax; what docker has beyond it (ranges, a port that is picked for you, SCTP)
    /// is refused with a sentence.
    fn from_str(text: &str) -> Result<Self> {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => bail!("invalid protocol {protocol:?} in {text:?}: tcp and udp are known"),
        };
        let unclear = || {
            format!(
                "invalid published port {text:?}: [IP:]HOST:CONTAINER[/tcp|/udp] is wanted, as in 8080:80"
            )
        };
        let (rest, container) = ports.rsplit_once(':').with_context(unclear)?;
        let (address, host) = match rest.rsplit_once(':') {
            Some((address, host)) => (Some(parse_address(address, text)?), host),
            None => (None, rest),
        };
        Ok(Self {
            // All of IPv4, as without.
            address: address.filter(|address| *address != Ipv4Addr::UNSPECIFIED),
            host: parse_port(host, "host", text)?,
            container: parse_port(container, "container", text)?,
            protocol,
        })
    }
}

fn parse_address(ip: &str, text: &str) -> Result<IpAddr> {
    let six = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
    let address = match six {
        Some(six) => six.parse().map(IpAddr::V6),
        None => ip.parse().map(IpAddr::V4),
    };
    address.with_context(|| format!("invalid IP address {ip:?} in {text:?}"))
}

fn parse_port(port: &str, side: &str, text: &str) -> Result<u16> {
    ensure!(
        !port.contains('-'),
        "{text:?}: ranges of ports are not known here; give -p once for each"
    );
    ensure!(
        !port.is_empty(),
        "{text:?} lacks the {side}'s port: none is picked for you"
    );
    // u16's own parser takes "+80".
    ensure!(
        port.bytes().all(|byte| byte.is_ascii_digit()),
        "invalid {side} port {port:?} in {text:?}"
    );
    let number: u16 = port
        .parse()
        .with_context(|| format!("invalid {side} port {port:?} in {text:?}"))?;
    ensure!(
        number != 0,
        "invalid {side} port 0 in {text:?}: ports are 1 to 65535"
    );
    Ok(number)
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            Some(address) => write!(f, "{address}:")?,
            None => {}
        }
        write!(f, "{}:{}/{}", self.host, self.container, self.protocol)
    }
}

/// A published port that is taken on the host: as long as this is held, no program of the host gets
/// it, and `ss -ltun` shows who has it.
#[derive(Debug)]
pub struct Reserved {
    port: Publish,
    socket: OwnedFd,
}

impl Reserved {
    /// The port, with the host's that was picked.
    pub fn port(&self) -> Publish {
        self.port
    }
}

/// The socket that takes it, for who answers what no rule can lead to a container.
impl AsFd for Reserved {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Publish {
    /// Whether both want a port of the host that only one of them can have.
    pub(crate) fn collides(&self, other: &Self) -> bool {
        let addresses_meet = match (self.address, other.address) {
            (Some(one), Some(two)) if one.is_ipv4() == two.is_ipv4() => {
                one == two || one.is_unspecified() || two.is_unspecified()
            }
            (None, Some(one)) | (Some(one), None) => one.is_ipv4(),
            (one, two) => one == two,
        };
        self.protocol == other.protocol && self.host == other.host && addresses_meet
    }

    /// Whether both can be written as one range, this one behind the other.
    pub(crate) fn follows(&self, before: &Self) -> bool {
        let behind = |port: u16| port.checked_add(1);
        let ends = (Some(self.host), Some(self.container));
        ends == (behind(before.host), behind(before.container))
            && (self.address, self.protocol) == (before.address, before.protocol)
    }

    /// Where the host answers.
    pub(crate) fn on_host(&self) -> SocketAddr {
        let address = self.address.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        SocketAddr::new(address, self.host)
    }

    /// Takes the port on the host. Nothing is ever received here: nf_tables turns each packet round
    /// before it reaches the socket.
    ///
    /// A TCP socket must listen to be an obstacle: a bound one yields to every program that sets
    /// SO_REUSEADDR, as all servers do (socket(7)). Of port 0 the kernel makes one that is free
    /// (ip(7), ip_local_port_range).
    ///
    /// # Errors
    /// A program of the host has it, or it is not ours to take.
    pub fn reserve(&self) -> Result<Reserved> {
        let place = self.on_host();
        self.take(place).map_err(|error| {
            let hint = match error.raw_os_error() {
                Some(libc::EADDRINUSE) => format!(
                    "a program of this host has it (`ss -ltunp sport = {}` names it)",
                    self.host
                ),
                Some(libc::EADDRNOTAVAIL) => "no interface of this host has that address".into(),
                Some(libc::EACCES) => {
                    "without root, ports begin at sysctl net.ipv4.ip_unprivileged_port_start".into()
                }
                _ => "bind(2) refused it".into(),
            };
            anyhow::Error::new(error).context(format!(
                "cannot publish {self}: {place}/{} is not to be had: {hint}",
                self.protocol
            ))
        })
    }

    fn take(&self, place: SocketAddr) -> io::Result<Reserved> {
        let (family, address) = match place {
            SocketAddr::V4(place) => (AddressFamily::Inet, SockaddrStorage::from(place)),
            SocketAddr::V6(place) => (AddressFamily::Inet6, SockaddrStorage::from(place)),
        };
        let kind = match self.protocol {
            Protocol::Tcp => SockType::Stream,
            Protocol::Udp => SockType::Datagram,
        };
        let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
        if place.is_ipv6() {
            // Otherwise [::] would be the IPv4 addresses as well (ipv6(7)), which are somebody else's.
            setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        }
        if self.protocol == Protocol::Tcp {
            setsockopt(&socket, sockopt::ReuseAddr, &true)?; // connections that are over do not count
        }
        bind(socket.as_raw_fd(), &address)?;
        if self.protocol == Protocol::Tcp {
            listen(&socket, Backlog::new(1)?)?;
        }
        let taken: SockaddrStorage = getsockname(socket.as_raw_fd())?;
        let four = taken.as_sockaddr_in().map(SockaddrIn::port);
        let six = || taken.as_sockaddr_in6().map(SockaddrIn6::port);
        Ok(Reserved {
            port: Self {
                host: four.or_else(six).unwrap_or(self.host),
                ..*self
            },
            socket,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        text.parse::<Publish>().expect_err(text).to_string()
    }

    #[test]
    fn a_published_port_is_read_as_docker_reads_it() {
        let plain: Publish = "8080:80".parse().expect("plain");
        assert_eq!(
            plain,
            Publish {
                address: None,
                host: 8080,
                container: 80,
                protocol: Protocol::Tcp
            }
        );
        let full: Publish = "127.0.0.1:53:5353/UDP".parse().expect("full");
        assert_eq!(full.address, Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(
            (full.host, full.container, full.protocol),
            (53, 5353, Protocol::Udp)
        );
        let everywhere: Publish = "0.0.0.0:1:2".parse().expect("unspecified");
        assert_eq!(everywhere.address, None);
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in [
            "8080:80/tcp",
            "127.0.0.1:53:5353/udp",
            "[::]:80:80/tcp",
            "[fd00::1]:80:80/udp",
        ] {
            assert_eq!(text.parse::<Publish>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn a_wrong_port_is_refused_with_a_sentence() {
        assert!(error("80").contains("HOST:CONTAINER"));
        assert!(error("0:80").contains("host port 0"));
        assert!(error("80:65536").contains("container port"));
        assert!(error("+80:80").contains("host port"));
        assert!(error("8000-8010:80").contains("ranges"));
        assert!(error("80:80/sctp").contains("sctp"));
        assert!(error("300.1.1.1:80:80").contains("300.1.1.1"));
        assert!(error("127.0.0.1::80").contains("none is picked"));
        assert!(error("::1:80:80").contains("IP address"));
        assert!(error("").contains("HOST:CONTAINER"));
    }

    #[test]
    fn a_range_goes_on_with_the_next_port_of_both_sides() {
        let port = |text: &str| text.parse::<Publish>().expect("port");
        assert!(port("81:2").follows(&port("80:1")));
        for other in ["80:1", "81:3", "82:2", "81:2/udp", "127.0.0.1:81:2"] {
            assert!(!port(other).follows(&port("80:1")), "{other}");
        }
        assert!(!port("1:1").follows(&port("65535:65535")));
    }

    #[test]
    fn two_ports_collide_where_their_addresses_meet() {
        let port = |text: &str| text.parse::<Publish>().expect("port");
        assert!(port("80:1").collides(&port("127.0.0.1:80:2")));
        assert!(!port("127.0.0.2:80:1").collides(&port("127.0.0.1:80:2")));
        assert!(!port("80:1").collides(&port("80:1/udp")));
        assert!(!port("80:1").collides(&port("[::]:80:1")));
        assert!(!port("127.0.0.1:80:1").collides(&port("[::]:80:1")));
        assert!(port("[::1]:80:1").collides(&port("[::]:80:1")));
    }
}
