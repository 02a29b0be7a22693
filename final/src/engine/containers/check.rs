//! `system check`, as far as containers go: what is, held against what should be.
//!
//! ```text
//! DATA/containers/ID    its state can be read and is true, and its image is there
//! DATA/names/NAME       leads to a container that is called so
//! RUN/containers/ID     belongs to a shim that lives
//! RUN/runtime/ID        belongs to a container that runs, and so do its cgroup,
//! mounts, links, leases what stacks its layers and what connects it
//! DATA/networks/ID.json  can be read
//! ```
//!
//! Others go on meanwhile, so whatever looks wrong is looked at once more with the lock in hand of
//! whoever could be about to make it right.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cgroups::{Hierarchy, Lasting};
use images::Finding;
use namespaces::as_root;
use nix::mount::{MntFlags, umount2};
use serde_json::Value;

use super::{Catalogue, Containers, names, truth};
use crate::engine::checkup::Checkup;
use crate::keeper;
use crate::runtime::Runtime;
use crate::shim;
use crate::state::{self, Changing, Container, Life, Locked, Network, Places, Status};

/// The cgroup that has those of all containers.
const GROUP: &str = "minidocker-engine";

/// A cgroup without processes that is younger may be waiting for its first.
const NEWBORN: Duration = Duration::from_secs(60);

impl Containers {
    /// Looks at all that is kept of containers, tells each thing that is wrong, and makes it good
    /// if that is wanted and possible. Returns docker's status: 1 if something remains.
    ///
    /// # Errors
    /// A directory as a whole cannot be read.
    pub fn check(&self, mend: bool, tell: &dyn Fn(&Finding)) -> Result<u8> {
        let check = Check {
            containers: self,
            checkup: Checkup::new(mend, tell),
        };
        let ids = state::ids(&self.dirs)?;
        // Opening a store would make what is missing of it; and what is damaged of it has been told.
        let wanted = !ids.is_empty() && self.dirs.data.join("images/oci-layout").exists();
        let images = wanted.then(|| self.images().ok()).flatten();
        for id in ids {
            check.container(&id, images.as_ref())?;
        }
        check.names()?;
        check.runs()?;
        check.runtimes()?;
        check.cgroups()?;
        check.mounts()?;
        check.network()?;
        check.keeper()?;
        check.networks()?;
        Ok(check.checkup.status())
    }
}

struct Check<'c> {
    containers: &'c Containers,
    checkup: Checkup<'c>,
}

impl Check<'_> {
    fn container(&self, id: &str, images: Option<&Catalogue>) -> Result<()> {
        let places = Places::of(&self.containers.dirs, id);
        let container = match places.read() {
            Ok(container) => container,
            Err(_) if !places.data.exists() => return Ok(()),
            Err(error) => {
                self.state(id, &places, &error.root_cause().to_string(), images);
                return Ok(());
            }
        };
        let name = &container.name;
        if !truth::is_true(&container, &places)? {
            self.checkup
                .found(&format!("the shim of container {name} is gone"), || {
                    self.containers.look(id)?;
                    Ok(
                        "what it left was removed, and the end of its container written down"
                            .into(),
                    )
                });
        } else if container.life.status == Status::Removing && !shim::is_alive(&places)? {
            self.checkup
                .found(&format!("container {name} is half removed"), || {
                    self.containers
                        .discard(&Locked::open(&self.containers.dirs, id)?)?;
                    Ok("the rest of it was removed".into())
                });
            return Ok(());
        }
        if images.is_some_and(|images| images.of(&container).is_none()) {
            let image = &container.image;
            self.checkup.told(&format!(
                "the image of container {name} is gone: {image}; load or pull it again, or \
                 `minidocker rm {name}`"
            ));
        }
        if self.containers.names.get(name)?.as_deref() != Some(id) {
            self.checkup.found(
                &format!("the name {name} does not lead to its container"),
                || {
                    let locked = Locked::open(&self.containers.dirs, id)?;
                    self.containers.names.take(&locked.container.name, id)?;
                    Ok("it does again".into())
                },
            );
        }
        Ok(())
    }

    /// A state that cannot be read.
    fn state(&self, id: &str, places: &Places, error: &str, images: Option<&Catalogue>) {
        let version = fs::read(places.state()).map(|text| state::version(&text));
        if let Ok(Ok(version)) = version
            && version != state::VERSION
        {
            let what = format!("the state of container {id} is of version {version}");
            self.checkup
                .told(&format!("{what}; use the minidocker that wrote it"));
            return;
        }
        self.checkup.found(&format!("the state of container {id} is lost: {error}"), || {
            let lost = self.lost(id, places, images)?;
            let name = lost.name.clone();
            Locked::create(&self.containers.dirs, lost)?;
            Ok(format!(
                "its files are kept in a dead container: `minidocker cp {name}:/ DIRECTORY` and \
                 `minidocker rm {name}`"
            ))
        });
    }

    /// What can still be said of a container.
    fn lost(&self, id: &str, places: &Places, images: Option<&Catalogue>) -> Result<Container> {
        // Whoever still holds it is no dead one's.
        ensure!(
            !shim::is_alive(places)?,
            "its shim lives: `minidocker rm -f {id}` ends it"
        );
        let error = "its state was lost, and only its files are known".to_owned();
        let mut lost = truth::damaged(id, places, &error);
        lost.version = state::VERSION;
        lost.life = Life {
            status: Status::Dead,
            error,
            ..Life::default()
        };
        let image = images.and_then(|images| images.of(&lost));
        let called = image.and_then(|image| image.names().first());
        lost.config.image = called.map_or(lost.image.clone(), ToString::to_string);
        // Its bundle was written at its last start.
        let bundle = fs::read(places.data.join("config.json")).unwrap_or_default();
        let bundle: Value = serde_json::from_slice(&bundle).unwrap_or_default();
        let words = |list: &Value| {
            let list = list.as_array().into_iter().flatten();
            list.filter_map(|word| Some(word.as_str()?.to_owned()))
                .collect()
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        lost.config.cmd = words(&bundle["process"]["args"]);
        lost.config.env = words(&bundle["process"]["env"]);
        lost.config.working_dir = text(&bundle["process"]["cwd"]);
        lost.config.hostname = text(&bundle["hostname"]);
        lost.name = self.name_of(id)?;
        Ok(lost)
    }

    /// The name that leads to a container that cannot say it.
    fn name_of(&self, id: &str) -> Result<String> {
        let known = &self.containers.names;
        for name in known.all()? {
            if known.get(&name)?.as_deref() == Some(id) {
                return Ok(name);
            }
        }
        let name = (0..20).map(|n| names::invent(id, n));
        let name = name.into_iter().find(|name| known.take(name, id).is_ok());
        name.context("find a name for it")
    }

    fn names(&self) -> Result<()> {
        let known = &self.containers.names;
        let leads = |name: &str| -> Result<bool> {
            let Some(id) = known.get(name)? else {
                return Ok(false);
            };
            let places = Places::of(&self.containers.dirs, &id);
            // Of a lost state nobody knows another name.
            let called = |container: Container| container.name == name;
            Ok(places.data.exists() && places.read().map_or(true, called))
        };
        for name in known.all()? {
            if leads(&name)? {
                continue;
            }
            // Neither a creation nor a new name is on its way while we hold this.
            let place = self.containers.dirs.data.join("names");
            let alone = File::open(&place).with_context(|| format!("open {}", place.display()))?;
            alone.lock().context("lock the names")?;
            if leads(&name)? || !place.join(&name).exists() {
                continue;
            }
            self.checkup
                .found(&format!("the name {name} leads to no container"), || {
                    fs::remove_file(place.join(&name)).context("remove it")?;
                    Ok("it is free now".into())
                });
        }
        Ok(())
    }

    /// Directories of shims without a container. Those of containers were looked at with these.
    fn runs(&self) -> Result<()> {
        let place = self.containers.dirs.run.join("containers");
        for id in state::ids_in(&place)? {
            let places = Places::of(&self.containers.dirs, &id);
            if places.data.exists() || !places.run.exists() {
                continue;
            }
            let path = places.run.display();
            let what = match shim::is_alive(&places)? {
                true => format!("a shim lives in {path}, and its container is gone"),
                false => format!("{path} is left of a container that is gone"),
            };
            self.checkup.found(&what, || {
                // Without its first process, a shim ends.
                self.delete(&id)?;
                as_root(|| places.forget())?;
                Ok("it was removed".into())
            });
        }
        Ok(())
    }

    /// The runtime's state of containers that don't run.
    fn runtimes(&self) -> Result<()> {
        let place = self.containers.dirs.run.join("runtime");
        for id in state::ids_in(&place)? {
            if self.is_accounted_for(&id)? || !place.join(&id).exists() {
                continue;
            }
            let what = format!("the runtime still has container {id}, which does not run");
            self.checkup.found(&what, || {
                let _locked = Locked::open(&self.containers.dirs, &id);
                ensure!(!self.lives(&id)?, "it was started just now");
                self.delete(&id)?;
                Ok("what was left of it was removed".into())
            });
        }
        Ok(())
    }

    fn delete(&self, id: &str) -> Result<()> {
        let runtime = Runtime::at(self.containers.dirs.run.join("runtime"));
        let id = id.parse()?;
        as_root(|| runtime.delete(&id, true))
    }

    /// Whether a container runs, or it was told already that it does not although it says so.
    fn is_accounted_for(&self, id: &str) -> Result<bool> {
        let places = Places::of(&self.containers.dirs, id);
        match places.read() {
            Ok(container) if !truth::is_true(&container, &places)? => Ok(true),
            _ => self.lives(id),
        }
    }

    fn lives(&self, id: &str) -> Result<bool> {
        let places = Places::of(&self.containers.dirs, id);
        Ok(places.data.exists() && shim::is_alive(&places)?)
    }

    /// Cgroups of containers that don't run.
    fn cgroups(&self) -> Result<()> {
        // Only where there is a tree can anything have been left in it.
        if Hierarchy::find()?.mount().is_none() {
            return Ok(());
        }
        let Some(group) = Lasting::find(Path::new(GROUP))? else {
            return Ok(());
        };
        for id in state::ids_in(group.path())? {
            let path = Path::new(GROUP).join(&id);
            let Some(left) = Lasting::find(&path)? else {
                continue;
            };
            if self.is_accounted_for(&id)? {
                continue;
            }
            let shown = left.path().display().to_string();
            // Those of another pid namespace have no number here, and live all the same.
            let events = left.read("cgroup.events")?;
            let is_populated = events.lines().any(|line| line == "populated 1");
            let is_ours = Places::of(&self.containers.dirs, &id).data.exists();
            let what = format!("the cgroup {shown} is left of a container that does not run");
            // Another engine's container may be born just now.
            if !is_ours && !is_populated && is_younger(left.path(), NEWBORN) {
                continue;
            }
            if is_populated && !is_ours {
                self.checkup.told(&format!(
                    "{what}, and there are processes in it; if nobody else's container is \
                     there, end them with: echo 1 > {shown}/cgroup.kill"
                ));
                continue;
            }
            self.checkup.found(&what, || {
                let _locked = Locked::open(&self.containers.dirs, &id);
                ensure!(!self.lives(&id)?, "it was started just now");
                if is_ours {
                    left.kill()?;
                }
                left.remove()?;
                Ok("it was removed".into())
            });
        }
        Ok(())
    }

    /// Layers that are stacked outside of any shim.
    fn mounts(&self) -> Result<()> {
        let place = self.containers.dirs.data.join("containers");
        let table = fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
        // proc_pid_mountinfo(5): the fifth field is where it is mounted.
        let points = table.lines().filter_map(|line| line.split(' ').nth(4));
        let points: Vec<PathBuf> = points.map(PathBuf::from).collect();
        for point in points.iter().rev() {
            let Ok(inner) = point.strip_prefix(&place) else {
                continue;
            };
            let id = inner.iter().next().unwrap_or_default().to_string_lossy();
            if inner.as_os_str().is_empty() || self.lives(&id)? {
                continue;
            }
            let what = format!("something is still mounted on {}", point.display());
            self.checkup.found(&what, || {
                umount2(point, MntFlags::MNT_DETACH).context("unmount it")?;
                Ok("it was unmounted".into())
            });
        }
        Ok(())
    }

    /// Leases, links and rules of dead containers.
    fn network(&self) -> Result<()> {
        let dirs = &self.containers.dirs;
        let look = || {
            let left = || Ok(network::leftovers(&dirs.run, true)?.join(", "));
            match shim::within_networks(dirs, left)? {
                Some(left) => Ok::<_, anyhow::Error>(left),
                None => Ok(network::leftovers(&dirs.run, false)?.join(", ")),
            }
        };
        let left = look()?;
        if left.is_empty() {
            return Ok(());
        }
        let what = format!("dead containers left in the network: {left}");
        self.checkup.found(&what, || {
            network::sweep(&dirs.run, false)?;
            shim::sweep_network(dirs)?;
            let left = look()?;
            if !left.is_empty() {
                bail!("{left} could not be removed");
            }
            Ok("all of it was removed".into())
        });
        Ok(())
    }

    /// The socket of a keeper that was killed, where no container is left that would ask it.
    fn keeper(&self) -> Result<()> {
        let dirs = &self.containers.dirs;
        let Some(socket) = keeper::leftover(dirs)? else {
            return Ok(());
        };
        let shown = socket.display();
        self.checkup
            .found(&format!("nobody listens at {shown} any more"), || {
                keeper::sweep(dirs)?;
                Ok("it was removed".into())
            });
        Ok(())
    }

    /// Networks whose file cannot be read.
    fn networks(&self) -> Result<()> {
        let dirs = &self.containers.dirs;
        for (path, error) in Network::damaged(dirs)? {
            let what = format!("{error:#}");
            // One of another version is somebody's, and whole.
            let is_whole =
                |text: Vec<u8>| state::version(&text).is_ok_and(|it| it != state::VERSION);
            if fs::read(&path).map_or(true, is_whole) {
                self.checkup.told(&what);
                continue;
            }
            self.checkup.found(&what, || {
                let _alone = Changing::begin(dirs)?;
                fs::remove_file(&path).context("remove it")?;
                Ok("it was removed".into())
            });
        }
        Ok(())
    }
}

/// Whether a file was made, or changed, no longer ago than that.
fn is_younger(path: &Path, age: Duration) -> bool {
    let made = fs::metadata(path).and_then(|found| found.modified());
    made.is_ok_and(|made| made.elapsed().is_ok_and(|passed| passed < age))
}
