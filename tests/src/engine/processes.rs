//! The machine's processes, as its own /proc has them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Machine;

/// A process of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// The program's name, of at most 15 bytes.
    pub name: String,
    /// Its arguments, with blanks between them.
    pub line: String,
}

impl Process {
    /// The process `pid`, if it is there and has not ended.
    pub(super) fn read(proc: &Path, pid: i32) -> Option<Process> {
        let dir = proc.join(pid.to_string());
        let status = fs::read_to_string(dir.join("status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().to_owned())
        };
        if field("State:")?.starts_with('Z') {
            return None;
        }
        let line = fs::read(dir.join("cmdline")).ok()?;
        Some(Process {
            pid,
            parent: field("PPid:")?.parse().ok()?,
            name: field("Name:")?,
            line: String::from_utf8_lossy(&line)
                .replace('\0', " ")
                .trim()
                .to_owned(),
        })
    }
}

pub(super) fn all(machine: &Machine) -> Vec<Process> {
    let proc = machine.host.path("/proc");
    let mut pids = pids(&proc);
    pids.retain(|pid| *pid != 1);
    pids.iter()
        .filter_map(|pid| Process::read(&proc, *pid))
        .collect()
}

fn pids(proc: &Path) -> Vec<i32> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Who has one of the files `RUN/containers/ID/shim` open, and holds its lock so.
pub(super) fn shims(machine: &Machine) -> Vec<(i32, String)> {
    let containers = fs::read_dir(machine.run().join("containers"));
    let locks: Vec<_> = containers
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let lock = fs::metadata(entry.path().join("shim")).ok()?;
            let id = entry.file_name().into_string().ok()?;
            Some(((lock.dev(), lock.ino()), id))
        })
        .collect();
    let proc = machine.host.path("/proc");
    let mut shims = Vec::new();
    for pid in pids(&proc) {
        let fds = fs::read_dir(proc.join(format!("{pid}/fd")));
        for fd in fds.into_iter().flatten().flatten() {
            let Ok(file) = fs::metadata(fd.path()) else {
                continue;
            };
            let file = (file.dev(), file.ino());
            let of = locks.iter().filter(|(lock, _)| *lock == file);
            shims.extend(of.map(|(_, id)| (pid, id.clone())));
        }
    }
    shims.dedup();
    shims
}
