//! Sources of binds that only the parent can open, and mounts with other owners.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use namespaces::{IdMap, Isolation, Range};
use nix::mount::MsFlags;
use oci_spec::runtime::{self as oci, LinuxIdMapping, LinuxNamespaceType};
use rootfs::{Attributes, map_ids};
use sys_mount::MountFlags;

use super::Bundle;
use super::mount_options::Options;
use super::mounts::has_namespace;
use super::root;

/// Opens the source of a bind in the parent, where the child could not: root of
/// a user namespace does not get through directories that are closed to it, nor
/// may it map the owners of the host's files; and in the child's mount namespace
/// nothing is shared with the host any more.
pub(crate) fn open_for_child(
    bundle: &Bundle,
    mount: &oci::Mount,
    bind: &rootfs::Mount,
    options: &Options,
) -> Result<Option<OwnedFd>> {
    let ids = wanted_ids(bundle, mount, options)?;
    let shared = root::keeps_shared(bundle.spec.linux().as_ref())?;
    let wanted = shared || has_namespace(bundle, LinuxNamespaceType::User);
    let remount = bind.flags.contains(MountFlags::REMOUNT);
    if ids.is_none() && (!wanted || remount || !namespaces::is_privileged()?) {
        return Ok(None);
    }
    let tree = bind.make_tree()?;
    if !shared {
        Attributes::propagation(MsFlags::MS_SLAVE | MsFlags::MS_REC).apply(&tree)?;
    }
    if let Some(ids) = ids {
        let users = user_namespace(ids).context("make a user namespace for uidMappings")?;
        map_ids(&tree, users.as_fd(), options.id_map.unwrap_or_default())
            .context("uidMappings: the file system of the source cannot map ids, or you may not")?;
    }
    Ok(Some(tree))
}

/// The mount's own mappings, or with `idmap` alone those of the container.
fn wanted_ids(bundle: &Bundle, mount: &oci::Mount, options: &Options) -> Result<Option<IdMap>> {
    let (uids, gids) = (mount.uid_mappings(), mount.gid_mappings());
    if let (Some(uids), Some(gids)) = (uids, gids) {
        return Ok(Some(id_map(uids, gids)));
    }
    ensure!(
        uids.is_none() && gids.is_none(),
        "uidMappings and gidMappings: one does not go without the other"
    );
    if options.id_map.is_none() {
        return Ok(None);
    }
    let linux = bundle.spec.linux().as_ref();
    let of = |field: Option<&Vec<LinuxIdMapping>>| field.cloned().unwrap_or_default();
    let uids = of(linux.and_then(|linux| linux.uid_mappings().as_ref()));
    let gids = of(linux.and_then(|linux| linux.gid_mappings().as_ref()));
    ensure!(
        !uids.is_empty() && !gids.is_empty(),
        "options: idmap needs uidMappings and gidMappings, of the mount or of the container"
    );
    Ok(Some(id_map(&uids, &gids)))
}

fn id_map(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> IdMap {
    let range = |mapping: &LinuxIdMapping| Range {
        inside: mapping.container_id(),
        outside: mapping.host_id(),
        length: mapping.size(),
    };
    IdMap {
        uids: uids.iter().map(range).collect(),
        gids: gids.iter().map(range).collect(),
        required: true,
    }
}

/// A user namespace that nobody will ever be in: its descriptor is enough.
fn user_namespace(ids: IdMap) -> Result<OwnedFd> {
    let isolation = Isolation {
        ids: Some(ids),
        ..Isolation::users_only()?
    };
    let held = namespaces::spawn(&isolation, |_| Ok(0))?;
    let path = format!("/proc/{}/ns/user", held.pid());
    let file = File::open(&path).with_context(|| format!("open {path}"))?;
    Ok(file.into())
}
