//! `linux.namespaces`: which are made, and which of others are joined.

use std::fmt::Write as _;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use namespaces::{IdMap, Isolation, Joined, Range};
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::unistd::Uid;
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespace, LinuxNamespaceType, Spec};

/// What the container's first process is born into.
#[derive(Debug)]
pub(crate) struct Namespaces {
    made: CloneFlags,
    joined: Vec<Joined>,
    ids: Option<IdMap>,
    time_offsets: Option<String>,
    propagation: MsFlags,
}

impl Namespaces {
    /// Opens the namespaces that are joined, so that they stay those that the
    /// specification means.
    pub(crate) fn plan(spec: &Spec, propagation: MsFlags) -> Result<Namespaces> {
        let none = Linux::default();
        let linux = spec.linux().as_ref().unwrap_or(&none);
        let mut made = CloneFlags::empty();
        let mut joined = Vec::new();
        let mut time_offsets = None;
        for (n, namespace) in linux.namespaces().iter().flatten().enumerate() {
            let kind = kind(namespace.typ());
            // An empty path is none, as clients write it.
            let path = namespace.path().as_deref();
            if let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) {
                let file = open(path, kind)
                    .with_context(|| format!("linux.namespaces[{n}].path: {}", path.display()))?;
                joined.push(Joined { file, kinds: kind });
            } else if namespace.typ() == LinuxNamespaceType::Time {
                time_offsets = Some(offsets(linux)?);
            } else {
                made |= kind;
            }
        }
        let ids = made
            .contains(CloneFlags::CLONE_NEWUSER)
            .then(|| ids(linux))
            .transpose()?;
        made.remove(CloneFlags::CLONE_NEWUSER);
        ensure!(
            ids.is_some()
                || joins(&joined, CloneFlags::CLONE_NEWUSER)
                || namespaces::is_privileged()?,
            "linux.namespaces: without root a container needs a user namespace, with linux.uidMappings \
             and linux.gidMappings (minirunc spec --rootless writes them)"
        );
        Ok(Namespaces {
            made,
            joined,
            ids,
            time_offsets,
            propagation,
        })
    }

    /// As the leaf wants it.
    pub(crate) fn isolation<'a>(&'a self, hostname: Option<&'a str>) -> Isolation<'a> {
        Isolation {
            namespaces: self.made,
            ids: self.ids.clone(),
            joined: &self.joined,
            outside: None,
            time_offsets: self.time_offsets.as_deref(),
            propagation: Some(self.propagation),
            hostname,
            cgroup: None,
        }
    }

    /// Whether the container's users are others than ours.
    pub(crate) fn has_users(&self) -> bool {
        self.ids.is_some() || joins(&self.joined, CloneFlags::CLONE_NEWUSER)
    }

    /// Who is root in a container that has both users and a view of its cgroup
    /// of its own: there root may divide up what the container was given.
    pub(crate) fn delegate(&self) -> Option<Uid> {
        let own = self.made.contains(CloneFlags::CLONE_NEWCGROUP);
        let mut ranges = self.ids.as_ref().filter(|_| own)?.uids.iter();
        let root = ranges.find(|range| range.inside == 0)?;
        Some(Uid::from_raw(root.outside))
    }

    /// Whether the container's mounts are its own.
    pub(crate) fn makes_mounts(&self) -> bool {
        self.made.contains(CloneFlags::CLONE_NEWNS)
    }
}

// ioctl_ns(2)
nix::ioctl_none!(ns_get_nstype, 0xb7, 3);

/// Opens the file of a namespace, which must be of this kind.
fn open(path: &Path, wanted: CloneFlags) -> Result<OwnedFd> {
    // A pipe without a writer would be waited for.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    // SAFETY: no memory is involved.
    let found = unsafe { ns_get_nstype(file.as_raw_fd()) }.context("it is no namespace")?;
    ensure!(found == wanted.bits(), "it is a namespace of another kind");
    Ok(file.into())
}

fn joins(joined: &[Joined], kind: CloneFlags) -> bool {
    joined.iter().any(|one| one.kinds.contains(kind))
}

/// What `linux.namespaces` lists.
pub(crate) fn listed(linux: Option<&Linux>) -> impl Iterator<Item = &LinuxNamespace> {
    let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
    namespaces.into_iter().flatten()
}

/// The flag of clone(2) and setns(2) for a kind of namespace.
pub(crate) fn kind(of: LinuxNamespaceType) -> CloneFlags {
    match of {
        LinuxNamespaceType::Mount => CloneFlags::CLONE_NEWNS,
        LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
        LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
        LinuxNamespaceType::User => CloneFlags::CLONE_NEWUSER,
        LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
        LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
        LinuxNamespaceType::Time => CloneFlags::from_bits_retain(libc::CLONE_NEWTIME),
    }
}

fn ids(linux: &Linux) -> Result<IdMap> {
    Ok(IdMap {
        uids: ranges(linux.uid_mappings().as_deref(), "linux.uidMappings")?,
        gids: ranges(linux.gid_mappings().as_deref(), "linux.gidMappings")?,
        required: true,
    })
}

fn ranges(mappings: Option<&[LinuxIdMapping]>, field: &str) -> Result<Vec<Range>> {
    let Some(mappings @ [_, ..]) = mappings else {
        bail!("{field}: a new user namespace needs at least one mapping");
    };
    let range = |mapping: &LinuxIdMapping| Range {
        inside: mapping.container_id(),
        outside: mapping.host_id(),
        length: mapping.size(),
    };
    Ok(mappings.iter().map(range).collect())
}

/// As `/proc/PID/timens_offsets` takes it (time_namespaces(7)).
fn offsets(linux: &Linux) -> Result<String> {
    let mut lines = String::new();
    for (clock, offset) in linux.time_offsets().iter().flatten() {
        ensure!(
            ["monotonic", "boottime"].contains(&clock.as_str()),
            "linux.timeOffsets.{clock}: there is no such clock; it can be monotonic or boottime"
        );
        let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        writeln!(lines, "{clock} {seconds} {nanoseconds}")?;
    }
    Ok(lines)
}
