//! Faults by strace(1): which calls a command makes, and one of them failing.

use std::collections::BTreeMap;

/// The options of strace that write the calls `names` to `file`.
pub fn tracing(names: &[&str], file: &str) -> Vec<String> {
    let trace = format!("trace={}", names.join(","));
    ["-f", "-qq", "-o", file, "-e", &trace]
        .map(str::to_owned)
        .into()
}

/// Those that let call number `n` of each process fail with `error`.
pub fn failing(call: &str, error: &str, n: usize) -> Vec<String> {
    let mut options = tracing(&[call], "/dev/null");
    options.push("-e".to_owned());
    options.push(format!("inject={call}:error={error}:when={n}"));
    options
}

/// Those that kill each process as it makes call number `n`.
pub fn killing(call: &str, n: usize) -> Vec<String> {
    let mut options = tracing(&[call], "/dev/null");
    options.push("-e".to_owned());
    options.push(format!("inject={call}:signal=KILL:when={n}"));
    options
}

/// How often each call is in a trace, for the process that makes it most often:
/// strace counts `when=` for each process.
pub fn most_calls(trace: &str) -> BTreeMap<String, usize> {
    let mut each = BTreeMap::<(&str, &str), usize>::new();
    for line in trace.lines().filter(|line| !line.contains("resumed>")) {
        let Some((pid, rest)) = line.split_once(' ') else {
            continue;
        };
        let call = rest.trim().split('(').next().unwrap_or_default();
        *each.entry((call, pid)).or_default() += 1;
    }
    let mut most = BTreeMap::new();
    for ((call, _), count) in each {
        let entry = most.entry(call.to_owned()).or_insert(0);
        *entry = count.max(*entry);
    }
    most
}
