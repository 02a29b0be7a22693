//! Loading an image: a Debian system as `docker save` would have written it, against podman.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use harness::bench::Goal;
use harness::quantile;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::spread;

/// The name of the busybox image that step 5 runs.
pub const BUSYBOX: &str = "bench-busybox:latest";

/// Pairs of `step05 load` and `podman load`, each into an empty store in memory: disks differ, and
/// some are slow to reuse what was freed a moment ago.
pub fn compare(scratch: &Path, archive: &Path, step05: &Path) -> Result<()> {
    let stores = scratch.join("stores");
    fs::create_dir_all(&stores)?;
    let (mut mine, mut other) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        mine.extend(with_memory_on(Path::new(STORE), || {
            time(Command::new(step05).arg("load").arg(archive))
        })?);
        other.extend(with_memory_on(&stores, || {
            time(&mut podman_load(archive, &stores.join("podman")))
        })?);
        if mine.len() != other.len() {
            println!("!! without its rival nothing can be paired");
            break;
        }
    }
    let size = fs::metadata(archive)?.len() >> 20;
    println!("\nload of a docker-archive of {size} MiB, 5 pairs, seconds; p10 and p90 in brackets");
    for (name, series) in [("step05 load", &mine), ("podman load", &other)] {
        let (median, rest) = spread(series);
        println!("{name:<14} {median:>9} {rest}");
    }
    let ratios: Vec<f64> = mine
        .iter()
        .zip(&other)
        .map(|(mine, other)| mine / other)
        .collect();
    let ratio = quantile(&ratios, 0.5);
    Goal::new("step05 / podman", ratio, 0.5).tell();
    Ok(())
}

/// Seconds; nothing, and a word about it, where the command fails or is missing.
fn time(command: &mut Command) -> Option<f64> {
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output();
    let elapsed = start.elapsed().as_secs_f64();
    match output {
        Ok(output) if output.status.success() && !output.stdout.is_empty() => return Some(elapsed),
        Ok(output) => println!(
            "!! {command:?}: {} {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ),
        Err(error) => println!("!! {command:?}: {error}"),
    }
    None
}

/// Where step 5 keeps its store.
const STORE: &str = "/var/lib/minidocker";

/// Mounts an empty tmpfs on `place` while something is measured.
fn with_memory_on<T>(place: &Path, measure: impl FnOnce() -> T) -> Result<T> {
    fs::create_dir_all(place)?;
    let (tmpfs, none) = (Some("tmpfs"), None::<&str>);
    mount(tmpfs, place, tmpfs, MsFlags::empty(), none).context("mount an empty store")?;
    let measured = measure();
    umount2(place, MntFlags::MNT_DETACH).context("unmount the store")?;
    Ok(measured)
}

fn podman_load(archive: &Path, store: &Path) -> Command {
    let mut podman = Command::new("podman");
    podman.arg("--root").arg(store);
    podman.args(["--runroot=/run/podman-bench", "--storage-driver=overlay"]);
    podman.args(["load", "--quiet", "--input"]).arg(archive);
    podman
}

/// A Debian system, by the tools that make real images.
const DEBIAN: &str = "set -e; . /etc/os-release
mmdebstrap --quiet --variant=minbase --include=perl,python3 \"$VERSION_CODENAME\" root.tar
umoci init --layout oci; umoci new --image oci:bench; umoci raw add-layer --image oci:bench root.tar
skopeo --insecure-policy copy --quiet oci:oci:bench docker-archive:part.tar:bench-debian:latest
mv part.tar debian.tar";

/// In its place, 6,400 files that gzip would not get small.
const GENERATED: &str = "set -e; mkdir -p generated; cd generated
head -c 200M /dev/urandom | split -a 4 -b 32k";

/// $1 as an image of one layer called $2, in the form of `docker save`, in the file $3.
const SAVE: &str = r#"set -e; rm -rf save; mkdir save; tar -C "$1" -cf save/layer.tar .; cd save
printf '{"architecture":"%s","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["/bin/sh"]},
"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$(uname -m | sed 's/x86_64/amd64/;s/aarch64/arm64/')" \
"$(sha256sum layer.tar | cut -c-64)" > config
config=$(sha256sum config | cut -c-64).json; mv config "$config"
printf '[{"Config":"%s","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$config" "$2" > manifest.json
tar -cf "$3" manifest.json "$config" layer.tar; cd ..; rm -rf save"#;

/// Made once, and kept in the target directory.
pub fn debian_archive(scratch: &Path) -> Result<PathBuf> {
    let archive = scratch.join("debian.tar");
    if !archive.exists() {
        println!("making {} (once)", archive.display());
        if let Err(error) = shell(scratch, DEBIAN, &[]) {
            println!("!! no Debian image, but generated files: {error:#}");
            shell(scratch, GENERATED, &[])?;
            shell(
                scratch,
                SAVE,
                &["generated", "bench-debian:latest", "../debian.tar"],
            )?;
        }
        shell(scratch, "rm -rf oci root.tar part.tar generated", &[])?;
    }
    Ok(archive)
}

/// The directory `root` in `scratch` as an image that step 5 can load.
pub fn busybox_archive(scratch: &Path) -> Result<PathBuf> {
    shell(scratch, SAVE, &["root", BUSYBOX, "../busybox.tar"])?;
    Ok(scratch.join("busybox.tar"))
}

fn shell(directory: &Path, script: &str, args: &[&str]) -> Result<()> {
    let mut sh = Command::new("sh");
    sh.args(["-c", script, "sh"])
        .args(args)
        .current_dir(directory)
        .env("TMPDIR", directory);
    let output = sh.output().context("run sh")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{}: {}",
        output.status,
        said.trim()
    );
    Ok(())
}
