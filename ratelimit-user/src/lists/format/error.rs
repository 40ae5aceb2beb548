use super::{BadLine, MOST_BAD_PERCENT, MOST_NETWORKS, text::LONGEST_LINE_BYTES, unpack::MOST_UNPACKED_MIB};

/// Why a file is not the list it should be. Reads well behind "list drop: ".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error(
        "a web page instead of a list, beginning with \"{begins}\": open its address in a browser to see why, and give \
         the address of the file itself"
    )]
    WebPage { begins: String },
    #[error("not text: give a text file, plain or packed by gzip or zstd")]
    NotText,
    #[error("text in UTF-16: convert it with `iconv -f UTF-16 -t UTF-8`")]
    Utf16,
    #[error("cut off or damaged, it does not unpack ({packing}: {problem}): fetch it again")]
    Packed { packing: &'static str, problem: String },
    #[error("unpacks to more than {MOST_UNPACKED_MIB} MiB ({packing}), which no list should: split it")]
    Bomb { packing: &'static str },
    #[error("names more than {MOST_NETWORKS} networks: split it")]
    TooManyNetworks,
    #[error(
        "{bad} of {of} lines are bad, more than {MOST_BAD_PERCENT} %; line {} (\"{}\") is {}: if it is a list of \
         another kind, set its `format`",
        first.line, first.text, first.problem
    )]
    TooManyBad { bad: u64, of: u64, first: BadLine },
    #[error("line {line} is not what this format allows: {problem}; if it is a list of another kind, set its `format`")]
    Syntax { line: u64, problem: String },
    #[error("cut off: the trailer with the number of records is missing behind line {line}; fetch it again")]
    NoTrailer { line: u64 },
    #[error(
        "line {line} says that there are {said} records, but there are {found}: cut off or mixed up, fetch it again"
    )]
    WrongCount { line: u64, said: u64, found: u64 },
    #[error("line {line} is behind the trailer that ends the list: give each file by itself")]
    BehindTrailer { line: u64 },
    #[error("line {line} has no column ip, src_ip or address: give a report that names addresses")]
    NoAddressColumn { line: u64 },
    #[error("line {line} begins a zone within the zone ($DATASET): give each of them as a file by itself")]
    Combined { line: u64 },
}

/// What a bad line is. Completes "is …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("not an address, a network or a range")]
    NotNetwork,
    #[error("a network with a prefix longer than its address")]
    PrefixTooLong,
    #[error("a range that ends before it begins")]
    Backwards,
    #[error("a range from one address family to the other")]
    MixedFamilies,
    #[error("longer than {LONGEST_LINE_BYTES} bytes")]
    TooLong,
    #[error("without a count behind the address")]
    NoCount,
    #[error("without an SBL number behind the network")]
    NoReference,
    #[error("without a field for the address")]
    NoAddress,
    #[error("without a duration like 3h59m1.5s")]
    NoDuration,
    #[error("not a record of this format ({0})")]
    NoRecord(String),
}

/// What serde says, without the place in a text that may be one line of many.
pub fn json_problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(problem, _)| problem).to_owned()
}
