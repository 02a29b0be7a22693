//! User and group ids of a user namespace, and why a host may refuse one.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fmt, fs};

use anyhow::{Context, Error, Result, bail};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::unistd::{Gid, Pid, Uid, User, getgid, getuid};
use rustix::thread::CapabilitySet;

/// Whether this process may make namespaces, and set up what is in them,
/// without a user namespace: it has CAP_SYS_ADMIN and CAP_NET_ADMIN. Uid 0 is
/// not enough, for example in somebody's container.
///
/// # Errors
/// Fails where capget(2) does.
pub fn is_privileged() -> Result<bool> {
    let sets = rustix::thread::capabilities(None).context("read this process's capabilities")?;
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN;
    Ok(sets.effective.contains(needed))
}

/// `length` ids from `inside` on are `outside` and those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first id as the container sees it.
    pub inside: u32,
    /// The first id as the host sees it.
    pub outside: u32,
    /// How many ids.
    pub length: u32,
}

/// Which ids a user namespace knows (user_namespaces(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap {
    /// User ids.
    pub uids: Vec<Range>,
    /// Group ids.
    pub gids: Vec<Range>,
    /// Whether less than that is of no use.
    pub required: bool,
}

impl IdMap {
    /// The caller becomes root inside; ids from 1 on are those that
    /// `/etc/subuid` and `/etc/subgid` grant, where they do so and
    /// newuidmap(1) is installed.
    ///
    /// # Errors
    /// Fails where the user database cannot be read.
    pub fn of_caller() -> Result<IdMap> {
        let (uid, gid) = (getuid(), getgid());
        let mut map = IdMap::own(uid, gid);
        let name = User::from_uid(uid)
            .with_context(|| format!("look up the user with id {uid}"))?
            .map(|user| user.name);
        let granted = |file: &str| {
            let table = fs::read_to_string(file).unwrap_or_default();
            subordinate(&table, name.as_deref(), uid)
        };
        if let (Some(uids), Some(gids)) = (granted("/etc/subuid"), granted("/etc/subgid"))
            && installed("newuidmap").is_some()
            && installed("newgidmap").is_some()
        {
            map.uids.push(uids);
            map.gids.push(gids);
        }
        Ok(map)
    }

    /// Only the caller, as root: what every user may do without help.
    fn own(uid: Uid, gid: Gid) -> IdMap {
        let only = |outside| {
            vec![Range {
                inside: 0,
                outside,
                length: 1,
            }]
        };
        IdMap {
            uids: only(uid.as_raw()),
            gids: only(gid.as_raw()),
            required: false,
        }
    }

    /// Gives the child's new user namespace its ids. Until then everything in
    /// it belongs to nobody (65534).
    pub(crate) fn write(&self, pid: Pid) -> Result<()> {
        // Who may take on any id may give any, and there is no group to hide.
        if is_privileged()? {
            write(pid, "uid_map", &lines(&self.uids))?;
            return write(pid, "gid_map", &lines(&self.gids));
        }
        if self.uids.len() + self.gids.len() == 2 {
            return self.write_files(pid);
        }
        let helped = run_helper("newuidmap", pid, &self.uids)
            .and_then(|()| run_helper("newgidmap", pid, &self.gids));
        let Err(error) = helped else { return Ok(()) };
        // A nested or restricted host can refuse what /etc/subuid promises;
        // one's own id is still to be had, unless half the work was done.
        if self.required || !self.is_untouched(pid) {
            return Err(error);
        }
        tracing::warn!("only your own user id is mapped into the container: {error:#}");
        IdMap::own(getuid(), getgid()).write_files(pid)
    }

    /// Writes the maps ourselves: allowed for a single id, one's own
    /// (user_namespaces(7), "Defining user and group ID mappings").
    fn write_files(&self, pid: Pid) -> Result<()> {
        // task 01.2 {
        // Whoever could drop a group with setgroups(2) could get at files that
        // this group is barred from, so the kernel wants it denied first.
        write(pid, "setgroups", "deny")?;
        write(pid, "uid_map", &lines(&self.uids))?;
        write(pid, "gid_map", &lines(&self.gids))
        // } todo!("task 01.2: tell the user namespace who is root in it (book: 1.2)")
    }

    fn is_untouched(&self, pid: Pid) -> bool {
        ["uid_map", "gid_map"].iter().all(|file| {
            fs::read(format!("/proc/{pid}/{file}")).is_ok_and(|content| content.is_empty())
        })
    }
}

fn write(pid: Pid, file: &str, content: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    tracing::info!(
        call = %format_args!("write({path:?}, {content:?})"),
        "who is who in the user namespace"
    );
    fs::write(&path, content)
        .with_context(|| format!("map your user id into the container through {path}"))
}

fn lines(ranges: &[Range]) -> String {
    let line = |range: &Range| format!("{} {} {}\n", range.inside, range.outside, range.length);
    ranges.iter().map(line).collect()
}

/// newuidmap(1) is set-uid root and maps what `/etc/subuid` grants.
fn run_helper(program: &str, pid: Pid, ranges: &[Range]) -> Result<()> {
    // By its path: for a bare name each directory of PATH costs an execve(2).
    let path = installed(program).with_context(|| format!("find {program}"))?;
    let mut command = Command::new(&path);
    command.arg(pid.to_string()).stdin(Stdio::null());
    for range in ranges {
        command.args([range.inside, range.outside, range.length].map(|id| id.to_string()));
    }
    tracing::info!(
        call = "clone(CLONE_VM|CLONE_VFORK|SIGCHLD)",
        "a process for the helper"
    );
    tracing::info!(
        call = %format_args!("execve({path:?}, {:?})", lines(ranges)),
        "only a set-uid program may map more than one's own id"
    );
    let output = command.output().with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} refused: {}", said.trim());
    }
    Ok(())
}

fn installed(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// Finds the first line `name:first:count` for this user in a subuid(5) file.
fn subordinate(table: &str, name: Option<&str>, uid: Uid) -> Option<Range> {
    let number = uid.to_string();
    table.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        if Some(owner) != name && owner != number {
            return None;
        }
        let outside = fields.next()?.parse().ok()?;
        let length = fields.next()?.parse().ok().filter(|count| *count > 0)?;
        Some(Range {
            inside: 1,
            outside,
            length,
        })
    })
}

/// Why a host refuses namespaces, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason, as half a sentence.
    pub why: &'static str,
    /// What helps: a command that begins with `sudo`, or the other half of the sentence.
    pub fix: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}; what helps: {}", self.why, self.fix)
    }
}

/// Explains a refused clone by the switches that hosts are known to have.
pub(crate) fn why_refused(errno: Errno, flags: CloneFlags) -> Error {
    let wants_users = flags.contains(CloneFlags::CLONE_NEWUSER);
    let refusal = match errno {
        Errno::EPERM if wants_users => closed_switch().unwrap_or_else(|| Refusal {
            why: "user namespaces are refused here, as inside many a container",
            fix: "start that container with --privileged or --security-opt seccomp=unconfined"
                .to_owned(),
        }),
        Errno::ENOSPC | Errno::EUSERS => reached_limit(),
        _ => return Error::new(errno),
    };
    Error::new(errno).context(refusal)
}

/// Ubuntu lets anybody make a user namespace, but without capabilities in it:
/// then the first mount is what fails.
pub(crate) fn why_powerless(error: Error, in_user_namespace: bool) -> Error {
    let refused = matches!(
        error.downcast_ref::<Errno>(),
        Some(Errno::EPERM | Errno::EACCES)
    );
    match closed_switch() {
        Some(switch) if refused && in_user_namespace => error.context(switch),
        _ => error,
    }
}

/// The switch that keeps ordinary users out of user namespaces, if it is shut.
#[must_use]
pub fn closed_switch() -> Option<Refusal> {
    let is = |switch: &str, value: &str| {
        fs::read_to_string(switch).is_ok_and(|content| content.trim() == value)
    };
    if is(
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
    ) {
        return Some(Refusal {
            why: "AppArmor keeps ordinary users from using user namespaces",
            fix: "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0".to_owned(),
        });
    }
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return Some(Refusal {
            why: "this host keeps user namespaces for root",
            fix: "sudo sysctl -w kernel.unprivileged_userns_clone=1".to_owned(),
        });
    }
    None
}

/// Each kind of namespace has a limit of its own (namespaces(7), "The
/// /proc/sys/user directory"); one that is 0 is the likeliest to be in the way.
fn reached_limit() -> Refusal {
    let kinds = ["user", "mnt", "pid", "uts", "ipc", "net", "cgroup"];
    let shut = kinds.into_iter().find(|kind| {
        fs::read_to_string(format!("/proc/sys/user/max_{kind}_namespaces"))
            .is_ok_and(|limit| limit.trim() == "0")
    });
    Refusal {
        why: "the limit on namespaces is reached",
        fix: format!(
            "sudo sysctl -w user.max_{}_namespaces=15000",
            shut.unwrap_or("user")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "root:1000000:65536\nstudent:100000:65536\n\n1001:300000:1\nbroken:x\n";

    #[test]
    fn a_user_is_found_by_name_or_by_number() {
        let range = subordinate(TABLE, Some("student"), Uid::from_raw(1000)).unwrap();
        assert_eq!((range.outside, range.length), (100_000, 65_536));
        let range = subordinate(TABLE, None, Uid::from_raw(1001)).unwrap();
        assert_eq!((range.outside, range.length), (300_000, 1));
    }

    #[test]
    fn nobody_gets_ids_that_the_file_does_not_grant() {
        assert_eq!(subordinate(TABLE, Some("broken"), Uid::from_raw(7)), None);
        assert_eq!(subordinate(TABLE, Some("stranger"), Uid::from_raw(8)), None);
    }
}
