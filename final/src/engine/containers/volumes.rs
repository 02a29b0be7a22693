//! What is mounted into a container, made where it is not there yet: volumes, and places of the host.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use cli::Dirs;

use super::Containers;
use crate::engine::lexical;
use crate::state::{Container, LocalVolume, Missing, Places, Status, Volume};

/// The volumes that were made for a container that is about to be.
#[derive(Debug, Default)]
pub(super) struct Made(Vec<PathBuf>);

impl Made {
    /// Makes what is to be mounted and is not there yet. What other containers have, and where the
    /// image wants to have volumes, comes to the rest. The caller has begun a creation.
    ///
    /// # Errors
    /// The disk is full, a place of the host's is not ours to make, or another container is gone.
    pub(super) fn make(&mut self, all: &Containers, container: &mut Container) -> Result<()> {
        let dirs = &all.dirs;
        for from in container.host.volumes_from.clone() {
            for mount in inherited(all, &from)? {
                if !is_taken(container, &mount.destination) {
                    container.mounts.push(mount);
                }
            }
        }
        let wanted: Vec<String> = container.config.volumes.keys().cloned().collect();
        for place in wanted {
            let place = inside(&place)?;
            if !is_taken(container, &place) {
                container.mounts.push(Volume {
                    r#type: "volume".to_owned(),
                    destination: place,
                    driver: "local".to_owned(),
                    writable: true,
                    anonymous: true,
                    ..Volume::default()
                });
            }
        }
        for mount in &mut container.mounts {
            match mount.r#type.as_str() {
                "volume" => self.ensure(dirs, mount)?,
                // With docker a place of the host's that is not there is made, too.
                "bind" if fs::symlink_metadata(&mount.source).is_err() => {
                    fs::create_dir_all(&mount.source)
                        .with_context(|| format!("make {}", mount.source))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn ensure(&mut self, dirs: &Dirs, mount: &mut Volume) -> Result<()> {
        let name = Some(mount.name.as_str()).filter(|name| !name.is_empty());
        let volume = LocalVolume::new(name, mount.labels.clone(), mount.options.clone())?;
        let is_new = name.is_none();
        let volume = volume.ensure(dirs)?;
        if is_new {
            self.0.push(volume.place(dirs));
        }
        let files = volume.files(dirs);
        ensure!(
            files.is_dir(),
            "the files of the volume {} are to be in {}, and that is no directory",
            volume.name,
            files.display()
        );
        mount.source = files.to_string_lossy().into_owned();
        mount.writable &= !volume.is_read_only();
        mount.name = volume.name;
        Ok(())
    }

    /// Removes the volumes without a name that were made: nobody else can know of them.
    ///
    /// # Errors
    /// What the file system refuses.
    pub(super) fn undo(&self) -> Result<()> {
        self.0.iter().try_for_each(|place| {
            images::remove_tree(place).with_context(|| format!("remove {}", place.display()))
        })
    }
}

/// Whether something else is mounted there.
fn is_taken(container: &Container, place: &str) -> bool {
    let mut mounts = container.mounts.iter();
    mounts.any(|mount| mount.destination == place) || container.host.tmpfs.contains_key(place)
}

/// What another container has mounted: `--volumes-from CONTAINER[:MODE]`. Nothing of the image is
/// copied there any more. Its state is read without its lock: a removal of it may have that, and wait
/// for us.
fn inherited(all: &Containers, from: &str) -> Result<Vec<Volume>> {
    let (name, mode) = from.split_once(':').unwrap_or((from, ""));
    let other = Places::of(&all.dirs, &all.id_of(name)?).read()?;
    ensure!(
        other.life.status != Status::Removing,
        Missing::container(name)
    );
    let read_only = mode.split(',').any(|word| word == "ro");
    let mounts = other.mounts.into_iter().map(|mount| Volume {
        writable: mount.writable && !read_only,
        mode: mode.to_owned(),
        no_copy: true,
        ..mount
    });
    Ok(mounts.collect())
}

/// Where an image wants to have a volume, without dots and double slashes.
fn inside(wanted: &str) -> Result<String> {
    let place = lexical::absolute(wanted);
    ensure!(
        place != "/",
        "the image wants a volume at {wanted:?}: destination can't be '/'"
    );
    Ok(place)
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
