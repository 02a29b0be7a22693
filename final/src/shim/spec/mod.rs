//! stub
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use anyhow::Result;
use cli::Dirs;
use images::Overlay;
use oci_spec::runtime::{Process, Spec};

use super::protocol::Exec;
use crate::state::{Container, Places};

pub(super) fn of(
    container: &Container,
    places: &Places,
    _dirs: &Dirs,
    _root: BorrowedFd,
) -> Result<Spec> {
    let mut spec = crate::runtime::default_spec(false);
    let mut root = oci_spec::runtime::Root::default();
    root.set_path(places.data.join("merged"));
    spec.set_root(Some(root));
    spec.set_hostname(Some(container.config.hostname.clone()));
    if let Some(process) = spec.process_mut() {
        process.set_args(Some(container.config.command()));
        process.set_terminal(Some(container.config.tty));
        process.set_no_new_privileges(Some(false));
    }
    if let Some(linux) = spec.linux_mut() {
        linux.set_resources(None);
        linux.set_cgroups_path(Some(PathBuf::from("minidocker-engine").join(&container.id)));
    }
    Ok(spec)
}

pub(super) fn exec_process(
    container: &Container,
    wish: &Exec,
    _root: BorrowedFd,
) -> Result<Process> {
    let spec = crate::runtime::default_spec(false);
    let mut process = spec.process().clone().unwrap_or_default();
    process.set_args(Some(wish.args.clone()));
    process.set_terminal(Some(wish.tty));
    let _ = container;
    Ok(process)
}

pub(super) fn init_layer(dirs: &Dirs, _image: &str, _overlay: &Overlay) -> Result<PathBuf> {
    let place = dirs.data.join("init/empty");
    std::fs::create_dir_all(&place)?;
    Ok(place)
}
