//! The book: what its pages show is there, and is what happens.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// A repository with a book of one page. Dropped, it is removed.
struct Repository {
    root: PathBuf,
}

impl Repository {
    fn new(name: &str, page: &str) -> Repository {
        let root =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let repository = Repository { root };
        repository.write(
            "book/en/src/SUMMARY.md",
            "# Contents\n\n- [Page](page.md)\n",
        );
        repository.write("book/en/src/page.md", page);
        repository.write(
            "steps/01-one/src/run.rs",
            "//! One.\n\nfn run() {\n    go();\n}\n",
        );
        repository.write(
            "steps/02-two/src/run.rs",
            "//! Two.\n\nfn run() {\n    go();\n    more();\n}\n",
        );
        repository.write("steps/01-one/src/lib.rs", SOURCE);
        repository
    }

    fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().expect("a file in a directory")).expect("make it");
        fs::write(path, text).expect("write it");
        self
    }

    /// What mdBook gets back, as the page's text, or what is said is wrong.
    fn expand(&self) -> Result<String, String> {
        let page = fs::read_to_string(self.root.join("book/en/src/page.md")).expect("the page");
        let book = json!([
            {"root": self.root.join("book/en"), "renderer": "html"},
            {"items": [
                "Separator",
                {"Chapter": {
                    "name": "Page", "content": page, "number": null, "sub_items": [],
                    "path": "page.md", "source_path": "page.md", "parent_names": [],
                }},
                {"Chapter": {
                    "name": "Draft", "content": "", "number": null, "sub_items": [],
                    "path": null, "source_path": null, "parent_names": [],
                }},
            ]},
        ]);
        let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"))
            .arg("expand")
            .env_remove("MINIDOCKER_BOOK_DRAFT")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start lab");
        let input = serde_json::to_vec(&book).expect("JSON");
        lab.stdin
            .take()
            .expect("piped")
            .write_all(&input)
            .expect("lab listens");
        let out = lab.wait_with_output().expect("lab ends");
        if !out.status.success() {
            return Err(String::from_utf8(out.stderr).expect("UTF-8"));
        }
        let book: Value = serde_json::from_slice(&out.stdout).expect("JSON");
        let text = book.pointer("/items/1/Chapter/content");
        Ok(text.and_then(Value::as_str).expect("a text").to_owned())
    }

    fn git(&self, arguments: &[&str]) {
        let out = Command::new("git")
            .args(["-c", "user.name=tests", "-c", "user.email=tests@localhost"])
            .args(arguments)
            .current_dir(&self.root)
            .output()
            .expect("run it");
        assert!(out.status.success(), "{out:?}");
    }

    /// Commits everything, and types what the page shows.
    fn rehearse(&self) -> (Option<i32>, String) {
        self.git(&["init", "--quiet"]);
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "All of it"]);
        let Output {
            status,
            stdout,
            stderr,
        } = Command::new(env!("CARGO_BIN_EXE_lab"))
            .arg("rehearse")
            .arg("--repository")
            .arg(&self.root)
            .output()
            .expect("run it");
        let said = [stdout, stderr].concat();
        (status.code(), String::from_utf8(said).expect("UTF-8"))
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.root).ok();
    }
}

const SOURCE: &str = r#"//! The leaf.

/// Sets it.
#[must_use]
pub fn set(name: &str) -> bool {
    // task 01.1 {
    name == "}"
    // } todo!("task 01.1: set the name (book: 1.1)")
}

struct Held;

impl Held {
    /// Lets go.
    fn release(self) {
        drop(self);
    }
}

impl Drop for Held {
    fn drop(&mut self) {}
}
"#;

const PICTURE: &str = "<svg viewBox=\"0 0 1 1\">\n<title id=\"t\">T</title>\n\n<desc>D</desc>\n\
    <path marker-end=\"url(#t)\"/>\n</svg>\n";

#[test]
fn what_a_page_names_is_put_in_its_place() {
    let repository = Repository::new(
        "expand",
        "# Page\n\n{{#code steps/01-one/src/lib.rs fn set}}\n\
         {{#code steps/01-one/src/lib.rs fn Held::release}}\n\
         {{#code steps/01-one/src/lib.rs impl Drop for Held}}\n\
         {{#code steps/01-one/src/lib.rs mod-doc}}\n\
         {{#story 1}}\n{{#story 1 2}}\n{{#tasks 1}}\n{{#picture pic}}\n\
         {{#console book/sessions/one.console}}\n{{#patch steps/01-one/breaks/it.patch}}\n\
         [here](#page) and [there](page.md#picture-pic)\n",
    );
    repository
        .write("book/pictures/pic.svg", PICTURE)
        .write(
            "book/sessions/one.console",
            "$ echo a <b\n<<a=12>>\n\n%% note Between.\n# cat <<a>>\n",
        )
        .write(
            "steps/01-one/breaks/it.patch",
            "--- a/steps/01-one/src/run.rs\n+++ b/steps/01-one/src/run.rs\n\
             @@ -1,5 +1,4 @@\n //! One.\n \n fn run() {\n-    go();\n }\n",
        );
    let page = repository.expand().unwrap();
    for part in [
        "/// Sets it.\n#[must_use]\npub fn set(name: &str) -> bool {\n    \
         todo!(\"task 01.1: set the name (book: 1.1)\")\n}\n",
        "<summary>One solution of task 01.1</summary>",
        "bool {\n    name == \"}\"\n}\n",
        "\n/// Lets go.\nfn release(self) {\n    drop(self);\n}\n",
        "\nimpl Drop for Held {\n",
        "\n//! The leaf.\n```",
        "-//! One.\n+//! Two.\n",
        "+    more();\n",
        "<td>01.1</td><td>set the name</td><td><code>set</code></td>",
        "<svg viewBox=\"0 0 1 1\">\n<title id=\"pic-t\">T</title>\n<desc>D</desc>\n\
         <path marker-end=\"url(#pic-t)\"/>",
        "<span class=\"prompt\">$ </span><kbd>echo a &lt;b</kbd>\n12\n</samp></pre>",
        "<p class=\"console-note\">Between.</p>",
        "<span class=\"prompt\"># </span><kbd>cat 12</kbd>",
        "-    go();\n",
    ] {
        assert!(page.contains(part), "{part}\n--- is not in\n{page}");
    }
    assert!(!page.contains("// task"), "{page}");
}

#[test]
fn a_page_that_shows_what_is_not_there_is_refused() {
    for (line, complaint) in [
        (
            "{{#code steps/01-one/src/lib.rs fn gone}}",
            "there is no `fn gone`",
        ),
        (
            "{{#code steps/01-one/src/lib.rs fn release}}",
            "is it `fn Held::release`?",
        ),
        (
            "{{#code steps/09-nine/src/lib.rs fn set}}",
            "read steps/09-nine/src/lib.rs",
        ),
        (
            "{{#code ../outside.rs fn set}}",
            "no path from the repository's root",
        ),
        ("{{#code steps/01-one/src/run.rs}}", "too few words"),
        ("{{#story 7}}", "no step 7"),
        ("{{#tasks 2}}", "no tasks"),
        ("{{#picture gone}}", "read book/pictures/gone.svg"),
        ("{{#console book/sessions/gone.console}}", "gone.console"),
        ("{{#nothing x}}", "no directive {{#nothing}}"),
        ("{{#include page.md}}", "goes quiet"),
        ("{{#rustdoc_include page.md}}", "goes quiet"),
        ("Text {{#story 1}}", "stands alone on its line"),
        ("```console", "a console block is a session"),
        ("~~~ console", "a console block is a session"),
        ("[link](gone.md)", "leads to no page"),
        ("[link](#gone)", "page.md has no heading #gone"),
        ("![picture](gone.png)", "leads to no page"),
    ] {
        let repository = Repository::new("refuse", &format!("# Page\n\n{line}\n"));
        let said = repository.expand().expect_err(line);
        let place = "book/en/src/page.md:3: ";
        assert!(
            said.contains(place) && said.contains(complaint),
            "{line}: {said}"
        );
    }
}

#[test]
fn a_file_that_is_not_as_it_should_be_is_refused() {
    let long = format!("$ echo {}\n", "x".repeat(80));
    let console = "{{#console book/sessions/s.console}}";
    for (directive, file, text, complaint) in [
        (
            console,
            "book/sessions/s.console",
            long.as_str(),
            "s.console:1: the line is 87",
        ),
        (
            console,
            "book/sessions/s.console",
            "only output\n",
            "nothing is typed",
        ),
        (
            console,
            "book/sessions/s.console",
            "$ a\n%% what\n",
            "s.console:2: there is no",
        ),
        (
            console,
            "book/sessions/s.console",
            "$ a <<b>>\n",
            "s.console:1: nothing on this",
        ),
        (
            console,
            "book/sessions/s.console",
            "$ a\n<<b=1>>\n<<b=2>>\n",
            "s.console:3: <<b=…>> is",
        ),
        (
            console,
            "book/sessions/s.console",
            "$ a\n%% differ b c\n",
            "nothing on this page binds b",
        ),
        (
            console,
            "book/sessions/s.console",
            "%% not executed:\n$ a\n",
            "say why",
        ),
        (
            "{{#picture p}}",
            "book/pictures/p.svg",
            "<svg><path/></svg>",
            "no <title> and <desc>",
        ),
        (
            "{{#picture p}}",
            "book/pictures/p.svg",
            "text",
            "is no <svg>",
        ),
        (
            "{{#patch steps/01-one/breaks/p.patch}}",
            "steps/01-one/breaks/p.patch",
            "--- a/steps/01-one/src/run.rs\n+++ b/steps/01-one/src/run.rs\n@@ -1 +1 @@\n-x\n+y\n",
            "does not apply",
        ),
        (
            "",
            "book/sessions/s.console",
            "$ a\n",
            "s.console: no page shows this",
        ),
        (
            "",
            "steps/01-one/sessions/s.console",
            "$ a\n",
            "s.console: no page shows this",
        ),
        (
            "",
            "steps/01-one/breaks/p.patch",
            "",
            "p.patch: no page shows this",
        ),
        (
            "",
            "final/sessions/s.console",
            "$ a\n",
            "s.console: no page shows this",
        ),
        (
            "",
            "final/breaks/p.patch",
            "",
            "p.patch: no page shows this",
        ),
        (
            "",
            "book/pictures/p.svg",
            PICTURE,
            "p.svg: no page shows this",
        ),
    ] {
        let repository = Repository::new("file", &format!("# Page\n\n{directive}\n"));
        repository.write(file, text);
        let said = repository.expand().expect_err(text);
        assert!(said.contains(complaint), "{file}: {text}{said}");
    }
}

#[test]
fn what_a_page_shows_is_typed_and_compared() {
    let session = "\
$ pwd
/home/student/minidocker
$ id -un; ls -1
student
book
steps
$ unshare --map-root-user --uts sh
# readlink /proc/self/ns/uts
uts:[<<inside=4026532500>>]
# printf '$ \\n# '; echo no prompt
\\$
\\# no prompt
# cat <<END
> a line of <<inside>>
> END
a line of <<inside>>
# exit
$ readlink /proc/self/ns/uts
uts:[<<outside=4026531838>>]
%% differ inside outside
$ seq 100 | tac | sed 's/$/ lines/'
100 …
…
1 lines
$ false; echo $?
1
";
    let two = "\
%% timeout 20
$ mkfifo ../pipe
$ echo 'to the other'; cat ../pipe; sleep 100
to the other
%% terminal 2
$ echo through the pipe > ../pipe
%% terminal 1
through the pipe
%% keys ^C
^C
%% terminal 2
$ jobs; echo second
second
%% terminal 1
$ echo first
first
";
    let skipped = "%% not executed: it would take a day\n$ sleep 86400\n";
    let repository = Repository::new(
        "rehearse",
        "{{#console book/sessions/one.console}}\n{{#console book/sessions/two.console}}\n\
         {{#console book/sessions/three.console}}\n",
    );
    repository
        .write("book/sessions/one.console", session)
        .write("book/sessions/two.console", two)
        .write("book/sessions/three.console", skipped);
    let (status, said) = repository.rehearse();
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.contains("2 sessions executed, 17 lines typed; 1 sessions are not executed"),
        "{said}"
    );
    assert!(
        said.contains("three.console: it would take a day"),
        "{said}"
    );
}

#[test]
fn a_page_that_shows_what_does_not_happen_fails() {
    for (session, place, complaint) in [
        ("$ echo one\ntwo\n", 1, "-two\n+one\n"),
        ("$ echo one\none\n$ true\nmore\n", 3, "-more\n"),
        ("$ true\n# echo in a container\n", 1, "-# \n"),
        (
            "$ echo 7 7\n<<a=1>> <<b=2>>\n%% differ a b\n",
            3,
            "to be different: a=7 b=7",
        ),
        (
            "$ echo 7 8\n<<a=1>> <<b=2>>\n%% same a b\n",
            3,
            "to be the same: a=7 b=8",
        ),
        ("$ echo seven\n<<a=7>>\n", 1, "+seven\n"),
        ("%% timeout 2\n$ sleep 100\n", 2, "nothing more came in 2 s"),
        (
            "%% timeout 2\n$ sleep 100\n%% wait here\n",
            3,
            "in vain for \"here\"",
        ),
        ("$ rm -r steps\n", 0, "the page leaves the clone changed"),
    ] {
        let repository = Repository::new("fail", "{{#console book/sessions/s.console}}\n");
        repository.write("book/sessions/s.console", session);
        let (status, said) = repository.rehearse();
        assert_eq!(status, Some(1), "{session}{said}");
        let place = match place {
            0 => "after the last line".to_owned(),
            line => format!("page: book/sessions/s.console:{line}\n"),
        };
        assert!(said.contains(&place), "{session}{said}");
        assert!(said.contains(complaint), "{session}{said}");
    }
}

#[test]
fn the_port_of_the_book_may_be_in_use() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let out = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["book", "--port", &port])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(
        said.contains("is in use; take another one: cargo lab book --port"),
        "{said}"
    );
}
