//! Shapes of the maps, for the program that declares them and the controller that fills them.

use crate::address::Address;

/// A line of cells is a cache line.
pub const CELLS_PER_LINE: usize = 16;
pub const LINE_BYTES: usize = CELLS_PER_LINE * size_of::<u32>();
/// 32 MiB of cells, unless the controller asks for another size.
pub const DEFAULT_LINES: usize = 32 * 1024 * 1024 / LINE_BYTES;
/// `BPF_F_MMAPABLE` of `linux/bpf.h`.
pub const MMAPABLE: usize = 1 << 10;
/// Entries of trust, allow and block in both sets together.
pub const MAX_ENTRIES: usize = 131_072;
/// Entries of one set.
pub const MAX_ENTRIES_PER_SET: usize = MAX_ENTRIES / 2;
/// Two bytes that name the set, and the address.
pub const ENTRY_KEY_LEN: usize = 18;
/// Bits of an entry's key before the address.
pub const ENTRY_KEY_SET_BITS: u32 = 16;
pub const EVENT_BUFFER_BYTES: usize = 256 * 1024;

/// The key of an address among the entries of a set.
#[inline(always)]
pub const fn entry_key(set: u32, address: Address) -> [u8; ENTRY_KEY_LEN] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address.octets();
    [0, (set & 1) as u8, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}
