//! One exchange with the kernel over netlink(7): messages out, answers in.
//!
//! A message is `nlmsghdr { length, kind, flags, sequence number, port }` and what it carries, and
//! any number of them fit into one datagram. The kernel does the work inside sendmsg(2): when that
//! returns, the answers are waiting. So nothing here needs an event loop.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, getsockopt, recv,
    sendmsg, setsockopt, socket, sockopt,
};

/// The length of an nlmsghdr.
pub(crate) const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// One answer.
pub(crate) enum Answer<'a> {
    /// The request of this sequence number is dealt with; 0, or why it was refused.
    Outcome { sequence: u32, errno: i32 },
    /// The last of many parts was the one before.
    End,
    /// What was asked for: a message, its header included.
    Data(&'a [u8]),
}

/// A socket, in the network namespace of this thread.
pub(crate) fn open(protocol: SockProtocol) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).with_context(|| {
        let number = protocol as i32; // linux/netlink.h: 0 NETLINK_ROUTE, 12 NETLINK_NETFILTER
        format!("socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, {number})")
    })
}

/// Throws away what a question was answered beyond what its asker read.
pub(crate) fn drain(socket: BorrowedFd<'_>) {
    let mut buffer = [0; 4096];
    while recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).is_ok_and(|read| read > 0) {
    }
}

/// Sends messages, and hands over the answers as long as `take` wants more.
pub(crate) fn ask(
    socket: BorrowedFd<'_>,
    messages: &[u8],
    mut take: impl FnMut(Answer<'_>) -> bool,
) -> Result<()> {
    let kernel = NetlinkAddr::new(0, 0);
    let fd = socket.as_raw_fd();
    // What is longer than the socket's buffer is refused (EMSGSIZE), and a transaction is one message.
    if messages.len() > getsockopt(&socket, sockopt::SndBuf)? {
        setsockopt(&socket, sockopt::SndBufForce, &messages.len())?;
    }
    sendmsg(
        fd,
        &[IoSlice::new(messages)],
        &[],
        MsgFlags::empty(),
        Some(&kernel),
    )
    .context("sendmsg to netlink")?;
    // The kernel cuts the answer to a dump to the reader's buffer, up to this.
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let length = recv(fd, &mut buffer, MsgFlags::empty()).context("recv from netlink")?;
        let mut datagram = buffer.get(..length).unwrap_or_default();
        while let Some((message, rest)) = split(datagram) {
            if !take(read(message)) {
                return Ok(());
            }
            datagram = rest;
        }
    }
}

/// The first message of a datagram, and the rest.
fn split(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = word(datagram, 0)? as usize;
    let message = datagram
        .get(..length)
        .filter(|message| message.len() >= HEADER)?;
    Some((
        message,
        datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default(),
    ))
}

fn read(message: &[u8]) -> Answer<'_> {
    let kind = message
        .get(4..6)
        .and_then(|two| two.try_into().ok())
        .map(u16::from_ne_bytes);
    match (kind, word(message, 8), word(message, HEADER)) {
        (Some(NLMSG_ERROR), Some(sequence), Some(errno)) => Answer::Outcome {
            sequence,
            errno: -(errno as i32),
        },
        (Some(NLMSG_DONE), ..) => Answer::End,
        _ => Answer::Data(message),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..at + 4)?
        .try_into()
        .ok()
        .map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, sequence: u32, rest: &[u8]) -> Vec<u8> {
        let length = (HEADER + rest.len()) as u32;
        let kind = kind.to_ne_bytes();
        let (length, sequence) = (length.to_ne_bytes(), sequence.to_ne_bytes());
        [length.as_slice(), &kind, &[0; 2], &sequence, &[0; 4], rest].concat()
    }

    #[test]
    fn the_kernels_refusal_is_a_sequence_number_and_an_errno() {
        let message = message(NLMSG_ERROR, 3, &(-17i32).to_ne_bytes());
        assert!(matches!(
            read(&message),
            Answer::Outcome {
                sequence: 3,
                errno: 17
            }
        ));
    }

    #[test]
    fn a_datagram_is_split_into_messages_and_a_torn_one_is_left() {
        let datagram = [message(20, 1, b"abcd"), message(NLMSG_DONE, 1, &[0; 4])].concat();
        let (first, rest) = split(&datagram).expect("first");
        assert!(matches!(read(first), Answer::Data(data) if data.ends_with(b"abcd")));
        let (second, rest) = split(rest).expect("second");
        assert!(matches!(read(second), Answer::End));
        assert!(split(rest).is_none());
        assert!(split(&datagram[..19]).is_none());
        assert!(split(&[0; 16]).is_none());
    }
}
