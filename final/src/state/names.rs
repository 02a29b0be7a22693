//! Names: `DATA/names/NAME` holds the id of the container that is called so.
//!
//! A file is made or it exists, so two containers cannot get one name; and to find a container by
//! its name no other's state is read. Whoever makes one holds its lock (flock) until the container
//! is there; a file whose container is not there, and that nobody has locked, is free to be taken.

use std::fs::{self, File};
use std::io::{ErrorKind, Write, read_to_string};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use cli::Dirs;

use super::{Places, is_at, is_id, names_in};

/// Docker's rule for what people call containers and volumes.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let begins = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    begins && (2..=255).contains(&name.len()) && name.bytes().all(allowed)
}

/// A container's name as it is kept: without the slash that docker writes before it.
///
/// # Errors
/// It is none.
pub fn check_name(name: &str) -> Result<&str> {
    let name = name.strip_prefix('/').unwrap_or(name);
    ensure!(
        is_name(name),
        "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    );
    Ok(name)
}

/// The names of all containers.
#[derive(Debug)]
pub struct Names {
    dirs: Dirs,
    place: PathBuf,
}

impl Names {
    /// Those in the directories.
    ///
    /// # Errors
    /// Their place cannot be made.
    pub fn open(dirs: &Dirs) -> Result<Names> {
        let place = dirs.data.join("names");
        fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
        Ok(Names {
            dirs: dirs.clone(),
            place,
        })
    }

    /// Who is called so, if anybody is.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn get(&self, name: &str) -> Result<Option<String>> {
        // It is somebody's words, and must not lead elsewhere.
        if !is_name(name) {
            return Ok(None);
        }
        let path = self.place.join(name);
        match fs::read_to_string(&path) {
            Ok(id) => Ok(Some(id.trim().to_owned()).filter(|id| is_id(id))),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// All names, in no order; whom they lead to is another question.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn all(&self) -> Result<Vec<String>> {
        let mut names = names_in(&self.place)?;
        // What begins with a dot is on its way.
        names.retain(|name| !name.starts_with('.'));
        Ok(names)
    }

    /// Gives the name to the container `id`. What is returned is to be held until the container is
    /// there and calls itself so: up to then it looks like one that is gone.
    ///
    /// # Errors
    /// Another one has it.
    pub fn take(&self, name: &str, id: &str) -> Result<File> {
        let path = self.place.join(name);
        for _ in 0..10 {
            match self.make(&path, id) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => return made.with_context(|| format!("write {}", path.display())),
            }
            let Ok(file) = File::open(&path) else {
                continue;
            };
            let other = read_to_string(&file).unwrap_or_default();
            let other = other.trim();
            if other == id {
                return Ok(file);
            }
            ensure!(
                file.try_lock().is_ok() && !self.is_called(other, name),
                "Conflict. The container name \"/{name}\" is already in use by container \"{other}\". \
                 You have to remove (or rename) that container to be able to reuse that name."
            );
            // Of one that is gone. With the lock in our hands nobody else is about to remove it.
            remove(&file, &path)?;
        }
        bail!("the name {name} changes hands too quickly")
    }

    /// Written and locked aside and then linked, so that nobody finds an empty file, or a free one.
    fn make(&self, path: &Path, id: &str) -> std::io::Result<File> {
        let aside = self.place.join(format!(".{id}"));
        let made = File::create(&aside).and_then(|mut file| {
            file.write_all(id.as_bytes())?;
            file.lock()?;
            fs::hard_link(&aside, path)?;
            Ok(file)
        });
        let _ = fs::remove_file(&aside);
        made
    }

    /// Takes the name away, if it is this container's. What [`take`](Self::take) returned must not
    /// be held any more.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn give_back(&self, name: &str, id: &str) -> Result<()> {
        let path = self.place.join(name);
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            file => file.with_context(|| format!("open {}", path.display()))?,
        };
        if read_to_string(&file).is_ok_and(|other| other.trim() == id) {
            file.lock()
                .with_context(|| format!("lock {}", path.display()))?;
            remove(&file, &path)?;
        }
        Ok(())
    }

    /// Takes away the names of containers that are not `there`: whoever was about to create them was
    /// killed.
    ///
    /// # Errors
    /// The names cannot be read.
    pub fn sweep(&self, there: &[String]) -> Result<()> {
        let names = names_in(&self.place)?;
        if names.len() <= there.len() {
            return Ok(());
        }
        // Whoever creates a container has taken its name first, and holds this lock, shared.
        let place =
            File::open(&self.place).with_context(|| format!("open {}", self.place.display()))?;
        if place.try_lock().is_err() {
            return Ok(());
        }
        for name in names {
            let file = self.place.join(name);
            let id = fs::read_to_string(&file).unwrap_or_default();
            if !is_id(id.trim()) || !Places::of(&self.dirs, id.trim()).data.exists() {
                // A disk that is read-only keeps them.
                let _ = fs::remove_file(&file);
            }
        }
        Ok(())
    }

    /// Whether a container is there that calls itself so, or is about to be.
    fn is_called(&self, id: &str, name: &str) -> bool {
        let places = Places::of(&self.dirs, id);
        match places.read() {
            _ if !is_id(id) => false,
            Ok(container) => container.name == name,
            // It is being made, or damaged: either way the name is not free.
            Err(_) => places.data.exists(),
        }
    }
}

/// Removes the file of a name, whose lock we have, unless there is another in its place by now.
fn remove(file: &File, path: &Path) -> Result<()> {
    let removed = match is_at(file, path) {
        Ok(true) => fs::remove_file(path),
        looked => looked.map(drop),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("remove {}", path.display())),
    }
}
