//! `--change`: instructions of a Dockerfile that say how a container of an image is to run.
//!
//! Words are taken apart as docker's builder does it (Dockerfile reference, "Environment
//! replacement"): quotes keep blanks together, a backslash takes the next character as it is, and
//! `$NAME` or `${NAME}` is what `ENV` said before.

use anyhow::{Context, Result, bail, ensure};
use images::Config;
use jiff::SignedDuration;
use serde_json::{Map, Value, json};

use crate::engine::containers::known_signal;
use crate::engine::containers::ports::parse_expose;
use crate::engine::lexical;

/// Carries instructions out, one after the other.
///
/// # Errors
/// An instruction that is not about running, or whose arguments cannot be understood.
pub(super) fn apply(changes: &[String], config: &mut Config) -> Result<()> {
    for line in changes.iter().flat_map(|change| lines(change)) {
        let (instruction, rest) = first_word(&line);
        change(config, &instruction.to_ascii_uppercase(), rest)
            .with_context(|| format!("--change {line:?}"))?;
    }
    Ok(())
}

/// The instructions of a text: those that a backslash continues as one line each, no comments.
fn lines(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for line in text.lines().filter(|line| !line.trim().starts_with('#')) {
        let (line, continued) = match line.trim_end().strip_suffix('\\') {
            Some(line) => (line, true),
            None => (line, false),
        };
        if let Some(last) = lines.last_mut() {
            last.push_str(line);
        }
        if !continued {
            lines.push(String::new());
        }
    }
    let lines = lines.iter().map(|line| line.trim().to_owned());
    lines.filter(|line| !line.is_empty()).collect()
}

fn first_word(line: &str) -> (&str, &str) {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    (word, rest.trim())
}

fn change(config: &mut Config, instruction: &str, rest: &str) -> Result<()> {
    let rest = || -> Result<&str> {
        ensure!(!rest.is_empty(), "{instruction} requires an argument");
        Ok(rest)
    };
    let known = config.env.clone();
    let expand = |word: &str| expand(word, &known);
    match instruction {
        "CMD" => config.cmd = command(rest()?),
        "ENTRYPOINT" => config.entrypoint = command(rest()?),
        "ENV" => {
            for (name, value) in pairs(rest()?, expand)? {
                set(&mut config.env, &name, &value);
            }
        }
        "LABEL" => config.labels.extend(pairs(rest()?, expand)?),
        "EXPOSE" => {
            for word in words(rest()?) {
                for port in expand(&word)?.split_whitespace() {
                    let ports = parse_expose(port).with_context(|| format!("no port: {port}"))?;
                    let ports = ports.into_iter().map(|port| (port, json!({})));
                    config.exposed_ports.extend(ports);
                }
            }
        }
        "VOLUME" => {
            let rest = rest()?;
            let list = serde_json::from_str(rest).unwrap_or_else(|_| words(rest));
            for volume in list {
                let volume = expand(volume.trim())?;
                ensure!(!volume.is_empty(), "a volume's path may not be empty");
                config.volumes.insert(volume, json!({}));
            }
        }
        "USER" => config.user = expand(rest()?)?,
        "WORKDIR" => {
            let to = expand(rest()?)?;
            config.working_dir = match to.starts_with('/') {
                true => lexical::absolute(&to),
                false => lexical::absolute(&format!("{}/{to}", config.working_dir)),
            };
        }
        "STOPSIGNAL" => config.stop_signal = known_signal(&expand(rest()?)?)?,
        "HEALTHCHECK" => {
            let check = healthcheck(rest()?)?;
            config.extra.insert("Healthcheck".to_owned(), check);
        }
        "ONBUILD" => on_build(config, rest()?)?,
        other => bail!("{other} is not a valid change command"),
    }
    Ok(())
}

/// A command as a list in JSON is run as it is, and any other line by a shell.
fn command(rest: &str) -> Vec<String> {
    let shell = |_| ["/bin/sh", "-c", rest].map(str::to_owned).to_vec();
    serde_json::from_str(rest).unwrap_or_else(shell)
}

/// `NAME=VALUE …`, or from older times `NAME VALUE`, whose value goes on to the end of the line.
fn pairs(rest: &str, expand: impl Fn(&str) -> Result<String>) -> Result<Vec<(String, String)>> {
    let words = words(rest);
    let (name, value) = first_word(rest);
    if !words.first().is_some_and(|word| word.contains('=')) {
        ensure!(!value.is_empty(), "{name} has no value");
        return Ok(vec![(expand(name)?, expand(value)?)]);
    }
    let pair = |word: &String| {
        let (name, value) = word
            .split_once('=')
            .with_context(|| format!("{word:?} is not of the form NAME=VALUE"))?;
        let name = expand(name)?;
        ensure!(!name.is_empty(), "{word:?} has no name");
        Ok((name, expand(value)?))
    };
    words.iter().map(pair).collect()
}

/// Adds a variable, or gives it another value.
fn set(env: &mut Vec<String>, name: &str, value: &str) {
    let new = format!("{name}={value}");
    let its = |old: &&mut String| old.split('=').next() == Some(name);
    match env.iter_mut().find(its) {
        Some(old) => *old = new,
        None => env.push(new),
    }
}

/// `NONE`, or options and a command.
fn healthcheck(rest: &str) -> Result<Value> {
    let mut check = Map::new();
    let mut rest = rest;
    while let (Some(option), after) = option(rest) {
        let (name, value) = option
            .split_once('=')
            .with_context(|| format!("--{option} has no value"))?;
        let (key, value) = match name {
            "interval" => ("Interval", nanoseconds(value)?),
            "timeout" => ("Timeout", nanoseconds(value)?),
            "start-period" => ("StartPeriod", nanoseconds(value)?),
            "start-interval" => ("StartInterval", nanoseconds(value)?),
            "retries" => ("Retries", value.parse::<u32>()?.into()),
            _ => bail!("unknown flag: --{name}"),
        };
        check.insert(key.to_owned(), value);
        rest = after;
    }
    let (kind, rest) = first_word(rest);
    let test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if rest.is_empty() => vec!["NONE".to_owned()],
        "CMD" if !rest.is_empty() => match serde_json::from_str::<Vec<String>>(rest) {
            Ok(words) => [vec!["CMD".to_owned()], words].concat(),
            Err(_) => vec!["CMD-SHELL".to_owned(), rest.to_owned()],
        },
        _ => bail!("after its options stands CMD with a command, or NONE"),
    };
    check.insert("Test".to_owned(), test.into());
    Ok(Value::Object(check))
}

/// The next option without its dashes, and what follows.
fn option(rest: &str) -> (Option<&str>, &str) {
    let (word, after) = first_word(rest);
    match word.strip_prefix("--") {
        Some(option) => (Some(option), after),
        None => (None, rest),
    }
}

fn nanoseconds(text: &str) -> Result<Value> {
    let time: SignedDuration = text
        .parse()
        .with_context(|| format!("{text:?} is no duration such as 1m30s"))?;
    let enough = time.is_zero() || time >= SignedDuration::from_millis(1);
    ensure!(enough, "{text} is less than 1ms");
    Ok(u64::try_from(time.as_nanos())?.into())
}

/// For whoever builds on the image.
fn on_build(config: &mut Config, rest: &str) -> Result<()> {
    let (trigger, _) = first_word(rest);
    let trigger = trigger.to_ascii_uppercase();
    let allowed = !["ONBUILD", "FROM", "MAINTAINER"].contains(&trigger.as_str());
    ensure!(allowed, "{trigger} isn't allowed as an ONBUILD trigger");
    let triggers = config.extra.entry("OnBuild").or_insert(json!([]));
    if let Value::Array(triggers) = triggers {
        triggers.push(rest.into());
    }
    Ok(())
}

/// Splits at blanks that no quote and no backslash protects; both stay.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let blank = letter.is_whitespace() && quote.is_none();
        match (quote, letter) {
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            _ => {}
        }
        if blank {
            words.push(String::new());
        } else if let Some(word) = words.last_mut() {
            word.push(letter);
            if letter == '\\' && quote != Some('\'') {
                word.extend(letters.next());
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Takes the quotes and backslashes out of a word, and puts in what variables stand for.
fn expand(word: &str, env: &[String]) -> Result<String> {
    let mut out = String::new();
    let mut rest = word;
    let mut quote = None;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        match (quote, letter) {
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            (Some('\''), _) => out.push(letter),
            (_, '$') => {
                let (value, after) = variable(rest, env)?;
                out.push_str(&value);
                rest = after;
            }
            (_, '\\') => {
                let next = rest.chars().next();
                let special = quote.is_none() || matches!(next, Some('"' | '$' | '\\'));
                if !special || next.is_none() {
                    out.push(letter);
                }
                out.extend(next);
                rest = next.map_or(rest, |next| &rest[next.len_utf8()..]);
            }
            _ => out.push(letter),
        }
    }
    ensure!(quote.is_none(), "{word:?}: a quote is not closed");
    Ok(out)
}

/// What the variable after a `$` stands for, and what follows it.
fn variable<'a>(text: &'a str, env: &[String]) -> Result<(String, &'a str)> {
    let value = |name: &str| {
        let mut pairs = env.iter().filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    };
    let part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let Some(braced) = text.strip_prefix('{') else {
        let (name, after) = text.split_at(text.find(|it| !part(it)).unwrap_or(text.len()));
        let value = match name {
            "" => "$",
            name => value(name).unwrap_or_default(),
        };
        return Ok((value.to_owned(), after));
    };
    let (inside, after) = braced
        .split_once('}')
        .with_context(|| format!("${text}: a brace is not closed"))?;
    let (name, modifier) = inside.split_at(inside.find(|it| !part(it)).unwrap_or(inside.len()));
    ensure!(!name.is_empty(), "${{{inside}}} names no variable");
    // With a colon, an empty variable is none.
    let (value, modifier) = match modifier.strip_prefix(':') {
        Some(modifier) => (value(name).filter(|value| !value.is_empty()), modifier),
        None => (value(name), modifier),
    };
    let (instead, besides) = (modifier.strip_prefix('-'), modifier.strip_prefix('+'));
    let value = match (instead, besides, value) {
        (Some(instead), _, None) => expand(instead, env)?,
        (Some(_), _, Some(value)) => value.to_owned(),
        (_, Some(besides), Some(_)) => expand(besides, env)?,
        (_, Some(_), None) => String::new(),
        _ if modifier.is_empty() => value.unwrap_or_default().to_owned(),
        _ => bail!("${{{inside}}}: what follows the name is not known here"),
    };
    Ok((value, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<Value> {
        let mut config = Config::default();
        let changes: Vec<_> = changes.iter().map(|it| (*it).to_owned()).collect();
        apply(&changes, &mut config)?;
        Ok(serde_json::to_value(config)?)
    }

    #[test]
    fn every_instruction_arrives_in_the_config() {
        let config = changed(&[
            "ENV PATH=/bin A=\"b c\" D='e $PATH' F=g\\ h",
            "env LEGACY some  words",
            "ENV PATH=$PATH:/opt/${NONE:-default}/${A:+set}",
            "CMD [\"a\", \"b c\"]",
            "ENTRYPOINT run --it",
            "EXPOSE 80 443/TCP 8000-8001/udp",
            "LABEL one=1 two=\"2 2\"",
            "USER app:staff",
            "VOLUME [\"/data\", \"/log\"]",
            "VOLUME /a /b",
            "WORKDIR srv",
            "WORKDIR ../opt/./app",
            "STOPSIGNAL SIGRTMIN+3",
            "HEALTHCHECK --interval=1m30s --retries=3 CMD curl -f localhost",
            "ONBUILD RUN make",
            "ONBUILD COPY . /src",
        ]);
        let expected = json!({
            "User": "app:staff",
            "ExposedPorts": {"443/tcp": {}, "80/tcp": {}, "8000/udp": {}, "8001/udp": {}},
            "Env": ["PATH=/bin:/opt/default/set", "A=b c", "D=e $PATH", "F=g h", "LEGACY=some  words"],
            "Entrypoint": ["/bin/sh", "-c", "run --it"],
            "Cmd": ["a", "b c"],
            "Volumes": {"/a": {}, "/b": {}, "/data": {}, "/log": {}},
            "WorkingDir": "/opt/app",
            "Labels": {"one": "1", "two": "2 2"},
            "StopSignal": "SIGRTMIN+3",
            "Healthcheck": {
                "Interval": 90_000_000_000_u64,
                "Retries": 3,
                "Test": ["CMD-SHELL", "curl -f localhost"],
            },
            "OnBuild": ["RUN make", "COPY . /src"],
        });
        assert_eq!(config.unwrap(), expected);
    }

    #[test]
    fn lines_go_on_after_a_backslash() {
        let config = changed(&["# what it is\nLABEL a=1 \\\n  b=2\nUSER me"]).unwrap();
        assert_eq!(
            config,
            json!({"User": "me", "Labels": {"a": "1", "b": "2"}})
        );
    }

    #[test]
    fn what_is_no_change_is_refused() {
        for (change, why) in [
            ("RUN make", "RUN is not a valid change command"),
            ("CMD", "CMD requires an argument"),
            ("ENV A", "A has no value"),
            ("ENV A=1 B", "NAME=VALUE"),
            ("ENV =1", "has no name"),
            ("ENV A=\"1", "not closed"),
            ("ENV A=${B", "not closed"),
            ("ENV A=${B%.c}", "not known here"),
            ("EXPOSE 80/icmp", "no port"),
            ("EXPOSE 90-80", "no port"),
            ("EXPOSE 65536", "no port"),
            ("VOLUME \"\"", "empty"),
            ("STOPSIGNAL SIGNONE", "invalid signal"),
            ("STOPSIGNAL 65", "invalid signal"),
            ("HEALTHCHECK CMD", "NONE"),
            ("HEALTHCHECK --interval=1us CMD x", "less than 1ms"),
            ("HEALTHCHECK --often CMD x", "no value"),
            ("ONBUILD FROM x", "isn't allowed"),
        ] {
            let error = format!("{:#}", changed(&[change]).unwrap_err());
            assert!(error.contains(why), "{change}: {error}");
        }
    }
}
