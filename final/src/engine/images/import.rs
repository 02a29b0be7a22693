//! `import`: somebody's root file system, in a tar archive, becomes an image of one layer.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use images::{Config, Document, History, Image, ImageName, Platform};

use super::{Images, changes};

/// What an imported image says of itself.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    /// How a container of it is to run: instructions as in a Dockerfile.
    pub changes: Vec<String>,
    /// How it was made.
    pub message: Option<String>,
    /// For which machines it is, if not for those like this.
    pub platform: Option<Platform>,
}

impl Images {
    /// Makes an image of an archive: a file, or standard input where it is called `-`.
    ///
    /// # Errors
    /// It isn't a tar archive, plain or compressed with gzip or zstd; an instruction that cannot be
    /// understood; a full disk.
    pub fn import(
        &self,
        source: &Path,
        name: Option<&ImageName>,
        image: &Imported,
    ) -> Result<Image> {
        let tagged = name.is_none_or(|name| name.tag().is_some());
        ensure!(tagged, "cannot import digest reference");
        let document = describe(image)?;
        let tar = open(source)?;
        let image = self.store.import_tar(tar, name, document);
        let image = image.with_context(|| format!("import {}", source.display()))?;
        let id = image.id().to_string();
        self.tell("import", &id, &id);
        Ok(image)
    }
}

fn open(source: &Path) -> Result<Box<dyn Read>> {
    if source == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    let shown = source.display();
    let address = ["http:", "https:"].iter().any(|it| source.starts_with(it));
    ensure!(
        !address,
        "{shown} is an address; fetch it with `curl -L {shown} | minidocker import -`"
    );
    let what = || format!("open {shown}");
    let file = File::open(source).with_context(what)?;
    // /dev/zero never ends.
    let kind = file.metadata().with_context(what)?.file_type();
    ensure!(
        !kind.is_char_device() && !kind.is_dir(),
        "{shown} is no archive"
    );
    Ok(Box::new(file))
}

fn describe(image: &Imported) -> Result<Document> {
    let mut config = Config::default();
    changes::apply(&image.changes, &mut config)?;
    let mut document = Document::new(config);
    if let Some(platform) = &image.platform {
        let Platform { os, .. } = platform;
        ensure!(os == "linux", "{platform} is not Linux");
        document.architecture.clone_from(&platform.architecture);
        let variant = platform.variant.as_deref();
        let variant = variant.map(|variant| ("variant".to_owned(), variant.into()));
        document.extra.extend(variant);
    }
    document.history.push(History {
        created: document.created.clone(),
        comment: image
            .message
            .clone()
            .unwrap_or("Imported from -".to_owned()),
        ..History::default()
    });
    Ok(document)
}
