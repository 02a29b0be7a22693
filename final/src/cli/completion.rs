//! `completion`

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::{Cli, PROGRAM};

/// Write what a shell needs to complete command lines
#[derive(Debug, Args)]
#[command(after_help = "Example: source <(minidocker completion bash)")]
pub(crate) struct Completion {
    /// Which shell
    shell: Shell,
}

impl Completion {
    pub(crate) fn run(self) -> Result<u8> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), PROGRAM, &mut script);
        cli::say(String::from_utf8(script)?.trim_end())?;
        Ok(0)
    }
}
