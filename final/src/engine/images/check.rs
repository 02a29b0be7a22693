//! `system check`: whether the images are what they were, and what can be done if not.

use std::cell::Cell;

use anyhow::Result;
use cli::Dirs;
use images::{Finding, ImageName, Intake, Lost, Store};
use namespaces::{Isolation, apart};

use super::Images;
use super::pull::Pull;
use crate::engine::registries;
use crate::registry::Registry;

/// What is to be done about damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mending {
    /// Nothing; it is only told.
    None,
    /// All that is possible.
    All {
        /// Blobs may be fetched over plain HTTP, or without looking at certificates.
        insecure: bool,
    },
}

impl Images {
    /// Looks at all that is stored, tells each thing that is wrong, and makes it good. Returns
    /// docker's status: 1 if something remains.
    ///
    /// # Errors
    /// The store cannot be read or written as a whole.
    pub fn check(dirs: &Dirs, mending: Mending, tell: &dyn Fn(&Finding)) -> Result<u8> {
        apart(&Isolation::users_only()?, || {
            let remains = Cell::new(false);
            let tell = |finding: Finding| {
                remains.set(remains.get() || !finding.mended);
                tell(&finding);
            };
            match mending {
                Mending::None => Store::check(&dirs.data, None, &tell)?,
                Mending::All { insecure } => {
                    let fetch = |intake: &Intake<'_>, name: &ImageName, lost: Lost<'_>| {
                        fetch(
                            &registries::open(name.registry(), insecure)?,
                            intake,
                            name,
                            lost,
                        )
                    };
                    Store::check(&dirs.data, Some(&fetch), &tell)?;
                }
            }
            Ok(u8::from(remains.get()))
        })
    }
}

/// Brings a blob from the registry that an image came from.
fn fetch(registry: &Registry, intake: &Intake<'_>, name: &ImageName, lost: Lost<'_>) -> Result<()> {
    let pull = Pull {
        registry,
        name,
        report: &|_, _| (),
    };
    match lost {
        Lost::Manifest(blob) => {
            let found = registry.manifest(name.path(), &blob.digest.to_string())?;
            intake.document(blob, &found.bytes)
        }
        Lost::Config(blob) => intake.document(blob, &pull.document(blob)?),
        Lost::Layer(blob, diff_id) => pull.layers(intake, &[(blob, diff_id)]),
    }
}
