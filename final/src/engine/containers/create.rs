//! `docker create`: an image and wishes become a container that has never run.

use std::collections::BTreeMap;
use std::fs::File;

use anyhow::{Result, bail, ensure};
use images::{Image, Store};
use jiff::Timestamp;

use super::volumes::Made;
use super::{Containers, names, settings};
use crate::engine::networks;
use crate::state::journal::{self, Event};
use crate::state::{
    Config, Container, HostConfig, Life, Locked, VERSION, Volume, begin_creation, check_name,
    new_id,
};

/// What a user asks for beside the image.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// What to call it; `None`: anything.
    pub name: Option<String>,
    /// What is empty in it is as the image says.
    pub config: Config,
    /// `--entrypoint`: takes the place of the image's, and its `Cmd` away.
    pub entrypoint: Option<Vec<String>>,
    /// What the host gives it.
    pub host: HostConfig,
    /// What is mounted into it.
    pub mounts: Vec<Volume>,
}

impl Containers {
    /// Creates a container.
    ///
    /// # Errors
    /// The name is taken, there is nothing to run, another container that it names is not there, or
    /// the disk is full. Nothing is left then.
    pub fn create(&self, image: &Image, wish: Wish) -> Result<Container> {
        settings::check(&wish.config, &wish.host)?;
        let id = new_id()?;
        let mut config = merge(image.config(), wish.config, wish.entrypoint)?;
        let mut host = wish.host;
        for mode in [
            &mut host.network_mode,
            &mut host.pid_mode,
            &mut host.ipc_mode,
        ] {
            self.resolve(mode)?;
        }
        networks::resolve(&self.dirs, &mut host)?;
        if config.hostname.is_empty() {
            config.hostname = match host.network_mode == "host" || host.uts_mode == "host" {
                true => nix::unistd::gethostname()?.to_string_lossy().into_owned(),
                false => id.chars().take(12).collect(),
            };
        }
        // Whoever cleans up after a creation that was killed waits for those that go on.
        let _creating = begin_creation(&self.dirs)?;

        let (name, taken) = self.take_name(wish.name.as_deref(), &id)?;
        let made = self.make(
            Container {
                version: VERSION,
                id: id.clone(),
                name: name.clone(),
                created: Timestamp::now(),
                image: image.id().to_string(),
                config,
                host,
                mounts: wish.mounts,
                life: Life::default(),
            },
            image,
        );
        drop(taken);
        if made.is_err() {
            self.names.give_back(&name, &id)?;
        }
        made
    }

    fn make(&self, mut container: Container, image: &Image) -> Result<Container> {
        let store = Store::open(&self.dirs.data)?;
        store.keep_container(image, &container.id)?;
        let id = container.id.clone();
        let mut made = Made::default();
        let created = made
            .make(self, &mut container)
            .and_then(|()| Locked::create(&self.dirs, container));
        match created {
            Ok(locked) => {
                journal::tell(&self.dirs, &Event::of(&locked.container, "create"));
                Ok(locked.container)
            }
            Err(error) => {
                made.undo()?;
                store.discard_container(&id)?;
                Err(error)
            }
        }
    }

    /// `container:NAME` means the container that is called so now.
    fn resolve(&self, mode: &mut String) -> Result<()> {
        if let Some(other) = mode.strip_prefix("container:") {
            *mode = format!("container:{}", self.find(other)?.id);
        }
        Ok(())
    }

    /// The name, and what keeps it until the container is there.
    fn take_name(&self, wanted: Option<&str>, id: &str) -> Result<(String, File)> {
        if let Some(name) = wanted {
            let name = check_name(name)?;
            let taken = self.names.take(name, id)?;
            return Ok((name.to_owned(), taken));
        }
        for n in 0..20 {
            let name = names::invent(id, n);
            if self.names.get(&name)?.is_some() {
                continue;
            }
            match self.names.take(&name, id) {
                // Somebody else was faster.
                Err(_) if self.names.get(&name)?.is_some() => {}
                taken => return taken.map(|taken| (name, taken)),
            }
        }
        bail!("no free name was found; give one with --name")
    }
}

/// What it runs: the image's word, and the user's last one.
fn merge(image: &images::Config, user: Config, entrypoint: Option<Vec<String>>) -> Result<Config> {
    let mut config = user;
    let or = |own: &mut String, images: &str| {
        if own.is_empty() {
            images.clone_into(own);
        }
    };
    or(&mut config.user, &image.user);
    or(&mut config.working_dir, &image.working_dir);
    or(&mut config.stop_signal, &image.stop_signal);
    match entrypoint {
        // An empty one takes the image's away, and nothing else.
        Some(line) => {
            config.entrypoint = line.into_iter().filter(|word| !word.is_empty()).collect();
        }
        None => {
            config.entrypoint.clone_from(&image.entrypoint);
            if config.cmd.is_empty() {
                config.cmd.clone_from(&image.cmd);
            }
        }
    }
    let program = config.command().into_iter().next();
    ensure!(
        program.is_some_and(|program| !program.is_empty()),
        "no command specified"
    );
    config.env = variables(&image.env, config.env);
    config.exposed_ports.extend(image.exposed_ports.clone());
    config.volumes.extend(image.volumes.clone());
    let mut labels: BTreeMap<String, String> = image.labels.clone();
    labels.append(&mut config.labels);
    config.labels = labels;
    Ok(config)
}

/// The user's variables, and then the image's that they say nothing of; each key once.
fn variables(image: &[String], user: Vec<String>) -> Vec<String> {
    let key = |variable: &str| variable.split('=').next().map(str::to_owned);
    let mut env: Vec<String> = Vec::new();
    for variable in user {
        env.retain(|other| key(other) != key(&variable));
        env.push(variable);
    }
    for variable in image {
        if !env.iter().any(|other| key(other) == key(variable)) {
            env.push(variable.clone());
        }
    }
    // `-e KEY` of what the caller does not have takes the image's away; and an image may not ask for
    // a variable of the caller's.
    env.retain(|variable| variable.contains('='));
    env
}
