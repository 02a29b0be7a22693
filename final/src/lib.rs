//! minidocker: the five leaves, put together.
//!
//! [`runtime`] turns an OCI bundle into a process. It is the engine's lower half,
//! and what the command line `minirunc` gives to podman, docker and containerd.

#![warn(missing_docs)]

pub mod engine;
pub mod registry;
pub mod runtime;
