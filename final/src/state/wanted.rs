//! What a container runs: docker's `Config`, by its names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The portable half of a container's configuration, which `commit` writes into an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// The name of its machine.
    pub hostname: String,
    /// The name of its domain.
    pub domainname: String,
    /// `USER[:GROUP]`.
    pub user: String,
    /// Whether `run` attached standard input.
    pub attach_stdin: bool,
    /// Whether `run` attached standard output.
    pub attach_stdout: bool,
    /// Whether `run` attached standard error.
    pub attach_stderr: bool,
    /// The ports that its program listens on, as `80/tcp`: those of the image and those published.
    pub exposed_ports: BTreeMap<String, Value>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its standard input stays open without anybody attached.
    pub open_stdin: bool,
    /// Whether it ends with the first who was attached to it.
    pub stdin_once: bool,
    /// `KEY=VALUE`, the user's first, each key once.
    pub env: Vec<String>,
    /// The arguments, or without an entrypoint the command.
    pub cmd: Vec<String>,
    /// The image as the user called it.
    pub image: String,
    /// Directories of the image's with anonymous volumes.
    pub volumes: BTreeMap<String, Value>,
    /// Where it starts; empty means `/`.
    pub working_dir: String,
    /// The command's beginning.
    pub entrypoint: Vec<String>,
    /// The image's labels, and the user's over them.
    pub labels: BTreeMap<String, String>,
    /// The signal that asks it to end: `SIGTERM`, `15`, `RTMIN+3`; empty means SIGTERM.
    pub stop_signal: String,
    /// How many seconds it has for that; `None` is 10, -1 for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
}

impl Config {
    /// What is executed: the entrypoint, then the arguments.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).cloned().collect()
    }
}

/// What is mounted into a container, beside what each one has: docker's `Mounts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Volume {
    /// `bind`, `volume` or `tmpfs`.
    pub r#type: String,
    /// A volume's name; empty for the others.
    pub name: String,
    /// The place on the host; empty for a tmpfs.
    pub source: String,
    /// The place in the container, absolute.
    pub destination: String,
    /// `local` for a volume.
    pub driver: String,
    /// What was written after the second colon, and a tmpfs' options, comma-separated.
    pub mode: String,
    /// Whether it can be written to.
    #[serde(rename = "RW")]
    pub writable: bool,
    /// `rprivate`, `rslave`, `rshared`, …; empty is rprivate.
    pub propagation: String,
    /// Whether it was made for this container alone, and goes with it (`rm -v`, `--rm`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
    /// Whether it begins empty, whatever the image has in its place.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_copy: bool,
    /// `volume-subpath`: the directory of the volume that is mounted; empty is all of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subpath: String,
    /// Whether what is mounted below the source comes along.
    #[serde(skip_serializing_if = "Recursion::is_default")]
    pub recursion: Recursion,
    /// `volume-label`: what a volume that is made gets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `volume-opt`: the same.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// `bind-recursive`: what becomes of mounts below the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recursion {
    /// They come along, and with a read-only one are read-only.
    #[default]
    Enabled,
    /// They come along, and stay as they are.
    Writable,
    /// They do not.
    Disabled,
}

impl Recursion {
    fn is_default(&self) -> bool {
        *self == Recursion::Enabled
    }
}
