//! `version`

use anyhow::Result;
use clap::Args;
use images::Platform;
use minidocker::engine::machine::Machine;
use minidocker::runtime::features;
use serde_json::{Value, json};

use crate::Context;
use crate::format::Template;

/// Show the version
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker version --format '{{.Server.Version}}'")]
pub(crate) struct Version {
    /// How to print it: json, or a template of Go's
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Version {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let about = About {
            architecture: Platform::here().architecture,
            kernel: Machine::this(&context.dirs.data)?.kernel,
            specification: features().oci_version_max().clone(),
        };
        match self.format.as_deref().unwrap_or_default() {
            "" => cli::say(&text(&about))?,
            "json" => cli::say(&document(&about).to_string())?,
            template => {
                let template = Template::parse(template)?;
                let document = document(&about);
                cli::say(&template.execute(&document, &unsaid())?)?;
            }
        }
        Ok(0)
    }
}

/// What there is to tell beside the version.
struct About {
    architecture: String,
    kernel: String,
    /// The version of the specification that the runtime follows.
    specification: String,
}

/// In docker's layout. Client and server are one and the same program.
fn text(about: &About) -> String {
    let About {
        architecture,
        kernel,
        specification,
    } = about;
    format!(
        "Client: minidocker\n \
         Version:           {VERSION}\n \
         OS/Arch:           linux/{architecture}\n\
         \n\
         Server: minidocker\n \
         Engine:\n  \
          Version:          {VERSION}\n  \
          OS/Arch:          linux/{architecture}\n  \
          Kernel Version:   {kernel}\n \
         minirunc:\n  \
          Version:          {VERSION}\n  \
          Specification:    {specification}"
    )
}

fn document(about: &About) -> Value {
    let About {
        architecture,
        kernel,
        specification,
    } = about;
    json!({
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
    })
}

/// What docker says, and nobody can say of this program.
fn unsaid() -> Value {
    json!({
        "APIVersion": "", "ApiVersion": "", "MinAPIVersion": "", "DefaultAPIVersion": "",
        "GitCommit": "", "GoVersion": "", "BuildTime": "", "Context": "default",
        "Experimental": false,
    })
}
