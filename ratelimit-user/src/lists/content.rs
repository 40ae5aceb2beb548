//! What the sources of a list hold, as it came: compressed or not, and not yet read as networks.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::config::Source;

/// The sources of a list in the order of the configuration, a directory as many files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pub pieces: Vec<Piece>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// The file or URL as it is shown: without secrets.
    pub name: String,
    pub bytes: Vec<u8>,
    pub validators: Validators,
}

/// What a server said of a body, to be asked next time whether it is still so. Empty for files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// The [`mark`] of the URL: another URL must not be asked about this body.
    #[serde(default)]
    pub of: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

impl Content {
    /// SHA-256 in 64 hexadecimal digits, of all pieces in order, each behind its length: where one piece ends and the
    /// next begins counts, names do not.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for piece in &self.pieces {
            digest.update((piece.bytes.len() as u64).to_le_bytes());
            digest.update(&piece.bytes);
        }
        hexadecimal(&digest.finalize())
    }

    /// All bytes of all pieces.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.bytes.len()).sum()
    }

    /// Whether there is no byte in it.
    pub fn is_empty(&self) -> bool {
        self.pieces.iter().all(|piece| piece.bytes.is_empty())
    }
}

/// Tells sources apart, also those that are shown alike because their secrets are not shown, and gives no secret away.
pub fn mark(source: &Source) -> String {
    match source {
        Source::Path(path) => path.display().to_string(),
        Source::Url(url) => mark_url(url),
    }
}

pub fn mark_url(url: &Url) -> String {
    hexadecimal(&Sha256::digest(url.as_str()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(pieces: &[&str]) -> Content {
        let piece = |text: &&str| Piece { bytes: text.as_bytes().to_vec(), ..Piece::default() };
        Content { pieces: pieces.iter().map(piece).collect() }
    }

    #[test]
    fn a_digest_is_of_the_bytes_their_order_and_their_bounds() {
        let one = content(&["ab", "c"]);
        assert_eq!(one.digest().len(), 64);
        assert_eq!(one.digest(), content(&["ab", "c"]).digest());
        for other in [&["a", "bc"][..], &["c", "ab"], &["abc"], &["ab", "c", ""], &["ab"], &[]] {
            assert_ne!(one.digest(), content(other).digest(), "{other:?}");
        }
        let mut renamed = one.clone();
        renamed.pieces[0].name = "elsewhere".into();
        assert_eq!(one.digest(), renamed.digest());
        // echo -n | sha256sum
        assert_eq!(content(&[]).digest(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn only_bytes_make_a_content_something() {
        assert!(content(&[]).is_empty() && content(&["", ""]).is_empty());
        assert!(!content(&["", "a"]).is_empty());
        assert_eq!(content(&["", "a", "bc"]).len(), 3);
    }

    #[test]
    fn sources_that_differ_in_a_secret_have_other_marks_which_do_not_tell_it() {
        let source = |url: &str| Source::Url(url.parse().unwrap());
        let (one, other) = (source("https://lists.test/?key=abc"), source("https://lists.test/?key=abd"));
        assert_eq!(one.to_string(), other.to_string());
        assert_ne!(mark(&one), mark(&other));
        assert!(!mark(&one).contains("abc"));
        assert_eq!(mark(&Source::Path("/etc/list".into())), "/etc/list");
    }
}
