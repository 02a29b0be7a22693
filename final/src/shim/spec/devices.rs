//! Devices of the host's in the container: their nodes, and who may use them.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use oci_spec::runtime::{
    Linux, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, Mount,
};
use rustix::fs::{major, minor};

use crate::runtime;
use crate::state::{Device, HostConfig};

use super::mounts::mount;

/// What of the host's `/dev` is the container's own.
const OWN: [&str; 6] = ["pts", "shm", "mqueue", "fd", "console", "ptmx"];

/// Adds `--device`, or for a privileged container all that the host has.
pub(super) fn apply(linux: &mut Linux, mounts: &mut Vec<Mount>, host: &HostConfig) -> Result<()> {
    let mut found = Vec::new();
    if host.privileged {
        for (path, device) in below(Path::new("/dev"))? {
            found.push((path, device, "rwm".to_owned()));
        }
    }
    for wanted in &host.devices {
        found.extend(named(wanted)?);
    }
    let mut resources = linux.resources().clone().unwrap_or_default();
    if runtime::is_in_user_namespace() {
        // Nobody here may make a node, nor say who uses one: whoever may open the host's may open
        // it here.
        resources.set_devices(None);
        mounts.extend(found.iter().map(|(path, device, _)| bound(path, device)));
    } else {
        let mut rules = match host.privileged {
            true => vec![everything()],
            false => resources.devices().clone().unwrap_or_default(),
        };
        if !host.privileged {
            let rule = |(_, device, access): &(PathBuf, LinuxDevice, String)| {
                let mut rule = LinuxDeviceCgroup::from(device);
                rule.set_access(Some(access.clone()));
                rule
            };
            rules.extend(found.iter().map(rule));
        }
        resources.set_devices(Some(rules));
        linux.set_devices(Some(
            found.into_iter().map(|(_, device, _)| device).collect(),
        ));
    }
    linux.set_resources(Some(resources));
    Ok(())
}

fn everything() -> LinuxDeviceCgroup {
    let rule = LinuxDeviceCgroupBuilder::default()
        .allow(true)
        .access("rwm");
    rule.build().unwrap_or_default()
}

/// `--device`: a device, or all that are below a directory.
fn named(wanted: &Device) -> Result<Vec<(PathBuf, LinuxDevice, String)>> {
    let option = || {
        format!(
            "error gathering device information while adding custom device {:?}",
            wanted.path_on_host
        )
    };
    let path = fs::canonicalize(&wanted.path_on_host).with_context(option)?;
    let inside = match wanted.path_in_container.as_str() {
        "" => &wanted.path_on_host,
        inside => inside,
    };
    let access = match wanted.cgroup_permissions.as_str() {
        "" => "rwm",
        access => access,
    };
    let is_directory = path.is_dir();
    let found = match is_directory {
        true => below(&path).with_context(option)?,
        false => vec![(path.clone(), device(&path).with_context(option)?)],
    };
    ensure!(!found.is_empty(), "{}: there is no device in it", option());
    let placed = found.into_iter().map(|(source, mut device)| {
        let place = match source.strip_prefix(&path) {
            Ok(rest) if is_directory => Path::new(inside).join(rest),
            _ => PathBuf::from(inside),
        };
        device.set_path(place);
        (source, device, access.to_owned())
    });
    Ok(placed.collect())
}

/// The devices in a directory and those below it, in the order of their names. Links are not
/// followed, and what vanishes meanwhile is left out.
fn below(directory: &Path) -> Result<Vec<(PathBuf, LinuxDevice)>> {
    let mut found = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(directory)
        .with_context(|| format!("list {}", directory.display()))?
        .collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if directory == Path::new("/dev") && OWN.iter().any(|own| entry.file_name() == *own) {
            continue;
        }
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            found.extend(below(&path).unwrap_or_default());
        } else if (kind.is_char_device() || kind.is_block_device())
            && let Ok(device) = device(&path)
        {
            found.push((path, device));
        }
    }
    Ok(found)
}

fn device(path: &Path) -> Result<LinuxDevice> {
    let found = fs::symlink_metadata(path)?;
    let kind = found.file_type();
    ensure!(
        kind.is_char_device() || kind.is_block_device(),
        "not a device node"
    );
    let mut device = LinuxDevice::default();
    device
        .set_path(path.to_owned())
        .set_typ(match kind.is_block_device() {
            true => LinuxDeviceType::B,
            false => LinuxDeviceType::C,
        })
        .set_major(major(found.rdev()).into())
        .set_minor(minor(found.rdev()).into())
        .set_file_mode(Some(found.mode() & 0o7777))
        .set_uid(Some(found.uid()))
        .set_gid(Some(found.gid()));
    Ok(device)
}

fn bound(source: &Path, device: &LinuxDevice) -> Mount {
    let options = ["bind", "rprivate", "nosuid", "noexec"];
    mount("bind", source, device.path().clone(), &options)
}
