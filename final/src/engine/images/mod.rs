//! The images at hand, and how they come and go.
//!
//! ```text
//! pull ──▶ ┌───────┐ ──▶ push          a registry
//! load ──▶ │ store │ ──▶ save          a file
//! import ─▶└───────┘ ──▶ rmi, prune    nothing
//! ```
//!
//! The store is step 5's. What changes it runs as the root of the images' files: without
//! privileges in a user namespace, and in any case in a process of its own, which Ctrl-C ends and
//! this one cleans up after.

mod at_once;
mod changes;
mod check;
mod commit;
mod history;
mod import;
mod prune;
mod pull;
mod push;
mod save;

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cli::Dirs;
use images::{Config, Digest, Image, ImageName, Platform, Removed, Store};
use namespaces::{Isolation, apart, as_root};
use rootfs::host;

use crate::shim;
use crate::state::journal::{self, Event, Kind};
use crate::state::{self, Places};

pub use check::Mending;
pub use commit::Commit;
pub use history::Step;
pub use import::Imported;
pub use pull::Pulled;
pub use save::Format;
pub(crate) use save::replace;

/// How far a layer is, on its way here or to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It will be fetched.
    PullingFsLayer,
    /// So many of its bytes are here.
    Downloading {
        /// In bytes.
        done: u64,
        /// In bytes.
        total: u64,
    },
    /// The connection broke, or the registry asked for patience.
    Retrying {
        /// How long it will be left alone.
        pause: Duration,
    },
    /// All of them are.
    DownloadComplete,
    /// So many of them are unpacked, too.
    Extracting {
        /// In bytes.
        done: u64,
        /// In bytes.
        total: u64,
    },
    /// It is in its place.
    PullComplete,
    /// It was there before.
    AlreadyExists,
    /// So many of its bytes have been read from a file.
    Loading {
        /// In bytes.
        done: u64,
        /// In bytes.
        total: u64,
    },
    /// It will be sent.
    Preparing,
    /// So many of its bytes are in the registry.
    Pushing {
        /// In bytes.
        done: u64,
        /// In bytes.
        total: u64,
    },
    /// All of it is.
    Pushed,
    /// The registry had it.
    LayerExists,
    /// The registry had it in another repository.
    MountedFrom(String),
}

/// Who wants to know how far layers are; called by several threads.
pub type Report<'a> = &'a (dyn Fn(&Digest, Stage) + Sync);

/// The image that is always there: made from this host's own programs.
const HOST: &str = "host";

/// The images of one user.
pub struct Images {
    store: Store,
    dirs: Dirs,
}

impl Images {
    /// Opens them, and sweeps out what dead commands left.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn open(dirs: &Dirs) -> Result<Self> {
        let images = Self {
            store: Store::open(&dirs.data)?,
            dirs: dirs.clone(),
        };
        images.sweep()?;
        Ok(images)
    }

    /// Opens them for a change, which is made as the root of their files. Returns the status that
    /// `change` ends with; 128 + the signal, where one ended it.
    ///
    /// # Errors
    /// What `change` fails with. What it was about to make is gone then.
    pub fn change(dirs: &Dirs, change: impl Fn(&Self) -> Result<u8>) -> Result<u8> {
        let images = Self::open(dirs)?;
        let changed = apart(&Isolation::users_only()?, || change(&images));
        if !matches!(changed, Ok(0)) {
            images.sweep()?;
        }
        changed
    }

    /// What a dead container left may belong to its users, whom only its root may sweep out.
    fn sweep(&self) -> Result<()> {
        let sweep = || self.store.sweep();
        sweep().or_else(|_| as_root(sweep))
    }

    /// All images, the newest first.
    ///
    /// # Errors
    /// The store cannot be read, or the default image not be made.
    pub fn list(&self) -> Result<Vec<Image>> {
        self.ensure_host()?;
        let mut all = self.store.images()?;
        all.sort_by_key(|image| std::cmp::Reverse(image.created()));
        Ok(all)
    }

    /// The image of a name, an id, or the beginning of an id that no other has.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn find(&self, what: &str) -> Result<Image> {
        if what.parse::<ImageName>().ok() == HOST.parse().ok() {
            self.ensure_host()?;
        }
        self.store.find(what)
    }

    /// Takes in the images of an archive or of a layout's directory that are for a platform, this
    /// machine's where none is given. What is returned has the names that it got now.
    ///
    /// # Errors
    /// Anything in it that isn't as announced, a full disk. Then everything is as it was.
    pub fn load(
        &self,
        source: &Path,
        platform: Option<&Platform>,
        report: Report<'_>,
    ) -> Result<Vec<Image>> {
        let here = Platform::here();
        let platform = platform.unwrap_or(&here);
        let loading = |blob: &Digest, done, total| report(blob, Stage::Loading { done, total });
        let loaded = self.store.load(source, None, platform, &loading)?;
        for image in &loaded {
            let id = image.id().to_string();
            let name = image.names().first();
            let name = name.map_or(id.clone(), ToString::to_string);
            self.tell("load", &id, &name);
        }
        Ok(loaded)
    }

    /// Gives an image another name.
    ///
    /// # Errors
    /// There is no such image; a name by digest is nobody's to give.
    pub fn tag(&self, what: &str, name: &ImageName) -> Result<()> {
        name.tag()
            .context("refusing to create a tag with a digest reference")?;
        let image = self.find(what)?;
        self.store.tag(&image, name, None)?;
        self.tell("tag", &image.id().to_string(), &name.to_string());
        Ok(())
    }

    /// Takes a name away, and with the last one the image. Of an image that a container needs,
    /// `force` takes the names alone.
    ///
    /// # Errors
    /// A container uses the image; an id whose image has names in several repositories, unless
    /// `force` is there to mean all of them.
    pub fn remove(&self, what: &str, force: bool) -> Result<Removed> {
        if force {
            self.refuse_running(what)?;
        }
        let id = self.store.find(what).map(|image| image.id().to_string());
        let removed = self.store.remove(what, force)?;
        shim::sweep_init_layers(&self.dirs)?;
        let id = id.unwrap_or_else(|_| what.to_owned());
        for _ in &removed.untagged {
            self.tell("untag", &id, &id);
        }
        if !removed.deleted.is_empty() {
            self.tell("delete", &id, &id);
        }
        Ok(removed)
    }

    /// Docker's rule: an id is not taken from below a container that runs, though a name may be.
    fn refuse_running(&self, what: &str) -> Result<()> {
        let Ok(image) = self.store.find(what) else {
            return Ok(());
        };
        let named = what.parse().is_ok_and(|name| image.names().contains(&name));
        if named {
            return Ok(());
        }
        for id in state::ids(&self.dirs)? {
            let Ok(container) = Places::of(&self.dirs, &id).read() else {
                continue;
            };
            ensure!(
                container.image != image.id().to_string() || !container.life.status.needs_shim(),
                "conflict: unable to delete {} (cannot be forced) - image is being used by running \
                 container {}",
                image.short_id(),
                container.short_id()
            );
        }
        Ok(())
    }

    /// For those who watch what happens.
    fn tell(&self, action: &str, id: &str, name: &str) {
        let event = Event::new(Kind::Image, action, id).with("name", name);
        journal::tell(&self.dirs, &event);
    }

    fn ensure_host(&self) -> Result<()> {
        if self.store.find(HOST).is_ok() {
            return Ok(());
        }
        let tree = self.dirs.data.join("rootfs");
        host::ensure(&tree)?;
        // Of several first commands at once, the others wait and then find it.
        let alone = File::open(&tree)?;
        alone.lock()?;
        if self.store.find(HOST).is_ok() {
            return Ok(());
        }
        let config = Config {
            cmd: vec!["sh".to_owned()],
            ..Config::default()
        };
        let name = HOST.parse()?;
        as_root(|| {
            self.store
                .import_dir(&tree, &name, config.clone())
                .map(drop)
        })
    }
}
