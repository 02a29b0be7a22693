//! A network namespace that is plugged into bridges, and holds nothing else: what the engine asks of
//! step 4's leaf, without a container around it. For tests, in a network of their own.
//!
//!     plugged RUN_DIR plug LINK=SUBNET... [--address IP] [-p PORT]...
//!
//! prints each address, then `up` and the namespace's place; when its input ends, it unplugs.

use std::fmt::Display;
use std::io::{Write, stdin, stdout};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use network::bridge::{Bridge, Shape, Wish};
use network::{Publish, lead_out, new_netns, routes};

#[derive(Parser)]
struct Cli {
    run_dir: PathBuf,
    /// Tells of each kernel-facing operation
    #[arg(long)]
    explain: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Plugs a new namespace in, until the end of the input; a line of it moves the way out there
    Plug {
        /// LINK=SUBNET
        #[arg(required = true)]
        bridges: Vec<String>,
        #[command(flatten)]
        shape: Wanted,
        #[arg(long, default_value = "test")]
        id: String,
        #[arg(long)]
        address: Option<String>,
        #[arg(long)]
        address6: Option<String>,
        /// Behind the first bridge
        #[arg(short)]
        publish: Vec<Publish>,
    },
    /// Prints who lives there
    Residents { bridge: String },
    /// Makes anew what was taken away
    Rebuild {
        bridge: String,
        #[command(flatten)]
        shape: Wanted,
    },
    /// Prints what the host has a way to
    Routes,
    /// Prints what is left over, and removes it
    Sweep,
}

#[derive(Args)]
struct Wanted {
    #[arg(long)]
    gateway: Option<String>,
    #[arg(long)]
    range: Option<String>,
    #[arg(long)]
    six: Option<String>,
    #[arg(long)]
    internal: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli::start("plugged", cli.explain);
    cli::end("plugged", run(&cli), |_| 1)
}

fn run(cli: &Cli) -> Result<u8> {
    match &cli.verb {
        Verb::Plug { .. } => plug(&cli.run_dir, &cli.verb)?,
        Verb::Residents { bridge } => {
            for one in named(&cli.run_dir, bridge)?.residents()? {
                println!("{} {} {}", one.id, one.address, shown(one.six));
            }
        }
        Verb::Rebuild { bridge, shape } => {
            let gone = named(&cli.run_dir, bridge)?.shaped(shape.read()?)?;
            let gone = gone.rebuild()?;
            gone.iter().for_each(|address| println!("{address}"));
        }
        Verb::Routes => routes()?.iter().for_each(|route| println!("{route}")),
        Verb::Sweep => {
            let left = network::leftovers(&cli.run_dir, true)?;
            left.iter().for_each(|one| println!("{one}"));
            network::sweep(&cli.run_dir, true)?;
        }
    }
    Ok(0)
}

fn plug(run_dir: &Path, verb: &Verb) -> Result<()> {
    let Verb::Plug {
        bridges,
        shape,
        id,
        address,
        address6,
        publish,
    } = verb
    else {
        return Ok(());
    };
    let netns = new_netns()?;
    let mut endpoints = Vec::new();
    for (number, bridge) in bridges.iter().enumerate() {
        let first = number == 0;
        let bridge = named(run_dir, bridge)?;
        // What is wanted is meant for the first; the others are plain.
        let bridge = if first {
            bridge.shaped(shape.read()?)?
        } else {
            bridge
        };
        let ports = publish
            .iter()
            .filter(|_| first)
            .map(|port| bridge.reserve(port));
        let wish = Wish {
            id,
            ports: ports.collect::<Result<_>>()?,
            address: read(address.as_deref().filter(|_| first))?,
            six: read(address6.as_deref().filter(|_| first))?,
        };
        let lease = bridge.lease(wish)?;
        println!(
            "{} {}",
            lease.address()?.ip(),
            shown(lease.six().map(|six| six.ip()))
        );
        endpoints.push(lease.attach(netns.as_fd(), &format!("eth{number}"))?);
    }
    println!("up /proc/{}/fd/{}", std::process::id(), netns.as_raw_fd());
    stdout().flush()?;
    for line in stdin().lines() {
        let number: usize = line?.trim().parse().context("the number of an interface")?;
        let lease = endpoints.get(number).context("no such interface")?.lease();
        lead_out(netns.as_fd(), lease.gateway()?, lease.gateway6())?;
        println!("moved");
    }
    Ok(())
}

impl Wanted {
    fn read(&self) -> Result<Shape> {
        Ok(Shape {
            gateway: read(self.gateway.as_deref())?,
            range: read(self.range.as_deref())?,
            six: read(self.six.as_deref())?,
            internal: self.internal,
            ..Shape::default()
        })
    }
}

fn named(run_dir: &Path, text: &str) -> Result<Bridge> {
    let (link, subnet) = text.split_once('=').context("LINK=SUBNET is wanted")?;
    Bridge::new(run_dir, link, vec![subnet.parse()?])
}

fn read<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    text: Option<&str>,
) -> Result<Option<T>> {
    text.map(|text| text.parse().with_context(|| format!("read {text}")))
        .transpose()
}

fn shown(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
