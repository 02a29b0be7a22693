//! A whole Debian, unpacked on the way, and as umoci unpacks it.

use harness::registry::{Minidocker, Registry};
use harness::{User, assert_same_tree, made, tree};

use crate::host;

#[test]
fn the_tree_of_a_debian_is_that_of_umoci() {
    let host = host();
    let registry = Registry::open(&host);
    let name = registry.fill("/run/workspace/images/debian", "latest", "debian");
    let minidocker = Minidocker::of(&host, User::Root);
    minidocker.ok(&format!("pull {name}"));
    minidocker.assert_sound();
    let layers = minidocker.inspect(&name, "{{json .RootFS.Layers}}");
    let layers: Vec<String> = serde_json::from_str(&layers).expect("a list");
    let tree_of = |id: &String| format!("{}/layers/{}/diff", minidocker.dir(), &id[7..]);
    let below: Vec<String> = layers.iter().rev().map(tree_of).collect();
    let below = below.join(":");
    host.shell(&format!(
        "mkdir /tmp/merged; mount -t overlay -o ro,lowerdir={below} overlay /tmp/merged"
    ));
    let ours = tree(&host.path("/tmp/merged").display().to_string(), "");
    let theirs = tree(
        &made("images").join("bundle/rootfs").display().to_string(),
        "",
    );
    assert!(
        theirs.len() > 5000,
        "the judge has a tree: {}",
        theirs.len()
    );
    // What no layer has an entry for is as old as the unpacking.
    assert_same_tree(&ours, &theirs, &[".|", "./second|"]);
}

#[test]
fn a_debian_comes_to_somebody_who_is_not_root() {
    let host = host();
    let registry = Registry::open(&host);
    let name = registry.fill("/run/workspace/images/debian", "latest", "debian");
    let minidocker = Minidocker::of(&host, User::Student);
    minidocker.ok(&format!("pull {name}"));
    minidocker.assert_sound();
    let layers = minidocker.layers(&name);
    let first = layers.first().expect("a layer").join("usr/bin/dpkg");
    let theirs = made("images").join("bundle/rootfs/usr/bin/dpkg");
    assert_eq!(
        std::fs::read(first).expect("read"),
        std::fs::read(theirs).expect("read")
    );
}
