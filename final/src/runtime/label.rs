//! What the host's security modules call a container's process: an AppArmor
//! profile (`process.apparmorProfile`) or an SELinux context
//! (`process.selinuxLabel`), in force from execve(2) on.

use std::os::fd::BorrowedFd;

use anyhow::{Context as _, Result, ensure};
use oci_spec::runtime::Process;

use super::procfs;

/// The labels of a process.
#[derive(Debug)]
pub(crate) struct Label {
    apparmor: Option<String>,
    selinux: Option<String>,
}

impl Label {
    /// Takes the labels that a bundle asks for.
    ///
    /// # Errors
    /// A label of a module that this host does not have, by the field's name.
    pub(crate) fn plan(process: &Process) -> Result<Label> {
        let apparmor = given(process.apparmor_profile());
        // Without the module every process is unconfined already.
        let apparmor = apparmor.filter(|profile| profile != "unconfined" || has_apparmor());
        if let Some(profile) = &apparmor {
            check("process.apparmorProfile", profile)?;
            ensure!(
                has_apparmor(),
                "process.apparmorProfile: {profile} asks for AppArmor, which is not enabled here"
            );
        }
        let selinux = given(process.selinux_label());
        if let Some(label) = &selinux {
            check("process.selinuxLabel", label)?;
            ensure!(
                has_selinux(),
                "process.selinuxLabel: {label} asks for SELinux, which is not enabled here"
            );
        }
        Ok(Label { apparmor, selinux })
    }

    /// Has the next execve(2) of this process change to the labels.
    ///
    /// # Errors
    /// A profile that is not loaded, a context that the policy does not know.
    pub(crate) fn write(&self, proc: BorrowedFd) -> Result<()> {
        if let Some(profile) = &self.apparmor {
            tracing::info!(
                call = "write /proc/self/attr/apparmor/exec",
                "AppArmor confines the container's program, not the runtime"
            );
            let value = format!("exec {profile}");
            procfs::write(proc, "self/attr/apparmor/exec", &value)
                .with_context(|| format!("process.apparmorProfile: change to {profile}"))?;
        }
        if let Some(label) = &self.selinux {
            tracing::info!(
                call = "write /proc/self/attr/exec",
                "SELinux confines the container's program, not the runtime"
            );
            procfs::write(proc, "self/attr/exec", label)
                .with_context(|| format!("process.selinuxLabel: change to {label}"))?;
        }
        Ok(())
    }
}

/// The mount option that gives every file of a mount one SELinux context
/// (`linux.mountLabel`).
///
/// # Errors
/// A label where the host has no SELinux.
pub(super) fn mount_label_data(label: &str) -> Result<String> {
    check("linux.mountLabel", label)?;
    ensure!(
        has_selinux(),
        "linux.mountLabel: {label} asks for SELinux, which is not enabled here"
    );
    // Quoted, as the categories of a context are separated by commas.
    Ok(format!("context=\"{label}\""))
}

/// Engines write an empty string where they ask for nothing.
fn given(field: &Option<String>) -> Option<String> {
    field.clone().filter(|label| !label.is_empty())
}

fn check(field: &str, label: &str) -> Result<()> {
    ensure!(
        !label.chars().any(|c| c.is_control() || c == '"'),
        "{field}: {label:?} is not a label"
    );
    Ok(())
}

/// Whether the kernel has AppArmor and runs it.
fn has_apparmor() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|enabled| enabled.starts_with(b"Y"))
}

/// Whether the kernel runs SELinux: its file system is there only then
/// (security/selinux/selinuxfs.c).
fn has_selinux() -> bool {
    const SELINUX_MAGIC: u32 = 0xf97c_ff8c;
    rustix::fs::statfs("/sys/fs/selinux").is_ok_and(|found| found.f_type as u32 == SELINUX_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(json: &str) -> Process {
        let json = format!(r#"{{"user":{{"uid":0,"gid":0}},"cwd":"/",{json}}}"#);
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn empty_labels_ask_for_nothing() {
        let label = Label::plan(&process(r#""apparmorProfile":"","selinuxLabel":"""#)).unwrap();
        assert!(label.apparmor.is_none() && label.selinux.is_none());
    }

    #[test]
    fn a_label_of_a_missing_module_is_refused_by_its_field() {
        if !has_apparmor() {
            let error = Label::plan(&process(r#""apparmorProfile":"docker-default""#));
            let error = error.unwrap_err().to_string();
            assert!(
                error.starts_with("process.apparmorProfile: docker-default"),
                "{error}"
            );
            Label::plan(&process(r#""apparmorProfile":"unconfined""#)).unwrap();
        }
        if !has_selinux() {
            let error = Label::plan(&process(r#""selinuxLabel":"a:b:c""#)).unwrap_err();
            assert!(error.to_string().starts_with("process.selinuxLabel: a:b:c"));
            let error = mount_label_data("a:b:c").unwrap_err().to_string();
            assert!(error.starts_with("linux.mountLabel: a:b:c"));
        }
    }

    #[test]
    fn a_label_of_several_lines_is_refused() {
        let error = Label::plan(&process(r#""apparmorProfile":"a\nb""#)).unwrap_err();
        assert!(error.to_string().contains("is not a label"));
    }
}
