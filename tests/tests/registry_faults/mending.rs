//! Stores that are harmed, and mended by `system check`.

use harness::registry::{Hostile, Kind, Layout, Packing};

use crate::{Bystander, with_each_user};

/// Each harm as a script in the store's directory.
const HARMS: [&str; 10] = [
    "echo >>images/blobs/sha256/$layer",
    ": >images/blobs/sha256/$layer",
    "rm images/blobs/sha256/$layer",
    "rm images/blobs/sha256/$config",
    "echo '{}' >images/blobs/sha256/$config",
    "rm images/blobs/sha256/$manifest",
    "echo '{}' >images/blobs/sha256/$manifest",
    "rm -r layers/$diff",
    "echo other >layers/$diff/diff/file",
    "rm layers/$diff/diff/file",
];

/// An image of one layer with one file, `file`, and the hex digests of its parts, as a
/// shell's variables.
fn image(layout: &mut Layout) -> String {
    let layer = layout.layer(Packing::Gzip, &[("file", b"text")]);
    let image = layout.image(Kind::Oci, "amd64", &[&layer]);
    layout.name("one", &image);
    let manifest = layout.read(&image);
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
    let hex = |digest: &serde_json::Value| digest.as_str().expect("a digest")[7..].to_owned();
    format!(
        "layer={} diff={} config={} manifest={}",
        &layer.digest[7..],
        &layer.diff_id[7..],
        hex(&manifest["config"]["digest"]),
        hex(&image["digest"]),
    )
}

#[test]
fn what_is_harmed_is_told_and_mended_from_where_it_came() {
    with_each_user(|host, user| {
        let mut layout = Layout::new(host, "/tmp/mending");
        let variables = image(&mut layout);
        let bystander = Bystander::new(host, user);
        let minidocker = &bystander.minidocker;
        let hostile = Hostile::start(host, "/tmp/mending", &[]);
        let name = format!("{}:one", hostile.name("x"));
        minidocker.ok(&format!("pull {name}"));
        minidocker.ok("system check");
        for harm in HARMS {
            // By the root of the files, who may be somebody in a user namespace.
            host.shell(&format!("cd {}; {variables}; {harm}", minidocker.dir()));
            let told = minidocker.call("system check --dry-run");
            told.exits(1);
            assert!(!told.text().is_empty(), "{harm}: {told}");
            let mended = minidocker.call("system check");
            assert_eq!(mended.code(), 0, "{harm}: {mended}");
            let after = minidocker.ok("system check --dry-run");
            assert_eq!(after, "", "{harm}: it was not mended");
            bystander.assert_unharmed();
            let file = minidocker.layers(&name).remove(0).join("file");
            let file = std::fs::read_to_string(file).expect("the layer's file");
            assert_eq!(file, "text", "{harm}");
        }
    });
}

#[test]
fn what_cannot_be_mended_is_told_and_harms_nobody_else() {
    with_each_user(|host, user| {
        let mut layout = Layout::new(host, "/tmp/mending");
        let variables = image(&mut layout);
        let bystander = Bystander::new(host, user);
        let minidocker = &bystander.minidocker;
        let hostile = Hostile::start(host, "/tmp/mending", &[]);
        let pull = format!("pull {}:one", hostile.name("x"));
        minidocker.ok(&pull);
        let port = hostile.port();
        drop(hostile);
        host.shell(&format!(
            "cd {}; {variables}; rm images/blobs/sha256/$layer; rm -r layers/$diff",
            minidocker.dir()
        ));
        let told = minidocker.call("system check");
        told.exits(1);
        assert!(told.text().contains(&format!(":{port}/x")), "{told}");
        // Others are as they were, and so is this one after a pull.
        minidocker.ok(&format!("tag {} other:1", bystander.name));
        minidocker.ok("rmi other:1");
        let healthy = Hostile::at(host, port, "/tmp/mending", &[]);
        minidocker.ok(&pull);
        assert_eq!(minidocker.ok("system check"), "");
        bystander.assert_unharmed();
        drop(healthy);
    });
}

#[test]
fn a_table_of_contents_that_is_none_is_told_and_put_together_anew() {
    with_each_user(|host, user| {
        let bystander = Bystander::new(host, user);
        let minidocker = &bystander.minidocker;
        let id = minidocker.inspect(&bystander.name, "{{.Id}}");
        for harm in [
            "echo '{' >index.json",
            "echo '[]' >index.json",
            ": >index.json",
            "rm index.json",
        ] {
            host.shell(&format!("cd {}/images; {harm}", minidocker.dir()));
            for line in ["images", "system check --dry-run"] {
                let out = minidocker.call(line);
                assert_ne!(out.code(), 0, "{harm}: {out}");
                let said = out.errors() + &out.text();
                assert!(said.contains("index.json"), "{harm}: {out}");
            }
            minidocker.call("system check");
            minidocker.assert_sound();
            // Its name was nowhere else, but nothing of it is lost.
            assert_eq!(minidocker.inspect(&id[7..], "{{.Id}}"), id, "{harm}");
            minidocker.ok(&format!("tag {} {}", &id[7..], bystander.name));
            bystander.assert_unharmed();
        }
    });
}
