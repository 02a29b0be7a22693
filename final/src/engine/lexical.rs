//! Paths by their letters alone, as docker takes them: without `.`, `..` and doubled slashes.

/// What a path says from the root, without the slash that it begins with.
pub(super) fn parts(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// The same of a text, as an absolute path.
#[must_use]
pub fn absolute(path: &str) -> String {
    format!("/{}", String::from_utf8_lossy(&parts(path.as_bytes())))
}
