use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxNamespaceType, LinuxSeccompAction, LinuxSyscall, Mount,
    Process,
};

use super::*;
use crate::shim::protocol::Exec;
use crate::state::{Config, Device, HostConfig, Life, Seccomp, Ulimit, Volume};

/// A container, a place for its state, and a root file system; all go with it.
struct Case {
    container: Container,
    dirs: Dirs,
    base: PathBuf,
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.base);
    }
}

fn case(name: &str) -> Case {
    let base = std::env::temp_dir().join(format!("minidocker-spec-{}-{name}", std::process::id()));
    let root = base.join("root/etc");
    fs::create_dir_all(&root).unwrap();
    fs::write(
        root.join("passwd"),
        "root:x:0:0::/root:/bin/sh\nwww:x:33:33::/var/www:/bin/sh\n",
    )
    .unwrap();
    fs::write(
        root.join("group"),
        "root:x:0:\nwww:x:33:\nadm:x:4:www\nvideo:x:44:\n",
    )
    .unwrap();
    let dirs = Dirs {
        data: base.join("data"),
        run: base.join("run"),
    };
    let container = Container {
        version: 1,
        id: "ab".repeat(32),
        name: "box".to_owned(),
        created: Timestamp::UNIX_EPOCH,
        image: "sha256:0".to_owned(),
        config: Config {
            cmd: vec!["true".to_owned()],
            ..Config::default()
        },
        host: HostConfig::default(),
        mounts: Vec::new(),
        life: Life::default(),
    };
    let places = Places::of(&dirs, &container.id);
    fs::create_dir_all(places.data).unwrap();
    Case {
        container,
        dirs,
        base,
    }
}

impl Case {
    fn places(&self) -> Places {
        Places::of(&self.dirs, &self.container.id)
    }

    fn root(&self) -> File {
        File::open(self.base.join("root")).unwrap()
    }

    fn try_spec(&self) -> Result<Spec> {
        of(
            &self.container,
            &self.places(),
            &self.dirs,
            self.root().as_fd(),
        )
    }

    fn spec(&self) -> Spec {
        self.try_spec().unwrap()
    }

    fn process(&self) -> Process {
        self.spec().process().clone().unwrap()
    }

    fn env(&self) -> Vec<String> {
        self.process().env().clone().unwrap()
    }

    fn refusal(&self) -> String {
        format!("{:#}", self.try_spec().unwrap_err())
    }
}

fn bounding(process: &Process) -> Capabilities {
    let sets = process.capabilities().as_ref().unwrap();
    assert_eq!(sets.bounding(), sets.effective());
    assert_eq!(sets.bounding(), sets.permitted());
    assert_eq!((sets.inheritable(), sets.ambient()), (&None, &None));
    sets.bounding().clone().unwrap()
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn mounted<'a>(spec: &'a Spec, place: &str) -> Option<&'a Mount> {
    let mut mounts = spec.mounts().iter().flatten();
    mounts.find(|mount| mount.destination() == Path::new(place))
}

fn options(spec: &Spec, place: &str) -> Vec<String> {
    mounted(spec, place).unwrap().options().clone().unwrap()
}

fn volume(kind: &str, source: &str, destination: &str, writable: bool) -> Volume {
    Volume {
        r#type: kind.to_owned(),
        source: source.to_owned(),
        destination: destination.to_owned(),
        writable,
        ..Volume::default()
    }
}

#[test]
fn a_plain_container_has_dockers_defaults() {
    let case = case("plain");
    let spec = case.spec();
    assert_eq!(spec.hostname().as_deref(), Some("abababababab"));
    let process = case.process();
    assert_eq!(bounding(&process).len(), 14);
    assert_eq!(process.no_new_privileges(), Some(false));
    assert_eq!(process.rlimits(), &None);
    assert_eq!(process.cwd(), Path::new("/"));
    let linux = spec.linux().as_ref().unwrap();
    assert!(linux.seccomp().is_some());
    assert!(
        linux
            .masked_paths()
            .as_ref()
            .unwrap()
            .contains(&"/proc/kcore".to_owned())
    );
    assert!(
        linux
            .readonly_paths()
            .as_ref()
            .unwrap()
            .contains(&"/proc/sys".to_owned())
    );
    assert_eq!(linux.namespaces().as_ref().unwrap().len(), 6);
    let resources = linux.resources().as_ref().unwrap();
    assert!(resources.memory().is_none() && resources.cpu().is_none());
    assert_eq!(spec.mounts().as_ref().unwrap().len(), 7);
    assert!(options(&spec, "/dev/shm").contains(&"size=67108864".to_owned()));
}

#[test]
fn the_environment_is_dockers_then_the_images_then_home() {
    let mut case = case("env");
    case.container.config.env = words(&["FOO=1", "PATH=/bin", "HOSTNAME"]);
    case.container.config.tty = true;
    let expected = words(&["PATH=/bin", "TERM=xterm", "FOO=1", "HOME=/root"]);
    assert_eq!(case.env(), expected);
    case.container.config.env = words(&["HOME=/tmp"]);
    case.container.config.tty = false;
    case.container.config.hostname = "web".to_owned();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(case.env(), words(&[path, "HOSTNAME=web", "HOME=/tmp"]));
}

#[test]
fn the_user_comes_from_the_containers_own_files() {
    let mut case = case("user");
    case.container.config.user = "www".to_owned();
    case.container.host.group_add = words(&["video", "4711"]);
    let process = case.process();
    let user = process.user();
    assert_eq!((user.uid(), user.gid()), (33, 33));
    assert_eq!(user.additional_gids(), &Some(vec![4, 33, 44, 4711]));
    assert!(case.env().contains(&"HOME=/var/www".to_owned()));
    case.container.host.group_add = words(&["nosuch"]);
    assert_eq!(
        case.refusal(),
        "--group-add: unable to find group nosuch: no matching entries in group file"
    );
    case.container.config.user = "nobody".to_owned();
    assert!(case.refusal().starts_with("unable to find user nobody"));
}

#[test]
fn capabilities_are_added_and_dropped_by_any_spelling() {
    let mut case = case("caps");
    case.container.host.cap_add = words(&["net_admin", "CAP_SYS_TIME"]);
    case.container.host.cap_drop = words(&["Chown", "cap_kill"]);
    let set = bounding(&case.process());
    assert_eq!(set.len(), 14);
    assert!(set.contains(&Capability::NetAdmin) && set.contains(&Capability::SysTime));
    assert!(!set.contains(&Capability::Chown) && !set.contains(&Capability::Kill));

    case.container.host.cap_drop = words(&["all"]);
    assert_eq!(bounding(&case.process()).len(), 2);

    let own = runtime::own_capabilities().unwrap();
    case.container.host.cap_add = words(&["ALL"]);
    case.container.host.cap_drop = words(&["MKNOD"]);
    let set = bounding(&case.process());
    assert!(!set.contains(&Capability::Mknod) && set.is_subset(&own));

    case.container.host.cap_add = words(&["ROOT"]);
    assert_eq!(case.refusal(), "--cap-add: unknown capability: \"ROOT\"");
}

#[test]
fn the_default_seccomp_profile_knows_the_final_capabilities() {
    let mut case = case("seccomp");
    let allows = |case: &Case, call: &str| {
        let spec = case.spec();
        let seccomp = spec.linux().as_ref().unwrap().seccomp().clone().unwrap();
        let mut rules = seccomp.syscalls().clone().unwrap().into_iter();
        rules.any(|rule| {
            rule.action() == LinuxSeccompAction::ScmpActAllow
                && rule.names().iter().any(|name| name == call)
        })
    };
    assert!(!allows(&case, "mount"));
    case.container.host.cap_add = words(&["SYS_ADMIN"]);
    assert!(allows(&case, "mount"));
    case.container.host.seccomp = Seccomp::Unconfined;
    assert!(case.spec().linux().as_ref().unwrap().seccomp().is_none());
}

#[test]
fn a_profile_in_dockers_form_is_translated() {
    let text = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
            {"architecture": "SCMP_ARCH_S390X"}],
        "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "", "includes": {}, "excludes": {}},
            {"name": "open", "action": "SCMP_ACT_ALLOW", "args": null},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["s390_pci_mmio_read"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390"]}},
            {"names": ["close"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["s390", "s390x"]}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["never"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "400.8"}},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 8, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]}]
    }"#;
    let names = |set: &[Capability]| {
        let set: Capabilities = set.iter().copied().collect();
        let seccomp = profile::read(text, &set).unwrap();
        assert_eq!(seccomp.default_errno_ret(), Some(1));
        assert!(
            !seccomp
                .architectures()
                .as_ref()
                .unwrap()
                .contains(&Arch::ScmpArchS390x)
        );
        let rules = seccomp.syscalls().clone().unwrap();
        rules
            .iter()
            .flat_map(LinuxSyscall::names)
            .cloned()
            .collect::<Vec<_>>()
    };
    let plain = [
        "read",
        "write",
        "open",
        "clone3",
        "close",
        "ptrace",
        "personality",
    ];
    assert_eq!(names(&[]), plain);
    let admin = [
        "read",
        "write",
        "open",
        "mount",
        "close",
        "ptrace",
        "personality",
    ];
    assert_eq!(names(&[Capability::SysAdmin]), admin);
}

#[test]
fn a_profile_that_makes_no_sense_is_refused() {
    let mut case = case("profile");
    for (text, says) in [
        ("nonsense", "decoding the seccomp profile failed"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "archMap": []}"#,
            "both architectures and archMap",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW"}]}"#,
            "both name (\"a\") and names",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "new"}}]}"#,
            "minKernel",
        ),
    ] {
        case.container.host.seccomp = Seccomp::Profile(text.to_owned());
        let refusal = case.refusal();
        assert!(
            refusal.starts_with("--security-opt seccomp: ") && refusal.contains(says),
            "{refusal}"
        );
    }
}

#[test]
fn a_privileged_container_may_do_what_we_may() {
    let mut case = case("privileged");
    case.container.host.privileged = true;
    let spec = case.spec();
    let own = runtime::own_capabilities().unwrap();
    assert_eq!(bounding(&case.process()), own);
    let linux = spec.linux().as_ref().unwrap();
    assert_eq!((linux.seccomp(), linux.masked_paths()), (&None, &None));
    assert_eq!(linux.readonly_paths(), &None);
    for place in ["/sys", "/sys/fs/cgroup"] {
        assert!(!options(&spec, place).contains(&"ro".to_owned()));
    }
    let nodes = linux.devices().clone().unwrap_or_default();
    assert!(
        nodes
            .iter()
            .any(|device| device.path() == Path::new("/dev/null"))
    );
    assert!(
        !nodes
            .iter()
            .any(|device| device.path().starts_with("/dev/pts"))
    );
}

#[test]
fn mounts_come_from_the_root_downwards_and_the_users_win() {
    let mut case = case("mounts");
    let places = case.places();
    for file in ["hosts", "hostname", "resolv.conf"] {
        fs::write(places.data.join(file), "").unwrap();
    }
    case.container.mounts = vec![
        volume("bind", "/srv", "/a/b/c", false),
        volume("volume", "/data/v", "/a/", true),
        volume("bind", "/my/hosts", "/etc/hosts", true),
        volume("bind", "/my/shm", "/dev/shm", true),
    ];
    let spec = case.spec();
    let all = spec.mounts().as_ref().unwrap();
    let order: Vec<&str> = all
        .iter()
        .filter_map(|mount| mount.destination().to_str())
        .collect();
    let expected = [
        "/proc",
        "/dev",
        "/dev/pts",
        "/dev/mqueue",
        "/sys",
        "/sys/fs/cgroup",
        "/a",
        "/etc/hosts",
        "/dev/shm",
        "/etc/resolv.conf",
        "/etc/hostname",
        "/a/b/c",
    ];
    assert_eq!(order, expected);
    assert_eq!(
        mounted(&spec, "/etc/hosts").unwrap().source(),
        &Some("/my/hosts".into())
    );
    assert_eq!(options(&spec, "/a/b/c"), ["rbind", "rprivate", "ro", "rro"]);
    assert_eq!(options(&spec, "/a"), ["rbind", "rprivate"]);
}

#[test]
fn a_volume_can_be_told_who_hears_of_its_mounts() {
    let mut case = case("propagation");
    assert_eq!(
        case.spec().linux().as_ref().unwrap().rootfs_propagation(),
        &None
    );
    let mut shared = volume("bind", "/srv", "/srv", true);
    shared.propagation = "rslave".to_owned();
    case.container.mounts = vec![shared];
    let spec = case.spec();
    assert_eq!(options(&spec, "/srv"), ["rbind", "rslave"]);
    let linux = spec.linux().as_ref().unwrap();
    assert_eq!(linux.rootfs_propagation().as_deref(), Some("slave"));
    case.container.mounts[0].propagation = "rshared".to_owned();
    assert!(case.refusal().starts_with("/srv: rshared: "));
}

#[test]
fn a_tmpfs_has_dockers_options_and_the_users_after_them() {
    let mut case = case("tmpfs");
    case.container.host.tmpfs = BTreeMap::from([("/run".to_owned(), "size=1m,exec".to_owned())]);
    let mut given = volume("tmpfs", "", "/scratch", false);
    given.mode = "mode=1770".to_owned();
    case.container.mounts = vec![given];
    let spec = case.spec();
    let expected = ["noexec", "nosuid", "nodev", "size=1m", "exec"];
    assert_eq!(options(&spec, "/run"), expected);
    let expected = ["noexec", "nosuid", "nodev", "mode=1770", "ro"];
    assert_eq!(options(&spec, "/scratch"), expected);
}

#[test]
fn without_ipc_there_is_no_shared_memory() {
    let mut case = case("ipc");
    case.container.host.ipc_mode = "none".to_owned();
    let spec = case.spec();
    assert!(mounted(&spec, "/dev/shm").is_none() && mounted(&spec, "/dev/mqueue").is_none());
}

#[test]
fn the_hosts_namespaces_are_left_out() {
    let mut case = case("host");
    case.container.host.pid_mode = "host".to_owned();
    case.container.host.ipc_mode = "host".to_owned();
    case.container.host.uts_mode = "host".to_owned();
    case.container.host.network_mode = "host".to_owned();
    let spec = case.spec();
    let linux = spec.linux().as_ref().unwrap();
    let kinds: Vec<_> = linux
        .namespaces()
        .iter()
        .flatten()
        .map(oci_spec::runtime::LinuxNamespace::typ)
        .collect();
    assert_eq!(
        kinds,
        [LinuxNamespaceType::Mount, LinuxNamespaceType::Cgroup]
    );
    assert_eq!(spec.hostname(), &None);
    assert_eq!(
        mounted(&spec, "/dev/shm").unwrap().source(),
        &Some("/dev/shm".into())
    );
}

#[test]
fn a_container_that_is_not_there_cannot_be_joined() {
    let mut case = case("join");
    case.container.host.pid_mode = format!("container:{}", "cd".repeat(32));
    assert!(
        case.refusal().starts_with("--pid container:cdcd"),
        "{}",
        case.refusal()
    );
    case.container.host.pid_mode = "elsewhere".to_owned();
    let says = "--pid elsewhere: it is neither host nor container:NAME";
    assert_eq!(case.refusal(), says);
}

#[test]
fn limits_are_in_the_runtimes_words() {
    let mut case = case("limits");
    let host = &mut case.container.host;
    host.memory = 1 << 20;
    host.nano_cpus = 1_500_000_000;
    host.cpu_shares = 512;
    host.cpuset_cpus = "0-1".to_owned();
    host.pids_limit = 20;
    host.ulimits = vec![Ulimit {
        name: "nofile".to_owned(),
        soft: 10,
        hard: -1,
    }];
    let spec = case.spec();
    let resources = spec.linux().as_ref().unwrap().resources().clone().unwrap();
    let memory = resources.memory().unwrap();
    assert_eq!(
        (memory.limit(), memory.swap()),
        (Some(1 << 20), Some(1 << 20))
    );
    let cpu = resources.cpu().clone().unwrap();
    assert_eq!(
        (cpu.quota(), cpu.period(), cpu.shares()),
        (Some(150_000), Some(100_000), Some(512))
    );
    assert_eq!(cpu.cpus().as_deref(), Some("0-1"));
    assert_eq!(resources.pids().unwrap().limit(), 20);
    let limits = case.process().rlimits().clone().unwrap();
    assert_eq!((limits[0].soft(), limits[0].hard()), (10, u64::MAX));
    case.container.host.ulimits[0].name = "files".to_owned();
    assert_eq!(case.refusal(), "invalid ulimit type: files");
}

#[test]
fn a_device_of_the_hosts_gets_a_node_and_a_rule() {
    let mut case = case("device");
    case.container.host.devices = vec![Device {
        path_on_host: "/dev/null".to_owned(),
        path_in_container: "/dev/nothing".to_owned(),
        cgroup_permissions: "r".to_owned(),
    }];
    let spec = case.spec();
    let linux = spec.linux().as_ref().unwrap();
    let nodes = linux.devices().clone().unwrap();
    assert_eq!(
        (nodes.len(), nodes[0].path().as_path()),
        (1, Path::new("/dev/nothing"))
    );
    assert_eq!((nodes[0].major(), nodes[0].minor()), (1, 3));
    let rules = linux
        .resources()
        .clone()
        .unwrap()
        .devices()
        .clone()
        .unwrap();
    assert_eq!(rules.last().unwrap().access().as_deref(), Some("r"));
    case.container.host.devices[0].path_on_host = "/dev/nosuch".to_owned();
    assert!(
        case.refusal().contains("\"/dev/nosuch\": No such file"),
        "{}",
        case.refusal()
    );
    case.container.host.devices[0].path_on_host = "/etc/passwd".to_owned();
    assert!(
        case.refusal().ends_with("not a device node"),
        "{}",
        case.refusal()
    );
}

#[test]
fn another_process_is_as_restricted_as_the_first() {
    let mut case = case("exec");
    case.container.config.user = "www".to_owned();
    case.container.config.env = words(&["A=1"]);
    case.container.config.working_dir = "/srv".to_owned();
    let mut exec = Exec {
        env: words(&["A=2", "B=3"]),
        ..Exec::default()
    };
    let root = case.root();
    let process = exec_process(&case.container, &exec, root.as_fd()).unwrap();
    assert_eq!(
        (process.user().uid(), process.cwd().as_path()),
        (33, Path::new("/srv"))
    );
    assert_eq!(bounding(&process), bounding(&case.process()));
    let env = process.env().clone().unwrap();
    assert_eq!(env[2..], ["A=2", "B=3", "HOME=/var/www"]);
    exec.user = "0:video".to_owned();
    exec.privileged = true;
    let process = exec_process(&case.container, &exec, root.as_fd()).unwrap();
    assert_eq!((process.user().uid(), process.user().gid()), (0, 44));
    assert_eq!(bounding(&process), runtime::own_capabilities().unwrap());
}
