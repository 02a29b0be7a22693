//! nf_tables without nft(8): what its netlink messages look like, byte by byte.
//!
//! A transaction is one buffer of messages, each behind its length:
//!
//! ```text
//! nlmsghdr BATCH_BEGIN   nfgenmsg
//! nlmsghdr NEWTABLE      nfgenmsg  name="minidocker"  userdata=comment
//! nlmsghdr NEWSET        nfgenmsg  table= name= key_type= key_len= data_type= data_len=
//! nlmsghdr NEWCHAIN      nfgenmsg  table= name= type="nat" hook={hooknum= priority=}
//! nlmsghdr NEWRULE       nfgenmsg  table= chain= expressions={ elem={name="meta" data={..}} .. }
//! nlmsghdr NEWSETELEM    nfgenmsg  table= set= elements={ elem={key={..} data={..}} .. }
//! nlmsghdr BATCH_END     nfgenmsg
//! ```
//!
//! An attribute is length, kind and value, padded to four bytes; a nested one holds attributes; a
//! number is big endian. The kernel takes the whole batch or nothing.
//!
//! linux/netfilter/nf_tables.h lists the names and numbers.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, anyhow};
use nix::sys::socket::SockProtocol;

use crate::nat::TABLE;
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
pub(crate) const NFTA_CHAIN_TABLE: u16 = 1;
pub(crate) const NFTA_CHAIN_NAME: u16 = 3;
pub(crate) const NFTA_CHAIN_HOOK: u16 = 4;
pub(crate) const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
pub(crate) const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_USERDATA: u16 = 13;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
pub(crate) const NFTA_LIST_ELEM: u16 = 1;
pub(crate) const NFTA_DATA_VALUE: u16 = 1;
pub(crate) const NFTA_RULE_TABLE: u16 = 1;
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

    fn element(&mut self, element: &Element) {
        self.nest(NFTA_LIST_ELEM, |data| {
            data.nest(NFTA_SET_ELEM_KEY, |key| {
                key.bytes(NFTA_DATA_VALUE, &element.key);
            });
            if element.ends {
                data.number(NFTA_SET_ELEM_FLAGS, libc::NFT_SET_ELEM_INTERVAL_END);
            }
            if !element.value.is_empty() {
                data.nest(NFTA_SET_ELEM_DATA, |value| {
                    value.bytes(NFTA_DATA_VALUE, &element.value);
                });
            }
        });
    }

    /// What `nft list` prints as `comment "..."`: kind 0, length, text, NUL (libnftnl's udata).
    fn comment(&mut self, kind: u16, comment: &str) {
        let text: Vec<u8> = comment.bytes().take(Batch::COMMENT).chain([0]).collect();
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

/// A line to netfilter. The kernel frees in the background what was removed, and whoever closes such
/// a socket waits for that (15 to 60 ms were measured), whoever has removed it. So there is one for
/// all that a container asks, and at the end the undertaker closes it.
pub(crate) struct Line(OwnedFd);

impl Line {
    pub fn open() -> Result<Self> {
        netlink::open(SockProtocol::NetlinkNetFilter).map(Self)
    }

    /// Asks, hands over what is answered, and answers how it ended.
    fn ask(&self, question: &[u8], mut take: impl FnMut(&[u8])) -> Result<i32> {
        let mut outcome = 0;
        netlink::ask(self.as_fd(), question, |answer| match answer {
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
        Ok(outcome)
    }

    /// The comment of our table; `None`: there is no table.
    pub fn comment_of_table(&self) -> Result<Option<String>> {
        let mut attributes = Attributes::default();
        attributes.text(NFTA_TABLE_NAME, TABLE);
        let kind = subsystem(libc::NFT_MSG_GETTABLE);
        let mut question = Vec::new();
        header(&mut question, kind, NLM_F_ACK, 0, attributes.0.len());
        question.extend([libc::NFPROTO_INET as u8, 0, 0, 0]);
        question.extend(attributes.0);
        let call = format!("NFT_MSG_GETTABLE inet {TABLE}");
        let mut comment = String::new();
        let take = |table: &[u8]| {
            let userdata = table
                .get(HEADER + 4..)
                .and_then(|attributes| find(attributes, NFTA_TABLE_USERDATA));
            let text = userdata.and_then(|data| CStr::from_bytes_until_nul(data.get(2..)?).ok());
            comment.extend(text.map(CStr::to_string_lossy));
        };
        match self.ask(&question, take).context(call.clone())? {
            0 => Ok(Some(comment)),
            libc::ENOENT => Ok(None),
            errno => Err(refused(&call, errno)),
        }
    }

    /// Hands over all that there is of a kind, message by message, with its family and attributes.
    pub fn dump(&self, kind: i32, mut take: impl FnMut(i32, &[u8])) -> Result<()> {
        let mut question = Vec::new();
        header(&mut question, subsystem(kind), NLM_F_DUMP, 0, 0);
        question.extend([libc::AF_UNSPEC as u8, 0, 0, 0]);
        let errno = self.ask(&question, |message| {
            if let (Some(family), Some(rest)) = (message.get(HEADER), message.get(HEADER + 4..)) {
                take(i32::from(*family), rest);
            }
        })?;
        match errno {
            0 => Ok(()),
            errno => Err(refused("a dump", errno)),
        }
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What a part of a key or a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Ipv4,
    Ipv6,
    Protocol,
    Port,
    Link,
}

impl Field {
    /// How nft(8) numbers it (nftables' datatype.h), and its length, padded to whole registers.
    fn layout(self) -> (i32, i32) {
        match self {
            Self::Ipv4 => (7, 4),
            Self::Ipv6 => (8, 16),
            Self::Protocol => (12, 4),
            Self::Port => (13, 4),
            Self::Link => (41, 16),
        }
    }

    /// In bytes.
    pub fn length(self) -> i32 {
        self.layout().1
    }

    /// The number of several in a row, six bits each, and their length.
    fn row(fields: &[Self]) -> (i32, i32) {
        let layouts = fields.iter().map(|field| field.layout());
        layouts.fold((0, 0), |(row, all), (number, length)| {
            (row << 6 | number, all + length)
        })
    }
}

/// A set, or where it has values, a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Set {
    pub name: &'static str,
    pub key: &'static [Field],
    pub value: &'static [Field],
    flags: i32,
}

impl Set {
    pub const fn of(name: &'static str, key: &'static [Field]) -> Self {
        Self {
            name,
            key,
            value: &[],
            flags: 0,
        }
    }

    /// A set of ranges: of each, its first member and the first one behind it.
    pub const fn of_ranges(name: &'static str, key: &'static [Field]) -> Self {
        Self {
            flags: libc::NFT_SET_INTERVAL,
            ..Self::of(name, key)
        }
    }

    pub const fn map(name: &'static str, key: &'static [Field], value: &'static [Field]) -> Self {
        Self {
            value,
            flags: libc::NFT_SET_MAP,
            ..Self::of(name, key)
        }
    }
}

/// A member of a set.
#[derive(Debug, Clone)]
pub(crate) struct Element {
    /// As a person would call it.
    pub called: String,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    /// It is the first one behind a range.
    pub ends: bool,
}

impl Element {
    pub fn new(called: String, key: Vec<u8>) -> Self {
        Self {
            called,
            key,
            value: Vec::new(),
            ends: false,
        }
    }
}

/// A transaction: what is put in happens all at once, or not at all.
pub(crate) struct Batch {
    table: &'static str,
    buffer: Vec<u8>,
    /// What each message is, for the error of the one that fails. A message's sequence number is
    /// its place here.
    said: Vec<String>,
    /// Where the last message begins in the buffer.
    last: usize,
}

impl Batch {
    /// How long a comment may be: nft(8) takes no more than 128 bytes with the NUL.
    pub const COMMENT: usize = 127;
    /// How many elements go into one message: the length of an attribute has 16 bits.
    const ELEMENTS: usize = 500;

    /// One about our table.
    pub fn new() -> Self {
        Self::about(TABLE)
    }

    /// One about another table of ours.
    pub fn about(table: &'static str) -> Self {
        let mut batch = Self {
            table,
            buffer: Vec::with_capacity(8192),
            said: Vec::new(),
            last: 0,
        };
        batch.frame(NFNL_MSG_BATCH_BEGIN);
        batch
    }

    /// The table, which is not there.
    pub fn table(&mut self, comment: &str) {
        let own = self.table;
        let call = format!("NFT_MSG_NEWTABLE inet {own}");
        tracing::info!(%call, "{comment}: our rules stand apart from everybody else's");
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.message(call, libc::NFT_MSG_NEWTABLE, flags, |table| {
            table.text(NFTA_TABLE_NAME, own);
            table.comment(NFTA_TABLE_USERDATA, comment);
        });
    }

    /// No table, whether there was one or not: deleting what is not there would fail the whole
    /// batch, so that it is made first (NFT_MSG_DESTROYTABLE came with Linux 6.3).
    pub fn no_table(&mut self) {
        let own = self.table;
        let call = format!("NFT_MSG_DELTABLE inet {own}");
        tracing::info!(%call, "a table takes all along that is in it");
        for (kind, flags) in [
            (libc::NFT_MSG_NEWTABLE, NLM_F_CREATE),
            (libc::NFT_MSG_DELTABLE, 0),
        ] {
            self.message(call.clone(), kind, flags, |table| {
                table.text(NFTA_TABLE_NAME, own);
            });
        }
    }

    /// A set or map, with nothing in it yet.
    pub fn set(&mut self, set: &Set) {
        let own = self.table;
        let call = format!("NFT_MSG_NEWSET inet {own} {}", set.name);
        let id = self.said.len() as i32; // any number that no other set of the batch has
        self.message(call, libc::NFT_MSG_NEWSET, NLM_F_CREATE, |data| {
            let (key, length) = Field::row(set.key);
            data.text(NFTA_SET_TABLE, own);
            data.text(NFTA_SET_NAME, set.name);
            data.number(NFTA_SET_FLAGS, set.flags);
            data.number(NFTA_SET_KEY_TYPE, key);
            data.number(NFTA_SET_KEY_LEN, length);
            data.number(NFTA_SET_ID, id);
            if set.key == [Field::Link] {
                // Of a name alone nft(8) wants to be told that the machine's byte order is meant:
                // kind 0 (NFTNL_UDATA_SET_KEYBYTEORDER), length, number.
                let order = [[0, 4].as_slice(), &1u32.to_ne_bytes()].concat();
                data.bytes(NFTA_SET_USERDATA, &order);
            }
            if !set.value.is_empty() {
                let (value, length) = Field::row(set.value);
                data.number(NFTA_SET_DATA_TYPE, value);
                data.number(NFTA_SET_DATA_LEN, length);
            }
        });
    }

    /// Elements of a set; they may be there.
    pub fn add(&mut self, set: Set, elements: &[Element]) {
        self.elements(libc::NFT_MSG_NEWSETELEM, set, elements);
    }

    /// No such elements; they have to be there.
    pub fn take(&mut self, set: Set, elements: &[Element]) {
        self.elements(libc::NFT_MSG_DELSETELEM, set, elements);
    }

    fn elements(&mut self, kind: i32, set: Set, elements: &[Element]) {
        let own = self.table;
        let (name, flags) = match kind {
            libc::NFT_MSG_NEWSETELEM => ("NEW", NLM_F_CREATE),
            _ => ("DEL", 0),
        };
        for some in elements.chunks(Self::ELEMENTS) {
            let some_called = some.iter().filter(|one| !one.ends);
            let called: Vec<_> = some_called.map(|one| one.called.as_str()).collect();
            let called = called.join(", ");
            let call = format!("NFT_MSG_{name}SETELEM inet {own} {}: {called}", set.name);
            tracing::info!(%call, "the rules stay; what they look up changes");
            self.message(call, kind, flags, |data| {
                data.text(NFTA_SET_ELEM_LIST_TABLE, own);
                data.text(NFTA_SET_ELEM_LIST_SET, set.name);
                data.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
                    some.iter().for_each(|element| list.element(element));
                });
            });
        }
    }

    /// A chain that the kernel calls at its hook.
    pub fn chain(&mut self, chain: Chain) {
        let own = self.table;
        let call = format!("NFT_MSG_NEWCHAIN inet {own} {}", chain.name);
        self.message(call, libc::NFT_MSG_NEWCHAIN, NLM_F_CREATE, |data| {
            data.text(NFTA_CHAIN_TABLE, own);
            data.text(NFTA_CHAIN_NAME, chain.name);
            data.text(NFTA_CHAIN_TYPE, chain.kind);
            data.nest(NFTA_CHAIN_HOOK, |hook| {
                hook.number(NFTA_HOOK_HOOKNUM, chain.hook);
                hook.number(NFTA_HOOK_PRIORITY, chain.priority);
            });
        });
    }

    /// A chain that other chains jump to.
    pub fn bare_chain(&mut self, name: &str) {
        let own = self.table;
        let call = format!("NFT_MSG_NEWCHAIN inet {own} {name}");
        self.message(call, libc::NFT_MSG_NEWCHAIN, NLM_F_CREATE, |data| {
            data.text(NFTA_CHAIN_TABLE, own);
            data.text(NFTA_CHAIN_NAME, name);
        });
    }

    /// A rule at the end of a chain.
    pub fn rule(&mut self, chain: &str, rule: &Rule) {
        let own = self.table;
        let call = format!("NFT_MSG_NEWRULE inet {own} {chain}");
        tracing::info!(%call, "{}", rule.comment);
        let flags = NLM_F_CREATE | NLM_F_APPEND;
        self.message(call, libc::NFT_MSG_NEWRULE, flags, |data| {
            data.text(NFTA_RULE_TABLE, own);
            data.text(NFTA_RULE_CHAIN, chain);
            data.bytes(NFTA_RULE_EXPRESSIONS | NLA_F_NESTED, &rule.expressions.0);
            data.comment(NFTA_RULE_USERDATA, rule.comment);
        });
    }

    /// Hands the batch to the kernel. The error names the message that was refused, and holds the
    /// errno as an [`io::Error`].
    pub fn send(mut self, line: &Line) -> Result<()> {
        // Only failures are answered, and what asks for it; the last message's answer comes last.
        if let Some([low, high]) = self.buffer.get_mut(self.last + 6..self.last + 8) {
            [*low, *high] = (u16::from_ne_bytes([*low, *high]) | NLM_F_ACK).to_ne_bytes();
        }
        let awaited = self.said.len() - 1;
        self.frame(NFNL_MSG_BATCH_END);
        let mut failed = None;
        netlink::ask(line.as_fd(), &self.buffer, |answer| match answer {
            Answer::Outcome { sequence, errno } => {
                failed = (errno != 0).then_some((sequence as usize, errno));
                failed.is_none() && sequence as usize != awaited
            }
            _ => true,
        })
        .with_context(|| self.said.get(awaited).cloned().unwrap_or_default())?;
        let Some((sequence, errno)) = failed else {
            return Ok(());
        };
        netlink::drain(line.as_fd()); // what else was refused
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
        self.buffer.extend([libc::NFPROTO_INET as u8, 0, 0, 0]); // nfgenmsg: family, version, resource
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

/// The first attribute of a kind, as text.
pub(crate) fn text(attributes: &[u8], kind: u16) -> Option<String> {
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
            " (has this kernel nf_tables, nft_chain_nat, nft_masq, nft_fib_inet, nft_ct?)"
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
        batch.table("why");
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
}
