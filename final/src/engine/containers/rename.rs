//! `docker rename`.

use anyhow::{Result, ensure};

use super::Containers;
use crate::state::check_name;
use crate::state::journal::{self, Event};

impl Containers {
    /// Calls a container otherwise.
    ///
    /// # Errors
    /// The name is taken, or none.
    pub fn rename(&self, what: &str, name: &str) -> Result<()> {
        ensure!(!name.is_empty(), "Neither old nor new names may be empty");
        let name = check_name(name)?;
        let mut locked = self.lock(what)?;
        let old = locked.container.name.clone();
        ensure!(
            old != name,
            "Renaming a container with the same name as its current name"
        );
        let id = locked.container.id.clone();
        // For a moment it has both: whoever dies here leaves a name that leads to it, and no doubt.
        let taken = self.names.take(name, &id)?;
        locked.container.name = name.to_owned();
        let saved = locked.save();
        drop(taken);
        if let Err(error) = saved {
            self.names.give_back(name, &id)?;
            return Err(error);
        }
        self.names.give_back(&old, &id)?;
        let renamed = Event::of(&locked.container, "rename").with("oldName", format!("/{old}"));
        journal::tell(&self.dirs, &renamed);
        Ok(())
    }
}
