//! Being with a container: what `run`, `start -a`, `attach` and `exec` have in common.

use std::io::{self, IsTerminal};

use anyhow::{Result, bail};
use clap::Args;
use minidocker::engine::containers::session::{DetachKeys, Manner, Outcome, Session};
use rustix::termios::tcgetwinsize;

/// How to part from a container, and what of ours goes on to it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Keys {
    /// The keys that leave the container running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<DetachKeys>,
    /// Whether signals go on to the container
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_value_t = true, default_missing_value = "true", hide_default_value = true)]
    sig_proxy: bool,
}

impl Keys {
    /// How somebody with these keys is with a process that may have a terminal, and our input.
    pub(crate) fn manner(&self, tty: bool, stdin: bool) -> Manner {
        Manner {
            tty,
            stdin,
            detach_keys: self.detach_keys.clone().unwrap_or_default(),
            sig_proxy: self.sig_proxy,
            ..Manner::default()
        }
    }
}

/// Rows and columns of our own terminal; nothing where there is none.
pub(crate) fn size() -> (u16, u16) {
    let size = tcgetwinsize(io::stdout()).ok();
    let size = size.filter(|_| io::stdout().is_terminal());
    size.map_or((0, 0), |size| (size.ws_row, size.ws_col))
}

/// Goes on until the other side ends, or the keys part us from it. Returns our exit status.
pub(crate) fn run(session: Session) -> Result<u8> {
    Ok(match session.run()? {
        Outcome::Ended(status) => status,
        Outcome::Detached => 0,
    })
}

/// The same for who came to a process that was there, or is one more: that the keys part us from it
/// is an error then, as with docker.
pub(crate) fn run_to_the_end(session: Session) -> Result<u8> {
    match session.run()? {
        Outcome::Ended(status) => Ok(status),
        Outcome::Detached => bail!("read escape sequence"),
    }
}
