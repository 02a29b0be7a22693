//! `commit`: what a container wrote becomes one more layer over its image's.

use std::path::Path;

use anyhow::{Result, ensure};
use images::{Document, History, Image, ImageName};
use serde_json::Value;

use super::{Images, changes};
use crate::state::Config;

/// How a committed image differs from its container, and what it says of itself.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// What to call it.
    pub name: Option<ImageName>,
    /// Who made it.
    pub author: String,
    /// What its history says.
    pub message: String,
    /// How a container of it is to run: instructions as in a Dockerfile.
    pub changes: Vec<String>,
    /// Whether the container stands still meanwhile.
    pub pause: bool,
}

impl Images {
    /// Makes an image of `base` and what lies in `upper`, for what runs as `config` says.
    pub(in crate::engine) fn commit(
        &self,
        base: &Image,
        (upper, config): (&Path, &Config),
        commit: &Commit,
    ) -> Result<Image> {
        let document = describe(base, config, commit)?;
        self.store
            .commit(base, upper, commit.name.as_ref(), document)
    }
}

/// Of the container's config, what belongs to any of its kind.
fn describe(base: &Image, container: &Config, commit: &Commit) -> Result<Document> {
    let tagged = commit.name.as_ref().is_none_or(|name| name.tag().is_some());
    ensure!(tagged, "refusing to create a tag with a digest reference");
    let mut config = images::Config {
        user: container.user.clone(),
        exposed_ports: container.exposed_ports.clone(),
        env: container.env.clone(),
        entrypoint: container.entrypoint.clone(),
        cmd: container.cmd.clone(),
        volumes: container.volumes.clone(),
        working_dir: container.working_dir.clone(),
        labels: container.labels.clone(),
        stop_signal: container.stop_signal.clone(),
        extra: base.config().extra.clone(),
    };
    // It was for whoever builds on the base, and this was done now.
    config.extra.remove("OnBuild");
    let command = container.cmd.join(" ");
    changes::apply(&commit.changes, &mut config)?;
    let base = base.document();
    let mut document = Document {
        rootfs: base.rootfs.clone(),
        history: base.history.clone(),
        extra: base.extra.clone(),
        ..Document::new(config)
    };
    if !base.architecture.is_empty() {
        document.architecture.clone_from(&base.architecture);
    }
    for old in ["author", "container", "container_config", "parent", "id"] {
        document.extra.remove(old);
    }
    if !commit.author.is_empty() {
        let author = Value::from(commit.author.as_str());
        document.extra.insert("author".to_owned(), author);
    }
    // Each layer below has its step, also those of which the base does not speak.
    let spoken = document.history.iter().filter(|step| !step.empty_layer);
    for _ in spoken.count()..document.rootfs.diff_ids.len() {
        document.history.push(History {
            created: base.created.clone(),
            ..History::default()
        });
    }
    document.history.push(History {
        created: document.created.clone(),
        created_by: command,
        author: commit.author.clone(),
        comment: commit.message.clone(),
        empty_layer: false,
    });
    Ok(document)
}
