//! How the parser reads a frame: header by header, by value.

use core::mem::size_of;

use network_types::{
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
};

/// Headers are followed up to this offset; what starts beyond it is malformed.
///
/// One less than a power of two, so that the XDP program can show the verifier the bound with a mask
/// *after* the comparison. A mask alone would wrap and read the wrong bytes as TCP.
pub const MAX_OFFSET: usize = 0x7ff;

/// A header that can be read from any bytes.
///
/// # Safety
///
/// Every bit pattern must be a valid value of the type.
pub unsafe trait Header: Copy {}

// SAFETY: bytes.
unsafe impl<const N: usize> Header for [u8; N] {}
// SAFETY: a struct of integers and byte arrays without padding.
unsafe impl Header for EthHdr {}
// SAFETY: a struct of integers and byte arrays without padding.
unsafe impl Header for Ipv4Hdr {}
// SAFETY: a struct of integers and byte arrays without padding.
unsafe impl Header for Ipv6Hdr {}

/// A received frame, from its Ethernet header on.
pub trait Frame {
    /// Length of the whole frame in bytes, including what lies outside the readable part of it.
    fn length(&self) -> usize;

    /// Whether the frame is at least this long.
    fn holds(&self, length: usize) -> bool {
        length <= self.length()
    }

    /// The header at an offset; `None` if it is not wholly readable or starts beyond [`MAX_OFFSET`].
    fn read<T: Header>(&self, offset: usize) -> Option<T>;
}

/// A frame in a byte slice.
#[derive(Clone, Copy, Debug)]
pub struct SliceFrame<'a>(pub &'a [u8]);

impl Frame for SliceFrame<'_> {
    fn length(&self) -> usize {
        self.0.len()
    }

    fn read<T: Header>(&self, offset: usize) -> Option<T> {
        if offset > MAX_OFFSET {
            return None;
        }
        let bytes = self.0.get(offset..offset + size_of::<T>())?;
        // SAFETY: `bytes` holds exactly `size_of::<T>()` bytes and every bit pattern is a valid `T`.
        Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }
}
