//! Layers as an attacker, or an old tool, would make them. Each is unpacked beside a victim.

use std::fs;
use std::io::Cursor;

use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};

use super::*;
use crate::scratch::Scratch;

/// A tar stream, header by header.
#[derive(Default)]
struct Stream(Vec<u8>);

impl Stream {
    fn header(mut self, kind: u8, name: &[u8], link: &[u8], size: u64) -> Self {
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name);
        old.linkname[..link.len()].copy_from_slice(link);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000);
        header.set_size(size);
        header.set_entry_type(EntryType::new(kind));
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self
    }

    fn data(mut self, data: &[u8]) -> Self {
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn dir(self, name: &str) -> Self {
        self.header(b'5', name.as_bytes(), b"", 0)
    }

    fn file(self, name: &str, text: &str) -> Self {
        let size = text.len() as u64;
        self.header(b'0', name.as_bytes(), b"", size)
            .data(text.as_bytes())
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.header(b'2', name.as_bytes(), target.as_bytes(), 0)
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.header(b'1', name.as_bytes(), target.as_bytes(), 0)
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let body = 3 + key.len() + value.len();
            let digits = |length: usize| length.to_string().len();
            let mut length = body + 1;
            while length != body + digits(length) {
                length += 1;
            }
            bytes.extend(format!("{length} {key}=").bytes());
            bytes.extend(*value);
            bytes.push(b'\n');
        }
        self.header(b'x', b"pax", b"", bytes.len() as u64)
            .data(&bytes)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// Unpacks a stream; what is there then, a line each, or the error.
fn unpacked(stream: &[u8]) -> Result<Vec<String>, String> {
    with_layer(stream, |layer| list(layer, layer))
}

fn with_layer<T>(stream: &[u8], look: impl FnOnce(&Path) -> T) -> Result<T, String> {
    let scratch = Scratch::new(&std::env::temp_dir()).unwrap();
    let around = scratch.path();
    let (layer, victim) = (around.join("layer"), around.join("victim"));
    fs::create_dir_all(&layer).unwrap();
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("hello"), "untouched").unwrap();
    let before = fs::metadata(&victim).unwrap();

    let attributes = Attributes::here(&inside::directory(&around).unwrap());
    let result = unpack(Cursor::new(stream), &layer, attributes);

    let after = fs::metadata(&victim).unwrap();
    let unchanged =
        |of: &fs::Metadata| (of.mode(), of.uid(), of.mtime(), of.mtime_nsec(), of.nlink());
    assert_eq!(unchanged(&before), unchanged(&after));
    assert_eq!(list(&victim, &victim), ["hello = untouched"]);
    assert_eq!(fs::metadata(victim.join("hello")).unwrap().nlink(), 1);
    assert_eq!(fs::read_dir(&around).unwrap().count(), 2);
    result
        .map(|_| look(&layer))
        .map_err(|error| format!("{error:#}"))
}

fn list(top: &Path, dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(top).unwrap().display().to_string();
        let metadata = path.symlink_metadata().unwrap();
        let kind = metadata.file_type();
        if kind.is_dir() {
            let opaque = Attributes::Trusted.is_opaque(&path) || Attributes::User.is_opaque(&path);
            lines.push(format!("{name}/{}", if opaque { " opaque" } else { "" }));
            lines.extend(list(top, &path));
        } else if kind.is_symlink() {
            lines.push(format!("{name} -> {}", path.read_link().unwrap().display()));
        } else if kind.is_char_device() {
            lines.push(format!("{name} device {}", metadata.rdev()));
        } else if kind.is_fifo() {
            lines.push(format!("{name} fifo"));
        } else {
            lines.push(format!("{name} = {}", fs::read_to_string(&path).unwrap()));
        }
    }
    lines.sort();
    lines
}

fn layer() -> Stream {
    Stream::default()
}

fn long(length: usize) -> String {
    "n".repeat(length)
}

#[test]
fn names_that_lead_out_of_the_layer_are_refused_or_stay_inside() {
    let refused = [
        layer().file("../victim/hello", "x"),
        layer().file("../../etc/x", "x"),
        layer().dir("a").file("a/../../victim/hello", "x"),
        layer().dir(".."),
        layer().dir("../victim"),
        layer().symlink(".", "../victim"),
        layer().file("", "x"),
        layer().header(b'1', b"./", b"../victim", 0),
        layer().dir("d").link("d/l", "../victim/hello"),
        layer().symlink("s", "/etc").link("l", "s/passwd"),
        layer().link("l", "nothing"),
        layer().link("l", "/etc/passwd"),
        layer().file("f", "").file("f/x", ""),
        layer().header(b'6', b"p", b"", 0).file("p/x", ""),
        layer().symlink("a", "b").symlink("b", "a").file("a/x", ""),
        layer().pax(&[("path", b"a\0b")]).file("x", ""),
        layer().pax(&[("path", b"../victim/hello")]).file("x", ""),
        layer().pax(&[("path", long(256).as_bytes())]).file("x", ""),
        layer()
            .pax(&[("path", "d/".repeat(2100).as_bytes())])
            .dir("x"),
        layer().header(b'Z', b"odd", b"", 0),
    ];
    for (nth, stream) in refused.into_iter().enumerate() {
        let result = unpacked(&stream.end());
        assert!(result.is_err(), "{nth}: {result:?}");
    }
    let victim = "../victim";
    for (stream, expected) in [
        (
            layer().file("/../victim/x", "x"),
            vec!["victim/", "victim/x = x"],
        ),
        (layer().file("/abs", "x"), vec!["abs = x"]),
        (layer().file("a/../b", "x"), vec!["b = x"]),
        (
            layer()
                .symlink("loophole", victim)
                .file("loophole/file", "x"),
            vec!["loophole -> ../victim", "victim/", "victim/file = x"],
        ),
        (
            layer().symlink("loophole", victim).dir("loophole"),
            vec!["loophole/ opaque"],
        ),
        (
            layer()
                .symlink("loophole", victim)
                .file("loophole/.wh.hello", ""),
            vec!["loophole -> ../victim", "victim/", "victim/hello device 0"],
        ),
        (
            layer().symlink("loophole", victim).file("loophole", "x"),
            vec!["loophole = x"],
        ),
        (
            layer().symlink("s", "../victim/hello").link("l", "s"),
            vec!["l -> ../victim/hello", "s -> ../victim/hello"],
        ),
        (
            layer().file("f", "x").link("l", "/f"),
            vec!["f = x", "l = x"],
        ),
    ] {
        assert_eq!(unpacked(&stream.end()).unwrap(), expected);
    }
    let name = long(255);
    let stream = layer().pax(&[("path", name.as_bytes())]).file("x", "");
    assert_eq!(unpacked(&stream.end()).unwrap(), [format!("{name} = ")]);
}

#[test]
fn links_that_an_image_may_have_are_followed_inside_it() {
    for (stream, expected) in [
        (
            layer()
                .dir("run")
                .symlink("var/run", "/run")
                .file("var/run/pid", "1"),
            vec!["run/", "run/pid = 1", "var/", "var/run -> /run"],
        ),
        (
            layer()
                .symlink("var/run", "../run")
                .file("var/run/a/pid", "1"),
            vec![
                "run/",
                "run/a/",
                "run/a/pid = 1",
                "var/",
                "var/run -> ../run",
            ],
        ),
        (
            layer()
                .symlink("a", "/b")
                .symlink("b", "c/./d")
                .file("a/x", "1"),
            vec!["a -> /b", "b -> c/./d", "c/", "c/d/", "c/d/x = 1"],
        ),
    ] {
        assert_eq!(unpacked(&stream.end()).unwrap(), expected);
    }
}

#[test]
fn whiteouts_hide_what_is_below_and_spare_what_is_in_the_layer() {
    for (stream, expected) in [
        (layer().file(".wh.f", ""), vec!["f device 0"]),
        (layer().file("no/.wh.f", ""), vec!["no/", "no/f device 0"]),
        (layer().file("f", "x").file(".wh.f", ""), vec!["f = x"]),
        (layer().file(".wh.f", "").file("f", "x"), vec!["f = x"]),
        (layer().file(".wh.d", "").dir("d"), vec!["d/ opaque"]),
        (layer().dir("d").file(".wh.d", ""), vec!["d/ opaque"]),
        (
            layer().file(".wh.d", "").file("d/f", "x"),
            vec!["d/ opaque", "d/f = x"],
        ),
        (
            layer()
                .file("d/a", "x")
                .file("d/.wh..wh..opq", "")
                .file("d/b", "y"),
            vec!["d/ opaque", "d/a = x", "d/b = y"],
        ),
        (
            layer()
                .symlink("s", "d")
                .dir("d")
                .file("s/.wh..wh..opq", ""),
            vec!["d/ opaque", "s -> d"],
        ),
        (
            layer()
                .file(".wh..wh.aufs", "")
                .dir(".wh..wh.plnk")
                .file(".wh..wh.plnk/1", ""),
            vec![],
        ),
        (
            layer().file("f", "").file(".wh.f", "").file(".wh.f", ""),
            vec!["f = "],
        ),
    ] {
        assert_eq!(unpacked(&stream.end()).unwrap(), expected);
    }
    for name in [".wh.", ".wh..", ".wh...", ".wh.d/f", "d/.wh.x/y"] {
        assert!(unpacked(&layer().file(name, "").end()).is_err(), "{name}");
    }
    let link_to_whiteout = layer().file(".wh.f", "").link("l", "f");
    assert!(unpacked(&link_to_whiteout.end()).is_err());
}

#[test]
fn a_later_member_takes_the_place_of_an_earlier_one() {
    for (stream, expected) in [
        (layer().file("d/a/b", "x").file("d", "y"), vec!["d = y"]),
        (layer().file("d/a", "x").symlink("d", "e"), vec!["d -> e"]),
        (
            layer().file("f", "x").dir("f").file("f/g", "y"),
            vec!["f/ opaque", "f/g = y"],
        ),
        (
            layer().dir("d").dir("d").file("d/f", "1").file("d/f", "22"),
            vec!["d/", "d/f = 22"],
        ),
        (
            layer()
                .file("d/a", "x")
                .file("d", "y")
                .file(".wh.d", "")
                .dir("d")
                .file("d/b", "z"),
            vec!["d/ opaque", "d/b = z"],
        ),
        (
            layer().file("a", "1").file("b", "2").link("b", "a"),
            vec!["a = 1", "b = 1"],
        ),
        (layer().header(b'6', b"p", b"", 0), vec!["p fifo"]),
        (layer().header(b'0', b"old/", b"", 0), vec!["old/"]),
    ] {
        assert_eq!(unpacked(&stream.end()).unwrap(), expected);
    }
}

#[test]
fn modes_times_and_attributes_arrive() {
    let capability = b"\x01\0\0\x02\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let stream = layer()
        .pax(&[("mtime", b"-1.25")])
        .dir("d")
        .pax(&[
            ("mtime", b"1234.000000005"),
            ("SCHILY.xattr.user.lines", b"a\nb=\n"),
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
        ])
        .file("d/f", "x")
        .file("d/later", "");
    with_layer(&stream.end(), |layer| {
        let dir = fs::metadata(layer.join("d")).unwrap();
        assert_eq!((dir.mtime(), dir.mtime_nsec()), (-2, 750_000_000));
        let file = layer.join("d/f");
        let metadata = fs::metadata(&file).unwrap();
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1234, 5));
        let mut value = [0; 64];
        let mut read = |name: &str| {
            let length = rustix::fs::getxattr(&file, name, &mut value);
            length.map(|length| value[..length].to_vec())
        };
        assert_eq!(read("user.lines").unwrap(), b"a\nb=\n");
        // Only with CAP_SETFCAP may a file get capabilities (capabilities(7)).
        let granted = rustix::process::geteuid().is_root();
        let expected = if granted {
            Ok(capability.to_vec())
        } else {
            Err(Errno::NODATA)
        };
        assert_eq!(read("security.capability"), expected);
        assert_eq!(read("trusted.overlay.opaque"), Err(Errno::NODATA));
        assert_eq!(read("user.overlay.redirect"), Err(Errno::NODATA));
    })
    .unwrap();
}

#[test]
fn a_stream_that_is_cut_or_lies_about_sizes_is_an_error() {
    let good = layer().file("a", "1").file("b", &long(2000)).end();
    for cut in [1, 511, 512, 1025, 1536, 2500, 3535] {
        assert!(unpacked(&good[..cut]).is_err(), "{cut}");
    }
    // Nothing is missing but what fills the last block.
    for (cut, files) in [(513, 1), (3536, 2), (3583, 2)] {
        assert_eq!(unpacked(&good[..cut]).unwrap().len(), files, "{cut}");
    }
    let size = |size: u64| layer().header(b'0', b"f", b"", size).end();
    assert!(unpacked(&size(1 << 40)).is_err());
    assert!(unpacked(&size(u64::MAX)).is_err());
    assert!(unpacked(&size(1 << 63)).is_err());
    for records in [
        &[("size", &b"9999999"[..])],
        &[("size", b"99999999999999999999")],
        &[("size", b"-1")],
        &[("uid", b"4294967295")],
        &[("mtime", b"x")],
    ] {
        let stream = layer().pax(records).file("f", "x").end();
        assert!(unpacked(&stream).is_err(), "{records:?}");
    }
    let bomb = layer().header(b'x', b"pax", b"", 2 << 20).end();
    assert!(unpacked(&bomb).unwrap_err().contains("1 MiB"));
    let name = layer().header(b'L', b"name", b"", 1 << 40).end();
    assert!(unpacked(&name).unwrap_err().contains("1 MiB"));
    let alone = layer().pax(&[("path", b"x")]).end();
    assert!(unpacked(&alone).is_err());
    assert!(unpacked(&[b'x'; 4096]).is_err());
    // What follows the end is nobody's business, and no blocks of zeros need follow at all.
    let mut junk = good.clone();
    junk.extend([b'x'; 700]);
    assert_eq!(unpacked(&junk).unwrap().len(), 2);
    assert_eq!(unpacked(&good[..good.len() - 1024]).unwrap().len(), 2);
}

/// As large as a layer can be, and never in memory as a whole.
#[test]
fn a_million_headers_that_end_in_the_midst_are_an_error() {
    struct Again<'a>(&'a [u8], usize);
    impl std::io::Read for Again<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let mut piece = &self.0[self.1 % self.0.len()..];
            let count = piece.read(into)?;
            self.1 += count;
            Ok(count)
        }
    }
    let header = layer().dir("d").0;
    let cut = 1_000_000 * header.len() as u64 - 100;
    let stream = std::io::Read::take(Again(&header, 0), cut);
    let place = Scratch::new(&std::env::temp_dir()).unwrap();
    let into = place.path();
    fs::create_dir_all(&into).unwrap();
    let error = unpack(std::io::BufReader::new(stream), &into, Attributes::User).unwrap_err();
    assert!(
        format!("{error:#}").contains("ends inside a header"),
        "{error:#}"
    );
}

#[test]
fn sparse_files_keep_their_holes() {
    let map = "1\n1048576\n3\n";
    let mut body = map.as_bytes().to_vec();
    body.resize(512, 0);
    body.extend(b"end");
    let records = [
        ("GNU.sparse.major", &b"1"[..]),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.realsize", b"10737418240"),
    ];
    let stream = layer()
        .pax(&records)
        .header(b'0', b"GNUSparseFile.1/sparse", b"", body.len() as u64)
        .data(&body);
    let end = stream.file("after", "x").end();
    with_layer(&end, |layer| {
        let metadata = fs::metadata(layer.join("sparse")).unwrap();
        assert_eq!(metadata.len(), 10 << 30);
        assert!(metadata.blocks() < 100);
        let file = File::open(layer.join("sparse")).unwrap();
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, 1_048_575).unwrap();
        assert_eq!(&bytes, b"\0end");
        assert!(layer.join("after").exists());
    })
    .unwrap();

    for map in [
        "2\n0\n2\n1\n1\n",
        "1\n10737418239\n3\n",
        "1\n0\n4\n",
        "9\n0\n3\n",
        "1\n0\nx\n",
        "x",
    ] {
        let mut body = map.as_bytes().to_vec();
        body.resize(512, 0);
        body.extend(b"end");
        let stream = layer()
            .pax(&records)
            .header(b'0', b"f", b"", body.len() as u64);
        assert!(unpacked(&stream.data(&body).end()).is_err(), "{map:?}");
    }
}

#[test]
fn a_very_deep_tree_is_removed() {
    let scratch = Scratch::new(&std::env::temp_dir()).unwrap();
    let mut dir = scratch.path();
    fs::create_dir(&dir).unwrap();
    for _ in 0..50 {
        // Built from the bottom: a path of this depth cannot be named.
        let above = scratch.path();
        fs::create_dir_all(above.join("a/".repeat(100))).unwrap();
        fs::rename(&dir, above.join("a/".repeat(100)).join("b")).unwrap();
        fs::write(above.join("file"), "").unwrap();
        dir = above;
    }
    scratch.discard(&dir).unwrap();
    assert!(!dir.exists());
}
