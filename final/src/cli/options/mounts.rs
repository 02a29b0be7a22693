//! `-v`, `--mount`, `--tmpfs` and `--volumes-from`: what of elsewhere a container sees, and where.

mod bind;
mod mount;

use std::collections::{BTreeMap, BTreeSet};
use std::env;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use minidocker::engine::lexical;
use minidocker::state::Volume;

/// What of elsewhere a container sees.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Files")]
pub(super) struct Mounts {
    /// Share a file or directory of the host, or keep a directory in a volume
    #[arg(
        short,
        long,
        value_name = "[SOURCE:]DESTINATION[:OPTIONS]",
        allow_hyphen_values = true
    )]
    volume: Vec<String>,
    /// The same, written as type=bind,source=PATH,target=PATH[,readonly]; also volume and tmpfs
    #[arg(long, value_name = "KEY=VALUE,…")]
    mount: Vec<String>,
    /// Mount what another container has mounted
    #[arg(long, value_name = "CONTAINER[:ro]")]
    volumes_from: Vec<String>,
    /// A directory in memory
    #[arg(long, value_name = "DESTINATION[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Mount the root file system read-only
    #[arg(long)]
    read_only: bool,
}

/// What of it goes where in a container's configuration.
#[derive(Default)]
pub(super) struct Mounted {
    /// `-v` with a source, as it was written.
    pub(super) binds: Vec<String>,
    /// `--tmpfs`: the place and its options.
    pub(super) tmpfs: BTreeMap<String, String>,
    /// `-v` and `--mount`.
    pub(super) volumes: Vec<Volume>,
    /// `--volumes-from`.
    pub(super) volumes_from: Vec<String>,
    pub(super) read_only: bool,
}

impl Mounts {
    /// # Errors
    /// Something makes no sense, or two are for one place.
    pub(super) fn read(self) -> Result<Mounted> {
        let mut mounted = Mounted {
            read_only: self.read_only,
            ..Mounted::default()
        };
        for text in &self.mount {
            let volume = mount::read(text).with_context(|| format!("--mount {text}"))?;
            mounted.volumes.push(volume);
        }
        for text in &self.volume {
            let volume = bind::read(text)?;
            mounted.binds.extend(bind::shown(&volume));
            mounted.volumes.push(volume);
        }
        let mut places: Vec<_> = mounted
            .volumes
            .iter()
            .map(|it| it.destination.clone())
            .collect();
        for text in &self.tmpfs {
            let (place, options) = text.split_once(':').unwrap_or((text, ""));
            let place = destination(place).with_context(|| format!("--tmpfs {text}"))?;
            check_tmpfs(options)?;
            mounted.tmpfs.insert(place.clone(), options.to_owned());
            places.push(place);
        }
        let mut taken = BTreeSet::new();
        for place in places {
            ensure!(!taken.contains(&place), "Duplicate mount point: {place}");
            taken.insert(place);
        }
        self.volumes_from
            .iter()
            .try_for_each(|from| check_from(from))?;
        mounted.volumes_from = self.volumes_from;
        Ok(mounted)
    }
}

/// A volume or, with a `path` on the host, a bind mount.
fn plain(path: bool) -> Volume {
    Volume {
        r#type: if path { "bind" } else { "volume" }.to_owned(),
        driver: if path { "" } else { "local" }.to_owned(),
        writable: true,
        ..Volume::default()
    }
}

const PROPAGATIONS: [&str; 6] = [
    "shared", "rshared", "slave", "rslave", "private", "rprivate",
];

/// A place in the container, without dots and double slashes.
fn destination(text: &str) -> Result<String> {
    ensure!(
        text.starts_with('/'),
        "invalid mount path: '{text}' mount path must be absolute"
    );
    let clean = lexical::absolute(text);
    ensure!(
        clean != "/",
        "invalid specification: destination can't be '/'"
    );
    Ok(clean)
}

/// A place of the host as seen from here.
fn absolute(text: &str) -> Result<String> {
    if text.starts_with('/') {
        return Ok(lexical::absolute(text));
    }
    let here = env::current_dir().context("find out the working directory")?;
    let path = here.join(text);
    let path = path
        .to_str()
        .context("the working directory's name is no text")?;
    Ok(lexical::absolute(path))
}

/// `--volumes-from CONTAINER[:MODE]`.
fn check_from(text: &str) -> Result<()> {
    let (container, mode) = text.split_once(':').unwrap_or((text, "rw"));
    ensure!(
        !container.is_empty(),
        "volumes-from specification cannot be an empty string"
    );
    match mode {
        "ro" | "rw" | "z" | "Z" | "ro,z" | "ro,Z" | "rw,z" | "rw,Z" => Ok(()),
        _ => bail!("invalid mode: {mode}"),
    }
}

/// What a tmpfs can be told (mount(8), tmpfs(5)).
fn check_tmpfs(options: &str) -> Result<()> {
    for option in options.split(',').filter(|_| !options.is_empty()) {
        let known = match option.split_once('=') {
            Some(("size" | "mode" | "uid" | "gid" | "nr_inodes" | "nr_blocks" | "mpol", value)) => {
                !value.is_empty()
            }
            Some(_) => false,
            None => is_flag(option),
        };
        ensure!(known, "Invalid tmpfs option [{option:?}]");
    }
    Ok(())
}

fn is_flag(word: &str) -> bool {
    match word.strip_prefix("no").unwrap_or(word) {
        "suid" | "dev" | "exec" | "atime" | "diratime" | "relatime" | "strictatime" => true,
        _ => ["ro", "rw", "sync", "async", "dirsync", "private"].contains(&word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn told(volume: &Volume) -> String {
        format!(
            "{} {}{} -> {} {}{}",
            volume.r#type,
            volume.source,
            volume.name,
            volume.destination,
            if volume.writable { "rw" } else { "ro" },
            if volume.anonymous { " anonymous" } else { "" },
        )
    }

    #[test]
    fn a_tmpfs_has_options_and_a_place_has_one_mount() {
        let own = |all: &[&str]| all.iter().map(ToString::to_string).collect();
        let mounts = |volume: &[&str], tmpfs: &[&str]| Mounts {
            volume: own(volume),
            tmpfs: own(tmpfs),
            ..Mounts::default()
        };
        let mounted = mounts(&["d1:/b", "/c"], &["/a:size=1m,ro"])
            .read()
            .expect("read");
        assert_eq!(mounted.binds, ["d1:/b"]);
        assert_eq!(mounted.volumes.len(), 2);
        assert_eq!(
            mounted.tmpfs.get("/a").map(String::as_str),
            Some("size=1m,ro")
        );
        for (volume, tmpfs, why) in [
            (
                &["/x:/a", "/y:/a/"][..],
                &[][..],
                "Duplicate mount point: /a",
            ),
            (&["/x:/a"], &["/a"], "Duplicate mount point: /a"),
            (&[], &["/a:sice=1"], "Invalid tmpfs option [\"sice=1\"]"),
            (&[], &["a"], "must be absolute"),
        ] {
            let error = mounts(volume, tmpfs).read().err().expect(why);
            assert!(format!("{error:#}").contains(why), "{error:#}");
        }
    }

    #[test]
    fn mounts_are_taken_from_a_container_as_they_are_or_read_only() {
        let read = |text: &str| {
            let volumes_from = vec![text.to_owned()];
            let mounts = Mounts {
                volumes_from,
                ..Mounts::default()
            };
            mounts.read().map(|mounted| mounted.volumes_from)
        };
        for text in ["db", "db:ro", "db:rw,z"] {
            assert_eq!(read(text).expect(text), [text]);
        }
        for (text, why) in [
            ("", "cannot be an empty string"),
            (":ro", "cannot be an empty string"),
            ("db:", "invalid mode: "),
            ("db:nocopy", "invalid mode: nocopy"),
            ("db:rslave", "invalid mode: rslave"),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
