//! Kernel parameters of the container's own namespaces (`linux.sysctl`).
//!
//! `/proc/sys` shows each process the values of its own namespaces, where a
//! value has one; the others are the whole machine's and no container's to set.

use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use oci_spec::runtime::{Linux, LinuxNamespaceType};

use super::procfs;

/// The parameters of System V IPC under `kernel` (sysvipc(7)).
const IPC: [&str; 8] = [
    "msgmax",
    "msgmnb",
    "msgmni",
    "sem",
    "shmall",
    "shmmax",
    "shmmni",
    "shm_rmid_forced",
];

/// Parameters and their values, checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sysctls(Vec<Sysctl>);

#[derive(Debug, PartialEq, Eq)]
struct Sysctl {
    /// As the bundle has it.
    name: String,
    /// The file below `/proc`.
    file: String,
    value: String,
}

impl Sysctls {
    /// Checks the names: each must belong to a namespace, and that to the container.
    ///
    /// # Errors
    /// A parameter that is not the container's, by its name.
    pub(crate) fn plan(linux: &Linux) -> Result<Sysctls> {
        let mut sysctls = Vec::new();
        for (name, value) in linux.sysctl().iter().flatten() {
            let sysctl =
                Sysctl::plan(linux, name, value).with_context(|| format!("linux.sysctl.{name}"))?;
            sysctls.push(sysctl);
        }
        // The bundle's is an unordered map; errors should not depend on luck.
        sysctls.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(Sysctls(sysctls))
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes the values, from within the container's namespaces.
    ///
    /// # Errors
    /// A parameter or a value that the kernel does not take, by its name.
    pub(crate) fn write(&self, proc: BorrowedFd) -> Result<()> {
        for Sysctl { name, file, value } in &self.0 {
            tracing::info!(
                call = %format_args!("write /proc/{file}"),
                "the parameter is that of the container's own namespace"
            );
            procfs::write(proc, file, value).with_context(|| format!("linux.sysctl.{name}"))?;
        }
        Ok(())
    }
}

impl Sysctl {
    fn plan(linux: &Linux, name: &str, value: &str) -> Result<Sysctl> {
        let parts = parts(name)?;
        let words: Vec<&str> = parts.iter().map(String::as_str).collect();
        let namespace = match words.as_slice() {
            ["kernel", one] if IPC.contains(one) => LinuxNamespaceType::Ipc,
            ["fs", "mqueue", _] => LinuxNamespaceType::Ipc,
            ["net", _, ..] => LinuxNamespaceType::Network,
            ["kernel", "domainname"] => LinuxNamespaceType::Uts,
            ["kernel", "hostname"] => bail!("the container's name is set by the field hostname"),
            _ => bail!("it belongs to no namespace: it is the whole machine's"),
        };
        check_own(linux, namespace)?;
        Ok(Sysctl {
            name: name.to_owned(),
            file: format!("sys/{}", parts.join("/")),
            value: value.to_owned(),
        })
    }
}

/// The parts of a name. They are separated by `.` or by `/`, whichever comes
/// first, and the other one then stands for a dot within a part (sysctl.d(5)):
/// `net.ipv4.conf.eth0/100.forwarding` is `net/ipv4/conf/eth0.100/forwarding`.
fn parts(name: &str) -> Result<Vec<String>> {
    let separator = name.find(['.', '/']).map_or(b'.', |at| name.as_bytes()[at]);
    let parts = name.split(char::from(separator));
    let parts: Vec<String> = parts.map(|part| part.replace('/', ".")).collect();
    let wrong = |part: &String| matches!(part.as_str(), "" | "." | "..") || part.contains('\0');
    ensure!(
        !parts.iter().any(wrong),
        "it is not the name of a kernel parameter"
    );
    Ok(parts)
}

/// The container must not share the namespace with the runtime.
fn check_own(linux: &Linux, kind: LinuxNamespaceType) -> Result<()> {
    let (word, file) = match kind {
        LinuxNamespaceType::Network => ("network", "net"),
        LinuxNamespaceType::Uts => ("uts", "uts"),
        _ => ("ipc", "ipc"),
    };
    let mut namespaces = linux.namespaces().iter().flatten();
    let Some(namespace) = namespaces.find(|namespace| namespace.typ() == kind) else {
        bail!("the container has no {word} namespace of its own (linux.namespaces)");
    };
    let Some(path) = namespace.path() else {
        return Ok(());
    };
    let identity = |path: &Path| {
        let found = path
            .metadata()
            .with_context(|| format!("look at {}", path.display()))?;
        anyhow::Ok((found.dev(), found.ino()))
    };
    ensure!(
        identity(path)? != identity(&Path::new("/proc/self/ns").join(file))?,
        "the container joins the {word} namespace of the host (linux.namespaces)"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(namespaces: &str, name: &str) -> Result<String> {
        let json = format!(r#"{{"namespaces":[{namespaces}],"sysctl":{{{name:?}:"1"}}}}"#);
        let linux: Linux = serde_json::from_str(&json).unwrap();
        let Sysctls(mut all) = Sysctls::plan(&linux)?;
        Ok(all.remove(0).file)
    }

    fn refusal(namespaces: &str, name: &str) -> String {
        format!("{:#}", plan(namespaces, name).unwrap_err())
    }

    #[test]
    fn parameters_of_own_namespaces_are_taken() {
        let net = r#"{"type":"network"}"#;
        let file = plan(net, "net.ipv4.ip_forward").unwrap();
        assert_eq!(file, "sys/net/ipv4/ip_forward");
        let ipc = r#"{"type":"ipc"}"#;
        assert_eq!(plan(ipc, "kernel.shmmax").unwrap(), "sys/kernel/shmmax");
        let file = plan(ipc, "fs.mqueue.msg_max").unwrap();
        assert_eq!(file, "sys/fs/mqueue/msg_max");
        let file = plan(r#"{"type":"uts"}"#, "kernel.domainname").unwrap();
        assert_eq!(file, "sys/kernel/domainname");
    }

    #[test]
    fn the_first_separator_decides_and_the_other_one_is_a_dot() {
        let net = r#"{"type":"network"}"#;
        let file = "sys/net/ipv4/conf/eth0.100/forwarding";
        let dots = plan(net, "net.ipv4.conf.eth0/100.forwarding").unwrap();
        assert_eq!(dots, file);
        let slashes = plan(net, "net/ipv4/conf/eth0.100/forwarding").unwrap();
        assert_eq!(slashes, file);
    }

    #[test]
    fn a_parameter_of_the_machine_is_refused() {
        let all = r#"{"type":"ipc"},{"type":"network"},{"type":"uts"}"#;
        for name in [
            "kernel.panic",
            "vm.swappiness",
            "kernel.core_pattern",
            "fs.file-max",
        ] {
            let error = refusal(all, name);
            assert!(
                error.starts_with(&format!("linux.sysctl.{name}: ")),
                "{error}"
            );
        }
        assert!(refusal(all, "kernel.hostname").contains("field hostname"));
    }

    #[test]
    fn a_name_that_leaves_its_directory_is_refused() {
        let net = r#"{"type":"network"}"#;
        for name in [
            "net/../kernel/panic",
            "net.//.kernel",
            "net..x",
            "net",
            "net.",
            "",
            "/net",
        ] {
            refusal(net, name);
        }
    }

    #[test]
    fn the_namespace_must_be_the_containers_own() {
        assert!(refusal(r#"{"type":"ipc"}"#, "net.core.somaxconn").contains("network namespace"));
        let hosts = r#"{"type":"network","path":"/proc/self/ns/net"}"#;
        assert!(refusal(hosts, "net.core.somaxconn").contains("of the host"));
    }
}
