//! Sources of binds that only the parent can open, and mounts with other owners.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use namespaces::{IdMap, Isolation, Range};
use nix::mount::MsFlags;
use oci_spec::runtime::{self as oci, LinuxIdMapping, LinuxNamespaceType};
use rootfs::{Attributes, map_ids};
use sys_mount::MountFlags;

use super::Bundle;
use super::mount_options::Options;
use super::mounts::{has_namespace, namespaces_of};
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
    let owners = wanted_owners(bundle, mount, options)?;
    let shared = root::keeps_shared(bundle.spec.linux().as_ref())?;
    let wanted = shared || has_namespace(bundle, LinuxNamespaceType::User);
    let remount = bind.flags.contains(MountFlags::REMOUNT);
    if owners.is_none() && (!wanted || remount || !namespaces::is_privileged()?) {
        return Ok(None);
    }
    let tree = bind.make_tree()?;
    if !shared {
        Attributes::propagation(MsFlags::MS_SLAVE | MsFlags::MS_REC).apply(&tree)?;
    }
    if let Some(owners) = owners {
        let users = owners.open().context("make a user namespace for idmap")?;
        map_ids(&tree, users.as_fd(), options.id_map.unwrap_or_default())
            .context("idmap: the file system of the source cannot map ids, or you may not")?;
    }
    Ok(Some(tree))
}

/// Who owns the files of a mount.
enum Owners {
    Mapped(IdMap),
    /// Whom a user namespace would show, which others have made.
    Shown(PathBuf),
}

/// Those of the mount's own mappings, or with `idmap` alone of the container's.
fn wanted_owners(bundle: &Bundle, mount: &oci::Mount, options: &Options) -> Result<Option<Owners>> {
    let given = |ids: &Option<Vec<LinuxIdMapping>>| ids.clone().unwrap_or_default();
    let (uids, gids) = (given(mount.uid_mappings()), given(mount.gid_mappings()));
    ensure!(
        uids.is_empty() == gids.is_empty(),
        "uidMappings and gidMappings: one does not go without the other"
    );
    if !uids.is_empty() {
        return Ok(Some(Owners::Mapped(id_map(&uids, &gids))));
    }
    if options.id_map.is_none() {
        return Ok(None);
    }
    let users = namespaces_of(bundle).find(|one| one.typ() == LinuxNamespaceType::User);
    if let Some(path) = users.and_then(|users| users.path().clone()) {
        return Ok(Some(Owners::Shown(path)));
    }
    let linux = bundle.spec.linux().as_ref();
    let uids = linux.map(|linux| given(linux.uid_mappings()));
    let gids = linux.map(|linux| given(linux.gid_mappings()));
    let (uids, gids) = (uids.unwrap_or_default(), gids.unwrap_or_default());
    ensure!(
        !uids.is_empty() && !gids.is_empty(),
        "options: idmap needs uidMappings and gidMappings, of the mount or of the container"
    );
    Ok(Some(Owners::Mapped(id_map(&uids, &gids))))
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

impl Owners {
    /// A user namespace that would show them. Nobody will ever be in one that
    /// is made for it: its descriptor is enough.
    fn open(self) -> Result<OwnedFd> {
        let open = |path: &Path| {
            File::open(path)
                .map(OwnedFd::from)
                .with_context(|| format!("open {}", path.display()))
        };
        let ids = match self {
            Owners::Shown(path) => return open(&path),
            Owners::Mapped(ids) => ids,
        };
        let isolation = Isolation {
            ids: Some(ids),
            ..Isolation::users_only()?
        };
        let held = namespaces::spawn(&isolation, |_| Ok(0))?;
        open(Path::new(&format!("/proc/{}/ns/user", held.pid())))
    }
}
