//! Volumes and places of the host, made where they are not there yet.

use std::fs;

use anyhow::{Context, Result, ensure};
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
        let place = inside(place)?;
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

/// Where an image wants to have a volume, without dots and double slashes.
fn inside(wanted: &str) -> Result<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in wanted.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    ensure!(
        !parts.is_empty(),
        "the image wants a volume at {wanted:?}: destination can't be '/'"
    );
    Ok(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::inside;

    #[test]
    fn an_image_s_volume_is_below_the_root() {
        assert_eq!(inside("/data").unwrap(), "/data");
        assert_eq!(inside("data//a/./../b/").unwrap(), "/data/b");
        for wanted in ["", "/", "//", "/..", "/a/../..", "."] {
            assert!(inside(wanted).is_err(), "{wanted:?}");
        }
    }
}
