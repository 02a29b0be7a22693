//! `docker top`: the processes of a container, as the host sees them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use nix::unistd::{SysconfVar, Uid, User, sysconf};

use super::Containers;
use crate::engine::machine::time_zone;
use crate::runtime::Runtime;
use crate::state::journal::{self, Event};
use crate::state::{Container, Status};

/// A table of processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processes {
    /// What the columns are called.
    pub titles: Vec<String>,
    /// A row for each process.
    pub rows: Vec<Vec<String>>,
}

impl Containers {
    /// The processes of a container that runs: as `ps -ef` would show them, or with the columns
    /// that the host's ps(1) makes of `options`.
    ///
    /// # Errors
    /// It does not run; there is no ps(1), or it does not tell which process is which.
    pub fn top(&self, what: &str, options: &[String]) -> Result<Processes> {
        let container = self.find(what)?;
        let name = &container.name;
        match container.life.status {
            Status::Running | Status::Paused => {}
            Status::Restarting => {
                bail!("Container {name} is restarting, wait until the container is running")
            }
            _ => bail!("Container {name} is not running"),
        }
        let pids = self.pids(&container)?;
        let found = match options {
            [] => usual(&pids),
            options => filtered(options, &pids)?,
        };
        journal::tell(&self.dirs, &Event::of(&container, "top"));
        Ok(found)
    }

    /// The pids of all its processes, as this host numbers them.
    pub(super) fn pids(&self, container: &Container) -> Result<Vec<i32>> {
        let runtime = Runtime::at(self.places(container).runtime);
        let found = runtime.find(&container.id.parse()?);
        let mut pids = found.and_then(|it| it.pids()).unwrap_or_default();
        // Without a cgroup, or with another runtime, nobody but the kernel's tree knows them.
        if pids.len() < 2 {
            pids = descendants(container.life.pid);
        }
        pids.sort_unstable();
        Ok(pids)
    }
}

/// A process and those that it and its shim started in namespaces below the shim's.
fn descendants(first: i32) -> Vec<i32> {
    let all: HashMap<i32, Process> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, Process::read(pid)?)))
        .collect();
    let Some(init) = all.get(&first) else {
        return Vec::new();
    };
    let shim = init.parent;
    let depth = |pid: i32| level(pid).unwrap_or(0);
    let mut found: HashSet<i32> = HashSet::from([first]);
    loop {
        let known = found.len();
        for (pid, process) in &all {
            let is_exec = process.parent == shim && depth(*pid) > depth(shim);
            if found.contains(&process.parent) || is_exec {
                found.insert(*pid);
            }
        }
        if found.len() == known {
            return found.into_iter().collect();
        }
    }
}

/// In how many pid namespaces a process has a number (`NSpid` of proc_pid_status(5)).
fn level(pid: i32) -> Option<usize> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    Some(line.split_whitespace().count())
}

/// What `/proc/PID/stat` tells of a process (proc_pid_stat(5)).
pub(super) struct Process {
    name: String,
    /// `R`, `S`, `T`, …
    pub(super) state: char,
    pub(super) parent: i32,
    terminal: u64,
    /// Ticks of the clock, in user mode and in the kernel's.
    used: u64,
    /// Ticks since the machine was started.
    started: u64,
}

impl Process {
    /// `None`: it has ended.
    pub(super) fn read(pid: i32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is between parentheses, and may have some.
        let (before, after) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Process {
            name: before.split_once('(')?.1.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            terminal: number(4)?,
            used: number(11)? + number(12)?,
            started: number(19)?,
        })
    }
}

const TITLES: [&str; 8] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];

/// As `ps -ef` shows them.
fn usual(pids: &[i32]) -> Processes {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    let ticks = u64::try_from(ticks).unwrap_or(100).max(1);
    let up = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let up: f64 = up
        .split_whitespace()
        .next()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or_default();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "years of seconds"
    )]
    let clock = Clock {
        ticks,
        up: up as u64,
        now: Timestamp::now(),
    };
    let rows = pids.iter().filter_map(|pid| clock.row(*pid)).collect();
    Processes {
        titles: TITLES.map(ToOwned::to_owned).to_vec(),
        rows,
    }
}

/// How the kernel's times become people's.
struct Clock {
    /// A second has so many.
    ticks: u64,
    /// Seconds since the machine was started.
    up: u64,
    now: Timestamp,
}

impl Clock {
    fn row(&self, pid: i32) -> Option<Vec<String>> {
        let process = Process::read(pid)?;
        let used = process.used / self.ticks;
        let age = self.up.saturating_sub(process.started / self.ticks);
        let share = (used * 100).checked_div(age).unwrap_or(0).min(99);
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = command.split(|byte| *byte == 0);
        let words: Vec<_> = words.map(String::from_utf8_lossy).collect();
        let command = match words.join(" ").trim_end() {
            "" => format!("[{}]", process.name),
            command => command.to_owned(),
        };
        Some(vec![
            owner(pid)?,
            pid.to_string(),
            process.parent.to_string(),
            share.to_string(),
            self.began(age),
            terminal(process.terminal),
            format!("{:02}:{:02}:{:02}", used / 3600, used / 60 % 60, used % 60),
            command,
        ])
    }

    /// A time of today, a day of this year, or a year.
    fn began(&self, age: u64) -> String {
        let age = jiff::SignedDuration::from_secs(i64::try_from(age).unwrap_or(0));
        let zone = time_zone();
        let now = self.now.to_zoned(zone.clone());
        let then = self.now.checked_sub(age).unwrap_or(self.now).to_zoned(zone);
        let format = match () {
            () if then.date() == now.date() => "%H:%M",
            () if then.year() == now.year() => "%b%d",
            () => "%Y",
        };
        then.strftime(format).to_string()
    }
}

/// The name of the host's user whom it belongs to, or the number of one who has none.
fn owner(pid: i32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    // Real, effective, saved, and for files.
    let uid: u32 = line.split_whitespace().nth(1)?.parse().ok()?;
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let name = user.map(|user| user.name).filter(|name| name.len() <= 8);
    Some(name.unwrap_or_else(|| uid.to_string()))
}

/// A device's number has the major one in bits 8 to 15, and the minor one around it.
fn terminal(device: u64) -> String {
    let (major, minor) = (
        (device >> 8) & 0xff,
        (device & 0xff) | ((device >> 12) & 0xfff00),
    );
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 if minor < 64 => format!("tty{minor}"),
        _ => "?".to_owned(),
    }
}

/// The rows of ps(1) that are about these processes.
fn filtered(options: &[String], pids: &[i32]) -> Result<Processes> {
    let output = Command::new("ps").args(options).output();
    let output = output.context("run ps; without options `minidocker top` needs none")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    // What follows is ps' own help.
    let why = error.trim().lines().next().unwrap_or_default();
    ensure!(output.status.success(), "ps: {why}");
    let mut lines = text.lines();
    let titles = lines.next().unwrap_or_default().split_whitespace();
    let titles: Vec<String> = titles.map(ToOwned::to_owned).collect();
    let at = titles.iter().position(|title| title == "PID");
    let at = at.context("Couldn't find PID field in ps output")?;
    let rows = lines.filter_map(|line| {
        let row = cells(line, titles.len());
        let pid: i32 = row.get(at)?.parse().ok()?;
        pids.contains(&pid).then_some(row)
    });
    let rows = rows.collect();
    Ok(Processes { titles, rows })
}

/// The words of a line; the last of `most` cells has all that is left.
fn cells(line: &str, most: usize) -> Vec<String> {
    let mut words = line.split_whitespace();
    let mut cells: Vec<String> = words
        .by_ref()
        .take(most.saturating_sub(1))
        .map(ToOwned::to_owned)
        .collect();
    let last: Vec<&str> = words.collect();
    if !last.is_empty() {
        cells.push(last.join(" "));
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_shown_as_ps_would() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let table = usual(&[pid, i32::MAX]);
        assert_eq!(table.titles.len(), TITLES.len());
        let [row] = table.rows.as_slice() else {
            panic!("{table:?}");
        };
        assert_eq!(row[1], pid.to_string());
        assert_eq!(row[2], nix::unistd::getppid().to_string());
        assert!(row[7].contains("minidocker"), "{row:?}");
        assert!(descendants(pid).contains(&pid));
    }

    #[test]
    fn a_terminal_is_called_as_its_device() {
        for (device, expected) in [(0, "?"), (34816, "pts/0"), (34818, "pts/2"), (1025, "tty1")] {
            assert_eq!(terminal(device), expected);
        }
    }

    #[test]
    fn the_last_cell_has_blanks() {
        assert_eq!(cells("  1 ?   sh -c  x ", 3), ["1", "?", "sh -c x"]);
        assert_eq!(cells("1", 3), ["1"]);
    }
}
