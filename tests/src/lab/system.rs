//! The virtual machine's files: the workspace's programs, the tools that the
//! suites call, each with its libraries, and the first program.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::archive::Archive;
use crate::kernel::Kernel;

/// Programs of this machine that the suites run in the virtual one.
const TOOLS: [&str; 72] = [
    "awk",
    "bash",
    "basename",
    "busybox",
    "cat",
    "chmod",
    "chown",
    "cmp",
    "cp",
    "curl",
    "cut",
    "date",
    "dd",
    "dirname",
    "du",
    "echo",
    "env",
    "expr",
    "false",
    "find",
    "getcap",
    "grep",
    "head",
    "hostname",
    "id",
    "ip",
    "kill",
    "ln",
    "ls",
    "mkdir",
    "mknod",
    "mktemp",
    "mount",
    "mountpoint",
    "mv",
    "newgidmap",
    "newuidmap",
    "nft",
    "nsenter",
    "pasta",
    "ping",
    "printf",
    "ps",
    "pwd",
    "readlink",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "setpriv",
    "setsid",
    "sh",
    "sleep",
    "slirp4netns",
    "sort",
    "ss",
    "stat",
    "strace",
    "stty",
    "sync",
    "tail",
    "tar",
    "tee",
    "test",
    "timeout",
    "touch",
    "tr",
    "true",
    "tty",
    "umount",
    "uniq",
    "unshare",
];

/// A few more, of which busybox's are good enough.
const LINKS: [&str; 29] = [
    "chroot",
    "clear",
    "dmesg",
    "free",
    "hexdump",
    "httpd",
    "ifconfig",
    "insmod",
    "less",
    "lsmod",
    "md5sum",
    "more",
    "nc",
    "nproc",
    "od",
    "pgrep",
    "reboot",
    "renice",
    "route",
    "sha256sum",
    "sysctl",
    "top",
    "uname",
    "uptime",
    "usleep",
    "vi",
    "wc",
    "wget",
    "which",
];

/// Where the workspace's programs are in the virtual machine.
const PROGRAMS: &str = "/workspace";

/// What runs first. `pivot_root` refuses to leave the root that the kernel
/// unpacked, for it is mounted on nothing (pivot_root(2)); a bind mount of it,
/// moved on top, is a root like any other.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -o bind / /mnt
cd /mnt
/bin/busybox mount -o move . /
exec /bin/busybox chroot . /etc/second
";

/// What runs then, on a root that can be left.
const SECOND: &str = r#"#!/bin/busybox sh
export PATH=/workspace:/usr/sbin:/usr/bin HOME=/root TERM=${TERM:-linux}
export MINIDOCKER_VM=1 RUST_BACKTRACE=0 LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=755 tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
while read module; do insmod $module || echo "insmod $module failed" >&2; done </etc/modules
hostname vm
ip link set lo up
cd /root
. /etc/command
echo $status >/dev/ttyS1
sync
reboot -f
"#;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n";

/// Every program of the workspace.
pub const OWN: &[&str] = &[
    "step01",
    "step02",
    "step03",
    "step04",
    "step05",
    "minirunc",
    "minidocker",
    "machine",
    "lab",
];

/// What a machine gets beside its tools.
#[derive(Default)]
pub struct Freight {
    /// The workspace's programs, by name.
    pub own: &'static [&'static str],
    /// The suites' executables.
    pub suites: Vec<PathBuf>,
    /// Programs, each with its libraries, at paths that only root can reach.
    pub private: Vec<(PathBuf, PathBuf)>,
    /// Programs, each with its libraries, where they are here.
    pub programs: Vec<PathBuf>,
    /// Directories with all that is in them, where they are here.
    pub directories: Vec<PathBuf>,
}

/// Writes the archive of everything, and of `command`, to `path`.
pub fn write(path: &Path, kernel: &Kernel, freight: &Freight, command: &str) -> Result<()> {
    let out = fs::File::create(path).with_context(|| format!("create {}", path.display()))?;
    let mut system = System {
        archive: Archive::new(std::io::BufWriter::new(out)),
        stripped: path.with_file_name("stripped"),
    };
    system.skeleton(command)?;
    for name in TOOLS {
        // One that is not here is missed by the test that needs it.
        if let Some(tool) = find(name) {
            system.program(&tool, &merged(&tool))?;
        }
    }
    for name in LINKS {
        let link = Path::new("/usr/bin").join(name);
        system.archive.link(&link, Path::new("busybox"))?;
    }
    system.own(freight.own)?;
    for suite in &freight.suites {
        let to = Path::new(PROGRAMS).join("suites").join(suite_name(suite));
        let slim = system.strip(suite)?;
        system.program(&slim, &to)?;
    }
    for (from, to) in &freight.private {
        let parent = to.parent().context("a program lies in a directory")?;
        system.archive.directory(parent, 0o700)?;
        // Only the lab's own: copies without debugging information are kept by
        // their name, which others may have as well.
        if [Some("lab"), Some("machine")].contains(&to.file_name().and_then(|name| name.to_str())) {
            system.program(&system.strip(from)?, to)?;
        } else {
            system.program(from, to)?;
        }
    }
    for program in &freight.programs {
        system.program(program, &merged(program))?;
    }
    for directory in &freight.directories {
        system.directory(directory)?;
    }
    system.modules(kernel)?;
    system
        .archive
        .finish()
        .with_context(|| format!("write {}", path.display()))?;
    Ok(())
}

struct System<W: Write> {
    archive: Archive<W>,
    /// Where programs without their debugging information are kept.
    stripped: PathBuf,
}

impl<W: Write> System<W> {
    fn skeleton(&mut self, command: &str) -> Result<()> {
        for name in ["bin", "sbin", "lib", "lib64"] {
            let target = Path::new("usr").join(name);
            self.archive.link(&Path::new("/").join(name), &target)?;
        }
        for dir in [
            "/dev", "/proc", "/sys", "/run", "/tmp", "/mnt", "/home", "/root", "/srv", "/opt",
            "/var/lib", "/var/tmp",
        ] {
            self.archive.directory(Path::new(dir), 0o755)?;
        }
        // Where the kernel opens the first program's standard streams.
        self.archive
            .character_device(Path::new("/dev/console"), 5, 1)?;
        for (path, permissions, text) in [
            ("/init", 0o755, INIT),
            ("/etc/second", 0o755, SECOND),
            ("/etc/command", 0o644, command),
            ("/etc/passwd", 0o644, PASSWD),
            ("/etc/group", 0o644, GROUP),
            // Read by a login shell alone: the shell of a container in the machine has its own.
            ("/etc/profile", 0o644, "PS1='vm# '\n"),
            ("/etc/subuid", 0o644, ""),
            ("/etc/subgid", 0o644, ""),
            ("/etc/hosts", 0o644, "127.0.0.1 localhost\n"),
            ("/etc/resolv.conf", 0o644, ""),
        ] {
            self.archive
                .file(Path::new(path), permissions, text.as_bytes())?;
        }
        Ok(())
    }

    fn own(&mut self, names: &[&str]) -> Result<()> {
        let build = crate::build_dir()?;
        for name in names {
            let from = match std::env::var_os(name.to_uppercase()) {
                Some(other) if !["machine", "lab"].contains(name) => PathBuf::from(other),
                _ => build.join(name),
            };
            let slim = self.strip(&from)?;
            self.program(&slim, &Path::new(PROGRAMS).join(name))?;
        }
        Ok(())
    }

    /// A directory as it is, links as links.
    fn directory(&mut self, dir: &Path) -> Result<()> {
        for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                self.directory(&path)?;
            } else if kind.is_symlink() {
                self.archive.link(&merged(&path), &fs::read_link(&path)?)?;
            } else if kind.is_file() {
                self.copy(&path, &merged(&path))?;
            }
        }
        Ok(())
    }

    /// A copy without debugging information, nine tenths of a debug build; the
    /// program itself where there is no strip(1).
    fn strip(&self, program: &Path) -> Result<PathBuf> {
        let name = program.file_name().context("a program has a name")?;
        let slim = self.stripped.join(name);
        let age = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified());
        let made = age(program).with_context(|| {
            format!(
                "look at {} (cargo build --workspace makes it)",
                program.display()
            )
        })?;
        if age(&slim).is_ok_and(|then| then > made) {
            return Ok(slim);
        }
        fs::create_dir_all(&self.stripped)?;
        // Another machine may be about to boot with it: it is there when it is whole.
        let part = slim.with_extension(std::process::id().to_string());
        let status = Command::new("strip")
            .arg("-o")
            .arg(&part)
            .arg(program)
            .status();
        if status.is_ok_and(|status| status.success()) {
            fs::rename(&part, &slim).with_context(|| format!("keep {}", slim.display()))?;
            return Ok(slim);
        }
        Ok(program.to_owned())
    }

    /// Adds a program at `to`, with its interpreter and libraries.
    fn program(&mut self, from: &Path, to: &Path) -> Result<()> {
        self.copy(from, to)?;
        let out = Command::new("ldd").arg(from).output().context("run ldd")?;
        for word in String::from_utf8_lossy(&out.stdout).split_whitespace() {
            let library = Path::new(word);
            if library.is_absolute() && library.is_file() {
                self.copy(library, &merged(library))?;
            }
        }
        Ok(())
    }

    fn copy(&mut self, from: &Path, to: &Path) -> Result<()> {
        if self.archive.has(to) {
            return Ok(());
        }
        let content = fs::read(from).with_context(|| format!("read {}", from.display()))?;
        let permissions = fs::metadata(from)?.permissions().mode() & 0o7777;
        self.archive.file(to, permissions, &content)?;
        Ok(())
    }

    fn modules(&mut self, kernel: &Kernel) -> Result<()> {
        let mut list = String::new();
        for (name, content) in kernel.modules()? {
            let path = format!("/usr/lib/modules/{name}.ko");
            self.archive.file(Path::new(&path), 0o644, &content)?;
            list += &format!("{path}\n");
        }
        self.archive
            .file(Path::new("/etc/modules"), 0o644, list.as_bytes())?;
        Ok(())
    }
}

/// `step03` of `step03-0123456789abcdef`.
pub fn suite_name(suite: &Path) -> String {
    let name = suite
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    name.rsplit_once('-')
        .map_or(name.clone(), |(name, _)| name.to_owned())
}

/// The same place in a system where /bin is a link to /usr/bin.
fn merged(path: &Path) -> PathBuf {
    if path.starts_with("/usr") {
        return path.to_owned();
    }
    Path::new("/usr").join(path.strip_prefix("/").unwrap_or(path))
}

/// Where this machine has a program.
pub fn find(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.is_file())
}
