//! What goes wrong, told to a person on standard error, and with `--log` also
//! to the program that called us: podman's conmon and containerd's shim read
//! the last error there, and show it to their users.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;

use anyhow::{Context, Error, Result};
use clap::ValueEnum;
use cli::Told;
use jiff::Timestamp;
use namespaces::Failure;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

const PROGRAM: &str = "minirunc";

/// How a line of the log file is written.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// `time="…" level=error msg="…"`
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`
    Json,
}

/// The log file, where there is one.
static LOG: OnceLock<Log> = OnceLock::new();

#[derive(Debug)]
struct Log {
    file: File,
    format: Format,
}

/// Opens the log file, at once: later a path may mean a file of the container's.
pub(crate) fn open(path: Option<&Path>, format: Format, debug: bool) -> Result<()> {
    if let Some(path) = path {
        let mut options = File::options();
        let file = options.append(true).create(true).mode(0o644).open(path);
        let file = file.with_context(|| format!("open the log file {}", path.display()))?;
        // Set once, here.
        let _ = LOG.set(Log { file, format });
    }
    let level = if debug { Level::INFO } else { Level::WARN };
    // Only a second call in one process could fail, and the first one holds.
    let _ = tracing::subscriber::set_global_default(Listener { level });
    Ok(())
}

/// Tells an error, as one sentence, and returns the exit status.
pub(crate) fn complain(error: &Error, status: u8) -> ExitCode {
    let sentence = in_the_words_of_clients(error);
    write("error", &sentence);
    // Where that cannot be written the exit status must do.
    let _ = writeln!(io::stderr(), "{PROGRAM}: {sentence}");
    ExitCode::from(status)
}

/// What is wrong with the command line, or the help that it asks for.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    ExitCode::from(u8::from(error.use_stderr()))
}

/// docker and podman find out by these words, and docker by these very letters,
/// that a command is missing or cannot be run, and then end with 127 or 126.
fn in_the_words_of_clients(error: &Error) -> String {
    let sentence = format!("{error:#}");
    let words = match error
        .downcast_ref::<Failure>()
        .map(|failure| failure.status)
    {
        Some(127) => "executable file not found in $PATH",
        Some(126) => "permission denied",
        _ => return sentence,
    };
    let sentence = sentence.replace("Permission denied", "permission denied");
    if sentence.contains(words) {
        sentence
    } else {
        format!("{sentence}: {words}")
    }
}

/// Appends a line to the log file; true if there is one. A line is written in
/// one piece, for others append to the file, too.
fn write(level: &str, message: &str) -> bool {
    let Some(log) = LOG.get() else { return false };
    let line = log.format.line(level, message, Timestamp::now());
    let _ = (&log.file).write_all(line.as_bytes());
    true
}

impl Format {
    fn line(self, level: &str, message: &str, time: Timestamp) -> String {
        match self {
            Format::Text => format!("time=\"{time}\" level={level} msg={}\n", quoted(message)),
            Format::Json => format!(
                "{{\"level\":\"{level}\",\"msg\":{},\"time\":\"{time}\"}}\n",
                serde_json::Value::from(message)
            ),
        }
    }
}

/// JSON's escapes are the ones that logfmt has.
fn quoted(message: &str) -> String {
    serde_json::Value::from(message).to_string()
}

/// Hears what the leaves and the runtime tell: warnings, and with `--debug` the
/// kernel's calls.
struct Listener {
    level: Level,
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level.into())
    }

    fn event(&self, event: &Event<'_>) {
        let mut told = Told::default();
        event.record(&mut told);
        let (level, message) = match told.call {
            None => ("warning", told.why),
            Some(call) => ("debug", format!("{call}: {}", told.why)),
        };
        if !write(level, &message) {
            let _ = writeln!(io::stderr(), "{PROGRAM}: {level}: {message}");
        }
    }

    // Nobody makes spans here.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_conmon_and_containerd_read() {
        let time = Timestamp::from_nanosecond(1_700_000_000_123_456_789).expect("a time");
        assert_eq!(
            Format::Json.line("error", "a \"b\"\n", time),
            "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\\n\",\"time\":\"2023-11-14T22:13:20.123456789Z\"}\n"
        );
        assert_eq!(
            Format::Text.line("warning", "a \"b\"\n", time),
            "time=\"2023-11-14T22:13:20.123456789Z\" level=warning msg=\"a \\\"b\\\"\\n\"\n"
        );
    }

    #[test]
    fn a_missing_command_is_told_in_the_words_that_clients_look_for() {
        let failure = |status, sentence: &str| {
            let sentence = sentence.to_owned();
            in_the_words_of_clients(&Failure { status, sentence }.into())
        };
        assert_eq!(
            failure(127, "sh: command not found in the container"),
            "sh: command not found in the container: executable file not found in $PATH"
        );
        assert_eq!(
            failure(126, "/etc: Permission denied"),
            "/etc: permission denied"
        );
        assert_eq!(
            failure(126, "/etc: Is a directory"),
            "/etc: Is a directory: permission denied"
        );
        assert_eq!(failure(125, "mount /proc"), "mount /proc");
    }
}
