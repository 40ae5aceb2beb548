//! The frame in the driver's buffer.

use core::mem::size_of;

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
        // SAFETY: the bytes lie between the start and the end of the packet, and every bit pattern is a `T`.
        Some(unsafe { (start as *const T).read_unaligned() })
    }
}
