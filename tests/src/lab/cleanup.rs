//! `cargo lab cleanup`: what a crashed experiment left, and nothing else.
//!
//! The next `run` of a step repairs what the same step's crash left. This does so without running
//! anything, and finds more: what a half-written program left that had no lease, and mounts that it
//! spread to the host. Each leaf knows its own marks and locks; here they are only asked, in an order
//! in which nothing is removed through something else.

mod files;
mod mounts;

use std::path::PathBuf;

use anyhow::Result;
use cli::Dirs;

pub use files::of_dead;

use crate::terminal::say;

/// The cgroup that holds those of all containers, as in each step's story.
const PARENT: &str = "minidocker";

/// One kind of thing that may be left.
struct Kind<'a> {
    /// How it is called, before its name.
    called: &'static str,
    look: Box<dyn Fn() -> Result<Vec<String>> + 'a>,
    sweep: Box<dyn Fn() -> Result<()> + 'a>,
}

/// What became of one kind.
#[derive(Default)]
struct Outcome {
    gone: Vec<String>,
    stays: Vec<String>,
}

/// Removes leftovers, or only tells of them, and answers the exit status.
pub fn run(dry_run: bool) -> Result<u8> {
    cli::start("lab", false);
    let privileged = namespaces::is_privileged()?;
    let dirs = Dirs::of_caller(privileged)?;
    let mut found = false;
    let mut failed = false;
    for kind in kinds(&dirs, privileged) {
        let Outcome { gone, stays } = kind.clean(dry_run).unwrap_or_else(|error| {
            cli::complain("lab", &error);
            failed = true;
            Outcome::default()
        });
        found |= !gone.is_empty() || !stays.is_empty();
        failed |= !stays.is_empty();
        let verb = if dry_run { "would remove" } else { "removed" };
        for name in gone {
            say(&format!("{verb} {}{name}", kind.called));
        }
        for name in stays {
            say(&format!("NOT removed: {}{name}", kind.called));
        }
    }
    if !found && !failed {
        say("Nothing is left behind.");
    }
    if dirs.data.is_dir() {
        say(&format!(
            "Kept: images and the default root file system, in {}",
            dirs.data.display()
        ));
    }
    Ok(failed.into())
}

impl Kind<'_> {
    /// What is gone is found by looking again.
    fn clean(&self, dry_run: bool) -> Result<Outcome> {
        let before = (self.look)()?;
        if dry_run || before.is_empty() {
            let stays = Vec::new();
            return Ok(Outcome {
                gone: before,
                stays,
            });
        }
        if let Err(error) = (self.sweep)() {
            cli::complain("lab", &error);
        }
        let after = (self.look)()?;
        let (stays, gone) = before.into_iter().partition(|name| after.contains(name));
        Ok(Outcome { gone, stays })
    }
}

/// Processes end first, then nothing is reached through a mount any more, and files go last.
fn kinds(dirs: &Dirs, privileged: bool) -> Vec<Kind<'_>> {
    let paths = |paths: Vec<PathBuf>| -> Vec<String> {
        paths
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    };
    let rootfs = dirs.data.join("rootfs");
    let default = rootfs.clone();
    vec![
        Kind {
            called: "the cgroup ",
            look: Box::new(move || Ok(paths(cgroups::leftovers(PARENT)?))),
            sweep: Box::new(|| cgroups::sweep(PARENT)),
        },
        Kind {
            called: "the cgroup of a test, ",
            look: Box::new(move || Ok(paths(files::cgroups_of_tests()?))),
            sweep: Box::new(files::remove_cgroups_of_tests),
        },
        Kind {
            called: "the ",
            look: Box::new(move || network::leftovers(&dirs.run, privileged)),
            sweep: Box::new(move || network::sweep(&dirs.run, privileged)),
        },
        Kind {
            called: "the mount on ",
            look: Box::new(move || mounts::left(dirs)),
            sweep: Box::new(move || mounts::unmount(dirs)),
        },
        Kind {
            called: "",
            look: Box::new(move || Ok(paths(files::of_store(dirs)?))),
            sweep: Box::new(move || files::sweep_store(dirs)),
        },
        Kind {
            called: "",
            look: Box::new(move || Ok(paths(rootfs::host::leftovers(&rootfs)))),
            sweep: Box::new(move || rootfs::host::sweep(&default)),
        },
        Kind {
            called: "",
            look: Box::new(move || Ok(paths(files::of_labs(dirs)))),
            sweep: Box::new(move || files::remove_of_labs(dirs)),
        },
    ]
}
