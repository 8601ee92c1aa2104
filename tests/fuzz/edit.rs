//! Edits of bytes: what bit rot, a cut cable, a broken proxy and a clumsy or hostile hand do to them.

use proptest::collection::vec;
use proptest::prelude::*;

/// One edit; places are shares of the length, so that an edit fits whatever it is applied to.
#[derive(Debug, Clone)]
pub enum Edit {
    /// One byte becomes another.
    Set(u16, u8),
    /// Everything from there on is missing.
    Cut(u16),
    /// Some bytes are missing.
    Drop(u16, u8),
    /// Some bytes come twice.
    Double(u16, u8),
    /// Bytes that do not belong there.
    Insert(u16, Vec<u8>),
    /// Two bytes change places.
    Swap(u16, u16),
    /// A piece that readers stumble over stands there instead of as many bytes.
    Token(u16, u8),
    /// One piece, many times.
    Flood(u16, u8, u16),
}

/// What readers stumble over.
pub const TOKENS: &[&[u8]] = &[
    b"9223372036854775808",
    b"-9223372036854775809",
    b"18446744073709551616",
    b"1e999",
    b"-1",
    b"0",
    b"NaN",
    b"null",
    b"true",
    b"\0",
    b"\xff\xfe",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\r\n\r\n",
    b"\n",
    b"<",
    b"</",
    b"]]>",
    b"<![CDATA[",
    b"<!DOCTYPE a [<!ENTITY a \"&a;&a;\">]>",
    b"&#0;",
    b"&a;",
    b"<a>",
    b"{\"a\":",
    b"[",
    b"{",
    b"\"",
    b"'",
    b"\\u0000",
    b"%00",
    b"%",
    b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xbf\x81\x9f",
    b"\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00",
    b"\xc0\x0c",
    b"a.",
    b"= [",
    b"[[",
    b"\"\"\"",
    b"\xf0\x9f\x92\xa9",
    b"9999-12-31T23:59:60Z",
    b"../",
];

/// From none to `most` edits.
pub fn edits(most: usize) -> impl Strategy<Value = Vec<Edit>> {
    let at = any::<u16>;
    let one = prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, to)| Edit::Set(at, to)),
        1 => at().prop_map(Edit::Cut),
        2 => (at(), any::<u8>()).prop_map(|(at, count)| Edit::Drop(at, count)),
        2 => (at(), any::<u8>()).prop_map(|(at, count)| Edit::Double(at, count)),
        2 => (at(), vec(any::<u8>(), 1..24)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        1 => (at(), at()).prop_map(|(one, other)| Edit::Swap(one, other)),
        4 => (at(), any::<u8>()).prop_map(|(at, which)| Edit::Token(at, which)),
        1 => (at(), any::<u8>(), 1..4_000_u16).prop_map(|(at, which, times)| Edit::Flood(at, which, times)),
    ];
    vec(one, 0..=most)
}

/// The bytes after the edits.
pub fn edited(bytes: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for edit in edits {
        let place = |at: u16| usize::from(at) * bytes.len() / 65_536;
        let token = |which: u8| TOKENS[usize::from(which) % TOKENS.len()];
        match edit {
            Edit::Set(at, to) => {
                let at = place(*at);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = *to;
                }
            }
            Edit::Cut(at) => bytes.truncate(place(*at)),
            Edit::Drop(at, count) => {
                let (from, to) = (place(*at), (place(*at) + usize::from(*count)).min(bytes.len()));
                bytes.drain(from..to);
            }
            Edit::Double(at, count) => {
                let (from, to) = (place(*at), (place(*at) + usize::from(*count)).min(bytes.len()));
                let part = bytes[from..to].to_vec();
                bytes.splice(from..from, part);
            }
            Edit::Insert(at, part) => drop(bytes.splice(place(*at)..place(*at), part.iter().copied())),
            Edit::Swap(one, other) => {
                let (one, other) = (place(*one), place(*other));
                if !bytes.is_empty() {
                    bytes.swap(one, other);
                }
            }
            Edit::Token(at, which) => {
                let (from, token) = (place(*at), token(*which));
                let to = (from + token.len()).min(bytes.len());
                bytes.splice(from..to, token.iter().copied());
            }
            Edit::Flood(at, which, times) => {
                let (from, flood) = (place(*at), token(*which).repeat(usize::from(*times)));
                bytes.splice(from..from, flood);
            }
        }
    }
    bytes
}
