//! `-v [SOURCE:]DESTINATION[:OPTIONS]`.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use minidocker::state::Volume;

use super::{PROPAGATIONS, absolute, destination, plain};

pub(super) fn read(text: &str) -> Result<Volume> {
    let wrong = || format!("invalid volume specification: '{text}'");
    let parts: Vec<&str> = text.split(':').collect();
    let (from, to, mode) = match parts[..] {
        [to] => (None, to, ""),
        // What has no slash can be no place: `-v /data:ro` is an anonymous volume's.
        [to, mode] if to.starts_with('/') && mode.split(',').all(|it| kind(it).is_some()) => {
            (None, to, mode)
        }
        [from, to] => (Some(from), to, ""),
        [from, to, mode] => (Some(from), to, mode),
        _ => bail!(wrong()),
    };
    ensure!(from != Some(""), wrong());
    let is_path = |source: &str| source.starts_with(['/', '.', '~']);
    let mut volume = Volume {
        destination: destination(to).with_context(wrong)?,
        ..plain(from.is_some_and(is_path))
    };
    match from {
        None => volume.anonymous = true,
        Some(path) if is_path(path) => volume.source = absolute(path)?,
        Some(name) => name.clone_into(&mut volume.name),
    }
    set_mode(&mut volume, mode).with_context(wrong)?;
    Ok(volume)
}

/// As docker keeps it among a container's `Binds`; a volume without a name is not there.
pub(super) fn shown(volume: &Volume) -> Option<String> {
    let source = match volume.r#type.as_str() {
        "volume" => &volume.name,
        _ => &volume.source,
    };
    let mode = volume.mode.as_str();
    let end = if mode.is_empty() { "" } else { ":" };
    (!volume.anonymous).then(|| format!("{source}:{}{end}{mode}", volume.destination))
}

/// What a word after the second colon is about. Labels for SELinux and the caches of other systems
/// mean nothing here, as with docker on such a machine.
fn kind(word: &str) -> Option<&'static str> {
    match word {
        "ro" | "rw" => Some("access"),
        "z" | "Z" => Some("label"),
        "nocopy" => Some("copy"),
        "cached" | "delegated" | "consistent" => Some("consistency"),
        _ => PROPAGATIONS.contains(&word).then_some("propagation"),
    }
}

/// Each kind of word may be there once.
fn set_mode(volume: &mut Volume, mode: &str) -> Result<()> {
    let mut kinds = BTreeSet::new();
    for word in mode.split(',').filter(|_| !mode.is_empty()) {
        let kind = kind(word).unwrap_or_default();
        let fits = match kind {
            "" => false,
            "copy" => volume.r#type == "volume",
            "propagation" => volume.r#type == "bind",
            _ => true,
        };
        ensure!(fits && kinds.insert(kind), "invalid mode: {mode}");
        match kind {
            "access" => volume.writable = word == "rw",
            "copy" => volume.no_copy = true,
            "propagation" => word.clone_into(&mut volume.propagation),
            _ => {}
        }
    }
    mode.clone_into(&mut volume.mode);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::super::tests::told;
    use super::*;

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
            assert_eq!(told(&read(text).expect(text)), what, "{text}");
        }
        assert_eq!(read("/a:/b:ro,rslave").unwrap().propagation, "rslave");
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
        ] {
            let error = read(text).expect_err(text);
            assert!(format!("{error:#}").contains(why), "{text}: {error:#}");
        }
    }
}
