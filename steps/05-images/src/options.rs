//! The options of `step05 run`.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use cgroups::Cpus;
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use network::{Mode, Publish};
use rootfs::Volume;

/// What a container is like at this step.
#[derive(Args)]
pub struct Options {
    /// Name of the container's machine [default: the container's id]
    #[arg(long, value_name = "NAME", value_parser = namespaces::parse_hostname)]
    pub hostname: Option<String>,
    /// Run a small init as pid 1, which reaps orphans and passes signals on
    #[arg(long)]
    pub init: bool,
    /// Mount the root file system read-only
    #[arg(long)]
    pub read_only: bool,
    /// Share a file or directory of the host
    #[arg(short, long = "volume", value_name = "SRC:DST[:ro]",
          value_parser = OsStringValueParser::new().try_map(|text| Volume::parse(&text)))]
    pub volumes: Vec<Volume>,
    /// Limit of memory, none of it in swap [units: b, k, m, g]
    #[arg(short, long, value_name = "BYTES", value_parser = cgroups::parse_memory)]
    pub memory: Option<u64>,
    /// Limit of processor time, in processors
    #[arg(long, value_name = "NUMBER", value_parser = cgroups::parse_cpus)]
    pub cpus: Option<Cpus>,
    /// Limit of processes and threads
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub pids_limit: Option<u64>,
    /// Lead a port of the host to the container
    #[arg(short, long, value_name = "[IP:]HOST:CONTAINER[/udp]")]
    pub publish: Vec<Publish>,
    /// What the container is connected to
    #[arg(long, value_name = "NETWORK", default_value = "bridge")]
    pub network: Mode,
    /// Set a variable of the environment; KEY alone passes on your own
    #[arg(short, long, value_name = "KEY=VALUE",
          value_parser = OsStringValueParser::new().try_map(variable))]
    pub env: Vec<OsString>,
    /// Directory to start in [default: what the image says]
    #[arg(short, long, value_name = "DIR",
          value_parser = OsStringValueParser::new().try_map(absolute))]
    pub workdir: Option<PathBuf>,
    /// Who runs the command: names or numbers [default: what the image says]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Program in place of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<OsString>,
    /// An image, by its name or id; then the command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE")]
    image_and_command: Vec<OsString>,
}

impl Options {
    /// The image's name. To clap it is one list with the command: from an
    /// argument of its own it would take `--`, and what looks like an option of
    /// ours, out of the command's.
    pub fn image(&self) -> Cow<'_, str> {
        let name = self.image_and_command.first();
        name.map_or(Cow::Borrowed(""), |name| name.to_string_lossy())
    }

    /// The command and its arguments, byte for byte; none: what the image says.
    pub fn command(&self) -> &[OsString] {
        self.image_and_command.get(1..).unwrap_or_default()
    }
}

fn variable(text: OsString) -> Result<OsString, String> {
    match text.as_bytes().first() {
        None | Some(b'=') => Err("a variable needs a name".to_owned()),
        Some(_) => Ok(text),
    }
}

fn absolute(text: OsString) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    path.is_absolute()
        .then_some(path)
        .ok_or_else(|| "it must be an absolute path".to_owned())
}
