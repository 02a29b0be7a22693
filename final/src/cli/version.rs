//! `version`

use anyhow::Result;
use clap::Args;
use images::Platform;
use minidocker::engine::machine::Machine;
use minidocker::runtime::features;
use serde_json::{Value, json};

use crate::Context;
use crate::format::fill;

/// Show the version
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker version --format '{{.Server.Version}}'")]
pub(crate) struct Version {
    /// How to print it: json, or a template of Go's
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// In docker's layout. Client and server are one and the same program.
const TEXT: &str = "Client: minidocker
 Version:           {{.Client.Version}}
 OS/Arch:           {{.Client.Os}}/{{.Client.Arch}}

Server: minidocker
 Engine:
  Version:          {{.Server.Version}}
  OS/Arch:          {{.Server.Os}}/{{.Server.Arch}}
  Kernel Version:   {{.Server.KernelVersion}}
{{- with index .Server.Components 1}}
 {{.Name}}:
  Version:          {{.Version}}
  Specification:    {{.Details.Specification}}
{{- end}}";

impl Version {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let document = document(context)?;
        match self.format.as_deref().unwrap_or_default() {
            "" => fill(TEXT, &document, &Value::Null)?,
            "json" => cli::say(&document.to_string())?,
            template => fill(template, &document, &unsaid())?,
        }
        Ok(0)
    }
}

fn document(context: &Context) -> Result<Value> {
    let architecture = Platform::here().architecture;
    let kernel = Machine::this(&context.dirs.data)?.kernel;
    // The version of the specification that the runtime follows.
    let specification = features().oci_version_max().clone();
    Ok(json!({
        "Client": {
            "Version": VERSION,
            "Os": "linux",
            "Arch": architecture,
        },
        "Server": {
            "Platform": { "Name": "minidocker" },
            "Components": [
                { "Name": "Engine", "Version": VERSION, "Details": { "KernelVersion": kernel } },
                { "Name": "minirunc", "Version": VERSION, "Details": { "Specification": specification } },
            ],
            "Version": VERSION,
            "Os": "linux",
            "Arch": architecture,
            "KernelVersion": kernel,
        },
    }))
}

/// What docker says, and nobody can say of this program.
fn unsaid() -> Value {
    json!({
        "APIVersion": "", "ApiVersion": "", "MinAPIVersion": "", "DefaultAPIVersion": "",
        "GitCommit": "", "GoVersion": "", "BuildTime": "", "Context": "default",
        "Experimental": false,
    })
}
