//! The process that holds the network namespace in which an ordinary user's networks are, and
//! connects it to the outside.
//!
//! ```text
//!   the host's network           a user namespace that all of this belongs to
//!   pasta ═══ a tap device ═══▶ eth0 ─ the uplink's network namespace ─ mini-… ─ containers
//!
//! RUN/network/uplink/begin     locked (flock) by whoever begins one
//! RUN/network/uplink/pid       its process' number; locked by it for life
//! RUN/network/uplink/members   locked, shared, by each shim that is there, for life
//! ```
//!
//! Nobody tells it when to end: it waits for the lock that its members share, and the kernel drops
//! that when they end, of kill -9 too. It ends with its carrier, too; and when it has ended before
//! them, a member begins another one.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cli::Dirs;
use namespaces::{Inside, Isolation, Joined, Signals};
use network::{Carrier, Target};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::unistd::{chdir, pipe2, setsid};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::runtime::title;

/// How long its members have to begin another one.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long before a member who is in no network yet.
const HEAD_START: Duration = Duration::from_secs(1);

/// Who has this is a member: as long as it is held there is an uplink, and its user namespace stays
/// the one in which containers of this user's networks are.
#[derive(Debug)]
pub struct Membership(File);

/// Whether this process is a member, for life: it cannot change its user namespace either.
static IS_MEMBER: AtomicBool = AtomicBool::new(false);

/// A living uplink.
#[derive(Debug)]
pub struct Uplink {
    pid: Pid,
    process: OwnedFd,
}

/// Makes the caller a member, and finds the user namespace that it has to be in; `None`: it is the
/// caller's own. Begins an uplink where there is none. To be called by a process with one thread.
///
/// # Errors
/// There can be none.
pub fn enter(dirs: &Dirs, signals: &Signals) -> Result<(Membership, Option<Joined>)> {
    let place = place(dirs)?;
    let until = Instant::now() + PATIENCE;
    loop {
        let begin = lock(&place.join("begin"))?;
        let members = File::create(place.join("members")).context("open the uplink's members")?;
        let found = match Uplink::find(&place)? {
            // It cannot end from here on, unless it is about to.
            Some(_) => {
                members.lock_shared().context("become a member")?;
                Uplink::find(&place)?
            }
            None if members.try_lock().is_ok() => {
                members.lock_shared().context("become a member")?;
                begin_one(&place, signals, None)?;
                Uplink::find(&place)?
            }
            None => None,
        };
        if let Some(uplink) = found {
            return Ok((Membership(members), uplink.users()?));
        }
        // One ends just now; or it has ended, and its members begin another one.
        drop(begin);
        ensure!(
            Instant::now() < until,
            "nobody connects this user's networks to the outside any more: `minidocker network \
             reload` has somebody do so, or says why nobody can"
        );
        sleep(Duration::from_millis(10));
    }
}

impl Membership {
    /// Makes it that of this process, which keeps it open for life.
    ///
    /// # Errors
    /// None that prctl(2) names.
    pub fn keep(&self) -> Result<&File> {
        IS_MEMBER.store(true, Ordering::Relaxed);
        // Who joins a user namespace is closed to all that are in there; one who is born with it is
        // not, and a runtime that we start has to find the namespaces that we made.
        nix::sys::prctl::set_dumpable(true).context("let others look into this process")?;
        Ok(&self.0)
    }
}

/// Whether this process is a member.
pub fn is_member() -> bool {
    IS_MEMBER.load(Ordering::Relaxed)
}

/// The uplink of this process, which is a member, and the network namespace that it connects; a new
/// one where it has ended. `netns`: what it connected; `layers`: what is mounted here and must not
/// be kept by it.
///
/// # Errors
/// There can be none.
pub fn find(dirs: &Dirs, netns: Option<&File>, layers: &Path) -> Result<(Uplink, File)> {
    let place = place(dirs)?;
    let since = Instant::now();
    loop {
        let begin = lock(&place.join("begin"))?;
        if let Some(uplink) = Uplink::find(&place)? {
            let netns = uplink.open("net")?;
            return Ok((uplink, netns));
        }
        // Its carrier was killed, or it was: whoever is connected begins another one first, so
        // that they stay in the network that they are in.
        if netns.is_some() || since.elapsed() >= HEAD_START {
            let from = Legacy { netns, layers };
            begin_one(&place, &Signals::hold()?, Some(&from))?;
            continue;
        }
        drop(begin);
        sleep(Duration::from_millis(10));
    }
}

/// Works, as root of its users, where an uplink is, in a process of its own. Answers what the work
/// does; `None`: there is no uplink. To be called by a process with one thread.
///
/// # Errors
/// What the work says; there can be no process.
pub fn within(dirs: &Dirs, work: impl Fn() -> Result<String>) -> Result<Option<String>> {
    let place = dirs.run.join("network/uplink");
    if !place.is_dir() {
        return Ok(None);
    }
    let begin = lock(&place.join("begin"))?;
    let Some(uplink) = Uplink::find(&place)? else {
        return Ok(None);
    };
    drop(begin);
    let mut joined: Vec<_> = uplink.users()?.into_iter().collect();
    joined.push(Joined {
        file: uplink.open("net")?.into(),
        kinds: CloneFlags::CLONE_NEWNET,
    });
    let isolation = Isolation {
        ids: None,
        joined: &joined,
        ..Isolation::users_only()?
    };
    let (answer, told) = pipe2(OFlag::O_CLOEXEC).context("pipe2")?;
    let child = namespaces::spawn(&isolation, |_| {
        let told = told.try_clone().context("dup a pipe")?;
        File::from(told).write_all(work()?.as_bytes())?;
        Ok(0)
    })?;
    child.release(&Signals::hold()?)?.reap()?;
    drop(told);
    let mut text = String::new();
    File::from(answer).read_to_string(&mut text)?;
    Ok(Some(text))
}

impl Uplink {
    /// To be called with the lock in hand under which one is begun.
    fn find(place: &Path) -> Result<Option<Uplink>> {
        let path = place.join("pid");
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.with_context(|| format!("open {}", path.display()))?,
        };
        let lives = || matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        if !lives() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        // Without a number it was killed just now, while it began.
        let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let process = pidfd_open(pid, PidfdFlags::empty());
        // If it lives now it did then, and the number is its own.
        Ok(process
            .ok()
            .filter(|_| lives())
            .map(|process| Uplink { pid, process }))
    }

    /// What can be read when it has ended.
    pub fn process(&self) -> &OwnedFd {
        &self.process
    }

    /// Its user namespace, unless we are in there.
    fn users(&self) -> Result<Option<Joined>> {
        let file = self.open("user")?;
        let ours = fs::metadata("/proc/self/ns/user").context("look at our user namespace")?;
        let theirs = file
            .metadata()
            .context("look at the uplink's user namespace")?;
        if (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()) {
            return Ok(None);
        }
        let kinds = CloneFlags::CLONE_NEWUSER;
        Ok(Some(Joined {
            file: file.into(),
            kinds,
        }))
    }

    /// One of its namespaces.
    fn open(&self, kind: &str) -> Result<File> {
        let path = format!("/proc/{}/ns/{kind}", self.pid.as_raw_nonzero());
        let file = File::open(&path).with_context(|| format!("open {path}"))?;
        let mut polled = [PollFd::new(self.process.as_fd(), PollFlags::POLLIN)];
        let ended = poll(&mut polled, PollTimeout::ZERO).context("look at the uplink")?;
        ensure!(ended == 0, "the uplink has just been killed");
        Ok(file)
    }
}

/// What an uplink has of the shim that begins it in the place of one that has ended.
struct Legacy<'a> {
    netns: Option<&'a File>,
    layers: &'a Path,
}

/// Begins one. It is connected when this returns. Forked twice it is nobody's child: a shim that
/// outlived it would have to bury it.
fn begin_one(place: &Path, signals: &Signals, from: Option<&Legacy>) -> Result<()> {
    let same = Isolation {
        ids: None,
        ..Isolation::users_only()?
    };
    let isolation = match from {
        None => Isolation::users_only()?,
        Some(_) => Isolation {
            namespaces: CloneFlags::CLONE_NEWNS,
            ids: None,
            propagation: Some(MsFlags::MS_SLAVE | MsFlags::MS_REC),
            ..Isolation::users_only()?
        },
    };
    let between = namespaces::spawn(&same, |_| {
        let signals = Signals::hold()?;
        let held = namespaces::spawn(&isolation, |inside| live(inside, place, from))?;
        held.advance(&signals)?.let_go()?.abandon();
        Ok(0)
    });
    let done = between.and_then(|between| between.release(signals)?.reap());
    done.context("begin the process that connects this user's networks to the outside")?;
    Ok(())
}

/// Its life.
fn live(inside: &Inside, place: &Path, from: Option<&Legacy>) -> Result<u8> {
    let netns = from.and_then(|from| from.netns);
    inside.close_files(0, &netns.iter().map(AsFd::as_fd).collect::<Vec<_>>())?;
    setsid().context("begin a session")?;
    chdir("/").context("chdir to /")?;
    title::take("minidocker-uplink")?;
    if let Some(from) = from {
        tracing::info!(
            call = %format_args!("umount2({:?}, MNT_DETACH)", from.layers),
            "a copy of the mount would keep the container's files in use when that is gone"
        );
        let _ = umount2(from.layers, MntFlags::MNT_DETACH);
    }
    let mut life = lock(&place.join("pid"))?;
    life.set_len(0).context("forget the last uplink's number")?;

    let is_again = netns.is_some();
    let netns = match netns {
        Some(netns) => netns.try_clone().context("dup a namespace")?,
        None => network::new_netns()?,
    };
    network::loopback_up_in(netns.as_fd())?;
    let to = Target::Netns(netns.try_clone().context("dup a namespace")?);
    // Who was connected is told why they are not any more, and tries again.
    let carrier = match is_again {
        true => Some(Carrier::begin(&to, &[], place)?),
        false => Carrier::connect(&to, &[], place)?,
    };
    // Only now: the carrier's sockets are the host's. Members find the namespace by our number, if
    // they may look at us: a process that has changed its user namespace is closed to all
    // (PR_SET_DUMPABLE in prctl(2)).
    tracing::info!(
        call = "setns(netns, CLONE_NEWNET)",
        "the process that connects the networks is in theirs: there others find it"
    );
    setns(&netns, CloneFlags::CLONE_NEWNET).context("setns(netns, CLONE_NEWNET)")?;
    nix::sys::prctl::set_dumpable(true).context("let members look at the uplink")?;
    write!(life, "{}", std::process::id()).context("write the uplink's number down")?;

    // Whoever lives on after its parent is one that can be found.
    inside.outlive_parent()?;
    let _ = inside.pause();
    super::super::let_streams_go()?;
    let members = File::create(place.join("members")).context("open the uplink's members")?;
    wait_until_idle(&members, carrier.as_ref())?;
    // Before the other lock goes: nobody is to find us any more.
    let _ = life.set_len(0);
    drop(life);
    drop(carrier);
    Ok(0)
}

/// Waits until the last member has gone, whose lock `members` has then, or the carrier has ended.
fn wait_until_idle(members: &File, carrier: Option<&Carrier>) -> Result<()> {
    let ended = carrier.map(Carrier::ended).transpose()?;
    let (left, leaves) = pipe2(OFlag::O_CLOEXEC).context("pipe2")?;
    let members = members.try_clone().context("dup a file")?;
    // A lock can be waited for, but not polled.
    thread::spawn(move || {
        while members
            .lock()
            .is_err_and(|error| error.kind() == ErrorKind::Interrupted)
        {}
        drop(leaves);
    });
    let files = [Some(&left), ended.as_ref()].into_iter().flatten();
    let polled = files.map(|file| PollFd::new(file.as_fd(), PollFlags::POLLIN));
    let mut polled: Vec<_> = polled.collect();
    while poll(&mut polled, PollTimeout::NONE) == Err(Errno::EINTR) {}
    Ok(())
}

fn place(dirs: &Dirs) -> Result<PathBuf> {
    let place = dirs.run.join("network/uplink");
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&place);
    made.with_context(|| format!("make {}", place.display()))?;
    Ok(place)
}

/// Opens and locks a file.
fn lock(path: &Path) -> Result<File> {
    let open = || {
        let options = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        options.lock()?;
        Ok::<_, std::io::Error>(options)
    };
    open().with_context(|| format!("lock {}", path.display()))
}
