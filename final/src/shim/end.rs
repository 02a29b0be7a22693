//! What follows when a container's first process has ended.

use std::time::Duration;

use anyhow::{Error, Result};
use cli::Dirs;
use jiff::Timestamp;

use super::serve::Ended;
use super::{Shim, volumes};
use crate::state::journal::{self, Event};
use crate::state::{Container, Locked, Places, Restart, Status};

/// Whoever ran so long is taken to be in order, and begins with the shortest pause again.
const LONG: Duration = Duration::from_secs(10);

/// The pause before the first restart; each one after that is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What the container's policy says.
pub(super) enum Next {
    /// It stays as it is.
    Stop,
    /// It is started again, after a pause.
    Again,
}

/// Writes down how it ended, and what is next: `pause` becomes the pause before that. At the end of
/// all the container's lock stays with us.
pub(super) fn record(
    dirs: &Dirs,
    locked: &mut Locked,
    ended: &Ended,
    pause: &mut Duration,
) -> Result<Next> {
    locked.relock()?;
    tell(dirs, &locked.container, ended);
    journal::tell_networks(dirs, &locked.container, "disconnect");
    let next = next(&locked.container, ended, pause);
    let life = &mut locked.container.life;
    life.pid = 0;
    life.exit_code = ended.status;
    life.oom_killed = ended.oom_killed;
    life.finished = Some(Timestamp::now());
    life.unplug();
    if life.status != Status::Removing {
        life.status = match next {
            Next::Stop => Status::Exited,
            Next::Again => Status::Restarting,
        };
    }
    if matches!(next, Next::Again) {
        if let Err(error) = locked.save() {
            // What does not know of a restart would take the pause for its end.
            locked.container.life.error = format!("{error:#}");
            return Ok(Next::Stop);
        }
        locked.unlock()?;
    }
    Ok(next)
}

/// For those who watch what happens.
fn tell(dirs: &Dirs, container: &Container, ended: &Ended) {
    if ended.oom_killed {
        journal::tell(dirs, &Event::of(container, "oom"));
    }
    let died = Event::of(container, "die").with("exitCode", ended.status);
    journal::tell(dirs, &died.with("execDuration", ended.lasted.as_secs()));
    volumes::tell(dirs, container, "unmount");
}

fn next(container: &Container, ended: &Ended, pause: &mut Duration) -> Next {
    let life = &container.life;
    let again = match container.host.restart_policy {
        Restart::No => false,
        Restart::OnFailure(most) => ended.status != 0 && (most == 0 || life.restarts < most),
        Restart::Always | Restart::UnlessStopped => true,
    };
    if !again || life.stopped_by_hand || life.status == Status::Removing {
        return Next::Stop;
    }
    *pause = match ended.lasted >= LONG || pause.is_zero() {
        true => FIRST_PAUSE,
        false => LONGEST_PAUSE.min(*pause * 2),
    };
    Next::Again
}

/// Writes down why it could not be started.
pub(super) fn not_begun(locked: &mut Locked, error: &Error) -> Result<()> {
    let life = &mut locked.container.life;
    if life.status.needs_shim() {
        life.status = Status::Exited;
    }
    life.pid = 0;
    life.exit_code = namespaces::exit_status(error);
    life.error = format!("{error:#}");
    locked.save()
}

/// The last of a shim: from here on the container needs none, and whoever waited is told.
pub(super) fn leave(mut shim: Shim<'_>, locked: &mut Locked) -> Result<u8> {
    let status = locked.container.life.exit_code;
    let left = match locked.container.host.auto_remove {
        true => locked.discard(shim.dirs),
        false => lay_down(locked),
    };
    locked.unlock()?;
    shim.clients.tell_all(status);
    shim.linger()?;
    left.map(|()| 0)
}

/// Writes down that the container has ended. On a full disk its state stays as it was; the next
/// command finds that there is no shim, and what it has left.
fn lay_down(locked: &mut Locked) -> Result<()> {
    locked.container.life.status = Status::Exited;
    let saved = locked.save();
    clear(&locked.places);
    if saved.is_err()
        && let Err(error) = locked.places.keep_last_word(&locked.container.life)
    {
        tracing::warn!("{error:#}");
    }
    saved
}

/// Removes what nobody needs without a shim; its lock goes with it.
pub(super) fn clear(places: &Places) {
    if let Err(error) = places.forget() {
        tracing::warn!("{error:#}");
    }
}
