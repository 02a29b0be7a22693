//! Images in files: archives of docker's kind and of the specification's.

use harness::registry::Minidocker;
use harness::{Host, Output, User};

use crate::{BOTH, Images, file, filled, host, skopeo};

/// Runs a line of podman's, whose storage is in the machine's memory.
fn podman(host: &Host, line: &str) -> Output {
    let own = "podman --root /tmp/podman/graph --runroot /tmp/podman/run --tmpdir /tmp/podman/tmp \
        --storage-driver vfs --events-backend file --cgroup-manager cgroupfs";
    host.run(own.split_whitespace().chain(line.split_whitespace()))
}

/// Root's minidocker with `one` as `one:mine`.
fn with_one(host: &Host) -> Minidocker<'_> {
    let registry = filled(host, &["one"]);
    let minidocker = Minidocker::of(host, User::Root);
    minidocker.ok(&format!("pull {}/one", registry.address()));
    minidocker.ok(&format!("tag {}/one one:mine", registry.address()));
    minidocker
}

#[test]
fn a_saved_image_is_loaded_by_podman_and_skopeo() {
    let host = host();
    let images = Images::new(&host);
    let minidocker = with_one(&host);
    minidocker.ok("save -o /tmp/one.tar one:mine");
    let said = podman(&host, "load --quiet -i /tmp/one.tar").ok();
    assert!(said.contains("one:mine"), "{said}");
    let id = podman(&host, "image inspect --format {{.Id}} one:mine").ok();
    assert_eq!(
        format!("sha256:{id}"),
        minidocker.inspect("one:mine", "{{.Id}}")
    );
    skopeo(
        &host,
        "copy --quiet docker-archive:/tmp/one.tar oci:/tmp/copy:one",
    )
    .ok();
    host.shell("umoci unpack --image /tmp/copy:one /tmp/bundle");
    assert_eq!(
        host.shell("cd /tmp/bundle/rootfs; cat first second third dir/same"),
        "1\n2\n3\nabove"
    );
    let config = skopeo(&host, "inspect --config oci:/tmp/copy:one").ok();
    for layer in [&images.first, &images.second, &images.third] {
        assert!(config.contains(&layer.diff_id), "{config}");
    }
}

#[test]
fn an_image_saved_as_a_layout_keeps_its_digest() {
    let host = host();
    let images = Images::new(&host);
    let minidocker = with_one(&host);
    minidocker.ok("save --format oci -o /tmp/one.tar one:mine");
    let shown = skopeo(&host, "inspect oci-archive:/tmp/one.tar").ok();
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["Digest"], serde_json::json!(images.digest("one")));
    let said = podman(&host, "load --quiet -i /tmp/one.tar");
    said.ok();
    host.shell("mkdir /tmp/there; tar -C /tmp/there -xf /tmp/one.tar; umoci ls --layout /tmp/there | grep .");
}

#[test]
fn the_same_image_is_saved_as_the_same_bytes() {
    let host = host();
    Images::new(&host);
    let registry = filled(&host, &["one"]);
    let name = format!("{}/one", registry.address());
    let mut sums = Vec::new();
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        for round in 0..2 {
            minidocker.ok(&format!("pull {name}"));
            for format in ["docker", "oci"] {
                let path = format!("{}/{format}", minidocker.home());
                minidocker.ok(&format!("save --format {format} -o {path} {name}"));
                let sum = host.shell(&format!("sha256sum <{path}"));
                sums.push((format, sum));
            }
            if round == 0 {
                minidocker.ok(&format!("rmi {name}"));
            }
        }
    }
    sums.sort();
    sums.dedup();
    assert_eq!(sums.len(), 2, "{sums:?}");
}

#[test]
fn what_others_save_is_loaded() {
    let host = host();
    let images = Images::new(&host);
    skopeo(
        &host,
        "copy --quiet oci:/tmp/layout:simple docker-archive:/tmp/docker.tar:skopeo:docker",
    )
    .ok();
    skopeo(
        &host,
        "copy --quiet oci:/tmp/layout:one oci-archive:/tmp/oci.tar:skopeo:oci",
    )
    .ok();
    skopeo(
        &host,
        "copy --quiet --all oci:/tmp/layout:multi oci-archive:/tmp/multi.tar:skopeo:multi",
    )
    .ok();
    skopeo(
        &host,
        "copy --quiet oci:/tmp/layout:one oci:/tmp/dir:skopeo:dir",
    )
    .ok();
    podman(&host, "load --quiet -i /tmp/docker.tar").ok();
    podman(&host, "tag skopeo:docker localhost/podman:docker").ok();
    podman(
        &host,
        "save --quiet -o /tmp/podman.tar localhost/podman:docker",
    )
    .ok();
    podman(&host, "tag skopeo:docker localhost/podman:oci").ok();
    podman(
        &host,
        "save --quiet --format oci-archive -o /tmp/podman-oci.tar localhost/podman:oci",
    )
    .ok();
    host.shell("cd /tmp; gzip -k docker.tar; zstd -q oci.tar -o oci.tar.zst; chmod 644 *.tar*");
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        for (path, name) in [
            ("docker.tar", "skopeo:docker"),
            ("docker.tar.gz", "skopeo:docker"),
            ("oci.tar", "skopeo:oci"),
            ("oci.tar.zst", "skopeo:oci"),
            ("multi.tar", "skopeo:multi"),
            ("dir", "skopeo:dir"),
            ("podman.tar", "localhost/podman:docker"),
            ("podman-oci.tar", "localhost/podman:oci"),
        ] {
            let said = minidocker.ok(&format!("load -i /tmp/{path}"));
            assert_eq!(said, format!("Loaded image: {name}"), "{path}");
            assert_eq!(file(&minidocker, name, "third"), "3\n", "{path}");
            assert_eq!(file(&minidocker, name, "first"), "1\n", "{path}");
            minidocker.assert_sound();
            minidocker.ok(&format!("rmi {name}"));
        }
        // From standard input, as in `docker load <FILE`.
        let script = "minidocker load </tmp/docker.tar";
        let said = host.run_as(user, ["sh", "-c", script]).ok();
        assert_eq!(said, "Loaded image: skopeo:docker");
        let ids = minidocker.inspect("skopeo:docker", "{{json .RootFS.Layers}}");
        let expected = [&images.first, &images.third].map(|layer| &layer.diff_id);
        assert_eq!(ids, serde_json::json!(expected).to_string());
    }
}

#[test]
fn several_images_travel_in_one_archive() {
    let host = host();
    Images::new(&host);
    let minidocker = with_one(&host);
    minidocker.ok("tag one:mine one:other");
    let registry = filled(&host, &["two"]);
    minidocker.ok(&format!("pull {}/two", registry.address()));
    minidocker.ok(&format!(
        "save -o /tmp/all.tar one:mine one:other {}/two",
        registry.address()
    ));
    host.shell("chmod 644 /tmp/all.tar");
    let student = Minidocker::of(&host, User::Student);
    let said = student.ok("load -i /tmp/all.tar");
    for name in [
        "one:mine",
        "one:other",
        &format!("{}/two:latest", registry.address()),
    ] {
        let line = format!("Loaded image: {name}");
        assert!(said.lines().any(|said| said == line), "{line}: {said}");
        assert_eq!(file(&student, name, "first"), "1\n");
    }
    for tag in ["mine", "other"] {
        let from = format!("docker-archive:/tmp/all.tar:one:{tag}");
        skopeo(&host, &format!("inspect {from}")).ok();
    }
    student.assert_sound();
}

#[test]
fn a_tree_in_an_archive_becomes_an_image() {
    let host = host();
    host.shell("mkdir -p /tmp/tree/etc; echo text >/tmp/tree/etc/plain; tar -C /tmp/tree -cf /tmp/tree.tar .; chmod 644 /tmp/tree.tar");
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        let change = ["-c", "CMD [\"/hello\"]", "-m", "from a test"];
        let words = ["minidocker", "import"].iter().chain(&change);
        let words = words.chain(&["/tmp/tree.tar", "imported:1"]);
        host.run_as(user, words).ok();
        assert_eq!(file(&minidocker, "imported:1", "etc/plain"), "text\n");
        let out = host.run_as(
            user,
            [
                "sh",
                "-c",
                "gzip </tmp/tree.tar | minidocker import - imported:2",
            ],
        );
        assert!(out.ok().starts_with("sha256:"), "{out}");
        assert_eq!(file(&minidocker, "imported:2", "etc/plain"), "text\n");
        minidocker.assert_sound();
        let image = format!("oci:{}/images:imported:1", minidocker.dir());
        let config = skopeo(&host, &format!("inspect --config {image}")).ok();
        assert!(config.contains("/hello"), "{config}");
        let unpack = format!(
            "cd /tmp; rm -rf bundle; umoci unpack --image {}/images:imported:2 bundle; cat bundle/rootfs/etc/plain",
            minidocker.dir()
        );
        assert_eq!(host.shell(&unpack), "text");
    }
}
