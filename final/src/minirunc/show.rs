//! What is told of containers, and of the runtime itself.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use minidocker::runtime::{Container, Runtime, Status, default_spec, features};
use nix::unistd::{Uid, User};
use serde::Serialize;
use serde_json::Value;

use crate::Subject;

/// How a list is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// A container as clients read it: the specification's state, and what runc
/// adds to it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    oci_version: String,
    id: String,
    /// 0 for one that has ended.
    pid: i32,
    /// The specification's, or `paused`.
    status: String,
    bundle: PathBuf,
    rootfs: PathBuf,
    created: String,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    annotations: HashMap<String, String>,
    owner: String,
}

impl Shown {
    fn of(container: &Container) -> Result<Shown> {
        let status = container.status()?;
        let record = container.record();
        Ok(Shown {
            oci_version: record.oci_version.clone(),
            id: container.id().to_string(),
            pid: if status == Status::Stopped {
                0
            } else {
                record.pid
            },
            status: status.to_string(),
            bundle: record.bundle.clone(),
            rootfs: record.rootfs.clone(),
            created: record.created.to_string(),
            annotations: record.annotations.clone(),
            owner: name_of(record.owner),
        })
    }
}

fn name_of(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => format!("#{uid}"),
    }
}

/// Tell a container's state
///
///     minirunc state mybox
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct State {
    #[command(flatten)]
    subject: Subject,
}

impl State {
    pub(crate) fn run(self, runtime: &Runtime) -> Result<()> {
        let container = runtime.find(&self.subject.id)?;
        cli::say(&serde_json::to_string_pretty(&Shown::of(&container)?)?)
    }
}

/// List the containers
///
///     minirunc list
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct List {
    /// How they are listed
    #[arg(short, long, default_value = "table")]
    format: Format,
    /// Only the ids
    #[arg(short, long)]
    quiet: bool,
}

impl List {
    pub(crate) fn run(self, runtime: &Runtime) -> Result<()> {
        let containers = runtime.list()?;
        if self.quiet {
            return containers
                .iter()
                .try_for_each(|container| cli::say(container.id().as_str()));
        }
        let mut shown = Vec::new();
        for container in &containers {
            match Shown::of(container) {
                Ok(one) => shown.push(one),
                Err(error) => tracing::warn!("{}: {error:#}", container.id()),
            }
        }
        match self.format {
            Format::Json => cli::say(&serde_json::to_string(&shown)?),
            Format::Table => cli::say(&table(&shown)),
        }
    }
}

/// Runc's columns are at least that wide.
const LEAST: usize = 12;

fn table(containers: &[Shown]) -> String {
    let mut rows = "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER\n".to_owned();
    for one in containers {
        let bundle = one.bundle.display();
        rows += &format!("{}\t{}\t{}\t{bundle}\t", one.id, one.pid, one.status);
        rows += &format!("{}\t{}\n", one.created, one.owner);
    }
    cli::columns(&rows, LEAST)
}

/// List a container's processes
///
/// What follows the id are options of ps(1).
///
///     minirunc ps mybox -o pid,args
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Ps {
    /// How they are listed
    #[arg(short, long, default_value = "table")]
    format: Format,
    #[command(flatten)]
    subject: Subject,
    /// Options of ps(1)
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "PS-OPTION",
        default_value = "-ef"
    )]
    options: Vec<String>,
}

impl Ps {
    pub(crate) fn run(self, runtime: &Runtime) -> Result<()> {
        let pids = runtime.find(&self.subject.id)?.pids()?;
        if self.format == Format::Json {
            return cli::say(&serde_json::to_string(&pids)?);
        }
        let ps = Command::new("ps").args(&self.options).output();
        let ps = ps.context("run ps(1) to describe the processes")?;
        let complaint = String::from_utf8_lossy(&ps.stderr);
        ensure!(
            ps.status.success(),
            "ps {}: {}",
            self.options.join(" "),
            complaint.trim()
        );
        cli::say(&lines_of(&String::from_utf8_lossy(&ps.stdout), &pids)?)
    }
}

/// The header of what ps(1) printed, and the lines of these processes.
fn lines_of(output: &str, pids: &[i32]) -> Result<String> {
    let mut lines = output.lines();
    let header = lines.next().unwrap_or_default();
    let Some(column) = header.split_whitespace().position(|name| name == "PID") else {
        bail!("ps prints no column PID with these options");
    };
    let ours = lines.filter(|line| {
        let pid = line.split_whitespace().nth(column);
        pid.and_then(|pid| pid.parse().ok())
            .is_some_and(|pid| pids.contains(&pid))
    });
    Ok([header]
        .into_iter()
        .chain(ours)
        .collect::<Vec<_>>()
        .join("\n"))
}

/// Write a configuration to start from: config.json, with docker's defaults
///
///     minirunc spec --bundle box
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Spec {
    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// For a user who is not root
    #[arg(long)]
    rootless: bool,
}

impl Spec {
    pub(crate) fn run(self) -> Result<()> {
        let path = self.bundle.join("config.json");
        let mut spec = serde_json::to_value(default_spec(self.rootless))?;
        sort_capabilities(&mut spec);
        let text = serde_json::to_string_pretty(&spec)?;
        let written = File::create_new(&path).and_then(|mut file| writeln!(file, "{text}"));
        written.with_context(|| format!("write {} (it is never overwritten)", path.display()))
    }
}

/// They are sets, which come in another order each time.
fn sort_capabilities(spec: &mut Value) {
    let sets = spec.pointer_mut("/process/capabilities");
    for set in sets.and_then(Value::as_object_mut).into_iter().flatten() {
        if let Some(names) = set.1.as_array_mut() {
            names.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
        }
    }
}

/// Tell what this runtime can do
///
///     minirunc features
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Features {}

impl Features {
    pub(crate) fn run(self) -> Result<()> {
        cli::say(&serde_json::to_string_pretty(&features())?)
    }
}

#[cfg(test)]
mod tests {
    use super::lines_of;

    #[test]
    fn of_what_ps_prints_only_the_containers_lines_are_left() {
        let output = "  PID CMD\n    1 init 7\n    7 sh\n   17 sleep 1\n";
        assert_eq!(
            lines_of(output, &[7, 17]).expect("PID"),
            "  PID CMD\n    7 sh\n   17 sleep 1"
        );
        assert!(lines_of("CMD\nsh\n", &[7]).is_err());
    }
}
