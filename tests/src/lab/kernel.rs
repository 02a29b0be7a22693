//! Debian's kernel for virtual machines, fetched once and kept unpacked.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::call::call;

/// The package that always depends on the newest kernel of this kind.
const NEWEST: &str = "linux-image-cloud-amd64";

/// What containers need of what the kernel has as modules.
const MODULES: [&str; 15] = [
    "overlay",
    "bridge",
    "veth",
    "tun",
    "nf_tables",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_ct",
    "nft_fib",
    "nft_fib_ipv4",
    "nft_fib_inet",
    "nf_nat",
    "nf_conntrack",
    "dummy",
];

/// A kernel on disk.
pub struct Kernel {
    /// The bootable image.
    pub image: PathBuf,
    /// lib/modules/VERSION
    modules: PathBuf,
}

impl Kernel {
    /// The kernel kept in `dir`, fetched first where there is none.
    pub fn ensure(dir: &Path) -> Result<Kernel> {
        let unpacked = dir.join("kernel");
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let lock = fs::File::create(dir.join("lock"))
            .with_context(|| format!("create a file to lock in {}", dir.display()))?;
        // Several machines may be about to boot: one of them fetches it.
        lock.lock().context("wait for the kernel")?;
        if !unpacked.is_dir() {
            fetch(dir, &unpacked)?;
        }
        let image = the_one_in(&unpacked.join("boot"), "vmlinuz-")?;
        let modules = the_one_in(&unpacked.join("lib/modules"), "")
            .or_else(|_| the_one_in(&unpacked.join("usr/lib/modules"), ""))?;
        Ok(Kernel { image, modules })
    }

    /// The modules that containers need, as name and content, each after those
    /// it depends on.
    pub fn modules(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = BTreeMap::new();
        collect(&self.modules.join("kernel"), &mut files)?;
        let mut ordered = Vec::new();
        for name in MODULES {
            add_with_needs(name, &files, &mut ordered)?;
        }
        Ok(ordered)
    }
}

/// Finds the files of all modules below `dir`, by the modules' names.
fn collect(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.split('.').next().unwrap_or_default().replace('-', "_");
            files.insert(name, path);
        }
    }
    Ok(())
}

fn add_with_needs(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    ordered: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    // One that has no file is built in.
    let Some(file) = files.get(name) else {
        return Ok(());
    };
    if ordered.iter().any(|(other, _)| other == name) {
        return Ok(());
    }
    let content = if file.extension().is_some_and(|kind| kind == "xz") {
        let out = Command::new("xz").arg("-dc").arg(file).output();
        let out = out.context("run xz (Debian: apt-get install xz-utils)")?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr);
            bail!("unpack {}: {}", file.display(), said.trim());
        }
        out.stdout
    } else {
        fs::read(file).with_context(|| format!("read {}", file.display()))?
    };
    for other in needs(&content) {
        add_with_needs(&other.replace('-', "_"), files, ordered)?;
    }
    ordered.push((name.to_owned(), content));
    Ok(())
}

/// What a module says of itself: `depends=a,b` between two zero bytes in its
/// section .modinfo. Debian writes modules.dep only where a kernel is installed.
fn needs(module: &[u8]) -> Vec<String> {
    let mark = b"\0depends=";
    let Some(at) = module.windows(mark.len()).position(|window| window == mark) else {
        return Vec::new();
    };
    let rest = &module[at + mark.len()..];
    let list = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    let list = String::from_utf8_lossy(list);
    list.split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn fetch(dir: &Path, unpacked: &Path) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!(
            "the virtual machine is for x86_64 so far, and this is {}",
            std::env::consts::ARCH
        );
    }
    let out = Command::new("apt-cache")
        .args(["depends", NEWEST])
        .output()
        .context(
            "run apt-cache: the virtual machine's kernel is Debian's, and this is not Debian; \
         in a Debian container `cargo lab vm` works",
        )?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let package = text
        .lines()
        .find_map(|line| {
            line.trim()
                .strip_prefix("Depends: ")?
                .strip_prefix("linux-image-")
        })
        .with_context(|| format!("apt knows no {NEWEST}: run `apt-get update` as root first"))?;
    let package = format!("linux-image-{package}");
    eprintln!("lab: fetching {package} into {}", dir.display());
    // apt's own user cannot write to this directory, and need not.
    let mut apt = Command::new("apt-get");
    apt.args(["-q", "-o", "APT::Sandbox::User=root", "download", &package])
        .current_dir(dir);
    call(&mut apt)?;
    let archive = the_one_in(dir, &format!("{package}_"))?;
    let part = dir.join("kernel.part");
    fs::remove_dir_all(&part).or_else(|e| if part.exists() { Err(e) } else { Ok(()) })?;
    call(Command::new("dpkg").arg("-x").arg(&archive).arg(&part))?;
    fs::rename(&part, unpacked).context("keep the unpacked kernel")?;
    fs::remove_file(&archive).context("remove the package")
}

fn the_one_in(dir: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    entries
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .with_context(|| format!("there is no {prefix}* in {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_names_what_it_needs() {
        assert_eq!(
            needs(b"ELF\0license=GPL\0depends=nf_nat,nf-tables\0name=x\0"),
            ["nf_nat", "nf-tables"]
        );
        assert!(needs(b"ELF\0license=GPL\0depends=\0name=x\0").is_empty());
        assert!(needs(b"").is_empty());
    }
}
