//! Step 5: a process that wakes up in an image.

use std::collections::BTreeSet;

use harness::User;
use nix::sys::signal::Signal;
use serde_json::json;

use super::image::{About, Files, Image, Layer, PLAIN, archive, docker};
use super::program::have_ended;
use super::trial::Problem;
use super::{Check, Found, Step, Trial, ensure, failed, same};

pub const STEP: Step = Step {
    number: 5,
    checks: &[
        Check {
            id: "load-oci",
            task: None,
            points: 5,
            title: "load takes an OCI layout, as directory and as tar",
            hint: "index.json, a manifest, a config, layers: each names the next by its digest",
            needs: &[],
            run: load_oci,
        },
        Check {
            id: "load-docker",
            task: None,
            points: 6,
            title: "load takes what `docker save` writes",
            hint: "manifest.json is a list: there may be several images in one archive",
            needs: &[],
            run: load_docker,
        },
        Check {
            id: "command",
            task: Some("05.1"),
            points: 8,
            title: "ENTRYPOINT and CMD make the command",
            hint: "arguments take the place of CMD, and follow ENTRYPOINT",
            needs: &[],
            run: command,
        },
        Check {
            id: "entrypoint-option",
            task: Some("05.1"),
            points: 4,
            title: "--entrypoint replaces ENTRYPOINT, and CMD with it",
            hint: "CMD was meant for the old one",
            needs: &[],
            run: entrypoint_option,
        },
        Check {
            id: "digest",
            task: Some("05.2"),
            points: 10,
            title: "a damaged image is refused, and nothing is changed",
            hint: "sha256 of each blob, before anything of it is used; then all at once, or nothing",
            needs: &[],
            run: digests,
        },
        Check {
            id: "whiteout",
            task: Some("05.3"),
            points: 8,
            title: "a whiteout hides a file of a lower layer",
            hint: ".wh.NAME says that NAME is gone; it is no file itself",
            needs: &[],
            run: whiteout,
        },
        Check {
            id: "opaque",
            task: Some("05.3"),
            points: 6,
            title: "an opaque directory hides all that is below it",
            hint: ".wh..wh..opq is about lower layers only, wherever it stands in its own",
            needs: &[],
            run: opaque,
        },
        Check {
            id: "layers",
            task: Some("05.4"),
            points: 6,
            title: "each layer covers those below it",
            hint: "overlayfs wants the uppermost of lowerdir first; a manifest has it last",
            needs: &[],
            run: layers,
        },
        Check {
            id: "writes",
            task: Some("05.4"),
            points: 8,
            title: "what one container writes no other sees",
            hint: "an upperdir and a workdir for each container, on top of layers that all share",
            needs: &[],
            run: writes,
        },
        Check {
            id: "user",
            task: Some("05.5"),
            points: 8,
            title: "USER and -u are looked up in the image",
            hint: "passwd(5) and group(5) of the container's root, not of the machine's",
            needs: &[],
            run: user,
        },
        Check {
            id: "env",
            task: None,
            points: 3,
            title: "ENV holds, and -e goes before it",
            hint: "a variable that is set twice has the later value, and only that",
            needs: &[],
            run: env,
        },
        Check {
            id: "workdir",
            task: None,
            points: 3,
            title: "WORKDIR holds, and -w goes before it",
            hint: "chdir(2) in the new root; docker makes the directory where there is none",
            needs: &[],
            run: workdir,
        },
        Check {
            id: "links",
            task: None,
            points: 4,
            title: "hard links and symlinks are as the layer says",
            hint: "two names of one inode; and a link's target is text, whatever it leads to",
            needs: &[],
            run: links,
        },
        Check {
            id: "modes",
            task: None,
            points: 3,
            title: "modes and times are as the layer says",
            hint: "umask(2) takes from a mode; a new file in it gives a directory a new time",
            needs: &[],
            run: modes,
        },
        Check {
            id: "traversal",
            task: None,
            points: 6,
            title: "nothing in a layer reaches what is outside of it",
            hint: "a name is resolved in the layer's root, links included: openat2(2), RESOLVE_IN_ROOT",
            needs: &[],
            run: traversal,
        },
        Check {
            id: "images-rmi",
            task: None,
            points: 4,
            title: "images lists them, rmi removes one",
            hint: "and `run` of one that is not there is 125, and a sentence",
            needs: &[],
            run: images_rmi,
        },
        Check {
            id: "image-student",
            task: None,
            points: 3,
            title: "an ordinary user has images, too",
            hint: "below XDG_DATA_HOME or ~/.local/share, and in a user namespace: overlayfs may",
            needs: &[],
            run: student,
        },
        Check {
            id: "afterwards-5",
            task: None,
            points: 3,
            title: "no mount is left, nor what a container wrote",
            hint: "upperdir and workdir go with the container; overlayfs leaves work/work to its root",
            needs: &[],
            run: afterwards,
        },
        Check {
            id: "after-kill-5",
            task: None,
            points: 2,
            title: "after kill -9 the next run tidies up",
            hint: "what a dead one left is known by its lock, which nobody holds any more",
            needs: &[],
            run: after_kill,
        },
    ],
};

/// A layer with a file `/word` of one random word, and that word.
fn with_word(t: &Trial) -> (Layer, String) {
    let word = t.word();
    (Layer::default().file("word", &word), word)
}

/// Two layers, one compressed; named by the layout, and by an option.
fn load_oci(t: &Trial) -> Found {
    let (layer, word) = with_word(t);
    let image = Image::new(t, [layer])?.compressed();
    let name = t.loaded(&image)?;
    t.run_in(&name, &[], &["cat", "/word"])?.prints(&word)?;

    let (layer, word) = with_word(t);
    let image = Image::new(t, [layer])?;
    let (dir, name) = (format!("/tmp/{}", t.word()), t.image_name());
    t.give(&format!("{dir}.tar"), archive(&image.oci(None)))?;
    t.machine(&format!("mkdir {dir}; tar -C {dir} -xf {dir}.tar"))?;
    t.call(&["load", &dir, "--name", &name])?
        .prints(&format!("Loaded image: {name}"))?;
    // It is taken in, not only remembered where it lies.
    t.machine(&format!("rm -r {dir} {dir}.tar"))?;
    t.run_in(&name, &[], &["cat", "/word"])?.prints(&word)?;
    Ok(())
}

/// One image, and two in one archive.
fn load_docker(t: &Trial) -> Found {
    let images = (0..3).map(|_| {
        let (layer, word) = with_word(t);
        Ok((Image::new(t, [layer])?, word, t.image_name()))
    });
    let images = images.collect::<Found<Vec<_>>>()?;
    let (image, _, name) = &images[0];
    t.load(&image.docker(name))?
        .prints(&format!("Loaded image: {name}"))?;
    let two = [1, 2].map(|n| (&images[n].0, images[n].2.as_str()));
    let printed = t.load(&docker(&two))?;
    let lines: BTreeSet<String> = printed
        .succeeds()?
        .text()
        .lines()
        .map(str::to_owned)
        .collect();
    for (_, name) in two {
        let line = format!("Loaded image: {name}");
        ensure(lines.contains(&line), line, printed.told())?;
    }
    for (_, word, name) in &images {
        t.run_in(name, &[], &["cat", "/word"])?.prints(word)?;
    }
    Ok(())
}

fn command(t: &Trial) -> Found {
    let [first, second, third] = [t.word(), format!("{} {}", t.word(), t.word()), t.word()];
    let image = Image::new(t, [])?
        .with("Entrypoint", json!(["printf", "%s|", first]))
        .with("Cmd", json!([second, "-x"]));
    let name = t.loaded(&image)?;
    t.run_in(&name, &[], &[])?
        .prints(&format!("{first}|{second}|-x|"))?;
    t.run_in(&name, &[], &[&third, ""])?
        .prints(&format!("{first}|{third}||"))?;

    let image = Image::new(t, [])?.with("Cmd", json!(["echo", second]));
    let name = t.loaded(&image)?;
    t.run_in(&name, &[], &[])?.prints(&second)?;
    t.run_in(&name, &[], &["echo", &third])?.prints(&third)?;
    Ok(())
}

fn entrypoint_option(t: &Trial) -> Found {
    let [first, second] = [t.word(), t.word()];
    let image = Image::new(t, [])?
        .with("Entrypoint", json!(["echo", first]))
        .with("Cmd", json!([first]));
    let name = t.loaded(&image)?;
    // That the image's own would have run makes what follows worth something.
    t.run_in(&name, &[], &[])?
        .prints(&format!("{first} {first}"))?;
    t.run_in(&name, &["--entrypoint", "printf"], &["<%s>", &second])?
        .prints(&format!("<{second}>"))?;
    let alone = t.run_in(&name, &["--entrypoint", "echo"], &[])?;
    alone.succeeds()?;
    ensure(
        alone.stdout == b"\n",
        "an empty line from --entrypoint echo, without arguments",
        alone.told(),
    )
}

/// What is wrong with an image, and the files of it.
type Damaged = (&'static str, Files);

/// Each has a word that another one has not; all else is as in a good one.
fn damaged(t: &Trial, name: &str) -> Found<Vec<Damaged>> {
    let (layer, word) = with_word(t);
    let other = t.word();
    let image = Image::new(t, [layer])?.with("Labels", json!({"word": word}));
    let good = image.oci(Some(name));
    let replaced = |content: &[u8], from: &str, to: &str| {
        let at = content
            .windows(from.len())
            .position(|window| window == from.as_bytes());
        at.map(|at| [&content[..at], to.as_bytes(), &content[at + from.len()..]].concat())
    };
    // In the first blob in which `from` stands and `also`.
    let with = |files: &Files, from: &str, to: &str, also: &str| -> Found<Files> {
        let mut files = files.clone();
        let found = files
            .iter_mut()
            .filter(|(name, content)| {
                name != "index.json" && replaced(content, also, also).is_some()
            })
            .find_map(|(_, content)| {
                *content = replaced(content, from, to)?;
                Some(())
            });
        match found {
            Some(()) => Ok(files),
            None => failed("an image to damage", format!("no {from} in it")),
        }
    };
    let mut missing = good.clone();
    missing.retain(|(_, content)| replaced(content, &word, &word).is_none());
    let saved = image.docker(name);
    Ok(vec![
        (
            "another layer than its digest says",
            with(&good, &word, &other, "ustar")?,
        ),
        (
            "another config than its digest says",
            with(&good, &word, &other, "diff_ids")?,
        ),
        (
            "another manifest than its digest says",
            with(
                &good,
                "\"schemaVersion\":2",
                "\"schemaVersion\": 2",
                "\"layers\"",
            )?,
        ),
        ("a layer that is missing", missing),
        (
            "another layer than its config says",
            with(&saved, &word, &other, "ustar")?,
        ),
    ])
}

fn digests(t: &Trial) -> Found {
    let (layer, word) = with_word(t);
    let name = t.loaded(&Image::new(t, [layer])?)?;
    let listed = || -> Found<usize> { Ok(t.call(&["images"])?.succeeds()?.text().lines().count()) };
    let there = listed()?;
    let before = t.snapshot();
    for (what, files) in damaged(t, &name)? {
        let output = t.load(&files)?;
        ensure(
            output.code() == 125,
            format!("exit status 125 for {what}"),
            output.told(),
        )?;
        output.explains()?;
    }
    t.run_in(&name, &[], &["cat", "/word"])?.prints(&word)?;
    let now = listed()?;
    ensure(
        there == now,
        format!("as many lines from `images` as before: {there}"),
        now.to_string(),
    )?;
    t.unchanged(&before)
}

/// Of a file, of a directory, and of one that a later layer makes again.
fn whiteout(t: &Trial) -> Found {
    let [kept, gone, dir, new] = [t.word(), t.word(), t.word(), t.word()];
    let lowest = Layer::default()
        .directory("a")
        .file(&format!("a/{kept}"), "kept")
        .file(&format!("a/{gone}"), "gone")
        .directory("b")
        .directory(&format!("b/{dir}"))
        .file(&format!("b/{dir}/{gone}"), "gone")
        .file(&gone, "gone");
    let middle = Layer::default()
        .file(&format!("a/.wh.{gone}"), "")
        .file(&format!("b/.wh.{dir}"), "")
        .file(&format!(".wh.{gone}"), "");
    let top = Layer::default()
        .directory(&format!("b/{dir}"))
        .file(&format!("b/{dir}/{new}"), "new");
    let below = t.loaded(&Image::new(t, [lowest, middle])?)?;
    let script = format!(
        "ls -A /a; echo --; ls -A /b; [ -e /{gone} ] && echo still there; ls -A / | grep wh; exit 0"
    );
    t.shell_in(&below, &[], &script)?
        .prints(&format!("{kept}\n--"))?;

    let lowest = Layer::default()
        .directory(&format!("b/{dir}"))
        .file(&format!("b/{dir}/{gone}"), "gone");
    let middle = Layer::default().file(&format!("b/.wh.{dir}"), "");
    let again = t.loaded(&Image::new(t, [lowest, middle, top])?)?;
    t.run_in(&again, &[], &["ls", "-A", &format!("/b/{dir}")])?
        .prints(&new)?;
    Ok(())
}

fn opaque(t: &Trial) -> Found {
    let [old, first, last] = [t.word(), t.word(), t.word()];
    let lower = Layer::default()
        .directory("d")
        .file(&format!("d/{old}"), "old")
        .directory("d/sub")
        .file("d/sub/file", "old")
        .directory("e")
        .file(&format!("e/{old}"), "old");
    // What its own layer has stays, before the mark and after it.
    let upper = Layer::default()
        .directory("d")
        .file(&format!("d/1{first}"), "new")
        .file("d/.wh..wh..opq", "")
        .file(&format!("d/2{last}"), "new")
        .directory("e")
        .file(&format!("e/{last}"), "new");
    let name = t.loaded(&Image::new(t, [lower, upper])?)?;
    t.run_in(&name, &[], &["ls", "-A", "/d"])?
        .prints(&format!("1{first}\n2{last}"))?;
    let mut both = [old, last];
    both.sort();
    t.run_in(&name, &[], &["ls", "-A", "/e"])?
        .prints(&both.join("\n"))?;
    Ok(())
}

fn layers(t: &Trial) -> Found {
    let words: Vec<String> = (0..4).map(|_| t.word()).collect();
    let layers = words.iter().enumerate().map(|(n, word)| {
        let layer = Layer::default()
            .file("word", word)
            .file(&format!("only{n}"), word);
        match n {
            0 => layer
                .file("swap", "a file")
                .directory("pws")
                .file("pws/x", "x"),
            2 => layer
                .directory("swap")
                .file(&format!("swap/{word}"), "")
                .file("pws", word),
            _ => layer,
        }
    });
    let name = t.loaded(&Image::new(t, layers)?)?;
    let script =
        "for f in /word /only0 /only1 /only2 /only3 /pws; do cat $f; echo; done; ls -A /swap";
    let expected = [
        &words[3], &words[0], &words[1], &words[2], &words[3], &words[2], &words[2],
    ];
    t.shell_in(&name, &[], script)?
        .prints(&expected.map(String::as_str).join("\n"))?;
    Ok(())
}

/// One container writes and lives on while another looks and writes as well.
fn writes(t: &Trial) -> Found {
    let [old, one, other] = [t.word(), t.word(), t.word()];
    let layer = Layer::default()
        .directory("d")
        .file("d/word", &old)
        .file("d/gone", "x")
        .directory("d/sub");
    let name = t.loaded(&Image::new(t, [layer])?)?;
    let write = |word: &str| {
        format!("printf {word} >/d/word; rm /d/gone; rmdir /d/sub; echo >/d/{word}; echo ready")
    };
    let look = "cat /d/word; echo; ls -A /d";
    let script = format!(
        "{}; trap '{look}; exit 0' TERM; while :; do sleep 0.05; done",
        write(&one)
    );
    let mut first = t
        .container(&["--network", "none"])
        .of(&name)
        .start(&["sh", "-c", &script])?;
    first.until("ready")?;
    let as_it_was = format!("{old}\ngone\nsub\nword");
    let mut names = [other.as_str(), "word"];
    names.sort_unstable();
    t.shell_in(&name, &[], &format!("{look}; {}; {look}", write(&other)))?
        .prints(&format!(
            "{as_it_was}\nready\n{other}\n{}",
            names.join("\n")
        ))?;
    first.signal(Signal::SIGTERM)?;
    let mut names = [one.as_str(), "word"];
    names.sort_unstable();
    first
        .wait()?
        .prints(&format!("ready\n{one}\n{}", names.join("\n")))?;
    t.shell_in(&name, &[], look)?.prints(&as_it_was)?;
    Ok(())
}

/// The machine must know the users that a check asks for.
fn needs_users(t: &Trial) -> Found {
    let many = t.machine("awk '{ sum += $3 } END { print (sum > 60000) }' /proc/self/uid_map")?;
    if many == "1" {
        return Ok(());
    }
    Err(Problem::Impossible {
        why: "a test machine of yours knows no user but root".to_owned(),
        fix: "install newuidmap (Debian: apt-get install uidmap), or cargo lab check --vm"
            .to_owned(),
    })
}

fn user(t: &Trial) -> Found {
    let [name, other, own, extra] = [t.word(), t.word(), t.word(), t.word()];
    let [uid, gid, more, second] = [
        (1_000, 2_000),
        (2_000, 3_000),
        (3_000, 4_000),
        (4_000, 5_000),
    ]
    .map(|(from, to)| t.number(from..to));
    let passwd = format!(
        "root:x:0:0:root:/root:/bin/sh\n{other}:x:{second}:{second}::/:/bin/sh\n\
         {name}:x:{uid}:{gid}::/:/bin/sh\n"
    );
    let group = format!("root:x:0:\n{own}:x:{gid}:\n{extra}:x:{more}:{other},{name}\n");
    let layer = Layer::default()
        .file("etc/passwd", &passwd)
        .file("etc/group", &group);
    let image = Image::new(t, [layer])?.with("User", json!(name));
    let image = t.loaded(&image)?;
    // Only now, when it is known that there is something to look at.
    needs_users(t)?;
    let script = "id -u; id -g; id -G | tr ' ' '\\n' | sort -n | tr '\\n' ' '";
    let all = format!("{uid}\n{gid}\n{gid} {more} ");
    let extra_alone = format!("{uid}\n{more}\n{more} ");
    let (number, pair) = (uid.to_string(), format!("{name}:{extra}"));
    let numbers = format!("{second}:{uid}");
    for (options, expected) in [
        (vec![], &all),
        (vec!["-u", &name], &all),
        (vec!["--user", &number], &all),
        (vec!["-u", &pair], &extra_alone),
        (vec!["-u", &numbers], &format!("{second}\n{uid}\n{uid} ")),
        (vec!["-u", "root"], &"0\n0\n0 ".to_owned()),
    ] {
        t.shell_in(&image, &options, script)?.prints(expected)?;
    }
    let nobody = t.word();
    let output = t.shell_in(&image, &["-u", &nobody], script)?;
    ensure(
        output.code() != 0,
        format!("a failure, for the image knows no user {nobody}"),
        output.told(),
    )?;
    output.explains()
}

fn env(t: &Trial) -> Found {
    let [kept, old, new, dir, said] = [t.word(), t.word(), t.word(), t.word(), t.word()];
    let tool = t.word();
    let layer = Layer::default()
        .directory("opt")
        .directory(&format!("opt/{dir}"))
        .file_about(
            &format!("opt/{dir}/{tool}"),
            &format!("#!/bin/sh\nprintf '%s|' {said} \"$KEPT\" \"$CHANGED\" \"$ADDED\"\n"),
            About {
                mode: 0o755,
                ..PLAIN
            },
        );
    let image = Image::new(t, [layer])?.with(
        "Env",
        json!([
            format!("PATH=/opt/{dir}:/bin"),
            format!("KEPT={kept} = {kept}"),
            format!("CHANGED={old}"),
        ]),
    );
    let image = t.loaded(&image)?;
    t.run_in(&image, &[], &[&tool])?
        .prints(&format!("{said}|{kept} = {kept}|{old}||"))?;
    let (changed, added) = (format!("CHANGED={new}"), format!("ADDED=a  b={new}"));
    t.run_in(&image, &["-e", &changed, "--env", &added], &[&tool])?
        .prints(&format!("{said}|{kept} = {kept}|{new}|a  b={new}|"))?;
    // Once: the first of two would be another program's truth.
    t.run_in(
        &image,
        &["-e", &changed],
        &["sh", "-c", "env | grep -c ^CHANGED="],
    )?
    .prints("1")?;
    Ok(())
}

fn workdir(t: &Trial) -> Found {
    let [outer, inner, new, word] = [t.word(), t.word(), t.word(), t.word()];
    let layer = Layer::default()
        .directory(&outer)
        .directory(&format!("{outer}/{inner}"))
        .file(&format!("{outer}/{inner}/file"), &word);
    let dir = format!("/{outer}/{inner}");
    let image = Image::new(t, [layer])?.with("WorkingDir", json!(dir));
    let image = t.loaded(&image)?;
    t.shell_in(&image, &[], "pwd; cat file")?
        .prints(&format!("{dir}\n{word}"))?;
    for (option, dir) in [
        ("-w", format!("/{outer}")),
        ("--workdir", format!("/{outer}/{new}")),
    ] {
        t.run_in(&image, &[option, &dir], &["pwd"])?.prints(&dir)?;
    }
    Ok(())
}

fn links(t: &Trial) -> Found {
    let [word, file, missing] = [t.word(), t.word(), t.word()];
    let layer = Layer::default()
        .directory("l")
        .file(&format!("l/{file}"), &word)
        .hard_link("l/hard", &format!("l/{file}"))
        .symlink("l/near", &file)
        .symlink("l/far", &format!("/l/{file}"))
        .symlink("l/up", &format!("../l/{file}"))
        .symlink("l/dangling", &format!("../../{missing}"));
    let image = t.loaded(&Image::new(t, [layer])?)?;
    let script = format!(
        "cat /l/hard /l/near /l/far /l/up; echo
         for l in near far up dangling; do readlink /l/$l; done
         [ -h /l/hard ] && echo hard is a symlink
         set -- $(stat -c %i /l/hard /l/{file}); [ $1 = $2 ] && echo one"
    );
    t.shell_in(&image, &[], &script)?.prints(&format!(
        "{word}{word}{word}{word}\n{file}\n/l/{file}\n../l/{file}\n../../{missing}\none"
    ))?;
    Ok(())
}

fn modes(t: &Trial) -> Found {
    let about = |choices: &[u32]| About {
        mode: *t.pick(choices),
        mtime: t.number(1_000_000_000..1_600_000_000),
    };
    let all = [
        ("m", about(&[0o777, 0o755, 0o1777, 0o2755])),
        ("m/file", about(&[0o666, 0o622, 0o604, 0o777])),
        ("m/set", about(&[0o4755, 0o2711, 0o6777, 0o4711])),
        ("m/dir", about(&[0o700, 0o770, 0o1733])),
        ("m/dir/file", about(&[0o400, 0o444, 0o000])),
    ];
    let layer = all.iter().fold(Layer::default(), |layer, (path, about)| {
        if path.ends_with("m") || path.ends_with("dir") {
            layer.directory_about(path, *about)
        } else {
            layer.file_about(path, "x", *about)
        }
    });
    let image = t.loaded(&Image::new(t, [layer])?)?;
    let (mut expected, mut paths) = (Vec::new(), vec!["stat", "-c", "%n %a %Y"]);
    for (path, About { mode, mtime }) in &all {
        expected.push(format!("{path} {mode:o} {mtime}"));
        paths.push(path);
    }
    t.run_in(&image, &["-w", "/"], &paths)?
        .prints(&expected.join("\n"))?;
    Ok(())
}

/// Whatever a load of these says: what lies outside is as it was, and no
/// container sees it.
fn traversal(t: &Trial) -> Found {
    let [dir, secret, word, file] = [t.word(), t.word(), t.word(), t.word()];
    t.machine(&format!(
        "mkdir /tmp/{dir}; echo {secret} >/tmp/{dir}/{secret}"
    ))?;
    let (layer, good) = with_word(t);
    let name = t.loaded(&Image::new(t, [layer])?)?;
    t.run_in(&name, &[], &["cat", "/word"])?.prints(&good)?;
    let before = t.snapshot();
    let content = || t.machine(&format!("cat /tmp/{dir}/*"));
    let up = "../".repeat(12);
    let new = Layer::default;
    let layers = [
        vec![new().file(&format!("{up}tmp/{dir}/{file}"), &word)],
        vec![new().file(&format!("{up}tmp/{dir}/{secret}"), &word)],
        vec![
            new()
                .directory("x")
                .file(&format!("x/{up}tmp/{dir}/{file}"), &word),
        ],
        vec![
            new()
                .symlink("x", &format!("/tmp/{dir}"))
                .file(&format!("x/{file}"), &word)
                .file(&format!("x/{secret}"), &word),
        ],
        vec![
            new()
                .symlink("x", &format!("{up}tmp/{dir}"))
                .directory(&format!("x/{file}"))
                .file(&format!("x/.wh.{secret}"), ""),
        ],
        vec![
            new().symlink("x", &format!("/tmp/{dir}")),
            new()
                .file(&format!("x/{file}"), &word)
                .file(&format!("x/.wh.{secret}"), ""),
        ],
        vec![
            new()
                .symlink("x", &format!("/tmp/{dir}/{secret}"))
                .file("x", &word),
        ],
        vec![new().hard_link("x", &format!("{up}tmp/{dir}/{secret}"))],
        vec![
            new()
                .symlink("x", &format!("/tmp/{dir}"))
                .hard_link("y", &format!("x/{secret}")),
        ],
    ];
    for layers in layers {
        let image = Image::new(t, layers)?;
        let name = t.image_name();
        let loaded = t.load(&image.oci(Some(&name)))?;
        same("the files outside of the layer", &secret, &content()?)?;
        // What a symlink says is only text; behind it there is nothing, inside.
        if loaded.code() == 0 {
            let script = format!("cat /x /y /x/* /tmp/{dir}/{secret} 2>/dev/null; echo {good}");
            let output = t.shell_in(&name, &[], &script)?;
            ensure(
                !output.text().contains(&secret),
                "inside, nothing of a file outside",
                output.told(),
            )?;
        }
    }
    t.unchanged(&before)
}

/// Whether `images` has a line with the name and the tag.
fn is_listed(t: &Trial, image: &str) -> Found<(bool, String)> {
    let list = t.call(&["images"])?.succeeds()?.text();
    let (name, tag) = image.split_once(':').unwrap_or((image, "latest"));
    let listed = list
        .lines()
        .any(|line| line.contains(name) && line.contains(tag));
    Ok((listed, list))
}

fn images_rmi(t: &Trial) -> Found {
    let ((one, _), (other, word)) = (with_word(t), with_word(t));
    let one = t.loaded(&Image::new(t, [one])?)?;
    let other = t.loaded(&Image::new(t, [other])?)?;
    for image in [&one, &other] {
        let (listed, list) = is_listed(t, image)?;
        ensure(listed, format!("in `images`: {image}"), list)?;
    }
    t.call(&["rmi", &one])?.succeeds()?;
    let (listed, list) = is_listed(t, &one)?;
    ensure(!listed, format!("in `images`, no {one} any more"), list)?;
    t.run_in(&one, &[], &["true"])?.exits(125)?.explains()?;
    let again = t.call(&["rmi", &one])?;
    ensure(
        again.code() != 0,
        "a failure of rmi, for it is gone already",
        again.told(),
    )?;
    t.run_in(&other, &[], &["cat", "/word"])?.prints(&word)?;
    Ok(())
}

fn student(t: &Trial) -> Found {
    let before = t.snapshot();
    let [gone, word, new] = [t.word(), t.word(), t.word()];
    let lower = Layer::default()
        .directory("d")
        .file(&format!("d/{gone}"), "gone");
    let upper = Layer::default()
        .file(&format!("d/.wh.{gone}"), "")
        .file("d/word", &word);
    let name = t.image_name();
    let image = Image::new(t, [lower, upper])?;
    t.load_as(User::Student, &image.oci(Some(&name)))?
        .prints(&format!("Loaded image: {name}"))?;
    let script = format!("id -u; ls -A /d; cat /d/word; echo {new} >/d/word; cat /d/word");
    for _ in 0..2 {
        t.container(&["--network", "none"])
            .as_student()
            .of(&name)
            .run(&["sh", "-c", &script])?
            .prints(&format!("0\nword\n{word}{new}"))?;
    }
    t.unchanged(&before)
}

/// What a container wrote must not be found where images are kept.
fn is_gone(t: &Trial, word: &str) -> Found {
    let found = t.machine(&format!(
        "grep -rl {word} /var/lib/minidocker /run/minidocker 2>/dev/null | head -n 3; true"
    ))?;
    ensure(
        found.is_empty(),
        "nothing left of what a container wrote",
        found,
    )
}

fn afterwards(t: &Trial) -> Found {
    let before = t.snapshot();
    let (layer, _) = with_word(t);
    let name = t.loaded(&Image::new(t, [layer])?)?;
    let (word, code) = (t.word(), t.number(3..120) as i32);
    let write = format!("echo {word} >/{word}; echo {word} >>/word; rm -r /mnt");
    t.shell_in(&name, &[], &format!("{write}; exit {code}"))?
        .exits(code)?;
    t.run_in(&name, &[], &[&t.word()])?.exits(127)?;
    t.run_in(&t.image_name(), &[], &["true"])?.exits(125)?;
    let script = format!("{write}; echo ready; exec sleep 1000");
    let mut running = t.container(&[]).of(&name).start(&["sh", "-c", &script])?;
    running.until("ready")?;
    running.signal(Signal::SIGTERM)?;
    running.wait()?;
    is_gone(t, &word)?;
    t.unchanged(&before)
}

fn after_kill(t: &Trial) -> Found {
    let before = t.snapshot();
    let (layer, _) = with_word(t);
    let name = t.loaded(&Image::new(t, [layer])?)?;
    let word = t.word();
    let script = format!("echo {word} >/{word}; echo {word} >>/word; echo ready; exec sleep 1000");
    let mut running = t.container(&[]).of(&name).start(&["sh", "-c", &script])?;
    running.until("ready")?;
    let all = running.processes(t.first());
    running.signal(Signal::SIGKILL)?;
    running.wait().ok();
    have_ended(&all);
    t.run_in(&name, &[], &["true"])?.succeeds()?;
    is_gone(t, &word)?;
    t.unchanged(&before)
}
