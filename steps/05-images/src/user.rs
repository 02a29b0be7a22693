//! Whom the command runs as: `USER[:GROUP]`, looked up in the container's own files.

use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;

use crate::inside;

/// `/etc/passwd` and `/etc/group` belong to the image, which may make them as large as it likes.
const LARGEST: u64 = 16 << 20;

/// The identity of a process: what setgroups(2), setgid(2) and setuid(2) are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids: those of the user's memberships, when no group was asked for.
    pub groups: Vec<u32>,
    /// The home directory, `/` where none is known.
    pub home: PathBuf,
}

/// Looks up `USER[:GROUP]`, each a name or a number, in `/etc/passwd` and `/etc/group` of a container
/// whose `/` is `root`. Empty means root.
///
/// # Errors
/// A name that no entry has; a number past 2^31-1; a file that is no regular file, or too large.
pub fn lookup_user(root: BorrowedFd, spec: &str) -> Result<User> {
    let passwd = read(root, "etc/passwd")?;
    let group = read(root, "etc/group")?;
    resolve(spec, &passwd, &group)
}

/// Looks up a group, a name or a number, in `/etc/group` of a container whose `/` is `root`.
///
/// # Errors
/// As [`lookup_user`].
pub fn lookup_group(root: BorrowedFd, wanted: &str) -> Result<u32> {
    let user = resolve(&format!("0:{wanted}"), "", &read(root, "etc/group")?)?;
    Ok(user.gid)
}

/// Links are followed (some distributions' `/etc/passwd` is one), though never into procfs' magic
/// ones. Without O_NONBLOCK an image whose `/etc/passwd` is a fifo would hang us in open(2).
fn read(root: BorrowedFd, path: &str) -> Result<String> {
    let file = match inside::open_file(root, path.as_bytes()) {
        Ok(file) => file,
        Err(error) if error.downcast_ref() == Some(&Errno::NOENT) => return Ok(String::new()),
        Err(error) => return Err(error).with_context(|| format!("open the container's /{path}")),
    };
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    ensure!(
        bytes.len() as u64 <= LARGEST,
        "the container's /{path} is larger than 16 MiB"
    );
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Docker's rules: a name must be known, a number need not be; the groups in which the user is
/// listed count only where no group was asked for.
fn resolve(spec: &str, passwd: &str, group: &str) -> Result<User> {
    // task 05.5 {
    let (user, wanted) = spec.split_once(':').unwrap_or((spec, ""));
    ensure!(!wanted.contains(':'), "{spec:?} is not USER[:GROUP]");
    let user = if user.is_empty() { "0" } else { user };

    let entry = passwd
        .lines()
        .filter_map(Entry::passwd)
        .find(|entry| entry.name == user || number(user) == Some(entry.id));
    let (uid, gid, home) = match (&entry, number(user)) {
        (Some(entry), _) => (entry.id, entry.gid, entry.rest),
        (None, Some(uid)) => (uid, 0, "/"),
        (None, None) => bail!("unable to find user {user}: no matching entries in passwd file"),
    };
    let mut found = User {
        uid,
        gid,
        groups: Vec::new(),
        home: PathBuf::from(if home.is_empty() { "/" } else { home }),
    };
    let mut known = group.lines().filter_map(Entry::group);
    if !wanted.is_empty() {
        let entry = known.find(|entry| entry.name == wanted || number(wanted) == Some(entry.id));
        found.gid = match entry.map(|entry| entry.id).or(number(wanted)) {
            Some(gid) => gid,
            None => bail!("unable to find group {wanted}: no matching entries in group file"),
        };
    } else if let Some(entry) = entry {
        let listed = |group: &Entry<'_>| group.rest.split(',').any(|name| name == entry.name);
        found.groups = known.filter(listed).map(|group| group.id).collect();
    }
    Ok(found)
    // } todo!("task 05.5: find the user and groups of USER[:GROUP] (book: 5.5)")
}

/// A line of passwd(5) or group(5). One whose ids are not numbers is no entry.
struct Entry<'a> {
    name: &'a str,
    id: u32,
    gid: u32,
    /// The home directory, or the group's members.
    rest: &'a str,
}

impl<'a> Entry<'a> {
    fn passwd(line: &'a str) -> Option<Self> {
        let fields: Vec<&str> = line.split(':').collect();
        let &[name, _, id, gid, _, rest, ..] = fields.as_slice() else {
            return None;
        };
        let (id, gid) = (number(id)?, number(gid)?);
        (!name.is_empty()).then_some(Self {
            name,
            id,
            gid,
            rest,
        })
    }

    fn group(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, number(fields.next()?)?);
        (!name.is_empty()).then_some(Self {
            name,
            id,
            gid: id,
            rest: fields.next().unwrap_or_default(),
        })
    }
}

/// A whole string of decimal digits. What is a number only in part must not become some other
/// user, and so root at worst (CVE-2026-30892).
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let id = digits.then(|| text.parse().ok()).flatten()?;
    (id <= i32::MAX as u32).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        daemon:x:1:1::/usr/sbin:/bin/false\n+nis\nbad:x:one:1::/:\nshort:x:9\n\
        www:x:33:33::/var/www:/bin/sh\n1000:x:7:7::/seven:/bin/sh\n";
    const GROUP: &str =
        "root:x:0:\nwww:x:33:\nadm:x:4:syslog,www\nssl:x:50:www,root\nusers:x:100:wwwx\n";

    fn user(spec: &str) -> Result<User> {
        resolve(spec, PASSWD, GROUP)
    }

    fn ids(spec: &str) -> (u32, u32, Vec<u32>) {
        let user = user(spec).unwrap();
        (user.uid, user.gid, user.groups)
    }

    #[test]
    fn names_and_numbers_find_the_same_entry() {
        assert_eq!(ids("www"), (33, 33, vec![4, 50]));
        assert_eq!(ids("33"), (33, 33, vec![4, 50]));
        assert_eq!(user("www").unwrap().home, PathBuf::from("/var/www"));
        assert_eq!(ids(""), (0, 0, vec![50]));
    }

    #[test]
    fn a_group_that_was_asked_for_is_the_only_one() {
        assert_eq!(ids("www:adm"), (33, 4, vec![]));
        assert_eq!(ids("www:4"), (33, 4, vec![]));
        assert_eq!(ids("www:12345"), (33, 12345, vec![]));
        assert_eq!(ids(":users"), (0, 100, vec![]));
        assert_eq!(ids("www:"), (33, 33, vec![4, 50]));
    }

    #[test]
    fn an_unknown_number_is_taken_as_it_is() {
        let user = user("4242").unwrap();
        assert_eq!((user.uid, user.gid, user.groups), (4242, 0, vec![]));
        assert_eq!(user.home, PathBuf::from("/"));
    }

    #[test]
    fn a_name_of_digits_goes_before_the_number_by_the_order_of_the_file() {
        assert_eq!(ids("1000").0, 7);
    }

    #[test]
    fn what_is_a_number_only_in_part_is_nobody() {
        for spec in [
            "nobody",
            "0x0",
            "+0",
            "-1",
            " 0",
            "0 ",
            "1e3",
            "33abc",
            "4294967295",
            "2147483648",
            "99999999999999999999",
            "bad",
            "short",
            "+nis",
            "a:b:c",
            "www:nogroup",
            "www:-4",
            "٣",
        ] {
            assert!(user(spec).is_err(), "{spec:?}");
        }
        let error = user("nobody").unwrap_err().to_string();
        assert_eq!(
            error,
            "unable to find user nobody: no matching entries in passwd file"
        );
    }
}
