//! Files and directories: half-made images, dead containers' layers, what the labs themselves left.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use cgroups::Hierarchy;
use cli::Dirs;
use images::Store;
use namespaces::{Isolation, Signals};
use nix::unistd::geteuid;

use crate::{rehearse, vm};

/// In the store: none where there is no store, for opening makes one.
pub fn of_store(dirs: &Dirs) -> Result<Vec<PathBuf>> {
    store(dirs)?.map_or(Ok(Vec::new()), |store| store.leftovers())
}

/// Removes them; what belongs to a container's users only its root may remove, as in step 5.
pub fn sweep_store(dirs: &Dirs) -> Result<()> {
    let Some(store) = store(dirs)? else {
        return Ok(());
    };
    let isolation = Isolation::users_only()?;
    if isolation.ids.is_none() {
        return store.sweep();
    }
    store.sweep().or_else(|_| {
        let signals = Signals::hold()?;
        let child = namespaces::spawn(&isolation, |_| store.sweep().map(|()| 0))?;
        let status = child.release(&signals)?.wait(&signals)?;
        ensure!(status == 0, "interrupted");
        Ok(())
    })
}

fn store(dirs: &Dirs) -> Result<Option<Store>> {
    let made = dirs.data.join("images/oci-layout").is_file();
    made.then(|| Store::open(&dirs.data)).transpose()
}

/// What this tool makes for a moment, with its pid at the end of the name.
pub fn of_labs(dirs: &Dirs) -> Vec<PathBuf> {
    let mut left = Vec::new();
    if let (Ok(vm), Ok(target)) = (vm::dir(), crate::target_dir()) {
        left.extend(vm::FILES.iter().flat_map(|name| of_dead(&vm, name)));
        left.extend(of_dead(&target, rehearse::NAME));
    }
    left.extend(of_dead(&std::env::temp_dir(), "minidocker-doctor-"));
    for dir in dirs.data.ancestors() {
        left.extend(of_dead(dir, ".minidocker-doctor-"));
    }
    left
}

pub fn remove_of_labs(dirs: &Dirs) -> Result<()> {
    for path in of_labs(dirs) {
        let removed = if path.is_dir() {
            // An overlay's work directory has mode 0.
            let _ = fs::set_permissions(path.join("work/work"), Permissions::from_mode(0o700));
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

/// The cgroups of the harness's machines whose keeper is dead; never one with a process in it.
pub fn cgroups_of_tests() -> Result<Vec<PathBuf>> {
    let hierarchy = Hierarchy::find()?;
    let Some(root) = hierarchy.mount() else {
        return Ok(Vec::new());
    };
    let mut left = of_dead(root, "minidocker-test-");
    left.retain(|cgroup| {
        fs::read_to_string(cgroup.join("cgroup.events"))
            .is_ok_and(|events| events.lines().any(|line| line == "populated 0"))
    });
    Ok(left)
}

pub fn remove_cgroups_of_tests() -> Result<()> {
    cgroups_of_tests()?
        .iter()
        .try_for_each(|cgroup| remove_cgroup(cgroup))
}

/// A cgroup goes by rmdir(2), after those below it; the files in it are the kernel's.
fn remove_cgroup(cgroup: &Path) -> Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup).with_context(|| format!("remove {}", cgroup.display()))
}

/// The caller's entries of `dir` that are called `prefix` and the pid of no process.
pub fn of_dead(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    // In /tmp anybody may have made one of that name.
    let ours = entries.filter(|entry| {
        let uid = geteuid().as_raw();
        entry.metadata().is_ok_and(|meta| meta.uid() == uid)
    });
    let dead = ours.filter(|entry| {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix(prefix)?.parse::<u32>().ok());
        pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    });
    dead.map(|entry| entry.path()).collect()
}
