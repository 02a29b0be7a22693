//! How a container begins, ends, and what is kept of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use minidocker::engine::containers::known_signal;
use minidocker::state::{Config, HostConfig, LogConfig, Restart};

use super::size;

/// How a container begins and ends.
#[derive(Debug, Args)]
#[command(next_help_heading = "Life")]
pub(super) struct Life {
    /// Remove it when it has ended
    #[arg(long)]
    rm: bool,
    /// Start it again when it has ended: no, on-failure[:TIMES], always or unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = restart)]
    restart: Option<Restart>,
    /// Run a small init as the first process, which reaps orphans and passes signals on
    #[arg(long)]
    init: bool,
    /// The signal that asks it to end
    #[arg(long, value_name = "SIGNAL", value_parser = known_signal)]
    stop_signal: Option<String>,
    /// How long it then has; -1 for ever
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    stop_timeout: Option<i64>,
    /// Another program that runs OCI bundles
    #[arg(long, value_name = "PROGRAM")]
    runtime: Option<PathBuf>,
    /// How its output is kept: json-file or none
    #[arg(long, value_name = "DRIVER", value_parser = driver)]
    log_driver: Option<String>,
    /// max-size=BYTES and max-file=NUMBER
    #[arg(long, value_name = "NAME=VALUE")]
    log_opt: Vec<String>,
    /// Accepted: there are no health checks
    #[arg(long)]
    no_healthcheck: bool,
}

impl Life {
    /// Writes it down.
    ///
    /// # Errors
    /// Two of them cannot be had together.
    pub(super) fn write(self, config: &mut Config, host: &mut HostConfig) -> Result<()> {
        host.auto_remove = self.rm;
        host.restart_policy = self.restart.unwrap_or_default();
        ensure!(
            !self.rm || host.restart_policy == Restart::No,
            "Conflicting options: --restart and --rm"
        );
        host.init = self.init;
        host.runtime = self.runtime;
        host.log_config = log(self.log_driver.unwrap_or_default(), &self.log_opt)?;
        config.stop_signal = self.stop_signal.unwrap_or_default();
        config.stop_timeout = self.stop_timeout;
        Ok(())
    }
}

fn restart(text: &str) -> Result<Restart> {
    let (name, times) = match text.split_once(':') {
        Some(("", _)) => bail!("invalid restart policy format: no policy provided before colon"),
        Some((name, times)) => (name, Some(times).filter(|times| !times.is_empty())),
        None => (text, None),
    };
    let times = times.map(str::parse::<i32>).transpose();
    let Ok(times) = times else {
        bail!("invalid restart policy format: maximum retry count must be an integer");
    };
    let times = times.unwrap_or_default();
    let policy = match name {
        "" | "no" => Restart::No,
        "always" => Restart::Always,
        "unless-stopped" => Restart::UnlessStopped,
        "on-failure" => {
            let times = u32::try_from(times)
                .context("invalid restart policy: maximum retry count cannot be negative")?;
            return Ok(Restart::OnFailure(times));
        }
        _ => bail!(
            "invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', \
             'on-failure', or 'unless-stopped'"
        ),
    };
    ensure!(
        times == 0,
        "invalid restart policy: maximum retry count can only be used with 'on-failure'"
    );
    Ok(policy)
}

fn driver(text: &str) -> Result<String> {
    ensure!(
        matches!(text, "json-file" | "none"),
        "logger: no log driver named '{text}' is registered"
    );
    Ok(text.to_owned())
}

fn log(driver: String, options: &[String]) -> Result<LogConfig> {
    let pairs: BTreeMap<&str, &str> = options
        .iter()
        .map(|option| option.split_once('=').unwrap_or((option, "")))
        .collect();
    ensure!(
        driver != "none" || pairs.is_empty(),
        "invalid logging opts for driver none"
    );
    let mut config = LogConfig {
        r#type: driver,
        ..LogConfig::default()
    };
    for (name, value) in pairs {
        match name {
            "max-size" if value == "-1" => {}
            "max-size" => config.max_size = size::bytes(value)?,
            "max-file" => {
                let files = value.parse().ok().filter(|files| *files > 0);
                config.max_file = files.context("max-file cannot be less than 1")?;
            }
            _ => bail!("unknown log opt '{name}' for json-file log driver"),
        }
    }
    ensure!(
        config.max_file <= 1 || config.max_size > 0,
        "max-file could only be >1 with max-size being set"
    );
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_policy_has_a_name_and_one_a_number() {
        for (text, policy) in [
            ("", Restart::No),
            ("no", Restart::No),
            ("always", Restart::Always),
            ("unless-stopped", Restart::UnlessStopped),
            ("on-failure", Restart::OnFailure(0)),
            ("on-failure:3", Restart::OnFailure(3)),
            ("on-failure:", Restart::OnFailure(0)),
        ] {
            assert_eq!(restart(text).unwrap(), policy, "{text}");
        }
        for (text, why) in [
            (":3", "no policy provided before colon"),
            ("on-failure:x", "maximum retry count must be an integer"),
            ("on-failure:-1", "maximum retry count cannot be negative"),
            (
                "always:3",
                "maximum retry count can only be used with 'on-failure'",
            ),
            ("sometimes", "unknown policy 'sometimes'"),
            ("on-failure:1:2", "must be an integer"),
        ] {
            let error = restart(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn who_is_removed_cannot_be_started_again() {
        let life = |restart| Life {
            rm: true,
            restart: Some(restart),
            init: false,
            stop_signal: None,
            stop_timeout: None,
            runtime: None,
            log_driver: None,
            log_opt: Vec::new(),
            no_healthcheck: false,
        };
        let write = |life: Life| life.write(&mut Config::default(), &mut HostConfig::default());
        let error = write(life(Restart::Always)).unwrap_err().to_string();
        assert_eq!(error, "Conflicting options: --restart and --rm");
        assert!(write(life(Restart::No)).is_ok());
    }

    #[test]
    fn a_log_is_put_aside_at_a_size() {
        let log = |options: &[&str]| {
            let options: Vec<String> = options.iter().map(ToString::to_string).collect();
            log("json-file".to_owned(), &options)
        };
        let config = log(&["max-size=10k", "max-file=3"]).unwrap();
        assert_eq!((config.max_size, config.max_file), (10240, 3));
        for (options, why) in [
            (&["max-size=x"][..], "invalid size: 'x'"),
            (&["max-file=0"], "max-file cannot be less than 1"),
            (&["max-file=3"], "with max-size being set"),
            (&["compress=true"], "unknown log opt 'compress'"),
        ] {
            let error = log(options).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
