//! From a container as docker's users describe it to the runtime's `config.json`.
//!
//! ```text
//!   state.json ──▶ namespaces   its own, the host's, another container's
//!              ──▶ process      who runs what, in which environment
//!              ──▶ security     capabilities, system calls, hidden paths
//!              ──▶ mounts       docker's seven, the network's three, the user's
//!              ──▶ devices      nodes, and who may use them
//!              ──▶ resources    what it may use up
//! ```
//!
//! Everything that docker gives to a container and keeps from it is decided here; what it means to
//! the kernel is the runtime's affair. Without root we already are root of a user namespace, which
//! the container stays in: what nobody may do there is done in another way, and said where it is.

mod devices;
mod mounts;
mod namespaces;
mod process;
mod profile;
mod resources;
mod security;
mod shared_memory;
mod subpath;

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use anyhow::{Context, Result};
use cli::Dirs;
use oci_spec::runtime::{Root, Spec};

use crate::runtime;
use crate::state::{Container, Places};

use namespaces::Namespaces;

pub use namespaces::running;
pub use process::exec_process;
pub use subpath::{mount_all as mount_parts, open_part};

/// The directory of the bundle that the container's root file system is mounted on.
const ROOTFS: &str = "merged";

/// Configures the container for the runtime. Its bundle is `places.data`, and `root` what will be
/// its `/`, where users and groups are looked up.
///
/// # Errors
/// What the user asked for makes no sense, or cannot be had here, by the option's name.
pub fn of(container: &Container, places: &Places, dirs: &Dirs, root: BorrowedFd) -> Result<Spec> {
    let host = &container.host;
    let namespaces = Namespaces::of(container, dirs)?;
    let mut spec = runtime::default_spec(false);

    let mut top = Root::default();
    top.set_path(ROOTFS.into())
        .set_readonly(Some(host.readonly_rootfs));
    spec.set_root(Some(top));
    spec.set_hostname(namespaces.hostname(container));
    spec.set_domainname(namespaces.domainname(container));

    let process = process::first(container, &namespaces, root)?;
    let linux = spec.linux_mut().take();
    let mut linux = linux.context("the defaults are incomplete")?;
    security::apply(&mut linux, host, &process)?;
    let defaults = spec.mounts_mut().take().unwrap_or_default();
    let mut mounts = mounts::of(container, places, &namespaces, defaults)?;
    devices::apply(&mut linux, &mut mounts, host)?;
    resources::apply(&mut linux, host);
    linux
        .set_namespaces(Some(namespaces.listed()))
        .set_sysctl(Some(host.sysctls.clone().into_iter().collect()))
        .set_rootfs_propagation(mounts::propagation(container))
        .set_cgroups_path(cgroup(container, resources::are_limited(host)));

    if host.runtime.is_some() {
        // Nothing here is newer, and there are those who refuse what is.
        spec.set_version("1.0.2".to_owned());
    }
    spec.set_process(Some(process))
        .set_mounts(Some(mounts))
        .set_linux(Some(linux));
    Ok(spec)
}

/// Relative, so that it is below what was delegated to us where the tree's root is not ours. Other
/// runtimes would put a relative one below the cgroup that we happen to be in, never remove more of
/// it than the last directory, and without root do without one only where none is named.
fn cgroup(container: &Container, limited: bool) -> Option<PathBuf> {
    let id = &container.id;
    let path = match (&container.host.runtime, runtime::is_in_user_namespace()) {
        (Some(_), true) if !limited => return None,
        (Some(_), false) => format!("/minidocker-engine-{id}"),
        _ => format!("minidocker-engine/{id}"),
    };
    Some(path.into())
}

#[cfg(test)]
mod tests;
