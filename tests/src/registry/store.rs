//! minidocker as one user of a machine has it, and the store that it leaves behind.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::command::{Output, Running};
use crate::host::{Host, User};

/// minidocker in the hands of one user.
#[derive(Clone, Debug)]
pub struct Minidocker<'a> {
    host: &'a Host,
    user: User,
    variables: Vec<String>,
}

impl<'a> Minidocker<'a> {
    /// In the hands of `user`.
    pub fn of(host: &'a Host, user: User) -> Minidocker<'a> {
        Minidocker {
            host,
            user,
            variables: Vec::new(),
        }
    }

    /// The same with one more variable in its environment, `NAME=VALUE`.
    pub fn with(mut self, variable: impl Into<String>) -> Minidocker<'a> {
        self.variables.push(variable.into());
        self
    }

    /// Whose it is.
    pub fn user(&self) -> User {
        self.user
    }

    fn words<'s>(&'s self, line: &'s str) -> impl Iterator<Item = &'s str> {
        let variables = self.variables.iter().map(String::as_str);
        let program = ["env"].into_iter().chain(variables).chain(["minidocker"]);
        program.chain(line.split_whitespace())
    }

    /// Starts a command, as a line whose words have no blanks.
    pub fn spawn(&self, line: &str) -> Running {
        self.host.spawn_as(self.user, self.words(line))
    }

    /// Starts a command whose standard input the test writes.
    pub fn feed(&self, line: &str) -> Running {
        self.host.spawn_fed(self.user, self.words(line))
    }

    /// Runs a command to its end.
    #[track_caller]
    pub fn call(&self, line: &str) -> Output {
        self.spawn(line).wait()
    }

    /// Runs a command to its end, which must succeed; returns what it prints.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        self.call(line).ok()
    }

    /// Runs a command to its end, which must fail with status 1 and a sentence; returns that.
    ///
    /// # Panics
    /// When it succeeds, crashes, or has nothing to say.
    #[track_caller]
    pub fn fails(&self, line: &str) -> String {
        let out = self.call(line);
        let said = out.exits(1);
        let last = said.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("minidocker: ")
                && last.split(' ').count() >= 4
                && !said.contains("panicked"),
            "not a sentence: {out}"
        );
        said
    }

    /// A field of the image as a template has it, `.Id` for example.
    ///
    /// # Panics
    /// Where there is no such image.
    #[track_caller]
    pub fn inspect(&self, image: &str, template: &str) -> String {
        let line = [
            "minidocker",
            "image",
            "inspect",
            "--format",
            template,
            image,
        ];
        self.host.run_as(self.user, line).ok()
    }

    /// The directory with everything of the user's, on the machine.
    pub fn dir(&self) -> &'static str {
        match self.user {
            User::Root => "/var/lib/minidocker",
            User::Student => "/home/student/.local/share/minidocker",
        }
    }

    /// The user's home directory, on the machine.
    pub fn home(&self) -> &'static str {
        match self.user {
            User::Root => "/root",
            User::Student => "/home/student",
        }
    }

    /// The tree of each layer of an image, lowest first, for this process.
    ///
    /// # Panics
    /// Where there is no such image.
    pub fn layers(&self, image: &str) -> Vec<PathBuf> {
        let ids = self.inspect(image, "{{json .RootFS.Layers}}");
        let ids: Vec<String> = serde_json::from_str(&ids).expect("a list of digests");
        let tree = |id: &String| {
            let hex = id.trim_start_matches("sha256:");
            self.host.path(&format!("{}/layers/{hex}/diff", self.dir()))
        };
        ids.iter().map(tree).collect()
    }

    /// Looks at everything in the store: each blob is what its name says, whatever is
    /// named is there in full, unpacked too, and nothing half-made lies about.
    ///
    /// # Panics
    /// With all that is wrong.
    #[track_caller]
    pub fn assert_sound(&self) {
        self.assert_unharmed();
        let left = names(&self.host.path(self.dir()).join("tmp"));
        assert!(left.is_empty(), "left in tmp: {left:?}");
    }

    /// The same after something was killed, of which the next command has to remove what
    /// is half-made.
    ///
    /// # Panics
    /// With all that is wrong.
    #[track_caller]
    pub fn assert_unharmed(&self) {
        let wrong = Look::at(&self.host.path(self.dir())).wrong;
        assert!(
            wrong.is_empty(),
            "the store is not sound:\n{}",
            wrong.join("\n")
        );
    }

    /// The blobs that are there, whoever needs them.
    pub fn blobs(&self) -> BTreeSet<String> {
        let blobs = format!("{}/images/blobs/sha256", self.dir());
        names(&self.host.path(&blobs))
    }
}

/// A look at a store.
struct Look {
    dir: PathBuf,
    wrong: Vec<String>,
}

impl Look {
    fn at(dir: &Path) -> Look {
        let mut look = Look {
            dir: dir.to_owned(),
            wrong: Vec::new(),
        };
        if dir.join("images").exists() {
            look.blobs();
            look.index();
        }
        look
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.dir.join("images/blobs").join(digest.replace(':', "/"))
    }

    fn blobs(&mut self) {
        for name in names(&self.dir.join("images/blobs/sha256")) {
            match digest(&self.blob(&format!("sha256:{name}"))) {
                Ok(digest) if digest == name => {}
                Ok(digest) => self
                    .wrong
                    .push(format!("blob {name} has the digest {digest}")),
                Err(error) => self.wrong.push(format!("blob {name}: {error}")),
            }
        }
    }

    fn json(&mut self, path: &Path) -> Value {
        let bytes = fs::read(path).map_err(|error| error.to_string());
        let value = bytes
            .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
        value.unwrap_or_else(|error| {
            self.wrong.push(format!("{}: {error}", path.display()));
            Value::Null
        })
    }

    fn index(&mut self) {
        let path = self.dir.join("images/index.json");
        // One that nothing was ever put into has none.
        if !path.exists() && names(&self.dir.join("images/blobs/sha256")).is_empty() {
            return;
        }
        let index = self.json(&path);
        for entry in list(&index["manifests"]) {
            self.manifest(&entry, true);
        }
    }

    /// Looks at a manifest, or at those of an index of which something is there: it may
    /// hold platforms that nobody wanted.
    fn manifest(&mut self, entry: &Value, must_be: bool) {
        let path = self.blob(text(&entry["digest"]));
        if !must_be && !path.exists() {
            return;
        }
        let manifest = self.json(&path);
        for entry in list(&manifest["manifests"]) {
            self.manifest(&entry, false);
        }
        if manifest["config"].is_null() {
            return;
        }
        let mut parts = list(&manifest["layers"]);
        // What is said of an image, and what is said of one for another machine, is not unpacked.
        let about = parts
            .iter()
            .any(|part| text(&part["mediaType"]).contains("in-toto"));
        parts.push(manifest["config"].clone());
        let there = |part: &Value| {
            let size = fs::metadata(self.blob(text(&part["digest"])));
            size.is_ok_and(|size| Some(size.len()) == part["size"].as_u64())
        };
        let missing: Vec<Value> = parts.into_iter().filter(|part| !there(part)).collect();
        if !must_be && !missing.is_empty() {
            return;
        }
        for part in &missing {
            let (of, part) = (text(&entry["digest"]), text(&part["digest"]));
            self.wrong
                .push(format!("{part} of {of} is missing, or of another size"));
        }
        if missing.is_empty() && !about {
            self.unpacked(text(&manifest["config"]["digest"]));
        }
    }

    fn unpacked(&mut self, config: &str) {
        let config = self.json(&self.blob(config));
        for id in list(&config["rootfs"]["diff_ids"]) {
            let hex = text(&id).trim_start_matches("sha256:");
            let tree = self.dir.join("layers").join(hex).join("diff");
            if !tree.is_dir() {
                self.wrong.push(format!("layer {hex} is not unpacked"));
            }
        }
    }
}

fn digest(path: &Path) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer)?;
        let Some(read) = buffer.get(..read).filter(|read| !read.is_empty()) else {
            break;
        };
        hash.update(read);
    }
    let digest = hash.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
