//! nf_tables without nft(8): what its netlink messages look like, byte by byte.
//!
//! A transaction is one buffer of messages, each behind its length:
//!
//! ```text
//! nlmsghdr BATCH_BEGIN   nfgenmsg
//! nlmsghdr NEWTABLE      nfgenmsg  name="mini0"  userdata=comment
//! nlmsghdr NEWCHAIN      nfgenmsg  table= name= type="nat" hook={hooknum= priority=}
//! nlmsghdr NEWRULE       nfgenmsg  table= chain= expressions={ elem={name="meta" data={..}} .. }
//! nlmsghdr BATCH_END     nfgenmsg
//! ```
//!
//! An attribute is length, kind and value, padded to four bytes; a nested one holds attributes.
//! The kernel takes the whole batch or nothing. A rule is a row of expressions: one loads something
//! into register 1, the next compares register 1 and gives up where they differ, the last acts.
//! Numbers in attributes are big endian; what lies in a register has the order of its source:
//! the packet's for addresses and ports, the machine's for the rest.
//!
//! linux/netfilter/nf_tables.h lists the names and numbers; `nft --debug=netlink` shows the same
//! expressions for a rule in words.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Result, anyhow};
use ipnetwork::Ipv4Network;
use nix::sys::socket::SockProtocol;

use crate::netlink::{self, Answer, HEADER};
use crate::publish::Protocol;

// linux/netlink.h
const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_ACK: u16 = 0x04;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NLA_F_NESTED: u16 = 0x8000;

// linux/netfilter/nfnetlink.h and nf_tables.h; libc has the rest, but not the attributes
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_USERDATA: u16 = 6;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_CT_DREG: u16 = 1;
const NFTA_CT_KEY: u16 = 2;
const NFTA_FIB_DREG: u16 = 1;
const NFTA_FIB_RESULT: u16 = 2;
const NFTA_FIB_FLAGS: u16 = 3;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_NAT_TYPE: u16 = 1;
const NFTA_NAT_FAMILY: u16 = 2;
const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
const NFTA_FIB_F_DADDR: u32 = 1 << 1;
const NF_DROP: u32 = 0;
const REGISTER_1: u32 = libc::NFT_REG_1 as u32;
const REGISTER_2: u32 = libc::NFT_REG_2 as u32;

/// Attributes, written one behind the other into a message.
#[derive(Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = (4 + value.len()) as u16; // without the padding
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat());
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(kind | NLA_F_NESTED, &inner.0);
    }

    /// What `nft list` prints as `comment "..."`: kind 0, length, text, NUL (libnftnl's udata).
    fn comment(&mut self, kind: u16, comment: &str) {
        // nft takes no more than 128 bytes of it.
        let text: Vec<u8> = comment.bytes().take(127).chain([0]).collect();
        self.bytes(kind, &[&[0, text.len() as u8], text.as_slice()].concat());
    }
}

/// Which packets a base chain sees, and when: the hook, and the place among the chains of that
/// hook (`man nft`, "Priority").
#[derive(Clone, Copy)]
pub(crate) struct Chain {
    pub name: &'static str,
    pub kind: &'static str,
    pub hook: i32,
    pub priority: i32,
}

/// A rule as it grows, expression by expression.
pub(crate) struct Rule {
    comment: String,
    expressions: Attributes,
}

impl Rule {
    /// An empty rule; the comment is stored in the kernel and says whose it is and why.
    pub fn new(comment: impl Into<String>) -> Self {
        Self {
            comment: comment.into(),
            expressions: Attributes::default(),
        }
    }

    /// The packet came in by this link.
    pub fn enters_by(self, link: &str) -> Self {
        self.meta(libc::NFT_META_IIFNAME)
            .compare(libc::NFT_CMP_EQ, &link_name(link))
    }

    /// The packet came in by any other link.
    pub fn enters_not_by(self, link: &str) -> Self {
        self.meta(libc::NFT_META_IIFNAME)
            .compare(libc::NFT_CMP_NEQ, &link_name(link))
    }

    /// The packet is on its way out by this link.
    pub fn leaves_by(self, link: &str) -> Self {
        self.meta(libc::NFT_META_OIFNAME)
            .compare(libc::NFT_CMP_EQ, &link_name(link))
    }

    /// The packet is on its way out by any other link.
    pub fn leaves_not_by(self, link: &str) -> Self {
        self.meta(libc::NFT_META_OIFNAME)
            .compare(libc::NFT_CMP_NEQ, &link_name(link))
    }

    /// The sender is in this subnet. Its address is at byte 12 of the IPv4 header (RFC 791).
    pub fn source_in(self, subnet: Ipv4Network) -> Self {
        self.payload(libc::NFT_PAYLOAD_NETWORK_HEADER, 12, 4)
            .mask(&subnet.mask().octets())
            .compare(libc::NFT_CMP_EQ, &subnet.network().octets())
    }

    /// The receiver is in this subnet: byte 16 of the IPv4 header.
    pub fn destination_in(self, subnet: Ipv4Network) -> Self {
        self.payload(libc::NFT_PAYLOAD_NETWORK_HEADER, 16, 4)
            .mask(&subnet.mask().octets())
            .compare(libc::NFT_CMP_EQ, &subnet.network().octets())
    }

    /// The receiver is this address.
    pub fn destination(self, address: Ipv4Addr) -> Self {
        self.payload(libc::NFT_PAYLOAD_NETWORK_HEADER, 16, 4)
            .compare(libc::NFT_CMP_EQ, &address.octets())
    }

    /// The receiver is any address of this machine, as the routing table (fib) knows them.
    pub fn destination_is_local(self) -> Self {
        self.expression("fib", |data| {
            data.number(NFTA_FIB_DREG, REGISTER_1);
            data.number(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
            data.number(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
        })
        .compare(libc::NFT_CMP_EQ, &u32::from(libc::RTN_LOCAL).to_ne_bytes())
    }

    /// The packet goes to this port: byte 2 of the TCP header, and of UDP's.
    pub fn port(self, protocol: Protocol, port: u16) -> Self {
        self.meta(libc::NFT_META_L4PROTO)
            .compare(libc::NFT_CMP_EQ, &[protocol.number()])
            .payload(libc::NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2)
            .compare(libc::NFT_CMP_EQ, &port.to_be_bytes())
    }

    /// The packet opens a connection that conntrack did not know.
    pub fn new_connection(self) -> Self {
        const NEW: u32 = 1 << 3; // NF_CT_STATE_BIT(IP_CT_NEW)
        self.ct(libc::NFT_CT_STATE)
            .mask(&NEW.to_ne_bytes())
            .compare(libc::NFT_CMP_NEQ, &0u32.to_ne_bytes())
    }

    /// The connection was, or was not, turned round by a `dnat` rule.
    pub fn turned_round(self, yes: bool) -> Self {
        const DST_NAT: u32 = 1 << 5; // IPS_DST_NAT
        let operator = if yes {
            libc::NFT_CMP_NEQ
        } else {
            libc::NFT_CMP_EQ
        };
        self.ct(libc::NFT_CT_STATUS)
            .mask(&DST_NAT.to_ne_bytes())
            .compare(operator, &0u32.to_ne_bytes())
    }

    /// Verdict: the sender becomes the address of the link that the packet leaves by.
    pub fn masquerade(self) -> Self {
        self.expression("masq", |_| ())
    }

    /// Verdict: the receiver becomes this address and port; answers are turned back.
    pub fn dnat(self, to: SocketAddrV4) -> Self {
        self.load(REGISTER_1, &to.ip().octets())
            .load(REGISTER_2, &to.port().to_be_bytes())
            .expression("nat", |data| {
                data.number(NFTA_NAT_TYPE, libc::NFT_NAT_DNAT as u32);
                data.number(NFTA_NAT_FAMILY, libc::NFPROTO_IPV4 as u32);
                data.number(NFTA_NAT_REG_ADDR_MIN, REGISTER_1);
                data.number(NFTA_NAT_REG_PROTO_MIN, REGISTER_2);
            })
    }

    /// Verdict: the packet is gone.
    pub fn drop(self) -> Self {
        self.expression("immediate", |data| {
            data.number(NFTA_IMMEDIATE_DREG, libc::NFT_REG_VERDICT as u32);
            data.nest(NFTA_IMMEDIATE_DATA, |data| {
                data.nest(NFTA_DATA_VERDICT, |verdict| {
                    verdict.number(NFTA_VERDICT_CODE, NF_DROP);
                });
            });
        })
    }

    fn expression(mut self, name: &str, data: impl FnOnce(&mut Attributes)) -> Self {
        self.expressions.nest(NFTA_LIST_ELEM, |element| {
            element.text(NFTA_EXPR_NAME, name);
            element.nest(NFTA_EXPR_DATA, data);
        });
        self
    }

    fn meta(self, key: i32) -> Self {
        self.expression("meta", |data| {
            data.number(NFTA_META_KEY, key as u32);
            data.number(NFTA_META_DREG, REGISTER_1);
        })
    }

    fn ct(self, key: i32) -> Self {
        self.expression("ct", |data| {
            data.number(NFTA_CT_KEY, key as u32);
            data.number(NFTA_CT_DREG, REGISTER_1);
        })
    }

    fn payload(self, base: i32, offset: u32, length: u32) -> Self {
        self.expression("payload", |data| {
            data.number(NFTA_PAYLOAD_DREG, REGISTER_1);
            data.number(NFTA_PAYLOAD_BASE, base as u32);
            data.number(NFTA_PAYLOAD_OFFSET, offset);
            data.number(NFTA_PAYLOAD_LEN, length);
        })
    }

    /// Register 1 becomes register 1 & mask.
    fn mask(self, mask: &[u8; 4]) -> Self {
        self.expression("bitwise", |data| {
            data.number(NFTA_BITWISE_SREG, REGISTER_1);
            data.number(NFTA_BITWISE_DREG, REGISTER_1);
            data.number(NFTA_BITWISE_LEN, 4);
            data.nest(NFTA_BITWISE_MASK, |value| {
                value.bytes(NFTA_DATA_VALUE, mask);
            });
            data.nest(NFTA_BITWISE_XOR, |value| {
                value.bytes(NFTA_DATA_VALUE, &[0; 4]);
            });
        })
    }

    fn compare(self, operator: i32, value: &[u8]) -> Self {
        self.expression("cmp", |data| {
            data.number(NFTA_CMP_SREG, REGISTER_1);
            data.number(NFTA_CMP_OP, operator as u32);
            data.nest(NFTA_CMP_DATA, |data| data.bytes(NFTA_DATA_VALUE, value));
        })
    }

    fn load(self, register: u32, value: &[u8]) -> Self {
        self.expression("immediate", |data| {
            data.number(NFTA_IMMEDIATE_DREG, register);
            data.nest(NFTA_IMMEDIATE_DATA, |data| {
                data.bytes(NFTA_DATA_VALUE, value);
            });
        })
    }
}

/// A link's name as the kernel compares it: IFNAMSIZ bytes, the rest NUL. A shorter value would
/// match each name that begins with it.
fn link_name(name: &str) -> [u8; libc::IFNAMSIZ] {
    let mut padded = [0; libc::IFNAMSIZ];
    for (to, from) in padded.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    padded
}

/// A transaction: what is put in happens all at once, or not at all.
pub(crate) struct Batch {
    buffer: Vec<u8>,
    /// What each message is, for the error of the one that fails. A message's sequence number is
    /// its place here.
    said: Vec<String>,
    /// Where the last message begins in the buffer.
    last: usize,
}

impl Batch {
    pub fn new() -> Self {
        let mut batch = Self {
            buffer: Vec::with_capacity(4096),
            said: Vec::new(),
            last: 0,
        };
        batch.frame(NFNL_MSG_BATCH_BEGIN);
        batch
    }

    /// A table that was not there.
    pub fn table(&mut self, name: &str, comment: &str) {
        let call = format!("NFT_MSG_NEWTABLE ip {name}");
        tracing::info!(%call, "{comment}");
        self.message(
            call,
            libc::NFT_MSG_NEWTABLE,
            NLM_F_CREATE | NLM_F_EXCL,
            |table| {
                table.text(NFTA_TABLE_NAME, name);
                table.comment(NFTA_TABLE_USERDATA, comment);
            },
        );
    }

    /// No table of this name, whether there was one or not: deleting what is not there would fail
    /// the whole batch, so that it is made first (NFT_MSG_DESTROYTABLE came with Linux 6.3).
    pub fn no_table(&mut self, name: &str) {
        let call = format!("NFT_MSG_DELTABLE ip {name}");
        tracing::info!(%call, "a table takes its chains and rules with it");
        self.message(
            call.clone(),
            libc::NFT_MSG_NEWTABLE,
            NLM_F_CREATE,
            |table| {
                table.text(NFTA_TABLE_NAME, name);
            },
        );
        self.message(call, libc::NFT_MSG_DELTABLE, 0, |table| {
            table.text(NFTA_TABLE_NAME, name);
        });
    }

    /// A chain that the kernel calls at its hook.
    pub fn chain(&mut self, table: &str, chain: Chain) {
        let call = format!("NFT_MSG_NEWCHAIN ip {table} {}", chain.name);
        self.message(call, libc::NFT_MSG_NEWCHAIN, NLM_F_CREATE, |data| {
            data.text(NFTA_CHAIN_TABLE, table);
            data.text(NFTA_CHAIN_NAME, chain.name);
            data.text(NFTA_CHAIN_TYPE, chain.kind);
            data.nest(NFTA_CHAIN_HOOK, |hook| {
                hook.number(NFTA_HOOK_HOOKNUM, chain.hook as u32);
                hook.number(NFTA_HOOK_PRIORITY, chain.priority as u32);
            });
        });
    }

    /// A rule at the end of a chain.
    pub fn rule(&mut self, table: &str, chain: Chain, rule: &Rule) {
        let call = format!("NFT_MSG_NEWRULE ip {table} {}", chain.name);
        tracing::info!(%call, "{}", rule.comment);
        self.message(
            call,
            libc::NFT_MSG_NEWRULE,
            NLM_F_CREATE | NLM_F_APPEND,
            |data| {
                data.text(NFTA_RULE_TABLE, table);
                data.text(NFTA_RULE_CHAIN, chain.name);
                data.bytes(NFTA_RULE_EXPRESSIONS | NLA_F_NESTED, &rule.expressions.0);
                data.comment(NFTA_RULE_USERDATA, &rule.comment);
            },
        );
    }

    /// Hands the batch to the kernel, and answers the socket that was used. The error names the message that was refused, and holds the
    /// errno as an [`io::Error`].
    pub fn send(mut self) -> Result<OwnedFd> {
        // Only failures are answered, and what asks for it; the last message's answer comes last.
        if let Some([low, high]) = self.buffer.get_mut(self.last + 6..self.last + 8) {
            [*low, *high] = (u16::from_ne_bytes([*low, *high]) | NLM_F_ACK).to_ne_bytes();
        }
        let awaited = self.said.len() - 1;
        self.frame(NFNL_MSG_BATCH_END);
        let socket = netlink::open(SockProtocol::NetlinkNetFilter)?;
        let mut failed = None;
        netlink::ask(socket.as_fd(), &self.buffer, |answer| match answer {
            Answer::Outcome { sequence, errno } => {
                failed = (errno != 0).then_some((sequence as usize, errno));
                failed.is_none() && sequence as usize != awaited
            }
            _ => true,
        })?;
        let Some((sequence, errno)) = failed else {
            return Ok(socket);
        };
        Err(refused(
            self.said.get(sequence).map_or("a batch", String::as_str),
            errno,
        ))
    }

    fn message(&mut self, call: String, kind: i32, flags: u16, fill: impl FnOnce(&mut Attributes)) {
        let mut attributes = Attributes::default();
        fill(&mut attributes);
        self.last = self.buffer.len();
        header(
            &mut self.buffer,
            subsystem(kind),
            flags,
            self.said.len(),
            attributes.0.len(),
        );
        self.buffer.extend([libc::AF_INET as u8, 0, 0, 0]); // nfgenmsg: family, version, resource
        self.buffer.extend(attributes.0);
        self.said.push(call);
    }

    /// BATCH_BEGIN or BATCH_END; their nfgenmsg names the subsystem that the rest is for.
    fn frame(&mut self, kind: u16) {
        header(&mut self.buffer, kind, 0, self.said.len(), 0);
        self.buffer.extend([libc::AF_UNSPEC as u8, 0]);
        self.buffer.extend(NFNL_SUBSYS_NFTABLES.to_be_bytes());
        self.said
            .push("begin a transaction of nf_tables".to_owned());
    }
}

/// Whether the kernel holds a table of this name.
pub(crate) fn has_table(name: &str) -> Result<bool> {
    let mut attributes = Attributes::default();
    attributes.text(NFTA_TABLE_NAME, name);
    let mut buffer = Vec::new();
    header(
        &mut buffer,
        subsystem(libc::NFT_MSG_GETTABLE),
        NLM_F_ACK,
        0,
        attributes.0.len(),
    );
    buffer.extend([libc::AF_INET as u8, 0, 0, 0]);
    buffer.extend(attributes.0);
    let mut outcome = 0;
    let socket = netlink::open(SockProtocol::NetlinkNetFilter)?;
    netlink::ask(socket.as_fd(), &buffer, |answer| match answer {
        Answer::Outcome { errno, .. } => {
            outcome = errno;
            false
        }
        _ => true,
    })?;
    match outcome {
        0 => Ok(true),
        libc::ENOENT => Ok(false),
        errno => Err(refused(&format!("NFT_MSG_GETTABLE ip {name}"), errno)),
    }
}

fn subsystem(kind: i32) -> u16 {
    (NFNL_SUBSYS_NFTABLES << 8) | kind as u16
}

/// nlmsghdr: length of the whole, kind, flags, sequence number, and 0 for "to the kernel"
/// (netlink(7)).
fn header(buffer: &mut Vec<u8>, kind: u16, flags: u16, sequence: usize, attributes: usize) {
    buffer.extend(((HEADER + 4 + attributes) as u32).to_ne_bytes());
    buffer.extend(kind.to_ne_bytes());
    buffer.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    buffer.extend((sequence as u32).to_ne_bytes());
    buffer.extend(0u32.to_ne_bytes());
}

fn refused(call: &str, errno: i32) -> anyhow::Error {
    let hint = match errno {
        libc::EPERM => " (needs CAP_NET_ADMIN over this network namespace)",
        libc::ENOENT | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT => {
            " (has this kernel nf_tables, nft_chain_nat, nft_masq, nft_fib_ipv4, nft_ct?)"
        }
        _ => "",
    };
    anyhow!(io::Error::from_raw_os_error(errno)).context(format!("{call}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_length_kind_value_and_padding() {
        let mut attributes = Attributes::default();
        attributes.nest(4, |inner| inner.text(1, "abc!"));
        let length = |bytes: u16| bytes.to_ne_bytes();
        let wanted = [
            length(16).as_slice(),
            &(4 | NLA_F_NESTED).to_ne_bytes(),
            &length(9),
            &1u16.to_ne_bytes(),
            b"abc!\0\0\0\0",
        ]
        .concat();
        assert_eq!(attributes.0, wanted);
    }

    #[test]
    fn a_comment_is_cut_where_nft_would_refuse_it() {
        let mut attributes = Attributes::default();
        attributes.comment(7, &"x".repeat(300));
        assert_eq!(attributes.0.len(), (4 + 2 + 128usize).next_multiple_of(4));
        assert_eq!(attributes.0.get(5), Some(&128));
    }

    #[test]
    fn a_batch_is_framed_and_each_message_knows_its_length() {
        let mut batch = Batch::new();
        batch.table("mini0", "why");
        batch.frame(NFNL_MSG_BATCH_END);
        let mut kinds = Vec::new();
        let mut rest = batch.buffer.as_slice();
        while let Some((start, _)) = rest.split_at_checked(6) {
            let length = u32::from_ne_bytes([start[0], start[1], start[2], start[3]]) as usize;
            kinds.push(u16::from_ne_bytes([start[4], start[5]]));
            assert_eq!(length % 4, 0);
            rest = &rest[length..];
        }
        assert_eq!(kinds, [NFNL_MSG_BATCH_BEGIN, 0x0a00, NFNL_MSG_BATCH_END]);
    }

    #[test]
    fn a_port_is_compared_in_the_packets_byte_order() {
        let rule = Rule::new("").port(Protocol::Udp, 0x1f90);
        let bytes = rule.expressions.0;
        assert!(bytes.windows(4).any(|window| window == [0x1f, 0x90, 0, 0]));
        assert!(bytes.windows(4).any(|window| window == [17, 0, 0, 0]));
    }
}
