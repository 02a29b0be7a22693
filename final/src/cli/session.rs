//! Being with a container: what `run`, `start -a`, `attach` and `exec` have in common.

use std::io::{self, IsTerminal};

use anyhow::{Result, anyhow};
use clap::Args;

use minidocker::engine::containers::Execed;
use minidocker::shim::protocol::Connection;
use minidocker::state::Container;
use rustix::termios::tcgetwinsize;

use crate::PROGRAM;

/// How to part from a container, and what of ours goes on to it.
#[derive(Debug, Args)]
pub(crate) struct Keys {
    /// The keys that leave the container running: ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Whether signals go on to the container
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_value_t = true, default_missing_value = "true", hide_default_value = true)]
    sig_proxy: bool,
}

/// Whether there is the terminal that a container with one wants of us. Says so if not.
pub(crate) fn has_terminal(tty: bool, stdin: bool) -> bool {
    let there = !tty || !stdin || io::stdin().is_terminal();
    if !there {
        cli::complain(PROGRAM, &anyhow!("the input device is not a TTY"));
    }
    there
}

/// Rows and columns of our own terminal; nothing where there is none.
pub(crate) fn size() -> (u16, u16) {
    let size = tcgetwinsize(io::stdout())
        .ok()
        .filter(|_| io::stdout().is_terminal());
    size.map_or((0, 0), |size| (size.ws_row, size.ws_col))
}

/// Stays with a container until it ends, or its keys part us from it. Returns our exit status.
pub(crate) fn of_container(
    container: &Container,
    connection: Connection,
    stdin: bool,
    keys: &Keys,
) -> Result<u8> {
    let _ = (container, connection, stdin, keys);
    anyhow::bail!("not yet")
}

/// The same with a process that was added to a container.
pub(crate) fn of_exec(execed: Execed, detach_keys: Option<&str>) -> Result<u8> {
    let _ = (execed, detach_keys);
    anyhow::bail!("not yet")
}
