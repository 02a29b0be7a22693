//! `image prune`: away with what nobody asked for.

use anyhow::Result;
use images::{Image, Removed};

use crate::engine::pruning::Pruning;
use crate::shim;
use crate::state::journal::{self, Event, Kind};

use super::{HOST, Images};

/// Whether an image goes that no container uses.
fn concerns(which: &Pruning, image: &Image) -> bool {
    let names = image.names();
    let tagged = names.iter().any(|name| name.tag().is_some());
    // That one would be made again at once.
    let host = HOST.parse().ok();
    !names.iter().any(|name| Some(name) == host.as_ref())
        && (which.all || !tagged)
        && which.only.admits(image.created(), &image.config().labels)
}

impl Images {
    /// Removes images, and whatever else of the store nothing needs: half downloads as well.
    ///
    /// # Errors
    /// The store cannot be read, or what the file system refuses.
    pub fn prune(&self, which: &Pruning) -> Result<Removed> {
        let pruned = self.store.prune(|image| concerns(which, image))?;
        shim::sweep_init_layers(&self.dirs)?;
        let event = Event::new(Kind::Image, "prune", "").with("reclaimed", pruned.freed);
        journal::tell(&self.dirs, &event);
        Ok(pruned)
    }
}
