//! Cgroups: who has the controllers, and who may use them.

use std::path::Path;
use std::{env, fs};

use anyhow::{Context, Result};
use cgroups::{Cgroup, Hierarchy, Limits, Mode, parse_cpus};

use super::finding::{Finding, Fix};
use super::machine;

const AREA: &str = "Limits";
const LOST: Option<&str> = Some("limits (-m, --cpus, --pids-limit)");

pub fn examine() -> Result<Vec<Finding>> {
    Ok(vec![mode()?, controllers()?])
}

/// What is mounted. Whether that is enough, the next finding says.
fn mode() -> Result<Finding> {
    let hierarchy = Hierarchy::find()?;
    let mounted = is_mounted()?;
    let at = hierarchy.mount().map(|mount| mount.display().to_string());
    let at = at.unwrap_or_default();
    let seen = match hierarchy.mode {
        Mode::Unified => format!("unified: version 2 alone, at {at}"),
        Mode::Hybrid { held } => {
            let of_ours: Vec<&str> = ["memory", "cpu", "pids"]
                .into_iter()
                .filter(|name| held.iter().any(|held| held == name))
                .collect();
            let what = match of_ours.as_slice() {
                [] => "other controllers than memory, cpu and pids".to_owned(),
                ours => ours.join(", "),
            };
            format!("hybrid: version 2 at {at}, but version 1 holds {what}")
        }
        Mode::Legacy if mounted => "legacy: version 1 alone".to_owned(),
        Mode::Legacy => "no cgroup file system is mounted".to_owned(),
    };
    Ok(Finding::ok(AREA, "cgroups", seen))
}

fn is_mounted() -> Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    Ok(mounts.contains(" - cgroup"))
}

/// Which limits could be put in force for the caller, from where it stands.
fn controllers() -> Result<Finding> {
    let none = Limits::default();
    let limits = [
        (
            "memory",
            Limits {
                memory: Some(64 << 20),
                ..none
            },
        ),
        (
            "cpu",
            Limits {
                cpus: Some(parse_cpus("0.5")?),
                ..none
            },
        ),
        (
            "pids",
            Limits {
                pids: Some(32),
                ..none
            },
        ),
    ];
    let (mut given, mut refused) = (Vec::new(), Vec::new());
    for (name, limit) in &limits {
        match Cgroup::possible(limit) {
            Ok(_) => given.push(*name),
            Err(error) => refused.push((*name, format!("{error:#}"))),
        }
    }
    let Some((first, why)) = refused.first() else {
        let seen = format!("you can give {}", given.join(", "));
        return Ok(Finding::ok(AREA, "controllers", seen));
    };
    // The leaf's sentences have two halves: what is wrong, and what helps.
    let why = why.strip_prefix(&format!("limit {first}: ")).unwrap_or(why);
    let (why, helps) = why.split_once("; ").unwrap_or((why, ""));
    let names: Vec<&str> = refused.iter().map(|(name, _)| *name).collect();
    let seen = format!("you cannot give {}: {why}", names.join(", "));
    Ok(Finding::ok(AREA, "controllers", seen).note(LOST, Some(Fix::Do(way_out(helps)?))))
}

/// The leaf's advice, where it holds on this machine.
fn way_out(advice: &str) -> Result<String> {
    if !is_mounted()? {
        return Ok(
            "mount it: sudo mount -t cgroup2 none /sys/fs/cgroup; in a container, start that one \
             with its cgroups (docker, podman: --privileged)"
                .to_owned(),
        );
    }
    if machine::is_wsl2() && advice.contains("unified_cgroup_hierarchy") {
        return Ok(
            "write kernelCommandLine = cgroup_no_v1=all below [wsl2] in .wslconfig, in your \
                Windows home, then in PowerShell: wsl --shutdown"
                .to_owned(),
        );
    }
    let runtime_dir = env::var_os("XDG_RUNTIME_DIR").unwrap_or_default();
    let manager = Path::new(&runtime_dir).join("systemd/private");
    if advice.contains("systemd-run") && !manager.exists() {
        return Ok(
            "try limits in the virtual machine: cargo lab vm (the other way, a cgroup of your \
                own from systemd-run --user, takes a login session with systemd)"
                .to_owned(),
        );
    }
    Ok(advice.to_owned())
}
