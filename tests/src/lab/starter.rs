//! A starter that `cargo lab start` wrote, found again.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The file at the top of a starter that says what it is.
pub const FILE: &str = "lab.json";

/// A starter, as its `lab.json` describes it.
#[derive(Debug, Deserialize, Serialize)]
pub struct Starter {
    /// Its directory.
    #[serde(skip)]
    pub dir: PathBuf,
    /// The step whose tasks are to be solved.
    pub step: u8,
    /// The repository that it was made from.
    pub repository: PathBuf,
}

impl Starter {
    /// The starter that `place` is in, if it is in one.
    ///
    /// # Errors
    /// Its `lab.json` cannot be read.
    pub fn around(place: &Path) -> Result<Option<Self>> {
        let place = place
            .canonicalize()
            .with_context(|| format!("look for a starter in {}", place.display()))?;
        let Some(dir) = place.ancestors().find(|dir| dir.join(FILE).is_file()) else {
            return Ok(None);
        };
        let file = dir.join(FILE);
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let starter: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is not what `cargo lab start` wrote", file.display()))?;
        Ok(Some(Self {
            dir: dir.to_owned(),
            ..starter
        }))
    }

    /// The starter that the person stands in, if it is one.
    ///
    /// # Errors
    /// As [`Starter::around`].
    pub fn here() -> Result<Option<Self>> {
        Self::around(&env::current_dir().context("find the working directory")?)
    }

    /// The starter in `dir`, or that the person stands in.
    ///
    /// # Errors
    /// There is none.
    pub fn wanted(dir: Option<&Path>) -> Result<Self> {
        let found = match dir {
            Some(dir) => Self::around(dir)?,
            None => Self::here()?,
        };
        found.with_context(|| {
            let place = dir.unwrap_or(Path::new(".")).display();
            format!("{place} is no lab's directory: `cargo lab start N` makes one; go there")
        })
    }
}
