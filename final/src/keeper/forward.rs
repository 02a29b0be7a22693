//! Asking others: whoever the host asks, or the container's own servers.
//!
//! The packet goes on as it came, but for its id, and so does the answer: what we do not understand
//! does not get lost. Somebody who cannot see our packets must not be able to answer them: each has
//! an id and a port of its own, at random, the socket hears only the server that it is connected to,
//! and the answer must repeat the question (RFC 5452).

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::answer::{LARGEST, Transport, is_answer, is_refusal};

/// How long a server may take before the next is asked: a program's resolver gives up, or asks again,
/// after five seconds (resolv.conf(5), `timeout`).
const PATIENCE: Duration = Duration::from_secs(3);

/// How many servers are asked: as many as a program's resolver would (resolv.conf(5), MAXNS).
const MOST_SERVERS: usize = 3;

/// The answer of the first server that has one; where all refuse, the last refusal. `None`: nobody
/// answers.
pub(super) async fn ask(
    query: &[u8],
    transport: Transport,
    servers: &[SocketAddr],
) -> Option<Vec<u8>> {
    let mut refusal = None;
    for server in servers.iter().take(MOST_SERVERS) {
        let answer = match transport {
            Transport::Udp => timeout(PATIENCE, by_udp(query, *server)).await,
            Transport::Tcp => timeout(PATIENCE, by_tcp(query, *server)).await,
        };
        match answer {
            Ok(Ok(answer)) if is_refusal(&answer) => refusal = Some(answer),
            Ok(Ok(answer)) => return Some(answer),
            _ => {}
        }
    }
    refusal
}

async fn by_udp(query: &[u8], server: SocketAddr) -> Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let ours = with_random_id(query)?;
    socket.send(&ours).await?;
    let mut answer = Vec::with_capacity(LARGEST);
    loop {
        answer.clear();
        // Where nobody listens there, that is an error here (ip(7), ICMP).
        socket.recv_buf(&mut answer).await?;
        if is_answer(&answer, &ours) {
            return with_id_of(answer, query);
        }
    }
}

async fn by_tcp(query: &[u8], server: SocketAddr) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let ours = with_random_id(query)?;
    write_message(&mut stream, &ours).await?;
    let answer = read_message(&mut stream).await?;
    match is_answer(&answer, &ours) {
        true => with_id_of(answer, query),
        false => Err(ErrorKind::InvalidData.into()),
    }
}

/// Reads a message from a stream, where its length goes before it (RFC 1035, 4.2.2).
pub(super) async fn read_message(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes one, at once: two segments would wait for each other (tcp(7), TCP_NODELAY).
pub(super) async fn write_message(stream: &mut TcpStream, message: &[u8]) -> Result<()> {
    let length = u16::try_from(message.len()).map_err(Error::other)?;
    let packet = [&length.to_be_bytes(), message].concat();
    stream.write_all(&packet).await
}

fn with_random_id(query: &[u8]) -> Result<Vec<u8>> {
    let mut ours = query.to_vec();
    let id = ours.get_mut(..2).ok_or(ErrorKind::InvalidData)?;
    getrandom(id, GetRandomFlags::empty())?;
    Ok(ours)
}

fn with_id_of(mut answer: Vec<u8>, query: &[u8]) -> Result<Vec<u8>> {
    match (answer.get_mut(..2), query.get(..2)) {
        (Some(id), Some(theirs)) => id.copy_from_slice(theirs),
        _ => return Err(ErrorKind::InvalidData.into()),
    }
    Ok(answer)
}

/// Whom the host asks, as it is now: those of its resolv.conf(5), or else itself.
pub(super) fn servers_of_host() -> Vec<SocketAddr> {
    let text = std::fs::read("/etc/resolv.conf").unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let servers: Vec<_> = text.lines().filter_map(server_in).collect();
    match servers.is_empty() {
        true => vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 53))],
        false => servers,
    }
}

/// The server that a line of resolv.conf names: `nameserver fe80::1%eth0`.
fn server_in(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace();
    let address = (words.next() == Some("nameserver")).then(|| words.next())??;
    match address.split_once('%') {
        None => Some(SocketAddr::new(address.parse().ok()?, 53)),
        Some((address, link)) => {
            let scope = nix::net::if_::if_nametoindex(link).ok()?;
            let server = SocketAddrV6::new(address.parse().ok()?, 53, 0, scope);
            Some(server.into())
        }
    }
}
