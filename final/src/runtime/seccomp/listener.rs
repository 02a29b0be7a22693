//! Who answers the calls that a profile marks `SCMP_ACT_NOTIFY`: an agent of the
//! user's, which listens at `linux.seccomp.listenerPath`.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use oci_spec::runtime::{
    ContainerProcessState, LinuxSeccomp, LinuxSeccompAction as Action, SECCOMP_FD_NAME, State,
};

/// Whether a profile leaves a decision to an agent.
pub(super) fn wanted(profile: &LinuxSeccomp) -> bool {
    let mut entries = profile.syscalls().iter().flatten();
    entries.any(|entry| entry.action() == Action::ScmpActNotify)
}

/// A connection to the agent, of whoever starts the process: the filtered one
/// itself, in its own namespaces, could neither reach the agent nor say how the
/// host calls it.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixStream,
    metadata: Option<String>,
}

/// To be kept open until the listener was sent.
impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Listener {
    /// Connects to the agent, where the profile leaves something to it.
    ///
    /// # Errors
    /// Nobody listens at `linux.seccomp.listenerPath`.
    pub(crate) fn connect(profile: &LinuxSeccomp) -> Result<Option<Listener>> {
        let Some(path) = profile.listener_path() else {
            return Ok(None);
        };
        if !wanted(profile) {
            return Ok(None);
        }
        let socket = UnixStream::connect(path).with_context(|| {
            format!("linux.seccomp.listenerPath: connect to {}", path.display())
        })?;
        Ok(Some(Listener {
            socket,
            metadata: profile.listener_metadata().clone(),
        }))
    }

    /// Hands over what [`Filter::install`](super::Filter::install) gave, with the
    /// container process state (runtime-spec, config-linux.md, "Seccomp").
    /// `pid` is the process that is filtered, as the host sees it.
    ///
    /// # Errors
    /// The agent is gone.
    pub(crate) fn send(&self, listener: &OwnedFd, pid: i32, mut state: State) -> Result<()> {
        // A container that is being created has no other process yet.
        if state.pid().is_none() {
            state.set_pid(Some(pid));
        }
        let mut message = ContainerProcessState::default();
        message
            .set_version(state.version().clone())
            .set_fds(vec![SECCOMP_FD_NAME.to_owned()])
            .set_pid(pid)
            .set_metadata(self.metadata.clone())
            .set_state(state);
        let message = serde_json::to_vec(&message)?;
        let fds = [listener.as_raw_fd()];
        let sent = sendmsg::<()>(
            self.socket.as_raw_fd(),
            &[IoSlice::new(&message)],
            &[ControlMessage::ScmRights(&fds)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .context("linux.seccomp.listenerPath: hand over the listener")?;
        ensure!(
            sent == message.len(),
            "linux.seccomp.listenerPath: the agent did not take the whole message"
        );
        Ok(())
    }
}
