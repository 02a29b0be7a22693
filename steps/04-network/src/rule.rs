//! A rule of nf_tables: a row of expressions.
//!
//! ```text
//! meta nfproto ipv4 dnat ip to meta l4proto . th dport map @any      as nft(8) prints it
//!
//! meta     register 1 := the version of IP
//! cmp      register 1 == IPv4, or the rule ends here
//! meta     register 8 := its transport
//! payload  register 9 := bytes 2 and 3 of the transport header
//! lookup   registers 8 and 9 in the map; registers 8 and 9 := the address and port that it has
//! nat      go there
//! ```
//! Register 1 has 16 bytes, and is the same as registers 8 to 11, which have four each. What lies
//! there has the byte order of its source: the packet's for addresses and ports, the machine's for
//! the rest. `nft --debug=netlink list ruleset` shows any rule this way.

use std::net::Ipv6Addr;

use ipnetwork::Ipv4Network;

use crate::nft::{Attributes, Field, NFTA_DATA_VALUE, NFTA_LIST_ELEM, Set};
use crate::publish::Protocol;

/// For questions that can be asked both ways.
pub(crate) const IS: bool = true;
/// The other way.
pub(crate) const IS_NOT: bool = false;

// linux/netfilter/nf_tables.h; libc has the rest, but not the attributes
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;
const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_LOOKUP_DREG: u16 = 3;
const NFTA_LOOKUP_FLAGS: u16 = 5;
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
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_PAYLOAD_SREG: u16 = 5;
const NFTA_PAYLOAD_CSUM_TYPE: u16 = 6;
const NFTA_PAYLOAD_CSUM_OFFSET: u16 = 7;
const NFTA_NAT_TYPE: u16 = 1;
const NFTA_NAT_FAMILY: u16 = 2;
const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
const NFT_FIB_RESULT_ADDRTYPE: i32 = 3;
const NFTA_FIB_F_DADDR: i32 = 1 << 1;

/// Where addresses are in the headers of IPv4 (RFC 791) and IPv6 (RFC 8200), and the destination port
/// in those of TCP and UDP.
const SOURCE: i32 = 12;
const DESTINATION: i32 = 16;
const SOURCE6: i32 = 8;
const DESTINATION6: i32 = 24;
const PORT: i32 = 2;

/// An end of a packet's way.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Sender,
    Receiver,
}

impl End {
    /// Where its port is in the headers of TCP and UDP: of which header, from where, how many bytes.
    fn port(self) -> [i32; 3] {
        let offset = match self {
            Self::Sender => 0,
            Self::Receiver => PORT,
        };
        [libc::NFT_PAYLOAD_TRANSPORT_HEADER, offset, 2]
    }
}

/// A rule as it grows, expression by expression.
pub(crate) struct Rule {
    pub comment: &'static str,
    pub expressions: Attributes,
}

impl Rule {
    /// An empty rule; the comment is stored in the kernel and says why.
    pub fn new(comment: &'static str) -> Self {
        Self {
            comment,
            expressions: Attributes::default(),
        }
    }

    /// The packet came in by a link of the set, or by another.
    pub fn enters(self, is: bool, links: Set) -> Self {
        self.load(libc::NFT_REG_1, "meta", &[libc::NFT_META_IIFNAME])
            .lookup(is, links)
    }

    /// The packet came in by a link, and not by loopback.
    pub fn comes_from_elsewhere(self) -> Self {
        self.load(libc::NFT_REG_1, "meta", &[libc::NFT_META_IIFTYPE])
            .compare(IS_NOT, &libc::ARPHRD_LOOPBACK.to_ne_bytes())
    }

    /// The packet is on its way out by a link of the set, or by another.
    pub fn leaves(self, is: bool, links: Set) -> Self {
        self.load(libc::NFT_REG_1, "meta", &[libc::NFT_META_OIFNAME])
            .lookup(is, links)
    }

    /// The two links are a pair of the set, or are not.
    pub fn stays(self, is: bool, pairs: Set) -> Self {
        self.load(libc::NFT_REG_1, "meta", &[libc::NFT_META_IIFNAME])
            .load(libc::NFT_REG_2, "meta", &[libc::NFT_META_OIFNAME])
            .lookup(is, pairs)
    }

    /// The sender is in this subnet.
    pub fn comes_from(self, subnet: Ipv4Network) -> Self {
        self.address_in(SOURCE, subnet)
    }

    /// The sender's address is in the set.
    pub fn comes_from_one_of(self, addresses: Set) -> Self {
        let (version, offset, length) = match addresses.key {
            [Field::Ipv6] => (libc::NFPROTO_IPV6, SOURCE6, 16),
            _ => (libc::NFPROTO_IPV4, SOURCE, 4),
        };
        self.version(version)
            .address(libc::NFT_REG_1, offset, length)
            .lookup(IS, addresses)
    }

    /// The receiver is in this subnet.
    pub fn goes_to(self, subnet: Ipv4Network) -> Self {
        self.address_in(DESTINATION, subnet)
    }

    /// The receiver is any address of this machine, as the routing table (fib) knows them.
    pub fn destination_is_local(self) -> Self {
        let what = [NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR];
        self.load(libc::NFT_REG_1, "fib", &what)
            .compare(IS, &u32::from(libc::RTN_LOCAL).to_ne_bytes())
    }

    /// The receiver is another than this.
    pub fn destination_is_not(self, address: Ipv6Addr) -> Self {
        self.version(libc::NFPROTO_IPV6)
            .address(libc::NFT_REG_1, DESTINATION6, 16)
            .compare(IS_NOT, &address.octets())
    }

    /// The packet's transport.
    pub fn over(self, protocol: Protocol) -> Self {
        self.load(libc::NFT_REG_1, "meta", &[libc::NFT_META_L4PROTO])
            .compare(IS, &[protocol.number()])
    }

    /// The port of one end.
    pub fn has_port(self, end: End, port: u16) -> Self {
        self.payload(libc::NFT_REG_1, &end.port())
            .compare(IS, &port.to_be_bytes())
    }

    /// The port of one end becomes another. The checksum is corrected: it lies elsewhere in each
    /// transport's header (RFC 768, RFC 9293).
    pub fn becomes_port(self, end: End, port: u16, protocol: Protocol) -> Self {
        let checksum = match protocol {
            Protocol::Tcp => 16,
            Protocol::Udp => 6,
        };
        let [header, offset, length] = end.port();
        self.expression("immediate", |data| {
            data.number(NFTA_IMMEDIATE_DREG, libc::NFT_REG_1);
            data.nest(NFTA_IMMEDIATE_DATA, |data| {
                data.bytes(NFTA_DATA_VALUE, &port.to_be_bytes());
            });
        })
        .expression("payload", |data| {
            data.number(NFTA_PAYLOAD_BASE, header);
            data.number(NFTA_PAYLOAD_OFFSET, offset);
            data.number(NFTA_PAYLOAD_LEN, length);
            data.number(NFTA_PAYLOAD_SREG, libc::NFT_REG_1);
            data.number(NFTA_PAYLOAD_CSUM_TYPE, libc::NFT_PAYLOAD_CSUM_INET);
            data.number(NFTA_PAYLOAD_CSUM_OFFSET, checksum);
        })
    }

    /// The packet is of a connection that was let through before, or belongs to one.
    pub fn continues(self) -> Self {
        const ESTABLISHED: u32 = 1 << 1; // NF_CT_STATE_BIT(IP_CT_ESTABLISHED)
        const RELATED: u32 = 1 << 2; // NF_CT_STATE_BIT(IP_CT_RELATED)
        self.load(libc::NFT_REG_1, "ct", &[libc::NFT_CT_STATE])
            .mask((ESTABLISHED | RELATED).to_ne_bytes())
            .compare(IS_NOT, &[0; 4])
    }

    /// The connection is, or is not, one that a `dnat` rule turned round.
    pub fn published(self, is: bool) -> Self {
        const DST_NAT: u32 = 1 << 5; // IPS_DST_NAT
        self.load(libc::NFT_REG_1, "ct", &[libc::NFT_CT_STATUS])
            .mask(DST_NAT.to_ne_bytes())
            .compare(!is, &[0; 4])
    }

    /// Verdict: the sender becomes the address of the link that the packet leaves by.
    pub fn masquerade(self) -> Self {
        self.expression("masq", |_| ())
    }

    /// Verdict: the receiver becomes the address and port that the map has for this one, where it
    /// has any; answers are turned back.
    pub fn dnat_to_whom(self, map: Set) -> Self {
        let (version, port) = match map.value {
            [Field::Ipv6, ..] => (libc::NFPROTO_IPV6, libc::NFT_REG_2),
            _ => (libc::NFPROTO_IPV4, libc::NFT_REG32_00 + 1),
        };
        let mut rule = self.version(version);
        let mut register = libc::NFT_REG32_00;
        for field in map.key {
            rule = match field {
                Field::Ipv4 => rule.address(register, DESTINATION, 4),
                Field::Ipv6 => rule.address(register, DESTINATION6, 16),
                Field::Protocol => rule.load(register, "meta", &[libc::NFT_META_L4PROTO]),
                Field::Port => {
                    rule.payload(register, &[libc::NFT_PAYLOAD_TRANSPORT_HEADER, PORT, 2])
                }
                Field::Link => rule,
            };
            register += field.length() / 4;
        }
        rule.lookup(IS, map).expression("nat", |nat| {
            nat.number(NFTA_NAT_TYPE, libc::NFT_NAT_DNAT);
            nat.number(NFTA_NAT_FAMILY, version);
            nat.number(NFTA_NAT_REG_ADDR_MIN, libc::NFT_REG_1);
            nat.number(NFTA_NAT_REG_PROTO_MIN, port);
        })
    }

    /// Verdict: no further rule of this chain is asked. Those of others are.
    pub fn accept(self) -> Self {
        self.verdict(|verdict| verdict.number(NFTA_VERDICT_CODE, libc::NF_ACCEPT))
    }

    /// Verdict: the packet is gone.
    pub fn drop(self) -> Self {
        self.verdict(|verdict| verdict.number(NFTA_VERDICT_CODE, libc::NF_DROP))
    }

    /// Verdict: another chain knows.
    pub fn jump(self, chain: &str) -> Self {
        self.verdict(|verdict| {
            verdict.number(NFTA_VERDICT_CODE, libc::NFT_JUMP);
            verdict.text(NFTA_VERDICT_CHAIN, chain);
        })
    }

    /// The packet is of IPv4, or of IPv6; it decides where in it the addresses are.
    fn version(self, version: i32) -> Self {
        self.load(libc::NFT_REG_1, "meta", &[libc::NFT_META_NFPROTO])
            .compare(IS, &[version as u8])
    }

    fn address_in(self, offset: i32, subnet: Ipv4Network) -> Self {
        self.version(libc::NFPROTO_IPV4)
            .address(libc::NFT_REG_1, offset, 4)
            .mask(subnet.mask().octets())
            .compare(IS, &subnet.network().octets())
    }

    /// The register, with those that follow, becomes an address of the packet.
    fn address(self, register: i32, offset: i32, length: i32) -> Self {
        self.payload(
            register,
            &[libc::NFT_PAYLOAD_NETWORK_HEADER, offset, length],
        )
    }

    /// The register becomes bytes of the packet: of which header, from where, how many.
    fn payload(self, register: i32, place: &[i32; 3]) -> Self {
        self.load(register, "payload", place)
    }

    /// The register becomes what the expression finds. All that find something number their
    /// attributes alike: 1 is the register, and what they are to find follows in the order of the
    /// header file.
    fn load(self, register: i32, name: &str, what: &[i32]) -> Self {
        self.expression(name, |data| {
            for (kind, number) in (1..).zip([&[register], what].concat()) {
                data.number(kind, number);
            }
        })
    }

    /// The rule goes on where register 1, with those that follow, is in the set, or where it is not.
    /// A map's value takes the place of what was looked up.
    fn lookup(self, is: bool, set: Set) -> Self {
        self.expression("lookup", |data| {
            data.text(NFTA_LOOKUP_SET, set.name);
            data.number(NFTA_LOOKUP_SREG, libc::NFT_REG_1);
            if !set.value.is_empty() {
                data.number(NFTA_LOOKUP_DREG, libc::NFT_REG_1);
            }
            if !is {
                data.number(NFTA_LOOKUP_FLAGS, libc::NFT_LOOKUP_F_INV);
            }
        })
    }

    /// Register 1 becomes register 1 & mask.
    fn mask(self, mask: [u8; 4]) -> Self {
        self.expression("bitwise", |data| {
            data.number(NFTA_BITWISE_SREG, libc::NFT_REG_1);
            data.number(NFTA_BITWISE_DREG, libc::NFT_REG_1);
            data.number(NFTA_BITWISE_LEN, 4);
            data.nest(NFTA_BITWISE_MASK, |value| {
                value.bytes(NFTA_DATA_VALUE, &mask);
            });
            data.nest(NFTA_BITWISE_XOR, |value| {
                value.bytes(NFTA_DATA_VALUE, &[0; 4]);
            });
        })
    }

    /// The rule goes on where register 1 compares so.
    fn compare(self, is: bool, value: &[u8]) -> Self {
        let operator = if is {
            libc::NFT_CMP_EQ
        } else {
            libc::NFT_CMP_NEQ
        };
        self.expression("cmp", |data| {
            data.number(NFTA_CMP_SREG, libc::NFT_REG_1);
            data.number(NFTA_CMP_OP, operator);
            data.nest(NFTA_CMP_DATA, |data| data.bytes(NFTA_DATA_VALUE, value));
        })
    }

    /// The rule ends here, with what is to become of the packet.
    fn verdict(self, fill: impl FnOnce(&mut Attributes)) -> Self {
        self.expression("immediate", |data| {
            data.number(NFTA_IMMEDIATE_DREG, libc::NFT_REG_VERDICT);
            data.nest(NFTA_IMMEDIATE_DATA, |data| {
                data.nest(NFTA_DATA_VERDICT, fill);
            });
        })
    }

    fn expression(mut self, name: &str, fill: impl FnOnce(&mut Attributes)) -> Self {
        self.expressions.nest(NFTA_LIST_ELEM, |element| {
            element.text(NFTA_EXPR_NAME, name);
            element.nest(NFTA_EXPR_DATA, fill);
        });
        self
    }
}

/// A link's name as the kernel compares it: IFNAMSIZ bytes, the rest NUL. A shorter value would
/// match each name that begins with it.
pub(crate) fn link_name(name: &str) -> [u8; libc::IFNAMSIZ] {
    let mut padded = [0; libc::IFNAMSIZ];
    for (to, from) in padded.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_compared_in_full() {
        assert_eq!(link_name("mini0"), *b"mini0\0\0\0\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn what_a_map_has_lies_where_the_verdict_looks_for_it() {
        let verdict = |map| {
            let bytes = Rule::new("").dnat_to_whom(map).expressions.0;
            bytes.get(bytes.len() - 4..).map(<[u8]>::to_vec)
        };
        assert_eq!(verdict(crate::nat::ANY), Some(vec![0, 0, 0, 9]));
        assert_eq!(verdict(crate::nat::PORTS6), Some(vec![0, 0, 0, 2]));
    }
}
