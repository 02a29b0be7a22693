//! Who runs what: the first process, and those of `exec`.

use std::os::fd::BorrowedFd;

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{
    BoxBuilder, PosixRlimit, PosixRlimitBuilder, PosixRlimitType as Limit, Process, User,
};

use crate::shim::inherited_file_limit;
use crate::shim::protocol::Exec;
use crate::state::{Container, Ulimit};

use super::namespaces::Namespaces;
use super::security;

/// Where a command without a slash is looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The container's first process.
pub(super) fn first(
    container: &Container,
    namespaces: &Namespaces,
    root: BorrowedFd,
) -> Result<Process> {
    let (config, host) = (&container.config, &container.host);
    let mut process = Process::default();
    process
        .set_args(Some(config.command()))
        .set_terminal(Some(config.tty))
        .set_cwd(config.working_dir.as_str().into());
    if config.working_dir.is_empty() {
        process.set_cwd("/".into());
    }
    process.set_console_size(size_of(config.tty, host.console_size));
    let hostname = namespaces.known_as(container);
    let env = environment(&hostname, config.tty, &[&config.env]);
    complete(&mut process, container, &config.user, env, root)?;
    security::restrict(&mut process, host, host.privileged)?;
    Ok(process)
}

/// One more process of a container that runs, as `exec` wants it. `root` is the container's `/`.
///
/// # Errors
/// There is no such user in the container.
pub fn exec_process(container: &Container, exec: &Exec, root: BorrowedFd) -> Result<Process> {
    let (config, host) = (&container.config, &container.host);
    let mut process = Process::default();
    let user = match exec.user.as_str() {
        "" => &config.user,
        user => user,
    };
    let dirs = [exec.working_dir.as_str(), config.working_dir.as_str(), "/"];
    let dir = dirs.into_iter().find(|dir| !dir.is_empty());
    process
        .set_args(Some(exec.args.clone()))
        .set_terminal(Some(exec.tty))
        .set_cwd(dir.unwrap_or_default().into())
        .set_console_size(size_of(exec.tty, exec.size));
    let hostname = match config.hostname.as_str() {
        "" => container.short_id(),
        name => name,
    };
    let env = environment(hostname, exec.tty, &[&config.env, &exec.env]);
    complete(&mut process, container, user, env, root)?;
    security::restrict(&mut process, host, exec.privileged || host.privileged)?;
    Ok(process)
}

/// Rows and columns; the kernel has none for a terminal until somebody gives it some.
fn size_of(tty: bool, (rows, columns): (u16, u16)) -> Option<oci_spec::runtime::Box> {
    let size = BoxBuilder::default().height(rows).width(columns);
    size.build()
        .ok()
        .filter(|_| tty && (rows, columns) != (0, 0))
}

/// What both have in common, and needs the container's files.
fn complete(
    process: &mut Process,
    container: &Container,
    user: &str,
    mut env: Vec<String>,
    root: BorrowedFd,
) -> Result<()> {
    let host = &container.host;
    let found = images::lookup_user(root, user)?;
    let mut groups = match may_set_groups() {
        true => [vec![found.gid], found.groups].concat(),
        // Where there is one id, nobody can be in any other group.
        false => Vec::new(),
    };
    for group in &host.group_add {
        ensure!(!group.is_empty(), "--group-add: it is empty");
        let gid = images::lookup_group(root, group).context("--group-add")?;
        groups.push(gid);
    }
    groups.sort_unstable();
    groups.dedup();
    let mut user = User::default();
    user.set_uid(found.uid)
        .set_gid(found.gid)
        .set_additional_gids(Some(groups));
    if !env.iter().any(|variable| variable.starts_with("HOME=")) {
        env.push(format!("HOME={}", found.home.display()));
    }
    process
        .set_user(user)
        .set_env(Some(env))
        .set_rlimits(limits(&host.ulimits)?)
        // What is lower than our own only root may have: 0 is whatever it is now.
        .set_oom_score_adj(Some(host.oom_score_adj).filter(|score| *score != 0));
    Ok(())
}

/// Docker's variables first, and then the lists in their order: the last value counts, in the place
/// of the first. A name without a value takes the variable away.
fn environment(hostname: &str, tty: bool, lists: &[&[String]]) -> Vec<String> {
    let mut all = vec![format!("PATH={PATH}"), format!("HOSTNAME={hostname}")];
    if tty {
        all.push("TERM=xterm".to_owned());
    }
    for variable in lists.iter().copied().flatten() {
        let name = variable.split('=').next().unwrap_or_default();
        let named = |other: &String| other.split('=').next() == Some(name);
        match (
            all.iter_mut().find(|other| named(other)),
            variable.contains('='),
        ) {
            (Some(old), true) => old.clone_from(variable),
            (None, true) => all.push(variable.clone()),
            (_, false) => all.retain(|other| !named(other)),
        }
    }
    all
}

/// Whether setgroups(2) is allowed to us at all (user_namespaces(7)).
fn may_set_groups() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|word| word.trim() == "allow")
}

fn limits(ulimits: &[Ulimit]) -> Result<Option<Vec<PosixRlimit>>> {
    let number = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
    let limit = |kind, soft, hard| {
        let limit = PosixRlimitBuilder::default()
            .typ(kind)
            .soft(soft)
            .hard(hard);
        Ok(limit.build()?)
    };
    let limits = ulimits.iter().map(|ulimit| {
        let (soft, hard) = (number(ulimit.soft), number(ulimit.hard));
        limit(kind_of_limit(&ulimit.name)?, soft, hard)
    });
    let mut limits: Vec<PosixRlimit> = limits.collect::<Result<_>>()?;
    let files = |limit: &PosixRlimit| limit.typ() == Limit::RlimitNofile;
    if let Some((soft, hard)) = inherited_file_limit()
        && !limits.iter().any(files)
    {
        limits.push(limit(Limit::RlimitNofile, soft, hard)?);
    }
    Ok(Some(limits).filter(|limits| !limits.is_empty()))
}

/// By the names that docker took from limits.conf(5).
fn kind_of_limit(name: &str) -> Result<Limit> {
    Ok(match name {
        "core" => Limit::RlimitCore,
        "cpu" => Limit::RlimitCpu,
        "data" => Limit::RlimitData,
        "fsize" => Limit::RlimitFsize,
        "locks" => Limit::RlimitLocks,
        "memlock" => Limit::RlimitMemlock,
        "msgqueue" => Limit::RlimitMsgqueue,
        "nice" => Limit::RlimitNice,
        "nofile" => Limit::RlimitNofile,
        "nproc" => Limit::RlimitNproc,
        "rss" => Limit::RlimitRss,
        "rtprio" => Limit::RlimitRtprio,
        "rttime" => Limit::RlimitRttime,
        "sigpending" => Limit::RlimitSigpending,
        "stack" => Limit::RlimitStack,
        _ => bail!("invalid ulimit type: {name}"),
    })
}
