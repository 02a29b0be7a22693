//! A bundle: a directory with a root file system and `config.json`
//! (runtime-spec, bundle.md).
//!
//! It is read once, and refused before anything has been made where it cannot
//! be meant: by a sentence that begins with the field's path. Here is what
//! needs no kernel to be known as wrong; what each part of the configuration
//! means, and which of it this kernel cannot do, the module of that part says.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{Process, Spec};
use serde::de::DeserializeOwned;

use super::check;

/// A configuration is shorter than this, in bytes. The longest that people
/// write, with a profile of seccomp's and much in annotations, have some 100 KB.
const LIMIT: u64 = 10 << 20;

/// A bundle, read and checked.
#[derive(Debug)]
pub struct Bundle {
    /// The directory, absolute and without links.
    pub path: PathBuf,
    /// What will be `/` in the container, absolute and without links.
    pub rootfs: PathBuf,
    /// `config.json`.
    pub spec: Spec,
    /// The same as it was read.
    pub text: Vec<u8>,
}

impl Bundle {
    /// Reads the bundle at `path`, and checks all that needs no kernel.
    ///
    /// # Errors
    /// Fails with the path of the field that is wrong.
    pub fn load(path: &Path) -> Result<Bundle> {
        let path = path
            .canonicalize()
            .with_context(|| format!("open the bundle {}", path.display()))?;
        let config = path.join("config.json");
        let text = read(&config)?;
        let (spec, rootfs) = understand(&text, &path)
            .with_context(|| format!("the bundle's {}", config.display()))?;
        Ok(Bundle {
            path,
            rootfs,
            spec,
            text,
        })
    }
}

impl Bundle {
    /// Makes a bundle of a directory, for a configuration that is at hand.
    ///
    /// # Errors
    /// As [`Bundle::load`], and where the file cannot be written.
    pub fn write(path: &Path, spec: Spec) -> Result<Bundle> {
        let config = path.join("config.json");
        let text = serde_json::to_vec(&spec)?;
        check::spec(&spec).with_context(|| format!("the bundle's {}", config.display()))?;
        std::fs::write(&config, &text).with_context(|| format!("write {}", config.display()))?;
        let rootfs = find_root(&spec, path)?;
        Ok(Bundle {
            path: path.to_owned(),
            rootfs,
            spec,
            text,
        })
    }
}

/// Reads the copy of `config.json` that was made when the container was: nothing
/// is checked again, for the root file system may be gone.
pub(crate) fn reread(text: &[u8]) -> Result<Spec> {
    parse(text)
}

/// Checks what is to join a container, as [`Bundle::load`] does its first process.
///
/// # Errors
/// Fails with the path of the field that is wrong.
pub fn check_process(process: &Process) -> Result<()> {
    check::process(process, "process.")
}

/// Reads what `exec --process` names: a process as the configuration has it.
///
/// # Errors
/// Fails with the path of the field that is wrong.
pub fn read_process(path: &Path) -> Result<Process> {
    let understood = || -> Result<Process> {
        let text = read(path)?;
        let process: Process = parse(&text)?;
        refuse_nul(&text)?;
        check::process(&process, "")?;
        Ok(process)
    };
    understood().with_context(|| format!("the process of {}", path.display()))
}

fn understand(text: &[u8], bundle: &Path) -> Result<(Spec, PathBuf)> {
    let spec: Spec = parse(text)?;
    refuse_nul(text)?;
    check::spec(&spec)?;
    let rootfs = find_root(&spec, bundle)?;
    Ok((spec, rootfs))
}

fn find_root(spec: &Spec, bundle: &Path) -> Result<PathBuf> {
    let root = spec.root().as_ref().context("root: it is missing")?;
    let rootfs = bundle.join(root.path());
    let rootfs = rootfs
        .canonicalize()
        .with_context(|| format!("root.path: {}", rootfs.display()))?;
    ensure!(
        rootfs.is_dir(),
        "root.path: {} is not a directory",
        rootfs.display()
    );
    Ok(rootfs)
}

/// The whole file, but no more of it than anybody means to write.
fn read(path: &Path) -> Result<Vec<u8>> {
    let content = || {
        let mut text = Vec::new();
        // A pipe without a writer would be waited for.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        file.take(LIMIT).read_to_end(&mut text)?;
        anyhow::Ok(text)
    };
    let text = content().with_context(|| format!("read {}", path.display()))?;
    ensure!(
        (text.len() as u64) < LIMIT,
        "{} is too long: a configuration has less than {} MiB",
        path.display(),
        LIMIT >> 20
    );
    Ok(text)
}

/// Fast, and a second time slowly where that fails, to learn at which field.
fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    let text = str::from_utf8(text)
        .map_err(|error| anyhow::anyhow!("not UTF-8 at byte {}", error.valid_up_to()))?;
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = error.path().to_string();
        match field.as_str() {
            // Of a document that is no object, or no JSON.
            "." | "?" => anyhow::anyhow!("{}", error.inner()),
            field => anyhow::anyhow!("{field}: {}", error.inner()),
        }
    })?;
    reader.end()?;
    Ok(value)
}

/// A NUL byte would end a string for the kernel, and not for whoever checked it.
/// In JSON it cannot stand but in this form.
fn refuse_nul(text: &[u8]) -> Result<()> {
    let text = String::from_utf8_lossy(text);
    if !text.contains("\\u0000") {
        return Ok(());
    }
    let value: serde_json::Value = serde_json::from_str(&text)?;
    match check::find_nul(&value) {
        Some(field) => bail!("{}: it holds a NUL byte", field.trim_start_matches('.')),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(text: &str) -> String {
        let error = understand(text.as_bytes(), Path::new("/")).expect_err(text);
        format!("{error:#}")
    }

    #[test]
    fn a_wrong_type_is_told_with_the_path_of_its_field() {
        let error = error_of(r#"{"process": {"user": {}, "cwd": "/", "args": ["sh", 7]}}"#);
        assert!(
            error.starts_with("process.args[1]: invalid type: integer `7`, expected a string"),
            "{error}"
        );
        let error = error_of(r#"{"linux": {"namespaces": [{"type": "net"}]}}"#);
        assert!(
            error.starts_with("linux.namespaces[0].type: unknown variant `net`, expected one of"),
            "{error}"
        );
        let error = error_of("7");
        assert!(error.starts_with("invalid type: integer `7`"), "{error}");
        let error = error_of("{} {}");
        assert!(error.starts_with("trailing characters"), "{error}");
    }

    #[test]
    fn a_nul_byte_is_found_where_the_kernel_would_see_it() {
        let config = |arg: &str, note: &str| {
            format!(
                r#"{{"ociVersion": "1.2.0", "root": {{"path": "usr"}}, "annotations": {{"a": "{note}"}},
                "process": {{"user": {{}}, "cwd": "/", "args": ["sh", "{arg}"]}}}}"#
            )
        };
        let (fine, nul) = ("a\\\\u0000", "a\\u0000");
        assert_eq!(
            error_of(&config(nul, fine)),
            "process.args[1]: it holds a NUL byte"
        );
        let text = config(fine, nul);
        understand(text.as_bytes(), Path::new("/"))
            .expect("an annotation is no string of the kernel's");
    }

    #[test]
    fn what_runc_and_podman_write_is_understood() {
        let text = br#"{"ociVersion": "1.0.2-dev", "unknown": {}, "hooks": {"prestart": null}, "hostname": "",
            "root": {"path": "usr"}, "mounts": null, "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/",
                "args": ["sh"], "env": ["PATH=/bin"], "consoleSize": {"height": 0, "width": 0}},
            "linux": {"namespaces": [{"type": "user", "path": "/proc/1/ns/user"}, {"type": "pid", "path": ""}],
                "uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}]}}"#;
        let (spec, rootfs) = understand(text, Path::new("/")).expect("a configuration");
        assert_eq!(spec.version(), "1.0.2-dev");
        assert_eq!(rootfs, Path::new("/usr"));
    }
}
