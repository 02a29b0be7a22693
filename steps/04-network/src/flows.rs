//! What the kernel remembers of UDP flows, where it must forget.
//!
//! nf_tables is asked about a flow's first packet; what it decides holds for the flow (conntrack)
//! until nothing came for half a minute. UDP knows no beginning: a client that sends on while its
//! server's container is replaced stays with the old decision. It talks to nobody, or to another
//! container that got the address, and the new server never hears of it.
//!
//! linux/netfilter/nfnetlink_conntrack.h lists the names and numbers.

use std::net::IpAddr;
use std::os::fd::AsFd;

use anyhow::{Context, Result};

use crate::netlink::{self, Answer, HEADER};
use crate::nft::{Attributes, Line, NLM_F_ACK, NLM_F_DUMP, find, header};
use crate::publish::{Protocol, Publish};

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
/// How many deletions go into one datagram, which the socket's buffer must hold.
const AT_ONCE: usize = 500;

/// Forgets the UDP flows to these ports of the host. A kernel without nf_conntrack_netlink cannot.
pub(crate) fn forget(line: &Line, ports: &[Publish]) -> Result<()> {
    for family in [libc::AF_INET, libc::AF_INET6] {
        let six = |port: &&Publish| port.address.is_some_and(|address| address.is_ipv6());
        let ports = ports.iter().filter(|port| port.protocol == Protocol::Udp);
        let ports: Vec<_> = ports
            .filter(|port| six(port) == (family == libc::AF_INET6))
            .collect();
        if !ports.is_empty() {
            forget_of(line, family, &ports)?;
        }
    }
    Ok(())
}

fn forget_of(line: &Line, family: i32, ports: &[&Publish]) -> Result<()> {
    let flows = flows_to(line, family, ports).context("IPCTNL_MSG_CT_GET")?;
    for some in flows.chunks(AT_ONCE) {
        let count = some.len();
        tracing::info!(
            call = format!("IPCTNL_MSG_CT_DELETE {count} flows"),
            "who already sends to a published UDP port is looked at anew"
        );
        let mut messages = Vec::new();
        for (sequence, flow) in some.iter().enumerate() {
            let mut attributes = Attributes::default();
            attributes.nest(CTA_TUPLE_ORIG, |tuple| tuple.0.extend(flow));
            let kind = (family, IPCTNL_MSG_CT_DELETE);
            message(&mut messages, kind, sequence, &attributes);
        }
        // A refusal says that the flow has ended meanwhile.
        netlink::ask(line.as_fd(), &messages, |answer| {
            !matches!(answer, Answer::Outcome { sequence, .. } if sequence as usize + 1 == count)
        })
        .context("IPCTNL_MSG_CT_DELETE")?;
    }
    Ok(())
}

/// The flows by what their first packet was, as the kernel writes it.
fn flows_to(line: &Line, family: i32, ports: &[&Publish]) -> Result<Vec<Vec<u8>>> {
    let mut question = Vec::new();
    let kind = (family, IPCTNL_MSG_CT_GET);
    message(&mut question, kind, 0, &Attributes::default());
    let mut found = Vec::new();
    netlink::ask(line.as_fd(), &question, |answer| match answer {
        Answer::Data(flow) => {
            let tuple = flow.get(HEADER + 4..);
            let tuple = tuple.and_then(|attributes| find(attributes, CTA_TUPLE_ORIG));
            found.extend(
                tuple
                    .filter(|tuple| leads_to(tuple, ports))
                    .map(<[u8]>::to_vec),
            );
            true
        }
        Answer::End | Answer::Outcome { .. } => false,
    })?;
    Ok(found)
}

/// Whether a flow's first packet went to one of the UDP ports.
fn leads_to(tuple: &[u8], ports: &[&Publish]) -> bool {
    let part = |outer, inner| find(find(tuple, outer)?, inner);
    let udp = part(CTA_TUPLE_PROTO, CTA_PROTO_NUM) == Some(&[Protocol::Udp.number()]);
    let address = part(CTA_TUPLE_IP, CTA_IP_V4_DST).or(part(CTA_TUPLE_IP, CTA_IP_V6_DST));
    let port = part(CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT);
    udp && ports.iter().any(|wanted| {
        let here = match wanted.address {
            None => true,
            Some(any) if any.is_unspecified() => true,
            Some(IpAddr::V4(own)) => address == Some(&own.octets()),
            Some(IpAddr::V6(own)) => address == Some(&own.octets()),
        };
        here && port == Some(&wanted.host.to_be_bytes())
    })
}

fn message(
    buffer: &mut Vec<u8>,
    (family, kind): (i32, u16),
    sequence: usize,
    attributes: &Attributes,
) {
    let flags = match kind {
        IPCTNL_MSG_CT_GET => NLM_F_DUMP,
        _ => NLM_F_ACK,
    };
    let kind = (NFNL_SUBSYS_CTNETLINK << 8) | kind;
    header(buffer, kind, flags, sequence, attributes.0.len());
    buffer.extend([family as u8, 0, 0, 0]); // nfgenmsg: family, version, resource
    buffer.extend(&attributes.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_known_by_protocol_address_and_port() {
        let tuple = |protocol: u8, address: [u8; 4], port: u16| {
            let mut tuple = Attributes::default();
            tuple.nest(CTA_TUPLE_IP, |ip| ip.bytes(CTA_IP_V4_DST, &address));
            tuple.nest(CTA_TUPLE_PROTO, |proto| {
                proto.bytes(CTA_PROTO_NUM, &[protocol]);
                proto.bytes(CTA_PROTO_DST_PORT, &port.to_be_bytes());
            });
            tuple.0
        };
        let leads = |flow: &[u8], text: &str| {
            let port: Publish = text.parse().expect(text);
            leads_to(flow, &[&port])
        };
        let flow = tuple(17, [192, 0, 2, 1], 53);
        assert!(leads(&flow, "53:5353/udp"));
        assert!(leads(&flow, "192.0.2.1:53:5353/udp"));
        assert!(!leads(&flow, "127.0.0.1:53:5353/udp"));
        assert!(!leads(&flow, "54:53/udp"));
        assert!(!leads(&tuple(6, [192, 0, 2, 1], 53), "53:53/udp"));
        assert!(!leads(&[1, 2, 3], "53:53/udp"));
    }
}
