//! `HOME`, for a process that was given none.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::fs::{FileType, OFlags, ResolveFlags, fstat};

use super::lookup::look_up;
use super::process::current_root;

/// More than any `/etc/passwd` that a person reads.
const LONGEST: u64 = 1 << 20;

/// The home directory of `uid` in the container's `/etc/passwd`; `/` where
/// that does not say.
pub(crate) fn of(uid: u32) -> OsString {
    let found = passwd().and_then(|table| {
        let mut lines = table.split(|byte| *byte == b'\n');
        lines.find_map(|line| home_in(line, uid))
    });
    found.unwrap_or_else(|| "/".into())
}

/// The file is the image's: it can be a fifo that nobody writes to, a device,
/// or without an end (CVE-2024-9341 and its like).
fn passwd() -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let root = current_root().ok()?;
    let file = look_up(root, "etc/passwd", flags, resolve).ok()?;
    if FileType::from_raw_mode(fstat(&file).ok()?.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut table = Vec::new();
    File::from(file)
        .take(LONGEST)
        .read_to_end(&mut table)
        .ok()?;
    Some(table)
}

/// From one line of passwd(5): `name:password:uid:gid:comment:home:shell`.
fn home_in(line: &[u8], uid: u32) -> Option<OsString> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
    let number = OsStr::from_bytes(fields.get(2)?).to_str()?.parse::<u32>();
    let home = fields.get(5).filter(|home| home.first() == Some(&b'/'))?;
    (number == Ok(uid)).then(|| OsString::from_vec(home.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::home_in;

    #[test]
    fn a_home_is_an_absolute_path_in_the_line_of_the_user() {
        assert_eq!(
            home_in(b"a:x:7:8:,,,:/home/a:/bin/sh", 7),
            Some("/home/a".into())
        );
        for line in [
            &b"a:x:8:7::/home/a:/bin/sh"[..],
            b"a:x:7:8::home:",
            b"a:x:7",
            b"",
            b"::::::",
        ] {
            assert_eq!(home_in(line, 7), None);
        }
    }
}
