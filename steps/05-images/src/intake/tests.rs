//! Layers that come in pieces, twice, wrong, and while others remove what they can.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::oci::{CONFIG, MANIFEST, Platform};

/// A store in a directory of its own, and an image to come.
struct Place {
    store: Store,
    _dir: Scratch,
    layer: Vec<u8>,
}

impl Place {
    fn new() -> Self {
        let dir = Scratch::new(&std::env::temp_dir()).unwrap();
        let store = Store::open(&dir.path()).unwrap();
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, "file", &b"abc"[..])
            .unwrap();
        let layer = archive.into_inner().unwrap();
        Self {
            store,
            _dir: dir,
            layer,
        }
    }

    fn blob(&self) -> Descriptor {
        let kind = "application/vnd.oci.image.layer.v1.tar";
        Descriptor::new(kind, Digest::of(&self.layer), self.layer.len() as u64)
    }

    fn incoming<'a>(&self, intake: &'a Intake<'_>) -> Option<Incoming<'a>> {
        let blob = self.blob();
        intake.layer(&blob, &blob.digest).unwrap()
    }

    /// Config and manifest, with what describes them.
    fn documents(&self) -> [(Descriptor, Vec<u8>); 2] {
        let described = |kind: &str, value: &serde_json::Value| {
            let bytes = serde_json::to_vec(value).unwrap();
            let descriptor = Descriptor::new(kind, Digest::of(&bytes), bytes.len() as u64);
            (descriptor, bytes)
        };
        let config = json!({ "os": "linux", "architecture": Platform::here().architecture,
            "rootfs": { "type": "layers", "diff_ids": [self.blob().digest] } });
        let config = described(CONFIG, &config);
        let manifest = json!({ "schemaVersion": 2, "config": config.0, "layers": [self.blob()] });
        [config, described(MANIFEST, &manifest)]
    }

    fn take(&self, intake: Intake<'_>, name: &str) -> Result<Image> {
        let [config, manifest] = self.documents();
        intake.document(&config.0, &config.1)?;
        intake.document(&manifest.0, &manifest.1)?;
        intake.finish(&manifest.0, &name.parse()?, manifest.0.digest)
    }
}

#[test]
fn what_an_earlier_try_left_is_not_asked_for_again() {
    let place = Place::new();
    let (first, rest) = place.layer.split_at(700);
    let intake = place.store.intake().unwrap();
    let mut incoming = place.incoming(&intake).unwrap();
    assert_eq!(incoming.received(), 0);
    incoming.write(first).unwrap();
    drop(incoming);
    drop(intake);

    let intake = place.store.intake().unwrap();
    let mut incoming = place.incoming(&intake).unwrap();
    assert_eq!(incoming.received(), 700);
    incoming.write(rest).unwrap();
    incoming.finish(&|_| ()).unwrap();
    assert!(place.incoming(&intake).is_none());

    let image = place.take(intake, "app").unwrap();
    let file = image.layers()[0].join("file");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "abc");
    assert_eq!(place.store.find("app").unwrap().id(), image.id());
    assert!(place.store.is_complete(&image));
}

#[test]
fn nothing_stays_of_a_layer_that_is_another() {
    let place = Place::new();
    let intake = place.store.intake().unwrap();
    for wrong in [vec![0; place.layer.len()], place.layer[..600].to_vec()] {
        let mut incoming = place.incoming(&intake).unwrap();
        assert_eq!(incoming.received(), 0);
        // It may be seen to be no archive before its digest is known.
        if incoming.write(&wrong).is_ok() {
            assert!(incoming.finish(&|_| ()).is_err());
        }
    }
    let mut longer = place.layer.clone();
    longer.push(0);
    let mut incoming = place.incoming(&intake).unwrap();
    assert!(incoming.write(&longer).is_err());
    drop(incoming);
    assert!(place.take(intake, "app").is_err());
    assert!(place.store.find("app").is_err());
}

#[test]
fn who_comes_second_waits_and_finds_it() {
    let place = Place::new();
    let (first, second) = (place.store.intake().unwrap(), place.store.intake().unwrap());
    let mut incoming = place.incoming(&first).unwrap();
    let (say, hear) = channel();
    thread::scope(|scope| {
        scope.spawn(|| say.send(place.incoming(&second).is_none()).unwrap());
        assert!(hear.recv_timeout(Duration::from_millis(50)).is_err());
        incoming.write(&place.layer).unwrap();
        incoming.finish(&|_| ()).unwrap();
        assert!(hear.recv().unwrap());
    });
}

#[test]
fn what_a_lease_names_is_not_collected() {
    let place = Place::new();
    let blob = place.blob();
    let come = |intake: &Intake<'_>| {
        let mut incoming = place.incoming(intake).unwrap();
        incoming.write(&place.layer).unwrap();
        incoming.finish(&|_| ()).unwrap();
    };
    let intake = place.store.intake().unwrap();
    come(&intake);
    place.store.prune(|_| false).unwrap();
    assert!(!place.store.has_blob(&blob), "nobody has said it is needed");

    intake.need(&[blob.digest]).unwrap();
    come(&intake);
    let pruned = place.store.prune(|_| false).unwrap();
    assert!(pruned.deleted.is_empty());
    assert!(place.incoming(&intake).is_none());
    place.take(intake, "app").unwrap();
    place.store.prune(|_| false).unwrap();
    assert!(place.store.is_complete(&place.store.find("app").unwrap()));

    place.store.remove("app", false).unwrap();
    assert!(!place.store.has_blob(&blob));
}

#[test]
fn a_blob_whose_tree_was_lost_is_unpacked_without_a_download() {
    let place = Place::new();
    let intake = place.store.intake().unwrap();
    let mut incoming = place.incoming(&intake).unwrap();
    incoming.write(&place.layer).unwrap();
    incoming.finish(&|_| ()).unwrap();
    std::fs::remove_dir_all(place.store.layer(&place.blob().digest)).unwrap();

    let incoming = place.incoming(&intake).unwrap();
    assert_eq!(incoming.received(), place.blob().size);
    incoming.finish(&|_| ()).unwrap();
    assert!(place.incoming(&intake).is_none());
}

#[test]
fn flushes_are_shared_by_who_waits_and_a_failure_is_told() {
    let flushes = Flushes::default();
    assert!(flushes.flush(|| anyhow::bail!("no")).is_err());
    let count = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                flushes.flush(|| {
                    count.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(20));
                    Ok(())
                })
            });
        }
    });
    assert!(count.into_inner() < 20);
}
