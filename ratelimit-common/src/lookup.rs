//! The lookup structure of all lists: which class an address is in.
//!
//! A table is an array of lines of 64 bytes, compiled by the controller and never changed once it is in use. A lookup
//! touches a line of each row below, which may be cold in the cache; everything else of a lookup is arithmetic.
//!
//! | family | lines touched |
//! |---|---|
//! | IPv4 | one of the root; one leaf if the /24 holds more than one class. Never more than two, whatever the size |
//! | IPv6 | the header, then ⌈log₅(n/3)⌉ + 1 nodes for n segments; a network makes two segments at most |
//!
//! *IPv4.* A root line stands for 64 networks of /24. For each of them three bit planes hold a kind: nothing, one of the
//! three classes that the line itself names, or a leaf of one of four sizes. Leaves of one size lie side by side in the order
//! of their networks, so a leaf is found by counting the leaves of its size before it in the line; none straddles two lines.
//! A leaf cuts its /24 into segments, each with a class; the largest has a class for each address.
//!
//! *IPv6.* A static tree over segments, by their last addresses: four of them lead to five nodes of the next level.

use bytemuck::{Pod, Zeroable};

use crate::{
    address::Address,
    bound::{forgotten, in_order, opaque},
};

/// Bytes of a line, and words of it.
pub const LINE_BYTES: usize = 64;
pub const LINE_WORDS: usize = LINE_BYTES / size_of::<u64>();
/// The most classes a table may tell apart, the one that says nothing included.
pub const CLASSES: usize = 4096;

/// The line that says where the IPv6 tree is.
pub const HEADER: u32 = 0;
/// The first line of the root.
pub const ROOT: u32 = 1;
pub const ROOT_LINES: u32 = 1 << (32 - LINE_SHIFT);
/// Addresses of a root line, as a power of two: 64 networks of /24.
pub const LINE_SHIFT: u32 = 14;
/// Classes that a root line names itself.
pub const PALETTE: usize = 3;
/// The kind of a /24 that has a leaf of the smallest size; the three above it are larger.
pub const LEAF: usize = PALETTE + 1;
/// Sizes of leaves: 16, 32, 64 and 512 bytes.
pub const SIZES: usize = 4;
/// Segments that a leaf of each but the largest size holds. All start octets but the first, which is 0, come first
/// in the leaf, then the classes.
pub const SEGMENTS: [usize; SIZES - 1] = [5, 11, 21];
/// Where a leaf of 64 bytes says what it is, among its 16-bit words.
pub const TAG: usize = 31;
/// A leaf of 64 bytes with a bit for each address, and two classes behind the bits.
pub const BITMAP: u16 = 1;
/// Where these classes stand, among the 16-bit words.
pub const BITMAP_CLASSES: usize = 16;
/// Levels above the leaves of the IPv6 tree: enough for 29 million segments.
pub const LEVELS: usize = 10;
/// Keys of a node above the leaves.
pub const KEYS: usize = 4;
/// Segments of a leaf.
pub const TREE_LEAF: usize = 3;

/// What a table answers: the place in a table of what is said.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct ClassId(pub u16);

impl ClassId {
    /// Nothing is said.
    pub const NONE: Self = Self(0);
}

/// A cache line of a table.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Line(pub [u64; LINE_WORDS]);

const _: () = assert!(size_of::<Line>() == LINE_BYTES);

impl Line {
    #[inline(always)]
    fn word(&self, index: u32) -> u64 {
        self.0[opaque(index.into()) as usize % LINE_WORDS]
    }

    #[inline(always)]
    fn half(&self, index: u32) -> u16 {
        let halves: &[u16; LINE_BYTES / 2] = bytemuck::cast_ref(&self.0);
        halves[opaque(index.into()) as usize % (LINE_BYTES / 2)]
    }

    #[inline(always)]
    fn byte(&self, index: u32) -> u8 {
        let bytes: &[u8; LINE_BYTES] = bytemuck::cast_ref(&self.0);
        bytes[opaque(index.into()) as usize % LINE_BYTES]
    }
}

/// The lines of a table.
pub trait Lines {
    /// `None` behind the last.
    fn line(&self, index: u32) -> Option<&Line>;
}

impl Lines for [Line] {
    fn line(&self, index: u32) -> Option<&Line> {
        self.get(index as usize)
    }
}

/// The class of an address.
#[inline(always)]
pub fn find<L: Lines + ?Sized>(lines: &L, source: Address) -> ClassId {
    match source.is_v4() {
        true => find_v4(lines, source.words().1 as u32),
        false => find_v6(lines, source),
    }
}

/// The class of an IPv4 address.
#[inline(always)]
pub fn find_v4<L: Lines + ?Sized>(lines: &L, source: u32) -> ClassId {
    ClassId(look_up_v4(lines, source).unwrap_or(0))
}

/// The class of any other address.
#[inline(always)]
pub fn find_v6<L: Lines + ?Sized>(lines: &L, source: Address) -> ClassId {
    ClassId(look_up_v6(lines, source).unwrap_or(0))
}

#[inline(always)]
fn look_up_v4<L: Lines + ?Sized>(lines: &L, source: u32) -> Option<u16> {
    let root = lines.line(ROOT + (source >> LINE_SHIFT))?;
    let slot = source >> 8 & 63;
    let [low, middle, high] = [root.0[0], root.0[1], root.0[2]];
    let bit = |plane: u64| plane >> slot & 1;
    if bit(high) == 0 {
        // The class that says nothing stands before those of the palette.
        let place = (bit(low) | bit(middle) << 1) * 16;
        return Some((root.0[5] >> place) as u16);
    }
    let same = |plane: u64| plane ^ bit(plane).wrapping_sub(1);
    let alike = high & same(low) & same(middle) & ((1 << slot) - 1);
    let rank = ones(alike);
    let size = bit(low) | bit(middle) << 1;
    let bases = root.0[3 + (size >> 1) as usize % 2];
    let leaf = (bases >> ((size & 1) * 32)) as u32 + rank;
    let octet = source & 0xff;
    // One place that asks for a leaf: the kernel's stack is small.
    let line = lines.line(match size {
        0 => leaf / 4,
        1 => leaf / 2,
        2 => leaf,
        _ => leaf * 8 + (octet >> 5),
    })?;
    Some(match size {
        0 => segment::<{ SEGMENTS[0] }>(line, leaf % 4 * 16, octet),
        1 => segment::<{ SEGMENTS[1] }>(line, leaf % 2 * 32, octet),
        2 if line.half(TAG as u32) == BITMAP => {
            let bit = (line.word(octet >> 6 & 3) >> (octet & 63)) as u32 & 1;
            line.half(BITMAP_CLASSES as u32 + bit)
        }
        2 => segment::<{ SEGMENTS[2] }>(line, 0, octet),
        _ => line.half(octet & 31),
    })
}

/// Octets of a leaf that are compared at once; more of them do not fit beside each other on the kernel's stack.
const AT_ONCE: u32 = 8;

/// The class of an octet in a leaf of `N` segments that begins at a byte of a line.
#[inline(always)]
fn segment<const N: usize>(line: &Line, mut at: u32, octet: u32) -> u16 {
    let mut index = 0;
    // Without a branch: one for each segment that begins at the octet or before.
    for start in 0..N as u32 - 1 {
        index += (octet + 256 - u32::from(line.byte(at + start))) >> 8;
        if start % AT_ONCE == AT_ONCE - 1 {
            (index, at) = in_order(index, at);
        }
    }
    line.half((at + N as u32 - 1) / 2 + index)
}

/// How many bits are set. BPF has no instruction for it.
#[inline(always)]
const fn ones(word: u64) -> u32 {
    let pairs = word - (word >> 1 & 0x5555_5555_5555_5555);
    let fours = (pairs & 0x3333_3333_3333_3333) + (pairs >> 2 & 0x3333_3333_3333_3333);
    let bytes = (fours + (fours >> 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    (bytes.wrapping_mul(0x0101_0101_0101_0101) >> 56) as u32
}

#[inline(always)]
fn look_up_v6<L: Lines + ?Sized>(lines: &L, source: Address) -> Option<u16> {
    let header = lines.line(HEADER)?;
    let words = source.words();
    let levels = header.0[0];
    if levels == 0 {
        return None;
    }
    let mut node = 0;
    for level in 0..LEVELS as u32 {
        let line = lines.line(first_of_level(header, level) + node)?;
        if u64::from(level) + 1 == levels {
            let index = match (is_behind(words, line.0[0], line.0[1]), is_behind(words, line.0[2], line.0[3])) {
                (false, _) => 0,
                (true, false) => 1,
                (true, true) => 2,
            };
            return Some((line.0[6] >> (16 * index)) as u16);
        }
        // The verifier need not tell apart by which way the next node was found.
        node = forgotten((node * (KEYS as u32 + 1) + child(words, line)).into()) as u32;
    }
    None
}

#[inline(always)]
fn child(words: (u64, u64), line: &Line) -> u32 {
    let behind = |key: usize| is_behind(words, line.0[2 * key], line.0[2 * key + 1]);
    if !behind(1) {
        return u32::from(behind(0));
    }
    if !behind(2) {
        return 2;
    }
    3 + u32::from(behind(3))
}

#[inline(always)]
const fn is_behind((high, low): (u64, u64), key_high: u64, key_low: u64) -> bool {
    high > key_high || (high == key_high && low > key_low)
}

/// The header holds the number of levels, leaves included, in its first word, then the first line of each.
#[inline(always)]
fn first_of_level(header: &Line, level: u32) -> u32 {
    (header.word(1 + level / 2) >> (level % 2 * 32)) as u32
}
