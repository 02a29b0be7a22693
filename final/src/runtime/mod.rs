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
//! Read [`create`] first: it is the story, and says of each line which step it
//! comes from. [`init`] is what the container's first process does meanwhile.

mod bundle;
mod capabilities;
mod check;
mod console;
mod container;
mod create;
mod device_filter;
mod devices;
mod exec;
mod features;
mod hooks;
mod id;
mod init;
mod label;
mod masks;
mod mounts;
mod namespaces_of;
mod process;
mod resources;
mod root;
mod seal;
mod seccomp;
mod spec;
mod state;
mod sysctl;

pub use bundle::{Bundle, check_process, read_process};
pub use container::{Container, Record, Runtime, Settings, Started};
pub use features::features;
pub use id::Id;
pub use seal::become_sealed_copy;
pub use spec::default_spec;
