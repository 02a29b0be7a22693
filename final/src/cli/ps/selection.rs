//! `ps --filter`: which containers a list is about.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use minidocker::engine::containers::Containers;
use minidocker::engine::networks::Networks;
use minidocker::engine::pruning::Label;
use minidocker::state::{Container, Status};

use super::ports;
use crate::filters::{Filter, Pattern};

/// The containers that filters let through. Of one name, one has to hold; of labels all.
pub(crate) struct Selection {
    wanted: BTreeMap<String, Vec<Wanted>>,
    before: Option<Container>,
    since: Option<Container>,
}

/// What one filter asks of a container.
enum Wanted {
    Id(Pattern),
    Name(Pattern),
    Label(Label),
    Exited(i64),
    Status(Status),
    /// One of the images of these ids.
    Image(Vec<String>),
    Volume(String),
    Network(String),
    /// Ports of the host.
    Published(Ports),
    /// Ports of the container.
    Exposed(Ports),
    /// No container has a health check.
    Health(bool),
}

impl Selection {
    /// # Errors
    /// A filter that there is not, or a value that makes no sense.
    pub(crate) fn new(
        filters: &[Filter],
        containers: &Containers,
        networks: &Networks,
    ) -> Result<Selection> {
        let mut selection = Selection {
            wanted: BTreeMap::new(),
            before: None,
            since: None,
        };
        for filter in filters {
            filter.is_one_of(&KNOWN)?;
            match filter.name.as_str() {
                "before" => selection.before = Some(containers.find(&filter.value)?),
                "since" => selection.since = Some(containers.find(&filter.value)?),
                name => {
                    let wanted = Wanted::new(filter, containers, networks)?;
                    selection
                        .wanted
                        .entry(name.to_owned())
                        .or_default()
                        .push(wanted);
                }
            }
        }
        Ok(selection)
    }

    /// Whether those that don't run are meant, too.
    pub(crate) fn means_all(&self) -> bool {
        self.wanted.contains_key("status")
    }

    pub(crate) fn admits(&self, container: &Container) -> bool {
        let is_older = |other: &Container| container.created < other.created;
        let is_newer = |other: &Container| container.created > other.created;
        self.before.as_ref().is_none_or(is_older)
            && self.since.as_ref().is_none_or(is_newer)
            && self
                .wanted
                .iter()
                .all(|(name, wanted)| match name.as_str() {
                    "label" => wanted.iter().all(|wanted| wanted.admits(container)),
                    _ => wanted.iter().any(|wanted| wanted.admits(container)),
                })
    }
}

const KNOWN: [&str; 13] = [
    "ancestor", "before", "exited", "expose", "health", "id", "label", "name", "network",
    "publish", "since", "status", "volume",
];

impl Wanted {
    fn new(filter: &Filter, containers: &Containers, networks: &Networks) -> Result<Wanted> {
        let value = filter.value.as_str();
        let invalid = || format!("invalid filter '{}={value}'", filter.name);
        Ok(match filter.name.as_str() {
            "id" => Wanted::Id(Pattern::new(value)),
            "name" => Wanted::Name(Pattern::new(value)),
            "label" => Wanted::Label(Label::new(value)),
            "exited" => Wanted::Exited(value.parse().ok().with_context(invalid)?),
            "status" => Wanted::Status(serde_json::from_value(value.into()).with_context(invalid)?),
            "ancestor" => Wanted::Image(descendants(value, containers)?),
            "volume" => Wanted::Volume(value.to_owned()),
            "network" => Wanted::Network(networks.find(value).map_or(value.into(), |it| it.name)),
            "publish" => Wanted::Published(Ports::new(value).with_context(invalid)?),
            "expose" => Wanted::Exposed(Ports::new(value).with_context(invalid)?),
            _ => {
                let known = ["starting", "healthy", "unhealthy", "none"];
                ensure!(known.contains(&value), invalid());
                Wanted::Health(value == "none")
            }
        })
    }

    fn admits(&self, container: &Container) -> bool {
        match self {
            Wanted::Id(pattern) => pattern.is_in(&container.id),
            Wanted::Name(pattern) => {
                let name = &container.name;
                pattern.is_in(name) || pattern.is_in(&format!("/{name}"))
            }
            Wanted::Label(label) => label.is_among(&container.config.labels),
            Wanted::Exited(code) => {
                let life = &container.life;
                *code == i64::from(life.exit_code)
                    && life.started.is_some()
                    && !life.status.needs_shim()
            }
            Wanted::Status(status) => container.life.status == *status,
            Wanted::Image(ids) => ids.contains(&container.image),
            Wanted::Volume(wanted) => container.mounts.iter().any(|mount| {
                let name = match mount.name.as_str() {
                    "" => &mount.source,
                    name => name,
                };
                [name, mount.destination.as_str()].contains(&wanted.as_str())
            }),
            Wanted::Network(name) => container.host.is_in(name),
            Wanted::Published(wanted) => ports::of(container).iter().any(|port| {
                let published = port.published.map(|(_, number)| number);
                published.is_some_and(|number| wanted.have(number, &port.protocol))
            }),
            Wanted::Exposed(wanted) => ports::of(container)
                .iter()
                .any(|port| wanted.have(port.private, &port.protocol)),
            Wanted::Health(passes) => *passes,
        }
    }
}

/// The ids of an image and of those that were made on top of it: they begin with its layers, and
/// have more.
fn descendants(name: &str, containers: &Containers) -> Result<Vec<String>> {
    let images = containers.images()?;
    let Some(ancestor) = images.find(name) else {
        return Ok(Vec::new());
    };
    let layers = ancestor.layers();
    let descends = images.all().iter().filter(|image| {
        let its = image.layers();
        image.id() == ancestor.id() || (its.len() > layers.len() && its.starts_with(layers))
    });
    Ok(descends.map(|image| image.id().to_string()).collect())
}

/// `80`, `53/udp`, `8000-8080/tcp`.
struct Ports {
    first: u16,
    last: u16,
    protocol: String,
}

impl Ports {
    fn new(text: &str) -> Result<Ports> {
        let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let number = |text: &str| {
            let number = text.parse::<u16>().ok();
            number.with_context(|| format!("{text:?} is no port"))
        };
        Ok(Ports {
            first: number(first)?,
            last: number(last)?,
            protocol: protocol.to_owned(),
        })
    }

    fn have(&self, port: u16, protocol: &str) -> bool {
        (self.first..=self.last).contains(&port) && self.protocol == protocol
    }
}

#[cfg(test)]
mod tests {
    use super::Ports;

    #[test]
    fn ports_are_a_number_or_a_range() {
        assert!(Ports::new("80").unwrap().have(80, "tcp"));
        assert!(!Ports::new("80/udp").unwrap().have(80, "tcp"));
        assert!(Ports::new("8000-8080/udp").unwrap().have(8080, "udp"));
        assert!(Ports::new("http").is_err() && Ports::new("80-").is_err());
    }
}
