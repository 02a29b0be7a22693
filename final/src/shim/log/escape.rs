//! A JSON string, as docker's encoder writes it: Go's, with HTML's characters and U+2028 escaped.

/// The digits of `\u00XX`.
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Which bytes of a text can stand in a string as they are.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        plain[byte] = false;
        byte += 1;
    }
    let special = b"\"\\<>&";
    let mut at = 0;
    while at < special.len() {
        plain[special[at] as usize] = false;
        at += 1;
    }
    // The first of U+2028 and U+2029, and of others.
    plain[0xe2] = false;
    plain
};

/// Adds the bytes to `out`; each that is no part of a character becomes a U+FFFD.
pub(super) fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return escape_text(text.as_bytes(), out);
    }
    for chunk in bytes.utf8_chunks() {
        escape_text(chunk.valid().as_bytes(), out);
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

fn escape_text(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| !PLAIN[usize::from(*byte)]) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let length = match special {
            [0xe2, 0x80, last @ (0xa8 | 0xa9), ..] => {
                out.extend_from_slice(b"\\u202");
                out.push(HEX[usize::from(last & 0xf)]);
                3
            }
            [byte, ..] => {
                escape_byte(*byte, out);
                1
            }
            [] => 0,
        };
        rest = special.get(length..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

fn escape_byte(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        0xe2 => out.push(byte),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 0xf)]);
        }
    }
}

/// How many of the bytes there are without a character at the end whose last bytes are missing.
pub(super) fn whole_characters(bytes: &[u8]) -> usize {
    // A character has four bytes at most.
    let last = bytes.len().saturating_sub(3);
    let end = bytes.get(last..).unwrap_or_default();
    let Some(at) = end.iter().rposition(|byte| *byte >= 0xc0) else {
        return bytes.len();
    };
    match std::str::from_utf8(end.get(at..).unwrap_or_default()) {
        Err(error) if error.error_len().is_none() => last + at,
        _ => bytes.len(),
    }
}
