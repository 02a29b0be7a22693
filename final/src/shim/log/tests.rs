use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::{Log, PIECE};
use crate::shim::protocol::Stream;
use crate::state::LogConfig;

/// A directory that goes with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let place = std::env::temp_dir().join(format!("log-{name}-{}", std::process::id()));
        fs::create_dir_all(&place).expect("make a directory");
        Place(place)
    }

    fn log(&self, config: &LogConfig) -> Log {
        Log::open(&self.path(""), config).expect("open a log")
    }

    fn path(&self, end: &str) -> PathBuf {
        self.0.join(format!("log{end}"))
    }

    fn text(&self, end: &str) -> String {
        fs::read_to_string(self.path(end)).expect("read a log")
    }

    /// The records: stream and text.
    fn records(&self, end: &str) -> Vec<(String, String)> {
        let text = self.text(end);
        assert!(text.is_empty() || text.ends_with('\n'), "a torn end");
        let record = |line: &str| {
            let value: Value = serde_json::from_str(line).expect("a line of JSON");
            let field = |name: &str| value[name].as_str().expect("a text").to_owned();
            (field("stream"), field("log"))
        };
        text.lines().map(record).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn json_file() -> LogConfig {
    LogConfig::default()
}

/// What docker writes for these bytes, without the time.
fn written(bytes: &[u8]) -> String {
    let place = Place::new(&format!("written-{:p}", bytes.as_ptr()));
    let mut log = place.log(&json_file());
    log.write(Stream::Out, bytes);
    log.end();
    let text = place.text("");
    let end = text.rfind(",\"time\":\"").expect("a time");
    text[..end].to_owned()
}

#[test]
fn a_line_is_an_object_in_dockers_order() {
    let place = Place::new("order");
    let mut log = place.log(&json_file());
    log.write(Stream::Out, b"hello\n");
    log.write(Stream::Err, b"oh\n");
    let text = place.text("");
    let (first, second) = text.split_once('\n').expect("two lines");
    assert!(first.starts_with(r#"{"log":"hello\n","stream":"stdout","time":"2"#));
    assert!(first.ends_with(r#"Z"}"#));
    assert!(second.starts_with(r#"{"log":"oh\n","stream":"stderr","time":"2"#));
    let value: Value = serde_json::from_str(first).expect("JSON");
    let time = value["time"].as_str().expect("a time");
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
}

#[test]
fn characters_are_escaped_as_go_does() {
    for (bytes, text) in [
        (&b"\"\\/\n"[..], r#"\"\\/\n"#),
        (b"a\tb\r\n", r"a\u0009b\r\n"),
        (b"\x00\x1b[1m\x7f\n", "\\u0000\\u001b[1m\x7f\\n"),
        (b"<a href=\"x\">&\n", r#"\u003ca href=\"x\"\u003e\u0026\n"#),
        ("ä€𝄞\n".as_bytes(), r"ä€𝄞\n"),
        (
            "\u{2028}\u{2029}\u{2030}â\n".as_bytes(),
            "\\u2028\\u2029\u{2030}â\\n",
        ),
        (b"\n", r"\n"),
        (b"no end", "no end"),
    ] {
        let expected = format!(r#"{{"log":"{text}","stream":"stdout""#);
        assert_eq!(written(bytes), expected);
    }
}

#[test]
fn each_byte_that_is_no_text_becomes_a_replacement_character() {
    for (bytes, text) in [
        (&b"a\xffb\n"[..], r"a\ufffdb\n"),
        (b"\xe2\x82\n", r"\ufffd\ufffd\n"),
        (b"\xed\xa0\x80\n", r"\ufffd\ufffd\ufffd\n"),
        (b"\xf0\x80\x80A\n", r"\ufffd\ufffd\ufffdA\n"),
        (b"\xc0\xaf\xf5\n", r"\ufffd\ufffd\ufffd\n"),
    ] {
        let expected = format!(r#"{{"log":"{text}","stream":"stdout""#);
        assert_eq!(written(bytes), expected);
    }
}

#[test]
fn a_line_waits_for_its_end_on_each_stream() {
    let place = Place::new("halves");
    let mut log = place.log(&json_file());
    log.write(Stream::Out, "one €".as_bytes().get(..5).unwrap_or_default());
    log.write(Stream::Err, b"two");
    assert_eq!(place.text(""), "");
    log.write(Stream::Out, &"one €".as_bytes()[5..]);
    log.write(Stream::Out, b"\nthr");
    log.write(Stream::Err, b"\n");
    log.end();
    let expected = [
        ("stdout", "one €\n"),
        ("stderr", "two\n"),
        ("stdout", "thr"),
    ];
    assert_eq!(
        place.records(""),
        expected.map(|(s, t)| (s.into(), t.into()))
    );
}

#[test]
fn a_long_line_is_in_pieces_of_one_time() {
    let place = Place::new("pieces");
    let mut log = place.log(&json_file());
    let line = "x".repeat(2 * PIECE);
    log.write(Stream::Out, line.as_bytes());
    log.write(Stream::Out, b"\nnext\n");
    let records = place.records("");
    let lengths: Vec<usize> = records.iter().map(|(_, text)| text.len()).collect();
    assert_eq!(lengths, [PIECE, PIECE, 1, 5]);
    let text = place.text("");
    let time = |line: &str| line.rsplit_once("time").map(|(_, time)| time.to_owned());
    let times: Vec<_> = text.lines().map(time).collect();
    assert_eq!(times[0], times[1]);
    assert_eq!(times[0], times[2]);
    assert_ne!(times[2], times[3]);
}

#[test]
fn no_piece_ends_within_a_character_however_it_arrives() {
    let text = "€".repeat(20_000) + "\n";
    for size in [1, 2, 7, 4096, 1 << 20] {
        let place = Place::new(&format!("cut-{size}"));
        let mut log = place.log(&json_file());
        for chunk in text.as_bytes().chunks(size) {
            log.write(Stream::Out, chunk);
        }
        let records = place.records("");
        let all: String = records.iter().map(|(_, text)| text.as_str()).collect();
        assert!(all == text, "in chunks of {size}");
        assert_eq!(records[0].1.len(), PIECE - 1);
    }
}

#[test]
fn random_bytes_come_out_as_go_reads_them() {
    let mut state = 1_u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u8
    };
    let bytes: Vec<u8> = (0..200_000).map(|_| random()).collect();
    let place = Place::new("random");
    let mut log = place.log(&json_file());
    for chunk in bytes.chunks(8191) {
        log.write(Stream::Out, chunk);
    }
    log.end();
    let all: String = place
        .records("")
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    let mut expected = String::new();
    for chunk in bytes.utf8_chunks() {
        expected.push_str(chunk.valid());
        expected.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
    }
    assert!(all == expected);
    assert!(log.batch.capacity() <= 64 << 10, "{}", log.batch.capacity());
}

#[test]
fn files_are_put_aside_and_the_oldest_goes() {
    let place = Place::new("rotation");
    let config = LogConfig {
        max_size: 1000,
        max_file: 3,
        ..json_file()
    };
    let mut log = place.log(&config);
    for number in 0..100 {
        log.write(Stream::Out, format!("{number:03}\n").as_bytes());
    }
    let lines = |end: &str| -> Vec<String> {
        place
            .records(end)
            .into_iter()
            .map(|(_, text)| text)
            .collect()
    };
    assert!(!place.path(".3").exists());
    let all = [lines(".2"), lines(".1"), lines("")].concat();
    let expected: Vec<String> = (100 - all.len()..100)
        .map(|n| format!("{n:03}\n"))
        .collect();
    assert_eq!(all, expected);
    for end in [".2", ".1"] {
        let length = place.text(end).len();
        assert!((1000..1100).contains(&length), "{length}");
    }
}

#[test]
fn one_file_begins_anew_when_it_is_full() {
    let place = Place::new("one-file");
    let config = LogConfig {
        max_size: 1000,
        ..json_file()
    };
    let mut log = place.log(&config);
    log.write(Stream::Out, "line\n".repeat(1000).as_bytes());
    let records = place.records("");
    assert!((1..20).contains(&records.len()), "{}", records.len());
    assert!(!place.path(".1").exists());
}

#[test]
fn a_torn_line_of_somebody_who_was_killed_is_cut_off() {
    let place = Place::new("torn");
    let whole = "{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"2024-01-01T00:00:00Z\"}\n";
    for torn in ["{\"log", &"x".repeat(10_000)] {
        fs::write(place.path(""), format!("{whole}{torn}")).expect("write");
        let mut log = place.log(&json_file());
        log.write(Stream::Err, b"b\n");
        let texts: Vec<String> = place.records("").into_iter().map(|(_, t)| t).collect();
        assert_eq!(texts, ["a\n", "b\n"]);
    }
}

#[test]
fn the_driver_none_writes_nothing() {
    let place = Place::new("none");
    let config = LogConfig {
        r#type: "none".into(),
        ..json_file()
    };
    let mut log = place.log(&config);
    log.write(Stream::Out, b"hello\n");
    log.end();
    assert!(!place.path("").exists());
}

#[test]
fn only_files_that_are_there_are_put_aside() {
    let place = Place::new("all");
    let config = LogConfig {
        max_size: 1,
        max_file: u32::MAX,
        ..json_file()
    };
    let mut log = place.log(&config);
    for number in 0..5 {
        log.write(Stream::Out, format!("{number}\n").as_bytes());
    }
    let texts = ["", ".1", ".2", ".3", ".4"].map(|end| place.records(end));
    let texts: Vec<&str> = texts.iter().flatten().map(|it| it.1.as_str()).collect();
    assert_eq!(texts, ["4\n", "3\n", "2\n", "1\n", "0\n"]);
}
