//! One container, from outside.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::{Machine, Process};
use crate::wait_for;

/// A container as its files and the kernel have it.
#[derive(Clone, Debug)]
pub struct Container<'a> {
    machine: &'a Machine,
    id: String,
}

pub(super) fn ids(machine: &Machine) -> Vec<String> {
    let entries = fs::read_dir(machine.data().join("containers"));
    let entries = entries.into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.len() == 64)
        .collect()
}

impl<'a> Container<'a> {
    pub(super) fn called(machine: &'a Machine, name: &str) -> Option<Container<'a>> {
        let id = fs::read_to_string(machine.data().join("names").join(name)).ok()?;
        Some(Container {
            machine,
            id: id.trim().to_owned(),
        })
    }

    /// The whole id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The directory of what outlives a reboot, for this process.
    pub fn data(&self) -> PathBuf {
        self.machine.data().join("containers").join(&self.id)
    }

    /// The directory of what a reboot may forget, for this process.
    pub fn run(&self) -> PathBuf {
        self.machine.run().join("containers").join(&self.id)
    }

    /// Its state file.
    ///
    /// # Panics
    /// Where that is not there, or damaged.
    #[track_caller]
    pub fn state(&self) -> Value {
        let path = self.data().join("state.json");
        let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Writes another state file, by hand.
    ///
    /// # Panics
    /// Where there is none.
    #[track_caller]
    pub fn edit(&self, change: impl FnOnce(&mut Value)) {
        let mut state = self.state();
        change(&mut state);
        fs::write(self.data().join("state.json"), state.to_string()).expect("write a state file");
    }

    /// `running`, `exited` and so on, as the file says.
    #[track_caller]
    pub fn status(&self) -> String {
        let status = self.state()["life"]["status"].take();
        status.as_str().unwrap_or_default().to_owned()
    }

    /// The first process.
    ///
    /// # Panics
    /// When it does not run within a minute.
    #[track_caller]
    pub fn init(&self) -> Process {
        wait_for("the container's first process", 60, || {
            let pid = i32::try_from(self.state()["life"]["pid"].as_i64()?).ok()?;
            self.process(pid)
        })
    }

    /// A process of the machine.
    pub fn process(&self, pid: i32) -> Option<Process> {
        if pid <= 0 {
            return None;
        }
        Process::read(&self.machine.host().path("/proc"), pid)
    }

    /// Its shim, if one lives.
    pub fn shim(&self) -> Option<i32> {
        let shims = self.machine.shims();
        let mine = shims.into_iter().find(|(_, id)| *id == self.id);
        mine.map(|(pid, _)| pid)
    }

    /// Kills its shim, and waits until all that it held is given back. What it was the parent of lives.
    ///
    /// # Panics
    /// Where there is none, or it does not go.
    #[track_caller]
    pub fn kill_shim(&self) {
        let shim = self.shim().expect("a shim");
        self.machine.host().shell(&format!("kill -9 {shim}"));
        wait_for("the shim to be gone", 60, || {
            self.process(shim).is_none().then_some(())
        });
    }

    /// A namespace of the first process: `net:[4026532000]`.
    ///
    /// # Panics
    /// Where it does not run.
    #[track_caller]
    pub fn namespace(&self, kind: &str) -> String {
        let pid = self.init().pid;
        let link = self.machine.host().path(&format!("/proc/{pid}/ns/{kind}"));
        let link = fs::read_link(link).expect("the container's first process runs");
        link.to_string_lossy().into_owned()
    }

    /// Its cgroup's directory, for this process.
    ///
    /// # Panics
    /// Where it does not run, or cgroups are not unified.
    #[track_caller]
    pub fn cgroup(&self) -> PathBuf {
        let host = self.machine.host();
        let pid = self.init().pid;
        // Seen from in there it would be relative to another root.
        let text = host.run(["cat", &format!("/proc/{pid}/cgroup")]).ok();
        let place = text.lines().find_map(|line| line.strip_prefix("0::"));
        let place = place.expect("a unified hierarchy");
        host.path(&format!("/sys/fs/cgroup{place}"))
    }

    /// What it has written: the text of each line of its log file, one after the other.
    pub fn log(&self) -> String {
        let path = self.data().join(format!("{}-json.log", self.id));
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines().map_while(|line| {
            let entry: Value = serde_json::from_str(line).ok()?;
            Some(entry["log"].as_str()?.to_owned())
        });
        lines.collect()
    }

    /// Waits until its state file says `status`.
    ///
    /// # Panics
    /// When it does not within a minute.
    #[track_caller]
    pub fn wait_until(&self, status: &str) {
        wait_for(&format!("the container to be {status}"), 60, || {
            (self.status() == status).then_some(())
        });
    }
}
