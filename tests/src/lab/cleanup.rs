//! `cargo lab cleanup`: what a crashed experiment left, and nothing else.
//!
//! The next `run` of a step repairs what the same step's crash left. This does so without running
//! anything, and finds more: what a half-written program left that had no lease, and mounts that it
//! spread to the host. Each leaf knows its own marks and locks; here they are only asked, in an order
//! in which nothing is removed through something else.

mod files;
mod mounts;

use anyhow::Result;
use cli::Dirs;

/// The cgroup that holds those of all containers, as in each step's story.
const PARENT: &str = "minidocker";

/// One kind of thing that may be left.
struct Kind<'a> {
    /// How it is called, before its name.
    called: &'static str,
    look: Box<dyn Fn() -> Result<Vec<String>> + 'a>,
    sweep: Box<dyn Fn() -> Result<()> + 'a>,
}

/// Removes leftovers, or only tells of them, and answers the exit status.
pub fn run(dry_run: bool) -> Result<u8> {
    cli::start("lab", false);
    let privileged = namespaces::is_privileged()?;
    let dirs = Dirs::of_caller(privileged)?;
    let mut found = 0;
    let mut status = 0;
    for kind in kinds(&dirs, privileged) {
        let before = (kind.look)()?;
        found += before.len();
        if dry_run {
            for name in &before {
                println!("would remove {}{name}", kind.called);
            }
            continue;
        }
        if before.is_empty() {
            continue;
        }
        let swept = (kind.sweep)();
        let after = (kind.look)()?;
        let (stays, gone): (Vec<_>, Vec<_>) = before.iter().partition(|name| after.contains(*name));
        for name in gone {
            println!("removed {}{name}", kind.called);
        }
        for name in &stays {
            println!("NOT removed: {}{name}", kind.called);
            status = 1;
        }
        if let Err(error) = swept {
            eprintln!("lab: {error:#}");
            status = 1;
            // What comes later could be removed through what is still there.
            break;
        }
    }
    if found == 0 {
        println!("Nothing is left behind.");
    }
    if dirs.data.is_dir() {
        println!(
            "Kept: images and the default root file system, in {}",
            dirs.data.display()
        );
    }
    Ok(status)
}

/// Processes end first, then nothing is reached through a mount any more, and files go last.
fn kinds(dirs: &Dirs, privileged: bool) -> Vec<Kind<'_>> {
    let paths = |paths: Vec<std::path::PathBuf>| -> Vec<String> {
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
