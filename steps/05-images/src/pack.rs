//! An image of one layer: the host's own programs, or a tree that somebody packed.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tar::{Builder, Header};

use crate::archive::BUFFER;
use crate::digest::Digest;
use crate::import::{Found, describe_layer};
use crate::name::ImageName;
use crate::oci::{self, Descriptor, Document, Manifest};
use crate::scratch::{Blob, Scratch};

/// Writes the tree as a layer.
pub(crate) fn pack(tree: &Path, scratch: &Scratch) -> Result<Blob> {
    let mut layer = scratch.spool()?;
    let mut archive = Builder::new(BufWriter::with_capacity(BUFFER, &mut layer));
    append(&mut archive, tree, Path::new(""))?;
    archive.into_inner()?.flush()?;
    Ok(layer.finish())
}

/// Writes the config and the manifest of an image that has one layer.
pub(crate) fn image_of(
    (layer, diff_id): (Blob, Digest),
    name: Option<&ImageName>,
    mut document: Document,
    scratch: &Scratch,
) -> Result<Found> {
    document.rootfs.diff_ids = vec![diff_id];
    let config = scratch.keep(&serde_json::to_vec(&document)?)?;
    let manifest = Manifest::new(
        Descriptor::new(oci::CONFIG, config.digest, config.size),
        vec![describe_layer(&layer)?],
    );
    Ok(Found {
        names: name.into_iter().cloned().collect(),
        media_type: oci::MANIFEST.to_owned(),
        manifest: scratch.keep(&serde_json::to_vec(&manifest)?)?,
        config,
        layers: vec![(layer, diff_id)],
    })
}

/// Appends what is in `tree/dir`, by name: the same tree gives the same layer.
fn append(archive: &mut Builder<impl Write>, tree: &Path, dir: &Path) -> Result<()> {
    let entries = std::fs::read_dir(tree.join(dir))?;
    let names = entries.map(|entry| Ok(dir.join(entry?.file_name())));
    let mut names = names.collect::<Result<Vec<PathBuf>>>()?;
    names.sort();
    for name in names {
        let path = tree.join(&name);
        let what = || format!("pack {}", path.display());
        let metadata = path.symlink_metadata().with_context(what)?;
        let mut header = Header::new_gnu();
        header.set_metadata(&metadata);
        header.set_uid(0);
        header.set_gid(0);
        if metadata.is_dir() {
            archive
                .append_data(&mut header, &name, &b""[..])
                .with_context(what)?;
            append(archive, tree, &name)?;
        } else if metadata.is_symlink() {
            let target = path.read_link().with_context(what)?;
            archive
                .append_link(&mut header, &name, target)
                .with_context(what)?;
        } else if metadata.is_file() {
            let file = File::open(&path).with_context(what)?;
            archive
                .append_data(&mut header, &name, file)
                .with_context(what)?;
        } else {
            bail!(
                "{} is neither a file nor a directory nor a link",
                path.display()
            );
        }
    }
    Ok(())
}
