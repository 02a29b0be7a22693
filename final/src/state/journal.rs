//! What happened, as `events` tells it: one line of JSON for each event.
//!
//! ```text
//! RUN/events.json      grows at its end: one write(2) with O_APPEND for each line
//! RUN/events.json.1    what it was before it became too large
//! ```
//!
//! Nobody but a reader depends on it. It forgets the oldest events, and all of them with a reboot.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cli::Dirs;
use jiff::Timestamp;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use serde::{Deserialize, Serialize};

use super::{Container, is_at};

/// A file that has so many bytes is put aside.
const LARGEST: u64 = 1 << 20;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// To what kind of thing.
    pub kind: Kind,
    /// What, in docker's words: `start`, `exec_create: ls -l`.
    pub action: String,
    /// The id of what it happened to; an image that comes or goes by a name has that.
    pub id: String,
    /// What else is known: `name`, `image`, `exitCode`, the labels.
    pub attributes: BTreeMap<String, String>,
}

/// What an event happened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
}

impl Kind {
    /// As docker calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Container => "container",
            Kind::Image => "image",
            Kind::Network => "network",
            Kind::Volume => "volume",
        }
    }
}

impl Event {
    /// One that happens now.
    #[must_use]
    pub fn new(kind: Kind, action: impl Into<String>, id: &str) -> Event {
        Event {
            time: Timestamp::now(),
            kind,
            action: action.into(),
            id: id.to_owned(),
            attributes: BTreeMap::new(),
        }
    }

    /// One that happens now to a container, with what docker tells of it: labels, image, name.
    #[must_use]
    pub fn of(container: &Container, action: impl Into<String>) -> Event {
        let mut event = Event::new(Kind::Container, action, &container.id);
        event.attributes = container.config.labels.clone();
        event
            .with("image", &container.config.image)
            .with("name", &container.name)
    }

    /// The same with one more attribute.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a number or a text that was just made"
    )]
    pub fn with(mut self, key: &str, value: impl ToString) -> Event {
        self.attributes.insert(key.to_owned(), value.to_string());
        self
    }
}

/// Tells that a container that runs got into its networks, or out of them: `connect` or
/// `disconnect`. Of those of a carrier nobody is told, for they are the container's alone.
pub fn tell_networks(dirs: &Dirs, container: &Container, action: &str) {
    for (name, endpoint) in &container.life.networks {
        if !endpoint.network.is_empty() {
            let event = Event::new(Kind::Network, action, &endpoint.network)
                .with("container", &container.id)
                .with("name", name)
                .with("type", "bridge");
            tell(dirs, &event);
        }
    }
}

/// Writes an event down. What happened has happened, so nobody hears where that fails.
pub fn tell(dirs: &Dirs, event: &Event) {
    let _ = append(dirs, event);
}

fn append(dirs: &Dirs, event: &Event) -> Result<()> {
    // A line that a full disk cut short must not spoil this one.
    let line = format!("\n{}\n", serde_json::to_string(event)?);
    let [current, before] = places(dirs);
    fs::create_dir_all(&dirs.run)?;
    let mut options = OpenOptions::new();
    let options = options.append(true).create(true).mode(0o600);
    let mut file = options.open(&current)?;
    file.write_all(line.as_bytes())?;
    if file.metadata()?.len() < LARGEST {
        return Ok(());
    }
    file.lock()?;
    // Of two who find it too large, the second would put the new one aside.
    if is_at(&file, &current)? {
        fs::rename(&current, &before)?;
    }
    Ok(())
}

fn places(dirs: &Dirs) -> [PathBuf; 2] {
    ["events.json", "events.json.1"].map(|name| dirs.run.join(name))
}

/// Which events are to be read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    /// From when; `None` is from now.
    pub since: Option<Timestamp>,
    /// Until when; where that is to come, or `None`, the reader waits for what happens.
    pub until: Option<Timestamp>,
}

/// Hands over the events of a span, the oldest first, until it is over.
///
/// # Errors
/// The journal cannot be read or watched, and what `each` fails with.
pub fn read(dirs: &Dirs, span: Span, each: &mut dyn FnMut(&Event) -> Result<()>) -> Result<()> {
    let since = span.since.unwrap_or_else(Timestamp::now);
    let mut each = |event: &Event| match () {
        () if event.time < since => Ok(()),
        () if span.until.is_some_and(|until| event.time > until) => Ok(()),
        () => each(event),
    };
    fs::create_dir_all(&dirs.run).with_context(|| format!("make {}", dirs.run.display()))?;
    // Watched before it is read: what happens in between is seen at least once.
    let watch = watch(&dirs.run)?;
    let [current, before] = places(dirs);
    // In this order: a file that is put aside now is read once, not left out.
    let mut newer = Reader::open(&current)?;
    if let Some(mut older) = Reader::open(&before)?
        && !newer
            .as_ref()
            .is_some_and(|newer| is_at(&newer.file, &before).unwrap_or(false))
    {
        older.rest(&mut each)?;
    }
    loop {
        if let Some(reader) = &mut newer {
            let is_last = is_at(&reader.file, &current)?;
            reader.rest(&mut each)?;
            if is_last && !wait(&watch, span.until)? {
                return Ok(());
            }
            if is_last {
                continue;
            }
        } else if !wait(&watch, span.until)? {
            return Ok(());
        }
        newer = Reader::open(&current)?;
    }
}

/// Tells that something is written in a directory, made there, or moved to it (inotify(7)).
pub(crate) fn watch(directory: &Path) -> Result<OwnedFd> {
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
        .context("inotify_init1; see /proc/sys/fs/inotify/max_user_instances")?;
    let changes = WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::MOVED_TO;
    inotify::add_watch(&watch, directory, changes)
        .with_context(|| format!("watch {} (inotify_add_watch)", directory.display()))?;
    Ok(watch)
}

/// Takes away all that was told: which file it was does not matter.
pub(crate) fn heed(watch: &OwnedFd) {
    let mut told = [0_u8; 4096];
    while rustix::io::read(watch, &mut told).is_ok_and(|length| length > 0) {}
}

/// How long there is to wait at once; `None`: the moment has passed.
pub(crate) fn time_until(until: Option<Timestamp>) -> Option<PollTimeout> {
    let Some(until) = until else {
        return Some(PollTimeout::NONE);
    };
    match until.duration_since(Timestamp::now()).as_millis() {
        ..0 => None,
        left => Some(PollTimeout::try_from((left + 1).min(60_000)).unwrap_or(PollTimeout::MAX)),
    }
}

/// Waits for a change; `false`: it is later than `until`.
fn wait(watch: &OwnedFd, until: Option<Timestamp>) -> Result<bool> {
    let Some(timeout) = time_until(until) else {
        return Ok(false);
    };
    match poll(
        &mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)],
        timeout,
    ) {
        Err(Errno::EINTR) => {}
        ready => _ = ready.context("wait for events (poll)")?,
    }
    heed(watch);
    Ok(true)
}

/// A file of the journal, as far as it was read.
struct Reader {
    file: File,
    /// The beginning of a line that is still being written.
    line: Vec<u8>,
}

impl Reader {
    fn open(path: &Path) -> Result<Option<Reader>> {
        match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            file => Ok(Some(Reader {
                file: file.with_context(|| format!("open {}", path.display()))?,
                line: Vec::new(),
            })),
        }
    }

    /// Hands over what was written since the last time. What is no event is passed over.
    fn rest(&mut self, each: &mut dyn FnMut(&Event) -> Result<()>) -> Result<()> {
        let mut bytes = Vec::new();
        self.file
            .read_to_end(&mut bytes)
            .context("read the events")?;
        for byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            if let Ok(event) = serde_json::from_slice(&line) {
                each(&event)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    fn dirs(name: &str) -> Dirs {
        let place = std::env::temp_dir().join(format!("journal-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        Dirs {
            data: place.join("data"),
            run: place.join("run"),
        }
    }

    fn remove(dirs: &Dirs) {
        let _ = fs::remove_dir_all(dirs.run.parent().unwrap());
    }

    fn past(dirs: &Dirs) -> Vec<Event> {
        let mut events = Vec::new();
        let span = Span {
            since: Some(Timestamp::UNIX_EPOCH),
            until: Some(Timestamp::now()),
        };
        read(dirs, span, &mut |event| {
            events.push(event.clone());
            Ok(())
        })
        .unwrap();
        events
    }

    #[test]
    fn what_is_told_is_read_in_order_and_a_broken_line_passed_over() {
        let dirs = dirs("order");
        assert_eq!(past(&dirs), []);
        let first = Event::new(Kind::Container, "create", "1").with("exitCode", 3);
        tell(&dirs, &first);
        let mut file = File::options()
            .append(true)
            .open(&places(&dirs)[0])
            .unwrap();
        file.write_all(b"\n{\"time\":\"2024").unwrap();
        let second = Event::new(Kind::Image, "pull", "alpine:latest");
        tell(&dirs, &second);
        assert_eq!(past(&dirs), [first, second]);
        remove(&dirs);
    }

    #[test]
    fn the_journal_stays_small_and_keeps_the_newest() {
        let dirs = dirs("small");
        let large = "x".repeat(100_000);
        for n in 0..50 {
            tell(
                &dirs,
                &Event::new(Kind::Volume, "create", &n.to_string()).with("large", &large),
            );
        }
        let sizes = places(&dirs).map(|path| fs::metadata(path).map_or(0, |it| it.len()));
        assert!(
            sizes.iter().sum::<u64>() < 2 * LARGEST + 200_000,
            "{sizes:?}"
        );
        let ids: Vec<String> = past(&dirs).into_iter().map(|event| event.id).collect();
        let expected: Vec<String> = (50 - ids.len()..50).map(|n| n.to_string()).collect();
        assert!(ids.len() >= 10 && ids == expected, "{ids:?}");
        remove(&dirs);
    }

    #[test]
    fn who_waits_misses_nothing_when_the_file_is_put_aside() {
        let dirs = dirs("wait");
        let (told, heard) = mpsc::channel();
        let until = Timestamp::now() + jiff::SignedDuration::from_secs(60);
        let watcher = std::thread::spawn({
            let dirs = dirs.clone();
            move || {
                let span = Span {
                    since: Some(Timestamp::UNIX_EPOCH),
                    until: Some(until),
                };
                read(&dirs, span, &mut |event| {
                    told.send(event.id.clone()).unwrap();
                    anyhow::ensure!(event.id != "199", "enough");
                    Ok(())
                })
            }
        });
        let large = "x".repeat(50_000);
        for n in 0..200 {
            tell(
                &dirs,
                &Event::new(Kind::Network, "connect", &n.to_string()).with("large", &large),
            );
            if n % 10 == 9 {
                // So that it is never two files behind.
                let next = (0..10).map(|_| heard.recv_timeout(Duration::from_secs(30)).unwrap());
                let expected = (n - 9..=n).map(|n| n.to_string());
                assert!(next.eq(expected));
            }
        }
        assert_eq!(watcher.join().unwrap().unwrap_err().to_string(), "enough");
        remove(&dirs);
    }
}
