//! minidocker's store in files' terms: what it lets out, what it takes in, and what is made of
//! damage. The leaf's own tests look at each kind of damage alone.

use std::fs;
use std::path::{Path, PathBuf};

use harness::registry::{Hostile, Kind, Layer, Layout, Minidocker, Packing, machine, noise};
use harness::{Host, Setup, User};
use serde_json::{Value, json};

const BOTH: [User; 2] = [User::Root, User::Student];

/// A layout at /tmp/layout with `one`, of three layers, and `two`, which has the first of them.
struct Images {
    layers: [Layer; 3],
    manifest: Value,
}

impl Images {
    fn new(host: &Host) -> Images {
        let mut layout = Layout::new(host, "/tmp/layout");
        let large = noise(1, 1 << 20);
        let layers = [
            layout.layer(Packing::Gzip, &[("etc/first", b"1\n"), ("large", &large)]),
            layout.layer(Packing::Zstd, &[("etc/second", b"2\n")]),
            layout.layer(Packing::Plain, &[("etc/third", b"3\n")]),
        ];
        let [first, second, third] = &layers;
        let manifest = layout.image(Kind::Oci, "amd64", &[first, second, third]);
        layout.name("one", &manifest);
        let two = layout.image(Kind::Oci, "amd64", &[first]);
        layout.name("two", &two);
        host.shell("chmod -R go+rX /tmp/layout");
        Images { layers, manifest }
    }
}

/// A machine with the images and a registry that has them.
fn with_images(test: impl Fn(&Host, &Images, &Hostile<'_>, &Minidocker<'_>)) {
    let host = machine(Setup::default());
    let images = Images::new(&host);
    let registry = Hostile::start(&host, "/tmp/layout", &[]);
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        test(&host, &images, &registry, &minidocker);
    }
}

fn place(host: &Host, minidocker: &Minidocker<'_>, path: &str) -> PathBuf {
    host.path(&format!("{}/{path}", minidocker.dir()))
}

fn blob(host: &Host, minidocker: &Minidocker<'_>, digest: &str) -> PathBuf {
    let path = format!("images/blobs/{}", digest.replace(':', "/"));
    place(host, minidocker, &path)
}

/// Turns one bit in the middle of a file, and nothing else of it.
fn turn_a_bit(path: &Path) {
    let time = fs::metadata(path).and_then(|file| file.modified());
    let mut bytes = fs::read(path).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("write");
    let file = fs::File::options().write(true).open(path).expect("open");
    file.set_modified(time.expect("a time"))
        .expect("set a time");
}

#[test]
fn a_bit_that_turns_in_any_file_is_found_and_mended() {
    with_images(|host, images, registry, minidocker| {
        let name = registry.name("x:one");
        minidocker.ok(&format!("pull {name}"));
        let well = minidocker.ok("system check");
        assert_eq!(well, "");
        let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
        let config = minidocker.inspect(&name, "{{.Id}}");
        let manifest = images.manifest["digest"].as_str().expect("a digest");
        let mut files = vec![
            place(host, minidocker, "images/oci-layout"),
            blob(host, minidocker, &config),
            blob(host, minidocker, manifest),
        ];
        for (layer, file) in images.layers.iter().zip(["first", "second", "third"]) {
            let tree = format!("layers/{}", hex(&layer.diff_id));
            files.push(blob(host, minidocker, &layer.digest));
            files.push(place(host, minidocker, &format!("{tree}/diff/etc/{file}")));
            files.push(place(host, minidocker, &format!("{tree}/size")));
        }
        for file in files {
            turn_a_bit(&file);
            let told = minidocker.call("system check --dry-run");
            assert!(told.exits(1).is_empty(), "{told}");
            assert_eq!(told.text().lines().count(), 1, "{file:?}: {told}");
            let mended = minidocker.ok("system check");
            assert_eq!(mended.lines().count(), 1, "{file:?}: {mended}");
            assert_eq!(minidocker.ok("system check"), "", "{file:?}");
            minidocker.assert_sound();
            assert_eq!(minidocker.inspect(&name, "{{.Id}}"), config);
        }
    });
}

#[test]
fn an_index_that_cannot_be_read_costs_names_and_no_image() {
    with_images(|host, _, registry, minidocker| {
        let name = registry.name("x:one");
        minidocker.ok(&format!("pull {name}"));
        let id = minidocker.inspect(&name, "{{.Id}}");
        let index = place(host, minidocker, "images/index.json");
        let before = fs::read(&index).expect("an index");
        fs::write(&index, &before[..before.len() / 2]).expect("write");
        let said = minidocker.fails("images");
        assert!(said.contains("index.json"), "{said}");
        minidocker.ok("system check");
        assert_eq!(minidocker.ok("system check"), "");
        let tags = minidocker.inspect(&id, "{{json .RepoTags}}");
        assert_eq!(tags, "[]");
        let kept = fs::read(index.with_extension("json.damaged")).expect("what was there");
        assert_eq!(kept, before[..before.len() / 2]);
        minidocker.ok(&format!("tag {id} {name}"));
        minidocker.assert_sound();
    });
}

#[test]
fn what_came_from_a_file_has_to_come_from_there_again() {
    with_images(|host, images, _, minidocker| {
        minidocker.ok("load -q -i /tmp/layout");
        let layer = &images.layers[0];
        turn_a_bit(&blob(host, minidocker, &layer.digest));
        for _ in 0..2 {
            let told = minidocker.call("system check");
            told.exits(1);
            let names = "pull or load layout:one, layout:two again";
            assert!(told.text().contains(names), "{told}");
        }
        minidocker.ok("load -q -i /tmp/layout");
        assert_eq!(minidocker.ok("system check"), "");
        minidocker.assert_sound();
    });
}

#[test]
fn a_damaged_image_is_not_saved() {
    with_images(|host, images, registry, minidocker| {
        let name = registry.name("x:one");
        let file = format!("{}/saved.tar", minidocker.home());
        let save = format!("save -o {file} {name}");
        minidocker.ok(&format!("pull {name}"));
        minidocker.ok(&save);
        let before = fs::read(host.path(&file)).expect("an archive");
        for layer in &images.layers {
            let blob = blob(host, minidocker, &layer.digest);
            let whole = fs::read(&blob).expect("a blob");
            for damaged in [&whole[..whole.len() - 1], &[&whole[..], b"x"].concat(), b""] {
                fs::write(&blob, damaged).expect("write");
                let said = minidocker.fails(&save);
                assert!(said.contains(&layer.digest[7..]), "{said}");
            }
            fs::remove_file(&blob).expect("remove");
            minidocker.fails(&save);
            fs::write(&blob, &whole).expect("write");
        }
        assert_eq!(fs::read(host.path(&file)).expect("the archive"), before);
        minidocker.ok(&save);
        assert_eq!(fs::read(host.path(&file)).expect("the archive"), before);

        // Killed at any moment, it leaves the file that was there, and no other.
        for pause in 0..10 {
            let script = format!("minidocker {save} & sleep 0.0{pause}; kill -KILL $!; wait");
            host.run_as(minidocker.user(), ["sh", "-c", &script]);
            assert_eq!(fs::read(host.path(&file)).expect("the archive"), before);
        }
        let listed = host.shell(&format!("ls -A {} | grep saved", minidocker.home()));
        assert_eq!(listed, "saved.tar");
    });
}

#[test]
fn names_that_are_saved_are_those_that_were_meant() {
    with_images(|host, _, _, minidocker| {
        minidocker.ok("load -q -i /tmp/layout");
        minidocker.ok("tag layout:one other/name:1");
        let id = minidocker.inspect("layout:one", "{{.Id}}");
        let file = format!("{}/saved.tar", minidocker.home());
        for (what, expected) in [
            ("layout:one", json!([["docker.io/library/layout:one"]])),
            ("other/name:1", json!([["docker.io/other/name:1"]])),
            (
                "layout:one other/name:1",
                json!([["docker.io/library/layout:one", "docker.io/other/name:1"]]),
            ),
            (id.as_str(), json!([null])),
            (&id[7..19], json!([null])),
            (
                "layout",
                json!([
                    ["docker.io/library/layout:one"],
                    ["docker.io/library/layout:two"]
                ]),
            ),
        ] {
            minidocker.ok(&format!("save -o {file} {what}"));
            let list = host.shell(&format!("tar -xOf {file} manifest.json"));
            let list: Vec<Value> = serde_json::from_str(&list).expect("JSON");
            let mut tags: Vec<_> = list.iter().map(|image| &image["RepoTags"]).collect();
            tags.sort_by_key(ToString::to_string);
            assert_eq!(json!(tags), expected, "{what}");
            minidocker.ok(&format!("load -q -i {file}"));
        }
        minidocker.assert_sound();
    });
}

#[test]
fn an_archive_speaks_ocis_language_whatever_the_image_speaks() {
    let host = machine(Setup::default());
    let mut layout = Layout::new(&host, "/tmp/layout");
    let layer = layout.layer(Packing::Gzip, &[("file", b"text")]);
    let manifest = layout.image(Kind::Docker, "amd64", &[&layer]);
    layout.name("old", &manifest);
    let registry = Hostile::start(&host, "/tmp/layout", &[]);
    let name = registry.name("x:old");
    let minidocker = Minidocker::of(&host, User::Root);
    minidocker.ok(&format!("pull {name}"));
    let id = minidocker.inspect(&name, "{{.Id}}");
    for format in ["docker-archive", "oci"] {
        let file = format!("/tmp/{format}.tar");
        minidocker.ok(&format!("save --format {format} -o {file} {name}"));
        let shown = host.shell(&format!("skopeo inspect --raw oci-archive:{file}:{name}"));
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(shown["config"]["digest"], json!(id));
        let layers = json!([{
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": layer.digest,
            "size": shown["layers"][0]["size"],
        }]);
        assert_eq!(shown["layers"], layers);
        minidocker.ok(&format!("rmi {name}"));
        minidocker.ok(&format!("load -q -i {file}"));
        assert_eq!(minidocker.inspect(&name, "{{.Id}}"), id);
        minidocker.assert_sound();
    }
}

#[test]
fn what_is_no_root_file_system_is_not_imported() {
    let host = machine(Setup::default());
    host.shell(
        "cd /tmp; mkdir -p t/etc; echo text >t/etc/file; ln -s ../../out t/link; tar -C t -cf t.tar .
         xz -k t.tar; head -c 700 t.tar >short.tar; seq 1000 >text
         gzip <t.tar | head -c 100 >short.tar.gz
         python3 -c \"
import tarfile
with tarfile.open('out.tar', 'w') as tar:
    member = tarfile.TarInfo('../../out'); tar.addfile(member)
\"
         chmod 644 *.tar* text",
    );
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        minidocker.ok("images");
        for (source, why) in [
            ("/tmp/text", "not a tar archive"),
            ("/tmp/short.tar", "ends inside"),
            ("/tmp/short.tar.gz", "decompress"),
            ("/tmp/t.tar.xz", "xz is not known here"),
            ("/tmp/out.tar", "points out of the archive"),
            ("/tmp", "no archive"),
            ("/dev/zero", "no archive"),
            ("https://x.example/t.tar", "curl -L"),
            ("--platform windows/amd64 /tmp/t.tar", "not Linux"),
            ("--change RUN=x /tmp/t.tar", "not a valid change"),
        ] {
            let said = minidocker.call(&format!("import {source} bad:1"));
            assert_ne!(said.code(), 0, "{source}");
            assert!(said.errors().contains(why), "{source}: {said}");
            minidocker.assert_sound();
        }
        let images = minidocker.ok("images -q");
        assert_eq!(images.lines().count(), 1, "only the host's own: {images}");
        minidocker.ok("import /tmp/t.tar");
        assert_eq!(minidocker.ok("images -q").lines().count(), 2);
        minidocker.ok("image prune -f");
        assert_eq!(minidocker.ok("images -q").lines().count(), 1);
        assert_eq!(minidocker.ok("system check"), "");
    }
}

#[test]
fn prune_frees_what_is_meant_and_no_more() {
    with_images(|_, _, registry, minidocker| {
        let (one, two) = (registry.name("x:one"), registry.name("x:two"));
        let names = || minidocker.ok("images --format {{.Tag}}");
        minidocker.ok(&format!("pull {one}"));
        minidocker.ok(&format!("pull {two}"));
        minidocker.ok(&format!("tag {two} mine:1"));
        for nothing in ["", "--filter until=2020-01-01 -a", "--filter label=x -a"] {
            let said = minidocker.ok(&format!("image prune -f {nothing}"));
            assert_eq!(said, "Total reclaimed space: 0B", "{nothing}");
        }
        // It has no name, and a layer in common with one that has.
        minidocker.ok(&format!("tag {two} {one}"));
        let said = minidocker.ok("image prune -f");
        assert_eq!(said.matches("deleted: ").count(), 3, "{said}");
        assert!(!minidocker.ok("images").contains("<none>"));
        minidocker.assert_sound();
        minidocker.ok("image prune -f -a");
        assert_eq!(names(), "latest", "the host's own stays");
        assert_eq!(
            minidocker.blobs().len(),
            3,
            "config, manifest and layer of it"
        );
        assert_eq!(minidocker.ok("system check"), "");
        minidocker.assert_sound();
    });
}

#[test]
fn a_check_beside_pulls_and_removals_harms_nobody() {
    with_images(|host, _, registry, minidocker| {
        let (one, two) = (registry.name("x:one"), registry.name("x:two"));
        minidocker.ok(&format!("pull {two}"));
        let others = format!(
            "for i in $(seq 12); do
                minidocker pull -q {one} && minidocker rmi {one} && minidocker image prune -f
            done >/dev/null"
        );
        let others = host.spawn_as(minidocker.user(), ["sh", "-ec", &others]);
        for _ in 0..6 {
            let checked = minidocker.call("system check");
            assert_eq!(checked.code(), 0, "{checked}");
        }
        others.wait().ok();
        assert_eq!(minidocker.ok("system check"), "");
        minidocker.assert_sound();
        minidocker.inspect(&two, "{{.Id}}");
    });
}

#[test]
fn a_check_that_is_killed_leaves_what_the_next_one_mends() {
    with_images(|host, images, registry, minidocker| {
        let name = registry.name("x:one");
        minidocker.ok(&format!("pull {name}"));
        let id = minidocker.inspect(&name, "{{.Id}}");
        for round in 0..12 {
            let layer = &images.layers[round % 3];
            turn_a_bit(&blob(host, minidocker, &layer.digest));
            let tree = format!("layers/{}/size", &layer.diff_id[7..]);
            turn_a_bit(&place(host, minidocker, &tree));
            let script = format!(
                "minidocker system check & sleep 0.0{}; kill -KILL $!; wait",
                (round * 37) % 100
            );
            host.run_as(minidocker.user(), ["sh", "-c", &script]);
            let mended = minidocker.call("system check");
            assert_eq!(mended.code(), 0, "{mended}");
            assert_eq!(minidocker.ok("system check"), "");
            minidocker.assert_sound();
            assert_eq!(minidocker.inspect(&name, "{{.Id}}"), id);
        }
    });
}
