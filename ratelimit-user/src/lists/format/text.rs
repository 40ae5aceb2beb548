//! Lines, comments, and what is no text at all.

use super::{Problem, Said, Sink, Unreadable};

pub const LONGEST_LINE_BYTES: usize = 4096;
/// Of a line, so much is shown: most terms in full, and of a line that never ends its beginning.
const LONGEST_SHOWN_CHARS: usize = 160;
/// So much tells text from anything else; NUL is in no text anywhere.
const SAMPLE_BYTES: usize = 4096;
const MOST_CONTROLS_PERCENT: usize = 5;

/// A line, or a record, where it begins. Blanks around it are left out.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    /// From 1.
    pub number: u64,
    pub text: &'a [u8],
}

/// The text without its byte order mark, if it can be a list.
pub fn checked(bytes: &[u8]) -> Result<&[u8], Unreadable> {
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = bytes {
        return Err(Unreadable::Utf16);
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if let begin @ [b'<', ..] = text.trim_ascii_start() {
        let first = begin.split(|byte| *byte == b'\n').next().unwrap_or(begin);
        return Err(Unreadable::WebPage { begins: shown(first) });
    }
    let sample = &text[..text.len().min(SAMPLE_BYTES)];
    let controls = sample.iter().filter(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace()).count();
    if controls * 100 > sample.len() * MOST_CONTROLS_PERCENT || text.contains(&0) {
        return Err(Unreadable::NotText);
    }
    Ok(text)
}

pub fn lines(text: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let lines = text.split(|byte| *byte == b'\n').zip(1..);
    lines.map(|(text, number)| Line { number, text: text.trim_ascii() }).filter(|line| !line.text.is_empty())
}

/// Lines of which each says something by itself, and comments begin with `#` or `;`.
pub fn read_lines(text: &[u8], sink: &mut dyn Sink, read: impl Fn(&[u8]) -> Result<Said, Problem>) {
    for line in lines(text) {
        if line.text.len() > LONGEST_LINE_BYTES {
            sink.said(line, Err(Problem::TooLong));
        } else if is_comment(line.text) {
            if is_notice(line.text) {
                sink.notice(without_marks(line.text));
            }
        } else {
            sink.said(line, read(line.text));
        }
    }
}

fn without_marks(comment: &[u8]) -> &[u8] {
    let marks = comment.iter().take_while(|byte| is_comment(std::slice::from_ref(*byte)) || **byte == b' ').count();
    &comment[marks..]
}

pub fn is_comment(text: &[u8]) -> bool {
    matches!(text, [b'#' | b';', ..])
}

/// What is before a comment.
pub fn before_comment(text: &[u8]) -> &[u8] {
    text.split(|byte| matches!(byte, b'#' | b';')).next().unwrap_or(text).trim_ascii_end()
}

/// The first word, and what is behind it.
pub fn first_word(text: &[u8]) -> (&[u8], &[u8]) {
    let (word, rest) = text.split_at(text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len()));
    (word, rest.trim_ascii_start())
}

/// Whether a comment is one that its publisher wants to be kept.
fn is_notice(comment: &[u8]) -> bool {
    let comment = String::from_utf8_lossy(comment).to_lowercase();
    ["copyright", "(c)", "©", "license", "licence", "terms"].iter().any(|word| comment.contains(word))
}

/// Text from outside for one line on a terminal: shortened, and nothing in it moves the cursor.
pub fn shown(text: &[u8]) -> String {
    // A character takes at most four bytes.
    let start = &text[..text.len().min(4 * LONGEST_SHOWN_CHARS)];
    let start = String::from_utf8_lossy(start);
    let mut shown = String::new();
    for c in start.chars().take(LONGEST_SHOWN_CHARS) {
        match c {
            // What a debug string escapes because of its own quotes.
            '"' | '\'' | '\\' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    if start.chars().nth(LONGEST_SHOWN_CHARS).is_some() || start.len() < text.len() {
        shown.push('…');
    }
    shown
}
