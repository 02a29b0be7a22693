//! From the words of a command line to what they ask for, as docker reads them.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::num::{IntErrorKind, ParseIntError};
use std::process::ExitCode;

use clap::builder::BoolishValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, CommandFactory, Error, Parser};

use crate::tell;

/// What a command line that makes no sense ends with.
pub(crate) const NO_SENSE: u8 = 125;

/// Reads this process's command line, or answers how the process is to end: help was asked for
/// and printed, or what is wrong has been said.
pub(crate) fn parse<C: Parser + CommandFactory>() -> Result<C, ExitCode> {
    let words: Vec<OsString> = env::args_os().collect();
    // Only the flags of the command that is called are made for this (`defer`): to make those of
    // all takes longer than what most commands do.
    match C::try_parse_from(&words) {
        Ok(parsed) => return Ok(parsed),
        Err(version) if version.kind() == ErrorKind::DisplayVersion => return Err(print(&version)),
        Err(_) => {}
    }
    // Help tells of them all.
    let mut whole = C::command();
    whole.build();
    let read = |command: Command| {
        let matches = command.try_get_matches_from(&words);
        matches.and_then(|matches| C::from_arg_matches(&matches))
    };
    let error = match read(whole.clone()) {
        Ok(parsed) => return Ok(parsed),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::DisplayHelp => return Err(print(&error)),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            return Err(ExitCode::SUCCESS);
        }
        _ => {}
    }
    read(as_pflag(whole)).map_err(|error| {
        tell(&complaint(&error, &words, C::command()));
        ExitCode::from(NO_SENSE)
    })
}

/// Prints what was asked for: clap takes help for an error.
fn print(asked: &Error) -> ExitCode {
    let printed = asked.print().and_then(|()| io::stdout().flush());
    ExitCode::from(u8::from(printed.is_err()))
}

/// The same as docker's library reads it: flags may have a value (`--quiet=false`), and whatever
/// comes after one that needs a value is that (`-m -1`). Only tried where nothing else helps, for the
/// help would show it.
fn as_pflag(command: Command) -> Command {
    let command = command.mut_args(|arg| match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_value("false")
            .default_missing_value("true")
            .value_parser(BoolishValueParser::new()),
        ArgAction::Set | ArgAction::Append if needs_value(&arg) => arg.allow_hyphen_values(true),
        _ => arg,
    });
    command.mut_subcommands(as_pflag)
}

fn needs_value(arg: &Arg) -> bool {
    let least = arg.get_num_args().map_or(1, |range| range.min_values());
    !arg.is_positional() && least > 0
}

/// What is wrong, and where help is.
fn complaint(error: &Error, words: &[OsString], program: Command) -> String {
    let mut path = program.get_name().to_owned();
    let mut command = program;
    for word in words.iter().skip(1).filter_map(|word| word.to_str()) {
        match command.find_subcommand(word).cloned() {
            Some(inner) => {
                path = format!("{path} {}", inner.get_name());
                command = inner;
            }
            None if word.starts_with('-') => {}
            None => break,
        }
    }
    let usage = command.bin_name(&path).render_usage();
    format!(
        "minidocker: {}\n\n{usage}\n\nRun '{path} --help' for more information",
        sentence(error, words, &path)
    )
}

fn sentence(error: &Error, words: &[OsString], path: &str) -> String {
    let told = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(" "),
        _ => String::new(),
    };
    let what = told(ContextKind::InvalidArg);
    match error.kind() {
        ErrorKind::UnknownArgument if what.starts_with("--") => format!("unknown flag: {what}"),
        ErrorKind::UnknownArgument if what.starts_with('-') => {
            format!("unknown shorthand flag: {what}")
        }
        ErrorKind::UnknownArgument => format!("'{path}' takes no argument {what:?} there"),
        ErrorKind::InvalidSubcommand => {
            format!(
                "unknown command: {path} {}",
                told(ContextKind::InvalidSubcommand)
            )
        }
        ErrorKind::MissingRequiredArgument
        | ErrorKind::TooFewValues
        | ErrorKind::WrongNumberOfValues => format!("'{path}' requires {what}"),
        ErrorKind::ArgumentConflict => {
            format!("{what} cannot be used with {}", told(ContextKind::PriorArg))
        }
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let value = told(ContextKind::InvalidValue);
            let flag = what.split([' ', '[', '=']).next();
            let flag = flag.filter(|flag| flag.starts_with('-')).unwrap_or(&what);
            let why = match (
                std::error::Error::source(error),
                error.get(ContextKind::ValidValue),
            ) {
                (Some(why), _) => format!(": {}", reason(why, &value)),
                (None, _) if value.is_empty() => return format!("flag needs an argument: {flag}"),
                (None, Some(ContextValue::Strings(known))) => {
                    format!(": must be one of {}", known.join(", "))
                }
                _ => String::new(),
            };
            format!("invalid argument {value:?} for {flag}{why}")
        }
        ErrorKind::InvalidUtf8 => {
            let word = words.iter().find(|word| word.to_str().is_none());
            format!(
                "{:?} is not UTF-8, as all arguments have to be",
                word.cloned().unwrap_or_default()
            )
        }
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            first.trim_start_matches("error: ").to_owned()
        }
    }
}

/// Why a value is none, from the first cause on. Of a number Rust does not say which word was none.
fn reason(why: &(dyn std::error::Error + 'static), value: &str) -> String {
    let causes = std::iter::successors(Some(why), |cause| cause.source());
    let causes = causes.map(
        |cause| match cause.downcast_ref().map(ParseIntError::kind) {
            Some(IntErrorKind::PosOverflow | IntErrorKind::NegOverflow) => {
                format!("{value} is out of range")
            }
            Some(_) => format!("{value:?} is no number"),
            None => cause.to_string(),
        },
    );
    causes.collect::<Vec<_>>().join(": ")
}
