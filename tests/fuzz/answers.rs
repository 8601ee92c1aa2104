//! HTTP answers: nearly right, wrong, and without end.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::edit::{Edit, edited, edits};
use super::hostile::Answer;

const FIRST: &[&str] = &[
    "HTTP/1.1 200 OK",
    "HTTP/1.0 200 OK",
    "HTTP/1.1 204 No",
    "HTTP/1.1 302 Go",
    "HTTP/1.1 303 Go",
    "HTTP/1.1 308 Go",
    "HTTP/1.1 304 Same",
    "HTTP/1.1 101 Switch",
    "HTTP/1.1 100 Continue",
    "HTTP/1.1 199 Odd",
    "HTTP/1.1 500 No",
    "HTTP/1.1 999 Far",
    "HTTP/1.1 099 Low",
    "HTTP/2 200",
    "HTTP/1.1 2000 OK",
    "HTTP/1.1",
    "",
    "ICY 200 OK",
    "GET / HTTP/1.1",
    "\u{16}\u{3}\u{1}",
];

const HEADERS: &[&str] = &[
    "content-length: 2",
    "content-length: 0",
    "content-length: -1",
    "content-length: 2, 3",
    "content-length: 18446744073709551615",
    "content-length: 18446744073709551616",
    "content-length: 0x2",
    "transfer-encoding: chunked",
    "transfer-encoding: gzip, chunked",
    "transfer-encoding: chunked, identity",
    "content-encoding: gzip",
    "connection: keep-alive",
    "connection: close",
    "connection: upgrade",
    "upgrade: h2c",
    "location: /",
    "location: /again?x=1#y",
    "location: //",
    "location: http://",
    "location: http://[::1",
    "location: http://127.0.0.1:1/",
    "location: file:///etc/passwd",
    "location: http://localhost.invalid/",
    "location: \t",
    "location: http://a:b@127.0.0.1:99999/",
    "x-role: primary",
    "x role: y",
    " folded: x",
    "no colon",
    ": nameless",
    "x-bin: \u{80}\u{7f}",
    "trailer: x",
    "set-cookie: a=b",
];

/// Those that are right, each by itself.
const FAIR: &[&str] = &[
    "content-length: 2",
    "content-length: 0",
    "transfer-encoding: chunked",
    "content-encoding: gzip",
    "connection: close",
    "location: /again?x=1#y",
    "x-role: primary",
];

const BODIES: &[&str] = &[
    "hi",
    "",
    "2\r\nhi\r\n0\r\n\r\n",
    "ffffffffffffffff\r\nhi",
    "10000000000000000\r\nhi",
    "-2\r\nhi\r\n",
    "2;ext=\"x\r\nhi\r\n0\r\nx: y\r\n\r\n",
    "zz\r\n",
    "0\r\nx: y\r\nx: y\r\n",
    "2\r\nhi!!\r\n",
    "is well",
];

/// Any answer.
pub fn answers() -> impl Strategy<Value = Answer> {
    let whole = || {
        (head(), select(BODIES), prop_oneof![edits(0), edits(4)])
            .prop_map(|(head, body, edits)| edited(format!("{head}{body}").as_bytes(), &edits))
    };
    prop_oneof![
        12 => (whole(), any::<bool>()).prop_map(|(bytes, close)| Answer::Whole(bytes, close)),
        3 => (vec(any::<u8>(), 0..600), any::<bool>()).prop_map(|(bytes, close)| Answer::Whole(bytes, close)),
        2 => whole().prop_map(Answer::Drip),
        3 => endless(),
    ]
}

fn head() -> impl Strategy<Value = String> {
    let first = prop_oneof![1 => select(FIRST), 1 => select(&FIRST[..6])];
    let headers = prop_oneof![1 => vec(select(HEADERS), 0..7), 2 => vec(select(FAIR), 0..3)];
    (first, headers).prop_map(|(first, headers)| {
        let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        format!("{first}\r\n{lines}\r\n")
    })
}

/// Without end, each in its own way; what each takes of memory differs, what it may take does not.
fn ways() -> Vec<(Vec<u8>, Vec<u8>)> {
    let ok = "HTTP/1.1 200 OK\r\n";
    let chunked = format!("{ok}transfer-encoding: chunked\r\n\r\n");
    let big = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    let said = |first: &str, again: &str| (first.as_bytes().to_vec(), again.as_bytes().to_vec());
    vec![
        said(&chunked, &big),
        said(&chunked, "1\r\nx\r\n"),
        said(&format!("{chunked}1;"), &"e".repeat(4_096)),
        said(&format!("{chunked}0\r\n"), "x-trailer: y\r\n"),
        said(&format!("{chunked}0\r\nx: "), &"y".repeat(4_096)),
        said(&chunked, &"0".repeat(4_096)),
        said(&format!("{ok}content-length: 9000000000000000000\r\n\r\n"), &"x".repeat(16_384)),
        said(&format!("{ok}\r\n"), &"x".repeat(16_384)),
        said(ok, "x-header: y\r\n"),
        said(&format!("{ok}x-header: "), &"y".repeat(4_096)),
        said("", &"H".repeat(4_096)),
        said("HTTP/1.1 200 ", &"O".repeat(4_096)),
        said("", "\r\n"),
        said("HTTP/1.1 302 Go\r\nlocation: /", &"l".repeat(4_096)),
        said("HTTP/1.1 302 Go\r\nlocation: /\r\ntransfer-encoding: chunked\r\n\r\n", &big),
        said("HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n", &big),
    ]
}

fn endless() -> impl Strategy<Value = Answer> {
    (select(ways()), edits(1)).prop_map(|((first, again), edits)| {
        // One in so many is garbled as well, but never so that the whole answer would be cut.
        let edits: Vec<Edit> = edits.into_iter().filter(|edit| matches!(edit, Edit::Set(..) | Edit::Swap(..))).collect();
        Answer::Endless(edited(&first, &edits), again)
    })
}

/// Everything that lasts, each once, because luck may draw none of it: what has no end, what comes drop by drop for longer
/// than anybody waits, what leads back to itself, and a little that unpacks to much.
pub fn lasting() -> Vec<Answer> {
    let drop_by_drop = |head: &str| Answer::Drip(format!("{head}{}", "x".repeat(8_192)).into_bytes());
    // Unpacked a gigabyte, more than a process here may hold.
    let packed = bomb(4_000_000);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", packed.len());
    let others = [
        drop_by_drop("HTTP/1.1 200 OK\r\nx-drip: "),
        drop_by_drop("HTTP/1.1 200 OK\r\ncontent-length: 8192\r\n\r\n"),
        Answer::Whole(b"HTTP/1.1 302 Go\r\nlocation: /again?x=1#y\r\ncontent-length: 0\r\n\r\n".to_vec(), false),
        Answer::Whole([head.into_bytes(), packed].concat(), true),
    ];
    ways().into_iter().map(|(first, again)| Answer::Endless(first, again)).chain(others).collect()
}

/// A gzip of at least so many times 258 zeros: fixed codes, one literal, then matches at distance 1, 13 bits each.
pub fn bomb(times: usize) -> Vec<u8> {
    let first = "11000110000"; // last block, fixed codes, literal 0
    let again = "1100010100000"; // length 258, distance 1
    let bits: Vec<char> = first.chars().chain(again.chars().cycle()).take(8 * (2 + 13)).collect();
    let byte = |bits: &[char]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit == '1'));
    let bytes: Vec<u8> = bits.chunks(8).map(byte).collect();
    // From the third byte on, eight matches are thirteen bytes. Zeros end the last match, and then the block.
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    [&head, &bytes[..2], &bytes[2..].repeat(times.div_ceil(8)), &[0; 3]].concat()
}
