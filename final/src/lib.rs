//! minidocker: the five leaves, put together.
//!
//! [`runtime`] turns an OCI bundle into a process. It is the engine's lower half,
//! and what the command line `minirunc` gives to podman, docker and containerd.
//! `engine` keeps images for the command line `minidocker`, and `registry` is how
//! they come and go.

#![warn(missing_docs)]

#[cfg(feature = "engine")]
pub mod engine;
#[cfg(feature = "engine")]
pub mod keeper;
#[cfg(feature = "engine")]
pub mod registry;
pub mod runtime;
#[cfg(feature = "engine")]
pub mod shim;
#[cfg(feature = "engine")]
pub mod state;
