//! Files: where they are kept, and how layers are stacked there. Step 5, and the default root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use images::Overlay;
use nix::sched::CloneFlags;

use super::Caller;
use super::finding::{Finding, Fix};
use super::isolation::said;

const AREA: &str = "Files";
/// What the default root file system takes, generously.
const NEEDED: u64 = 256 << 20;

pub fn examine(caller: &Caller) -> Vec<Finding> {
    let data = match &caller.dirs {
        Ok(dirs) => dirs.data.clone(),
        Err(error) => {
            let fix = Fix::Do("export HOME, your home directory".to_owned());
            return vec![Finding::ok(AREA, "directory", format!("{error:#}")).fails(2, Some(fix))];
        }
    };
    let scratch = match Scratch::make(&data) {
        Ok(scratch) => scratch,
        Err(error) => {
            let fix = Fix::Do(format!(
                "make {} a directory that you may write to",
                data.display()
            ));
            return vec![Finding::ok(AREA, "directory", format!("{error:#}")).fails(2, Some(fix))];
        }
    };
    vec![space(&scratch, &data), overlay(caller, &scratch)]
}

fn space(scratch: &Scratch, data: &Path) -> Finding {
    let name = "directory";
    let shown = data.display();
    let Ok(stat) = rustix::fs::statvfs(&scratch.dir) else {
        return Finding::ok(AREA, name, format!("{shown}, of unknown size"));
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let seen = format!("{shown}, {} MiB free", free >> 20);
    let found = Finding::ok(AREA, name, seen);
    if free < NEEDED {
        let wanted = NEEDED >> 20;
        let fix = format!("free some space there: {wanted} MiB are enough to begin with");
        return found.note(Some("images of any size"), Some(Fix::Do(fix)));
    }
    found
}

/// An overlay, written to, on the file system where images will be.
fn overlay(caller: &Caller, scratch: &Scratch) -> Finding {
    let stacked = caller.attempt(CloneFlags::CLONE_NEWNS, || {
        let overlay = Overlay::of_one(&scratch.dir)?;
        overlay.mount()?;
        fs::remove_file(overlay.target.join("below"))
            .context("remove a file of the lower layer")?;
        fs::write(overlay.target.join("above"), "x").context("write to the upper layer")?;
        let hidden = !overlay.target.join("below").exists();
        ensure!(hidden, "a file removed from the overlay is still there");
        Ok(0)
    });
    let Err(error) = stacked else {
        return Finding::ok(AREA, "overlay", "mounted there, and written to");
    };
    let said = said(&error);
    let fix = if said.starts_with("not tried") {
        None
    } else if said.contains("os error 19)") {
        Some(Fix::Run("sudo modprobe overlay".to_owned()))
    } else if said.contains("os error 1)") {
        (!caller.privileged)
            .then(|| Fix::Do("run step 5 as root, or boot Linux 5.11 or newer".to_owned()))
    } else {
        let place = if caller.privileged {
            "mount"
        } else {
            "let XDG_DATA_HOME name"
        };
        Some(Fix::Do(format!(
            "overlayfs does not take this file system for an upper layer: {place} another (ext4, \
             xfs, btrfs, tmpfs){}; in a container, a volume",
            if caller.privileged {
                " on /var/lib/minidocker"
            } else {
                ""
            }
        )))
    };
    Finding::ok(AREA, "overlay", said).fails(5, fix)
}

/// A directory on the file system where images are, or will be, kept.
struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    fn make(data: &Path) -> Result<Scratch> {
        let place = data.ancestors().find(|path| path.is_dir());
        let place = place.with_context(|| format!("find a directory above {}", data.display()))?;
        let dir = place.join(format!(".minidocker-doctor-{}", std::process::id()));
        let scratch = Scratch { dir };
        let dir = &scratch.dir;
        let fill = || {
            for part in ["", "lower", "upper", "work", "target"] {
                fs::create_dir(dir.join(part))?;
            }
            fs::write(dir.join("lower/below"), "x")
        };
        fill().with_context(|| format!("make {}", dir.display()))?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // overlayfs makes this one with mode 0, which stops an ordinary user.
        let own = fs::Permissions::from_mode(0o700);
        let _ = fs::set_permissions(self.dir.join("work/work"), own);
        let _ = fs::remove_dir_all(&self.dir);
    }
}
