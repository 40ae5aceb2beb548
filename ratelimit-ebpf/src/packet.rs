//! The frame in the driver's buffer.

use core::{
    arch::asm,
    mem::{MaybeUninit, size_of},
};

use aya_ebpf::{EbpfContext as _, helpers::bpf_xdp_get_buff_len, programs::XdpContext};
use ratelimit_common::{
    Frame,
    bound::opaque,
    frame::{Header, MAX_OFFSET},
};

pub struct Packet<'a> {
    context: &'a XdpContext,
}

impl<'a> Packet<'a> {
    #[inline(always)]
    pub fn new(context: &'a XdpContext) -> Self {
        Self { context }
    }
}

impl Frame for Packet<'_> {
    #[inline(always)]
    fn holds(&self, length: usize) -> bool {
        // The helper also counts what a driver left outside the first buffer; few frames need it.
        length <= self.context.data_end() - self.context.data() || length <= self.length()
    }

    #[inline(always)]
    fn length(&self) -> usize {
        // SAFETY: the context is the one the kernel handed to this run of the program.
        unsafe { bpf_xdp_get_buff_len(self.context.as_ptr().cast()) as usize }
    }

    #[inline(always)]
    fn read<T: Header>(&self, offset: usize) -> Option<T> {
        if offset > MAX_OFFSET {
            return None;
        }
        // The mask tells the verifier what the comparison tells us; without `opaque` it would be optimised away.
        let start = self.context.data() + (opaque(offset as u64) as usize & MAX_OFFSET);
        if start + size_of::<T>() > self.context.data_end() {
            return None;
        }
        if size_of::<T>().is_multiple_of(WORD) {
            // SAFETY: the bytes lie between the start and the end of the packet.
            return Some(unsafe { read_words(start) });
        }
        // SAFETY: the bytes lie between the start and the end of the packet, and every bit pattern is a `T`.
        Some(unsafe { (start as *const T).read_unaligned() })
    }
}

const WORD: usize = size_of::<u64>();

/// Reads a header of whole words, such as that of IPv6.
///
/// BPF loads a word from any address, but LLVM reads a header of bytes byte by byte, since nothing tells it so.
///
/// # Safety
///
/// All of the header must be readable.
#[inline(always)]
unsafe fn read_words<T: Header>(start: usize) -> T {
    let mut header = MaybeUninit::<T>::uninit();
    for offset in (0..size_of::<T>()).step_by(WORD) {
        // SAFETY: the word is part of the header, which is readable.
        let word = unsafe { load(start + offset) };
        // SAFETY: `offset` is that of a whole word inside the header.
        unsafe { header.as_mut_ptr().byte_add(offset).cast::<u64>().write_unaligned(word) };
    }
    // SAFETY: every word has been written, and every bit pattern is a `T`.
    unsafe { header.assume_init() }
}

/// # Safety
///
/// The word must be readable.
#[inline(always)]
unsafe fn load(address: usize) -> u64 {
    let word: u64;
    // SAFETY: only reads, what the caller says is readable.
    unsafe { asm!("{0} = *(u64 *)({1} + 0)", out(reg) word, in(reg) address, options(pure, readonly, nostack)) };
    word
}
