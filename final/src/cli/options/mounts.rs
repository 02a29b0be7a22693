//! `-v`, `--mount` and `--tmpfs`: what of elsewhere a container sees, and where.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::{Component, Path};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use minidocker::state::{Volume, is_name};

use super::{boolean, size};

/// What of elsewhere a container sees.
#[derive(Debug, Args)]
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
    /// A directory in memory
    #[arg(long, value_name = "DESTINATION[:OPTIONS]")]
    tmpfs: Vec<String>,
    /// Mount the root file system read-only
    #[arg(long)]
    read_only: bool,
}

/// What of it goes where in a container's configuration.
pub(super) struct Mounted {
    /// `-v` with a source, as it was written.
    pub(super) binds: Vec<String>,
    /// `--tmpfs`: the place and its options.
    pub(super) tmpfs: BTreeMap<String, String>,
    /// `-v` and `--mount`.
    pub(super) volumes: Vec<Volume>,
    pub(super) read_only: bool,
}

impl Mounts {
    /// # Errors
    /// Something makes no sense, or two are for one place.
    pub(super) fn read(self) -> Result<Mounted> {
        let mut mounted = Mounted {
            binds: Vec::new(),
            tmpfs: BTreeMap::new(),
            volumes: Vec::new(),
            read_only: self.read_only,
        };
        let mut places = BTreeSet::new();
        let mut take = |place: &str| {
            ensure!(
                places.insert(place.to_owned()),
                "Duplicate mount point: {place}"
            );
            Ok(())
        };
        for text in &self.mount {
            let volume = mount(text).with_context(|| format!("--mount {text}"))?;
            take(&volume.destination)?;
            mounted.volumes.push(volume);
        }
        for text in &self.volume {
            let volume = bind(text)?;
            take(&volume.destination)?;
            if !volume.anonymous {
                let mode = volume.mode.as_str();
                let name = match volume.r#type.as_str() {
                    "volume" => &volume.name,
                    _ => &volume.source,
                };
                let end = if mode.is_empty() { "" } else { ":" };
                let bind = format!("{name}:{}{end}{mode}", volume.destination);
                mounted.binds.push(bind);
            }
            mounted.volumes.push(volume);
        }
        for text in &self.tmpfs {
            let (place, options) = text.split_once(':').unwrap_or((text, ""));
            let place = destination(place).with_context(|| format!("--tmpfs {text}"))?;
            check_tmpfs(options)?;
            take(&place)?;
            mounted.tmpfs.insert(place, options.to_owned());
        }
        Ok(mounted)
    }
}

/// `-v [SOURCE:]DESTINATION[:OPTIONS]`.
fn bind(text: &str) -> Result<Volume> {
    let wrong = || format!("invalid volume specification: '{text}'");
    let parts: Vec<&str> = text.split(':').collect();
    let (from, to, mode) = match parts[..] {
        [to] => (None, to, ""),
        // What has no slash can be no place: `-v /data:ro` is an anonymous volume's.
        [to, mode] if to.starts_with('/') && is_mode(mode) => (None, to, mode),
        [from, to] => (Some(from), to, ""),
        [from, to, mode] => (Some(from), to, mode),
        _ => bail!(wrong()),
    };
    ensure!(from != Some(""), wrong());
    let mut volume = Volume {
        destination: destination(to).with_context(wrong)?,
        ..plain(from.is_some_and(is_path))
    };
    match from {
        None => volume.anonymous = true,
        Some(path) if is_path(path) => volume.source = absolute(path)?,
        Some(name) => volume.name = volume_name(name)?,
    }
    read_mode(&mut volume, mode).with_context(wrong)?;
    Ok(volume)
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

fn is_path(source: &str) -> bool {
    source.starts_with(['/', '.', '~'])
}

const PROPAGATIONS: [&str; 6] = [
    "shared", "rshared", "slave", "rslave", "private", "rprivate",
];

fn is_mode(text: &str) -> bool {
    let mut words = text.split(',');
    words.all(|word| {
        let others = [
            "ro",
            "rw",
            "z",
            "Z",
            "nocopy",
            "cached",
            "delegated",
            "consistent",
        ];
        others.contains(&word) || PROPAGATIONS.contains(&word)
    })
}

/// What comes after the second colon. Each kind of word may be there once. Labels for SELinux and
/// the caches of other systems mean nothing here, as with docker on such a machine.
fn read_mode(volume: &mut Volume, mode: &str) -> Result<()> {
    if mode.is_empty() {
        return Ok(());
    }
    let mut kinds = BTreeSet::new();
    for word in mode.split(',') {
        let kind = match word {
            "ro" | "rw" => "access",
            "z" | "Z" => "label",
            "nocopy" if volume.r#type == "volume" => "copy",
            "cached" | "delegated" | "consistent" => "consistency",
            _ if PROPAGATIONS.contains(&word) && volume.r#type == "bind" => "propagation",
            _ => bail!("invalid mode: {mode}"),
        };
        ensure!(kinds.insert(kind), "invalid mode: {mode}");
        match kind {
            "access" => volume.writable = word == "rw",
            "propagation" => word.clone_into(&mut volume.propagation),
            _ => {}
        }
    }
    mode.clone_into(&mut volume.mode);
    Ok(())
}

/// `--mount`.
fn mount(text: &str) -> Result<Volume> {
    let fields = fields(text)?;
    let kind = fields.iter().find(|(key, _)| key == "type");
    let kind = kind.map_or("volume", |(_, value)| value.as_str());
    match kind {
        "bind" | "volume" | "tmpfs" => {}
        other => bail!("mount type {other:?} is none of bind, volume and tmpfs"),
    }
    let mut volume = plain(kind == "bind");
    kind.clone_into(&mut volume.r#type);
    if kind == "tmpfs" {
        volume.driver.clear();
    }
    let mut options = Vec::new();
    for (key, value) in &fields {
        match (key.as_str(), kind) {
            ("type", _) => {}
            ("source" | "src", "bind") => volume.source = absolute(value)?,
            ("source" | "src", "volume") => volume.name = volume_name(value)?,
            ("source" | "src", _) => bail!("a tmpfs has no source"),
            ("target" | "dst" | "destination", _) => volume.destination = destination(value)?,
            ("readonly" | "ro", _) => volume.writable = !flag(key, value)?,
            ("consistency", _) => {}
            ("bind-propagation", "bind") => {
                let known = PROPAGATIONS.contains(&value.as_str());
                ensure!(known, "invalid propagation value: {value}");
                volume.propagation.clone_from(value);
            }
            // What is below is mounted too, as it is unless something else is asked for.
            ("bind-recursive", "bind") if value == "enabled" => {}
            ("bind-nonrecursive", "bind") if !flag(key, value)? => {}
            ("volume-nocopy", "volume") => {
                if flag(key, value)? {
                    "nocopy".clone_into(&mut volume.mode);
                }
            }
            ("volume-driver", "volume") if value == "local" => {}
            ("tmpfs-size", "tmpfs") => options.push(format!("size={}", size::bytes(value)?)),
            ("tmpfs-mode", "tmpfs") => {
                let mode = u32::from_str_radix(value, 8)
                    .ok()
                    .filter(|mode| *mode <= 0o7777);
                let mode = mode.with_context(|| format!("invalid value for {key}: {value}"))?;
                options.push(format!("mode={mode:o}"));
            }
            (key, kind) => check_key(key, value, kind)?,
        }
    }
    ensure!(!volume.destination.is_empty(), "target is required");
    if kind == "bind" {
        ensure!(
            !volume.source.is_empty(),
            "invalid mount config for type \"bind\": field Source must not be empty"
        );
        ensure!(
            Path::new(&volume.source).exists(),
            "invalid mount config for type \"bind\": bind source path does not exist: {}",
            volume.source
        );
    }
    if kind == "tmpfs" {
        volume.mode = options.join(",");
    }
    volume.anonymous = kind == "volume" && volume.name.is_empty();
    Ok(volume)
}

/// Why a key that docker may know is not taken.
fn check_key(key: &str, value: &str, kind: &str) -> Result<()> {
    let of = key.split_once('-').map_or("", |(of, _)| of);
    ensure!(
        ["bind", "volume", "tmpfs"].contains(&of),
        "unexpected key '{key}' in '{key}={value}'"
    );
    ensure!(
        of == kind,
        "cannot mix '{of}-*' options with mount type '{kind}'"
    );
    bail!("'{key}={value}' is not to be had here")
}

/// The fields of one line of comma-separated values (RFC 4180). A key alone is true.
fn fields(text: &str) -> Result<Vec<(String, String)>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let Some(field) = fields.last_mut() else {
            break;
        };
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => field.extend(rest.next()),
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    ensure!(!quoted, "a quotation mark is not closed");
    let pair = |field: &String| match field.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_ascii_lowercase(), value.to_owned())),
        None => {
            let key = field.trim().to_ascii_lowercase();
            let alone = ["readonly", "ro", "volume-nocopy", "bind-nonrecursive"];
            ensure!(
                alone.contains(&key.as_str()),
                "invalid field '{field}' must be a key=value pair"
            );
            Ok((key, "true".to_owned()))
        }
    };
    fields.iter().map(pair).collect()
}

fn flag(key: &str, value: &str) -> Result<bool> {
    boolean(value).with_context(|| format!("invalid value for {key}: {value}"))
}

/// A place in the container, without dots and double slashes.
fn destination(text: &str) -> Result<String> {
    ensure!(
        text.starts_with('/'),
        "invalid mount path: '{text}' mount path must be absolute"
    );
    let clean = clean(text);
    ensure!(
        clean != "/",
        "invalid specification: destination can't be '/'"
    );
    Ok(clean)
}

/// A place of the host as seen from here.
fn absolute(text: &str) -> Result<String> {
    if text.starts_with('/') {
        return Ok(clean(text));
    }
    let here = env::current_dir().context("find out the working directory")?;
    let path = here.join(text);
    let path = path
        .to_str()
        .context("the working directory's name is no text")?;
    Ok(clean(path))
}

fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => parts.extend(part.to_str()),
            Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    format!("/{}", parts.join("/"))
}

fn volume_name(name: &str) -> Result<String> {
    ensure!(
        is_name(name),
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use \
         absolute path"
    );
    Ok(name.to_owned())
}

/// What a tmpfs can be told (mount(8), tmpfs(5)).
fn check_tmpfs(options: &str) -> Result<()> {
    const WORDS: [&str; 20] = [
        "ro",
        "rw",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "exec",
        "noexec",
        "sync",
        "async",
        "dirsync",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "relatime",
        "norelatime",
        "strictatime",
        "nostrictatime",
        "private",
    ];
    const KEYS: [&str; 7] = [
        "size",
        "mode",
        "uid",
        "gid",
        "nr_inodes",
        "nr_blocks",
        "mpol",
    ];
    for option in options.split(',').filter(|_| !options.is_empty()) {
        let known = match option.split_once('=') {
            Some((key, value)) => KEYS.contains(&key) && !value.is_empty(),
            None => WORDS.contains(&option),
        };
        ensure!(known, "Invalid tmpfs option [{option:?}]");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(volume: &Volume) -> String {
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
    fn a_volume_s_source_is_a_path_a_name_or_nothing() {
        let here = env::current_dir().expect("here");
        let here = here.display();
        for (text, what) in [
            ("/a:/b", "bind /a -> /b rw".to_owned()),
            ("/a/../c//:/b/./d/:ro", "bind /c -> /b/d ro".to_owned()),
            ("./x:/b", format!("bind {here}/x -> /b rw")),
            (".:/b:rw,z", format!("bind {here} -> /b rw")),
            ("data:/b:nocopy", "volume data -> /b rw".to_owned()),
            ("/b", "volume  -> /b rw anonymous".to_owned()),
            ("/b:ro", "volume  -> /b ro anonymous".to_owned()),
            ("/a:/b:", "bind /a -> /b rw".to_owned()),
            ("/a:/b:ro,rslave", "bind /a -> /b ro".to_owned()),
        ] {
            assert_eq!(shown(&bind(text).expect(text)), what, "{text}");
        }
        assert_eq!(bind("/a:/b:ro,rslave").unwrap().propagation, "rslave");
    }

    #[test]
    fn a_volume_that_makes_no_sense_is_refused() {
        for (text, why) in [
            ("", "must be absolute"),
            ("b", "must be absolute"),
            (":/b", "invalid volume specification: ':/b'"),
            ("/a:", "must be absolute"),
            ("/a:b", "must be absolute"),
            ("/a:/", "destination can't be '/'"),
            ("/a:/b/..", "destination can't be '/'"),
            ("/a:/b:rx", "invalid mode: rx"),
            ("/a:/b:ro,rw", "invalid mode: ro,rw"),
            ("/a:/b:nocopy", "invalid mode: nocopy"),
            ("data:/b:rshared", "invalid mode: rshared"),
            ("/a:/b:ro:z", "invalid volume specification"),
            ("da ta:/b", "includes invalid characters"),
            ("a/b:/b", "includes invalid characters"),
        ] {
            let error = bind(text).expect_err(text);
            assert!(format!("{error:#}").contains(why), "{text}: {error:#}");
        }
    }

    #[test]
    fn a_mount_is_written_in_docker_s_keys() {
        for (text, what) in [
            ("type=bind,source=/,target=/b", "bind / -> /b rw"),
            ("type=bind,src=/,dst=/b,readonly", "bind / -> /b ro"),
            ("type=bind,src=/,destination=/b,ro=false", "bind / -> /b rw"),
            ("type=volume,src=data,target=/b", "volume data -> /b rw"),
            ("target=/b", "volume  -> /b rw anonymous"),
            (
                "type=tmpfs,target=/b,tmpfs-size=1m,tmpfs-mode=1770",
                "tmpfs  -> /b rw",
            ),
            ("type=bind,\"source=/,tmp/..\",target=/b", "bind / -> /b rw"),
        ] {
            assert_eq!(shown(&mount(text).expect(text)), what, "{text}");
        }
        let tmpfs = mount("type=tmpfs,target=/b,tmpfs-size=1m,tmpfs-mode=1770").unwrap();
        assert_eq!(tmpfs.mode, "size=1048576,mode=1770");
    }

    #[test]
    fn a_mount_that_makes_no_sense_is_refused() {
        for (text, why) in [
            ("", "must be a key=value pair"),
            ("type=bind,target=/b", "field Source must not be empty"),
            (
                "type=bind,source=/nonexistent,target=/b",
                "bind source path does not exist",
            ),
            ("type=bind,source=/", "target is required"),
            ("type=volume,target=b", "must be absolute"),
            ("type=image,target=/b", "none of bind, volume and tmpfs"),
            (
                "type=volume,target=/b,what=1",
                "unexpected key 'what' in 'what=1'",
            ),
            (
                "target=/b,bind-propagation=shared",
                "cannot mix 'bind-*' options with mount type 'volume'",
            ),
            ("target=/b,volume-driver=nfs", "not to be had"),
            (
                "target=/b,readonly=perhaps",
                "invalid value for readonly: perhaps",
            ),
            ("type=tmpfs,target=/b,source=/a", "no source"),
            (
                "type=tmpfs,target=/b,tmpfs-mode=9",
                "invalid value for tmpfs-mode",
            ),
            ("type=bind,\"source=/", "not closed"),
        ] {
            let error = mount(text).expect_err(text);
            assert!(format!("{error:#}").contains(why), "{text}: {error:#}");
        }
    }

    #[test]
    fn a_tmpfs_has_options_and_a_place_has_one_mount() {
        let mounts = |volume: &[&str], tmpfs: &[&str]| Mounts {
            volume: volume.iter().map(ToString::to_string).collect(),
            mount: Vec::new(),
            tmpfs: tmpfs.iter().map(ToString::to_string).collect(),
            read_only: false,
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
}
