//! `docker wait`: until a container does not run any more.

use anyhow::Result;

use super::Containers;
use crate::shim::protocol::{Frame, Heard};

impl Containers {
    /// Waits for a container's end, restarts included, and returns its exit status. One that does
    /// not run has its last one.
    ///
    /// # Errors
    /// There is no such container.
    pub fn wait(&self, what: &str) -> Result<u8> {
        let container = self.find(what)?;
        if !container.life.status.needs_shim() {
            return Ok(container.life.exit_code);
        }
        if let Some(shim) = self.watch(&container)? {
            loop {
                match shim.hear()? {
                    Heard::Word(Frame::Ended(status), _) => return Ok(status),
                    Heard::End => break,
                    _ => {}
                }
            }
        }
        // It ended between two looks, or its shim was killed.
        Ok(self.find(&container.id)?.life.exit_code)
    }
}
