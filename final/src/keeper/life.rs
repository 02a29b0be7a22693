//! The keeper's life: forked off by the first shim that finds none, over a second after the last.
//!
//! ```text
//! a shim                                        keeper
//!   connect ── refused: there is none
//!   flock(lock), connect once more
//!   bind, listen ── from here on others can wait in line
//!   fork ─────────▶ fork ──────────────────────▶ setsid, its own mounts, no files
//!   unlock          ends                         accept … accept …
//!   connect, register ─────────────────────────▶
//!                                                nobody for a second:
//!                                                flock(lock), nobody in line: remove socket, end
//! ```
//!
//! It is forked twice so that it is nobody's child: a shim that outlived it would have to bury it.
//! Whoever was in line at the last moment finds the connection closed, and begins a new one.

use std::fs::{self, DirBuilder, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use cli::Dirs;
use namespaces::{Inside, Isolation, Signals};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sched::CloneFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::{JoinSet, LocalSet};

use super::desk::Desk;
use super::neighbours::Directory;
use super::registration::{HERE, Request, sockets};
use super::{SOCKET, place};
use crate::runtime::title;
use crate::shim::protocol::{Connection, Heard, Listener};
use crate::shim::{give_memory_back, leave, let_streams_go, raise_file_limit};

/// How long a keeper stays without anybody to answer.
const LINGER: Duration = Duration::from_secs(1);

/// A connection to the keeper, which is begun where there is none. `overlay` is what the caller has
/// mounted for its container, and the keeper must not hold.
///
/// # Errors
/// The socket cannot be used; there can be no new process.
pub(super) fn connect(dirs: &Dirs, overlay: &Path) -> Result<Connection> {
    let place = place(dirs);
    if let Some(connection) = Connection::at(&place, SOCKET)? {
        return Ok(connection);
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&place);
    made.with_context(|| format!("make {}", place.display()))?;
    let door = door(&place)?;
    door.lock().context("lock the keeper's door")?;
    // Of many who found none, the first has begun one by now.
    if let Some(connection) = Connection::at(&place, SOCKET)? {
        return Ok(connection);
    }
    let listener = Listener::at(&place, SOCKET)?;
    begin(dirs, &listener, overlay).context("begin the keeper of names")?;
    door.unlock().context("unlock the keeper's door")?;
    Connection::at(&place, SOCKET)?.context("the keeper of names has ended at once")
}

/// Its lock keeps beginnings and ends apart.
pub(super) fn door(place: &Path) -> Result<File> {
    let path = place.join("lock");
    let door = File::create(&path);
    door.with_context(|| format!("make {}", path.display()))
}

/// Forks a keeper off, and returns when it is on its own.
fn begin(dirs: &Dirs, listener: &Listener, overlay: &Path) -> Result<()> {
    let signals = Signals::hold()?;
    let same = || -> Result<Isolation<'_>> {
        Ok(Isolation {
            ids: None,
            ..Isolation::users_only()?
        })
    };
    let isolation = Isolation {
        namespaces: CloneFlags::CLONE_NEWNS,
        // As a shim: what the host unmounts must not stay mounted here.
        propagation: Some(MsFlags::MS_SLAVE | MsFlags::MS_REC),
        ..same()?
    };
    let between = namespaces::spawn(&same()?, |_| {
        let signals = Signals::hold()?;
        let keeper = namespaces::spawn(&isolation, |inside| live(inside, dirs, listener, overlay))?;
        keeper.advance(&signals)?.let_go()?.abandon();
        Ok(0)
    })?;
    between.release(&signals)?.reap()?;
    Ok(())
}

/// The life of a keeper, from its birth in a shim's image on.
fn live(inside: &Inside, dirs: &Dirs, listener: &Listener, overlay: &Path) -> Result<u8> {
    // Away from the shim: its session, its working directory, its files, its death.
    leave(inside, "keeper", &[listener.as_fd()])?;
    title::take("minidocker-keeper")?;
    let_layers_go(overlay)?;
    let _signals = Signals::hold()?;
    // Each container is three descriptors, each question that is passed on another one. With fewer it
    // does what it can.
    let _ = raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("begin the keeper's loop")?;
    inside.pause()?;
    let_streams_go()?;
    give_memory_back();
    let keeper = Rc::new(Keeper {
        place: place(dirs),
        directory: Rc::new(Directory::new(dirs)),
    });
    LocalSet::new().block_on(&runtime, keeper.serve(listener))?;
    Ok(0)
}

/// A copy of a mount namespace holds all that is mounted in it: the layers of the shim's container
/// would stay in use after its end.
fn let_layers_go(overlay: &Path) -> Result<()> {
    tracing::info!(
        call = %format_args!("umount2({overlay:?}, MNT_DETACH)"),
        "the layers of the container whose shim forked the keeper off are not the keeper's"
    );
    match umount2(overlay, MntFlags::MNT_DETACH) {
        // A container of another runtime's may have it elsewhere.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno).with_context(|| format!("unmount {}", overlay.display())),
    }
}

/// What a keeper has at hand.
struct Keeper {
    place: PathBuf,
    /// Who is called what.
    directory: Rc<Directory>,
}

impl Keeper {
    /// Attends to whoever comes, until nobody does.
    async fn serve(self: Rc<Self>, listener: &Listener) -> Result<()> {
        let ready = watch(listener.as_fd())?;
        let mut guests = JoinSet::new();
        loop {
            let idle = guests.is_empty();
            tokio::select! {
                readable = ready.readable() => {
                    let mut readable = readable?;
                    match listener.accept() {
                        Ok(Some(guest)) => self.welcome(guest, &mut guests),
                        Ok(None) => readable.clear_ready(),
                        // No descriptors left: somebody will leave.
                        Err(_) => tokio::time::sleep(LINGER).await,
                    }
                }
                Some(_) = guests.join_next() => {}
                () = tokio::time::sleep(LINGER), if idle => {
                    let door = door(&self.place)?;
                    // Whoever has it locked is about to come.
                    if door.try_lock().is_ok() {
                        match listener.accept()? {
                            Some(guest) => self.welcome(guest, &mut guests),
                            None => return self.remove_socket(),
                        }
                    }
                }
            }
        }
    }

    fn remove_socket(&self) -> Result<()> {
        let path = self.place.join(SOCKET);
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))
    }

    fn welcome(self: &Rc<Self>, guest: Connection, guests: &mut JoinSet<()>) {
        let keeper = Rc::clone(self);
        guests.spawn_local(async move {
            // Whatever is wrong with one of them, their shim sees the connection end.
            let _ = keeper.attend(guest).await;
        });
    }

    /// One guest, from their first word to their end.
    async fn attend(&self, guest: Connection) -> Result<()> {
        let guest = watch(guest)?;
        let Some((packet, files)) = hear(&guest).await? else {
            return Ok(());
        };
        match serde_json::from_slice(&packet).context("read a request")? {
            Request::Register { id } => {
                let (udp, tcp) = sockets(files)?;
                let desk = Desk::new(id, Rc::clone(&self.directory));
                guest.get_ref().send_packet(HERE, &[])?;
                tokio::select! {
                    failed = Rc::new(desk).answer(udp, tcp) => failed.map(|never| match never {}),
                    // They say no more; what is heard is their end.
                    end = hear(&guest) => end.map(drop),
                }
            }
        }
    }
}

/// The next packet of a guest, and what came with it; `None`: they are gone.
async fn hear(guest: &AsyncFd<Connection>) -> Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    loop {
        let mut readable = guest.readable().await?;
        match guest.get_ref().receive()? {
            Heard::Word(packet, files) => return Ok(Some((packet, files))),
            Heard::Nothing => readable.clear_ready(),
            Heard::End => return Ok(None),
        }
    }
}

/// Has the loop tell when there is something to read.
fn watch<T: AsRawFd>(socket: T) -> Result<AsyncFd<T>> {
    // SAFETY: what stands behind a connection or a borrowed descriptor stays open, and stays the same.
    let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    watched.map_err(|error| anyhow!("watch a socket: {error}"))
}
