//! The process beside the containers of networks that people made: it knows their names.
//!
//! ```text
//!   container web                        container db
//!   ┌─────────────────────────────┐      ┌──────────────────────────────┐
//!   │ resolv.conf:                │      │                              │
//!   │   nameserver 127.0.0.11     │      │   eth0 10.89.0.3             │
//!   │ "where is db?"              │      └──────────────────────────────┘
//!   │      │ to 127.0.0.11:53     │
//!   │      ▼ nf_tables: :53 ▸ :n  │      the host's network
//!   │ 127.0.0.11:n, udp and tcp ──┼───▶ keeper ── knows it: "10.89.0.3"
//!   └─────────────────────────────┘       │
//!      the sockets were made in there,    └──── does not: asks a resolver of the host's
//!      and are read out here
//! ```
//!
//! A socket belongs for ever to the network namespace that it was made in; whoever holds its
//! descriptor can use it from anywhere. So one process answers inside of all containers, knows by the
//! socket which of them asks, and asks others from the host's network, where a resolver on the host's
//! loopback is in reach as well. Port 53 itself stays free in the container ([`network::detour`]):
//! somebody may run a name server there.
//!
//! ```text
//! RUN/network/keeper/lock     held (flock) for the moment in which a keeper begins or ends
//! RUN/network/keeper/socket   shims register their containers here
//! ```
//!
//! - `registration`: a shim hands the sockets of its container over, and knows by the connection,
//!   which stays open, whether there is still somebody to answer;
//! - `life`: how the first shim forks the process off, and how it ends after the last;
//! - `desk`: where one container's questions come in, and its answers go out;
//! - `neighbours`: who is called what, and lives where;
//! - `answer`: what a question is answered with;
//! - `forward`: how others are asked.

mod answer;
mod desk;
mod forward;
mod life;
mod neighbours;
mod registration;

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use cli::Dirs;

use crate::shim::protocol::Connection;
pub use registration::{Asking, Registration};

/// Where a container finds its resolver.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The port that names are asked for at.
const PORT: u16 = 53;

/// The name of the keeper's socket, in its directory.
const SOCKET: &str = "socket";

/// The keeper's directory.
fn place(dirs: &Dirs) -> PathBuf {
    dirs.run.join("network/keeper")
}

/// The socket of a keeper that was killed, until the next one takes its place.
///
/// # Errors
/// It cannot be asked whether somebody listens there.
pub fn leftover(dirs: &Dirs) -> Result<Option<PathBuf>> {
    let socket = place(dirs).join(SOCKET);
    let gone = socket.exists() && Connection::at(&place(dirs), SOCKET)?.is_none();
    Ok(gone.then_some(socket))
}

/// Removes that.
///
/// # Errors
/// What the disk refuses.
pub fn sweep(dirs: &Dirs) -> Result<()> {
    // Whoever begins one has this locked.
    let door = life::door(&place(dirs))?;
    door.lock().context("lock the keeper's door")?;
    match leftover(dirs)? {
        None => Ok(()),
        Some(socket) => {
            fs::remove_file(&socket).with_context(|| format!("remove {}", socket.display()))
        }
    }
}
