//! What a container of an image runs, once the user has had a say.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::Config;

impl Config {
    /// The command line: the entrypoint, and then the user's arguments or, if
    /// there are none, the image's `Cmd`. Whoever replaces the entrypoint
    /// replaces `Cmd` too, which was meant for the old one; an empty one only
    /// takes the image's away (docker run, `--entrypoint`).
    ///
    /// # Errors
    /// Nothing is left to run.
    pub fn command(&self, entrypoint: Option<&OsStr>, args: &[OsString]) -> Result<Vec<OsString>> {
        // task 05.1 {
        let own = |words: &[String]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let mut line = match entrypoint {
            Some(program) if program.is_empty() => Vec::new(),
            Some(program) => vec![program.to_owned()],
            None => own(&self.entrypoint),
        };
        if args.is_empty() && entrypoint.is_none() {
            line.extend(own(&self.cmd));
        }
        line.extend_from_slice(args);
        ensure!(
            !line.is_empty(),
            "the image names no command; give one after the image's name"
        );
        Ok(line)
        // } todo!("task 05.1: put the command together: entrypoint, cmd, arguments (book: 5.1)")
    }

    /// The image's variables. One without a value is none: where a user writes
    /// it, it passes on the caller's own, and an image may not ask for that.
    #[must_use]
    pub fn variables(&self) -> Vec<OsString> {
        let variables = self.env.iter().filter(|variable| variable.contains('='));
        variables.map(OsString::from).collect()
    }

    /// Where the command starts.
    #[must_use]
    pub fn cwd(&self) -> PathBuf {
        PathBuf::from("/").join(&self.working_dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(entrypoint: Option<&str>, args: &[&str]) -> Result<Vec<OsString>> {
        let config = Config {
            entrypoint: vec!["tini".to_owned(), "--".to_owned()],
            cmd: vec!["server".to_owned()],
            ..Config::default()
        };
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        config.command(entrypoint.map(OsStr::new), &args)
    }

    #[test]
    fn arguments_replace_cmd_and_follow_the_entrypoint() {
        assert_eq!(line(None, &[]).unwrap(), ["tini", "--", "server"]);
        assert_eq!(
            line(None, &["sh", "-c"]).unwrap(),
            ["tini", "--", "sh", "-c"]
        );
    }

    #[test]
    fn another_entrypoint_takes_cmd_away() {
        assert_eq!(line(Some("sh"), &[]).unwrap(), ["sh"]);
        assert_eq!(line(Some(""), &["ls"]).unwrap(), ["ls"]);
        assert!(line(Some(""), &[]).is_err());
    }

    #[test]
    fn an_image_sets_variables_and_asks_for_none() {
        let config = Config {
            env: vec!["A=1".to_owned(), "SECRET".to_owned(), "B=".to_owned()],
            ..Config::default()
        };
        assert_eq!(config.variables(), ["A=1", "B="]);
    }
}
