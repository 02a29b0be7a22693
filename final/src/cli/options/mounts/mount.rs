//! `--mount KEY=VALUE,…`.

use std::path::{Component, Path};

use anyhow::{Context, Result, bail, ensure};
use minidocker::state::{Recursion, Volume};

use super::{PROPAGATIONS, absolute, destination, plain};
use crate::options::{boolean, size};

pub(super) fn read(text: &str) -> Result<Volume> {
    let fields = fields(text)?;
    let kind = fields.iter().rfind(|(key, _)| key == "type");
    let kind = kind.map_or("volume", |(_, value)| value.as_str());
    let mut volume = plain(kind == "bind");
    match kind {
        "bind" | "volume" => {}
        "tmpfs" => volume.driver.clear(),
        _ => bail!(
            "{}: mount type unknown: there are bind, volume and tmpfs",
            invalid(kind)
        ),
    }
    kind.clone_into(&mut volume.r#type);
    for (key, value) in &fields {
        set(&mut volume, key, value)?;
    }
    volume.anonymous = kind == "volume" && volume.name.is_empty();
    check(&volume, &fields)?;
    Ok(volume)
}

fn invalid(kind: &str) -> String {
    format!("invalid mount config for type {kind:?}")
}

fn set(volume: &mut Volume, key: &str, value: &str) -> Result<()> {
    let wrong = || format!("invalid value for {key}: {value}");
    let flag = || boolean(value).with_context(wrong);
    match (key, volume.r#type.as_str()) {
        ("type" | "consistency", _) => {}
        ("source" | "src", "bind") => volume.source = absolute(value)?,
        ("source" | "src", _) => value.clone_into(&mut volume.name),
        ("target" | "dst" | "destination", _) => volume.destination = destination(value)?,
        ("readonly" | "ro", _) => volume.writable = !flag()?,
        ("bind-propagation", "bind") => {
            let known = PROPAGATIONS.contains(&value);
            ensure!(known, "invalid propagation value: {value}");
            value.clone_into(&mut volume.propagation);
        }
        ("bind-nonrecursive", "bind") => {
            if flag()? {
                volume.recursion = Recursion::Disabled;
            }
        }
        ("bind-recursive", "bind") => {
            volume.recursion = match value {
                "enabled" | "readonly" => Recursion::Enabled,
                "disabled" => Recursion::Disabled,
                "writable" => Recursion::Writable,
                _ => bail!(
                    "{} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")",
                    wrong()
                ),
            };
        }
        ("volume-nocopy", "volume") => volume.no_copy = flag()?,
        ("volume-driver", "volume") => ensure!(
            value == "local",
            "error looking up volume plugin {value}: plugin \"{value}\" not found"
        ),
        ("volume-subpath", "volume") => value.clone_into(&mut volume.subpath),
        ("volume-label", "volume") => drop(volume.labels.insert(pair(value).0, pair(value).1)),
        ("volume-opt", "volume") => drop(volume.options.insert(pair(value).0, pair(value).1)),
        ("tmpfs-size", "tmpfs") => add(volume, &format!("size={}", size::bytes(value)?)),
        ("tmpfs-mode", "tmpfs") => {
            let mode = u32::from_str_radix(value, 8).ok().with_context(wrong)?;
            ensure!(mode <= 0o7777, wrong());
            add(volume, &format!("mode={mode:o}"));
        }
        (_, kind) => {
            let of = key.split_once('-').map_or("", |(of, _)| of);
            ensure!(
                ["bind", "volume", "tmpfs"].contains(&of) && of != kind,
                "unexpected key '{key}' in '{key}={value}'"
            );
            bail!("cannot mix '{of}-*' options with mount type '{kind}'");
        }
    }
    Ok(())
}

/// One more option of a tmpfs'.
fn add(volume: &mut Volume, option: &str) {
    let comma = if volume.mode.is_empty() { "" } else { "," };
    volume.mode.push_str(comma);
    volume.mode.push_str(option);
}

fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

/// What only shows when all keys have been read.
fn check(volume: &Volume, fields: &[(String, String)]) -> Result<()> {
    let invalid = invalid(&volume.r#type);
    let has = |value: &str| {
        fields
            .iter()
            .any(|(key, its)| key == "bind-recursive" && its == value)
    };
    ensure!(!volume.destination.is_empty(), "target is required");
    for value in ["writable", "readonly"] {
        ensure!(
            !has(value) || !volume.writable,
            "option 'bind-recursive={value}' requires 'readonly' to be specified in conjunction"
        );
    }
    ensure!(
        !has("readonly") || volume.propagation == "rprivate",
        "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
    );
    match volume.r#type.as_str() {
        "bind" => {
            let source = &volume.source;
            ensure!(
                !source.is_empty(),
                "{invalid}: field Source must not be empty"
            );
            ensure!(
                Path::new(source).exists(),
                "{invalid}: bind source path does not exist: {source}"
            );
        }
        "tmpfs" => ensure!(
            volume.name.is_empty(),
            "{invalid}: field Source must not be specified"
        ),
        _ if !volume.subpath.is_empty() => {
            ensure!(
                !volume.anonymous,
                "{invalid}: must not set Subpath when using anonymous volumes"
            );
            let path = &volume.subpath;
            ensure!(
                is_below(path),
                "{invalid}: subpath must be a relative path within the volume"
            );
        }
        _ => {}
    }
    Ok(())
}

/// Whether a path stays where it begins.
fn is_below(path: &str) -> bool {
    let mut depth = 0_i64;
    Path::new(path).components().all(|part| {
        depth += match part {
            Component::Normal(_) => 1,
            Component::CurDir => 0,
            Component::ParentDir => -1,
            _ => return false,
        };
        depth >= 0
    })
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

#[cfg(test)]
mod tests {
    use super::super::tests::told;
    use super::*;

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
            assert_eq!(told(&read(text).expect(text)), what, "{text}");
        }
        let tmpfs = read("type=tmpfs,target=/b,tmpfs-size=1m,tmpfs-mode=1770").unwrap();
        assert_eq!(tmpfs.mode, "size=1048576,mode=1770");
        let volume = "src=data,dst=/b,volume-nocopy,volume-label=a=1,\"volume-opt=o=bind,ro\",\
             volume-opt=type=none,volume-subpath=x/y";
        let volume = read(volume).expect("all of a volume's keys");
        let one = |pairs: &std::collections::BTreeMap<String, String>| format!("{pairs:?}");
        assert_eq!(one(&volume.labels), r#"{"a": "1"}"#);
        assert_eq!(one(&volume.options), r#"{"o": "bind,ro", "type": "none"}"#);
        assert!(volume.no_copy && volume.subpath == "x/y");
        for (keys, expected) in [
            ("bind-recursive=enabled", Recursion::Enabled),
            ("bind-recursive=disabled", Recursion::Disabled),
            ("bind-nonrecursive", Recursion::Disabled),
            ("ro,bind-recursive=writable", Recursion::Writable),
            (
                "ro,bind-propagation=rprivate,bind-recursive=readonly",
                Recursion::Enabled,
            ),
        ] {
            let bind = read(&format!("type=bind,src=/,dst=/b,{keys}")).expect(keys);
            assert_eq!(bind.recursion, expected, "{keys}");
        }
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
            ("type=image,target=/b", "mount type unknown"),
            (
                "type=volume,target=/b,what=1",
                "unexpected key 'what' in 'what=1'",
            ),
            (
                "target=/b,bind-propagation=shared",
                "cannot mix 'bind-*' options with mount type 'volume'",
            ),
            ("target=/b,volume-driver=nfs", "plugin \"nfs\" not found"),
            (
                "target=/b,readonly=perhaps",
                "invalid value for readonly: perhaps",
            ),
            (
                "type=tmpfs,target=/b,source=/a",
                "field Source must not be specified",
            ),
            (
                "type=tmpfs,target=/b,tmpfs-mode=9",
                "invalid value for tmpfs-mode",
            ),
            ("type=bind,\"source=/", "not closed"),
            (
                "src=data,target=/b,volume-subpath=/a",
                "subpath must be a relative path",
            ),
            (
                "src=data,target=/b,volume-subpath=a/../../data",
                "subpath must be a relative path",
            ),
            (
                "target=/b,volume-subpath=a",
                "must not set Subpath when using anonymous",
            ),
            (
                "type=bind,src=/,dst=/b,bind-recursive=no",
                "(must be \"enabled\"",
            ),
            (
                "type=bind,src=/,dst=/b,bind-recursive=writable",
                "'bind-recursive=writable' requires 'readonly'",
            ),
            (
                "type=bind,src=/,dst=/b,ro,bind-recursive=readonly",
                "requires 'bind-propagation=rprivate'",
            ),
            (
                "target=/b,volume-colour=red",
                "unexpected key 'volume-colour'",
            ),
        ] {
            let error = read(text).expect_err(text);
            assert!(format!("{error:#}").contains(why), "{text}: {error:#}");
        }
    }
}
