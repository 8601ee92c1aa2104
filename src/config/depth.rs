//! How deep a config's text nests, told before it is parsed.
//!
//! The parser bounds brackets and the dots of a key each by itself. One within the other they still make a tree of
//! thousands of levels, which overflows the stack of whoever walks or drops it: not an error but the end of the daemon,
//! and that at a reload.

/// Brackets within brackets, and dots of one key: several times what any config has.
const DEEPEST: usize = 16;

/// The line where the text nests deeper than any config, with words; `None`: it does not.
pub(super) fn fault(text: &str) -> Option<(usize, String)> {
    let bytes = text.as_bytes();
    let (mut at, mut open, mut dots) = (0, 0_usize, 0_usize);
    while let Some(byte) = bytes.get(at) {
        let width = match byte {
            b'#' => line_end(bytes, at) - at,
            b'"' | b'\'' => string(bytes, at),
            _ => 1,
        };
        match byte {
            b'{' | b'[' => (open, dots) = (open + 1, 0),
            b'}' | b']' => (open, dots) = (open.saturating_sub(1), 0),
            b'=' | b',' | b'\n' => dots = 0,
            b'.' => dots += 1,
            _ => {}
        }
        if open > DEEPEST || dots > DEEPEST {
            let line = 1 + bytes.iter().take(at).filter(|byte| **byte == b'\n').count();
            return Some((line, format!("nested deeper than {DEEPEST}, which no config is")));
        }
        at += width;
    }
    None
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    bytes.iter().skip(from).position(|byte| *byte == b'\n').map_or(bytes.len(), |count| from + count)
}

/// Bytes of the string that begins there, with its quotes: in one line, or between three quotes over many.
fn string(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    let Some(quote) = rest.first() else { return 0 };
    let triple = [*quote; 3];
    let (border, many) = if rest.starts_with(&triple) { (triple.as_slice(), true) } else { (triple.get(..1).unwrap_or_default(), false) };
    let mut at = border.len();
    while let Some(byte) = rest.get(at) {
        if rest.get(at..).is_some_and(|rest| rest.starts_with(border)) {
            return at + border.len();
        }
        // A string of one line ends with it, closed or not.
        if *byte == b'\n' && !many {
            return at;
        }
        at += if *byte == b'\\' && *quote == b'"' && rest.get(at + 1) != Some(&b'\n') { 2 } else { 1 };
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_comments_do_not_nest() {
        let brackets = "[".repeat(40);
        for text in [
            format!("# {brackets}\na = 1"),
            format!("a = \"{brackets}\\\"{brackets}\""),
            format!("a = '{brackets}\\'\nb = \"{brackets}\""),
            format!("a = \"\"\"\n{brackets}\"\n\\\"\"\"{brackets}\"\"\""),
            format!("a = '''\n{brackets}'{brackets}'''"),
            "a = [1, [2, { b = [3], c.d.e = 4 }]]\n".repeat(40),
            format!("a = \"{}\"", "x.".repeat(40)),
        ] {
            assert_eq!(fault(&text), None, "{text}");
        }
    }

    #[test]
    fn what_nests_too_deep_is_named_with_its_line() {
        let line = |text: &str| fault(text).map(|(line, _)| line);
        assert_eq!(line(&format!("a = 1\nb = {}", "[".repeat(17))), Some(2));
        assert_eq!(line(&format!("a = 1\n\n{}x = 1", "x . ".repeat(17))), Some(3));
        assert_eq!(line(&format!("[{}x]", "\"x\".".repeat(17))), Some(1));
        assert_eq!(line(&format!("a = \"unclosed\nb = {}", "{a=".repeat(17))), Some(2));
    }
}
