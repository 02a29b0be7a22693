//! A rule of nf_tables: a row of expressions.
//!
//! ```text
//! fib daddr type local  tcp dport 8080  dnat to 10.88.0.2:80       as nft(8) prints it
//!
//! fib      register 1 := what kind of address the packet goes to
//! cmp      register 1 == RTN_LOCAL, or the rule ends here
//! meta     register 1 := its transport
//! cmp      register 1 == 6
//! payload  register 1 := bytes 2 and 3 of the transport header
//! cmp      register 1 == 8080
//! immediate, immediate, nat        registers 1 and 2 := 10.88.0.2 and 80; go there
//! ```
//! What lies in a register has the byte order of its source: the packet's for addresses and ports,
//! the machine's for the rest. `nft --debug=netlink` shows any rule this way.

use std::net::SocketAddrV4;

use ipnetwork::Ipv4Network;

use crate::nft::Attributes;
use crate::publish::Protocol;

/// For comparisons that can be asked both ways.
pub(crate) const IS: i32 = libc::NFT_CMP_EQ;
/// The other way.
pub(crate) const IS_NOT: i32 = libc::NFT_CMP_NEQ;

// linux/netfilter/nf_tables.h; libc has the rest, but not the attributes
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
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
const NFT_FIB_RESULT_ADDRTYPE: i32 = 3;
const NFTA_FIB_F_DADDR: i32 = 1 << 1;

/// Where the addresses are in an IPv4 header (RFC 791), and the destination port in TCP's and UDP's.
const SOURCE: i32 = 12;
const DESTINATION: i32 = 16;
const PORT: i32 = 2;

/// A rule as it grows, expression by expression.
pub(crate) struct Rule {
    pub comment: String,
    pub expressions: Attributes,
}

impl Rule {
    /// An empty rule; the comment is stored in the kernel and says whose it is and why.
    pub fn new(comment: impl Into<String>) -> Self {
        Self {
            comment: comment.into(),
            expressions: Attributes::default(),
        }
    }

    /// The packet came in by this link, or by any other.
    pub fn enters(self, by: i32, link: &str) -> Self {
        self.load("meta", &[libc::NFT_META_IIFNAME])
            .compare(by, &link_name(link))
    }

    /// The packet is on its way out by this link, or by any other.
    pub fn leaves(self, by: i32, link: &str) -> Self {
        self.load("meta", &[libc::NFT_META_OIFNAME])
            .compare(by, &link_name(link))
    }

    /// The sender is in this subnet.
    pub fn source_in(self, subnet: Ipv4Network) -> Self {
        self.address_in(SOURCE, subnet)
    }

    /// The receiver is in this subnet.
    pub fn destination_in(self, subnet: Ipv4Network) -> Self {
        self.address_in(DESTINATION, subnet)
    }

    /// The receiver is any address of this machine, as the routing table (fib) knows them.
    pub fn destination_is_local(self) -> Self {
        self.load("fib", &[NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR])
            .compare(IS, &u32::from(libc::RTN_LOCAL).to_ne_bytes())
    }

    /// The packet goes to this port.
    pub fn port(self, protocol: Protocol, port: u16) -> Self {
        self.load("meta", &[libc::NFT_META_L4PROTO])
            .compare(IS, &[protocol.number()])
            .load("payload", &[libc::NFT_PAYLOAD_TRANSPORT_HEADER, PORT, 2])
            .compare(IS, &port.to_be_bytes())
    }

    /// The packet opens a connection that conntrack did not know.
    pub fn opens_connection(self) -> Self {
        const NEW: u32 = 1 << 3; // NF_CT_STATE_BIT(IP_CT_NEW)
        self.load("ct", &[libc::NFT_CT_STATE])
            .mask(NEW.to_ne_bytes())
            .compare(IS_NOT, &[0; 4])
    }

    /// The connection is, or is not, one that a `dnat` rule turned round.
    pub fn published(self, by: i32) -> Self {
        const DST_NAT: u32 = 1 << 5; // IPS_DST_NAT
        let zero = if by == IS { IS_NOT } else { IS };
        self.load("ct", &[libc::NFT_CT_STATUS])
            .mask(DST_NAT.to_ne_bytes())
            .compare(zero, &[0; 4])
    }

    /// Verdict: the sender becomes the address of the link that the packet leaves by.
    pub fn masquerade(self) -> Self {
        self.expression("masq", |_| ())
    }

    /// Verdict: the receiver becomes this address and port; answers are turned back.
    pub fn dnat(self, to: SocketAddrV4) -> Self {
        let value = |bytes: &[u8]| {
            let mut data = Attributes::default();
            data.bytes(NFTA_DATA_VALUE, bytes);
            data
        };
        self.immediate(libc::NFT_REG_1, &value(&to.ip().octets()))
            .immediate(libc::NFT_REG_2, &value(&to.port().to_be_bytes()))
            .expression("nat", |nat| {
                nat.number(NFTA_NAT_TYPE, libc::NFT_NAT_DNAT);
                nat.number(NFTA_NAT_FAMILY, libc::NFPROTO_IPV4);
                nat.number(NFTA_NAT_REG_ADDR_MIN, libc::NFT_REG_1);
                nat.number(NFTA_NAT_REG_PROTO_MIN, libc::NFT_REG_2);
            })
    }

    /// Verdict: the packet is gone.
    pub fn drop(self) -> Self {
        let mut drop = Attributes::default();
        drop.nest(NFTA_DATA_VERDICT, |verdict| {
            verdict.number(NFTA_VERDICT_CODE, libc::NF_DROP);
        });
        self.immediate(libc::NFT_REG_VERDICT, &drop)
    }

    fn address_in(self, offset: i32, subnet: Ipv4Network) -> Self {
        self.load("payload", &[libc::NFT_PAYLOAD_NETWORK_HEADER, offset, 4])
            .mask(subnet.mask().octets())
            .compare(IS, &subnet.network().octets())
    }

    /// Register 1 becomes what the expression finds. All that find something number their
    /// attributes alike: 1 is the register, and what they are to find follows in the order of the
    /// header file.
    fn load(self, name: &str, what: &[i32]) -> Self {
        self.expression(name, |data| {
            for (kind, number) in (1..).zip([&[libc::NFT_REG_1], what].concat()) {
                data.number(kind, number);
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
    fn compare(self, operator: i32, value: &[u8]) -> Self {
        self.expression("cmp", |data| {
            data.number(NFTA_CMP_SREG, libc::NFT_REG_1);
            data.number(NFTA_CMP_OP, operator);
            data.nest(NFTA_CMP_DATA, |data| data.bytes(NFTA_DATA_VALUE, value));
        })
    }

    /// A register becomes this.
    fn immediate(self, register: i32, value: &Attributes) -> Self {
        self.expression("immediate", |data| {
            data.number(NFTA_IMMEDIATE_DREG, register);
            data.nest(NFTA_IMMEDIATE_DATA, |data| data.0.extend(&value.0));
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
fn link_name(name: &str) -> [u8; libc::IFNAMSIZ] {
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
    fn a_port_is_compared_in_the_packets_byte_order() {
        let rule = Rule::new("").port(Protocol::Udp, 0x1f90);
        let bytes = rule.expressions.0;
        assert!(bytes.windows(4).any(|window| window == [0x1f, 0x90, 0, 0]));
        assert!(bytes.windows(4).any(|window| window == [17, 0, 0, 0]));
    }
}
