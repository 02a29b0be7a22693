//! Stubs, until the real one comes.
#![allow(
    missing_docs,
    clippy::missing_errors_doc,
    unused_variables,
    clippy::needless_pass_by_value
)]
use super::{Bundle, Id};
use anyhow::Result;
use oci_spec::runtime::{LinuxResources, Process, State};
use std::path::PathBuf;
#[derive(Debug)]
pub struct Runtime {
    root: PathBuf,
}
#[derive(Debug)]
pub struct Container {
    id: Id,
}
#[derive(Debug, Default)]
pub struct Settings {
    pub pid_file: Option<PathBuf>,
    pub console_socket: Option<PathBuf>,
    pub preserve_fds: u32,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
}
#[derive(Debug)]
pub struct Record {
    pub rootfs: PathBuf,
    pub created: jiff::Timestamp,
    pub owner: u32,
}
#[derive(Debug)]
pub struct Started {}
impl Started {
    pub fn wait(self, signals: &namespaces::Signals) -> Result<u8> {
        todo!()
    }
}
impl Runtime {
    #[must_use]
    pub fn at(root: PathBuf) -> Runtime {
        Runtime { root }
    }
    pub fn default_root() -> Result<PathBuf> {
        Ok("/run/minirunc".into())
    }
    pub fn create(&self, id: &Id, bundle: &Bundle, settings: &Settings) -> Result<Container> {
        anyhow::bail!("not yet")
    }
    pub fn run(&self, id: &Id, bundle: &Bundle, settings: &Settings, keep: bool) -> Result<u8> {
        anyhow::bail!("not yet")
    }
    pub fn has(&self, id: &Id) -> Result<bool> {
        Ok(false)
    }
    pub fn open(&self, id: &Id) -> Result<Container> {
        anyhow::bail!("container does not exist: {id}")
    }
    pub fn list(&self) -> Result<Vec<Container>> {
        Ok(Vec::new())
    }
}
impl Container {
    #[must_use]
    pub fn id(&self) -> &Id {
        &self.id
    }
    pub fn state(&self) -> Result<State> {
        todo!()
    }
    pub fn is_paused(&self) -> Result<bool> {
        todo!()
    }
    pub fn bundle(&self) -> Result<Bundle> {
        todo!()
    }
    #[must_use]
    pub fn record(&self) -> &Record {
        todo!()
    }
    pub fn start(&mut self) -> Result<()> {
        todo!()
    }
    pub fn kill(&self, signal: i32, all: bool) -> Result<()> {
        todo!()
    }
    pub fn delete(self, force: bool) -> Result<()> {
        todo!()
    }
    pub fn exec(&self, process: &Process, settings: &Settings) -> Result<Started> {
        todo!()
    }
    pub fn pause(&self) -> Result<()> {
        todo!()
    }
    pub fn resume(&self) -> Result<()> {
        todo!()
    }
    pub fn update(&self, resources: &LinuxResources) -> Result<()> {
        todo!()
    }
    pub fn pids(&self) -> Result<Vec<i32>> {
        todo!()
    }
}
