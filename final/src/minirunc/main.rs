//! `minirunc`: an OCI runtime with runc's command line.
use minidocker::runtime::*;
use namespaces::Signals;
use std::path::Path;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    become_sealed_copy()?;
    let runtime = Runtime::at("/run/minirunc".into());
    let id: Id = args[2].parse()?;
    match args[1].as_str() {
        "create" => {
            let bundle = Bundle::load(Path::new("."))?;
            runtime
                .create(&id, &bundle, &Settings::default())?
                .process
                .abandon();
        }
        "run" => {
            let bundle = Bundle::load(Path::new("."))?;
            let created = runtime.create(&id, &bundle, &Settings::default())?;
            created.container.start()?;
            let signals = Signals::hold()?;
            let status = created.process.wait(&signals)?;
            created.container.delete(true)?;
            std::process::exit(status.into());
        }
        "start" => runtime.open(&id)?.start()?,
        "kill" => runtime.open(&id)?.kill(args[3].parse()?, false)?,
        "delete" => runtime.delete(&id, args.len() > 3)?,
        "status" => println!("{}", runtime.open(&id)?.status()?),
        "pause" => runtime.open(&id)?.pause()?,
        "resume" => runtime.open(&id)?.resume()?,
        "exec" => {
            let container = runtime.open(&id)?;
            let mut process = container.spec()?.process().clone().unwrap();
            process.set_args(Some(args[3..].to_vec()));
            let p = container.exec(&process, &Settings::default())?;
            let signals = Signals::hold()?;
            std::process::exit(p.wait(&signals)?.into());
        }
        _ => anyhow::bail!("?"),
    }
    Ok(())
}
