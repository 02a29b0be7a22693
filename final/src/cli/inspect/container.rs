//! What `inspect` shows of a container: docker's document, in docker's order.

mod host;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use images::{Digest, Image};
use jiff::Timestamp;
use minidocker::engine::containers::Containers;
use minidocker::engine::networks::Networks;
use minidocker::state::{Config, Container, Endpoint, Network, Places, Status, Volume, Wanted};
use serde_json::{Map, Value, json};

use crate::ps::ports;

/// What Go prints for a moment that never was.
pub(super) const NEVER: &str = "0001-01-01T00:00:00Z";

/// A container as docker shows it; with `sizes` also how much it wrote.
pub(super) fn shown(
    containers: &Containers,
    networks: &Networks,
    container: &Container,
    sizes: bool,
) -> Result<Value> {
    let places = containers.places(container);
    let command = container.config.command();
    let (path, args) = match command.split_first() {
        Some((path, args)) => (path.as_str(), args),
        None => ("", &[][..]),
    };
    let images = containers.images_if_readable();
    let image = images.as_ref().and_then(|images| images.of(container));
    let written = match sizes {
        true => containers.sizes(std::slice::from_ref(container))?,
        false => HashMap::new(),
    };
    let written = sizes.then(|| written.get(&container.id).copied().unwrap_or(0));
    let size = image.map_or(0, Image::size);
    let mounts: Vec<Value> = container.mounts.iter().map(mount).collect();
    let shown = json!({
        "Id": container.id,
        "Created": container.created,
        "Path": path,
        "Args": args,
        "State": state(container),
        "Image": container.image,
        "ResolvConfPath": existing(&places.data.join("resolv.conf")),
        "HostnamePath": existing(&places.data.join("hostname")),
        "HostsPath": existing(&places.data.join("hosts")),
        "LogPath": existing(&places.log()),
        "Name": format!("/{}", container.name),
        "RestartCount": container.life.restarts,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": host::shown(&container.host),
        "GraphDriver": {
            "Data": overlay(&places, image.map(Image::layers).unwrap_or_default()),
            "Name": "overlay2",
        },
        "SizeRw": written,
        "SizeRootFs": written.map(|written| size.saturating_add(written)),
        "Mounts": mounts,
        "Config": config(&container.config),
        "NetworkSettings": network(container, networks),
    });
    Ok(without_empty(shown, &["SizeRw", "SizeRootFs"]))
}

fn state(container: &Container) -> Value {
    let life = &container.life;
    let moment = |then: Option<Timestamp>| then.map_or(NEVER.to_owned(), |then| then.to_string());
    json!({
        "Status": life.status.to_string(),
        "Running": life.status.needs_shim(),
        "Paused": life.status == Status::Paused,
        "Restarting": life.status == Status::Restarting,
        "OOMKilled": life.oom_killed,
        "Dead": life.status == Status::Dead,
        "Pid": life.pid,
        "ExitCode": life.exit_code,
        "Error": life.error,
        "StartedAt": moment(life.started),
        "FinishedAt": moment(life.finished),
    })
}

/// A file that is made at the first start.
fn existing(path: &Path) -> String {
    match path.exists() {
        true => path.display().to_string(),
        false => String::new(),
    }
}

/// Docker names the layers from the top down.
fn overlay(places: &Places, layers: &[PathBuf]) -> Value {
    let layers = layers.iter().rev().map(|layer| layer.display().to_string());
    let place = |name: &str| places.data.join(name).display().to_string();
    json!({
        "LowerDir": layers.collect::<Vec<_>>().join(":"),
        "MergedDir": place("merged"),
        "UpperDir": place("upper"),
        "WorkDir": place("work"),
    })
}

/// A list that Go prints as null where nothing was ever put into it.
fn or_null<T: serde::Serialize>(list: &[T]) -> Value {
    match list {
        [] => Value::Null,
        list => json!(list),
    }
}

/// Leaves out those of the fields that say nothing, as docker does.
pub(super) fn without_empty(mut object: Value, fields: &[&str]) -> Value {
    let says_nothing = |value: &Value| value.is_null() || *value == json!({}) || *value == "";
    if let Some(map) = object.as_object_mut() {
        map.retain(|key, value| !(fields.contains(&key.as_str()) && says_nothing(value)));
    }
    object
}

fn mount(volume: &Volume) -> Value {
    let propagation = match (volume.r#type.as_str(), volume.propagation.as_str()) {
        ("bind", "") => "rprivate",
        (_, other) => other,
    };
    let all = json!({
        "Type": volume.r#type,
        "Name": volume.name,
        "Source": volume.source,
        "Destination": volume.destination,
        "Driver": volume.driver,
        "Mode": volume.mode,
        "RW": volume.writable,
        "Propagation": propagation,
    });
    without_empty(all, &["Name", "Driver"])
}

fn config(config: &Config) -> Value {
    let all = json!({
        "Hostname": config.hostname,
        "Domainname": config.domainname,
        "User": config.user,
        "AttachStdin": config.attach_stdin,
        "AttachStdout": config.attach_stdout,
        "AttachStderr": config.attach_stderr,
        "ExposedPorts": config.exposed_ports,
        "Tty": config.tty,
        "OpenStdin": config.open_stdin,
        "StdinOnce": config.stdin_once,
        "Env": config.env,
        "Cmd": or_null(&config.cmd),
        "Image": config.image,
        "Volumes": if config.volumes.is_empty() { Value::Null } else { json!(config.volumes) },
        "WorkingDir": config.working_dir,
        "Entrypoint": or_null(&config.entrypoint),
        "OnBuild": null,
        "Labels": config.labels,
        "StopSignal": config.stop_signal,
        "StopTimeout": config.stop_timeout,
    });
    without_empty(all, &["ExposedPorts", "StopSignal", "StopTimeout"])
}

fn network(container: &Container, networks: &Networks) -> Value {
    let life = &container.life;
    let none = Endpoint::default();
    let first = life.endpoint().unwrap_or(&none);
    let sandbox = match life.pid > 0 && life.status.needs_shim() {
        true => format!("/proc/{}/ns/net", life.pid),
        false => String::new(),
    };
    let names = container.host.network_names().into_iter();
    let networks: Map<String, Value> = names
        .map(|name| (name.to_owned(), one_network(container, name, networks)))
        .collect();
    json!({
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": sandbox,
        "Ports": open_ports(container),
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": "",
        "Gateway": text(first.gateway),
        "GlobalIPv6Address": text(first.six),
        "GlobalIPv6PrefixLen": first.prefix6,
        "IPAddress": text(first.address),
        "IPPrefixLen": first.prefix,
        "IPv6Gateway": text(first.gateway6),
        "MacAddress": first.mac,
        "Networks": networks,
    })
}

fn one_network(container: &Container, name: &str, networks: &Networks) -> Value {
    let none = (Wanted::default(), Endpoint::default());
    let wanted = container.host.networks.get(name).unwrap_or(&none.0);
    let connected = container.life.networks.get(name);
    let endpoint = connected.unwrap_or(&none.1);
    let network = networks.find(name).ok();
    let is_made = network.as_ref().is_some_and(|it| !it.is_predefined());
    let own = [&container.name].into_iter().chain(&wanted.aliases);
    let own = own.map(String::as_str).chain([container.short_id()]);
    json!({
        "IPAMConfig": wishes(wanted),
        "Links": null,
        "Aliases": or_null(&wanted.aliases),
        "MacAddress": endpoint.mac,
        "NetworkID": network.as_ref().map_or(&endpoint.network, |it| &it.id),
        "EndpointID": match (&network, connected) {
            (Some(network), Some(_)) => endpoint_id(container, network),
            _ => String::new(),
        },
        "Gateway": text(endpoint.gateway),
        "IPAddress": text(endpoint.address),
        "IPPrefixLen": endpoint.prefix,
        "IPv6Gateway": text(endpoint.gateway6),
        "GlobalIPv6Address": text(endpoint.six),
        "GlobalIPv6PrefixLen": endpoint.prefix6,
        "DriverOpts": null,
        "DNSNames": is_made.then(|| own.collect::<Vec<_>>()),
    })
}

/// The addresses that somebody asked for.
fn wishes(wanted: &Wanted) -> Value {
    let mut wishes = Map::new();
    for (key, address) in [
        ("IPv4Address", wanted.address.map(IpAddr::from)),
        ("IPv6Address", wanted.six.map(IpAddr::from)),
    ] {
        wishes.extend(address.map(|it| (key.to_owned(), it.to_string().into())));
    }
    match wishes.is_empty() {
        true => Value::Null,
        false => wishes.into(),
    }
}

/// What docker invents for each place of a container in a network; here it follows from the two.
pub(super) fn endpoint_id(container: &Container, network: &Network) -> String {
    let both = format!("{}{}", network.id, container.id);
    Digest::of(both.as_bytes()).hex()
}

/// An address, or nothing.
pub(super) fn text(address: Option<impl ToString>) -> String {
    address.map(|it| it.to_string()).unwrap_or_default()
}

/// `{"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "443/tcp": null}`
fn open_ports(container: &Container) -> Value {
    let mut open: BTreeMap<String, Option<Vec<Value>>> = BTreeMap::new();
    for port in ports::of(container) {
        let key = format!("{}/{}", port.private, port.protocol);
        let bindings = open.entry(key).or_default();
        if let Some((address, number)) = port.published {
            let binding = json!({ "HostIp": address.to_string(), "HostPort": number.to_string() });
            bindings.get_or_insert_default().push(binding);
        }
    }
    json!(open)
}

/// What a template may ask for although docker leaves it out.
pub(super) fn unsaid() -> Value {
    json!({
        "ExposedPorts": null, "StopSignal": "", "StopTimeout": null, "Healthcheck": null,
        "Health": null, "Shell": null, "Init": null, "Tmpfs": null, "Sysctls": null,
        "StorageOpt": null, "Annotations": null, "SizeRw": null, "SizeRootFs": null,
        "NetworkDisabled": false, "Driver": "", "Name": "",
    })
}
