//! What kind of machine this is.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use super::finding::{Finding, Fix, Grade};

const AREA: &str = "Machine";
/// Whose finding is changed when all is known.
const SURROUNDINGS: &str = "surroundings";
/// What cgroup.kill came with, the youngest of the kernel's features that are needed.
const OLDEST: (u32, u32) = (5, 14);
/// The machine's first namespaces have numbers that never change (PROC_*_INIT_INO in
/// linux/proc_ns.h).
const FIRST: [(&str, u64); 3] = [
    ("pid", 0xEFFF_FFFC),
    ("uts", 0xEFFF_FFFE),
    ("ipc", 0xEFFF_FFFF),
];

pub fn examine() -> Vec<Finding> {
    vec![kernel(), processor(), rust(), surroundings()]
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let found = |seen: String| Finding::ok(AREA, "kernel", seen);
    // WSL 1 translates system calls; it calls itself 4.4.0-19041-Microsoft. WSL 2 is a virtual
    // machine with a kernel of its own, 5.15.90.1-microsoft-standard-WSL2.
    if release.ends_with("-Microsoft") {
        let fix = "in PowerShell: wsl --set-version NAME 2, with the NAME that wsl --list shows";
        return found(format!(
            "WSL 1 ({release}) has no Linux kernel, and no namespaces"
        ))
        .fails(1, Some(Fix::Do(fix.to_owned())));
    }
    let wsl = if is_wsl2() { " (WSL 2)" } else { "" };
    let (major, minor) = OLDEST;
    match version(release) {
        Some(version) if version >= OLDEST => found(format!("Linux {release}{wsl}")),
        Some(_) => found(format!(
            "Linux {release}{wsl} is older than {major}.{minor}"
        ))
        .fails(
            1,
            Some(Fix::Do(
                "boot a newer kernel of your distribution, or try the steps in a virtual machine: \
                 cargo lab vm"
                    .to_owned(),
            )),
        ),
        None => found(format!(
            "{release:?} in /proc/sys/kernel/osrelease is no version"
        ))
        .fails(
            1,
            Some(Fix::Do("mount a proc file system on /proc".to_owned())),
        ),
    }
}

pub fn is_wsl2() -> bool {
    fs::read_to_string("/proc/sys/kernel/osrelease").is_ok_and(|text| text.contains("microsoft"))
}

/// The first two numbers of `6.1.0-28-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn processor() -> Finding {
    match env::consts::ARCH {
        "x86_64" => Finding::ok(AREA, "processor", "x86_64"),
        other => Finding::ok(
            AREA,
            "processor",
            format!("{other}: the steps are tested on x86_64"),
        )
        .note(
            None,
            Some(Fix::Do(
                "the steps should run; cargo lab vm does not, it emulates x86_64".to_owned(),
            )),
        ),
    }
}

fn rust() -> Finding {
    let wanted = env!("CARGO_PKG_RUST_VERSION");
    let said = Command::new("rustc")
        .arg("--version")
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let fix = Fix::Do(format!(
        "install Rust {wanted} or newer, with rustup for example"
    ));
    let building = Some("building the steps");
    match said {
        None => Finding::ok(AREA, "rust", "there is no rustc in PATH").note(building, Some(fix)),
        Some(said) => {
            let words: Vec<&str> = said.split(' ').take(2).collect();
            let old = version(words.last().unwrap_or(&"")) < version(wanted);
            let finding = Finding::ok(AREA, "rust", words.join(" "));
            if old {
                finding.note(building, Some(fix))
            } else {
                finding
            }
        }
    }
}

fn surroundings() -> Finding {
    let seen = if env::var_os("MINIDOCKER_VM").is_some() {
        "the virtual machine of cargo lab vm".to_owned()
    } else if let Some(kind) = container() {
        format!("inside a container ({kind})")
    } else {
        "not inside a container".to_owned()
    };
    Finding::ok(AREA, SURROUNDINGS, seen)
}

/// What kind of container this is in, by the marks that engines leave. The marks alone prove
/// nothing: a machine may have been booted from a docker image.
fn container() -> Option<String> {
    let others: Vec<&str> = FIRST
        .into_iter()
        .filter(|(kind, first)| {
            fs::metadata(format!("/proc/self/ns/{kind}")).is_ok_and(|own| own.ino() != *first)
        })
        .map(|(kind, _)| kind)
        .collect();
    if others.is_empty() {
        return None;
    }
    let told = |text: String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    // systemd-nspawn, lxc and others (systemd's CONTAINER_INTERFACE).
    let noted = fs::read_to_string("/run/systemd/container")
        .ok()
        .and_then(told);
    let marks = [("/run/.containerenv", "podman"), ("/.dockerenv", "docker")];
    let marked = marks.into_iter().find(|(mark, _)| Path::new(mark).exists());
    noted
        .or_else(|| marked.map(|(mark, kind)| format!("{kind}, as {mark} says")))
        .or_else(|| env::var("container").ok().and_then(told))
        .or_else(|| {
            Some(format!(
                "its {} are not the machine's first",
                others.join(", ")
            ))
        })
}

/// Where something is missing inside a container for no other known reason, that is the likeliest.
pub fn blame_the_container(findings: &mut [Finding]) {
    let lacking = |finding: &Finding| match finding.grade {
        Grade::Ok => false,
        Grade::Note => finding.fix.is_none(),
        Grade::Fails => finding.area != AREA,
    };
    let lacks: Vec<&str> = findings
        .iter()
        .filter(|finding| lacking(finding))
        .map(|finding| finding.name)
        .collect();
    let lacks = lacks.join(", ");
    let around = findings
        .iter_mut()
        .find(|finding| finding.name == SURROUNDINGS);
    let Some(finding) = around.filter(|finding| finding.seen.starts_with("inside")) else {
        return;
    };
    if !lacks.is_empty() {
        finding.seen += &format!(", which may be why this is not all there: {lacks}");
        finding.grade = Grade::Note;
        finding.fix = Some(Fix::Do(
            "start the container with more rights (docker, podman: --privileged; systemd-nspawn: \
             --capability=all; LXC: security.nesting), or leave it"
                .to_owned(),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn a_kernels_release_begins_with_its_version() {
        assert_eq!(version("6.1.0-28-amd64"), Some((6, 1)));
        assert_eq!(version("5.15.90.1-microsoft-standard-WSL2"), Some((5, 15)));
        assert_eq!(version("1.89"), Some((1, 89)));
        assert_eq!(version("unknown"), None);
    }
}
