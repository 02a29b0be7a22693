//! The process that stays with a container: its parent, its listener, its witness.
//!
//! ```text
//!   minidocker run ──spawn──▶ shim ──create──▶ the container's first process
//!        ▲                    │ ▲                    │ writes
//!        │   unix socket      │ └── reaps it ────────┤
//!   attach, exec, stop … ◀────┤                      ▼
//!                             └◀── pipes, or the master of a terminal
//!                             ▼
//!                    ID-json.log, state.json
//! ```
//!
//! It is forked off by [`launch`]: no program is executed on the way to the user's command. It is
//! one thread and one loop; it lives in a mount namespace of its own, where the container's layers
//! are stacked, and without root in a user namespace, as the root of the container's files. Whoever
//! wants to know whether it lives tries its lock.
//!
//! [`live`] is its life from top to bottom; [`begin`] starts the container, `serve` is the loop,
//! `end` what follows when the first process has ended.

mod begin;
mod clients;
mod connect;
mod end;
mod execs;
mod external;
mod init_layer;
mod log;
mod network;
pub mod protocol;
mod runner;
mod serve;
mod spec;
mod streams;
mod users;
mod volumes;

use std::fs::{DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::DirBuilderExt;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};
use cli::Dirs;
use images::{Overlay, Store};
use namespaces::{Inside, Isolation, Signals};
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::sys::statvfs::FsFlags;
use nix::unistd::{chdir, dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use crate::runtime::title;
use crate::state::{Container, Locked, Places};
use clients::Clients;
use end::Next;
pub use init_layer::sweep as sweep_init_layers;
use log::Log;
use network::uplink::Membership;
pub use network::{sweep as sweep_network, within as within_networks};
use protocol::{Connection, Listener};
pub use runner::end as end_runtime;
pub use spec::mount_parts;
pub use streams::Streams;
use users::Users;
pub use volumes::mount as mount_volumes;

/// The file whose lock says that a shim lives.
const LOCK: &str = "shim";

/// What a shim is born with.
#[derive(Debug)]
pub struct Charge {
    /// Where things are kept.
    pub dirs: Dirs,
    /// The container, whose lock passes to the shim until it has started it.
    pub locked: Locked,
    /// Whoever is attached from the first byte on.
    pub first: Option<First>,
}

/// The client that starts a container and stays.
#[derive(Debug)]
pub struct First {
    /// The shim's end.
    pub connection: Connection,
    /// Whether what comes from it is for standard input.
    pub stdin: bool,
}

/// Starts a shim, and returns when the user's command runs.
///
/// # Errors
/// The container could not be started: the child's own [`namespaces::Failure`]. There is no shim
/// then.
pub fn launch(charge: &Charge) -> Result<()> {
    let signals = Signals::hold()?;
    let users = Users::of(&charge.locked.container, &charge.dirs, &signals)?;
    let isolation = Isolation {
        namespaces: CloneFlags::CLONE_NEWNS,
        ids: users.ids,
        joined: &users.joined,
        // What the host unmounts would stay mounted here, and its device in use.
        propagation: Some(MsFlags::MS_SLAVE | MsFlags::MS_REC),
        ..Isolation::users_only()?
    };
    let member = users.membership.as_ref();
    let held = namespaces::spawn(&isolation, |inside| live(inside, charge, member))?;
    held.advance(&signals)?.let_go()?.abandon();
    Ok(())
}

/// Whether the container has a shim.
///
/// # Errors
/// Its lock cannot be looked at.
pub fn is_alive(places: &Places) -> Result<bool> {
    let path = places.run.join(LOCK);
    let lock = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        lock => lock.with_context(|| format!("open {}", path.display()))?,
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("try the lock of {}", path.display()))
        }
    }
}

/// What a shim has at hand for as long as it lives.
struct Shim<'a> {
    dirs: &'a Dirs,
    places: &'a Places,
    id: crate::runtime::Id,
    listener: Listener,
    clients: Clients,
    log: Log,
}

/// A shim's life. It begins with the container's lock in its hands, and with somebody who waits to
/// hear how the start went.
fn live(inside: &Inside, charge: &Charge, member: Option<&Membership>) -> Result<u8> {
    let mut locked = charge.locked.try_clone()?;
    let places = locked.places.clone();
    let lock = take_lock(&places)?;
    let mut kept = vec![locked.directory().as_fd(), lock.as_fd()];
    let membership = member.map(Membership::keep).transpose()?;
    kept.extend(membership.map(AsFd::as_fd));
    kept.extend(charge.first.iter().map(|first| first.connection.as_fd()));
    leave(inside, "shim", &kept)?;
    title::take(&format!("minidocker-shim {}", locked.container.name))?;
    // Whoever limits the size of files (setrlimit(2), RLIMIT_FSIZE) loses lines of a log then, and
    // not the container.
    let too_large = SigSet::from(Signal::SIGXFSZ);
    too_large.thread_block().context("hold SIGXFSZ back")?;
    let _signals = Signals::hold()?;
    stack_layers(&charge.dirs, &locked)?;

    let mut shim = Shim {
        dirs: &charge.dirs,
        places: &places,
        id: locked.container.id.parse()?,
        listener: Listener::bind(&places)?,
        clients: Clients::default(),
        log: Log::open(&places.log(), &locked.container.host.log_config)?,
    };
    if let Some(first) = &charge.first {
        shim.clients
            .attach(first.connection.try_clone()?, first.stdin)?;
    }
    let mut running = match shim.begin(&mut locked) {
        Ok(running) => running,
        Err(error) => {
            // On a full disk it stays as it was, and why is told all the same.
            let _ = end::not_begun(&mut locked, &error);
            end::clear(&places);
            return Err(error);
        }
    };
    locked.unlock()?;
    // Whoever started us may be gone: the container runs all the same.
    let _ = inside.pause();
    let_streams_go()?;

    let mut pause = Duration::ZERO;
    loop {
        give_memory_back();
        let ended = shim.serve(running)?;
        match end::record(shim.dirs, &mut locked, &ended, &mut pause)? {
            Next::Stop => break,
            Next::Again => shim.clients.tell_attached(ended.status),
        }
        shim.wait(pause)?;
        match shim.begin_again(&mut locked)? {
            Some(again) => running = again,
            None => break,
        }
    }
    end::leave(shim, &mut locked)
}

/// Makes the directory that a reboot may forget, and takes the lock in it.
fn take_lock(places: &Places) -> Result<File> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&places.run);
    made.with_context(|| format!("make {}", places.run.display()))?;
    let path = places.run.join(LOCK);
    let lock = File::create(&path).with_context(|| format!("make {}", path.display()))?;
    // Whoever only looks holds it shared, for a moment.
    lock.lock()
        .with_context(|| format!("lock {}", path.display()))?;
    places.forget_last_word();
    Ok(lock)
}

/// Away from whoever started us: their session, their working directory, their files but those that
/// are `kept`.
pub(crate) fn leave(inside: &Inside, name: &'static str, kept: &[BorrowedFd]) -> Result<()> {
    inside.outlive_parent()?;
    setsid().context("begin a session")?;
    chdir("/").context("chdir to /")?;
    umask(Mode::from_bits_truncate(0o022));
    cli::speak_as(name);
    inside.close_files(0, kept)
}

/// Where only this process and the container see it: it goes with them, however they end.
fn stack_layers(dirs: &Dirs, locked: &Locked) -> Result<()> {
    let mounted = layers(dirs, &locked.container)?.mount();
    let data = &locked.places.data;
    let read_only = || {
        let disk = nix::sys::statvfs::statvfs(data);
        disk.is_ok_and(|disk| disk.flags().contains(FsFlags::ST_RDONLY))
    };
    // Of that the kernel says no more than EINVAL.
    mounted.map_err(|error| match read_only() {
        true => error.context(format!(
            "write to {}: Read-only file system",
            data.display()
        )),
        false => error,
    })
}

/// What is stacked for a container: what it wrote, over what every container needs, over its image.
/// The caller has a mount namespace of its own, and is the root of the container's files.
///
/// # Errors
/// A layer is missing, or cannot be made.
pub fn layers(dirs: &Dirs, container: &Container) -> Result<Overlay> {
    let mut overlay = Store::open(&dirs.data)?.kept_overlay(&container.id)?;
    let init = init_layer::ensure(dirs, &container.image, &overlay)?;
    overlay.lower.push(init);
    Ok(overlay)
}

/// What is said from here on nobody hears; and a pipe that we held would never end for its reader.
pub(crate) fn let_streams_go() -> Result<()> {
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .context("open /dev/null")?;
    dup2_stdin(&null)
        .and_then(|()| dup2_stdout(&null))
        .and_then(|()| dup2_stderr(&null))
        .context("let the standard streams go")
}

/// What was needed to start a container is not needed to wait for it, and there may be hundreds.
pub(crate) fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it only gives free pages back to the kernel (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
    let here = 0_u8;
    let page = 4096;
    // What calls reached once that have returned. The functions that are about to be called have
    // some pages left, and so far below a stack the kernel maps nothing else (mmap(2), the gap that
    // MAP_GROWSDOWN is about).
    let end = ((&raw const here).addr() & !(page - 1)) - 4 * page;
    let length = 64 * page;
    // SAFETY: it is below this function's frame, and nothing there is in use.
    unsafe {
        libc::madvise(
            (end - length) as *mut libc::c_void,
            length,
            libc::MADV_DONTNEED,
        );
    }
}

/// How many files this process might open before that was raised, and may now.
static RAISED: OnceLock<(u64, u64)> = OnceLock::new();

/// Lets this process, and who comes of it, open as many files as the host has for it.
///
/// # Errors
/// What setrlimit(2) refuses.
pub(crate) fn raise_file_limit() -> Result<()> {
    let (least, most) = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit(RLIMIT_NOFILE)")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("setrlimit(RLIMIT_NOFILE)")?;
    RAISED.get_or_init(|| (least, most));
    Ok(())
}

/// The limit of open files, soft and hard, that is the container's business: as it was before we
/// [needed more](raise_file_limit). `None`: as it is.
fn inherited_file_limit() -> Option<(u64, u64)> {
    RAISED.get().copied()
}

/// Lets all threads that there will be use one heap. What they have freed in heaps of their own is
/// never given back (mallopt(3), M_ARENA_MAX), and a shim that comes of this process would keep it.
pub fn keep_to_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number that malloc(3) reads.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
