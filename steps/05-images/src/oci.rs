//! The documents of an image (OCI image-spec): index, manifest, config.
//!
//! What is known here has a field; everything else is kept as it came, so that a document that is
//! written again loses nothing (docker's Healthcheck, Shell and OnBuild are in no specification).
//! A blob's digest is that of its bytes, so blobs are never written from these types but copied.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::digest::Digest;
use crate::name::ImageName;

/// The most that a document may weigh: registries refuse larger manifests (distribution-spec,
/// "Pushing Manifests").
pub(crate) const LARGEST_DOCUMENT: u64 = 4 << 20;

/// The media type of an OCI image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an OCI image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The media type of an OCI image's config.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// The media type of docker's manifest, version 2 of schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// The media type of docker's manifest list.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// The media type of a layer that is not compressed.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// The media types of layers that can be unpacked; what each is compressed with its first bytes
/// tell. `nondistributable` ones are the same to those who have them.
const LAYERS: [&str; 7] = [
    LAYER,
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
];

/// A descriptor's annotation: its name within the layout, which `skopeo` and `umoci` go by.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd's annotation: the name in full, where `ref.name` holds the tag only.
pub(crate) const FULL_NAME: &str = "io.containerd.image.name";
/// Ours: the digest by which the registry of that name has the image. Where it has one for several
/// platforms, that is their index, of which only a part is here.
pub(crate) const REPO_DIGEST: &str = "io.minidocker.image.repo-digest";

/// What points at a blob: its type, digest and size.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// What it is called.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    /// For which machines it is, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What else is said of it, by name.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Everything else that it says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Descriptor {
    /// A descriptor that says no more than it must.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
            extra: Map::new(),
        }
    }

    /// As the entry of an index that gives it a name, for each of the tools that look for one.
    #[must_use]
    pub fn named(mut self, name: &ImageName) -> Self {
        let mut annotate = |key: &str, value| self.annotations.insert(key.to_owned(), value);
        annotate(REF_NAME, name.to_string());
        annotate(FULL_NAME, name.full());
        self
    }

    /// Sees that the blob is of a document's size.
    ///
    /// # Errors
    /// It has more than 4 MiB.
    pub fn ensure_document(&self) -> Result<()> {
        let Self { digest, size, .. } = self;
        ensure!(
            *size <= LARGEST_DOCUMENT,
            "{digest} has {size} bytes, too many for a JSON document"
        );
        Ok(())
    }

    /// Whether a document of this type lists others instead of being one image.
    pub fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), INDEX | DOCKER_INDEX)
    }
}

/// For which machines an image is. Written `linux/arm64/v8`, the variant only where there is one.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Platform {
    /// The processor, as Go calls it: `amd64`.
    pub architecture: String,
    /// The operating system: `linux`.
    pub os: String,
    /// The processor's generation: `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Everything else that it says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Platform {
    /// This machine's.
    pub fn here() -> Self {
        Self {
            architecture: architecture().to_owned(),
            os: "linux".to_owned(),
            variant: None,
            extra: Map::new(),
        }
    }

    /// Whether an image for `this` runs on a machine that is `self`.
    pub fn runs(&self, this: &Self) -> bool {
        self.suits(this).is_some()
    }

    /// How well an image for `this` suits a machine that is `self`: the more the better; none
    /// where it cannot run there. A processor runs what was made for its older generations, and
    /// one that is not told apart is taken for the oldest that Go builds for: arm `v7`, arm64
    /// `v8`, amd64 `v1`.
    fn suits(&self, this: &Self) -> Option<u32> {
        let generation = |platform: &Self| -> Option<u32> {
            match (&platform.variant, platform.architecture.as_str()) {
                (Some(variant), _) => variant.strip_prefix('v')?.parse().ok(),
                (None, "arm") => Some(7),
                (None, "arm64") => Some(8),
                (None, _) => Some(1),
            }
        };
        let same = self.os == this.os && self.architecture == this.architecture;
        let (own, its) = (generation(self)?, generation(this)?);
        (same && its <= own).then_some(its)
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<_> = text.split('/').collect();
        let word = |part: &&str| {
            let plain =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
            !part.is_empty() && part.bytes().all(plain)
        };
        ensure!(
            parts.iter().all(word),
            "{text:?} is no platform; write OS/ARCHITECTURE[/VARIANT], as linux/arm64"
        );
        let (os, architecture, variant) = match parts[..] {
            [os @ "linux"] => (os, architecture(), None),
            [processor] => ("linux", processor, None),
            [os, processor] => (os, processor, None),
            [os, processor, variant] => (os, processor, Some(variant)),
            _ => bail!("{text:?} is no platform; write OS/ARCHITECTURE[/VARIANT]"),
        };
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            "i386" => "386",
            same => same,
        };
        Ok(Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: variant.map(str::to_owned),
            extra: Map::new(),
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// This machine's architecture as Go, and so the specification, calls it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        same => same,
    }
}

/// A list of manifests: `index.json` itself, or an image's variants by platform.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// What the document calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What it lists.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub manifests: Vec<Descriptor>,
    /// Everything else that it says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Index {
    /// An index that lists nothing.
    pub fn empty() -> Self {
        Self {
            schema_version: 2,
            media_type: Some(INDEX.to_owned()),
            manifests: Vec::new(),
            extra: Map::new(),
        }
    }

    /// Reads an index.
    ///
    /// # Errors
    /// Anything else, and what could be taken for a manifest as well.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let index: Self = serde_json::from_slice(bytes).context("this is not an image index")?;
        let kind = index.media_type.as_deref();
        ensure!(
            index.schema_version == 2 && matches!(kind, None | Some(INDEX | DOCKER_INDEX)),
            "this is not an image index, but {} of version {}",
            kind.unwrap_or("a document"),
            index.schema_version
        );
        // One reader's index must not be another reader's manifest (CVE-2021-41190).
        for foreign in ["config", "layers", "fsLayers"] {
            let clean = !index.extra.contains_key(foreign);
            ensure!(
                clean,
                "an image index may not have {foreign:?}, as this one does"
            );
        }
        Ok(index)
    }

    /// Reads the index of a layout, without what is in it only for others.
    pub(crate) fn listed(bytes: &[u8]) -> Result<Self> {
        let mut index = Self::parse(bytes)?;
        index.manifests.retain(|entry| !entry.is_translation());
        Ok(index)
    }

    /// The one that a machine of this platform would take. What is for no platform at all, as an
    /// attestation (`unknown/unknown`), is passed over.
    ///
    /// # Errors
    /// None of them would run there.
    pub fn select(&self, platform: &Platform) -> Result<&Descriptor> {
        let mut best: Option<(u32, &Descriptor)> = None;
        for entry in &self.manifests {
            let suits = match &entry.platform {
                Some(its) => platform.suits(its),
                // One that does not say is the last that is tried.
                None => Some(0),
            };
            if let Some(suits) = suits
                && best.is_none_or(|(found, _)| suits > found)
            {
                best = Some((suits, entry));
            }
        }
        let (_, found) = best.with_context(|| {
            let all = self.manifests.iter().filter_map(|it| it.platform.as_ref());
            let all: Vec<_> = all.map(ToString::to_string).collect();
            format!(
                "no image for {platform} in it, only for [{}]",
                all.join(", ")
            )
        })?;
        Ok(found)
    }
}

/// One image: its config and its layers, lowest first.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// What the document calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image's own document.
    pub config: Descriptor,
    /// The layers' blobs, lowest first.
    pub layers: Vec<Descriptor>,
    /// Everything else that it says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Manifest {
    /// The manifest of a config and its layers.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MANIFEST.to_owned()),
            config,
            layers,
            extra: Map::new(),
        }
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// Anything else, what could be taken for an index as well, and the manifest of something that
    /// is no image, or has layers that cannot be unpacked.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let manifest: Self =
            serde_json::from_slice(bytes).context("this is not an image manifest")?;
        let kind = manifest.media_type.as_deref();
        ensure!(
            manifest.schema_version == 2 && matches!(kind, None | Some(MANIFEST | DOCKER_MANIFEST)),
            "this is not an image manifest, but {} of version {}",
            kind.unwrap_or("a document"),
            manifest.schema_version
        );
        let clean = !manifest.extra.contains_key("manifests");
        ensure!(
            clean,
            "an image manifest may not have \"manifests\", as this one does"
        );
        let config = &manifest.config.media_type;
        ensure!(
            matches!(config.as_str(), CONFIG | DOCKER_CONFIG),
            "this is no image but an artifact: its config has the media type {config:?}"
        );
        for layer in &manifest.layers {
            let kind = layer.media_type.as_str();
            ensure!(
                LAYERS.contains(&kind),
                "the layer {} has the media type {kind:?}, which is not known here",
                layer.digest
            );
        }
        Ok(manifest)
    }
}

/// The image's own document, whose digest is the image's id.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Document {
    /// When it was made (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The processor that it is for.
    #[serde(default)]
    pub architecture: String,
    /// The system that it is for.
    #[serde(default)]
    pub os: String,
    /// How a container of it is to run.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub config: Config,
    /// What its layers unpack to.
    pub rootfs: RootFs,
    /// How it was made, a step each, the oldest first.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub history: Vec<History>,
    /// Everything else that it says.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Document {
    /// That of an image which is made now, for this machine, and has no layers yet.
    pub fn new(config: Config) -> Self {
        Self {
            created: Some(jiff::Timestamp::now().to_string()),
            architecture: architecture().to_owned(),
            os: "linux".to_owned(),
            config,
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: Vec::new(),
            },
            history: Vec::new(),
            extra: Map::new(),
        }
    }

    /// Reads an image's config.
    ///
    /// # Errors
    /// Anything else, and an image for another system than Linux.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let document: Self =
            serde_json::from_slice(bytes).context("this is not an image's config")?;
        if !matches!(document.os.as_str(), "" | "linux") {
            bail!("the image is for {}, not for Linux", document.os);
        }
        Ok(document)
    }
}

impl Document {
    /// For which machines the image is. Old images don't say, and are taken for this machine's.
    pub fn platform(&self) -> Platform {
        let here = Platform::here();
        if self.architecture.is_empty() {
            return here;
        }
        let variant = self.extra.get("variant").and_then(Value::as_str);
        Platform {
            architecture: self.architecture.clone(),
            variant: variant.map(str::to_owned),
            ..here
        }
    }
}

/// One step in the making of an image (OCI image-spec, config.md, `history`).
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct History {
    /// When (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// Who.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// What else there is to say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Whether the step made no layer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// The layers, lowest first, each by the digest of its uncompressed tar stream.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of uncompressed tar streams.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub diff_ids: Vec<Digest>,
}

/// How a container of the image is to run, unless the user says otherwise (OCI image-spec,
/// config.md, "Properties": `config`).
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// `USER[:GROUP]`; see [`lookup_user`](crate::lookup_user).
    #[serde(
        deserialize_with = "null_is_empty",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// Ports that the program listens on, as `80/tcp`.
    #[serde(
        deserialize_with = "null_is_empty",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub exposed_ports: BTreeMap<String, Value>,
    /// `KEY=VALUE`.
    #[serde(
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// The command's beginning, which the user's arguments are appended to.
    #[serde(
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub entrypoint: Vec<String>,
    /// The arguments, or without an entrypoint the command, where the user gives none.
    #[serde(
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub cmd: Vec<String>,
    /// Directories whose contents should outlive the container.
    #[serde(
        deserialize_with = "null_is_empty",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub volumes: BTreeMap<String, Value>,
    /// Where the command starts; empty means `/`.
    #[serde(
        deserialize_with = "null_is_empty",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// Whatever the author wanted to say.
    #[serde(
        deserialize_with = "null_is_empty",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the program to end, as `SIGTERM` or a number; empty means SIGTERM.
    #[serde(
        deserialize_with = "null_is_empty",
        skip_serializing_if = "String::is_empty"
    )]
    pub stop_signal: String,
    /// Everything else that the image says, as it says it.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// `manifest.json` of a docker-archive: one entry per image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DockerImage {
    pub(crate) config: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) layers: Vec<String>,
}

/// Go writes an empty list or map as `null`.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(kind: &str) -> String {
        let digest = Digest::of(b"");
        format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":0}}"#)
    }

    #[test]
    fn a_document_that_is_both_index_and_manifest_is_neither() {
        let config = descriptor(CONFIG);
        let both = format!(
            r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":[{config}]}}"#
        );
        assert!(Index::parse(both.as_bytes()).is_err());
        assert!(Manifest::parse(both.as_bytes()).is_err());
        let wrong =
            format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","config":{config},"layers":[]}}"#);
        assert!(Manifest::parse(wrong.as_bytes()).is_err());
        let right = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
        assert!(Manifest::parse(right.as_bytes()).is_ok());
    }

    #[test]
    fn what_only_docker_knows_survives() {
        let text = r#"{"architecture":"amd64","os":"linux","author":"me",
            "config":{"Env":null,"Cmd":["sh"],"Healthcheck":{"Test":["NONE"]},"OnBuild":null},
            "rootfs":{"type":"layers","diff_ids":[]},"history":[{"created_by":"x"}]}"#;
        let document = Document::parse(text.as_bytes()).unwrap();
        assert_eq!(document.config.cmd, ["sh"]);
        let again = serde_json::to_value(&document).unwrap();
        assert_eq!(again["config"]["Healthcheck"]["Test"][0], "NONE");
        assert_eq!(again["author"], "me");
        assert_eq!(again["history"][0]["created_by"], "x");
    }

    fn index_for(platforms: &[&str]) -> Index {
        let mut index = Index::empty();
        for platform in platforms {
            let mut entry = Descriptor::new(MANIFEST, Digest::of(platform.as_bytes()), 0);
            entry.platform = (!platform.is_empty()).then(|| platform.parse().unwrap());
            index.manifests.push(entry);
        }
        index
    }

    #[test]
    fn a_machine_takes_the_newest_generation_that_it_runs() {
        let all = [
            "unknown/unknown",
            "linux/amd64",
            "linux/amd64/v3",
            "linux/arm/v5",
            "linux/arm/v6",
            "linux/arm/v8",
            "linux/arm64/v8",
            "linux/386",
        ];
        let index = index_for(&all);
        for (machine, taken) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/amd64/v4", "linux/amd64/v3"),
            ("linux/arm", "linux/arm/v6"),
            ("linux/arm/v5", "linux/arm/v5"),
            ("linux/arm64", "linux/arm64/v8"),
            ("arm64", "linux/arm64/v8"),
            ("linux/aarch64", "linux/arm64/v8"),
            ("linux/i386", "linux/386"),
        ] {
            let found = index.select(&machine.parse().unwrap()).unwrap();
            assert_eq!(found.digest, Digest::of(taken.as_bytes()), "{machine}");
        }
        let error = index.select(&"linux/riscv64".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("linux/arm/v6"), "{error}");
        let attested = index_for(&["unknown/unknown"]);
        assert!(attested.select(&Platform::here()).is_err());
        assert!(index_for(&[""]).select(&Platform::here()).is_ok());
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for text in [
            "",
            "/",
            "linux/",
            "linux//v7",
            "a/b/c/d",
            "linux/a b",
            "linux/é",
        ] {
            assert!(text.parse::<Platform>().is_err(), "{text:?}");
        }
        let whole: Platform = "linux/arm64/v8".parse().unwrap();
        assert_eq!(whole.to_string(), "linux/arm64/v8");
        assert_eq!("linux".parse::<Platform>().unwrap(), Platform::here());
    }

    #[test]
    fn an_artifact_and_an_unknown_layer_are_no_image() {
        let manifest = |config: &str, layer: &str| {
            let (config, layer) = (descriptor(config), descriptor(layer));
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#)
        };
        let parse = |text: String| Manifest::parse(text.as_bytes());
        assert!(parse(manifest(DOCKER_CONFIG, LAYERS[6])).is_ok());
        for (config, layer) in [
            ("application/vnd.oci.empty.v1+json", LAYERS[1]),
            ("application/vnd.cncf.helm.config.v1+json", LAYERS[1]),
            (CONFIG, "application/vnd.in-toto+json"),
            (
                CONFIG,
                "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            ),
        ] {
            assert!(parse(manifest(config, layer)).is_err(), "{config} {layer}");
        }
    }

    #[test]
    fn an_image_for_another_system_is_refused() {
        let text = r#"{"os":"windows","rootfs":{"type":"layers"}}"#;
        assert!(Document::parse(text.as_bytes()).is_err());
    }
}
