//! Namespaces, user ids, and a root of one's own: steps 1 and 2.

use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context, Error, Result};
use namespaces::{IdMap, Isolation, Range, Refusal, closed_switch};
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use nix::unistd::{getegid, geteuid};
use rootfs::Root;

use super::Caller;
use super::finding::{Finding, Fix};

const AREA: &str = "Namespaces";

/// Each kind, as its man page calls it.
const KINDS: [(&str, CloneFlags); 6] = [
    ("mount", CloneFlags::CLONE_NEWNS),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("net", CloneFlags::CLONE_NEWNET),
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
];

pub fn examine(caller: &Caller) -> Result<Vec<Finding>> {
    let mut findings = vec![user(caller), kinds(caller)];
    if !caller.privileged {
        findings.push(subordinate_ids(caller)?);
    }
    findings.extend([root(caller), propagation()?]);
    Ok(findings)
}

/// A user namespace alone, with only the caller's own id, in which mounts may be made: AppArmor lets
/// anybody make one, and nobody do anything in it.
fn user(caller: &Caller) -> Finding {
    let own = |outside| {
        vec![Range {
            inside: 0,
            outside,
            length: 1,
        }]
    };
    let isolation = Isolation {
        namespaces: CloneFlags::CLONE_NEWNS,
        ids: Some(IdMap {
            uids: own(geteuid().as_raw()),
            gids: own(getegid().as_raw()),
            required: true,
        }),
        joined: &[],
        outside: None,
        time_offsets: None,
        propagation: None,
        hostname: None,
        cgroup: None,
    };
    match caller.attempt_in(&isolation, || Ok(0)) {
        Ok(_) => Finding::ok(AREA, "user", "made, with mounts of its own in it"),
        Err(error) => {
            let found = Finding::ok(AREA, "user", reason(&error));
            let fix = remedy(&error, true);
            if caller.privileged {
                found.note(
                    Some("cargo lab check, and the steps as an ordinary user"),
                    fix,
                )
            } else {
                found.fails(1, fix)
            }
        }
    }
}

fn kinds(caller: &Caller) -> Finding {
    let mut made = Vec::new();
    let mut refused = Vec::new();
    for (name, flag) in KINDS {
        match caller.make(flag) {
            Ok(_) => made.push(name),
            Err(error) => refused.push((name, error)),
        }
    }
    let Some((_, error)) = refused.first() else {
        return Finding::ok(AREA, "others", format!("made: {}", made.join(", ")));
    };
    let names: Vec<&str> = refused.iter().map(|(name, _)| *name).collect();
    let seen = format!("refused: {}: {}", names.join(", "), reason(error));
    Finding::ok(AREA, "others", seen).fails(1, remedy(error, !caller.privileged))
}

impl Caller {
    /// Makes one kind of namespace, and does with it what every container does: some engines let
    /// their containers make a uts namespace, and not name it.
    fn make(&self, kind: CloneFlags) -> Result<u8> {
        let isolation = Isolation {
            namespaces: kind,
            hostname: (kind == CloneFlags::CLONE_NEWUTS).then_some("minidocker"),
            ..Isolation::users_only()?
        };
        self.attempt_in(&isolation, || Ok(0))
    }
}

/// Why, without what helps.
fn reason(error: &Error) -> String {
    match error.downcast_ref::<Refusal>() {
        Some(refusal) => format!("{} ({})", refusal.why, error.root_cause()),
        None => format!("{error:#}"),
    }
}

/// What went wrong where a namespace was only the means to try something else.
pub fn said(error: &Error) -> String {
    match error.downcast_ref::<Refusal>() {
        Some(_) => "not tried: it takes the namespaces that are refused above".to_owned(),
        None => format!("{error:#}"),
    }
}

/// What helps. A refusal in the parent is a value; one in the child has travelled as a sentence.
fn remedy(error: &Error, in_user_namespace: bool) -> Option<Fix> {
    let refusal = error.downcast_ref::<Refusal>().cloned();
    let switch = || in_user_namespace.then(closed_switch).flatten();
    let refusal = refusal.or_else(switch);
    refusal.map(|refusal| Fix::of(&refusal.fix))
}

/// Ids beyond the caller's own: whether newuidmap(1) really maps them.
fn subordinate_ids(caller: &Caller) -> Result<Finding> {
    const ONE: Option<&str> = Some("more than one user id in a container");
    let found = |seen: String| Finding::ok(AREA, "more user ids", seen);
    let map = IdMap::of_caller()?;
    if let [_, granted] = map.uids.as_slice() {
        let count = |text: &str| fs::read_to_string(text).map(|map| map.lines().count());
        let mapped = caller.attempt(CloneFlags::empty(), || {
            Ok(u8::from(
                count("/proc/self/uid_map")? == 2 && count("/proc/self/gid_map")? == 2,
            ))
        });
        let (first, last) = (granted.outside, granted.outside + (granted.length - 1));
        return Ok(match mapped {
            Ok(1) => found(format!("{first} to {last}, mapped by newuidmap")),
            _ => found(format!(
                "newuidmap does not map {first} to {last}, which /etc/subuid grants"
            ))
            .note(
                ONE,
                Some(Fix::Do(
                    "see that newuidmap and newgidmap are set-user-ID root, and that no container \
                     around this one has fewer ids"
                        .to_owned(),
                )),
            ),
        });
    }
    let installed = ["newuidmap", "newgidmap"].iter().all(|name| in_path(name));
    Ok(if installed {
        found("no line for you in /etc/subuid and /etc/subgid".to_owned()).note(
            ONE,
            Some(Fix::Run(format!(
                "echo {}:{}:65536 | sudo tee -a /etc/subuid /etc/subgid",
                caller.name,
                first_free_id()
            ))),
        )
    } else {
        found("newuidmap is not installed".to_owned()).note(ONE, Some(Fix::install("uidmap")))
    })
}

/// The first subordinate id that nobody has been granted (subuid(5): name:first:count).
fn first_free_id() -> u64 {
    let granted = ["/etc/subuid", "/etc/subgid"]
        .map(|file| fs::read_to_string(file).unwrap_or_default())
        .concat();
    let end = |line: &str| {
        let mut numbers = line
            .split(':')
            .skip(1)
            .map(|field| field.trim().parse::<u64>().ok());
        Some(numbers.next()?? + numbers.next()??)
    };
    granted.lines().filter_map(end).fold(100_000, u64::max)
}

/// Where the steps look for it.
fn in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// All of step 2, in a directory that nobody else sees.
fn root(caller: &Caller) -> Finding {
    let every = KINDS
        .iter()
        .fold(CloneFlags::empty(), |all, (_, flag)| all | *flag);
    let entered = caller.attempt(every, || {
        let root = unseen_directory()?;
        for name in ["proc", "dev", "sys"] {
            fs::create_dir(root.join(name))?;
        }
        rootfs::enter(&Root::new(root))?;
        Ok(0)
    });
    let Err(error) = entered else {
        let seen = "entered by pivot_root, with a new /proc, /dev and /sys";
        return Finding::ok(AREA, "own root", seen);
    };
    let said = said(&error);
    let (seen, fix) = match said.split_once("; ") {
        // The leaf's hints are for a person with one container; here there may be none.
        Some((what, _)) if said.contains("systempaths") => (
            format!("{what}: the container around has covered parts of the old one"),
            Some(Fix::Do(
                "start that container with --security-opt systempaths=unconfined (docker), \
                 --security-opt unmask=ALL (podman), or --privileged"
                    .to_owned(),
            )),
        ),
        _ => (said.clone(), remedy(&error, !caller.privileged)),
    };
    Finding::ok(AREA, "own root", seen).fails(2, fix)
}

/// An empty directory in the mount namespace of this process alone.
pub fn unseen_directory() -> Result<PathBuf> {
    let (place, nothing) = ("/tmp", None::<&str>);
    mount(
        Some("tmpfs"),
        place,
        Some("tmpfs"),
        MsFlags::empty(),
        nothing,
    )
    .context("mount a tmpfs on /tmp, in a mount namespace of its own")?;
    let directory = PathBuf::from(place).join("minidocker");
    fs::create_dir(&directory)?;
    Ok(directory)
}

/// Whether a mount made below `/` appears elsewhere, too: as it should, on machines with systemd.
fn propagation() -> Result<Finding> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    // The last one that is mounted on / is the one that is seen.
    let root = table.lines().rev().find_map(|line| {
        let (head, _) = line.split_once(" - ")?;
        let fields: Vec<&str> = head.split(' ').collect();
        (fields.get(4) == Some(&"/")).then(|| fields.get(6..).unwrap_or_default().join(" "))
    });
    let seen = match root {
        None => "/ is no mount that can be seen from here",
        Some(tags) if tags.contains("shared:") => {
            "/ is shared: each container makes its copy private first"
        }
        Some(_) => "/ is private: no mount spreads from it",
    };
    Ok(Finding::ok(AREA, "propagation", seen))
}
