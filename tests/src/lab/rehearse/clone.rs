//! The reader's copy of the repository: what is committed, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;

use super::Page;
use super::desk::READER;
use crate::call::call;
use crate::cleanup::of_dead;
use crate::clients;
use crate::kernel::Kernel;
use crate::session::Kind;

/// What BASE is called, before the pid of who rehearses.
pub const NAME: &str = "rehearsal.";

/// Where cargo keeps what it makes on the way, for all workspaces of the reader's, from the clone:
/// a starter needs the same crates as the clone does.
pub const BUILD: &str = "target/build";

/// Where the programs are that a reader downloads by hand, from the clone.
pub const DOWNLOADED: &str = "target/downloaded";

/// The one such program.
const REGISTRY: &str = "docker-registry";

/// A clone, in a home of its reader's:
///
/// ```text
/// BASE/home             what the pages make beside the clone, and the containers' data
/// BASE/home/minidocker  the clone
/// BASE/1                a copy of it all
/// ```
///
/// Dropped, all is removed, unless it is to be kept.
pub struct Clone {
    base: PathBuf,
    kept: bool,
}

impl Clone {
    /// Clones what is committed at `root`; a kept clone is brought to the same
    /// commit, and keeps what it has built.
    pub fn make(root: &Path, keep: Option<&Path>) -> Result<Clone> {
        let dirty = git(root, &["status", "--porcelain"])?;
        if !dirty.is_empty() {
            println!(
                "lab: only what is committed is rehearsed, and {} files here are not",
                dirty.lines().count()
            );
        }
        let base = match keep {
            Some(dir) => std::path::absolute(dir)?,
            None => {
                let target = crate::target_dir()?;
                // Those of rehearsals that were ended by Ctrl-C.
                for stale in of_dead(&target, NAME) {
                    fs::remove_dir_all(stale).ok();
                }
                target.join(format!("{NAME}{}", std::process::id()))
            }
        };
        let clone = Clone {
            kept: keep.is_some(),
            base,
        };
        let source = root
            .to_str()
            .context("the repository's path is not UTF-8")?;
        let dir = clone.dir();
        if dir.join(".git").is_dir() {
            clone.tidy()?;
        } else {
            if clone.home().exists() {
                bail!("{} is no home of a rehearsal's", clone.home().display());
            }
            fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
            git(&dir, &["init", "--quiet"])?;
        }
        git(&dir, &["fetch", "--quiet", source, "HEAD"])?;
        git(
            &dir,
            &["checkout", "--quiet", "--force", "-B", "main", "FETCH_HEAD"],
        )?;
        git(&dir, &["clean", "--quiet", "-dffx", "--exclude=/target"])?;
        Ok(clone)
    }

    /// One more, beside it, with all that was built in it.
    pub fn copy(&self, number: usize) -> Result<Clone> {
        let base = self.base.join(number.to_string());
        if base.exists() {
            fs::remove_dir_all(&base).with_context(|| format!("remove {}", base.display()))?;
        }
        fs::create_dir_all(&base).with_context(|| format!("create {}", base.display()))?;
        call(
            Command::new("cp")
                .args(["-a", "--reflink=auto"])
                .arg(self.home())
                .arg(&base),
        )?;
        Ok(Clone { kept: false, base })
    }

    /// Where it is.
    pub fn dir(&self) -> PathBuf {
        self.home().join("minidocker")
    }

    /// The home that it is in.
    pub fn home(&self) -> PathBuf {
        self.base.join("home")
    }

    /// Copies what this repository's build has made of the crates from the registry: cargo takes
    /// it for its own. What is made of the clone's sources is older than they are, and made anew.
    fn lend_dependencies(&self) -> Result<()> {
        let (from, to) = (crate::target_dir()?.join("debug"), self.dir().join(BUILD));
        let is_built = self.dir().join("Cargo.lock").exists();
        if !is_built || to.exists() || !from.join("deps").is_dir() {
            return Ok(());
        }
        let to = to.join("debug");
        fs::create_dir_all(to.join("deps"))?;
        let copy = || {
            let mut copy = Command::new("cp");
            copy.arg("-a").arg("-t");
            copy
        };
        let whole = [from.join("build"), from.join(".fingerprint")];
        call(copy().arg(&to).args(whole))?;
        let mut parts = Vec::new();
        for entry in fs::read_dir(from.join("deps"))? {
            let path = entry?.path();
            // The rest are the programs and suites, which are made anew.
            if path.extension().is_some() {
                parts.push(path);
            }
        }
        call(copy().arg(to.join("deps")).args(parts))?;
        Ok(())
    }

    /// Removes what an earlier rehearsal left beside the clone.
    fn tidy(&self) -> Result<()> {
        let home = self.home();
        for entry in fs::read_dir(&home).with_context(|| format!("read {}", home.display()))? {
            let path = entry?.path();
            if path == self.dir() {
                continue;
            }
            let removed = match path.is_dir() && !path.is_symlink() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            removed.with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }

    /// Puts there what a reader's machine would download, and gives all to the
    /// reader.
    pub fn prepare(&self, pages: &[Page]) -> Result<()> {
        let target = self.dir().join("target");
        if is_typed(pages, may_boot) && !target.join("vm/kernel").exists() {
            let from = crate::vm::dir()?;
            Kernel::ensure(&from)?;
            fs::create_dir_all(target.join("vm"))?;
            call(
                Command::new("cp")
                    .arg("-a")
                    .arg(from.join("kernel"))
                    .arg(target.join("vm")),
            )?;
        }
        let registry = self.dir().join(DOWNLOADED).join(REGISTRY);
        if is_typed(pages, |text| text.contains(REGISTRY)) && !registry.exists() {
            fs::create_dir_all(self.dir().join(DOWNLOADED))?;
            fs::copy(clients::program(REGISTRY)?, registry).context("lend the registry")?;
        }
        self.lend_dependencies()?;
        if geteuid().is_root() {
            let owner = format!("{READER}:{READER}");
            call(Command::new("chown").args(["-hR", &owner]).arg(self.home()))?;
        }
        Ok(())
    }
}

impl Drop for Clone {
    fn drop(&mut self) {
        if !self.kept {
            fs::remove_dir_all(&self.base).ok();
        }
    }
}

/// Whether a line is typed on one of the pages that is such.
fn is_typed(pages: &[Page], such: impl Fn(&str) -> bool) -> bool {
    let sessions = pages.iter().flat_map(|page| &page.sessions);
    let mut events = sessions.flat_map(|(_, session)| &session.events);
    events.any(|event| matches!(&event.kind, Kind::Typed { text, .. } if such(text)))
}

/// Whether a command may want the virtual machine: checks of limits do.
fn may_boot(command: &str) -> bool {
    ["lab vm", "lab check"]
        .iter()
        .any(|words| command.contains(words))
}

/// Runs git in `dir`, whoever owns it, and returns what it prints.
pub fn git(dir: &Path, arguments: &[&str]) -> Result<String> {
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "-c", "advice.detachedHead=false"])
        .args(arguments)
        .current_dir(dir);
    call(&mut git).with_context(|| format!("in {}", dir.display()))
}
