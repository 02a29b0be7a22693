//! `/dev`: the specification's devices, and those that every container has.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType};
use rootfs::Top;
use rootfs::devices::{DEVICES, LINKS};
use rustix::fs::{
    AtFlags, CWD, Dev, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, makedev, mknodat, openat,
    statat, symlinkat,
};
use rustix::io::Errno;

/// What is made in `/dev`.
#[derive(Debug)]
pub(crate) struct Devices {
    nodes: Vec<Node>,
    /// Whether `/dev/console` is made, for a terminal to be bound on it.
    console: bool,
}

#[derive(Debug)]
struct Node {
    /// How errors name it: `linux.devices[2] (/dev/fuse)`.
    field: String,
    path: PathBuf,
    kind: FileType,
    number: Dev,
    mode: Mode,
    owner: Option<(Uid, Gid)>,
}

impl Devices {
    /// Reads `linux.devices`; one of them takes the place of the default one
    /// with its path.
    pub(crate) fn plan(linux: Option<&Linux>, console: bool) -> Result<Devices> {
        let wanted = linux.and_then(|linux| linux.devices().as_ref());
        let wanted = wanted.into_iter().flatten().enumerate();
        let mut nodes = wanted
            .map(|(index, device)| Node::plan(device, &format!("linux.devices[{index}]")))
            .collect::<Result<Vec<Node>>>()?;
        for (name, major, minor) in DEVICES {
            let path = Path::new("/dev").join(name);
            if !nodes.iter().any(|node| node.path == path) {
                nodes.push(Node {
                    field: format!("the device {}", path.display()),
                    path,
                    kind: FileType::CharacterDevice,
                    number: makedev(major, minor),
                    mode: Mode::from_raw_mode(0o666),
                    owner: None,
                });
            }
        }
        Ok(Devices { nodes, console })
    }

    /// Makes them. The umask must be 0.
    pub(crate) fn make(&self, top: &Top) -> Result<()> {
        let dev = top.plain_directory(Path::new("/dev"))?;
        for node in &self.nodes {
            node.make(top, &dev).with_context(|| node.field.clone())?;
        }
        let core = statat(CWD, "/proc/kcore", AtFlags::SYMLINK_NOFOLLOW).is_ok();
        let core = core.then_some(("core", "/proc/kcore"));
        for (name, target) in LINKS.into_iter().chain(core) {
            match symlinkat(target, &dev, name) {
                Err(Errno::EXIST) | Ok(()) => {}
                Err(errno) => {
                    return Err(errno).with_context(|| format!("link /dev/{name} to {target}"));
                }
            }
        }
        if self.console {
            let flags = OFlags::CREATE | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(
                &dev,
                "console",
                flags | OFlags::NONBLOCK,
                Mode::from_raw_mode(0o644),
            )
            .context("make /dev/console for the terminal")?;
        }
        Ok(())
    }
}

impl Node {
    fn plan(device: &LinuxDevice, field: &str) -> Result<Node> {
        let path: PathBuf = device.path().components().collect();
        ensure!(
            path.is_absolute()
                && path.file_name().is_some()
                && !path.components().any(|part| part == Component::ParentDir),
            "{field}.path: it must be absolute, without .. in it"
        );
        let kind = match device.typ() {
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
            LinuxDeviceType::P => FileType::Fifo,
            LinuxDeviceType::A => bail!("{field}.type: \"a\" is for rules, and not for a device"),
        };
        let (major, minor) = (device.major(), device.minor());
        let number = if kind == FileType::Fifo {
            0
        } else {
            makedev(
                u32::try_from(major)
                    .ok()
                    .with_context(|| format!("{field}.major: {major} is no number"))?,
                u32::try_from(minor)
                    .ok()
                    .with_context(|| format!("{field}.minor: {minor} is no number"))?,
            )
        };
        let owner = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
        let owned = owner != (0, 0);
        Ok(Node {
            field: format!("{field} ({})", path.display()),
            path,
            kind,
            number,
            mode: Mode::from_raw_mode(device.file_mode().unwrap_or(0o666) & 0o7777),
            owner: owned.then(|| (Uid::from_raw(owner.0), Gid::from_raw(owner.1))),
        })
    }

    fn make(&self, top: &Top, dev: &OwnedFd) -> Result<()> {
        let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            bail!("it has no name");
        };
        let made;
        let dir = if parent == Path::new("/dev") {
            dev
        } else {
            made = if parent.starts_with("/dev") {
                top.plain_directory(parent)?
            } else {
                top.directory(parent)?
            };
            &made
        };
        match self.mknod(dir, name) {
            Ok(()) => {}
            // The image has one, or an entry of mounts did.
            Err(Errno::EXIST) => return self.check(dir, name),
            // No user namespace may make devices (user_namespaces(7)).
            Err(Errno::PERM) => return self.borrow(top),
            Err(errno) => return Err(errno).context("make the device"),
        }
        if let Some((uid, gid)) = self.owner {
            chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .context("give the device its owner")?;
        }
        Ok(())
    }

    fn mknod(&self, dir: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
        tracing::info!(
            call = %format_args!("mknod({:?}, {:?}, {:#x})", self.path, self.kind, self.number),
            "a device of the container"
        );
        mknodat(dir, name, self.kind, self.mode, self.number)
    }

    fn check(&self, dir: &OwnedFd, name: &OsStr) -> Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let there = openat(dir, name, flags, Mode::empty()).context("open what is there")?;
        ensure!(
            self.is(&there)?,
            "something else is there already, and it is no such device"
        );
        Ok(())
    }

    fn is(&self, file: &OwnedFd) -> Result<bool> {
        let found = fstat(file).context("look at the device")?;
        let kind = FileType::from_raw_mode(found.st_mode);
        Ok(kind == self.kind && (kind == FileType::Fifo || found.st_rdev == self.number))
    }

    /// Binds the host's device, if it is the one that is meant.
    fn borrow(&self, top: &Top) -> Result<()> {
        let host = openat(
            CWD,
            &self.path,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .context("open the host's device, for no new one can be made here")?;
        ensure!(
            self.is(&host)?,
            "the host's file there is no such device, and no new one can be made here"
        );
        top.bind_file(host.as_fd(), &self.path)
    }
}
