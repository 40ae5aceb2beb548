//! gzip and zstd, known by their first bytes.

use std::{
    borrow::Cow,
    io::{self, Read},
};

use flate2::read::MultiGzDecoder;

use super::Unreadable;

/// A list of five million lines has a third of it.
pub const MOST_UNPACKED_MIB: u64 = 256;

/// What a file holds, unpacked if it is packed.
pub fn unpacked(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Unreadable> {
    match bytes {
        [0x1f, 0x8b, ..] => bounded("gzip", Ok(MultiGzDecoder::new(bytes))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => bounded("zstd", zstd::Decoder::with_buffer(bytes)),
        _ => return Ok(Cow::Borrowed(bytes)),
    }
    .map(Cow::Owned)
}

fn bounded(packing: &'static str, unpacking: io::Result<impl Read>) -> Result<Vec<u8>, Unreadable> {
    const MOST_BYTES: u64 = MOST_UNPACKED_MIB << 20;
    let mut unpacked = Vec::new();
    let read = unpacking.and_then(|unpacking| unpacking.take(MOST_BYTES + 1).read_to_end(&mut unpacked));
    match read {
        Ok(_) if unpacked.len() as u64 > MOST_BYTES => Err(Unreadable::Bomb { packing }),
        Ok(_) => Ok(unpacked),
        Err(error) => Err(Unreadable::Packed { packing, problem: error.to_string() }),
    }
}
