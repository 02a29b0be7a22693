//! What this machine is, as far as containers have to know.

use std::path::Path;
use std::{env, fs};

use anyhow::{Context, Result};
use cgroups::{Hierarchy, Mode};
use jiff::tz::TimeZone;
use rustix::fs::statfs;

/// Which clock times are shown by: the one that `TZ` names (tzset(3)), or else this machine's.
#[must_use]
pub fn time_zone() -> TimeZone {
    // The crate would look a name up among all that there are, which takes longer than all of `ps`.
    let named = || {
        let name = env::var("TZ").ok()?;
        let name = name.strip_prefix(':').unwrap_or(&name);
        let rules = fs::read(Path::new("/usr/share/zoneinfo").join(name)).ok()?;
        TimeZone::tzif(name, &rules).ok()
    };
    named().unwrap_or_else(TimeZone::system)
}

/// What this machine is.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// As the distribution calls itself.
    pub system: String,
    /// As the kernel calls it: `x86_64`.
    pub architecture: String,
    /// Processors that are there for this process.
    pub processors: usize,
    /// What it is called.
    pub name: String,
    /// The version of cgroups that containers are put in; `None`: none.
    pub cgroup_version: Option<u8>,
    /// The controllers that can limit containers here.
    pub controllers: Vec<String>,
    /// The file system that everything is kept on, as docker calls it.
    pub file_system: String,
}

impl Machine {
    /// This one. `data` is where everything is kept.
    ///
    /// # Errors
    /// The kernel does not say what it is.
    pub fn this(data: &Path) -> Result<Machine> {
        let kernel = nix::sys::utsname::uname().context("uname")?;
        let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
        let hierarchy = Hierarchy::find()?;
        let controllers = hierarchy
            .mount()
            .map(|root| root.join("cgroup.controllers"));
        let controllers = controllers.and_then(|file| fs::read_to_string(file).ok());
        let controllers = controllers.unwrap_or_default();
        let processors = std::thread::available_parallelism();
        Ok(Machine {
            kernel: text(kernel.release()),
            system: distribution(),
            architecture: text(kernel.machine()),
            processors: processors.map_or(1, usize::from),
            name: text(kernel.nodename()),
            cgroup_version: (hierarchy.mode != Mode::Legacy).then_some(2),
            controllers: controllers
                .split_whitespace()
                .map(ToOwned::to_owned)
                .collect(),
            file_system: statfs(data).map_or_else(|_| "unknown".into(), |it| kind(it.f_type)),
        })
    }

    /// Whether containers can be limited by this controller.
    #[must_use]
    pub fn controls(&self, controller: &str) -> bool {
        self.controllers.iter().any(|known| known == controller)
    }
}

/// `PRETTY_NAME` of os-release(5).
fn distribution() -> String {
    let files = ["/etc/os-release", "/usr/lib/os-release"];
    let text = files.iter().find_map(|file| fs::read_to_string(file).ok());
    let text = text.unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or("Linux", |name| name.trim_matches(['"', '\'']))
        .to_owned()
}

/// Of the magic numbers (statfs(2)) those that people keep containers on.
fn kind(magic: rustix::fs::FsWord) -> String {
    match magic {
        0xef53 => "extfs".to_owned(),
        0x5846_5342 => "xfs".to_owned(),
        0x9123_683e => "btrfs".to_owned(),
        0x0102_1994 => "tmpfs".to_owned(),
        0x794c_7630 => "overlayfs".to_owned(),
        0x2fc1_2fc1 => "zfs".to_owned(),
        0xf2f5_2010 => "f2fs".to_owned(),
        other => format!("{other:#x}"),
    }
}
