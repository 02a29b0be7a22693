//! Volumes and places of the host, made where they are not there yet.

use std::fs;

use anyhow::{Context, Result};
use cli::Dirs;

use super::create::new_id;
use crate::state::{Container, Volume, volume_place};

/// Makes what is to be mounted and is not there yet. The places where the image wants to have
/// volumes come to the others.
///
/// # Errors
/// The disk is full, or a place of the host's is not ours to make.
pub(super) fn make(dirs: &Dirs, all: &mut Vec<Volume>, container: &Container) -> Result<()> {
    for place in container.config.volumes.keys() {
        let place = format!("/{}", place.trim_matches('/'));
        let is_taken = all.iter().any(|mount| mount.destination == place);
        if !is_taken && !container.host.tmpfs.contains_key(&place) {
            all.push(Volume {
                r#type: "volume".to_owned(),
                destination: place,
                driver: "local".to_owned(),
                writable: true,
                anonymous: true,
                ..Volume::default()
            });
        }
    }
    for mount in all.iter_mut() {
        if mount.r#type == "volume" {
            if mount.anonymous {
                mount.name = new_id()?;
            }
            let place = volume_place(dirs, &mount.name).join("_data");
            mount.source = place.to_string_lossy().into_owned();
        }
        // With docker a place of the host's that is not there is made, too.
        if mount.r#type != "tmpfs" && fs::symlink_metadata(&mount.source).is_err() {
            fs::create_dir_all(&mount.source).with_context(|| format!("make {}", mount.source))?;
        }
    }
    Ok(())
}
