//! How a container ended, where its state file cannot say it: the disk is full, or read-only. It is
//! kept with what a reboot may forget, which is in memory most often, until there is room.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Life, Places};

impl Places {
    fn last_word(&self) -> PathBuf {
        self.run.join("ended.json")
    }

    /// Keeps what could not be written down. To be called with the container's lock in hand.
    ///
    /// # Errors
    /// There is no room for that either.
    pub fn keep_last_word(&self, life: &Life) -> Result<()> {
        let path = self.last_word();
        let text = serde_json::to_vec(life)?;
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.run);
        made.and_then(|()| fs::write(&path, text))
            .with_context(|| format!("write {}", path.display()))
    }

    /// What was kept, if anything was.
    #[must_use]
    pub fn kept_last_word(&self) -> Option<Life> {
        // One that is cut short tells nothing.
        serde_json::from_slice(&fs::read(self.last_word()).ok()?).ok()
    }

    /// It begins another time.
    pub fn forget_last_word(&self) {
        let _ = fs::remove_file(self.last_word());
    }
}
