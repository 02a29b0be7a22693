//! What a question is answered with, where we know it (RFC 1035).
//!
//! ```text
//! NAME, NAME.NETWORK   A, AAAA     the addresses of who is called so
//!                      any other   nothing: the name is there, the record is not
//! 4.3.89.10.in-addr.arpa  PTR      NAME.NETWORK; in a subnet of ours that nobody has: no such name
//! all else                         is for others to know
//! ```
//!
//! A name that we know is never asked of others, whatever the record: what does not exist here must
//! not be found elsewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use domain::base::iana::{Class, Opcode, Rcode, Rtype};
use domain::base::message_builder::{AnswerBuilder, PushError};
use domain::base::name::ParsedName;
use domain::base::{Message, MessageBuilder, Name, Question, StaticCompressor, Ttl};
use domain::rdata::{A, Aaaa, Ptr};
use network::bridge::Resident;

use super::neighbours::{Neighbours, Owner};

/// How long an answer holds: for this once. The next container of that name has another address, and
/// to ask us anew costs microseconds. (Docker says ten minutes, and whoever believes it does not find
/// a container that was replaced.)
const TTL: Ttl = Ttl::ZERO;

/// The most that goes into a packet for who does not say more, in bytes (RFC 1035, 4.2.1).
const SMALLEST: usize = 512;

/// The most that fits into any message, in bytes: its length has 16 bits.
pub(super) const LARGEST: usize = 65535;

/// So much of a reply is kept free for an OPT record, in bytes (RFC 6891, 6.1.2).
const OPT: usize = 11;

/// How a question came, and its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// This is sent back.
    Reply(Vec<u8>),
    /// Others are asked.
    Others,
    /// It is no question.
    Nothing,
}

/// Finds out. `turn` is another number each time: with whom of several the answer begins.
pub(super) fn answer(
    packet: &[u8],
    transport: Transport,
    asker: &str,
    neighbours: &Neighbours,
    turn: usize,
) -> Outcome {
    let Some(query) = Query::read(packet, transport) else {
        return Outcome::Nothing;
    };
    if query.message.header().opcode() != Opcode::QUERY {
        return query.reply(Rcode::NOTIMP, &[]);
    }
    if query.question.qclass() != Class::IN {
        return Outcome::Others;
    }
    let name = query.question.qname().to_string().to_ascii_lowercase();
    let name = name.trim_end_matches('.');
    if let Some(address) = address_in(name) {
        return match neighbours.owner(asker, address) {
            Owner::Elsewhere => Outcome::Others,
            Owner::Nobody => query.reply(Rcode::NXDOMAIN, &[]),
            Owner::Container(name, short, network) => {
                let is_asked = query.question.qtype() == Rtype::PTR;
                let names = [format!("{name}.{network}."), format!("{short}.{network}.")];
                // A label is 63 bytes at most, and what people call a container has no end.
                let name = names.iter().find_map(|name| name.parse().ok());
                let data = name.filter(|_| is_asked).map(Data::Name);
                query.reply(Rcode::NOERROR, data.as_slice())
            }
        };
    }
    let mut found = neighbours.called(asker, name);
    if found.is_empty() {
        return Outcome::Others;
    }
    let first = turn % found.len();
    found.rotate_left(first);
    let kind = query.question.qtype();
    let data: Vec<_> = found
        .into_iter()
        .filter_map(|who| Data::of(who, kind))
        .collect();
    query.reply(Rcode::NOERROR, &data)
}

/// Says that it went wrong.
pub(super) fn refuse(packet: &[u8], transport: Transport, code: Rcode) -> Option<Vec<u8>> {
    match Query::read(packet, transport)?.reply(code, &[]) {
        Outcome::Reply(reply) => Some(reply),
        Outcome::Others | Outcome::Nothing => None,
    }
}

/// Whether a message is an answer to a question, and not somebody else's word.
pub(super) fn is_answer(message: &[u8], query: &[u8]) -> bool {
    let read = |packet| Message::<&[u8]>::from_octets(packet).ok();
    let Some((message, query)) = read(message).zip(read(query)) else {
        return false;
    };
    let (header, asked) = (message.header(), query.header());
    let questions = message.sole_question().ok().zip(query.sole_question().ok());
    header.qr()
        && header.id() == asked.id()
        && header.opcode() == asked.opcode()
        && questions.is_some_and(|(one, other)| one == other)
}

/// Whether a server says that it cannot answer, so that another may be asked.
pub(super) fn is_refusal(message: &[u8]) -> bool {
    Message::<&[u8]>::from_octets(message)
        .is_ok_and(|message| [Rcode::SERVFAIL, Rcode::REFUSED].contains(&message.header().rcode()))
}

/// A packet that asks one question.
struct Query<'a> {
    message: Message<&'a [u8]>,
    question: Question<ParsedName<&'a [u8]>>,
    /// How long the reply may be, in bytes.
    most: usize,
    /// Whether the asker knows EDNS (RFC 6891), and wants DNSSEC's records.
    edns: Option<bool>,
}

/// What is told.
enum Data {
    Four(Ipv4Addr),
    Six(Ipv6Addr),
    Name(Name<Vec<u8>>),
}

impl Data {
    fn of(resident: &Resident, kind: Rtype) -> Option<Data> {
        match kind {
            Rtype::A => Some(Data::Four(resident.address)),
            Rtype::AAAA => resident.six.map(Data::Six),
            _ => None,
        }
    }
}

impl<'a> Query<'a> {
    /// `None`: it is an answer, or makes no sense.
    fn read(packet: &'a [u8], transport: Transport) -> Option<Query<'a>> {
        let message = Message::from_octets(packet).ok()?;
        if message.header().qr() {
            return None;
        }
        let question = message.sole_question().ok()?;
        let opt = message.opt();
        let said = opt.as_ref().map(|opt| usize::from(opt.udp_payload_size()));
        Some(Query {
            message,
            question,
            most: match transport {
                Transport::Udp => said.unwrap_or(SMALLEST).max(SMALLEST),
                Transport::Tcp => LARGEST,
            },
            edns: opt.map(|opt| opt.dnssec_ok()),
        })
    }

    /// As much as there is room for.
    fn reply(&self, code: Rcode, data: &[Data]) -> Outcome {
        match self.compose(code, data) {
            Ok(reply) => Outcome::Reply(reply),
            // A name of at most 255 bytes has room in any reply.
            Err(_) => Outcome::Nothing,
        }
    }

    fn compose(&self, code: Rcode, data: &[Data]) -> Result<Vec<u8>, PushError> {
        let target = StaticCompressor::new(Vec::with_capacity(SMALLEST));
        let Ok(builder) = MessageBuilder::from_target(target);
        let mut answer = builder.start_answer(&self.message, code)?;
        answer.header_mut().set_ra(true);
        answer.set_push_limit(self.most - OPT);
        for one in data {
            if self.push(&mut answer, one).is_err() {
                // Asked again over TCP, all of it fits (RFC 7766).
                answer.header_mut().set_tc(true);
                break;
            }
        }
        answer.clear_push_limit();
        let mut additional = answer.additional();
        if let Some(dnssec) = self.edns {
            additional.opt(|opt| {
                opt.set_udp_payload_size(LARGEST as u16);
                opt.set_dnssec_ok(dnssec);
                Ok(())
            })?;
        }
        Ok(additional.finish().into_target())
    }

    fn push(
        &self,
        answer: &mut AnswerBuilder<StaticCompressor<Vec<u8>>>,
        data: &Data,
    ) -> Result<(), PushError> {
        let name = self.question.qname();
        match data {
            Data::Four(address) => answer.push((name, TTL, A::new(*address))),
            Data::Six(address) => answer.push((name, TTL, Aaaa::new(*address))),
            Data::Name(of) => answer.push((name, TTL, Ptr::new(of))),
        }
    }
}

/// The address that a name of the reverse tree stands for (RFC 1035, 3.5; RFC 3596, 2.5).
fn address_in(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let parts: Vec<_> = digits.rsplit('.').collect();
        return Some(IpAddr::V4(parts.join(".").parse().ok()?));
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let mut number = 0_u128;
    let mut length = 0;
    for digit in digits.rsplit('.') {
        let (value, 1) = (u128::from_str_radix(digit, 16).ok()?, digit.len()) else {
            return None;
        };
        number = number << 4 | value;
        length += 1;
    }
    (length == 32).then(|| IpAddr::V6(Ipv6Addr::from_bits(number)))
}

#[cfg(test)]
mod tests;
