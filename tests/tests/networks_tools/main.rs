//! Networks and volumes under real tools: curl, dig, ping, iperf3, nft, nginx and PostgreSQL, all of
//! them Debian's. Three hosts: the machine, a router, and one far behind it.

mod far;
mod firewalls;
mod names;
mod ports;
mod postgres;

use harness::engine::{Machine, Wanted};

/// Root's machine with the image `services`, and a network behind it.
fn online() -> Machine {
    Machine::with(Wanted {
        outside: true,
        services: true,
        ..Wanted::default()
    })
}
