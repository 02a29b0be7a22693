//! The containers of one user: what may happen to them, one file each.
//!
//! ```text
//!            create ─▶ created ─ start ─▶ running ◀─ unpause ─ paused
//!                         ▲                │  ▲ └──── pause ─────▲
//!                         │        it ends │  │ its policy
//!                       remove ◀─ exited ◀─┴──┴─ restarting
//! ```
//!
//! There is no daemon. What a container is stands in its `state.json` ([`crate::state`]), and who
//! looks after one that runs is its shim ([`crate::shim`]). So a command here is of one of two
//! kinds: it changes the state, with the container's lock in its hands, or it asks the shim for
//! something, and then holds no lock, for the shim may need it.

mod ask;
mod catalogue;
mod check;
mod commit;
mod copy;
mod create;
mod diff;
mod disk;
mod exec;
mod export;
mod kill;
pub mod logs;
mod names;
mod pause;
mod prune;
mod reboot;
mod remove;
mod rename;
pub mod session;
mod settings;
mod start;
mod stats;
mod stop;
mod top;
mod truth;
pub(super) mod usage;
mod view;
mod volumes;
mod wait;

pub mod ports;

use anyhow::{Result, bail};
use cli::Dirs;

use crate::state::{self, Container, Locked, Missing, Names, Places};

pub(super) use ask::{PATIENCE, answer_of};
pub use catalogue::Catalogue;
pub use copy::{Copying, Local};
pub use create::Wish;
pub use disk::{Disk, ImageUse};
pub use exec::Execed;
pub use kill::{known_signal, parse_signal};
pub use remove::Removal;
pub use start::Attach;
pub use stats::{Sample, total_memory};
pub use stop::{Asked, Stopping};
pub use top::Processes;

/// The containers of one user.
#[derive(Debug)]
pub struct Containers {
    dirs: Dirs,
    names: Names,
}

impl Containers {
    /// Opens them.
    ///
    /// # Errors
    /// Their directories cannot be made.
    pub fn open(dirs: &Dirs) -> Result<Containers> {
        Ok(Containers {
            dirs: dirs.clone(),
            names: Names::open(dirs)?,
        })
    }

    /// All of them, the newest first. One whose state cannot be read is shown as dead.
    ///
    /// # Errors
    /// Their directory cannot be read.
    pub fn list(&self) -> Result<Vec<Container>> {
        let mut all = Vec::new();
        let ids = state::ids(&self.dirs)?;
        self.names.sweep(&ids)?;
        for id in ids {
            all.extend(self.look(&id)?);
        }
        all.sort_by_key(|container| std::cmp::Reverse(container.created));
        Ok(all)
    }

    /// The container of a name, an id, or the beginning of an id that no other has.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn find(&self, what: &str) -> Result<Container> {
        match self.look(&self.id_of(what)?)? {
            Some(container) => Ok(container),
            None => Err(Missing::container(what).into()),
        }
    }

    /// Its directories.
    #[must_use]
    pub fn places(&self, container: &Container) -> Places {
        Places::of(&self.dirs, &container.id)
    }

    fn id_of(&self, what: &str) -> Result<String> {
        let name = what.strip_prefix('/').unwrap_or(what);
        if let Some(id) = self.names.get(name)?
            && Places::of(&self.dirs, &id).data.exists()
        {
            return Ok(id);
        }
        if state::is_id(what) && Places::of(&self.dirs, what).data.exists() {
            return Ok(what.to_owned());
        }
        let ids = state::ids(&self.dirs)?;
        let mut found = ids
            .into_iter()
            .filter(|id| !what.is_empty() && id.starts_with(what));
        match (found.next(), found.next()) {
            (Some(id), None) => Ok(id),
            (Some(_), Some(_)) => bail!("Multiple IDs found with provided prefix: {what}"),
            _ => Err(Missing::container(what).into()),
        }
    }

    /// The container, to be changed; what its state says is the truth.
    pub(super) fn lock(&self, what: &str) -> Result<Locked> {
        let id = self.id_of(what)?;
        let mut locked = Locked::open(&self.dirs, &id)?;
        self.settle(&mut locked)?;
        Ok(locked)
    }
}
