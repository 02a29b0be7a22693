//! `info`: what there is, and where.

use anyhow::Result;
use clap::Args;
use minidocker::engine::containers::{Containers, total_memory};
use minidocker::engine::machine::Machine;
use minidocker::state::{Container, Status};
use serde_json::{Value, json};

use crate::format::fill;
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
            template => fill(template, &document, &Value::Null)?,
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
const TEXT: &str = r#"Client:
 Version:    {{.ServerVersion}}
 Debug Mode: false

Server:
 Containers: {{.Containers}}
  Running: {{.ContainersRunning}}
  Paused: {{.ContainersPaused}}
  Stopped: {{.ContainersStopped}}
 Images: {{.Images}}
 Server Version: {{.ServerVersion}}
 Storage Driver: {{.Driver}}
{{- range .DriverStatus}}
  {{index . 0}}: {{index . 1}}
{{- end}}
 Logging Driver: {{.LoggingDriver}}
 Cgroup Driver: {{.CgroupDriver}}
 Cgroup Version: {{.CgroupVersion}}
 Plugins:
  Volume: {{join .Plugins.Volume " "}}
  Network: {{join .Plugins.Network " "}}
  Log: {{join .Plugins.Log " "}}
 Swarm: inactive
 Runtimes: {{.DefaultRuntime}}
 Default Runtime: {{.DefaultRuntime}}
 Init Binary: {{.InitBinary}}
 Security Options:
{{- range .SecurityOptions}}
  {{- range $n, $pair := split . ","}}
    {{- $pair := split $pair "="}}
    {{- if $n}}
   {{title (index $pair 0)}}: {{index $pair 1}}
    {{- else}}
  {{index $pair 1}}
    {{- end}}
  {{- end}}
{{- end}}
 Kernel Version: {{.KernelVersion}}
 Operating System: {{.OperatingSystem}}
 OSType: {{.OSType}}
 Architecture: {{.Architecture}}
 CPUs: {{.NCPU}}
 Total Memory: {{.Memory}}
 Name: {{.Name}}
 Docker Root Dir: {{.DockerRootDir}}
 Debug Mode: false
 Experimental: false
 Live Restore Enabled: true"#;

fn say(document: &Value) -> Result<()> {
    let memory = binary(document["MemTotal"].as_u64().unwrap_or(0));
    fill(TEXT, document, &json!({ "Memory": memory }))?;
    for warning in document["Warnings"].as_array().into_iter().flatten() {
        let warning = warning.as_str().unwrap_or_default();
        cli::complain(PROGRAM, &anyhow::anyhow!("{warning}"));
    }
    Ok(())
}
