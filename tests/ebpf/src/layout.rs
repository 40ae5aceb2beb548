//! Layouts shared by the lab's programs and its userspace.

/// Networks a flood can draw its sources from.
pub const NETWORKS: usize = 64;
/// Bytes at the start of a frame that are written anew for every packet.
pub const HEAD_LEN: usize = 128;
/// Words that hold the head of a frame, a power of two.
pub const WORDS: usize = 64;
/// Where the frame starts in its words: behind two bytes, so that its IP and TCP headers are aligned.
pub const FRAME_START: usize = 2;

/// Orders of a flood's sources: address after address, or sample after sample. Any other: a random address of a random
/// network.
pub const IN_TURN: u32 = 1;
pub const SAMPLED: u32 = 2;

/// Addresses to draw from, most significant word first; an IPv4 address is the low half of the second word.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Network {
    pub base: [u64; 2],
    /// The bits that vary.
    pub hosts: [u64; 2],
}

/// What a flood sends.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The head of the frame in network order, from byte [`FRAME_START`] on.
    pub words: [u32; WORDS],
    /// Length of the head less one.
    pub last: u32,
    /// 4 or 6.
    pub family: u32,
    /// The word at which the source address starts.
    pub source_word: u32,
    /// The word at which the TCP header starts.
    pub tcp_word: u32,
    /// Sum of the IPv4 header without its source and checksum.
    pub header_sum: u32,
    /// Sum of pseudo header and segment without source, source port, sequence number and checksum.
    pub segment_sum: u32,
    /// [`IN_TURN`], [`SAMPLED`], or 0.
    pub order: u32,
    /// How many networks there are, or samples.
    pub sources_len: u32,
    pub networks: [Network; NETWORKS],
}

/// How far a flood has come. Only the one thread that runs it writes here.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// State of the random generator, never 0.
    pub random: u64,
    pub packets: u64,
    /// The next address in turn, or the next sample.
    pub network: u64,
    pub host: u64,
}

/// What a counter saw.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub tcp_v4: u64,
    pub tcp_v6: u64,
    pub other: u64,
    /// Packets whose source is in the table.
    pub listed: u64,
    /// Packets whose source was looked up, and is not.
    pub unlisted: u64,
}

/// Where the packets of a measurement claim to come from.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Drawing {
    pub network: Network,
    /// State of the random generator, never 0.
    pub random: u64,
    /// Where the source address starts in the frame.
    pub source_at: u32,
    /// 4 or 6.
    pub family: u32,
    /// How many samples are taken one after another; 0: the source is drawn.
    pub samples: u32,
    pub next_sample: u32,
}

/// Samples to be classified.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    pub next: u32,
    pub samples: u32,
}
