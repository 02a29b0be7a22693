//! What is mounted in the container: docker's seven, the network's three files, the user's own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use oci_spec::runtime::Mount;

use crate::runtime;
use crate::state::{Container, Places, Recursion, Volume};

use super::namespaces::{Namespaces, Whose};
use super::{shared_memory, subpath};

/// Bytes in `/dev/shm`, where nobody says.
const SHM: u64 = 64 << 20;

/// Files of the network's, in `places.data` by the same name.
const NETWORKS: [&str; 3] = ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"];

/// All of them, in the order in which they are mounted: `defaults` first, and of the others those
/// further up, or the one on `/a` would cover the one on `/a/b`.
pub(super) fn of(
    container: &Container,
    places: &Places,
    namespaces: &Namespaces,
    defaults: Vec<Mount>,
) -> Result<Vec<Mount>> {
    let mut others = users(container, places)?;
    let is_taken = |place: &Path| others.iter().any(|mount| mount.destination() == place);
    let over_dev = is_taken(Path::new("/dev"));
    let mut all = Vec::new();
    for mount in defaults {
        let place = mount.destination().clone();
        let is_queue = [Path::new("/dev/shm"), Path::new("/dev/mqueue")].contains(&&*place);
        let none = namespaces.bare_ipc && is_queue;
        if none || is_taken(&place) || (over_dev && place.starts_with("/dev")) {
            continue;
        }
        if let (Whose::Others { pid, .. }, "/dev/shm") =
            (&namespaces.ipc, &*place.to_string_lossy())
        {
            all.push(bind(&shared_memory::borrow(*pid, places)?, &place, false));
            continue;
        }
        all.extend(adapted(mount, container, namespaces));
    }
    // Who shares a network goes by the same names.
    let data = match &namespaces.network {
        Whose::Others { data, .. } => data,
        _ => &places.data,
    };
    let files = NETWORKS.map(Path::new).into_iter().filter_map(|place| {
        let source = data.join(place.file_name()?);
        let wanted = !is_taken(place) && source.exists();
        wanted.then(|| bind(&source, place, container.host.readonly_rootfs))
    });
    let files: Vec<Mount> = files.collect();
    others.extend(files);
    others.sort_by_key(|mount| mount.destination().components().count());
    all.extend(others);
    Ok(all)
}

/// One of docker's seven, for this container; `None`: it cannot have it.
fn adapted(mut mount: Mount, container: &Container, namespaces: &Namespaces) -> Option<Mount> {
    let host = &container.host;
    let is_guest = runtime::is_in_user_namespace;
    let place = mount.destination().clone();
    let mut options = mount.options().clone().unwrap_or_default();
    let place = place.to_str().unwrap_or_default();
    // A file system shows one namespace's affairs, and belongs to the owner of that.
    let borrowed = match place {
        "/dev/shm" => namespaces.ipc == Whose::Host,
        "/dev/mqueue" => namespaces.ipc == Whose::Host && is_guest(),
        "/proc" => namespaces.pid == Whose::Host && is_guest(),
        "/sys" => namespaces.network == Whose::Host && is_guest(),
        _ => false,
    };
    if borrowed {
        if !Path::new(place).exists() {
            return None;
        }
        let read_only = options.iter().any(|option| option == "ro") && !host.privileged;
        let mut bound = bind(Path::new(place), Path::new(place), read_only);
        if place != "/dev/shm" {
            let mut options = bound.options().clone().unwrap_or_default();
            options.extend(["nosuid", "noexec", "nodev"].map(str::to_owned));
            bound.set_options(Some(options));
        }
        return Some(bound);
    }
    match place {
        "/dev/shm" => {
            let size = match host.shm_size {
                0 => SHM,
                size => size,
            };
            options.retain(|option| !option.starts_with("size="));
            options.push(format!("size={size}"));
        }
        "/dev/pts" if is_guest() && !is_mapped(5) => {
            options.retain(|option| !option.starts_with("gid="));
        }
        "/sys" | "/sys/fs/cgroup" if host.privileged => {
            options.retain(|option| option != "ro");
            options.push("rw".to_owned());
        }
        _ => {}
    }
    mount.set_options(Some(options));
    Some(mount)
}

/// Whether the group is known in our user namespace.
fn is_mapped(gid: u32) -> bool {
    let map = fs::read_to_string("/proc/self/gid_map").unwrap_or_default();
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.nth(1)) {
            (Some(Ok(first)), Some(Ok(count))) => {
                (first..first.saturating_add(count)).contains(&gid.into())
            }
            _ => false,
        }
    })
}

/// Volumes, and what `--tmpfs` says. Of two with one place the later is meant.
fn users(container: &Container, places: &Places) -> Result<Vec<Mount>> {
    let mut mounts: Vec<Mount> = Vec::new();
    for (place, options) in &container.host.tmpfs {
        mounts.push(tmpfs(place, options, true));
    }
    for (n, volume) in container.mounts.iter().enumerate() {
        let mount = match volume.r#type.as_str() {
            "volume" if !volume.subpath.is_empty() => {
                bound(&subpath::pick(volume, places, n)?, volume)?
            }
            "bind" | "volume" => bound(Path::new(&volume.source), volume)?,
            "tmpfs" => tmpfs(&volume.destination, &volume.mode, volume.writable),
            kind => bail!("mount type unknown: {kind}"),
        };
        mounts.retain(|other| other.destination() != mount.destination());
        mounts.push(mount);
    }
    Ok(mounts)
}

fn bound(source: &Path, volume: &Volume) -> Result<Mount> {
    ensure!(
        !volume.propagation.ends_with("shared"),
        "{}: {}: what a container mounts is never shown to the host; rslave shows it what the host mounts",
        volume.destination,
        volume.propagation
    );
    let mut mount = bind(source, &clean(&volume.destination), !volume.writable);
    let mut options = mount.options().clone().unwrap_or_default();
    if volume.recursion != Recursion::Enabled {
        options.retain(|option| option != "rro");
    }
    if volume.recursion == Recursion::Disabled {
        options.retain(|option| option != "rbind");
        options.push("bind".to_owned());
    }
    if !volume.propagation.is_empty() {
        options.retain(|option| option != "rprivate");
        options.push(volume.propagation.clone());
    }
    mount.set_options(Some(options));
    Ok(mount)
}

/// What is below a read-only place is read-only as well.
fn bind(source: &Path, destination: &Path, read_only: bool) -> Mount {
    let options: &[&str] = match read_only {
        true => &["rbind", "rprivate", "ro", "rro"],
        false => &["rbind", "rprivate"],
    };
    mount("bind", source, destination.to_owned(), options)
}

pub(super) fn mount(kind: &str, source: &Path, destination: PathBuf, options: &[&str]) -> Mount {
    let options = options.iter().map(|option| (*option).to_owned());
    let mut mount = Mount::default();
    mount
        .set_destination(destination)
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options.collect()));
    mount
}

/// The user's options come last, and so have the last word.
fn tmpfs(place: &str, wanted: &str, writable: bool) -> Mount {
    let wanted = wanted.split(',').filter(|option| !option.is_empty());
    let mut options: Vec<&str> = ["noexec", "nosuid", "nodev"]
        .into_iter()
        .chain(wanted)
        .collect();
    if !writable {
        options.push("ro");
    }
    mount("tmpfs", Path::new("tmpfs"), clean(place), &options)
}

/// `/app/` and `/app` are one place.
fn clean(place: &str) -> PathBuf {
    Path::new(place).components().collect()
}

/// For a volume that shows what the host mounts there later it takes a root that is no more private
/// (mount_namespaces(7)).
pub(super) fn propagation(container: &Container) -> Option<String> {
    let mut volumes = container.mounts.iter();
    let asked = volumes.any(|volume| volume.propagation.ends_with("slave"));
    asked.then(|| "slave".to_owned())
}
