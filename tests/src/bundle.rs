//! OCI bundles: a directory with a root file system and a configuration.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::command::{Output, Running};
use crate::host::Host;

/// A root file system of busybox, with the directories that every one has.
const BUSYBOX: &str = r#"
    mkdir -p "$1/rootfs"
    cd "$1/rootfs"
    mkdir -p bin dev etc home proc root sys tmp var
    cp "$(command -v busybox)" bin/busybox
    for name in $(busybox --list); do [ -e "bin/$name" ] || ln -s busybox "bin/$name"; done
    printf 'root:x:0:0::/root:/bin/sh\nann:x:1234:2345::/tmp:/bin/sh\n' >etc/passwd
    printf 'root:x:0:\nstaff:x:2345:\n' >etc/group
    cd ..
    rm -f config.json
    minirunc spec
"#;

/// A bundle at `/tmp/NAME` of a host, whose container is called NAME too.
#[derive(Debug)]
pub struct Bundle<'a> {
    host: &'a Host,
    name: String,
    /// What `config.json` will say: at first what `minirunc spec` says, without
    /// a terminal, and on a root that can be written to.
    pub config: Value,
}

impl<'a> Bundle<'a> {
    /// Makes one with a root file system of busybox.
    ///
    /// # Panics
    /// Where there is no busybox, or `minirunc spec` fails.
    #[track_caller]
    pub fn new(host: &'a Host, name: &str) -> Bundle<'a> {
        let dir = format!("/tmp/{name}");
        host.run(["sh", "-euc", BUSYBOX, "sh", &dir]).ok();
        let text = std::fs::read(host.path(&format!("{dir}/config.json")));
        let config = serde_json::from_slice(&text.expect("minirunc spec has written one"));
        let mut bundle = Bundle {
            host,
            name: name.to_owned(),
            config: config.expect("minirunc spec writes JSON"),
        };
        bundle.set("/process/terminal", json!(false));
        bundle.set("/root/readonly", json!(false));
        bundle
    }

    /// The host that it is on.
    pub fn host(&self) -> &'a Host {
        self.host
    }

    /// The bundle's directory.
    pub fn dir(&self) -> String {
        format!("/tmp/{}", self.name)
    }

    /// Where the container's file `path` is for this process.
    pub fn path(&self, path: &str) -> PathBuf {
        self.host.path(&format!("{}/rootfs{path}", self.dir()))
    }

    /// Gives the field at a JSON pointer a value; objects on the way are made.
    ///
    /// # Panics
    /// Where something else is on the way.
    #[track_caller]
    pub fn set(&mut self, pointer: &str, value: Value) {
        let mut place = &mut self.config;
        for name in pointer.split('/').skip(1) {
            place = match place {
                Value::Array(all) => &mut all[name.parse::<usize>().expect("an index")],
                other => &mut other[name],
            };
        }
        *place = value;
    }

    /// Puts one more into the list at a JSON pointer, which is made if it is
    /// missing.
    ///
    /// # Panics
    /// Where something else is there.
    #[track_caller]
    pub fn add(&mut self, pointer: &str, value: Value) {
        if self.config.pointer(pointer).is_none_or(Value::is_null) {
            self.set(pointer, json!([]));
        }
        let list = self.config.pointer_mut(pointer);
        list.and_then(Value::as_array_mut)
            .expect("a list")
            .push(value);
    }

    /// One more mount: a bind of the host's `source`.
    pub fn bind(&mut self, source: &str, target: &str) {
        self.add(
            "/mounts",
            json!({"destination": target, "source": source, "type": "bind", "options": ["rbind"]}),
        );
    }

    /// Takes the mounts on `target`, and below it, away.
    pub fn unmount(&mut self, target: &str) {
        let below = format!("{target}/");
        let keep = |mount: &Value| {
            let at = mount["destination"].as_str().unwrap_or_default();
            at != target && !at.starts_with(&below)
        };
        if let Some(mounts) = self.config["mounts"].as_array_mut() {
            mounts.retain(keep);
        }
    }

    /// The container's command.
    pub fn command<const N: usize>(&mut self, args: [&str; N]) {
        self.set("/process/args", json!(args.as_slice()));
    }

    /// The container's command, as a script.
    pub fn script(&mut self, text: &str) {
        self.command(["sh", "-c", text]);
    }

    /// A user namespace, in which root is somebody whom the host does not know.
    pub fn own_users(&mut self) {
        self.add("/linux/namespaces", json!({"type": "user"}));
        for ids in ["uidMappings", "gidMappings"] {
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
            self.set(&format!("/linux/{ids}"), map);
        }
        let chown = format!("chown -hR 100000:100000 {}/rootfs", self.dir());
        self.host.shell(&chown);
    }

    /// Writes `config.json`.
    ///
    /// # Panics
    /// Where the host's memory cannot be written to.
    pub fn write(&self) {
        let path = self.host.path(&format!("{}/config.json", self.dir()));
        std::fs::write(path, self.config.to_string()).expect("write to the machine's memory");
    }

    /// `minirunc run`, to its end.
    #[track_caller]
    pub fn run(&self) -> Output {
        self.write();
        self.host
            .run(["minirunc", "run", "--bundle", &self.dir(), &self.name])
    }

    /// `minirunc run`, in the foreground.
    pub fn spawn(&self) -> Running {
        self.write();
        self.host
            .spawn(["minirunc", "run", "--bundle", &self.dir(), &self.name])
    }

    /// `minirunc run --detach`.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn start(&self) {
        self.write();
        self.background(&[
            "minirunc",
            "run",
            "--detach",
            "--bundle",
            &self.dir(),
            &self.name,
        ])
        .ok();
    }

    /// Runs a command that leaves a process behind, whose output is not waited for.
    #[track_caller]
    pub fn background(&self, line: &[&str]) -> Output {
        let script = "said=$0/said; \"$@\" >$said 2>&1; code=$?; cat $said >&2; exit $code";
        let dir = self.dir();
        let shell = ["sh", "-c", script, &dir];
        self.host.run(shell.iter().chain(line))
    }

    /// `minirunc exec` with these options and this command, to its end.
    #[track_caller]
    pub fn exec<const N: usize>(&self, words: [&str; N]) -> Output {
        let (at, options) = words
            .iter()
            .position(|word| *word == "--")
            .map_or_else(|| (0, &words[..0]), |at| (at + 1, &words[..at]));
        let mut line = vec!["minirunc", "exec"];
        line.extend(options);
        line.push(&self.name);
        line.extend(&words[at..]);
        self.host.run(line)
    }

    /// `minirunc delete --force`.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn delete(&self) {
        self.host
            .run(["minirunc", "delete", "--force", &self.name])
            .ok();
    }
}
