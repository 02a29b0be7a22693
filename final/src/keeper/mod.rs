//! The process beside the containers of networks that people made: it knows their names.
//!
//! ```text
//!   container web                        container db
//!   ┌─────────────────────────────┐      ┌──────────────────────────────┐
//!   │ resolv.conf:                │      │                              │
//!   │   nameserver 127.0.0.11     │      │   ("db", 10.89.0.3)          │
//!   │ "where is db?"              │      └──────────────────────────────┘
//!   │      │                      │
//!   │      ▼                      │      the host's network
//!   │ 127.0.0.11:53, udp and tcp ─┼───▶ keeper ── knows it: "10.89.0.3"
//!   └─────────────────────────────┘       │
//!      the socket was made in there,      └──── does not: asks a resolver of the host's
//!      and is read out here
//! ```
//!
//! A socket belongs for ever to the network namespace that it was made in; whoever holds its
//! descriptor can use it from anywhere. So one process answers inside of all containers, knows by the
//! socket which of them asks, and asks others from the host's network, where a resolver on the host's
//! loopback is in reach as well.
//!
//! ```text
//! RUN/network/keeper/lock     held (flock) for the moment in which a keeper begins or ends
//! RUN/network/keeper/socket   shims register their containers here
//! ```
//!
//! - `registration`: a shim hands the sockets of its container over, and knows by the connection,
//!   which stays open, whether there is still somebody to answer;
//! - `life`: how the first shim forks the process off, and how it ends after the last.

mod life;
mod registration;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use cli::Dirs;

pub use registration::Registration;

/// Where a container finds its resolver.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The name of the keeper's socket, in its directory.
const SOCKET: &str = "socket";

/// The keeper's directory.
fn place(dirs: &Dirs) -> PathBuf {
    dirs.run.join("network/keeper")
}
