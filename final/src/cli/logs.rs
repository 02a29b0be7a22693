//! `logs`

use std::io::{self, BufWriter, Write};

use anyhow::{Context as _, Result};
use clap::Args;
use jiff::Timestamp;
use minidocker::engine::containers::Containers;
use minidocker::engine::containers::logs::{Entry, Query};
use minidocker::shim::protocol::Stream;

use crate::time::moment;
use crate::{Context, PROGRAM, tell};

/// How much is gathered before it is written, in bytes.
const BUFFER: usize = 64 << 10;

/// Show what a container wrote
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker logs --follow --tail 10 web")]
pub(crate) struct Logs {
    /// A name, an id or its beginning
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Stay for what it writes until it ends
    #[arg(short, long)]
    follow: bool,
    /// Begin each line with its time
    #[arg(short, long)]
    timestamps: bool,
    /// So many lines at the end, or all
    #[arg(
        short = 'n',
        long,
        value_name = "LINES",
        default_value = "all",
        allow_hyphen_values = true
    )]
    tail: String,
    /// Begin with what it wrote since then: 2024-01-31T10:00:00Z, or how long ago: 42m
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// End with what it wrote until then
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,
    /// Leave room for the attributes of a line; none have any
    #[arg(long)]
    details: bool,
}

impl Logs {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let now = Timestamp::now();
        let at = |name: &str, text: &Option<String>| {
            let at = text.as_deref().map(|text| moment(text, now)).transpose();
            at.with_context(|| format!("invalid value for \"{name}\""))
        };
        let query = Query {
            since: at("since", &self.since)?,
            until: at("until", &self.until)?,
            // Docker takes what is no number for all of them, too.
            tail: self.tail.parse().ok(),
            follow: self.follow,
        };
        let mut logs = Containers::open(&context.dirs)?.logs(&self.container, query)?;
        let mut paper = Paper::new();
        loop {
            logs.read(&mut |entry| self.print(entry, &mut paper))?;
            paper.flush()?;
            if !logs.wait()? {
                break;
            }
        }
        match logs.damaged() {
            0 => {}
            1 => tell(&format!(
                "{PROGRAM}: 1 damaged line of the log was left out"
            )),
            lines => tell(&format!(
                "{PROGRAM}: {lines} damaged lines of the log were left out"
            )),
        }
        Ok(0)
    }

    fn print(&self, entry: &Entry, paper: &mut Paper) -> Result<()> {
        if self.timestamps {
            paper.write(entry.stream, entry.stamp().as_bytes())?;
            paper.write(entry.stream, b" ")?;
        }
        if self.details {
            paper.write(entry.stream, b" ")?;
        }
        paper.write(entry.stream, entry.text)
    }
}

/// Both streams, in the order in which they were written to.
struct Paper {
    out: BufWriter<io::Stdout>,
    err: BufWriter<io::Stderr>,
    last: Stream,
}

impl Paper {
    fn new() -> Paper {
        Paper {
            out: BufWriter::with_capacity(BUFFER, io::stdout()),
            err: BufWriter::with_capacity(BUFFER, io::stderr()),
            last: Stream::Out,
        }
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<()> {
        if stream != self.last {
            self.flush()?;
            self.last = stream;
        }
        let written = match stream {
            Stream::Err => self.err.write_all(bytes),
            Stream::Out | Stream::In => self.out.write_all(bytes),
        };
        written.context("write the log")
    }

    fn flush(&mut self) -> Result<()> {
        let flushed = self.out.flush().and_then(|()| self.err.flush());
        flushed.context("write the log")
    }
}
