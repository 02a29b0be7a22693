//! Images for the checks of step 5, made here, of random contents.

use std::sync::{Arc, Mutex, PoisonError};

use flate2::Compression;
use flate2::write::GzEncoder;
use harness::User;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::Write;
use tar::EntryType;

use super::program::{Output, Running};
use super::trial::{Found, Problem, Trial, failed, same};

/// The files of an image, by their names in it.
pub type Files = Vec<(String, Vec<u8>)>;

/// A layer in the making: what a tar file says, whether that makes sense or not.
#[derive(Default)]
pub struct Layer(Vec<u8>);

/// What is said about a file beside its content.
#[derive(Clone, Copy)]
pub struct About {
    pub mode: u32,
    pub mtime: u64,
}

/// As most files are.
pub const PLAIN: About = About {
    mode: 0o644,
    mtime: 1_234_567_890,
};

impl Layer {
    pub fn file(self, path: &str, content: &str) -> Layer {
        self.entry(EntryType::Regular, path, "", PLAIN, content.as_bytes())
    }

    pub fn file_about(self, path: &str, content: &str, about: About) -> Layer {
        self.entry(EntryType::Regular, path, "", about, content.as_bytes())
    }

    pub fn directory(self, path: &str) -> Layer {
        let mode = 0o755;
        self.directory_about(path, About { mode, ..PLAIN })
    }

    pub fn directory_about(self, path: &str, about: About) -> Layer {
        self.entry(EntryType::Directory, &format!("{path}/"), "", about, b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Layer {
        self.entry(EntryType::Symlink, path, target, PLAIN, b"")
    }

    pub fn hard_link(self, path: &str, target: &str) -> Layer {
        self.entry(EntryType::Link, path, target, PLAIN, b"")
    }

    fn entry(
        mut self,
        kind: EntryType,
        path: &str,
        target: &str,
        about: About,
        content: &[u8],
    ) -> Layer {
        self.0
            .extend(header(kind, path, target, about, content.len()));
        self.0.extend(padded(content));
        self
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// A header as the caller wants it: the crate's own setters refuse names that
/// an attacker would choose.
fn header(kind: EntryType, path: &str, target: &str, about: About, length: usize) -> [u8; 512] {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(about.mode);
    header.set_mtime(about.mtime);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(length as u64);
    let old = header.as_old_mut();
    old.name[..path.len()].copy_from_slice(path.as_bytes());
    old.linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_cksum();
    *header.as_bytes()
}

fn padded(content: &[u8]) -> Vec<u8> {
    let mut padded = content.to_vec();
    padded.resize(content.len().next_multiple_of(512), 0);
    padded
}

/// A tar file of these files.
pub fn archive(files: &Files) -> Vec<u8> {
    let add = |layer: Layer, (name, content): &(String, Vec<u8>)| {
        layer.entry(EntryType::Regular, name, "", PLAIN, content)
    };
    files.iter().fold(Layer::default(), add).finish()
}

/// An image: layers, lowest first, and how to run it.
pub struct Image {
    /// Each layer's tar file, and whether it is to be compressed.
    layers: Vec<(Arc<Vec<u8>>, bool)>,
    config: Value,
}

impl Image {
    /// A shell and a few tools, and above them these layers.
    pub fn new(t: &Trial, layers: impl IntoIterator<Item = Layer>) -> Found<Image> {
        let above = layers
            .into_iter()
            .map(|layer| (Arc::new(layer.finish()), false));
        Ok(Image {
            layers: [(base(t)?, false)].into_iter().chain(above).collect(),
            config: json!({"Cmd": ["sh"], "Env": ["PATH=/bin"]}),
        })
    }

    /// With this in its config, `Entrypoint` for example.
    pub fn with(mut self, key: &str, value: Value) -> Image {
        self.config[key] = value;
        self
    }

    /// With all layers but the lowest compressed.
    pub fn compressed(mut self) -> Image {
        for (_, compressed) in self.layers.iter_mut().skip(1) {
            *compressed = true;
        }
        self
    }

    fn document(&self) -> Vec<u8> {
        let digests = self.layers.iter().map(|(layer, _)| digest(layer));
        let digests: Vec<String> = digests.collect();
        json!({
            "architecture": architecture(),
            "os": "linux",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": digests},
        })
        .to_string()
        .into_bytes()
    }

    /// As an OCI image layout, which calls it `name`, or nothing.
    pub fn oci(&self, name: Option<&str>) -> Files {
        let mut files = vec![(
            "oci-layout".to_owned(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        )];
        let mut blob = |kind: &str, content: Vec<u8>| {
            let digest = digest(&content);
            let descriptor = json!({
                "mediaType": format!("application/vnd.oci.image.{kind}"),
                "digest": digest,
                "size": content.len(),
            });
            files.push((format!("blobs/{}", digest.replace(':', "/")), content));
            descriptor
        };
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|(layer, compressed)| match compressed {
                true => blob("layer.v1.tar+gzip", gzip(layer)),
                false => blob("layer.v1.tar", layer.to_vec()),
            })
            .collect();
        let config = blob("config.v1+json", self.document());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": layers,
        });
        let mut descriptor = blob("manifest.v1+json", manifest.to_string().into_bytes());
        if let Some(name) = name {
            descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        }
        let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
        files.push(("index.json".to_owned(), index.to_string().into_bytes()));
        files
    }

    /// As `docker save` writes it.
    pub fn docker(&self, name: &str) -> Files {
        docker(&[(self, name)])
    }
}

/// Several images as `docker save` writes them.
pub fn docker(images: &[(&Image, &str)]) -> Files {
    let (mut files, mut list): (Files, Vec<Value>) = (Vec::new(), Vec::new());
    let mut put = |name: String, content: Vec<u8>| {
        if !files.iter().any(|(known, _)| *known == name) {
            files.push((name.clone(), content));
        }
        name
    };
    for (image, name) in images {
        let document = image.document();
        let config = put(format!("{}.json", hex(&document)), document);
        let layers = image
            .layers
            .iter()
            .map(|(layer, _)| put(format!("{}/layer.tar", hex(layer)), layer.to_vec()));
        let layers: Vec<String> = layers.collect();
        list.push(json!({"Config": config, "RepoTags": [name], "Layers": layers}));
    }
    let list = Value::from(list).to_string().into_bytes();
    files.push(("manifest.json".to_owned(), list));
    files
}

fn hex(content: &[u8]) -> String {
    Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex(content))
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Memory does not run full before this process does.
    encoder.write_all(content).ok();
    encoder.finish().unwrap_or_default()
}

/// As Go, and so every image, calls this machine.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The lowest layer, of programs of this machine: made once.
fn base(t: &Trial) -> Found<Arc<Vec<u8>>> {
    static MADE: Mutex<Option<Arc<Vec<u8>>>> = Mutex::new(None);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(base) = &*made {
        return Ok(Arc::clone(base));
    }
    t.root_file_system("/tmp/base")?;
    t.machine("tar -C /tmp/base --numeric-owner -cf /tmp/base.tar .")?;
    let content = std::fs::read(t.path("/tmp/base.tar"));
    t.machine("rm -r /tmp/base /tmp/base.tar")?;
    match content {
        Ok(content) => Ok(Arc::clone(made.insert(Arc::new(content)))),
        Err(error) => Err(Problem::Impossible {
            why: format!("read the lowest layer of an image: {error}"),
            fix: "`cargo lab doctor` names what this machine lacks".to_owned(),
        }),
    }
}

impl Trial {
    /// Another name for an image each time.
    pub fn image_name(&self) -> String {
        format!("{}:{}", self.word(), self.word())
    }

    /// Writes a file on the machine, as its root.
    pub fn give(&self, path: &str, content: Vec<u8>) -> Found {
        let script = r#"cat >"$0""#;
        let cat = self
            .host
            .prepare(User::Root, true, ["sh", "-c", script, path]);
        let out = Running::start(cat, Some(content))?.wait()?;
        match out.code() {
            0 => Ok(()),
            _ => failed(format!("room for {path}"), out.told()),
        }
    }

    /// Has the submission load these files, as a tar file.
    pub fn load(&self, files: &Files) -> Found<Output> {
        self.load_as(User::Root, files)
    }

    pub fn load_as(&self, user: User, files: &Files) -> Found<Output> {
        let path = format!("/tmp/{}.tar", self.word());
        self.give(&path, archive(files))?;
        let output = self.call_as(user, &["load", &path])?;
        self.machine(&format!("rm {path}"))?;
        Ok(output)
    }

    /// Has the submission load an image, and returns its name.
    pub fn loaded(&self, image: &Image) -> Found<String> {
        let name = self.image_name();
        let output = self.load(&image.oci(Some(&name)))?;
        output.succeeds()?;
        same(
            "printed by load",
            &format!("Loaded image: {name}"),
            &output.text(),
        )?;
        Ok(name)
    }

    /// `BIN run OPTIONS IMAGE COMMAND`, to its end, without a network: that is
    /// not what it is about.
    pub fn run_in(&self, image: &str, options: &[&str], command: &[&str]) -> Found<Output> {
        let options = [&["--network", "none"], options].concat();
        self.container(&options).of(image).run(command)
    }

    /// The same with a script for the image's shell.
    pub fn shell_in(&self, image: &str, options: &[&str], script: &str) -> Found<Output> {
        self.run_in(image, options, &["sh", "-c", script])
    }
}
