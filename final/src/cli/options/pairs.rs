//! `KEY=VALUE`, on the command line and in files: variables of the environment, and labels.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// One `--env`.
///
/// # Errors
/// It has no name.
pub(crate) fn variable(text: &str) -> Result<String> {
    let name = text.split('=').next().unwrap_or_default();
    ensure!(!name.is_empty(), "invalid environment variable: {text}");
    Ok(text.to_owned())
}

/// The variables of `--env-file` and `--env`, each as `NAME=VALUE`, of which the last counts. A name
/// alone stands for the caller's own value; `--env NAME` without one comes back as it is, and takes
/// the image's away.
///
/// # Errors
/// A file that cannot be read, or in which a line makes no sense.
pub(crate) fn variables(files: &[PathBuf], given: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        for line in lines(file)? {
            if line.contains('=') {
                all.push(line);
            } else if let Some(value) = own(&line)? {
                all.push(format!("{line}={value}"));
            }
        }
    }
    for variable in given {
        let value = match variable.contains('=') {
            true => None,
            false => own(variable)?,
        };
        all.push(value.map_or_else(|| variable.clone(), |value| format!("{variable}={value}")));
    }
    Ok(all)
}

fn own(name: &str) -> Result<Option<String>> {
    match env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("pass on the variable {name}")),
    }
}

/// One `--label`.
///
/// # Errors
/// It has no name.
pub(crate) fn label(text: &str) -> Result<String> {
    let name = text.split('=').next().unwrap_or_default();
    ensure!(
        !name.trim().is_empty(),
        "invalid label '{text}': empty name"
    );
    Ok(text.to_owned())
}

/// The labels of `--label-file` and `--label`. One without a value is empty.
///
/// # Errors
/// As [`variables`].
pub(crate) fn labels(files: &[PathBuf], given: &[String]) -> Result<BTreeMap<String, String>> {
    let mut all = Vec::new();
    for file in files {
        all.extend(lines(file)?);
    }
    all.extend_from_slice(given);
    let pair = |label: &String| {
        let (name, value) = label.split_once('=').unwrap_or((label, ""));
        (name.to_owned(), value.to_owned())
    };
    Ok(all.iter().map(pair).collect())
}

/// The lines of a file that say something: neither empty ones nor comments.
fn lines(file: &Path) -> Result<Vec<String>> {
    let shown = file.display();
    let bytes = fs::read(file).with_context(|| format!("open {shown}"))?;
    let Ok(text) = String::from_utf8(bytes) else {
        bail!("{shown} contains invalid utf8 bytes");
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim_start) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        let wrong = match name {
            "" => Some(format!("no variable name on line '{line}'")),
            name if name.contains(char::is_whitespace) => {
                Some(format!("variable '{name}' contains whitespaces"))
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            bail!("{shown}: poorly formatted environment: {wrong}");
        }
        lines.push(line.to_owned());
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is gone with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn with(name: &str, text: &[u8]) -> Scratch {
            let path = env::temp_dir().join(format!("pairs-{name}-{}", std::process::id()));
            fs::write(&path, text).expect("write");
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_file_has_a_variable_a_line_and_comments() {
        let text = "\u{feff}A=1\n# not this\n\n  B= two words \r\nC=x=y#z\nPATH\nNOBODY_HAS_THIS\n";
        let file = Scratch::with("lines", text.as_bytes());
        let path = env::var("PATH").expect("PATH");
        let all = variables(std::slice::from_ref(&file.0), &[]).expect("variables");
        assert_eq!(
            all,
            ["A=1", "B= two words ", "C=x=y#z", &format!("PATH={path}")]
        );
    }

    #[test]
    fn the_command_line_comes_after_the_files_and_may_take_away() {
        let file = Scratch::with("order", b"A=file\n");
        let given = [
            "A=line".to_owned(),
            "NOBODY_HAS_THIS".to_owned(),
            "E=".to_owned(),
        ];
        let all = variables(std::slice::from_ref(&file.0), &given).expect("variables");
        assert_eq!(all, ["A=file", "A=line", "NOBODY_HAS_THIS", "E="]);
        assert_eq!(
            variable("=x").unwrap_err().to_string(),
            "invalid environment variable: =x"
        );
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named() {
        for (text, why) in [
            (&b"A B=1"[..], "variable 'A B' contains whitespaces"),
            (b"A =1", "variable 'A ' contains whitespaces"),
            (b"=1", "no variable name on line '=1'"),
            (b"A=\xff", "invalid utf8"),
        ] {
            let file = Scratch::with("wrong", text);
            let error = lines(&file.0).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(lines(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn a_label_without_a_value_is_empty() {
        let file = Scratch::with("labels", b"a=1\nb\n");
        let given = ["a=2".to_owned(), "c".to_owned()];
        let labels = labels(std::slice::from_ref(&file.0), &given).expect("labels");
        let shown: Vec<_> = labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        assert_eq!(shown, ["a=2", "b=", "c="]);
        assert!(label("=1").is_err() && label(" =1").is_err());
    }
}
