//! `pull`

use std::io;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use images::{ImageName, Platform};
use minidocker::engine::images::{Images, Pulled};
use minidocker::engine::registries;
use minidocker::registry::Registry;

use crate::Context;
use crate::progress::{Manner, Progress};

/// Fetch an image from a registry
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker pull --platform linux/arm64 alpine:3.20")]
pub(crate) struct Pull {
    /// The image; without a tag or a digest its `latest`
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
    /// For which machines, as linux/arm64/v8
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    #[command(flatten)]
    way: Way,
}

/// How an image goes over the wire, and what is told meanwhile.
#[derive(Debug, Args)]
pub(crate) struct Way {
    /// All tags of the repository
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// Only the name
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Without HTTPS, or with certificates that nobody vouches for
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Accepted: there is no content trust
    #[arg(long)]
    disable_content_trust: bool,
}

impl Way {
    /// The name that was written. Says which tag it stands for where none was.
    pub(crate) fn name(&self, written: &str) -> Result<ImageName> {
        let name: ImageName = written.parse()?;
        let tagged = name
            .tag()
            .is_none_or(|tag| written.ends_with(&format!(":{tag}")));
        ensure!(
            !(self.all_tags && tagged),
            "tag can't be used with --all-tags/-a"
        );
        if !tagged && !self.all_tags && !self.quiet {
            cli::say("Using default tag: latest")?;
        }
        Ok(name)
    }
}

impl Pull {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let name = self.way.name(&self.name)?;
        Images::change(&context.dirs, |images| {
            let registry = registries::open(name.registry(), self.way.insecure)?;
            let names = match self.way.all_tags {
                false => vec![name.clone()],
                true => tags(&registry, &name)?,
            };
            let mut newer = false;
            for name in &names {
                newer |= self.pull(context, images, &registry, name)?.newer;
            }
            let (shown, full) = match self.way.all_tags {
                false => (name.to_string(), name.full()),
                true => (
                    name.repository(),
                    format!("{}/{}", name.registry(), name.path()),
                ),
            };
            if !self.way.quiet {
                cli::say(&status(newer, &shown))?;
            }
            cli::say(&full)?;
            Ok(0)
        })
    }

    fn pull(
        &self,
        context: &Context,
        images: &Images,
        registry: &Registry,
        name: &ImageName,
    ) -> Result<Pulled> {
        let manner = Manner::of_output(self.way.quiet, context.explain);
        // Docker tells of a tag by itself, and of a digest with all that is before it.
        let what = name.tag().map_or_else(|| name.full(), str::to_owned);
        let heading = format!("{what}: Pulling from {}", name.path());
        let progress = Progress::start(manner, &heading);
        let note = |blob: &_, stage| progress.note(blob, stage);
        let pulled = images.pull(registry, name, self.platform.as_ref(), &note)?;
        progress.finish()?;
        if !self.way.quiet {
            cli::say(&format!("Digest: {}", pulled.digest))?;
        }
        Ok(pulled)
    }
}

/// Fetches an image for a command whose output is its own affair: what there is to be told goes to
/// standard error. Returns the status that it ends with.
///
/// # Errors
/// As `pull`.
pub(crate) fn for_another(
    context: &Context,
    name: &ImageName,
    platform: Option<&Platform>,
    quiet: bool,
) -> Result<u8> {
    let pull = Pull {
        name: name.to_string(),
        platform: platform.cloned(),
        way: Way {
            all_tags: false,
            quiet,
            insecure: false,
            disable_content_trust: false,
        },
    };
    Images::change(&context.dirs, |images| {
        // This process is here for nothing else, and all that it prints is about the image.
        nix::unistd::dup2_stdout(io::stderr()).context("print to standard error")?;
        let registry = registries::open(name.registry(), false)?;
        let newer = pull.pull(context, images, &registry, name)?.newer;
        if !quiet {
            cli::say(&status(newer, &name.to_string()))?;
        }
        Ok(0)
    })
}

fn status(newer: bool, shown: &str) -> String {
    match newer {
        true => format!("Status: Downloaded newer image for {shown}"),
        false => format!("Status: Image is up to date for {shown}"),
    }
}

fn tags(registry: &Registry, name: &ImageName) -> Result<Vec<ImageName>> {
    let mut tags = registry.tags(name.path())?;
    tags.sort_unstable();
    tags.iter().map(|tag| name.with_tag(tag)).collect()
}
