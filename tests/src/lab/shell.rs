//! Words as a shell reads them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A word that the shell takes for nothing else.
pub fn quoted(word: &OsStr) -> OsString {
    let mut quoted = b"'".to_vec();
    for byte in word.as_bytes() {
        match byte {
            b'\'' => quoted.extend(br"'\''"),
            other => quoted.push(*other),
        }
    }
    quoted.push(b'\'');
    OsString::from_vec(quoted)
}

/// The same as a person would type it: quoted only where it has to be.
pub fn typed(word: &OsStr) -> OsString {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(byte);
    match word.as_bytes() {
        [] => quoted(word),
        bytes if bytes.iter().all(plain) => word.to_owned(),
        _ => quoted(word),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_word_is_one_word_again() {
        let cases = [
            ("a/b-1.c", "a/b-1.c"),
            ("", "''"),
            ("two words", "'two words'"),
            ("it's", r"'it'\''s'"),
        ];
        for (word, typed) in cases {
            assert_eq!(super::typed(word.as_ref()), typed);
        }
    }
}
