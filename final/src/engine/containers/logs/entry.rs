//! One line of a log: what was written, to which stream and when.

use std::borrow::Cow;

use jiff::Timestamp;
use memchr::{memchr, memchr2};
use serde::Deserialize;

use crate::shim::protocol::Stream;

/// What the container wrote: a line, or a piece of a long one.
#[derive(Debug)]
pub struct Entry<'a> {
    /// To where.
    pub stream: Stream,
    /// What, with its `\n` unless the line goes on.
    pub text: &'a [u8],
    time: Cow<'a, str>,
}

impl Entry<'_> {
    /// When; `None` where the log says nothing that is a time.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        self.time.parse().ok()
    }

    /// The time as `logs --timestamps` prints it, with all nine digits of a fraction.
    #[must_use]
    pub fn stamp(&self) -> String {
        let whole = self.time.strip_suffix('Z').unwrap_or_default();
        match whole.split_once('.') {
            Some((seconds, fraction)) => format!("{seconds}.{fraction:0<9}Z"),
            None if !whole.is_empty() => format!("{whole}.000000000Z"),
            // With an offset; ours have none.
            None => self.time.clone().into_owned(),
        }
    }
}

/// Any order of the fields, and fields more than we know.
#[derive(Deserialize)]
struct Record {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    time: String,
}

/// Reads a line; `None`: it is damaged. The text is put into `text`.
pub(super) fn parse<'a>(line: &'a [u8], text: &'a mut Vec<u8>) -> Option<Entry<'a>> {
    text.clear();
    if let Some((stream, time)) = parse_usual(line, text) {
        return Some(Entry {
            stream,
            text,
            time: Cow::Borrowed(time),
        });
    }
    let record: Record = serde_json::from_slice(line).ok()?;
    text.clear();
    text.extend_from_slice(record.log.as_bytes());
    Some(Entry {
        stream: stream(record.stream.as_bytes()),
        text,
        time: Cow::Owned(record.time),
    })
}

/// Reads a line as docker and we write them, which is nearly every one, without a look at each byte.
fn parse_usual<'a>(line: &'a [u8], text: &mut Vec<u8>) -> Option<(Stream, &'a str)> {
    let rest = unescape(line.strip_prefix(b"{\"log\":\"")?, text)?;
    let rest = rest.strip_prefix(b",\"stream\":\"")?;
    let (name, rest) = rest.split_at(memchr(b'"', rest)?);
    let time = rest.strip_prefix(b"\",\"time\":\"")?.strip_suffix(b"\"}")?;
    // Digits and signs, or it is none of ours.
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b":.+-".contains(byte);
    let time = std::str::from_utf8(time).ok()?;
    (time.bytes().all(|byte| is_plain(&byte))).then_some((stream(name), time))
}

fn stream(name: &[u8]) -> Stream {
    match name {
        b"stderr" => Stream::Err,
        _ => Stream::Out,
    }
}

/// Adds to `text` what a JSON string says, and returns what follows its quotation mark.
fn unescape<'a>(string: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    let mut rest = string;
    loop {
        let (plain, special) = rest.split_at(memchr2(b'"', b'\\', rest)?);
        text.extend_from_slice(plain);
        let (byte, after) = match special {
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'n', after @ ..] => (b'\n', after),
            [b'\\', b'r', after @ ..] => (b'\r', after),
            [b'\\', b't', after @ ..] => (b'\t', after),
            [b'\\', b'b', after @ ..] => (8, after),
            [b'\\', b'f', after @ ..] => (12, after),
            [b'\\', byte @ (b'"' | b'\\' | b'/'), after @ ..] => (*byte, after),
            [b'\\', b'u', after @ ..] => {
                let (digits, after) = after.split_at_checked(4)?;
                let digits = std::str::from_utf8(digits).ok()?;
                // Half of a pair is no character, and a whole one none of ours.
                let char = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
                text.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
                continue;
            }
            _ => return None,
        };
        text.push(byte);
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<(Stream, String, String)> {
        let mut text = Vec::new();
        let entry = parse(line.as_bytes(), &mut text)?;
        let text = String::from_utf8_lossy(entry.text).into_owned();
        Some((entry.stream, text, entry.stamp()))
    }

    #[test]
    fn a_line_of_dockers_is_read() {
        let line = r#"{"log":"a\u0009\"\\\u003cb\u003e\ufffd€\r\n","stream":"stderr","time":"2024-01-02T03:04:05.12Z"}"#;
        let expected = (
            Stream::Err,
            "a\t\"\\<b>\u{fffd}€\r\n".to_owned(),
            "2024-01-02T03:04:05.120000000Z".to_owned(),
        );
        assert_eq!(read(line), Some(expected));
    }

    #[test]
    fn other_orders_and_fields_are_read_too() {
        for line in [
            r#"{"log":"x","stream":"stdout","attrs":{"a":"b"},"time":"2024-01-02T03:04:05Z"}"#,
            r#"{"time":"2024-01-02T03:04:05Z", "stream":"stdout", "log":"x"}"#,
        ] {
            let (stream, text, stamp) = read(line).expect("a line");
            assert_eq!((stream, text.as_str()), (Stream::Out, "x"));
            assert_eq!(stamp, "2024-01-02T03:04:05.000000000Z");
        }
        let pair = r#"{"log":"\ud834\udd1e","stream":"stdout","time":"2024-01-02T03:04:05Z"}"#;
        assert_eq!(read(pair).expect("a line").1, "𝄞");
    }

    #[test]
    fn what_is_damaged_is_no_line() {
        for line in [
            "",
            "{",
            r#"{"log":"x"#,
            r#"{"log":"x\u12"#,
            r#"{"log":"x","stream":"stdout","time":"2024-"#,
            r#"{"log":"x","stream":"stdo{"log":"y","stream":"stdout","time":"2024-01-02T03:04:05Z"}"#,
            "\0\0\0\0",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
