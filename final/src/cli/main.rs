//! `minidocker`: docker's command line.
//!
//! Each command reads its options, makes one call of the engine and prints what comes back, in
//! docker's words and columns. A flag of docker's that is not here is refused by its name.

mod commit;
mod completion;
mod cp;
mod diff;
mod events;
mod exec;
mod export;
mod filters;
mod format;
mod history;
mod images;
mod import;
mod inspect;
mod load;
mod login;
mod logs;
mod network;
mod options;
mod pause;
mod port;
mod progress;
mod prompt;
mod prune;
mod ps;
mod pull;
mod push;
mod rm;
mod rmi;
mod run;
mod save;
mod session;
mod start;
mod stats;
mod stop;
mod system;
mod tag;
mod time;
mod top;
mod usage;
mod version;
mod volume;

use std::env;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::{ArgAction, Parser, Subcommand};
use cli::Dirs;
use minidocker::runtime::run_where_sealed;

/// The status after a Ctrl-C.
const INTERRUPTED: u8 = 130;

/// What errors begin with.
const PROGRAM: &str = "minidocker";

/// Images and containers, with docker's command line.
#[derive(Debug, Parser)]
#[command(
    name = PROGRAM,
    version = concat!("version ", env!("CARGO_PKG_VERSION")),
    disable_version_flag = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print every kernel-facing operation and its reason
    #[arg(long, global = true, display_order = 100)]
    explain: bool,
    /// Print the version
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Command {
    #[command(flatten)]
    OfContainers(OfContainers),
    /// Manage containers
    #[command(subcommand)]
    Container(Container),
    Images(images::Images),
    Rmi(rmi::Remove),
    Inspect(inspect::Inspect),
    #[command(flatten)]
    OfImages(OfImages),
    Login(login::Login),
    Logout(login::Logout),
    Ps(ps::Ps),
    Events(events::Events),
    Info(system::info::Info),
    Version(version::Version),
    /// Manage images
    #[command(subcommand)]
    Image(Image),
    #[command(subcommand)]
    Network(network::Network),
    #[command(subcommand)]
    Volume(volume::Volume),
    #[command(subcommand)]
    System(system::System),
    Completion(completion::Completion),
}

/// The commands about containers that go by one name at both places.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum OfContainers {
    Run(run::Run),
    Create(run::Create),
    Start(start::Start),
    Stop(stop::Stop),
    Restart(stop::Restart),
    Kill(stop::Kill),
    Pause(pause::Pause),
    Unpause(pause::Unpause),
    Wait(stop::Wait),
    #[command(alias = "remove")]
    Rm(rm::Rm),
    Rename(rm::Rename),
    Attach(start::Attach),
    Exec(exec::Exec),
    Port(port::Port),
    Diff(diff::Diff),
    Commit(commit::Commit),
    Export(export::Export),
    Cp(cp::Cp),
    Logs(logs::Logs),
    Top(top::Top),
    Stats(stats::Stats),
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of them, and never a second"
)]
enum Container {
    #[command(aliases = ["list", "ps"])]
    Ls(ps::Ps),
    Inspect(inspect::InspectContainers),
    Prune(prune::PruneContainers),
    #[command(flatten)]
    Same(OfContainers),
}

/// The commands about images that go by one name at both places.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum OfImages {
    Pull(pull::Pull),
    Push(push::Push),
    Tag(tag::Tag),
    History(history::History),
    Save(save::Save),
    Load(load::Load),
    Import(import::Import),
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of them, and never a second"
)]
enum Image {
    #[command(alias = "list")]
    Ls(images::Images),
    #[command(alias = "remove")]
    Rm(rmi::Remove),
    Inspect(inspect::InspectImages),
    Prune(rmi::Prune),
    #[command(flatten)]
    Same(OfImages),
}

/// What a command finds when it starts.
struct Context {
    dirs: Dirs,
    /// Whether kernel calls are told on standard error meanwhile.
    explain: bool,
}

fn main() -> ExitCode {
    // Before anything else is done, for it is all done again there.
    if begins_a_process()
        && let Err(error) = run_where_sealed()
    {
        cli::complain(PROGRAM, &error);
        return ExitCode::from(usage::NO_SENSE);
    }
    let Cli {
        command, explain, ..
    } = match usage::parse() {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    cli::start(PROGRAM, explain);
    minidocker::shim::keep_to_one_heap();
    let dirs = namespaces::is_privileged().and_then(Dirs::of_caller);
    let done = dirs.and_then(|dirs| run(command, &Context { dirs, explain }));
    if matches!(done, Ok(INTERRUPTED)) && io::stderr().is_terminal() {
        // The terminal has shown ^C, and what comes next begins below it.
        tell("");
    }
    cli::end(PROGRAM, done, |_| 1)
}

/// Whether the command, wherever it stands, may start something in a container, which could then
/// reach for this program. Another word that is mistaken for it costs a millisecond.
fn begins_a_process() -> bool {
    env::args_os().any(|word| word == "run" || word == "start" || word == "restart")
}

fn run(command: Command, context: &Context) -> Result<u8> {
    match command {
        Command::OfContainers(command) | Command::Container(Container::Same(command)) => {
            of_containers(command, context)
        }
        Command::Images(images) | Command::Image(Image::Ls(images)) => images.run(context),
        Command::Rmi(remove) | Command::Image(Image::Rm(remove)) => remove.run(context),
        Command::Inspect(inspect) => inspect.run(context),
        Command::Image(Image::Inspect(inspect)) => inspect.run(context),
        Command::Image(Image::Prune(prune)) => prune.run(context),
        Command::Ps(ps) | Command::Container(Container::Ls(ps)) => ps.run(context),
        Command::Container(Container::Inspect(inspect)) => inspect.run(context),
        Command::Container(Container::Prune(prune)) => prune.run(context),
        Command::Events(events) => events.run(context),
        Command::Info(info) => info.run(context),
        Command::Version(version) => version.run(context),
        Command::Network(network) => network.run(context),
        Command::Volume(volume) => volume.run(context),
        Command::System(system) => system.run(context),
        Command::Completion(completion) => completion.run(),
        Command::Login(login) => login.run(),
        Command::Logout(logout) => logout.run(),
        Command::OfImages(command) | Command::Image(Image::Same(command)) => match command {
            OfImages::Pull(pull) => pull.run(context),
            OfImages::Push(push) => push.run(context),
            OfImages::History(history) => history.run(context),
            OfImages::Tag(tag) => tag.run(context),
            OfImages::Save(save) => save.run(context),
            OfImages::Load(load) => load.run(context),
            OfImages::Import(import) => import.run(context),
        },
    }
}

fn of_containers(command: OfContainers, context: &Context) -> Result<u8> {
    match command {
        OfContainers::Run(run) => run.run(context),
        OfContainers::Create(create) => create.run(context),
        OfContainers::Start(start) => start.run(context),
        OfContainers::Stop(stop) => stop.run(context),
        OfContainers::Restart(restart) => restart.run(context),
        OfContainers::Kill(kill) => kill.run(context),
        OfContainers::Pause(pause) => pause.run(context),
        OfContainers::Unpause(unpause) => unpause.run(context),
        OfContainers::Wait(wait) => wait.run(context),
        OfContainers::Rm(rm) => rm.run(context),
        OfContainers::Rename(rename) => rename.run(context),
        OfContainers::Attach(attach) => attach.run(context),
        OfContainers::Exec(exec) => exec.run(context),
        OfContainers::Port(port) => port.run(context),
        OfContainers::Diff(diff) => diff.run(context),
        OfContainers::Commit(commit) => commit.run(context),
        OfContainers::Export(export) => export.run(context),
        OfContainers::Cp(cp) => cp.run(context),
        OfContainers::Logs(logs) => logs.run(context),
        OfContainers::Top(top) => top.run(context),
        OfContainers::Stats(stats) => stats.run(context),
    }
}

/// What a person should know, and a program that reads standard output should not find there.
fn tell(text: &str) {
    // Where that cannot be written there is nobody to read it.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Does something to each of several things. Those that work are done, and of the others it is told
/// why; the status is then docker's for it.
fn each(names: &[String], act: impl Fn(&str) -> Result<()>) -> Result<u8> {
    let done = names.iter().map(|name| complaint(&act(name)));
    Ok(done.fold(0, |one, two| one | two))
}

/// Tells what failed of several things, and answers docker's exit status for it: 1.
fn complaint<T>(done: &Result<T>) -> u8 {
    done.as_ref().err().map_or(0, |error| {
        cli::complain(PROGRAM, error);
        1
    })
}
