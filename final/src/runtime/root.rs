//! What will be the container's root file system.

use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, umask};
use oci_spec::runtime::{Linux, Process};
use rootfs::{Attributes, Root, Top};

use super::Bundle;
use super::devices::Devices;
use super::masks::Masks;
use super::mount_options;
use super::mounts::Mounts;

/// The root and everything in it, decided before anything is mounted.
#[derive(Debug)]
pub(crate) struct RootPlan {
    rootfs: PathBuf,
    read_only: bool,
    /// `linux.rootfsPropagation`, if it is there.
    propagation: Option<MsFlags>,
    mounts: Mounts,
    /// `None` where the container uses somebody else's `/dev` as it is.
    devices: Option<Devices>,
    masks: Masks,
    cwd: PathBuf,
}

impl RootPlan {
    /// Reads `root`, `mounts` and what of `linux` is about files.
    pub(crate) fn plan(bundle: &Bundle) -> Result<RootPlan> {
        let spec = &bundle.spec;
        let linux = spec.linux().as_ref();
        let process = spec.process().as_ref();
        let terminal = process.and_then(Process::terminal);
        let mounts = Mounts::plan(bundle)?;
        let devices = Devices::plan(linux, terminal.unwrap_or_default())?;
        Ok(RootPlan {
            rootfs: bundle.rootfs.clone(),
            read_only: (spec.root().as_ref())
                .and_then(oci_spec::runtime::Root::readonly)
                .unwrap_or_default(),
            propagation: linux.map(told).transpose()?.flatten(),
            devices: (!mounts.binds_dev()).then_some(devices),
            mounts,
            masks: Masks::plan(linux)?,
            cwd: process.map_or_else(|| "/".into(), |process| process.cwd().clone()),
        })
    }

    /// Mounts everything, while the host's tree is still `/`.
    pub(crate) fn prepare(&self) -> Result<Top> {
        // Directories and devices are made with the modes that are asked for.
        let before = umask(Mode::empty());
        let bare = Root {
            path: self.rootfs.clone(),
            read_only: false,
            mounts: Vec::new(),
        };
        let top = bare.prepare()?;
        if self.propagation.is_some_and(is_let_out) {
            top.change(Attributes::propagation(MsFlags::MS_PRIVATE))
                .context("keep the host's mounts out of the container's root")?;
        }
        let read_only = self.mounts.put(&top)?;
        if let Some(devices) = &self.devices {
            devices.make(&top)?;
        }
        // runc makes the directory that the command starts in; images count on it.
        if top.existing(&self.cwd)?.is_none() {
            top.directory(&self.cwd).context("process.cwd: make it")?;
        }
        for mount in &read_only {
            READ_ONLY.apply(mount).context("make a tmpfs read-only")?;
        }
        umask(before);
        Ok(top)
    }

    /// Closes what is still open, once the container's root is `/`.
    pub(crate) fn finish(&self) -> Result<()> {
        let top = Top::current()?;
        if self.read_only {
            top.change(READ_ONLY).context("root.readonly")?;
        }
        self.masks.put(&top)?;
        // Last, for what is unbindable cannot be masked.
        if let Some(propagation) = self.propagation
            && !propagation.contains(MsFlags::MS_PRIVATE)
        {
            top.change(Attributes::propagation(propagation))
                .context("linux.rootfsPropagation")?;
        }
        Ok(())
    }
}

const READ_ONLY: Attributes = Attributes {
    set: libc::MOUNT_ATTR_RDONLY,
    clear: 0,
    propagation: 0,
    all: false,
};

fn told(linux: &Linux) -> Result<Option<MsFlags>> {
    let name = linux.rootfs_propagation().as_deref().unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    mount_options::propagation(name)
        .map(Some)
        .with_context(|| format!("linux.rootfsPropagation: {name:?} is not shared, slave, private or unbindable, nor one of them with an r"))
}

/// Whether what the container mounts in a shared volume is to appear on the
/// host too.
pub(crate) fn keeps_shared(linux: Option<&Linux>) -> Result<bool> {
    let told = linux.map(told).transpose()?.flatten();
    Ok(told.is_some_and(is_let_out))
}

fn is_let_out(propagation: MsFlags) -> bool {
    let kept_in = MsFlags::MS_SLAVE | MsFlags::MS_PRIVATE;
    !(propagation.contains(MsFlags::MS_REC) && propagation.intersects(kept_in))
}

/// What the host's mounts become in the container's mount namespace. The host
/// is never told of mounts made here, and least of all of its tree's unmounting;
/// `linux.rootfsPropagation` is for what stays in the container.
pub(crate) fn propagation(linux: &Linux) -> Result<MsFlags> {
    let told = told(linux)?.filter(|told| told.contains(MsFlags::MS_PRIVATE | MsFlags::MS_REC));
    Ok(told.unwrap_or(MsFlags::MS_SLAVE | MsFlags::MS_REC))
}
