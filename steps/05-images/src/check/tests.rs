//! Stores that somebody damaged.

use std::cell::RefCell;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use rustix::fs::XattrFlags;
use serde_json::json;

use super::*;
use crate::oci::Platform;

/// A store with one image, which `far/away:1` has as well.
struct Place {
    store: Store,
    /// Another store, to bring blobs from.
    away: Store,
    dir: Scratch,
}

const NAME: &str = "far/away:1";

impl Place {
    fn new() -> Self {
        let dir = Scratch::new(&std::env::temp_dir()).unwrap();
        let archive = dir.path();
        fs::write(&archive, archive_of(&layer())).unwrap();
        let [store, away] = [dir.path(), dir.path()].map(|dir| {
            let store = Store::open(&dir).unwrap();
            store
                .load(&archive, None, &Platform::here(), &|_, _, _| ())
                .unwrap();
            store
        });
        let place = Self { store, away, dir };
        let name = NAME.parse().unwrap();
        let digest = Some(place.entry().digest);
        let image = place.store.find("app").unwrap();
        place.store.tag(&image, &name, digest).unwrap();
        assert_eq!(place.check(None), (vec![], true));
        place
    }

    fn entry(&self) -> Descriptor {
        self.store.index().unwrap().manifests.remove(0)
    }

    fn manifest(&self) -> Manifest {
        Manifest::parse(&self.away.read(&self.entry_away()).unwrap()).unwrap()
    }

    fn entry_away(&self) -> Descriptor {
        self.away.index().unwrap().manifests.remove(0)
    }

    fn tree(&self) -> PathBuf {
        let image = self.away.find("app").unwrap();
        self.store
            .layer(&image.document.rootfs.diff_ids[0])
            .join("diff")
    }

    /// What was found, and whether all of it is well now.
    fn check(&self, fetch: Option<&Fetch<'_>>) -> (Vec<String>, bool) {
        let found = RefCell::new((Vec::new(), true));
        let tell = |finding: Finding| {
            let mut found = found.borrow_mut();
            found.0.push(finding.what);
            found.1 &= finding.mended;
        };
        Store::check(&self.store.dir, fetch, &tell).unwrap();
        found.into_inner()
    }

    /// Mends all, with blobs from away where there are sources.
    fn mend(&self) -> (Vec<String>, bool) {
        self.check(Some(&|intake: &Intake<'_>, name: &ImageName, lost| {
            assert_eq!(name.repository(), "far/away");
            match lost {
                Lost::Manifest(blob) | Lost::Config(blob) => {
                    intake.document(blob, &self.away.read(blob)?)
                }
                Lost::Layer(blob, diff_id) => {
                    let Some(mut incoming) = intake.layer(blob, diff_id)? else {
                        return Ok(());
                    };
                    incoming.write(&fs::read(self.away.blob_path(&blob.digest))?)?;
                    incoming.finish(&|_| ())
                }
            }
        }))
    }

    /// Sees that `damage` is found in words with `what` in them, first only told and then mended,
    /// with nothing lost.
    fn is_mended(&self, what: &str, damage: impl FnOnce()) {
        damage();
        let (told, well) = self.check(None);
        assert!(
            !well && told.iter().any(|it| it.contains(what)),
            "{what}: {told:?}"
        );
        let again = self.check(None);
        assert_eq!(
            again,
            (told.clone(), false),
            "{what}: only to tell changed something"
        );
        let (mended, well) = self.mend();
        assert!(well, "{what}: {mended:?}");
        assert_eq!(mended.len(), told.len(), "{what}: {mended:?}");
        assert_eq!(self.mend(), (vec![], true), "{what}");
        let image = self.store.find("app").unwrap();
        assert_eq!(image.names.len(), 2, "{what}");
        assert!(self.store.is_complete(&image), "{what}");
    }
}

fn layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |kind, name: &str, bytes: &[u8], link: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(1_000_000_000);
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        header.set_path(name).unwrap();
        header.set_cksum();
        tar.append(&header, bytes).unwrap();
    };
    add(tar::EntryType::Directory, "etc/", b"", "");
    add(tar::EntryType::Regular, "etc/file", b"some content", "");
    add(tar::EntryType::Link, "etc/twin", b"", "etc/file");
    add(tar::EntryType::Symlink, "etc/link", b"", "/nowhere");
    add(tar::EntryType::Regular, "on/the/way/to/it", b"x", "");
    tar.into_inner().unwrap()
}

/// What `docker save` writes.
fn archive_of(layer: &[u8]) -> Vec<u8> {
    let config = json!({"os": "linux", "architecture": Platform::here().architecture,
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(layer)]}});
    let list = json!([{"Config": "c.json", "RepoTags": ["app"], "Layers": ["l.tar"]}]);
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in [
        ("c.json", config.to_string().as_bytes()),
        ("l.tar", layer),
        ("manifest.json", list.to_string().as_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Turns one bit of a file.
fn flip(path: &Path) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}

#[test]
fn a_bit_that_turns_is_found_and_mended_wherever_it_is() {
    let place = Place::new();
    let manifest = place.manifest();
    let blob = |digest: &Digest| place.store.blob_path(digest);
    for (what, path) in [
        ("manifest", blob(&place.entry().digest)),
        ("config", blob(&manifest.config.digest)),
        ("layer", blob(&manifest.layers[0].digest)),
        ("/etc: file: other content", place.tree().join("etc/file")),
        ("its size is not noted", place.tree().with_file_name("size")),
        (
            "oci-layout is damaged",
            place.store.dir.join("images/oci-layout"),
        ),
    ] {
        place.is_mended(what, || flip(&path));
        place.is_mended("", || fs::remove_file(&path).unwrap());
    }
    place.is_mended("it is missing", || {
        fs::remove_dir_all(place.tree().with_file_name("")).unwrap();
    });
}

#[test]
fn a_tree_that_is_another_is_unpacked_anew() {
    let place = Place::new();
    let etc = place.tree().join("etc");
    let file = etc.join("file");
    place.is_mended("extra doesn't belong there", || {
        fs::write(etc.join("extra"), "").unwrap();
    });
    place.is_mended("link is missing", || {
        fs::remove_file(etc.join("link")).unwrap();
    });
    place.is_mended("another mode", || {
        fs::set_permissions(&file, Permissions::from_mode(0o4755)).unwrap();
    });
    place.is_mended("another time", || {
        let opened = File::options().write(true).open(&file).unwrap();
        opened.set_modified(std::time::SystemTime::now()).unwrap();
    });
    place.is_mended("other attributes", || {
        rustix::fs::setxattr(&file, "user.mark", b"x", XattrFlags::empty()).unwrap();
    });
    place.is_mended("other content", || {
        fs::remove_file(etc.join("link")).unwrap();
        symlink("/nothere", etc.join("link")).unwrap();
        let time = Timespec {
            tv_sec: 1_000_000_000,
            tv_nsec: 0,
        };
        let times = rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(CWD, etc.join("link"), &times, flags).unwrap();
    });
    place.is_mended("another number of names", || {
        fs::remove_file(etc.join("twin")).unwrap();
        fs::copy(&file, etc.join("twin")).unwrap();
    });
    place.is_mended("another type", || {
        fs::remove_file(etc.join("link")).unwrap();
        fs::create_dir(etc.join("link")).unwrap();
    });
    place.is_mended("/: another mode", || {
        fs::set_permissions(place.tree(), Permissions::from_mode(0o700)).unwrap();
    });
}

#[test]
fn an_index_is_put_together_from_what_is_left() {
    let place = Place::new();
    let path = place.store.dir.join("images/index.json");
    let before = fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("\"size\": ", "\"size\": 1"),
        ("manifest.v1", "manifest.v0"),
    ] {
        place.is_mended("wrong about the manifest", || {
            fs::write(&path, before.replacen(from, to, 1)).unwrap();
        });
    }

    // One entry that cannot be read costs that entry only, and not its image.
    let digest = place.entry().digest.hex();
    fs::write(&path, before.replacen(&digest, "no digest", 1)).unwrap();
    let (found, well) = place.mend();
    assert!(
        well && found[0].contains("of which 0 have lost"),
        "{found:?}"
    );
    assert_eq!(place.mend(), (vec![], true));
    let image = place.store.find(NAME).unwrap();
    assert_eq!(image.names.len(), 1);

    for damaged in [&before[..before.len() / 2], ""] {
        fs::write(&path, damaged).unwrap();
        let (found, well) = place.mend();
        assert!(
            well && found[0].contains("of which 1 have lost"),
            "{found:?}"
        );
        assert_eq!(place.mend(), (vec![], true));
        assert_eq!(place.store.images().unwrap()[0].names, []);
    }
    let kept = fs::read_to_string(path.with_extension("json.damaged")).unwrap();
    assert_eq!(kept, before[..before.len() / 2]);

    fs::remove_file(&path).unwrap();
    let blobs = digests_in(&place.store.dir.join("images/blobs/sha256")).unwrap();
    assert!(place.store.prune(|_| false).is_err());
    assert!(
        blobs.iter().all(|(blob, _)| blob.exists()),
        "removed for want of an index"
    );
    assert!(place.mend().1);
    assert!(place.store.find(&image.id().to_string()).is_ok());
}

#[test]
fn a_wrong_digest_in_the_index_loses_no_image() {
    let place = Place::new();
    let path = place.store.dir.join("images/index.json");
    let digest = place.entry().digest.hex();
    let index = fs::read_to_string(&path).unwrap();
    fs::write(&path, index.replace(&digest, &Digest::of(b"").hex())).unwrap();
    let (found, well) = place.mend();
    assert!(!well, "{found:?}");
    assert!(
        found.iter().any(|it| it.contains("doesn't name the image")),
        "{found:?}"
    );
    let image = place.store.images().unwrap().remove(0);
    assert!(image.names.is_empty() && place.store.is_complete(&image));
}

#[test]
fn names_are_valid_and_unique() {
    let place = Place::new();
    let path = place.store.dir.join("images/index.json");
    let index = fs::read_to_string(&path).unwrap();
    let twice = index
        .replace(NAME, "app:latest")
        .replace("docker.io/library/app", "app");
    fs::write(&path, &twice).unwrap();
    let (found, well) = place.mend();
    assert!(well && found[0].contains("twice"), "{found:?}");
    fs::write(&path, index.replace("app:latest", "App:latest")).unwrap();
    let (found, well) = place.mend();
    assert!(well && found[0].contains("which is none"), "{found:?}");
    assert_eq!(place.mend(), (vec![], true));
}

#[test]
fn what_no_registry_has_is_said_and_comes_with_the_next_load() {
    let place = Place::new();
    place.store.remove(NAME, false).unwrap();
    let blob = place.store.blob_path(&place.manifest().layers[0].digest);
    flip(&blob);
    let (found, well) = place.mend();
    assert!(
        !well && found[0].contains("pull or load app:latest again"),
        "{found:?}"
    );
    assert!(!blob.exists());
    let archive = place.dir.path();
    fs::write(&archive, archive_of(&layer())).unwrap();
    place
        .store
        .load(&archive, None, &Platform::here(), &|_, _, _| ())
        .unwrap();
    assert_eq!(place.mend(), (vec![], true));
}

#[test]
fn leftovers_go_and_what_somebody_needs_stays() {
    let place = Place::new();
    let dir = &place.store.dir;
    let blobs = dir.join("images/blobs/sha256");
    let orphan = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        digest
    };
    let (leased, _) = (orphan(b"leased"), orphan(b"orphan"));
    let intake = place.store.intake().unwrap();
    intake.need(&[leased]).unwrap();
    let coming = Descriptor::new(MANIFEST, Digest::of(b"coming"), 6);
    let incoming = intake.layer(&coming, &coming.digest).unwrap();
    fs::create_dir_all(dir.join("layers").join(Digest::of(b"orphan").hex())).unwrap();
    fs::write(
        dir.join("ingest").join(Digest::of(b"given up").hex()),
        "giv",
    )
    .unwrap();
    fs::create_dir(dir.join("tmp/1.0")).unwrap();
    fs::create_dir(dir.join("containers/dead")).unwrap();
    let (found, well) = place.mend();
    assert!(well);
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(place.store.blob(&leased).is_ok());
    assert!(dir.join("ingest").join(coming.digest.hex()).exists());
    drop(incoming);
    drop(intake);
    assert_eq!(place.mend().0.len(), 2);
    assert_eq!(place.mend(), (vec![], true));
}

#[test]
fn a_layer_is_not_exchanged_below_a_container() {
    let place = Place::new();
    let image = place.store.find("app").unwrap();
    let container = place.store.container(&image, "alive").unwrap();
    flip(&place.tree().join("etc/file"));
    let (found, well) = place.mend();
    assert!(
        !well && found[0].contains("the container alive is running on it"),
        "{found:?}"
    );
    drop(container);
    assert!(place.mend().1);
    assert_eq!(place.mend(), (vec![], true));
}

#[test]
fn a_layout_of_another_version_is_left_alone() {
    let place = Place::new();
    let layout = place.store.dir.join("images/oci-layout");
    fs::write(&layout, r#"{"imageLayoutVersion": "2.0.0"}"#).unwrap();
    let error = Store::check(&place.store.dir, None, &|_| ()).unwrap_err();
    assert!(format!("{error:#}").contains("2.0.0"));
}

#[test]
fn several_checks_at_once_are_of_one_mind() {
    let place = Place::new();
    let layer = place.manifest().layers[0].digest;
    for _ in 0..20 {
        flip(&place.store.blob_path(&layer));
        flip(&place.store.blob_path(&place.entry().digest));
        flip(&place.tree().join("etc/file"));
        std::thread::scope(|scope| {
            let checks: Vec<_> = (0..3).map(|_| scope.spawn(|| place.mend())).collect();
            for check in checks {
                let (found, well) = check.join().unwrap();
                assert!(well, "{found:?}");
            }
        });
        assert_eq!(place.mend(), (vec![], true));
    }
}

#[test]
fn there_is_nothing_wrong_with_what_is_not_there() {
    let dir = Scratch::new(&std::env::temp_dir()).unwrap();
    let store = dir.path();
    Store::check(&store, None, &|finding| panic!("{finding:?}")).unwrap();
    assert!(!store.exists());
}
