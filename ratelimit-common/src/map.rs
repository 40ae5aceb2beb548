//! Shapes of the maps, for the program that declares them and the controller that fills them.

/// A line of cells is a cache line.
pub const CELLS_PER_LINE: usize = 16;
pub const LINE_BYTES: usize = CELLS_PER_LINE * size_of::<u32>();
/// 32 MiB of cells, unless the controller asks for another size.
pub const DEFAULT_LINES: usize = 32 * 1024 * 1024 / LINE_BYTES;
/// `BPF_F_MMAPABLE` of `linux/bpf.h`.
pub const MMAPABLE: usize = 1 << 10;
/// `BPF_F_INNER_MAP` of `linux/bpf.h`: tables of any size may take the place.
pub const INNER_MAP: usize = 1 << 12;
pub const EVENT_BUFFER_BYTES: usize = 256 * 1024;
/// `BPF_F_NO_PREALLOC` of `linux/bpf.h`.
pub const NO_PREALLOC: usize = 1 << 0;
