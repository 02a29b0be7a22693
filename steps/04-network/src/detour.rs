//! A port of a namespace's own, answered at another one.
//!
//! ```text
//! a program ── to 127.0.0.11:53 ────▶ output: to 127.0.0.11:40001 ──▶ whoever answers
//!           ◀── from 127.0.0.11:53 :output ◀── from 127.0.0.11:40001 ──
//! ```
//!
//! Whoever answers does not bind the port that others call, so that it stays free: a socket of
//! 0.0.0.0:53 and one of 127.0.0.11:53 exclude each other (bind(2), EADDRINUSE), and a name server that
//! somebody runs there wants the first. Each packet is rewritten by itself as it is sent. To have it
//! turned round (`dnat`) would have all connections of the namespace tracked, and each of their packets
//! pay for it.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::nft::{Batch, Chain, Line};
use crate::publish::Protocol;
use crate::rule::{End, Rule};

/// Another one than a bridge's: whoever runs this program in a container has that there.
const TABLE: &str = "minidocker_detour";

const OUTPUT: Chain = Chain {
    name: "output",
    kind: "filter",
    hook: libc::NF_INET_LOCAL_OUT,
    priority: libc::NF_IP_PRI_RAW,
};

/// Has what the caller's network namespace sends to a port of an address of its own go to other ports
/// there, one for each protocol. What an earlier call asked for is forgotten.
///
/// # Errors
/// The kernel refused a message, which is named.
pub fn detour(address: Ipv4Addr, port: u16, ways: &[(Protocol, u16)]) -> Result<()> {
    let line = Line::open()?;
    let ask = |is_first: bool| {
        let mut batch = Batch::about(TABLE);
        if !is_first {
            batch.no_table();
        }
        batch.table("a port that is answered elsewhere");
        batch.chain(OUTPUT);
        for way in ways {
            lead(&mut batch, address, port, *way);
        }
        batch.send(&line)
    };
    // Whoever removes anything waits for it at the end (`Line`), so at first nothing is.
    ask(true).or_else(|_| ask(false))
}

/// There, and back.
fn lead(batch: &mut Batch, address: Ipv4Addr, port: u16, (protocol, other): (Protocol, u16)) {
    let call = Rule::new("who calls the port gets to another")
        .goes_to(address.into())
        .over(protocol)
        .has_port(End::Receiver, port)
        .becomes_port(End::Receiver, other, protocol);
    let answer = Rule::new("the answer comes from the port that was called")
        .comes_from(address.into())
        .over(protocol)
        .has_port(End::Sender, other)
        .becomes_port(End::Sender, port, protocol);
    batch.rule(OUTPUT.name, &call);
    batch.rule(OUTPUT.name, &answer);
}
