//! Writing tar streams: what a member is called and says about itself, then its bytes.
//!
//! The format is pax(1)'s: the header of 1988, and before it, where a value has no room there, a
//! member of its own that says it in full. Docker, GNU tar and Python read and write it.

use std::io::{self, Read, Write};

use anyhow::{Context, Result};
use rustix::fs::Timespec;
use tar::{EntryType, Header};

use crate::archive::BUFFER;
use crate::inside::shown;

/// Everything in a tar file begins at a multiple of this.
const BLOCK: usize = 512;
/// The most that eleven octal digits hold: a size, or a time.
const LARGEST: u64 = (1 << 33) - 1;
/// The most that seven do: an id.
const LARGEST_ID: u32 = (1 << 21) - 1;
/// How long a name may be in a header.
const LONGEST: usize = 100;

/// What is said of a member that is written.
pub(crate) struct About {
    pub(crate) path: Vec<u8>,
    /// Where a link leads; empty for all else.
    pub(crate) link: Vec<u8>,
    pub(crate) kind: EntryType,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timespec,
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// How many bytes follow.
    pub(crate) size: u64,
}

/// Writes a member. Where the content is shorter than was said, zeros make up for it: somebody else
/// may be writing to the file.
pub(crate) fn append(to: &mut dyn Write, about: &About, content: &mut dyn Read) -> Result<()> {
    let what = || format!("write {} to an archive", shown(&about.path));
    let records = records(about);
    if !records.is_empty() {
        let extension = About {
            path: b"PaxHeaders/"
                .iter()
                .chain(&about.path)
                .copied()
                .take(LONGEST)
                .collect(),
            link: Vec::new(),
            kind: EntryType::XHeader,
            size: records.len() as u64,
            xattrs: Vec::new(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            device: (0, 0),
            mtime: EPOCH,
        };
        to.write_all(header(&extension).with_context(what)?.as_bytes())
            .with_context(what)?;
        fill(to, &mut &records[..], extension.size).with_context(what)?;
    }
    to.write_all(header(about).with_context(what)?.as_bytes())
        .with_context(what)?;
    fill(to, content, about.size).with_context(what)
}

/// The end of an archive: two blocks of zeros.
pub(crate) fn end(to: &mut dyn Write) -> Result<()> {
    to.write_all(&[0; 2 * BLOCK])
        .and_then(|()| to.flush())
        .context("write the end of an archive")
}

/// The time of what has none.
pub(crate) const EPOCH: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

fn fill(to: &mut dyn Write, content: &mut dyn Read, size: u64) -> Result<()> {
    let room = usize::try_from(size).map_or(BUFFER, |size| size.min(BUFFER));
    let mut buffer = vec![0; room];
    let mut left = size;
    while left > 0 {
        let most = usize::try_from(left).map_or(room, |left| left.min(room));
        let piece = buffer.get_mut(..most).unwrap_or_default();
        let count = content.read(piece)?;
        if count == 0 {
            break;
        }
        to.write_all(piece.get(..count).unwrap_or_default())?;
        left -= count as u64;
    }
    let blocks = size.next_multiple_of(BLOCK as u64);
    io::copy(&mut io::repeat(0).take(blocks - size + left), to)?;
    Ok(())
}

fn header(about: &About) -> Result<Header> {
    let mut header = Header::new_ustar();
    let fields = header
        .as_ustar_mut()
        .context("a header of another format")?;
    let cut = |text: &[u8], field: &mut [u8]| {
        for (place, &byte) in field.iter_mut().zip(text) {
            *place = byte;
        }
    };
    cut(&about.path, &mut fields.name);
    cut(&about.link, &mut fields.linkname);
    header.set_entry_type(about.kind);
    header.set_mode(about.mode);
    header.set_uid(u64::from(about.uid.min(LARGEST_ID)));
    header.set_gid(u64::from(about.gid.min(LARGEST_ID)));
    header.set_mtime(u64::try_from(about.mtime.tv_sec).unwrap_or(0).min(LARGEST));
    header.set_size(about.size.min(LARGEST));
    header.set_device_major(about.device.0)?;
    header.set_device_minor(about.device.1)?;
    header.set_cksum();
    Ok(header)
}

/// What has no room in the header (pax(1), "pax Extended Header").
fn records(about: &About) -> Vec<u8> {
    let mut records = Vec::new();
    let mut say = |key: &[u8], value: &[u8]| {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        records.extend_from_slice(format!("{length} ").as_bytes());
        records.extend_from_slice(key);
        records.push(b'=');
        records.extend_from_slice(value);
        records.push(b'\n');
    };
    if about.path.len() > LONGEST {
        say(b"path", &about.path);
    }
    if about.link.len() > LONGEST {
        say(b"linkpath", &about.link);
    }
    for (key, id) in [(b"uid", about.uid), (b"gid", about.gid)] {
        if id > LARGEST_ID {
            say(key, id.to_string().as_bytes());
        }
    }
    if about.size > LARGEST {
        say(b"size", about.size.to_string().as_bytes());
    }
    let Timespec { tv_sec, tv_nsec } = about.mtime;
    let plain = u64::try_from(tv_sec).is_ok_and(|seconds| seconds <= LARGEST);
    if tv_nsec != 0 || !plain {
        say(b"mtime", time(tv_sec, tv_nsec).as_bytes());
    }
    for (key, value) in &about.xattrs {
        say(&[b"SCHILY.xattr.", &key[..]].concat(), value);
    }
    records
}

/// Nanoseconds count forward from a whole second, and the digits of a time before 1970 backward.
fn time(seconds: i64, nanoseconds: i64) -> String {
    let (sign, seconds, nanoseconds) = match (seconds < 0, nanoseconds) {
        (true, 0) => ("-", seconds.unsigned_abs(), 0),
        (true, nanoseconds) => (
            "-",
            (seconds + 1).unsigned_abs(),
            1_000_000_000 - nanoseconds,
        ),
        (false, nanoseconds) => ("", seconds.unsigned_abs(), nanoseconds),
    };
    match nanoseconds {
        0 => format!("{sign}{seconds}"),
        _ => format!("{sign}{seconds}.{nanoseconds:09}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;
    use crate::archive::Tar;

    fn about(path: &[u8]) -> About {
        About {
            path: path.to_vec(),
            link: Vec::new(),
            kind: EntryType::Regular,
            mode: 0o4755,
            uid: 3,
            gid: 4,
            mtime: EPOCH,
            device: (0, 0),
            xattrs: Vec::new(),
            size: 0,
        }
    }

    #[test]
    fn what_has_no_room_in_a_header_is_read_back_as_it_was() {
        let mut first = about(&[b'n'; 4000]);
        first.uid = 4_000_000_000;
        first.mtime = Timespec {
            tv_sec: -2,
            tv_nsec: 250_000_000,
        };
        first.xattrs = vec![(b"user.x".to_vec(), b"a\n=\0b".to_vec())];
        first.size = 5;
        let mut second = about(b"short");
        second.kind = EntryType::Symlink;
        second.link = vec![b'l'; 101];
        let mut third = about(&[b'm'; 100]);
        third.kind = EntryType::Char;
        third.device = (1, 1_000_000);

        let mut stream = Vec::new();
        append(&mut stream, &first, &mut &b"123"[..]).unwrap();
        append(&mut stream, &second, &mut io::empty()).unwrap();
        append(&mut stream, &third, &mut io::empty()).unwrap();
        end(&mut stream).unwrap();
        assert_eq!(stream.len() % BLOCK, 0);

        let mut tar = Tar::new(BufReader::new(&stream[..]));
        let read = tar.next().unwrap().unwrap();
        assert_eq!(
            (read.path.len(), read.uid, read.mode),
            (4000, 4_000_000_000, 0o4755)
        );
        assert_eq!((read.mtime.tv_sec, read.mtime.tv_nsec), (-2, 250_000_000));
        assert_eq!(read.xattrs, first.xattrs);
        let mut content = Vec::new();
        tar.read(&read, |_, bytes| {
            content.extend_from_slice(bytes);
            Ok(())
        })
        .unwrap();
        assert_eq!(content, b"123\0\0");
        assert_eq!(tar.next().unwrap().unwrap().link, second.link);
        let read = tar.next().unwrap().unwrap();
        assert_eq!((read.path, read.device), (third.path, third.device));
        assert!(tar.next().unwrap().is_none());
    }
}
