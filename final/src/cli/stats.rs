//! `stats`: what containers use.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use minidocker::engine::containers::{Containers, Sample};
use minidocker::state::Container;
use serde_json::{Value, json};

use crate::Context;
use crate::format::List;

/// Show what containers use, again and again
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker stats --no-stream --format '{{.Name}}: {{.MemUsage}}'")]
pub(crate) struct Stats {
    /// Names or ids; without any, all that run
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Also those that don't run
    #[arg(short, long)]
    all: bool,
    /// How to print them: table, "table TEMPLATE", json, or a template of Go's
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only once
    #[arg(long)]
    no_stream: bool,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
}

const COLUMNS: &str = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";
const HEADERS: [(&str, &str); 9] = [
    ("BlockIO", "BLOCK I/O"),
    ("CPUPerc", "CPU %"),
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("MemPerc", "MEM %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("Name", "NAME"),
    ("NetIO", "NET I/O"),
    ("PIDs", "PIDS"),
];

/// How long it is looked at what is used.
const PERIOD: Duration = Duration::from_secs(1);

/// Home, and then what a terminal shows is cleared.
const CLEAR: &str = "\x1b[H\x1b[2J";

impl Stats {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let containers = Containers::open(&context.dirs)?;
        let mut before = samples(&containers, &self.chosen(&containers)?)?;
        loop {
            sleep(PERIOD);
            let chosen = match self.chosen(&containers) {
                // All that were asked for are gone.
                Err(_) if !self.no_stream => return Ok(0),
                chosen => chosen?,
            };
            let now = samples(&containers, &chosen)?;
            let rows = chosen.iter().map(|container| {
                let sample = now.get(&container.id);
                self.row(container, sample, before.get(&container.id))
            });
            let list = List {
                columns: COLUMNS,
                headers: &HEADERS,
                rows: rows.collect(),
                ..List::default()
            };
            let lines = list.lines(self.format.as_deref().unwrap_or_default())?;
            if !self.no_stream && io::stdout().is_terminal() {
                let cleared = io::stdout().write_all(CLEAR.as_bytes());
                cleared.context("write to standard output")?;
            }
            lines.iter().try_for_each(|line| cli::say(line))?;
            if self.no_stream {
                return Ok(0);
            }
            before = now;
        }
    }

    fn chosen(&self, containers: &Containers) -> Result<Vec<Container>> {
        if !self.containers.is_empty() {
            let found = self.containers.iter().map(|name| containers.find(name));
            return found.collect();
        }
        let mut all = containers.list()?;
        all.retain(|container| self.all || container.life.status.needs_shim());
        Ok(all)
    }

    fn row(&self, container: &Container, now: Option<&Sample>, before: Option<&Sample>) -> Value {
        let id = match self.no_trunc {
            true => container.id.as_str(),
            false => container.short_id(),
        };
        let mut row = json!({
            "BlockIO": "0B / 0B",
            "CPUPerc": "0.00%",
            "Container": id,
            "ID": id,
            "MemPerc": "0.00%",
            "MemUsage": "0B / 0B",
            "Name": container.name,
            "NetIO": "0B / 0B",
            "PIDs": "0",
        });
        if let Some(now) = now {
            let cpu = before.map_or(0.0, |before| now.cpu_since(before));
            let pair = |(one, two)| format!("{} / {}", cli::size(one, 3), cli::size(two, 3));
            row["BlockIO"] = pair(now.disks).into();
            row["CPUPerc"] = format!("{cpu:.2}%").into();
            row["MemPerc"] = format!("{:.2}%", percent(now.memory, now.limit)).into();
            row["MemUsage"] = format!("{} / {}", binary(now.memory), binary(now.limit)).into();
            row["NetIO"] = pair(now.network).into();
            row["PIDs"] = now.pids.to_string().into();
        }
        row
    }
}

fn samples(containers: &Containers, chosen: &[Container]) -> Result<HashMap<String, Sample>> {
    let mut samples = HashMap::new();
    for container in chosen {
        if let Some(sample) = containers.sample(container)? {
            samples.insert(container.id.clone(), sample);
        }
    }
    Ok(samples)
}

#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn percent(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        whole => part as f64 / whole as f64 * 100.0,
    }
}

/// Bytes in powers of 1024 with four significant digits, as docker shows memory.
#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
pub(crate) fn binary(bytes: u64) -> String {
    let mut amount = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if amount < 1024.0 {
            return format!("{}{unit}", four_digits(amount));
        }
        amount /= 1024.0;
    }
    format!("{}PiB", four_digits(amount))
}

fn four_digits(amount: f64) -> f64 {
    format!("{amount:.3e}").parse().unwrap_or(amount)
}

#[cfg(test)]
mod tests {
    use super::{binary, percent};

    #[test]
    fn memory_is_counted_in_powers_of_two() {
        for (bytes, expected) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1_298_432, "1.238MiB"),
            (16_642_998_272, "15.5GiB"),
        ] {
            assert_eq!(binary(bytes), expected);
        }
        assert!((percent(1, 8) - 12.5).abs() < 0.001 && percent(1, 0) == 0.0);
    }
}
