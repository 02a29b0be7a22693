//! What rtnetlink(7) is asked: changes, and questions.
//!
//! The crate rtnetlink knows how the messages are laid out. They are sent and answered by
//! [`netlink::ask`]: the crate's own connection lives in an event loop, and where its socket breaks
//! it reports success.

use std::io;
use std::os::fd::AsFd;

use anyhow::{Context, Result, anyhow};
use nix::sys::socket::SockProtocol;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkMessage;

use crate::netlink::{self, Answer};

/// A change that the kernel is asked for.
pub(crate) struct Request {
    /// What it is, for `--explain` and for errors.
    pub call: String,
    pub why: &'static str,
    pub message: RouteNetlinkMessage,
    /// Beside NLM_F_REQUEST and NLM_F_ACK.
    pub flags: u16,
    /// An errno that is as good as success; 0 for none.
    pub harmless: i32,
}

/// A link that is not there yet.
pub(crate) fn create(call: String, why: &'static str, link: LinkMessage) -> Request {
    Request {
        flags: NLM_F_CREATE | NLM_F_EXCL,
        ..change(call, why, link)
    }
}

/// Another state of a link that is there.
pub(crate) fn change(call: String, why: &'static str, link: LinkMessage) -> Request {
    Request {
        call,
        why,
        message: RouteNetlinkMessage::NewLink(link),
        flags: 0,
        harmless: 0,
    }
}

impl Request {
    pub fn explain(&self) {
        tracing::info!(call = %self.call, "{}", self.why);
    }

    pub fn encode(&self, sequence: u32) -> Vec<u8> {
        let mut message = NetlinkMessage::from(self.message.clone());
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | self.flags;
        message.header.sequence_number = sequence;
        encode(message)
    }
}

fn encode(mut message: NetlinkMessage<RouteNetlinkMessage>) -> Vec<u8> {
    message.finalize(); // fills in the length
    let mut bytes = vec![0; message.buffer_len().next_multiple_of(4)];
    message.serialize(&mut bytes);
    bytes
}

/// Sends requests in one datagram, which the kernel works through in their order. It does not stop
/// at one that it refuses: whoever gets the error takes down what the others made.
pub(crate) fn carry_out(requests: &[Request]) -> Result<()> {
    if requests.is_empty() {
        return Ok(());
    }
    let mut bytes = Vec::new();
    for (sequence, request) in requests.iter().enumerate() {
        request.explain();
        bytes.extend(request.encode(sequence as u32));
    }
    let socket = netlink::open(SockProtocol::NetlinkRoute)?;
    let mut refused = None;
    netlink::ask(socket.as_fd(), &bytes, |answer| {
        let Answer::Outcome { sequence, errno } = answer else {
            return true;
        };
        let sequence = sequence as usize;
        if let Some(request) = requests.get(sequence)
            && errno != 0
            && errno != request.harmless
        {
            refused = Some((request, errno));
        }
        refused.is_none() && sequence + 1 != requests.len()
    })
    .with_context(|| {
        requests
            .iter()
            .map(|request| request.call.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    })?;
    refused.map_or(Ok(()), |(request, errno)| {
        Err(refusal(&request.call, errno))
    })
}

/// Asks a question.
pub(crate) fn fetch(
    call: &str,
    question: NetlinkMessage<RouteNetlinkMessage>,
) -> Result<Vec<RouteNetlinkMessage>> {
    let socket = netlink::open(SockProtocol::NetlinkRoute)?;
    let mut found = Vec::new();
    let mut outcome = 0;
    netlink::ask(socket.as_fd(), &encode(question), |answer| match answer {
        Answer::Data(message) => {
            found.push(NetlinkMessage::deserialize(message));
            true
        }
        Answer::Outcome { errno, .. } => {
            outcome = errno;
            false
        }
        Answer::End => false,
    })
    .with_context(|| call.to_owned())?;
    if outcome != 0 {
        return Err(refusal(call, outcome));
    }
    let mut answers = Vec::new();
    for message in found {
        let message = message.with_context(|| format!("read the answer to {call}"))?;
        if let NetlinkPayload::InnerMessage(answer) = message.payload {
            answers.push(answer);
        }
    }
    Ok(answers)
}

fn refusal(call: &str, errno: i32) -> anyhow::Error {
    let hint = match errno {
        libc::EPERM => " (needs CAP_NET_ADMIN over the network namespace)",
        libc::EXFULL => {
            " (a bridge has ports for 1023 containers, and this one's are taken: start it in another \
             network)"
        }
        libc::EOPNOTSUPP => " (has this kernel bridge and veth?)",
        _ => "",
    };
    anyhow!(io::Error::from_raw_os_error(errno)).context(format!("the kernel refused {call}{hint}"))
}
