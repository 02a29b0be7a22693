//! Reading tar streams: what a member is called and says about itself, then its bytes.
//!
//! Fields of a header are read by the `tar` crate. Its iterator isn't used: it cuts PAX records at
//! line ends, though a value may hold any byte (a file capability with the byte 0x0a is enough to
//! fail the archive, a file name with a newline to mislead it), reads a name of any length into
//! memory, doesn't tell a cut member from a short one, and doesn't know PAX's sparse files.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};
use flate2::bufread::MultiGzDecoder;
use rustix::fs::Timespec;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use tar::{EntryType, GnuExtSparseHeader, Header};

use crate::inside::shown;
use crate::oci::LAYER;

/// Everything in a tar file begins at a multiple of this.
const BLOCK: u64 = 512;
/// The most that names, attributes and sparse maps of one member may take (as in Go's reader).
/// Without a limit a header of a gigabyte, compressed to nothing, fills the memory (CVE-2017-14992).
const HEADERS: u64 = 1 << 20;
/// Large enough that a system call moves much more than it costs.
pub(crate) const BUFFER: usize = 256 << 10;

/// How a stream was compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// Not at all.
    None,
    /// As by gzip(1).
    Gzip,
    /// As by zstd(1).
    Zstd,
}

impl Compression {
    /// The media type of a layer so compressed (OCI image-spec, layer.md).
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::None => LAYER,
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// What a stream is compressed with, by its first bytes; file names promise too much.
    pub(crate) fn of(start: &[u8]) -> Result<Self> {
        match start {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => bail!("xz is not known here; use gzip or zstd"),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => {
                bail!("bzip2 is not known here; use gzip or zstd")
            }
            _ => Ok(Self::None),
        }
    }
}

/// Whether something that begins so may be a tar archive, compressed or not.
pub(crate) fn is_tar(start: &[u8]) -> bool {
    match Compression::of(start) {
        Ok(Compression::None) => start.get(257..262) == Some(b"ustar"),
        compressed => compressed.is_ok(),
    }
}

/// Undoes a stream's compression, which is told by its first bytes.
///
/// # Errors
/// It cannot be read, or is compressed in another way than gzip and zstd have.
pub fn decompress<'a>(stream: impl Read + 'a) -> Result<(Compression, Box<dyn Read + 'a>)> {
    let mut stream = BufReader::with_capacity(BUFFER, stream);
    let mut start = Vec::with_capacity(6);
    // A pipe may give its first bytes one by one, so a single fill_buf is not enough.
    stream.by_ref().take(6).read_to_end(&mut start)?;
    let compression = Compression::of(&start)?;
    let whole = BufReader::with_capacity(BUFFER, io::Cursor::new(start).chain(stream));
    let content: Box<dyn Read> = match compression {
        Compression::None => Box::new(whole),
        // A gzip file is one member or many (RFC 1952, 2.2), and all of them are the content.
        Compression::Gzip => Box::new(MultiGzDecoder::new(whole)),
        Compression::Zstd => Box::new(Frames {
            source: whole,
            decoder: FrameDecoder::new(),
        }),
    };
    Ok((compression, content))
}

/// A zstd stream: frame after frame, some of which hold no data (RFC 8878, 3.1).
struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
}

impl<R: BufRead> Frames<R> {
    /// Begins the next frame, or skips one without data; false at the end of the stream.
    fn advance(&mut self) -> io::Result<bool> {
        if self.source.fill_buf()?.is_empty() {
            return Ok(false);
        }
        match self.decoder.reset(&mut self.source) {
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                let mut skipped = self.source.by_ref().take(length.into());
                io::copy(&mut skipped, &mut io::sink())?;
            }
            begun => begun.map_err(io::Error::other)?,
        }
        Ok(true)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.decoder.can_collect() == 0 {
            if self.decoder.is_finished() {
                if !self.advance()? {
                    return Ok(0);
                }
            } else {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                let decoded = self.decoder.decode_blocks(&mut self.source, one);
                decoded.map_err(io::Error::other)?;
            }
        }
        self.decoder.read(buffer)
    }
}

/// One member of an archive, as its headers describe it.
#[derive(Debug)]
pub struct Member {
    /// What it is called, byte for byte: it may be absolute, or lead out of anywhere.
    pub path: Vec<u8>,
    /// Where a link leads.
    pub link: Vec<u8>,
    /// A file, a directory, a link of either kind, …
    pub kind: EntryType,
    /// Permissions, with the set-id and sticky bits.
    pub mode: u32,
    /// Whose it is.
    pub uid: u32,
    /// Which group's it is.
    pub gid: u32,
    /// When it was changed last.
    pub mtime: Timespec,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The file's length, holes included.
    pub size: u64,
    /// Where the member's bytes belong in the file: offset and length, ascending.
    pieces: Pieces,
}

/// Offset and length of what is not a hole.
type Pieces = Vec<(u64, u64)>;

/// A tar stream, read member by member.
pub struct Tar<R> {
    stream: R,
    /// What is left of the current member's bytes, and what fills its last block.
    left: u64,
    padding: u64,
}

impl<R: BufRead> Tar<R> {
    /// Begins to read one that is not compressed.
    pub fn new(stream: R) -> Self {
        Self {
            stream,
            left: 0,
            padding: 0,
        }
    }

    /// The next member. What was not read of the one before is skipped.
    ///
    /// # Errors
    /// A header that is none, an archive that ends inside a member, headers of more than 1 MiB.
    #[expect(
        clippy::should_implement_trait,
        reason = "each may fail, and the next then too"
    )]
    pub fn next(&mut self) -> Result<Option<Member>> {
        let mut extended = Extended::default();
        let mut room = HEADERS;
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                ensure!(
                    room == HEADERS,
                    "the archive ends where a member should follow"
                );
                return Ok(None);
            };
            let size = u64::try_from(number(&header.as_old().size)?)?;
            self.begin(size)?;
            let kind = header.entry_type();
            // What is said of all members is a comment by git, and nothing to docker.
            if kind.is_pax_global_extensions() {
                continue;
            }
            let extension =
                kind.is_pax_local_extensions() || kind.is_gnu_longname() || kind.is_gnu_longlink();
            if !extension {
                return self.member(&header, extended, room).map(Some);
            }
            room = room
                .checked_sub(self.left + self.padding)
                .context("the headers of a member are larger than 1 MiB")?;
            let bytes = self.take(size)?;
            extended
                .add(kind, bytes)
                .context("read a member's PAX records")?;
        }
    }

    /// Hands over the bytes of the member just returned, with the places where they belong.
    ///
    /// # Errors
    /// The archive ends too early, and what `to` fails with.
    pub(crate) fn read(
        &mut self,
        member: &Member,
        mut to: impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        for &(start, length) in &member.pieces {
            let mut done = 0;
            while done < length {
                let buffer = self.stream.fill_buf()?;
                let most = usize::try_from(length - done).unwrap_or(usize::MAX);
                let piece = &buffer[..buffer.len().min(most)];
                ensure!(
                    !piece.is_empty(),
                    "the archive ends inside {}",
                    shown(&member.path)
                );
                to(start + done, piece)?;
                let count = piece.len();
                self.stream.consume(count);
                done += count as u64;
                self.left -= count as u64;
            }
        }
        Ok(())
    }

    /// Writes the bytes of the member just returned into an empty file. Zeros are what a hole reads
    /// as, so they need no room on the disk, be there ten gigabytes of them.
    ///
    /// # Errors
    /// As [`Tar::read`], and a full disk.
    pub fn fill(&mut self, member: &Member, file: &File) -> Result<()> {
        let mut end = 0;
        self.read(member, |offset, bytes| {
            if bytes.iter().any(|&byte| byte != 0) {
                file.write_all_at(bytes, offset)?;
                end = offset + bytes.len() as u64;
            }
            Ok(())
        })?;
        if end < member.size {
            file.set_len(member.size)?;
        }
        Ok(())
    }

    /// Reads what follows the archive's end, so that whoever hashes or writes the stream has come to its end.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn drain(mut self) -> Result<()> {
        io::copy(&mut self.stream, &mut io::sink())?;
        Ok(())
    }

    fn begin(&mut self, size: u64) -> Result<()> {
        let blocks = size.checked_next_multiple_of(BLOCK);
        self.padding = blocks.context("a member is larger than a number can say")? - size;
        self.left = size;
        Ok(())
    }

    fn skip(&mut self) -> Result<()> {
        let rest = self.left + self.padding;
        let skipped = io::copy(&mut self.stream.by_ref().take(rest), &mut io::sink())?;
        // An archive that simply stops leaves the last block unfilled: umoci writes such layers.
        ensure!(skipped >= self.left, "the archive ends inside a member");
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    fn take(&mut self, count: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream.by_ref().take(count).read_to_end(&mut bytes)?;
        ensure!(
            bytes.len() as u64 == count,
            "the archive ends inside a member"
        );
        self.left = self.left.saturating_sub(count);
        Ok(bytes)
    }

    /// One header block; none at the end, which is a block of zeros or simply no more bytes.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header::new_old();
        if self.stream.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let block = header.as_mut_bytes();
        self.stream
            .read_exact(block)
            .context("the archive ends inside a header")?;
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let blank = block[..148].iter().chain(&block[156..]);
        let sum = blank.fold(8 * u32::from(b' '), |sum, &byte| sum + u32::from(byte));
        let right = header.cksum().is_ok_and(|stated| stated == sum);
        ensure!(right, "this is not a tar archive, or a damaged one");
        Ok(Some(header))
    }

    fn member(&mut self, header: &Header, extended: Extended, room: u64) -> Result<Member> {
        if let Some(size) = extended.size {
            self.begin(size)?;
        }
        let (size, pieces) = match self.sparse(header, &extended, room)? {
            Some(sparse) => sparse,
            None => (self.left, vec![(0, self.left)]),
        };
        let old = header.as_old();
        Ok(Member {
            path: (extended.sparse_path.or(extended.path))
                .unwrap_or_else(|| header.path_bytes().into_owned()),
            link: match (extended.link, header.link_name_bytes()) {
                (Some(link), _) => link,
                (None, link) => link.unwrap_or_default().into_owned(),
            },
            kind: header.entry_type(),
            mode: u32::try_from(number(&old.mode)? & 0o7777)?,
            uid: id(extended.uid.map_or_else(|| number(&old.uid), Ok)?)?,
            gid: id(extended.gid.map_or_else(|| number(&old.gid), Ok)?)?,
            mtime: extended.mtime.map_or_else(|| whole(&old.mtime), Ok)?,
            device: (
                header.device_major().ok().flatten().unwrap_or(0),
                header.device_minor().ok().flatten().unwrap_or(0),
            ),
            xattrs: extended.xattrs,
            size,
            pieces,
        })
    }

    /// A sparse file's length and pieces, in any of the four ways that GNU tar has had.
    fn sparse(
        &mut self,
        header: &Header,
        extended: &Extended,
        room: u64,
    ) -> Result<Option<(u64, Pieces)>> {
        let (size, pieces) = match (header.as_gnu(), extended.sparse_size) {
            (Some(gnu), _) if header.entry_type().is_gnu_sparse() => {
                (gnu.real_size()?, self.gnu_map(gnu, room)?)
            }
            (_, Some(size)) if extended.map_in_data => (size, self.pax_map(room)?),
            (_, Some(size)) => (size, pairs(&extended.map)?),
            _ => return Ok(None),
        };
        check(&pieces, size, self.left).context("the map of a sparse file")?;
        Ok(Some((size, pieces)))
    }

    /// The map of an old GNU sparse file: four pieces in the header, the rest in blocks after it.
    fn gnu_map(&mut self, gnu: &tar::GnuHeader, room: u64) -> Result<Pieces> {
        let mut pieces = Vec::new();
        let mut add = |stated: &[tar::GnuSparseHeader]| -> Result<()> {
            for piece in stated.iter().filter(|piece| !piece.is_empty()) {
                pieces.push((piece.offset()?, piece.length()?));
            }
            Ok(())
        };
        add(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        for _ in 0..room / BLOCK {
            if !more {
                return Ok(pieces);
            }
            let mut block = GnuExtSparseHeader::new();
            self.stream.read_exact(block.as_mut_bytes())?;
            add(block.sparse())?;
            more = block.is_extended();
        }
        bail!("the headers of a member are larger than 1 MiB")
    }

    /// The map of PAX's sparse format 1.0: a count and pairs, a decimal a line, before the data.
    fn pax_map(&mut self, room: u64) -> Result<Pieces> {
        let mut numbers: Vec<u64> = Vec::new();
        let mut text = Vec::new();
        for _ in 0..room / BLOCK {
            text.extend(self.take(BLOCK.min(self.left))?);
            while let Some(end) = text.iter().position(|&byte| byte == b'\n') {
                numbers.push(decimal(&text[..end])?);
                text.drain(..=end);
                if let [count, map @ ..] = numbers.as_slice()
                    && count.checked_mul(2) == Some(map.len() as u64)
                {
                    return pairs(map);
                }
            }
        }
        bail!("a sparse map larger than 1 MiB")
    }
}

/// What the headers before a member's own say about it: PAX records, GNU's long names.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<i64>,
    gid: Option<i64>,
    mtime: Option<Timespec>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The name proper of a sparse file, whose `path` is a warning to old readers.
    sparse_path: Option<Vec<u8>>,
    sparse_size: Option<u64>,
    map_in_data: bool,
    map: Vec<u64>,
}

impl Extended {
    fn add(&mut self, kind: EntryType, mut bytes: Vec<u8>) -> Result<()> {
        if kind.is_pax_local_extensions() {
            return self.records(&bytes);
        }
        if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
            bytes.truncate(end);
        }
        match kind.is_gnu_longname() {
            true => self.path = Some(bytes),
            false => self.link = Some(bytes),
        }
        Ok(())
    }

    /// Records `LENGTH KEY=VALUE\n`, where the length counts the whole record (pax(1), "pax
    /// Extended Header").
    fn records(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let space = bytes.iter().position(|&byte| byte == b' ');
            let space = space.context("a record without a length")?;
            let length = usize::try_from(decimal(&bytes[..space])?)?;
            let record = bytes.get(space + 1..length).context("a record cut short")?;
            let record = record
                .strip_suffix(b"\n")
                .context("a record without its end")?;
            let equals = record.iter().position(|&byte| byte == b'=');
            let (key, value) = record.split_at(equals.context("a record without a value")?);
            self.record(key, &value[1..])
                .with_context(|| format!("the record {}", shown(key)))?;
            bytes = &bytes[length..];
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"GNU.sparse.name" => self.sparse_path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(i64::try_from(decimal(value)?)?),
            b"gid" => self.gid = Some(i64::try_from(decimal(value)?)?),
            b"mtime" => self.mtime = Some(time(value)?),
            b"GNU.sparse.major" => self.map_in_data = value == b"1",
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                self.sparse_size = Some(decimal(value)?);
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.map.push(decimal(value)?),
            b"GNU.sparse.map" => {
                let numbers = value.split(|&byte| byte == b',').map(decimal);
                self.map = numbers.collect::<Result<_>>()?;
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// Pieces that overlap, go back, or hold more than is stored would be written where they don't
/// belong.
fn check(pieces: &[(u64, u64)], size: u64, left: u64) -> Result<()> {
    let (mut end, mut stored) = (0, 0_u64);
    for &(start, length) in pieces {
        ensure!(start >= end, "its pieces are out of order");
        end = start.checked_add(length).context("it is too large")?;
        stored += length;
    }
    ensure!(end <= size, "its pieces go beyond its end");
    ensure!(
        stored == left,
        "its pieces have {stored} bytes, and the archive {left}"
    );
    Ok(())
}

fn pairs(numbers: &[u64]) -> Result<Pieces> {
    let (pairs, odd) = numbers.as_chunks::<2>();
    ensure!(odd.is_empty(), "half a pair");
    Ok(pairs
        .iter()
        .map(|&[offset, length]| (offset, length))
        .collect())
}

/// 2^32-1 is no id: chown(2) takes it for "leave it".
fn id(number: i64) -> Result<u32> {
    let id = u32::try_from(number).ok().filter(|&id| id != u32::MAX);
    id.with_context(|| format!("{number} is no user or group id"))
}

fn decimal(digits: &[u8]) -> Result<u64> {
    let text = str::from_utf8(digits).ok();
    let number = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    number
        .and_then(|text| text.parse().ok())
        .with_context(|| format!("{} is not a number", shown(digits)))
}

/// A number in a header: octal digits, or nothing for 0; or with the bit 0x80 set, big-endian in
/// two's complement (GNU's form for what is too large, or before 1970). The crate's readers refuse
/// the empty field, which it writes itself, and take the negative for huge.
fn number(field: &[u8]) -> Result<i64> {
    if let [first @ 0x80..=0xff, rest @ ..] = field {
        let signed = i64::from((first << 1).cast_signed() >> 1);
        let append = |number: i64, byte: &u8| number.checked_mul(256)?.checked_add((*byte).into());
        let number = rest.iter().try_fold(signed, append);
        return number.context("a number in a header is too large");
    }
    let digits = field.split(|&byte| byte == 0).next().unwrap_or_default();
    let octal = |number: i64, byte: &u8| match byte {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add((byte - b'0').into()),
        _ => None,
    };
    let number = digits.trim_ascii().iter().try_fold(0, octal);
    number.with_context(|| format!("{} is not an octal number", shown(field)))
}

fn whole(seconds: &[u8]) -> Result<Timespec> {
    Ok(Timespec {
        tv_sec: number(seconds)?,
        tv_nsec: 0,
    })
}

/// `-1.25` is a second and a quarter before 1970: nanoseconds count forward from a whole second.
fn time(text: &[u8]) -> Result<Timespec> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        text => (false, text),
    };
    let mut halves = text.splitn(2, |&byte| byte == b'.');
    let whole = i64::try_from(decimal(halves.next().unwrap_or_default())?)?;
    let mut digits = [b'0'; 9];
    for (digit, &stated) in digits.iter_mut().zip(halves.next().unwrap_or_default()) {
        *digit = stated;
    }
    let fraction = i64::try_from(decimal(&digits)?)?;
    let (tv_sec, tv_nsec) = match (negative, fraction) {
        (false, fraction) => (whole, fraction),
        (true, 0) => (-whole, 0),
        (true, fraction) => (-whole - 1, 1_000_000_000 - fraction),
    };
    Ok(Timespec { tv_sec, tv_nsec })
}
