//! What a container may do.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};
use clap::Args;
use minidocker::state::{Device, HostConfig, Seccomp};
use oci_spec::runtime::Capability;

use super::boolean;

/// What a container may do.
#[derive(Debug, Args)]
#[command(next_help_heading = "Rights")]
pub(super) struct Security {
    /// Something more that its root may do: NET_ADMIN, or ALL
    #[arg(long, value_name = "CAPABILITY", value_parser = capability)]
    cap_add: Vec<String>,
    /// Something less
    #[arg(long, value_name = "CAPABILITY", value_parser = capability)]
    cap_drop: Vec<String>,
    /// no-new-privileges, seccomp=unconfined or seccomp=FILE; apparmor=unconfined and label=disable
    /// are as it is anyway
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Almost all that the host's root may do, with all its devices
    #[arg(long)]
    privileged: bool,
    /// A device of the host's
    #[arg(long, value_name = "HOST[:CONTAINER[:rwm]]")]
    device: Vec<Node>,
    /// One more group for its user
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Whose processes it sees: its own, those of host, or of container:NAME
    #[arg(long, value_name = "WHOSE", value_parser = pid)]
    pid: Option<String>,
    /// Whose shared memory it uses: private, shareable, none, host, or container:NAME
    #[arg(long, value_name = "WHOSE", value_parser = ipc)]
    ipc: Option<String>,
    /// Whose name it has: its own, or that of host
    #[arg(long, value_name = "WHOSE", value_parser = uts)]
    uts: Option<String>,
    /// A parameter of its kernel: net.ipv4.ip_forward=1
    #[arg(long, value_name = "NAME=VALUE", value_parser = sysctl)]
    sysctl: Vec<(String, String)>,
}

impl Security {
    /// Writes it down.
    ///
    /// # Errors
    /// A security option that makes no sense, or that there is not.
    pub(super) fn write(self, host: &mut HostConfig) -> Result<()> {
        for option in &self.security_opt {
            security_option(option, host)?;
        }
        host.cap_add = self.cap_add;
        host.cap_drop = self.cap_drop;
        host.privileged = self.privileged;
        host.devices = self.device.into_iter().map(|Node(device)| device).collect();
        host.group_add = self.group_add;
        host.pid_mode = self.pid.unwrap_or_default();
        host.ipc_mode = self.ipc.unwrap_or_default();
        host.uts_mode = self.uts.unwrap_or_default();
        host.sysctls = BTreeMap::from_iter(self.sysctl);
        Ok(())
    }
}

/// As the state has it: without its prefix.
fn capability(text: &str) -> Result<String> {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    let known = name == "ALL" || name.parse::<Capability>().is_ok();
    ensure!(known, "unknown capability: \"CAP_{name}\"");
    Ok(name.to_owned())
}

fn security_option(text: &str, host: &mut HostConfig) -> Result<()> {
    let parts = text.split_once('=').or_else(|| text.split_once(':'));
    match parts.unwrap_or((text, "")) {
        ("no-new-privileges", "") if parts.is_none() => host.no_new_privileges = true,
        ("no-new-privileges", value) => {
            host.no_new_privileges =
                boolean(value).with_context(|| format!("invalid --security-opt: {text:?}"))?;
        }
        ("seccomp", "unconfined") => host.seccomp = Seccomp::Unconfined,
        ("seccomp", "builtin") => host.seccomp = Seccomp::Default,
        ("seccomp", file) if !file.is_empty() => host.seccomp = profile(file)?,
        ("apparmor", "unconfined") | ("label", "disable") => host.lsm.push(text.to_owned()),
        // As with docker, on a machine without such a thing it is no error to ask for it.
        ("apparmor", profile) if !profile.is_empty() && !has_apparmor() => {
            host.lsm.push(text.to_owned());
        }
        ("label", label) if !label.is_empty() && !has_selinux() => {
            host.lsm.push(text.to_owned());
        }
        (name @ ("apparmor" | "label" | "systempaths" | "credentialspec"), _) => {
            bail!("--security-opt {name}: that is not to be had here")
        }
        _ => bail!("invalid --security-opt: {text:?}"),
    }
    Ok(())
}

fn has_apparmor() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|it| it.trim() == "Y")
}

/// Only a kernel with a policy shows it (selinux(8)).
fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/policy").exists()
}

fn profile(file: &str) -> Result<Seccomp> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("opening seccomp profile ({file}) failed"))?;
    serde_json::from_str::<serde_json::Value>(&text)
        .with_context(|| format!("compacting json for seccomp profile ({file}) failed"))?;
    Ok(Seccomp::Profile(text))
}

/// `--device`.
#[derive(Clone, Debug)]
struct Node(Device);

impl FromStr for Node {
    type Err = Error;

    fn from_str(text: &str) -> Result<Node> {
        let is_mode = |text: &str| {
            let each_once = |letter| text.matches(letter).count() <= 1;
            let letters = ['r', 'w', 'm'];
            !text.is_empty()
                && text.chars().all(|c| letters.contains(&c))
                && letters.iter().all(|c| each_once(*c))
        };
        let (host, inside, mode) = match text.split(':').collect::<Vec<_>>()[..] {
            [host] => (host, host, "rwm"),
            [host, mode] if is_mode(mode) => (host, host, mode),
            [host, inside] => (host, inside, "rwm"),
            [_, _, mode] if !is_mode(mode) => bail!("bad mode specified: {mode}"),
            [host, inside, mode] => (host, inside, mode),
            _ => bail!("invalid device specification: {text}"),
        };
        for path in [host, inside] {
            ensure!(path.starts_with('/'), "bad format for path: {path}");
        }
        Ok(Node(Device {
            path_on_host: host.to_owned(),
            path_in_container: inside.to_owned(),
            cgroup_permissions: mode.to_owned(),
        }))
    }
}

fn pid(text: &str) -> Result<String> {
    match text.split_once(':') {
        None if matches!(text, "" | "host") => Ok(text.to_owned()),
        None if text == "private" => Ok(String::new()),
        Some(("container", name)) if !name.is_empty() => Ok(text.to_owned()),
        _ => bail!("invalid PID mode"),
    }
}

fn ipc(text: &str) -> Result<String> {
    match text.split_once(':') {
        None if matches!(text, "" | "private" | "shareable" | "none" | "host") => {
            Ok(text.to_owned())
        }
        Some(("container", name)) if !name.is_empty() => Ok(text.to_owned()),
        _ => bail!("invalid IPC mode: {text}"),
    }
}

fn uts(text: &str) -> Result<String> {
    ensure!(matches!(text, "" | "host"), "invalid UTS mode");
    Ok(text.to_owned())
}

/// Those that are a container's own: of its network, its shared memory and its queues
/// (namespaces(7)). The others are the host's.
fn sysctl(text: &str) -> Result<(String, String)> {
    const OWN: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let known = text.split_once('=').filter(|(name, _)| {
        OWN.contains(name) || name.starts_with("net.") || name.starts_with("fs.mqueue.")
    });
    let (name, value) = known.with_context(|| format!("sysctl '{text}' is not allowed"))?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_has_its_prefix_or_not() {
        for text in ["NET_ADMIN", "cap_net_admin", "CAP_NET_ADMIN"] {
            assert_eq!(capability(text).unwrap(), "NET_ADMIN");
        }
        assert_eq!(capability("all").unwrap(), "ALL");
        assert_eq!(
            capability("fly").unwrap_err().to_string(),
            "unknown capability: \"CAP_FLY\""
        );
    }

    #[test]
    fn a_security_option_is_known_or_refused() {
        let read = |text: &str| {
            let mut host = HostConfig::default();
            security_option(text, &mut host).map(|()| host)
        };
        for (text, on) in [
            ("no-new-privileges", true),
            ("no-new-privileges=true", true),
            ("no-new-privileges:true", true),
            ("no-new-privileges=false", false),
        ] {
            assert_eq!(read(text).unwrap().no_new_privileges, on, "{text}");
        }
        assert_eq!(
            read("seccomp=unconfined").unwrap().seccomp,
            Seccomp::Unconfined
        );
        for text in ["apparmor=unconfined", "label=disable", "label:disable"] {
            assert_eq!(read(text).unwrap().lsm, [text]);
        }
        for (text, why) in [
            ("no-new-privileges=perhaps", "invalid --security-opt"),
            ("no-new-privileges=", "invalid --security-opt"),
            ("seccomp", "invalid --security-opt: \"seccomp\""),
            (
                "seccomp=/nonexistent",
                "opening seccomp profile (/nonexistent) failed",
            ),
            (
                "systempaths=unconfined",
                "systempaths: that is not to be had here",
            ),
            ("apparmor=", "apparmor: that is not to be had here"),
            ("what=1", "invalid --security-opt: \"what=1\""),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_device_has_two_places_and_a_mode() {
        let read = |text: &str| {
            let device = text.parse::<Node>()?.0;
            Ok::<_, Error>([
                device.path_on_host,
                device.path_in_container,
                device.cgroup_permissions,
            ])
        };
        assert_eq!(read("/dev/a").unwrap(), ["/dev/a", "/dev/a", "rwm"]);
        assert_eq!(read("/dev/a:r").unwrap(), ["/dev/a", "/dev/a", "r"]);
        assert_eq!(read("/dev/a:/dev/b").unwrap(), ["/dev/a", "/dev/b", "rwm"]);
        assert_eq!(
            read("/dev/a:/dev/b:rw").unwrap(),
            ["/dev/a", "/dev/b", "rw"]
        );
        for (text, why) in [
            ("", "bad format for path: "),
            ("dev", "bad format for path: dev"),
            ("/dev/a:b", "bad format for path: b"),
            ("/dev/a:/dev/b:rr", "bad mode specified: rr"),
            ("/dev/a:/dev/b:x", "bad mode specified: x"),
            ("/dev/a:/dev/b:r:w", "invalid device specification"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_parameter_of_the_host_s_kernel_is_refused() {
        assert!(sysctl("net.ipv4.ip_forward=1").is_ok());
        assert!(sysctl("fs.mqueue.msg_max=1").is_ok());
        for text in [
            "kernel.panic=1",
            "net.ipv4.ip_forward",
            "vm.swappiness=1",
            "",
        ] {
            let error = sysctl(text).unwrap_err().to_string();
            assert_eq!(error, format!("sysctl '{text}' is not allowed"));
        }
    }

    #[test]
    fn whose_namespace_it_is_has_few_answers() {
        assert_eq!(pid("container:x").unwrap(), "container:x");
        assert!(pid("container:").is_err() && pid("guest").is_err());
        assert!(ipc("shareable").is_ok() && ipc("x").is_err());
        assert!(uts("host").is_ok() && uts("private").is_err());
    }
}
