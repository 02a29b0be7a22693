//! Volumes: directories that outlive the containers that see them.
//!
//! ```text
//! DATA/volumes/NAME/           locked (flock) by whoever fills it
//!     _data/                     what is mounted
//!     volume.json                what people said of it; one that was made by hand has none
//!     filling/ filled/           the image's files, on their way into _data
//! DATA/volumes/.NAME.DIGITS/   a volume on its way here, or out of here: then it is locked
//! ```
//!
//! A volume has its name when it is whole, and loses it before anything of it is removed. Which
//! containers it belongs to is written in their states alone. So whoever removes one has to know
//! that no container is being created meanwhile ([`Alone`]).

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use cli::Dirs;
use images::remove_tree;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::journal::{self, Event, Kind};
use super::{Container, Places, Status, VERSION, ids, is_id, is_name, names_in, new_id, parse};

/// The label of a volume that nobody gave a name: docker's.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// A volume of docker's driver `local`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalVolume {
    version: u32,
    /// What it is called.
    #[serde(skip)]
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// What people wrote on it.
    pub labels: BTreeMap<String, String>,
    /// `type`, `o` and `device`: where its files are, or what is mounted for it, if they are not in it.
    pub options: BTreeMap<String, String>,
}

/// What mount(8) would be told: `-t KIND -o WORDS DEVICE`.
#[derive(Debug, PartialEq, Eq)]
pub struct FileSystem<'a> {
    /// `tmpfs`, `nfs`, `ext4`, …
    pub kind: &'a str,
    /// What is mounted: with `tmpfs` any word.
    pub device: &'a str,
    /// The options.
    pub words: Vec<&'a str>,
}

/// Whether a volume of this type is a directory of the host.
fn is_directory(kind: &str) -> bool {
    ["", "none", "bind"].contains(&kind)
}

/// The directory of the volume that is called so.
#[must_use]
pub fn volume_place(dirs: &Dirs, name: &str) -> PathBuf {
    dirs.data.join("volumes").join(name)
}

impl LocalVolume {
    /// One that is to be. Without a name it gets one of 64 digits, and a label that says so.
    ///
    /// # Errors
    /// The name is none for a volume, or the options are none of docker's that are to be had here.
    pub fn new(
        name: Option<&str>,
        mut labels: BTreeMap<String, String>,
        options: BTreeMap<String, String>,
    ) -> Result<LocalVolume> {
        let name = match name {
            Some(name) => name.to_owned(),
            None => {
                labels.insert(ANONYMOUS.to_owned(), String::new());
                new_id()?
            }
        };
        ensure!(
            name.len() > 1,
            "create {name}: volume name is too short, names should be at least two alphanumeric characters"
        );
        ensure!(
            is_name(&name),
            "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, \
             use absolute path"
        );
        check(&options).with_context(|| format!("create {name}"))?;
        Ok(LocalVolume {
            version: VERSION,
            name,
            created: Timestamp::now(),
            labels,
            options,
        })
    }

    /// Makes it, unless one of that name is there: then it is that one. The caller has begun a
    /// [creation](begin_creation).
    ///
    /// # Errors
    /// The one that is there has its files elsewhere, or the disk is full.
    pub fn ensure(self, dirs: &Dirs) -> Result<LocalVolume> {
        for _ in 0..10 {
            if let Some(there) = Self::read(dirs, &self.name)? {
                ensure!(
                    self.options.is_empty() || self.options == there.options,
                    "create {}: volume name must be unique: the one that is there has other options",
                    self.name
                );
                fs::create_dir_all(there.place(dirs).join("_data"))
                    .with_context(|| format!("make the volume {}", self.name))?;
                return Ok(there);
            }
            if self
                .make(dirs)
                .with_context(|| format!("make the volume {}", self.name))?
            {
                let event = Event::new(Kind::Volume, "create", &self.name);
                journal::tell(dirs, &event.with("driver", "local"));
                return Ok(self);
            }
        }
        bail!(
            "{} is in the way of the volume {}",
            self.place(dirs).display(),
            self.name
        )
    }

    /// Makes it aside and gives it its name when it is whole; `false`: that is taken (rename(2)).
    fn make(&self, dirs: &Dirs) -> Result<bool> {
        let all = dirs.data.join("volumes");
        let mut private = DirBuilder::new();
        private
            .recursive(true)
            .mode(0o711)
            .create(&all)
            .with_context(|| format!("make {}", all.display()))?;
        let aside = all.join(beside(&self.name)?);
        let made = || -> Result<bool> {
            private.create(&aside)?;
            let data = aside.join("_data");
            fs::create_dir(&data)?;
            fs::set_permissions(&data, Permissions::from_mode(0o755))?;
            let mut file = File::create(aside.join("volume.json"))?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_data()?;
            match fs::rename(&aside, self.place(dirs)) {
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::DirectoryNotEmpty
                            | ErrorKind::AlreadyExists
                            | ErrorKind::NotADirectory
                    ) =>
                {
                    Ok(false)
                }
                renamed => Ok(renamed.map(|()| true)?),
            }
        };
        let made = made();
        if !matches!(made, Ok(true)) {
            let _ = remove_tree(&aside);
        }
        made
    }

    /// The volume of that name, if there is one.
    ///
    /// # Errors
    /// What is written of it is damaged.
    pub fn read(dirs: &Dirs, name: &str) -> Result<Option<LocalVolume>> {
        // It is somebody's words, and must not lead elsewhere.
        if !is_name(name) {
            return Ok(None);
        }
        let place = volume_place(dirs, name);
        let Some(found) = fs::metadata(&place).ok().filter(fs::Metadata::is_dir) else {
            return Ok(None);
        };
        let path = place.join("volume.json");
        let text = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let made = found.modified().ok().and_then(|made| made.try_into().ok());
                return Ok(Some(Self::unwritten(name, made.unwrap_or_default())));
            }
            text => text.with_context(|| format!("read {}", path.display()))?,
        };
        let help =
            format!("without it the volume {name} has no labels and no options, and all its files");
        let mut volume: LocalVolume = parse(&text, &path, &help)?;
        name.clone_into(&mut volume.name);
        Ok(Some(volume))
    }

    /// One of which only the directory tells.
    fn unwritten(name: &str, created: Timestamp) -> LocalVolume {
        let anonymous = is_id(name).then(|| (ANONYMOUS.to_owned(), String::new()));
        LocalVolume {
            version: VERSION,
            name: name.to_owned(),
            created,
            labels: anonymous.into_iter().collect(),
            options: BTreeMap::new(),
        }
    }

    /// All volumes, by their names. Of one whose file is damaged a note tells, and it has no labels.
    ///
    /// # Errors
    /// Their directory cannot be read.
    pub fn all(dirs: &Dirs) -> Result<Vec<LocalVolume>> {
        let mut all = Vec::new();
        for name in Self::names(dirs)? {
            match Self::read(dirs, &name) {
                Ok(volume) => all.extend(volume),
                Err(error) => {
                    tracing::warn!("{error:#}");
                    all.push(LocalVolume {
                        labels: BTreeMap::new(),
                        ..Self::unwritten(&name, Timestamp::default())
                    });
                }
            }
        }
        Ok(all)
    }

    /// What all volumes are called, in order.
    ///
    /// # Errors
    /// Their directory cannot be read.
    pub fn names(dirs: &Dirs) -> Result<Vec<String>> {
        let mut names = names_in(&dirs.data.join("volumes"))?;
        names.retain(|name| is_name(name));
        names.sort_unstable();
        Ok(names)
    }

    /// Whether nobody gave it a name.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS)
    }

    /// Its directory, with `_data` in it.
    #[must_use]
    pub fn place(&self, dirs: &Dirs) -> PathBuf {
        volume_place(dirs, &self.name)
    }

    /// Where its files are, or are mounted by those who use it.
    #[must_use]
    pub fn files(&self, dirs: &Dirs) -> PathBuf {
        match self.options.get("device") {
            Some(device) if self.file_system().is_none() => PathBuf::from(device),
            _ => self.place(dirs).join("_data"),
        }
    }

    /// What is to be mounted for it, if its files are in no directory of the host.
    #[must_use]
    pub fn file_system(&self) -> Option<FileSystem<'_>> {
        let option = |key| self.options.get(key).map_or("", String::as_str);
        let words = option("o").split(',').filter(|word| !word.is_empty());
        match option("type") {
            kind if is_directory(kind) => None,
            kind => Some(FileSystem {
                kind,
                device: option("device"),
                words: words.collect(),
            }),
        }
    }

    /// What is locked by who has its only file system, where no two can have the same.
    #[must_use]
    pub fn description(&self, dirs: &Dirs) -> PathBuf {
        self.place(dirs).join("volume.json")
    }

    /// Whether its files may not be written to, whatever a container asks for.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        let words = self.options.get("o").map(String::as_str);
        words.is_some_and(|words| words.split(',').any(|word| word == "ro"))
    }
}

/// What mount(8) would do is done for the containers that use it; what that needs of the host, they say.
fn check(options: &BTreeMap<String, String>) -> Result<()> {
    for key in options.keys() {
        let known = ["type", "o", "device"].contains(&key.as_str());
        ensure!(known, "invalid option: {key:?}");
    }
    if options.is_empty() {
        return Ok(());
    }
    let option = |key| options.get(key).map_or("", String::as_str);
    let (kind, device) = (option("type"), option("device"));
    ensure!(!device.is_empty(), "missing required option: \"device\"");
    let words: Vec<&str> = option("o").split(',').collect();
    let is_bind = words.iter().any(|word| ["bind", "rbind"].contains(word));
    if !is_directory(kind) {
        let changes = words
            .iter()
            .find(|word| ["bind", "rbind", "remount", "move"].contains(*word));
        return match changes {
            Some(word) => bail!("o={word}: that is no way to mount type={kind}"),
            None => Ok(()),
        };
    }
    ensure!(
        device.starts_with('/'),
        "device={device}: the path must be absolute"
    );
    ensure!(is_bind, "missing in option \"o\": bind");
    for word in words {
        let known = ["bind", "rbind", "ro", "rw"].contains(&word);
        ensure!(
            known,
            "o={word}: there are bind, rbind, ro and rw for a directory"
        );
    }
    Ok(())
}

/// A name that no volume has.
fn beside(name: &str) -> Result<String> {
    let digits = new_id()?;
    Ok(format!(".{name}.{}", digits.get(..16).unwrap_or(&digits)))
}

/// Begins to create something that takes volumes: nobody removes one until this is dropped.
///
/// # Errors
/// The lock cannot be had.
pub fn begin_creation(dirs: &Dirs) -> Result<File> {
    let names = names(dirs)?;
    names.lock_shared().context("lock the names")?;
    Ok(names)
}

fn names(dirs: &Dirs) -> Result<File> {
    let place = dirs.data.join("names");
    fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
    File::open(&place).with_context(|| format!("open {}", place.display()))
}

/// The right to remove volumes: nobody creates a container meanwhile. Whoever has it waits for no
/// container's lock, for whoever has that may be waiting for this.
#[derive(Debug)]
pub struct Alone<'d> {
    dirs: &'d Dirs,
    _names: File,
    /// The ids of the containers that each volume belongs to, by the volumes' names.
    pub users: BTreeMap<String, Vec<String>>,
}

impl Alone<'_> {
    /// Waits for those who create containers.
    ///
    /// # Errors
    /// A container's state is damaged, so that nobody knows what it needs.
    pub fn wait(dirs: &Dirs) -> Result<Alone<'_>> {
        let names = names(dirs)?;
        names.lock().context("lock the names")?;
        Ok(Alone {
            dirs,
            _names: names,
            users: users(dirs)?,
        })
    }

    /// Takes volumes out of their places, and what others took who were killed then. What is
    /// returned has to be [removed](Leaving::remove), when others may create containers again.
    ///
    /// # Errors
    /// Somebody has mounted something there, or the disk is read-only.
    pub fn take_out(self, volumes: &[&str]) -> Result<Leaving> {
        let all = self.dirs.data.join("volumes");
        let mut leaving = Leaving::default();
        for entry in names_in(&all)? {
            if entry.starts_with('.') {
                leaving.add(&all.join(entry))?;
            }
        }
        for name in volumes {
            let place = all.join(name);
            refuse_mounts(&place)?;
            let aside = all.join(beside(name)?);
            fs::rename(&place, &aside).with_context(|| format!("remove {}", place.display()))?;
            leaving.add(&aside)?;
            let event = Event::new(Kind::Volume, "destroy", name);
            journal::tell(self.dirs, &event.with("driver", "local"));
        }
        Ok(leaving)
    }
}

/// The containers of each volume. It is read without a container's lock.
fn users(dirs: &Dirs) -> Result<BTreeMap<String, Vec<String>>> {
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for id in ids(dirs)? {
        let places = Places::of(dirs, &id);
        let container = match places.read() {
            Ok(container) => container,
            // It was never finished, or is gone by now.
            Err(_) if !places.state().exists() => continue,
            Err(error) => {
                let what = format!("find out which volumes container {id} needs");
                return Err(error.context(what));
            }
        };
        // It never runs again.
        if container.life.status == Status::Removing {
            continue;
        }
        for mount in container.mounts.iter().filter(|it| !it.name.is_empty()) {
            let users = users.entry(mount.name.clone()).or_default();
            if !users.contains(&id) {
                users.push(id.clone());
            }
        }
    }
    Ok(users)
}

/// What an administrator has mounted in a volume is not the volume's.
fn refuse_mounts(place: &Path) -> Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
    // proc_pid_mountinfo(5): the fifth field is where it is mounted.
    let mut points = table.lines().filter_map(|line| line.split(' ').nth(4));
    match points.find(|point| Path::new(point).starts_with(place)) {
        Some(point) => bail!("something is mounted at {point}; unmount it first"),
        None => Ok(()),
    }
}

/// Volumes that nobody finds any more.
#[derive(Debug, Default)]
pub struct Leaving(Vec<(PathBuf, Option<File>)>);

impl Leaving {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Unless somebody else is at it.
    fn add(&mut self, place: &Path) -> Result<()> {
        // Somebody may have kept a link here, or a file.
        if !fs::symlink_metadata(place).is_ok_and(|found| found.is_dir()) {
            self.0.push((place.to_owned(), None));
            return Ok(());
        }
        let directory = File::open(place).with_context(|| format!("open {}", place.display()))?;
        if directory.try_lock().is_ok() {
            self.0.push((place.to_owned(), Some(directory)));
        }
        Ok(())
    }

    /// Removes them. Whoever does it must be the root of their files.
    ///
    /// # Errors
    /// What the file system refuses; what is left goes with the next.
    pub fn remove(&self) -> Result<()> {
        self.0.iter().try_for_each(|(place, _)| {
            remove_tree(place).with_context(|| format!("remove {}", place.display()))
        })
    }
}

/// Removes those of a container's volumes that were made for it alone, unless another one shares
/// them. Whoever does it must be the root of their files.
///
/// # Errors
/// What the file system refuses.
pub fn remove_anonymous(dirs: &Dirs, container: &Container) -> Result<()> {
    let mounts = container.mounts.iter().filter(|mount| mount.anonymous);
    let mut names: Vec<&str> = mounts.map(|mount| mount.name.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let alone = match Alone::wait(dirs) {
        Ok(alone) => alone,
        Err(error) => {
            tracing::warn!("anonymous volumes stay: {error:#}");
            return Ok(());
        }
    };
    let is_others = |id: &String| *id != container.id;
    names.retain(|name| {
        let users = alone.users.get(*name);
        let shared = users.is_some_and(|ids| ids.iter().any(is_others));
        !shared && volume_place(dirs, name).exists()
    });
    alone.take_out(&names)?.remove()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Life, Volume};

    struct Scratch(Dirs);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let place = std::env::temp_dir().join(format!("volumes-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&place);
            Scratch(Dirs {
                data: place.join("data"),
                run: place.join("run"),
            })
        }

        fn make(&self, name: &str, options: &[(&str, &str)]) -> Result<LocalVolume> {
            LocalVolume::new(Some(name), BTreeMap::new(), map(options))?.ensure(&self.0)
        }

        fn entries(&self) -> Vec<String> {
            let mut all = names_in(&self.0.data.join("volumes")).expect("list");
            all.sort_unstable();
            all
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(self.0.data.parent().unwrap_or(&self.0.data));
        }
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn a_volume_is_made_once_and_keeps_its_options() {
        let scratch = Scratch::new("once");
        let made = scratch.make("data", &[]).expect("make");
        fs::write(made.files(&scratch.0).join("file"), "text").expect("write");
        assert_eq!(scratch.make("data", &[]).expect("again"), made);
        assert!(made.files(&scratch.0).join("file").exists());
        let elsewhere = [("type", "none"), ("o", "bind,ro"), ("device", "/srv")];
        let error = scratch.make("data", &elsewhere).expect_err("other options");
        assert!(error.to_string().contains("must be unique"), "{error:#}");
        let there = scratch.make("there", &elsewhere).expect("elsewhere");
        assert_eq!(there.files(&scratch.0), Path::new("/srv"));
        assert!(there.is_read_only() && !made.is_read_only());
        assert_eq!(scratch.make("there", &[]).expect("as it is"), there);
        assert_eq!(scratch.entries(), ["data", "there"]);
    }

    #[test]
    fn a_directory_counts_and_what_is_damaged_is_named() {
        let scratch = Scratch::new("counts");
        let digits = "a".repeat(64);
        for name in ["hand", &digits, ".hidden", "bad name"] {
            fs::create_dir_all(volume_place(&scratch.0, name)).expect("make");
        }
        let torn = scratch.make("torn", &[]).expect("make");
        fs::write(torn.place(&scratch.0).join("volume.json"), "{\"ver").expect("tear");
        let all = LocalVolume::all(&scratch.0).expect("all");
        let names: Vec<_> = all
            .iter()
            .map(|it| (it.name.as_str(), it.is_anonymous()))
            .collect();
        assert_eq!(names, [(&*digits, true), ("hand", false), ("torn", false)]);
        let error = scratch.make("torn", &[]).expect_err("damaged");
        assert!(format!("{error:#}").contains("is damaged"), "{error:#}");
        scratch.make("hand", &[]).expect("hand");
        assert!(volume_place(&scratch.0, "hand").join("_data").is_dir());
        assert!(
            LocalVolume::read(&scratch.0, "nobody")
                .expect("read")
                .is_none()
        );
    }

    #[test]
    fn a_volume_s_files_are_in_it_or_elsewhere_or_mounted() {
        let dirs = Dirs {
            data: "/d".into(),
            run: "/r".into(),
        };
        let volume = |options: &[(&str, &str)]| {
            LocalVolume::new(Some("data"), BTreeMap::new(), map(options)).expect("a volume")
        };
        let own = volume(&[]);
        assert_eq!(own.files(&dirs), Path::new("/d/volumes/data/_data"));
        let bound = volume(&[("type", "none"), ("o", "bind,ro"), ("device", "/x")]);
        assert_eq!(bound.files(&dirs), Path::new("/x"));
        assert!(bound.is_read_only() && bound.file_system().is_none());
        let share = volume(&[("type", "nfs"), ("o", "addr=nas,,rw"), ("device", ":/x")]);
        assert_eq!(share.files(&dirs), own.files(&dirs));
        let wanted = FileSystem {
            kind: "nfs",
            device: ":/x",
            words: vec!["addr=nas", "rw"],
        };
        assert_eq!(share.file_system(), Some(wanted));
    }

    #[test]
    fn what_no_volume_can_be_is_refused() {
        for (name, options, why) in [
            ("a", &[][..], "too short"),
            ("a/b", &[], "includes invalid characters"),
            ("data", &[("size", "1m")], "invalid option: \"size\""),
            (
                "data",
                &[("type", "none")],
                "missing required option: \"device\"",
            ),
            (
                "data",
                &[("type", "tmpfs")],
                "missing required option: \"device\"",
            ),
            (
                "data",
                &[("type", "nfs"), ("device", ":/x"), ("o", "remount")],
                "that is no way to mount type=nfs",
            ),
            (
                "data",
                &[("o", "bind"), ("device", "srv")],
                "must be absolute",
            ),
            (
                "data",
                &[("device", "/srv")],
                "missing in option \"o\": bind",
            ),
            (
                "data",
                &[("o", "bind,uid=1"), ("device", "/srv")],
                "o=uid=1",
            ),
        ] {
            let made = LocalVolume::new(Some(name), BTreeMap::new(), map(options));
            let error = made.expect_err(why);
            assert!(format!("{error:#}").contains(why), "{error:#}");
        }
    }

    fn container(digit: char, names: &[&str]) -> Container {
        let mount = |name: &&str| Volume {
            r#type: "volume".to_owned(),
            name: (*name).to_owned(),
            anonymous: true,
            ..Volume::default()
        };
        Container {
            version: 1,
            id: digit.to_string().repeat(64),
            name: String::new(),
            created: Timestamp::now(),
            image: String::new(),
            config: Default::default(),
            host: Default::default(),
            mounts: names.iter().map(mount).collect(),
            life: Life::default(),
        }
    }

    #[test]
    fn an_anonymous_volume_stays_while_another_container_has_it() {
        let scratch = Scratch::new("shared");
        let [one, two] = [container('1', &["own", "both"]), container('2', &["both"])];
        for container in [&one, &two] {
            let places = Places::of(&scratch.0, &container.id);
            fs::create_dir_all(&places.data).expect("make");
            let text = serde_json::to_vec(container).expect("write");
            fs::write(places.state(), text).expect("write");
        }
        for name in ["own", "both", "named"] {
            scratch.make(name, &[]).expect("make");
        }
        // What somebody left who was killed goes as well, unless somebody else is at it.
        for name in [".old.1", ".busy.2"] {
            fs::create_dir(volume_place(&scratch.0, name)).expect("make");
        }
        let busy = File::open(volume_place(&scratch.0, ".busy.2")).expect("open");
        busy.lock().expect("lock");
        remove_anonymous(&scratch.0, &one).expect("remove");
        assert_eq!(scratch.entries(), [".busy.2", "both", "named"]);

        fs::write(Places::of(&scratch.0, &two.id).state(), "{").expect("damage");
        assert!(Alone::wait(&scratch.0).is_err());
        remove_anonymous(&scratch.0, &one).expect("leave it");
        fs::remove_file(Places::of(&scratch.0, &two.id).state()).expect("undo");
        remove_anonymous(&scratch.0, &one).expect("remove");
        assert_eq!(scratch.entries(), [".busy.2", "named"]);
    }
}
