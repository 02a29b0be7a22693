//! Networks: what each is to be. Its bridge is there while a container is in it.
//!
//! ```text
//! DATA/networks/               locked (flock) by whoever makes or removes one; shared, by whoever
//!                              puts a container into one
//!     ID.json                    one network that people made
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use cli::Dirs;
use ipnetwork::{Ipv4Network, Ipv6Network};
use jiff::Timestamp;
use network::bridge::{Bridge, Shape};
use serde::{Deserialize, Serialize};

use super::journal::{Event, Kind};
use super::locked::replace;
use super::{Missing, VERSION, is_id, names_in, parse};

/// Those that are always there, with their ids.
const PREDEFINED: [(&str, &str); 3] = [
    (
        Network::DEFAULT,
        "25c306aebb6e5279a590ac4427bf97270e7187ddf2b28c0fd2079ad0026389d6",
    ),
    (
        "host",
        "a53501addedf698c7682aae50672ef8ddbcb47fbe544d0563a3fdd83bc9b07eb",
    ),
    (
        "none",
        "5c837b3f7bdf9e1774661522c1f72448c57fade9e1a28be74f5f97c93b9c87a2",
    ),
];

/// A network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// The version of the file's form.
    pub version: u32,
    /// 64 hexadecimal digits.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Its subnet; `None` only for `host` and `none`, and for `bridge`, which has one of several.
    pub subnet: Option<Ipv4Network>,
    /// The host's address there.
    pub gateway: Option<Ipv4Addr>,
    /// `--ip-range`: where addresses are given out.
    pub range: Option<Ipv4Network>,
    /// Its IPv6 subnet: `--ipv6`.
    pub subnet6: Option<Ipv6Network>,
    /// The host's address there.
    pub gateway6: Option<Ipv6Addr>,
    /// Where addresses are given out in that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range6: Option<Ipv6Network>,
    /// `--aux-address`: whom addresses belong to that no container gets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub spared: BTreeMap<String, IpAddr>,
    /// Whether somebody asked for this very subnet, and may ask for addresses in it.
    pub chosen: bool,
    /// The same for the IPv6 subnet.
    pub chosen6: bool,
    /// Whether it has no way out.
    pub internal: bool,
    /// `--attachable`: with docker it says something of a swarm's networks.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub attachable: bool,
    /// What people wrote on it.
    pub labels: BTreeMap<String, String>,
    /// `--opt`.
    pub options: BTreeMap<String, String>,
}

impl Network {
    /// The network that containers join unless told otherwise.
    pub const DEFAULT: &str = "bridge";

    /// The option that names the bridge.
    pub const BRIDGE_NAME: &str = "com.docker.network.bridge.name";

    /// The option that says how large packets can be, in bytes.
    pub const MTU: &str = "com.docker.network.driver.mtu";

    /// The option that says whether its containers reach each other.
    pub const TOGETHER: &str = "com.docker.network.bridge.enable_icc";

    /// The option that says whether the outside sees the host's address in the place of theirs.
    pub const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";

    /// The option that says on which address of the host ports are published, where `-p` does not.
    pub const BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";

    /// A network that people make now.
    #[must_use]
    pub fn new(id: String, name: &str) -> Network {
        Network {
            version: VERSION,
            id,
            name: name.to_owned(),
            created: Timestamp::now(),
            ..Network::default()
        }
    }

    /// Those that are always there: `bridge`, `host` and `none`.
    #[must_use]
    pub fn predefined() -> [Network; 3] {
        PREDEFINED.map(|(name, id)| Network {
            version: VERSION,
            id: id.to_owned(),
            name: name.to_owned(),
            ..Network::default()
        })
    }

    /// Whether nobody made it, and nobody can remove it.
    #[must_use]
    pub fn is_predefined(&self) -> bool {
        PREDEFINED.iter().any(|(_, id)| *id == self.id)
    }

    /// Docker's word for how it is made.
    #[must_use]
    pub fn driver(&self) -> &'static str {
        match self.name.as_str() {
            "host" => "host",
            "none" => "null",
            _ => "bridge",
        }
    }

    /// The id as people see it: twelve digits.
    #[must_use]
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// Something that happens to it now.
    #[must_use]
    pub fn event(&self, action: &str) -> Event {
        Event::new(Kind::Network, action, &self.id)
            .with("name", &self.name)
            .with("type", self.driver())
    }

    /// How the host calls its bridge.
    #[must_use]
    pub fn link(&self) -> String {
        match self.options.get(Network::BRIDGE_NAME) {
            _ if self.name == Network::DEFAULT => "mini0".to_owned(),
            Some(name) => name.clone(),
            None => format!("mini-{}", self.id.get(..10).unwrap_or(&self.id)),
        }
    }

    /// The address of the host on which ports are published that name none.
    ///
    /// # Errors
    /// The option is no address.
    pub fn binding(&self) -> Result<Option<IpAddr>> {
        let text = self.options.get(Network::BINDING);
        let parse = |text: &String| {
            let address: Result<Ipv4Addr, _> = text.parse();
            let what = || format!("{}={text}: it is no IPv4 address", Network::BINDING);
            address.map(IpAddr::from).with_context(what)
        };
        text.map(parse).transpose()
    }

    /// How large packets can be.
    fn mtu(&self) -> Result<Option<u32>> {
        let (least, most) = (if self.subnet6.is_some() { 1280 } else { 68 }, 65_535);
        let parse = |text: &String| {
            let mtu = text.parse().ok().filter(|mtu| (least..=most).contains(mtu));
            let what = || format!("{}={text}: it can be {least} to {most} here", Network::MTU);
            mtu.with_context(what)
        };
        self.options.get(Network::MTU).map(parse).transpose()
    }

    /// An option that is yes or no, as Go's `strconv.ParseBool` reads it; `true` where it is not given.
    ///
    /// # Errors
    /// It is something else.
    pub fn switch(&self, option: &str) -> Result<bool> {
        match self.options.get(option).map(String::as_str) {
            None | Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(true),
            Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(false),
            Some(other) => bail!("{option}={other}: it can be true or false"),
        }
    }

    /// Its bridge.
    ///
    /// # Errors
    /// It has none, or the file was written by somebody else: the subnet is none for a bridge.
    pub fn bridge(&self, dirs: &Dirs) -> Result<Bridge> {
        if self.name == Network::DEFAULT {
            return Bridge::standard(&dirs.run);
        }
        let name = &self.name;
        let subnet = self
            .subnet
            .with_context(|| format!("the network {name} has no bridge"))?;
        let six = self.gateway6.zip(self.subnet6);
        let six = six.map(|(gateway, subnet)| Ipv6Network::new(gateway, subnet.prefix()));
        let shape = Shape {
            gateway: self.gateway,
            range: self.range,
            six: six.transpose()?,
            range6: self.range6,
            internal: self.internal,
            mtu: self.mtu()?,
            apart: !self.switch(Network::TOGETHER)?,
        };
        let bridge = Bridge::new(&dirs.run, &self.link(), vec![subnet])?
            .shaped(shape)
            .with_context(|| format!("the network {name} cannot be"))?;
        Ok(bridge.sparing(self.spared.values().copied().collect()))
    }

    /// Finds the network of a name, an id, or the beginning of an id that no other has.
    ///
    /// # Errors
    /// There is none ([`Missing`]), or there are several.
    pub fn find(dirs: &Dirs, what: &str) -> Result<Network> {
        let is_called = |it: &Network| it.id == what || it.name == what;
        // Most containers want one of these, and for them no file is read.
        if let Some(found) = Network::predefined().into_iter().find(is_called) {
            return Ok(found);
        }
        let mut all = Network::all(dirs)?;
        all.extend(Network::predefined());
        if let Some(found) = all.iter().find(|it| is_called(it)) {
            return Ok(found.clone());
        }
        // One that is damaged is told of by whoever asks for it by its id.
        let is_meant = |id: &str| !what.is_empty() && id.starts_with(what);
        for path in files(dirs)? {
            let id = path.file_stem().unwrap_or_default().to_string_lossy();
            if is_meant(&id) && !all.iter().any(|it| it.id == *id) {
                return read(&path);
            }
        }
        let mut found = all.into_iter().filter(|it| is_meant(&it.id));
        match (found.next(), found.count()) {
            (Some(network), 0) => Ok(network),
            (Some(_), others) => bail!(
                "network {what} is ambiguous ({} matches found based on ID prefix)",
                others + 1
            ),
            (None, _) => Err(Missing(format!("network {what} not found")).into()),
        }
    }

    /// All that people made, by their names. Those whose file is damaged are left out; a note tells
    /// of each.
    ///
    /// # Errors
    /// Their directory cannot be read.
    pub fn all(dirs: &Dirs) -> Result<Vec<Network>> {
        let mut all = Vec::new();
        for path in files(dirs)? {
            match read(&path) {
                Ok(network) => all.push(network),
                // It was removed a moment ago.
                Err(_) if !path.exists() => {}
                Err(error) => tracing::warn!("{error:#}"),
            }
        }
        all.sort_by(|one, two| (&one.name, &one.id).cmp(&(&two.name, &two.id)));
        Ok(all)
    }

    /// The files of networks that cannot be read, each with the reason.
    ///
    /// # Errors
    /// Their directory cannot be read.
    pub fn damaged(dirs: &Dirs) -> Result<Vec<(PathBuf, anyhow::Error)>> {
        let mut all = Vec::new();
        for path in files(dirs)? {
            if let Err(error) = read(&path)
                && path.exists()
            {
                all.push((path, error));
            }
        }
        Ok(all)
    }

    /// Keeps all networks from being removed for as long as the answer is held. Whoever puts a
    /// container into one finds the network and takes its lease meanwhile.
    ///
    /// # Errors
    /// What flock(2) refuses.
    pub fn hold(dirs: &Dirs) -> Result<Option<File>> {
        let place = place(dirs);
        match File::open(&place) {
            // There is none that could be removed.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            directory => directory
                .and_then(|directory| directory.lock_shared().map(|()| Some(directory)))
                .with_context(|| format!("lock {}", place.display())),
        }
    }
}

/// The right to make and to remove networks: nobody else does meanwhile, and no container gets into
/// one.
#[derive(Debug)]
pub struct Changing {
    place: PathBuf,
    _lock: File,
}

impl Changing {
    /// Waits for it.
    ///
    /// # Errors
    /// The networks' directory cannot be made, or locked.
    pub fn begin(dirs: &Dirs) -> Result<Changing> {
        let place = place(dirs);
        let lock = fs::create_dir_all(&place)
            .and_then(|()| File::open(&place))
            .and_then(|directory| directory.lock().map(|()| directory))
            .with_context(|| format!("lock {}", place.display()))?;
        // Who was writing these has been killed: with the lock in our hands nobody else is.
        for name in names_in(&place)? {
            if name.ends_with(".new") {
                let _ = fs::remove_file(place.join(name));
            }
        }
        Ok(Changing { place, _lock: lock })
    }

    /// Writes a network down: the whole of it, or nothing (rename(2)).
    ///
    /// # Errors
    /// The disk is full, or what else it refuses; what is on it is as it was.
    pub fn write(&self, network: &Network) -> Result<()> {
        replace(&self.file(network), network)
    }

    /// Forgets a network.
    ///
    /// # Errors
    /// Its file cannot be removed.
    pub fn remove(&self, network: &Network) -> Result<()> {
        let path = self.file(network);
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))
    }

    fn file(&self, network: &Network) -> PathBuf {
        self.place.join(format!("{}.json", network.id))
    }
}

fn place(dirs: &Dirs) -> PathBuf {
    dirs.data.join("networks")
}

/// The files of those that people made, in no order.
fn files(dirs: &Dirs) -> Result<Vec<PathBuf>> {
    let place = place(dirs);
    let mut names = names_in(&place)?;
    names.retain(|name| name.strip_suffix(".json").is_some_and(is_id));
    Ok(names.iter().map(|name| place.join(name)).collect())
}

fn read(path: &Path) -> Result<Network> {
    let shown = path.display();
    let text = fs::read(path).with_context(|| format!("read {shown}"))?;
    let help = "remove it, and make the network again under the same name";
    let network: Network = parse(&text, path, help)?;
    let is_its_own = path.file_stem().is_some_and(|stem| *stem == *network.id);
    ensure!(
        is_its_own && network.subnet.is_some(),
        "{shown} is damaged; {help}"
    );
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs(name: &str) -> Dirs {
        let top = std::env::temp_dir().join(format!("networks-{name}-{}", std::process::id()));
        Dirs {
            data: top.join("data"),
            run: top.join("run"),
        }
    }

    fn network(digit: char, name: &str) -> Network {
        let id = std::iter::repeat_n(digit, 64).collect();
        Network {
            subnet: "172.20.0.0/16".parse().ok(),
            gateway: Some(Ipv4Addr::new(172, 20, 0, 1)),
            ..Network::new(id, name)
        }
    }

    fn refusal<T: std::fmt::Debug>(asked: Result<T>) -> String {
        format!("{:#}", asked.expect_err("a refusal"))
    }

    #[test]
    fn a_network_is_found_by_its_name_and_by_what_its_id_begins_with() {
        let dirs = dirs("found");
        assert_eq!(Network::all(&dirs).expect("list"), []);
        assert!(Network::hold(&dirs).expect("hold").is_none());
        let changing = Changing::begin(&dirs).expect("begin");
        let (front, back) = (network('a', "front"), network('b', "back"));
        changing.write(&front).expect("write");
        changing.write(&back).expect("write");
        drop(changing);
        assert!(Network::hold(&dirs).expect("hold").is_some());
        assert_eq!(
            Network::all(&dirs).expect("list"),
            [back.clone(), front.clone()]
        );
        for what in ["front", "aa", "aaaaaaaaaaaa"] {
            assert_eq!(Network::find(&dirs, what).expect(what), front);
        }
        assert_eq!(
            Network::find(&dirs, "bridge").expect("bridge").driver(),
            "bridge"
        );
        assert_eq!(Network::find(&dirs, "none").expect("none").driver(), "null");
        assert_eq!(
            refusal(Network::find(&dirs, "middle")),
            "network middle not found"
        );
        assert_eq!(refusal(Network::find(&dirs, "")), "network  not found");
        assert_eq!(
            refusal(Network::find(&dirs, "a")),
            "network a is ambiguous (2 matches found based on ID prefix)"
        );
        let changing = Changing::begin(&dirs).expect("begin");
        changing.remove(&front).expect("remove");
        assert_eq!(Network::all(&dirs).expect("list"), [back]);
        fs::remove_dir_all(dirs.data.parent().expect("a parent")).expect("remove");
    }

    #[test]
    fn a_damaged_file_is_named_and_the_others_are_found() {
        let dirs = dirs("damaged");
        let changing = Changing::begin(&dirs).expect("begin");
        let whole = network('a', "whole");
        changing.write(&whole).expect("write");
        let newer = Network {
            version: 7,
            ..network('c', "newer")
        };
        changing.write(&newer).expect("write");
        let path = changing.file(&network('b', "cut"));
        fs::write(&path, "{\"version\": 1, \"id\"").expect("write");
        let cut_short = path.with_extension("json.new");
        fs::write(&cut_short, "{").expect("write");
        assert_eq!(Network::all(&dirs).expect("list"), [whole]);
        let said = refusal(Network::find(&dirs, "bb"));
        assert!(
            said.contains(&*path.to_string_lossy()) && said.contains("damaged"),
            "{said}"
        );
        assert!(refusal(Network::find(&dirs, "cc")).contains("version 7"));
        drop(changing);
        Changing::begin(&dirs).expect("begin");
        assert!(!cut_short.exists() && path.exists());
        assert_eq!(
            refusal(Network::find(&dirs, "cut")),
            "network cut not found"
        );
        fs::remove_dir_all(dirs.data.parent().expect("a parent")).expect("remove");
    }
}
