//! `info`: what there is, and where.

use anyhow::Result;
use clap::Args;
use minidocker::engine::containers::{Containers, total_memory};
use minidocker::engine::machine::Machine;
use minidocker::state::{Container, Status};
use serde_json::{Value, json};

use crate::format::Template;
use crate::stats::binary;
use crate::{Context, PROGRAM};

/// Show what there is on this machine
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker info --format '{{.ContainersRunning}}'")]
pub(crate) struct Info {
    /// How to print it: json, or a template of Go's
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A limit of docker's, the controller behind it, and how docker calls what is missing.
const LIMITS: [(&str, &str, &str); 6] = [
    ("MemoryLimit", "memory", "memory limit"),
    ("SwapLimit", "memory", "swap limit"),
    ("CpuCfsQuota", "cpu", "cpu cfs quota"),
    ("CPUShares", "cpu", "cpu shares"),
    ("CPUSet", "cpuset", "cpuset"),
    ("PidsLimit", "pids", "pids limit"),
];

impl Info {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let document = document(context)?;
        match self.format.as_deref().unwrap_or_default() {
            "" => say(&document)?,
            "json" => cli::say(&document.to_string())?,
            template => {
                let template = Template::parse(template)?;
                cli::say(&template.execute(&document, &Value::Null)?)?;
            }
        }
        Ok(0)
    }
}

/// All of it, by docker's names.
fn document(context: &Context) -> Result<Value> {
    let containers = Containers::open(&context.dirs)?;
    let all = containers.list()?;
    let count = |is: &dyn Fn(Status) -> bool| {
        let status = |container: &&Container| is(container.life.status);
        all.iter().filter(status).count()
    };
    let machine = Machine::this(&context.dirs.data)?;
    let rootless = !namespaces::is_privileged()?;
    let mut security = vec!["name=seccomp,profile=builtin", "name=cgroupns"];
    if rootless {
        security.push("name=rootless");
    }
    let missing = LIMITS
        .iter()
        .filter(|(_, controller, _)| !machine.controls(controller));
    let warnings: Vec<String> = missing
        .map(|(_, _, what)| format!("WARNING: No {what} support"))
        .collect();
    let mut document = json!({
        "ID": "",
        "Containers": all.len(),
        "ContainersRunning": count(&|it| matches!(it, Status::Running | Status::Restarting)),
        "ContainersPaused": count(&|it| it == Status::Paused),
        "ContainersStopped": count(&|it| !it.needs_shim()),
        "Images": containers.images()?.all().len(),
        "Driver": "overlay",
        "DriverStatus": [["Backing Filesystem", machine.file_system], ["userxattr", rootless.to_string()]],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null"],
            "Log": ["json-file", "none"],
        },
        "LoggingDriver": "json-file",
        "CgroupDriver": if machine.cgroup_version.is_some() { "cgroupfs" } else { "none" },
        "CgroupVersion": machine.cgroup_version.map(|it| it.to_string()).unwrap_or_default(),
        "KernelVersion": machine.kernel,
        "OperatingSystem": machine.system,
        "OSType": "linux",
        "Architecture": machine.architecture,
        "NCPU": machine.processors,
        "MemTotal": total_memory(),
        "DockerRootDir": context.dirs.data.display().to_string(),
        "Name": machine.name,
        "Labels": [],
        "Debug": false,
        "ExperimentalBuild": false,
        "ServerVersion": VERSION,
        "Runtimes": { "minirunc": { "path": "" } },
        "DefaultRuntime": "minirunc",
        "InitBinary": "minirunc",
        "Swarm": { "LocalNodeState": "inactive" },
        "LiveRestoreEnabled": true,
        "SecurityOptions": security,
        "Warnings": warnings,
        "ClientInfo": { "Version": VERSION, "Debug": false },
    });
    for (key, controller, _) in LIMITS {
        document[key] = machine.controls(controller).into();
    }
    Ok(document)
}

/// For people, in docker's order.
fn say(document: &Value) -> Result<()> {
    let text = |key: &str| match &document[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let words = |list: &Value| {
        let words = list.as_array().into_iter().flatten();
        words
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut lines = vec![
        "Client:".to_owned(),
        format!(" Version:    {}", text("ServerVersion")),
        " Debug Mode: false".to_owned(),
        String::new(),
        "Server:".to_owned(),
        format!(" Containers: {}", text("Containers")),
        format!("  Running: {}", text("ContainersRunning")),
        format!("  Paused: {}", text("ContainersPaused")),
        format!("  Stopped: {}", text("ContainersStopped")),
        format!(" Images: {}", text("Images")),
        format!(" Server Version: {}", text("ServerVersion")),
        format!(" Storage Driver: {}", text("Driver")),
    ];
    for pair in document["DriverStatus"].as_array().into_iter().flatten() {
        let word = |at: usize| pair[at].as_str().unwrap_or_default();
        lines.push(format!("  {}: {}", word(0), word(1)));
    }
    for (name, key) in [
        ("Logging Driver", "LoggingDriver"),
        ("Cgroup Driver", "CgroupDriver"),
        ("Cgroup Version", "CgroupVersion"),
    ] {
        lines.push(format!(" {name}: {}", text(key)));
    }
    lines.push(" Plugins:".to_owned());
    for kind in ["Volume", "Network", "Log"] {
        lines.push(format!("  {kind}: {}", words(&document["Plugins"][kind])));
    }
    lines.push(" Swarm: inactive".to_owned());
    lines.push(format!(" Runtimes: {}", text("DefaultRuntime")));
    lines.push(format!(" Default Runtime: {}", text("DefaultRuntime")));
    lines.push(format!(" Init Binary: {}", text("InitBinary")));
    lines.push(" Security Options:".to_owned());
    for option in document["SecurityOptions"].as_array().into_iter().flatten() {
        // `name=seccomp,profile=builtin`
        let mut parts = option.as_str().unwrap_or_default().split(',');
        let name = parts.next().unwrap_or_default();
        lines.push(format!("  {}", name.trim_start_matches("name=")));
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let mut key = key.to_owned();
            if let Some(first) = key.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            lines.push(format!("   {key}: {value}"));
        }
    }
    for (name, key) in [
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
        ("CPUs", "NCPU"),
    ] {
        lines.push(format!(" {name}: {}", text(key)));
    }
    let memory = binary(document["MemTotal"].as_u64().unwrap_or(0));
    lines.push(format!(" Total Memory: {memory}"));
    lines.push(format!(" Name: {}", text("Name")));
    lines.push(format!(" Docker Root Dir: {}", text("DockerRootDir")));
    lines.push(" Debug Mode: false".to_owned());
    lines.push(" Experimental: false".to_owned());
    lines.push(" Live Restore Enabled: true".to_owned());
    cli::say(&lines.join("\n"))?;
    for warning in document["Warnings"].as_array().into_iter().flatten() {
        let warning = warning.as_str().unwrap_or_default();
        cli::complain(PROGRAM, &anyhow::anyhow!("{warning}"));
    }
    Ok(())
}
