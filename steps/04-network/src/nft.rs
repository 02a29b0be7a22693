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
//! An attribute is length, kind and value, padded to four bytes; a nested one holds attributes; a
//! number is big endian. The kernel takes the whole batch or nothing.
//!
//! linux/netfilter/nf_tables.h lists the names and numbers.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, anyhow};
use nix::sys::socket::SockProtocol;

use crate::netlink::{self, Answer, HEADER};
use crate::rule::Rule;

// linux/netlink.h
const NLM_F_REQUEST: u16 = 0x01;
pub(crate) const NLM_F_ACK: u16 = 0x04;
const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
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
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;

/// Attributes, written one behind the other into a message.
#[derive(Default)]
pub(crate) struct Attributes(pub Vec<u8>);

impl Attributes {
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = (4 + value.len()) as u16; // without the padding
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    pub fn text(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat());
    }

    pub fn number(&mut self, kind: u16, value: i32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
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
                hook.number(NFTA_HOOK_HOOKNUM, chain.hook);
                hook.number(NFTA_HOOK_PRIORITY, chain.priority);
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
        })
        .with_context(|| self.said.get(awaited).cloned().unwrap_or_default())?;
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
        self.said.push("a transaction of nf_tables".to_owned());
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
    })
    .with_context(|| format!("NFT_MSG_GETTABLE ip {name}"))?;
    match outcome {
        0 => Ok(true),
        libc::ENOENT => Ok(false),
        errno => Err(refused(&format!("NFT_MSG_GETTABLE ip {name}"), errno)),
    }
}

/// The names of the tables of IPv4.
pub(crate) fn tables() -> Result<Vec<String>> {
    let mut found = Vec::new();
    dump(libc::NFT_MSG_GETTABLE, libc::AF_INET, |table| {
        let name = table
            .get(HEADER + 4..)
            .and_then(|attributes| text(attributes, NFTA_TABLE_NAME));
        found.extend(name);
    })
    .context("NFT_MSG_GETTABLE")?;
    Ok(found)
}

/// The chains of other tables that see forwarded packets and drop what none of their rules takes,
/// each as `table chain`.
pub(crate) fn forward_chains_that_drop() -> Result<Vec<String>> {
    let mut found = Vec::new();
    dump(libc::NFT_MSG_GETCHAIN, libc::AF_UNSPEC, |chain| {
        found.extend(drops_forwarded(chain));
    })
    .context("NFT_MSG_GETCHAIN")?;
    Ok(found)
}

/// Hands over all that there is of a kind, message by message.
fn dump(kind: i32, family: i32, mut take: impl FnMut(&[u8])) -> Result<()> {
    let mut buffer = Vec::new();
    header(&mut buffer, subsystem(kind), NLM_F_DUMP, 0, 0);
    buffer.extend([family as u8, 0, 0, 0]);
    let mut outcome = 0;
    let socket = netlink::open(SockProtocol::NetlinkNetFilter)?;
    netlink::ask(socket.as_fd(), &buffer, |answer| match answer {
        Answer::Data(message) => {
            take(message);
            true
        }
        Answer::End => false,
        Answer::Outcome { errno, .. } => {
            outcome = errno;
            false
        }
    })?;
    match outcome {
        0 => Ok(()),
        errno => Err(refused("a dump", errno)),
    }
}

/// The name of such a chain, from its message.
fn drops_forwarded(chain: &[u8]) -> Option<String> {
    let &[family, ..] = chain.get(HEADER..)? else {
        return None;
    };
    let attributes = chain.get(HEADER + 4..)?;
    let hook = find(attributes, NFTA_CHAIN_HOOK)?;
    let is =
        |value: Option<&[u8]>, number: i32| value == Some((number as u32).to_be_bytes().as_slice());
    let drops = [libc::NFPROTO_IPV4, libc::NFPROTO_INET].contains(&i32::from(family))
        && is(find(hook, NFTA_HOOK_HOOKNUM), libc::NF_INET_FORWARD)
        && is(find(attributes, NFTA_CHAIN_POLICY), libc::NF_DROP);
    drops.then_some(format!(
        "{} {}",
        text(attributes, NFTA_CHAIN_TABLE)?,
        text(attributes, NFTA_CHAIN_NAME)?
    ))
}

/// The first attribute of a kind, as text.
fn text(attributes: &[u8], kind: u16) -> Option<String> {
    let text = CStr::from_bytes_until_nul(find(attributes, kind)?).ok()?;
    Some(text.to_string_lossy().into_owned())
}

/// The value of the first attribute of a kind.
pub(crate) fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let &[l0, l1, k0, k1, ..] = attributes else {
            return None;
        };
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([k0, k1]) & !NLA_F_NESTED == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn subsystem(kind: i32) -> u16 {
    (NFNL_SUBSYS_NFTABLES << 8) | kind as u16
}

/// nlmsghdr: length of the whole, kind, flags, sequence number, and 0 for "to the kernel"
/// (netlink(7)).
pub(crate) fn header(
    buffer: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: usize,
    attributes: usize,
) {
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
    anyhow!(io::Error::from_raw_os_error(errno)).context(format!("the kernel refused {call}{hint}"))
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
    fn a_foreign_chain_that_drops_forwarded_packets_is_recognised() {
        let chain = |policy: i32, hook: i32| {
            let mut attributes = Attributes::default();
            attributes.text(NFTA_CHAIN_TABLE, "filter");
            attributes.text(NFTA_CHAIN_NAME, "FORWARD");
            attributes.nest(NFTA_CHAIN_HOOK, |inner| {
                inner.number(NFTA_HOOK_HOOKNUM, hook);
            });
            attributes.number(NFTA_CHAIN_POLICY, policy);
            let mut message = vec![0; HEADER];
            message.extend([libc::NFPROTO_IPV4 as u8, 0, 0, 0]);
            message.extend(attributes.0);
            drops_forwarded(&message)
        };
        let forward = libc::NF_INET_FORWARD;
        assert_eq!(
            chain(libc::NF_DROP, forward).as_deref(),
            Some("filter FORWARD")
        );
        assert_eq!(chain(libc::NF_ACCEPT, forward), None);
        assert_eq!(chain(libc::NF_DROP, libc::NF_INET_LOCAL_IN), None);
        assert_eq!(drops_forwarded(&[0; 18]), None);
    }
}
