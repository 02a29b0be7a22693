//! Images that are none, or not for us: documents that lie, and layers that are not what
//! was said of them. The registry itself does nothing wrong.

use harness::registry::{Hostile, Kind, Layer, Layout, Packing, machine, noise};
use harness::{Host, Setup, User};
use serde_json::{Value, json};

use crate::{Bystander, with_each_user};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// What a manifest is made of, to be spoiled.
struct Parts {
    layout: Layout,
    layer: Layer,
    config: Value,
}

/// Each odd document by its tag, with a part of what is said of it.
fn documents(host: &Host) -> Expected {
    let layout = Layout::new(host, "/tmp/documents");
    let layer = layout.layer(Packing::Gzip, &[("noise", &noise(50, 10_000))]);
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]}});
    let config = layout.blob(
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    );
    let mut parts = Parts {
        layout,
        layer,
        config,
    };
    let mut all = parts.indexes();
    all.extend(parts.manifests());
    all.extend(parts.layers());
    all.extend(parts.configurations());
    all
}

type Expected = Vec<(&'static str, &'static str)>;

impl Parts {
    fn document(&mut self, name: &str, media_type: &str, document: &Value) {
        let document = self
            .layout
            .blob(media_type, document.to_string().as_bytes());
        self.layout.name(name, &document);
    }

    /// A manifest of the good configuration and of these layers.
    fn of_layers(&mut self, name: &str, layers: &[Value]) {
        let manifest = self.layout.manifest(Kind::Oci, &self.config, layers);
        self.layout.name(name, &manifest);
    }

    fn indexes(&mut self) -> Expected {
        let arm = self.layout.image(Kind::Oci, "arm64", &[&self.layer]);
        let foreign = self.layout.index(Kind::Oci, &[&arm]);
        self.layout.name("foreign", &foreign);
        let mut deep = self.layout.image(Kind::Oci, "amd64", &[&self.layer]);
        for _ in 0..200 {
            deep = self.layout.index(Kind::Oci, &[&deep]);
        }
        self.layout.name("nested", &deep);
        let empty = self.layout.index(Kind::Oci, &[]);
        self.layout.name("empty-index", &empty);
        vec![
            ("foreign", "no image for linux/amd64"),
            ("nested", "an index in an index"),
            ("empty-index", "no image for linux/amd64"),
        ]
    }

    fn manifests(&mut self) -> Expected {
        let good = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": self.config,
            "layers": [self.layer.descriptor(Kind::Oci)]});
        let mut both = good.clone();
        both["manifests"] = json!([]);
        self.document("both", MANIFEST, &both);
        let mut missing = good.clone();
        let nothing = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
        missing["layers"][0]["digest"] = json!(nothing);
        self.document("missing-layer", MANIFEST, &missing);
        let mut path = good.clone();
        path["layers"][0]["digest"] = json!("sha256:../../../../../../../etc/passwd");
        self.document("digest-is-a-path", MANIFEST, &path);
        let mut md5 = good.clone();
        md5["config"]["digest"] = json!("md5:d41d8cd98f00b204e9800998ecf8427e");
        self.document("digest-of-another-kind", MANIFEST, &md5);
        self.document(
            "schema1",
            SCHEMA1,
            &json!({"schemaVersion": 1, "name": "x", "tag": "schema1",
            "architecture": "amd64", "fsLayers": [], "history": [], "signatures": []}),
        );
        self.document("not-an-object", MANIFEST, &json!([1, 2, 3]));
        let deep = "[".repeat(200_000);
        let deep = format!("{{\"schemaVersion\":2,\"mediaType\":\"{MANIFEST}\",\"x\":{deep}");
        let deep = self.layout.blob(MANIFEST, deep.as_bytes());
        self.layout.name("deep", &deep);
        self.document("as-an-index", INDEX, &good);
        vec![
            ("both", "something else"),
            ("missing-layer", "404 Not Found"),
            ("digest-is-a-path", "../../"),
            ("digest-of-another-kind", "is not a sha256: digest"),
            ("schema1", "schema 1"),
            ("not-an-object", "not a manifest"),
            ("deep", "not a manifest"),
            ("as-an-index", "the registry that it is"),
        ]
    }

    fn layers(&mut self) -> Expected {
        let good = self.layer.descriptor(Kind::Oci);
        let spoiled = |name: &str, value: Value| {
            let mut layer = good.clone();
            layer[name] = value;
            layer
        };
        let size = self.layer.size;
        self.of_layers("small", &[spoiled("size", json!(size - 1))]);
        self.of_layers("large", &[spoiled("size", json!(size + 1))]);
        self.of_layers("negative", &[spoiled("size", json!(-1))]);
        self.of_layers("endless", &[spoiled("size", json!(u64::MAX))]);
        self.of_layers(
            "strange",
            &[spoiled("mediaType", json!("application/x-strange"))],
        );
        let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
        self.of_layers("one-too-many", &[good.clone(), good.clone()]);
        self.of_layers("none", &[]);
        let torn = self.torn(&good);
        self.of_layers("torn", &[torn]);
        let text = self
            .layout
            .blob(zstd, b"this is no archive, and not compressed");
        self.of_layers("text", &[text]);
        let other = self.layout.layer(Packing::Gzip, &[("other", b"content")]);
        self.of_layers("other-content", &[other.descriptor(Kind::Oci)]);
        vec![
            ("small", "announces"),
            ("large", "announces"),
            ("negative", "`-1`"),
            ("endless", "announces"),
            ("strange", "application/x-strange"),
            ("one-too-many", "2 layers and the config 1"),
            ("none", "0 layers and the config 1"),
            ("torn", "incomplete deflate stream"),
            ("text", "ends inside a header"),
            ("other-content", "should have the diff id"),
        ]
    }

    /// The first half of a layer, with a digest of its own.
    fn torn(&self, layer: &Value) -> Value {
        let bytes = self.layout.read(layer);
        let media_type = layer["mediaType"].as_str().unwrap_or_default();
        self.layout.blob(media_type, &bytes[..bytes.len() / 2])
    }

    fn configurations(&mut self) -> Expected {
        let layer = self.layer.descriptor(Kind::Oci);
        let helm = self
            .layout
            .blob("application/vnd.cncf.helm.config.v1+json", b"{}");
        let of = |config: &Value| json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        let helm = of(&helm);
        self.document("helm", MANIFEST, &helm);
        let garbage = self
            .layout
            .blob("application/vnd.oci.image.config.v1+json", b"}{");
        let garbage = of(&garbage);
        self.document("garbage", MANIFEST, &garbage);
        vec![
            ("helm", "an artifact"),
            ("garbage", "not an image's config"),
        ]
    }
}

#[test]
fn what_is_no_image_is_refused_and_leaves_nothing() {
    with_each_user(|host, user| {
        let documents = documents(host);
        let bystander = Bystander::new(host, user);
        let before = bystander.minidocker.blobs();
        let hostile = Hostile::start(host, "/tmp/documents", &[]);
        let pulls: Vec<_> = documents
            .iter()
            .map(|(tag, expected)| {
                let pull = format!("pull {}:{tag}", hostile.name("x"));
                (tag, expected, bystander.minidocker.spawn(&pull))
            })
            .collect();
        let mut wrong = Vec::new();
        for (tag, expected, running) in pulls {
            let out = running.wait();
            let said = out.errors();
            let last = said.lines().last().unwrap_or_default();
            let told = last.contains(expected);
            println!("{tag}: {last}");
            if out.code() != 1
                || !last.starts_with("minidocker: ")
                || !told
                || said.contains("panicked")
            {
                wrong.push(format!("{tag}: {out}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        bystander.assert_unharmed();
        // What came before the fault was seen goes with the next clearing.
        bystander.minidocker.ok("image prune -f");
        assert_eq!(bystander.minidocker.blobs(), before);
        let asked = hostile.seen();
        assert!(
            !asked.iter().any(|seen| seen.path.contains("passwd")),
            "{asked:?}"
        );
    });
}

#[test]
fn a_blob_is_not_believed_because_another_image_named_it() {
    // The same digest as a layer here and as a configuration there.
    let host = machine(Setup::default());
    let mut layout = Layout::new(&host, "/tmp/layout");
    let layer = layout.layer(Packing::Plain, &[("file", b"text")]);
    let good = layout.image(Kind::Oci, "amd64", &[&layer]);
    layout.name("good", &good);
    let config = layout.blob(
        "application/vnd.oci.image.config.v1+json",
        &layout.read(&layer.descriptor(Kind::Oci)),
    );
    let odd = layout.manifest(Kind::Oci, &config, &[layer.descriptor(Kind::Oci)]);
    layout.name("odd", &odd);
    let hostile = Hostile::start(&host, "/tmp/layout", &[]);
    let bystander = Bystander::new(&host, User::Root);
    let name = hostile.name("x");
    bystander.minidocker.ok(&format!("pull {name}:good"));
    bystander.minidocker.fails(&format!("pull {name}:odd"));
    bystander.assert_unharmed();
    bystander
        .minidocker
        .ok(&format!("image inspect {name}:good"));
}
