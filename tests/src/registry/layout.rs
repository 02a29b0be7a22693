//! Images made by hand, as small and as odd as a test wants them.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::host::Host;

/// An OCI layout in a machine's memory.
#[derive(Debug)]
pub struct Layout {
    dir: PathBuf,
    named: Vec<Value>,
}

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// By gzip.
    Gzip,
    /// By zstd.
    Zstd,
}

/// Whose media types an image has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Those of the image specification.
    Oci,
    /// Docker's schema 2.
    Docker,
}

/// A layer in a layout.
#[derive(Clone, Debug)]
pub struct Layer {
    packing: Packing,
    /// Of the blob.
    pub digest: String,
    /// Of the archive in the blob.
    pub diff_id: String,
    /// Of the blob, in bytes.
    pub size: usize,
}

impl Layout {
    /// An empty one at `path` of a machine.
    ///
    /// # Panics
    /// Where the machine's memory is full.
    pub fn new(host: &Host, path: &str) -> Layout {
        let dir = host.path(path);
        fs::create_dir_all(dir.join("blobs/sha256")).expect("make a directory");
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
            .expect("write to the machine's memory");
        Layout {
            dir,
            named: Vec::new(),
        }
    }

    /// Puts bytes into the layout; returns their descriptor.
    ///
    /// # Panics
    /// Where the machine's memory is full.
    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let hex = hex(bytes);
        fs::write(self.dir.join("blobs/sha256").join(&hex), bytes)
            .expect("write to the machine's memory");
        json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len()})
    }

    /// The bytes of a blob in the layout.
    ///
    /// # Panics
    /// Where it is not there.
    pub fn read(&self, descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        let path = self.dir.join("blobs").join(digest.replace(':', "/"));
        fs::read(path).expect("the layout has it")
    }

    /// A layer with these files, whose directories are made.
    ///
    /// # Panics
    /// Where the machine's memory is full, or there is no zstd.
    pub fn layer(&self, packing: Packing, files: &[(&str, &[u8])]) -> Layer {
        self.layer_in_parts(packing, files, usize::MAX)
    }

    /// The same, of which so many bytes at a time are compressed on their own: as gzip and
    /// zstd allow, and lazy pulling needs.
    ///
    /// # Panics
    /// Where the machine's memory is full, or there is no zstd.
    pub fn layer_in_parts(&self, packing: Packing, files: &[(&str, &[u8])], part: usize) -> Layer {
        let archive = archive(files).expect("write an archive to memory");
        let pack = |part: &[u8]| match packing {
            Packing::Plain => part.to_vec(),
            Packing::Gzip => gzip(part).expect("compress in memory"),
            Packing::Zstd => zstd(part).expect("run zstd (Debian: apt-get install zstd)"),
        };
        let blob: Vec<u8> = archive.chunks(part).flat_map(pack).collect();
        // The type that it has depends on the manifest that names it.
        let entry = self.blob("", &blob);
        Layer {
            packing,
            digest: entry["digest"].as_str().unwrap_or_default().to_owned(),
            diff_id: format!("sha256:{}", hex(&archive)),
            size: blob.len(),
        }
    }

    /// An image of these layers; its descriptor says its platform.
    pub fn image(&self, kind: Kind, architecture: &str, layers: &[&Layer]) -> Value {
        let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = json!({
            "created": "2024-05-06T07:08:09Z", "architecture": architecture, "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/hello"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": layers.iter().map(|layer| json!({
                "created": "2024-05-06T07:08:09Z", "created_by": format!("ADD {}", layer.diff_id),
            })).collect::<Vec<_>>(),
        });
        let config_type = match kind {
            Kind::Oci => "application/vnd.oci.image.config.v1+json",
            Kind::Docker => "application/vnd.docker.container.image.v1+json",
        };
        let config = self.blob(config_type, config.to_string().as_bytes());
        let layers: Vec<Value> = layers.iter().map(|layer| layer.descriptor(kind)).collect();
        let mut image = self.manifest(kind, &config, &layers);
        image["platform"] = json!({"architecture": architecture, "os": "linux"});
        image
    }

    /// A manifest of anything.
    pub fn manifest(&self, kind: Kind, config: &Value, layers: &[Value]) -> Value {
        let media_type = match kind {
            Kind::Oci => "application/vnd.oci.image.manifest.v1+json",
            Kind::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        };
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers,
        });
        self.blob(media_type, manifest.to_string().as_bytes())
    }

    /// What a builder says of the image `of`, as a manifest beside it in its index.
    pub fn attestation(&self, of: &Value) -> Value {
        let statement = json!({"_type": "https://in-toto.io/Statement/v0.1", "subject": []});
        let statement = statement.to_string();
        let layer = self.blob("application/vnd.in-toto+json", statement.as_bytes());
        let config = json!({"architecture": "unknown", "os": "unknown", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}});
        let config = self.blob(
            "application/vnd.oci.image.config.v1+json",
            config.to_string().as_bytes(),
        );
        let mut manifest = self.manifest(Kind::Oci, &config, &[layer]);
        manifest["platform"] = json!({"architecture": "unknown", "os": "unknown"});
        manifest["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": of["digest"]});
        manifest
    }

    /// An index of these, or, as docker calls it, a manifest list.
    pub fn index(&self, kind: Kind, manifests: &[&Value]) -> Value {
        let media_type = match kind {
            Kind::Oci => "application/vnd.oci.image.index.v1+json",
            Kind::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        };
        let index = json!({
            "schemaVersion": 2, "mediaType": media_type, "manifests": manifests,
        });
        self.blob(media_type, index.to_string().as_bytes())
    }

    /// Gives something in the layout a name.
    ///
    /// # Panics
    /// Where the machine's memory is full.
    pub fn name(&mut self, name: &str, descriptor: &Value) {
        let mut descriptor = descriptor.clone();
        descriptor["annotations"]["org.opencontainers.image.ref.name"] = json!(name);
        self.named.push(descriptor);
        let index = json!({"schemaVersion": 2, "manifests": self.named});
        fs::write(self.dir.join("index.json"), index.to_string())
            .expect("write to the machine's memory");
    }
}

impl Layer {
    /// As a manifest names it.
    pub fn descriptor(&self, kind: Kind) -> Value {
        let media_type = match (kind, self.packing) {
            (Kind::Oci, Packing::Plain) => "application/vnd.oci.image.layer.v1.tar",
            (Kind::Oci, Packing::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (Kind::Oci, Packing::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (Kind::Docker, Packing::Plain) => "application/vnd.docker.image.rootfs.diff.tar",
            (Kind::Docker, Packing::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (Kind::Docker, Packing::Zstd) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
        };
        json!({"mediaType": media_type, "digest": self.digest, "size": self.size})
    }
}

/// Bytes that no compression makes fewer, others for each `seed`.
pub fn noise(seed: u8, count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count + 32);
    let mut block = Sha256::digest([seed]);
    while bytes.len() < count {
        bytes.extend_from_slice(&block);
        block = Sha256::digest(block);
    }
    bytes.truncate(count);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn archive(files: &[(&str, &[u8])]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(1_700_000_000);
        archive.append_data(&mut header, name, *bytes)?;
    }
    archive.into_inner()
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// By zstd's own program: what unpacks is judged by somebody else. After each frame is one that
/// is to be skipped (RFC 8878, section 3.1.2), in which podman keeps a table of contents.
fn zstd(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut zstd = Command::new("zstd")
        .args(["--quiet", "--stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = zstd.stdin.take();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.as_mut().map(|stdin| stdin.write_all(bytes)));
        zstd.wait_with_output()
    })
    .map(|out| {
        [
            &out.stdout[..],
            &[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0],
            b"toc",
        ]
        .concat()
    })
}
