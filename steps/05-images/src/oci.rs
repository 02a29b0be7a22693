//! The documents of an image (OCI image-spec): index, manifest, config.
//!
//! What is known here has a field; everything else is kept as it came, so that a document that is
//! written again loses nothing (docker's Healthcheck, Shell and OnBuild are in no specification).
//! A blob's digest is that of its bytes, so blobs are never written from these types but copied.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::digest::Digest;

/// The most that a document may weigh: registries refuse larger manifests (distribution-spec,
/// "Pushing Manifests").
pub(crate) const LARGEST_DOCUMENT: u64 = 4 << 20;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A descriptor's annotation: its name within the layout, which `skopeo` and `umoci` go by.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd's annotation: the name in full, where `ref.name` holds the tag only.
pub(crate) const FULL_NAME: &str = "io.containerd.image.name";

/// What points at a blob: its type, digest and size.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(flatten)]
    pub(crate) extra: Map<String, Value>,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
            extra: Map::new(),
        }
    }

    /// Whether a document of this type lists others instead of being one image.
    pub(crate) fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), INDEX | DOCKER_INDEX)
    }
}

/// For which machines an image is.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
    #[serde(flatten)]
    pub(crate) extra: Map<String, Value>,
}

impl Platform {
    /// Whether it is this machine's.
    pub(crate) fn is_ours(&self) -> bool {
        self.os == "linux" && self.architecture == architecture()
    }
}

/// This machine's architecture as Go, and so the specification, calls it.
pub(crate) fn architecture() -> &'static str {
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
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) manifests: Vec<Descriptor>,
    #[serde(flatten)]
    pub(crate) extra: Map<String, Value>,
}

impl Index {
    pub(crate) fn empty() -> Self {
        Self {
            schema_version: 2,
            media_type: Some(INDEX.to_owned()),
            manifests: Vec::new(),
            extra: Map::new(),
        }
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
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
}

/// One image: its config and its layers, lowest first.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    #[serde(flatten)]
    pub(crate) extra: Map<String, Value>,
}

impl Manifest {
    pub(crate) fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MANIFEST.to_owned()),
            config,
            layers,
            extra: Map::new(),
        }
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
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
        Ok(manifest)
    }
}

/// The image's own document, whose digest is the image's id.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Document {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) config: Config,
    pub(crate) rootfs: RootFs,
    #[serde(flatten)]
    pub(crate) extra: Map<String, Value>,
}

impl Document {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let document: Self =
            serde_json::from_slice(bytes).context("this is not an image's config")?;
        if !matches!(document.os.as_str(), "" | "linux") {
            bail!("the image is for {}, not for Linux", document.os);
        }
        Ok(document)
    }
}

/// The layers, lowest first, each by the digest of its uncompressed tar stream.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct RootFs {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) diff_ids: Vec<Digest>,
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

    #[test]
    fn an_image_for_another_system_is_refused() {
        let text = r#"{"os":"windows","rootfs":{"type":"layers"}}"#;
        assert!(Document::parse(text.as_bytes()).is_err());
    }
}
