//! Texts that clients chose, so that they can neither end a line nor begin anything else in it.

use super::LogFormat;
use std::io::Write;

/// So many bytes of a text are written at most.
const LONGEST: usize = 2048;

/// What follows a text of which that is not all.
const CUT: &[u8] = b"...";

/// Adds a text in printable ASCII: as it stands between the quotes of JSON, or with `\x..` as Apache has it.
pub(super) fn escape(text: &[u8], format: LogFormat, to: &mut Vec<u8>) {
    let told = text.get(..LONGEST).unwrap_or(text);
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if told.iter().all(is_plain) {
        to.extend_from_slice(told);
    } else {
        match format {
            LogFormat::Json => escape_json(told, to),
            LogFormat::Combined => {
                for byte in told {
                    match is_plain(byte) {
                        true => to.push(*byte),
                        false => drop(write!(to, "\\x{byte:02x}")),
                    }
                }
            }
        }
    }
    if told.len() < text.len() {
        to.extend_from_slice(CUT);
    }
}

/// All beyond ASCII is escaped, because some of it turns the direction of a line or is taken for its end.
fn escape_json(text: &[u8], to: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        let broken = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
        for char in chunk.valid().chars().chain(broken) {
            match char {
                '"' | '\\' => to.extend([b'\\', char as u8]),
                ' '..='~' => to.push(char as u8),
                _ => {
                    for unit in char.encode_utf16(&mut [0; 2]) {
                        let _ = write!(to, "\\u{unit:04x}");
                    }
                }
            }
        }
    }
}
