//! Images between minidocker and everybody else who handles them: Debian's registry,
//! skopeo, podman and umoci.
//!
//! Each test has a machine with registries of its own. `MINIDOCKER=…` puts another
//! program in the place of the workspace's.

mod docker;
mod files;
mod logins;
mod pulls;
mod pushes;
mod servers;
mod trees;

use harness::registry::{Kind, Layer, Layout, Minidocker, Packing, Registry, machine};
use harness::{Host, Output, Setup, User};
use serde_json::json;

const BOTH: [User; 2] = [User::Root, User::Student];

/// Images in a layout at /tmp/layout:
/// `one` has a layer of each packing, and `two` shares the first two of them; `simple` has
/// none by zstd, which is unknown to docker's archives; `old` has docker's media types;
/// `multi` is an index for two architectures, and `list` the same of docker's kind.
struct Images {
    first: Layer,
    second: Layer,
    third: Layer,
    /// The digests of what is named.
    digests: Vec<(&'static str, String)>,
}

impl Images {
    fn new(host: &Host) -> Images {
        let mut layout = Layout::new(host, "/tmp/layout");
        let first = layout.layer(
            Packing::Gzip,
            &[("first", b"1\n"), ("dir/same", b"below\n")],
        );
        let second = layout.layer(
            Packing::Zstd,
            &[("second", b"2\n"), ("dir/same", b"above\n")],
        );
        let third = layout.layer(Packing::Plain, &[("third", b"3\n")]);
        let arm = layout.layer(Packing::Gzip, &[("first", b"arm\n")]);
        let docker = layout.layer(Packing::Gzip, &[("docker", b"4\n")]);
        let one = layout.image(Kind::Oci, "amd64", &[&first, &second, &third]);
        let two = layout.image(Kind::Oci, "amd64", &[&first, &second]);
        let simple = layout.image(Kind::Oci, "amd64", &[&first, &third]);
        let old = layout.image(Kind::Docker, "amd64", &[&docker]);
        let mut arm_one = layout.image(Kind::Oci, "arm64", &[&arm]);
        arm_one["platform"]["variant"] = json!("v8");
        let arm_old = layout.image(Kind::Docker, "arm64", &[&arm]);
        let said = layout.attestation(&one);
        let multi = layout.index(Kind::Oci, &[&arm_one, &one, &said]);
        let list = layout.index(Kind::Docker, &[&arm_old, &old]);
        let mut digests = Vec::new();
        for (name, descriptor) in [
            ("one", &one),
            ("two", &two),
            ("simple", &simple),
            ("old", &old),
            ("multi", &multi),
            ("list", &list),
        ] {
            layout.name(name, descriptor);
            let digest = descriptor["digest"].as_str().unwrap_or_default();
            digests.push((name, digest.to_owned()));
        }
        Images {
            first,
            second,
            third,
            digests,
        }
    }

    /// The digest of what is called `name`.
    fn digest(&self, name: &str) -> &str {
        let found = self.digests.iter().find(|(other, _)| *other == name);
        found.map(|(_, digest)| digest.as_str()).expect("a name")
    }
}

/// A machine on which both users may write to what tests share.
fn host() -> Host {
    machine(Setup::default())
}

/// Runs a line of skopeo's, as root.
#[track_caller]
fn skopeo(host: &Host, line: &str) -> Output {
    let words = ["skopeo", "--insecure-policy"].into_iter();
    host.run(words.chain(line.split_whitespace()))
}

/// The manifest of NAME in a registry, as it lies there.
#[track_caller]
fn raw(host: &Host, name: &str) -> String {
    let user = format!(
        "{}:{}",
        harness::registry::USER,
        harness::registry::PASSWORD
    );
    let line = [
        "skopeo",
        "inspect",
        "--raw",
        "--tls-verify=false",
        "--creds",
    ];
    let image = format!("docker://{name}");
    host.run(line.into_iter().chain([user.as_str(), &image]))
        .ok()
}

/// A registry for everybody that has the images, each in a repository of its name.
fn filled<'a>(host: &'a Host, names: &[&str]) -> Registry<'a> {
    let registry = Registry::open(host);
    for name in names {
        registry.fill("/tmp/layout", name, name);
    }
    registry
}

/// What a file in one of the image's layers says, the uppermost that has it.
#[track_caller]
fn file(minidocker: &Minidocker<'_>, image: &str, name: &str) -> String {
    let layers = minidocker.layers(image);
    let found = layers.iter().rev().find(|layer| layer.join(name).exists());
    let found = found.unwrap_or_else(|| panic!("no layer of {image} has {name}: {layers:?}"));
    std::fs::read_to_string(found.join(name)).expect("a text")
}
