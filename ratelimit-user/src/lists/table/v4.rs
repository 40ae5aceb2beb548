//! The root and the leaves of IPv4.

use std::thread;

use bytemuck::Zeroable as _;
use ratelimit_common::lookup::{
    BITMAP, BITMAP_CLASSES, LEAF, LINE_BYTES, LINE_SHIFT, Line, PALETTE, ROOT, ROOT_LINES, SEGMENTS, SIZES, TAG,
};

use super::sweep::Segment;

const HALVES: usize = LINE_BYTES / 2;
/// Networks of /24 in a root line.
const SLOTS: u32 = 1 << (LINE_SHIFT - 8);
/// Bytes of the leaves of each size.
const LEAF_BYTES: [usize; SIZES] = [16, 32, 64, 512];

/// Segments that are worth a second thread.
const MANY: usize = 50_000;

/// Root lines that say something, and all leaves.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// By their place in the root, ascending. The bases count leaves of their size from the first.
    root: Vec<(u32, Root)>,
    /// Of each size, the bytes of its leaves.
    leaves: [Vec<u8>; SIZES],
}

/// A line of the root while it is made.
#[derive(Clone, Copy, Debug, Default)]
struct Root {
    planes: [u64; 3],
    bases: [u32; SIZES],
    palette: [u16; PALETTE],
}

impl Part {
    /// Of many segments the two halves of the addresses are done at the same time.
    pub fn of(segments: &[Segment<u32>]) -> Self {
        match segments.get(segments.len() / 2) {
            Some((middle, _)) if segments.len() > MANY => {
                let border = middle / (SLOTS << 8) * (SLOTS << 8);
                let behind = segments.partition_point(|(first, _)| *first < border);
                let (low, high) = segments.split_at(behind);
                // What reaches over the border begins there anew.
                let over = low.last().filter(|_| high.first().is_none_or(|(first, _)| *first != border));
                let high = over.map(|(_, class)| (border, *class)).into_iter().chain(high.iter().copied());
                let low = || Self::up_to(border.wrapping_sub(1), low.iter().copied());
                let (part, high) = thread::scope(|scope| {
                    // A machine that is out of threads does one half after the other.
                    let beside = thread::Builder::new().spawn_scoped(scope, low);
                    let high = Self::up_to(u32::MAX, high);
                    (beside.ok().and_then(|beside| beside.join().ok()), high)
                });
                let mut part = part.unwrap_or_else(low);
                part.append(high);
                part
            }
            Some(_) | None => Self::up_to(u32::MAX, segments.iter().copied()),
        }
    }

    /// Of segments that end at an address, the last of a line of the root.
    fn up_to(end: u32, segments: impl Iterator<Item = Segment<u32>>) -> Self {
        let mut part = Self::default();
        let mut segments = segments.peekable();
        // What is known of the /24 that is not finished yet: its segments, by their first octets.
        let mut begun: Vec<(u8, u16)> = Vec::new();
        while let Some((first, class)) = segments.next() {
            let last = segments.peek().map_or(end, |(next, _)| next - 1);
            let (mut network, last_network) = (u64::from(first >> 8), u64::from(last >> 8));
            let ends_inside = last & 0xff != 0xff;
            if first & 0xff != 0 {
                begun.push((first as u8, class));
                if ends_inside && network == last_network {
                    continue;
                }
                part.put_mixed(network as u32, &begun);
                begun.clear();
                network += 1;
            }
            let behind = if ends_inside { last_network } else { last_network + 1 };
            part.put_uniform(network, behind, class);
            if ends_inside && last_network >= network {
                begun.push((0, class));
            }
        }
        part
    }

    /// What comes behind it.
    fn append(&mut self, behind: Self) {
        let counts: [u32; SIZES] = std::array::from_fn(|size| (self.leaves[size].len() / LEAF_BYTES[size]) as u32);
        self.root.extend(behind.root.into_iter().map(|(place, mut root)| {
            root.bases.iter_mut().zip(counts).for_each(|(base, count)| *base += count);
            (place, root)
        }));
        for (leaves, more) in self.leaves.iter_mut().zip(behind.leaves) {
            leaves.extend(more);
        }
    }

    /// How many lines of a table it takes, from [`ROOT`] on.
    pub fn lines(&self) -> u32 {
        if self.root.is_empty() { 0 } else { self.regions()[SIZES] - ROOT }
    }

    /// Writes it into the lines of a table from [`ROOT`] on.
    pub fn fill(&self, lines: &mut [Line]) {
        let regions = self.regions();
        for (first, leaves) in regions.iter().zip(&self.leaves) {
            let region = lines.get_mut((first - ROOT) as usize..).unwrap_or_default();
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(region);
            if let Some(bytes) = bytes.get_mut(..leaves.len()) {
                bytes.copy_from_slice(leaves);
            }
        }
        // A base counts leaves of its own size from the start of the table.
        let bases =
            std::array::from_fn(|size| (u64::from(regions[size]) * LINE_BYTES as u64 / LEAF_BYTES[size] as u64) as u32);
        for (place, root) in &self.root {
            if let Some(line) = lines.get_mut(*place as usize) {
                *line = root.line(bases);
            }
        }
    }

    /// The first line of the leaves of each size in the table, and the line behind the last. Each begins where a leaf of
    /// its size may.
    fn regions(&self) -> [u32; SIZES + 1] {
        let mut regions = [ROOT + ROOT_LINES; SIZES + 1];
        for size in 0..SIZES {
            let lines_of_leaf = LEAF_BYTES[size].div_ceil(LINE_BYTES) as u32;
            regions[size] = regions[size].next_multiple_of(lines_of_leaf);
            regions[size + 1] = regions[size] + self.leaves[size].len().div_ceil(LINE_BYTES) as u32;
        }
        regions
    }

    /// Networks from one to the one before `behind`, all of one class.
    fn put_uniform(&mut self, from: u64, behind: u64, class: u16) {
        let mut network = from;
        while class != 0 && network < behind {
            let of_line = (network / u64::from(SLOTS) + 1) * u64::from(SLOTS);
            let end = of_line.min(behind);
            let slots = (network as u32 % SLOTS)..(network as u32 % SLOTS + (end - network) as u32);
            match self.root_of(network as u32).palette_place(class) {
                Some(kind) => slots.for_each(|slot| self.root_of(network as u32).put(slot, kind)),
                None => (network..end).for_each(|network| self.put_mixed(network as u32, &[(0, class)])),
            }
            network = end;
        }
    }

    /// One network with the segments it is cut into; the first begins at 0.
    fn put_mixed(&mut self, network: u32, segments: &[(u8, u16)]) {
        let size = SEGMENTS.iter().position(|most| segments.len() <= *most);
        // A million of them: written where they belong, without memory of their own.
        match size {
            Some(size) => put_segments(self.leaf_of(network, size), segments, SEGMENTS[size]),
            None => match two_classes(segments) {
                Some(classes) => put_bitmap(self.leaf_of(network, SEGMENTS.len() - 1), segments, classes),
                None => put_each(self.leaf_of(network, SIZES - 1), segments),
            },
        }
    }

    /// A new leaf of a size for a network, all zero.
    fn leaf_of(&mut self, network: u32, size: usize) -> &mut [u8] {
        self.root_of(network).put(network % SLOTS, LEAF + size);
        let leaves = &mut self.leaves[size];
        let start = leaves.len();
        leaves.resize(start + LEAF_BYTES[size], 0);
        &mut leaves[start..]
    }

    /// The line of a network, which comes behind all others so far.
    fn root_of(&mut self, network: u32) -> &mut Root {
        let place = network / SLOTS;
        let is_last = self.root.last().is_some_and(|(last, _)| *last == place);
        if !is_last {
            let bases = std::array::from_fn(|size| (self.leaves[size].len() / LEAF_BYTES[size]) as u32);
            self.root.push((place, Root { bases, ..Root::default() }));
        }
        let last = self.root.len() - 1;
        &mut self.root[last].1
    }
}

impl Root {
    /// The kind that stands for a class in this line; `None` if its palette is full.
    fn palette_place(&mut self, class: u16) -> Option<usize> {
        let place = self.palette.iter().position(|named| *named == class || *named == 0)?;
        self.palette[place] = class;
        Some(place + 1)
    }

    fn put(&mut self, slot: u32, kind: usize) {
        for (bit, plane) in self.planes.iter_mut().enumerate() {
            *plane |= (kind as u64 >> bit & 1) << slot;
        }
    }

    fn line(&self, starts: [u32; SIZES]) -> Line {
        let base = |size: usize| u64::from(starts[size] + self.bases[size]);
        let [first, second, third] = self.palette.map(u64::from);
        let mut line = Line::zeroed();
        line.0[..3].copy_from_slice(&self.planes);
        line.0[3] = base(0) | base(1) << 32;
        line.0[4] = base(2) | base(3) << 32;
        line.0[5] = first << 16 | second << 32 | third << 48;
        line
    }
}

/// The only two classes of a network's segments, if there are no more.
fn two_classes(segments: &[(u8, u16)]) -> Option<[u16; 2]> {
    let (_, first) = *segments.first()?;
    let (_, second) = *segments.iter().find(|(_, class)| *class != first)?;
    segments.iter().all(|(_, class)| *class == first || *class == second).then_some([first, second])
}

/// Starts of all segments but the first, then the classes. What is not needed repeats the last class.
fn put_segments(leaf: &mut [u8], segments: &[(u8, u16)], most: usize) {
    let last = segments.last().map_or(0, |(_, class)| *class);
    let (starts, classes) = leaf.split_at_mut(most - 1);
    let later = segments.iter().skip(1).map(|(start, _)| *start).chain(std::iter::repeat(u8::MAX));
    starts.iter_mut().zip(later).for_each(|(place, start)| *place = start);
    let all = segments.iter().map(|(_, class)| *class).chain(std::iter::repeat(last));
    put_halves(classes, all.take(most));
}

fn put_bitmap(leaf: &mut [u8], segments: &[(u8, u16)], classes: [u16; 2]) {
    let mut halves = [0u16; HALVES];
    for (octet, class) in octets(segments) {
        halves[octet / 16] |= u16::from(class == classes[1]) << (octet % 16);
    }
    halves[BITMAP_CLASSES..BITMAP_CLASSES + 2].copy_from_slice(&classes);
    halves[TAG] = BITMAP;
    put_halves(leaf, halves);
}

/// A class for each address.
fn put_each(leaf: &mut [u8], segments: &[(u8, u16)]) {
    put_halves(leaf, octets(segments).map(|(_, class)| class));
}

fn put_halves(bytes: &mut [u8], halves: impl IntoIterator<Item = u16>) {
    let (places, _) = bytes.as_chunks_mut();
    places.iter_mut().zip(halves).for_each(|(place, half)| *place = half.to_ne_bytes());
}

/// Every octet with its class.
fn octets(segments: &[(u8, u16)]) -> impl Iterator<Item = (usize, u16)> {
    let ends = segments.iter().skip(1).map(|(next, _)| usize::from(*next)).chain([256]);
    segments.iter().zip(ends).flat_map(|((start, class), end)| (usize::from(*start)..end).map(|octet| (octet, *class)))
}
