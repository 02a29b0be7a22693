//! The store, with images made here.

use std::fs;
use std::io::Write;

use flate2::Compression as Level;
use flate2::write::GzEncoder;
use serde_json::json;

use super::*;

/// A store in a directory of its own, and files beside it.
struct Place {
    store: Store,
    scratch: Scratch,
}

impl Place {
    fn new() -> Self {
        let scratch = Scratch::new(&std::env::temp_dir()).unwrap();
        let store = Store::open(&scratch.path()).unwrap();
        Self { store, scratch }
    }

    fn load(&self, files: &[(&str, Vec<u8>)]) -> Result<Vec<Image>> {
        self.load_bytes(&tar_of(files))
    }

    fn load_bytes(&self, bytes: &[u8]) -> Result<Vec<Image>> {
        let path = self.scratch.path();
        fs::write(&path, bytes).unwrap();
        self.store
            .load(&path, None, &Platform::here(), &|_, _, _| ())
    }

    /// The error of a load that must leave nothing behind.
    fn refuse(&self, files: &[(&str, Vec<u8>)]) -> String {
        let before = self.content();
        let error = self.load(files).unwrap_err();
        assert_eq!(self.content(), before);
        format!("{error:#}")
    }

    fn content(&self) -> Vec<String> {
        let parts = ["images/blobs/sha256", "layers", "containers", "tmp"];
        let list = |part| fs::read_dir(self.store.dir.join(part)).unwrap();
        let entries = parts.into_iter().flat_map(list);
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().path().display().to_string())
            .collect();
        names.sort();
        names
    }
}

fn tar_of(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Level::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    let config = json!({"os": "linux", "config": {"Cmd": ["sh"]}, "rootfs": rootfs});
    config.to_string().into_bytes()
}

fn descriptor(kind: &str, bytes: &[u8]) -> serde_json::Value {
    json!({"mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len()})
}

fn blob(bytes: &[u8]) -> (String, Vec<u8>) {
    let name = format!("blobs/sha256/{}", Digest::of(bytes).hex());
    (name, bytes.to_vec())
}

/// What `docker save` writes, with the table of contents last.
fn docker(tags: &[&str], layer: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let list = json!([{"Config": "c.json", "RepoTags": tags, "Layers": ["l/layer.tar"]}]);
    let list = list.to_string().into_bytes();
    vec![
        ("l/layer.tar", layer.to_vec()),
        ("c.json", config(&[layer])),
        ("manifest.json", list),
    ]
}

/// An OCI layout of one image, whose index is `wrap`ped around the manifest's descriptor.
fn oci(layer: &[u8], wrap: impl Fn(serde_json::Value) -> Vec<Vec<u8>>) -> Vec<(String, Vec<u8>)> {
    let (packed, config) = (gzip(layer), config(&[layer]));
    let manifest = json!({
        "schemaVersion": 2,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &packed)],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut documents = wrap(descriptor(MANIFEST, &manifest));
    let index = documents.pop().unwrap();
    let version = br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec();
    let mut files = vec![
        ("oci-layout".to_owned(), version),
        ("index.json".to_owned(), index),
    ];
    files.extend([blob(&packed), blob(&config), blob(&manifest)]);
    files.extend(documents.iter().map(|document| blob(document)));
    files
}

fn index(descriptors: &[serde_json::Value]) -> Vec<u8> {
    let index = json!({"schemaVersion": 2, "manifests": descriptors});
    index.to_string().into_bytes()
}

fn borrowed(files: &[(String, Vec<u8>)]) -> Vec<(&str, Vec<u8>)> {
    let files = files.iter();
    files
        .map(|(name, bytes)| (name.as_str(), bytes.clone()))
        .collect()
}

fn layer() -> Vec<u8> {
    tar_of(&[("file", b"content".to_vec())])
}

fn named(image: &Image) -> Vec<String> {
    image.names().iter().map(ToString::to_string).collect()
}

#[test]
fn a_docker_archive_keeps_its_id_and_its_names_plain_or_compressed() {
    let place = Place::new();
    let files = docker(&["debian:12", "debian:latest"], &layer());
    for bytes in [tar_of(&files), gzip(&tar_of(&files))] {
        let images = place.load_bytes(&bytes).unwrap();
        let [image] = images.as_slice() else {
            panic!("{images:?}")
        };
        assert_eq!(*image.id(), Digest::of(&config(&[&layer()])));
        assert_eq!(named(image), ["debian:12", "debian:latest"]);
        assert_eq!(image.size(), 7);
        let file = image.layers()[0].join("file");
        assert_eq!(fs::read_to_string(file).unwrap(), "content");
    }
    assert_eq!(place.store.images().unwrap().len(), 1);
}

#[test]
fn the_platform_of_this_machine_is_found_through_nested_indexes() {
    let place = Place::new();
    let platform = |mut descriptor: serde_json::Value, architecture: &str| {
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        descriptor
    };
    let files = oci(&layer(), |manifest| {
        let ours = platform(manifest.clone(), oci::architecture());
        let inner = index(&[platform(manifest, "vax"), ours]);
        let mut outer = descriptor(INDEX, &inner);
        outer["annotations"] = json!({oci::FULL_NAME: "docker.io/library/nested:1"});
        vec![inner, index(&[outer])]
    });
    let images = place.load(&borrowed(&files)).unwrap();
    assert_eq!(named(&images[0]), ["nested:1"]);

    let files = oci(&layer(), |manifest| {
        vec![index(&[platform(manifest, "vax")])]
    });
    let error = place.refuse(&borrowed(&files));
    assert!(error.ends_with("only for [linux/vax]"), "{error}");
}

#[test]
fn what_is_not_as_announced_is_refused_and_leaves_nothing() {
    let place = Place::new();
    let mut files = docker(&["a"], &layer());
    files[0].1[512] ^= 1;
    assert!(
        place
            .refuse(&files)
            .contains("should have the diff id sha256:")
    );

    let mut files = docker(&["a"], &layer());
    files[1].1 = config(&[&layer(), &layer()]);
    assert!(
        place
            .refuse(&files)
            .contains("has 1 layers and the config 2")
    );

    let mut files = docker(&["a"], &layer());
    files[0].1 = gzip(&layer());
    files[0].1.truncate(60);
    place.refuse(&files);
    files[0].1 = b"BZh9".to_vec();
    assert!(place.refuse(&files).contains("bzip2"));
    files.remove(0);
    assert!(
        place
            .refuse(&files)
            .contains("there is no file l/layer.tar")
    );
    assert!(
        place
            .refuse(&docker(&["A:b:c"], &layer()))
            .contains("not an image name")
    );
    assert!(
        place
            .refuse(&[("etc/passwd", vec![])])
            .contains("no images")
    );

    let plain = |manifest| vec![index(&[manifest])];
    for damaged in 2..5 {
        let mut files = oci(&layer(), plain);
        files[damaged].1[0] ^= 1;
        assert!(
            place
                .refuse(&borrowed(&files))
                .contains("should have the digest sha256:")
        );
    }
    let files = oci(&layer(), |mut manifest| {
        manifest["size"] = json!(1);
        vec![index(&[manifest])]
    });
    assert!(
        place
            .refuse(&borrowed(&files))
            .contains("said to be of 1 bytes")
    );
    let files = oci(&layer(), |mut manifest| {
        manifest["digest"] = json!("sha256:../../../etc/passwd");
        vec![index(&[manifest])]
    });
    place.refuse(&borrowed(&files));
}

#[test]
fn an_index_may_not_pose_as_a_manifest_nor_nest_for_ever() {
    let place = Place::new();
    let files = oci(&layer(), |mut manifest| {
        manifest["mediaType"] = json!(INDEX);
        vec![index(&[manifest])]
    });
    assert!(
        place
            .refuse(&borrowed(&files))
            .contains("an image index may not have")
    );

    let files = oci(&layer(), |manifest| {
        let mut documents = vec![index(&[manifest])];
        for _ in 0..5 {
            let inner = documents.last().unwrap();
            documents.push(index(&[descriptor(INDEX, inner)]));
        }
        documents
    });
    assert!(
        place
            .refuse(&borrowed(&files))
            .contains("an index in an index")
    );
    let huge = vec![b' '; 5 << 20];
    let files = oci(&layer(), |_| vec![huge.clone()]);
    assert!(
        place
            .refuse(&borrowed(&files))
            .contains("too many for a JSON document")
    );
}

#[test]
fn a_name_moves_to_the_image_that_was_loaded_last() {
    let place = Place::new();
    let old = place.load(&docker(&["a"], &layer())).unwrap();
    let other = tar_of(&[("other", vec![])]);
    let new = place.load(&docker(&["a", "b"], &other)).unwrap();
    assert_eq!(place.store.find("a").unwrap().id(), new[0].id());
    assert!(
        place
            .store
            .find(&old[0].short_id())
            .unwrap()
            .names()
            .is_empty()
    );

    let removed = place
        .store
        .remove("docker.io/library/a:latest", false)
        .unwrap();
    assert_eq!(removed.to_string(), "Untagged: a:latest");
    let lines = place
        .store
        .remove(&new[0].id().to_string(), false)
        .unwrap()
        .to_string();
    let (id, diff_id) = (new[0].id(), Digest::of(&other));
    assert_eq!(
        lines,
        format!("Untagged: b:latest\nDeleted: {id}\nDeleted: {diff_id}")
    );
    place.store.remove(&old[0].short_id(), false).unwrap();
    assert!(place.content().is_empty(), "{:?}", place.content());
}

#[test]
fn docker_s_manifest_is_there_in_oci_s_words_too_for_as_long_as_its_name() {
    let place = Place::new();
    let files = oci(&layer(), |mut entry| {
        entry["mediaType"] = json!(DOCKER_MANIFEST);
        entry["annotations"] = json!({ oci::REF_NAME: "app:1" });
        vec![index(&[entry])]
    });
    let image = place.load(&borrowed(&files)).unwrap().remove(0);
    assert_eq!(named(&image), ["app:1"]);
    let [translation] = &place.store.translations().unwrap()[..] else {
        panic!("one entry for others");
    };
    assert_eq!(translation.media_type, MANIFEST);
    assert_eq!(translation.annotations[oci::REF_NAME], "app:1");
    let manifest = Manifest::parse(&place.store.read(translation).unwrap()).unwrap();
    assert_eq!(manifest.config.digest, *image.id());

    // Who reads the store as a layout finds one image, under one name.
    let copy = Place::new();
    let layout = place.store.dir.join("images");
    let found = copy
        .store
        .load(&layout, None, &Platform::here(), &|_, _, _| ());
    assert_eq!(found.unwrap().len(), 1);
    assert_eq!(copy.store.images().unwrap().len(), 1);

    place
        .store
        .tag(&image, &"app:2".parse().unwrap(), None)
        .unwrap();
    assert_eq!(place.store.translations().unwrap().len(), 2);
    place.store.prune(|_| false).unwrap();
    assert!(place.store.read(translation).is_ok());
    place.store.remove("app:1", false).unwrap();
    assert_eq!(place.store.translations().unwrap().len(), 1);
    place.store.remove("app:2", false).unwrap();
    assert!(place.store.read(translation).is_err());
}

#[test]
fn an_image_in_use_stays_and_what_the_dead_left_goes() {
    let place = Place::new();
    let image = place.load(&docker(&["a"], &layer())).unwrap().remove(0);
    let container = place.store.container(&image, "c1").unwrap();
    assert!(place.store.container(&image, "c1").is_err());
    assert!(place.store.container(&image, "../c1").is_err());
    let error = place.store.remove("a", false).unwrap_err().to_string();
    assert!(error.ends_with("by running container c1"), "{error}");
    Store::open(&place.store.dir).unwrap().sweep().unwrap();
    assert!(container.root().is_dir());
    drop(container);

    fs::create_dir_all(place.store.dir.join("containers/dead/upper/x")).unwrap();
    fs::create_dir_all(place.store.dir.join("containers/begun")).unwrap();
    fs::create_dir_all(place.store.dir.join("tmp/99999.0/1/diff")).unwrap();
    // What somebody else keeps there is theirs, as where such a place is a link to /var/tmp.
    let theirs = ["tmp/letters/one", "tmp/1.x/one", "containers/letters/one"];
    let theirs = theirs.map(|path| place.store.dir.join(path));
    for path in &theirs {
        fs::create_dir_all(path).unwrap();
    }
    let link = place.store.dir.join("containers/link");
    std::os::unix::fs::symlink("/nowhere", &link).unwrap();
    Store::open(&place.store.dir).unwrap().sweep().unwrap();
    for path in &theirs {
        assert!(path.is_dir(), "{}", path.display());
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
    fs::remove_file(&link).unwrap();
    place.store.remove("a", false).unwrap();
    assert!(place.content().is_empty(), "{:?}", place.content());
}

#[test]
fn a_kept_container_outlives_its_maker_and_its_image_stays_with_it() {
    let place = Place::new();
    let store = &place.store;
    let image = place.load(&docker(&["a"], &layer())).unwrap().remove(0);
    let made = store.keep_container(&image, "c1").unwrap();
    assert!(store.keep_container(&image, "c1").is_err());
    assert!(store.keep_container(&image, "../c1").is_err());
    fs::write(made.upper.join("file"), "1").unwrap();
    Store::open(&store.dir).unwrap().sweep().unwrap();
    assert!(store.leftovers().unwrap().is_empty());

    let id = image.short_id();
    for (what, words) in [
        (
            "a",
            format!(
                "conflict: unable to remove repository reference \"a\" (must force) - container c1 \
                 is using its referenced image {id}"
            ),
        ),
        (
            &id,
            format!(
                "conflict: unable to delete {id} (must be forced) - image is being used by stopped \
                 container c1"
            ),
        ),
    ] {
        assert_eq!(store.remove(what, false).unwrap_err().to_string(), words);
    }
    assert!(store.prune(|_| true).unwrap().deleted.is_empty());
    let removed = store.remove("a", true).unwrap();
    assert_eq!((removed.untagged.len(), removed.deleted.len()), (1, 0));
    assert!(store.find("a").is_err());
    assert!(store.remove(&id, true).is_err());
    assert!(store.prune(|_| true).unwrap().deleted.is_empty());

    let again = store.kept_overlay("c1").unwrap();
    assert_eq!(again.lower, made.lower);
    assert_eq!(fs::read(again.upper.join("file")).unwrap(), b"1");
    store.discard_container("c1").unwrap();
    store.discard_container("c1").unwrap();
    assert!(!made.upper.exists());
    assert!(store.kept_overlay("c1").is_err());
    assert!(!store.prune(|_| true).unwrap().deleted.is_empty());
    assert!(place.content().is_empty(), "{:?}", place.content());
}

#[test]
fn a_container_that_was_being_made_when_its_maker_died_goes() {
    let place = Place::new();
    let image = place.load(&docker(&["a"], &layer())).unwrap().remove(0);
    place.store.keep_container(&image, "c1").unwrap();
    fs::remove_file(place.store.dir.join("containers/c1/kept")).unwrap();
    Store::open(&place.store.dir).unwrap().sweep().unwrap();
    assert!(!place.store.dir.join("containers/c1").exists());
    place.store.remove("a", false).unwrap();
}

#[test]
fn a_damaged_image_spares_the_others_and_can_be_loaded_again_or_removed() {
    let place = Place::new();
    let other = tar_of(&[("other", b"2".to_vec())]);
    place.load(&docker(&["other:1"], &other)).unwrap();
    let files = docker(&["app:1"], &layer());
    let damage = |image: &Image| {
        let manifest = place.store.blob_path(&image.manifests[0].digest);
        fs::write(manifest, "{").unwrap();
    };
    damage(&place.load(&files).unwrap()[0]);
    assert!(place.store.find("other:1").is_ok());
    assert!(place.store.find("app:1").is_err());
    damage(&place.load(&files).unwrap()[0]);
    place.store.remove("other:1", false).unwrap();
    let removed = place.store.remove("app:1", false).unwrap();
    assert_eq!(removed.untagged[0].to_string(), "app:1");
    assert!(place.content().is_empty());
}

#[test]
fn a_layer_that_an_image_has_twice_is_stacked_once() {
    let place = Place::new();
    let (a, b) = (tar_of(&[("a", vec![])]), tar_of(&[("b", vec![])]));
    let list = json!([{"Config": "c.json", "Layers": ["a", "b", "a", "a"]}]);
    let files = [
        ("manifest.json", list.to_string().into_bytes()),
        ("c.json", config(&[&a, &b, &a, &a])),
        ("a", a),
        ("b", b),
    ];
    let image = place.load(&files).unwrap().remove(0);
    let [lower, upper] = image.layers() else {
        panic!("{image:?}")
    };
    assert!(lower.join("b").exists() && upper.join("a").exists());
}

#[test]
fn a_directory_becomes_an_image_that_loads_elsewhere() {
    let place = Place::new();
    let tree = place.scratch.path();
    fs::create_dir_all(tree.join("bin")).unwrap();
    fs::write(tree.join("bin/tool"), "x").unwrap();
    std::os::unix::fs::symlink("/bin/tool", tree.join("bin/sh")).unwrap();
    let config = Config {
        cmd: vec!["sh".to_owned()],
        ..Config::default()
    };
    let name = "mini".parse().unwrap();
    let image = place.store.import_dir(&tree, &name, config).unwrap();
    assert_eq!(image.config().cmd, ["sh"]);

    let other = Place::new();
    let layout = place.store.dir.join("images");
    let copy = other
        .store
        .load(
            &layout,
            Some(&"copy:1".parse().unwrap()),
            &Platform::here(),
            &|_, _, _| (),
        )
        .unwrap();
    assert_eq!(
        (copy[0].id(), named(&copy[0])),
        (image.id(), vec!["copy:1".to_owned()])
    );
    let link = copy[0].layers()[0].join("bin/sh");
    assert_eq!(link.read_link().unwrap(), Path::new("/bin/tool"));
}

/// A layer with everything in it that one can say.
fn rich() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind, link: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o4751);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_007);
        header.set_size(content.len() as u64);
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        archive.append_data(&mut header, path, content).unwrap();
    };
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(140));
    use tar::EntryType::{Directory, Fifo, Link, Regular, Symlink};
    add("./", Directory, "", b"");
    add("removed/", Directory, "", b"");
    add("removed/.wh.file", Regular, "", b"");
    add("hidden/", Directory, "", b"");
    add("hidden/.wh..wh..opq", Regular, "", b"");
    add("hidden/new", Regular, "", b"new");
    add("hidden/second", Link, "hidden/new", b"");
    add("pipe", Fifo, "", b"");
    add("link", Symlink, "../../nowhere", b"");
    add(&long, Regular, "", &[7; 70_000]);
    let mut records = Vec::new();
    records.extend_from_slice(b"31 SCHILY.xattr.user.key=v\0lue\n");
    records.extend_from_slice(b"30 mtime=1000000007.123456789\n");
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_size(records.len() as u64);
    archive.append_data(&mut header, "x", &records[..]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(1);
    archive
        .append_data(&mut header, "marked", &b"1"[..])
        .unwrap();
    archive.into_inner().unwrap()
}

#[test]
fn what_a_container_wrote_becomes_a_layer_that_unpacks_to_the_same() {
    let place = Place::new();
    let base = place.load(&docker(&["a"], &layer())).unwrap().remove(0);
    let overlay = place.store.keep_container(&base, "c1").unwrap();
    let commit = || {
        let document = Document {
            history: vec![History::default()],
            ..base.document().clone()
        };
        let name = "new:1".parse().unwrap();
        place
            .store
            .commit(&base, &overlay.upper, Some(&name), document)
            .unwrap()
    };
    let same = commit();
    assert_eq!(same.layers(), base.layers());
    assert!(same.document().history[0].empty_layer);

    let scratch = place.scratch.begun().unwrap();
    layer::unpack(&rich()[..], &overlay.upper, place.store.attributes).unwrap();
    let image = commit();
    assert_eq!(image.layers().len(), base.layers().len() + 1);
    assert!(!image.document().history[0].empty_layer);
    compare::compare(image.layers().last().unwrap(), &overlay.upper, scratch).unwrap();
    assert_eq!(commit().id(), image.id());

    let blob = image.manifest().layers.last().unwrap();
    let mut tar = Vec::new();
    place
        .store
        .tar(blob)
        .unwrap()
        .read_to_end(&mut tar)
        .unwrap();
    let diff_id = *image.document().rootfs.diff_ids.last().unwrap();
    assert_eq!(Digest::of(&tar), diff_id);
    Store::check(&place.store.dir, None, &|found| panic!("{found:?}")).unwrap();
}

#[test]
fn what_overlayfs_left_in_a_layer_below_is_not_committed_without_it() {
    let place = Place::new();
    let base = place.load(&docker(&["a"], &layer())).unwrap().remove(0);
    let overlay = place.store.keep_container(&base, "c1").unwrap();
    let dir = overlay.upper.join("dir");
    fs::create_dir(&dir).unwrap();
    let name = match place.store.attributes {
        Attributes::Trusted => "trusted.overlay.redirect",
        Attributes::User => "user.overlay.redirect",
    };
    rustix::fs::setxattr(&dir, name, b"/other", rustix::fs::XattrFlags::empty()).unwrap();
    let document = base.document().clone();
    let refused = place.store.commit(&base, &overlay.upper, None, document);
    assert!(format!("{:#}", refused.unwrap_err()).contains("redirect_dir"));
}
