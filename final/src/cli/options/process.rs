//! What a container runs, and in what surroundings.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use minidocker::state::Config;

use super::pairs;

/// What a process has around it: a container's first, or one more.
#[derive(Debug, Args)]
pub(crate) struct Surroundings {
    /// Keep its standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Set a variable of its environment; KEY alone passes on your own
    #[arg(short, long, value_name = "KEY[=VALUE]", allow_hyphen_values = true, value_parser = pairs::variable)]
    env: Vec<String>,
    /// Set those that a file lists
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Directory to start in [default: what the image or the container says]
    #[arg(short, long, value_name = "DIR", value_parser = directory)]
    pub(crate) workdir: Option<String>,
    /// Who runs it: names or numbers [default: what the image or the container says]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
}

impl Surroundings {
    /// Its variables, as [`pairs::variables`] has them.
    ///
    /// # Errors
    /// A file that cannot be read, or in which a line makes no sense.
    pub(crate) fn env(&self) -> Result<Vec<String>> {
        pairs::variables(&self.env_file, &self.env)
    }
}

/// What a container runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Process")]
pub(super) struct Process {
    #[command(flatten)]
    pub(super) around: Surroundings,
    /// Program in place of the image's entrypoint
    #[arg(long, value_name = "PROGRAM", allow_hyphen_values = true)]
    entrypoint: Option<String>,
    /// Name of its machine [default: the beginning of its id]
    #[arg(short = 'h', long, value_name = "NAME", value_parser = namespaces::parse_hostname)]
    hostname: Option<String>,
    /// Name of its machine's domain
    #[arg(long, value_name = "NAME", value_parser = namespaces::parse_hostname)]
    domainname: Option<String>,
    /// A word about it that can be searched for
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = pairs::label)]
    label: Vec<String>,
    /// Those that a file lists
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
}

impl Process {
    /// Writes it down. Returns what is to be in the place of the image's entrypoint.
    ///
    /// # Errors
    /// A file that cannot be read, or in which a line makes no sense.
    pub(super) fn write(self, config: &mut Config) -> Result<Option<Vec<String>>> {
        config.tty = self.around.tty;
        config.open_stdin = self.around.interactive;
        config.env = self.around.env()?;
        config.working_dir = self.around.workdir.unwrap_or_default();
        config.user = self.around.user.unwrap_or_default();
        config.hostname = self.hostname.unwrap_or_default();
        config.domainname = self.domainname.unwrap_or_default();
        config.labels = pairs::labels(&self.label_file, &self.label)?;
        // An empty one only takes the image's away.
        let words = |program: String| Some(program).filter(|program| !program.is_empty());
        Ok(self
            .entrypoint
            .map(|program| words(program).into_iter().collect()))
    }
}

fn directory(text: &str) -> Result<String> {
    ensure!(
        text.starts_with('/'),
        "the working directory '{text}' is invalid, it needs to be an absolute path"
    );
    Ok(text.to_owned())
}
