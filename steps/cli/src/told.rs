//! What an event of a leaf tells.

use std::fmt;

use tracing::field::{Field, Visit};

/// The two fields of an event that a person gets to see.
#[derive(Debug, Default)]
pub struct Told {
    /// The call as its man page writes it; `None` for a note.
    pub call: Option<String>,
    /// Why it is made, or the note.
    pub why: String,
}

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "call" => self.call = Some(format!("{value:?}")),
            "message" => self.why = format!("{value:?}"),
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "call" {
            self.call = Some(value.to_owned());
        }
    }
}
