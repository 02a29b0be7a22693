//! The runtime: from an OCI bundle to a process (runtime-spec 1.2).
//!
//! ```text
//!   bundle/config.json ─▶ Bundle ─▶ create ─────────▶ start ─▶ … ─▶ delete
//!                          checked    │                 │
//!                                     ▼                 ▼
//!                                   init, held at   execve of the
//!                                   a named gate    user's command
//! ```
//!
//! Read [`create`] first: it is the story, and says of each part which step it
//! comes from. `init` is what the container's first process does meanwhile,
//! `process` what it becomes at the end. What may happen to a container later
//! is in [`container`](Container) and `exec`; what is kept of it, in `state`.

mod bpf;
mod bundle;
mod capabilities;
mod check;
mod console;
mod container;
mod copy_up;
mod create;
mod device_filter;
mod devices;
mod exec;
mod features;
mod group;
mod home;
mod hooks;
mod id;
mod id_maps;
mod init;
mod keyring;
mod label;
mod lookup;
mod masks;
mod mount_options;
mod mounts;
mod namespaces_of;
mod process;
mod procfs;
mod resources;
mod rlimits;
mod root;
mod scheduling;
mod seal;
mod seccomp;
mod spec;
mod state;
mod stats;
mod sysctl;
pub(crate) mod title;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use bundle::{Bundle, check_process, read_process};
pub use capabilities::own as own_capabilities;
pub use container::{Container, Status};
#[cfg(feature = "engine")]
pub(crate) use copy_up::{copy as copy_tree, copy_attributes};
pub use create::Created;
pub use features::features;
pub use id::Id;
pub use lookup::look_up;
pub(crate) use mount_options::Options as MountOptions;
pub use seal::run_where_sealed;
pub use spec::{default_capabilities, default_spec, docker_seccomp, masked_paths};
pub use state::Record;
pub use stats::Stats;

/// Where containers are made, and found again.
#[derive(Debug, Clone)]
pub struct Runtime {
    root: PathBuf,
}

impl Runtime {
    /// The runtime that keeps its containers' state in `root`, which a reboot
    /// should empty.
    #[must_use]
    pub fn at(root: PathBuf) -> Runtime {
        Runtime { root }
    }

    /// `/run/minirunc`, or the caller's own place where there is one.
    ///
    /// # Errors
    /// Fails for an ordinary user without `XDG_RUNTIME_DIR`.
    pub fn default_root() -> Result<PathBuf> {
        if nix::unistd::geteuid().is_root() && !is_in_user_namespace() {
            return Ok(PathBuf::from("/run/minirunc"));
        }
        let own = std::env::var_os("XDG_RUNTIME_DIR").context(
            "XDG_RUNTIME_DIR is not set, which says where an ordinary user's state is kept; set it, or give --root",
        )?;
        Ok(Path::new(&own).join("minirunc"))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

/// Whether our root may be an ordinary user outside of our user namespace.
#[must_use]
pub fn is_in_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().ne(["0", "0", "4294967295"]))
}

/// What the caller of `create`, `run` and `exec` asks for beside the bundle.
#[derive(Debug, Default)]
pub struct Settings {
    /// Where the first process's pid is written to.
    pub pid_file: Option<PathBuf>,
    /// The unix socket that the terminal's master is sent to.
    pub console_socket: Option<PathBuf>,
    /// How many open files after standard error the command gets.
    pub preserve_fds: u32,
    /// Whether the caller's session keyring stays the command's.
    pub no_new_keyring: bool,
    /// The command's standard streams, each a descriptor above 2; `None` where
    /// it gets the caller's own, or a terminal.
    pub streams: Option<[OwnedFd; 3]>,
    /// Whether pid 1 of a new container is a small init, with the command as
    /// its child.
    pub init: bool,
}
