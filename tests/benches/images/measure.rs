//! How long a command takes, and how large its processes get.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// What a command has cost.
#[derive(Clone, Copy)]
pub struct Measured {
    pub seconds: f64,
    /// Seconds until all that it wrote is on the disk.
    pub synced: f64,
    /// MiB that the largest of its processes had in memory at its largest; of a daemon's client,
    /// the daemon.
    pub peak: f64,
}

/// Runs a command, which must succeed, from spawn to exit. `daemon` is the process that works for it.
pub fn measure(mut command: Command, daemon: Option<i32>) -> Result<Measured> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    // SAFETY: nothing is done in the child. What matters is that there is one: without this a child
    // shares this program's memory until it executes another, and would be counted as that large.
    unsafe { command.pre_exec(|| Ok(())) };
    if let Some(daemon) = daemon {
        // Its peak begins anew (proc_pid_clear_refs(5)).
        fs::write(format!("/proc/{daemon}/clear_refs"), "5").context("reset a peak")?;
    }
    let start = Instant::now();
    let mut child = command.spawn()?;
    let mut said = String::new();
    let stderr = child.stderr.take().context("no pipe")?;
    // Whatever a program says, it has to go on.
    { stderr }.read_to_string(&mut said).ok();
    let pid = i32::try_from(child.id())?;
    // SAFETY: all zeroes is a valid rusage: it holds numbers only.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let mut status = 0;
    // SAFETY: both places outlive the call, and nobody else waits for this child.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    let seconds = start.elapsed().as_secs_f64();
    ensure!(
        waited == pid && status == 0,
        "status {status}: {}",
        said.trim()
    );
    let kib = match daemon {
        Some(daemon) => peak_of(daemon)?,
        None => usage.ru_maxrss as f64,
    };
    Ok(Measured {
        seconds,
        synced: seconds,
        peak: kib / 1024.0,
    })
}

/// In KiB.
fn peak_of(pid: i32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("no VmHWM")?.parse()?)
}
