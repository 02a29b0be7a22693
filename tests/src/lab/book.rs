//! `cargo lab book`: the book, built and served on this machine.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::expand;

/// The version that the book's style and directives are made for.
const VERSION: &str = "0.5.4";

/// Where mdBook is put where the machine has none, from the repository's root.
const TOOLS: &str = "target/tools";

/// The book, from the repository's root.
const BOOK: &str = "book/en";

/// Where a reader finds the built book, from the repository's root.
const BUILT: &str = "target/book/en";

/// Where the pages are that are served.
const SERVED: &str = "target/book/served";

/// What to do with the book.
pub struct Plan {
    /// Only build it.
    pub build: bool,
    /// Open it in a browser.
    pub open: bool,
    /// The port of 127.0.0.1 to serve it on.
    pub port: u16,
    /// Show what does not resolve on its page, instead of failing.
    pub draft: bool,
}

/// Builds the book, and serves it until Ctrl-C.
pub fn run(plan: &Plan) -> Result<u8> {
    if !plan.build {
        check_port(plan.port)?;
    }
    let mdbook = mdbook()?;
    if !build(&mdbook, plan.draft)? {
        return Ok(1);
    }
    println!("lab: the book is in {BUILT}/index.html");
    if plan.build {
        return Ok(0);
    }
    let mut serve = command(&mdbook, plan.draft)?;
    // Pages that are served watch for changes; those on disk must not.
    serve.args(["serve", BOOK, "--dest-dir", SERVED]);
    serve.args(["--hostname", "127.0.0.1", "--port", &plan.port.to_string()]);
    if plan.open {
        serve.arg("--open");
    }
    println!(
        "lab: serving it on http://127.0.0.1:{} until Ctrl-C",
        plan.port
    );
    // In the place of this program, so that Ctrl-C ends one process and leaves none.
    Err(serve.exec()).with_context(|| format!("run {}", mdbook.display()))
}

/// Builds the book into target/book/en, where it can be read without a server.
pub fn build(mdbook: &PathBuf, draft: bool) -> Result<bool> {
    let mut build = command(mdbook, draft)?;
    let status = build.args(["build", BOOK]).status();
    let status = status.with_context(|| format!("run {}", mdbook.display()))?;
    Ok(status.success())
}

fn command(mdbook: &PathBuf, draft: bool) -> Result<Command> {
    let mut command = Command::new(mdbook);
    command.current_dir(crate::workspace()?);
    if draft {
        command.env(expand::DRAFT, "1");
    }
    Ok(command)
}

/// mdBook itself only says that it failed.
fn check_port(port: u16) -> Result<()> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => bail!(
            "port {port} of 127.0.0.1 is in use; take another one: cargo lab book --port {}",
            if port < u16::MAX { port + 1 } else { 3000 }
        ),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => bail!(
            "port {port} of 127.0.0.1 is root's, as those below 1024 are; take another one: \
             cargo lab book --port 3000"
        ),
        other => other
            .map(drop)
            .with_context(|| format!("listen on port {port} of 127.0.0.1")),
    }
}

/// The path of mdBook, which is installed first where it is missing.
pub fn mdbook() -> Result<PathBuf> {
    let root = crate::workspace()?.join(TOOLS);
    let own = root.join("bin/mdbook");
    for candidate in [PathBuf::from("mdbook"), own.clone()] {
        if is_right(&candidate) {
            return Ok(candidate);
        }
    }
    println!("lab: installing mdBook {VERSION} into {TOOLS}, once; this takes a minute");
    // Not optimised: it compiles in a third of the time, and builds this book in a second.
    let status = Command::new("cargo")
        .args(["install", "mdbook", "--locked", "--version", VERSION])
        .arg("--debug")
        .arg("--root")
        .arg(&root)
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .status()
        .context("run cargo install")?;
    if !status.success() || !is_right(&own) {
        bail!(
            "mdBook {VERSION} is not here and could not be installed (see above); \
             where there is a network: cargo install mdbook --locked --version {VERSION}"
        );
    }
    Ok(own)
}

fn is_right(mdbook: &PathBuf) -> bool {
    let said = Command::new(mdbook).arg("--version").output();
    said.is_ok_and(|said| {
        String::from_utf8_lossy(&said.stdout)
            .trim()
            .trim_start_matches("mdbook ")
            .trim_start_matches('v')
            == VERSION
    })
}
