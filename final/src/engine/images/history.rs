//! `history`: how an image was made.

use anyhow::Result;
use jiff::Timestamp;

use super::Images;

/// One step in the making of an image.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// When it was made, if the image says so.
    pub created: Option<Timestamp>,
    /// The command.
    pub created_by: String,
    /// What else there is to say.
    pub comment: String,
    /// Bytes in the files of the layer that it made; 0 where it made none.
    pub size: u64,
}

impl Images {
    /// The steps in which an image was made, the last one first. Each layer has one, whether or not
    /// the image speaks of it.
    ///
    /// # Errors
    /// There is no such image, or there are several.
    pub fn history(&self, what: &str) -> Result<Vec<Step>> {
        let image = self.find(what)?;
        let document = image.document();
        let mut layers = document.rootfs.diff_ids.iter();
        let mut size = || layers.next().map(|layer| self.store.layer_size(layer));
        let mut steps = Vec::new();
        for step in &document.history {
            let created = step.created.as_deref();
            steps.push(Step {
                created: created.and_then(|created| created.parse().ok()),
                created_by: step.created_by.clone(),
                comment: step.comment.clone(),
                size: match step.empty_layer {
                    true => 0,
                    false => size().unwrap_or(0),
                },
            });
        }
        while let Some(size) = size() {
            steps.push(Step {
                created: image.created(),
                size,
                ..Step::default()
            });
        }
        steps.reverse();
        Ok(steps)
    }
}
