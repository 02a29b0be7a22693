//! `--format`: how lists and objects are printed.
//!
//! A format is a template of Go's text/template, which is what docker's users write:
//! `{{.Repository}}:{{.Tag}}`. [`Template`] knows the values, functions and branches of that
//! language, but no templates within templates.

mod evaluate;
mod functions;
mod lex;
mod parse;
mod printf;

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

pub(crate) use parse::Template;

/// Lines whose cells are apart by tabs as a table. Docker's columns are at least that wide.
pub(crate) fn aligned(lines: &[String]) -> String {
    cli::columns(&lines.join("\n"), 10)
}

/// A list's rows, and what their columns are called.
#[derive(Default)]
pub(crate) struct List<'l> {
    /// The template of the columns that are shown where nobody asks for others.
    pub(crate) columns: &'l str,
    /// What stands above a field: `("ID", "IMAGE ID")`. Fields that are not here have none.
    pub(crate) headers: &'l [(&'l str, &'l str)],
    pub(crate) rows: Vec<Value>,
    /// The rows' labels, if they have any, of which a template asks for one:
    /// `{{.Label "tier"}}`.
    pub(crate) labels: Vec<&'l Labels>,
}

/// What people have written on a thing.
type Labels = BTreeMap<String, String>;

/// How a list is to be printed.
#[derive(Debug, Args)]
pub(crate) struct Form {
    /// How to print them: table, "table TEMPLATE", json, or a template of Go's
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

impl Form {
    /// Whether somebody asks for a field.
    pub(crate) fn asks_for(&self, field: &str) -> bool {
        let format = self.format.as_deref();
        format.is_some_and(|format| format.contains(field))
    }

    /// Prints a list, whose things go by what the template `id` says.
    ///
    /// # Errors
    /// As [`List::lines`], and standard output cannot be written to.
    pub(crate) fn say(&self, list: &List, id: &str) -> Result<()> {
        let format = self.format.as_deref().unwrap_or_default();
        let lines = match format {
            "" | "table" if self.quiet => list.lines(id)?,
            format => list.lines(format)?,
        };
        lines.iter().try_for_each(|line| cli::say(line))
    }
}

/// Labels, or what else has keys and values, as docker writes them: `a=1,b=2`. They may be an image's,
/// and a terminal takes no orders from it.
pub(crate) fn joined(labels: &Labels, between: &str) -> String {
    let pairs = labels.iter().map(|(key, value)| format!("{key}={value}"));
    let pairs = pairs.map(|pair| cli::printable(&pair, usize::MAX));
    pairs.collect::<Vec<_>>().join(between)
}

/// Prints one thing by a template, which may ask for what is `unsaid` of it as well.
///
/// # Errors
/// As [`List::lines`], and standard output cannot be written to.
pub(crate) fn fill(template: &str, thing: &Value, unsaid: &Value) -> Result<()> {
    cli::say(&Template::parse(template)?.execute(thing, unsaid)?)
}

impl List<'_> {
    /// The lines to print for `--format`, which is a template, `table`, `table TEMPLATE` or
    /// `json`; an empty one is the usual table.
    ///
    /// # Errors
    /// A template that is wrong, or asks for a field that there is not.
    pub(crate) fn lines(&self, format: &str) -> Result<Vec<String>> {
        let format = format.trim();
        let written = format.replace(r"\t", "\t").replace(r"\n", "\n");
        match written.strip_prefix("table") {
            _ if format == "json" => Ok(self.rows.iter().map(ToString::to_string).collect()),
            _ if format.is_empty() => self.table(self.columns),
            Some("") => self.table(self.columns),
            Some(columns) => self.table(columns.trim()),
            None => self.filled(&Template::parse(&written)?),
        }
    }

    /// The same template for each row.
    fn filled(&self, template: &Template) -> Result<Vec<String>> {
        let rows = self.rows.iter().enumerate();
        rows.map(|(n, row)| {
            let labels = self.labels.get(n);
            let labels = labels.map(|labels| json!({ "Label": labels }));
            template.execute(row, &labels.unwrap_or_default())
        })
        .collect()
    }

    fn table(&self, columns: &str) -> Result<Vec<String>> {
        let template = Template::parse(columns)?;
        let header = |(field, name): &(&str, &str)| ((*field).to_owned(), Value::from(*name));
        let names: Value = self.headers.iter().map(header).collect();
        let mut lines = self.filled(&template)?;
        lines.insert(0, template.header(&names)?);
        Ok(vec![aligned(&lines)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Value {
        json!({
            "Id": "sha256:aaaa", "Repository": "localhost:5000/team/app", "Tag": "v1", "Size": 7830000,
            "RepoTags": ["a:1", "b:2"], "None": null, "Empty": [],
            "Config": { "Env": ["PATH=/bin", "A=<b>&"], "Labels": { "z": "1", "a": "2" } },
        })
    }

    fn fill(template: &str) -> String {
        let filled =
            Template::parse(template).and_then(|template| template.execute(&image(), &Value::Null));
        filled.unwrap_or_else(|error| error.to_string())
    }

    #[track_caller]
    fn check(cases: &[(&str, &str)]) {
        for (template, expected) in cases {
            assert_eq!(&fill(template), expected, "{template}");
        }
    }

    #[test]
    fn fields_are_filled_in() {
        check(&[
            ("plain }} text", "plain }} text"),
            ("{{.Repository}}:{{.Tag}}", "localhost:5000/team/app:v1"),
            (
                "{{ .ID }} {{.Id}} {{(.ID)}}",
                "sha256:aaaa sha256:aaaa sha256:aaaa",
            ),
            ("{{.Config.Env}}", "[PATH=/bin A=<b>&]"),
            ("{{.Config.Labels}}", "map[a:2 z:1]"),
            ("{{.None}} {{.None.deeper}}", "<no value> <no value>"),
            ("{{json .Config.Env}}", r#"["PATH=/bin","A=<b>&"]"#),
            ("{{json .None}}", "null"),
            ("a  {{- .Tag -}}  b {{ 1 -}} \n c", "av1b 1c"),
            ("x {{- /* a remark */ -}} y{{/* another */}}", "xy"),
            (
                "{{`raw\\`}}{{\"\\t\\u00e9\\\"\"}}{{'a'}} {{0x10}}{{0b1}} {{-3}} {{1.5}} {{1_000}}",
                "raw\\\té\"97 161 -3 1.5 1000",
            ),
        ]);
    }

    #[test]
    fn branches_and_loops_go_where_they_should() {
        check(&[
            ("{{range .RepoTags}}<{{.}}>{{end}}", "<a:1><b:2>"),
            (
                "{{range $i, $x := .RepoTags}}{{$i}}={{$x}};{{end}}",
                "0=a:1;1=b:2;",
            ),
            (
                "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}",
                "a=2 z=1 ",
            ),
            ("{{range .Empty}}x{{else}}none{{end}}", "none"),
            ("{{range .None}}x{{else}}none{{end}}", "none"),
            ("{{range 3}}{{.}}{{end}}", "012"),
            ("{{range 9223372036854775807}}{{break}}{{end}}x", "x"),
            (
                "{{range 5}}{{if eq . 1}}{{continue}}{{end}}{{if eq . 3}}{{break}}{{end}}{{.}}{{end}}",
                "02",
            ),
            (
                "{{if .Empty}}a{{else if eq .Tag \"v1\"}}b{{else}}c{{end}}",
                "b",
            ),
            (
                "{{with .Config}}{{index .Env 0}} {{$.Tag}}{{end}}",
                "PATH=/bin v1",
            ),
            ("{{with .Empty}}a{{else with .Tag}}{{.}}{{end}}", "v1"),
            (
                "{{$x := .Tag}}{{if true}}{{$x = \"new\"}}{{end}}{{$x}}",
                "new",
            ),
            (
                "{{$x := .Tag}}{{if true}}{{$x := \"new\"}}{{end}}{{$x}}",
                "v1",
            ),
            (
                "{{range $x := .RepoTags}}{{range $.Config.Env}}{{$x}}{{end}}{{end}}",
                "a:1a:1b:2b:2",
            ),
        ]);
    }

    #[test]
    fn functions_do_what_docker_has_them_do() {
        check(&[
            (
                "{{.Repository | upper | printf \"%-25s|\"}}",
                "LOCALHOST:5000/TEAM/APP  |",
            ),
            (
                "{{title .Repository}} {{lower \"AB\"}}",
                "Localhost:5000/Team/App ab",
            ),
            (
                "{{join (split .Repository \"/\") \"-\"}}",
                "localhost:5000-team-app",
            ),
            ("{{split .Repository \"/\"}}", "[localhost:5000 team app]"),
            (
                "{{pad .Tag 2 3}}|{{truncate .ID 4}}|{{truncate .Tag 9}}",
                "  v1   |sha2|v1",
            ),
            (
                "{{len .ID}} {{len .RepoTags}} {{len .Config.Labels}} {{len .None}}",
                "11 2 2 0",
            ),
            (
                "{{index .RepoTags 1}} {{index .Config.Labels \"z\"}}{{index .Config.Labels \"x\"}}",
                "b:2 1",
            ),
            ("{{slice .ID 7}} {{slice .ID 1 3}}", "aaaa ha"),
            (
                "{{print 1 2 \"a\" \"b\" 3}} {{println .Tag}}",
                "1 2ab3 v1\n",
            ),
            (
                "{{lt 1 2}} {{ge \"b\" \"a\"}} {{ne 1 1}} {{eq .Tag \"x\" \"v1\"}} {{not .Empty}}",
                "true true false true true",
            ),
            (
                "{{and .Tag .ID}} {{and .Empty .None.x}} {{or .Empty .Tag}}",
                "sha256:aaaa [] v1",
            ),
            (
                "{{printf \"%q %v %5d|%05d|%x|%s %d\" .Tag .Size 42 -42 255 .Tag}}",
                "\"v1\" 7830000    42|-0042|ff|v1 %!d(MISSING)",
            ),
            (
                "{{printf \"%.2f%% %d\" 1.0 \"x\"}}{{printf \"\" 1}}",
                "1.00% %!d(string=x)%!(EXTRA int64=1)",
            ),
        ]);
    }

    #[test]
    fn errors_are_dockers() {
        let prefix = "template parsing error: template: :1";
        for (template, error) in [
            (
                "{{.Foo}}",
                ":2: executing \"\" at <.Foo>: map has no entry for key \"Foo\"",
            ),
            (
                "{{.ID.Foo}}",
                ":5: executing \"\" at <.ID.Foo>: can't evaluate field Foo in type string",
            ),
            (
                "{{index .RepoTags 5}}",
                ":2: executing \"\" at <index .RepoTags 5>: error calling index: index out of range: 5",
            ),
            (
                "{{eq 1 \"a\"}}",
                ":2: executing \"\" at <eq 1 \"a\">: error calling eq: incompatible types for comparison",
            ),
            (
                "{{lower}}",
                ":2: executing \"\" at <lower>: wrong number of args for lower: want 1 got 0",
            ),
            (
                "{{nil}}",
                ":2: executing \"\" at <nil>: nil is not a command",
            ),
            (
                "{{.Tag 3}}",
                ":2: executing \"\" at <.Tag>: can't give argument to non-function .Tag",
            ),
            (
                "{{range .Tag}}{{end}}",
                ":8: executing \"\" at <.Tag>: range can't iterate over v1",
            ),
            ("{{.Repository", ": unclosed action"),
            ("{{bad}}", ": function \"bad\" not defined"),
            ("{{$x}}", ": undefined variable \"$x\""),
            ("{{if}}", ": missing value for if"),
            ("{{}}", ": missing value for command"),
            ("{{if .ID}}", ": unexpected EOF"),
            ("{{end}}", ": unexpected {{end}}"),
            ("{{break}}", ": {{break}} outside {{range}}"),
            ("{{1 | 2}}", ": non executable command in pipeline stage 2"),
            ("{{\"open}}", ": unterminated quoted string"),
            ("{{ .ID}", ": bad character U+007D '}'"),
            ("{{(.ID}}", ": unclosed left paren"),
            ("{{/* open", ": unclosed comment"),
            ("{{template \"x\"}}", ": {{template}} is not supported here"),
            ("{{3x}}", ": bad number syntax: \"3x\""),
        ] {
            assert_eq!(fill(template), format!("{prefix}{error}"), "{template}");
        }
        assert!(fill("\n\n{{.Foo}}").contains("template: :3:2: executing"));
        assert!(fill("\n\n{{bad}}").contains("template: :3: function"));
        for deep in ["{{if 1}}", "{{else if 1}}", "{{with 1}}"] {
            let text = format!("{{{{if 1}}}}{}", deep.repeat(100_000));
            assert!(fill(&text).contains("more than 100"), "{deep}");
        }
        assert!(fill(&format!("{{{{{}}}}}", "(".repeat(100_000))).contains("more than 100"));
    }

    #[test]
    fn whatever_is_written_there_is_an_answer() {
        let pieces = [
            "{{", "}}", "-", " ", ".", "$x", ":=", "if", "end", "range", "(", ")", "|", "\"", "`",
            "1", "é", "/*", ",", "'", "\\",
        ];
        let mut state = 1_u32;
        for _ in 0..20_000 {
            let mut template = String::new();
            for _ in 0..8 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                template.push_str(pieces[(state >> 16) as usize % pieces.len()]);
            }
            fill(&template);
        }
    }

    fn list() -> List<'static> {
        List {
            columns: "{{.ID}}\t{{.Size}}",
            headers: &[("ID", "IMAGE ID"), ("Size", "SIZE"), ("Tag", "TAG")],
            rows: vec![
                json!({ "ID": "aaaaaaaaaaaa", "Size": "7.83MB", "Tag": "v1" }),
                json!({ "ID": "b", "Size": "0B", "Tag": "<none>" }),
            ],
            ..List::default()
        }
    }

    #[test]
    fn a_table_has_the_names_of_its_columns_above() {
        let usual = ["IMAGE ID       SIZE\naaaaaaaaaaaa   7.83MB\nb              0B"];
        for format in ["", "table"] {
            assert_eq!(list().lines(format).unwrap(), usual);
        }
        let other = list().lines(r"table {{upper .Tag}}\t{{json .ID}}");
        assert_eq!(
            other.unwrap(),
            ["TAG       IMAGE ID\nV1        \"aaaaaaaaaaaa\"\n<NONE>    \"b\""]
        );
        assert!(list().lines("table {{.Foo}}").is_err());
    }

    #[test]
    fn a_label_is_asked_for_by_its_key() {
        let front = Labels::from([("com.tier_of".to_owned(), "front".to_owned())]);
        let none = Labels::new();
        let list = List {
            labels: vec![&front, &none],
            ..list()
        };
        assert_eq!(
            list.lines(r#"table {{.ID}}\t{{.Label "com.tier_of"}}"#)
                .unwrap(),
            ["IMAGE ID       tier of\naaaaaaaaaaaa   front\nb"]
        );
        let json = list.lines("{{json .}}").unwrap();
        assert_eq!(json[1], r#"{"ID":"b","Size":"0B","Tag":"<none>"}"#);
    }

    #[test]
    fn a_list_is_printed_by_a_template_or_as_json() {
        let json = list().lines("json").unwrap();
        assert_eq!(json[1], r#"{"ID":"b","Size":"0B","Tag":"<none>"}"#);
        assert_eq!(list().lines("{{json .}}").unwrap(), json);
        let lines = list().lines(r"{{.ID}}\t{{.Tag}}\n").unwrap();
        assert_eq!(lines, ["aaaaaaaaaaaa\tv1\n", "b\t<none>\n"]);
    }
}
