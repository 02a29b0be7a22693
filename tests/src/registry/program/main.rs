//! Servers that a test's machine needs and nobody packages: a registry that
//! misbehaves, and one that gives out tokens for a registry that does not.
//!
//! They are a program, and not functions of the harness, because they have to run
//! in the machine's network namespace.

mod fault;
mod hostile;
mod http;
mod tokens;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
enum Task {
    /// Be a registry of one OCI layout, which does one thing wrong
    Hostile(hostile::Hostile),
    /// Give out tokens that a registry takes
    Tokens(tokens::Tokens),
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Hostile(hostile) => hostile.run(),
        Task::Tokens(tokens) => tokens.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("registry: {error:#}");
            ExitCode::FAILURE
        }
    }
}
