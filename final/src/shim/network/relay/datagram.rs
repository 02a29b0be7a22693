//! A datagram with both its ends. A socket that is bound to no address answers from the one that the
//! way back has, and a host may have many: whoever waits for an answer from another would not take it
//! (ip(7), IP_PKTINFO; ipv6(7), IPV6_PKTINFO).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Who calls, and where.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ends {
    caller: SocketAddr,
    /// The address of ours that was called.
    here: IpAddr,
    /// The link that it came by, where its address says nothing of that.
    link: u32,
}

/// Has the kernel tell of a datagram where it was sent to.
pub fn ask_for_ends(socket: &UdpSocket) -> io::Result<()> {
    match socket.local_addr()? {
        SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

/// The next datagram: its length, and its ends.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Ends)> {
    socket.try_io(Interest::READABLE, || {
        let mut space = nix::cmsg_space!(libc::in6_pktinfo);
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_DONTWAIT;
        let heard =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
        let mut ends = Ends {
            caller: heard.address.as_ref().and_then(place).ok_or_else(no_end)?,
            here: Ipv4Addr::UNSPECIFIED.into(),
            link: 0,
        };
        for told in heard.cmsgs()? {
            match told {
                ControlMessageOwned::Ipv4PacketInfo(told) => {
                    ends.here = Ipv4Addr::from(told.ipi_spec_dst.s_addr.to_ne_bytes()).into();
                }
                ControlMessageOwned::Ipv6PacketInfo(told) => {
                    let here = Ipv6Addr::from(told.ipi6_addr.s6_addr);
                    ends.here = here.into();
                    if here.is_unicast_link_local() {
                        ends.link = told.ipi6_ifindex;
                    }
                }
                _ => {}
            }
        }
        Ok((heard.bytes, ends))
    })
}

/// Sends an answer the way back.
pub fn answer(socket: &UdpSocket, ends: &Ends, said: &[u8]) -> io::Result<()> {
    let (four, six);
    let from = match ends.here {
        IpAddr::V4(here) => {
            four = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(here.octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            ControlMessage::Ipv4PacketInfo(&four)
        }
        IpAddr::V6(here) => {
            six = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: here.octets(),
                },
                ipi6_ifindex: ends.link,
            };
            ControlMessage::Ipv6PacketInfo(&six)
        }
    };
    let to = SockaddrStorage::from(ends.caller);
    socket.try_io(Interest::WRITABLE, || {
        let parts = [IoSlice::new(said)];
        let flags = MsgFlags::MSG_DONTWAIT;
        sendmsg(socket.as_raw_fd(), &parts, &[from], flags, Some(&to))?;
        Ok(())
    })
}

fn place(address: &SockaddrStorage) -> Option<SocketAddr> {
    let four = address
        .as_sockaddr_in()
        .map(|four| SocketAddrV4::from(*four).into());
    let six = || {
        address
            .as_sockaddr_in6()
            .map(|six| SocketAddrV6::from(*six).into())
    };
    four.or_else(six)
}

fn no_end() -> io::Error {
    io::Error::other("a datagram from nowhere")
}
