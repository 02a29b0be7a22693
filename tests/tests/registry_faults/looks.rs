//! The look at a store that all of this suite relies on finds what is wrong with one.

use std::panic::{AssertUnwindSafe, catch_unwind};

use harness::registry::{Kind, Layout, Minidocker, Packing, machine};
use harness::{Setup, User};

/// Each harm as a script in the store's directory, and what is said of it.
const HARMS: [(&str, &str); 8] = [
    ("echo >>images/blobs/sha256/$layer", "has the digest"),
    ("rm images/blobs/sha256/$layer", "is missing"),
    ("rm images/blobs/sha256/$config", "is missing"),
    ("rm images/blobs/sha256/$manifest", "No such file"),
    ("echo x >images/blobs/sha256/$unknown", "has the digest"),
    ("echo '{' >images/index.json", "index.json: EOF"),
    ("rm -r layers/*", "is not unpacked"),
    ("mkdir tmp/1.0", "left in tmp"),
];

#[test]
fn what_is_wrong_with_a_store_is_found() {
    let host = machine(Setup::default());
    let mut layout = Layout::new(&host, "/tmp/layout");
    let layer = layout.layer(Packing::Gzip, &[("file", b"text")]);
    let image = layout.image(Kind::Oci, "amd64", &[&layer]);
    layout.name("one", &image);
    let manifest = layout.read(&image);
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
    let hex = |digest: &serde_json::Value| digest.as_str().expect("a digest")[7..].to_owned();
    let variables = format!(
        "layer={} config={} manifest={} unknown={}",
        &layer.digest[7..],
        hex(&manifest["config"]["digest"]),
        hex(&image["digest"]),
        "1".repeat(64),
    );
    let minidocker = Minidocker::of(&host, User::Root);
    let load = "step05 load /tmp/layout --name one:1";
    for (harm, expected) in HARMS {
        host.run(load.split(' ')).ok();
        minidocker.assert_sound();
        host.shell(&format!("cd {}; {variables}; {harm}", minidocker.dir()));
        let look = catch_unwind(AssertUnwindSafe(|| minidocker.assert_sound()));
        let found = look.expect_err(harm);
        let found = found.downcast_ref::<String>().expect("a message");
        assert!(found.contains(expected), "{harm}: {found}");
        host.shell(&format!("rm -r {}/*", minidocker.dir()));
    }
}
